"""The order-causal network and what each part of its recipe is worth.

    python notebooks/experiments/order_causal/run.py TRAIN.txt HELD-OUT.txt [--variants NAME ...] [--steps 100]

Each variant is trained for some steps of the schedule of `configs/stories.yaml`, from the weights of `stories-ar`, and
scored by exact -log q of 64 held-out gaps of 32 tokens. A run that was interrupted goes on; what is in results.json is
not run again. `--score FOLDER` scores a checkpoint instead, such as `checkpoints/stories`.
"""

import argparse
import json
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
import yaml
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import textdiff as td
from textdiff.cli import main as textdiff_command
from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.models import order_causal
from textdiff.models.attention import attention_bias
from textdiff.models.order_causal import DocumentAttention, OrderCausalRows
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Entropy, LeftToRight, Strided, reveal_times

HERE = Path(__file__).parent
POLICIES = {"4": Strided(4), "8": Strided(8), "16": Strided(16), "32": Strided(32)}
"""By the number of steps; 32 steps in a gap of 32 tokens are left to right."""


def as_yaml(policy, **settings):
    return {"class_path": f"textdiff.samplers.{policy}", "init_args": settings}


@contextmanager
def no_right_neighbours():
    """Query rows are given their left neighbour only."""

    class Nothing(nn.Module):
        def forward(self, x):
            return torch.zeros(1, device=x.device)

    def inputs(self, *arguments):
        return original(replace(self, following=Nothing()), *arguments)

    original = OrderCausalRows._query_inputs
    with patch.object(OrderCausalRows, "_query_inputs", inputs):
        yield


@contextmanager
def left_neighbour_visible():
    """Query rows attend to the content row of their left neighbour, too, which their input repeats."""
    original = DocumentAttention.of.__func__

    def of(cls, x, contents, queries):
        return original(cls, x, contents, (queries[0], queries[1], queries[2] + 10**6))

    with patch.object(DocumentAttention, "of", classmethod(of)):
        yield


class Dense:
    """Attention within documents by dense masks, so that evidence or queries may see each other."""

    def __init__(self, plain, own, among):
        self.groups, self.place, self.own, self.among = plain.groups, plain.place, own, among

    @classmethod
    def of(cls, x, contents, queries, evidence_both_ways=False, queries_of_a_step=False):
        plain = DocumentAttention.of.__func__(DocumentAttention, x, contents, queries)
        times, own, among = torch.cat((contents[1], queries[1])), [], []
        for content, query, _ in plain.groups:
            visible = (
                torch.ones(content.shape[1], content.shape[1], dtype=torch.bool).tril().expand(len(content), -1, -1)
            )
            if evidence_both_ways:
                filler = (content == 0) & (torch.arange(content.shape[1]) > 0)  # row 0 is the first of its document
                known = (times[content] == -1) & ~filler
                visible = visible | (known[:, :, None] & known[:, None])
            own.append(attention_bias(visible, x))
            visible = torch.eye(query.shape[1], dtype=torch.bool).expand(len(query), -1, -1)
            if queries_of_a_step:
                real = query > 0
                visible = visible | (times[query][..., None] == times[query][:, None]) & (
                    real[..., None] & real[:, None]
                )
            among.append(attention_bias(visible, x))
        return cls(plain, own, among)

    def attend(self, layer, query, key, value, bias):
        by_row, mixed = [x[0].transpose(0, 1) for x in (query, key, value)], []

        def rows(which):
            return [x.index_select(0, which.flatten()).unflatten(0, which.shape).transpose(1, 2) for x in by_row]

        for (contents, queries, hidden), own, among in zip(self.groups, self.own, self.among, strict=True):
            (asked, keys, values), (q, k, v) = rows(contents), rows(queries)
            together = torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)
            parts = [
                scaled_dot_product_attention(asked, keys, values, attn_mask=own),
                scaled_dot_product_attention(q, *together, attn_mask=torch.cat((hidden, among), dim=3)),
            ]
            mixed += [part.transpose(1, 2).flatten(0, 1) for part in parts]
        return torch.cat(mixed).index_select(0, self.place).transpose(0, 1)[None]


@contextmanager
def dense(**changes):
    class Changed:
        @staticmethod
        def of(*arguments):
            return Dense.of(*arguments, **changes)

    with patch.object(order_causal, "DocumentAttention", Changed):
        yield


VARIANTS = {
    "recipe": ({}, None),
    "without rows from left to right": (
        {"share": 1.0, "orders": [as_yaml("Strided", steps=n) for n in (4, 8, 8, 16, 32)] + [as_yaml("Dilated")]},
        None,
    ),
    "a third from left to right": ({"share": 0.7}, None),
    "without random orders": ({"share_random": 0.0}, None),
    "half in random order": ({"share_random": 0.5}, None),
    "gaps of 12 to 48 tokens": ({"most_gaps": 8, "shortest": 12, "longest": 48}, None),
    "8 strided steps only": ({"share": 1.0, "share_random": 0.0, "orders": [as_yaml("Strided", steps=8)]}, None),
    "without the right neighbours": ({}, no_right_neighbours),
    "left neighbour visible, too": ({}, left_neighbour_visible),
    "evidence looks both ways": ({}, lambda: dense(evidence_both_ways=True)),
    "queries of a step see each other": ({}, lambda: dense(queries_of_a_step=True)),
}
"""Changes of the data, and of the network, by name."""


def configuration(train, held_out, changes, folder, steps):
    """`configs/stories.yaml` with other data and with changes, saved every 50 steps and after `steps`."""
    config = yaml.safe_load(Path("configs/stories.yaml").read_text(encoding="utf-8"))
    config["data"] |= {"train": [train], "valid": [held_out]}
    corruption = config["data"]["corruption"]["init_args"]
    for name, value in changes.items():
        (corruption if name == "share" else corruption["gaps"]["init_args"])[name] = value
    trainer = config["trainer"]
    trainer |= {"accelerator": "cpu", "limit_val_batches": 0, "num_sanity_val_steps": 0, "logger": False}
    trainer["default_root_dir"] = str(folder)
    average = next(c for c in trainer["callbacks"] if c["class_path"].endswith("EMAWeightAveraging"))
    save = {"dirpath": str(folder), "filename": "{step}", "every_n_train_steps": min(steps, 50), "save_top_k": -1}
    trainer["callbacks"] = [average, {"class_path": "lightning.pytorch.callbacks.ModelCheckpoint", "init_args": save}]
    return config


def trained(train, held_out, name, steps, folder):
    """The checkpoint of a variant after some steps of the whole schedule."""
    changes, network = VARIANTS[name]
    folder = folder / name.replace(" ", "-").replace(",", "")
    config = configuration(train, held_out, changes, folder, steps)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fit.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    checkpoint = folder / f"step={steps}.ckpt"
    with ExitStack() as stack:
        if network is not None:
            stack.enter_context(network())
        if not checkpoint.exists():
            last = max(folder.glob("step=*.ckpt"), key=lambda path: int(path.stem[5:]), default=None)
            resume = [] if last is None else ["--ckpt_path", str(last)]
            fit_until(checkpoint, ["fit", "--config", str(folder / "fit.yaml"), *resume])
    return checkpoint


def fit_until(checkpoint, arguments):
    """Run `textdiff fit`, whose schedule is longer, until a checkpoint is written."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    saved = ModelCheckpoint._save_checkpoint

    def save(self, trainer, filepath):
        saved(self, trainer, filepath)
        trainer.should_stop |= Path(filepath) == checkpoint

    with patch.object(ModelCheckpoint, "_save_checkpoint", save):
        textdiff_command(arguments)


@torch.no_grad()
def score(network, vocabulary, gaps, policy):
    """Nats per token of held-out gaps by one pass over each text, as in training, so that variants apply."""
    total, count = 0.0, 0
    for gap in gaps:
        slots = gap.canvas.slots
        times = torch.full_like(gap.tokens, -1)
        times[slots] = reveal_times(policy, int(slots.sum()))
        whole = torch.ones_like(slots)
        positions = torch.arange(gap.tokens.shape[1])[None]
        states = network.ordered_states(gap.tokens, times, whole, slots, whole.long(), positions)
        log_probs = network.head(states).masked_fill(network.forbidden_mask(states.device, False), -torch.inf)
        total -= float(log_probs.double().log_softmax(dim=-1).gather(1, gap.tokens[slots][:, None]).sum())
        count += int(slots.sum())
    return total / count


@torch.no_grad()
def score_prior(prior, gaps):
    """The same by the sampler's own score, of any checkpoint, with more policies."""
    if not isinstance(prior, DiffusionPrior):
        return {"left to right": mean_score(prior, gaps)}
    policies = POLICIES | {"left to right": LeftToRight(), "entropy, 8": Entropy(8)}
    return {name: mean_score(prior.with_policy(policy), gaps) for name, policy in policies.items()}


def mean_score(prior, gaps):
    log_q = sum(float(prior.score(gap.canvas, gap.tokens).log_q.sum()) for gap in gaps)
    return -log_q / sum(int(gap.canvas.slots.sum()) for gap in gaps)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs/order-causal"), help="where runs are kept")
    parser.add_argument("--score", nargs="*", default=[], help="folders of checkpoints to score, instead of training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    file = HERE / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    start = td.load("checkpoints/stories-ar")
    corpus = in_memory(documents([options.held_out]), start.tokenizer)
    gaps = held_out_gaps(corpus, start.vocabulary, 64)

    def keep(part, name, figures):
        results.setdefault(part, {})[name] = {key: round(value, 3) for key, value in figures.items()}
        print(name, results[part][name], flush=True)
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")

    for folder in options.score:
        keep("checkpoints", Path(folder).name, score_prior(td.load(folder), gaps))
    for name in [] if options.score else options.variants:
        part = f"variants after {options.steps} steps"
        if name in results.get(part, {}):
            continue
        checkpoint = trained(options.train, options.held_out, name, options.steps, options.runs)
        export = checkpoint.with_suffix("")
        tokenizer = ["--tokenizer", "checkpoints/stories-ar"]
        textdiff_command(["export", str(checkpoint), *tokenizer, "--to", str(export)])
        prior = td.load(str(export))
        network = VARIANTS[name][1]
        with ExitStack() as stack:
            if network is not None:
                stack.enter_context(network())
            keep(part, name, {key: score(prior.network, prior.vocabulary, gaps, p) for key, p in POLICIES.items()})


if __name__ == "__main__":
    main()

"""Blocks, remasking and path planning against a strided order of as many passes.

python notebooks/experiments/policies/run.py HELD-OUT.txt

Long gaps in blocks, by exact -log q: a perfect network on the hidden Markov world (KL to the posterior), and `stories`
on held-out text. Policies without a log q by what the AR baseline's exact joint gives their fills, and by how
varied those are. Writes results.json beside this file.
"""

import json
import sys
from collections import Counter
from itertools import pairwise
from math import log
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

import textdiff as td
from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.evaluation import world_items
from textdiff.samplers import (
    Blocks,
    ByConfidence,
    Loop,
    PathPlanning,
    RandomOrder,
    Remasking,
    Rescale,
    SampledConfidence,
    Strided,
)
from textdiff.text import Canvas

BATCH = 16
LONG = (
    (Strided(32), Blocks(Strided(8), 32), Blocks(Strided(4), 16)),
    (Strided(16), Blocks(Strided(8), 64), Blocks(Strided(4), 32), Blocks(Strided(2), 16)),
    (Strided(8), Blocks(Strided(4), 64)),
)
"""Policies of as many passes each, for gaps of 128 tokens."""


def mean(values):
    """Mean and standard error."""
    return [float(values.double().mean()), float(values.double().std()) / len(values) ** 0.5]


def batches(items):
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        tokens = pad_sequence([truth[0] for _, truth in some], batch_first=True, padding_value=0)
        yield Canvas.stack([canvas for canvas, _ in some], 0), tokens


def long_world(gaps=24, gap=128, draws=2):
    """KL(q || p) in nats per gap, of each policy, with a perfect network."""
    world = td.world("hmm")
    perfect, table = td.DiffusionPrior(world, world.tokenizer, world.vocabulary), []
    items = world_items(world, gaps, gap, length=gap + 64, seed=1)
    for policies in LONG:
        first = None
        for policy in policies:
            prior, found, passes, generator = perfect.with_policy(policy), [], [], torch.Generator().manual_seed(0)
            for canvas, _ in batches(items):
                many = canvas.select(torch.arange(len(canvas)).repeat_interleave(draws))
                drawn = prior.sample(many, generator)
                over = drawn.log_q - world.score(many, drawn.tokens).log_q
                found.append(over.view(-1, draws).mean(dim=1))
                passes.append(drawn.nfe)
            error, nfe = torch.cat(found), torch.cat(passes)
            first = error if first is None else first
            record(table, prior.label, nfe, {"kl": mean(error), "less strided": mean(error - first)})
    return table


@torch.no_grad()
def long_text(prior, corpus, gaps=24, gap=128):
    """-log q of the true text of long gaps, nats per gap, and less that of the strided order of as many passes."""
    items, table = held_out_gaps(corpus, prior.vocabulary, gaps, gap, longest=prior.context, seed=1), []
    for policies in LONG:
        first = None
        for policy in policies:
            chosen = prior.with_policy(policy)
            found = [chosen.score(canvas, tokens) for canvas, tokens in batches(items)]
            nats, nfe = -torch.cat([one.log_q for one in found]), torch.cat([one.nfe for one in found])
            first = nats if first is None else first
            record(table, chosen.label, nfe, {"nats": mean(nats), "less strided": mean(nats - first)})
    return table


def without_density(prior, baseline, corpus, gaps=24, gap=32, draws=2):
    """Nats per token of the gap that the baseline's joint gives the fill and what follows it, against the true text's.

    Beside it how varied fills are: entropy of their tokens within a fill, the share of different tokens and pairs of
    neighbours in a fill, and of different pairs among all fills of a gap.
    """
    items, table = held_out_gaps(corpus, prior.vocabulary, gaps, gap, longest=prior.context, seed=1), []
    truth = joint(baseline, [truth for _, truth in items])
    varied = [variety([truth[0, canvas.slots[0]].tolist()]) for canvas, truth in items]
    record(table, "the true text", torch.zeros(1), {"less truth": [0.0, 0.0], **spread(varied)})
    strided = {}
    for policy in (
        Strided(32), RandomOrder(32), Remasking(32, Rescale(0.1)), Remasking(32, Rescale(0.5)),
        Remasking(32, ByConfidence()), Remasking(32, Rescale(0.5), Loop()), PathPlanning(32), SampledConfidence(32),
        Strided(16), Remasking(16, Rescale(0.1)), PathPlanning(16), SampledConfidence(16),
        Remasking(64, Rescale(0.1)), Remasking(128, Rescale(0.1)),
    ):  # fmt: skip
        fills, passes, generator = [], [], torch.Generator().manual_seed(0)
        chosen = prior.with_policy(policy)
        for canvas, _ in batches(items):
            drawn = chosen.sample(canvas.select(torch.arange(len(canvas)).repeat_interleave(draws)), generator)
            fills.append(drawn.tokens.view(len(canvas), draws, -1))
            passes.append(drawn.nfe)
        several = [fill for batch in fills for fill in batch]
        whole = [one[None, : truth.shape[1]] for (_, truth), fill in zip(items, several, strict=True) for one in fill]
        worse = (truth[:, None] - joint(baseline, whole).view(gaps, draws)).mean(dim=1) / gap
        varied = [
            variety(fill[:, : canvas.tokens.shape[1]][:, canvas.slots[0]].tolist())
            for (canvas, _), fill in zip(items, several, strict=True)
        ]
        if isinstance(policy, Strided):
            strided[policy.steps] = worse
        figures = {"less truth": mean(worse), **spread(varied)}
        if policy.steps in strided:
            figures["less strided"] = mean(worse - strided[policy.steps])
        record(table, chosen.label, torch.cat(passes), figures)
    return table


@torch.no_grad()
def joint(baseline, texts):
    """The baseline's log-probability of each text `[1, length]`, nats."""
    return torch.cat([baseline.log_prob(text) for text in texts])


def variety(fills):
    """Of the fills of a gap: token entropy in nats, distinct-1 and distinct-2 within each, distinct-2 among all."""
    counts = [Counter(fill) for fill in fills]
    entropy = [
        sum(-c / len(fill) * log(c / len(fill)) for c in count.values())
        for count, fill in zip(counts, fills, strict=True)
    ]
    one = [len(count) / len(fill) for count, fill in zip(counts, fills, strict=True)]
    pairs = [list(pairwise(fill)) for fill in fills]
    two = [len(set(pair)) / len(pair) for pair in pairs]
    of_a_gap = len({pair for some in pairs for pair in some}) / sum(map(len, pairs))
    return [sum(entropy) / len(fills), sum(one) / len(fills), sum(two) / len(fills), of_a_gap]


def spread(varied):
    """The means over gaps, by name."""
    names = "entropy", "distinct-1", "distinct-2", "distinct-2 of a gap"
    return {name: mean(torch.tensor(values)) for name, values in zip(names, zip(*varied, strict=True), strict=True)}


def record(table, label, nfe, figures):
    table.append({"policy": label, "nfe": float(nfe.double().mean()), **figures})
    shown = ", ".join(f"{name} {value[0]:.3f} ± {value[1]:.3f}" for name, value in figures.items())
    print(f"{label:50} {table[-1]['nfe']:6.2f} passes, {shown}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name a file of held-out text")
    torch.set_num_threads(1)
    prior, baseline = td.load("stories"), td.load("stories-ar")
    corpus = in_memory(documents([sys.argv[1]]), prior.tokenizer)
    found = {
        "long gaps, hmm": long_world(),
        "without a log q, stories": without_density(prior, baseline, corpus),
        "long gaps, stories": long_text(prior, corpus),
    }
    Path(__file__).with_name("results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

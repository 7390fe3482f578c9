"""What an error budget predicts, what it costs, and what other policies lose in as many passes.

python notebooks/experiments/error_budget/run.py HELD-OUT.txt

A perfect network on the hidden Markov world (KL to the exact posterior), and `stories` on held-out text (exact -log q
of the true text). Writes results.json and results.png beside this file.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch.nn.utils.rnn import pad_sequence

import textdiff as td
from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.evaluation import world_items
from textdiff.samplers import (
    Dilated,
    Entropy,
    EntropyBounded,
    ErrorBudget,
    LeftToRight,
    LogProbKind,
    Margin,
    RandomOrder,
    State,
    Strided,
    Threshold,
    TopProbability,
    UnmaskingPolicy,
    calibrate,
)
from textdiff.text import Canvas

BATCH = 16


@dataclass(frozen=True)
class Serial(UnmaskingPolicy):
    """The slots of a strided order, one by one."""

    stride: int
    kind = LogProbKind.EXACT

    def reveal(self, state: State) -> torch.Tensor:
        return state.lowest(state.rank % self.stride * state.rank.shape[1] + state.rank)


class Spied(UnmaskingPolicy):
    """An error budget that notes what it planned on whole gaps."""

    kind = LogProbKind.EXACT

    def __init__(self, policy: ErrorBudget) -> None:
        self.policy, self.plans = policy, []

    def reveal(self, state: State) -> torch.Tensor:
        if len(state.masked) and bool((state.masked == (state.gap >= 0)).all()):
            self.plans.append(self.policy.plan(state))
        return self.policy.reveal(state)


def batches(items):
    for start in range(0, len(items), BATCH):
        some = items[start : start + BATCH]
        tokens = pad_sequence([truth[0] for _, truth in some], batch_first=True, padding_value=0)
        yield slice(start, start + len(some)), Canvas.stack([canvas for canvas, _ in some], 0), tokens


@torch.no_grad()
def scored(prior, policy, items):
    """-log q of the true fills in nats, and forward passes, both `[items]`."""
    found = [prior.with_policy(policy).score(canvas, tokens) for _, canvas, tokens in batches(items)]
    return -torch.cat([one.log_q for one in found]), torch.cat([one.nfe for one in found])


def budgeted(prior, nats, items):
    """Of an error budget: passes, -log q, predicted error, and measured error against the same order one by one."""
    spied = Spied(ErrorBudget(nats, prior.dependence))
    in_parallel, nfe = scored(prior, spied, items)
    stride, predicted = (torch.cat(part) for part in zip(*spied.plans, strict=True))
    alone = torch.zeros_like(in_parallel)
    for one in stride.unique().tolist():
        chosen = (stride == one).nonzero()[:, 0]
        alone[chosen] = scored(prior, Serial(one), [items[i] for i in chosen.tolist()])[0]
    return nfe, in_parallel, predicted, in_parallel - alone


def mean(values):
    """Mean and standard error."""
    return [float(values.double().mean()), float(values.double().std()) / len(values) ** 0.5]


def hmm(gaps=40, draws=32):
    """KL(q || p) in nats per gap of 12 tokens, of every policy; predicted and measured error of the budgets."""
    world = td.world("hmm")
    perfect = td.DiffusionPrior(world, world.tokenizer, world.vocabulary)
    items = world_items(world, 96, 12, seed=7)
    dependence = calibrate(world, world.vocabulary, items, torch.Generator().manual_seed(0))
    perfect = td.DiffusionPrior(world, world.tokenizer, world.vocabulary, dependence=dependence)
    budgets = [ErrorBudget(nats, dependence) for nats in (0.01, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)]
    others = [
        kind(n) for kind in (Strided, Dilated, Entropy, Margin, TopProbability, RandomOrder) for n in (6, 4, 3, 2)
    ]
    others += [EntropyBounded(gamma) for gamma in (2.0, 4.0, 6.0, 9.0)] + [Threshold(tau) for tau in (0.3, 0.2, 0.1)]
    held = world_items(world, gaps, 12, seed=1)
    rows = td.audit(
        perfect, world, items=held, policies=[(policy, None) for policy in budgets + others], draws=draws, seed=1
    ).rows
    table = [{"policy": row.label, "nfe": row.nfe, "error": [row.kl_qp.value, row.kl_qp.error]} for row in rows]
    planned = []
    for policy in budgets:
        nfe, _, predicted, measured = budgeted(perfect, policy.nats, world_items(world, 400, 12, seed=2))
        planned.append(
            {"budget": policy.nats, "nfe": mean(nfe), "predicted": mean(predicted), "measured": mean(measured)}
        )
    return {"policies": table, "budgets": planned}


def text(file, gaps=96):
    """-log q of held-out gaps of 32 tokens above left to right, one by one, in %; errors of the budgets in nats."""
    prior = td.load("stories")
    corpus = in_memory(documents([file]), prior.tokenizer)
    items = held_out_gaps(corpus, prior.vocabulary, gaps, 32, longest=prior.context, seed=1)
    best, _ = scored(prior, LeftToRight(), items)
    table, planned = [], []
    others = [Strided(n) for n in (16, 11, 8, 6, 4)] + [Dilated(16), Dilated(8), RandomOrder(8)]
    others += [kind(n) for kind in (Entropy, Margin, TopProbability) for n in (32, 16, 8)]
    others += [EntropyBounded(gamma) for gamma in (0.5, 2.0, 5.0)] + [Threshold(tau) for tau in (0.9, 0.5, 0.3)]

    def record(policy, nats, nfe):
        worse = nats - best
        label = prior.with_policy(policy).label
        table.append({"policy": label, "nfe": float(nfe.double().mean()), "nats": mean(nats), "above": mean(worse)})
        print(f"{label:30} {table[-1]['nfe']:6.2f} passes, {100 * worse.mean() / best.mean():6.2f} %", flush=True)

    for nats in (0.1, 0.3, 0.6, 1.0, 2.0, 4.0):
        nfe, in_parallel, predicted, measured = budgeted(prior, nats, items)
        record(ErrorBudget(nats, prior.dependence), in_parallel, nfe)
        planned.append({"budget": nats, "nfe": mean(nfe), "predicted": mean(predicted), "measured": mean(measured)})
        planned[-1]["measured, %"] = 100 * float(measured.sum() / (in_parallel - measured).sum())
        print(planned[-1], flush=True)
    for policy in others:
        if policy.kind is LogProbKind.EXACT:
            record(policy, *scored(prior, policy, items))
    return {"one by one": mean(best), "policies": table, "budgets": planned}


def figure(found):
    """Error against passes on both, and predicted against measured."""
    drawn = Figure(figsize=(13, 4.2), layout="constrained")
    world, held, both = drawn.subplots(1, 3)
    for axes, rows, key in ((world, found["hmm"]["policies"], "error"), (held, found["stories"]["policies"], "above")):
        names = dict.fromkeys(row["policy"].partition(",")[0] for row in rows)
        for number, name in enumerate(names):
            points = sorted((row["nfe"], row[key][0]) for row in rows if row["policy"].partition(",")[0] == name)
            style = {"lw": 2.5, "color": "black"} if name == "error-budget" else {"color": f"C{number % 10}"}
            axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=name, **style)
        axes.set_yscale("symlog", linthresh=0.01 if axes is world else 1.0)
        axes.set_xlabel("forward passes for a gap")
        axes.legend(fontsize=7)
    world.set_ylabel("KL(q || p), nats per gap")
    world.set_title("a perfect network on the hidden Markov world, 12 tokens", fontsize=9)
    held.set_ylabel("-log q above left to right, nats per gap")
    held.set_title("stories on held-out text, 32 tokens", fontsize=9)
    span = [3e-4, 5.0]
    both.fill_between(span, [x / 2 for x in span], [2 * x for x in span], color="0.9", label="within a factor of 2")
    for name, mark in (("hmm", "o"), ("stories", "s")):
        rows = [row for row in found[name]["budgets"] if row["predicted"][0] > 0]
        x, y = ([max(row[key][0], 3e-4) for row in rows] for key in ("predicted", "measured"))
        both.errorbar(x, y, [row["measured"][1] for row in rows], fmt=mark, ms=5, capsize=2, label=name)
    both.set(xscale="log", yscale="log", xlim=span, ylim=span, xlabel="predicted error, nats", ylabel="measured, nats")
    both.set_title("factorisation error of a gap", fontsize=9)
    both.legend(fontsize=8)
    return drawn


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("name a file of held-out text")
    torch.set_num_threads(1)
    here = Path(__file__)
    found = {"hmm": hmm(), "stories": text(sys.argv[1])}
    here.with_name("results.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    figure(found).savefig(here.with_name("results.png"), dpi=110)

"""The infilling posterior of `stories-ar`, and who proposes well for it.

python notebooks/experiments/ar_target/run.py HELD-OUT.txt [FOLDER]

Of 24 held-out gaps of 8 tokens 64 fills each are drawn and weighed by the joint of `stories-ar`: the effective sample
size, and log mean w - mean log w, an estimate of KL(q || p) that is too low where no fill finds the bulk of the
posterior. FOLDER is the stochastic inverse that configs/amortization/inverse.yaml has learnt. Writes results.json.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

import textdiff as td
from textdiff.amortization import QueryDataModule
from textdiff.inference import Importance

GAPS, DRAWS, STEPS = 24, 64, 8
PRODUCTS = ((1.0, 1.0), (0.75, 1.0), (1.0, 0.6))
"""Shares of `stories-ar` in a product of experts, and tilts."""


def proposals(baseline: td.AutoregressivePrior, inverse: str | None) -> Iterator[tuple[str, td.Prior]]:
    """Who proposes, by name."""
    yield "stories-ar", baseline
    for name, folder in (("stories", "stories"), ("inverse", inverse)):
        if folder is not None:
            denoiser = td.load(folder).with_policy("strided", STEPS)
            yield name, denoiser
            for share, tilt in PRODUCTS:
                yield f"{name} with the expert, share {share}, tilt {tilt}", denoiser.with_expert(baseline, share, tilt)


def main(valid: str, inverse: str | None = None) -> dict[str, dict[str, float]]:
    """By proposal: means over gaps and their standard errors."""
    baseline = td.load("stories-ar")
    queries = QueryDataModule([valid], [valid], gap_length=STEPS, margin=16, longest=256, count=1, unseen=GAPS)
    queries.tokenizer = baseline.tokenizer
    queries.setup("test")
    table = {}
    for name, prior in proposals(baseline, inverse):
        figures: dict[str, list[float]] = {"ess": [], "kl at least": [], "log evidence": []}
        for number in range(len(queries.unseen_queries)):
            evidence = td.Observed(queries.unseen_queries[number].canvas)
            found = prior.given(evidence, target=baseline).sample(DRAWS, Importance(), generator=number)
            figures["ess"].append(found.ess)
            figures["kl at least"].append(found.log_evidence - float(found.log_weights.mean()))
            figures["log evidence"].append(found.log_evidence)
        means = {}
        for figure, values in figures.items():
            x = torch.tensor(values)
            means[figure] = round(float(x.mean()), 3)
            means[f"{figure}, error"] = round(float(x.std()) / math.sqrt(len(x)), 3)
        table[name] = means
        print(f"{name:40}", *(f"{figure} {value}" for figure, value in means.items()), flush=True)
    return table


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("ar_target/run.py takes a file, and perhaps a checkpoint: run.py HELD-OUT.txt [FOLDER]")
    torch.set_num_threads(1)
    try:
        found = json.dumps(main(*sys.argv[1:]), indent=1)
    except td.UserError as error:
        sys.exit(f"ar_target/run.py: {error}")
    Path(__file__).with_name("results.json").write_text(found + "\n", encoding="utf-8")

"""Fills with happy words in held-out stories, before and after a low-rank adapter has learnt that reward.

python notebooks/experiments/reward_words/run.py

Needs the output of configs/amortization/reward-words.yaml in runs/, and its data. For each query not trained on,
fills of `stories` and of the learner are weighed by the reward and by `stories`; writes results.json beside this file.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
import yaml

import textdiff as td
from textdiff.amortization import QueryDataModule
from textdiff.evidence import Counts, Observed, Reward
from textdiff.inference import Importance
from textdiff.samplers import Strided

DRAWS, QUERIES, SHOWN = 64, 50, 6
CONFIG = Path(__file__).parents[3] / "configs" / "amortization" / "reward-words.yaml"


def main(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By prior: what its fills are worth, and some of them."""
    options = config["model"]["init_args"]
    function = Counts(**options["reward"]["init_args"]["function"]["init_args"])
    reward = Reward(function, options["reward"]["init_args"]["temperature"], gap=0)
    policy = Strided(**options["policy"]["init_args"])
    target = td.load(options["learner"]).with_policy(policy)
    queries = QueryDataModule(**config["data"]["init_args"] | {"unseen": QUERIES})
    queries.tokenizer = target.tokenizer
    queries.setup("test")
    unseen = queries.unseen_queries
    table = {}
    for name, prior in ((options["learner"], target), ("learner", td.load(options["to"]).with_policy(policy))):
        shares, posterior, ess, log_z, shown = [], [], [], [], []
        for number in range(len(unseen)):
            evidence = Observed(unseen[number].canvas) & reward
            found = prior.given(evidence, target=target).sample(DRAWS, Importance(), generator=number)
            with_word = torch.tensor(
                [min(function([sample.fills[0]])[0], 1.0) for sample in found], dtype=torch.float64
            )
            shares.append(float(with_word.mean()))
            posterior.append(float((found.weights * with_word).sum()))
            ess.append(found.ess / DRAWS)
            log_z.append(found.log_evidence)
            if number < SHOWN:
                before, after = found[0].text.split(found[0].fills[0], 1)
                shown.append(f"{before[-60:]}[{found[0].fills[0].strip()}]{after[:40]}")
        figures = {"with a word": shares, "with a word, by weight": posterior, "ess": ess, "log evidence": log_z}
        means = {}
        for figure, values in figures.items():
            x = torch.tensor(values)
            means[figure] = round(float(x.mean()), 3)
            means[f"{figure}, error"] = round(float(x.std()) / math.sqrt(len(x)), 3)
        table[name] = means | {"fills": shown}
        print(name, *(f"{figure} {value}" for figure, value in means.items()), *shown, sep="\n  ", flush=True)
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    try:
        found = json.dumps(main(yaml.safe_load(CONFIG.read_text(encoding="utf-8"))), indent=1, ensure_ascii=False)
    except td.UserError as error:
        sys.exit(f"reward_words/run.py: {error}")
    Path(__file__).with_name("results.json").write_text(found + "\n", encoding="utf-8")

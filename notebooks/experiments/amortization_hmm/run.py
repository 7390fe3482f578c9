"""What an amortized posterior saves: SIR from the prior and from the learner, against the exact posterior.

python notebooks/experiments/amortization_hmm/run.py

Writes results/importance_resampling.json; needs what configs/amortization/rtb.yaml (over base.yaml) and
configs/worlds/hmm-ar.yaml leave in runs/. The autoregressive baseline proposes from the prefix and weighs by all the
rest. Seconds are processor time of one thread.
"""

import json
import math
import time
from pathlib import Path

import torch

import textdiff as td
from textdiff.evaluation import world_items
from textdiff.evidence import Counts, Observed, Reward
from textdiff.inference import Importance
from textdiff.samplers import Strided
from textdiff.worlds import world

GAPS, SEED = 16, 5
truth = world("hmm^mxy=2")
items = world_items(truth, GAPS, 12, seed=SEED, evidence_world=world("hmm"))
reward = Reward(Counts(["m", "x", "y"], pieces=True), 0.5, gap=0)
exact = [float(truth.sample(canvas.repeat(1024), torch.Generator().manual_seed(0)).log_q.mean()) for canvas, _ in items]
prior = td.load("runs/worlds/hmm/last").with_policy(Strided(4))
learner = td.load("runs/amortization/rtb").with_policy(Strided(4))
baseline = td.load("runs/worlds/hmm-ar/last")


def measured(proposal: td.Prior, n: int, repeats: int) -> dict[str, float]:
    """Deficit E_p log p - E log p of the weighted draws in nats, its standard error over gaps, seconds for a query."""
    deficits, seconds = [], []
    for number, ((canvas, _), best) in enumerate(zip(items, exact, strict=True)):
        values = []
        for seed in range(1000 * number, 1000 * number + repeats):
            start = time.process_time()
            if n == 1 and proposal is learner:
                found = proposal.given(Observed(canvas)).sample(1, generator=seed)
            else:
                posterior = proposal.given(Observed(canvas) & reward, target=None if proposal is baseline else prior)
                found = posterior.sample(n, Importance(), generator=seed)
            seconds.append(time.process_time() - start)
            log_p = truth.score(canvas.repeat(len(found)), found.tokens).log_q
            values.append(float((found.weights * log_p).where(found.weights > 0, 0.0).sum()))
        deficits.append(best - sum(values) / repeats)
    values = torch.tensor(deficits)
    seconds.sort()
    error = float(values.std()) / math.sqrt(GAPS)
    return {"deficit": float(values.mean()), "error": error, "seconds": seconds[len(seconds) // 2]}


if __name__ == "__main__":
    torch.set_num_threads(1)
    table = {}
    repeats = {1: 64, 16: 8, 16384: 1}
    many = (16, 64, 256, 1024, 4096, 16384)
    sizes = {"learner": (learner, (1, 16, 64)), "prior": (prior, many), "baseline": (baseline, many)}
    for name, (proposal, draws) in sizes.items():
        for n in draws:
            table[f"{name}, {n}"] = found = measured(proposal, n, repeats.get(n, 2))
            print(
                f"{name:8} {n:5}  {found['deficit']:6.3f} +- {found['error']:.3f} nats  {found['seconds']:.3f} s",
                flush=True,
            )
    to = Path(__file__).with_name("results") / "importance_resampling.json"
    to.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")

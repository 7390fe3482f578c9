"""Subtrajectory balance: its closed form against the sum of the literature, and learning fills of open length."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from tests.helpers.amortization import WORLD, batch, learner
from tests.helpers.tiny import tiny
from textdiff.amortization import QuerySet, SubTrajectoryBalance, Task, vargrad
from textdiff.errors import UserError
from textdiff.posterior import seeded
from textdiff.text import Canvas
from textdiff.worlds import table


def test_subtrajectory_balance_is_the_sum_over_all_pairs_of_prefixes() -> None:
    """The formula of arXiv:2310.04363, written out for an autoregressive prior that ends its gap itself."""
    prior = tiny(WORLD.tokenizer, causal=True, fill_in_middle=True)
    v, ids = WORLD.vocabulary, WORLD.tokenizer.get_vocab()
    canvas = Canvas.of(torch.tensor([[v.bos, ids["#"], *[v.mask] * 4, ids["."], v.eos]]), v.mask)
    canvas = replace(canvas, minimum=torch.tensor([[1]]))
    fill = [ids[symbol] for symbol in "abba"]

    def ended(n: int) -> torch.Tensor:
        tokens = canvas.tokens.clone()
        tokens[0, 2:6] = torch.tensor([*fill[:n], *[v.null] * (4 - n)])
        return tokens

    joint = tiny(WORLD.tokenizer, causal=True, num_hidden_layers=1)
    with torch.no_grad():
        log_q = torch.cat([prior.score(canvas, ended(n)).log_q for n in range(1, 5)])
        log_r = torch.cat([joint.log_prob(ended(n)) for n in range(1, 5)])
    gap = log_q - log_r
    pairs = torch.stack([(gap[j] - gap[i]) ** 2 for i, j in combinations(range(4), 2)])
    assert float(pairs.sum()) == pytest.approx(4 * 3 * 2 * float(vargrad(log_q[None], log_r[None])), rel=1e-4)


def test_subtrajectory_balance_learns_open_lengths() -> None:
    """Fills of 1 to 3 letters, from an untrained network; KL(q || posterior) must fall by 80 %."""
    world = table({"#a.": 4.0, "#ab.": 1.0, "#abb.": 2.0, "#bb.": 1.0, "#b.": 0.5, "#ba.": 1.0, "#baa.": 0.2})
    prior = tiny(world.tokenizer, causal=True, fill_in_middle=True)
    torch.manual_seed(0)
    prior.network.apply(prior.network._init_weights)
    v, ids = world.vocabulary, world.tokenizer.get_vocab()
    canvas = Canvas.of(torch.tensor([[v.bos, ids["#"], *[v.mask] * 3, ids["."], v.eos]]), v.mask)
    queries = QuerySet([(replace(canvas, minimum=torch.tensor([[1]])), None)], v.pad)
    task, method, generator = Task(prior, world), SubTrajectoryBalance(8, 4), seeded(0)
    optimizer = torch.optim.AdamW(prior.network.parameters(), lr=3e-3, weight_decay=0.0)

    def reverse_kl() -> float:
        many = queries[0].canvas.repeat(512)
        with torch.no_grad():
            fills = prior.sample(many, seeded(1))
        log_p = world.score(many, fills.tokens).log_q.clamp(min=-50)
        return float((fills.log_q - log_p).mean())

    before = reverse_kl()
    for step in range(150):
        loss, _ = method.loss(task, queries[0], step, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.network.parameters(), 1.0)
        optimizer.step()
    assert reverse_kl() < 0.2 * before
    with pytest.raises(UserError, match="gaps of open length"):
        method.loss(Task(learner(), WORLD), batch(0), 0, generator)

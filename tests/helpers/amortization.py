"""A world of sixteen texts, three queries, and a learner that starts from scratch: amortized inference in seconds."""

from itertools import product

import torch

from tests.helpers.tiny import tiny
from textdiff.amortization import Method, Query, QuerySet, Task
from textdiff.posterior import seeded
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
from textdiff.text import Canvas
from textdiff.worlds import table

TEXTS = ["#" + "".join(letters) + "." for letters in product("ab", repeat=4)]
WEIGHTS = (2 * torch.randn(16, generator=seeded(5), dtype=torch.float64)).exp().tolist()
WORLD = table(dict(zip(TEXTS, WEIGHTS, strict=True)))


def learner(steps: int = 2) -> DiffusionPrior:
    """An untrained network that gives every token a positive probability."""
    prior = tiny(WORLD.tokenizer)
    assert isinstance(prior, DiffusionPrior)
    torch.manual_seed(0)
    prior.network.apply(prior.network._init_weights)
    return prior.with_policy(Strided(steps))


def blank(*texts: str) -> QuerySet:
    """Queries from texts in which a slash stands for a slot."""
    v = WORLD.vocabulary
    ids = WORLD.tokenizer.get_vocab()
    rows = [[v.bos, *(v.mask if symbol == "/" else ids[symbol] for symbol in text), v.eos] for text in texts]
    return QuerySet([(Canvas.of(torch.tensor([row]), v.mask), None) for row in rows], v.pad)


QUERIES = blank("#////.", "#/b/b.", "#ba//.")


def batch(*numbers: int) -> Query:
    """Some of `QUERIES`."""
    return QUERIES.stack([QUERIES[number] for number in numbers])


def kl(prior: DiffusionPrior, number: int) -> float:
    """KL(q || posterior) of a query, summed over all fills; an impossible fill has the log-probability -50."""
    canvas = QUERIES[number].canvas
    fills = torch.tensor(list(product(WORLD.token.unique().tolist(), repeat=int(canvas.slots.sum()))))
    tokens = canvas.tokens.repeat(len(fills), 1)
    tokens[:, canvas.slots[0]] = fills
    with torch.no_grad():
        log_q = prior.score(canvas.repeat(len(fills)), tokens).log_q
    log_p = WORLD.score(canvas.repeat(len(fills)), tokens).log_q
    assert log_q is not None and log_p is not None
    return float((log_q.exp() * (log_q - log_p.clamp(min=-50))).sum())


def train(task: Task, method: Method, steps: int, lr: float = 3e-3) -> list[float]:
    """Losses of so many steps on `QUERIES`."""
    assert isinstance(task.learner, DiffusionPrior)
    optimizer = torch.optim.AdamW(task.learner.network.parameters(), lr=lr, weight_decay=0.0)
    generator, losses = seeded(0), []
    for step in range(steps):
        method.prepare(task, QUERIES, step, generator, lambda text: None)
        loss, _ = method.loss(task, batch(0, 1, 2), step, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.learner.network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses

"""`Task`: the learner's log q and the unnormalised log-density, and how far one is from the other."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from tests.helpers.amortization import QUERIES, WORLD, batch, learner
from tests.helpers.tiny import save, tiny
from textdiff.amortization import Task, learner_metrics
from textdiff.errors import UserError
from textdiff.evidence import Contains, Counts, Observed, Reward
from textdiff.posterior import seeded
from textdiff.pretrained import load
from textdiff.priors import DiffusionPrior
from textdiff.samplers import RandomOrder, SampledConfidence
from textdiff.text import Canvas
from textdiff.worlds import ProbabilisticAutomaton, hmm


def test_random_orders_that_learner_and_target_share_cancel() -> None:
    """Before training towards a rewarded learner, log target - log q is the reward of each fill, in any order."""
    random = replace(learner(), policy=RandomOrder(2))
    reward = Reward(Counts(["a"], pieces=True), 0.5, gap=0)
    task = Task(random, replace(learner(), policy=RandomOrder(2)), reward)
    canvas = batch(0, 2).canvas.repeat(5)
    tokens = task.sample(canvas, seed=7)
    log_q, log_target = task.log_q(canvas, tokens, 7), task.log_target(canvas, tokens, 7)
    counts = (tokens == WORLD.tokenizer.get_vocab()["a"]) & canvas.slots
    assert torch.allclose(log_target - log_q, 2.0 * counts.sum(dim=1).double(), atol=1e-5)


def test_scoring_with_the_seed_of_the_sampler_gives_its_log_q() -> None:
    random = replace(learner(), policy=RandomOrder(2))
    task = Task(random, replace(tiny(WORLD.tokenizer), policy=RandomOrder(2)))
    canvas = batch(0, 1).canvas.repeat(5)
    drawn = random.sample(canvas, seeded(3))
    assert torch.equal(drawn.tokens, task.sample(canvas, 3))
    assert torch.allclose(drawn.log_q, task.log_q(canvas, drawn.tokens, 3), atol=1e-5)
    assert not torch.allclose(drawn.log_q, task.log_q(canvas, drawn.tokens, 4), atol=1e-3)


def test_gradients_are_the_same_with_and_without_checkpointing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recomputing the activations of each step saves memory and changes nothing else."""
    found = []
    for saving in (True, False):
        if not saving:
            plain = lambda ask, *inputs, use_reentrant, **known: ask(*inputs, **known)  # noqa: E731
            monkeypatch.setattr("textdiff.denoisers.denoiser.checkpoint", plain)
        prior = learner()
        canvas = batch(0, 1, 2).canvas
        tokens = prior.sample(canvas, seeded(0)).tokens
        Task(prior, WORLD).log_q(canvas, tokens).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in prior.network.parameters() if p.grad is not None]))
    assert found[0].abs().max() > 0
    assert torch.allclose(*found, atol=1e-6)


def test_the_metrics_estimate_both_divergences_from_the_truth() -> None:
    """64 x 64 draws, within three standard errors. The truth is another random network, so every fill is possible."""
    prior, other = learner(), tiny(WORLD.tokenizer, num_hidden_layers=1)
    assert isinstance(other, DiffusionPrior)
    query = batch(*[1] * 64)
    metrics = learner_metrics(Task(prior, other), query, 64, seeded(0), other)
    canvas = QUERIES[1].canvas
    fills = torch.tensor(list(product(range(prior.vocabulary.size), repeat=2)))
    tokens = canvas.tokens.repeat(len(fills), 1)
    tokens[:, canvas.slots[0]] = fills
    with torch.no_grad():
        log_q, log_p = (p.score(canvas.repeat(len(fills)), tokens).log_q for p in (prior, other))
    truth = float((log_q.exp() * (log_q - log_p)).nan_to_num(nan=0.0).sum())
    assert truth > 0.1
    assert abs(float(metrics["kl"].mean()) - truth) < 3 * float(metrics["kl"].std() / 8)
    forward = float((log_p.exp() * (log_p - log_q)).nan_to_num(nan=0.0).sum())
    assert abs(forward - truth) > 3 * float(metrics["forward_kl"].std() / 8)  # so that they cannot be mixed up
    assert abs(float(metrics["forward_kl"].mean()) - forward) < 3 * float(metrics["forward_kl"].std() / 8)
    assert float(metrics["kl_at_least"].mean()) < truth
    assert float(metrics["ess"].min()) >= 1 / 64 and float(metrics["ess"].max()) <= 1 + 1e-9
    assert (metrics["kl_at_least"] >= -1e-9).all()


def test_a_world_under_a_reward_is_a_tilted_world() -> None:
    world = hmm()
    tilted, reward = world.tilted(dict.fromkeys("mx", 0.7)), Reward(Counts(["m", "x"], pieces=True), 1 / 0.7, gap=0)
    canvas = Canvas.of(
        torch.tensor([[world.vocabulary.bos, *[world.vocabulary.mask] * 6, world.vocabulary.eos]]),
        world.vocabulary.mask,
    )
    canvas = replace_middle(canvas, world)
    drawn = tilted.sample(canvas.repeat(32), seeded(0))
    posterior = world.given(Observed(canvas) & reward)
    density, _ = posterior.log_density(drawn.tokens)
    gap = density - drawn.log_q
    assert (gap - gap[0]).abs().max() < 1e-6


def replace_middle(canvas: Canvas, world: ProbabilisticAutomaton) -> Canvas:
    """Two known symbols at columns 5 and 6, so that the run of masks becomes a gap before and perhaps one behind."""
    tokens = canvas.tokens.clone()
    tokens[:, 5:7] = world.tokenizer.get_vocab()["d"]
    return Canvas.of(tokens, world.vocabulary.mask)


def test_a_task_that_cannot_be_learnt_is_refused() -> None:
    prior = learner()
    with pytest.raises(UserError, match="different tokenizers"):
        Task(prior, hmm())
    with pytest.raises(UserError, match="no log-probability"):
        Task(replace(prior, policy=SampledConfidence(2)), WORLD)
    with pytest.raises(UserError, match="same policy"):
        Task(replace(prior, policy=RandomOrder(2)), WORLD)
    with pytest.raises(UserError, match="must weigh complete texts"):
        Task(prior, WORLD, Contains("a"))


def test_a_saved_learner_is_a_checkpoint(tmp_path: Path) -> None:
    prior = learner()
    save(prior, tmp_path)
    assert torch.equal(load(tmp_path).network.embedding.weight, prior.network.embedding.weight)

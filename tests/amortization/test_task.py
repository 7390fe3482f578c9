"""The task and its methods on worlds small enough to enumerate."""

from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import save, tiny
from textdiff.amortization import (
    Distillation,
    Query,
    QuerySet,
    ReverseKL,
    SemiAmortized,
    SubTrajectoryBalance,
    Task,
    TrajectoryBalance,
    measured,
    vargrad,
)
from textdiff.errors import UserError
from textdiff.evidence import Contains, Counts, Observed, Reward
from textdiff.inference import Exact, Importance
from textdiff.posterior import seeded
from textdiff.pretrained import load
from textdiff.priors import DiffusionPrior
from textdiff.samplers import RandomOrder, SampledConfidence, Strided
from textdiff.text import Canvas
from textdiff.worlds.catalog import hmm, table

TEXTS = ["#" + "".join(letters) + "." for letters in product("ab", repeat=4)]
WEIGHTS = (2 * torch.randn(16, generator=seeded(5), dtype=torch.float64)).exp().tolist()
WORLD = table(dict(zip(TEXTS, WEIGHTS, strict=True)))


def learner(steps: int = 2) -> DiffusionPrior:
    """A network that has learnt nothing and rules nothing out."""
    prior = tiny(WORLD.tokenizer)
    assert isinstance(prior, DiffusionPrior)
    torch.manual_seed(0)
    prior.network.apply(prior.network._init_weights)
    return prior.with_policy(Strided(steps))


def blank(*texts: str) -> QuerySet:
    """Texts in which a slash stands for a slot."""
    v = WORLD.vocabulary
    ids = WORLD.tokenizer.get_vocab()
    rows = [[v.bos, *(v.mask if symbol == "/" else ids[symbol] for symbol in text), v.eos] for text in texts]
    return QuerySet([(Canvas.of(torch.tensor([row]), v.mask), None) for row in rows], v.pad)


QUERIES = blank("#////.", "#/b/b.", "#ba//.")


def batch(*numbers: int) -> Query:
    return QUERIES.stack([QUERIES[number] for number in numbers])


def kl(prior: DiffusionPrior, number: int) -> float:
    """KL(q || posterior), summed over all fills; one that is impossible has a log-probability of -50."""
    canvas = QUERIES[number].canvas
    fills = torch.tensor(list(product(WORLD.token.unique().tolist(), repeat=int(canvas.slots.sum()))))
    tokens = canvas.tokens.repeat(len(fills), 1)
    tokens[:, canvas.slots[0]] = fills
    with torch.no_grad():
        log_q = prior.score(canvas.repeat(len(fills)), tokens).log_q
    log_p = WORLD.score(canvas.repeat(len(fills)), tokens).log_q
    assert log_q is not None and log_p is not None
    return float((log_q.exp() * (log_q - log_p.clamp(min=-50))).sum())


def train(task: Task, method: torch.nn.Module, steps: int, lr: float = 3e-3) -> list[float]:
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


@pytest.mark.parametrize(
    "method",
    [
        TrajectoryBalance(8),
        pytest.param(TrajectoryBalance(8, temperature=1.5, replayed=3), marks=pytest.mark.slow),
        pytest.param(TrajectoryBalance(8, from_target=4), marks=pytest.mark.slow),
        pytest.param(TrajectoryBalance(8, "learned"), marks=pytest.mark.slow),
        Distillation(Exact(), teacher_samples=32, kept=None, draws=32),
        pytest.param(
            Distillation(Importance(), teacher_samples=64, kept=32, draws=16, round_steps=20), marks=pytest.mark.slow
        ),
    ],
    ids=["vargrad", "replay", "from target", "learned log Z", "distillation", "expert iteration"],
)
def test_a_method_learns_the_posterior(method: torch.nn.Module) -> None:
    """The KL, in which what is impossible counts 50 nats, must fall from over 20 nats by 90 %, of each evidence."""
    prior = learner()
    before = [kl(prior, number) for number in range(3)]
    train(Task(prior, WORLD), method, 100)
    after = [kl(prior, number) for number in range(3)]
    assert max(after) < 0.1 * min(before), (before, after)


def test_subtrajectory_balance_is_the_sum_over_all_pairs_of_beginnings() -> None:
    """Against the formula of the literature, written out for an autoregressive prior that ends its gap itself."""
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
    """A table of 1 to 3 letters, from a network that has learnt nothing; the KL must fall by 80 %."""
    world = table({"#a.": 4.0, "#ab.": 1.0, "#abb.": 2.0, "#bb.": 1.0, "#b.": 0.5, "#ba.": 1.0, "#baa.": 0.2})
    prior = tiny(world.tokenizer, causal=True, fill_in_middle=True)
    torch.manual_seed(0)
    prior.network.apply(prior.network._init_weights)
    v, ids = world.vocabulary, world.tokenizer.get_vocab()
    canvas = Canvas.of(torch.tensor([[v.bos, ids["#"], *[v.mask] * 3, ids["."], v.eos]]), v.mask)
    queries = QuerySet([(replace(canvas, minimum=torch.tensor([[1]])), None)], v.pad)
    task, method, generator = Task(prior, world), SubTrajectoryBalance(8, 4), seeded(0)
    optimizer = torch.optim.AdamW(prior.network.parameters(), lr=3e-3, weight_decay=0.0)

    def reverse() -> float:
        many = queries[0].canvas.repeat(512)
        with torch.no_grad():
            drawn = prior.sample(many, seeded(1))
        log_p = world.score(many, drawn.tokens).log_q.clamp(min=-50)
        return float((drawn.log_q - log_p).mean())

    before = reverse()
    for step in range(150):
        loss, _ = method.loss(task, queries[0], step, generator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.network.parameters(), 1.0)
        optimizer.step()
    assert reverse() < 0.2 * before
    with pytest.raises(UserError, match="gaps of open length"):
        method.loss(Task(learner(), WORLD), batch(0), 0, generator)


@pytest.mark.slow
def test_refining_for_one_query_raises_its_effective_sample_size() -> None:
    """Towards a world whose texts are not alike, from one that has learnt one in which they are."""
    prior = learner(4)
    train(Task(prior, table(dict.fromkeys(TEXTS, 1.0), WORLD.tokenizer)), TrajectoryBalance(8), 100)
    posterior = prior.given(QUERIES[0].canvas, target=WORLD)
    plain, refined = (
        posterior.sample(64, method, generator=0) for method in (Importance(), SemiAmortized(60, 16, lr=1e-2))
    )
    assert refined.ess > 1.5 * plain.ess
    assert refined.log_evidence == pytest.approx(float(WORLD.log_evidence(QUERIES[0].canvas)), abs=0.3)
    assert int(refined.nfe[0]) > int(plain.nfe[0]) + 30
    assert not [name for name, _ in prior.network.named_parameters() if "lora" in name]
    with pytest.raises(UserError, match="nothing to refine"):
        tiny(WORLD.tokenizer, causal=True).given(QUERIES[1].canvas, target=WORLD).sample(2, SemiAmortized())


@pytest.mark.slow
def test_the_reverse_kl_falls() -> None:
    prior = learner()
    before = kl(prior, 1)
    train(Task(prior, WORLD), ReverseKL(8), 100)
    assert kl(prior, 1) < 0.2 * before


@pytest.mark.slow
def test_a_learnt_normaliser_goes_to_log_z() -> None:
    """Within 0.3 nats, half of the draws being the target's; by itself the learner would take long."""
    prior, method = learner(), TrajectoryBalance(16, "learned", from_target=8)
    train(Task(prior, WORLD), method, 200)
    for number in range(3):
        truth = float(WORLD.log_evidence(QUERIES[number].canvas))
        assert abs(method.log_z[number] - truth) < 0.3


def test_random_orders_that_two_share_cancel() -> None:
    """Relative trajectory balance begins with log q - log target = -reward, fill by fill, whatever the orders."""
    random = replace(learner(), policy=RandomOrder(2))
    reward = Reward(Counts(["a"], pieces=True), 0.5, gap=0)
    task = Task(random, replace(learner(), policy=RandomOrder(2)), reward)
    canvas = batch(0, 2).canvas.repeat(5)
    tokens = task.draw(canvas, seed=7)
    log_q, log_target = task.log_q(canvas, tokens, 7), task.log_target(canvas, tokens, 7)
    counts = (tokens == WORLD.tokenizer.get_vocab()["a"]) & canvas.slots
    assert torch.allclose(log_target - log_q, 2.0 * counts.sum(dim=1).double(), atol=1e-5)


def test_replaying_gives_what_the_sampler_said() -> None:
    random = replace(learner(), policy=RandomOrder(2))
    task = Task(random, replace(tiny(WORLD.tokenizer), policy=RandomOrder(2)))
    canvas = batch(0, 1).canvas.repeat(5)
    drawn = random.sample(canvas, seeded(3))
    assert torch.equal(drawn.tokens, task.draw(canvas, 3))
    assert torch.allclose(drawn.log_q, task.log_q(canvas, drawn.tokens, 3), atol=1e-5)
    assert not torch.allclose(drawn.log_q, task.log_q(canvas, drawn.tokens, 4), atol=1e-3)


def test_gradients_do_not_depend_on_what_is_kept_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Computing each step again saves memory and changes nothing."""
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


def test_what_is_measured_is_the_distance_to_the_truth() -> None:
    """64 x 64 draws; three standard errors. The truth is another random network, which rules nothing out."""
    prior, other = learner(), tiny(WORLD.tokenizer, num_hidden_layers=1)
    assert isinstance(other, DiffusionPrior)
    query = batch(*[1] * 64)
    found = measured(Task(prior, other), query, 64, seeded(0), other)
    canvas = QUERIES[1].canvas
    fills = torch.tensor(list(product(range(prior.vocabulary.size), repeat=2)))
    tokens = canvas.tokens.repeat(len(fills), 1)
    tokens[:, canvas.slots[0]] = fills
    with torch.no_grad():
        log_q, log_p = (p.score(canvas.repeat(len(fills)), tokens).log_q for p in (prior, other))
    truth = float((log_q.exp() * (log_q - log_p)).nan_to_num(nan=0.0).sum())
    assert truth > 0.1
    assert abs(float(found["kl"].mean()) - truth) < 3 * float(found["kl"].std() / 8)
    forward = float((log_p.exp() * (log_p - log_q)).nan_to_num(nan=0.0).sum())
    assert abs(forward - truth) > 3 * float(found["forward_kl"].std() / 8)  # so that they cannot be mixed up
    assert abs(float(found["forward_kl"].mean()) - forward) < 3 * float(found["forward_kl"].std() / 8)
    assert float(found["kl_at_least"].mean()) < truth
    assert float(found["ess"].min()) >= 1 / 64 and float(found["ess"].max()) <= 1 + 1e-9
    assert (found["kl_at_least"] >= -1e-9).all()


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


def replace_middle(canvas: Canvas, world) -> Canvas:  # type: ignore[no-untyped-def]
    """One known symbol between two gaps... of which the first alone is looked at."""
    tokens = canvas.tokens.clone()
    tokens[:, 5:7] = world.tokenizer.get_vocab()["d"]
    return Canvas.of(tokens, world.vocabulary.mask)


def test_thoughts_are_thought_once(tmp_path: Path) -> None:
    class Counting(Exact):  # type: ignore[misc]
        calls = 0

        def sample(self, *arguments):  # type: ignore[no-untyped-def]
            Counting.calls += 1
            return super().sample(*arguments)

    task = Task(learner(), WORLD)
    found = []
    for _ in range(2):
        method = Distillation(Counting(), teacher_samples=8, kept=4, cache=str(tmp_path))
        assert method.prepare(task, QUERIES, 0, seeded(0), lambda text: None)["round_ess"] == pytest.approx(1.0)
        assert not method.prepare(task, QUERIES, 1, seeded(0), lambda text: None)
        found.append(method.guesses)
    assert Counting.calls == len(QUERIES)
    assert all(torch.equal(found[0][n][0], found[1][n][0]) for n in range(3))


def test_mistakes_take_one_line(tmp_path: Path) -> None:
    prior = learner()
    with pytest.raises(UserError, match="different tokenizers"):
        Task(prior, hmm())
    with pytest.raises(UserError, match="no log-probability"):
        Task(replace(prior, policy=SampledConfidence(2)), WORLD)
    with pytest.raises(UserError, match="same policy"):
        Task(replace(prior, policy=RandomOrder(2)), WORLD)
    with pytest.raises(UserError, match="must weigh complete texts"):
        Task(prior, WORLD, Contains("a"))
    with pytest.raises(UserError, match="draws is 1"):
        TrajectoryBalance(1)
    with pytest.raises(UserError, match="draws is 4, of which 3 replayed and 2"):
        TrajectoryBalance(4, replayed=3, from_target=2)
    with pytest.raises(UserError, match="leave-one-out"):
        ReverseKL(1)
    with pytest.raises(UserError, match="nothing to count"):
        Counts([""])


def test_counts() -> None:
    assert Counts(["happy", "glad"])(["happy, unhappy and glad", ""]) == [2.0, 0.0]
    assert Counts(["happy"], pieces=True)(["happy, unhappy"]) == [2.0]
    assert Counts(["happy"], most=1)(["happy happy"]) == [1.0]


def test_a_saved_learner_is_a_checkpoint(tmp_path: Path) -> None:
    prior = learner()
    save(prior, tmp_path)
    assert torch.equal(load(tmp_path).network.embedding.weight, prior.network.embedding.weight)

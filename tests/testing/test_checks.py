"""The public checks pass for what is right, and fail for what is wrong."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from tests.helpers.laws import EXACT, WITHOUT_DENSITY
from tests.helpers.tiny import tiny
from textdiff import testing
from textdiff.evidence import Contains, Likelihood, Observed, Reward
from textdiff.inference import SMC, Importance, MetropolisHastings
from textdiff.posterior import Conditioning
from textdiff.samplers import LogProbKind, RandomOrder, UnmaskingPolicy

TEXT = "Lily lost her ball.[gap:1] She was happy."


@pytest.mark.parametrize("policy", [*EXACT[::4], RandomOrder(), *WITHOUT_DENSITY[::3]], ids=str)
def test_our_policies_keep_their_word(policy: UnmaskingPolicy) -> None:
    report = testing.check_policy(policy, draws=1000)
    assert report.kind is policy.kind
    assert (report.total is None) == (policy.kind is LogProbKind.NONE)


@dataclass(frozen=True)
class Likeliest(UnmaskingPolicy):
    """Reveals the slot whose *drawn* token is likeliest, and claims that log q is exact: it is not."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def reveal(self, state):
        spread = state.spread(-state.log_probs.amax(dim=1))
        noisy = spread + state.noise.where(state.masked, torch.inf)  # depends on more than the canvas
        return state.first(noisy, torch.ones_like(state.masked.sum(dim=1)))


def test_a_policy_that_claims_too_much_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"nats off their own log q|sum to"):
        testing.check_policy(Likeliest())


@dataclass(frozen=True)
class Lazy(UnmaskingPolicy):
    """Reveals slots of the first row only."""

    kind: ClassVar[LogProbKind] = LogProbKind.EXACT

    def reveal(self, state):
        columns = torch.arange(state.masked.shape[1]).expand_as(state.masked)
        return state.masked if len(state.masked) == 1 else state.lowest(columns)


def test_a_policy_that_looks_at_the_batch_is_caught() -> None:
    with pytest.raises(AssertionError, match="depends on its neighbours"):
        testing.check_policy(Lazy())


@pytest.mark.parametrize("causal", [False, True])
def test_our_priors_keep_their_word(causal: bool) -> None:
    report = testing.check_prior(tiny(causal=causal), TEXT, draws=16)
    assert report.kind is LogProbKind.EXACT and report.total == pytest.approx(1, abs=1e-4)


def test_a_prior_with_a_wrong_log_q_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = tiny()
    right = type(prior).score

    def wrong(self, canvas, tokens, **options):
        scored = right(self, canvas, tokens, **options)
        object.__setattr__(scored, "log_q", scored.log_q + 0.1)
        return scored

    monkeypatch.setattr(type(prior), "score", wrong)
    with pytest.raises(AssertionError, match="off their own log q"):
        testing.check_prior(prior, TEXT, draws=8)


def test_evidence_keeps_its_word() -> None:
    observed = Observed("Lily lost her ball. [gap:2] She was happy.")
    for more in (Reward(lambda texts: [float(len(text)) for text in texts]), Likelihood(lambda x: x.sum(1) * 1e-3)):
        testing.check_evidence(observed & more, tiny())
    ruled_out = testing.check_evidence(observed & Contains(["dog"]), tiny())
    assert bool((ruled_out == -torch.inf).any())


def test_a_score_that_depends_on_the_batch_is_caught() -> None:
    wrong = Observed(TEXT) & Reward(lambda texts: [float(i) for i in range(len(texts))])
    with pytest.raises(AssertionError, match="depends on the other texts"):
        testing.check_evidence(wrong, tiny())


@pytest.mark.parametrize(
    ("method", "factorised"),
    [
        (Importance(), False),
        (Importance(), True),
        (SMC(), True),
        (MetropolisHastings(12), True),
    ],
    ids=["importance", "importance-weighs", "smc", "metropolis-hastings"],
)
def test_our_methods_keep_their_word(method, factorised: bool) -> None:
    testing.check_method(method, draws=500, factorised=factorised)


def test_a_method_without_weights_is_caught_where_weights_are_needed() -> None:
    with pytest.raises(AssertionError, match="from the exact posterior"):
        testing.check_method(Conditioning(), factorised=True)

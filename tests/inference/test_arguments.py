"""Arguments of public functions and methods: wrong values give one line that names the argument, and nothing else."""

import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

import textdiff as td
from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.inference import Resampled
from textdiff.samplers import POLICIES, Blocks, Cap, ErrorBudget, Loop, Rescale, State, Strided
from textdiff.samplers.policies.policy import LogProbKind, UnmaskingPolicy
from textdiff.worlds import sums, texts

PRIOR, CAUSAL = tiny(), tiny(causal=True)
WORLD = td.world("hmm")
TEXT = "Lily lost [gap:4] again."
POSTERIOR = PRIOR.given(TEXT)
NAN = float("nan")


class Odd:
    """Has no meaning anywhere."""


WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, NAN, float("inf"), 10**18, 10**5000, "x", "", b"x", [], ["x", 5], {}, Odd(), Odd, print,
    torch.tensor([1.0]), torch.zeros(0),
)  # fmt: skip


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A guard against hangs."""

    def late(*given: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.signal(signal.SIGALRM, before)
    signal.alarm(0)


def sampled(**arguments: Any) -> object:
    """Few draws, so that the values that are right take no time."""
    return PRIOR.infill(TEXT, **({"n": 1, "seed": 0} | arguments))


# What takes each argument, and the values that are right; a value that is not there has to be refused by name.
RIGHT: dict[Callable[..., object], dict[str, tuple[Any, ...]]] = {
    sampled: {
        "n": (),
        "steps": (None, 10**18),
        "policy": (None,),
        "error_budget": (None,),
        "seed": (None, 0, 10**18),
        "temperature": (0, 1.5, True and 10**18),
        "top_p": (),
        "top_k": (None, 10**18),
        "watch": (None, print),
        "stream": (True,),
    },
    POSTERIOR.sample: {"n": (), "method": (None,), "generator": (None, 0, 10**18)},
    POSTERIOR.sample(4, generator=0).resample: {"n": (None,), "generator": (None, 0, 10**18)},
    lambda **given: PRIOR.given(**({"evidence": TEXT} | given)): {"evidence": (), "target": (None,)},
    POSTERIOR.log_prob: {"fill": ()},
    td.Tempering: {"temperature": (0, 1.5, 10**18), "top_p": (), "top_k": (None, 10**18)},
    td.Importance: {"temperature": (1.5, 10**18), "watch": (None, print, Odd)},
    td.SMC: {"threshold": (0,), "resampling": (print, Odd), "bridge": (True,)},
    td.MetropolisHastings: {"sweeps": (), "independent": (0,)},
    td.BlockGibbs: {"sweeps": (), "block": (10**18,)},
    td.ParticleGibbs: {"particles": (10**18,), "sweeps": (), "threshold": (0,)},
    td.Rejection: {"log_bound": (None, -1, 0, 1.5, 10**18), "most": ()},
    td.Beam: {"width": (10**18,)},
    td.BestOf: {"draws": (10**18,)},
    td.ByLength: {"lengths": (None,), "method": (None,), "log_prior": (None, print, Odd), "window": (0, 10**18)},
    Resampled: {"method": (None,), "particles": (10**18,)},
    lambda **given: td.InfillOptions(**({"text": TEXT} | given)): {
        "text": ("x", ""),
        "n": (10**18,),
        "seed": (None, 0, 10**18),
        "policy": (None, "x", ""),
        "steps": (None, 10**18),
        "error_budget": (None, 0, 1.5, 10**18),
        "guidance": (None, 0, 1.5, 10**18),
        "particles": (None, 10**18),
        "constraint": (None,),
    },
    td.Template: {"parts": ()},
    td.Observed: {"known": ()},
    lambda **given: td.Question(**({"question": "1 + 1 = ?"} | given)): {
        "question": ("x",),
        "answer": (None, "x", ""),
        "rationale": (None, "x", ""),
        "context": (None, "x", ""),
        "gaps": (),
    },
    td.Likelihood: {"function": (print, Odd)},
    lambda **given: td.Reward(**({"function": len} | given)): {
        "function": (print, Odd),
        "temperature": (1.5, 10**18),
        "gap": (None, 0, 10**18),
        "look_ahead": (True,),
        "name": ("x", ""),
    },
    td.world: {"name": ()},
    Strided: {"steps": (None, 10**18)},
    POLICIES["remasking"]: {"steps": (), "chance": (), "loop": (None,)},
    POLICIES["path-planning"]: {"steps": (None, 10**18), "eta": (0, 1.5, 10**18)},
    POLICIES["entropy-bounded"]: {"gamma": (0, 1.5, 10**18)},
    POLICIES["threshold"]: {"tau": ()},
    Blocks: {"policy": (), "length": (10**18,)},
    Cap: {"eta": (0,)},
    Rescale: {"eta": (0,)},
    Loop: {"level": (), "begin": (), "end": ()},
    lambda **given: PRIOR.with_policy(**given): {"policy": (None,), "steps": (None, 10**18)},
    lambda **given: PRIOR.with_guidance(**given): {"weight": (0, 1.5, 10**18)},  # type: ignore[attr-defined]
    lambda **given: ErrorBudget(**({"nats": 1.0, "dependence": None} | given)): {"nats": ()},
    lambda **given: next(sums(**({"n": 1} | given)), None): {
        "operands": (),
        "largest": (),
        "n": (0, 10**18),
        "part": (None,),
    },
    lambda **given: list(texts(WORLD, **({"n": 1} | given))): {"n": (), "generator": (None, 0, 10**18)},
    lambda **given: td.DiffusionPrior(
        **({"network": PRIOR.network, "tokenizer": PRIOR.tokenizer, "vocabulary": PRIOR.vocabulary} | given)  # type: ignore[attr-defined]
    ): {"network": (), "tokenizer": (None,), "vocabulary": (), "policy": (), "dependence": (None,)},
    lambda **given: td.AutoregressivePrior(
        **({"network": CAUSAL.network, "tokenizer": CAUSAL.tokenizer, "vocabulary": CAUSAL.vocabulary} | given)  # type: ignore[attr-defined]
    ): {"network": (), "tokenizer": (None,), "vocabulary": ()},
    lambda **given: td.Posterior(**({"prior": PRIOR, "evidence": td.Observed(TEXT), "target": PRIOR} | given)): {
        "prior": (),
        "evidence": (),
        "target": (),
    },
    lambda **given: td.infill(**({"prior": PRIOR, "options": td.InfillOptions(TEXT)} | given)): {
        "prior": (),
        "options": (),
    },
}  # fmt: skip


def allowed(value: Any, right: tuple[Any, ...]) -> bool:
    return any(value is one or (type(value) is type(one) and value == one) for one in right)


@pytest.mark.parametrize("index", range(len(RIGHT)))
def test_wrong_arguments_are_refused_by_name(index: int) -> None:
    call, parameters = list(RIGHT.items())[index]
    for name, right in parameters.items():
        for value in WRONG:
            if isinstance(value, Tensor) or not allowed(value, right):
                with pytest.raises((UserError, TypeError)) as caught:
                    call(**{name: value})
                line = str(caught.value)
                assert "\n" not in line and len(line) <= 700
                assert any(word in line for word in ("expected", "text", "fill", "question", "takes no")), line


@pytest.mark.parametrize("index", range(len(RIGHT)))
def test_values_that_are_right_stay_so(index: int) -> None:
    call, parameters = list(RIGHT.items())[index]
    for name, right in parameters.items():
        for value in right:
            if value is not None or name in ("policy", "steps"):
                try:
                    call(**{name: value})
                except UserError as error:  # a limit of its own, such as no such policy
                    assert "\n" not in str(error)


def test_names_are_in_the_messages() -> None:
    cases: Mapping[str, Callable[[], object]] = {
        "steps is nan": lambda: sampled(steps=NAN),
        "n is 1.5": lambda: sampled(n=1.5),
        "temperature is '1'": lambda: sampled(temperature="1"),
        r"policy is \['strided'\]": lambda: sampled(policy=["strided"]),
        "steps is 1000000, expected a whole number, 1 to 4096": lambda: sampled(policy="remasking", steps=10**6),
        "the evidence is 5": lambda: PRIOR.infill(5),  # type: ignore[call-overload]
        "n is 1000000000: as many texts of": lambda: sampled(n=10**9),
        "n x draws is 1000000000": lambda: POSTERIOR.sample(1, td.BestOf(10**9)),
        "n x particles is 1000000000": lambda: POSTERIOR.sample(1, td.ParticleGibbs(10**9)),
        "width is 1000000": lambda: CAUSAL.given(TEXT).sample(1, td.Beam(10**6)),
        "operands is 99": lambda: td.world("arithmetic-99"),
        "arithmetic with 5 operands up to 9 has more": lambda: td.world("arithmetic-5"),
    }
    for complaint, call in cases.items():
        with pytest.raises(UserError, match=complaint):
            call()


def test_many_draws_go_on_working() -> None:
    many = POSTERIOR.sample(4096, generator=0)
    few = POSTERIOR.sample(16, generator=0)
    assert len(many) == 4096 and torch.equal(many.tokens[:16], few.tokens)


def raises(*given: Any) -> Any:
    raise KeyError("boom")


class Own(UnmaskingPolicy):
    """A policy of the user's own that answers with whatever it is given."""

    kind = LogProbKind.EXACT

    def __init__(self, answer: Callable[[State], Any]) -> None:
        self.answer = answer

    def reveal(self, state: State) -> Tensor:
        found: Tensor = self.answer(state)
        return found


@pytest.mark.parametrize(
    "evidence", [td.Likelihood(raises), td.Reward(raises), td.Likelihood(lambda ids: torch.zeros(len(ids)), raises)]
)
def test_functions_of_the_user_that_fail_are_alike(evidence: td.Likelihood | td.Reward) -> None:
    with pytest.raises(UserError, match=r"the (likelihood|reward|look-ahead) failed.*KeyError: 'boom'") as caught:
        PRIOR.given(td.Observed(TEXT) & evidence).sample(4, td.SMC(), generator=0)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (raises, "policy Own failed: KeyError: 'boom'"),
        (lambda state: None, "policy Own revealed NoneType: expected bool"),
        (lambda state: state.masked.long(), "policy Own revealed torch.int64"),
        (lambda state: state.masked[:, :2], "policy Own revealed torch.bool"),
        (lambda state: torch.ones_like(state.masked), "policy Own revealed slots that it may not"),
        (lambda state: torch.zeros_like(state.masked), "policy Own revealed no slot of a row"),
    ],
)
def test_policies_of_the_user_that_fail_are_named(answer: Callable[[State], Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        PRIOR.infill(TEXT, policy=Own(answer), seed=0)


def test_other_functions_of_the_user() -> None:
    def choose(answer: Any) -> Callable[[Tensor, Generator], Any]:
        return lambda weights, generator: answer

    weighed = PRIOR.given(
        td.Observed("[gap:4]") & td.Reward(lambda texts: [9.0 * ("a" in t) for t in texts], look_ahead=True)
    )
    for scheme, complaint in (
        (raises, "resampling failed: KeyError"),
        (choose("x"), "resampling gave str: expected ancestors"),
        (choose(torch.full((64,), 99)), "none of 0 to 63"),
    ):
        with pytest.raises(UserError, match=complaint):
            weighed.sample(64, td.SMC(threshold=1.0, resampling=scheme), generator=0)
    with pytest.raises(UserError, match="log_prior failed: KeyError"):
        WORLD_OPEN.sample(4, td.ByLength(lengths=[1, 2], log_prior=raises), generator=0)


WORLD_OPEN = WORLD.given("a[gap:1-2]")


def test_rejection_without_any_weight_ends() -> None:
    never = td.Reward(lambda texts: [-float("inf")] * len(texts))
    with pytest.raises(UserError, match="none of 1280 proposals has any weight"):
        PRIOR.given(td.Observed(TEXT) & never).sample(2, td.Rejection(), generator=0)
    for method in (td.SMC(), td.Importance(), td.ParticleGibbs(2, 1), td.MetropolisHastings(1), td.BestOf(2)):
        assert len(PRIOR.given(td.Observed(TEXT) & never).sample(2, method, generator=0)) == 2

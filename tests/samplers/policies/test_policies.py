"""Which slots each policy reveals, and when."""

import math

import pytest
import torch

from tests.helpers.laws import DEPENDENCE, EXACT, ONE_BY_ONE, SEVERAL_AT_ONCE, canvas_of, seeded
from tests.helpers.policies import RAGGED, one_gap, rounds, state_of
from textdiff import samplers
from textdiff.errors import UserError
from textdiff.samplers import (
    POLICIES,
    Blocks,
    Cap,
    Dilated,
    Entropy,
    EntropyBounded,
    ErrorBudget,
    LeftToRight,
    LogProbKind,
    Loop,
    Margin,
    Paced,
    RandomOrder,
    Remasking,
    SampledConfidence,
    State,
    Strided,
    Threshold,
    TopProbability,
    UnmaskingPolicy,
    by_name,
    policy_label,
    policy_name,
    registered_name,
    sample,
)
from textdiff.samplers.lengths import rank_and_size
from textdiff.testing.tables import TableDenoiser
from textdiff.text import Vocabulary


@pytest.mark.parametrize("policy", (*ONE_BY_ONE, *SEVERAL_AT_ONCE), ids=str)
def test_a_blind_policy_ignores_log_probs(policy):
    # It reveals the same slots without any log-probs, and no policy that uses them declares itself blind.
    gap = torch.tensor([[0, 0, 0, 0, -1, 1, 1, 1], [0, 0, -1, 1, 1, -1, -1, -1]])
    rank, size = rank_and_size(gap)
    noise = torch.rand(gap.shape, dtype=torch.float64, generator=seeded(1))
    answers = [torch.randn(11, 5, dtype=torch.float64, generator=seeded(s)).mul(3).log_softmax(-1) for s in range(20)]
    answers.append(torch.empty(0, 5, dtype=torch.float64))
    states = [
        State(torch.zeros_like(gap), gap >= 0, gap, rank, size, log_probs, noise, torch.full_like(gap, -1))
        for log_probs in answers
    ]
    if policy.blind:
        assert all(torch.equal(policy.reveal(state), policy.reveal(states[0])) for state in states)
    else:
        extreme = Entropy(1), ErrorBudget(0.0, DEPENDENCE), ErrorBudget(9.0, DEPENDENCE)
        assert len({str(policy.reveal(state).tolist()) for state in states[:-1]}) > 1 or policy in extreme


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("policy", [Strided, Dilated, RandomOrder, Entropy, Margin, TopProbability, SampledConfidence])
def test_every_slot_is_revealed_once_within_the_steps(policy, steps):
    revealed = rounds(policy(steps), RAGGED)
    assert torch.equal(revealed.sum(dim=0), (RAGGED >= 0).long())
    assert len(revealed) <= steps


@pytest.mark.parametrize("policy", [LeftToRight(), Dilated(), RandomOrder(), EntropyBounded(0.5), Threshold(0.5)])
def test_every_slot_is_revealed_once(policy):
    assert torch.equal(rounds(policy, RAGGED).sum(dim=0), (RAGGED >= 0).long())


@pytest.mark.parametrize(
    "policy, steps, counts",
    [
        (Strided, 4, [3, 3, 3, 3]),
        (Strided, 5, [3, 3, 2, 2, 2]),
        (Entropy, 5, [2, 2, 3, 2, 3]),
        (Entropy, 12, [1] * 12),
        (Entropy, 100, [1] * 12),
        (Entropy, None, [1] * 12),
        (RandomOrder, 7, [1, 2, 2, 1, 2, 2, 2]),
        (Dilated, None, [1, 2, 4, 5]),
        (Dilated, 3, [4, 4, 4]),
    ],
)
def test_tokens_per_step(policy, steps, counts):
    assert rounds(policy(steps), one_gap(12)).sum(dim=(1, 2)).tolist() == counts


@pytest.mark.parametrize("n", range(1, 20))
@pytest.mark.parametrize("steps", range(1, 9))
def test_quotas_are_even_and_spend_exactly_the_steps(n, steps):
    counts = rounds(TopProbability(steps), one_gap(n)).sum(dim=(1, 2))
    assert len(counts) == min(n, steps)
    assert counts.max() - counts.min() <= 1
    assert counts[0] == counts.min()


def test_strided_leaves_the_stride_between_the_slots_of_a_step():
    revealed = rounds(Strided(4), one_gap(10))[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in revealed] == [[0, 4, 8], [1, 5, 9], [2, 6], [3, 7]]


def test_strided_counts_within_each_gap():
    revealed = rounds(Strided(2), torch.tensor([[-1, 0, 0, 0, -1, -1, 1, 1]]))[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in revealed] == [[1, 3, 6], [2, 7]]


def test_dilated_bisects():
    revealed = rounds(Dilated(), one_gap(12))[:, 0]
    assert [step.nonzero()[:, 0].tolist() for step in revealed] == [[6], [3, 9], [1, 5, 8, 11], [0, 2, 4, 7, 10]]


@pytest.mark.parametrize("n", range(1, 40))
def test_dilated_takes_logarithmically_many_steps_and_never_reveals_neighbours(n):
    revealed = rounds(Dilated(), one_gap(n))[:, 0]
    assert len(revealed) == math.ceil(math.log2(n + 1))
    assert not (revealed[:, 1:] & revealed[:, :-1]).any()


def test_dilated_with_steps_alternates_within_a_level():
    order = rounds(Dilated(15), one_gap(15))[:, 0].nonzero()[:, 1].tolist()
    assert order == [7, 3, 11, 1, 9, 5, 13, 0, 8, 4, 12, 2, 10, 6, 14]


LOG_PROBS = torch.tensor(
    [[0.5, 0.5, 0.0], [0.6, 0.2, 0.2], [0.55, 0.44, 0.01], [1.0, 0.0, 0.0], [0.9, 0.1, 0.0]], dtype=torch.float64
).log()


@pytest.mark.parametrize(
    "policy, order",
    [
        (Entropy(), [3, 4, 0, 2, 1]),
        (Margin(), [3, 4, 1, 2, 0]),
        (TopProbability(), [3, 4, 1, 2, 0]),
    ],
)
def test_the_surest_slots_come_first(policy, order):
    gap = one_gap(5)
    for taken, position in enumerate(order):
        left = [slot for slot in range(5) if slot not in order[:taken]]
        state = state_of(LOG_PROBS[left], torch.full_like(gap, -1).index_fill(1, torch.tensor(left), 0))
        assert policy.reveal(state)[0].nonzero()[:, 0].tolist() == [position]


def test_of_ties_the_leftmost_is_taken():
    log_probs = torch.zeros(6, 4, dtype=torch.float64).log_softmax(-1)
    for policy in (Entropy(3), Margin(3), TopProbability(3), EntropyBounded(1.5)):
        assert policy.reveal(state_of(log_probs, one_gap(6)))[0].tolist() == [True, True, False, False, False, False]


def test_entropy_bound_takes_the_longest_prefix_within_gamma():
    entropies = -(LOG_PROBS.exp() * LOG_PROBS).nan_to_num(0.0).sum(-1)
    sure = entropies.sort().values
    for gamma, count in ((0.0, 2), (float(sure[1]), 3), (float(sure[1]) - 1e-9, 2), (float(sure[:4].sum()), 5)):
        # gamma = 0 takes the certain slot, and the surest of the others with it: neither informs the other.
        assert int(EntropyBounded(gamma).reveal(state_of(LOG_PROBS, one_gap(5))).sum()) == count


def test_entropy_bound_of_zero_is_one_token_per_step():
    assert rounds(EntropyBounded(0.0), RAGGED).sum(dim=2).max() == 1


def test_threshold_takes_what_is_above_it_and_at_least_the_surest():
    for tau, slots in ((0.95, [3]), (0.89, [3, 4]), (0.58, [1, 3, 4]), (1.0, [3])):
        assert Threshold(tau).reveal(state_of(LOG_PROBS, one_gap(5)))[0].nonzero()[:, 0].tolist() == slots


class Spy(UnmaskingPolicy):
    """Records the slots that a policy reveals on each canvas."""

    def __init__(self, policy):
        self.policy, self.seen = policy, {}

    @property
    def kind(self):
        return self.policy.kind

    def reveal(self, state):
        revealed = self.policy.reveal(state)
        for canvas, slots in zip(state.canvas.tolist(), revealed.tolist(), strict=True):
            self.seen.setdefault(tuple(canvas), set()).add(tuple(slots))
        return revealed


def answers_per_canvas(policy):
    spy = Spy(policy)
    vocabulary = Vocabulary.toy(3)
    for seed in range(2):
        sample(
            TableDenoiser(3, 4, seed=3), canvas_of(vocabulary, [None] * 4).repeat(200), vocabulary, spy, seeded(seed)
        )
    return max(map(len, spy.seen.values()))


@pytest.mark.parametrize("policy", EXACT, ids=str)
def test_an_exact_policy_is_a_function_of_the_canvas(policy):
    assert answers_per_canvas(policy) == 1


@pytest.mark.parametrize("policy", [RandomOrder(2), SampledConfidence(2)], ids=str)
def test_a_policy_that_is_no_function_of_the_canvas_does_not_claim_to_be(policy):
    assert answers_per_canvas(policy) > 1
    assert policy.kind is not LogProbKind.EXACT


def test_policies_by_name():
    assert by_name("strided", 5) == Strided(5)
    assert by_name("dilated") == Dilated()
    assert by_name("left-to-right") == by_name("left-to-right", 1) == by_name("left-to-right", 99) == LeftToRight()
    assert by_name("random", 3) == RandomOrder(3)
    public = {thing for thing in vars(samplers).values() if isinstance(thing, type)}
    concrete = {thing for thing in public if issubclass(thing, UnmaskingPolicy)} - {UnmaskingPolicy, Paced, ErrorBudget}
    assert {type(by_name(name)) for name in POLICIES} == concrete


@pytest.mark.parametrize(
    "policy, name, label",
    [
        (Strided(16), "strided", "strided, 16 steps"),
        (Dilated(), "dilated", "dilated"),
        (Blocks(Entropy(1), 8), "blocks", "blocks, entropy, 1 step, length 8"),
        (Remasking(4, Cap(0.2), Loop()), "remasking", None),
        (ErrorBudget(0.3, DEPENDENCE), "error-budget", "error-budget, nats 0.3"),
    ],
    ids=str,
)
def test_names_and_labels(policy, name, label):
    assert policy_name(policy) == name
    assert (registered_name(policy) == name) == (name in POLICIES)
    assert policy_label(policy) == (label or "remasking, 4 steps, cap, eta 0.2, loop, level 0.9, begin 0.45, end 0.95")


def test_a_policy_of_the_users_own_is_called_by_its_class():
    assert policy_name(Spy(Strided())) == "Spy" and registered_name(Spy(Strided())) is None


@pytest.mark.parametrize(
    "name, steps, message",
    [
        ("greedy", None, "policy is 'greedy', expected one of strided, dilated"),
        ("entropy", 0, "steps is 0, expected a whole number, 1 or more"),
        ("left-to-right", 0, "steps is 0, expected a whole number, 1 or more"),
        ("threshold", 4, "policy 'threshold' takes no steps"),
    ],
)
def test_mistakes_in_a_policy_get_one_line(name, steps, message):
    with pytest.raises(UserError, match=message) as error:
        by_name(name, steps)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [lambda: EntropyBounded(-0.1), lambda: Threshold(0.0), lambda: Threshold(90)])
def test_parameters_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match="expected"):
        wrong()

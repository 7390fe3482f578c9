"""The order-causal network: its definition, its autoregressive start, its two ways to compute the same."""

import pytest
import torch

from tests.helpers.networks import MASK, PAD, network, tokens, vocabulary
from tests.helpers.order_causal import by_definition, ordered_network
from textdiff.diffusion import subs
from textdiff.models import LoRA, Transformer, merge_adapter

WORDS = vocabulary()
NETWORK = ordered_network(WORDS)
LENGTH = 14


def times_of(observed, steps=4, seed=0):
    drawn = torch.randint(steps, observed.shape, generator=torch.Generator().manual_seed(seed))
    return torch.where(observed, -1, drawn)


def evidence(rows=3, seed=1):
    observed = torch.rand(rows, LENGTH, generator=torch.Generator().manual_seed(seed)) < 0.4
    observed[:, 0] = True
    return observed


def in_one_pass(net, text, times, where, content=None, segments=None):
    segments = torch.ones_like(text) if segments is None else segments
    positions = torch.arange(text.shape[1]).expand_as(text)
    content = torch.ones_like(where) if content is None else content
    states = net.ordered_states(text, times, content, where, segments, positions)
    return subs(net.head(states), net.forbidden_mask(states.device, null=False))


def test_both_ways_are_the_definition():
    text, observed = tokens(3, LENGTH), evidence()
    times, where = times_of(observed), ~observed
    exact = torch.stack([by_definition(NETWORK, text[r], times[r], c) for r, c in where.nonzero().tolist()])
    torch.testing.assert_close(in_one_pass(NETWORK, text, times, where), exact, rtol=0, atol=1e-10)
    answer = NETWORK.log_probs(text, observed, where, times=times)
    torch.testing.assert_close(answer, exact, rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("rows", [1, 3], ids=["one row", "three rows"])
def test_a_growing_cache_changes_nothing(rows):
    text, observed = tokens(rows, LENGTH), evidence(rows)
    times = times_of(observed)
    whole = NETWORK.log_probs(text, observed, ~observed, times=times)
    canvas = text.masked_fill(~observed, MASK)
    cache, answers = NETWORK.encode_evidence(canvas, observed), torch.empty(rows, LENGTH, WORDS.size).double()
    for step in range(4):
        asked = times == step
        answers[asked] = NETWORK.log_probs(canvas, observed, asked, evidence=cache, times=times)
        canvas = torch.where(asked, text, canvas)
    torch.testing.assert_close(answers[~observed], whole, rtol=0, atol=1e-10)


@torch.no_grad()
def test_from_left_to_right_it_is_the_network_that_it_started_from():
    causal, start = network(causal=True), Transformer(NETWORK.config).double().eval()
    start.load_state_dict(start.state_dict() | causal.state_dict())
    text = tokens(2, LENGTH)
    observed = torch.arange(LENGTH).expand_as(text) < 3
    times = torch.where(observed, -1, torch.arange(LENGTH))
    ours = in_one_pass(start, text, times, ~observed)
    theirs = subs(causal.logits(text)[:, 2:-1].flatten(0, 1), start.forbidden_mask(text.device, null=False))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


@torch.no_grad()
def test_documents_of_a_row_do_not_see_each_other():
    text, observed = tokens(1, LENGTH), evidence(1)
    times, where = times_of(observed), ~observed
    segments = (torch.arange(LENGTH) >= 8).long()[None] + 1
    positions = torch.cat((torch.arange(8), torch.arange(LENGTH - 8)))[None]
    states = NETWORK.ordered_states(text, times, torch.ones_like(where), where, segments, positions)
    packed = subs(NETWORK.head(states), NETWORK.forbidden_mask(states.device, null=False))
    parts = (slice(0, 8), slice(8, LENGTH))
    alone = [in_one_pass(NETWORK, text[:, part], times[:, part], where[:, part]) for part in parts]
    torch.testing.assert_close(packed, torch.cat(alone), rtol=0, atol=1e-10)


@torch.no_grad()
def test_rows_neighbours_and_padding_change_nothing():
    text, observed = tokens(3, LENGTH), evidence()
    text[1, 9:], observed[1, 9:] = PAD, True
    times, where = times_of(observed), ~observed
    together = NETWORK.log_probs(text, observed, where, times=times)
    first, last = (NETWORK.log_probs(text[[row]], observed[[row]], where[[row]], times=times[[row]]) for row in (0, 2))
    short = NETWORK.log_probs(text[1:2, :9], observed[1:2, :9], where[1:2, :9], times=times[1:2, :9])
    torch.testing.assert_close(together, torch.cat((first, short, last)), rtol=0, atol=1e-10)


@torch.no_grad()
def test_null_takes_no_position():
    text, observed = tokens(2, LENGTH), evidence(2)
    observed[:, 4:8] = False
    times = times_of(observed)
    without = [torch.cat((x[:, :5], x[:, 7:]), dim=1) for x in (text, observed, times)]
    text[:, 5:7] = WORDS.null
    where = ~observed & (text != WORDS.null)
    answer = NETWORK.log_probs(text, observed, where, times=times)
    expected = NETWORK.log_probs(*without[:2], ~without[1], times=without[2])
    torch.testing.assert_close(answer, expected, rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_canvas_without_times_counts_as_revealed_at_once():
    text, observed = tokens(2, LENGTH), evidence(2)
    canvas, filled = text.masked_fill(~observed, MASK), ~observed & (torch.arange(LENGTH) < 7)
    canvas = torch.where(filled, text, canvas)
    masked = canvas == MASK
    answer = NETWORK.log_probs(canvas, observed, masked)
    timed = NETWORK.log_probs(canvas, observed, masked, times=torch.where(observed, -1, 0))
    torch.testing.assert_close(answer, timed, rtol=0, atol=1e-12)
    logits = NETWORK(canvas, observed=observed).logits[masked]
    forbidden = NETWORK.forbidden_mask(logits.device, null=False)
    torch.testing.assert_close(subs(logits, forbidden), answer, rtol=0, atol=1e-12)
    assert NETWORK.log_probs(canvas, observed).shape == (2, LENGTH, WORDS.size)


@torch.no_grad()
def test_a_canvas_without_evidence_is_answered():
    canvas, observed = torch.full((2, 5), MASK), torch.zeros(2, 5, dtype=torch.bool)
    answer = NETWORK.log_probs(canvas, observed)
    torch.testing.assert_close(answer.exp().sum(-1), torch.ones(2, 5).double())
    exact = by_definition(NETWORK, canvas[0], torch.zeros(5).long(), 3)
    torch.testing.assert_close(answer[0, 3], exact, rtol=0, atol=1e-10)


def test_gradients_with_recomputed_activations_are_the_same():
    text, observed = tokens(2, LENGTH), evidence(2)
    found = []
    for recomputed in (False, True):
        net = ordered_network(WORDS, seed=2)
        if recomputed:
            net.checkpoint_activations()
        in_one_pass(net, text, times_of(observed), ~observed).amax(dim=1).sum().backward()
        found.append({name: weight.grad for name, weight in net.named_parameters()})
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-12) for name in found[0])
    assert found[0]["following.bias"].abs().max() > 0


@torch.no_grad()
def test_a_cache_grows_by_what_was_revealed_and_shares_the_evidence():
    text, observed = tokens(1, LENGTH).repeat(8, 1), evidence(1).repeat(8, 1)
    cache = NETWORK.encode_evidence(text.masked_fill(~observed, MASK), observed)
    slots, heads, layers, head_dim = int((~observed[0]).sum()), 2, 2, 8
    borders = int((observed[0, :-1] & ~observed[0, 1:]).sum())
    own = 8 * (1 + borders + 2 * slots)
    assert cache.memory == 2 * layers * heads * head_dim * 8 * (own + int(observed[0].sum()))
    copied = cache.select(torch.tensor([0, 0, 5]))
    assert copied.evidence.layers[0][0] is cache.evidence.layers[0][0] and len(copied.columns) == 3


@torch.no_grad()
def test_a_token_that_is_masked_again_leaves_the_cache():
    text, observed = tokens(2, LENGTH), evidence(2)
    canvas = text.masked_fill(~observed, MASK)
    cache, slots = NETWORK.encode_evidence(canvas, observed), ~observed
    first = slots & (slots.cumsum(dim=1) == 1)
    before = NETWORK.log_probs(canvas, observed, slots, evidence=cache)
    filled = torch.where(first, text, canvas)
    NETWORK.log_probs(filled, observed, slots & ~first, evidence=cache)
    assert cache.holds(LENGTH)[first].all()
    after = NETWORK.log_probs(canvas, observed, slots, evidence=cache)
    assert not cache.holds(LENGTH)[first].any()
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)


def test_adapters_and_files(tmp_path):
    net, text, observed = ordered_network(WORDS, dtype=torch.float32), tokens(2, LENGTH), evidence(2)
    before = net.log_probs(text, observed, ~observed, times=times_of(observed))
    net.save_pretrained(tmp_path)
    loaded = Transformer.from_pretrained(tmp_path).eval()
    assert loaded.ordered
    torch.testing.assert_close(loaded.log_probs(text, observed, ~observed, times=times_of(observed)), before)
    LoRA(2).attach(loaded)
    answer = loaded.log_probs(text, observed, ~observed, times=times_of(observed))
    torch.testing.assert_close(answer, before)
    answer.amax(dim=1).sum().backward()
    with torch.no_grad():
        for weight in loaded.parameters():
            if weight.grad is not None:
                weight += 0.1 * weight.grad.sign()
    changed = loaded.log_probs(text, observed, ~observed, times=times_of(observed))
    assert not torch.allclose(changed, before, atol=1e-2)
    merge_adapter(loaded)
    torch.testing.assert_close(
        loaded.log_probs(text, observed, ~observed, times=times_of(observed)), changed, rtol=0, atol=1e-4
    )


@pytest.mark.slow
def test_compiled_it_learns_the_same():
    text, found = tokens(2, LENGTH), []
    for compiled in (False, True):
        net = ordered_network(WORDS, seed=2, dtype=torch.float32)
        if compiled:
            net.compile_blocks()
        for seed in (1, 2):  # of other sizes
            observed = evidence(2, seed)
            in_one_pass(net, text, times_of(observed), ~observed).amax(dim=1).sum().backward()
        found.append([weight.grad for weight in net.parameters()])
    for plain, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-3, atol=1e-4)

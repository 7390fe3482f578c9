"""The network: its attention masks, its answers, and its parts."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.helpers.networks import BOS, CONTENT, EOS, MASK, NULL, PAD, SIZE, config, network, tokens
from textdiff.models import Transformer, causal_visibility, denoising_visibility
from textdiff.models.attention import Rotary, rotate

ATTENTION = ["isolated", "full"]


def canvas_and_observed(rows=3, length=9):
    """Content with a masked gap, part of it already filled."""
    canvas = tokens(rows, length)
    observed = torch.ones_like(canvas, dtype=torch.bool)
    observed[:, 3:7] = False
    canvas[:, 4:6] = MASK
    return canvas, observed


@pytest.mark.parametrize("attention", ATTENTION)
def test_padding_never_leaks(attention):
    net, (canvas, observed) = network(attention=attention), canvas_and_observed()
    wide = torch.nn.functional.pad(canvas, (0, 4), value=PAD)
    evidence = torch.nn.functional.pad(observed, (0, 4), value=True)
    torch.testing.assert_close(net.log_probs(wide, evidence)[:, :9], net.log_probs(canvas, observed))


def packed():
    """Three documents in one row, and padding; each begins with a mask, whose left neighbour is of another document."""
    ids, segments = tokens(1, 12), torch.tensor([[1, 1, 1, 1, 2, 2, 2, 3, 3, 3, 0, 0]])
    observed = torch.rand(ids.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    for start in (0, 4, 7):
        ids[0, start], observed[0, start] = MASK, False
    return ids, segments, observed


@pytest.mark.parametrize("kind", [*ATTENTION, "causal"])
@pytest.mark.parametrize("document", [0, 1, 2, 3])
def test_packed_documents_never_leak(kind, document):
    ids, segments, observed = packed()
    net = network(causal=True) if kind == "causal" else network(attention=kind)
    visible = causal_visibility(segments) if kind == "causal" else denoising_visibility(segments, observed, kind)
    changed = torch.where(segments == document, (ids + 5) % CONTENT, ids)
    before, after = (net.logits(x, visible) for x in (ids, changed))
    elsewhere = segments != document
    assert torch.equal(before[elsewhere], after[elsewhere])
    assert (before[~elsewhere] != after[~elsewhere]).any(-1).all()


@pytest.mark.parametrize("kind", [*ATTENTION, "causal"])
def test_a_packed_document_is_answered_as_if_it_were_alone(kind):
    ids, segments, observed = packed()
    net = network(causal=True) if kind == "causal" else network(attention=kind)

    def answer(ids, segments, observed):
        if kind == "causal":
            return net.logits(ids, causal_visibility(segments))
        return net.logits(ids, denoising_visibility(segments, observed, kind))

    packed_answer = answer(ids, segments, observed)
    for document in (1, 2, 3):
        own = segments[0] == document
        alone = answer(ids[:, own], segments[:, own], observed[:, own])
        torch.testing.assert_close(packed_answer[:, own], alone, rtol=0, atol=1e-5)  # its rotary positions differ


@pytest.mark.parametrize("change", ["fill", "refill", "unuse"])
def test_isolated_evidence_does_not_see_the_gap(change):
    canvas, observed = canvas_and_observed()
    changed = canvas.clone()
    if change == "fill":
        changed[:, 4] = 0
    elif change == "refill":
        changed[:, 3] = (changed[:, 3] + 1) % CONTENT
    else:
        changed[:, 5] = NULL
    for attention in ATTENTION:
        net = network(attention=attention)
        visible = denoising_visibility(torch.ones_like(canvas), observed, attention)
        before, after = net.hidden(canvas, visible), net.hidden(changed, visible)
        same = (before == after).all(-1)
        assert same[observed].all() == (attention == "isolated")
        assert not same[~observed].any()


@pytest.mark.parametrize("attention", ATTENTION)
def test_every_slot_sees_all_evidence(attention):
    net, (canvas, observed) = network(attention=attention), canvas_and_observed(rows=1)
    answers = net.log_probs(canvas, observed)
    for position in observed[0].nonzero()[:, 0].tolist():
        changed = canvas.clone()
        changed[:, position] = (changed[:, position] + 1) % CONTENT
        other = net.log_probs(changed, observed)
        assert (answers - other)[~observed][:, :CONTENT].abs().amax(-1).min() > 1e-6


def test_a_causal_network_does_not_look_ahead():
    net, ids = network(causal=True), tokens(2, 8)
    changed = ids.clone()
    changed[:, 5] = (changed[:, 5] + 1) % CONTENT
    before, after = net.logits(ids), net.logits(changed)
    assert torch.equal(before[:, :5], after[:, :5])
    assert (before[:, 5:] != after[:, 5:]).any(-1).all()
    torch.testing.assert_close(before, net.logits(ids, causal_visibility(torch.ones_like(ids))))


@pytest.mark.parametrize("method", ["log_probs", "logits"])
def test_chosen_positions_are_rows_of_the_full_answer(method):
    net, (canvas, observed) = network(), canvas_and_observed()

    def answer(where=None):
        return net.log_probs(canvas, observed, where) if method == "log_probs" else net.logits(canvas, where=where)

    full = answer()
    assert full.shape == (3, 9, SIZE)
    some = torch.rand(canvas.shape, generator=torch.Generator().manual_seed(2)) < 0.4
    torch.testing.assert_close(answer(some), full[some])
    nothing = answer(torch.zeros_like(some))
    assert nothing.shape == (0, SIZE)
    nothing.sum().backward()


@pytest.mark.parametrize("null", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_log_probs_are_normalised_over_content(null, dtype):
    net, (canvas, observed) = network(dtype=dtype), canvas_and_observed()
    log_probs = net.log_probs(canvas, observed, null=null)
    assert log_probs.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(canvas.shape, dtype=log_probs.dtype))
    never = torch.tensor([PAD, MASK, BOS, EOS] + [NULL] * (not null))
    possible = torch.ones(SIZE, dtype=torch.bool).index_fill(0, never, False)
    assert (log_probs[..., never] == -torch.inf).all()
    assert log_probs[..., possible].isfinite().all()


def test_without_null_log_probs_are_conditional_on_content():
    net, (canvas, observed) = network(), canvas_and_observed()
    content = net.log_probs(canvas, observed, null=True)[..., :CONTENT]
    torch.testing.assert_close(net.log_probs(canvas, observed)[..., :CONTENT], content.log_softmax(-1))


def test_a_vocabulary_without_pad_and_null():
    net = network(pad_token_id=None, null_token_id=None, bos_token_id=None, eos_token_id=None)
    canvas, observed = canvas_and_observed()
    assert net.log_probs(canvas, observed)[..., [PAD, NULL]].isfinite().all()


def test_a_causal_network_is_no_denoiser():
    with pytest.raises(ValueError, match="AutoregressivePrior"):
        network(causal=True).log_probs(*canvas_and_observed())


def test_rotary_turns_keep_lengths_and_see_only_distances():
    rotary = Rotary(8, 10_000.0)
    query, key = torch.randn(2, 1, 1, 1, 8, generator=torch.Generator().manual_seed(0)).double()

    def score(i, j):
        turned = (rotate(x, *rotary(torch.tensor([[p]]))) for x, p in ((query, i), (key, j)))
        return float((next(turned) * next(turned)).sum())

    assert score(7, 3) == pytest.approx(score(104, 100), abs=1e-5) == pytest.approx(score(4, 0), abs=1e-5)
    assert abs(score(7, 3) - score(3, 7)) > 1e-3
    assert score(0, 0) == pytest.approx(float((query * key).sum()))
    turned = rotate(query, *rotary(torch.tensor([[31]])))
    torch.testing.assert_close(turned.norm(), query.norm())


@pytest.mark.parametrize("causal", [False, True])
def test_positions_count_relative_to_each_other(causal):
    net, ids = network(causal=causal), tokens(2, 8)
    ids[:, 4] = CONTENT - 1 if causal else MASK
    positions = torch.arange(8).expand_as(ids)
    states = net.hidden(ids)
    torch.testing.assert_close(net.hidden(ids, positions=positions), states)
    torch.testing.assert_close(net.hidden(ids, positions=positions + 100), states, rtol=0, atol=1e-4)
    assert (net.hidden(ids, positions=2 * positions) - states).abs().max() > 1e-2


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_are_tied_or_not(tied):
    net = network(tie_word_embeddings=tied)
    assert (net.head.weight is net.embedding.weight) == tied
    assert net.get_input_embeddings() is net.embedding
    assert net.get_output_embeddings() is net.head
    assert len(list(net.parameters())) == 8 * 2 + 3 + (not tied)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_gradients_reach_every_weight(causal, tied):
    net, (canvas, observed) = network(causal=causal, tie_word_embeddings=tied), canvas_and_observed()
    log_probs = net.logits(canvas).log_softmax(-1) if causal else net.log_probs(canvas, observed, ~observed)
    log_probs[..., 0].sum().backward()
    for name, weight in net.named_parameters():
        assert weight.grad is not None and weight.grad.isfinite().all(), name
        assert (weight.grad != 0).any(), name
    used = torch.zeros(SIZE, dtype=torch.bool).index_fill(0, canvas.unique(), True)
    assert (net.embedding.weight.grad[used] != 0).any(-1).all()


def test_a_fresh_network_is_close_to_uniform():
    torch.manual_seed(0)
    net = Transformer(config(hidden_size=64, num_hidden_layers=8)).eval()
    log_probs = net.log_probs(*canvas_and_observed())[..., :CONTENT]
    torch.testing.assert_close(
        log_probs, torch.full_like(log_probs, -torch.tensor(float(CONTENT)).log()), rtol=0, atol=1.0
    )
    assert not net.following.weight.any()
    for name, weight in net.named_parameters():
        if name == "following.weight":
            continue
        assert (weight == 1).all() if weight.ndim == 1 else weight.std().item() == pytest.approx(0.02, rel=0.1), name


def test_dropout_acts_in_training_only():
    net, (canvas, observed) = network(dropout=0.5), canvas_and_observed()
    still = net.log_probs(canvas, observed)
    assert torch.equal(still, net.log_probs(canvas, observed))
    net.train()
    assert not torch.equal(still, net.log_probs(canvas, observed))


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # a note on speed
@pytest.mark.parametrize("causal", [False, True])
def test_bf16_autocast_stays_close_to_float32(causal):
    net, (canvas, observed) = network(dtype=torch.float32, causal=causal), canvas_and_observed()

    def answer():
        return net.logits(canvas).float().log_softmax(-1) if causal else net.log_probs(canvas, observed)[..., :CONTENT]

    precise = answer()
    with torch.autocast("cpu", torch.bfloat16):
        rough = answer()
    assert rough.dtype is torch.float32
    assert 1e-6 < (precise - rough).abs().max() < 0.2
    net.to(torch.bfloat16)
    assert (precise - answer()).abs().max() < 0.2


@pytest.mark.slow
def test_compiled_blocks_give_the_same_answers_and_gradients():
    torch.compiler.reset()
    nets = [network(dtype=torch.float32, num_hidden_layers=3) for _ in range(2)]
    nets[1].compile_blocks()
    canvas, observed = canvas_and_observed()
    answers = [net.log_probs(canvas, observed, ~observed)[:, :CONTENT] for net in nets]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)
    for answer in answers:
        answer.sum().backward()
    for (name, one), other in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("causal, autocast", [(False, True), (True, False)])
def test_one_compilation_serves_all_blocks(causal, autocast):
    torch.compiler.reset()
    nets = [network(dtype=torch.float32, causal=causal, num_hidden_layers=4) for _ in range(2)]
    graphs = CompileCounter()
    for block in nets[1].blocks:
        block.compile(backend=graphs, fullgraph=True)
    for length, expected in ((9, 1), (7, 2), (8, 2), (6, 2)):  # the second length makes it dynamic
        ids = tokens(3, length)
        ids[:, 4] = CONTENT - 1 if causal else MASK
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            torch.testing.assert_close(nets[1].logits(ids), nets[0].logits(ids))
        assert graphs.frame_count == expected


@pytest.mark.parametrize("kind", [*ATTENTION, "causal"])
def test_recomputed_activations_give_the_same_gradients(kind):
    ids, segments, observed = packed()
    found = []
    for again in (False, True):
        net = network(causal=kind == "causal", attention="full" if kind == "causal" else kind, dropout=0.3).train()
        if again:
            net.checkpoint_activations()
        visible = causal_visibility(segments) if kind == "causal" else denoising_visibility(segments, observed, kind)
        calls = []
        for block in net.blocks:
            block.register_forward_pre_hook(lambda *arguments, calls=calls: calls.append(1))
        torch.manual_seed(3)
        net.logits(ids, visible).square().sum().backward()
        assert len(calls) == len(net.blocks) * (1 + again)
        found.append({name: weight.grad for name, weight in net.named_parameters()})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name

"""Foreign architectures as denoisers: logits of their authors' code, no leaks, and saving and loading."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from tests.helpers.foreign_models import (
    CAUSAL,
    DIFFUSION,
    GOLDEN,
    MASK,
    MASKED,
    PAD,
    ROWS,
    SIZE,
    SPECIAL,
    denoiser,
    transformer,
)
from textdiff.errors import UserError
from textdiff.models import FAMILIES, ForeignConfig, ForeignDenoiser, causal_visibility
from textdiff.models.foreign.families import backbone_config


def canvases(rows=3, length=12, seed=0):
    tokens = torch.randint(4, MASK, (rows, length), generator=torch.Generator().manual_seed(seed))
    return tokens.masked_fill(torch.rand(rows, length, generator=torch.Generator().manual_seed(seed + 1)) < 0.4, MASK)


@pytest.mark.parametrize("kind", DIFFUSION)
@torch.no_grad()
def test_logits_are_those_of_the_authors_code(kind):
    # golden/README.md: run once with the published code, float32, CPU; largest difference seen 4e-6 (mdlm), else 0
    io = load_file(GOLDEN / f"{kind}_io.safetensors")
    ids, logits = io["input_ids"], io["logits"]
    network = denoiser(kind)
    if network.config.shifted:
        logits = torch.cat((logits[:, :1], logits[:, :-1]), dim=1)
    torch.testing.assert_close(network.logits(ids)[..., :ROWS], logits, atol=1e-4, rtol=0)
    where = ids == MASK
    log_probs = network.log_probs(ids, ~where, where)
    torch.testing.assert_close(
        log_probs[:, 4:MASK].log_softmax(-1), logits[where][:, 4:MASK].log_softmax(-1), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("kind", MASKED)
@torch.no_grad()
def test_masked_language_models_answer_as_in_transformers(kind):
    theirs, network, canvas = transformer(kind), denoiser(kind, pad_token_id=2), canvases()
    canvas[0, 7:], canvas[1, 9:] = 2, 2
    real = canvas != 2
    expected = theirs(input_ids=canvas, attention_mask=real.long()).logits
    found = network.log_probs(canvas, canvas != MASK)
    content = slice(4, MASK)
    torch.testing.assert_close(
        found[real][:, content].log_softmax(-1), expected[real][:, content].log_softmax(-1), atol=1e-4, rtol=1e-5
    )


@pytest.mark.parametrize("kind", CAUSAL)
@torch.no_grad()
def test_a_causal_backbone_is_unchanged_until_its_attention_is_bidirectional(kind):
    theirs, network, canvas = transformer(kind), denoiser(kind), canvases()
    before = causal_visibility(torch.ones_like(canvas))
    expected = theirs(input_ids=canvas).logits[:, :-1]
    torch.testing.assert_close(network.logits(canvas, before)[:, 1:, :ROWS], expected, atol=1e-4, rtol=1e-5)
    assert not torch.allclose(network.logits(canvas)[:, 1:, :ROWS], expected, atol=1e-2)


@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED, *CAUSAL))
@torch.no_grad()
def test_log_probs_are_normalised_over_content(kind):
    network, canvas = denoiser(kind), canvases()
    log_probs = network.log_probs(canvas, canvas != MASK)
    assert log_probs.shape == (*canvas.shape, SIZE) and log_probs.dtype is torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(canvas.shape))
    assert (log_probs[..., [MASK, PAD, 3, 1]] == -torch.inf).all()
    where = canvas == MASK
    torch.testing.assert_close(network.log_probs(canvas, ~where, where), log_probs[where])


@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED, *CAUSAL))
@torch.no_grad()
def test_a_masked_token_sees_both_sides(kind):
    network, canvas = denoiser(kind), canvases(1)
    canvas[0, 5] = MASK
    log_probs = network.log_probs(canvas, canvas != MASK)[0, 5, 4:MASK]
    for place in (3, 8):
        other = canvas.clone()
        other[0, place] = 4 + (other[0, place] - 3) % 40
        assert (network.log_probs(other, other != MASK)[0, 5, 4:MASK] - log_probs).abs().max() > 1e-4


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED, *CAUSAL))
@torch.no_grad()
def test_padding_is_never_seen(kind, side):
    network, canvas = denoiser(kind), canvases(2, 10)
    padding = torch.full((2, 5), PAD)
    padded = torch.cat((padding, canvas) if side == "left" else (canvas, padding), dim=1)
    place = slice(5, None) if side == "left" else slice(10)
    alone, among = network.log_probs(canvas, canvas != MASK), network.log_probs(padded, padded != MASK)
    torch.testing.assert_close(among[:, place], alone, atol=1e-4, rtol=1e-4)
    ragged = padded.clone()
    ragged[1] = canvases(1, 15, seed=7)[0]
    torch.testing.assert_close(network.log_probs(ragged, ragged != MASK)[0, place], alone[0], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_documents_of_a_packed_row_do_not_see_each_other():
    for kind in ("llada", "dream", "gpt2", "modernbert"):
        network, one, other = denoiser(kind), canvases(1, 9), canvases(1, 7, seed=5)
        segments = torch.tensor([[1] * 9 + [2] * 7])
        positions = torch.cat((torch.arange(9), torch.arange(7)))[None]
        visible = segments[:, :, None] == segments[:, None, :]
        packed = network.logits(torch.cat((one, other), dim=1), visible, positions)
        apart = torch.cat((network.logits(one), network.logits(other)), dim=1)
        torch.testing.assert_close(packed, apart, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED, *CAUSAL))
def test_a_saved_denoiser_comes_back_bit_for_bit(kind, tmp_path):
    for dtype in (torch.float32, torch.bfloat16):
        saved = denoiser(kind, dtype)
        saved.save_pretrained(tmp_path / str(dtype))
        assert {path.name for path in (tmp_path / str(dtype)).iterdir()} == {"config.json", "model.safetensors"}
        for loader in (ForeignDenoiser, AutoModel):
            loaded = loader.from_pretrained(tmp_path / str(dtype))
            assert type(loaded) is ForeignDenoiser and loaded.dtype is dtype and not loaded.training
            assert loaded.config.to_diff_dict() == saved.config.to_diff_dict()
            assert loaded.state_dict().keys() == saved.state_dict().keys()
            assert all(torch.equal(weight, loaded.state_dict()[name]) for name, weight in saved.state_dict().items())
            with torch.no_grad():
                assert torch.equal(loaded.logits(canvases()), saved.logits(canvases()))


@pytest.mark.parametrize(
    "kind, changes, complaint",
    [
        ("llada", {"alibi": True}, "alibi is True, and only False is known"),
        ("llada", {"block_type": "sequential"}, "block_type is 'sequential'"),
        ("mdlm", {"time_conditioning": True}, "time_conditioning is True"),
        ("dream", {"use_sliding_window": True}, "use_sliding_window is True"),
    ],
)
def test_variants_that_are_not_known_are_refused(kind, changes, complaint):
    settings = json.loads((GOLDEN / f"{kind}_config.json").read_text())
    with pytest.raises(UserError, match=complaint):
        FAMILIES[settings["model_type"]].backbone(settings | changes)


@pytest.mark.parametrize("kind", ["llama", "textdiff-dit"])
def test_what_could_load_code_does_not_reach_a_backbone(kind):
    code = {"attn_implementation": "somebody/kernel", "_attn_implementation": "somebody/kernel", "auto_map": {"A": "b"}}
    config = backbone_config({"model_type": kind, **code})
    assert config._attn_implementation is None
    assert not hasattr(config, "auto_map")
    with pytest.raises(UserError, match="of type 't5', expected one of bert"):
        backbone_config({"model_type": "t5"})


def test_special_tokens_that_the_backbone_does_not_have_are_refused():
    backbone = FAMILIES["llada"].backbone(json.loads((GOLDEN / "llada_config.json").read_text()))
    for wrong in ({"mask_token_id": ROWS}, {"null_token_id": ROWS}, {"pad_token_id": SIZE}, {"eos_token_id": -1}):
        with pytest.raises(
            UserError, match=f"{next(iter(wrong))} is {next(iter(wrong.values()))}, expected a token below"
        ):
            ForeignConfig(backbone=backbone, **SPECIAL | wrong)


def test_the_largest_leaves_room_on_a_gpu_of_24_gigabytes():
    # LLaDA-8B's published shape; bytes for 16 texts of 512 tokens with gaps of 64: weights, the widest activations of a
    # layer (three of the feed-forward, four of the residual stream), and the requested rows in bfloat16, three times in
    # float32 (SUBS) and three times in float64 (the sampler).
    settings = json.loads((GOLDEN / "llada_config.json").read_text()) | {
        "d_model": 4096, "n_layers": 32, "n_heads": 32, "n_kv_heads": 32, "mlp_hidden_size": 12288,
        "embedding_size": 126464, "vocab_size": 126464, "max_sequence_length": 4096, "mask_token_id": 126336,
    }  # fmt: skip
    with torch.device("meta"):
        network = ForeignDenoiser(ForeignConfig(backbone=FAMILIES["llada"].backbone(settings)))
    parameters = sum(weight.numel() for weight in network.parameters())
    assert parameters == 8_015_581_184
    activations = 16 * 512 * (3 * 12288 + 4 * 4096) * 2
    requested = 16 * 64 * 126464 * (2 + 3 * 4 + 3 * 8)
    assert 2 * parameters + activations + requested < 22e9

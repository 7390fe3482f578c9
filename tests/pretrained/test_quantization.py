"""Networks of others in few bits: each weight is rounded as it should be, nothing else changes, and rows stay apart."""

import importlib.util

import pytest
import torch
from torch import nn

from tests.helpers.foreign_models import CAUSAL, DIFFUSION, MASKED, checkpoint
from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser, LoRA, save_adapter
from textdiff.pretrained import convert, load, save
from textdiff.pretrained.quantization import Quantizer

TEXT = "Lily lost [gap:2] ball."
LINEAR = tuple(kind for kind in (*DIFFUSION, *MASKED, *CAUSAL) if kind != "gpt2")
there = importlib.util.find_spec("optimum") is not None and importlib.util.find_spec("optimum.quanto") is not None
quanto = pytest.mark.skipif(not there, reason="optimum-quanto is not installed")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of tiny models, causal ones converted."""
    folder, found = tmp_path_factory.mktemp("published"), {}
    for kind in (*DIFFUSION, *MASKED, *CAUSAL):
        found[kind] = checkpoint(kind, folder / kind)
        if kind in CAUSAL:
            found[kind] = save(convert(found[kind]), folder / f"{kind}-converted")
    return found


def quantized(network: ForeignDenoiser) -> dict[str, nn.Module]:
    from optimum.quanto import QLinear

    return {name: module for name, module in network.named_modules() if isinstance(module, QLinear)}


@quanto
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("kind", LINEAR)
@torch.no_grad()
def test_linear_weights_are_rounded_to_the_nearest_level_and_nothing_else_is(kind, bits, made):
    full, network = (load(made[kind], quantization=few).network for few in (None, bits))
    layers = quantized(network)
    head = full.get_output_embeddings()
    linear = {name for name, part in full.named_modules() if isinstance(part, nn.Linear) and part is not head}
    assert layers.keys() == linear and len(linear) >= 8
    for name, layer in layers.items():
        weight = full.get_submodule(name).weight
        highest, lowest = weight.amax(1, keepdim=True), weight.amin(1, keepdim=True)  # rows are short: one group each
        span = {8: 2 * torch.maximum(highest, -lowest), 4: highest.clamp(min=0) - lowest.clamp(max=0)}[bits]
        step = span / (254 if bits == 8 else 15)
        assert ((layer.weight.dequantize() - weight).abs() <= 0.5001 * step).all(), name
        assert layer.weight._data.dtype is not torch.float32
    own = dict(network.named_parameters())
    for name, weight in full.named_parameters():
        if not (name.endswith(".weight") and name.removesuffix(".weight") in layers):
            assert torch.equal(own[name], weight), name


@quanto
@pytest.mark.parametrize("kind", LINEAR)
@torch.no_grad()
def test_a_row_does_not_depend_on_its_neighbours(kind, made):
    prior = load(made[kind], quantization=4)
    canvas = torch.randint(4, 90, (4, 12), generator=torch.Generator().manual_seed(0))
    canvas[:, 4:7] = prior.vocabulary.mask
    batch = prior.network.log_probs(canvas, canvas != prior.vocabulary.mask)
    alone = prior.network.log_probs(canvas[:1], canvas[:1] != prior.vocabulary.mask)
    torch.testing.assert_close(batch[:1], alone, atol=1e-4, rtol=1e-4)


@quanto
def test_more_bits_are_more_accurate(made):
    priors = [load(made["llama"], quantization=bits) for bits in (None, 8, 4)]
    fills = priors[0].infill(TEXT, n=16, seed=0)
    exact, eight, four = (
        torch.tensor([prior.given(TEXT).log_prob(row).log_prob for row in fills.tokens]) for prior in priors
    )
    assert 0 < (eight - exact).abs().mean() < 0.2 * (four - exact).abs().mean()


@quanto
def test_quantized_weights_have_any_dtype_and_are_not_saved(made, tmp_path):
    for dtype in (torch.float32, torch.bfloat16):
        prior = load(made["dream"], dtype=dtype, quantization=8)
        assert prior.network.dtype is dtype
        assert prior.infill(TEXT, n=2, seed=0).texts[0].startswith("Lily lost ")
        with pytest.raises(UserError, match="is quantized, and its weights are on disk already"):
            save(prior, tmp_path / "saved")
        with pytest.raises(ValueError):
            prior.network.save_pretrained(tmp_path / "saved")
        assert not list(tmp_path.rglob("*.safetensors"))


@quanto
def test_an_adapter_applies_to_quantized_weights(made, tmp_path):
    whole = load(made["llada"])
    LoRA(2).attach(whole.network)
    with torch.no_grad():
        for name, weight in whole.network.named_parameters():
            if "lora_B" in name:
                weight.normal_(generator=torch.Generator().manual_seed(0))
    save_adapter(whole.network, tmp_path, str(made["llada"]))
    adapted, plain, few = load(tmp_path), load(made["llada"], quantization=8), load(tmp_path, quantization=8)
    log_probs = [
        [prior.given(TEXT).log_prob(row).log_prob for row in plain.infill(TEXT, n=8, seed=0).tokens]
        for prior in (adapted, few, plain)
    ]
    exact, near, far = torch.tensor(log_probs)
    assert (near - exact).abs().max() < 0.1 * (far - exact).abs().max()


def test_what_cannot_be_quantized_is_refused(made, monkeypatch):
    with pytest.raises(UserError, match="quantization is 3, expected 8 or 4"):
        load(made["llada"], quantization=3)
    monkeypatch.setattr("transformers.quantizers.quantizer_quanto.is_optimum_quanto_available", lambda: True)
    with pytest.raises(UserError, match=r"is textdiff's own, which is small: leave quantization out"):
        load("stories", quantization=8)
    with pytest.raises(UserError, match="for linear layers, and this model has none"):
        load(made["gpt2"], quantization=8)


def test_a_missing_package_is_reported_before_any_download(monkeypatch):
    monkeypatch.setattr("transformers.quantizers.quantizer_quanto.is_optimum_quanto_available", lambda: False)
    with pytest.raises(UserError, match=r"not installed: pip install 'textdiff\[quantization\]'$"):
        load("somebody/model", quantization=4)
    with pytest.raises(UserError):
        Quantizer(8)

"""Low-rank adapters: saved, loaded, switched and merged."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.helpers.tiny import save, tiny
from textdiff.errors import UserError
from textdiff.models import LoRA, Transformer, load_adapter, merge_adapter, save_adapter, use_adapter
from textdiff.posterior import Prior
from textdiff.pretrained import load

EVIDENCE = "Lily lost her [gap:4] happy again."


def scores(prior: Prior) -> Tensor:
    log_q = prior.given(EVIDENCE).sample(3, generator=0).log_q
    assert log_q is not None
    return log_q


def adapted(folder: Path, seed: int = 0) -> Prior:
    """The checkpoint in `folder` with an adapter that changes its answers."""
    prior = load(folder)
    assert isinstance(prior.network, Transformer)
    LoRA(2).attach(prior.network)
    torch.manual_seed(seed)
    for name, parameter in prior.network.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    return prior


def test_an_adapter_starts_as_its_network_and_is_trained_alone(tmp_path: Path) -> None:
    prior = load(save(tiny(), tmp_path))
    assert isinstance(prior.network, Transformer)
    before = scores(prior)
    LoRA(2).attach(prior.network)
    assert torch.equal(scores(prior), before)
    learns = {name for name, parameter in prior.network.named_parameters() if parameter.requires_grad}
    assert learns and all(".lora_" in name for name in learns)


def test_saved_and_loaded_by_the_folder_alone(tmp_path: Path) -> None:
    base = save(tiny(), tmp_path / "base")
    prior = adapted(base)
    save_adapter(prior.network, tmp_path / "adapter", str(base))
    names = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert names == {"adapter_config.json", "adapter_model.safetensors", "SHA256SUMS"}
    assert not torch.allclose(scores(prior), scores(load(base)))
    assert torch.equal(scores(load(tmp_path / "adapter")), scores(prior))


def test_switched_and_merged(tmp_path: Path) -> None:
    base = save(tiny(), tmp_path / "base")
    one, other = adapted(base, 0), adapted(base, 1)
    for prior, name in ((one, "one"), (other, "other")):
        save_adapter(prior.network, tmp_path / name, str(base))
    both = load(tmp_path / "one")
    assert isinstance(both.network, Transformer)
    load_adapter(both.network, tmp_path / "other", "other")
    assert torch.equal(scores(both), scores(other))
    use_adapter(both.network, "default")
    assert torch.equal(scores(both), scores(one))
    use_adapter(both.network, None)
    assert torch.equal(scores(both), scores(load(base)))
    use_adapter(both.network, "other")
    merge_adapter(both.network)
    assert both.network.state_dict().keys() == load(base).network.state_dict().keys()
    assert torch.allclose(scores(both), scores(other), atol=1e-3)


def test_peft_loads_it(tmp_path: Path) -> None:
    from peft import PeftModel

    base = save(tiny(), tmp_path / "base")
    prior = adapted(base)
    save_adapter(prior.network, tmp_path / "adapter", str(base))
    theirs = PeftModel.from_pretrained(load(base).network, tmp_path / "adapter").eval()
    tokens = torch.arange(6)[None]
    assert torch.allclose(theirs(tokens).logits, prior.network(tokens).logits, atol=1e-5)


def test_mistakes_take_one_line(tmp_path: Path) -> None:
    base = save(tiny(), tmp_path / "base")
    prior = adapted(base)
    assert isinstance(prior.network, Transformer)
    with pytest.raises(UserError, match="rank is 0"):
        LoRA(0).attach(prior.network)
    for wrong, complaint in (
        ({"rank": "x"}, "rank is 'x', and a low-rank adapter has at least rank 1"),
        ({"rank": True}, "rank is True"),
        ({"alpha": float("nan")}, "alpha is nan, expected a number"),
        ({"dropout": 1.5}, "dropout is 1.5, expected in"),
        ({"targets": 5}, "targets is 5, expected names of linear layers"),
    ):
        with pytest.raises(UserError, match=complaint):
            LoRA(**wrong).attach(prior.network)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no layer of the network is called nowhere"):
        LoRA(targets=["nowhere"]).attach(load(base).network)
    with pytest.raises(UserError, match="no adapter 'other', only default"):
        use_adapter(prior.network, "other")

    save_adapter(prior.network, tmp_path / "adapter", str(base))
    config = tmp_path / "adapter" / "adapter_config.json"
    content = json.loads(config.read_text())
    larger = save(tiny(hidden_size=48), tmp_path / "larger")
    config.write_text(json.dumps(content | {"base_model_name_or_path": str(larger)}))
    with pytest.raises(UserError, match="does not fit its network"):
        load(tmp_path / "adapter")
    deeper = save(tiny(num_hidden_layers=3), tmp_path / "deeper")
    config.write_text(json.dumps(content | {"base_model_name_or_path": str(deeper)}))
    with pytest.raises(UserError, match="of another network"):
        load(tmp_path / "adapter")
    config.write_text(json.dumps(content | {"base_model_name_or_path": None}))
    with pytest.raises(UserError, match="no LoRA adapter of a named checkpoint"):
        load(tmp_path / "adapter")
    config.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load(tmp_path / "adapter")
    config.write_text(json.dumps(content | {"base_model_name_or_path": "nowhere"}))
    with pytest.raises(UserError, match="'nowhere' is no folder"):
        load(tmp_path / "adapter")
    config.write_text(json.dumps(content))
    (tmp_path / "adapter" / "adapter_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="is not the file that SHA256SUMS lists"):
        load(tmp_path / "adapter")
    (tmp_path / "adapter" / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match="does not fit its network"):
        load(tmp_path / "adapter")

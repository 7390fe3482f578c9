"""Fine-tuning: a causal language model becomes a masked diffusion model by `configs/convert`."""

from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.foreign_models import checkpoint
from tests.helpers.tiny import save, tiny
from tests.helpers.training import corpora, data_module, metrics, trainer, write_config
from tests.helpers.tree import ROOT
from textdiff.cli import main
from textdiff.data import LeftToRight
from textdiff.errors import UserError
from textdiff.models import LoRA
from textdiff.pretrained import load
from textdiff.text import load_tokenizer
from textdiff.training import FineTuningModule, PretrainingModule, TrainingModule

FULL, LORA = (ROOT / "configs" / "convert" / name for name in ("full.yaml", "lora.yaml"))


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the configs name, converted from a tiny GPT-2."""
    monkeypatch.chdir(tmp_path)
    checkpoint("gpt2", tmp_path / "gpt2")
    assert main(["convert", "gpt2", "--to", "runs/convert/start"]) == 0
    return Path("runs/convert/start")


def options(folder: Path) -> list[str]:
    """Options that shorten the configs to a run of seconds."""
    small = {
        "trainer": {
            "accelerator": "cpu",
            "precision": 32,
            "max_steps": 3,
            "val_check_interval": 3,
            "limit_val_batches": 1,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
        "model": {"init_args": {"opening_steps": 2, "warmup_steps": 1}},
        "data": {**corpora(folder), "cache": "cache", "length": 64, "batch_size": 2, "reserve": 8, "gaps": 2}
        | {"gap_length": 4, "workers": 0},
    }
    small["data"] |= {of: [small["data"][of]] for of in ("train", "valid")}
    return ["--config", str(write_config(folder / "small.yaml", small))]


def test_the_whole_model_learns(start: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(FULL), *options(tmp_path)]) == 0
    exported = ["--tokenizer", str(start), "--to", "runs/convert/full"]
    assert main(["export", "runs/convert/last.ckpt", *exported]) == 0
    before, after = load(start), load("runs/convert/full")
    moved = [
        name
        for name, weight in before.network.state_dict().items()
        if not torch.equal(weight, after.network.state_dict()[name])
    ]
    assert len(moved) == len(before.network.state_dict())
    assert after.vocabulary.null == before.vocabulary.null
    assert after.infill("Lily lost [gap:1-4] ball.", seed=0).texts
    figures = metrics(tmp_path)
    assert all(row["valid/gap_nats"] > 0 for row in figures if "valid/gap_nats" in row)
    assert main(["validate", "--config", str(FULL), *options(tmp_path)]) == 0


def test_an_adapter_learns(start: Path, tmp_path: Path) -> None:
    assert main(["fit", "--config", str(FULL), "--config", str(LORA), *options(tmp_path)]) == 0
    files = {path.name for path in Path("runs/convert/lora").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= files
    base, adapted = load(start), load("runs/convert/lora")
    text = "Lily lost [gap:3] ball."
    assert not torch.equal(*(prior.infill(text, n=4, seed=0).log_q for prior in (base, adapted)))


def test_configs_have_heads(tmp_path: Path) -> None:
    for path in (FULL, LORA):
        assert f"configs/convert/{path.name}" in path.read_text()
    full = yaml.safe_load(FULL.read_text())
    assert full["model"]["init_args"]["checkpoint"] == full["data"]["tokenizer"]


def test_attention_opens_step_by_step(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = FineTuningModule(load_tokenizer(start), str(start), opening_steps=10)
    masks = []
    hidden = module.network.hidden
    monkeypatch.setattr(
        module.network,
        "hidden",
        lambda tokens, visible, positions: masks.append(visible) or hidden(tokens, visible, positions),
    )
    tokens = torch.randint(4, 90, (2, 24))
    observed = torch.zeros_like(tokens, dtype=torch.bool)
    batch = {
        "canvas": tokens.masked_fill(torch.arange(24) % 3 == 0, module.vocabulary.mask),
        "tokens": tokens,
        "segments": torch.ones_like(tokens),
        "observed": observed,
        "positions": torch.arange(24).expand_as(tokens),
        "weights": (torch.arange(24) % 3 == 0).float().expand_as(tokens),
        "nullable": observed,
    }
    later = torch.ones(24, 24, dtype=torch.bool).triu(1)
    shares = []
    for step in (0, 5, 10):
        monkeypatch.setattr(TrainingModule, "global_step", step)
        module.cross_entropy(batch)
        assert masks[-1].tril().sum() == 2 * (24 * 25) // 2  # earlier positions are always attended to
        shares.append(float(masks[-1][:, later].float().mean()))
    assert shares[0] == 0 and 0.4 < shares[1] < 0.6 and shares[2] == 1
    module.eval()
    monkeypatch.setattr(TrainingModule, "global_step", 0)
    module.cross_entropy(batch)
    assert masks[-1].all()


def test_a_checkpoint_that_cannot_be_fine_tuned_is_refused(start: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(start)
    published = checkpoint("llada", tmp_path / "llada")
    with pytest.raises(UserError, match=r"knows no null.* textdiff convert gives it one"):
        FineTuningModule(tokenizer, str(published))
    with pytest.raises(UserError, match=r"another tokenizer: set data\.tokenizer"):
        FineTuningModule(load_tokenizer(ROOT / "checkpoints" / "stories"), str(start))
    with pytest.raises(UserError, match=r"model of another library: fine-tune it by .*FineTuningModule"):
        PretrainingModule(tokenizer, init_from=str(start))
    with pytest.raises(UserError, match=r"model\.adapter is written to the folder model\.to"):
        FineTuningModule(tokenizer, str(start), adapter=LoRA(2))


def test_data_that_do_not_suit_a_checkpoint_are_refused(start: Path, tmp_path: Path) -> None:
    module = FineTuningModule(load_tokenizer(start), str(start))
    with pytest.raises(UserError, match=r"LeftToRight, which does not suit .* textdiff\.data\.Mixture does"):
        trainer(tmp_path).fit(module, data_module(tmp_path, tokenizer=str(start), corruption=LeftToRight()))
    with pytest.raises(UserError, match=r"reads at most 96 tokens: lower data\.length"):
        trainer(tmp_path).fit(module, data_module(tmp_path, tokenizer=str(start), length=200))


def test_an_adapter_of_our_own_checkpoint(tmp_path: Path) -> None:
    """Fine-tuning is not only for published models."""
    folder = save(tiny(), tmp_path / "tiny")
    module = FineTuningModule(load_tokenizer(folder), str(folder), adapter=LoRA(2), to=str(tmp_path / "adapter"))
    trainer(tmp_path, max_steps=2).fit(module, data_module(tmp_path, tokenizer=str(folder)))
    text = "Lily lost [gap:3] ball."
    scores = [load(path).infill(text, n=4, seed=0).log_q for path in (folder, tmp_path / "adapter")]
    assert not torch.equal(*scores)

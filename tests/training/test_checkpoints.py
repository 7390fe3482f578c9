"""Checkpoints are written atomically, checked before use, and exported to models."""

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.full_disk import full_disk
from tests.helpers.training import run_config, stories, write_config
from textdiff.cli.lightning import run
from textdiff.errors import UserError
from textdiff.models import TransformerConfig
from textdiff.pretrained import load
from textdiff.priors import DiffusionPrior
from textdiff.text import load_tokenizer, train_tokenizer
from textdiff.training import AtomicCheckpointIO, export
from textdiff.training.checkpoint_files import read_checkpoint
from textdiff.training.checkpoints import SHAPE, shape_difference


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    assert run(["fit", "--config", str(write_config(folder / "fit.yaml", run_config(folder, max_steps=2)))]) == 0
    return folder


def test_a_kill_while_saving_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, path = AtomicCheckpointIO(), tmp_path / "run" / "last.ckpt"
    files.save_checkpoint({"step": torch.tensor(1)}, path)
    save = torch.save

    def killed(content: Any, file: Any) -> None:
        save(content, file)
        file.truncate(100)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        files.save_checkpoint({"step": torch.tensor(2)}, path)
    assert files.load_checkpoint(path) == {"step": torch.tensor(1)}
    monkeypatch.setattr(torch, "save", save)
    files.save_checkpoint({"step": torch.tensor(3)}, path)
    assert files.load_checkpoint(path) == {"step": torch.tensor(3)}
    assert [made.name for made in path.parent.iterdir()] == ["last.ckpt"]
    files.remove_checkpoint(path)
    files.remove_checkpoint(path)
    assert not path.exists()


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("code was run",))

    torch.save({"state_dict": {}, "network_config": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(UserError, match="no checkpoint of a textdiff run, or damaged"):
        read_checkpoint(tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt")


def test_a_run_saves_through_it(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = read_checkpoint(finished / "run" / "last.ckpt")
    assert {"network_config", "vocabulary", "current_model_state"} <= content.keys() and "gradients" not in content
    assert [path.name for path in (finished / "run").iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("cut", [0, 10, 1000, -1000])
def test_a_damaged_checkpoint_is_refused(finished: Path, tmp_path: Path, cut: int) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes((finished / "run" / "last.ckpt").read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cut.ckpt' is no checkpoint of a textdiff run, or damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_program_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="it holds no network_config"):
        read_checkpoint(tmp_path / "other.ckpt")
    with pytest.raises(UserError, match="no checkpoint at"):
        read_checkpoint(tmp_path / "absent.ckpt")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_checkpoint_becomes_a_model(finished: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    checkpoint, tokenizer = finished / "run" / "last.ckpt", load_tokenizer(finished / "tokenizer")
    export(checkpoint, tokenizer, tmp_path / "model", dtype)
    prior = load(tmp_path / "model")
    assert isinstance(prior, DiffusionPrior)
    content = torch.load(checkpoint, weights_only=True)
    averaged, current = content["state_dict"], content["current_model_state"]
    for name, value in prior.network.state_dict().items():
        assert torch.equal(value, averaged[f"network.{name}"].to(dtype).float())
    assert any(not torch.equal(averaged[name], current[name]) for name in averaged)
    assert prior.infill("A dog [gap:3] ran.", seed=0).texts


def test_a_tokenizer_of_another_run_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the tokenizer has 290 tokens and the network of .* 300"):
        export(finished / "run" / "last.ckpt", train_tokenizer(stories(40), 290), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_shapes_are_compared() -> None:
    config = TransformerConfig(mask_token_id=1)
    assert shape_difference(config.to_dict(), config) is None
    for name in SHAPE:
        theirs = config.to_dict() | {name: "other"}
        assert name in (shape_difference(theirs, config) or "")
    causal = config.to_dict() | {"causal": True}
    assert shape_difference(causal, config) == "causal is True, here False"
    assert shape_difference(causal, config, ignore_causal=True) is None


def flipped(path: Path, to: Path, place: int) -> Path:
    """A copy with one bit flipped."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    to.write_bytes(content)
    return to


def test_a_flipped_bit_is_noticed_and_another_checkpoint_named(finished: Path, tmp_path: Path) -> None:
    path = finished / "run" / "last.ckpt"
    expected = torch.load(path, weights_only=True)
    with zipfile.ZipFile(path) as archive:
        parts = [entry for entry in archive.infolist() if entry.file_size > 8]
    for entry in parts[:: len(parts) // 12]:
        head = path.read_bytes()[entry.header_offset :][:30]
        start = entry.header_offset + 30 + sum(struct.unpack("<HH", head[26:30])) + entry.file_size // 2
        with pytest.raises(UserError, match=r"flipped\d+.ckpt.*damaged \(.*: give another .ckpt file"):
            read_checkpoint(flipped(path, tmp_path / f"flipped{start}.ckpt", start))
        (tmp_path / f"flipped{start}.ckpt").unlink()
    (tmp_path / "older.ckpt").write_bytes(path.read_bytes())
    size = path.stat().st_size
    for place in range(7, size, size // 40):
        damaged = flipped(path, tmp_path / f"flipped{place}.ckpt", place)
        try:
            content = AtomicCheckpointIO().load_checkpoint(damaged)
        except UserError as error:
            assert "another one beside it is" in str(error) and "older.ckpt" in str(error) and len(str(error)) < 700
        else:  # the bit was in the padding between two parts
            weights = content["state_dict"]
            assert all(torch.equal(value, expected["state_dict"][name]) for name, value in weights.items())
        damaged.unlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 20_000 * 8}, "do not fit its network_config"),
        ({"num_hidden_layers": 10**9}, "describes no network .it has 1000000000 layers"),
        ({"num_attention_heads": []}, "describes no network"),
        ({"vocab_size": "x"}, "describes no network"),
    ],
    ids=str,
)
def test_a_damaged_config_is_refused_before_memory_is_taken(
    changes: dict[str, Any], message: str, finished: Path, tmp_path: Path
) -> None:
    content = torch.load(finished / "run" / "last.ckpt", weights_only=True)
    content["network_config"] |= changes
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=message) as caught:
        export(tmp_path / "other.ckpt", load_tokenizer(finished / "tokenizer"), tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_compressed_archive_is_not_unpacked(finished: Path, tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(finished / "run" / "last.ckpt") as archive,
        zipfile.ZipFile(tmp_path / "small.ckpt", "w", zipfile.ZIP_DEFLATED) as small,
    ):
        for entry in archive.infolist():
            small.writestr(entry.filename, archive.read(entry))
    with pytest.raises(UserError, match="its parts are compressed"):
        read_checkpoint(tmp_path / "small.ckpt")


@pytest.mark.parametrize("content", [[1], {"state_dict": [], "network_config": {}}, {"state_dict": {"a": 1}}], ids=str)
def test_an_archive_of_other_things_is_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other.ckpt' is no checkpoint of a textdiff run, or damaged"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path: Path) -> None:
    files, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    files.save_checkpoint({"step": torch.tensor(1)}, path)
    with full_disk(50_000), pytest.raises(UserError, match=r"last.ckpt' cannot be written \(File too large\)"):
        files.save_checkpoint({"step": torch.zeros(100_000)}, path)
    assert files.load_checkpoint(path) == {"step": torch.tensor(1)}
    assert [made.name for made in tmp_path.iterdir()] == ["last.ckpt"]

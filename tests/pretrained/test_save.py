"""A checkpoint is written whole or not at all, with checksums that notice a flipped bit, and only if it is finite."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.commands import Run
from tests.helpers.full_disk import full_disk
from tests.helpers.tiny import tiny
from textdiff import cli
from textdiff.errors import UserError
from textdiff.files import CHECKSUMS, read_json
from textdiff.pretrained import load, save, shipped
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Dependence

SHARES = Dependence(((0.25,), (0.125,), (0.0,), (0.0,)), 7)


@pytest.fixture(scope="module")
def prior():
    return tiny()


@pytest.fixture(scope="module")
def saved(prior, tmp_path_factory):
    return save(prior, tmp_path_factory.mktemp("saved") / "tiny")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def flipped(path: Path, share: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_flipped_bit_is_noticed(name, share, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    flipped(folder / name, share)
    with pytest.raises(UserError, match=rf"^{name} in .* (is not the file that SHA256SUMS lists|is damaged)") as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["stories", "stories-ar", "stories-fim", "arithmetic", "arithmetic-ar"])
def test_shipped_checkpoints_have_checksums(name):
    listed = {line.split()[1] for line in (shipped(name) / CHECKSUMS).read_text().splitlines()}
    files = {path.name for path in shipped(name).iterdir()}
    assert listed == files - {CHECKSUMS, "README.md"}
    load(name)


def test_weights_that_are_not_finite_are_neither_written_nor_read(saved, prior, tmp_path):
    for value in (torch.nan, torch.inf):
        spoilt = tiny()
        with torch.no_grad():
            spoilt.network.blocks[1].out.weight[3, 4] = value
        with pytest.raises(UserError, match=r"weights in 'blocks.1.out.weight' are not finite"):
            save(spoilt, tmp_path / "new")
        assert not (tmp_path / "new").exists()
        folder = shutil.copytree(saved, tmp_path / str(value))
        (folder / CHECKSUMS).unlink()
        weights = {name: weight.clone() for name, weight in load_file(folder / "model.safetensors").items()}
        weights["blocks.1.out.weight"][3, 4] = value
        save_file(weights, folder / "model.safetensors")
        with pytest.raises(UserError, match=r"NaN, infinite or too large .* first in 'blocks.1.out.weight'") as error:
            load(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_the_old_checkpoint(there, prior, saved, tmp_path):
    folder = tmp_path / "folder"
    if there:
        shutil.copytree(saved, folder)
    before = contents(folder) if there else None
    with full_disk(), pytest.raises(UserError, match="cannot be written") as error:
        save(prior, folder)
    assert "\n" not in str(error.value) and [path.name for path in tmp_path.iterdir()] == ["folder"] * there
    assert before == (contents(folder) if there else None)


def test_other_files_are_kept_and_those_of_the_old_network_are_not(prior, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "folder")
    SHARES.save(folder / "dependence.json")
    for name in ("mine.txt", "README.md", "model-00001-of-00002.safetensors"):
        (folder / name).write_text("mine")
    save(prior, folder)
    assert (folder / "mine.txt").read_text() == (folder / "README.md").read_text() == "mine"
    assert contents(folder).keys() == contents(saved).keys() | {"mine.txt"}
    load(folder)


def test_a_calibration_is_saved_along(prior, tmp_path):
    calibrated = DiffusionPrior(prior.network, prior.tokenizer, prior.vocabulary, dependence=SHARES)
    assert load(save(calibrated, tmp_path / "one")).dependence == SHARES
    assert load(tmp_path / "one", calibration=False).dependence is None
    (tmp_path / "one" / "dependence.json").write_text("")
    with pytest.raises(UserError, match="SHA256SUMS lists"):
        load(tmp_path / "one")


def test_places_that_cannot_be_written_are_refused_at_once(prior, saved, tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    (tmp_path / "clash" / "config.json").mkdir(parents=True)
    for place, complaint in (
        ("file", "is no folder"),
        ("file/x", "Not a directory"),
        ("adapter", "holds an adapter"),
        ("clash", "is a folder, and a file has to be there"),
    ):
        with pytest.raises(UserError, match=complaint):
            save(prior, tmp_path / place)
    assert (tmp_path / "file").read_text() == "old"
    for wrong in ({"folder": 5}, {"name": 5}, {"figures": 5}, {"prior": 5}):
        with pytest.raises(TypeError, match=rf"^{next(iter(wrong))} is 5, expected"):
            save(**{"prior": prior, "folder": tmp_path / "new"} | wrong)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("words", [["export", "run.ckpt", "--tokenizer", "world:hmm"], ["convert", "nothing/there"]])
@pytest.mark.parametrize("place", ["file", "file/in/it", "adapter", "/proc/new", ""])
def test_commands_refuse_them_before_they_read_anything(words, place, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("old")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    assert cli.main([*words, "--to", place]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and ("cannot" in err or "name a" in err)
    assert sorted(contents(tmp_path / "adapter")) == ["adapter_config.json"] and len(os.listdir(tmp_path)) == 2


@pytest.fixture
def run(capsys):
    def run(*words, status=0):
        assert cli.main(list(words)) == status
        return capsys.readouterr()

    return run


def test_calibrate_keeps_the_old_file_until_there_is_a_new_one(run: Run, prior, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "folder")
    text = tmp_path / "text.txt"
    text.write_text("Lily lost her red ball. She was happy again. " * 4)
    words = ("calibrate", str(text), "--checkpoint", str(folder), "--gaps", "8", "--gap-length", "4")
    run(*words)
    load(folder)
    whole = (folder / "dependence.json").read_bytes()
    run(*words[:-1], "5000", status=2)
    with full_disk(100):
        _, err = run(*words, status=2)
    assert "dependence.json' cannot be written" in err and err.count("\n") == 1
    assert (folder / "dependence.json").read_bytes() == whole
    load(folder)
    (folder / CHECKSUMS).unlink()
    (folder / "dependence.json").write_bytes(b"")
    with pytest.raises(UserError, match="run textdiff calibrate again, or delete"):
        load(folder)
    run(*words)
    assert read_json(folder / "dependence.json")["gaps"] == 8 and load(folder).dependence is not None

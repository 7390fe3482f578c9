"""Faults that the campaign has found, each as a test of its own."""

import time
from pathlib import Path

import pytest
import torch

import textdiff as td
from tests.helpers.tiny import tiny
from textdiff.cli import main
from textdiff.cli.trainer_options import check_trainer_options
from textdiff.errors import UserError
from textdiff.files import probe_file, probe_folder
from textdiff.text.byte_dfa import byte_dfa
from textdiff.training.checkpoint_files import read_checkpoint


@pytest.mark.parametrize("value", [2**63, [1], "x", None])
def test_trainer_options_are_options(value: object) -> None:
    with pytest.raises(UserError, match=r"trainer is .*, expected its options by name"):
        check_trainer_options("fit", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("option", ["--texts", "--gaps", "--seed"])
def test_two_dashes_are_no_value(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "x.txt", f"{option}=--"]) == 2
    assert capsys.readouterr().err == f"textdiff: '{option}=--': expected a value after the =\n"


def test_the_help_on_one_class_takes_no_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["test", "--model.help", "PretrainingModule", "--data", "x"]) == 2
    assert capsys.readouterr().err == (
        "textdiff: the help on one class takes no other options: leave out what follows it\n"
    )


def test_a_run_is_of_a_version_of_lightning(tmp_path: Path) -> None:
    for version in (float("inf"), "x", None):
        torch.save({"pytorch-lightning_version": version, "state_dict": {}, "network_config": {}}, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match="the version of Lightning that wrote it is none"):
            read_checkpoint(tmp_path / "a.ckpt")


def test_a_temperature_may_be_any_whole_number() -> None:
    prior = tiny()
    hot, hotter = (prior.infill("Lily [gap:1-3].", 1, seed=0, temperature=value) for value in (2**62, 2**64))
    assert hot.texts == hotter.texts


@pytest.mark.parametrize("pattern", [r"[\s\S]{0,5000}", r"[\s\S]{5000}", "a{0,16000}", "a{16000}", "(?:a{0,9000}b)*"])
def test_long_repetitions_take_linear_time(pattern: str) -> None:
    started = time.process_time()
    try:
        step, _ = byte_dfa(pattern)
        assert len(step) > 10_000
    except UserError as error:
        assert "too large an automaton" in str(error)
    assert time.process_time() - started < 10


def test_a_long_length_is_refused() -> None:
    with pytest.raises(UserError, match="too large an automaton"):
        tiny().infill(td.Observed("a [gap:3]") & td.Length(characters=(0, 5000)))


@pytest.mark.parametrize("text", ["predictions: .inf", 'trainer: {logger: "a\\0b"}'])
def test_values_that_are_no_options_or_no_text(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(text)
    assert main(["predict", "--config", str(tmp_path / "a.yaml")]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1 and ("expected its options" in error or "null character" in error)


def test_a_name_that_is_too_long_for_a_file_takes_one_line() -> None:
    for call in (lambda: td.save(tiny(), "x" * 5000), lambda: probe_file("x" * 300), lambda: probe_folder("x/" * 5000)):
        with pytest.raises(UserError, match=r"is 'x.*: the name is too long") as caught:
            call()
        assert len(str(caught.value)) < 200


def test_half_a_surrogate_pair_is_no_name() -> None:
    for call in (lambda: td.save(tiny(), "\ud800"), lambda: td.load("\ud800"), lambda: probe_file("\ud800")):
        with pytest.raises(UserError, match="no file has such a name"):
            call()

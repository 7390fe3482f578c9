"""A mistake of the user gets one line on standard error."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import textdiff.display.text
import textdiff.inference
import textdiff.pretrained
from tests.helpers.commands import TEXT, Run, feed, raiser


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["infill"], "there is no text: give it in quotes"),
        (["infill", ""], "the text is empty"),
        (["infill", " \n"], "the text is empty"),
        (["infill", "no gap"], "the text has no gap: write [gap]"),
        (["infill", "a [gap:x]"], "malformed gap marker '[gap:x]'"),
        (["infill", "a [gap:600]"], "603 tokens, 600 of them in gaps, and the model reads at most 512: shorten"),
        (["infill", TEXT, "--checkpoint", "nowhere"], "'nowhere' is no folder"),
        (["infill", TEXT, "--device", "abacus"], "device 'abacus' cannot be used"),
        (["infill", TEXT, "--quantization", "3"], "--quantization: invalid choice: 3"),
        (["infill", TEXT, "--quantization", "8"], "uantization"),  # not installed, or not for our own
        (["infill", TEXT, "--dtype", "int3"], "--dtype: invalid choice: 'int3'"),
        (["infill", TEXT, "--baseline", "nowhere"], "'nowhere' is no folder"),
        (["infill", TEXT, "--policy", "entropie"], "policy is 'entropie', expected one of strided, dilated"),
        (["infill", TEXT, "--policy", "threshold", "--steps", "4"], "takes no steps"),
        (["infill", TEXT, "--n", "0"], "--n: expected a whole number, 1 or more, got '0'"),
        (["infill", TEXT, "--n", "two"], "--n: expected a whole number, 1 or more, got 'two'"),
        (["infill", TEXT, "--n"], "--n: expected one argument (see textdiff infill --help)"),
        (["infill", TEXT, "--steps", "-3"], "--steps: expected a whole number, 1 or more, got '-3'"),
        (["infill", TEXT, "--steps", "1.5"], "--steps: expected a whole number, 1 or more, got '1.5'"),
        (["infill", TEXT, "--seed", "-1"], "--seed: expected a whole number, 0 or more, got '-1'"),
        (["infill", TEXT, "--seed", str(2**64)], "--seed: expected a whole number, at most 18446744073709551615"),
        (["infill", TEXT, "--temperature", "-1"], "--temperature: expected a number from 0, got '-1'"),
        (["infill", TEXT, "--temperature", "nan"], "--temperature: expected a number from 0, got 'nan'"),
        (["infill", TEXT, "--top-p", "1.1"], "--top-p: expected a number above 0, at most 1, got '1.1'"),
        (["infill", TEXT, "--particles", "0"], "--particles: expected a whole number, 1 or more, got '0'"),
        (["infill", TEXT, "--particles", "4", "--top-p", "0.9"], "cannot make up for tokens never drawn: leave out"),
        (["infill", TEXT, "--particles", "4", "--temperature", "0"], "cannot make up for tokens never drawn"),
        (["infill", TEXT, "--target", "stories-ar"], "--target weighs the draws of --particles: give both"),
        (["infill", TEXT, "--particles", "4", "--policy", "remasking"], "have no density, so they cannot be weighted"),
        (["infill", TEXT, "--join", "--steps", "4"], "--join fills from left to right: leave out --policy, --steps"),
        (["infill", TEXT, "--polcy", "entropy"], "there is no option '--polcy': did you mean '--policy'?"),
        (["infill", "--chekpoint=x", TEXT], "there is no option '--chekpoint': did you mean '--checkpoint'?"),
        (["infill", TEXT, "--zzz"], "there is no option '--zzz': there are -h, --help, --n, --seed"),
        (["infill", "Lily", "lost", "[gap]"], "unexpected 'lost': put the whole text in one pair of quotes"),
        (["infil", TEXT], "'infil' is no command: did you mean 'infill'?"),
        (["zzz"], "'zzz' is no command: expected one of infill, fit, validate, test, predict, export"),
        (["--versoin"], "'--versoin' is no option: did you mean '--version'?"),
        ([TEXT], 'write textdiff infill "..." to fill its gaps'),
        (["export", "last.ckpt"], "the following arguments are required: --tokenizer, --to"),
        (["export", "last.ckpt", "--tokenizer", "nowhere", "--to", "x"], "there is no folder 'nowhere'"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_in_one_line(run: Run, arguments: list[str], message: str) -> None:
    out, err = run(*arguments, status=2)
    assert not out
    assert err.startswith("textdiff: ")
    assert err.endswith("\n") and err.count("\n") == 1
    assert message in err


def test_standard_input_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    feed(monkeypatch, b"Lily \xff [gap]")
    _, err = run("infill", "-", status=2)
    assert err == "textdiff: standard input is not UTF-8 (byte 5): convert it first\n"


def test_a_prior_without_a_choice_of_policy_says_so(run: Run, checkpoints: Path) -> None:
    _, err = run("infill", TEXT, "--checkpoint", str(checkpoints / "stories-ar"), "--steps", "4", status=2)
    assert re.fullmatch(
        r"textdiff: an autoregressive prior goes from left to right.*leave out policy and steps.*\n", err
    )


def test_a_missing_baseline_is_reported(
    run: Run, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    shutil.copytree(checkpoints / "stories", tmp_path / "lonely")
    _, err = run("infill", TEXT, "--checkpoint", str(tmp_path / "lonely"), "--baseline", status=2)
    assert "there is no autoregressive baseline at" in err and "--baseline FOLDER" in err
    _, err = run("infill", TEXT, "--checkpoint", str(tmp_path / "lonely"), "--particles", "4", status=2)
    assert "there is no autoregressive baseline at" in err and "--target FOLDER" in err


@pytest.mark.parametrize("damage", ["empty", "foreign", "garbled", "truncated", "weightless", "not-a-number"])
def test_a_damaged_checkpoint_is_reported_in_one_line(run: Run, checkpoints: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoints / "stories", folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "empty":
        shutil.rmtree(folder)
        folder.mkdir()
    elif damage == "foreign":
        config.write_text('{"model_type": "bert"}')
    elif damage == "garbled":
        config.write_text('{"model_type": ')
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "weightless":
        weights.unlink()
    else:
        spoilt = {name: torch.full_like(weight, torch.nan) for name, weight in load_file(weights).items()}
        save_file(spoilt, weights, metadata={"format": "pt"})
    out, err = run("infill", TEXT, "--checkpoint", str(folder), status=2)
    assert not out
    assert re.fullmatch(r"textdiff: .*copy.*\n", err)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_too_little_memory_is_reported(monkeypatch: pytest.MonkeyPatch, run: Run, error: Exception) -> None:
    monkeypatch.setattr(textdiff.inference, "infill", raiser(error))
    _, err = run("infill", TEXT, "--n", "9", status=2)
    assert err == "textdiff: the memory is too small for --n 9 on this text: ask for fewer fills at a time\n"

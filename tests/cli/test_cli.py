"""The command line says what the library says, honestly, and tells mistakes in one line."""

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.cells import cell_len
from safetensors.torch import load_file, save_file

import textdiff.display
import textdiff.pretrained
from tests.helpers.tiny import save, tiny
from textdiff import cli
from textdiff.inference import Importance, Resampled
from textdiff.pretrained import load
from textdiff.samplers import POLICIES, LogProbKind, by_name
from textdiff.text import Template

TEXT = "Lily lost her red ball. [gap:2-6] She was happy again."
Run = Callable[..., tuple[str, str]]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `stories`, its twin `stories-ar` and `stories-fim`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save(tiny(), folder / "stories")
    save(tiny(causal=True), folder / "stories-ar")
    save(tiny(causal=True, fill_in_middle=True), folder / "stories-fim")
    save(tiny(), folder / "arithmetic")
    return folder


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, checkpoints: Path) -> None:
    """No terminal, wide lines, and tiny models in the place of the shipped ones."""
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(textdiff.pretrained, "shipped", lambda name: checkpoints / name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns what it wrote to standard output and standard error."""

    def run(*arguments: str, status: int = 0) -> tuple[str, str]:
        assert cli.main(arguments) == status
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def answer(run: Run) -> Callable[..., dict[str, Any]]:
    """Runs `textdiff infill --json` and returns the object that it printed."""

    def answer(*arguments: str) -> dict[str, Any]:
        out, err = run("infill", "--json", *arguments)
        assert not err
        parsed: dict[str, Any] = json.loads(out)
        return parsed

    return answer


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_json_is_what_the_library_answers(answer: Callable[..., dict[str, Any]], checkpoints: Path) -> None:
    got = answer(TEXT, "--n", "3", "--seed", "5")
    expected = load(checkpoints / "stories").infill(TEXT, n=3, seed=5)
    assert expected.log_q is not None
    assert got.pop("seconds") > 0
    assert got == {
        "text": TEXT,
        "checkpoint": str(checkpoints / "stories"),
        "label": expected.label,
        "sees": "prefix and suffix",
        "policy": "strided",
        "seed": 5,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": None,
        "particles": None,
        "target": None,
        "caveats": [],
        "texts": expected.texts,
        "fills": [list(sample.fills) for sample in expected],
        "kind": "exact",
        "weights": None,
        "log_q": expected.log_q.tolist(),
        "tokens": got["steps"],  # a short gap is filled one token a step
        "steps": [nfe - 1 for nfe in got["nfe"]],  # the length takes a forward pass
        "nfe": expected.nfe.tolist(),
        "baseline": None,
    }


def test_options_reach_the_sampler(answer: Callable[..., dict[str, Any]], checkpoints: Path) -> None:
    text = "Lily [gap:9] ball."
    got = answer(text, "--seed", "1", "--policy", "entropy", "--steps", "3", "--temperature", "0.5", "--top-p", "0.9")
    prior = load(checkpoints / "stories")
    expected = prior.infill(text, seed=1, policy="entropy", steps=3, temperature=0.5, top_p=0.9)
    assert expected.log_q is not None
    assert (got["texts"], got["log_q"], got["steps"]) == (expected.texts, expected.log_q.tolist(), [3])
    assert (got["policy"], got["temperature"], got["top_p"]) == ("entropy", 0.5, 0.9)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_says_what_its_log_q_is(name: str, answer: Callable[..., dict[str, Any]], run: Run) -> None:
    got = answer("Lily [gap:5] ball.", "--seed", "0", "--policy", name)
    out, _ = run("infill", "Lily [gap:5] ball.", "--seed", "0", "--policy", name)
    kind = by_name(name).kind
    assert got["policy"] == name
    assert got["kind"] == kind
    assert (got["log_q"] is None) == (kind is LogProbKind.NONE)
    meaning = {"exact": "log q is exact", "given-order": "log q is given the order", "none": "log q is not known"}
    assert meaning[kind] in out
    assert ("not posterior samples" in out) == bool(got["caveats"]) == (kind is LogProbKind.NONE)


def test_fill_in_the_middle_beside_the_prior(
    run: Run, answer: Callable[..., dict[str, Any]], checkpoints: Path
) -> None:
    folder = checkpoints / "stories-fim"
    got = answer(TEXT, "--seed", "3", "--n", "2", "--baseline", str(folder), "--show-steps")["baseline"]
    assert (got["label"], got["sees"]) == ("autoregressive, fill-in-the-middle (PSM)", "prefix and suffix")
    assert (got["policy"], got["kind"], got["caveats"]) == ("left-to-right", "exact", [])
    for tokens, steps in zip(got["tokens"], got["steps"], strict=True):
        assert 2 <= tokens == steps <= 6
    shown, _ = run("infill", TEXT, "--checkpoint", str(folder), "--seed", "3", "--show-steps")
    assert "autoregressive, fill-in-the-middle (PSM)" in shown and "prefix-only" not in shown


@pytest.mark.parametrize("target", ["stories-ar", "stories-fim"])
def test_fills_chosen_by_weight(
    target: str, answer: Callable[..., dict[str, Any]], run: Run, checkpoints: Path
) -> None:
    """Each fill is one of several draws by weight towards the twin, or another; its steps are those of that draw."""
    options = ["--n", "3", "--seed", "4", "--temperature", "0.6", "--particles", "5", "--show-steps"]
    options += [] if target == "stories-ar" else ["--target", str(checkpoints / target)]
    got = answer(TEXT, *options)
    prior, method = load(checkpoints / "stories"), Resampled(Importance(0.6), particles=5)
    expected = prior.given(TEXT, target=load(checkpoints / target)).sample(3, method, generator=4)
    assert expected.log_q is not None
    assert (got["texts"], got["log_q"]) == (expected.texts, expected.log_q.tolist())
    assert (got["particles"], got["target"]) == (5, str(checkpoints / target))
    assert all(nfe > 5 * steps for nfe, steps in zip(got["nfe"], got["steps"], strict=True))
    for (fill,), (tokens,) in zip(got["fills"], got["denoising"], strict=True):
        assert "".join(token["token"] for token in tokens).strip() == fill.strip()
        assert sorted(token["step"] for token in tokens) == list(range(1, len(tokens) + 1))
    out, _ = run("infill", TEXT, *options)
    assert f"under {target}, from 5 draws" in out and "by weight; a set was worth" in out
    assert 1 <= expected.diagnostics["set_ess"] <= 5


def test_fills_together_with_the_twin(answer: Callable[..., dict[str, Any]], run: Run, checkpoints: Path) -> None:
    got = answer(TEXT, "--n", "2", "--seed", "4", "--join")
    expected = load(checkpoints / "stories").with_expert(load(checkpoints / "stories-ar")).infill(TEXT, n=2, seed=4)
    assert expected.log_q is not None
    assert (got["texts"], got["log_q"]) == (expected.texts, expected.log_q.tolist())
    assert (got["policy"], got["kind"], got["caveats"]) == ("left-to-right", "exact", [])
    assert got["steps"] == got["tokens"]
    out, _ = run("infill", TEXT, "--join", str(checkpoints / "stories-ar"))
    assert "stories: left-to-right, joined with a causal network, share 0.5; 1 fill in" in out
    _, err = run("infill", TEXT, "--join", "--checkpoint", str(checkpoints / "stories-ar"), status=2)
    assert "is autoregressive: --join is for a diffusion prior" in err
    _, err = run("infill", TEXT, "--join", str(checkpoints / "stories"), status=2)
    assert "is no autoregressive prior: --join takes one" in err
    assert answer("--join", TEXT)["fills"]


def test_a_prior_with_a_joint_weighs_its_own_draws(answer: Callable[..., dict[str, Any]], checkpoints: Path) -> None:
    got = answer(TEXT, "--seed", "1", "--particles", "4", "--baseline")["baseline"]
    alone = answer(TEXT, "--seed", "1", "--particles", "4", "--checkpoint", str(checkpoints / "stories-ar"))
    assert (got["fills"], got["target"]) == (alone["fills"], alone["target"])
    assert got["sees"] == alone["sees"] == "prefix and suffix"
    other = answer(TEXT.replace("She", "Tom"), "--seed", "1", "--particles", "4", "--baseline")["baseline"]
    assert other["log_q"] != got["log_q"]


@pytest.mark.parametrize("option, value", [("--temperature", "0.8"), ("--top-p", "0.8"), ("--top-k", "8")])
def test_sharpened_draws_are_labelled(option: str, value: str, answer: Callable[..., dict[str, Any]], run: Run) -> None:
    out, _ = run("infill", TEXT, option, value, "--baseline")
    assert out.count(f"not posterior samples: {option.removeprefix('--')} {value}") == 2
    got = answer(TEXT, option, value, "--baseline")
    assert len(got["caveats"]) == len(got["baseline"]["caveats"]) == 1


def test_the_answer_has_texts_and_figures(run: Run, answer: Callable[..., dict[str, Any]]) -> None:
    out, err = run("infill", TEXT, "--n", "3", "--seed", "5")
    got = answer(TEXT, "--n", "3", "--seed", "5")
    assert not err
    assert "\x1b" not in out
    figures = zip(got["log_q"], got["tokens"], got["steps"], got["nfe"], strict=True)
    for log_q, tokens, steps, nfe in figures:
        assert f"log q {log_q:.2f} nats, {log_q / tokens:.2f} per token" in out
        assert f"{tokens} tokens, {steps} steps, {nfe} NFE" in out
    assert re.search(r"\nstories: strided, 16 steps; 3 fills in \d+\.\d\d s; seed 5\n", out)
    for (fill,) in got["fills"]:
        first = textdiff.display.viewer.visible(fill).splitlines()[0] if fill else ""
        assert f"Lily lost her red ball. [{first}" in out


def test_a_drawn_seed_is_told_and_repeats_the_answer(run: Run) -> None:
    out, _ = run("infill", TEXT, "--n", "2")
    seed = re.search(r"repeat with --seed (\d+)\n$", out)
    assert seed
    again, _ = run("infill", TEXT, "--n", "2", "--seed", seed[1])
    drawn, repeated = (re.sub(r"in \S+ s;|the seed was drawn.*\n", "", text) for text in (out, again))
    assert drawn == repeated
    other, _ = run("infill", TEXT, "--n", "2")
    assert seed[1] not in other


def test_the_baseline_is_the_twin_and_sees_no_suffix(
    answer: Callable[..., dict[str, Any]], run: Run, checkpoints: Path
) -> None:
    other = TEXT.replace("She was happy again.", "Tom saw the dog.")
    for where in ([], ["--checkpoint", str(checkpoints / "stories")]):
        got, without = (answer(text, "--seed", "2", "--baseline", *where) for text in (TEXT, other))
        assert got["baseline"]["sees"] == "prefix"
        assert got["baseline"]["checkpoint"] == str(checkpoints / "stories-ar")
        assert got["baseline"]["fills"] == without["baseline"]["fills"]
        assert got["baseline"]["log_q"] == without["baseline"]["log_q"]
        assert got["log_q"] != without["log_q"]
    assert answer(TEXT, "--seed", "2", "--baseline", str(checkpoints / "stories"))["baseline"]["sees"] != "prefix"
    out, _ = run("infill", TEXT, "--seed", "2", "--baseline")
    assert out.count("prefix-only: does not see the suffix") == 1
    assert out.count("sees the text on both sides of a gap") == 1


def test_the_twin_alone_is_labelled_too(run: Run, checkpoints: Path) -> None:
    out, _ = run("infill", TEXT, "--checkpoint", str(checkpoints / "stories-ar"))
    assert "prefix-only: does not see the suffix" in out


@pytest.mark.parametrize(("columns", "beside"), [(60, False), (80, True), (120, True)])
def test_answers_fit_the_terminal(monkeypatch: pytest.MonkeyPatch, run: Run, columns: int, beside: bool) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    text = "Lily lost her red ball. [gap:12-30] She was happy again."
    for seed in range(8):  # an untrained model writes any bytes, combining marks of no width among them
        out, _ = run("infill", text, "--n", "2", "--baseline", "--show-steps", "--seed", str(seed))
        assert max(map(cell_len, out.splitlines())) <= columns
        assert bool(re.search(r"^stories +stories-ar$", out, re.MULTILINE)) == beside


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured, _ = run("infill", TEXT, "--seed", "0")
    assert "\x1b[1;32m" in coloured
    assert "Lily lost her red ball. [" not in re.sub(r"\x1b\[[0-9;]*m", "", coloured)
    monkeypatch.setenv("NO_COLOR", "1")
    colourless, _ = run("infill", TEXT, "--seed", "0")
    assert not re.search(r"\x1b\[[0-9;]*[34][0-7]m", colourless)


def test_what_is_shown_cannot_steer_a_terminal(run: Run) -> None:
    out, _ = run("infill", "\x1b[2J\x1b]0;x\x07 [gap:20]", "--n", "5", "--show-steps")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", out)
    assert "␛[2J" in out


def test_steps_are_shown(run: Run, answer: Callable[..., dict[str, Any]]) -> None:
    text = "Lily [gap:6] ball and [gap:3]."
    out, _ = run("infill", text, "--seed", "0", "--steps", "4", "--show-steps")
    lines = re.findall(r"^  (\d) (.*)$", out, re.MULTILINE)
    assert [number for number, _ in lines] == list("01234")
    masked = [line.count("░") for _, line in lines]
    assert masked == sorted(masked, reverse=True) and masked[-1] == 0 < masked[0]
    got = answer(text, "--seed", "0", "--steps", "4", "--show-steps")
    ((first, second),) = got["denoising"]
    assert [token["step"] for token in first] == [1, 2, 3, 4, 1, 2]
    assert [token["step"] for token in second] == [1, 2, 3]
    for gap, fill in zip((first, second), got["fills"][0], strict=True):
        assert "".join(token["token"] for token in gap).removeprefix(" ") == fill


def test_text_from_standard_input(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., dict[str, Any]]) -> None:
    feed(monkeypatch, "Lily café\n[gap:2] 🙂\n".encode())
    assert answer("-")["text"] == "Lily café\n[gap:2] 🙂"


def test_weights_in_another_type_draw_from_nearly_the_same_law(answer: Callable[..., dict[str, Any]]) -> None:
    half, full = (answer(TEXT, "--seed", "1", *more) for more in (("--dtype", "bfloat16"), ()))
    found, expected = (one["log_q"][0] for one in (half, full))
    assert found != expected and abs(found - expected) < 0.05 * abs(expected)


def test_a_text_after_baseline_is_the_text(answer: Callable[..., dict[str, Any]]) -> None:
    assert answer("--baseline", TEXT)["baseline"]["sees"] == "prefix"


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
        (["infill", TEXT, "--seed", str(2**63)], "--seed: expected a whole number"),
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
def test_a_mistake_is_told_in_one_line(run: Run, arguments: list[str], message: str) -> None:
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


def test_a_missing_twin_is_told(run: Run, checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    shutil.copytree(checkpoints / "stories", tmp_path / "lonely")
    _, err = run("infill", TEXT, "--checkpoint", str(tmp_path / "lonely"), "--baseline", status=2)
    assert "there is no autoregressive baseline at" in err and "--baseline FOLDER" in err
    _, err = run("infill", TEXT, "--checkpoint", str(tmp_path / "lonely"), "--particles", "4", status=2)
    assert "there is no autoregressive baseline at" in err and "--target FOLDER" in err


@pytest.mark.parametrize("damage", ["empty", "foreign", "garbled", "truncated", "weightless", "not-a-number"])
def test_a_damaged_checkpoint_is_told_in_one_line(run: Run, checkpoints: Path, tmp_path: Path, damage: str) -> None:
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


def test_what_is_no_mistake_of_the_user_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textdiff.display.Answer, "of", _raiser(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["infill", TEXT])


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: not enough memory")])
def test_too_little_memory_is_told(monkeypatch: pytest.MonkeyPatch, run: Run, error: Exception) -> None:
    monkeypatch.setattr(textdiff.display.Answer, "of", _raiser(error))
    _, err = run("infill", TEXT, "--n", "9", status=2)
    assert err == "textdiff: the memory is too small for --n 9 on this text: ask for fewer fills at a time\n"


def test_an_interrupt_ends_quietly(monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    monkeypatch.setattr(textdiff.display.Answer, "of", _raiser(KeyboardInterrupt()))
    assert run("infill", TEXT, status=130) == ("", "textdiff: interrupted\n")


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_training_is_handed_on(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    got: list[list[str]] = []

    def hand(arguments: list[str]) -> int:
        got.append(arguments)
        return 3

    monkeypatch.setitem(sys.modules, "textdiff.training", types.ModuleType("training"))
    lightning = types.SimpleNamespace(run=hand)
    monkeypatch.setitem(sys.modules, "textdiff.cli.lightning", lightning)
    assert cli.main([command, "--config", "x.yaml"]) == 3
    assert got == [[command, "--config", "x.yaml"]]


def test_export_calls_the_library(monkeypatch: pytest.MonkeyPatch, run: Run, checkpoints: Path, tmp_path: Path) -> None:
    got: list[tuple[Any, ...]] = []
    training = types.SimpleNamespace(export=lambda *arguments: got.append(arguments))
    monkeypatch.setitem(sys.modules, "textdiff.training", training)
    out, _ = run("export", "last.ckpt", "--tokenizer", str(checkpoints / "stories"), "--to", str(tmp_path / "new"))
    ((checkpoint, tokenizer, folder),) = got
    assert (checkpoint, folder) == ("last.ckpt", str(tmp_path / "new"))
    assert tokenizer.get_vocab() == load(checkpoints / "stories").tokenizer.get_vocab()
    assert f"--checkpoint {tmp_path / 'new'}" in out


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["infill", "--help"], ["export", "-h"]])
def test_help_is_a_page_on_standard_output(run: Run, arguments: list[str]) -> None:
    out, err = run(*arguments)
    assert not err
    assert 8 < out.count("\n") < 80
    assert max(map(len, out.splitlines())) <= 100
    assert "textdiff" in out


def test_the_help_lists_every_command_and_policy(run: Run) -> None:
    out, _ = run("--help")
    assert re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE) == list(cli.COMMANDS)
    out, _ = run("infill", "--help")
    assert set(POLICIES) <= set(out.split())


def test_the_examples_of_the_help_run(monkeypatch: pytest.MonkeyPatch, run: Run, tmp_path: Path) -> None:
    lines = re.findall(r"^  textdiff (infill .*)$", cli.HELP + cli.infill.NOTES, re.MULTILINE)
    assert len(lines) > 5
    for line in lines:
        feed(monkeypatch, b"Tom had a [gap:2]. He was happy.\n")
        run(*shlex.split(line.removesuffix(" < story.txt")))
    gaps = re.findall(r"^  (\[gap\S*) ", cli.infill.NOTES, re.MULTILINE)
    assert [str(Template.parse(f"a {gap}").gaps[0]) for gap in gaps] == ["[gap:1-32]", "[gap:12]", "[gap:4-16]"]


def test_version(run: Run) -> None:
    assert run("--version") == (f"textdiff {textdiff.__version__}\n", "")


def process(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    root = Path(textdiff.__file__).parents[1]
    command = [sys.executable, "-m", "textdiff", *arguments]
    return subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True, **options)


def test_a_reader_that_goes_away_is_no_error() -> None:
    end, start = os.pipe()
    os.close(end)
    with open(start, "w") as nobody:
        process_ = process("--help", stdout=nobody)
    _, err = process_.communicate(timeout=60)
    assert (process_.returncode, err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_one_line() -> None:
    with open("/dev/full", "w") as full:
        process_ = process("--help", stdout=full)
    _, err = process_.communicate(timeout=60)
    assert process_.returncode == 2
    assert re.fullmatch(r"textdiff: .*No space left on device\n", err)


def test_filling_gaps_imports_neither_lightning_nor_datasets_nor_matplotlib(checkpoints: Path) -> None:
    code = (
        "import sys; from textdiff.cli import main\n"
        f"status = main(['infill', 'a [gap:2] b', '--checkpoint', {str(checkpoints / 'stories')!r}, '--baseline'])\n"
        "print(*sys.modules)\nsys.exit(status)"
    )
    root = Path(textdiff.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert not {"lightning", "pytorch_lightning", "datasets", "matplotlib"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("told", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
    ids=["by itself", "as the user says", "as the user's policy says"],
)
def test_threads_soon_stop_spinning_for_each_other(told: dict[str, str], expected: str) -> None:
    """Set before torch is loaded: else, beside one busy core, a fill takes thirty times as long."""
    code = (
        "import os, sys, textdiff.cli; print('torch' in sys.modules)\n"
        "textdiff.cli.main(['--version']); print(os.environ.get('GOMP_SPINCOUNT'))"
    )
    clean = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    root = Path(textdiff.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=clean | told, capture_output=True, text=True, timeout=300
    )
    loaded, version, count = done.stdout.splitlines()
    assert (loaded, count) == ("False", expected) and version.startswith("textdiff ")


def _raiser(error: BaseException) -> Callable[..., None]:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail


def test_evaluate_prints_both_tables(run: Run, tmp_path: Path) -> None:
    sentences = "Lily lost her red ball. She was happy again. Tom saw her big dog. Mia found her small boat. " * 3
    (tmp_path / "valid.txt").write_text(f"{sentences}\n<|endoftext|>\n" * 4)
    words = ("evaluate", str(tmp_path / "valid.txt"), "--gaps", "2", "--gap-length", "4", "--texts", "2")
    shown, complaints = run(*words, "--policies", "strided:2,left-to-right", "--fills", "1")
    assert not complaints
    assert "2 gaps of 4 tokens" in shown and "strided, 2 steps" in shown and "| diffusion, NELBO of" in shown
    assert shown.endswith("*The author: Tom saw her big dog.*\n")
    report = json.loads(run(*words, "--policies", "strided:2", "--json")[0])
    assert report["gaps"][1]["nfe"] == 2 and report["texts"][1]["bound"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "name a file of held-out text"),
        (["none.txt"], "no text file at 'none.txt'"),
        (["x.txt", "--policies", "strided:many"], "write it like strided:8"),
        (["x.txt", "--policies", "nonsense"], "policy is 'nonsense'"),
    ],
)
def test_evaluate_complains_in_one_line(run: Run, words: list[str], complaint: str) -> None:
    out, err = run("evaluate", *words, status=2)
    assert complaint in err and err.count("\n") == 1 and not out


def test_audit_of_a_world_prints_and_writes(run: Run, tmp_path: Path) -> None:
    words = ("audit", "--world", "grammar", "--gaps", "3", "--gap-length", "3", "--draws", "16")
    policies = ("--policies", "strided:3,strided:1")
    shown, complaints = run(*words, *policies, "--methods", "--to", str(tmp_path / "found"))
    assert not complaints
    assert "| strided, 1 step | 1.0 |" in shown and "| Importance, strided:1 |" in shown
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"audit.md", "audit.json", "audit.png"}
    assert json.loads((tmp_path / "found" / "audit.json").read_text())["rows"][0]["nfe"] == 3
    assert json.loads(run(*words, *policies, "--json")[0])["about"]["items"] == 3


def test_audit_looks_at_its_folder_before_it_works(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.audit, "_audit_world", _raiser(AssertionError("worked for nothing")))
    (tmp_path / "taken").write_text("")
    out, err = run("audit", "--world", "hmm", "--to", str(tmp_path / "taken"), status=2)
    assert "taken" in err and err.count("\n") == 1 and not out


def test_audit_towards_a_baseline(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text("Lily lost her red ball. She was happy again. Tom saw her big dog. " * 4)
    stories = str(checkpoints / "stories")
    words = ("audit", "--checkpoint", stories, "--target", f"{stories}-ar", str(tmp_path / "valid.txt"))
    shown, complaints = run(*words, "--gaps", "2", "--gap-length", "3", "--draws", "16", "--policies", "strided:3")
    assert not complaints
    assert "| ESS of 16 |" in shown and "strided, 3 steps" in shown and "autoregressive" in shown


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "either --world NAME or --target FOLDER FILE"),
        (["--world", "mars"], "there is no world 'mars'"),
        (["--world", "hmm", "x.txt"], "a world writes its own texts"),
        (["--world", "hmm", "--policies", "nonsense"], "policy is 'nonsense'"),
        (["--world", "arithmetic", "--gap-length", "200"], "too short for gaps of 200"),
        (["--world", "hmm", "--checkpoint", "stories-ar"], "is autoregressive"),
        (["--target", "stories-ar"], "name a file of held-out text"),
        (["--target", "stories", "x.txt"], "no exact joint probability"),
        (["--target", "stories-ar", "none.txt"], "no text file at 'none.txt'"),
    ],
)
def test_audit_complains_in_one_line(run: Run, words: list[str], complaint: str) -> None:
    out, err = run("audit", *words, status=2)
    assert complaint in err and err.count("\n") == 1 and not out


def test_constraints_hold_in_every_fill(run: Run, answer: Callable[..., dict[str, Any]]) -> None:
    text = "Lily saw [gap:4-12]. She was happy again."
    found = answer(text, "--contains", "dog", "--contains", "Tom", "--excludes", "ball", "--n", "4", "--seed", "0")
    for (fill,), share in zip(found["fills"], found["weights"], strict=True):
        assert re.search(r"\bdog\b", fill) and re.search(r"\bTom\b", fill) and not re.search(r"\bball\b", fill)
        assert 0 <= share <= 1
    assert sum(found["weights"]) == pytest.approx(1) and "all fills satisfy the constraints" in found["caveats"][0]
    times = answer("At [gap:3-8] they met.", "--regex", "[0-9]{1,2}:[0-9][0-9]", "--n", "3", "--seed", "0")
    assert all(re.fullmatch(r"\d{1,2}:\d\d", fill) for (fill,) in times["fills"])
    out, _ = run("infill", "At [gap:3-8] they met.", "--regex", "[0-9]:[0-9]", "--n", "2", "--seed", "0")
    assert "weight 0." in out


def test_questions_are_asked(
    run: Run, answer: Callable[..., dict[str, Any]], checkpoints: Path, tmp_path: Path
) -> None:
    found = answer("--question", "1 + 1 = ?", "--answer", "2", "--seed", "0", "--n", "2")
    assert all(text.startswith("1 + 1 = ?\n") and text.endswith("\n2") for text in found["texts"])
    assert len(answer("--question", "1 + 1 = ?", "--seed", "0")["fills"][0]) == 2
    file = tmp_path / "asked.jsonl"
    file.write_text('{"question": "Who?", "answer": "Lily"}\n')
    out, _ = run(
        "questions", f"questions:{file}", "--direct", "--votes", "2", "--checkpoint", str(checkpoints / "stories")
    )
    assert out.startswith("| 1 questions, % right | greedy | majority of 2 |")
    out, _ = run("questions", f"questions:{file}", "--votes", "1", "--json", "--steps", "2", "--most", "1")
    assert json.loads(out)["questions"] == 1


def test_lengths_are_calibrated(run: Run, tmp_path: Path) -> None:
    out, _ = run("lengths", "--world", "hmm", "--gaps", "2", "--slots", "3", "--draws", "16", "--to", str(tmp_path))
    assert out.startswith("| 2 gaps of 1 to 3 tokens |") and "| truth |" in out
    assert (tmp_path / "lengths.md").read_text() == out
    text = tmp_path / "text.txt"
    text.write_text("Lily lost her red ball. She was very sad. She was happy again. " * 4)
    out, _ = run(
        "lengths", str(text), "--gaps", "2", "--slots", "3", "--draws", "16", "--policy", "strided:2", "--json"
    )
    assert [way["name"] for way in json.loads(out)["ways"]] == ["null marginals", "evidence beside the gap"]


def test_an_error_budget_is_calibrated_and_given(run: Run, checkpoints: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints / "stories", tmp_path / "stories")
    complaint = "run textdiff calibrate HELD-OUT.txt"
    _, err = run("infill", TEXT, "--error-budget", "0.5", "--checkpoint", str(folder), status=2)
    assert complaint in err and err.count("\n") == 1
    text = tmp_path / "text.txt"
    text.write_text("Lily lost her red ball. She was very sad. She was happy again. " * 4)
    out, _ = run("calibrate", str(text), "--checkpoint", str(folder), "--gaps", "8", "--gap-length", "4")
    assert out.startswith("| tokens apart |") and (folder / "dependence.json").is_file()
    one, all_ = (
        json.loads(run("infill", "Lily [gap:6].", "--error-budget", nats, "--checkpoint", str(folder), "--json")[0])
        for nats in ("0", "1000")
    )
    assert one["label"] == "error-budget, nats 0.0" and (max(one["nfe"]), max(all_["nfe"])) == (6, 1)
    (folder / "dependence.json").write_text("{")
    _, err = run("infill", TEXT, "--checkpoint", str(folder), status=2)
    assert "holds no dependence" in err and err.count("\n") == 1


def test_ways_to_fill_are_timed(run: Run, tmp_path: Path) -> None:
    small = ("--gap", "4", "--steps", "2", "--reference-steps", "4", "--rounds", "1", "--fills", "2")
    out, _ = run(
        "bench", "--length", "16", "--vocabulary", "64", "--overhead", "64", *small, "--to", str(tmp_path / "found")
    )
    heads = [line for line in out.splitlines() if line.endswith("| MiB at the peak |")]
    assert heads[0].startswith("| 1 text of 16 tokens, 4 of them missing; 2 fills each; vocabulary 64; for each fill |")
    assert heads[1].startswith("| the loops alone,")
    assert (tmp_path / "found" / "bench.md").read_text() == out
    text = tmp_path / "text.txt"
    text.write_text("Lily lost her red ball. She was very sad. She was happy again. " * 4)
    out, _ = run("bench", str(text), "--gaps", "2", *small, "--json")
    (_, rows), found = json.loads(out)["cases"][0], json.loads(out)["about"]
    known = {row["way"]: row["likelihood"] is not None for row in rows}
    assert known.pop("reuse when unchanged, 4 steps") is known.pop("naive: strided, 2 steps") is False
    assert all(known.values()) and found["files"] == ["text.txt"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["infill", TEXT, "--error-budget", "1", "--steps", "2"], "leave out --policy and --steps"),
        (["infill", TEXT, "--guidance", "x"], "expected a number from 0"),
        (["infill", TEXT, "--guidance", "1", "--checkpoint", "AR"], "is for a diffusion prior"),
        (["infill", TEXT, "--guidance", "1", "--error-budget", "1"], "leave out one of them"),
        (["infill", TEXT, "--error-budget", "-1"], "expected a number from 0"),
        (["infill", TEXT, "--error-budget", "1", "--checkpoint", "AR"], "for a diffusion prior"),
        (["calibrate", "--checkpoint", "AR"], "name files of held-out text, or a world"),
        (["calibrate", "--world", "hmm"], "name the folder of the prior"),
        (["calibrate", "--world", "hmm", "--checkpoint", "AR"], "one token after the other"),
        (["infill", "a [gap] b", "--regex", "(a"], "no regular expression"),
        (["infill", "a [gap:2] b", "--regex", "x{80}"], "no fill of the gaps satisfies"),
        (["infill", "a [gap] b", "--contains", " "], "none of them empty"),
        (["infill", "a [gap] b", "--question", "Who?"], "give one of them"),
        (["infill", "a [gap] b", "--answer", "me"], "--answer goes with --question"),
        (["infill", TEXT, "--contains", "dog", "--checkpoint", "AR"], "do not heed constraints"),
        (["questions"], "name a source"),
        (["questions", "world:arithmetic-3:2", "--policy", "best"], "expected one of"),
        (["questions", "nowhere.jsonl"], "no text file at"),
        (["bench", "--checkpoint", "AR"], "name a file of it"),
        (["bench", "nowhere.txt"], "no text file at"),
        (
            ["bench", "nowhere.txt", "--checkpoint", "AR", "--baseline", "AR"],
            "a diffusion prior and its AR baseline",
        ),
        (["bench", "--length", "20", "--overhead", "0"], "no room for a gap of 32"),
        (["bench", "--device", "abacus"], "cannot be used"),
        (["bench", "--dtype", "bfloat16"], "random weights are float32: leave out --dtype"),
        (["bench", "--quantization", "4"], "random weights are float32"),
        (["bench", "--most", "0"], "expected a number above 0"),
        (["lengths"], "name files of held-out text, or a world"),
        (["lengths", "--world", "grammar"], "has a distribution of lengths"),
        (["lengths", "nowhere.txt"], "no text file at"),
        (["lengths", "--world", "hmm", "--checkpoint", "AR", "--gaps", "2"], "another tokenizer than hmm"),
    ],
)
def test_questions_and_constraints_complain_in_one_line(
    run: Run, checkpoints: Path, words: list[str], complaint: str
) -> None:
    words = [str(checkpoints / "stories-ar") if word == "AR" else word for word in words]
    out, err = run(*words, status=2)
    assert not out and complaint in err and err.count("\n") == 1

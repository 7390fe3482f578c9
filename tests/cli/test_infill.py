"""`textdiff infill` says what the library says, and labels what is no posterior sample."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import textdiff.display.text
import textdiff.pretrained
from tests.helpers.commands import TEXT, Run, feed
from textdiff.inference import Importance, Resampled
from textdiff.pretrained import load
from textdiff.samplers import POLICIES, LogProbKind, by_name


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
    """Each fill is one of several draws, by weight towards a target; its steps are those of that draw."""
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


def test_a_product_with_the_baseline(answer: Callable[..., dict[str, Any]], run: Run, checkpoints: Path) -> None:
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
        first = textdiff.display.text.visible(fill).splitlines()[0] if fill else ""
        assert f"Lily lost her red ball. [{first}" in out


def test_a_drawn_seed_is_reported_and_repeats_the_answer(run: Run) -> None:
    out, _ = run("infill", TEXT, "--n", "2")
    seed = re.search(r"repeat with --seed (\d+)\n$", out)
    assert seed
    again, _ = run("infill", TEXT, "--n", "2", "--seed", seed[1])
    drawn, repeated = (re.sub(r"in \S+ s;|the seed was drawn.*\n", "", text) for text in (out, again))
    assert drawn == repeated
    other, _ = run("infill", TEXT, "--n", "2")
    assert seed[1] not in other


def test_the_baseline_is_the_baseline_and_sees_no_suffix(
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


def test_the_baseline_alone_is_labelled_too(run: Run, checkpoints: Path) -> None:
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


def test_weights_in_another_type_draw_from_nearly_the_same_distribution(answer: Callable[..., dict[str, Any]]) -> None:
    half, full = (answer(TEXT, "--seed", "1", *more) for more in (("--dtype", "bfloat16"), ()))
    found, expected = (one["log_q"][0] for one in (half, full))
    assert found != expected and abs(found - expected) < 0.05 * abs(expected)


def test_a_text_after_baseline_is_the_text(answer: Callable[..., dict[str, Any]]) -> None:
    assert answer("--baseline", TEXT)["baseline"]["sees"] == "prefix"


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

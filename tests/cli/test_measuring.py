"""Commands that measure: evaluate, audit, questions, lengths, calibrate, bench."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.commands import TEXT, Run, raiser
from textdiff.cli import audit


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


AUDIT = ("audit", "--world", "grammar", "--gaps", "2", "--gap-length", "3", "--draws", "16")


def test_audit_of_a_world_prints_and_writes(run: Run, tmp_path: Path) -> None:
    shown, complaints = run(*AUDIT, "--policies", "strided:3,strided:1", "--to", str(tmp_path / "found"))
    assert not complaints
    assert "| strided, 1 step | 1.0 |" in shown
    assert {path.name for path in (tmp_path / "found").iterdir()} == {"audit.md", "audit.json", "audit.png"}
    found = json.loads((tmp_path / "found" / "audit.json").read_text())
    assert found["rows"][0]["nfe"] == 3 and found["about"]["items"] == 2


@pytest.mark.slow
def test_audit_of_a_world_compares_methods(run: Run) -> None:
    words = (*AUDIT, "--policies", "strided:3,strided:1")
    shown, complaints = run(*words, "--methods")
    assert not complaints
    assert "| strided, 1 step | 1.0 |" in shown and "| Importance, strided:1 |" in shown
    assert json.loads(run(*words, "--json")[0])["about"]["items"] == 2


def test_audit_looks_at_its_folder_before_it_works(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_audit_world", raiser(AssertionError("worked for nothing")))
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
        (["--target", "stories", "configs/templates.txt"], "no exact joint probability"),
        (["--target", "stories-ar", "none.txt"], "no text file at 'none.txt'"),
    ],
)
def test_audit_complains_in_one_line(run: Run, words: list[str], complaint: str) -> None:
    out, err = run("audit", *words, status=2)
    assert complaint in err and err.count("\n") == 1 and not out


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


@pytest.mark.slow
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
            ["bench", "configs/templates.txt", "--checkpoint", "AR", "--baseline", "AR"],
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

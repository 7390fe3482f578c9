"""Comparisons: figures agree with the priors, and finished measurements are not repeated."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tests.helpers.tiny import CORPUS, save, tiny
from tests.helpers.tree import ROOT
from textdiff import cli
from textdiff.data import held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.evaluation import Interval, TextScore, world_items
from textdiff.evaluation import compare as module
from textdiff.evaluation.compare import Candidate, compare
from textdiff.inference import SMC, BestOf, Importance, Resampled
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Strided
from textdiff.worlds import hmm, table, world

STORIES, BASELINE, FIM = tiny(), tiny(causal=True), tiny(causal=True, fill_in_middle=True)
CANDIDATES = [
    Candidate("prior", STORIES.with_policy("strided", 2)),
    Candidate("baseline", BASELINE),
    Candidate("middle", FIM),
    Candidate("best", BASELINE, BestOf(3)),
    Candidate("weighted", STORIES, Importance(), BASELINE),
]


@pytest.fixture(scope="module")
def items():
    corpus = in_memory(CORPUS, STORIES.tokenizer)
    return held_out_gaps(corpus, STORIES.vocabulary, 5, 4, margin=3, longest=400)


@pytest.fixture(scope="module")
def found(items):
    return compare(CANDIDATES, items, fills=3, timed=2, longest=7)


def test_likelihoods_are_those_of_the_priors(found, items):
    for candidate, result in zip(CANDIDATES[:3], found.results, strict=False):
        given = [-float(candidate.prior.score(*item).log_q.detach()) for item in items]
        wide = [item.with_open_gaps(7, STORIES.vocabulary) for item in items]
        unknown = [-float(candidate.prior.score(*item).log_q.detach()) for item in wide]
        assert result.cells["given"].values["nats"] == pytest.approx(given)
        assert result.cells["open"].values["nats"] == pytest.approx(unknown)
        total = result.nats("given")
        assert total.value == pytest.approx(sum(given) / sum(result.characters)) and total.low <= total.value
    for result in found.results[3:]:
        assert result.nats("given") is None and result.cells["text"].values["bleu"]


def test_differences_are_paired(found):
    first, second = found.results[:2]
    less = second.less(first, "given")
    assert less.value == pytest.approx(second.nats("given").value - first.nats("given").value)
    none = first.less(first, "given")
    assert (none.value, none.low, none.high) == (0, 0, 0)


def test_it_prints_and_draws(found):
    shown = str(found)
    for candidate in CANDIDATES:
        assert shown.count(f"| {candidate.name} |") == 2
    assert len(json.loads(found.json())["standings"]) == len(CANDIDATES)
    assert found._repr_html_().count("<table>") == 2
    page = found.html(examples=2)
    assert "data:image/png;base64," in page and not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<table>") == 3 and found.figure().axes[0].get_legend() is not None


def test_finished_measurements_are_not_repeated(items, tmp_path, monkeypatch):
    candidates = CANDIDATES[:2]
    options = {"fills": 2, "timed": 1, "cells": tmp_path}
    first = compare(candidates, items, **options)
    monkeypatch.setattr(module, "measured", lambda *arguments: pytest.fail("measured again"))
    assert str(compare(candidates, items, **options)) == str(first)
    wider = options | {"longest": 9}
    measured = []
    monkeypatch.setattr(
        module, "measured", lambda measure, *rest: measured.append(measure) or first.results[0].cells[measure]
    )
    compare(candidates[:1], items, **wider)
    assert measured == ["open", "text"]
    monkeypatch.setattr(module, "measured", lambda *arguments: pytest.fail("measured again"))
    other = replace(candidates[0], name="other", prior=STORIES.with_policy("strided", 3))
    with pytest.raises(pytest.fail.Exception):
        compare([other], items, **options)
    halved = replace(candidates[0], prior=replace(STORIES, network=deepcopy(STORIES.network).bfloat16()))
    assert halved.fingerprint != replace(halved, prior=STORIES).fingerprint


def test_a_fingerprint_is_the_same_in_another_process():
    code = (
        "from tests.helpers.tiny import tiny; from textdiff.inference import SMC;"
        "from textdiff.evaluation.compare import Candidate;"
        "print(Candidate('x', tiny(causal=True), SMC(0.5)).fingerprint)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed.strip() == Candidate("y", BASELINE, SMC(0.5)).fingerprint
    assert printed.strip() != Candidate("y", BASELINE, SMC(0.4)).fingerprint


def test_on_a_world_the_distance_to_the_truth_is_measured():
    exact = hmm(seed=0)
    items = world_items(exact, 6, 6)
    perfect = DiffusionPrior(exact, exact.tokenizer, exact.vocabulary, Strided(6))
    found = compare(
        [Candidate("fine", perfect), Candidate("coarse", perfect.with_policy(Strided(1))), Candidate("exact", exact)],
        items,
        fills=16,
        timed=1,
        truth=exact,
    )
    fine, coarse, world_itself = (result.kl.value for result in found.results)
    assert abs(fine) < 1e-6 and abs(world_itself) < 1e-6 < 0.3 < coarse
    assert "KL(q‖p)" in str(found)


def test_resampled_fills_have_a_bound_on_the_distance_to_the_truth():
    exact = hmm(seed=0)
    coarse = DiffusionPrior(exact, exact.tokenizer, exact.vocabulary, Strided(1))
    candidates = [
        Candidate("coarse", coarse),
        Candidate("by weight", coarse, Resampled(particles=8), exact),
        Candidate("weights alone", coarse, Importance(), exact),
    ]
    found = compare(candidates, world_items(exact, 6, 6), fills=8, timed=1, truth=exact)
    plain, weighted, alone = found.results
    assert 0 < weighted.kl.value < plain.kl.value and alone.kl is None
    assert weighted.kl_text().startswith("≤ ") and not plain.kl_text().startswith("≤")
    assert found.figure().axes[0].get_ylabel().startswith("KL") and "MB for 8" in str(found)


def test_a_fill_without_weight_is_infinitely_far_from_the_truth():
    exact = table({"ab": 3.0, "ba": 1.0, "aab": 2.0, "abb": 1.5})
    coarse = DiffusionPrior(exact, exact.tokenizer, exact.vocabulary, Strided(1))
    found = compare(
        [Candidate("one of 1", coarse, Resampled(particles=1), exact)],
        world_items(exact, 2, 2),
        fills=40,
        timed=1,
        truth=exact,
    )
    assert found.results[0].kl.value == float("inf") and "≤ inf" in str(found)
    assert found.figure().axes[0].get_legend() is None


def test_a_score_of_the_user(items):
    class Shouting(TextScore):
        name = "shouting"

        def __call__(self, fills, truths):
            return [float(fill.isupper()) for fill in fills]

    class Whole(TextScore):
        name = "whole"

        def __call__(self, fills, truths):
            return [0.25]

    found = compare(CANDIDATES[:1], items, fills=2, timed=1, scores=[Shouting(), Whole()])
    assert "| shouting | whole |" in str(found) and "| 0.250 |" in str(found)
    assert len(found.results[0].cells["text"].values["shouting"]) == len(items)


def test_an_interval_contains_the_mean_and_shrinks():
    values = torch.rand(400, generator=torch.Generator().manual_seed(0)).tolist()
    wide, narrow = Interval.mean(values[:40]), Interval.mean(values)
    assert narrow.low < 0.5 < narrow.high and narrow.high - narrow.low < (wide.high - wide.low) / 2
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * (1 / 12) ** 0.5 / 20, rel=0.15)
    assert Interval.ratio([2.0, 4.0], [1.0, 2.0]).value == 2


def test_mistakes(items):
    with pytest.raises(UserError, match="two candidates are called 'prior'"):
        compare([CANDIDATES[0], CANDIDATES[0]], items)
    with pytest.raises(UserError, match="0 candidates and 5 gaps"):
        compare([], items)
    exact = hmm(seed=0)
    with pytest.raises(UserError, match="'world' has another tokenizer than 'prior'"):
        compare([CANDIDATES[0], Candidate("world", exact)], items)
    with pytest.raises(UserError, match="gaps of known length"):
        compare(CANDIDATES[:1], [items[0].with_open_gaps(9, STORIES.vocabulary)])


def config(folder: Path, **changes) -> str:
    (folder / "held-out.txt").write_text("\n<|endoftext|>\n".join(" ".join(CORPUS[i : i + 6]) for i in range(6)))
    save(STORIES, folder / "stories")
    save(BASELINE, folder / "stories-ar")
    settings = {
        "files": [str(folder / "held-out.txt")],
        "gaps": 3,
        "gap_length": 4,
        "fills": 2,
        "timed": 1,
        "to": str(folder / "found"),
        "candidates": [
            {"name": "fast", "checkpoint": str(folder / "stories"), "policy": "strided", "steps": 2},
            {"name": "product", "checkpoint": str(folder / "stories"), "expert": str(folder / "stories-ar")},
            {
                "name": "best",
                "checkpoint": str(folder / "stories-ar"),
                "method": {"class_path": "textdiff.inference.BestOf", "init_args": {"draws": 2}},
            },
        ],
    } | changes
    (folder / "compare.yaml").write_text(yaml.safe_dump(settings))
    return str(folder / "compare.yaml")


def test_the_command(tmp_path, capsys):
    assert cli.main(["compare", "--config", config(tmp_path), "--seed", "3"]) == 0
    shown = capsys.readouterr().out
    assert "| fast |" in shown and "| product |" in shown and "| best |" in shown and "seed 3" in shown
    files = {path.name for path in (tmp_path / "found").iterdir()}
    assert files == {"compare.md", "compare.json", "compare.html", "compare.png", "cells"}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"files": []}, "name what to compare on: either files of held-out text, or a world"),
        ({"gap_length": 400}, "has room for a gap of 400 tokens"),
        ({"candidates": []}, "there are no candidates"),
        ({"candidates": [{"name": "x"}]}, "a candidate has no checkpoint"),
        ({"candidates": [{"name": "x", "checkpoint": "stories-ar", "layout": "psm"}]}, "only fill-in-the-middle has"),
        ({"candidates": [{"name": "x", "checkpoint": "stories-ar", "layout": "mps"}]}, "Given value: mps"),
        (
            {"candidates": [{"name": "x", "checkpoint": "stories-ar", "expert": "stories-ar"}]},
            "the expert of a",
        ),
        ({"candidates": [{"name": "x", "chekpoint": "stories"}]}, "chekpoint"),
        ({"gaps": "many"}, "gaps"),
        ({"device": "abacus"}, "device 'abacus' cannot be used"),
        ({"dtype": "int3"}, "Got value: int3"),
        ({"run_code": True}, "run_code runs the tests of code infilling: give files as humaneval:FILE.jsonl"),
        ({"files": ["humaneval:nowhere.jsonl"]}, "no text file at 'nowhere.jsonl'"),
        ({"files": ["humaneval:nowhere.jsonl"], "sentence": 2}, "has gaps of its own"),
        ({"sentence": 6}, "sentence is 6 of 5: expected 2 to 5"),
        ({"sentence": 4, "of": 40}, "has room for 40 sentences, number 4 of at most 8 tokens"),
        (
            {"scores": [{"class_path": "textdiff.evaluation.Mauve", "init_args": {"model": "no/where/at/all"}}]},
            "no model at",
        ),
    ],
)
def test_mistakes_of_the_command_are_one_line(changes, message, tmp_path, capsys):
    status = cli.main(["compare", "--config", config(tmp_path, **changes)])
    out, err = capsys.readouterr()
    err = err.split("\n", 1)[1] if err.startswith("\r") else err
    lines = [line for line in err.splitlines() if line.startswith("textdiff: ")]
    assert status == 2 and not out and len(lines) == 1 and message in lines[0]


PROBLEMS = [
    {
        "task_id": f"t/{number}",
        "prompt": f"def {name}(a, b):\n",
        "canonical_solution": f"  return a{sign}b",
        "suffix": "\n",
        "test": f"def check(candidate):\n    assert candidate(7, 2) == {value}\n",
        "entry_point": name,
        "more": 3,
    }
    for number, (name, sign, value) in enumerate([("add", "+", 9), ("sub", "-", 5), ("mul", "*", 14)])
]


def test_code_is_filled_and_run(tmp_path, capsys, monkeypatch):
    (tmp_path / "code.jsonl").write_text("".join(f"{json.dumps(problem)}\n" for problem in PROBLEMS))
    changes = {"files": [f"humaneval:{tmp_path / 'code.jsonl'}"], "longest": 16, "run_code": True}
    programs_run = []
    monkeypatch.setattr(
        "textdiff.evaluation.comparison_settings.passes",
        lambda program: programs_run.append(program) or len(programs_run) == 1,
    )
    assert cli.main(["compare", "--config", config(tmp_path, **changes)]) == 0
    shown = capsys.readouterr().out
    assert "| pass@1 |" in shown and "cut canonical solutions of at most 16 tokens" in shown and "gaps 3" in shown
    found = json.loads((tmp_path / "found" / "compare.json").read_text())["standings"]
    for number, result in enumerate(found):
        text = result["cells"]["text"]
        assert text["texts"]["truths"] == ["return a+b", "return a-b", "return a*b"]
        assert text["values"]["pass@1"] == [float(number == 0), 0.0, 0.0]
        programs = zip(programs_run[3 * number :], text["texts"]["written"], PROBLEMS, strict=False)
        for program, fill, problem in programs:
            assert program.startswith(problem["prompt"] + fill + "\n\ndef check(candidate)")
            assert program.endswith(f"check({problem['entry_point']})\n")


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/compare/*.yaml")), ids=lambda path: path.name)
def test_every_config_runs(path, tmp_path, capsys):
    """On little text, and with tiny networks in the place of those that have to be trained first."""
    found = yaml.safe_load(path.read_text())
    assert path.read_text().splitlines()[1].startswith(f"#   textdiff compare --config configs/compare/{path.name}")
    config(tmp_path)
    small = ["--gaps", "2", "--gap_length", "4", "--fills", "2", "--timed", "1", "--to", str(tmp_path / "found")]
    if "world" in found:
        for entry in found["candidates"]:
            kind = Path(entry["checkpoint"]).parent.name.rpartition("-")[2]
            made = tiny(world(found["world"]).tokenizer, causal=kind != found["world"], fill_in_middle=kind == "fim")
            entry["checkpoint"] = str(save(made, tmp_path / kind))
    elif path.name == "code.yaml":
        (tmp_path / "code.jsonl").write_text("".join(f"{json.dumps(problem)}\n" for problem in PROBLEMS))
        found["files"] = [f"humaneval:{tmp_path / 'code.jsonl'}"]
    else:
        found["files"] = [str(tmp_path / "held-out.txt")]
    (tmp_path / path.name).write_text(yaml.safe_dump(found))
    assert cli.main(["compare", "--config", str(tmp_path / path.name), *small]) == 0
    shown = capsys.readouterr().out
    assert all(f"| {entry['name']} |" in shown for entry in found["candidates"])

"""The page on what a query costs is written from what was measured, and its arithmetic is right."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers.tree import ROOT
from textdiff.data import documents
from textdiff.models import Transformer
from textdiff.pretrained import load

SCRIPT = ROOT / "notebooks" / "experiments" / "cost" / "run.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("cost", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def held_out(tmp_path: Path) -> str:
    """Two texts that are long enough, and one that is not."""
    tales = ["Lily lost her red ball. She was sad. Tom saw it in the park.", "A big dog ran to the tree. It was happy."]
    texts = [tales[0], *(" ".join([tale] * 12) for tale in tales)]
    (tmp_path / "held-out.txt").write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts))
    return str(tmp_path / "held-out.txt")


def test_queries_are_as_long_as_they_are_said_to_be(script: Any, held_out: str) -> None:
    prior = load("stories")
    assert len(list(documents([held_out]))) == 3
    rows = script.queries(held_out, prior.tokenizer, 2)
    assert [row.index for row in rows] == [0, 1] and rows[0].template != rows[1].template
    for row in rows:
        canvas = prior.given(row.template).canvas
        assert canvas.slots.sum() == 32 and abs(canvas.tokens.shape[1] - 128) <= 4
    with pytest.raises(SystemExit, match="has 2 texts of 128 tokens, expected 3"):
        script.queries(held_out, prior.tokenizer, 3)


def test_flops_are_those_of_the_passes(script: Any, held_out: str) -> None:
    prior = load("stories")
    rows = script.queries(held_out, prior.tokenizer, 2)
    assert isinstance(prior.network, Transformer)
    matrices = sum(weight.numel() for weight in prior.network.blocks.parameters() if weight.ndim == 2)
    one, two, four = (script.cost(prior, rows, steps, 2).flops for steps in (1, 2, 4))
    a_pass = 2 * matrices * 32  # the last layer answers for fewer slots
    assert 0.85 * a_pass < two - one < a_pass and four - two == pytest.approx(2 * (two - one), rel=0.01)
    assert 0.85 * 2 * matrices * 127 < one < 1.15 * 2 * matrices * 127


def test_the_arithmetic_of_the_page(script: Any) -> None:
    cost = {"steps": 8, "batch": 32, "seconds": 0.036, "flops": 3.6e9}
    found = {"device": "one CPU core (X)", "torch": "2", "parameters": 5, "rows": 4, "peak": 1e12, "costs": [cost]}
    text = script.page(found | {"scaling": [(10.0, 0.1), (15.0, 0.125)]}, price=2.5)
    assert "| 8 | 32 | 27.78 | 0.0360 | 889 | 3.60 | 10% |" in text
    assert "| 8 | 0.0360 | 1.12 | 25.00 | 10.00 | 1.25 | 0.16 |" in text
    assert "15.00 queries per second of the clock against 10.00 of one alone (1.50 times)" in text
    assert "a core does 80% of what it does alone" in text
    assert "**A GPU has not been measured**" in text
    gpu = script.page(found | {"device": "NVIDIA X", "scaling": None}, price=1)
    assert "**A CPU has not been measured**" in gpu and "Two processes at once were not measured" in gpu


def test_the_page_that_is_here_is_of_the_figures_that_are_here(script: Any) -> None:
    found = json.loads(SCRIPT.with_name("results.json").read_text())
    price = re.search(r"price of a million at (\S+) per", text := SCRIPT.with_name("README.md").read_text())
    assert price is not None and script.page(found, float(price[1])) == text


@pytest.mark.slow
def test_it_measures(script: Any, held_out: str, tmp_path: Path) -> None:
    options = ["--rows", "2", "--steps", "2", "4", "--batch", "1", "2", "--to", str(tmp_path / "out")]
    threads = torch.get_num_threads()
    script.main([held_out, *options])
    torch.set_num_threads(threads)
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [(row["steps"], row["batch"]) for row in found["costs"]] == [(2, 1), (2, 2), (4, 1), (4, 2)]
    assert all(row["seconds"] > 0 and 0 < row["flops"] / row["seconds"] < found["peak"] for row in found["costs"])
    assert len(found["scaling"]) == 2 and all(rate > 0 and core > 0 for rate, core in found["scaling"])
    assert (tmp_path / "out" / "README.md").read_text() == script.page(found, 1.0)

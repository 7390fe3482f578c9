"""The public names of textdiff: all are there, and each is imported on first use."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import textdiff
from tests.helpers.tree import ROOT


def printed(code: str) -> list[str]:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_public_names_are_those_that_a_type_checker_sees() -> None:
    source = ast.parse(Path(textdiff.__file__).read_text(encoding="utf-8"))
    (checked,) = (node for node in source.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in checked.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert set(textdiff.__all__) | {"compare", "Candidate"} == set(seen) <= set(dir(textdiff))
    for name, room in seen.items():
        assert getattr(textdiff, name) is getattr(sys.modules[room or ""], name)
    assert textdiff.samplers is sys.modules["textdiff.samplers"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'textdiff' has no attribute 'lode'"):
        _ = textdiff.lode


def test_importing_is_quick_and_so_is_what_needs_no_network() -> None:
    seconds, heavy = printed(
        "import sys, time, torch; start = time.process_time(); import textdiff; "
        "print(time.process_time() - start); print('transformers' in sys.modules)"
    )
    assert float(seconds) < 0.5
    assert heavy == "False"


def test_using_everything_loads_no_trainer() -> None:
    loaded = set(printed("import sys; from textdiff import *; print(load.__name__, *sys.modules)"))
    assert {"load", "transformers"} <= loaded
    assert not loaded & {"lightning", "pytorch_lightning", "datasets", "matplotlib", "torchmetrics"}

"""The structure of the project: imports between folders, what a wheel holds, what an import loads, forbidden words."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.tree import ROOT, files

# A room may import itself and what stands before it. `textdiff` stands for the public names of textdiff/__init__.py.
ORDER = (
    "errors", "files", "text", "diffusion", "models", "denoisers", "evidence", "samplers", "posterior", "priors",
    "worlds", "pretrained", "inference", "data", "training", "amortization", "evaluation", "display", "serving",
    "testing", "textdiff", "cli", "__main__",
)  # fmt: skip
MODULES = sorted(path.relative_to(ROOT) for path in (ROOT / "textdiff").rglob("*.py"))


def room(module: Path) -> str:
    """Room of a file of the package: textdiff/text/canvas.py -> text, textdiff/cli/infill.py -> cli."""
    name = module.with_suffix("").parts[1]
    return "textdiff" if name == "__init__" else name


def imports(module: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and room of each import of the package itself, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.parent.parts[: len(module.parent.parts) - node.level + 1] if node.level else ()
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for package, *inner in (name.split(".") for name in names):
            if package == "textdiff":
                # `from textdiff import load` asks for a public name, `from textdiff import samplers` for a room.
                known = inner and (len(inner) > 1 or inner[0] in ORDER)
                yield node.lineno, inner[0] if known else "textdiff"


def violations(module: Path, source: str) -> list[str]:
    """Imports of a file that go up the list, or to no room of it."""
    here = room(module)
    return [
        f"{module}:{line} imports {there}"
        for line, there in imports(module, source)
        if there not in ORDER or ORDER.index(there) > ORDER.index(here)
    ]


def test_every_module_has_a_room() -> None:
    assert MODULES
    assert not [str(module) for module in MODULES if room(module) not in ORDER]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_run_down_the_list_of_rooms(module: Path) -> None:
    assert not violations(module, (ROOT / module).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "source",
    [
        "import textdiff.samplers",
        "import textdiff.cli",
        "import torch, textdiff.models.transformer as model",
        "from textdiff.samplers.denoise import sample",
        "from textdiff import samplers",
        "from textdiff import load",
        "import textdiff as td",
        "from .. import samplers",
        "from ..samplers.policy import State",
        "from textdiff.nowhere import thing",
        "def late():\n    from textdiff.samplers import sample",
        "if TYPE_CHECKING:\n    from ..models import Transformer",
    ],
)
def test_an_import_up_the_list_is_caught(source: str) -> None:
    assert violations(Path("textdiff/diffusion/nelbo.py"), source)


def test_an_import_down_the_list_is_allowed() -> None:
    for module, source in (
        ("diffusion/nelbo.py", "from textdiff.errors import UserError"),
        ("diffusion/nelbo.py", "from textdiff import text\nfrom ..text.canvas import Canvas"),
        ("diffusion/nelbo.py", "from . import subs\nfrom .subs import subs\nimport textdiff.diffusion.process"),
        ("diffusion/nelbo.py", "import torch, textdiffuser\nfrom textdiffuser.samplers import sample"),
        ("diffusion/__init__.py", "from .subs import subs"),
        ("__init__.py", "from .evaluation import compare\nfrom textdiff.pretrained import load"),
        ("cli/infill.py", "import textdiff as td\nfrom textdiff.training import module"),
        ("__main__.py", "from textdiff.cli import main"),
    ):
        assert not violations(Path("textdiff", module), source), (module, source)


def module_graph() -> dict[str, set[str]]:
    """Each module of the package with the modules that it imports, wherever in the file, `TYPE_CHECKING` included."""
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__"): path for path in MODULES}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        graph[name] = found = set()
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                wholes = [f"{node.module}.{alias.name}" for alias in node.names]
                found |= {whole if whole in names else node.module for whole in wholes} & set(names)
    return graph


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle; empty if there is none."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return path[path.index(module) :]
        if module in done:
            return []
        for other in sorted(graph.get(module, ())):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(graph) if (found := walk(module, []))), [])


def test_no_circle_of_modules() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]
    assert not circle(module_graph())


MOST_LINES = {"textdiff": 400, "tests": 400}
MOST_LINES_OF_A_FUNCTION = 80


def test_files_and_functions_stay_short() -> None:
    long = []
    for folder, most in MOST_LINES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if (lines := source.count("\n")) > most:
                long.append(f"{path.relative_to(ROOT)}: {lines} lines")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    if lines > MOST_LINES_OF_A_FUNCTION:
                        long.append(f"{path.relative_to(ROOT)}: {node.name} takes {lines} lines")
    assert not long


def test_no_test_imports_another() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests."):
                assert (node.module or "").startswith("tests.helpers"), f"{path.relative_to(ROOT)}: {node.module}"


# Private metaphors of earlier versions, spelt here in two halves, so that this file does not hold them.
UNWANTED = re.compile(
    "|".join(
        first + second
        for first, second in (
            ("to", "ld"), ("hea", "rd"), ("thou", "ghts"), ("ess", "ence"), ("bla", "med"), ("contes", "tant"),
            ("ri", "val"), ("tw", "in"),
        )
    ),
    re.IGNORECASE,
)  # fmt: skip
TOKEN_OF_A_WORLD = re.compile(r"(?<![\w])(?:\"? ?" + "to" + "ld" + r"\"?)(?![\w])")
"""The grammar of stories writes the verb as one of its tokens."""
WORLD_OF_STORIES = ("worlds/", "amortization_grammar")


def test_words_of_the_field() -> None:
    found = []
    for folder in ("textdiff", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            if any(part in path.as_posix() for part in WORLD_OF_STORIES):
                text = TOKEN_OF_A_WORLD.sub("", text)
            for number, line in enumerate(text.splitlines(), 1):
                if UNWANTED.search(line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found, "\n".join(found)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", ".", *options], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("textdiff-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_module(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {module.as_posix() for module in MODULES} | {"textdiff/py.typed"} <= held
    assert not [name for name in held if not re.match(r"textdiff(-[^/]+\.dist-info)?/", name)]
    assert any(name.endswith("licenses/LICENSE") for name in held)
    assert {f"textdiff/{path}" for path in map(str, files()) if path.startswith(("configs/", "checkpoints/"))} <= held


@pytest.mark.slow
def test_the_wheel_imports_when_unpacked(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    names = [".".join(module.with_suffix("").parts).removesuffix(".__init__") for module in MODULES]
    names = [name for name in names if not name.endswith("__main__")]
    code = f"import importlib\nfor name in {names}: print(importlib.import_module(name).__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split("\n")[:-1]
    assert len(loaded) == len(names)
    assert all(Path(path).is_relative_to(tmp_path) for path in loaded), loaded


@pytest.mark.slow
def test_the_wheel_finds_its_configurations(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    options = ["--model.fill.n", "1", "--model.fill.steps", "2", "--trainer.accelerator", "cpu"]
    for arguments in (["predict", "--config", "predict", *options], ["fit", "--config", "own", "--print_config"]):
        done = subprocess.run(
            [sys.executable, "-m", "textdiff", *arguments],
            cwd=elsewhere,
            env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
            capture_output=True,
            text=True,
        )
        assert (done.returncode == 0) == (arguments[0] == "predict"), done.stderr
    assert len((elsewhere / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert "there is no configuration 'own'" in done.stderr and "custom-text" in done.stderr


def test_importing_the_package_stays_light() -> None:
    code = "import sys, textdiff; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "textdiff" in loaded
    assert not loaded & {"lightning", "pytorch_lightning", "datasets", "matplotlib"}


# A folder of one machine: a home, a scratch disk, a drive letter. Not the path part of an address on the web.
MACHINE_PATH = re.compile(
    r"(?<![\w.~)}-])/(?:home|Users|root|work|farm|mnt|tmp|scratch|workspace)/\w|\b[A-Z]:\\+Users\b"
)


@pytest.mark.parametrize("before", ["cd ", '"', "path=", "file://", "(", ":"])
@pytest.mark.parametrize("folder", ["home", "tmp", "work", "root", "Users"])
def test_a_machine_path_is_caught(before: str, folder: str) -> None:
    assert MACHINE_PATH.search(f"{before}/{folder}/run")


def test_a_relative_path_or_an_address_is_no_machine_path() -> None:
    assert not MACHINE_PATH.search("https://example.org/home/page ./work/x ~/tmp/x runs/tmp/x {folder}/tmp/x /home //")


def test_no_file_names_a_path_of_one_machine() -> None:
    found = []
    for path in files():
        content = (ROOT / path).read_bytes()
        if b"\0" not in content:
            lines = content.decode("utf-8").splitlines()
            found += [f"{path}:{number}" for number, line in enumerate(lines, 1) if MACHINE_PATH.search(line)]
    assert not found

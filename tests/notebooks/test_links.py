"""Relative links in the Markdown texts of the repository lead to files that a clone holds, and to headings in them."""

import re
from pathlib import Path

import pytest

from tests.helpers.tree import ROOT, files

LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


PAGES = [path for path in files() if path.suffix == ".md"] if (ROOT / ".git").exists() else []
NAMED = re.compile(r"(?<![\w./])(?:configs|tests|notebooks)/[\w./-]+\.(?:yaml|py|ipynb|txt)")


def anchors(text: str) -> set[str]:
    """Headings as GitHub links to them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for inline, reference in LINK.findall(CODE.sub("", (ROOT / page).read_text(encoding="utf-8"))):
        link = inline or reference
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        goal = (ROOT / page).parent / path if path else ROOT / page
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text(encoding="utf-8"))):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page)


@pytest.mark.parametrize("page", [page for page in PAGES if page.parts[0] in ("notebooks", "checkpoints")], ids=str)
def test_files_that_a_page_names_exist(page: Path) -> None:
    named = NAMED.findall((ROOT / page).read_text(encoding="utf-8"))
    assert not [path for path in named if not (ROOT / path).is_file()]

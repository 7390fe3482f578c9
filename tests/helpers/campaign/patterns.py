"""Regular expressions against `re`, and constraints against what `re` and `str` say about the fills."""

from __future__ import annotations

import re
import warnings
from random import Random
from typing import Any

import torch

import textdiff as td
from tests.helpers.campaign.case import Case, Silent
from tests.helpers.campaign.materials import ODD, WRONG, shown
from tests.helpers.campaign.world import World
from textdiff.text import TokenDFA

ATOMS = (
    "a", "b", "c", "é", "ß", "日", "🐈", " ", ".", r"\d", r"\w", r"\s", r"\D", r"\W", r"\S", r"\.", r"\n", r"\\", r"\-",
    "[abc]", "[^abc]", "[a-c]", "[^]]", "[]a]", "[^]a-c]", r"[\d-]", "[a-]", r"[\w.]", "[é-ü]", r"[^\s]", "-", ",", "1",
)  # fmt: skip
CONSTRUCTS = (
    "^", "$", r"\A", r"\Z", r"\b", r"\B", "(?=a)", "(?!a)", "(?<=a)", "(?<!b)", r"(a)\1", "(?P<x>a)", "(?P<x>a)(?P=x)",
    "(?i:ab)", "(?s:.)", "(?x: a b)", "(?#note)", "(?>a*)", "a*+", "a?+", "a{1,2}+", "(?i)", r"\u0041", r"\x41",
    r"\101",
    r"\N{DIGIT ONE}", r"\p{L}", "[[:alpha:]]", "[a&&b]", "a{,2}", "a{2}", "a{2,}", "a{x}", "{", "}", "]", "*", "(", ")",
    "[z-a]", "\\", "(?", "(?a:x)", "(?-i:a)", "a**", "\ud800", "\0", "(?(1)a|b)", r"\z", r"\8", "[\\", "(?P<1>a)",
)  # fmt: skip
BOMBS = (
    "(a{1000}){1000}", ".*a.{20}", "(?:.{1,3} ){1,40}", "a" * 50_000, "(" * 5000 + ")" * 5000, "(a*)*b", "(a|aa)+c",
    "[" + "".join(chr(c) for c in range(0x100, 0x3000)) + "]{50}", "(?:a?){500}a{500}", ".{9999}", r"\w{300}",
    "a{99999999999}",
    "(?:" * 200 + "a" + ")?" * 200, "|".join(f"w{i}" for i in range(20_000)), ".*" * 60, "((a{100}){100}){100}",
    ".*dog.{0,20}",
    "(?:x+x+)+y", "[^a]{1,4000}", "(.|\n){0,2000}",
)  # fmt: skip


def pattern(random: Random, depth: int = 3) -> str:
    """A random regular expression, usually a valid one."""
    way = random.random()
    if depth == 0 or way < 0.25:
        return random.choice(ATOMS)
    if way < 0.3:
        return random.choice(CONSTRUCTS)
    if way < 0.55:
        return "".join(pattern(random, depth - 1) for _ in range(random.randint(2, 3)))
    if way < 0.7:
        return "(?:" + "|".join(pattern(random, depth - 1) for _ in range(random.randint(2, 3))) + ")"
    least = random.randint(0, 2)
    times = random.choice(
        ("*", "+", "?", "*?", "+?", "??", f"{{{least}}}", f"{{{least},}}", f"{{{least},{least + 2}}}")
    )
    inner = pattern(random, depth - 1)
    return (inner if len(inner) == 1 else f"(?:{inner})") + times


def compiled(written: str) -> re.Pattern[str] | None:
    """What Python makes of a pattern; None if it takes it for none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(written)
    except (re.error, OverflowError, RecursionError):
        return None


def strings(random: Random) -> list[str]:
    """Texts over the letters of the patterns."""
    letters = "aabbcc1 .-]éß日🐈\n\\_"
    return ["", *("".join(random.choices(letters, k=random.randint(1, 6))) for _ in range(40))]


def regexes(random: Random, world: World) -> Case:
    """A pattern is refused, or accepts just the texts that `re.fullmatch` does."""
    written = random.choice(BOMBS) if random.random() < 0.04 else pattern(random)

    def run() -> None:
        dfa = TokenDFA.regex(written, world.prior.tokenizer)
        python = compiled(written)
        if python is None:
            raise Silent("accepted, and Python does not")
        for string in strings(random):
            if accepts(dfa, string, world.prior.tokenizer) != bool(python.fullmatch(string)):
                raise Silent(f"of {shown(string)} it says the opposite of re.fullmatch")

    return Case(f"TokenDFA.regex({shown(written)}, tokenizer)", run)


def accepts(dfa: TokenDFA, string: str, tokenizer: Any) -> bool:
    """Whether an automaton accepts the tokens of a text."""
    state = 0
    for token in tokenizer(string, add_special_tokens=False)["input_ids"]:
        state = int(dfa.step[state, dfa.classes[token]])
    return bool(dfa.accept[state])


WORDS = ("dog", "ball", "a", "caf", "café", "für", "red ball", "O'Neil", "it's", "x-y", "дом", "日本", "1", "_", "she")
LENGTHS = ((0, 0), (0, 2), (1, 1), (1, 4), (2, 3), (3, 9), (4, 1), (-1, 2), (10**9, 10**9), (0, 5000), 3, 10**9, -1)


def constraints(random: Random, world: World) -> Case:
    """Fills satisfy what is asked of them, as `re` sees it; or there is a refusal."""
    pieces, marker = [], random.choice(("[gap:6]", "[gap:1-8]", "[gap:0-8]", "[gap:8-12]"))
    for _ in range(random.randint(1, 2)):
        pieces.append(_piece(random))
    written = f"Lily saw {marker} and was happy."
    what = " & ".join(f"{name}({shown(value, 100)})" for name, value in pieces)

    def run() -> None:
        evidence: Any = td.Observed(written)
        for name, value in pieces:
            made = td.Length(**value) if name == "Length" else getattr(td, name)(value)
            evidence = evidence & made
        samples = world.prior.infill(evidence, 2, steps=random.choice((1, 3, None)), seed=0)
        for row, sample in zip(samples.tokens, samples.samples, strict=True):
            for name, value in pieces:
                if not satisfied(name, value, sample.fills[0], row, world):
                    raise Silent(f"{shown(sample.fills[0])} does not satisfy {name}({shown(value)})")

    return Case(f"prior.infill(Observed({written!r}) & {what}, 2)", run)


def _piece(random: Random) -> tuple[str, Any]:
    way = random.random()
    if way < 0.1:
        return random.choice(("Regex", "Contains", "Excludes", "Ordered")), random.choice(WRONG)
    if way < 0.4:
        return "Regex", random.choice((pattern(random), pattern(random), r"\w+ .*", r"[^]]+", ".*", *BOMBS[:3]))
    if way < 0.6:
        name = random.choice(("tokens", "words", "characters"))
        return "Length", {name: random.choice(LENGTHS)}
    words = [random.choice((*WORDS, random.choice(ODD))) for _ in range(random.randint(1, 3))]
    return random.choice(("Contains", "Excludes", "Ordered")), words


def satisfied(name: str, value: Any, fill: str, row: torch.Tensor, world: World) -> bool:
    """Whether a fill is as asked, in a way of its own."""
    if name == "Regex":
        python = compiled(value) if isinstance(value, str) else None
        return python is not None and bool(python.fullmatch(fill))
    if name == "Length":
        ((kind, bounds),) = value.items()
        least, most = (bounds, bounds) if isinstance(bounds, int) else bounds
        if kind == "tokens":
            return True  # null tokens are dropped before the text is made; Canvas tests count them
        return least <= (len(fill.split()) if kind == "words" else len(fill)) <= most
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        return False
    found, start = [], 0
    for word in (str(one).strip() for one in value):
        place = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)").search(fill, start if name == "Ordered" else 0)
        found.append(place is not None)
        start = place.end() if place else start
    return not any(found) if name == "Excludes" else all(found)

"""Cost of a constraint: fills of 32 tokens by the shipped prior, without and with an automaton of about 50 states.

The two take turns on one CPU thread, 16 fills at once, 8 strided steps, vocabulary 2,048. Run with
`pytest -m benchmark -s tests/benchmarks/test_constrained.py`.
"""

import statistics
import time

import pytest

import textdiff as td

pytestmark = pytest.mark.benchmark
ROUNDS = 5
TEXT = "Once upon a time there was a little girl named Lily. {} Her mom was happy and they went home for dinner."


@pytest.mark.parametrize("gap", ["[gap:32]", "[gap:8-32]"])
def test_a_constrained_step(gap: str) -> None:
    prior = td.load("stories").with_policy("strided", 8)
    text = TEXT.format(gap)
    free = prior.given(text)
    posteriors = {
        "free": free,
        "words": prior.given(td.Observed(text) & td.Contains(["dog", "ball"])),
        "regex": prior.given(td.Observed(text) & td.Regex(r"[A-Z][a-z ]{4,48}[.!]")),
        "a long regex": prior.given(td.Observed(text) & td.Regex(r"[A-Z][a-z ,.!]{60,200}[.]|([A-Z][a-z]* ?)*[.]")),
        "length": prior.given(td.Observed(text) & td.Length(characters=(40, 140))),
    }
    seconds: dict[str, list[float]] = {name: [] for name in posteriors}
    for turn in range(ROUNDS + 1):
        for name, posterior in posteriors.items():
            start = time.perf_counter()
            posterior.sample(16, generator=turn)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    base = statistics.median(seconds["free"])
    print(f"\n{gap}: free {1000 * base:.0f} ms")
    for name, posterior in posteriors.items():
        if (dfa := posterior.canvas.dfa) is not None:
            ratio = statistics.median(seconds[name]) / base
            print(f"  {name}: {dfa.states} states, {dfa.step.shape[2]} classes, {ratio:.2f} times the seconds")

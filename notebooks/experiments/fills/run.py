"""What a reader meets first: does a fill end where a sentence ends, in words that exist, without a stutter?

python notebooks/experiments/fills/run.py TRAIN.txt HELD-OUT.txt [CHECKPOINT]

The third of the first five sentences of each held-out text is filled anew, as `[gap]` and with the author's number of
tokens, in 16 and 32 steps, at two temperatures, and as one of 16 such fills, by weight towards the AR baseline.
Prints a table and, for reading, the first fills; writes results.json and fills.md beside this file, unless a
checkpoint is named. None of this sees grammar or sense: that takes a reader.
"""

import json
import re
import sys
from itertools import islice, pairwise, product
from pathlib import Path

import torch

import textdiff as td
from textdiff.data import documents
from textdiff.inference import Importance, Resampled
from textdiff.posterior import Conditioning
from textdiff.samplers import Tempering
from textdiff.text import encode

SENTENCE = re.compile(r"\S.*?[.!?][\"”']*(?=\s|$)")
ENDED = re.compile(r"[.!?][\"”')]*\s*$")
SETTINGS = (
    *((*way, 1) for way in product((False, True), (1.0, 0.6), (16, 32))),
    *((False, 0.6, 32, 16), (False, 1.0, None, 1), (False, 0.6, None, 1), (False, 0.6, None, 8)),
)
"""Is the length given, temperature, steps (None: a product with the AR baseline, token by token), and the number of
draws from which a fill is chosen, by weight towards the AR baseline."""
SHOWN_SETTINGS = ((False, 1.0, 16, 1), (False, 0.6, 32, 16))
TEXTS, SHOWN = 100, 20


def words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)?", text.lower())


def faults(fill: str, known: set[str]) -> dict[str, bool]:
    """What is wrong with a fill between two sentences, as far as a program can tell."""
    said = words(fill)
    return {
        "open": ENDED.search(fill) is None,
        "unknown word": any(word not in known for word in said),
        "stutter": any(one == other for one, other in pairwise(said) if one not in ("very", "so", "ha")),
        "empty": not said,
    }


def said(exactly: bool, temperature: float, steps: int | None, particles: int) -> str:
    """A setting, in words."""
    chosen = f", one of {particles} by weight" * (particles > 1)
    way = "product with the AR baseline" if steps is None else f"{steps} steps"
    return f"{'length given' if exactly else '[gap]'}, temperature {temperature}, {way}{chosen}"


def main(train: str, valid: str, checkpoint: str = "stories") -> tuple[dict[str, dict[str, float]], list[str]]:
    """Shares of fills with each fault, by setting, and a text to read for each of the first texts."""
    prior, baseline = td.load(checkpoint), td.load("stories-ar")
    known = {word for text in documents([train]) for word in words(text)}
    table, shown = dict[str, dict[str, float]](), list[str]()
    stories = [found for text in documents([valid]) if len(found := SENTENCE.findall(" ".join(text.split()))[:5]) == 5]
    for setting in SETTINGS:
        exactly, temperature, steps, particles = setting
        counts = dict.fromkeys(("open", "unknown word", "stutter", "empty", "any"), 0)
        for number, (first, second, author, fourth, fifth) in enumerate(islice(stories, TEXTS)):
            gap = f"[gap:{len(encode(prior.tokenizer, f' {author}', continues=True))}]" if exactly else "[gap]"
            before, after = (part.replace("[gap", "\\[gap") for part in (f"{first} {second}", f"{fourth} {fifth}"))
            filler = prior.with_expert(baseline) if steps is None else prior.with_policy(None, steps)
            posterior = filler.given(f"{before} {gap} {after}", target=baseline)
            single, several = Conditioning(Tempering(temperature)), Resampled(Importance(temperature), particles)
            fill = posterior.sample(1, single if particles == 1 else several, generator=number)[0].fills[0]
            found = faults(fill, known)
            for name, wrong in found.items():
                counts[name] += wrong
            counts["any"] += any(found.values())
            if number < SHOWN and setting in SHOWN_SETTINGS:
                passage = f"{second} **{' '.join(fill.split())}** {fourth}  \n*The author: {author}*"
                shown.append(f"{number + 1}, {said(*setting)}: {passage}")
        share = {name: count / min(TEXTS, len(stories)) for name, count in counts.items()}
        table[said(*setting)] = share
        print(f"{said(*setting):50}", *(f"{name} {100 * value:3.0f} %" for name, value in share.items()), flush=True)
    return table, shown


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("fills/run.py takes two files and perhaps a checkpoint: run.py TRAIN.txt HELD-OUT.txt [CHECKPOINT]")
    torch.set_num_threads(1)
    table, shown = main(*sys.argv[1:])
    if len(sys.argv) < 4:
        Path(__file__).with_name("results.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
        Path(__file__).with_name("fills.md").write_text("\n\n".join(shown) + "\n", encoding="utf-8")
    for text in shown:
        print(f"\n{text}")

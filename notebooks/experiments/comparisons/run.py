"""The comparisons of this folder: diffusion, its AR baseline and fill-in-the-middle on the same gaps.

python notebooks/experiments/comparisons/run.py HELD-OUT.txt FAIRYTALES.txt

Run it from the root of the repository: networks of worlds come from configs/worlds/ and are left in runs/. The results
are written into the folders beside this file.
"""

import sys
from pathlib import Path

from textdiff.cli import main

HERE = Path(__file__).parent


def trained(name: str, world: str) -> list[list[str]]:
    """Train a network on a world, and export it."""
    run = f"runs/worlds/{name}/last"
    return [
        ["fit", "--config", f"configs/worlds/{name}.yaml"],
        ["export", f"{run}.ckpt", "--tokenizer", f"world:{world}", "--to", run],
    ]


def compare(name: str, *options: str) -> list[str]:
    """A comparison, whose results go into a folder beside this file."""
    return ["compare", "--config", f"configs/compare/{name}.yaml", *options, "--to", str(HERE / name)]


def commands(valid: str, fairytales: str) -> list[list[str]]:
    """All commands of the textdiff command line, in order."""
    return [
        compare("stories", "--files", f"[{valid!r}]"),
        compare("five-sentences", "--files", f"[{valid!r}]"),
        compare("fairytales", "--files", f"[{fairytales!r}]"),
        *trained("hmm", "hmm"),
        *trained("hmm-ar", "hmm"),
        *trained("hmm-fim", "hmm"),
        compare("hmm"),
        *trained("walk", "walk"),
        *trained("walk-ar", "walk"),
        compare("walk"),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("comparisons/run.py takes two files of held-out text: run.py HELD-OUT.txt FAIRYTALES.txt")
    for command in commands(*sys.argv[1:]):
        print("textdiff", *command, flush=True)
        if status := main(command):
            sys.exit(status)

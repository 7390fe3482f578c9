"""Seconds of whole fills, here and in reference loops, on the shipped weights.

python notebooks/experiments/bench/run.py HELD-OUT.txt

Writes results/bench.md and results/bench.json.
"""

import sys
from pathlib import Path

from textdiff.cli import main


def commands(valid: str) -> list[list[str]]:
    """The one command of the textdiff command line."""
    steps = ["--steps", "8", "4", "10", "16", "--reference-steps", "16", "32"]
    counts = ["--fills", "1", "16", "--rounds", "5", "--gaps", "100", "--seed", "1"]
    to = str(Path(__file__).with_name("results"))
    return [["bench", valid, "--checkpoint", "stories", *steps, *counts, "--to", to]]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("bench/run.py takes a file of held-out text: run.py HELD-OUT.txt")
    sys.exit(main(commands(sys.argv[1])[0]))

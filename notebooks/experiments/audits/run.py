"""The audits of this folder: policies and methods against exactly known posteriors.

python notebooks/experiments/audits/run.py HELD-OUT.txt

Run it from the root of the repository: networks come from configs/worlds/ and are left in runs/, about 70 minutes of a
core. The results are written into the folders beside this file.
"""

import sys
from pathlib import Path

from textdiff.cli import main

HERE = Path(__file__).parent


def trained(world: str) -> list[list[str]]:
    """Train the network of a world, and export it."""
    run = f"runs/worlds/{world}/last"
    return [
        ["fit", "--config", f"configs/worlds/{world}.yaml"],
        ["export", f"{run}.ckpt", "--tokenizer", f"world:{world}", "--to", run],
    ]


def audit(to: str, *options: str) -> list[str]:
    """An audit, whose results go into a folder beside this file."""
    return ["audit", *options, "--to", str(HERE / to)]


def commands(valid: str) -> list[list[str]]:
    """All commands of the textdiff command line, in order."""
    hmm = ("--world", "hmm", "--checkpoint", "runs/worlds/hmm/last")
    some = ("--gaps", "40", "--draws", "32", "--policies")
    grammar = ("--world", "grammar", "--checkpoint", "runs/worlds/grammar/last", "--gap-length", "6")
    stories = ("--checkpoint", "stories", "--target", "stories-ar", valid, "--gap-length", "8")
    lengths = ("--gaps", "100", "--slots", "16", "--draws", "32", "--policy", "strided:8")
    return [
        audit("hmm-perfect", "--world", "hmm", "--gaps", "60"),
        *trained("hmm"),
        audit(
            "hmm-trained",
            *hmm,
            *some,
            "strided:12,strided:6,strided:4,strided:3,dilated,entropy:12,entropy:6,entropy:4",
        ),
        ["audit", *hmm, "--policies", "strided:12"],  # printed: hmm-trained/audit-100-gaps.md
        audit("hmm-repairs", *hmm, "--policies", "entropy:4", "--methods", "--gaps", "16", "--draws", "16"),
        ["lengths", "--world", "hmm", *lengths, "--to", str(HERE / "hmm-lengths")],
        *trained("grammar"),
        audit("grammar-trained", *grammar, *some, "strided:6,strided:3,strided:2,entropy:6,entropy:3,entropy:2"),
        audit("stories-weights", *stories, "--gaps", "100", "--draws", "16", "--policies", "strided:8"),
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("audits/run.py takes a file of held-out text: run.py HELD-OUT.txt")
    for command in commands(sys.argv[1]):
        print("textdiff", *command, flush=True)
        if status := main(command):
            sys.exit(status)

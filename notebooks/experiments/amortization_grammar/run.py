"""Learning a reward on the grammar of short stories, by four methods.

python notebooks/experiments/amortization_grammar/run.py

Run it from the root of the repository. Networks are left in runs/, the curves in runs/amortization/grammar/; those that
were measured are beside this file in results/.
"""

import sys

from textdiff.cli import main

METHODS = ("rtb", "rtb-lora", "expert-iteration", "distillation")


def commands() -> list[list[str]]:
    """All commands of the textdiff command line, in order."""
    prior = "runs/worlds/grammar/last"
    found = [
        ["fit", "--config", "configs/worlds/grammar.yaml"],
        ["export", f"{prior}.ckpt", "--tokenizer", "world:grammar", "--to", prior],
    ]
    for method in METHODS:
        to = f"runs/amortization/grammar/{method}"
        configs = [f"configs/amortization/{name}.yaml" for name in ("base", method, "on-grammar")]
        options = [part for config in configs for part in ("--config", config)]
        found.append(["fit", *options, "--model.init_args.to", to])
    return found


if __name__ == "__main__":
    for command in commands():
        print("textdiff", *command, flush=True)
        if status := main(command):
            sys.exit(status)

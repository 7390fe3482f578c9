"""The command line: fill gaps, train, export, evaluate, audit."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from textdiff.cli import signals

HELP = """\
textdiff fills in missing text by masked discrete diffusion, and says how likely each fill is.

Commands:
  infill      fill the gaps of a text
  fit         train a prior, or its autoregressive baseline, as a YAML file says
  validate    measure a training run on held-out text
  test        the same, on test text
  predict     fill the gaps of any number of rows of files, as a YAML file says
  export      write a training run as a checkpoint that infill loads
  convert     turn a causal language model into the start of a prior
  evaluate    compare a prior with its autoregressive baseline on held-out text
  compare     compare any samplers on the same gaps, as a YAML file says
  calibrate   measure how masked positions depend on each other, for error budgets
  audit       measure how far a prior's fills are from an exact posterior
  lengths     measure which lengths of gaps a prior expects
  questions   ask questions, and count the right answers
  bench       measure the time of a fill, here and in reference loops

Examples:
  textdiff infill "Lily lost her red ball. [gap] She was happy again." --n 4 --seed 0
  textdiff infill "The [gap:1-3] dog ran to [gap:5]." --show-steps
  textdiff infill - --json < story.txt
  textdiff fit --config configs/stories.yaml

textdiff COMMAND --help shows the options of a command, textdiff --version the version.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status, see `textdiff.cli.failures.status_of`. Whatever it is but 0, standard error has one line on it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        # Before torch is imported: by default its threads spin while they wait for each other, for so long that one
        # busy core costs 30 times the time.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")

    with signals.stopping(whole_process=arguments is None):  # first of all, for imports take seconds
        from textdiff.cli import failures, streams

        streams.settle()
        with streams.messages() as messages:
            try:
                streams.check_output()
                status = _run(list(sys.argv[1:] if arguments is None else arguments))
                streams.flush_output()
                return status if signals.received() is None else signals.stop()
            except BaseException as error:  # whatever it is, the user gets one line
                return failures.report(error, messages)


def _run(arguments: list[str]) -> int:
    from textdiff import __version__
    from textdiff.cli.parser import nearest
    from textdiff.cli.terminal import write
    from textdiff.errors import UserError

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        return write(HELP)
    if command == "--version":
        return write(f"textdiff {__version__}\n")
    if command in COMMANDS:
        run: Callable[[list[str]], int] = import_module(f"textdiff.cli.{COMMANDS[command]}").run
        return run(arguments if COMMANDS[command] == "lightning" else rest)
    if "[gap" in command:
        raise UserError(f'{command!r} is no command: write textdiff infill "..." to fill its gaps')
    kind = "option" if command.startswith("-") else "command"
    raise UserError(
        f"{command!r} is no {kind}: {nearest(command, [*COMMANDS, '--help', '--version'], 'expected one of ')}"
    )


COMMANDS = {
    "infill": "infill",
    **dict.fromkeys(("fit", "validate", "test", "predict"), "lightning"),
    **{
        name: name
        for name in (
            "export", "convert", "evaluate", "compare", "calibrate", "audit", "lengths", "questions", "bench",
        )
    },
}  # fmt: skip
"""The module of each command; imported when it is run, so that a signal finds its handler early."""

"""The command line: fill gaps, train, export, evaluate, audit."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Sequence

from textdiff.cli import audit, bench, calibrate, compare, convert, evaluate, export, infill, lengths, questions
from textdiff.cli.parser import nearest
from textdiff.cli.terminal import write
from textdiff.errors import UserError

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
        The exit status: 0; 2 after one line on standard error for a mistake of the user; 130 after Ctrl-C; 141 when
        standard output was closed.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        # Before torch is imported: by default its threads spin while they wait for each other, for so long that one
        # busy core costs 30 times the time.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        return 141
    except (UserError, OSError) as error:
        return _complain(str(error), 2)


def _run(arguments: list[str]) -> int:
    from textdiff import __version__

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        return write(HELP)
    if command == "--version":
        return write(f"textdiff {__version__}\n")
    if command in COMMANDS:
        return COMMANDS[command](arguments if command in LIGHTNING else rest)
    if "[gap" in command:
        raise UserError(f'{command!r} is no command: write textdiff infill "..." to fill its gaps')
    kind = "option" if command.startswith("-") else "command"
    raise UserError(
        f"{command!r} is no {kind}: {nearest(command, [*COMMANDS, '--help', '--version'], 'expected one of ')}"
    )


def _lightning(arguments: list[str]) -> int:
    from textdiff.cli.lightning import run

    return run(arguments)


LIGHTNING = ("fit", "validate", "test", "predict")
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "infill": infill.run,
    **dict.fromkeys(LIGHTNING, _lightning),
    "export": export.run,
    "convert": convert.run,
    "evaluate": evaluate.run,
    "compare": compare.run,
    "calibrate": calibrate.run,
    "audit": audit.run,
    "lengths": lengths.run,
    "questions": questions.run,
    "bench": bench.run,
}


def _complain(message: str, status: int) -> int:
    print(f"textdiff: {' '.join(message.split())}", file=sys.stderr)
    return status

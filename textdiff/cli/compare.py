"""`textdiff compare`: any samplers on the same gaps, as a YAML says."""

from __future__ import annotations

from dataclasses import fields

from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

ABOUT = """\
Compare ways to fill gaps on the same held-out gaps: likelihood, text and speed. Writes compare.md, compare.json,
compare.png and compare.html into the folder `to`; what is finished survives an interrupt and is used again. Examples:
configs/compare/."""


def run(arguments: list[str]) -> int:
    """Compare, write the files and print the tables; returns the exit status."""
    from jsonargparse import ArgumentError, ArgumentParser
    from transformers.utils import logging

    from textdiff.cli.lightning import concise
    from textdiff.evaluation.comparison_settings import Settings

    logging.set_verbosity_error()
    parser = ArgumentParser(prog="textdiff compare", description=ABOUT, exit_on_error=False)
    parser.add_argument("--config", action="config", help="a YAML file")
    parser.add_class_arguments(Settings)
    try:
        options = parser.instantiate(parser.parse_args(arguments or ["--help"]))
    except ArgumentError as error:
        raise UserError(f"{concise(str(error))}; `textdiff compare --help` lists the options") from error
    except SystemExit as stopped:
        return int(stopped.code or 0)
    found = Settings(**{field.name: options[field.name] for field in fields(Settings)}).run(report_progress)
    return write(f"{found}\n")

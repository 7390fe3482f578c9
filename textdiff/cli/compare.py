"""`textdiff compare`: any samplers on the same gaps, as a YAML file says."""

from __future__ import annotations

from dataclasses import fields

from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

ABOUT = """\
Compare ways to fill gaps on the same held-out gaps: likelihood, text and speed. Writes compare.md, compare.json,
compare.png and compare.html into the folder `to`; finished measurements survive an interrupt and are reused. Examples
that come with textdiff: --config stories, --config walk."""


def run(arguments: list[str]) -> int:
    """Compare, write the files and print the tables; returns the exit status."""
    from jsonargparse import ArgumentError, ArgumentParser
    from transformers.utils import logging

    from textdiff.cli.configs import with_configs
    from textdiff.cli.lightning_messages import in_one_line
    from textdiff.cli.yaml_text import MODE, reading_once
    from textdiff.evaluation.comparison_settings import ComparisonSettings

    logging.set_verbosity_error()
    parser = ArgumentParser(prog="textdiff compare", description=ABOUT, exit_on_error=False, parser_mode=MODE)
    parser.add_argument("--config", action="config", help="a YAML file, or the name of one that comes with textdiff")
    parser.add_class_arguments(ComparisonSettings)
    try:
        arguments = with_configs(arguments, "compare") or ["--help"]
        with reading_once(arguments):
            given = parser.parse_args(arguments)
        options = parser.instantiate(given)
    except ArgumentError as error:
        raise UserError(f"{in_one_line(str(error))}; `textdiff compare --help` lists the options") from error
    except SystemExit as stopped:
        return int(stopped.code or 0)
    settings = ComparisonSettings(**{field.name: options[field.name] for field in fields(ComparisonSettings)})
    found = settings.run(report_progress)
    return write(f"{found}\n")

"""`textdiff export`: write a training run as a checkpoint folder."""

from __future__ import annotations

from textdiff.cli.parser import Parser
from textdiff.cli.terminal import write
from textdiff.errors import UserError


def run(arguments: list[str]) -> int:
    """Write the folder; returns the exit status."""
    parser = Parser("textdiff export", "Write a training run as a checkpoint folder that textdiff infill loads.")
    parser.add_argument("run", metavar="RUN.ckpt", help="a .ckpt file of textdiff fit; its averaged weights are taken")
    parser.add_argument("--tokenizer", metavar="FOLDER", required=True, help="the tokenizer of the run, or world:NAME")
    parser.add_argument("--to", metavar="FOLDER", required=True, help="where to write config, weights and tokenizer")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())

    from textdiff.data.sources import world_name
    from textdiff.pretrained.packaged import packaged

    name, folder = world_name(options.tokenizer), packaged(options.tokenizer)
    if name is None and not folder.is_dir():
        raise UserError(f"there is no folder {options.tokenizer!r}: give the one that data.tokenizer of the run names")

    from transformers.utils import logging

    from textdiff.pretrained.save import check_place
    from textdiff.text import load_tokenizer
    from textdiff.training import export
    from textdiff.worlds import world

    check_place(options.to)
    logging.disable_progress_bar()
    tokenizer = load_tokenizer(folder) if name is None else world(name).tokenizer
    export(options.run, tokenizer, options.to)
    return write(f'wrote {options.to}: textdiff infill "... [gap] ..." --checkpoint {options.to}\n')

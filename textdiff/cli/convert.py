"""`textdiff convert`: turn a causal language model into the start of a masked diffusion model."""

from __future__ import annotations

from textdiff.cli.parser import Parser
from textdiff.cli.terminal import write


def run(arguments: list[str]) -> int:
    """Write the folder; returns the exit status."""
    parser = Parser(
        "textdiff convert",
        "Turn a published model, usually a causal one, into a masked diffusion model to be trained.",
    )
    parser.add_argument("model", metavar="MODEL", help="its folder, or OWNER/NAME on the Hugging Face Hub")
    parser.add_argument("--to", metavar="FOLDER", required=True, help="where to write config, weights and tokenizer")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())

    from transformers.utils import logging

    from textdiff.pretrained import convert, save
    from textdiff.pretrained.save import check_place

    check_place(options.to)
    logging.set_verbosity_error()
    save(convert(options.model), options.to)
    return write(
        f"wrote {options.to}: textdiff fit --config configs/convert/full.yaml --model.checkpoint {options.to} "
        f"--data.tokenizer {options.to}\n"
    )

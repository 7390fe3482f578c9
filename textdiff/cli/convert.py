"""`textdiff convert`: from a causal language model to the start of a masked diffusion model."""

from __future__ import annotations

from textdiff.cli.parser import Parser
from textdiff.cli.terminal import write


def run(arguments: list[str]) -> int:
    """Write the folder; returns the exit status."""
    parser = Parser(
        "textdiff convert", "Make a masked diffusion model, yet to be trained, of a causal language model or another."
    )
    parser.add_argument("model", metavar="MODEL", help="its folder, or OWNER/NAME on the Hugging Face Hub")
    parser.add_argument("--to", metavar="FOLDER", required=True, help="where to write config, weights and tokenizer")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())

    from transformers.utils import logging

    from textdiff.pretrained import convert, save

    logging.set_verbosity_error()
    save(convert(options.model), options.to)
    return write(
        f"wrote {options.to}: textdiff fit --config configs/convert/full.yaml --model.base {options.to} "
        f"--data.tokenizer {options.to}\n"
    )

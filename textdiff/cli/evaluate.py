"""`textdiff evaluate`: a prior and its autoregressive (AR) baseline on held-out text."""

from __future__ import annotations

from textdiff.cli.checkpoints import add_network_options, baseline_folder, load, prior_folder
from textdiff.cli.output import add_json
from textdiff.cli.parser import SEED, Parser, paced, whole
from textdiff.cli.terminal import report_progress, write, write_json
from textdiff.errors import UserError


def run(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = Parser("textdiff evaluate", "Compare a prior with its AR baseline on held-out text, as Markdown.")
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text: .txt, .jsonl or .parquet")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: the one that comes with textdiff)")
    add("--baseline", metavar="FOLDER", help="its AR baseline (default: the folder beside it that ends in -ar)")
    add("--gaps", type=whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--gap-length", type=whole(1), default=32, metavar="N", help="tokens in a gap (default 32)")
    add("--texts", type=whole(2), default=64, metavar="N", help="number of whole texts (default 64)")
    add(
        "--policies",
        default="strided:32,strided:16,strided:8,strided:4",
        metavar="LIST",
        help="NAME:STEPS or NAME, ...",
    )
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of the gaps' places and of the noise (default 0)")
    add("--fills", type=whole(0), default=0, metavar="N", help="also fill a sentence of the first N texts")
    add_json(parser)
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())

    from textdiff.data.sources import check_sources

    if not options.files:
        raise UserError("there is no text to measure on: name a file of held-out text")
    policies = [paced(word) for word in options.policies.split(",")]
    check_sources(options.files)
    name = prior_folder(options)
    prior, baseline = load(name, options), load(options.baseline or baseline_folder(name), options)

    from textdiff.evaluation.held_out import held_out, unpicked_fills

    counts = {"gaps": options.gaps, "gap_length": options.gap_length, "texts": options.texts, "seed": options.seed}
    found = held_out(prior, baseline, options.files, policies=policies, progress=report_progress, **counts)
    if options.json:
        return write_json(found.json())
    fills = unpicked_fills(prior, options.files, options.fills, options.seed)
    return write("\n\n".join([str(found), *fills]) + "\n")

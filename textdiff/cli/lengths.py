"""`textdiff lengths`: what a prior believes about the lengths of gaps, against the true ones."""

from __future__ import annotations

from pathlib import Path

from textdiff.cli.checkpoints import add_placing, load
from textdiff.cli.parser import Parser, paced, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

NOTES = """\
examples:
  textdiff lengths valid.txt --checkpoint stories --target stories-ar
  textdiff lengths --world hmm                     a perfect network: what the law of its null tokens is worth
"""


def run(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = Parser("textdiff lengths", "Hide the lengths of gaps, and see what a prior believes about them.", NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text")
    add("--world", metavar="NAME", help="or: a world, on which the law of lengths is exactly known, such as hmm")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: a world's perfect network, or the shipped one)")
    add("--target", metavar="FOLDER", help="an autoregressive prior whose joint weighs lengths, too")
    add("--policy", type=paced, metavar="NAME:STEPS", help="order and steps of the prior (default: its own)")
    add("--gaps", type=whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--slots", type=whole(2), default=24, metavar="N", help="most tokens in a gap (default 24)")
    add("--draws", type=whole(16), default=128, metavar="N", help="fills of a gap, over all lengths (default 128)")
    add("--window", type=whole(1), default=16, metavar="N", help="tokens beside a gap that weigh (default 16)")
    add_placing(parser)
    add("--seed", type=whole(0), default=0, metavar="N", help="of everything (default 0)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--to", metavar="FOLDER", help="write lengths.md and lengths.json there")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if (options.world is None) == (not options.files):
        raise UserError("name files of held-out text, or a world, such as --world hmm")
    if options.to is not None:
        Path(options.to).mkdir(parents=True, exist_ok=True)

    from textdiff.data import documents, held_out_lengths
    from textdiff.data.corpus import in_memory
    from textdiff.evaluation.audit import world_lengths
    from textdiff.evaluation.lengths import length_calibration
    from textdiff.pretrained import shipped
    from textdiff.priors import DiffusionPrior
    from textdiff.worlds import world

    truth = None if options.world is None else world(options.world)
    if options.checkpoint is not None or truth is None:
        prior = load(str(shipped("stories")) if options.checkpoint is None else options.checkpoint, options)
    else:
        prior = DiffusionPrior(truth, truth.tokenizer, truth.vocabulary)
    if options.policy is not None:
        prior = prior.with_policy(*options.policy)
    if truth is not None:
        items = world_lengths(truth, options.gaps, options.slots, seed=options.seed)
    else:
        corpus = in_memory(documents(options.files), prior.tokenizer)
        longest = (prior.context or 512) - options.slots
        items = held_out_lengths(
            corpus, prior.vocabulary, options.gaps, options.slots, longest=longest, seed=options.seed
        )
    target = truth if options.target is None else load(options.target, options)
    found = length_calibration(
        prior,
        items,
        options.slots,
        target=target,
        truth=truth,
        draws=options.draws,
        window=options.window,
        seed=options.seed,
        progress=report_progress,
    )
    if options.to is not None:
        (Path(options.to) / "lengths.md").write_text(f"{found}\n", encoding="utf-8")
        (Path(options.to) / "lengths.json").write_text(f"{found.json()}\n", encoding="utf-8")
    return write(f"{found.json() if options.json else found}\n")

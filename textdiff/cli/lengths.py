"""`textdiff lengths`: the distribution that a prior gives the lengths of gaps, against the true lengths."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from textdiff.cli.checkpoints import add_network_options, load, prior_folder
from textdiff.cli.output import add_folder, add_json, make_folder, publish
from textdiff.cli.parser import SEED, Parser, paced, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.posterior import Prior
    from textdiff.worlds import ProbabilisticAutomaton

NOTES = """\
examples:
  textdiff lengths valid.txt --checkpoint stories --target stories-ar
  textdiff lengths --world hmm                     a perfect network: how well its null tokens give the lengths
"""


def run(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = Parser("textdiff lengths", "Compare the lengths that a prior expects of gaps with the true ones.", NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text")
    add("--world", metavar="NAME", help="or: a world, whose exact distribution of lengths is known, such as hmm")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: a world's perfect network, or the shipped one)")
    add("--target", metavar="FOLDER", help="an autoregressive prior whose joint weighs lengths, too")
    add("--policy", type=paced, metavar="NAME:STEPS", help="order and steps of the prior (default: its own)")
    add("--gaps", type=whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--slots", type=whole(2), default=24, metavar="N", help="most tokens in a gap (default 24)")
    add("--draws", type=whole(16), default=128, metavar="N", help="fills of a gap, over all lengths (default 128)")
    add("--window", type=whole(1), default=16, metavar="N", help="tokens beside a gap that weigh (default 16)")
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of everything (default 0)")
    add_json(parser)
    add_folder(parser, "lengths.md and lengths.json")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if (options.world is None) == (not options.files):
        raise UserError("name files of held-out text, or a world, such as --world hmm")
    make_folder(options)

    from textdiff.data import documents, held_out_lengths
    from textdiff.data.corpus import in_memory
    from textdiff.data.sources import check_sources
    from textdiff.evaluation.lengths import length_calibration
    from textdiff.evaluation.world_items import world_lengths
    from textdiff.worlds import world

    if options.files:
        check_sources(options.files)
    truth = None if options.world is None else world(options.world)
    prior = _prior(options, truth)
    count, slots, seed = options.gaps, options.slots, options.seed
    if truth is not None:
        items = world_lengths(truth, count, slots, seed=seed)
    else:
        corpus, longest = in_memory(documents(options.files), prior.tokenizer), (prior.context or 512) - slots
        items = held_out_lengths(corpus, prior.vocabulary, count, slots, longest=longest, seed=seed)
        if not items:
            raise UserError(f"no text of {', '.join(options.files)} has room for gaps of {slots} tokens: lower --slots")
    found = length_calibration(
        prior,
        items,
        slots,
        target=truth if options.target is None else load(options.target, options),
        truth=truth,
        draws=options.draws,
        window=options.window,
        seed=seed,
        progress=report_progress,
    )
    return publish(found, options, "lengths")


def _prior(options: argparse.Namespace, truth: ProbabilisticAutomaton | None) -> Prior:
    """The checkpoint that is named, or the perfect network of the world, under the policy that is named."""
    from textdiff.priors import DiffusionPrior

    prior: Prior
    if options.checkpoint is None and truth is not None:
        prior = DiffusionPrior(truth, truth.tokenizer, truth.vocabulary)
    else:
        prior = load(prior_folder(options), options)
    return prior if options.policy is None else prior.with_policy(*options.policy)

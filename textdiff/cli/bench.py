"""`textdiff bench`: how long a fill takes, beside reference loops on the same weights."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from textdiff.cli.checkpoints import DTYPES, add_network_options, baseline_folder, load, prior_folder
from textdiff.cli.output import add_folder, add_json, make_folder, publish
from textdiff.cli.parser import SEED, Parser, number, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.evaluation.bench import Bench

NOTES = """\
Without files the networks have random weights, in the shape of the shipped ones: seconds do not depend on the weights.
With files the gaps are cut out of held-out text, the networks are real, and -log q of the true text is shown, too.

The reference loops are implemented anew from their formulas: the common loop (LLaDA, arXiv:2502.09992) and the sampler
that reuses probabilities while nothing changes (MDLM, arXiv:2406.07524). On one thread processor time is measured.

examples:
  textdiff bench
  textdiff bench --texts 1 8 --fills 1 16 256 --length 128 1024 4096 --vocabulary 2048 50000
  textdiff bench valid.txt --checkpoint stories --fills 1 16 --steps 8 16
"""


def run(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = _parser()
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if not options.files and (options.checkpoint or options.baseline):
        raise UserError("a checkpoint is measured on held-out text: name a file of it")
    if not options.files and (options.dtype != DTYPES[0] or options.quantization):
        raise UserError(f"random weights are {DTYPES[0]}: leave out --dtype and --quantization, or name a file of text")
    make_folder(options)

    import torch

    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {options.device!r} cannot be used ({str(error).splitlines()[0]})") from None
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        found = _measured(options)
    finally:
        torch.set_num_threads(before)
    return publish(found, options, "bench")


def _parser() -> Parser:
    parser = Parser("textdiff bench", "Measure how long a fill takes, here and in reference loops.", NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text (default: random text and random weights)")
    add("--checkpoint", metavar="FOLDER", help="with files: the prior (default: the one that comes with textdiff)")
    add("--baseline", metavar="FOLDER", help="with files: its AR baseline (default: that of the checkpoint)")
    add("--texts", nargs="+", type=whole(1), default=[1], metavar="N", help="texts filled at once (default 1)")
    add("--fills", nargs="+", type=whole(1), default=[1, 16], metavar="N", help="fills of each (default 1 16)")
    add("--length", nargs="+", type=whole(1), default=[256, 1024], metavar="N", help="of a text (default 256 1024)")
    add(
        "--vocabulary", nargs="+", type=whole(8, 2**20), default=[2048], metavar="N", help="tokens in it (default 2048)"
    )
    add("--gap", type=whole(1), default=32, metavar="N", help="tokens in a gap (default 32)")
    add("--steps", nargs="+", type=whole(1), default=[8], metavar="N", help="strided steps of ours (default 8)")
    add("--reference-steps", nargs="+", type=whole(1), default=[32], metavar="N", help="steps of others (default 32)")
    add("--gaps", type=whole(1), default=50, metavar="N", help="with files: gaps for -log q (default 50)")
    add(
        "--overhead",
        type=whole(0, 2**20),
        default=50_000,
        metavar="N",
        help="vocabulary of the loops (default 50000)",
    )
    add("--rounds", type=whole(1), default=3, metavar="N", help="of which the median counts (default 3)")
    add("--most", type=number(0, 1e6), default=60, metavar="S", help="leave out what takes more seconds (default 60)")
    add("--threads", type=whole(1, 1024), default=1, metavar="N", help="of the processor (default 1)")
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of texts and gaps (default 0)")
    add_json(parser)
    add_folder(parser, "bench.md and bench.json")
    return parser


def _measured(options: argparse.Namespace) -> Bench:
    """The figures, on random or on held-out text."""
    from textdiff.data.sources import check_sources
    from textdiff.evaluation import bench
    from textdiff.posterior import CausalJoint, Denoises

    effort: dict[str, Any] = {
        **{name: getattr(options, name) for name in ("steps", "reference_steps", "rounds", "most", "seed")},
        "progress": report_progress,
    }
    if not options.files:
        grid = bench.cases(options.texts, options.fills, options.length, options.vocabulary, options.gap)
        return bench.on_random_text(list(grid), options.overhead, device=options.device, **effort)
    check_sources(options.files)
    name = prior_folder(options)
    baseline_name = baseline_folder(name) if options.baseline is None else options.baseline
    prior, baseline = load(name, options), load(baseline_name, options)
    if not isinstance(prior, Denoises) or not isinstance(baseline, CausalJoint):
        raise UserError(f"expected a diffusion prior and its AR baseline, got {prior.label} and {baseline.label}")
    case = {name: getattr(options, name) for name in ("texts", "fills", "gap", "gaps")}
    return bench.on_held_out_text(prior, baseline, options.files, **case, **effort)

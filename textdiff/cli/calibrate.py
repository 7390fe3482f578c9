"""`textdiff calibrate`: measure the information between masked positions once, for error budgets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textdiff.cli.checkpoints import add_network_options, load
from textdiff.cli.parser import SEED, Parser, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.evaluation.table import Table
    from textdiff.samplers import Dependence

NOTES = """\
examples:
  textdiff calibrate valid.txt --checkpoint runs/custom-text/best
  textdiff infill "Once upon a time [gap:32] The end." --checkpoint runs/custom-text/best --error-budget 0.5
"""


def run(arguments: list[str]) -> int:
    """Measure, write into the checkpoint's folder, print; returns the exit status."""
    about = "Measure the information between masked positions, so that --error-budget can be given."
    parser = Parser("textdiff calibrate", about, NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text: .txt, .jsonl or .parquet")
    add("--world", metavar="NAME", help="or: a world on whose texts the prior was trained, such as hmm")
    add("--checkpoint", metavar="FOLDER", help="the prior; dependence.json is written there")
    add("--gaps", type=whole(8), default=96, metavar="N", help="number of gaps (default 96)")
    add("--gap-length", type=whole(2), default=48, metavar="N", help="tokens in a gap (default 48)")
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of everything (default 0)")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if (options.world is None) == (not options.files):
        raise UserError("name files of held-out text, or a world, such as --world hmm")
    if options.checkpoint is None:
        raise UserError("name the folder of the prior to calibrate: --checkpoint FOLDER")

    from textdiff.data import documents, held_out_gaps
    from textdiff.data.corpus import in_memory
    from textdiff.data.sources import check_sources
    from textdiff.evaluation import world_items
    from textdiff.files import probe_file, replaced
    from textdiff.posterior import Denoises, seeded
    from textdiff.pretrained.load import DEPENDENCE
    from textdiff.pretrained.shipped import locate
    from textdiff.samplers import calibrate
    from textdiff.worlds import world

    if options.files:
        check_sources(options.files)
    folder = locate(options.checkpoint)
    probe_file(folder / DEPENDENCE)
    prior = load(options.checkpoint, options, calibration=False)
    if not isinstance(prior, Denoises):
        raise UserError(f"{options.checkpoint!r} fills one token after the other: calibrate a diffusion prior")
    longest = prior.context or 512
    if options.world is not None:
        items = world_items(world(options.world), options.gaps, options.gap_length, seed=options.seed, longest=longest)
    else:
        corpus = in_memory(documents(options.files), prior.tokenizer)
        counts = options.gaps, options.gap_length
        items = held_out_gaps(corpus, prior.vocabulary, *counts, longest=longest, seed=options.seed)
    if not items:
        raise UserError(f"no text is long enough for a gap of {options.gap_length} tokens: give a lower --gap-length")
    measured = calibrate(prior.network, prior.vocabulary, items, seeded(options.seed), progress=report_progress)
    with replaced(folder, DEPENDENCE):
        measured.save(folder / DEPENDENCE)
    return write(f"{_table(measured).markdown()}\n")


def _table(measured: Dependence) -> Table:
    """Information that slots share, in per cent, by their distance and by the visible tokens between them."""
    from textdiff.evaluation.table import Table
    from textdiff.samplers.dependence import BETWEEN

    head = ["tokens apart", *(f"{count} or more visible between" for count in BETWEEN)]
    apart = [d for d in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) if d <= len(measured.shares[0])]
    return Table(head, [[str(d), *(f"{100 * row[d - 1]:.2f} %" for row in measured.shares)] for d in apart])

"""`textdiff bench`: how long a fill takes, beside the loops of others on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textdiff.cli.checkpoints import DTYPES, add_placing, baseline_folder, load
from textdiff.cli.parser import Parser, number, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

NOTES = """\
Without files the networks have random weights, in the shape of the shipped ones: seconds depend on no more. With files
the gaps are cut out of held-out text, the networks are real, and -log q of what stood there is told beside the seconds.

The rivals are written anew from their formulas: the common loop (LLaDA, arXiv:2502.09992) and the sampler that reuses
answers while nothing changes (MDLM, arXiv:2406.07524). On one thread the processor's time is measured.

examples:
  textdiff bench
  textdiff bench --texts 1 8 --fills 1 16 256 --length 128 1024 4096 --vocabulary 2048 50000
  textdiff bench valid.txt --checkpoint stories --fills 1 16 --steps 8 16
"""


def run(arguments: list[str]) -> int:
    """Measure and print; returns the exit status."""
    parser = Parser("textdiff bench", "Measure how long a fill takes, and how long it takes others.", NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text (default: random text and random weights)")
    add("--checkpoint", metavar="FOLDER", help="with files: the prior (default: the one that comes with textdiff)")
    add("--baseline", metavar="FOLDER", help="with files: its autoregressive twin (default: that of the checkpoint)")
    add("--texts", nargs="+", type=whole(1), default=[1], metavar="N", help="texts filled at once (default 1)")
    add("--fills", nargs="+", type=whole(1), default=[1, 16], metavar="N", help="fills of each (default 1 16)")
    add("--length", nargs="+", type=whole(1), default=[256, 1024], metavar="N", help="of a text (default 256 1024)")
    add("--vocabulary", nargs="+", type=whole(8), default=[2048], metavar="N", help="tokens in it (default 2048)")
    add("--gap", type=whole(1), default=32, metavar="N", help="tokens in a gap (default 32)")
    add("--steps", nargs="+", type=whole(1), default=[8], metavar="N", help="strided steps of ours (default 8)")
    add("--reference-steps", nargs="+", type=whole(1), default=[32], metavar="N", help="steps of others (default 32)")
    add("--gaps", type=whole(1), default=50, metavar="N", help="with files: gaps for -log q (default 50)")
    add("--overhead", type=whole(0), default=50_000, metavar="N", help="vocabulary for the loops alone (default 50000)")
    add("--rounds", type=whole(1), default=3, metavar="N", help="of which the median counts (default 3)")
    add("--most", type=number(0, 1e6), default=60, metavar="S", help="leave out what takes more seconds (default 60)")
    add("--threads", type=whole(1), default=1, metavar="N", help="of the processor (default 1)")
    add_placing(parser)
    add("--seed", type=whole(0), default=0, metavar="N", help="of texts and gaps (default 0)")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    add("--to", metavar="FOLDER", help="write bench.md and bench.json there")
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if not options.files and (options.checkpoint or options.baseline):
        raise UserError("a checkpoint is measured on held-out text: name a file of it")
    if not options.files and (options.dtype != DTYPES[0] or options.quantization):
        raise UserError(f"random weights are {DTYPES[0]}: leave out --dtype and --quantization, or name a file of text")
    if options.to is not None:
        Path(options.to).mkdir(parents=True, exist_ok=True)

    import torch

    from textdiff.evaluation import bench
    from textdiff.posterior import CausalJoint, Denoises
    from textdiff.pretrained import shipped

    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {options.device!r} cannot be used ({str(error).splitlines()[0]})") from None
    effort: dict[str, Any] = {
        **{name: getattr(options, name) for name in ("steps", "reference_steps", "rounds", "most", "seed")},
        "progress": report_progress,
    }
    before = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        if options.files:
            name = str(shipped("stories")) if options.checkpoint is None else options.checkpoint
            other_name = baseline_folder(name) if options.baseline is None else options.baseline
            prior, other = load(name, options), load(other_name, options)
            if not isinstance(prior, Denoises) or not isinstance(other, CausalJoint):
                raise UserError(f"expected a diffusion prior and its twin, got {prior.label} and {other.label}")
            found = bench.on_held_out_text(
                prior,
                other,
                options.files,
                texts=options.texts,
                fills=options.fills,
                gap=options.gap,
                gaps=options.gaps,
                **effort,
            )
        else:
            grid = bench.cases(options.texts, options.fills, options.length, options.vocabulary, options.gap)
            found = bench.on_random_text(list(grid), options.overhead, device=options.device, **effort)
    finally:
        torch.set_num_threads(before)
    if options.to is not None:
        (Path(options.to) / "bench.md").write_text(f"{found}\n", encoding="utf-8")
        (Path(options.to) / "bench.json").write_text(f"{found.json()}\n", encoding="utf-8")
    return write(f"{found.json() if options.json else found}\n")

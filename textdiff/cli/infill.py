"""`textdiff infill`: fill the gaps of a text."""

from __future__ import annotations

import argparse
import json
import math
import operator
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from textdiff.cli.checkpoints import add_network_options, baseline_folder, load, prior_folder
from textdiff.cli.parser import SEED, Parser, number, unicode, whole
from textdiff.cli.quick_start import import_networks
from textdiff.cli.terminal import progress, write, write_json
from textdiff.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from textdiff.display import Answer
    from textdiff.evidence import Evidence
    from textdiff.inference import InfillOptions
    from textdiff.posterior import CausalJoint, Prior
    from textdiff.samplers import Watch

NOTES = """\
gaps:
  [gap]       1 to 32 tokens (a token is a short word or a part of one)
  [gap:12]    exactly 12 tokens
  [gap:4-16]  4 to 16 tokens
  \\[gap]      the text "[gap]" itself

examples:
  textdiff infill "Lily lost her red ball. [gap] She was happy again." --n 4 --seed 0
  textdiff infill "Tom had a [gap:2]. He liked to [gap:3-8]." --policy entropy --steps 4
  textdiff infill "Lily lost her ball. [gap] She was happy." --join --temperature 0.6
  textdiff infill "Lily lost her ball. [gap] She was happy." --particles 16 --temperature 0.6
  textdiff infill "Lily lost her ball. [gap] She was happy." --baseline
  textdiff infill "The wedding is at [gap:4-6] on Sunday." --regex "[0-9]{1,2}:[0-9][0-9]"
  textdiff infill "Lily went to the park. [gap] She was happy." --contains dog --contains ball --n 4
  textdiff infill --question "6 - 0 - 4 = ?" --checkpoint arithmetic --n 4
  textdiff infill - --json < story.txt
"""


def run(arguments: list[str]) -> int:
    """Fill and print; returns the exit status."""
    parser = _infill_parser()
    options = parser.read(arguments)
    import_networks()
    if options.help:
        return write(parser.format_help() + _policies())
    text = _text(options)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    first, *others = answers = _answers(text, seed, options)
    if options.json:
        baseline = others[0].as_json(options.show_steps) if others else None
        answer = {"text": text, **first.as_json(options.show_steps), "baseline": baseline}
        return write_json(json.dumps(answer, ensure_ascii=False))

    from rich.console import Console

    from textdiff.display import show

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(show(answers, console.width, plain=console.color_system is None, steps=options.show_steps))
        if options.seed is None:
            console.print(f"the seed was drawn; repeat with --seed {seed}")
    return write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _answers(text: str, seed: int, options: argparse.Namespace) -> list[Answer]:
    """The answer of the checkpoint, and of the AR baseline if one is wanted."""
    from textdiff.display import Answer, Recorder
    from textdiff.inference import infill

    asked = _options(text, seed, options)
    # Mistakes in the options come to light before a model is read.
    asked.check(expert=options.join is not None, target=options.target is not None, spell=_spell)
    checkpoints = [prior_folder(options)]
    if options.baseline is not None:
        checkpoints.append(baseline_folder(checkpoints[0]) if options.baseline is True else options.baseline)

    with progress() as stage:
        priors = [load(checkpoint, options) for checkpoint in checkpoints]
        expert = _expert(checkpoints[0], priors[0], options)
        target, folder = _target(checkpoints[0], priors[0], options)
        answers = []
        for number, (prior, checkpoint) in enumerate(zip(priors, checkpoints, strict=True)):
            recorder, watch = Recorder(), stage(f"filling with {Path(checkpoint).name}", asked.slots)

            def both(tokens: Tensor, revealed: Tensor, recorder: Watch = recorder, watch: Watch = watch) -> None:
                recorder(tokens, revealed)
                watch(tokens, revealed)

            with _on_error(checkpoint, options.n):
                wanted, alone = (asked.for_baseline(), None) if number else (asked, expert)
                found = infill(prior, wanted, expert=alone, target=target, watch=both)
            denoisings = recorder.denoisings(prior, found.options.template, found.samples)
            answers.append(Answer(found, denoisings, checkpoint, folder))
    return answers


def _options(text: str, seed: int, options: argparse.Namespace) -> InfillOptions:
    """The options of the command as the library takes them."""
    from textdiff.inference import InfillOptions

    same = ("n", "policy", "steps", "error_budget", "guidance", "temperature", "top_p", "top_k", "particles")
    constraint = _constraint(options)
    return InfillOptions(text, seed=seed, constraint=constraint, **{name: getattr(options, name) for name in same})


def _spell(name: str) -> str:
    """How the shell writes an option of `InfillOptions`."""
    return "--join" if name == "expert" else f"--{name.replace('_', '-')}"


def _expert(checkpoint: str, prior: Prior, options: argparse.Namespace) -> CausalJoint | None:
    """The autoregressive prior of `--join`, if the prior can form a product of experts with it."""
    from textdiff.posterior import CausalJoint, SupportsExpert, SupportsGuidance

    if options.guidance is not None and not isinstance(prior, SupportsGuidance):
        raise UserError(f"{checkpoint!r} is autoregressive: --guidance is for a diffusion prior")
    if options.join is None:
        return None
    if not isinstance(prior, SupportsExpert):
        raise UserError(f"{checkpoint!r} is autoregressive: --join is for a diffusion prior")
    expert = load(baseline_folder(checkpoint, "--join") if options.join is True else options.join, options)
    if not isinstance(expert, CausalJoint):
        raise UserError(f"{options.join!r} is no autoregressive prior: --join takes one, such as stories-ar")
    return expert


def _target(checkpoint: str, prior: Prior, options: argparse.Namespace) -> tuple[Prior | None, str | None]:
    """What weighs draws, and its folder: the model named, the prior itself where it has a joint, or its AR baseline."""
    from textdiff.posterior import ExactJoint

    if options.particles is None:
        return None, None
    if options.target is None and isinstance(prior, ExactJoint):
        return prior, checkpoint
    folder = baseline_folder(checkpoint, "--target") if options.target is None else options.target
    return load(folder, options), folder


def _constraint(options: argparse.Namespace) -> Evidence | None:
    """What the options ask of the first fill."""
    from textdiff.evidence import Contains, Excludes, Regex

    rules: list[Evidence] = [Contains([*map(unicode, options.contains)])] if options.contains else []
    rules += [Excludes([*map(unicode, options.excludes)])] if options.excludes else []
    rules += [Regex(unicode(options.regex))] if options.regex is not None else []
    return reduce(operator.and_, rules) if rules else None


def _policies() -> str:
    """What the help says of policies; their modules take too long to import for anybody else."""
    from textdiff.samplers import POLICIES, by_name

    return "\npolicies (and what their log q is):\n" + "".join(f"  {n:<19} {by_name(n).kind}\n" for n in POLICIES)


def _infill_parser() -> Parser:
    parser = Parser("textdiff infill", "Fill the gaps of a text.", NOTES)
    add = parser.add_argument
    add("text", nargs="?", help='the text, with [gap] where some is missing; "-" reads it from standard input')
    add("--n", type=whole(1), default=1, metavar="N", help="number of fills, drawn independently (default 1)")
    add("--seed", type=SEED, metavar="N", help="of the random numbers; by default drawn and printed")
    add("--checkpoint", metavar="FOLDER", help="the model (default: the one that comes with textdiff)")
    add("--policy", metavar="NAME", help="which tokens to reveal in each step (default: strided)")
    add(
        "--steps",
        type=whole(1, 2**31),
        metavar="N",
        help="most steps of the policy (for blocks: of each); fewer are faster and less faithful",
    )
    add(
        "--error-budget",
        type=number(0, math.inf, closed=True),
        metavar="NATS",
        help="in place of these: as few steps as lose at most so many nats per gap",
    )
    add(
        "--guidance",
        type=number(0, math.inf, closed=True),
        metavar="W",
        help="follow the text around more closely: a heuristic, the fills are no posterior samples",
    )
    add(
        "--temperature",
        type=number(0, math.inf, closed=True),
        default=1.0,
        metavar="X",
        help="below 1 draws likelier tokens, 0 only the likeliest (default 1)",
    )
    add("--top-p", type=number(0, 1), default=1.0, metavar="P", help="draw only from so much probability (default 1)")
    add("--top-k", type=whole(1, 2**31), metavar="N", help="draw only from so many likeliest tokens (default: all)")
    add(
        "--join",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="fill token by token, multiplied with the AR baseline: likelier fills, more passes",
    )
    add(
        "--particles",
        type=whole(1),
        metavar="N",
        help="each fill is one of N draws by weight towards the AR baseline, which reads the whole text: better fills",
    )
    add("--target", metavar="FOLDER", help="what weighs the draws of --particles in place of the AR baseline")
    add("--contains", action="append", default=[], metavar="WORD", help="the first fill contains this word; repeat it")
    add("--excludes", action="append", default=[], metavar="WORD", help="the first fill does not contain this word")
    add("--regex", metavar="PATTERN", help="the first fill matches this regular expression from beginning to end")
    add("--question", metavar="TEXT", help="fill the rationale and the answer of a question, in place of a text")
    add("--answer", metavar="TEXT", help="the answer of --question: fill its rationale alone")
    add("--baseline", nargs="?", const=True, metavar="FOLDER", help="show the AR baseline's answer beside it")
    add("--show-steps", action="store_true", help="show which tokens each step revealed")
    add_network_options(parser)
    add("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def _text(options: argparse.Namespace) -> str:
    """The text that was asked about."""
    text = options.text
    if options.question is not None:
        from textdiff.evidence import Question

        if text is not None:
            raise UserError("there are a text and a --question: give one of them")
        return unicode(str(Question(options.question, answer=options.answer).template))
    if options.answer is not None:
        raise UserError("--answer goes with --question: give both")
    for name in ("baseline", "join"):  # a text that stands where these take a folder
        folder = getattr(options, name)
        if text is None and isinstance(folder, str) and ("[gap" in folder or folder == "-"):
            text = folder
            setattr(options, name, True)
    if text is None:
        raise UserError('there is no text: give it in quotes, "... [gap] ...", or - to read it from standard input')
    if text != "-":
        return unicode(text)
    if sys.stdin is None:
        raise UserError("standard input is closed: give the text in quotes, or a file, as in < story.txt")
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 (byte {error.start}): convert it first") from error


@contextmanager
def _on_error(checkpoint: str, n: int) -> Iterator[None]:
    """Say in a line what a checkpoint or a machine cannot do."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"the model in {checkpoint!r} cannot fill this text: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error):
            raise
        raise UserError(f"the memory is too small for --n {n} on this text: ask for fewer fills at a time") from error

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
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from textdiff.cli.checkpoints import add_network_options, baseline_folder, load
from textdiff.cli.parser import Parser, number, whole
from textdiff.cli.terminal import progress, write
from textdiff.errors import UserError

if TYPE_CHECKING:
    from textdiff.display import Answer
    from textdiff.evidence import Evidence
    from textdiff.posterior import Prior

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
    if options.help:
        return write(parser.format_help() + _policies())
    text = _text(options)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    first, *others = answers = _answers(text, seed, options)
    if options.json:
        baseline = others[0].as_json(options.show_steps) if others else None
        answer = {"text": text, **first.as_json(options.show_steps), "baseline": baseline}
        return write(json.dumps(answer, ensure_ascii=False) + "\n")

    from rich.console import Console

    from textdiff.display import show

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(show(answers, console.width, plain=console.color_system is None, steps=options.show_steps))
        if options.seed is None:
            console.print(f"the seed was drawn; repeat with --seed {seed}")
    return write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _answers(text: str, seed: int, options: argparse.Namespace) -> list[Answer]:
    """The answer of the checkpoint, and of the baseline if one is wanted."""
    from textdiff.display import Answer
    from textdiff.posterior import CausalJoint, SupportsExpert, SupportsGuidance
    from textdiff.pretrained import shipped
    from textdiff.samplers import NEUTRAL, Tempering, by_name
    from textdiff.text import Template

    # Mistakes in the options come to light before a model is read.
    slots = options.n * (options.particles or 1) * sum(gap.maximum for gap in Template.parse(text).gaps)
    if options.policy is not None:
        by_name(options.policy, options.steps)
    if options.error_budget is not None and (options.policy is not None or options.steps is not None):
        raise UserError("--error-budget chooses order and steps by itself: leave out --policy and --steps")
    other_way = (options.policy, options.steps, options.error_budget, options.guidance)
    if options.join is not None and any(option is not None for option in other_way):
        raise UserError("--join fills from left to right: leave out --policy, --steps, --error-budget and --guidance")
    if options.error_budget is not None and options.guidance is not None:
        raise UserError("--error-budget is calibrated for fills without --guidance: leave out one of them")
    tempering = Tempering(options.temperature, options.top_p, options.top_k)
    if options.particles is None and options.target is not None:
        raise UserError("--target weighs the draws of --particles: give both")
    if options.particles is not None and (tempering.temperature == 0 or replace(tempering, temperature=1.0) != NEUTRAL):
        raise UserError(
            "--particles weighs draws, and weights cannot make up for tokens never drawn: leave out --top-p, --top-k "
            "and --temperature 0"
        )
    checkpoints = [str(shipped("stories")) if options.checkpoint is None else options.checkpoint]
    if options.baseline is not None:
        checkpoints.append(baseline_folder(checkpoints[0]) if options.baseline is True else options.baseline)

    with progress() as stage:
        priors = [load(checkpoint, options) for checkpoint in checkpoints]
        if options.policy is not None or options.steps is not None:
            priors[0] = priors[0].with_policy(options.policy, options.steps)
        if options.join is not None:
            if not isinstance(priors[0], SupportsExpert):
                raise UserError(f"{checkpoints[0]!r} is autoregressive: --join is for a diffusion prior")
            other = load(baseline_folder(checkpoints[0], "--join") if options.join is True else options.join, options)
            if not isinstance(other, CausalJoint):
                raise UserError(f"{options.join!r} is no autoregressive prior: --join takes one, such as stories-ar")
            priors[0] = priors[0].with_expert(other)
        if options.guidance is not None:
            if not isinstance(priors[0], SupportsGuidance):
                raise UserError(f"{checkpoints[0]!r} is autoregressive: --guidance is for a diffusion prior")
            priors[0] = priors[0].with_guidance(options.guidance)
        if options.error_budget is not None:
            priors[0] = priors[0].with_error_budget(options.error_budget)
        constraint = _constraint(options)
        target, folder = _target(checkpoints[0], priors[0], options)
        answers = []
        for prior, checkpoint in zip(priors, checkpoints, strict=True):
            watch = stage(f"filling with {Path(checkpoint).name}", slots)
            with _on_error(checkpoint, options.n):
                answers.append(
                    Answer.of(
                        prior,
                        text,
                        options.n,
                        constraint=constraint,
                        checkpoint=checkpoint,
                        seed=seed,
                        tempering=tempering,
                        particles=options.particles,
                        target=target,
                        target_checkpoint=folder,
                        watch=watch,
                    )
                )
    return answers


def _target(checkpoint: str, prior: Prior, options: argparse.Namespace) -> tuple[Prior | None, str | None]:
    """What weighs draws, and its folder: the model named, the prior itself where it has a joint, or its twin."""
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

    rules: list[Evidence] = [Contains(options.contains)] if options.contains else []
    rules += [Excludes(options.excludes)] if options.excludes else []
    rules += [Regex(options.regex)] if options.regex is not None else []
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
    add("--seed", type=whole(0), metavar="N", help="of the random numbers; by default drawn and printed")
    add("--checkpoint", metavar="FOLDER", help="the model (default: the one that comes with textdiff)")
    add("--policy", metavar="NAME", help="which tokens to reveal in each step (default: strided)")
    add(
        "--steps",
        type=whole(1),
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
    add("--top-k", type=whole(1), metavar="N", help="draw only from so many likeliest tokens (default: all)")
    add(
        "--join",
        nargs="?",
        const=True,
        metavar="FOLDER",
        help="fill token by token, together with the autoregressive twin: likelier fills, more passes",
    )
    add(
        "--particles",
        type=whole(1),
        metavar="N",
        help="each fill is one of N draws, by weight towards the twin, which judges the whole text: better fills",
    )
    add("--target", metavar="FOLDER", help="what weighs the draws of --particles in place of the twin")
    add("--contains", action="append", default=[], metavar="WORD", help="the first fill contains this word; repeat it")
    add("--excludes", action="append", default=[], metavar="WORD", help="the first fill does not contain this word")
    add("--regex", metavar="PATTERN", help="the first fill matches this regular expression from beginning to end")
    add("--question", metavar="TEXT", help="fill the rationale and the answer of a question, in place of a text")
    add("--answer", metavar="TEXT", help="the answer of --question: fill its rationale alone")
    add("--baseline", nargs="?", const=True, metavar="FOLDER", help="show the autoregressive twin's answer beside it")
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
        return str(Question(options.question, answer=options.answer).template)
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
        return str(text)
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

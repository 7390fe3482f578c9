"""The command line: fill gaps, train, export, evaluate, audit."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, final

from textdiff.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from textdiff.priors import Prior
    from textdiff.report import Answer
    from textdiff.samplers import Watch

HELP = """\
textdiff fills in missing text by masked discrete diffusion, and says how likely each fill is.

Commands:
  infill      fill the gaps of a text
  fit         train a prior, or its autoregressive twin, as a YAML file says
  validate    measure a training run on held-out text
  test        the same, on test text
  predict     run a trained model over text
  export      turn a training run into a checkpoint that infill reads
  evaluate    compare a prior with its autoregressive twin on held-out text
  audit       measure how far a prior's fills are from an exact posterior

Examples:
  textdiff infill "Lily lost her red ball. [gap] She was happy again." --n 4 --seed 0
  textdiff infill "The [gap:1-3] dog ran to [gap:5]." --show-steps
  textdiff infill - --json < story.txt
  textdiff fit --config configs/stories.yaml

textdiff COMMAND --help tells a command's options, textdiff --version the version.
"""

INFILL_NOTES = """\
gaps:
  [gap]       1 to 32 tokens (a token is a short word or a part of one)
  [gap:12]    exactly 12 tokens
  [gap:4-16]  4 to 16 tokens
  \\[gap]      the text "[gap]" itself

examples:
  textdiff infill "Lily lost her red ball. [gap] She was happy again." --n 4 --seed 0
  textdiff infill "Tom had a [gap:2]. He liked to [gap:3-8]." --policy entropy --steps 4
  textdiff infill "Lily lost her ball. [gap] She was happy." --baseline
  textdiff infill - --json < story.txt
"""

AUDIT_NOTES = """\
examples:
  textdiff audit --world hmm                       what filling several slots at once costs a perfect network
  textdiff audit --world hmm --checkpoint runs/worlds/hmm/last --policies strided:6,entropy:6 --methods
  textdiff audit --checkpoint stories --target stories-ar valid.txt --gap-length 8
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit status: 0; 2 after one line on standard error for a mistake of the user; 130 after Ctrl-C; 141 when
        the reader of standard output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        return 141
    except (UserError, OSError) as error:
        return _complain(str(error), 2)


def _run(arguments: list[str]) -> int:
    from textdiff import __version__

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        return _write(HELP)
    if command == "--version":
        return _write(f"textdiff {__version__}\n")
    if command in COMMANDS:
        return COMMANDS[command](arguments if command in LIGHTNING else rest)
    if "[gap" in command:
        raise UserError(f'{command!r} is no command: write textdiff infill "..." to fill its gaps')
    kind = "option" if command.startswith("-") else "command"
    raise UserError(
        f"{command!r} is no {kind}: {_nearest(command, [*COMMANDS, '--help', '--version'], 'expected one of ')}"
    )


def _infill(arguments: list[str]) -> int:
    parser = _infill_parser()
    options = parser.read(arguments)
    if options.help:
        return _write(parser.format_help() + _policies())
    text = _text(options)
    seed = secrets.randbelow(2**32) if options.seed is None else options.seed
    first, *others = answers = _answers(text, seed, options)
    if options.json:
        baseline = others[0].as_json(options.show_steps) if others else None
        answer = {"text": text, **first.as_json(options.show_steps), "baseline": baseline}
        return _write(json.dumps(answer, ensure_ascii=False) + "\n")

    from rich.console import Console

    from textdiff.report import show

    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(show(answers, console.width, plain=console.color_system is None, steps=options.show_steps))
        if options.seed is None:
            console.print(f"the seed was drawn; repeat with --seed {seed}")
    return _write("".join(f"{line.rstrip()}\n" for line in capture.get().splitlines()))


def _answers(text: str, seed: int, options: argparse.Namespace) -> list[Answer]:
    """The answer of the checkpoint, and of the baseline if one is wanted."""
    from textdiff.priors import shipped
    from textdiff.report import Answer
    from textdiff.samplers import by_name
    from textdiff.text import Template

    # Mistakes in the options come to light before a model is read.
    slots = options.n * sum(gap.maximum for gap in Template.parse(text).gaps)
    if options.policy is not None:
        by_name(options.policy, options.steps)
    checkpoints = [str(shipped("stories")) if options.checkpoint is None else options.checkpoint]
    if options.baseline is not None:
        checkpoints.append(_twin(checkpoints[0]) if options.baseline is True else options.baseline)

    with _progress() as stage:
        priors = [_load(checkpoint) for checkpoint in checkpoints]
        if options.policy is not None or options.steps is not None:
            priors[0] = priors[0].with_policy(options.policy, options.steps)
        draws = {"seed": seed, "temperature": options.temperature, "top_p": options.top_p}
        answers = []
        for prior, checkpoint in zip(priors, checkpoints, strict=True):
            watch = stage(f"filling with {Path(checkpoint).name}", slots)
            with _blamed_on(checkpoint, options.n):
                answers.append(Answer.of(prior, text, options.n, checkpoint=checkpoint, **draws, watch=watch))
    return answers


def _policies() -> str:
    """What the help says of policies; their modules take too long to import for anybody else."""
    from textdiff.samplers import POLICIES

    return "\npolicies (and what their log q is):\n" + "".join(f"  {n:<19} {p.kind}\n" for n, p in POLICIES.items())


def _infill_parser() -> Parser:
    parser = Parser("textdiff infill", "Fill the gaps of a text.", INFILL_NOTES)
    add = parser.add_argument
    add("text", nargs="?", help='the text, with [gap] where some is missing; "-" reads it from standard input')
    add("--n", type=_whole(1), default=1, metavar="N", help="number of fills, drawn independently (default 1)")
    add("--seed", type=_whole(0), metavar="N", help="of the random numbers; by default drawn and printed")
    add("--checkpoint", metavar="FOLDER", help="the model (default: the one that comes with textdiff)")
    add("--policy", metavar="NAME", help="which tokens to reveal in each step (default: strided)")
    add("--steps", type=_whole(1), metavar="N", help="most steps of the policy; fewer are faster and less faithful")
    add(
        "--temperature",
        type=_number(0, math.inf),
        default=1.0,
        metavar="X",
        help="below 1 draws likelier tokens (default 1)",
    )
    add("--top-p", type=_number(0, 1), default=1.0, metavar="P", help="draw only from so much probability (default 1)")
    add("--baseline", nargs="?", const=True, metavar="FOLDER", help="show the autoregressive twin's answer beside it")
    add("--show-steps", action="store_true", help="show which tokens each step revealed")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


def _text(options: argparse.Namespace) -> str:
    """The text that was asked about."""
    text, baseline = options.text, options.baseline
    if text is None and isinstance(baseline, str) and ("[gap" in baseline or baseline == "-"):
        text, options.baseline = baseline, True  # a text that stands where --baseline takes a folder
    if text is None:
        raise UserError('there is no text: give it in quotes, "... [gap] ...", or - to read it from standard input')
    if text != "-":
        return str(text)
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 (byte {error.start}): convert it first") from error


def _twin(checkpoint: str) -> str:
    """The autoregressive twin that belongs to a checkpoint: a folder beside it, or one that comes with textdiff."""
    from textdiff.priors import shipped

    twin = f"{Path(checkpoint)}-ar"
    if Path(twin).is_dir():
        return twin
    try:
        return str(shipped(twin))
    except UserError:
        raise UserError(f"there is no autoregressive twin at {twin!r}: name its folder, --baseline FOLDER") from None


def _load(checkpoint: str) -> Prior:
    from transformers.utils import logging

    from textdiff.priors import load

    logging.set_verbosity_error()
    return load(checkpoint)


@contextmanager
def _blamed_on(checkpoint: str, n: int) -> Iterator[None]:
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


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Watch]]:
    """A bar on standard error, if that is a terminal; it is gone when the answer comes.

    Yields:
        Begins a stage of so many slots; what it returns is called with the slots that each step fills.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("reading the model", total=None)

        def stage(description: str, slots: int) -> Watch:
            progress.reset(task, description=description, total=slots)

            def watch(tokens: Tensor, revealed: Tensor) -> None:
                progress.advance(task, int(revealed.sum()))

            return watch

        yield stage


def _export(arguments: list[str]) -> int:
    parser = Parser("textdiff export", "Turn a training run into a checkpoint folder that textdiff infill reads.")
    parser.add_argument("run", metavar="RUN.ckpt", help="a checkpoint of textdiff fit; averaged weights are taken")
    parser.add_argument("--tokenizer", metavar="FOLDER", required=True, help="the tokenizer of the run, or world:NAME")
    parser.add_argument("--to", metavar="FOLDER", required=True, help="where to write config, weights and tokenizer")
    options = parser.read(arguments)
    if options.help:
        return _write(parser.format_help())
    of_world = options.tokenizer.startswith("world:")
    if not of_world and not Path(options.tokenizer).is_dir():
        raise UserError(f"there is no folder {options.tokenizer!r}: give the one that data.tokenizer of the run names")

    from transformers.utils import logging

    from textdiff.priors import world
    from textdiff.text import load_tokenizer
    from textdiff.training import export

    logging.disable_progress_bar()
    name = options.tokenizer.removeprefix("world:")
    export(options.run, world(name).tokenizer if of_world else load_tokenizer(name), options.to)
    return _write(f'wrote {options.to}: textdiff infill "... [gap] ..." --checkpoint {options.to}\n')


def _evaluate(arguments: list[str]) -> int:
    parser = Parser("textdiff evaluate", "Compare a prior with its autoregressive twin on held-out text, as Markdown.")
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text: .txt, .jsonl or .parquet")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: the one that comes with textdiff)")
    add("--twin", metavar="FOLDER", help="its autoregressive twin (default: the folder beside it that ends in -ar)")
    add("--gaps", type=_whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--gap-length", type=_whole(1), default=32, metavar="N", help="tokens in a gap (default 32)")
    add("--texts", type=_whole(2), default=64, metavar="N", help="number of whole texts (default 64)")
    add(
        "--policies",
        default="strided:32,strided:16,strided:8,strided:4",
        metavar="LIST",
        help="NAME:STEPS or NAME, ...",
    )
    add("--seed", type=_whole(0), default=0, metavar="N", help="of the gaps' places and of the noise (default 0)")
    add("--fills", type=_whole(0), default=0, metavar="N", help="also fill a sentence of the first N texts")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    if options.help:
        return _write(parser.format_help())
    if not options.files:
        raise UserError("there is no text to measure on: name a file of held-out text")
    from textdiff.priors import shipped

    checkpoint = str(shipped("stories")) if options.checkpoint is None else options.checkpoint
    policies = [_paced(word) for word in options.policies.split(",")]
    prior, twin = _load(checkpoint), _load(options.twin or _twin(checkpoint))

    from textdiff.report.held_out import held_out, unpicked_fills

    counts = {"gaps": options.gaps, "gap_length": options.gap_length, "texts": options.texts, "seed": options.seed}
    report = held_out(prior, twin, options.files, policies=policies, progress=_told, **counts)
    if options.json:
        return _write(report.json() + "\n")
    fills = unpicked_fills(prior, options.files, options.fills, options.seed)
    return _write("\n\n".join([str(report), *fills]) + "\n")


def _audit(arguments: list[str]) -> int:
    parser = Parser("textdiff audit", "Measure how far a prior's fills are from an exact posterior.", AUDIT_NOTES)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help="held-out text, with --target")
    add("--world", metavar="NAME", help="the world whose posterior is the truth: hmm, grammar or arithmetic")
    add("--target", metavar="FOLDER", help="or: an autoregressive prior whose posterior is aimed at, with weights")
    add("--checkpoint", metavar="FOLDER", help="the prior (default: a world's perfect network, or the shipped one)")
    add("--policies", metavar="LIST", help="NAME:STEPS or NAME, ... (default: all of them)")
    add("--methods", action="store_true", help="also repair each of the policies by weights, particles and chains")
    add("--gaps", type=_whole(2), default=100, metavar="N", help="number of gaps (default 100)")
    add("--gap-length", type=_whole(1), default=12, metavar="N", help="tokens in a gap (default 12)")
    add("--draws", type=_whole(16), default=64, metavar="N", help="fills of each gap (default 64)")
    add("--seed", type=_whole(0), default=0, metavar="N", help="of everything (default 0)")
    add("--to", metavar="FOLDER", help="write audit.md, audit.json and, of a world, audit.png there")
    add("--json", action="store_true", help="print one JSON object and nothing else")
    options = parser.read(arguments)
    if options.help:
        return _write(parser.format_help())
    if (options.world is None) == (options.target is None):
        raise UserError("name the truth: either --world NAME or --target FOLDER FILE")
    policies = None if options.policies is None else [_paced(word) for word in options.policies.split(",")]
    if options.to is not None:  # before minutes of work, not after them
        Path(options.to).mkdir(parents=True, exist_ok=True)
    found = _audit_world(options, policies) if options.world is not None else _audit_target(options, policies)
    if options.to is not None:
        folder = Path(options.to)
        (folder / "audit.md").write_text(f"{found}\n", encoding="utf-8")
        (folder / "audit.json").write_text(found.json() + "\n", encoding="utf-8")
        if options.world is not None:
            found.figure().savefig(folder / "audit.png", dpi=120)
    return _write((found.json() if options.json else str(found)) + "\n")


def _audit_world(options: argparse.Namespace, policies: Sequence[tuple[str, int | None]] | None) -> Any:
    from textdiff.inference import SMC, Importance, MetropolisHastings, ParticleGibbs
    from textdiff.priors import DiffusionPrior, world
    from textdiff.report import audit, gap

    if options.files:
        raise UserError(f"unexpected {options.files[0]!r}: a world writes its own texts, files go with --target")
    truth = world(options.world)
    prior = None if options.checkpoint is None else _load(options.checkpoint)
    if prior is not None and not isinstance(prior, DiffusionPrior):
        raise UserError(f"{options.checkpoint!r} is autoregressive: an audit is of a diffusion prior's policies")
    policies = gap.POLICIES if policies is None else policies
    repairs = (Importance(), SMC(), ParticleGibbs(), MetropolisHastings())
    methods = {
        f"{type(method).__name__}, {':'.join(map(str, filter(None, policy)))}": (method, policy)
        for policy in (policies if options.methods else ())
        for method in repairs
    }
    counts = {"gaps": options.gaps, "gap_length": options.gap_length, "draws": options.draws, "seed": options.seed}
    return audit(prior, truth, policies=policies, methods=methods, progress=_told, **counts)


def _audit_target(options: argparse.Namespace, policies: Sequence[tuple[str, int | None]] | None) -> Any:
    from textdiff.priors import TractablePrior, shipped

    if not options.files:
        raise UserError("there is no text to measure on: name a file of held-out text")
    if options.methods:
        raise UserError("--methods goes with --world: towards another target the weights are the method")
    prior: Prior = _load(str(shipped("stories")) if options.checkpoint is None else options.checkpoint)
    target = _load(options.target)
    if not isinstance(target, TractablePrior):
        raise UserError(f"{options.target!r} has no exact joint probability: name an autoregressive prior")
    if policies is not None:
        if len(policies) != 1:
            raise UserError("with --target name one policy, such as --policies strided:16")
        prior = prior.with_policy(*policies[0])

    from textdiff.data import documents, held_out_gaps
    from textdiff.data.corpus import in_memory
    from textdiff.report import audit_weights

    corpus = in_memory(documents(options.files), prior.tokenizer)
    longest = prior.context or 512
    counts = {"count": options.gaps, "gap": options.gap_length, "longest": longest, "seed": options.seed}
    items = held_out_gaps(corpus, prior.vocabulary, **counts)
    if not items:
        raise UserError(f"no text of {', '.join(options.files)} has room for a gap of {options.gap_length} tokens")
    return audit_weights(prior, target, items, draws=options.draws, seed=options.seed, progress=_told)


def _told(stage: str) -> None:
    """Tell what is done next, if somebody is watching."""
    if sys.stderr.isatty():
        print(f"textdiff: {stage}", file=sys.stderr)


def _paced(word: str) -> tuple[str, int | None]:
    """A policy and its steps, written `strided:8` or `threshold`."""
    from textdiff.samplers import by_name

    name, _, steps = word.strip().partition(":")
    if steps and not steps.isdecimal():
        raise UserError(f"policy {word!r} has no number of steps behind its colon: write it like strided:8")
    by_name(name, int(steps) if steps else None)
    return name, int(steps) if steps else None


def _lightning(arguments: list[str]) -> int:
    from textdiff.training.lightning_cli import run

    return run(arguments)


LIGHTNING = ("fit", "validate", "test", "predict")
COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "infill": _infill,
    **dict.fromkeys(LIGHTNING, _lightning),
    "export": _export,
    "evaluate": _evaluate,
    "audit": _audit,
}


@final
class Parser(argparse.ArgumentParser):
    """Options of a command; a mistake is a `UserError`, and near misses are recognised."""

    def __init__(self, command: str, purpose: str, notes: str | None = None) -> None:
        super().__init__(
            command, description=purpose, epilog=notes, formatter_class=_page, allow_abbrev=False, add_help=False
        )
        self.add_argument("-h", "--help", action="store_true", help="show this page")

    def read(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse the arguments; where they ask for help, nothing else matters.

        Raises:
            UserError: an option that there is not, a value that does not fit, or too many words.
        """
        if {"-h", "--help"} & set(arguments):
            return argparse.Namespace(help=True)
        options, unknown = self.parse_known_args(arguments)
        if not unknown:
            return options
        known = [name for action in self._actions for name in action.option_strings]
        for word in unknown:
            if word.startswith("-") and word != "--":
                name = word.partition("=")[0]
                raise UserError(f"there is no option {name!r}: {_nearest(name, known, 'there are ')}")
        raise UserError(f"unexpected {unknown[0]!r}: put the whole text in one pair of quotes")

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has to complain of."""
        raise UserError(f"{message.removeprefix('argument ')} (see {self.prog} --help)")


def _page(prog: str) -> argparse.HelpFormatter:
    """Lines as they were written, and none too long to read."""
    return argparse.RawDescriptionHelpFormatter(prog, width=min(100, shutil.get_terminal_size().columns))


def _nearest(word: str, known: Iterable[str], otherwise: str) -> str:
    names = list(known)
    close = get_close_matches(word, names, 1)
    return f"did you mean {close[0]!r}?" if close else otherwise + ", ".join(names)


def _whole(least: int) -> Callable[[str], int]:
    """Reads a whole number, `least` or more, that fits in 63 bits."""

    def read(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or not least <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"expected a whole number, {least} or more, got {text!r}")
        return int(text)

    return read


def _number(above: float, most: float) -> Callable[[str], float]:
    """Reads a finite number above `above`, at most `most`."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (above < value <= most and math.isfinite(value)):
            limit = "" if most == math.inf else f", at most {most:g}"
            raise argparse.ArgumentTypeError(f"expected a number above {above:g}{limit}, got {text!r}")
        return value

    return read


def _write(text: str) -> int:
    """Print to standard output."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        # What is left in the buffer must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
    return 0


def _complain(message: str, status: int) -> int:
    print(f"textdiff: {' '.join(message.split())}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

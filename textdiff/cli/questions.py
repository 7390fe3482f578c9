"""`textdiff questions`: how often a prior answers questions rightly."""

from __future__ import annotations

from itertools import islice

from textdiff.cli.checkpoints import add_network_options, load
from textdiff.cli.output import add_json, publish
from textdiff.cli.parser import SEED, Parser, whole
from textdiff.cli.terminal import report_progress, write
from textdiff.errors import UserError

NOTES = """\
A source holds texts of question, rationale and answer, one line each:
  world:arithmetic-3:100:9        100 worked sums of 3 operands, seed 9
  questions:FILE.jsonl            fields question, rationale, answer; or the rationale before "####" in the answer

examples:
  textdiff questions world:arithmetic-4:200:9 --checkpoint arithmetic
"""


def run(arguments: list[str]) -> int:
    """Ask and print; returns the exit status."""
    parser = Parser("textdiff questions", "Ask questions, and compare the answers with the right ones.", NOTES)
    add = parser.add_argument
    add("source", nargs="?", metavar="SOURCE", help="where the questions are")
    add("--checkpoint", default="arithmetic", metavar="FOLDER", help="the prior (default: arithmetic)")
    add("--policy", metavar="NAME", help="which tokens to reveal in each step (default: strided)")
    add("--steps", type=whole(1, 2**31), metavar="N", help="most steps of the policy")
    add("--votes", type=whole(1), default=16, metavar="N", help="posterior samples of each question (default 16)")
    add("--most", type=whole(1), metavar="N", help="ask so many questions at most")
    add("--direct", action="store_true", help="fill in only the answer, without a rationale")
    add_network_options(parser)
    add("--seed", type=SEED, default=0, metavar="N", help="of the samples (default 0)")
    add_json(parser)
    options = parser.read(arguments)
    if options.help:
        return write(parser.format_help())
    if options.source is None:
        raise UserError("there are no questions: name a source, such as world:arithmetic-3:100:9")
    from textdiff.data import documents
    from textdiff.data.sources import check_sources
    from textdiff.evaluation.questions import answer_questions

    check_sources([options.source])
    prior = load(options.checkpoint, options)
    if options.policy is not None or options.steps is not None:
        prior = prior.with_policy(options.policy, options.steps)
    texts = list(islice(documents([options.source]), options.most))
    found = answer_questions(
        prior, texts, votes=options.votes, seed=options.seed, rationale=not options.direct, progress=report_progress
    )
    return publish(found, options, "questions")

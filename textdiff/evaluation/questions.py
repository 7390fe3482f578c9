"""Accuracy of answers to questions: of greedy decoding, of the majority of posterior samples, and of single samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import final

from textdiff.errors import UserError
from textdiff.evaluation.statistics import Interval
from textdiff.evaluation.table import Table
from textdiff.evidence import Question
from textdiff.posterior import CausalJoint, Conditioning, Prior
from textdiff.samplers import Tempering
from textdiff.text import decode, encode

GREEDY = Tempering(temperature=0)


@final
@dataclass(frozen=True)
class Answered:
    """Accuracy on some questions.

    Attributes:
        questions: how many.
        votes: samples of each question that vote.
        greedy, majority, sample: share of right answers of greedy decoding, of the answer that most samples give, and
            of a single sample, with intervals over questions.
        wrong: some questions that the majority answers wrongly: question, right answer, votes.
    """

    questions: int
    votes: int
    greedy: Interval
    majority: Interval
    sample: Interval
    wrong: tuple[tuple[str, str, dict[str, int]], ...]

    def __str__(self) -> str:
        """A table in Markdown."""
        head = [f"{self.questions} questions, % right", "greedy", f"majority of {self.votes}", "one sample"]
        return Table(head, [[share.percent() for share in (self.greedy, self.majority, self.sample)]]).markdown()

    def json(self) -> str:
        """All figures as one JSON object."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)


def answer_questions(
    prior: Prior,
    texts: Sequence[str],
    *,
    votes: int = 16,
    seed: int = 0,
    rationale: bool = True,
    progress: Callable[[str], None] = lambda stage: None,
) -> Answered:
    """Ask the questions of worked texts, and compare the answers with theirs.

    Args:
        prior: fills rationale and answer.
        texts: question, rationale and answer, one line each (see `Question`); two lines without a rationale.
        votes: posterior samples of each question.
        seed: question i draws from `seed + i`.
        rationale: fill in a rationale before the answer; False: only the answer.
        progress: called from time to time with how many questions are done.

    Raises:
        UserError: a text has fewer than two lines, or there is no text.
    """
    if not texts:
        raise UserError("there is no question: name a file, or world:arithmetic-3:100:9")
    greedy, majority, sample, wrong = list[float](), list[float](), list[float](), []
    for number, text in enumerate(texts):
        lines = text.split("\n")
        if len(lines) < 2:
            raise UserError(f"text {number + 1} has one line, expected question, rationale and answer: {text[:60]!r}")
        question, right = lines[0], lines[-1].strip()
        query = Question(question, rationale=None if rationale else "")
        first = _answers(prior, query, 1, GREEDY, seed + number)[0]
        counts = Counter(_answers(prior, query, votes, Tempering(), seed + number))
        chosen = counts.most_common(1)[0][0]
        greedy.append(float(first == right))
        majority.append(float(chosen == right))
        sample.append(counts[right] / votes)
        if chosen != right:
            wrong.append((question, right, dict(counts.most_common(3))))
        if (number + 1) % 10 == 0:
            progress(f"{number + 1} of {len(texts)} questions")
    shares = [Interval.mean(right) for right in (greedy, majority, sample)]
    return Answered(len(texts), votes, shares[0], shares[1], shares[2], tuple(wrong[:20]))


def _answers(prior: Prior, question: Question, n: int, tempering: Tempering, seed: int) -> list[str]:
    """Answers to a question; an autoregressive prior continues it to the end, whatever the length."""
    if isinstance(prior, CausalJoint):
        asked = str(question.template.parts[0])
        room = len(encode(prior.tokenizer, asked)) + sum(gap.maximum for gap in question.template.gaps) + 4
        rows = prior.simulate(n, seed, room, asked, tempering)
        return [decode(prior.tokenizer, row.tolist()).removeprefix(asked).split("\n")[-1].strip() for row in rows]
    drawn = prior.given(question).sample(n, Conditioning(tempering), generator=seed)
    return [found.fills[-1].strip() for found in drawn]

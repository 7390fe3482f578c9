"""How often questions are answered rightly: by the likeliest tokens, and by the majority of posterior samples."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from textdiff.errors import UserError
from textdiff.evaluation.comparison import Interval, mean
from textdiff.evidence import Question
from textdiff.posterior import CausalJoint, Conditioning, Prior
from textdiff.samplers import Tempering
from textdiff.text import decode, encode

GREEDY = Tempering(temperature=0)


@dataclass(frozen=True)
class Answered:
    """What became of some questions.

    Attributes:
        questions: how many.
        votes: samples of each question that vote.
        greedy, majority, sample: share of right answers of the likeliest tokens, of the answer that most samples give,
            and of a single sample, with 95 % bootstrap intervals over questions.
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
        shares = (self.greedy, self.majority, self.sample)
        told = " | ".join(f"{100 * s.value:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in shares)
        head = f"| {self.questions} questions, % right | greedy | majority of {self.votes} | one sample |"
        return f"{head}\n|---|---|---|---|\n| | {told} |"

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
        texts: question, rationale and answer, a line each (see `Question`); without a rationale two lines.
        votes: posterior samples of each question.
        seed: question i draws from `seed + i`.
        rationale: seek a rationale before the answer; False: only the answer.
        progress: told how far it is.

    Raises:
        UserError: a text has not so many lines, or there is none.
    """
    if not texts:
        raise UserError("there is no question: name a file, or world:arithmetic-3:100:9")
    greedy, majority, sample, wrong = list[float](), list[float](), list[float](), []
    for number, text in enumerate(texts):
        lines = text.split("\n")
        if len(lines) < 2:
            raise UserError(f"text {number + 1} has one line, expected question, rationale and answer: {text[:60]!r}")
        question, right = lines[0], lines[-1].strip()
        asked = Question(question, rationale=None if rationale else "")
        first = _answers(prior, asked, 1, GREEDY, seed + number)[0]
        counts = Counter(_answers(prior, asked, votes, Tempering(), seed + number))
        chosen = counts.most_common(1)[0][0]
        greedy.append(float(first == right))
        majority.append(float(chosen == right))
        sample.append(counts[right] / votes)
        if chosen != right:
            wrong.append((question, right, dict(counts.most_common(3))))
        if (number + 1) % 10 == 0:
            progress(f"{number + 1} of {len(texts)} questions")
    return Answered(len(texts), votes, mean(greedy), mean(majority), mean(sample), tuple(wrong[:20]))


def _answers(prior: Prior, question: Question, n: int, tempering: Tempering, seed: int) -> list[str]:
    """Answers to a question; an autoregressive prior writes on from it to the end, as long as it likes."""
    if isinstance(prior, CausalJoint):
        asked = str(question.template.parts[0])
        room = len(encode(prior.tokenizer, asked)) + sum(gap.maximum for gap in question.template.gaps) + 4
        rows = prior.simulate(n, seed, room, asked, tempering)
        return [decode(prior.tokenizer, row.tolist()).removeprefix(asked).split("\n")[-1].strip() for row in rows]
    drawn = prior.given(question).sample(n, Conditioning(tempering), generator=seed)
    return [found.fills[-1].strip() for found in drawn]

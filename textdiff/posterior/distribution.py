"""The sampler and the scores of a prior: what a posterior needs of the distributions that it is made of."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Generator, Tensor
from transformers import PreTrainedTokenizerBase

from textdiff.errors import UserError
from textdiff.samplers import NEUTRAL, LogProbKind, Randomness, Tempering, Trajectory, Watch
from textdiff.text import Canvas, Template, Vocabulary

MOST_LENGTH = 2**13
"""Tokens of a text for distributions without a limit of their own; so much is laid out whatever the context is."""
MOST_CHARACTERS = 2**16
"""Of known text that is tokenised whatever the context is."""
CHARACTERS_PER_TOKEN = 64
"""More than any text has; known text that is longer is not tokenised to find that it is too long."""


class TextDistribution(ABC):
    """A distribution over texts that fills the gaps of a canvas and scores given fills.

    It is the part of a `Prior` that posteriors and inference methods call. What only some of them can do are the
    protocols of `textdiff.posterior.capabilities`.

    Attributes:
        tokenizer: text <-> ids.
        vocabulary: special ids and properties of tokens.
    """

    tokenizer: PreTrainedTokenizerBase
    vocabulary: Vocabulary

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where its tensors live."""

    @property
    @abstractmethod
    def context(self) -> int | None:
        """The longest text that it takes, in tokens; None: any."""

    @property
    @abstractmethod
    def kind(self) -> LogProbKind:
        """In what sense `sample` knows the log-probability of its draws."""

    @property
    @abstractmethod
    def label(self) -> str:
        """How samples are drawn, in a few words."""

    @property
    @abstractmethod
    def sees_suffix(self) -> bool:
        """Whether the fill of a gap depends on the text after it."""

    @abstractmethod
    def sample(
        self,
        canvas: Canvas,
        generator: Randomness,
        *,
        tempering: Tempering = NEUTRAL,
        watch: Watch | None = None,
    ) -> Trajectory:
        """Fill each row of a canvas once; `generator` may be a seed for each row, int64 `[batch]`."""

    @abstractmethod
    def score(
        self,
        canvas: Canvas,
        tokens: Tensor,
        *,
        tempering: Tempering = NEUTRAL,
        generator: Generator | None = None,
    ) -> Trajectory:
        """Log-probability that `sample` would have filled `canvas` with the complete `tokens [batch, length]`.

        `generator` draws the order, for samplers that draw one.
        """

    @abstractmethod
    def log_density(self, canvas: Canvas, tokens: Tensor) -> tuple[Tensor, int]:
        """The log-density as a target, in nats `[batch]` float64, and the forward passes it took.

        The exact joint of the complete `tokens [batch, length]` where there is one (`ExactJoint`), else the probability
        that the sampler fills `canvas` with them.

        Raises:
            UserError: there is neither.
        """

    @abstractmethod
    def log_partial(self, tokens: Tensor, masked: Tensor) -> tuple[Tensor, Tensor] | None:
        """The joint of the tokens that are known so far in partly filled texts `[batch, length]`.

        Returns:
            The log-probability of some of the tokens, in nats `[batch]` float64, and which those are, bool
            `[batch, length]`; None: nothing is known before a text is complete.
        """

    def check_template(self, template: Template) -> None:
        """Check, before it is tokenised, whether a template may fit into the context.

        Raises:
            UserError: its gaps alone take far more tokens, or its known text cannot fit.
        """
        room = MOST_LENGTH if self.context is None else self.context
        if len(template.gaps) > room or template.slots > max(room, MOST_LENGTH):
            raise UserError(
                f"the gaps of the text take {template.slots} tokens, and the model reads at most {room}: shorten them, "
                "e.g. [gap:1-16]"
            )
        if template.characters > max(MOST_CHARACTERS, CHARACTERS_PER_TOKEN * room):
            raise UserError(
                f"the text has {template.characters} characters, and the model reads at most {room} tokens: shorten it"
            )

    def check_canvas(self, canvas: Canvas) -> None:
        """Check that a canvas fits into the context, and holds what a canvas may hold.

        Raises:
            UserError: it does not.
        """
        length, room = canvas.tokens.shape[1], MOST_LENGTH if self.context is None else self.context
        if length > room:
            slots = int(canvas.slots.sum())
            raise UserError(
                f"the text takes {length} tokens, {slots} of them in gaps, and the model reads at most {room}: "
                "shorten the text or its gaps, e.g. [gap:1-16]"
            )
        canvas.check(self.vocabulary.size, self.vocabulary.mask)

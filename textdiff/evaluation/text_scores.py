"""Scores of text by a model of the user's choice: BERTScore and MAUVE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor

from textdiff.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class TextScore(ABC):
    """A score of fills against the true texts, for `textdiff.evaluation.compare`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Its name in the tables."""

    @abstractmethod
    def __call__(self, fills: Sequence[str], truths: Sequence[str]) -> list[float]:
        """One number for each fill, or a single number for all of them."""


@final
@dataclass(frozen=True)
class BertScore(TextScore):
    """F1 of the best matches of contextual embeddings (arXiv:1904.09675), from torchmetrics; not rescaled.

    Args:
        model: folder or Hub name of an encoder.
        layers: number of the hidden layer that is compared; None: the last.

    Raises:
        UserError: when it is called: no such model.
    """

    model: str
    layers: int | None = None

    @property
    def name(self) -> str:
        """BERTScore."""
        return "BERTScore"

    def __call__(self, fills: Sequence[str], truths: Sequence[str]) -> list[float]:
        """F1 of each fill, 0 for an empty one."""
        from torchmetrics.functional.text import bert_score

        encoder, tokenizer = _loaded(self.model)
        pairs = [(fill, truth) for fill, truth in zip(fills, truths, strict=True) if fill and truth]
        if not pairs:
            return [0.0] * len(fills)
        last, most = encoder.config.num_hidden_layers, encoder.config.max_position_embeddings - 2
        layers = last if self.layers is None else self.layers
        if not 0 <= layers <= last:
            raise UserError(f"BertScore: layers is {layers}, and {self.model!r} has {last}")
        found = bert_score(
            [fill for fill, _ in pairs],
            [truth for _, truth in pairs],
            model=encoder,
            user_tokenizer=_Padding(tokenizer),
            user_forward_fn=lambda model, batch: model(
                batch["input_ids"], attention_mask=batch["attention_mask"], output_hidden_states=True
            ).hidden_states[layers],
            max_length=most,
        )
        scores = iter(torch.as_tensor(found["f1"]).flatten().tolist())
        return [next(scores) if fill and truth else 0.0 for fill, truth in zip(fills, truths, strict=True)]


@final
@dataclass(frozen=True)
class Mauve(TextScore):
    """Area under the divergence frontier of fills and true texts, 0 to 1 (arXiv:2102.01454), by mauve-text.

    It takes hundreds of texts to be meaningful. The features are the mean of the model's last hidden states.

    Args:
        model: folder or Hub name of a language model or encoder.
        clusters: of the features; None: a tenth of the texts.
        seed: of the clustering.

    Raises:
        UserError: when it is called: no such model, or mauve-text is not installed.
    """

    model: str
    clusters: int | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        """MAUVE."""
        return "MAUVE"

    def __call__(self, fills: Sequence[str], truths: Sequence[str]) -> list[float]:
        """A single number for all fills."""
        try:
            from mauve import compute_mauve
        except ImportError as error:
            raise UserError("MAUVE needs the package mauve-text: pip install 'textdiff[mauve]'") from error
        encoder, tokenizer = _loaded(self.model)
        features = [_features(encoder, tokenizer, texts).numpy() for texts in (truths, fills)]
        clusters = "auto" if self.clusters is None else self.clusters
        found = compute_mauve(
            p_features=features[0], q_features=features[1], num_buckets=clusters, seed=self.seed, verbose=False
        )
        return [float(found.mauve)]


@dataclass(frozen=True)
class _Padding:
    """A tokenizer with the signature that torchmetrics calls."""

    tokenizer: PreTrainedTokenizerBase

    def __call__(self, texts: list[str], max_length: int = 512, **options: Any) -> dict[str, Tensor]:
        found = self.tokenizer(texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt")
        return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}


@torch.no_grad()
def _features(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], at_once: int = 32
) -> Tensor:
    """Mean of the last hidden states of each text, `[texts, width]`; zero for an empty one."""
    rows = []
    for start in range(0, len(texts), at_once):
        batch = _Padding(tokenizer)(list(texts[start : start + at_once]), encoder.config.max_position_embeddings - 2)
        states = encoder(batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state.float()
        held = batch["attention_mask"][..., None]
        rows.append((states * held).sum(dim=1) / held.sum(dim=1).clamp(min=1))
    return torch.cat(rows)


def _loaded(model: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoModel, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model)
        encoder = AutoModel.from_pretrained(model).eval()
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"no model at {model!r} ({reason}): give the folder or the Hub name of one") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return encoder, tokenizer

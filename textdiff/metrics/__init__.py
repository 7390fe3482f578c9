"""Metrics: likelihood as torchmetrics, n-gram overlap of fills as functions."""

from textdiff.metrics.likelihood import BitsPerCharacter, NatsPerToken
from textdiff.metrics.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu

__all__ = [
    "BitsPerCharacter",
    "NatsPerToken",
    "distinct",
    "rouge_l",
    "self_bleu",
    "sentence_bleu",
    "sentence_gleu",
]

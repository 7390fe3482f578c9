"""Metrics: likelihood as torchmetrics, n-gram overlap of fills as functions, scores by a model of the user."""

from textdiff.metrics.likelihood import BitsPerCharacter, NatsPerToken
from textdiff.metrics.models import BertScore, Mauve, TextScore
from textdiff.metrics.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu

__all__ = [
    "BertScore",
    "BitsPerCharacter",
    "Mauve",
    "NatsPerToken",
    "TextScore",
    "distinct",
    "rouge_l",
    "self_bleu",
    "sentence_bleu",
    "sentence_gleu",
]

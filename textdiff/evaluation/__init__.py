"""Evaluation: held-out figures, comparisons, audits of the amortization gap, lengths, speed, text metrics."""

from textdiff.evaluation.audit import audit, audit_weights, world_items
from textdiff.evaluation.audit_results import Audit, Weights
from textdiff.evaluation.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu
from textdiff.evaluation.text_scores import BertScore, Mauve, TextScore

__all__ = [
    "Audit",
    "BertScore",
    "Mauve",
    "TextScore",
    "Weights",
    "audit",
    "audit_weights",
    "distinct",
    "rouge_l",
    "self_bleu",
    "sentence_bleu",
    "sentence_gleu",
    "world_items",
]

"""Evaluation: held-out figures, comparisons, audits of the amortization gap, lengths, speed, text metrics."""

from textdiff.evaluation.audit import audit, audit_weights
from textdiff.evaluation.audit_results import Audit, WeightAudit
from textdiff.evaluation.overlap import distinct, rouge_l, self_bleu, sentence_bleu, sentence_gleu
from textdiff.evaluation.statistics import Estimate, Interval
from textdiff.evaluation.text_scores import BertScore, Mauve, TextScore
from textdiff.evaluation.world_items import world_items

__all__ = [
    "Audit",
    "BertScore",
    "Estimate",
    "Interval",
    "Mauve",
    "TextScore",
    "WeightAudit",
    "audit",
    "audit_weights",
    "distinct",
    "rouge_l",
    "self_bleu",
    "sentence_bleu",
    "sentence_gleu",
    "world_items",
]

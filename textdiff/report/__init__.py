"""What people look at: answers in a terminal, the denoising step by step, fills in their places, audits.

`held_out`, `compare` and `settings` are imported by name: they need the data room, and with it Lightning.
"""

from textdiff.report.answer import Answer
from textdiff.report.findings import Audit, Weights
from textdiff.report.gap import audit, audit_weights, world_items
from textdiff.report.terminal import show
from textdiff.report.viewer import Denoising, Recorder, Token, denoising_html, fills_html

__all__ = [
    "Answer",
    "Audit",
    "Denoising",
    "Recorder",
    "Token",
    "Weights",
    "audit",
    "audit_weights",
    "denoising_html",
    "fills_html",
    "show",
    "world_items",
]

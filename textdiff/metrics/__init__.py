"""Metrics, as torchmetrics."""

from textdiff.metrics.likelihood import BitsPerCharacter, NatsPerToken

__all__ = ["BitsPerCharacter", "NatsPerToken"]

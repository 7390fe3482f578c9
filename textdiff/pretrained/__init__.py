"""Checkpoints: load, save, convert, the Hugging Face Hub, and those that come with the package."""

from textdiff.pretrained.hub import model_card, push_to_hub, save
from textdiff.pretrained.load import NetworkPrior, convert, described, load, prior_of, shipped

__all__ = ["NetworkPrior", "convert", "described", "load", "model_card", "prior_of", "push_to_hub", "save", "shipped"]

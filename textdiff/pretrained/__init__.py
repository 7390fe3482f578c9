"""Checkpoints: load, save and convert them; those on the Hugging Face Hub, and those that come with the package."""

from textdiff.pretrained.card import model_card
from textdiff.pretrained.convert import convert
from textdiff.pretrained.load import load
from textdiff.pretrained.network_prior import NetworkPrior, prior_of
from textdiff.pretrained.push import push_to_hub
from textdiff.pretrained.save import save
from textdiff.pretrained.shipped import shipped, tokenizer_folder

__all__ = [
    "NetworkPrior",
    "convert",
    "load",
    "model_card",
    "prior_of",
    "push_to_hub",
    "save",
    "shipped",
    "tokenizer_folder",
]

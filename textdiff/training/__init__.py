"""Training with Lightning: one module for the prior and its twin, optimizers, callbacks, checkpoints."""

from textdiff.training.callbacks import PredictionWriter, SampleFill, Throughput
from textdiff.training.checkpoints import AtomicCheckpointIO, export
from textdiff.training.module import Filling, Network, TextModule
from textdiff.training.optimizers import AdamW, Muon, OptimizerFactory
from textdiff.training.progress import StepBar

__all__ = [
    "AdamW",
    "AtomicCheckpointIO",
    "Filling",
    "Muon",
    "Network",
    "OptimizerFactory",
    "PredictionWriter",
    "SampleFill",
    "StepBar",
    "TextModule",
    "Throughput",
    "export",
]

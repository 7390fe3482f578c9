"""Training with Lightning: modules, optimizers, callbacks, checkpoints, prediction."""

from textdiff.training.callbacks import SampleFill, Throughput
from textdiff.training.checkpoints import AtomicCheckpointIO, export
from textdiff.training.filling import Filling
from textdiff.training.metrics import BitsPerCharacter, NatsPerToken
from textdiff.training.module import Network, TextModule
from textdiff.training.optimizers import AdamW, Muon, OptimizerFactory
from textdiff.training.predictions import PredictionWriter
from textdiff.training.progress import StepBar
from textdiff.training.sharding import RepeatedLayers

__all__ = [
    "AdamW",
    "AtomicCheckpointIO",
    "BitsPerCharacter",
    "Filling",
    "Muon",
    "NatsPerToken",
    "Network",
    "OptimizerFactory",
    "PredictionWriter",
    "RepeatedLayers",
    "SampleFill",
    "StepBar",
    "TextModule",
    "Throughput",
    "export",
]

"""Training with Lightning: pretraining, fine-tuning, optimizers, callbacks, checkpoints, prediction."""

from textdiff.training.callbacks import SampleFill, Throughput
from textdiff.training.checkpoint_files import AtomicCheckpointIO
from textdiff.training.checkpoints import export
from textdiff.training.fill_rows import FillOptions
from textdiff.training.fine_tuning import FineTuningModule
from textdiff.training.metrics import BitsPerCharacter, NatsPerToken
from textdiff.training.module import TrainingModule
from textdiff.training.network import Network
from textdiff.training.optimizers import AdamW, Muon, OptimizerFactory
from textdiff.training.prediction import PredictionModule
from textdiff.training.prediction_writer import PredictionWriter
from textdiff.training.pretraining import PretrainingModule
from textdiff.training.progress import StepBar
from textdiff.training.sharding import RepeatedLayers

__all__ = [
    "AdamW",
    "AtomicCheckpointIO",
    "BitsPerCharacter",
    "FillOptions",
    "FineTuningModule",
    "Muon",
    "NatsPerToken",
    "Network",
    "OptimizerFactory",
    "PredictionModule",
    "PredictionWriter",
    "PretrainingModule",
    "RepeatedLayers",
    "SampleFill",
    "StepBar",
    "Throughput",
    "TrainingModule",
    "export",
]

"""textdiff: fill in missing text by masked discrete diffusion, with honest probabilities."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textdiff.errors import UserError as UserError
    from textdiff.evidence import Contains as Contains
    from textdiff.evidence import Excludes as Excludes
    from textdiff.evidence import Length as Length
    from textdiff.evidence import Likelihood as Likelihood
    from textdiff.evidence import Observed as Observed
    from textdiff.evidence import Ordered as Ordered
    from textdiff.evidence import Question as Question
    from textdiff.evidence import Regex as Regex
    from textdiff.evidence import Reward as Reward
    from textdiff.inference import SMC as SMC
    from textdiff.inference import Beam as Beam
    from textdiff.inference import BestOf as BestOf
    from textdiff.inference import BlockGibbs as BlockGibbs
    from textdiff.inference import ByLength as ByLength
    from textdiff.inference import Exact as Exact
    from textdiff.inference import Importance as Importance
    from textdiff.inference import MetropolisHastings as MetropolisHastings
    from textdiff.inference import ParticleGibbs as ParticleGibbs
    from textdiff.inference import Rejection as Rejection
    from textdiff.models import Transformer as Transformer
    from textdiff.models import TransformerConfig as TransformerConfig
    from textdiff.priors import Automaton as Automaton
    from textdiff.priors import AutoregressivePrior as AutoregressivePrior
    from textdiff.priors import Conditioning as Conditioning
    from textdiff.priors import DiffusionPrior as DiffusionPrior
    from textdiff.priors import FillInMiddlePrior as FillInMiddlePrior
    from textdiff.priors import Posterior as Posterior
    from textdiff.priors import Prior as Prior
    from textdiff.priors import WeightedSamples as WeightedSamples
    from textdiff.priors import convert as convert
    from textdiff.priors import load as load
    from textdiff.priors import push_to_hub as push_to_hub
    from textdiff.priors import save as save
    from textdiff.priors import world as world
    from textdiff.report import audit as audit
    from textdiff.report.compare import Contestant as Contestant
    from textdiff.report.compare import compare as compare
    from textdiff.samplers import POLICIES as POLICIES
    from textdiff.samplers import Tempering as Tempering
    from textdiff.text import Canvas as Canvas
    from textdiff.text import Gap as Gap
    from textdiff.text import Template as Template
    from textdiff.text import Vocabulary as Vocabulary

__version__ = "0.1.0"

_ROOM_OF = {
    "Automaton": "priors",
    "AutoregressivePrior": "priors",
    "Beam": "inference",
    "BestOf": "inference",
    "BlockGibbs": "inference",
    "ByLength": "inference",
    "Canvas": "text",
    "Conditioning": "priors",
    "Contains": "evidence",
    "Contestant": "report.compare",
    "DiffusionPrior": "priors",
    "Exact": "inference",
    "Excludes": "evidence",
    "FillInMiddlePrior": "priors",
    "Gap": "text",
    "Importance": "inference",
    "Length": "evidence",
    "Likelihood": "evidence",
    "MetropolisHastings": "inference",
    "Observed": "evidence",
    "Ordered": "evidence",
    "POLICIES": "samplers",
    "ParticleGibbs": "inference",
    "Posterior": "priors",
    "Prior": "priors",
    "Question": "evidence",
    "Regex": "evidence",
    "Rejection": "inference",
    "Reward": "evidence",
    "SMC": "inference",
    "Tempering": "samplers",
    "Template": "text",
    "Transformer": "models",
    "TransformerConfig": "models",
    "UserError": "errors",
    "Vocabulary": "text",
    "WeightedSamples": "priors",
    "audit": "report",
    "compare": "report.compare",
    "convert": "priors",
    "load": "priors",
    "push_to_hub": "priors",
    "save": "priors",
    "world": "priors",
}

__all__ = [name for name, room in _ROOM_OF.items() if "." not in room]
"""But `compare`, which brings Lightning along, is imported by name."""


def __getattr__(name: str) -> Any:
    """A public name or a room, imported on first use: the whole takes transformers, and that takes seconds."""
    if name in _ROOM_OF:
        value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    elif name in _ROOM_OF.values():
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})

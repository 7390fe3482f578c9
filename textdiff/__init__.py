"""textdiff: fill in missing text by masked discrete diffusion, with honest probabilities."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textdiff.errors import UserError as UserError
    from textdiff.evaluation import audit as audit
    from textdiff.evaluation.compare import Candidate as Candidate
    from textdiff.evaluation.compare import compare as compare
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
    from textdiff.inference import InfillOptions as InfillOptions
    from textdiff.inference import MetropolisHastings as MetropolisHastings
    from textdiff.inference import ParticleGibbs as ParticleGibbs
    from textdiff.inference import Rejection as Rejection
    from textdiff.inference import infill as infill
    from textdiff.models import Transformer as Transformer
    from textdiff.models import TransformerConfig as TransformerConfig
    from textdiff.posterior import Conditioning as Conditioning
    from textdiff.posterior import Posterior as Posterior
    from textdiff.posterior import Prior as Prior
    from textdiff.posterior import WeightedSamples as WeightedSamples
    from textdiff.pretrained import convert as convert
    from textdiff.pretrained import load as load
    from textdiff.pretrained import push_to_hub as push_to_hub
    from textdiff.pretrained import save as save
    from textdiff.priors import AutoregressivePrior as AutoregressivePrior
    from textdiff.priors import DiffusionPrior as DiffusionPrior
    from textdiff.priors import FillInMiddlePrior as FillInMiddlePrior
    from textdiff.samplers import POLICIES as POLICIES
    from textdiff.samplers import Tempering as Tempering
    from textdiff.text import Canvas as Canvas
    from textdiff.text import Gap as Gap
    from textdiff.text import Template as Template
    from textdiff.text import Vocabulary as Vocabulary
    from textdiff.worlds import ProbabilisticAutomaton as ProbabilisticAutomaton
    from textdiff.worlds import world as world

__version__ = "0.2.0"

_ROOM_OF = {
    "AutoregressivePrior": "priors",
    "Beam": "inference",
    "BestOf": "inference",
    "BlockGibbs": "inference",
    "ByLength": "inference",
    "Candidate": "evaluation.compare",
    "Canvas": "text",
    "Conditioning": "posterior",
    "Contains": "evidence",
    "DiffusionPrior": "priors",
    "Exact": "inference",
    "Excludes": "evidence",
    "FillInMiddlePrior": "priors",
    "Gap": "text",
    "Importance": "inference",
    "InfillOptions": "inference",
    "Length": "evidence",
    "Likelihood": "evidence",
    "MetropolisHastings": "inference",
    "Observed": "evidence",
    "Ordered": "evidence",
    "POLICIES": "samplers",
    "ParticleGibbs": "inference",
    "Posterior": "posterior",
    "Prior": "posterior",
    "ProbabilisticAutomaton": "worlds",
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
    "WeightedSamples": "posterior",
    "audit": "evaluation",
    "compare": "evaluation.compare",
    "convert": "pretrained",
    "infill": "inference",
    "load": "pretrained",
    "push_to_hub": "pretrained",
    "save": "pretrained",
    "world": "worlds",
}

__all__ = [name for name, room in _ROOM_OF.items() if "." not in room]
"""Without `compare` and `Candidate`, whose room imports Lightning; they are there by name: `textdiff.compare`."""


def __getattr__(name: str) -> Any:
    """A public name or a room, imported on first use, because importing transformers takes seconds."""
    if name in _ROOM_OF:
        value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
    elif name in {*_ROOM_OF.values(), "testing"}:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOM_OF})

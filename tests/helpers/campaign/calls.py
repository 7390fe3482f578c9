"""Calls from Python with arguments of the wrong type or size, and with functions of the user that raise."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch

import textdiff as td
from tests.helpers.campaign.case import Case, Silent
from tests.helpers.campaign.materials import WRONG, shown
from tests.helpers.campaign.world import TEXT, World


def _posterior(prior: Any, method: Any, target: Any = None) -> Any:
    return prior.given("Lily [gap:1-2] ball.", target=target).sample(2, method, generator=0)


def _functions(world: World) -> dict[str, tuple[Callable[..., Any], dict[str, Any]]]:
    """What is called, with good arguments by name."""
    prior, causal, folder = world.prior, world.causal, str(world.checkpoint)

    def method(of: Any) -> Callable[..., Any]:
        return lambda **given: _posterior(prior, of(**given), causal)

    def evidence(of: Any) -> Callable[..., Any]:
        return lambda **given: prior.infill(td.Observed(TEXT) & of(**given), 1, steps=1, seed=0)

    return {
        "prior.infill": (
            prior.infill,
            {
                "text": TEXT, "n": 1, "steps": 1, "policy": "strided", "seed": 0, "temperature": 1.0, "top_p": 1.0,
                "top_k": None, "watch": None, "error_budget": None, "stream": False,
            },
        ),
        "causal.infill": (causal.infill, {"text": TEXT, "n": 1, "seed": 0, "temperature": 1.0, "top_p": 1.0,
        "top_k": 5}),
        "prior.given": (lambda **given: prior.given(**given).sample(1), {"evidence": TEXT, "target": None}),
        "sample": (prior.given(TEXT).sample, {"n": 1, "method": None, "generator": 0}),
        "resample": (prior.infill(TEXT, 2, steps=1, seed=0).resample, {"n": 2, "generator": 0}),
        "with_policy": (lambda **given: prior.with_policy(**given).infill(TEXT, 1), {"policy": "entropy", "steps": 2}),
        "with_error_budget": (lambda **given: prior.with_error_budget(**given).infill(TEXT, 1), {"nats": 0.5}),
        "Template.parse": (td.Template.parse, {"text": TEXT, "default": td.Gap(1, 4)}),
        "Template": (td.Template, {"parts": ("a ", td.Gap(1, 2), " b")}),
        "Gap": (td.Gap, {"minimum": 1, "maximum": 2}),
        "InfillOptions": (
            lambda **given: td.infill(prior, td.InfillOptions(**given)),
            {
                "text": TEXT, "n": 1, "seed": 0, "policy": "strided", "steps": 1, "error_budget": None,
                "guidance": None,
                "temperature": 1.0, "top_p": 1.0, "top_k": None, "particles": None, "constraint": None,
            },
        ),
        "infill": (td.infill, {"prior": prior, "options": td.InfillOptions(TEXT, steps=1), "expert": None,
        "target": None}),
        "Tempering": (td.Tempering, {"temperature": 1.0, "top_p": 1.0, "top_k": None}),
        "Regex": (evidence(td.Regex), {"pattern": ".*", "gap": 0}),
        "Contains": (evidence(td.Contains), {"words": "dog", "gap": 0}),
        "Excludes": (evidence(td.Excludes), {"words": ["dog"], "gap": 0}),
        "Ordered": (evidence(td.Ordered), {"words": ["a"], "gap": None}),
        "Length": (evidence(td.Length), {"tokens": (1, 4), "words": None, "characters": None, "gap": 0}),
        "Question": (
            lambda **given: prior.infill(td.Question(**given), 1, steps=1),
            {"question": "What?", "answer": None, "rationale": None, "context": None, "gaps": (td.Gap(1, 2), td.Gap(1,
            1))},
        ),
        "Reward": (
            lambda **given: _posterior(prior, td.Importance()) and evidence(td.Reward)(**given),
            {"function": lambda texts: [0.0] * len(texts), "temperature": 1.0, "gap": None, "look_ahead": False},
        ),
        "Importance": (method(td.Importance), {"temperature": 1.0, "watch": None}),
        "SMC": (method(td.SMC), {"threshold": 0.5, "bridge": False}),
        "Beam": (lambda **given: _posterior(causal, td.Beam(**given)), {"width": 2}),
        "BestOf": (lambda **given: _posterior(causal, td.BestOf(**given)), {"draws": 2}),
        "BlockGibbs": (method(td.BlockGibbs), {"sweeps": 1, "block": 1}),
        "MetropolisHastings": (method(td.MetropolisHastings), {"sweeps": 1, "independent": 0.5}),
        "ParticleGibbs": (method(td.ParticleGibbs), {"particles": 2, "sweeps": 1, "threshold": 0.5}),
        "Rejection": (method(td.Rejection), {"log_bound": 0.0, "most": 10}),
        "ByLength": (method(td.ByLength), {"lengths": [1, 2], "method": None, "log_prior": None, "window": 4}),
        "load": (
            td.load, {"folder": folder, "device": "cpu", "dtype": torch.float32, "quantization": None,
            "calibration": True},
        ),
        "save": (td.save, {"prior": prior, "folder": "saved", "name": None, "figures": None}),
        "convert": (td.convert, {"folder": str(world.baseline), "device": "cpu", "dtype": torch.float32}),
        "world": (td.world, {"name": "hmm"}),
        "TransformerConfig": (
            lambda **given: td.Transformer(td.TransformerConfig(**given)),
            {
                "vocab_size": 16, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": None, "max_position_embeddings": 16, "causal": False, "attention": "isolated",
                "dropout": 0.0, "rope_theta": 1e4, "pad_token_id": 0, "mask_token_id": 3,
            },
        ),
    }  # fmt: skip


def calls(random: Random, world: World) -> Case:
    """A call in which one or two arguments are wrong, or left out."""
    if random.random() < 0.08:
        return user_functions(random, world)
    functions = _functions(world)
    name = random.choice(sorted(functions))
    function, good = functions[name]
    given = dict(good)
    for changed in random.sample(sorted(good), min(len(good), random.choice((1, 1, 2)))):
        given[changed] = random.choice((*WRONG, *good.values()))
    if random.random() < 0.03:
        given["no_such_argument"] = 1
    differ = {key: value for key, value in given.items() if key not in good or value is not good[key]}
    what = f"{name}({', '.join(f'{key}={shown(value, 60)}' for key, value in differ.items())})"

    def run() -> None:
        result = function(**given)
        if isinstance(result, td.WeightedSamples):
            asked = given.get("n")
            if type(asked) is int and len(result) != asked:
                raise Silent(f"{asked} samples were asked for, {len(result)} came")
            if result.log_q is not None and bool(torch.isnan(result.log_q).any()):
                raise Silent(f"log q is {result.log_q.tolist()}")

    return Case(what, run)


class OfTheUser(Exception):
    """What a function of the user raises."""


def user_functions(random: Random, world: World) -> Case:
    """A reward, a likelihood or a callback that raises, or returns nonsense."""
    kind = random.choice(("Reward", "Likelihood", "watch", "log_prior"))
    result = random.choice((*WRONG, [float("nan")], [-float("inf")] * 4, torch.ones(3), torch.ones(2, 2), ["x", "y"]))
    raises = random.random() < 0.4

    def function(*given: Any, **more: Any) -> Any:
        if raises:
            raise OfTheUser("mine")
        return result

    def run() -> None:
        prior = world.prior
        if kind == "watch":
            prior.infill(TEXT, 2, steps=1, watch=function, seed=0)
        elif kind == "log_prior":
            _posterior(prior, td.ByLength([1, 2], log_prior=function), world.causal)
        else:
            made: Any = getattr(td, kind)(function)
            samples = prior.given(td.Observed(TEXT) & made).sample(2, td.Importance(), generator=0)
            if bool(torch.isnan(samples.log_weights).any()):
                raise Silent(f"weights are {samples.log_weights.tolist()}")

    def guarded() -> None:
        try:
            run()
        except OfTheUser:
            if kind in ("Reward", "Likelihood"):
                raise Silent(
                    "an error of the user's function is passed on without a word on where it came from"
                ) from None

    return Case(f"{kind} of the user {'raises' if raises else 'returns ' + shown(result, 60)}", guarded)

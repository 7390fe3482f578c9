"""All options of infilling in one call: they do what the prior's own methods do, and mistakes are found first."""

from typing import Any

import pytest
import torch

from tests.helpers.tiny import tiny
from textdiff.errors import UserError
from textdiff.evidence import Contains, Observed
from textdiff.inference import Importance, InfillOptions, Resampled, infill
from textdiff.posterior import CausalJoint, Prior
from textdiff.samplers import LeftToRight, Tempering

TEXT = "Lily lost her [gap:2-3]. She was [gap:2] again."
DIFFUSION, AUTOREGRESSIVE = tiny(), tiny(causal=True)


def same(found: Any, expected: Any) -> None:
    assert torch.equal(found.samples.tokens, expected.tokens) and found.samples.label == expected.label


@pytest.mark.parametrize("prior", [DIFFUSION, AUTOREGRESSIVE], ids=["diffusion", "autoregressive"])
def test_without_options_it_is_infill(prior: Prior) -> None:
    found = infill(prior, InfillOptions(TEXT, n=3, seed=1, temperature=0.7, top_p=0.9))
    same(found, prior.infill(TEXT, 3, seed=1, temperature=0.7, top_p=0.9))
    assert found.options.tempering == Tempering(0.7, 0.9) and found.target is None
    assert found.sees_suffix is (prior is DIFFUSION)
    assert found.policy == ("strided" if prior is DIFFUSION else "left-to-right")


def test_policy_guidance_and_expert_configure_the_prior() -> None:
    assert isinstance(AUTOREGRESSIVE, CausalJoint)
    few = infill(DIFFUSION, InfillOptions(TEXT, seed=0, policy="entropy", steps=2))
    same(few, DIFFUSION.infill(TEXT, seed=0, policy="entropy", steps=2))
    assert few.policy == "entropy"
    guided = infill(DIFFUSION, InfillOptions(TEXT, seed=0, guidance=1.5))
    same(guided, DIFFUSION.with_guidance(1.5).infill(TEXT, seed=0))
    product = infill(DIFFUSION, InfillOptions(TEXT, seed=0), expert=AUTOREGRESSIVE)
    same(product, DIFFUSION.with_expert(AUTOREGRESSIVE).infill(TEXT, seed=0))
    assert product.policy == "left-to-right" and product.sees_suffix


def test_particles_choose_by_weight_towards_the_target() -> None:
    options = InfillOptions(TEXT, n=2, seed=3, temperature=0.8, particles=4)
    method = Resampled(Importance(0.8), particles=4)
    found = infill(DIFFUSION, options, target=AUTOREGRESSIVE)
    same(found, DIFFUSION.given(TEXT, target=AUTOREGRESSIVE).sample(2, method, generator=3))
    assert found.target is AUTOREGRESSIVE
    own = infill(AUTOREGRESSIVE, options)
    same(own, AUTOREGRESSIVE.given(TEXT).sample(2, method, generator=3))
    assert own.target is AUTOREGRESSIVE and own.sees_suffix
    with pytest.raises(UserError, match="give target="):
        infill(DIFFUSION, options)


def test_a_constraint_is_satisfied() -> None:
    options = InfillOptions("Lily lost her [gap:3-6].", n=4, seed=0, constraint=Contains("dog"))
    found = infill(DIFFUSION, options)
    same(found, DIFFUSION.infill(Observed(options.text) & Contains("dog"), 4, seed=0))
    assert all("dog" in text for text in found.samples.texts)


def test_every_slot_of_every_draw_is_watched() -> None:
    for options in (InfillOptions(TEXT, n=2, seed=0), InfillOptions(TEXT, n=2, seed=0, particles=3)):
        seen = []
        infill(AUTOREGRESSIVE, options, watch=lambda _, revealed, seen=seen: seen.append(int(revealed.sum())))
        assert sum(seen) == options.slots


def test_a_baseline_keeps_its_own_policy() -> None:
    options = InfillOptions(TEXT, n=2, seed=0, policy="entropy", steps=2)
    same(infill(AUTOREGRESSIVE, options.for_baseline()), AUTOREGRESSIVE.infill(TEXT, 2, seed=0))


@pytest.mark.parametrize(
    ("options", "given", "complaint"),
    [
        ({"n": 0}, {}, "n is 0"),
        ({"text": "Lily."}, {}, "no gap"),
        ({"policy": "psychic"}, {}, "policy is 'psychic'"),
        ({"policy": "threshold", "steps": 3}, {}, "takes no steps"),
        (
            {"error_budget": 1.0, "policy": LeftToRight()},
            {},
            "--error-budget chooses order and steps by itself: leave out --policy and --steps",
        ),
        (
            {"guidance": 1.0},
            {"expert": True},
            "--join fills from left to right: leave out --policy, --steps, --error-budget and --guidance",
        ),
        ({"error_budget": 1.0, "guidance": 1.0}, {}, "--error-budget is calibrated for fills without --guidance"),
        ({"top_p": 0.0}, {}, "top_p is 0.0"),
        ({}, {"target": True}, "--target weighs the draws of --particles: give both"),
        ({"particles": 4, "temperature": 0.0}, {}, "leave out --top-p, --top-k and --temperature 0"),
        ({"particles": 4, "top_k": 3}, {}, "--particles weighs draws, and weights cannot make up"),
    ],
    ids=str,
)
def test_mistakes_are_found_before_the_work(options: dict[str, Any], given: dict[str, bool], complaint: str) -> None:
    def spell(name: str) -> str:
        return "--join" if name == "expert" else f"--{name.replace('_', '-')}"

    with pytest.raises(UserError, match=complaint) as error:
        InfillOptions(**{"text": TEXT} | options).check(**given, spell=spell)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"policy": "strided"}, "leave out policy and steps"),
        ({"guidance": 1.0}, "guidance is for a diffusion prior"),
        ({"error_budget": 1.0}, "an error budget is for a diffusion prior"),
    ],
    ids=str,
)
def test_what_a_prior_cannot_do_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        infill(AUTOREGRESSIVE, InfillOptions(TEXT, **options))
    with pytest.raises(UserError, match="an expert is for a diffusion prior"):
        infill(AUTOREGRESSIVE, InfillOptions(TEXT), expert=AUTOREGRESSIVE)

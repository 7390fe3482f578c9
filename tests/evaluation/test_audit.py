"""Audits agree with exact results on small worlds, and print their figures."""

import json
import math

import pytest
import torch

from tests.helpers.tiny import CORPUS, tiny
from textdiff.data import held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.evaluation import audit, audit_weights, world_items
from textdiff.evaluation.audit_results import Audit, PolicyAudit
from textdiff.evaluation.statistics import Estimate
from textdiff.inference import SMC, Importance
from textdiff.priors import DiffusionPrior
from textdiff.worlds import arithmetic, grammar, hmm

SMALL = {"gaps": 12, "gap_length": 3, "draws": 32}


def test_a_perfect_network_with_one_token_per_step_has_no_amortization_gap() -> None:
    world = hmm(states=3, symbols=4, seed=1, concentration=0.4)
    report = audit(None, world, policies=(("strided", 3), ("left-to-right", None), ("random", None)), **SMALL)
    for row in report.rows:
        assert row.kl_qp.value == pytest.approx(0, abs=1e-6) and row.tv.value == pytest.approx(0, abs=1e-6)
        assert row.ess.value == pytest.approx(1) and row.log_z.value == pytest.approx(0, abs=1e-6)
        assert row.bracketed == 1 and row.calibration > 0.01 and row.nfe == 3
    assert report.rows[0].exact and not report.rows[2].exact


def test_enumerated_divergences_agree_with_draws() -> None:
    """One step for all slots; the mean over 512 draws is within 4 standard errors of the sum over all fills."""
    world = hmm(states=3, symbols=4, seed=1, concentration=0.4)
    report = audit(None, world, policies=(("strided", 1),), gaps=6, gap_length=3, draws=32)
    items = world_items(world, 6, 3)
    prior = DiffusionPrior(world, world.tokenizer, world.vocabulary).with_policy("strided", 1)
    found = []
    for canvas, _ in items:
        drawn = prior.sample(canvas.repeat(512), torch.Generator().manual_seed(1))
        found.append(drawn.log_q - world.score(canvas.repeat(512), drawn.tokens).log_q)
    estimate, error = torch.stack(found).mean(), torch.stack(found).std() / math.sqrt(6 * 512)
    row = report.rows[0]
    assert row.exact and row.kl_qp.value > 0.01
    assert row.kl_qp.value == pytest.approx(float(estimate), abs=4 * float(error))
    assert 0 < row.tv.value <= math.sqrt(row.kl_qp.value / 2) + 1e-9  # Pinsker


def test_parallel_steps_widen_the_gap_and_methods_narrow_it() -> None:
    world = hmm()
    methods = {
        "draws": (Importance(temperature=1.0), ("strided", 12)),
        "weighted": (Importance(), ("entropy", 3)),
        "particles": (SMC(), ("entropy", 3)),
    }
    policies = (("strided", 4), ("entropy", 4), ("sampled-confidence", 4))
    report = audit(None, world, policies=policies, methods=methods, gaps=16, gap_length=12, draws=32, seed=3)
    strided, entropy, confident = report.rows
    assert strided.kl_qp.value < 0.08 < 0.4 < entropy.kl_qp.value
    assert confident.kl_qp is None and confident.deficit.value < -3
    assert entropy.deficit.value > 0.5
    for repair in report.repairs[1:]:
        assert abs(repair.deficit.value) < abs(entropy.deficit.value)
    text = str(report)
    assert "KL(q‖p)" in text and "| weighted |" in text and text.count("\n|") > 6
    record = json.loads(report.json())
    assert len(record["rows"]) == 3 and record["about"]["items"] == 16
    lines = report.figure().axes[0].get_legend_handles_labels()[1]
    assert lines == ["strided", "entropy"]


def test_items_are_exact_draws_with_a_gap() -> None:
    for world, gap in ((hmm(), 12), (grammar(), 5), (arithmetic(), 6)):
        items = world_items(world, 5, gap, seed=1)
        assert len(items) == 5
        for canvas, text in items:
            assert int(canvas.slots.sum()) == gap
            assert torch.equal(text[~canvas.slots], canvas.tokens[~canvas.slots])
            assert float(world.score(canvas, text).log_q) > -math.inf
    with pytest.raises(UserError, match="too short for gaps of 100"):
        world_items(arithmetic(), 5, 100)


def test_weights_towards_another_target() -> None:
    prior, baseline = tiny(), tiny(causal=True)
    corpus = in_memory([" ".join(CORPUS[i : i + 4]) for i in range(0, 12, 4)], prior.tokenizer)
    items = held_out_gaps(corpus, prior.vocabulary, 3, gap=4, margin=4)
    found = audit_weights(prior, baseline, items, draws=32)
    assert len(found.ess) == 3 and all(1 <= ess <= 32 for ess in found.ess)
    assert "median" in str(found) and len(json.loads(found.json())["ess"]) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: audit(tiny(), hmm()), "another tokenizer than the world"),
        (lambda: audit(None, hmm(), draws=2), "expected at least"),
        (lambda: audit(None, hmm(), policies=(("strided", 0),), gaps=2), "steps is 0"),
    ],
)
def test_mistakes_get_one_clear_line(make, message) -> None:
    with pytest.raises(UserError, match=message):
        make()


def test_the_figure_shows_the_reverse_divergence_if_the_forward_one_is_infinite() -> None:
    infinite, finite = Estimate(math.inf, math.nan), Estimate(0.3, 0.1)
    rows = [
        PolicyAudit("strided", "strided", 6.0, finite, infinite, finite),
        PolicyAudit("entropy", "entropy", 3.0, finite, infinite),
    ]
    axes = Audit(tuple(rows), (), {}).figure().axes[0]
    assert axes.get_ylabel().startswith("KL(p‖q)") and axes.get_legend_handles_labels()[1] == ["strided"]
    mixed = Audit((*rows, PolicyAudit("random", "random", 6.0, finite, finite, finite)), (), {}).figure().axes[0]
    assert mixed.get_ylabel().startswith("KL(q‖p)") and mixed.get_legend_handles_labels()[1] == ["random"]

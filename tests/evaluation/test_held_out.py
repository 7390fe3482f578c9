"""Held-out figures are exact, paired and per character."""

import json
import math
from pathlib import Path

import pytest
import torch

from tests.helpers.tiny import CORPUS
from textdiff.data import documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.errors import UserError
from textdiff.evaluation.held_out import held_out, unpicked_fills
from textdiff.posterior import Prior


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("held_out") / "valid.txt"
    texts = [" ".join(CORPUS[i : i + 6]) for i in range(0, len(CORPUS), 6)]
    path.write_text("".join(f"{text}\n<|endoftext|>\n" for text in texts))
    return str(path)


def test_figures_equal_a_direct_computation(diffusion: Prior, autoregressive: Prior, stories: str) -> None:
    policies = (("strided", 2), ("left-to-right", None))
    report = held_out(diffusion, autoregressive, [stories], gaps=5, gap_length=6, policies=policies, texts=3, samples=2)
    items = held_out_gaps(in_memory(documents([stories]), diffusion.tokenizer), diffusion.vocabulary, 5, 6, longest=512)

    def nats_per_character(prior: Prior) -> float:
        with torch.no_grad():
            nats = sum(-prior.score(canvas, tokens).log_q.item() for canvas, tokens in items)
        texts = [diffusion.tokenizer.decode(tokens[canvas.slots]) for canvas, tokens in items]
        return nats / sum(map(len, texts))

    priors = [autoregressive, diffusion.with_policy("strided", 2), diffusion.with_policy("left-to-right")]
    expected = [nats_per_character(some) for some in priors]
    assert [figure.value for figure in report.gaps] == pytest.approx(expected, rel=1e-5)
    assert [figure.nfe for figure in report.gaps] == [6, 2, 6]
    assert [figure.versus and figure.versus.value for figure in report.gaps][1:] == pytest.approx(
        [value - expected[0] for value in expected[1:]], rel=1e-3
    )
    assert not report.gaps[1].bound and report.texts[1].bound and not report.texts[0].bound


def test_an_untrained_bound_is_near_uniform_and_the_tables_print(
    diffusion: Prior, autoregressive: Prior, stories: str
) -> None:
    report = held_out(diffusion, autoregressive, [stories], gaps=2, gap_length=4, policies=(), texts=4, samples=4)
    exact, bound = report.texts
    assert exact.value > 1 and bound.value > 1 and math.isfinite(bound.estimate.error)
    assert "≤ " in bound.cells()[1] and "≤" not in exact.cells()[1]
    assert str(report).count("| NFE |") == 2
    assert json.loads(report.json())["about"] == {
        "files": ["valid.txt"], "gaps": 2, "gap_length": 4, "texts": 4, "seed": 0
    }  # fmt: skip


def test_a_gap_longer_than_every_text_is_refused(diffusion: Prior, autoregressive: Prior, stories: str) -> None:
    with pytest.raises(UserError, match="long enough for a gap of 900"):
        held_out(diffusion, autoregressive, [stories], gap_length=900)


def test_fills_are_the_first_texts_with_the_third_sentence_replaced(
    diffusion: Prior, stories: str, tmp_path: Path
) -> None:
    shown = list(unpicked_fills(diffusion, [stories], 2))
    first = next(documents([stories]))
    assert len(shown) == 2 and shown == list(unpicked_fills(diffusion, [stories], 2))
    assert shown[0].startswith(". ".join(first.split(". ")[:2]) + ". **")
    assert shown[0].endswith(f"*The author: {first.split('. ')[2]}.*")


def test_a_long_document_is_measured_in_passages(diffusion: Prior, autoregressive: Prior, tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text("\n".join(CORPUS * (1 + 3000 // len(CORPUS))))
    options = {"gaps": 4, "gap_length": 6, "policies": (), "texts": 3, "samples": 2}
    report = held_out(diffusion, autoregressive, [str(path)], **options)
    assert (report.about["gaps"], report.about["texts"]) == (4, 3)
    assert all(math.isfinite(figure.value) for figure in (*report.gaps, *report.texts))
    assert len(list(unpicked_fills(diffusion, [str(path)], 3))) == 3


def test_texts_without_a_third_sentence_are_passed_over(diffusion: Prior, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("One.\n<|endoftext|>\nOne. Two.\n<|endoftext|>\nThe dog ran. The cat sat. It was big.")
    assert len(list(unpicked_fills(diffusion, [str(path)], 3))) == 1

"""Packing loses nothing, keeps to the capacity and needs little padding."""

import numpy as np
import pytest

from textdiff.data.packing import cut, pack


def lengths_of(count: int, longest: int, seed: int = 0) -> np.ndarray:
    """Lengths like those of stories: log-normal about 200 tokens."""
    lengths = np.random.default_rng(seed).lognormal(5.3, 0.5, count).astype(np.int64)
    return lengths.clip(3, longest)


@pytest.mark.parametrize("longest", [8, 100, 512])
def test_pieces_tile_the_documents(longest: int) -> None:
    offsets = np.concatenate(([0], np.cumsum(np.random.default_rng(0).integers(3, 900, 200))))
    pieces = cut(offsets, longest)
    assert (pieces[1:, 0] == pieces[:-1, 1]).all() and pieces[0, 0] == 0 and pieces[-1, 1] == offsets[-1]
    assert set(offsets) <= set(pieces.flatten()), "no piece crosses the end of a document"
    lengths = np.diff(pieces)[:, 0]
    assert lengths.max() <= longest and lengths.min() > 0


def test_documents_are_not_split_without_need() -> None:
    pieces = cut(np.array([0, 100, 101, 202, 402, 652]), 100)
    lengths = np.diff(pieces)[:, 0].tolist()
    assert lengths == [100, 1, 51, 50, 100, 100, 100, 100, 50]


def test_no_piece_lacks_context() -> None:
    for length in range(1, 1000):
        lengths = np.diff(cut(np.array([0, length]), 100))[:, 0]
        assert len(lengths) == -(-length // 100) and lengths.min() >= min(length, 25)


def test_no_document_makes_no_piece() -> None:
    assert cut(np.array([0]), 100).shape == (0, 2)
    assert pack(np.zeros(0, dtype=np.int64), 100) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_piece_is_packed_once_within_the_capacity(seed: int) -> None:
    lengths = lengths_of(500, 256, seed)
    rows = pack(lengths, 256)
    assert sorted(np.concatenate(rows)) == list(range(500))
    assert max(lengths[row].sum() for row in rows) <= 256


def test_packing_is_deterministic() -> None:
    lengths = lengths_of(300, 512)
    assert [row.tolist() for row in pack(lengths, 512)] == [row.tolist() for row in pack(lengths, 512)]


@pytest.mark.parametrize(("share_of_tales", "most"), [(0.0, 0.01), (0.1, 0.01), (1.0, 0.05)])
def test_little_is_wasted(share_of_tales: float, most: float) -> None:
    lengths = lengths_of(4000, 512)
    tales = np.random.default_rng(0).integers(1000, 5000, int(share_of_tales * 400))
    pieces = cut(
        np.concatenate(([0], np.cumsum(np.concatenate((lengths[: int((1 - share_of_tales) * 4000)], tales))))), 512
    )
    rows = pack(np.diff(pieces)[:, 0], 512)
    assert 1 - np.diff(pieces).sum() / (512 * len(rows)) < most

"""The cache of keys and values: a text in pieces gives the logits of the whole."""

import pytest
import torch

from tests.helpers.networks import NULL, PAD, network, tokens
from textdiff.models import KeyValueCache


@pytest.mark.parametrize("sizes", [[1] * 9, [9], [4, 5], [1, 3, 1, 4], [8, 1]], ids=str)
def test_pieces_give_the_whole(sizes):
    net, ids = network(causal=True), tokens(3, 9)
    cache, parts = KeyValueCache(), []
    assert len(cache) == 0
    for piece in ids.split(sizes, dim=1):
        parts.append(net.logits(piece, cache=cache))
    torch.testing.assert_close(torch.cat(parts, dim=1), net.logits(ids))
    assert len(cache) == 9
    assert len(cache.layers) == 2


def test_ragged_rows_with_positions():
    # Null slots and padding are skipped: the rest is answered as if it were the whole text.
    net = network(causal=True)
    ids = torch.tensor([[0, 5, NULL, NULL, 3, 4, 2], [1, 2, 3, NULL, 7, PAD, PAD], [4, 6, 8, 9, 10, 11, 1]])
    real = (ids != NULL) & (ids != PAD)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    visible = real[:, None] & torch.ones(7, 7, dtype=torch.bool).tril()
    whole = net.logits(ids, visible, positions)
    cache, parts, start = KeyValueCache(), [], 0
    for size in (2, 1, 3, 1):
        stop = start + size
        piece = slice(start, stop)
        parts.append(net.logits(ids[:, piece], visible[:, piece, :stop], positions[:, piece], cache))
        start = stop
    torch.testing.assert_close(torch.cat(parts, dim=1)[real], whole[real])
    for row in range(3):
        torch.testing.assert_close(whole[row][real[row]], net.logits(ids[row][real[row]][None])[0])


def test_rows_can_be_chosen_and_repeated():
    net, ids, more = network(causal=True), tokens(3, 5), tokens(4, 2, seed=1)
    cache = KeyValueCache()
    net.logits(ids, cache=cache)
    rows = torch.tensor([2, 0, 0, 1])
    chosen = cache.select(rows)
    answer = net.logits(more, cache=chosen)
    torch.testing.assert_close(answer, net.logits(torch.cat((ids[rows], more), dim=1))[:, 5:])
    assert (len(cache), len(chosen)) == (5, 7)


def test_chosen_positions_of_a_piece():
    net, ids = network(causal=True), tokens(2, 6)
    cache = KeyValueCache()
    net.logits(ids[:, :4], cache=cache)
    where = torch.tensor([[False, True], [True, False]])
    torch.testing.assert_close(net.logits(ids[:, 4:], cache=cache, where=where), net.logits(ids)[:, 4:][where])

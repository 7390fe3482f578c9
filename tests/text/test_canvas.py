import torch

from textdiff.text import Canvas

MASK, PAD = 9, 0
TOKENS = torch.tensor([[1, MASK, MASK, 2, MASK], [MASK, 2, 3, 4, 5], [1, 2, 3, 4, 5]])


def test_runs_of_mask_are_gaps_of_exact_length() -> None:
    canvas = Canvas.of(TOKENS, MASK)
    assert canvas.gap.tolist() == [[-1, 0, 0, -1, 1], [0, -1, -1, -1, -1], [-1] * 5]
    assert canvas.minimum.tolist() == canvas.maximum.tolist() == [[2, 1], [1, 0], [0, 0]]
    assert torch.equal(canvas.slots, TOKENS == MASK) and torch.equal(canvas.observed, TOKENS != MASK)
    assert not canvas.word_start.any() and len(canvas) == 3


def test_a_canvas_without_gaps() -> None:
    canvas = Canvas.of(TOKENS[2:], MASK)
    assert canvas.minimum.shape == canvas.maximum.shape == (1, 0)


def test_stacking_ragged_rows() -> None:
    short = Canvas.of(torch.tensor([[MASK, 2]]), MASK)
    stacked = Canvas.stack([short, Canvas.of(TOKENS, MASK)], PAD)
    assert stacked.tokens[0].tolist() == [MASK, 2, PAD, PAD, PAD]
    assert stacked.observed[0].tolist() == [False, True, True, True, True]
    assert stacked.gap[0].tolist() == [0, -1, -1, -1, -1]
    assert stacked.minimum.tolist() == [[1, 0], [2, 1], [1, 0], [0, 0]]
    assert torch.equal(stacked.tokens[1:], TOKENS) and stacked.observed.dtype == torch.bool


def test_repeat_and_select() -> None:
    canvas = Canvas.of(TOKENS, MASK)
    repeated = canvas.repeat(2)
    assert torch.equal(repeated.tokens, TOKENS[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(repeated.minimum, canvas.minimum[[0, 0, 1, 1, 2, 2]])
    assert torch.equal(canvas.select(torch.tensor([False, True, False])).gap, canvas.gap[1:2])
    assert torch.equal(repeated.select(torch.tensor([4, 0])).to("cpu").tokens, TOKENS[[2, 0]])


def test_gaps_of_open_length_stay_in_their_places() -> None:
    tokens = torch.tensor([[7, 1, MASK, MASK, 3, MASK, 8]])
    canvas = Canvas.of(tokens, MASK)
    word_start = torch.tensor([[False, False, True, False, False, True, False]])
    canvas = Canvas(tokens, canvas.observed, canvas.gap, canvas.minimum, word_start)
    wide = canvas.with_open_gaps(3)
    assert wide.tokens.tolist() == [[7, 1, MASK, MASK, MASK, 3, MASK, MASK, MASK, 8]]
    assert wide.gap.tolist() == [[-1, -1, 0, 0, 0, -1, 1, 1, 1, -1]]
    assert (wide.minimum.tolist(), wide.maximum.tolist()) == ([[1, 1]], [[3, 3]])
    assert torch.equal(wide.observed, ~wide.slots) and wide.word_start[0].nonzero().flatten().tolist() == [2, 6]
    text = torch.tensor([[7, 1, 2, 4, 3, 5, 8]])
    assert canvas.with_added_slots(text, 3, value=PAD).tolist() == [[7, 1, 2, 4, PAD, 3, 5, PAD, PAD, 8]]

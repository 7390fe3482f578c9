"""Tiny order-causal networks, and what they answer by definition: one position at a time, without a cache."""

import torch
from torch import Tensor

from textdiff.diffusion import subs
from textdiff.models import Transformer, TransformerConfig
from textdiff.text import Vocabulary


def ordered_network(vocabulary: Vocabulary, seed: int = 0, dtype: torch.dtype = torch.float64) -> Transformer:
    """A network with random weights, which are large enough for every path to matter."""
    torch.manual_seed(seed)
    config = TransformerConfig(
        vocab_size=vocabulary.size,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention="order-causal",
        **vocabulary.special_ids(),
    )
    network = Transformer(config).to(dtype).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.4 * torch.randn_like(weight))
    return network


class Uncached:
    """The same network without a cache: it gets the canvas and the reveal times, and begins anew in each step."""

    ordered = True

    def __init__(self, network: Transformer) -> None:
        self.network, self.device, self.context = network, network.device, network.context

    def log_probs(
        self,
        canvas: Tensor,
        observed: Tensor,
        where: Tensor | None = None,
        null: bool = False,
        times: Tensor | None = None,
    ) -> Tensor:
        return self.network.log_probs(canvas, observed, where, null, times=times)


@torch.no_grad()
def by_definition(
    network: Transformer, tokens: Tensor, times: Tensor, column: int, content: Tensor | None = None, null: bool = False
) -> Tensor:
    """Log-probs `[vocab]` at one position of a text `[length]`: each row attends to the rows that the definition names.

    Written for reading: every content row before `times[column]`, and one query row, with a dense mask.
    """
    content = torch.ones_like(tokens, dtype=torch.bool) if content is None else content
    known = [i for i in range(len(tokens)) if content[i] and times[i] < times[column]]
    order = sorted(known, key=lambda i: (int(times[i]), i))
    embedding, rows = network.embedding, [network.embedding(tokens[i]) for i in order]
    left = column - 1
    query = embedding(tokens[left]) if left in order else embedding(torch.tensor(network.config.mask_token_id))
    zero = torch.zeros_like(query)
    right = [embedding(tokens[column + k]) if column + k in order else zero for k in range(1, 5)]
    x = torch.stack([*rows, query + network.following(torch.cat(right))])[None]
    positions = torch.tensor([[*order, left]])
    visible = torch.ones(len(x[0]), len(x[0])).tril().bool()
    if left in order:
        visible[-1, order.index(left)] = False
    bias = torch.zeros_like(visible, dtype=x.dtype).masked_fill(~visible, -torch.inf)[None, None]
    for block in network.blocks:
        x = block(x, network.rotary(positions), bias, None)
    logits = network.head(network.norm(x[0, -1]))
    return subs(logits, network.forbidden_mask(logits.device, null))

"""What the tests of the network share: small networks with large weights, and tokens for them."""

from dataclasses import replace

import torch

from textdiff.models import Transformer, TransformerConfig
from textdiff.text import Vocabulary

CONTENT = 12
PAD, MASK, BOS, EOS, NULL = range(CONTENT, CONTENT + 5)
SIZE = CONTENT + 5


def config(**changes):
    shape = {"vocab_size": SIZE, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    return TransformerConfig(**shape | vocabulary().special_ids() | changes)


def network(seed=0, dtype=torch.float64, **changes):
    """In double precision, with weights large enough for every path to matter."""
    torch.manual_seed(seed)
    net = Transformer(config(**changes)).to(dtype).eval()
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return net


def causal_and_denoiser(**changes):
    """A causal network, and a denoiser with the same weights; the mask embedding of both is zero."""
    causal, denoiser = network(causal=True, **changes), network(causal=False, **changes)
    with torch.no_grad():
        causal.embedding.weight[MASK] = 0
    denoiser.load_state_dict(denoiser.state_dict() | causal.state_dict())
    return causal, denoiser


def tokens(*shape, seed=0):
    """Random content."""
    return torch.randint(CONTENT, shape, generator=torch.Generator().manual_seed(seed))


def vocabulary(content=CONTENT, null=True):
    """The vocabulary of these networks, or one with less content or without null; even symbols start words."""
    toy, ids = Vocabulary.toy(content), torch.arange(content + 4 + null)
    pad, mask, bos, eos = range(content, content + 4)
    null = content + 4 if null else None
    return replace(
        toy,
        size=len(ids),
        mask=mask,
        pad=pad,
        bos=bos,
        eos=eos,
        null=null,
        forbidden=(ids >= content) & (ids < content + 4),
        characters=(ids < content).long(),
        starts_word=(ids < content) & (ids % 2 == 0),
        breaks_line=ids < 0,
        ends_sentence=ids < 0,
    )

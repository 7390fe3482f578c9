"""Configuration of the transformer: its shape and its special tokens."""

from __future__ import annotations

from typing import Any, Literal, get_args

from transformers import PreTrainedConfig

from textdiff.errors import UserError
from textdiff.files.fields import FLAG, SHARE, WAVELENGTH, check_fields, choice, token, whole

Attention = Literal["isolated", "full", "order-causal"]

FIELDS = {
    **dict.fromkeys(("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"), whole()),
    **dict.fromkeys(("intermediate_size", "max_position_embeddings"), whole()),
    **dict.fromkeys(("causal", "fill_in_middle", "tie_word_embeddings"), FLAG),
    "attention": choice(*get_args(Attention)),
    "dropout": SHARE,
    "rope_theta": WAVELENGTH,
}
"""What each setting of a `TransformerConfig` may be, but for the special ids, which depend on the vocabulary."""
NEEDED = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings", "causal",
    "attention", "rope_theta",
)  # fmt: skip
"""Settings that a checkpoint has to name: answers depend on them, and the shapes of its weights do not show them."""
SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "mask_token_id", "null_token_id")
"""Names of the settings that hold special ids, see `Vocabulary.special_ids`."""

_LOADING = ("attn_implementation", "experts_implementation")
"""Settings that transformers passes to every config that it loads."""


class TransformerConfig(PreTrainedConfig):
    """Shape and special tokens of a `Transformer`.

    Args:
        vocab_size: number of token ids, special tokens included.
        hidden_size: width of the residual stream; a multiple of `2 * num_attention_heads`.
        num_hidden_layers: number of blocks.
        num_attention_heads: heads per block.
        intermediate_size: width of the SwiGLU; by default 8/3 of `hidden_size`, rounded up to a multiple of 16.
        max_position_embeddings: longest text, in tokens.
        causal: True for an autoregressive network (output i predicts token i + 1), False for a denoiser (output i
            predicts token i).
        attention: visibility in a denoiser. "isolated": observed tokens attend to observed tokens only, gap tokens to
            all tokens, so that the keys and values of evidence do not depend on the gaps. "full": all attend to all.
            "order-causal": known tokens are read once, in the order of their revealing; see
            `textdiff.models.order_causal`.
        fill_in_middle: whether a causal network is trained to fill in the middle, see `textdiff.text.fill_in_middle`.
        dropout: on the output of each attention and feed-forward branch, in training.
        rope_theta: base of the rotary wavelengths.
        tie_word_embeddings: share the matrix of input embeddings and output head.
        pad_token_id, bos_token_id, eos_token_id, mask_token_id, null_token_id: ids of the special tokens; a denoiser
            needs the mask.

    Raises:
        UserError: sizes that make no network, ids outside the vocabulary, or an unknown argument.
    """

    model_type = "textdiff"

    def __init__(
        self,
        *,
        vocab_size: int = 2048,
        hidden_size: int = 256,
        num_hidden_layers: int = 8,
        num_attention_heads: int = 4,
        intermediate_size: int | None = None,
        max_position_embeddings: int = 512,
        causal: bool = False,
        attention: Attention = "isolated",
        fill_in_middle: bool = False,
        dropout: float = 0.0,
        rope_theta: float = 10_000.0,
        tie_word_embeddings: bool = True,
        pad_token_id: int | None = None,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        mask_token_id: int | None = None,
        null_token_id: int | None = None,
        **kwargs: Any,
    ) -> None:
        base = PreTrainedConfig()
        if unknown := [name for name in kwargs if name not in _LOADING and not hasattr(base, name)]:
            raise UserError(f"a textdiff model has no setting {unknown[0]!r}: see textdiff.TransformerConfig")
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        check_fields({"hidden_size": hidden_size}, FIELDS)
        self.intermediate_size = -(-hidden_size * 8 // 3 // 16) * 16 if intermediate_size is None else intermediate_size
        self.max_position_embeddings = max_position_embeddings
        self.causal = causal
        self.attention = attention
        self.fill_in_middle = fill_in_middle
        self.dropout = dropout
        self.rope_theta = rope_theta
        super().__init__(**kwargs)
        self.tie_word_embeddings = tie_word_embeddings
        self.pad_token_id = pad_token_id
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.mask_token_id = mask_token_id
        self.null_token_id = null_token_id
        self._check()

    def _check(self) -> None:
        check_fields(vars(self), FIELDS)
        check_fields(vars(self), dict.fromkeys(SPECIAL_IDS, token(self.vocab_size)))
        if self.hidden_size % (2 * self.num_attention_heads):
            raise UserError(
                f"hidden_size {self.hidden_size} is not a multiple of 2 x num_attention_heads = "
                f"{2 * self.num_attention_heads}: rotary positions turn pairs of channels in each head"
            )
        if self.fill_in_middle and not self.causal:
            raise UserError("fill_in_middle is for causal networks: a denoiser sees both sides of a gap as it is")

    @property
    def forbidden(self) -> list[int]:
        """Ids that are never predicted: pad, mask and bos; of a causal network null, too, and of a denoiser eos."""
        never = [self.pad_token_id, self.mask_token_id, self.bos_token_id]
        never.append(self.null_token_id if self.causal else self.eos_token_id)
        return [token for token in never if token is not None]

"""Weights in 8 or 4 bits, by transformers' quantizer for quanto."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textdiff.errors import UserError


@final
class Quantizer:
    """Keeps the weights of a network's linear layers in few bits, each from the moment it is read.

    Embeddings, norms, biases and the head stay as they are, and so does what flows between layers: the numbers of a row
    are rounded by no other row's. Weights are spread evenly between bounds of their own, for each output (8 bits) or
    each 32 to 128 inputs of one (4 bits).

    Args:
        bits: of a weight, 8 or 4.

    Raises:
        UserError: another number of bits, or quanto is not installed.
    """

    def __init__(self, bits: int) -> None:
        if bits not in (4, 8):
            raise UserError(f"quantization is {bits!r}, expected 8 or 4, the bits of a weight")
        from transformers import QuantoConfig
        from transformers.quantizers import AutoHfQuantizer

        self._theirs: Any = AutoHfQuantizer.from_config(QuantoConfig(weights=f"int{bits}"), pre_quantized=False)
        try:
            self._theirs.validate_environment()
        except ImportError as error:
            raise UserError(
                "quantization needs optimum-quanto, which is not installed: pip install 'textdiff[quantization]'"
            ) from error

    def prepare(self, network: PreTrainedModel) -> None:
        """Put layers for few bits in the place of linear ones; the network is on the meta device.

        Raises:
            UserError: it has none.
        """
        head = network.get_output_embeddings()
        if not any(isinstance(part, nn.Linear) and part is not head for part in network.modules()):
            raise UserError("quantization is for linear layers, and this model has none: leave it out")
        self._theirs.preprocess_model(network)
        network.hf_quantizer = self._theirs  # by which transformers knows that it cannot be saved

    def concerns(self, network: PreTrainedModel, name: str) -> bool:
        """Whether the parameter of that name is to be kept in few bits."""
        return bool(self._theirs.param_needs_quantization(network, name))

    @torch.no_grad()  # or what is kept would hold on to what it was made of
    def keep(self, network: PreTrainedModel, name: str, value: Tensor) -> None:
        """Make a value, which is on its device already, the parameter of that name."""
        self._theirs.get_quantize_ops().convert({name: [value]}, network, name, missing_keys=set())

"""Quantization of weights to 8 or 4 bits, by the quanto backend of transformers."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from textdiff.errors import UserError


@final
class Quantizer:
    """Quantizes the weights of the linear layers of a network, each as it is read.

    Embeddings, norms, biases and the head are not quantized, and neither are activations, so that a row of a batch does
    not depend on its neighbours. Levels are evenly spaced, with a scale for each output (8 bits) or for each 32 to 128
    inputs of an output (4 bits).

    Args:
        bits: for each weight, 8 or 4.

    Raises:
        UserError: another number of bits, or quanto is not installed.
    """

    def __init__(self, bits: int) -> None:
        if not isinstance(bits, int) or bits not in (4, 8):
            raise UserError(f"quantization is {bits!r:.80}, expected 8 or 4, the bits of a weight")
        from transformers import QuantoConfig
        from transformers.quantizers import AutoHfQuantizer

        self._backend: Any = AutoHfQuantizer.from_config(QuantoConfig(weights=f"int{bits}"), pre_quantized=False)
        try:
            self._backend.validate_environment()
        except ImportError as error:
            raise UserError(
                "quantization needs optimum-quanto, which is not installed: pip install 'textdiff[quantization]'"
            ) from error

    def prepare(self, network: PreTrainedModel) -> None:
        """Replace the linear layers of a network on the meta device by quantized ones.

        Raises:
            UserError: it has no linear layer.
        """
        head = network.get_output_embeddings()
        if not any(isinstance(part, nn.Linear) and part is not head for part in network.modules()):
            raise UserError("quantization is for linear layers, and this model has none: leave it out")
        self._backend.preprocess_model(network)
        network.hf_quantizer = self._backend  # tells transformers that the network cannot be saved

    def applies_to(self, network: PreTrainedModel, name: str) -> bool:
        """Whether the parameter of that name is to be quantized."""
        return bool(self._backend.param_needs_quantization(network, name))

    @torch.no_grad()  # or the quantized weight would keep the original alive
    def set_quantized(self, network: PreTrainedModel, name: str, value: Tensor) -> None:
        """Quantize a value, which is on its device already, and make it the parameter of that name."""
        self._backend.get_quantize_ops().convert({name: [value]}, network, name, missing_keys=set())

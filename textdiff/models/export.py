"""Export of a causal network as Qwen3 of Hugging Face, which has the same parts: RMSNorm, RoPE, SwiGLU, QK-norm."""

from __future__ import annotations

from transformers import Qwen3Config, Qwen3ForCausalLM

from textdiff.models.transformer import Transformer

_SAME = {
    "attention_norm": "input_layernorm",
    "out": "self_attn.o_proj",
    "query_norm": "self_attn.q_norm",
    "key_norm": "self_attn.k_norm",
    "feed_norm": "post_attention_layernorm",
    "down": "mlp.down_proj",
}


def as_qwen(network: Transformer) -> Qwen3ForCausalLM:
    """A Qwen3 model with the weights of a causal network; it may predict special tokens, which the network does not."""
    ours = network.config
    assert ours.causal
    config = Qwen3Config(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden_size,
        intermediate_size=ours.intermediate_size,
        num_hidden_layers=ours.num_hidden_layers,
        num_attention_heads=ours.num_attention_heads,
        num_key_value_heads=ours.num_attention_heads,
        head_dim=ours.hidden_size // ours.num_attention_heads,
        max_position_embeddings=ours.max_position_embeddings,
        rope_parameters={"rope_type": "default", "rope_theta": ours.rope_theta},
        tie_word_embeddings=ours.tie_word_embeddings,
        rms_norm_eps=1e-6,
        pad_token_id=ours.pad_token_id,
        bos_token_id=ours.bos_token_id,
        eos_token_id=ours.eos_token_id,
    )
    have = network.state_dict()
    state = {"model.embed_tokens.weight": have["embedding.weight"], "model.norm.weight": have["norm.weight"]}
    state["lm_head.weight"] = have["head.weight"]
    for number in range(ours.num_hidden_layers):
        block = {name: have[f"blocks.{number}.{name}.weight"] for name in (*_SAME, "qkv", "gate_up")}
        parts = {theirs: block[name] for name, theirs in _SAME.items()}
        parts |= dict(
            zip(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), block["qkv"].chunk(3), strict=True)
        )
        parts |= dict(zip(("mlp.gate_proj", "mlp.up_proj"), block["gate_up"].chunk(2), strict=True))
        state |= {f"model.layers.{number}.{name}.weight": weight for name, weight in parts.items()}
    model = Qwen3ForCausalLM(config)
    model.load_state_dict({name: weight.detach().clone() for name, weight in state.items()})
    return model.to(device=network.device, dtype=network.dtype).eval()  # type: ignore[call-arg]

"""Our causal network as a Hugging Face one: Qwen3 has the same parts (RMSNorm, RoPE, SwiGLU, QK-norm)."""

from transformers import Qwen3Config, Qwen3ForCausalLM

from textdiff.models import Transformer


def as_qwen(network: Transformer) -> Qwen3ForCausalLM:
    """The same weights, without what our network forbids itself to predict."""
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
    state = {"model.embed_tokens.weight": network.embedding.weight, "model.norm.weight": network.norm.weight}
    state["lm_head.weight"] = network.head.weight
    for number, block in enumerate(network.blocks):
        query, key, value = block.qkv.weight.chunk(3)
        gate, up = block.gate_up.weight.chunk(2)
        parts = {
            "input_layernorm": block.attention_norm.weight,
            "self_attn.q_proj": query,
            "self_attn.k_proj": key,
            "self_attn.v_proj": value,
            "self_attn.o_proj": block.out.weight,
            "self_attn.q_norm": block.query_norm.weight,
            "self_attn.k_norm": block.key_norm.weight,
            "post_attention_layernorm": block.feed_norm.weight,
            "mlp.gate_proj": gate,
            "mlp.up_proj": up,
            "mlp.down_proj": block.down.weight,
        }
        state |= {f"model.layers.{number}.{name}.weight": weight for name, weight in parts.items()}
    model = Qwen3ForCausalLM(config)
    model.load_state_dict({name: weight.detach().clone() for name, weight in state.items()})
    return model.to(next(network.parameters()).dtype).eval()

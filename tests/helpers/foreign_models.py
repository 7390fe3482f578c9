"""Tiny checkpoints of other libraries: folders as they are published, with random weights."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
)

from textdiff.models import FAMILIES, ForeignConfig, ForeignDenoiser
from textdiff.pretrained.weights import load_weights

GOLDEN = Path(__file__).parents[1] / "golden"
WORDS = (
    "Lily",
    "Tom",
    "lost",
    "found",
    "her",
    "his",
    "red",
    "big",
    "ball",
    "dog",
    "She",
    "He",
    "was",
    "happy",
    "again",
)
ROWS = 101
"""Tokens of every network here; the last is the mask."""
MASK = ROWS - 1
PAD, NULL, SIZE = ROWS, None, ROWS + 1
SPECIAL = {"pad_token_id": PAD, "bos_token_id": 3, "eos_token_id": 1, "mask_token_id": MASK, "vocab_size": SIZE}
"""Special tokens of `denoiser`."""

DIFFUSION = ("llada", "dream", "mdlm")
MASKED = ("bert", "roberta", "modernbert")
CAUSAL = ("gpt2", "llama", "qwen3")

_SHAPE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32}
_LLAMA = _SHAPE | {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 96}


def words(masked: bool = False, **special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of 100 tokens, among them each of WORDS with and without a leading space.

    Token 1 is `<|endoftext|>`.

    Args:
        masked: whether token 100 is the mask, `<mask>`.
        special: further special tokens by name, each of them in the vocabulary.
    """
    names = ["<unk>", "<|endoftext|>", "<pad>", "<s>", *(f"Ġ{word}" for word in WORDS), *WORDS]
    names += [".", ",", "Ġ", "Ċ"] + [f"Ġw{number}" for number in range(ROWS - 1 - len(names) - 4)]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = {"unk_token": "<unk>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"} | special
    if masked:
        named["mask_token"] = "<mask>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)


def golden(kind: str, folder: Path) -> Path:
    """The folder of a diffusion model with recorded logits."""
    folder.mkdir(parents=True)
    shutil.copy(GOLDEN / f"{kind}_config.json", folder / "config.json")
    shutil.copy(GOLDEN / f"{kind}_weights.safetensors", folder / "model.safetensors")
    if kind == "dream":  # is published as vocabulary and merges, with a tokenizer class of its own
        letters = [*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz.,Ġ"]
        names = ["<unk>", "<|endoftext|>", "<pad>", "<s>", *letters]
        names += [f"w{number}" for number in range(ROWS - 1 - len(names))] + ["<mask>"]
        (folder / "vocab.json").write_text(json.dumps({name: number for number, name in enumerate(names)}))
        (folder / "merges.txt").write_text("#version: 0.2\n")
        special = {"eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "mask_token": "<mask>"}
        code = {"auto_map": {"AutoTokenizer": ["evil.T", None]}, "tokenizer_class": "DreamTokenizer"}
        (folder / "tokenizer_config.json").write_text(json.dumps(special | code))
    else:
        words(masked=False).save_pretrained(folder)
    _ask_for_code(folder)
    return folder


def transformer(kind: str) -> PreTrainedModel:
    """A network of transformers, with weights large enough for every path to matter."""
    torch.manual_seed(0)
    size = {"vocab_size": ROWS, "eos_token_id": 1, "bos_token_id": 3, "pad_token_id": 2}
    made: PreTrainedModel = {
        "bert": lambda: BertForMaskedLM(BertConfig(**size, **_SHAPE, intermediate_size=48)),
        "roberta": lambda: RobertaForMaskedLM(RobertaConfig(**size, **_SHAPE, intermediate_size=48)),
        "modernbert": lambda: ModernBertForMaskedLM(
            ModernBertConfig(**size, **_SHAPE, intermediate_size=48, local_attention=8, max_position_embeddings=96)
        ),
        "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**size, n_layer=2, n_head=4, n_embd=32, n_positions=96)),
        "llama": lambda: LlamaForCausalLM(LlamaConfig(**size, **_LLAMA, tie_word_embeddings=False)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**size, **_LLAMA, head_dim=8, tie_word_embeddings=True)),
    }[kind]()
    with torch.no_grad():
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return made.eval()


def denoiser(kind: str, dtype: torch.dtype = torch.float32, **changes: Any) -> ForeignDenoiser:
    """A network of any family with the weights of its checkpoint; `changes` to `SPECIAL`."""
    if kind in DIFFUSION:
        settings = json.loads((GOLDEN / f"{kind}_config.json").read_text())
        weights = load_file(GOLDEN / f"{kind}_weights.safetensors")
    else:
        published = transformer(kind)
        settings, weights = published.config.to_dict(), published.state_dict()
    family = FAMILIES[settings["model_type"]]
    with torch.device("meta"):
        network = ForeignDenoiser(
            ForeignConfig(backbone=family.backbone(settings), shifted=family.shifted, **SPECIAL | changes)
        )
    load_weights(network, ((f"backbone.{n}", w) for n, w in family.weights(weights)), GOLDEN, "cpu", dtype)
    return network.eval()


def checkpoint(kind: str, folder: Path) -> Path:
    """The folder of any of `DIFFUSION`, `MASKED` and `CAUSAL`."""
    if kind in DIFFUSION:
        return golden(kind, folder)
    transformer(kind).save_pretrained(folder)
    if kind in MASKED:
        words(masked=True, pad_token="<pad>", bos_token="<s>").save_pretrained(folder)
    else:
        words().save_pretrained(folder)
    return folder


def shard(folder: Path, pieces: int = 3) -> Path:
    """Split the weights over several files, as large models are published."""
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    place = {
        name: f"model-{1 + i * pieces // len(names):05}-of-{pieces:05}.safetensors" for i, name in enumerate(names)
    }
    for file in set(place.values()):
        save_file({name: state[name] for name in names if place[name] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": place}))
    return folder


def _ask_for_code(folder: Path) -> None:
    """Add code to a checkpoint that fails when it is run."""
    (folder / "evil.py").write_text("raise SystemExit('code from a checkpoint was executed')\n")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoModelForCausalLM": "evil.M"}
    (folder / "config.json").write_text(json.dumps(config))

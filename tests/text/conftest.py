"""Tokenizers of several families, learnt from four sentences: no file and no network is needed."""

from collections.abc import Callable

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from textdiff.text import train_tokenizer, with_special_tokens

CORPUS = [
    "Lily lost her ball.",
    " They looked. She was happy.",
    "It is unchanging.",
    "日本語 שלום 🙂 café\n\n\tend",
] * 3


def bert() -> PreTrainedTokenizerFast:
    """Lower-cases, has cls, sep, mask and pad, and no bos, eos and null."""
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    special["mask_token"] = "[MASK]"
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=list(special.values()), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def llama() -> PreTrainedTokenizerFast:
    """SentencePiece with byte fallback: puts a blank before every text, has bos and eos, no pad, mask and null."""
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    pieces = ["▁", "▁T", "▁Th", "▁The", "▁They", "▁S", "▁Sh", "▁She", "in", "ing", "un"]
    units = [*special.values(), *(f"<0x{byte:02X}>" for byte in range(256)), *sorted(set("TheySinguchLost."))]
    merges = [("▁", "T"), ("▁T", "h"), ("▁Th", "e"), ("▁The", "y"), ("▁", "S"), ("▁S", "h"), ("▁Sh", "e")]
    merges += [("i", "n"), ("in", "g"), ("u", "n")]
    vocabulary = {piece: i for i, piece in enumerate([*units, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def gpt2() -> PreTrainedTokenizerFast:
    """Byte-level, one token for bos and eos, no pad, mask and null."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(CORPUS, 320)


@pytest.fixture(params=[bert, llama, gpt2], ids=lambda build: build.__name__)
def bare(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """A foreign tokenizer as it comes."""
    build: Callable[[], PreTrainedTokenizerFast] = request.param
    return build()


@pytest.fixture
def foreign(bare: PreTrainedTokenizerFast) -> PreTrainedTokenizerBase:
    """A foreign tokenizer that was given what it lacked."""
    return with_special_tokens(bare)

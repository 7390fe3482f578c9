"""The LightningDataModule for text: tokenise once, pack, corrupt; it resumes at the batch where a run stopped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, final

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase

from textdiff.data.corpus import Corpus, load_corpus, parts_of
from textdiff.data.corruption.corruption import Corruption
from textdiff.data.corruption.fill_in_middle import MARKS, FillInMiddle
from textdiff.data.corruption.left_to_right import LeftToRight
from textdiff.data.corruption.mixture import Mixture
from textdiff.data.corruption.random_masks import RandomMasks
from textdiff.data.held_out import held_out_gaps
from textdiff.data.passages import split
from textdiff.data.rows import KeyedSampler, PackedRows
from textdiff.data.shards import Shards
from textdiff.data.sources import Source, check_sources, documents, hub_name, source_list, world_name
from textdiff.data.streamed_rows import StreamedRows
from textdiff.errors import UserError
from textdiff.files import probe_folder, whole_folder
from textdiff.pretrained.packaged import packaged
from textdiff.text import Template, Vocabulary, load_tokenizer, train_tokenizer
from textdiff.worlds import world

TOKENIZER_TEXTS = 200_000
"""The most documents that a tokenizer is trained on."""
MOST_TOKENS = 2**28
"""In a batch."""


@final
class TextDataModule(lightning.LightningDataModule):
    """Documents of any sources as batches of packed, corrupted rows.

    Training batches form one endless stream (see `KeyedSampler` and `StreamedRows`), so training is measured in steps:
    set `trainer.max_steps`. Noise and order depend on (seed, epoch, sample) alone: they are the same for any number of
    workers, and for the same global batch on any number of devices.

    Validation has two loaders: packed rows (random masks for a denoiser, plain text for a causal network) with the same
    noise each time, and held-out gaps. Every device evaluates all of them.

    Args:
        train: sources of training text, by class or in short, see `textdiff.data.sources`.
        valid: sources of held-out text; by default, unless `streaming`, the last 5 % of `train`, at most some 200,000
            tokens, which are then not trained on. (A tokenizer that is trained here has seen them.)
        tokenizer: folder of a tokenizer; if it does not exist, a byte-level BPE of `vocab_size` tokens is trained on
            `train` and saved there. Or `hub:owner/name`, any tokenizer on the Hub, or `world:name`, that of a world.
        corruption: turns a text into the input of the network; `LeftToRight` or `FillInMiddle` for a causal network.
        vocab_size: of a tokenizer that is trained here.
        length: tokens in a row.
        batch_size: rows in a batch, per device.
        reserve: positions of a row kept free for null slots.
        field: column of jsonl, csv, parquet and Hub sources that holds the text.
        seed: of order and noise.
        workers: processes that prepare batches; any number gives the same batches.
        cache: folder for tokenised text.
        gaps, gap_length: number and length of held-out gaps.
        valid_samples: noise draws per validation row.
        streaming: for training text that fits neither memory nor disk: nothing is kept, and rows are made from
            `buffer` pieces of text at a time. A resumed run reads the stream again up to where it stopped.
        buffer: pieces of text that are packed and shuffled together in streaming.
        test: sources of text for `textdiff test`; by default those of `valid`.
        predict: sources of templates to fill: one in each line of a `.txt` file, or in `field` of the rows of other
            sources, whose other fields are kept. They are filled in batches of `batch_size`.

    Attributes:
        shard_rows: rows of a shard that `predict` fills; None: there is one shard. Set by the writer of predictions.
        finished: numbers of the shards that have been written, ascending. Set by the writer, too.

    Raises:
        UserError: a source or the tokenizer is missing or damaged, or a number is out of range.
    """

    def __init__(
        self,
        train: Sequence[str | Source] = (),
        valid: Sequence[str | Source] = (),
        tokenizer: str | None = None,
        corruption: Corruption | None = None,
        *,
        vocab_size: int = 2048,
        length: int = 512,
        batch_size: int = 16,
        reserve: int = 0,
        field: str = "text",
        seed: int = 0,
        workers: int = 1,
        cache: str = "~/.cache/textdiff",
        gaps: int = 100,
        gap_length: int = 32,
        valid_samples: int = 2,
        streaming: bool = False,
        buffer: int = 1024,
        test: Sequence[str | Source] = (),
        predict: Sequence[str | Source] = (),
    ) -> None:
        super().__init__()
        _at_least(1, batch_size=batch_size, gap_length=gap_length, valid_samples=valid_samples, buffer=buffer)
        _at_least(0, workers=workers, gaps=gaps, seed=seed)
        if batch_size * length > MOST_TOKENS:
            raise UserError(
                f"data.batch_size x data.length is {batch_size * length:,}, expected at most {MOST_TOKENS:,}"
            )
        self.sources, self.held_out = source_list(train, "train"), source_list(valid, "valid")
        self.tests = source_list(test, "test") or self.held_out
        self.templates = source_list(predict, "predict")
        self.corruption = corruption if corruption is not None else Mixture()
        self.length, self.batch_size, self.reserve, self.field = length, batch_size, reserve, field
        self.seed, self.workers, self.cache = seed, workers, cache
        self.gaps, self.gap_length, self.valid_samples = gaps, gap_length, valid_samples
        self.streaming, self.buffer = streaming, buffer
        if tokenizer is None:
            raise UserError("data.tokenizer is not given: name a folder, in which one is trained if it is not there")
        self.tokenizer = _tokenizer(tokenizer, self.sources, field, vocab_size)
        self.vocabulary = Vocabulary.of(self.tokenizer)
        self.shard_rows: int | None = None
        self.finished: Sequence[int] = ()
        self._start = self._batches = 0

    @property
    def training_sources(self) -> Sequence[str | Source]:
        """Sources of the text to train on."""
        return self.sources

    def prepare_data(self) -> None:
        """Tokenise the documents of this run into the cache; Lightning calls it in one process."""
        task = self.trainer.state.fn if self.trainer is not None else TrainerFn.FITTING
        if task is TrainerFn.FITTING:
            check_sources(self.sources)
            if not self.streaming:
                self._corpus(self.sources)
            if not (self.held_out or self.streaming):
                rank_zero_info(
                    "data.valid is not given: the last 5 % of data.train, at most some 200,000 tokens, are held out"
                )
        if task in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            self._held_out_corpus(self.held_out)
        if task is TrainerFn.TESTING:
            self._held_out_corpus(self.tests, "data.test or data.valid")

    def _corpus(self, sources: Sequence[str | Source], option: str = "data.train") -> Corpus:
        check_sources(sources, option)
        return load_corpus(sources, self.tokenizer, self.cache, self.field)

    def _training_corpus(self) -> Corpus:
        corpus = self._corpus(self.sources)
        return corpus if self.held_out else split(corpus, self.vocabulary)[0]

    def _held_out_corpus(self, sources: Sequence[str | Source], option: str = "data.valid") -> Corpus:
        """Held-out text, or the end of the training text where none is named."""
        if sources or self.streaming or not self.sources:
            return self._corpus(sources, option)
        return split(self._corpus(self.sources), self.vocabulary)[1]

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless batches of this rank; after `load_state_dict` they continue where the checkpoint was written."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        settings: dict[str, Any] = {
            "num_workers": self.workers,
            "persistent_workers": self.workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }
        if self.streaming:
            stream = StreamedRows(
                self.sources,
                self.tokenizer,
                self.vocabulary,
                length=self.length,
                batch_size=self.batch_size,
                corruption=self.corruption,
                seed=self.seed,
                reserve=self.reserve,
                field=self.field,
                buffer=self.buffer,
                rank=rank,
                world_size=world_size,
                start=self._start,
            )
            return DataLoader(stream, batch_size=self.batch_size, **settings)
        rows = PackedRows(
            self._training_corpus(), self.vocabulary, self.length, self.corruption, self.seed, self.reserve
        )
        sampler = KeyedSampler(len(rows), self.batch_size, self.seed, rank, world_size, self._start)
        return DataLoader(rows, batch_sampler=sampler, **settings)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Packed rows, and held-out gaps unless `gaps` is 0.

        Raises:
            UserError: no held-out document is long enough for a gap.
        """
        return self._evaluation_loaders(self.held_out)

    def test_dataloader(self) -> list[DataLoader[Any]]:
        """As `val_dataloader`, on the sources for tests."""
        return self._evaluation_loaders(self.tests)

    def _evaluation_loaders(self, sources: Sequence[str | Source]) -> list[DataLoader[Any]]:
        corpus = self._held_out_corpus(sources)
        causal = self.corruption.causal
        corruption: Corruption = LeftToRight() if causal else RandomMasks()
        rows = PackedRows(corpus, self.vocabulary, self.length, corruption, seed=0)
        keys = [(draw, row) for draw in range(1 if causal else self.valid_samples) for row in range(len(rows))]
        loaders: list[DataLoader[Any]] = [DataLoader(rows, sampler=keys, batch_size=self.batch_size)]
        if self.gaps:
            longest = self.length - (MARKS if isinstance(self.corruption, FillInMiddle) else 0)
            gaps = held_out_gaps(corpus, self.vocabulary, self.gaps, self.gap_length, longest=longest)
            if not gaps:
                raise UserError(
                    f"no held-out text of up to {self.length} tokens has room for a gap of {self.gap_length}: "
                    "lower data.gap_length, raise data.length, or set data.gaps to 0"
                )
            loaders.append(DataLoader(gaps, batch_size=None))  # type: ignore[arg-type]
        return loaders

    def predict_dataloader(self) -> DataLoader[Any]:
        """The rows that this rank fills, in batches of one shard, see `Shards`.

        Raises:
            UserError: there are none, or the first has no template.
        """
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        shards = Shards(
            self.templates,
            self.field,
            self.shard_rows,
            self.batch_size,
            rank=rank,
            world_size=world_size,
            finished=self.finished,
            length=self._encoded_length,
        )
        return DataLoader(shards, batch_size=None)

    def _encoded_length(self, template: str) -> int:
        """Tokens and slots of a template; 0 if it cannot be parsed."""
        try:
            return Template.parse(template).encode(self.tokenizer).tokens.shape[1]
        except UserError:
            return 0

    def state_dict(self) -> dict[str, Any]:
        """How many batches and rows of the stream all ranks have consumed so far."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        return {"batches": batches, "rows": self._start + (batches - self._batches) * self._global_batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the stream of rows where `state_dict` was taken, whatever the batch size was."""
        self._batches = state_dict["batches"]
        self._start = state_dict.get("rows", self._batches * self._global_batch)

    @property
    def _global_batch(self) -> int:
        return self.batch_size * (self.trainer.world_size if self.trainer is not None else 1)


def _at_least(least: int, **options: int) -> None:
    for name, value in options.items():
        if value < least:
            raise UserError(f"data.{name} is {value}, expected at least {least}")


def _tokenizer(path: str, sources: Sequence[str | Source], field: str, vocab_size: int) -> PreTrainedTokenizerBase:
    """Load a tokenizer, or train one and save it, whole, so that no process sees half of it."""
    if (repository := hub_name(path)) is not None:
        return load_tokenizer(repository)
    if (name := world_name(path)) is not None:
        return world(name).tokenizer
    folder = packaged(path)
    if folder.exists() and not folder.is_dir():
        raise UserError(
            f"data.tokenizer is {path!r}, which is no folder: name one, in which one is trained if it is new"
        )
    if not folder.exists():
        check_sources(sources)
        probe_folder(folder, "data.tokenizer")
        texts = islice(documents(sources, field), TOKENIZER_TEXTS)
        tokenizer = train_tokenizer((part for text in texts for part, _ in parts_of(text)), vocab_size)
        with whole_folder(folder) as part:
            tokenizer.save_pretrained(part)
    return load_tokenizer(folder)

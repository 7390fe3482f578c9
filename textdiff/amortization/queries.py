"""Queries, the evidence that an amortized posterior is conditioned on: some to train on, others held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, final

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from textdiff.data import KeyedSampler, documents, held_out_gaps
from textdiff.data.corpus import in_memory
from textdiff.data.sources import Source, check_sources, source_list, source_names, templates
from textdiff.errors import UserError
from textdiff.evidence import Question
from textdiff.evidence.question import ANSWER_GAP
from textdiff.text import Canvas, Gap, Template, Vocabulary


@dataclass(frozen=True, eq=False)
class Query:
    """A batch of evidence: texts with gaps.

    Attributes:
        number: `[rows]`, the index of each in its `QuerySet`.
        canvas: the evidence, a row each.
        tokens: the texts that the gaps were cut from, ids `[rows, length]`; None if there is no true text.
    """

    number: Tensor
    canvas: Canvas
    tokens: Tensor | None

    def to(self, device: torch.device | str) -> Query:
        """Move to a device."""
        return Query(self.number, self.canvas.to(device), None if self.tokens is None else self.tokens.to(device))

    def __len__(self) -> int:
        return len(self.canvas)


@final
class QuerySet(Dataset[Query]):
    """Queries by index, each a single row of its own length."""

    def __init__(self, items: Sequence[tuple[Canvas, Tensor | None]], pad_id: int) -> None:
        self.items, self.pad_id = list(items), pad_id

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: int | tuple[int, int]) -> Query:
        """A query by its index, or by (epoch, index)."""
        number = key if isinstance(key, int) else key[1]
        canvas, tokens = self.items[number]
        return Query(torch.tensor([number]), canvas, tokens)

    def stack(self, queries: Sequence[Query]) -> Query:
        """Several queries as one batch, the shorter ones padded on the right."""
        canvas = Canvas.stack([query.canvas for query in queries], self.pad_id)
        length, truth = canvas.tokens.shape[1], [query.tokens for query in queries]
        known = [row for row in truth if row is not None]
        padded = [torch.nn.functional.pad(row, (0, length - row.shape[1]), value=self.pad_id) for row in known]
        number = torch.cat([query.number for query in queries])
        return Query(number, canvas, torch.cat(padded) if len(known) == len(queries) else None)


@final
class QueryDataModule(lightning.LightningDataModule):
    """Queries from texts into which a gap is cut, from templates or from questions.

    Validation has two loaders, `unseen` queries and some of those that are trained on: their difference is what the
    learner has memorised. Training batches form one endless stream keyed by (seed, epoch).

    Args:
        train: sources of the queries to train on, by class or in short, see `textdiff.data.sources`.
        valid: sources of the unseen queries.
        holds: what the sources hold: "texts"; "templates", one in each line of a `.txt` file; or "questions", texts
            whose first line is a question, to be followed by a rationale and an answer (see
            `textdiff.evidence.Question`).
        gap_length: tokens in the gap that is cut into a text; of a rationale, the most that it may have.
        shortest: the least tokens that a fill of such a gap may have; None: exactly as many as were cut out.
        margin: the least tokens on either side of a gap.
        longest: tokens of a text; longer ones are read in passages.
        count: queries to train on.
        unseen: queries to validate on, and as many of those that are trained on.
        batch_size: queries in a batch, per device.
        field: column of jsonl, csv, parquet and Hub sources.
        seed: of the places of the gaps and of the order.

    Raises:
        UserError: a number out of range; in `setup`, a source is missing, or no text has room for such a gap.
    """

    def __init__(
        self,
        train: Sequence[str | Source] = (),
        valid: Sequence[str | Source] = (),
        holds: Literal["texts", "templates", "questions"] = "texts",
        *,
        gap_length: int = 12,
        shortest: int | None = None,
        margin: int = 2,
        longest: int = 512,
        count: int = 1000,
        unseen: int = 50,
        batch_size: int = 16,
        field: str = "text",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if min(gap_length, margin, count, unseen, batch_size) < 1:
            raise UserError("data.gap_length, margin, count, unseen and batch_size are 1 or more")
        self.train, self.valid, self.holds = source_list(train, "train"), source_list(valid, "valid"), holds
        self.shortest = gap_length if shortest is None else shortest
        if not 0 <= self.shortest <= gap_length:
            raise UserError(f"data.shortest is {shortest}, expected at most data.gap_length, {gap_length}")
        self.gap_length, self.margin, self.longest, self.field = gap_length, margin, longest, field
        self.count, self.unseen, self.batch_size, self.seed = count, unseen, batch_size, seed
        self._start = self._batches = 0
        self._ready = False
        self.tokenizer: PreTrainedTokenizerBase | None = None

    @property
    def training_sources(self) -> Sequence[str | Source]:
        """Sources of the queries to train on."""
        return self.train

    def setup(self, stage: str) -> None:
        """Read the sources; without a trainer, whose module has a tokenizer, set the attribute `tokenizer` before."""
        if self._ready:
            return
        if self.trainer is not None:
            self.tokenizer = self.trainer.lightning_module.tokenizer  # type: ignore[assignment]
        assert self.tokenizer is not None
        check_sources(self.train)
        check_sources(self.valid, "data.valid")
        self.seen_queries = self._queries(self.train, self.count, self.seed)
        self.unseen_queries = self._queries(self.valid, self.unseen, self.seed + 1)
        self._ready = True

    def _queries(self, sources: Sequence[str | Source], count: int, seed: int) -> QuerySet:
        assert self.tokenizer is not None
        vocabulary = Vocabulary.of(self.tokenizer)
        assert vocabulary.pad is not None
        items: list[tuple[Canvas, Tensor | None]] = []
        if self.holds == "templates":
            lines = islice(templates(sources, self.field), count)
            items += [(Template.parse(line).encode(self.tokenizer), None) for line in lines]
        elif self.holds == "questions":
            for text in islice(documents(sources, self.field), count):
                question = Question(text.split("\n")[0], gaps=(Gap(1, self.gap_length), ANSWER_GAP))
                items.append((question.template.encode(self.tokenizer), None))
        else:
            corpus = in_memory(islice(documents(sources, self.field), 4 * count), self.tokenizer)
            items += [
                (replace(canvas, minimum=canvas.minimum.clamp(max=self.shortest)), tokens)
                for canvas, tokens in held_out_gaps(
                    corpus, vocabulary, count, self.gap_length, self.margin, longest=self.longest, seed=seed
                )
            ]
        if not items:
            what = f"text with room for a gap of {self.gap_length} tokens" if self.holds == "texts" else self.holds[:-1]
            raise UserError(f"no {what} in {source_names(sources)}: lower data.gap_length, or name other sources")
        return QuerySet(items, vocabulary.pad)

    def train_dataloader(self) -> DataLoader[Any]:
        """Endless batches of this rank; after `load_state_dict` they continue where the checkpoint was written."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        queries = self.seen_queries
        sampler = KeyedSampler(len(queries), self.batch_size, self.seed, rank, world_size, self._start)
        return DataLoader(queries, batch_sampler=sampler, collate_fn=queries.stack)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """A loader of unseen queries, and one of as many of those that are trained on."""
        loaders = []
        for queries in (self.unseen_queries, self.seen_queries):
            some = range(min(self.unseen, len(queries)))
            loaders.append(DataLoader(queries, sampler=some, batch_size=self.batch_size, collate_fn=queries.stack))
        return loaders

    test_dataloader = val_dataloader

    def transfer_batch_to_device(self, batch: Query, device: torch.device, dataloader_idx: int) -> Query:
        """Move a batch to a device."""
        return batch.to(device)

    def state_dict(self) -> dict[str, Any]:
        """How many batches and queries of the stream all ranks have consumed so far."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
        each = self.batch_size * self.trainer.world_size
        return {"batches": batches, "rows": self._start + (batches - self._batches) * each}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the stream where `state_dict` was taken."""
        self._batches, self._start = state_dict["batches"], state_dict["rows"]

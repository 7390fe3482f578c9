"""Predictions on disk: shards that are either complete or missing, so that a killed run can be continued."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

from lightning import LightningModule
from lightning.pytorch import Callback, Trainer

from textdiff.data import Part, TextDataModule
from textdiff.data.sources import parse_sources
from textdiff.errors import UserError
from textdiff.files import atomically, probe_file, probe_folder, read_json, tidy
from textdiff.models import fingerprint
from textdiff.training.prediction import PredictionModule

SETTINGS = "settings.json"
"""File in a folder of predictions with the settings that they depend on."""
FILE = ".jsonl"
"""How a path ends that is one file."""


@final
class PredictionWriter(Callback):
    """Writes the rows that `predict` has filled as JSON lines, in their order.

    A folder gets a file for each shard, `00000.jsonl` and so on, which is renamed into place when it is complete. The
    same command again fills only the shards that are missing, on any number of processes; a run with other settings is
    refused. Each process fills and writes shards of its own. For the fields of a line see
    `textdiff.training.fill_rows.fill_rows`.

    Args:
        path: a folder; or, for few rows, a file that ends in `.jsonl`, which one process writes at the end.
        rows: of a shard.

    Raises:
        UserError: `rows` is less than 1.
    """

    def __init__(self, path: str = "predictions.jsonl", rows: int = 1000) -> None:
        if rows < 1:
            raise UserError(f"predictions.rows is {rows}, expected at least 1")
        self.path, self.rows = Path(path), rows
        self._lines: dict[int, str] = {}
        self._finished: list[int] = []

    @property
    def one_file(self) -> bool:
        """Whether all rows are written to one file."""
        return self.path.suffix == FILE

    def file(self, shard: int) -> Path:
        """The file of a shard."""
        return self.path if self.one_file else self.path / f"{shard:05}.jsonl"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the size of shards, and the shards that are finished, in the data module.

        Raises:
            UserError: the path cannot be written, or several processes want to write one file.
        """
        data = trainer.datamodule  # type: ignore[attr-defined]
        if stage != "predict" or not isinstance(data, TextDataModule):
            return
        check_place(self.path)
        if self.one_file and trainer.world_size > 1:
            raise UserError(f"several processes cannot write {str(self.path)!r}: give a folder as predictions.path")
        data.shard_rows = None if self.one_file else self.rows
        data.finished = self._finished = trainer.strategy.broadcast(self._existing())  # as one process sees it

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check that existing predictions in the folder are of a run with the same settings.

        Raises:
            UserError: they are not.
        """
        if self.one_file:
            return
        ours, path = self._settings(trainer, pl_module), self.path / SETTINGS
        if path.is_file():
            theirs = read_json(path)
            if not isinstance(theirs, dict):
                raise UserError(f"{SETTINGS} in {str(self.path)!r} is damaged: give another predictions.path")
            if changed := [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]:
                name = min(changed)
                raise UserError(
                    f"{str(self.path)!r} holds predictions of another run ({name} was {theirs.get(name)}, is "
                    f"{ours.get(name)}): give another predictions.path, or the settings in its {SETTINGS}"
                )
        elif self.path.exists() and any(self.path.glob("*.jsonl")):
            raise UserError(f"{str(self.path)!r} holds .jsonl files and no {SETTINGS}: give another predictions.path")
        elif trainer.is_global_zero:
            with atomically(path) as file:
                file.write((json.dumps(ours, indent=1) + "\n").encode())
        tidy(self.path)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the rows, and write their shard when it is complete."""
        assert isinstance(batch, Part)
        for row, record in zip(batch.rows, outputs, strict=True):
            self._lines[row.index] = json.dumps(record, ensure_ascii=False, default=str) + "\n"
        if not batch.last:
            return
        with atomically(self.file(batch.shard)) as file:
            file.writelines(self._lines[index].encode(errors="backslashreplace") for index in sorted(self._lines))
        self._lines = {}

    def _settings(self, trainer: Trainer, module: LightningModule) -> dict[str, Any]:
        """The settings that predictions depend on, by name; not the batch size, which moves their last digits only."""
        assert isinstance(module, PredictionModule)
        data: TextDataModule = trainer.datamodule  # type: ignore[attr-defined]
        names = [source.name for source in parse_sources(data.templates)]
        return {
            "data.predict": [[Path(name).name, *_content_hash(name)] for name in names],
            "data.field": data.field,
            "predictions.rows": self.rows,
            "trainer.precision": trainer.precision,
            "the network": fingerprint(module.network)[:16],
            **{f"model.fill.{name}": value for name, value in asdict(module.fill).items()},
        }

    def _existing(self) -> list[int]:
        """Numbers of the shards in the folder, ascending."""
        if self.one_file:
            return []
        files = (path for path in self.path.glob("*.jsonl") if path.stem.isdecimal())
        return sorted(int(path.stem) for path in files if path == self.file(int(path.stem)))


def check_place(path: Path) -> None:
    """Check that predictions can be written to a path, before any row is filled.

    Raises:
        UserError: they cannot.
    """
    (probe_file if path.suffix == FILE else probe_folder)(path, "predictions.path")


def _content_hash(source: str) -> list[str]:
    """A hash of a file, in a list; an empty list for a source that is no file."""
    if not Path(source).is_file():
        return []
    with open(source, "rb") as file:
        return [hashlib.file_digest(file, "sha256").hexdigest()[:16]]

"""The LightningModule that learns a posterior, whatever the method."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, final

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric
from transformers import PreTrainedModel

from textdiff.amortization.method import Method
from textdiff.amortization.queries import Queries, Query
from textdiff.amortization.task import Task
from textdiff.errors import UserError
from textdiff.evidence import Evidence
from textdiff.models import LoRA, save_adapter
from textdiff.posterior import Prior
from textdiff.pretrained import NetworkPrior, load, save
from textdiff.samplers import LogProbKind, UnmaskingPolicy
from textdiff.training.checkpoints import shape_difference, vocabulary_key
from textdiff.training.optimizers import AdamW, OptimizerFactory, scheduled
from textdiff.worlds import world

WORLD = "world:"


@final
class PosteriorModule(lightning.LightningModule):
    """Teaches a prior to sample a posterior: it starts as a checkpoint, and is exported as one.

    Logged in training: `train/loss`, and what the method tells. In validation, for `unseen` evidence and for `seen`
    evidence, that is learnt from: `ess`, the effective sample size of `valid_draws` fills weighted towards the target,
    as a share of them; `kl_at_least`, log mean w - mean log w, an estimate of KL(q || posterior) that is too low where
    no fill has found the bulk of the posterior; and with a `truth`, unbiased and in nats for each text, `kl`,
    KL(q || posterior), infinite where a fill is impossible, and `forward_kl`, KL(posterior || q).

    Args:
        learner: the checkpoint to start from.
        method: see `TrajectoryBalance`, `SubTrajectoryBalance`, `ReverseKL`, `Distillation`.
        target: "prior", the learner as it began; the folder of another checkpoint, such as its autoregressive twin; or
            `world:name`.
        wanted: the reward.
        policy: how the learner fills gaps, and so what its law is; None: as the checkpoint does by itself.
        adapter: learn a low-rank adapter alone; None: all of the network.
        optimizer: of what learns.
        warmup_steps, final_lr: see `TextModule`.
        dropout: on what each block adds, while it is learnt; draws and figures go without. None: the checkpoint's own.
        truth: `world:name`, whose posterior is what the target's would be if nothing else was wrong.
        valid_draws: fills of each query in validation.
        to: folder for the learner (or its adapter), written at each validation and at the end.
        seed: of the draws.

    Raises:
        UserError: no such checkpoint or world, or a task that makes no sense.
    """

    def __init__(
        self,
        learner: str,
        method: Method,
        target: str = "prior",
        wanted: Evidence | None = None,
        policy: UnmaskingPolicy | None = None,
        adapter: LoRA | None = None,
        optimizer: OptimizerFactory = AdamW(lr=3e-4, weight_decay=0.0),  # noqa: B008  (frozen)
        warmup_steps: int = 20,
        final_lr: float = 0.1,
        dropout: float | None = None,
        truth: str | None = None,
        valid_draws: int = 64,
        to: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if valid_draws < 2:
            raise UserError(f"model.valid_draws is {valid_draws}, expected at least 2")
        self.base = learner
        prior = _with_policy(load(learner), policy)
        assert isinstance(prior.network, PreTrainedModel)
        self.network, self.tokenizer, self._prior = prior.network, prior.tokenizer, prior
        self.method, self.optimizer, self.adapter = method, optimizer, adapter
        self.warmup_steps, self.final_lr, self.seed, self.to_folder = warmup_steps, final_lr, seed, to
        self.valid_draws, self.truth = valid_draws, None if truth is None else _named(truth)
        # no module of this one: it neither learns nor belongs into a checkpoint
        self._target = [_with_policy(load(learner), policy) if target == "prior" else _named(target)]
        if adapter is not None:
            adapter.attach(self.network)
        if dropout is not None:
            for part in prior.network.modules():
                if isinstance(part, torch.nn.Dropout):
                    part.p = dropout
        self.network.train()
        self.task = Task(prior, self._target[0], wanted)
        if prior.kind is not LogProbKind.EXACT:
            raise UserError(f"{prior.label} draws its order at random: what is learnt could not be measured")
        self.figures = torch.nn.ModuleDict({f"{of}_{name}": MeanMetric() for of in OF for name in FIGURES})

    @property
    def prior(self) -> NetworkPrior:
        """The learner as it stands."""
        return self._prior

    def setup(self, stage: str) -> None:
        """Bring the target along to where the learner learns.

        Raises:
            UserError: the data are no queries.
        """
        if not isinstance(self.trainer.datamodule, Queries):  # type: ignore[attr-defined]
            raise UserError("a posterior is learnt from textdiff.amortization.Queries: set data.class_path")

    def on_fit_start(self) -> None:
        """Tell the size of what learns."""
        learns = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        rank_zero_info(f"{learns:,} parameters learn, of {self.network.num_parameters():,}")
        self._follow()

    def _follow(self) -> None:
        target = self._target[0]
        if hasattr(target, "network") and isinstance(target.network, torch.nn.Module):
            target.network.to(self.device).eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the method prepare; dropout and draws are keyed by (seed, step, rank)."""
        torch.manual_seed(self._key(1))
        queries = self.trainer.datamodule.seen_queries  # type: ignore[attr-defined]
        told = self.method.prepare(
            self.task, queries, self.global_step, torch.Generator().manual_seed(self._key(2)), self.trainer.print
        )
        for name, value in told.items():
            self.log(name, value, prog_bar=True)

    def _key(self, purpose: int) -> int:
        seeds = np.random.SeedSequence((self.seed, self.global_step, self.global_rank, purpose))
        return int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def training_step(self, batch: Query, batch_idx: int) -> Tensor:
        """The method's loss."""
        generator = torch.Generator().manual_seed(self._key(0))
        loss, told = self.method.loss(self.task, batch, self.global_step, generator)
        self.log("train/loss", loss.detach(), prog_bar=True)
        for name, value in told.items():
            self.log(f"train/{name}", value)
        return loss

    def on_validation_start(self) -> None:
        """The target may have stayed elsewhere."""
        self._follow()

    def validation_step(self, batch: Query, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Weigh fills of unseen evidence (loader 0) and of evidence that is learnt from (loader 1)."""
        generator = torch.Generator().manual_seed(self.seed + batch_idx)
        for name, values in measured(self.task, batch, self.valid_draws, generator, self.truth).items():
            metric = self.figures[f"{OF[dataloader_idx]}_{name}"]
            assert isinstance(metric, MeanMetric)
            metric.update(values)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the figures, and write the learner where it belongs."""
        for name, metric in self.figures.items():
            assert isinstance(metric, MeanMetric)
            if metric.update_called:
                self.log("/".join(name.split("_", 1)), metric.compute(), prog_bar=True, sync_dist=True)
            metric.reset()
        if not self.trainer.sanity_checking:
            self._write()

    on_test_epoch_end = on_validation_epoch_end

    def on_train_end(self) -> None:
        """Write the learner."""
        self._write()

    def _write(self) -> None:
        if self.to_folder is None or not self.trainer.is_global_zero or self.trainer.state.fn != "fit":
            return
        Path(self.to_folder).mkdir(parents=True, exist_ok=True)
        if self.adapter is not None:
            save_adapter(self.network, self.to_folder, self.base)
        else:
            save(self._prior, self.to_folder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the weights are of."""
        checkpoint["network_config"] = self.network.config.to_dict()
        checkpoint["vocabulary"] = vocabulary_key(self.tokenizer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is of this learner.

        Raises:
            UserError: it is of another.
        """
        if checkpoint["state_dict"].keys() != self.state_dict().keys():
            raise UserError("the checkpoint has other parameters: give model.learner and model.adapter of its run")
        if difference := shape_difference(checkpoint["network_config"], self.network.config):
            raise UserError(f"the checkpoint has another shape ({difference}): give the model.learner of its run")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer of what learns, with warm-up and a cosine.

        Raises:
            UserError: the trainer has no last step.
        """
        steps = self.trainer.estimated_stepping_batches
        return scheduled(self.optimizer.build(self.network), steps, self.warmup_steps, self.final_lr)


OF = ("unseen", "seen")
FIGURES = ("ess", "kl_at_least", "kl", "forward_kl")


@torch.no_grad()
def measured(
    task: Task, query: Query, draws: int, generator: torch.Generator, truth: Prior | None = None
) -> dict[str, Tensor]:
    """How far the learner is from the target's posterior: figures by name, `[rows]` float64, see `PosteriorModule`.

    Args:
        task: learner and target.
        query: evidence.
        draws: fills of each.
        generator: of the fills.
        truth: a world whose exact posterior stands for the target's.
    """
    canvas = query.canvas.repeat(draws)
    drawn = task.learner.sample(canvas, generator)
    assert drawn.log_q is not None
    log_w = (task.log_target(canvas, drawn.tokens) - drawn.log_q).view(-1, draws)
    found = {
        "ess": 1 / log_w.softmax(dim=1).square().sum(dim=1).nan_to_num(nan=math.inf) / draws,
        "kl_at_least": (log_w.logsumexp(dim=1) - math.log(draws) - log_w.mean(dim=1)).nan_to_num(nan=math.inf),
    }
    if truth is not None:
        log_p = truth.score(canvas.to(truth.device), drawn.tokens.to(truth.device)).log_q
        assert log_p is not None
        found["kl"] = (drawn.log_q.cpu() - log_p.cpu()).view(-1, draws).mean(dim=1)
        exact = truth.sample(canvas.to(truth.device), generator)
        assert exact.log_q is not None
        log_q = task.log_q(canvas, exact.tokens.to(canvas.tokens.device))
        found["forward_kl"] = (exact.log_q.cpu() - log_q.cpu()).view(-1, draws).mean(dim=1)
    return found


def _named(name: str) -> Prior:
    """A world or a checkpoint."""
    return world(name.removeprefix(WORLD)) if name.startswith(WORLD) else load(name)


def _with_policy(prior: NetworkPrior, policy: UnmaskingPolicy | None) -> NetworkPrior:
    return prior if policy is None else prior.with_policy(policy)

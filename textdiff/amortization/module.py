"""The LightningModule that trains an amortized posterior, by any method."""

from __future__ import annotations

import math
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
from textdiff.amortization.queries import Query, QueryDataModule
from textdiff.amortization.task import Task
from textdiff.data.sources import world_name
from textdiff.errors import UserError
from textdiff.evidence import Evidence
from textdiff.models import LoRA, save_adapter
from textdiff.models.adapter_files import check_adapter_place
from textdiff.posterior import Prior
from textdiff.pretrained import NetworkPrior, load, save
from textdiff.pretrained.save import check_place
from textdiff.samplers import LogProbKind, UnmaskingPolicy
from textdiff.training.checkpoints import shape_difference, vocabulary_key
from textdiff.training.optimizers import AdamW, OptimizerFactory, scheduled
from textdiff.worlds import world


@final
class PosteriorModule(lightning.LightningModule):
    """Train a prior to sample a posterior; the result is a checkpoint like the one that it starts from.

    Logged in training: `train/loss`, and the metrics of the method. In validation, for `unseen` queries and for `seen`
    ones, which are trained on: `ess`, the effective sample size of `valid_draws` fills weighted towards the target, as
    a share of them; `kl_at_least`, log mean w - mean log w, an estimate of KL(q || posterior) that is too low where no
    fill has found the bulk of the posterior; and with a `truth`, unbiased and in nats for each text, `kl`,
    KL(q || posterior), infinite where a fill is impossible, and `forward_kl`, KL(posterior || q).

    Args:
        learner: the checkpoint to start from.
        method: see `TrajectoryBalance`, `SubTrajectoryBalance`, `ReverseKL`, `Distillation`.
        target: "prior", the initial learner; the folder of another checkpoint, such as its autoregressive baseline; or
            `world:name`.
        reward: what the target is multiplied by, such as `Reward`; None: nothing.
        policy: in which order the learner fills gaps, part of what defines q; None: the policy of the checkpoint.
        adapter: train a low-rank adapter alone; None: the whole network.
        optimizer: of the parameters that are trained.
        warmup_steps, final_lr: see `TrainingModule`.
        dropout: rate in training; sampling and validation have none. None: the rate of the checkpoint.
        truth: `world:name`, whose exact posterior stands for the target's in `kl` and `forward_kl`.
        valid_draws: fills of each query in validation.
        to: folder for the learner (or its adapter), written at each validation and at the end.
        seed: of the samples.

    Raises:
        UserError: no such checkpoint or world, or a combination that cannot be learnt (see `Task`).
    """

    def __init__(
        self,
        learner: str,
        method: Method,
        target: str = "prior",
        reward: Evidence | None = None,
        policy: UnmaskingPolicy | None = None,
        adapter: LoRA | None = None,
        *,
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
        if to is not None:
            check_place(to) if adapter is None else check_adapter_place(to, "model.to")
        self.base = learner
        prior = _with_policy(load(learner), policy)
        assert isinstance(prior.network, PreTrainedModel)
        self.network, self.tokenizer, self._prior = prior.network, prior.tokenizer, prior
        self.method, self.optimizer, self.adapter = method, optimizer, adapter
        self.warmup_steps, self.final_lr, self.seed, self.to_folder = warmup_steps, final_lr, seed, to
        self.valid_draws, self.truth = valid_draws, None if truth is None else _load(truth)
        # In a list, so that the target is no submodule: it is not trained and stays out of checkpoints.
        self._target = [_with_policy(load(learner), policy) if target == "prior" else _load(target)]
        if adapter is not None:
            adapter.attach(self.network)
        if dropout is not None:
            for part in prior.network.modules():
                if isinstance(part, torch.nn.Dropout):
                    part.p = dropout
        self.network.train()
        self.task = Task(prior, self._target[0], reward)
        if prior.kind is not LogProbKind.EXACT:
            raise UserError(
                f"{prior.label} draws its order at random: its effective sample size and KL could not be measured"
            )
        self.metrics = torch.nn.ModuleDict({f"{split}_{name}": MeanMetric() for split in SPLITS for name in METRICS})

    @property
    def prior(self) -> NetworkPrior:
        """The learner with its current weights."""
        return self._prior

    def setup(self, stage: str) -> None:
        """Check the data.

        Raises:
            UserError: they are no `QueryDataModule`.
        """
        if not isinstance(self.trainer.datamodule, QueryDataModule):  # type: ignore[attr-defined]
            raise UserError("a posterior is learnt from textdiff.amortization.QueryDataModule: set data.class_path")

    def on_fit_start(self) -> None:
        """Print how many parameters are trained, and move the target to the learner's device."""
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        rank_zero_info(f"{trained:,} of {self.network.num_parameters():,} parameters are trained")
        self._move_target()

    def _move_target(self) -> None:
        target = self._target[0]
        if hasattr(target, "network") and isinstance(target.network, torch.nn.Module):
            target.network.to(self.device).eval()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Let the method prepare the step; dropout and samples are keyed by (seed, step, rank)."""
        torch.manual_seed(self._key(1))
        queries = self.trainer.datamodule.seen_queries  # type: ignore[attr-defined]
        generator = torch.Generator().manual_seed(self._key(2))
        metrics = self.method.prepare(self.task, queries, self.global_step, generator, self.trainer.print)
        for name, value in metrics.items():
            self.log(name, value, prog_bar=True)

    def _key(self, purpose: int) -> int:
        seeds = np.random.SeedSequence((self.seed, self.global_step, self.global_rank, purpose))
        return int(seeds.generate_state(1, np.uint64)[0] >> np.uint64(1))

    def training_step(self, batch: Query, batch_idx: int) -> Tensor:
        """The method's loss."""
        generator = torch.Generator().manual_seed(self._key(0))
        loss, metrics = self.method.loss(self.task, batch, self.global_step, generator)
        self.log("train/loss", loss.detach(), prog_bar=True)
        for name, value in metrics.items():
            self.log(f"train/{name}", value)
        return loss

    def on_validation_start(self) -> None:
        """Move the target: outside of `fit` nothing has done so before."""
        self._move_target()

    def validation_step(self, batch: Query, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Weigh fills of unseen queries (loader 0) and of queries that are trained on (loader 1)."""
        generator = torch.Generator().manual_seed(self.seed + batch_idx)
        for name, values in learner_metrics(self.task, batch, self.valid_draws, generator, self.truth).items():
            metric = self.metrics[f"{SPLITS[dataloader_idx]}_{name}"]
            assert isinstance(metric, MeanMetric)
            metric.update(values)

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log the metrics, and write the learner to its folder."""
        for name, metric in self.metrics.items():
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
        if self.adapter is not None:
            save_adapter(self.network, self.to_folder, self.base)
        else:
            save(self._prior, self.to_folder)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration and the vocabulary that the weights belong to."""
        checkpoint["network_config"] = self.network.config.to_dict()
        checkpoint["vocabulary"] = vocabulary_key(self.tokenizer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint is one of this learner.

        Raises:
            UserError: it has other parameters or another shape.
        """
        if checkpoint["state_dict"].keys() != self.state_dict().keys():
            raise UserError("the checkpoint has other parameters: give model.learner and model.adapter of its run")
        if difference := shape_difference(checkpoint["network_config"], self.network.config):
            raise UserError(f"the checkpoint has another shape ({difference}): give the model.learner of its run")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer of the trained parameters, its learning rate with warm-up and cosine decay.

        Raises:
            UserError: the trainer has no last step.
        """
        steps = self.trainer.estimated_stepping_batches
        return scheduled(self.optimizer.build(self.network), steps, self.warmup_steps, self.final_lr)


SPLITS = ("unseen", "seen")
METRICS = ("ess", "kl_at_least", "kl", "forward_kl")


@torch.no_grad()
def learner_metrics(
    task: Task, query: Query, draws: int, generator: torch.Generator, truth: Prior | None = None
) -> dict[str, Tensor]:
    """How far the learner is from the posterior: metrics by name, `[rows]` float64, see `PosteriorModule`.

    Args:
        task: learner and target.
        query: evidence.
        draws: fills of each row.
        generator: source of the random numbers.
        truth: a world whose exact posterior stands for the target's.
    """
    canvas = query.canvas.repeat(draws)
    fills = task.learner.sample(canvas, generator)
    assert fills.log_q is not None
    log_w = (task.log_target(canvas, fills.tokens) - fills.log_q).view(-1, draws)
    metrics = {
        "ess": 1 / log_w.softmax(dim=1).square().sum(dim=1).nan_to_num(nan=math.inf) / draws,
        "kl_at_least": (log_w.logsumexp(dim=1) - math.log(draws) - log_w.mean(dim=1)).nan_to_num(nan=math.inf),
    }
    if truth is not None:
        log_p = truth.score(canvas.to(truth.device), fills.tokens.to(truth.device)).log_q
        assert log_p is not None
        metrics["kl"] = (fills.log_q.cpu() - log_p.cpu()).view(-1, draws).mean(dim=1)
        exact = truth.sample(canvas.to(truth.device), generator)
        assert exact.log_q is not None
        log_q = task.log_q(canvas, exact.tokens.to(canvas.tokens.device))
        metrics["forward_kl"] = (exact.log_q.cpu() - log_q.cpu()).view(-1, draws).mean(dim=1)
    return metrics


def _load(name: str) -> Prior:
    """The prior `world:name`, or that of a checkpoint."""
    return load(name) if (of := world_name(name)) is None else world(of)


def _with_policy(prior: NetworkPrior, policy: UnmaskingPolicy | None) -> NetworkPrior:
    return prior if policy is None else prior.with_policy(policy)

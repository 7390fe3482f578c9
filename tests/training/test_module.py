"""Pretraining against reference loops: loss, schedule, accumulation, averaging, held-out metrics."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging

from tests.helpers.order_causal import by_definition
from tests.helpers.training import data_module, metrics, stories, trainer
from textdiff import samplers
from textdiff.data import Corruption, LeftToRight, Mixture, RandomMasks, SpanGaps, WholeTexts
from textdiff.errors import UserError
from textdiff.models import Transformer, causal_visibility, denoising_visibility
from textdiff.pretrained import load
from textdiff.priors import DiffusionPrior
from textdiff.samplers import Dilated, Strided
from textdiff.text import train_tokenizer
from textdiff.training import AdamW, Network, PretrainingModule

SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GAPS = SpanGaps(share_null=0.8, lookahead=0.3)
ORDERS = Mixture(SpanGaps(share_null=0.2, orders=(Strided(4), Dilated(), samplers.LeftToRight())), rest=WholeTexts())


def reference(network: Transformer, batch: dict[str, torch.Tensor]) -> tuple[float, int, int]:
    """Nats, maskable tokens and characters of a batch: each text on its own, logits at all positions, float64."""
    config, nats, maskable = network.config, 0.0, 0
    for row in range(len(batch["tokens"])):
        for segment in range(1, int(batch["segments"][row].max()) + 1):
            place = batch["segments"][row] == segment
            tokens, canvas, observed, weights, nullable = (
                batch[name][row][place] for name in ("tokens", "canvas", "observed", "weights", "nullable")
            )
            if network.ordered:
                times = batch["times"][row][place]
                for i in weights.nonzero()[:, 0].tolist():
                    log_probs = by_definition(network, tokens, times, i, ~nullable, bool(nullable[i]))
                    nats -= float(weights[i] * log_probs[tokens[i]])
                maskable += int((~observed).sum())
                continue
            alone, positions = torch.ones_like(canvas)[None], batch["positions"][row][place][None]
            if config.causal:
                logits = network.logits(canvas[None], causal_visibility(alone), positions)[0].double().roll(1, 0)
            else:
                visible = denoising_visibility(alone, observed[None], config.attention)
                logits = network.logits(canvas[None], visible)[0].double()
            logits[:, [config.pad_token_id, config.mask_token_id, config.bos_token_id]] = -math.inf
            if config.causal:
                logits[:, config.null_token_id] = -math.inf
            else:
                logits[:, config.eos_token_id] = -math.inf
                logits[~nullable, config.null_token_id] = -math.inf
            for i in range(len(tokens)):
                if weights[i] > 0:
                    nats += float(weights[i] * F.cross_entropy(logits[i], tokens[i]))
            maskable += int((~observed).sum())
    return nats, maskable, 0


@pytest.mark.parametrize(
    ("corruption", "network"),
    [
        (RandomMasks(), Network(**SMALL)),
        (GAPS, Network(**SMALL)),
        (GAPS, Network(**SMALL, attention="full", tie_word_embeddings=False)),
        (LeftToRight(), Network(**SMALL, causal=True)),
        (ORDERS, Network(**SMALL, attention="order-causal")),
        (RandomMasks(), Network(**SMALL, attention="order-causal")),
    ],
    ids=["random masks", "gaps", "gaps, full attention", "causal", "orders", "random masks, order-causal"],
)
def test_the_loss_is_that_of_a_plain_loop(corruption: Corruption, network: Network, tmp_path: Path) -> None:
    data = data_module(tmp_path, corruption=corruption, batch_size=4, length=192)
    module = PretrainingModule(data.tokenizer, network)
    batch = next(iter(data.train_dataloader()))
    assert int(batch["segments"].max()) > 1
    with torch.no_grad():
        nats, maskable, _ = reference(module.network, batch)
    trainer(tmp_path, max_steps=1).fit(module, data)
    assert metrics(tmp_path)[0]["train/loss"] == pytest.approx(nats / maskable, rel=1e-5)


def test_gradients_are_those_of_the_loss(tmp_path: Path) -> None:
    data = data_module(tmp_path, corruption=GAPS)
    module = PretrainingModule(data.tokenizer, Network(**SMALL))
    batch = next(iter(data.train_dataloader()))
    losses, weights = module.cross_entropy(batch)
    ((losses * weights).sum() / (~batch["observed"]).sum()).backward()
    expected = {name: parameter.grad.clone() for name, parameter in module.network.named_parameters()}
    found: dict[str, torch.Tensor] = {}

    class Watch(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: PretrainingModule, optimizer: Any) -> None:
            found.update({name: p.grad.clone() for name, p in pl_module.network.named_parameters()})

    module.zero_grad()
    trainer(tmp_path, max_steps=1, callbacks=[Watch()]).fit(module, data)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-7)


def test_accumulation_averages_the_gradients_of_its_batches(tmp_path: Path) -> None:
    data = data_module(tmp_path, corruption=Mixture())
    optimizer = AdamW(lr=0.01)
    plain = PretrainingModule(data.tokenizer, Network(**SMALL), optimizer, warmup_steps=1, final_lr=1.0)
    module = PretrainingModule(data.tokenizer, Network(**SMALL), optimizer, warmup_steps=1, final_lr=1.0)
    trainer(tmp_path, max_steps=2, accumulate_grad_batches=3).fit(module, data)

    step, batches = optimizer.build(plain.network), iter(data_module(tmp_path, corruption=Mixture()).train_dataloader())
    for _ in range(2):
        step.zero_grad()
        for _ in range(3):
            batch = next(batches)
            losses, weights = plain.cross_entropy(batch)
            ((losses * weights).sum() / (~batch["observed"]).sum() / 3).backward()
        step.step()
    for ours, theirs in zip(module.network.parameters(), plain.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_initial_weights_are_a_function_of_the_seed_alone(tmp_path: Path) -> None:
    data = data_module(tmp_path)

    def weights(seed: int) -> torch.Tensor:
        return PretrainingModule(data.tokenizer, Network(**SMALL), seed=seed).network.embedding.weight

    state = torch.get_rng_state()
    first = weights(1)
    assert torch.equal(state, torch.get_rng_state()), "the global random state is left alone"
    torch.manual_seed(5)
    assert torch.equal(first, weights(1)) and not torch.equal(first, weights(2))


class Record(Callback):
    """Learning rates before, and weights after, each optimizer step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []
        self.weights: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer: Any, *arguments: Any) -> None:
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_batch_end(self, trainer: Any, pl_module: PretrainingModule, *arguments: Any) -> None:
        self.weights.append({name: value.clone() for name, value in pl_module.network.state_dict().items()})


def test_warm_up_and_cosine(tmp_path: Path) -> None:
    data, record = data_module(tmp_path), Record()
    module = PretrainingModule(data.tokenizer, Network(**SMALL), AdamW(lr=0.1), warmup_steps=4, final_lr=0.1)
    trainer(tmp_path, max_steps=12, callbacks=[record]).fit(module, data)
    expected = [0.25, 0.5, 0.75, 1.0] + [0.1 + 0.45 * (1 + math.cos(math.pi * k / 8)) for k in range(8)]
    assert [rates[0] for rates in record.rates] == pytest.approx([0.1 * factor for factor in expected])
    assert all(rates[0] == rates[1] for rates in record.rates)


def test_averaged_weights_are_validated_and_exported(tmp_path: Path) -> None:
    data, record = data_module(tmp_path, corruption=RandomMasks(), gap_length=16), Record()
    module = PretrainingModule(data.tokenizer, Network(**SMALL), AdamW(lr=0.05), warmup_steps=1)
    fitting = trainer(
        tmp_path,
        max_steps=4,
        val_check_interval=4,
        limit_val_batches=1.0,
        callbacks=[record, EMAWeightAveraging(decay=0.6)],
    )
    fitting.fit(module, data)

    averaged = record.weights[0]
    for weights in record.weights[1:]:
        averaged = {name: 0.6 * averaged[name] + 0.4 * value for name, value in weights.items()}
    network = Transformer(module.network.config).eval()
    network.load_state_dict(averaged)
    rows, gaps = data.val_dataloader()
    with torch.no_grad():
        totals = [reference(network, batch)[:2] for batch in rows]
        nats, tokens = (sum(column) for column in zip(*totals, strict=True))
        scored = torch.cat([batch["tokens"][~batch["observed"]] for batch in rows])
        prior = DiffusionPrior(network, data.tokenizer, data.vocabulary, Strided(8))
        gap_nats = [-float(prior.score(canvas, truth).log_q) for canvas, truth in gaps]
    characters = int(data.vocabulary.characters[scored].sum())
    last = metrics(tmp_path)[-1]
    assert last["valid/nats_per_token"] == pytest.approx(nats / tokens, rel=1e-4)
    assert last["valid/bits_per_character"] == pytest.approx(nats / characters / math.log(2), rel=1e-4)
    assert last["valid/gap_nats"] == pytest.approx(sum(gap_nats) / 16 / len(gap_nats), rel=1e-4)


def test_metrics_of_an_autoregressive_baseline(tmp_path: Path) -> None:
    data = data_module(tmp_path, corruption=LeftToRight(), gaps=0)
    module = PretrainingModule(data.tokenizer, Network(**SMALL, causal=True))
    (figures,) = trainer(tmp_path, limit_val_batches=1.0).validate(module, data, verbose=False)
    texts = stories(6, seed=1)
    nats = tokens = 0
    with torch.no_grad():
        for batch in data.val_dataloader()[0]:
            some_nats, some, _ = reference(module.network, batch)
            nats, tokens = nats + some_nats, tokens + some
    pieces = sum(int(batch["segments"].amax(1).sum()) for batch in data.val_dataloader()[0])
    whole = sum(len(data.tokenizer(text)["input_ids"]) + 2 for text in texts)
    assert tokens == whole - pieces, "the first token of each piece is not scored"
    assert figures["valid/nats_per_token"] == pytest.approx(nats / tokens, rel=1e-4)
    characters = sum(map(len, texts))
    assert figures["valid/bits_per_character"] == pytest.approx(nats / characters / math.log(2), rel=0.02)
    assert "valid/gap_nats" not in figures


def test_an_autoregressive_baseline_starts_a_denoiser(tmp_path: Path) -> None:
    data = data_module(tmp_path)
    baseline = PretrainingModule(data.tokenizer, Network(**SMALL, causal=True), seed=7)
    baseline.network.save_pretrained(tmp_path / "baseline")
    data.tokenizer.save_pretrained(tmp_path / "baseline")
    module = PretrainingModule(data.tokenizer, Network(**SMALL), init_from=str(tmp_path / "baseline"))
    assert not module.network.config.causal and load(tmp_path / "baseline").network.config.causal
    for name, value in baseline.network.state_dict().items():
        assert torch.equal(module.network.state_dict()[name], value)


def test_init_from_of_another_shape_or_tokenizer_is_refused(tmp_path: Path) -> None:
    data = data_module(tmp_path)
    PretrainingModule(data.tokenizer, Network(**SMALL)).network.save_pretrained(tmp_path / "baseline")
    data.tokenizer.save_pretrained(tmp_path / "baseline")
    folder = str(tmp_path / "baseline")

    def mistake(tokenizer: Any = data.tokenizer, init_from: str = folder, **options: Any) -> str:
        with pytest.raises(UserError) as caught:
            PretrainingModule(tokenizer, Network(**SMALL | options), init_from=init_from)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "nowhere" in mistake(init_from=str(tmp_path / "nowhere"))
    assert "hidden_size is 16, here 32" in mistake(hidden_size=32)
    assert "num_hidden_layers is 2, here 3" in mistake(num_hidden_layers=3)
    assert "num_hidden_layers is 2, here 1" in mistake(num_hidden_layers=1)
    assert "another tokenizer: set data.tokenizer" in mistake(train_tokenizer(stories(9, seed=3), 300))
    (tmp_path / "baseline" / "model.safetensors").write_bytes(b"x" * 100)
    assert "cannot be read" in mistake()


@pytest.mark.parametrize(
    ("network", "data", "message"),
    [
        ({"causal": True}, {}, "model.network.causal is True and data.corruption Mixture"),
        ({}, {"corruption": LeftToRight()}, "model.network.causal is False and data.corruption LeftToRight"),
        ({}, {"corruption": ORDERS}, "data.corruption has orders, which are for order-causal networks"),
        ({"max_position_embeddings": 64}, {}, "data.length is 96 and the network reads at most 64"),
    ],
)
def test_data_that_do_not_suit_the_network_are_refused(network: Any, data: Any, message: str, tmp_path: Path) -> None:
    module_data = data_module(tmp_path, **data)
    with pytest.raises(UserError, match=message):
        trainer(tmp_path).fit(PretrainingModule(module_data.tokenizer, Network(**SMALL | network)), module_data)


def test_a_shape_that_makes_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hidden_size 18 is not a multiple"):
        PretrainingModule(data_module(tmp_path).tokenizer, Network(hidden_size=18, num_attention_heads=2))


def test_a_run_without_an_end_is_refused(tmp_path: Path) -> None:
    data = data_module(tmp_path)
    with pytest.raises(UserError, match=r"set trainer\.max_steps"):
        trainer(tmp_path, max_steps=-1).fit(PretrainingModule(data.tokenizer, Network(**SMALL)), data)

"""A run is resumed with the data and settings that it was started with, or says what has changed."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.helpers.training import run_config, write_config
from textdiff.cli.lightning import run
from textdiff.errors import UserError
from textdiff.training.resumption import KEY


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    config = run_config(folder, max_steps=2, accumulate_grad_batches=1, limit_val_batches=0)
    config["trainer"]["callbacks"][1]["init_args"]["every_n_train_steps"] = 2
    assert run(["fit", "--config", str(write_config(folder / "fit.yaml", config))]) == 0
    return folder


def resume(folder: Path, to: Path, changes: dict[str, Any], *options: str) -> int:
    """Resume the run with some keys (a.b.c) of its configuration changed, to step 4; `...` deletes a key."""
    config = yaml.safe_load((folder / "fit.yaml").read_text())
    config["trainer"]["max_steps"] = 4
    for callback in config["trainer"]["callbacks"]:
        if "dirpath" in callback["init_args"]:
            callback["init_args"]["dirpath"] = str(to / "run")
    for key, value in changes.items():
        *way, last = key.split(".")
        part = config
        for step in way:
            part = part[int(step)] if isinstance(part, list) else part.setdefault(step, {})
        place = int(last) if isinstance(part, list) else last
        if value is ...:
            del part[place]
        else:
            part[place] = value
    path = str(write_config(to / "changed.yaml", config))
    return run(["fit", "--config", path, "--ckpt_path", str(folder / "run" / "last.ckpt"), *options])


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"data.seed": 3}, r"data\.seed was 0, is 3"),
    "held-out end": ({"data.valid": []}, r"data\.train was .*, is .*less its end, which is held out"),
    "length": ({"data.length": 80}, r"data\.length was 96, is 80"),
    "room": ({"data.reserve": 4}, r"data\.reserve was 8, is 4"),
    "streaming": ({"data.streaming": True}, r"data\.streaming was False, is True"),
    "corruption": ({"data.corruption": "textdiff.data.RandomMasks"}, r"data\.corruption was None, is .*RandomMasks"),
    "accumulation": ({"trainer.accumulate_grad_batches": 2}, r"trainer\.accumulate_grad_batches was 1, is 2"),
    "precision": ({"trainer.precision": "bf16-mixed"}, r"trainer\.precision was None, is bf16-mixed"),
    "clipping": ({"trainer.gradient_clip_val": 1.0}, r"trainer\.gradient_clip_val was None, is 1"),
    "attention": ({"model.init_args.network.attention": "full"}, r"model\.network\.attention was isolated, is full"),
    "dropout": ({"model.init_args.network.dropout": 0.1}, r"model\.network\.dropout was 0\.2, is 0\.1"),
    "dropout's seed": ({"model.init_args.seed": 2}, r"model\.seed was 0, is 2"),
    "no average": ({"trainer.callbacks.0": ...}, r"trainer\.callbacks was EMAWeightAveraging\(.*\), is none"),
    "average": ({"trainer.callbacks.0.init_args.decay": 0.9}, r"decay=0\.7.*decay=0\.9"),
    "learning rate": ({"model.init_args.optimizer.init_args.lr": 0.1}, r"model\.optimizer\.lr was 0\.01, is 0\.1"),
    "warm-up": ({"model.init_args.warmup_steps": 1}, r"model\.warmup_steps was 2, is 1"),
    "last rate": ({"model.init_args.final_lr": 0.5}, r"model\.final_lr was 0\.05, is 0\.5"),
    "optimizer": (
        {"model.init_args.optimizer": "textdiff.training.AdamW"},
        r"does not fit \(model\.optimizer was .*Muon, is .*AdamW\)",
    ),
}


QUICK = ("seed", "corruption", "attention", "no average", "learning rate", "optimizer")


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in CHANGES]
)
def test_a_change_is_refused_by_name(change: str, finished: Path, tmp_path: Path) -> None:
    changes, message = CHANGES[change]
    with pytest.raises(UserError, match=message) as caught:
        resume(finished, tmp_path, changes)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 700
    assert ("--accept_changes true" in str(caught.value)) == (change != "optimizer")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("damage", ["truncated", "another text"])
def test_other_data_are_refused(damage: str, finished: Path, tmp_path: Path) -> None:
    text = Path(finished / "train.txt").read_bytes()
    other = tmp_path / "train.txt"
    other.write_bytes(text[:-1000] if damage == "truncated" else text.replace(b"dog", b"cow", 1))
    with pytest.raises(UserError, match=r"data\.train was [\d,]+ bytes \w+, is [\d,]+ bytes \w+"):
        resume(finished, tmp_path, {"data.train": [str(other)]})


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO):
        yield caplog
    logger.removeHandler(caplog.handler)


def test_files_may_move_and_what_is_allowed_is_mentioned(
    finished: Path, tmp_path: Path, lines: pytest.LogCaptureFixture
) -> None:
    (moved := tmp_path / "elsewhere.txt").write_bytes((finished / "train.txt").read_bytes())
    changes = {"data.train": [str(moved)], "data.batch_size": 3, "data.cache": str(tmp_path / "c"), "data.workers": 1}
    assert resume(finished, tmp_path, changes) == 0
    assert "allowed changes: data.batch_size was 2, is 3; trainer.max_steps was 2, is 4" in lines.text
    assert "workers" not in lines.text and "data.train" not in lines.text


def test_accepted_changes_take_effect(finished: Path, tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    rates = {}
    for name, rate in (("same", 0.01), ("larger", 0.02)):
        (to := tmp_path / name).mkdir()
        changes = {"model.init_args.optimizer.init_args": {"lr": rate, "weight_decay": rate}, "data.seed": 4}
        assert resume(finished, to, changes, "--accept_changes", "true") == 0
        (state,) = torch.load(to / "run" / "last.ckpt", weights_only=True)["optimizer_states"]
        (group,) = state["parts"][0]["param_groups"]
        rates[name] = group["lr"]
        assert group["initial_lr"] == group["weight_decay"] == rate
    assert rates["larger"] == pytest.approx(2 * rates["same"])
    assert "goes on with changed settings: data.seed was 0, is 4; model.optimizer.lr was 0.01, is 0.02" in lines.text


def test_a_checkpoint_without_settings_says_so(finished: Path, tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    path = finished / "run" / "last.ckpt"
    content = torch.load(path, weights_only=True)
    assert content.pop(KEY)["data.seed"] == 0
    torch.save(content, older := tmp_path / "older.ckpt")
    assert resume(finished, tmp_path, {"data.seed": 3}, "--ckpt_path", str(older)) == 0
    assert "nothing was compared" in lines.text


def test_weights_alone_are_not_resumed(finished: Path, tmp_path: Path) -> None:
    content = torch.load(finished / "run" / "last.ckpt", weights_only=True)
    del content["optimizer_states"], content["lr_schedulers"]
    torch.save(content, weights := tmp_path / "weights.ckpt")
    with pytest.raises(UserError, match="holds weights alone"):
        resume(finished, tmp_path, {}, "--ckpt_path", str(weights))


def test_a_run_that_is_over_says_so(finished: Path, tmp_path: Path, lines: pytest.LogCaptureFixture) -> None:
    assert resume(finished, tmp_path, {"trainer.max_steps": 2}) == 0
    assert "nothing is left to train" in lines.text
    with pytest.raises(UserError, match=r"is at step 2 and trainer\.max_steps is 1"):
        resume(finished, tmp_path, {"trainer.max_steps": 1})


def test_a_network_is_measured_as_it_was_trained(finished: Path) -> None:
    options = ["--config", str(finished / "fit.yaml"), "--ckpt_path", str(finished / "run" / "last.ckpt")]
    with pytest.raises(UserError, match=r"network of .*model\.network\.attention was isolated, is full"):
        run(["validate", *options, "--model.network.attention", "full"])


@pytest.mark.parametrize("name", ["best", "last", "hpc", "registry:x"])
def test_a_checkpoint_is_named_by_its_file(name: str, finished: Path) -> None:
    with pytest.raises(UserError, match=f"no checkpoint at '{name}': give a .ckpt file"):
        run(["fit", "--config", str(finished / "fit.yaml"), "--ckpt_path", name])


def test_the_steps_after_the_last_validation_are_saved_and_gone_on_from(tmp_path: Path) -> None:
    config = run_config(tmp_path, max_steps=3, val_check_interval=4, accumulate_grad_batches=1)
    last = tmp_path / "run" / "last.ckpt"
    for steps, interval in ((3, 4), (5, 100)):
        config["trainer"] |= {"max_steps": steps, "val_check_interval": interval}
        again = ["--ckpt_path", str(last)] if last.exists() else []
        assert run(["fit", "--config", str(write_config(tmp_path / "fit.yaml", config)), *again]) == 0
        content = torch.load(last, weights_only=True)
        assert content["global_step"] == content["TextDataModule"]["batches"] == steps
        assert content["TextDataModule"]["rows"] == 2 * steps
    assert [made.name for made in last.parent.iterdir()] == ["last.ckpt"]

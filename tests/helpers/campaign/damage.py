"""Damaged checkpoints, runs and adapters: noticed, or without an effect on the answer."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.helpers.campaign.case import Case, Result
from tests.helpers.campaign.materials import WRONG, Payload, damaged, shown
from tests.helpers.campaign.world import TEXT, World, answer_in, copy_of, copy_run
from textdiff.cli import main

NAMES = (
    "model.safetensors",
    "model.safetensors",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "SHA256SUMS",
    "README.md",
)
SETTINGS: tuple[Any, ...] = (
    *(value for value in WRONG if isinstance(value, (type(None), bool, int, float, str, list, dict))),
    20_000,
    4 * 10**9,
)
SETTINGS_OF = {
    "config.json": (
        "model_type", "architectures", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
        "rope_theta",
        "max_position_embeddings", "attention", "causal", "dropout", "mask_token_id", "pad_token_id", "auto_map",
        "dtype",
        "torch_dtype", "intermediate_size", "tie_word_embeddings", "quantization_config", "_attn_implementation",
        "hidden_act",
    ),
    "tokenizer_config.json": (
        "model_max_length", "tokenizer_class", "mask_token", "pad_token", "bos_token", "added_tokens_decoder",
        "auto_map",
        "chat_template", "clean_up_tokenization_spaces", "add_prefix_space",
    ),
    "tokenizer.json": ("version", "model", "added_tokens", "pre_tokenizer", "normalizer", "decoder", "post_processor",
    "truncation", "padding"),
    "adapter_config.json": (
        "r", "lora_alpha", "target_modules", "base_model_name_or_path", "peft_type", "bias", "rank_pattern",
        "alpha_pattern",
        "use_rslora", "use_dora", "fan_in_fan_out", "layers_to_transform", "modules_to_save", "init_lora_weights",
        "auto_mapping",
    ),
}  # fmt: skip
INFILL = ["infill", "--json", "--seed", "0", "--steps", "2", TEXT, "--checkpoint"]


def checkpoints(random: Random, world: World) -> Case:
    """A checkpoint folder with one damaged file, setting or weight; with or without its checksums."""
    name, seed = random.choice(NAMES), random.random()
    way = random.choice(("bytes", "bytes", "setting", "setting", "weights", "missing", "pickle", "alias"))
    sums = random.random() < 0.5 or way == "bytes"
    setting, value = (
        random.choice([(file, key) for file in list(SETTINGS_OF)[:3] for key in SETTINGS_OF[file]]),
        random.choice(SETTINGS),
    )

    def prepare() -> None:
        folder = copy_of(world.checkpoint, "copy")
        chosen = Random(seed)
        if way == "bytes":
            (folder / name).write_bytes(damaged(chosen, (folder / name).read_bytes()))
        elif way == "setting":
            content = json.loads((folder / setting[0]).read_text()) | {setting[1]: value}
            (folder / setting[0]).write_text(json.dumps(content))
        elif way == "weights":
            _change_weights(chosen, folder / "model.safetensors")
        elif way == "missing":
            (folder / name).unlink()
        elif way == "pickle":
            (folder / "model.safetensors").unlink()
            for file in ("pytorch_model.bin", "model.bin", "adapter_model.bin", "training_args.bin"):
                (folder / file).write_bytes(pickle.dumps(Payload()))
        else:
            (folder / name).unlink()
            (folder / name).symlink_to(chosen.choice(("/dev/zero", "/dev/full", name, "..", "no-such", "/dev/null")))
        if not sums:
            (folder / "SHA256SUMS").unlink(missing_ok=True)
        elif way != "bytes":
            _renew(folder)

    def check(result: Result) -> str | None:
        # With checksums a damaged file never goes unnoticed; README and the sums themselves have no say in the answer.
        return _same(result, world) if way in ("bytes", "missing", "pickle") else None

    what = {"setting": f"{setting} = {shown(value, 80)}", "weights": f"seed {seed!r}"}.get(
        way, f"{name}, seed {seed!r}"
    )
    return Case(f"a checkpoint, {way}: {what}{' with sums' * sums}", lambda: main([*INFILL, "copy"]), prepare, check)


def _same(result: Result, world: World) -> str | None:
    if result.status:
        return None
    answer = answer_in(result.out)
    if answer["texts"] != world.answer["texts"] or abs(answer["log_q"][0] - world.answer["log_q"][0]) > 1e-4:
        return "a damaged checkpoint answers something else without a word"
    return None


def _renew(folder: Path) -> None:
    """Make the checksums fit what was changed on purpose."""
    if not (folder / "SHA256SUMS").is_file():
        return
    lines = []
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        name = line.split(maxsplit=1)[1].lstrip("*")
        if (folder / name).is_file() and not (folder / name).is_symlink():
            lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))


def _change_weights(random: Random, path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path)
    name = random.choice(sorted(weights))
    changes: tuple[Callable[[torch.Tensor], torch.Tensor | None], ...] = (
        lambda x: x * float("nan"), lambda x: x + float("inf"), lambda x: x[:-1].clone(), lambda x: x.to(torch.int8),
        lambda x: x.to(torch.float64), lambda x: x[None].clone(), lambda x: torch.zeros(0), lambda x: x.bool(),
        lambda x: None,
    )  # fmt: skip
    changed = random.choice(changes)(weights[name])
    if changed is None:
        del weights[name]
    else:
        weights[name] = changed
    if random.random() < 0.2:
        weights["extra.weight"] = torch.zeros(2)
    save_file(weights, path)


def runs(random: Random, world: World) -> Case:
    """A damaged .ckpt file, to export, to go on with, to validate or to predict with."""
    seed, way = random.random(), random.choice(("flip", "bytes", "pickle", "keys", "archive"))
    use = random.choice(("export", "export", "export", "fit", "validate"))
    original = world.trained / "run" / "last.ckpt"

    def prepare() -> None:
        chosen = Random(seed)
        if use != "export":
            from tests.helpers.training import write_config

            write_config(Path("fit.yaml"), copy_run(world, max_steps=2))
        path = Path("last.ckpt")
        content = original.read_bytes()
        if way == "flip":
            place = chosen.randrange(len(content))
            content = content[:place] + bytes([content[place] ^ 1 << chosen.randrange(8)]) + content[place + 1 :]
            path.write_bytes(content)
        elif way == "bytes":
            path.write_bytes(damaged(chosen, content))
        elif way == "pickle":
            path.write_bytes(pickle.dumps({"state_dict": Payload(), "hyper_parameters": Payload()}))
            if chosen.random() < 0.5:
                torch.save({"state_dict": Payload(), "epoch": 0}, path)
        elif way == "keys":
            found = torch.load(original, weights_only=True)
            key = chosen.choice(sorted(found))
            if chosen.random() < 0.5:
                del found[key]
            else:
                found[key] = chosen.choice(SETTINGS)
            torch.save(found, path)
        else:
            with zipfile.ZipFile(original) as old, zipfile.ZipFile(path, "w") as new:
                for info in old.infolist():
                    data = old.read(info)
                    if chosen.random() < 0.05:
                        data = damaged(chosen, data)
                    if chosen.random() < 0.97:
                        new.writestr(info.filename, data)

    def check(result: Result) -> str | None:
        if result.status or use != "export" or way not in ("flip", "bytes"):
            return None
        before = _exported(original, world, result.folder / "before")
        after = result.folder / "out" / "model.safetensors"
        return (
            None
            if after.is_file() and after.read_bytes() == before
            else "a damaged run was exported with other weights"
        )

    command = {
        "export": ["export", "last.ckpt", "--tokenizer", str(world.trained / "tokenizer"), "--to", "out"],
    }.get(use, [use, "--config", "fit.yaml", "--ckpt_path", "last.ckpt"])
    return Case(f"textdiff {use} on a .ckpt, {way} with seed {seed!r}", lambda: main(command), prepare, check)


_EXPORTED: dict[Path, bytes] = {}


def _exported(run: Path, world: World, folder: Path) -> bytes:
    """The weights file that the undamaged run is exported to."""
    if run not in _EXPORTED:
        from textdiff.text import load_tokenizer
        from textdiff.training import export

        export(str(run), load_tokenizer(world.trained / "tokenizer"), str(folder))
        _EXPORTED[run] = (folder / "model.safetensors").read_bytes()
        shutil.rmtree(folder)
    return _EXPORTED[run]


def adapters(random: Random, world: World) -> Case:
    """An adapter that is damaged, of another network, or names itself as its base."""
    key, value, seed = random.choice(SETTINGS_OF["adapter_config.json"]), random.choice(SETTINGS), random.random()
    way = random.choice(("setting", "setting", "circle", "itself", "bytes", "bytes", "pickle", "none", "pattern"))

    def prepare() -> None:
        chosen = Random(seed)
        _make_adapter(world)
        path = Path("adapter/adapter_config.json")
        settings = json.loads(path.read_text())
        if way == "setting":
            settings[key] = value
        elif way == "itself":
            settings["base_model_name_or_path"] = chosen.choice(("adapter", ".", "/", "/dev/zero", "../x", "\0"))
        elif way == "circle":
            shutil.copytree("adapter", "other")
            settings["base_model_name_or_path"] = "other"
            Path("other/adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": "adapter"}))
        elif way == "pattern":
            settings[chosen.choice(("target_modules", "exclude_modules"))] = chosen.choice(
                ("(a*)*b", "(", "(x+x+)+y", ".*", "")
            )
            settings["rank_pattern"] = {chosen.choice(("(a*)*b", "(", ".*")): 2}
        path.write_text(json.dumps(settings))
        if way == "bytes":
            name = chosen.choice(("adapter_model.safetensors", "adapter_config.json"))
            Path("adapter", name).write_bytes(damaged(chosen, Path("adapter", name).read_bytes()))
        elif way == "pickle":
            Path("adapter/adapter_model.safetensors").unlink()
            Path("adapter/adapter_model.bin").write_bytes(pickle.dumps(Payload()))

    what = f"an adapter, {way}: {key} = {shown(value, 80)}, seed {seed!r}"
    return Case(what, lambda: main([*INFILL, "adapter"]), prepare)


def _make_adapter(world: World) -> None:
    """An adapter of the tiny prior, made once for all children of a process and copied from there."""
    made = world.folder / "adapter"
    if not made.exists():
        raise FileNotFoundError("the world has no adapter")
    shutil.copytree(made, "adapter")

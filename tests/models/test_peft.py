"""Adapters made by peft are read as peft reads them, or refused by the name of the option."""

import contextlib
import json
import os
import shutil
import time
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

import textdiff as td
from tests.helpers.foreign_models import checkpoint
from tests.helpers.tiny import save, tiny
from textdiff import cli
from textdiff.errors import UserError
from textdiff.models import save_adapter
from textdiff.pretrained import load, tokenizer_folder

TEXT, CANVAS = "Lily lost [gap:3] ball.", torch.tensor([[5, 6, 100, 100, 8, 20]])
KINDS = ("own", "bert", "modernbert", "roberta", "dream")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {kind: save(tiny(), folder / kind) if kind == "own" else checkpoint(kind, folder / kind) for kind in KINDS}


def published(base: Path, kind: str):
    """The network that peft knows: of transformers, or our own."""
    network = load(base).network
    return network if kind == "own" else network.backbone


def made_by_peft(base: Path, kind: str, folder: Path, **options) -> Path:
    """An adapter with random weights, made and saved by peft alone."""
    targets = {"own": ["qkv", "out"], "bert": ["query", "value"], "roberta": ["query", "value"]}
    options = {"r": 4, "lora_alpha": 12, "target_modules": targets.get(kind, "all-linear")} | options
    model = get_peft_model(published(base, kind), LoraConfig(**options))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder, save_embedding_layers=False)
    content = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder


@torch.no_grad()
def log_probs(prior):
    return prior.network.log_probs(CANVAS, CANVAS != 100).nan_to_num(neginf=-99)


OPTIONS = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "weight-decomposed": {"use_dora": True},
    "with biases": {"lora_bias": True},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "other targets": {"target_modules": "all-linear"},
}
OF_BERT = {
    "alpha by layer": {"alpha_pattern": {"layer.0.attention.self.query": 40, "value": 2}},
    "rank by layer": {"rank_pattern": {r".*\.1\.attention\.self\.(query|value)": 2}, "use_rslora": True},
    "a pattern": {"target_modules": r".*layer\.1\..*(query|key|dense)", "exclude_modules": ["intermediate.dense"]},
    "some layers": {"layers_to_transform": [1], "layers_pattern": "layer"},
    "the embeddings": {"target_modules": ["query", "word_embeddings"]},
}
CASES = [(kind, name) for kind in KINDS for name in OPTIONS] + [("bert", name) for name in OF_BERT]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind, name", CASES)
def test_log_probs_are_those_of_peft(kind, name, bases, tmp_path):
    folder = made_by_peft(bases[kind], kind, tmp_path / "adapter", **(OPTIONS | OF_BERT)[name])
    state = torch.get_rng_state()
    ours, theirs = load(folder), load(bases[kind])
    assert torch.equal(torch.get_rng_state(), state)
    plain = log_probs(theirs)
    PeftModel.from_pretrained(published_part(theirs, kind), folder).eval()
    torch.testing.assert_close(log_probs(ours), log_probs(theirs), atol=1e-5, rtol=1e-5)
    assert (log_probs(ours) - plain).abs().max() > 0.05
    save_adapter(ours.network, tmp_path / "again", str(bases[kind]))
    torch.testing.assert_close(log_probs(load(tmp_path / "again")), log_probs(ours), atol=1e-5, rtol=1e-5)
    ours.network.requires_grad_(False)
    if name == "the embeddings" or (name == "with biases" and kind in ("own", "modernbert", "dream")):
        with pytest.raises(UserError, match="cannot be merged"):
            td.models.merge_adapter(ours.network)
        return
    td.models.merge_adapter(ours.network)
    torch.testing.assert_close(log_probs(ours), log_probs(theirs), atol=1e-3, rtol=1e-3)


def published_part(prior, kind: str):
    return prior.network if kind == "own" else prior.network.backbone


@pytest.mark.parametrize(
    "options, complaint",
    [
        ({"modules_to_save": ["cls"]}, "option 'modules_to_save' of peft, which is not read"),
        ({"trainable_token_indices": [1, 2]}, "option 'trainable_token_indices' of peft"),
        ({"bias": "lora_only"}, "bias is 'lora_only', expected one of none"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa', which changes the weights of the base"),
    ],
)
def test_what_is_not_read_is_refused_by_name(options, complaint, bases, tmp_path):
    folder = made_by_peft(bases["bert"], "bert", tmp_path / "adapter", **options)
    with pytest.raises(UserError, match=complaint) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def adapter(bases, tmp_path_factory):
    return made_by_peft(bases["bert"], "bert", tmp_path_factory.mktemp("adapters") / "adapter")


def config(**changes):
    def damage(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def weights(change):
    def damage(folder):
        path = folder / "adapter_model.safetensors"
        save_file({name: change(weight.clone()) for name, weight in load_file(path).items()}, path)

    return damage


def pipe(folder):
    (folder / "adapter_model.safetensors").unlink()
    os.mkfifo(folder / "adapter_model.safetensors")


DAMAGE = {
    "a huge rank": (config(r=10**9), "its rank is 1000000000, and its weights for .* have rank 4"),
    "a rank of another type": (config(r="x"), "r is 'x', expected a whole number"),
    "an alpha that is no number": (config(lora_alpha=[]), r"lora_alpha is \[\], expected a number"),
    "an infinite alpha": (config(lora_alpha=float("inf")), "lora_alpha is inf"),
    "a flag that is none": (config(use_dora="x"), "use_dora is 'x', expected true or false"),
    "targets that are numbers": (config(target_modules=5), "target_modules is 5"),
    "a pattern that is none": (config(rank_pattern={"(": 4}), r"its pattern '\(' cannot be matched"),
    "patterns that are a list": (config(alpha_pattern=[5]), "alpha_pattern is"),
    "an option of the future": (config(use_warp=True), "option 'use_warp' of peft"),
    "another kind": (config(peft_type="IA3"), "no LoRA adapter of a named checkpoint"),
    "DoRA without its weights": (config(use_dora=True), "of another network"),
    "weights that are not finite": (weights(lambda weight: weight * torch.nan), "not finite"),
    "weights that are whole numbers": (weights(lambda weight: weight.long()), "not finite"),
    "weights of another shape": (weights(lambda weight: weight[:, :-1].contiguous()), "does not fit its network"),
    "a pipe": (pipe, "is no plain file"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), "only weights in safetensors"),
}


@pytest.mark.parametrize("damage, complaint", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_adapter_is_one_line(damage, complaint, adapter, tmp_path, capfd):
    folder = shutil.copytree(adapter, tmp_path / "copy")
    damage(folder)
    with pytest.raises(UserError, match=complaint) as error:
        load(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "pattern", ["(a|a|.)*(b|.)*(.*.*)*!x", "(.+)+!", "(.*)*(.*)*(.*)*[^a-z._0-9]", "(" * 2000, "a{1,9}" * 99]
)
def test_a_pattern_without_end_ends(pattern, adapter, tmp_path):
    folder = shutil.copytree(adapter, tmp_path / "copy")
    config(alpha_pattern={pattern: 3, pattern + "?": 4})(folder)
    start = time.perf_counter()
    with contextlib.suppress(UserError):
        load(folder)
    assert time.perf_counter() - start < 10


def test_adapters_that_name_each_other_are_one_line(adapter, tmp_path, capsys):
    for one, other in (("a", "b"), ("b", "a"), ("self", "self")):
        config(base_model_name_or_path=str(tmp_path / other))(shutil.copytree(adapter, tmp_path / one))
    for one in ("a", "self"):
        for read in (load, tokenizer_folder):
            with pytest.raises(UserError, match="adapts another adapter"):
                read(tmp_path / one)
        assert cli.main(["infill", "A [gap:2].", "--checkpoint", str(tmp_path / one)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_an_adapter_does_not_hide_a_checkpoint(bases, tmp_path):
    folder = shutil.copytree(bases["own"], tmp_path / "own")
    prior = load(folder)
    td.models.LoRA(2).attach(prior.network)
    with pytest.raises(UserError, match="holds a whole checkpoint, which an adapter would hide"):
        save_adapter(prior.network, folder, str(folder))
    load(folder)

"""Loading a prior from a folder: round trips, and mistakes that take one line and no time."""

import importlib
import pickle
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

import textdiff
from tests.helpers.damaged import FailsWhenUnpickled, change_json
from textdiff.errors import UserError
from textdiff.models import Transformer
from textdiff.pretrained import load, shipped
from textdiff.priors import AutoregressivePrior, DiffusionPrior
from textdiff.text import train_tokenizer

TEXT = "Lily lost [gap:2-5] ball."
SHIPPED = importlib.import_module("textdiff.pretrained.shipped")


@pytest.fixture(scope="module")
def saved(tmp_path_factory, network, tokenizer):
    folder = tmp_path_factory.mktemp("checkpoints") / "saved"
    network().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("causal", [False, True])
def test_saving_and_loading(causal, tied, dtype, network, tokenizer, tmp_path, no_network):
    written = network(causal=causal, tie_word_embeddings=tied).to(dtype)
    written.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    state = torch.get_rng_state()
    prior = load(tmp_path, dtype=dtype)
    assert type(prior) is (AutoregressivePrior if causal else DiffusionPrior)
    assert all(torch.equal(weight, prior.network.state_dict()[name]) for name, weight in written.state_dict().items())
    assert (prior.network.head.weight is prior.network.embedding.weight) == tied
    assert not prior.network.training
    assert prior.network.dtype is dtype
    assert prior.network.config.to_diff_dict() == written.config.to_diff_dict()
    assert prior.tokenizer.get_vocab() == tokenizer.get_vocab()
    assert torch.equal(torch.get_rng_state(), state)
    assert prior.infill(TEXT, n=2, seed=0).texts == load(str(tmp_path), dtype=dtype).infill(TEXT, n=2, seed=0).texts


def test_weights_are_float32_in_memory_unless_asked(network, tokenizer, tmp_path):
    network().to(torch.bfloat16).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).network.dtype is torch.float32
    saved_again = tmp_path / "again"
    load(tmp_path).network.save_pretrained(saved_again)
    assert Transformer.from_pretrained(saved_again).dtype is torch.float32


def test_a_loaded_network_does_not_depend_on_its_file(folder):
    prior = load(folder)
    before = prior.infill(TEXT, seed=0).texts
    (folder / "model.safetensors").write_bytes(b"")
    assert prior.infill(TEXT, seed=0).texts == before


def weights(**changes):
    def damage(folder):
        path = folder / "model.safetensors"
        state = load_file(path) | changes
        save_file({name: weight.clone() for name, weight in state.items() if weight is not ...}, path)

    return damage


def without_weight(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    save_file({name: weight.clone() for name, weight in state.items() if name != "norm.weight"}, path)


def written(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def set_in(name, **settings):
    return lambda folder: change_json(folder / name, **settings)


def removed(name):
    return lambda folder: (folder / name).unlink()


def truncated(name, share):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def pickled(folder):
    removed("model.safetensors")(folder)
    torch.save({"norm.weight": torch.ones(16), "boom": FailsWhenUnpickled()}, folder / "pytorch_model.bin")


def remote_code(name):
    def damage(folder):
        (folder / "evil.py").write_text("raise SystemExit('code from a checkpoint was executed')\n")
        auto_map = {"AutoConfig": "evil.C", "AutoModel": "evil.M", "AutoTokenizer": ["evil.T", "evil.T"]}
        change_json(folder / name, auto_map=auto_map)

    return damage


def other_tokenizer(folder):
    train_tokenizer(["Lily lost her ball."], 280).save_pretrained(folder)


SPOILT = {
    "no config": (removed("config.json"), "no config.json"),
    "damaged json": (truncated("config.json", 0.5), "config.json .* is damaged"),
    "config is no text": (written("config.json", b"\xff\xfe\x00"), "config.json .* is damaged"),
    "config is a list": (written("config.json", b"[1]"), "config.json .* is damaged"),
    "unknown model": (set_in("config.json", model_type="t5"), "of type 't5', expected one of textdiff, llada"),
    "no model type": (set_in("config.json", model_type=...), "of type None"),
    "config of a wrong shape": (set_in("config.json", hidden_size=17), "describes no model .*hidden_size 17"),
    "config of a wrong type": (set_in("config.json", hidden_size="wide"), "describes no model"),
    "config with a wrong dtype": (set_in("config.json", dtype="float33"), "describes no model"),
    "config of the future": (set_in("config.json", experts=4), "no setting 'experts'"),
    "config without mask": (set_in("config.json", mask_token_id=None), "describes no model .*mask_token_id is None"),
    "a kernel of the Hub in the config": (
        set_in("config.json", attn_implementation="somebody/kernel"),
        "config.json .* asks to run code .*attn_implementation",
    ),
    "remote code in the config": (remote_code("config.json"), "config.json .* asks to run code .*auto_map"),
    "no weights": (removed("model.safetensors"), "no model.safetensors .* in safetensors are read"),
    "pickled weights": (pickled, "no model.safetensors .* no pickled ones"),
    "pickled weights by another name": (
        written("model.safetensors", pickle.dumps(FailsWhenUnpickled())),
        "model.safetensors .* cannot be read",
    ),
    "empty weights": (written("model.safetensors", b""), "model.safetensors .* cannot be read"),
    "garbage weights": (written("model.safetensors", b"\x10" * 5000), "model.safetensors .* cannot be read"),
    "truncated weights": (truncated("model.safetensors", 0.9), "model.safetensors .* cannot be read"),
    "weights of a wrong shape": (weights(**{"norm.weight": torch.ones(15)}), "does not fit config.json.*'norm.weight'"),
    "weights of a wrong type": (
        weights(**{"norm.weight": torch.ones(16, dtype=torch.long)}),
        "does not fit config.json.*'norm.weight'",
    ),
    "a weight too many": (weights(**{"stranger": torch.ones(1)}), "does not fit config.json.*'stranger'"),
    "a head though it is tied": (weights(**{"head.weight": torch.ones(330, 16)}), "'head.weight'"),
    "a weight is missing": (without_weight, "does not fit config.json.*'norm.weight'"),
    "another width": (set_in("config.json", hidden_size=24), "does not fit config.json"),
    "another depth": (set_in("config.json", num_hidden_layers=3), r"does not fit config.json.*'blocks\.2"),
    "a depth that no memory holds": (set_in("config.json", num_hidden_layers=10**9), "does not fit config.json"),
    "a width that no memory holds": (set_in("config.json", hidden_size=2**40), "describes no model .*overflowed"),
    "no tokenizer": (
        lambda folder: [removed(name)(folder) for name in ("tokenizer.json", "tokenizer_config.json")],
        "no tokenizer_config.json",
    ),
    "no tokenizer settings": (removed("tokenizer_config.json"), "no tokenizer_config.json"),
    "no tokenizer.json": (removed("tokenizer.json"), "no tokenizer could be read"),
    "truncated tokenizer": (truncated("tokenizer.json", 0.5), "no tokenizer could be read"),
    "damaged tokenizer settings": (truncated("tokenizer_config.json", 0.5), "tokenizer_config.json .* is damaged"),
    "remote code in the tokenizer": (remote_code("tokenizer_config.json"), "tokenizer_config.json .* asks to run code"),
    "tokenizer of another size": (other_tokenizer, r"has 2\d\d tokens, config.json says 3\d\d"),
    "tokenizer with other special tokens": (
        set_in("config.json", bos_token_id=7),
        "the bos token of the tokenizer .* is 2, config.json says 7",
    ),
}


@pytest.mark.parametrize("damage, message", SPOILT.values(), ids=SPOILT)
def test_a_mistake_takes_one_line_and_no_time(damage, message, folder, no_network, capfd):
    damage(folder)
    start = time.perf_counter()
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert time.perf_counter() - start < 5
    assert capfd.readouterr() == ("", "")


def test_there_must_be_a_folder(saved, tmp_path, monkeypatch, no_network):
    monkeypatch.chdir(tmp_path)
    for name in ("nowhere", "./no/where", tmp_path / "nowhere", "a/path/of/three"):
        with pytest.raises(UserError, match="is no folder, and no shipped checkpoint: give a folder with") as error:
            load(name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="the name is too long"):
        load("x" * 5000)
    with pytest.raises(UserError, match=r"config\.json' is a file, no checkpoint"):
        load(saved / "config.json")
    with pytest.raises(UserError, match=r"no config\.json in"):
        load(tmp_path)


def test_a_device_that_there_is_not(saved):
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(UserError, match=f"device '{device}' cannot be used") as error:
            load(saved, device=device)
        assert "\n" not in str(error.value)


@pytest.fixture
def installed(saved, tmp_path, monkeypatch):
    """An empty package folder `site/textdiff` that stands for the installed one."""
    package = tmp_path / "site" / "textdiff"
    monkeypatch.setattr(SHIPPED, "__file__", str(package / "pretrained" / "shipped.py"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return package


@pytest.mark.parametrize("place", ["checkpoints", "textdiff/checkpoints"])
def test_shipped_checkpoints_are_found_in_the_package_or_beside_it(place, installed, saved):
    folder = installed.parent / place
    shutil.copytree(saved, folder / "stories")
    shutil.copytree(saved, folder / "stories-ar")
    (folder / "README.md").write_text("what lies here")
    assert shipped("stories") == folder / "stories"
    assert shipped("stories-ar") == folder / "stories-ar"
    assert load().infill(TEXT, seed=0).texts == load("stories-ar").infill(TEXT, seed=0).texts
    with pytest.raises(UserError, match="no checkpoint 'story' comes with textdiff, only stories, stories-ar"):
        shipped("story")
    with pytest.raises(UserError, match="or one of stories, stories-ar"):
        load("story")


def test_the_package_comes_before_what_lies_beside_it_and_a_folder_before_both(installed, saved, tmp_path):
    for place in (installed.parent / "checkpoints", installed / "checkpoints"):
        shutil.copytree(saved, place / "stories")
    assert shipped("stories") == installed / "checkpoints" / "stories"
    (tmp_path / "elsewhere" / "stories").mkdir()
    assert load().infill(TEXT, seed=0).texts
    with pytest.raises(UserError, match=r"no config\.json in 'stories'"):
        load("stories")


@pytest.mark.parametrize("name", ["stories", "", "..", ".", "/", "README.md"])
def test_an_installation_without_checkpoints(name, installed):
    with pytest.raises(UserError, match="this installation has none: give the folder") as error:
        shipped(name)
    assert "\n" not in str(error.value)


def test_the_public_function_is_this_one():
    assert textdiff.load is load


@pytest.mark.parametrize("name", ["stories", "stories-ar"])
def test_the_shipped_checkpoints_fill_gaps(name):
    try:
        folder = shipped(name)
    except UserError:
        pytest.skip("trained checkpoints are not in this tree")
    prior = load(name)
    fills = prior.infill("Lily lost her red ball. [gap] She was happy again.", n=2, seed=0)
    assert all(filled.fills[0] for filled in fills)
    assert (folder / "README.md").is_file()

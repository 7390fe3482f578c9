"""Published models are loaded as priors; a mistake takes one line, and no code of theirs runs."""

import json
import pickle
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import textdiff as td
from tests.helpers.damaged import FailsWhenUnpickled, change_json
from tests.helpers.foreign_models import CAUSAL, DIFFUSION, GOLDEN, MASKED, ROWS, checkpoint, shard, words
from textdiff.errors import UserError
from textdiff.models import ForeignDenoiser
from textdiff.pretrained import convert, load, save
from textdiff.priors import DiffusionPrior
from textdiff.text import load_tokenizer

TEXT = "Lily lost [gap:2] ball."


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    return {kind: checkpoint(kind, folder / kind) for kind in (*DIFFUSION, *MASKED, *CAUSAL)}


@pytest.fixture
def folder(made, tmp_path):
    """A copy of LLaDA to damage."""
    return shutil.copytree(made["llada"], tmp_path / "copy")


@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED))
def test_a_published_model_is_a_prior(kind, made, no_network, capfd):
    state = torch.get_rng_state()
    prior = load(made[kind])
    assert type(prior) is DiffusionPrior
    assert type(prior.network) is ForeignDenoiser and not prior.network.training
    v = prior.vocabulary
    assert v.mask == ROWS - 1 and v.null is None
    assert len({v.mask, v.pad, v.eos}) == 3
    assert v.forbidden[[v.mask, v.pad, v.bos, v.eos]].all()
    assert torch.equal(torch.get_rng_state(), state)
    fills = prior.infill(TEXT, n=2, seed=0)
    assert all(text.startswith("Lily lost ") and text.endswith(" ball.") for text in fills.texts)
    with pytest.raises(UserError, match=r"no null token .* draw with ByLength\(\)"):
        prior.infill("Lily lost [gap:1-4] ball.")
    assert capfd.readouterr() == ("", "")


def test_logits_come_from_the_folder(made):
    assert all("auto_map" in json.loads((made[kind] / "config.json").read_text()) for kind in DIFFUSION)
    for kind in DIFFUSION:
        io = load_file(GOLDEN / f"{kind}_io.safetensors")
        network = load(made[kind]).network
        with torch.no_grad():
            found = network.logits(io["input_ids"])[..., :ROWS]
        shift = int(network.config.shifted)
        torch.testing.assert_close(found[:, shift:], io["logits"][:, : found.shape[1] - shift], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", (*DIFFUSION, *MASKED))
def test_saving_and_loading_is_bit_identical(kind, made, tmp_path, no_network):
    for dtype in (torch.float32, torch.bfloat16):
        prior = load(made[kind], dtype=dtype)
        again = load(save(prior, tmp_path / str(dtype)), dtype=dtype)
        assert {weight.dtype for weight in again.network.parameters()} == {dtype}
        state = prior.network.state_dict()
        assert again.network.state_dict().keys() == state.keys()
        assert all(torch.equal(weight, state[name]) for name, weight in again.network.state_dict().items())
        assert again.network.config.to_diff_dict() == prior.network.config.to_diff_dict()
        assert again.tokenizer.get_vocab() == prior.tokenizer.get_vocab()
        assert again.vocabulary.null is None
        fills = [p.infill(TEXT, n=3, seed=1) for p in (prior, again)]
        assert fills[0].texts == fills[1].texts and torch.equal(fills[0].log_q, fills[1].log_q)


@pytest.mark.parametrize("kind", ["llada", "mdlm", "bert"])
def test_shards_are_one_model(kind, made, tmp_path):
    sharded = shard(shutil.copytree(made[kind], tmp_path / kind))
    states = [load(place).network.state_dict() for place in (made[kind], sharded)]
    assert states[0].keys() == states[1].keys()
    for name, weight in states[0].items():  # weights that are combined when loaded may differ in the last bit
        torch.testing.assert_close(weight, states[1][name], rtol=1e-6, atol=1e-7)


def test_weights_with_older_names_are_loaded(made, tmp_path):
    def renamed(kind, change, more=()):
        place = shutil.copytree(made[kind], tmp_path / kind)
        state = load_file(place / "model.safetensors")
        state = {change(name): weight.clone() for name, weight in state.items()} | dict(more)
        save_file(state, place / "model.safetensors")
        return place

    def gamma(name):
        return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")

    others = {"bert.pooler.dense.weight": torch.ones(32, 32), "cls.seq_relationship.bias": torch.ones(2)}
    state = load(renamed("bert", gamma, others)).network.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in load(made["bert"]).network.state_dict().items())
    constants = {"h.0.attn.bias": torch.ones(1, 1, 96, 96)}
    state = convert(renamed("gpt2", lambda name: name.removeprefix("transformer."), constants)).network.state_dict()
    assert all(torch.equal(weight, state[name]) for name, weight in convert(made["gpt2"]).network.state_dict().items())


def index(**places):
    def damage(folder):
        shard(folder)
        path = folder / "model.safetensors.index.json"
        content = json.loads(path.read_text())
        content["weight_map"] |= places
        path.write_text(json.dumps(content))

    return damage


def weights(**changes):
    def damage(folder):
        state = load_file(folder / "model.safetensors") | changes
        save_file({n: w.clone() for n, w in state.items() if w is not ...}, folder / "model.safetensors")

    return damage


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"boom": FailsWhenUnpickled()}, folder / "pytorch_model.bin")


def cut(name, share):
    def damage(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def missing_shard(folder):
    (shard(folder) / "model-00002-of-00003.safetensors").unlink()


def pickled_shard(folder):
    (shard(folder) / "model-00002-of-00003.safetensors").write_bytes(pickle.dumps(FailsWhenUnpickled()))


def other_tokenizer(folder):
    tokenizer = words()
    tokenizer.add_tokens([f"more{number}" for number in range(5)])
    tokenizer.save_pretrained(folder)


def remote_tokenizer(folder):
    change_json(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", "evil.T"]})
    (folder / "tokenizer.json").unlink()


SECRET = "../../secret.safetensors"
EMBEDDING = "model.transformer.wte.weight"
DAMAGE = {
    "config of another shape": (
        lambda folder: change_json(folder / "config.json", d_model=80),
        "does not fit config.json, first at 'lm_head.weight'|does not fit config.json, first at 'model",
    ),
    "config without a size": (
        lambda folder: change_json(folder / "config.json", n_layers=...),
        "'n_layers' is missing",
    ),
    "config of a wrong type": (
        lambda folder: change_json(folder / "config.json", n_heads="four"),
        "describes no model",
    ),
    "a variant": (lambda folder: change_json(folder / "config.json", alibi=True), "describes no model .*alibi is True"),
    "a depth that no memory holds": (
        lambda folder: change_json(folder / "config.json", n_layers=10**9),
        "describes no model .*1000000000 layers, and 21 tensors",
    ),
    "a vocabulary that no memory holds": (
        lambda folder: change_json(folder / "config.json", embedding_size=2**50),
        "does not fit config.json, first at",
    ),
    "pickled weights": (pickled, "no model.safetensors .* no pickled ones"),
    "pickled weights by another name": (
        lambda folder: (folder / "model.safetensors").write_bytes(pickle.dumps(FailsWhenUnpickled())),
        "model.safetensors .* cannot be read",
    ),
    "truncated weights": (cut("model.safetensors", 0.9), "model.safetensors .* cannot be read"),
    "a weight too many": (weights(stranger=torch.ones(1)), "does not fit config.json, first at 'stranger'"),
    "a weight is missing": (
        weights(**{EMBEDDING: ...}),
        "does not fit config.json, first at 'model.embed_tokens.weight'",
    ),
    "weights of whole numbers": (weights(**{EMBEDDING: torch.ones(101, 64, dtype=torch.int8)}), "does not fit"),
    "a shard is missing": (missing_shard, "no model-00002-of-00003.safetensors"),
    "a pickled shard": (pickled_shard, "model-00002-of-00003.safetensors .* cannot be read"),
    "an index that leads out of the folder": (index(**{EMBEDDING: SECRET}), r"index.json .* names '../../secret"),
    "an index that names a pickle": (index(**{EMBEDDING: "weights.bin"}), "index.json .* names 'weights.bin'"),
    "an index of other weights": (
        index(stranger="model-00001-of-00003.safetensors"),
        "does not fit model.safetensors.index.json, first at 'stranger'",
    ),
    "a damaged index": (
        lambda folder: cut("model.safetensors.index.json", 0.5)(shard(folder)),
        "index.json .* is damaged",
    ),
    "another mask": (lambda folder: change_json(folder / "config.json", mask_token_id=7777), "token 7777 is the mask"),
    "a mask of no kind": (lambda folder: change_json(folder / "config.json", mask_token_id="x"), "token x is the mask"),
    "a larger tokenizer": (other_tokenizer, "has a token 104, config.json a vocabulary of 101"),
    "truncated tokenizer": (cut("tokenizer.json", 0.5), "no tokenizer could be read"),
    "a tokenizer that is code": (remote_tokenizer, "no tokenizer could be read"),
}


@pytest.mark.parametrize("damage, message", DAMAGE.values(), ids=DAMAGE)
def test_a_mistake_takes_one_line_and_no_code_runs(damage, message, folder, no_network, capfd):
    damage(folder)
    with pytest.raises(UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    assert capfd.readouterr() == ("", "")


def test_an_adapter_of_an_adapter_is_refused(tmp_path):
    (tmp_path / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(tmp_path)})
    )
    with pytest.raises(UserError, match="adapts another adapter"):
        load(tmp_path)


def test_missing_special_tokens(made, tmp_path):
    nothing = shutil.copytree(made["bert"], tmp_path / "no-mask")
    words().save_pretrained(nothing)
    with pytest.raises(UserError, match=r"neither it nor config\.json names a mask token"):
        load(nothing)
    endless = shutil.copytree(made["llada"], tmp_path / "no-eos")
    tokenizer = words()
    tokenizer.eos_token = tokenizer.pad_token = None
    tokenizer.save_pretrained(endless)
    with pytest.raises(UserError, match="no token that ends a text"):
        load(endless)


@pytest.fixture
def hub(made, monkeypatch):
    """A Hub with two models; records what is requested."""
    asked = []
    there = {f"someone/{kind}": made[kind] for kind in ("llada", "mdlm")}

    def snapshot_download(name, allow_patterns, ignore_patterns):
        asked.append((name, allow_patterns, ignore_patterns))
        if name not in there:
            raise OSError(f"Repository {name} not found\nfor url: https://example.org")
        return str(there[name])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    return there, asked


def test_a_name_on_the_hub(hub, made, tmp_path, monkeypatch):
    _, asked = hub
    monkeypatch.chdir(tmp_path)
    prior = load("someone/llada")
    assert prior.infill(TEXT, seed=0).texts == load(made["llada"]).infill(TEXT, seed=0).texts
    name, allowed, ignored = asked[0]
    assert name == "someone/llada" and ignored == ["*/*"]
    assert not any(
        fits(file, allowed) for file in ("modeling_llada.py", "pytorch_model.bin", "x.pt", "x.pkl", "x.ckpt")
    )
    assert all(fits(file, allowed) for file in ("config.json", "model-00001-of-00002.safetensors", "vocab.txt"))
    with pytest.raises(
        UserError, match=r"'some/body' is no folder.*Hub does not give it \(Repository some/body not found\)"
    ):
        load("some/body")
    (tmp_path / "some").mkdir()
    with pytest.raises(UserError, match="'some/body' is no folder, and no shipped checkpoint: give a folder"):
        load("some/body")


def fits(name, patterns):
    return any(fnmatch(name, pattern) for pattern in patterns)


def test_mdlm_is_published_without_a_tokenizer_and_borrows_gpt2s(hub, made, tmp_path):
    there, asked = hub
    bare = shutil.copytree(made["mdlm"], tmp_path / "mdlm")
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (bare / file).unlink()
    with pytest.raises(UserError, match=r"openai-community/gpt2.* Hub does not give it"):
        load(bare)
    there["openai-community/gpt2"] = made["mdlm"]
    assert load(bare).infill(TEXT, seed=0).texts == load(made["mdlm"]).infill(TEXT, seed=0).texts
    assert not fits("model.safetensors", asked[-1][1])


def test_a_prior_is_uploaded_with_a_card(made, monkeypatch, tmp_path):
    kept = {}

    class HfApi:
        def create_repo(self, name, private, exist_ok):
            if name == "not/mine":
                raise OSError("403 Forbidden\nnot yours")
            kept["repo"] = name, private, exist_ok

        def upload_folder(self, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / "there")
            return f"https://example.org/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", HfApi)
    prior = load(made["dream"])
    address = td.push_to_hub(prior, "me/dream", private=True, figures={"gap nats": "3.21"})
    assert address == "https://example.org/me/dream" and kept["repo"] == ("me/dream", True, True)
    files = {path.name for path in (tmp_path / "there").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= files
    assert not [name for name in files if name.endswith((".py", ".bin"))]
    card = (tmp_path / "there" / "README.md").read_text()
    assert 'td.load("me/dream")' in card and "| gap nats | 3.21 |" in card
    assert f"| parameters | {prior.network.num_parameters():,} |" in card and "token i + 1" in card
    assert "{" not in card
    assert load(tmp_path / "there").infill(TEXT, seed=0).texts == prior.infill(TEXT, seed=0).texts
    with pytest.raises(UserError, match=r"the Hub does not take 'not/mine' \(403 Forbidden\)") as error:
        td.push_to_hub(prior, "not/mine")
    assert "\n" not in str(error.value)


def test_an_existing_card_is_kept(diffusion, tmp_path):
    save(diffusion, tmp_path)
    first = (tmp_path / "README.md").read_text()
    assert f'td.load("{tmp_path.name}")' in first and "masked diffusion prior" in first and "nothing yet" in first
    (tmp_path / "README.md").write_text("mine")
    save(diffusion, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    save(diffusion, tmp_path, figures={"bits": "1"})
    assert "| bits | 1 |" in (tmp_path / "README.md").read_text()


def test_worlds_have_no_weights_to_save(tmp_path):
    world = td.world("hmm")
    with pytest.raises(UserError, match="no weights to save"):
        save(DiffusionPrior(world, world.tokenizer, world.vocabulary), tmp_path)


@pytest.mark.parametrize("kind", CAUSAL)
def test_a_causal_model_becomes_the_start_of_a_denoiser(kind, made, tmp_path):
    with pytest.raises(UserError, match=rf"causal language model \({kind}\).* textdiff convert makes"):
        load(made[kind])
    prior = convert(made[kind])
    v, network = prior.vocabulary, prior.network
    assert len({v.mask, v.pad, v.null, v.eos}) == 4 and network.config.shifted
    assert network.config.rows == v.size == ROWS + 3
    table = network.get_input_embeddings().weight
    mean = load_file(Path(made[kind]) / "model.safetensors")
    mean = next(w for name, w in mean.items() if name.endswith(("embed_tokens.weight", "wte.weight")))[: ROWS - 1].mean(
        0
    )
    torch.testing.assert_close(table[v.mask], mean, atol=1e-5, rtol=1e-4)
    assert load_tokenizer(made[kind]).get_vocab() == prior.tokenizer.get_vocab()
    assert prior.infill("Lily lost [gap:1-4] ball.", n=2, seed=0).texts  # it has a null token
    again = load(save(prior, tmp_path / kind))
    assert all(torch.equal(w, again.network.state_dict()[n]) for n, w in network.state_dict().items())
    assert again.vocabulary.null == v.null


def test_a_diffusion_model_is_given_a_null_token(made):
    prior = convert(made["llada"])
    assert prior.vocabulary.null is not None and not prior.network.config.shifted
    assert prior.infill("Lily lost [gap:1-4] ball.", seed=0).texts


def test_what_cannot_be_converted(made, tmp_path, diffusion):
    save(diffusion, tmp_path)
    fix = rf"is textdiff's own: a prior learns .* model\.init_from: {tmp_path} in a configuration of textdiff fit"
    with pytest.raises(UserError, match=fix):
        convert(tmp_path)
    with pytest.raises(UserError, match=r"model\.init_from: stories-ar in .*, as in configs/stories\.yaml$"):
        convert("stories-ar")
    shutil.copytree(made["bert"], other := tmp_path / "other")
    change_json(other / "config.json", model_type="t5")
    with pytest.raises(UserError, match="of type 't5', expected one of llada"):
        convert(other)

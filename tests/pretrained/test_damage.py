"""Whatever is in the folder of a checkpoint, it is loaded or refused in one line, at once, and nothing is printed."""

import itertools
import os
import random
import signal
import time

import pytest
import torch

from tests.helpers.damaged import copy_of, damages, random_damages, setting
from tests.helpers.foreign_models import checkpoint
from tests.helpers.tiny import tiny
from textdiff import models
from textdiff.errors import UserError
from textdiff.pretrained import convert, load, save

KINDS = ("own", "causal", "published", "wrapped", "adapter")
TEXT = "Lily lost [gap:2] ball."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("folders")
    made = {kind: save(tiny(causal=kind == "causal"), place / kind) for kind in ("own", "causal")}
    made["published"] = checkpoint("bert", place / "published")
    made["wrapped"] = save(load(made["published"]), place / "wrapped")
    prior = load(made["own"])
    models.LoRA(2).attach(prior.network)
    models.save_adapter(prior.network, place / "adapter", str(made["own"]))
    made["adapter"] = place / "adapter"
    return made


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def check(name, damage, folder, place, capfd):
    """Damage a copy of a folder and load it: if that is refused it is in one line, in time, and without memory."""
    damage(copy_of(folder, place))
    before, start = resident(), time.perf_counter()
    signal.alarm(20)
    try:
        load(place).infill(TEXT, seed=0)
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) <= 700, name
        assert time.perf_counter() - start < 10, name
        assert resident() - before < 200 * 2**20, name
    except Exception as error:
        pytest.fail(f"{name}: {error!r}")
    finally:
        signal.alarm(0)
    assert capfd.readouterr() == ("", ""), name


@pytest.mark.parametrize("kind", KINDS)
def test_some_damages(kind, folders, tmp_path, capfd):
    cases = [*damages(folders[kind]), *random_damages(folders[kind], 100)]
    for name, damage in random.Random(kind).sample(cases, 40):
        check(name, damage, folders[kind], tmp_path / "copy", capfd)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_damages(kind, folders, tmp_path, capfd):
    for name, damage in itertools.chain(damages(folders[kind]), random_damages(folders[kind], 1000)):
        check(name, damage, folders[kind], tmp_path / "copy", capfd)


@pytest.mark.parametrize(
    "kind, file, path, value, complaint",
    [
        ("own", "tokenizer.json", ("model", "vocab", "Ġ"), 4 * 10**9, "and ids up to 4000000000"),
        ("own", "config.json", ("hidden_size",), 20_000, "does not fit config.json"),
        ("own", "config.json", ("rope_theta",), 1e30, "rope_theta is 1e.30, expected above 0 and at most 1e12"),
        ("own", "config.json", ("rope_theta",), ..., "rope_theta is missing"),
        ("own", "config.json", ("attention",), ..., "attention is missing"),
        ("own", "config.json", ("model_type",), [], r"of type '\[\]', expected one of textdiff"),
        ("own", "config.json", ("causal",), [], r"causal is \[\], expected true or false"),
        ("own", "config.json", ("max_position_embeddings",), True, "max_position_embeddings is True, expected a whole"),
        ("own", "tokenizer_config.json", ("model_max_length",), "x", "model_max_length is 'x', expected a number"),
        ("published", "config.json", ("model_type",), [], r"of type '\[\]', expected one of textdiff"),
        ("published", "config.json", ("layer_norm_eps",), -1.0, "layer_norm_eps is -1.0, expected between 0 and 1"),
        ("wrapped", "config.json", ("offset",), 3, "offset does not fit the backbone, expected 0"),
        ("wrapped", "config.json", ("backbone", "model_type"), [], r"the backbone is of type \[\]"),
        ("wrapped", "config.json", ("backbone", "is_decoder"), True, "is_decoder is True, and only False is known"),
    ],
)
def test_what_is_wrong_is_named(kind, file, path, value, complaint, folders, tmp_path):
    folder = copy_of(folders[kind], tmp_path / "copy")
    (folder / "SHA256SUMS").unlink(missing_ok=True)
    setting(file, path, value)(folder)
    with pytest.raises(UserError, match=complaint):
        load(folder)


@pytest.mark.parametrize("read", [load, convert])
@pytest.mark.parametrize(
    "wrong, error, complaint",
    [
        ({"folder": 5}, TypeError, "^folder is 5, expected a path"),
        ({"folder": ["x"]}, TypeError, "^folder is .*, expected a path"),
        ({"folder": b"x"}, TypeError, "^folder is b'x', expected a path"),
        ({"folder": "a\0b"}, UserError, "^folder is 'a.x00b': name a file or a folder"),
        ({"folder": ""}, UserError, "^folder is ''"),
        ({"dtype": "int8"}, UserError, "^dtype is 'int8', expected one of float32, bfloat16, float16"),
        ({"dtype": torch.int8}, UserError, "^dtype is 'int8', expected one of"),
        ({"dtype": "x"}, UserError, "^dtype is 'x', expected one of"),
        ({"dtype": 5}, TypeError, "^dtype is 5, expected a type of numbers"),
        ({"dtype": None}, TypeError, "^dtype is None"),
        ({"device": "nonsense"}, UserError, "^device 'nonsense' cannot be used"),
        ({"device": "meta"}, UserError, "^device 'meta' cannot be used"),
        ({"device": None}, TypeError, "^device is None, expected the name of a device"),
        ({"device": ["cpu"]}, TypeError, "^device is .*, expected the name of a device"),
    ],
)
def test_arguments_of_a_wrong_type_are_named(read, wrong, error, complaint, folders):
    with pytest.raises(error, match=complaint) as caught:
        read(**{"folder": folders["published"]} | wrong)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", ["bfloat16", "torch.bfloat16", torch.bfloat16])
def test_a_type_may_be_given_by_name(dtype, folders):
    assert load(folders["own"], dtype=dtype).network.dtype is torch.bfloat16
    for wrong in (8.0, "8", True, []):
        with pytest.raises(UserError, match=r"^quantization is .*, expected 8 or 4"):
            load(folders["own"], quantization=wrong)

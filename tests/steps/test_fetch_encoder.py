"""Encoders from a folder or a package: only what is needed is taken, and what does not agree is refused."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from internal_kd import records
from internal_kd.artefacts import EncoderFiles
from internal_kd.data.encoder_files import check_encoder
from internal_kd.errors import UserError
from internal_kd.files import sha256_file
from internal_kd.params import Params, parse_params
from internal_kd.steps.fetch_encoder import fetch_encoder
from internal_kd.study import plan_study
from planned import planned_encoder, study_values


def write_encoder(folder: Path, *, shards: int = 0) -> Path:
    folder.mkdir(parents=True)
    config = {"model_type": "distilbert", "n_layers": 2, "n_heads": 4, "dim": 16}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("[PAD]\n")
    weight = {"w": np.zeros((2, 2), np.float16)}
    if not shards:
        save_file(weight, folder / "model.safetensors")
    names = [f"model-0000{n + 1}-of-0000{shards}.safetensors" for n in range(shards)]
    for name in names:
        save_file(weight, folder / name)
    if shards:
        index = {"metadata": {}, "weight_map": {f"w{n}": name for n, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def fetched(folder: Path, **encoder: Any) -> EncoderFiles:
    files = planned_encoder(source="folder", path=str(folder), **encoder)
    fetch_encoder(files)
    return files


def test_a_folder_is_copied_with_what_the_manifest_tells(project: Path) -> None:
    folder = write_encoder(project / "mine")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "notes.md").write_text("x")
    save_file({"w": np.zeros(1)}, folder / "other.safetensors")
    files = fetched(folder, layers=2, licence="MIT", sha256=sha256_file(folder / "model.safetensors"))
    assert {path.name for path in files.folder.iterdir()} == {
        "config.json", "vocab.txt", "model.safetensors", "manifest.json",
    }  # fmt: skip
    manifest = json.loads(files.marker.read_text())
    facts = {key: manifest[key] for key in ("model_type", "layers", "heads", "width", "licence")}
    assert facts == {"model_type": "distilbert", "layers": 2, "heads": 4, "width": 16, "licence": "MIT"}
    assert records.problem_with(files, checksums=True) is None


def test_shards_are_copied_as_they_are(project: Path) -> None:
    folder = write_encoder(project / "mine", shards=2)
    files = fetched(folder)
    for path in folder.iterdir():
        assert sha256_file(files.folder / path.name) == sha256_file(path)


def test_a_package_that_carries_weights(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_encoder(project / "carrier_of_weights" / "model")
    (project / "carrier_of_weights" / "__init__.py").write_text("raise RuntimeError('never imported')")
    monkeypatch.syspath_prepend(project)
    files = planned_encoder(source="package", package="carrier_of_weights", folder="model")
    fetch_encoder(files)
    assert records.is_complete(files)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"layers": 12}, r"encoder.layers: 12 was given, but encoder.path .*mine has 2"),
        ({"sha256": "0" * 64}, r"model.safetensors has sha256 [0-9a-f]{64} instead of 0{64}"),
    ],
)
def test_what_does_not_agree_is_refused(project: Path, encoder: dict[str, Any], said: str) -> None:
    folder = write_encoder(project / "mine")
    with pytest.raises(UserError, match=said):
        fetched(folder, **encoder)
    assert not (project / "data").exists()


def test_a_missing_shard_is_named(project: Path) -> None:
    folder = write_encoder(project / "mine", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"lacks model-00002-of-00002.safetensors"):
        fetched(folder)


def test_a_checksum_of_one_file_is_no_checksum_of_shards(project: Path) -> None:
    with pytest.raises(UserError, match=r"comes in shards: leave sha256 out"):
        fetched(write_encoder(project / "mine", shards=2), sha256="0" * 64)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("vocab.txt", r"holds no tokenizer.json or vocabulary"),
        ("model.safetensors", r"model.safetensors is cut short or no safetensors file"),
    ],
)
def test_a_file_missing_or_cut_short_is_one_line(project: Path, broken: str, said: str) -> None:
    folder = write_encoder(project / "mine")
    if broken == "vocab.txt":
        (folder / broken).unlink()
    else:
        (folder / broken).write_bytes((folder / broken).read_bytes()[:-3])
    with pytest.raises(UserError, match=said) as refusal:
        fetched(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([1], r"mine/config.json holds no JSON object: copy or download the encoder anew"),
        ({"model_type": ["x"], "n_layers": 2}, r"encoders of type \"\['x'\]\" are not supported"),
        ({"model_type": "bert", "num_hidden_layers": "two"}, r"mine/config.json: 'two' is no number of layers"),
        ({"model_type": "bert", "num_hidden_layers": 0}, r"mine/config.json: 0 is no number of layers"),
        ({"model_type": "bert", "num_hidden_layers": True}, r"mine/config.json: True is no number of layers"),
        ({"model_type": "bert"}, r"mine: config.json names no num_hidden_layers"),
    ],
)
def test_a_configuration_of_the_wrong_shape_is_refused(project: Path, config: Any, said: str) -> None:
    folder = write_encoder(project / "mine")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        fetched(folder)
    assert not (project / "data").exists()


def test_nobody_is_told_to_delete_a_file_of_their_own(project: Path) -> None:
    folder = write_encoder(project / "mine", shards=2)
    for name in ("model.safetensors.index.json", "config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[:-3])
        with pytest.raises(UserError, match=rf"{name} is not whole JSON .*: copy or download the encoder anew"):
            fetched(folder)
        (folder / name).write_text(text)


@pytest.mark.parametrize("index", [[1], {"weight_map": [1]}, {"weight_map": None}, {"weight_map": {"a": ["b"]}}])
def test_an_index_of_the_wrong_shape_is_refused(project: Path, index: Any) -> None:
    folder = write_encoder(project / "mine", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"no JSON object|names no weights|lacks \['b'\]"):
        fetched(folder)


scalars = st.none() | st.booleans() | st.integers(-5, 30) | st.floats(allow_nan=False) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
configs = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("model_type", "num_hidden_layers", "n_layers", "hidden_size"), anything)
)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(config=anything | configs | configs.map(lambda config: {**config, "model_type": "bert"}))
def test_any_configuration_is_planned_and_checked_or_refused_in_one_line(project: Path, config: Any) -> None:
    folder = project / "mine"
    if not folder.exists():
        write_encoder(folder)
    (folder / "config.json").write_text(json.dumps(config))
    found = {path.name: path for path in folder.iterdir()}
    params = mine()
    for act in (lambda: plan_study(params), lambda: check_encoder(params.encoder, found)):
        refusal = ""
        try:
            act()
        except UserError as error:
            refusal = str(error)
        assert "\n" not in refusal and "delete" not in refusal


@cache
def mine() -> Params:
    """Parameters whose encoder is the folder ``mine``."""
    return parse_params(study_values({"rte": None}, encoder={"name": "tiny", "source": "folder", "path": "mine"}))

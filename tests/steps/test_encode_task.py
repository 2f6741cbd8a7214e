"""Fetching from local sources and encoding: manifests are true, and results change only with a new recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from data_plans import planned_inputs
from internal_kd.checksums import Damaged, sha256_file
from internal_kd.data.examples import read_task
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.errors import UserError
from internal_kd.plan.artefacts import Inputs
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.store import problem_with
from internal_kd.steps.encode import encode_task
from internal_kd.steps.fetch import fetch_encoder, fetch_task

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
CONFIG = {
    "model_type": "bert", "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": len(WORDS),
    "max_position_embeddings": 32, "type_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip


def write_encoder(folder: Path, *, padding_of_its_own: bool = False, **config: Any) -> Path:
    """A word-level tokenizer and weights that are never loaded here."""
    folder.mkdir()
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    if padding_of_its_own:
        tokenizer.enable_padding(length=20)
        tokenizer.enable_truncation(5)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    sizes = CONFIG | config
    (folder / "config.json").write_text(json.dumps(sizes))
    weights = np.zeros((sizes["vocab_size"], sizes["hidden_size"]), np.float32)
    save_file({"embeddings.word_embeddings.weight": weights}, folder / "model.safetensors")
    return folder


def write_task(project: Path, rows: int = 3, pair: bool = True) -> dict[str, Any]:
    texts = ["a b c", "d", "e f g h i j a b c d"] * rows
    lines = [f"{text},c d e f,{number % 2}" for number, text in enumerate(texts)]
    path = project / "data.csv"
    path.write_text("\n".join(["x,y,label", *lines]) + "\n")
    return {"source": "files", "train": str(path), "dev": str(path), "text": ["x", "y"] if pair else ["x"]}


def encoded(project: Path, encoder: Path, length: int = 9, **entry: Any) -> Inputs:
    inputs = planned_inputs({**write_task(project), **entry}, encoder, length)
    fetch_encoder(inputs.encoder)
    fetch_task(inputs.data)
    encode_task(inputs)
    return inputs


def test_pairs_are_truncated_longest_first_and_never_padded(project: Path) -> None:
    inputs = encoded(project, write_encoder(project / "encoder", padding_of_its_own=True))
    split = EncodedTask(inputs.folder).split("train")
    assert split.lengths[:3].tolist() == [9, 8, 9]
    assert split.ids(0).tolist() == [2, 4, 5, 6, 3, 6, 7, 8, 3]
    assert split.ids(2).tolist() == [2, 8, 9, 10, 3, 6, 7, 8, 3]
    assert split.batch([1])["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]


def test_every_artefact_is_complete_and_records_what_it_is(project: Path) -> None:
    inputs = encoded(project, write_encoder(project / "encoder"))
    for artefact in (inputs, inputs.data, inputs.encoder):
        assert problem_with(artefact) is None
    task = json.loads(inputs.data.marker.read_text())
    assert task["task"]["labels"] == ["0", "1"] and task["task"]["texts"] == 2
    assert task["splits"]["train"]["rows"] == 9 and task["splits"]["train"]["label_shares"]["0"] == pytest.approx(5 / 9)
    encoder = json.loads(inputs.encoder.marker.read_text())
    assert (encoder["model_type"], encoder["layers"], encoder["heads"], encoder["width"]) == ("bert", 2, 2, 8)
    found = EncodedTask(inputs.folder)
    assert found.info.outputs == 2 and found.info.labels == ("0", "1") and found.splits == ("train", "dev")
    facts = json.loads(inputs.marker.read_text())["splits"]["train"]
    assert facts == {"rows": 9, "tokens": 78, "longest": 9, "cut": 6, "token_type_ids": True}


def test_metrics_are_what_the_parameters_state_now(project: Path) -> None:
    encoder = write_encoder(project / "encoder")
    before = encoded(project, encoder)
    after = planned_inputs({**write_task(project), "metrics": ["macro_f1"]}, encoder)
    assert after.folder == before.folder
    assert EncodedTask.of(before).info.metrics == ("accuracy", "f1")
    assert EncodedTask.of(after).info.metrics == ("macro_f1",)


def first_rows(inputs: Inputs) -> dict[str, list[Any]]:
    rows = read_task(inputs.data).frame("train").head(3)
    return {column: rows[column].tolist() for column in ("label", "text_a")}


def test_results_change_only_with_a_new_recipe(project: Path) -> None:
    # Golden: when this fails, raise the recipe of the step whose result changed, and write the new numbers here.
    inputs = encoded(project, write_encoder(project / "encoder"))
    split = EncodedTask(inputs.folder).split("train")
    assert [RECIPES[step] for step in ("fetch_task", "fetch_encoder", "encode_task")] == [3, 2, 2]
    assert [split.ids(row).tolist() for row in range(3)] == [
        [2, 4, 5, 6, 3, 6, 7, 8, 3],
        [2, 7, 3, 6, 7, 8, 9, 3],
        [2, 8, 9, 10, 3, 6, 7, 8, 3],
    ]
    assert first_rows(inputs) == {"label": [0, 1, 0], "text_a": ["a b c", "d", "e f g h i j a b c d"]}
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert sha256_file(inputs.encoder.folder / name) == sha256_file(project / "encoder" / name)
    assert split.idx.tolist() == list(range(9)) and split.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_more_rows_than_a_chunk_come_out_in_order(project: Path) -> None:
    rows = [f"{WORDS[4 + number % 10]},{number % 2}" for number in range(10_001)]
    (project / "long.csv").write_text("\n".join(["x,label", *rows]))
    entry = {"train": str(project / "long.csv"), "text": ["x"]}
    split = EncodedTask(encoded(project, write_encoder(project / "encoder"), **entry).folder).split("train")
    assert len(split) == 10_001 and split.idx[-1] == 10_000
    assert [split.ids(row)[1] for row in (0, 4095, 4096, 9999)] == [4, 9, 10, 13]
    assert "token_type_ids" not in split.batch([0])


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_unlabelled_texts_are_encoded_and_follow_train(project: Path, kind: str) -> None:
    (project / "more.csv").write_text("x,y\na,b\nc,\n")
    entry = {"unlabelled": str(project / "more.csv"), "kind": kind}
    both = EncodedTask(encoded(project, write_encoder(project / "encoder"), **entry).folder).training()
    assert both.idx.tolist() == list(range(11)) and both.labelled.tolist() == [True] * 9 + [False] * 2
    assert both.ids(9).tolist() == [2, 4, 3, 5, 3]


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_encoders_that_do_not_tell_texts_apart_get_no_types(project: Path, family: str) -> None:
    folder = write_encoder(project / "encoder", model_type=family, type_vocab_size=1 if family == "roberta" else 2)
    assert "token_type_ids" not in EncodedTask(encoded(project, folder).folder).split("dev").batch([0])


@pytest.mark.parametrize(
    ("config", "length", "said"),
    [
        ({}, 33, r"max_length: 33 is more than the 32 positions of encoder tiny"),
        ({"model_type": "roberta", "pad_token_id": 1}, 31, r"31 is more than the 30 positions"),
        ({"vocab_size": 9}, 9, r"the tokenizer makes id 10, but the encoder has 9 embeddings"),
        ({"model_type": "gpt2"}, 9, r"'gpt2' are not supported"),
    ],
)
def test_what_does_not_suit_the_encoder_is_refused(
    project: Path, config: dict[str, Any], length: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        encoded(project, write_encoder(project / "encoder", **config), length)
    assert not list(project.glob("work/inputs/*"))


def test_a_truncated_tokenizer_is_one_line(project: Path) -> None:
    folder = write_encoder(project / "encoder")
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(UserError, match=f"encoder tiny: its tokenizer in {folder} cannot be read") as refusal:
        encoded(project, folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json", "train.parquet"])
def test_a_flipped_bit_in_what_is_encoded_is_found(project: Path, name: str) -> None:
    inputs = encoded(project, write_encoder(project / "encoder"))
    folder = inputs.data.folder if name.endswith("parquet") else inputs.encoder.folder
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(Damaged, match=name):
        encode_task(inputs)


def test_tokenizers_that_give_the_same_ids_have_one_identity(project: Path) -> None:
    def identity(folder: Path) -> str:
        return load_tokenizer(folder, folder.name, 9).identity

    plain = write_encoder(project / "plain")
    padding = write_encoder(project / "padding", padding_of_its_own=True, model_type="distilbert")
    lower = write_encoder(project / "lower")
    tokenizer = Tokenizer.from_file(str(lower / "tokenizer.json"))
    tokenizer.normalizer = Lowercase()
    tokenizer.save(str(lower / "tokenizer.json"))
    assert identity(plain) == identity(padding) != identity(lower)
    assert EncodedTask(encoded(project, plain).folder).tokenizer == identity(plain)

"""Fetching from local sources and tokenising: manifests tell the truth, and results move only with a new RECIPE."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from internal_kd import records
from internal_kd.artefacts import TokenizedTask
from internal_kd.data.tasks_on_disk import read_task
from internal_kd.data.tokens import TokenStore
from internal_kd.errors import UserError
from internal_kd.files import sha256_file
from internal_kd.steps import fetch_encoder, fetch_task, tokenize_task
from planned import planned

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefghij"]
CONFIG = {
    "model_type": "bert", "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": len(WORDS),
    "max_position_embeddings": 32, "type_vocab_size": 2, "pad_token_id": 0,
}  # fmt: skip


def write_encoder(folder: Path, *, padding_of_its_own: bool = False, **config: Any) -> Path:
    """A word-level tokenizer beside weights that are never loaded here."""
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
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    save_file({"embeddings.word_embeddings.weight": np.zeros((2, 2), np.float32)}, folder / "model.safetensors")
    return folder


def write_task(project: Path, rows: int = 3, pair: bool = True) -> dict[str, Any]:
    texts = ["a b c", "d", "e f g h i j a b c d"] * rows
    lines = [f"{text},c d e f,{number % 2}" for number, text in enumerate(texts)]
    path = project / "data.csv"
    path.write_text("\n".join(["x,y,label", *lines]) + "\n")
    return {"source": "files", "train": str(path), "dev": str(path), "text": ["x", "y"] if pair else ["x"]}


def tokenized(project: Path, encoder: Path, length: int = 9, **entry: Any) -> TokenizedTask:
    values = {"encoder": {"name": "tiny", "source": "folder", "path": str(encoder)}, "tokens": {"max_length": length}}
    tokens = planned({"mine": {**write_task(project), **entry}}, **values)
    fetch_encoder.fetch_encoder(tokens.encoder)
    fetch_task.fetch_task(tokens.data)
    tokenize_task.tokenize_task(tokens)
    return tokens


def test_pairs_are_truncated_longest_first_and_never_padded(project: Path) -> None:
    tokens = tokenized(project, write_encoder(project / "encoder", padding_of_its_own=True))
    split = TokenStore(tokens.folder).split("train")
    assert split.lengths[:3].tolist() == [9, 8, 9]
    assert split.ids(0).tolist() == [2, 4, 5, 6, 3, 6, 7, 8, 3]
    assert split.ids(2).tolist() == [2, 8, 9, 10, 3, 6, 7, 8, 3]
    assert split.batch([1])["token_type_ids"].tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]


def test_every_artefact_is_complete_and_says_what_it_is(project: Path) -> None:
    tokens = tokenized(project, write_encoder(project / "encoder"))
    for artefact in (tokens, tokens.data, tokens.encoder):
        assert records.problem_with(artefact, checksums=True) is None
    task = json.loads(tokens.data.marker.read_text())
    assert task["labels"] == ["0", "1"] and task["text_columns"] == 2
    assert task["splits"]["train"]["rows"] == 9 and task["splits"]["train"]["label_shares"]["0"] == pytest.approx(5 / 9)
    encoder = json.loads(tokens.encoder.marker.read_text())
    assert (encoder["model_type"], encoder["layers"], encoder["heads"], encoder["width"]) == ("bert", 2, 2, 8)
    store = TokenStore(tokens.folder)
    assert store.classes == 2 and store.labels == ("0", "1") and store.splits == ("train", "dev")
    facts = json.loads(tokens.marker.read_text())["splits"]["train"]
    assert facts == {"rows": 9, "tokens": 78, "longest": 9, "at_limit": 6, "token_type_ids": True}


def test_a_training_is_scored_by_what_the_parameters_say_now(project: Path) -> None:
    encoder = write_encoder(project / "encoder")
    before = tokenized(project, encoder)
    values = {"encoder": {"name": "tiny", "source": "folder", "path": str(encoder)}, "tokens": {"max_length": 9}}
    after = planned({"mine": {**write_task(project), "metrics": ["macro_f1"]}}, **values)
    assert after.folder == before.folder
    assert TokenStore.of(before).metrics == ("accuracy", "f1") and TokenStore.of(after).metrics == ("macro_f1",)


def first_rows(tokens: TokenizedTask) -> dict[str, list[Any]]:
    rows = read_task(tokens.data).frame("train").head(3)
    return {column: rows[column].tolist() for column in ("label", "text_a")}


def test_results_move_only_with_a_new_recipe(project: Path) -> None:
    # Golden: when this fails, raise the RECIPE of the step whose result moved, and write the new numbers here.
    tokens = tokenized(project, write_encoder(project / "encoder"))
    split = TokenStore(tokens.folder).split("train")
    assert (fetch_task.RECIPE, fetch_encoder.RECIPE, tokenize_task.RECIPE) == (1, 1, 1)
    assert [split.ids(row).tolist() for row in range(3)] == [
        [2, 4, 5, 6, 3, 6, 7, 8, 3],
        [2, 7, 3, 6, 7, 8, 9, 3],
        [2, 8, 9, 10, 3, 6, 7, 8, 3],
    ]
    assert first_rows(tokens) == {"label": [0, 1, 0], "text_a": ["a b c", "d", "e f g h i j a b c d"]}
    encoder = {name: sha256_file(tokens.encoder.folder / name)[:12] for name in ("config.json", "model.safetensors")}
    assert encoder == {"config.json": "9eb60d8735cc", "model.safetensors": "bda85c6f8b01"}
    assert split.idx.tolist() == list(range(9)) and split.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 0]


def test_more_rows_than_a_chunk_come_out_in_order(project: Path) -> None:
    rows = [f"{WORDS[4 + number % 10]},{number % 2}" for number in range(10_001)]
    (project / "long.csv").write_text("\n".join(["x,label", *rows]))
    entry = {"train": str(project / "long.csv"), "text": ["x"]}
    split = TokenStore(tokenized(project, write_encoder(project / "encoder"), **entry).folder).split("train")
    assert len(split) == 10_001 and split.idx[-1] == 10_000
    assert [split.ids(row)[1] for row in (0, 4095, 4096, 9999)] == [4, 9, 10, 13]
    assert "token_type_ids" not in split.batch([0])


@pytest.mark.parametrize("family", ["distilbert", "roberta"])
def test_encoders_that_tell_no_texts_apart_get_no_types(project: Path, family: str) -> None:
    folder = write_encoder(project / "encoder", model_type=family, type_vocab_size=1 if family == "roberta" else 2)
    assert "token_type_ids" not in TokenStore(tokenized(project, folder).folder).split("dev").batch([0])


@pytest.mark.parametrize(
    ("config", "length", "said"),
    [
        ({}, 33, r"tokens.max_length: 33 is more than the 32 positions of encoder tiny"),
        ({"model_type": "roberta", "pad_token_id": 1}, 31, r"31 is more than the 30 positions"),
        ({"vocab_size": 9}, 9, r"the tokenizer makes id 10, but the encoder has 9 embeddings"),
        ({"model_type": "gpt2"}, 9, r"'gpt2' are not supported"),
    ],
)
def test_what_does_not_suit_the_encoder_is_refused(
    project: Path, config: dict[str, Any], length: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        tokenized(project, write_encoder(project / "encoder", **config), length)
    assert not list(project.glob("work/tokens/*"))


def test_a_tokenizer_cut_short_is_one_line(project: Path) -> None:
    folder = write_encoder(project / "encoder")
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model"')
    with pytest.raises(UserError, match=r"encoder tiny: its tokenizer in .* cannot be read") as refusal:
        tokenized(project, folder)
    assert "\n" not in str(refusal.value)

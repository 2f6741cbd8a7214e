"""Batches from ragged arrays on disk: right padding, masks, labels and example ids belong together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from internal_kd.checksums import Damaged, publish
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.inputs_writing import GrowingArray
from internal_kd.data.ragged import EncodedExamples
from internal_kd.errors import UserError
from internal_kd.files import staging_folder
from internal_kd.tasks.info import TaskInfo

ROWS = [[2, 7, 3], [2, 8, 9, 9, 3], [2, 3]]
MORE = [[2, 6, 6, 3], [2, 5, 3]]


def write_task(folder: Path, *, kind: str = "classes", types: bool = False) -> EncodedTask:
    """Three training examples and two unlabelled ones."""
    missing = float("nan") if kind == "values" else -1
    splits: dict[str, Any] = {
        "train": (ROWS, [50, 40, 30], [1, 0, 1], [0, 0, 1, 0, 0, 0, 1, 1, 0, 1]),
        "unlabelled": (MORE, [51, 52], [missing, missing], [0, 0, 1, 1, 0, 1, 1]),
    }
    with staging_folder(folder / "inputs") as staged:
        for split, (rows, idx, labels, kinds) in splits.items():
            arrays = {"idx": ("<i8", idx), "labels": ("<f4" if kind == "values" else "<i8", labels)}
            arrays["offsets"] = ("<i8", [0, *np.cumsum([len(row) for row in rows]).tolist()])
            arrays["ids"] = ("<i4", [token for row in rows for token in row])
            if types:
                arrays["types"] = ("|u1", kinds)
            for name, (dtype, values) in arrays.items():
                array = GrowingArray(staged / f"{split}.{name}.npy", dtype)
                array.append(values[:1])
                array.append(values[1:])
                array.close()
        labels = ("no", "yes") if kind == "classes" else ()
        metric = "accuracy" if labels else "mse"
        info = TaskInfo("mine", "Mine", kind, labels, (metric,), 1, {"train": 3, "unlabelled": 2})
        record = {"task": info.to_json(), "max_length": 9, "pad_id": 1, "tokenizer": "t", "data_sha256": {"train": "s"}}
        publish(staged, folder / "inputs", {**record, "splits": {key: {"token_type_ids": types} for key in splits}})
    return EncodedTask(folder / "inputs")


def train(folder: Path, **how: Any) -> EncodedExamples:
    return write_task(folder, **how).split("train")


def test_a_batch_is_padded_on_the_right_to_its_own_longest(tmp_path: Path) -> None:
    batch = train(tmp_path).batch([2, 0])
    assert batch["input_ids"].tolist() == [[2, 3, 1], [2, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [1, 1] and batch["idx"].tolist() == [30, 50]
    assert "token_type_ids" not in batch
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_token_types_follow_their_tokens(tmp_path: Path) -> None:
    batch = train(tmp_path, types=True).batch(np.array([1, 2]))
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]


def test_lengths_ids_and_targets(tmp_path: Path) -> None:
    split = train(tmp_path, kind="values")
    assert len(split) == 3 and split.lengths.tolist() == [3, 5, 2]
    assert [split.ids(row).tolist() for row in range(3)] == ROWS
    assert split.batch([0])["labels"].dtype == torch.float32


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_train_and_unlabelled_together(tmp_path: Path, kind: str) -> None:
    both = write_task(tmp_path, kind=kind, types=True).training()
    assert both.idx.tolist() == [50, 40, 30, 51, 52] and both.lengths.tolist() == [3, 5, 2, 4, 3]
    assert both.labelled.tolist() == [True, True, True, False, False]
    assert [both.ids(row).tolist() for row in range(5)] == [*ROWS, *MORE]
    batch = both.batch([3, 0, 4, 2])
    assert batch["input_ids"].tolist() == [[2, 6, 6, 3], [2, 7, 3, 1], [2, 5, 3, 1], [2, 3, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 1, 1], [0, 0, 1, 0], [0, 1, 1, 0], [0, 1, 0, 0]]
    assert batch["idx"].tolist() == [51, 50, 52, 30]
    assert both.vocabulary(np.arange(5)).tolist() == [1, 2, 3, 5, 6, 7, 8, 9]
    assert both.vocabulary(np.array([2])).tolist() == [1, 2, 3]


def test_a_batch_may_be_changed_without_changing_the_files(tmp_path: Path) -> None:
    split = train(tmp_path)
    split.batch([0])["labels"][0] = 99
    split.batch([0])["input_ids"][0, 0] = 99
    assert split.labels.tolist() == [1, 0, 1] and split.ids(0).tolist() == ROWS[0]


def test_a_growing_array_is_an_ordinary_one(tmp_path: Path) -> None:
    array = GrowingArray(tmp_path / "x.npy", "<i4")
    for start in range(0, 100_000, 1000):
        array.append(np.arange(start, start + 1000))
    array.close()
    assert (np.load(tmp_path / "x.npy", allow_pickle=False) == np.arange(100_000)).all()


@pytest.mark.parametrize("kind", ["ids", "labels", "idx", "offsets"])
@pytest.mark.parametrize("fault", ["a flipped bit", "truncated", "missing"])
def test_an_array_that_is_not_what_was_written_is_found_and_named(tmp_path: Path, kind: str, fault: str) -> None:
    write_task(tmp_path)
    path = tmp_path / "inputs" / f"train.{kind}.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 8
    path.write_bytes(content if fault == "a flipped bit" else content[:-4])
    if fault == "missing":
        path.unlink()
    with pytest.raises(Damaged, match=rf"train\.{kind}\.npy") as refused:
        EncodedTask(tmp_path / "inputs").split("train")
    assert refused.value.folder == tmp_path / "inputs"


def test_a_folder_without_inputs_or_split_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest.json does not exist"):
        EncodedTask(tmp_path)
    with pytest.raises(UserError, match=r"task mine has no split 'test'; it has train, unlabelled"):
        write_task(tmp_path).split("test")
    (tmp_path / "inputs/manifest.json").write_text('{"task": 5}')
    with pytest.raises(UserError, match=r"manifest.json is truncated or damaged"):
        EncodedTask(tmp_path / "inputs")

"""Batches from ragged arrays on disk: right padding, masks, labels and example ids belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from internal_kd.data.tokens import TokenSplit, TokenStore
from internal_kd.data.tokens_writing import GrowingArray
from internal_kd.errors import UserError

ROWS = [[2, 7, 3], [2, 8, 9, 9, 3], [2, 3]]


def write_split(folder: Path, *, labels: str = "<i8", types: bool = False) -> TokenSplit:
    arrays = {"idx": ("<i8", [50, 40, 30]), "labels": (labels, [1, 0, 1]), "offsets": ("<i8", [0, 3, 8, 10])}
    arrays["ids"] = ("<i4", [token for row in ROWS for token in row])
    if types:
        arrays["types"] = ("|u1", [0, 0, 1, 0, 0, 0, 1, 1, 0, 1])
    for name, (kind, values) in arrays.items():
        array = GrowingArray(folder / f"train.{name}.npy", kind)
        array.append(values[:1])
        array.append(values[1:])
        array.close()
    return TokenSplit(folder, "train", pad_id=1, has_types=types)


def test_a_batch_is_padded_on_the_right_to_its_own_longest(tmp_path: Path) -> None:
    batch = write_split(tmp_path).batch([2, 0])
    assert batch["input_ids"].tolist() == [[2, 3, 1], [2, 7, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [1, 1] and batch["idx"].tolist() == [30, 50]
    assert "token_type_ids" not in batch
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_token_types_follow_their_tokens(tmp_path: Path) -> None:
    batch = write_split(tmp_path, types=True).batch(np.array([1, 2]))
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 1, 1], [0, 1, 0, 0, 0]]


def test_lengths_ids_and_targets(tmp_path: Path) -> None:
    split = write_split(tmp_path, labels="<f4")
    assert len(split) == 3 and split.lengths.tolist() == [3, 5, 2]
    assert [split.ids(row).tolist() for row in range(3)] == ROWS
    assert split.batch([0])["labels"].dtype == torch.float32


def test_a_batch_may_be_changed_without_changing_the_files(tmp_path: Path) -> None:
    split = write_split(tmp_path)
    split.batch([0])["labels"][0] = 99
    assert split.labels.tolist() == [1, 0, 1]
    assert isinstance(split.labels, np.memmap)


def test_a_growing_array_is_an_ordinary_one(tmp_path: Path) -> None:
    array = GrowingArray(tmp_path / "x.npy", "<i4")
    for start in range(0, 100_000, 1000):
        array.append(np.arange(start, start + 1000))
    array.close()
    assert (np.load(tmp_path / "x.npy", allow_pickle=False) == np.arange(100_000)).all()


def test_a_file_cut_short_is_one_line(tmp_path: Path) -> None:
    write_split(tmp_path)
    path = tmp_path / "train.ids.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"train.ids.npy is cut short"):
        TokenSplit(tmp_path, "train", 1, False)
    path.unlink()
    with pytest.raises(UserError, match=r"train.ids.npy does not exist"):
        TokenSplit(tmp_path, "train", 1, False)


def test_a_folder_without_tokens_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"manifest.json does not exist"):
        TokenStore(tmp_path)

"""Writing a split as token ids chunk by chunk, so that a split of any size fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from internal_kd.data.tokenizers import EncoderTokenizer
from internal_kd.errors import UserError
from internal_kd.tasks.kinds import KINDS

CHUNK = 4096


class GrowingArray:
    """A one-dimensional .npy file whose length is known only at the end.

    numpy pads the header so that a longer shape fits into the same bytes; it is written again on ``close``.
    """

    def __init__(self, path: Path, dtype: str) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.length = 0
        self._handle = path.open("wb")
        self._header_bytes = self._write_header()

    def append(self, values: np.ndarray | list[int]) -> None:
        """Write values behind what is there."""
        array = np.asarray(values, dtype=self.dtype)
        self._handle.write(array.tobytes())
        self.length += len(array)

    def close(self) -> None:
        """Put the final length into the header."""
        self._handle.seek(0)
        if self._write_header() != self._header_bytes:
            raise RuntimeError(f"{self.path}: numpy changed the size of the header")
        self._handle.close()

    def _write_header(self) -> int:
        facts = {"descr": self.dtype.str, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self._handle, facts)
        return self._handle.tell()


def write_split(folder: Path, split: str, parquet: Path, encoder: EncoderTokenizer, *, kind: str) -> dict[str, Any]:
    """Tokenise one split into ``folder``.

    Args:
        folder: where the arrays go.
        split: the split's name.
        parquet: its examples.
        encoder: the tokenizer.
        kind: the task's kind.

    Returns:
        Number of rows and of tokens, the longest length, how many examples were truncated, and whether token types were
        kept.

    Raises:
        UserError: the tokenizer makes ids that the encoder has no embedding for.
    """
    dtypes = {"idx": "<i8", "labels": KINDS[kind].label_type, "ids": "<i4", "types": "|u1", "offsets": "<i8"}
    arrays = {name: GrowingArray(folder / f"{split}.{name}.npy", dtype) for name, dtype in dtypes.items()}
    arrays["offsets"].append([0])
    total = longest = cut = 0
    any_type = False
    for idx, labels, texts in _chunks(parquet):
        encodings = encoder.tokenizer.encode_batch_fast(texts)
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        ids = np.array([token for encoding in encodings for token in encoding.ids], dtype=np.int32)
        if ids.max() >= encoder.vocabulary:
            raise UserError(
                f"the tokenizer makes id {ids.max()}, but the encoder has {encoder.vocabulary} embeddings: "
                "tokenizer and weights do not belong together"
            )
        arrays["idx"].append(idx)
        arrays["labels"].append(labels)
        arrays["ids"].append(ids)
        arrays["offsets"].append(total + np.cumsum(lengths))
        if encoder.uses_types:
            types = np.array([kind for encoding in encodings for kind in encoding.type_ids], dtype=np.uint8)
            any_type = any_type or bool(types.any())
            arrays["types"].append(types)
        total += int(lengths.sum())
        longest = max(longest, int(lengths.max()))
        cut += sum(bool(encoding.overflowing) for encoding in encodings)
    for array in arrays.values():
        array.close()
    if not any_type:  # the encoder's own default is zeros
        arrays["types"].path.unlink()
    rows = arrays["idx"].length
    return {"rows": rows, "tokens": total, "longest": longest, "cut": cut, "token_type_ids": any_type}


def _chunks(parquet: Path) -> Iterator[tuple[np.ndarray, np.ndarray, list[Any]]]:
    """Yield ids, labels and texts (pairs as tuples) of up to CHUNK rows."""
    with pq.ParquetFile(parquet) as file:
        pairs = "text_b" in file.schema_arrow.names
        for batch in file.iter_batches(CHUNK):
            first = batch["text_a"].to_pylist()
            texts = list(zip(first, batch["text_b"].to_pylist(), strict=True)) if pairs else first
            # A missing value becomes NaN.
            yield batch["idx"].to_numpy(), batch["label"].to_numpy(zero_copy_only=False), texts

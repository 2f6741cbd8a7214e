"""Writing a split as token ids chunk by chunk, so that a split of any size fits into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.data.tokenizers import EncoderTokenizer
from internal_kd.errors import UserError
from internal_kd.tasks.kinds import KINDS

if TYPE_CHECKING:
    from tokenizers import Encoding

    from internal_kd.data.tag_inputs import Window

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


class SplitWriter:
    """The arrays of a split as token ids, and what its entry of the manifest has; ``others`` are dtypes by name."""

    def __init__(self, folder: Path, split: str, encoder: EncoderTokenizer, others: dict[str, str]) -> None:
        dtypes = {"ids": "<i4", "types": "|u1", "offsets": "<i8", **others}
        self._arrays = {name: GrowingArray(folder / f"{split}.{name}.npy", dtype) for name, dtype in dtypes.items()}
        self._arrays["offsets"].append([0])
        self._encoder, self._longest, self._any_type = encoder, 0, False

    def add(self, encodings: Sequence[Encoding | Window], **others: np.ndarray | list[int]) -> None:
        """Write the tokens of some examples, and values of other arrays, behind what is there.

        Raises:
            UserError: the tokenizer makes ids that the encoder has no embedding for.
        """
        ids = np.array([token for encoding in encodings for token in encoding.ids], dtype=np.int32)
        if ids.max() >= self._encoder.vocabulary:
            raise UserError(
                f"the tokenizer makes id {ids.max()}, but the encoder has {self._encoder.vocabulary} embeddings: "
                "tokenizer and weights do not belong together"
            )
        lengths = np.array([len(encoding.ids) for encoding in encodings])
        self._arrays["offsets"].append(self._arrays["ids"].length + np.cumsum(lengths))
        self._arrays["ids"].append(ids)
        if self._encoder.uses_types:
            types = np.array([kind for encoding in encodings for kind in encoding.type_ids], dtype=np.uint8)
            self._any_type = self._any_type or bool(types.any())
            self._arrays["types"].append(types)
        for name, values in others.items():
            self._arrays[name].append(values)
        self._longest = max(self._longest, int(lengths.max()))

    def close(self) -> dict[str, Any]:
        """Complete the files; return numbers of rows and tokens, the longest length, and whether types were kept."""
        for array in self._arrays.values():
            array.close()
        if not self._any_type:  # the encoder's own default is zeros
            self._arrays["types"].path.unlink()
        rows, tokens = self._arrays["idx"].length, self._arrays["ids"].length
        return {"rows": rows, "tokens": tokens, "longest": self._longest, "token_type_ids": self._any_type}


def write_split(folder: Path, split: str, parquet: Path, encoder: EncoderTokenizer, *, kind: str) -> dict[str, Any]:
    """Tokenise one split of a task of this kind into ``folder``; return its entry of the manifest.

    Raises:
        UserError: the tokenizer makes ids that the encoder has no embedding for.
    """
    writer = SplitWriter(folder, split, encoder, {"idx": "<i8", "labels": KINDS[kind].label_type})
    cut = 0
    for idx, labels, texts in _chunks(parquet):
        encodings = encoder.tokenizer.encode_batch_fast(texts)
        writer.add(encodings, idx=idx, labels=labels)
        cut += sum(bool(encoding.overflowing) for encoding in encodings)
    return {**writer.close(), "cut": cut}


def _chunks(parquet: Path) -> Iterator[tuple[np.ndarray, np.ndarray, list[Any]]]:
    """Yield ids, labels and texts (pairs as tuples) of up to CHUNK rows."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(parquet) as file:
        pairs = "text_b" in file.schema_arrow.names
        for batch in file.iter_batches(CHUNK):
            first = batch["text_a"].to_pylist()
            texts = list(zip(first, batch["text_b"].to_pylist(), strict=True)) if pairs else first
            # A missing value becomes NaN.
            yield batch["idx"].to_numpy(), batch["label"].to_numpy(zero_copy_only=False), texts

"""Texts and labels in memory as the training loop reads them: token ids, padded batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.errors import UserError, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class InMemoryExamples:
    """Encoded examples.

    Attributes:
        idx: their numbers, (examples,), int64.
        labels: class numbers (int64, -1 if missing) or values (float32, NaN if missing), (examples,).
        lengths: tokens of each, (examples,), int64.
        labelled: whether an example has a label, (examples,), bool.
    """

    def __init__(
        self, ids: Sequence[Sequence[int]], types: Sequence[Sequence[int]] | None, labels: np.ndarray, pad_id: int
    ) -> None:
        self._ids = [np.asarray(one, dtype=np.int64) for one in ids]
        self._types = None if types is None else [np.asarray(one, dtype=np.int64) for one in types]
        self._pad_id = pad_id
        self.idx, self.labels = np.arange(len(ids), dtype=np.int64), labels
        self.lengths = np.array([len(one) for one in self._ids], dtype=np.int64)
        self.labelled = ~np.isnan(labels) if labels.dtype.kind == "f" else labels >= 0

    def __len__(self) -> int:
        return len(self._ids)

    def vocabulary(self, positions: np.ndarray) -> np.ndarray:
        """Return the token ids that batches of these examples can contain, ascending, padding included."""
        return np.unique(np.concatenate([[self._pad_id], *(self._ids[position] for position in positions)]))

    def batch(self, positions: np.ndarray | Sequence[int]) -> dict[str, Tensor]:
        """Return a batch, padded on the right to its longest example: (batch, longest) and (batch,)."""
        import torch

        chosen = np.asarray(positions, dtype=np.int64)
        lengths = self.lengths[chosen]
        made = {"input_ids": self._padded(self._ids, chosen, self._pad_id)}
        made["attention_mask"] = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        if self._types is not None:
            made["token_type_ids"] = self._padded(self._types, chosen, 0)
        made |= {"labels": self.labels[chosen], "idx": self.idx[chosen]}
        return {name: torch.from_numpy(array) for name, array in made.items()}

    def _padded(self, rows: Sequence[np.ndarray], chosen: np.ndarray, fill: int) -> np.ndarray:
        padded = np.full((len(chosen), self.lengths[chosen].max()), fill, dtype=np.int64)
        for place, position in enumerate(chosen):
            padded[place, : len(rows[position])] = rows[position]
        return padded


def encode(
    rows: Any,
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[str],
    label: str,
    max_length: int,
    kind: str,
    names: Mapping[str, int],
) -> InMemoryExamples:
    """Tokenise rows; pairs are truncated longest first.

    Args:
        rows: a list of dicts, a dict of lists, a `datasets.Dataset` or a pandas frame.
        tokenizer: a fast one with a padding token.
        text: one or two columns.
        label: the label's column.
        max_length: in tokens.
        kind: "classes" or "values".
        names: class numbers by name.

    Raises:
        UserError: a column is missing, a text is not text, or a label is neither a class nor a value.
    """
    if len(text) not in (1, 2):
        raise UserError(f"text: {len(text)} columns are named; give one, or two for pairs")
    texts = [[_text(value, name, row) for row, value in enumerate(_column(rows, name))] for name in text]
    labels = [_label(value, kind, names, row) for row, value in enumerate(_column(rows, label))]
    if tokenizer.pad_token_id is None:
        raise UserError("tokenizer: it has no padding token; set pad_token")
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, padding=False)
    dtype = np.float32 if kind == "values" else np.int64
    return InMemoryExamples(
        encoded["input_ids"], encoded.get("token_type_ids"), np.array(labels, dtype=dtype), tokenizer.pad_token_id
    )


def _column(rows: Any, name: str) -> list[Any]:
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        if not len(rows):
            raise UserError("there are no examples: the list is empty")
        if not isinstance(rows[0], Mapping):
            raise UserError(f"examples should be dicts such as {{{name!r}: ...}}, not {type(rows[0]).__name__}")
        known = list(rows[0])
        try:
            return [row[name] for row in rows]
        except KeyError:
            pass
    else:
        known = [str(column) for column in getattr(rows, "column_names", None) or getattr(rows, "columns", rows)]
        if name in known:
            return list(rows[name])
    raise UserError(f"column {name!r} is missing{nearest(name, known)}; columns: {', '.join(known)}")


def _text(value: Any, column: str, row: int) -> str:
    if not isinstance(value, str):
        raise UserError(f"row {row}: column {column!r} is {value!r}, not text")
    return value


def _label(value: Any, kind: str, names: Mapping[str, int], row: int) -> float | int:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    if kind == "values":
        try:
            return float("nan") if missing else float(value)
        except (TypeError, ValueError):
            raise UserError(f"row {row}: label {value!r} is not a number") from None
    if missing:
        return -1
    if isinstance(value, str) and value in names:
        return names[value]
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and -1 <= value < len(names):
        return int(value)
    raise UserError(f"row {row}: label {value!r} is not a class of the student; classes: {', '.join(names)}")

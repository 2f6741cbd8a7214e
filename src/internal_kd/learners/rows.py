"""Rows of logits: one for each example, or for tags one for each token that counts, the first piece of a word.

``rows`` (B, n) of a batch of tags names the row at each such token and is -1 elsewhere: special tokens, further pieces,
padding, and words that another window of the same sentence answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

NO_ROW = -1


def by_row(values: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
    """Return values of tokens (B, n, ...) as rows (R, ...), in the batch's order; without ``rows`` they are rows."""
    return values[batch["rows"] != NO_ROW] if "rows" in batch else values


def row_ids(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the ids of a batch's rows, (R,): those of its examples, or of the words that it answers."""
    return by_row(batch["rows"] if "rows" in batch else batch["idx"], batch)

"""The rows of the word embeddings that a training set uses, trained in place of the whole table.

An optimizer step over a table of 30,522 rows costs a CPU as much as some encoder layers, and a small training set
shows the model a fraction of them: the others get no gradient, only weight decay. Here they are left alone, so a word
that training never shows keeps its pre-trained embedding [ours].
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class UsedRows(nn.Module):
    """Stands for an ``nn.Embedding`` while some of its rows are trained.

    Attributes:
        weight: the trained rows, shape (rows used, width).
    """

    def __init__(self, embedding: nn.Embedding, used: Tensor) -> None:
        """``used``: ids in ascending order, shape (rows used,), on the embedding's device."""
        super().__init__()
        whole = embedding.weight.detach()
        self._whole, self._used = whole, used
        self._places = torch.full((len(whole),), -1, device=used.device).scatter_(
            0, used, torch.arange(len(used), device=used.device)
        )
        pad = embedding.padding_idx
        # torch gives the padding row no gradient.
        self._padding = None if pad is None or self._places[pad] < 0 else int(self._places[pad])
        self.weight = nn.Parameter(whole[used].clone())

    def forward(self, ids: Tensor) -> Tensor:
        """Return embeddings of shape (*ids.shape, width); in eval mode of every word, while training of used ones."""
        if self.training:
            return F.embedding(self._places[ids], self.weight, self._padding)
        return F.embedding(ids, self._whole)

    def train(self, mode: bool = True) -> UsedRows:
        """Switch the mode; on the way to eval mode the table learns its trained rows."""
        super().train(mode)
        if not mode:
            self.write_back()
        return self

    def write_back(self) -> None:
        """Put the trained rows into the table."""
        self._whole[self._used] = self.weight.detach()


@contextmanager
def training_used_rows(model: PreTrainedModel, ids: np.ndarray) -> Iterator[None]:
    """Inside the block the model trains the embeddings of the word ``ids``, shape (words,), and of no other word.

    Afterwards it has its whole table again, with the trained rows in it.
    """
    embedding = cast("nn.Embedding", model.get_input_embeddings())
    rows = UsedRows(embedding, torch.as_tensor(np.unique(ids), dtype=torch.int64, device=embedding.weight.device))
    model.set_input_embeddings(rows)
    try:
        yield
    finally:
        rows.write_back()
        model.set_input_embeddings(embedding)

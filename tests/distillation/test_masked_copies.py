"""Masked copies: determined by example, copy and share; without labels; special tokens and originals untouched."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internal_kd.data.ragged import EncodedExamples, Ragged
from internal_kd.distillation.masked_copies import WithMaskedCopies, copies_of

CLS, SEP, PAD, MASK = 1, 2, 0, 3
TEXTS = [[CLS, 7, 8, 9, 10, SEP], [CLS, 7, SEP], [CLS, SEP], [CLS, 11, 12, 13, 14, 15, 16, 17, SEP]]


def examples(labels: list[float] | None = None) -> EncodedExamples:
    kind = np.array(labels, dtype=np.float32) if labels else np.array([0, 1, 0, 1])
    return EncodedExamples("train", [Ragged.of(TEXTS, None, kind)], PAD)


def copied(number: int = 3, share: float = 0.4, labels: list[float] | None = None) -> WithMaskedCopies:
    return WithMaskedCopies(examples(labels), copies_of(number, share), MASK, [CLS, SEP, PAD, MASK])


def texts_of(made: WithMaskedCopies, positions: list[int]) -> list[list[int]]:
    batch = made.batch(np.array(positions))
    lengths = batch["attention_mask"].sum(1).tolist()
    return [row[:length] for row, length in zip(batch["input_ids"].tolist(), lengths, strict=True)]


def test_originals_come_first_and_stay_what_they_are():
    made = copied()
    assert len(made) == 4 * 4
    assert texts_of(made, [0, 1, 2, 3]) == TEXTS
    batch = made.batch(np.arange(16))
    assert batch["labels"].tolist() == [0, 1, 0, 1] + [-1] * 12
    assert len(set(batch["idx"].tolist())) == 16 and batch["idx"][:4].tolist() == [0, 1, 2, 3]
    assert np.isnan(copied(labels=[0.5, 1.0, 2.0, 3.0]).batch(np.arange(4, 8))["labels"].numpy()).all()


@given(st.integers(0, 15), st.floats(0.001, 0.999))
def test_a_copy_differs_from_its_original_by_masks_alone(position: int, share: float):
    (text,) = texts_of(copied(share=round(share, 3)), [position])
    original = TEXTS[position % 4]
    changed = [(now, before) for now, before in zip(text, original, strict=True) if now != before]
    assert all(now == MASK and before not in (CLS, SEP) for now, before in changed)
    assert bool(changed) == (position >= 4 and len(original) > 2)  # a text without words has nothing to mask


def test_a_copy_is_the_same_in_every_batch_and_beside_copies_of_other_shares():
    alone, company = copied(2), WithMaskedCopies(
        examples(), [*copies_of(2, 0.4), *copies_of(2, 0.9)], MASK, [CLS, SEP]
    )  # fmt: skip
    chosen = alone.positions(np.array([3, 0]), copies_of(2, 0.4))
    assert chosen.tolist() == [3, 0, 7, 4, 11, 8]
    assert texts_of(alone, chosen.tolist()) == [texts_of(alone, [position])[0] for position in chosen]
    more = company.positions(np.array([3]), copies_of(2, 0.9))
    assert texts_of(alone, [7, 11]) == texts_of(company, [7, 11])
    assert set(company.idx[more[1:]]).isdisjoint(company.idx[:12])
    for few, many in zip(texts_of(company, [7, 11]), texts_of(company, more[1:].tolist()), strict=True):
        assert all(b == MASK for a, b in zip(few, many, strict=True) if a == MASK)


def test_about_the_share_is_masked():
    long = EncodedExamples("train", [Ragged.of([[CLS, *range(10, 1010), SEP]] * 3, None, np.zeros(3, np.int64))], PAD)
    made = WithMaskedCopies(long, copies_of(2, 0.3), MASK, [CLS, SEP])
    batch = made.batch(np.arange(3, 9))
    assert (batch["input_ids"] == MASK).float().mean(1).numpy() == pytest.approx([0.3] * 6, abs=0.05)
    assert len({tuple(row) for row in batch["input_ids"].tolist()}) == 6  # by example and by copy
    assert MASK in made.vocabulary(np.array([0]))

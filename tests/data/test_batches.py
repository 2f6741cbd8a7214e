"""Length buckets waste little and repeat exactly; subsets are nested and the same for everybody."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internal_kd.data.batches import LengthBuckets, nested_subset
from internal_kd.errors import UserError


def batches(lengths: np.ndarray, size: int = 32, seed: int = 1, epoch: int = 0) -> list[list[int]]:
    buckets = LengthBuckets(lengths, size, seed)
    buckets.set_epoch(epoch)
    return list(buckets)


def skewed_lengths(total: int = 5000) -> np.ndarray:
    return np.clip(np.random.default_rng(0).lognormal(3, 0.7, total).astype(int), 4, 128)


@given(st.integers(1, 4000), st.integers(1, 40), st.integers(0, 5))
def test_every_example_once_and_the_length_is_known(total: int, size: int, epoch: int) -> None:
    made = batches(np.arange(total) % 17, size, epoch=epoch)
    assert sorted(position for batch in made for position in batch) == list(range(total))
    assert len(made) == len(LengthBuckets(np.zeros(total), size, 0))
    assert sum(len(batch) != size for batch in made) <= 1


def test_little_padding_where_random_batches_pad_more_than_double() -> None:
    lengths = skewed_lengths()
    padded = sum(len(batch) * lengths[batch].max() for batch in batches(lengths))
    shuffled = np.random.default_rng(1).permutation(len(lengths))
    at_random = sum(len(part) * lengths[part].max() for part in np.array_split(shuffled, -(-len(lengths) // 32)))
    assert padded / lengths.sum() < 1.1 < 2.0 < at_random / lengths.sum()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = skewed_lengths()
    assert batches(lengths) == batches(lengths)
    assert batches(lengths) != batches(lengths, epoch=1)
    assert batches(lengths) != batches(lengths, seed=2)


def test_long_and_short_batches_are_mixed() -> None:
    lengths = skewed_lengths()
    longest = [lengths[batch].max() for batch in batches(lengths)]
    assert abs(np.corrcoef(longest[:-1], longest[1:])[0, 1]) < 0.3


def test_the_order_is_the_one_runs_were_trained_with() -> None:
    # Golden: another order trains other models, so train_teacher and train_student need new recipe versions.
    assert batches(np.array([5, 3, 9, 4, 8, 7, 3]), size=3, seed=7, epoch=2) == [[0, 5, 4], [2], [6, 1, 3]]
    assert nested_subset(np.arange(100, 110), 4).tolist() == [2, 3, 6, 7]


@given(st.lists(st.integers(0, 2**40), unique=True, min_size=2, max_size=300), st.data())
def test_subsets_are_nested_and_keyed_by_example_id(ids: list[int], data: st.DataObject) -> None:
    idx = np.array(ids)
    large = data.draw(st.integers(1, len(ids)))
    small = data.draw(st.integers(1, large))
    chosen = set(idx[nested_subset(idx, large)])
    assert len(chosen) == large and set(idx[nested_subset(idx, small)]) <= chosen
    assert set(idx[::-1][nested_subset(idx[::-1], large)]) == chosen


def test_a_subset_is_no_run_of_neighbours() -> None:
    chosen = np.sort(nested_subset(np.arange(10_000), 1000))
    assert 4500 < chosen.mean() < 5500 and np.diff(chosen).std() > 5


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"study.examples: 5 are more than the task's 4 training examples"):
        nested_subset(np.arange(4), 5)

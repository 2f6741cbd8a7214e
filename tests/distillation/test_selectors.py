"""Subsets are nested and the same for every seed; what is held out is never trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from internal_kd.distillation.selectors import SCORES, SELECTORS, Selected, number_of
from internal_kd.distillation.selectors import select as select_of
from internal_kd.errors import UserError
from internal_kd.registry import resolve


def select(idx: np.ndarray, **settings: Any) -> Selected:
    return select_of(idx, idx % 3, **settings)


def test_the_subset_is_the_one_runs_were_trained_with() -> None:
    # Golden: another subset trains other models, so `train` needs a new recipe.
    assert select(np.arange(100, 110), keep=4).train.tolist() == [2, 3, 6, 7]


@pytest.mark.parametrize("by", list(SELECTORS))
@given(st.lists(st.integers(0, 2**40), unique=True, min_size=2, max_size=300), st.data())
def test_subsets_are_nested_and_keyed_by_example_id(by: str, ids: list[int], data: st.DataObject) -> None:
    idx = np.array(ids)
    large = data.draw(st.integers(1, len(ids)))
    small = data.draw(st.integers(1, large))
    chosen = set(idx[select(idx, by=by, keep=large).train])
    assert len(chosen) == large and set(idx[select(idx, by=by, keep=small).train]) <= chosen
    assert set(idx[::-1][select(idx[::-1], by=by, keep=large).train]) == chosen


def test_a_balanced_subset_has_as_many_of_each_class_as_there_are() -> None:
    labels = np.repeat([0, 1, 2], [5, 90, 5])
    counts = [
        np.bincount(labels[select_of(np.arange(100), labels, by="balanced", keep=keep).train]) for keep in (9, 60)
    ]
    assert [each.tolist() for each in counts] == [[3, 3, 3], [5, 50, 5]]


def test_examples_without_classes_cannot_be_balanced() -> None:
    with pytest.raises(UserError, match=r"select\.by"):
        select_of(np.arange(9), np.linspace(0, 5, 9), by="balanced", keep=3)


def test_a_subset_is_not_a_run_of_neighbours() -> None:
    chosen = np.sort(select(np.arange(10_000), keep=1000).train)
    assert 4500 < chosen.mean() < 5500 and np.diff(chosen).std() > 5


def test_everything_is_kept_in_its_order() -> None:
    assert select(np.arange(5) * 7).train.tolist() == [0, 1, 2, 3, 4]


@given(st.integers(10, 200), st.floats(0.05, 0.5))
def test_what_is_held_out_is_never_trained_on_and_does_not_depend_on_keep(total: int, share: float) -> None:
    idx = np.arange(total) * 3
    full, part = select(idx, hold_out=share), select(idx, keep=3, hold_out=share)
    assert full.held_out.tolist() == part.held_out.tolist()
    assert len(full.held_out) == round(share * total)
    assert sorted([*full.train, *full.held_out]) == list(range(total))
    assert not {*part.train} & {*part.held_out}


@pytest.mark.parametrize(("keep", "count"), [(7, 7), (0.3, 3), ("full", 10), (1, 1), (1.0, 1)])
def test_a_number_is_a_number_and_a_share_a_share(keep: float, count: int) -> None:
    assert number_of(keep, 10) == count


@pytest.mark.parametrize("keep", [11, 0, 0.01, "half"])
def test_what_cannot_be_kept_is_refused(keep: float) -> None:
    with pytest.raises(UserError, match=r"select\.keep"):
        select(np.arange(10), keep=keep)


@pytest.mark.parametrize("path", [*SELECTORS.values(), *SCORES.values()])
def test_every_selector_is_a_function_that_exists(path: str) -> None:
    assert callable(resolve(path))


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=200), st.data())
def test_scores_choose_the_highest_or_the_lowest_nested_and_whatever_their_order(values, data) -> None:
    scores, idx = np.array(values, float), np.arange(len(values)) * 7
    count = data.draw(st.integers(1, len(values)))
    high = select(idx, scores=scores, keep=count).train
    low = select(idx, scores=scores, keep=count, order="low").train
    assert sorted(scores[high]) == sorted(scores)[len(values) - count :]
    assert sorted(scores[low]) == sorted(scores)[:count]
    assert {*select(idx, scores=scores, keep=1).train} <= {*high}
    assert {*idx[::-1][select(idx[::-1], scores=scores[::-1], keep=count).train]} == {*idx[high]}


@pytest.mark.parametrize("name", list(SCORES))
def test_a_score_is_of_the_example_and_not_of_its_place(name: str) -> None:
    rng = np.random.default_rng(1)
    logits, labels, order = rng.normal(size=(4, 60, 3)), rng.integers(0, 3, 60), rng.permutation(60)
    scores = resolve(SCORES[name])(logits, labels)
    assert scores.shape == (60,) and np.isfinite(scores).all()
    assert np.allclose(resolve(SCORES[name])(logits[:, order], labels[order]), scores[order])


@pytest.mark.parametrize(("name", "hard_first"), [("el2n", 1), ("loss", 1), ("forgetting", 1), ("confidence", -1)])
def test_the_harder_of_two_examples_has_the_score_that_says_so(name: str, hard_first: int) -> None:
    easy, hard = [[0.0, 5.0]] * 3, [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    scores = resolve(SCORES[name])(np.array([easy, hard]).transpose(1, 0, 2), np.array([1, 1]))
    assert hard_first * (scores[1] - scores[0]) > 0


def test_herding_picks_what_keeps_the_mean_first() -> None:
    centre, sides, far = [[0.0]], [[-1.0], [1.0]], [[-9.0], [9.0]]
    scores = resolve(SCORES["herding"])(np.array([[*centre, *sides, *far]]), np.zeros(5, int))
    assert np.argsort(-scores)[:3].tolist() in ([0, 1, 2], [0, 2, 1])


def test_an_unknown_selector_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="random"):
        select(np.arange(10), by="randm", keep=2)

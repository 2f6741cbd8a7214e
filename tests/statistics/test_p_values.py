"""Holm's correction and McNemar's test are statsmodels'."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar as reference
from statsmodels.stats.multitest import multipletests

from internal_kd.errors import UserError
from internal_kd.statistics import holm, holm_level, mcnemar


def test_holm_is_statsmodels_and_leaves_out_what_was_not_tested():
    ps = [0.2, 0.001, 0.04, 0.03, 0.9, 0.001]
    expected = multipletests(ps, method="holm")[1]
    assert holm(ps) == pytest.approx(list(expected))
    with_gap = holm([ps[0], np.nan, *ps[1:]])
    assert np.isnan(with_gap[1])
    assert with_gap[:1] + with_gap[2:] == pytest.approx(list(expected))
    assert holm([]) == []


@given(st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.001, 0.01, 0.04])), min_size=1, max_size=12), st.data())
def test_the_level_of_a_comparison_is_where_holm_begins_to_reject_it(ps, data):
    place, alpha = data.draw(st.integers(0, len(ps) - 1)), data.draw(st.sampled_from([0.01, 0.05]))
    level = holm_level(ps, place, alpha)
    for share, shown in ((0.999, True), (1.001, False)):
        assert (holm([*ps[:place], share * level, *ps[place + 1 :]])[place] < alpha) == shown
    undecided = [p for p in holm(ps) if p >= alpha]
    assert holm(ps)[place] < alpha or level == alpha / len(undecided)
    assert holm_level([*ps, np.nan], place, alpha) == level


def test_mcnemar_is_exact_and_paired_by_seed():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=80)
    a, b = (np.where(rng.random((4, 80)) < share, labels, (labels + 1) % 3) for share in (0.6, 0.8))
    for p, x, y in zip(mcnemar(labels, a, b), a == labels, b == labels, strict=True):
        table = [[np.sum(x & y), np.sum(x & ~y)], [np.sum(~x & y), np.sum(~x & ~y)]]
        assert p == pytest.approx(min(1, reference(table, exact=True).pvalue))
    assert mcnemar(labels, a[0], a[0]) == [1]


def test_mcnemar_needs_the_same_seeds_on_both_sides():
    with pytest.raises(UserError, match="pairs seeds"):
        mcnemar([0, 1], [[0, 1]], [[0, 1], [1, 1]])

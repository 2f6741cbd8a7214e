"""The randomisation test's p are those of the textbook."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from internal_kd.analysis import randomisation
from internal_kd.analysis.randomisation import randomisation_p

REFERENCE = {"accuracy": sk.accuracy_score, "f1": sk.f1_score, "matthews_correlation": sk.matthews_corrcoef}


@pytest.mark.parametrize("metric", ["f1", "matthews_correlation", "accuracy"])
def test_randomisation_approaches_the_exact_test_over_all_exchanges(metric):
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=40)
    a, b = labels.copy(), labels.copy()
    a[:2], b[2:8] = 1 - a[:2], 1 - b[2:8]
    different = np.flatnonzero(a != b)
    observed = abs(REFERENCE[metric](labels, a) - REFERENCE[metric](labels, b))
    reached = 0
    for coins in itertools.product([False, True], repeat=len(different)):
        swap = different[list(coins)]
        x, y = a.copy(), b.copy()
        x[swap], y[swap] = b[swap], a[swap]
        reached += abs(REFERENCE[metric](labels, x) - REFERENCE[metric](labels, y)) >= observed - 1e-12
    assert randomisation_p(metric, labels, a, b, 2) == pytest.approx(reached / 2 ** len(different), abs=0.012)


def test_a_clear_difference_gets_a_p_that_survives_correction():
    labels = np.arange(400) % 2
    a, b = labels.copy(), labels.copy()
    b[:80] = 1 - b[:80]
    assert randomisation_p("f1", labels, a, b, 2) < 1e-5


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mse"])
def test_randomisation_of_values_tells_equal_from_different(metric):
    rng = np.random.default_rng(2)
    labels = rng.uniform(0, 5, 300)
    near, far = labels + rng.normal(size=300), labels + 4 * rng.normal(size=300)
    assert randomisation_p(metric, labels, near, far, None) < 0.001
    assert randomisation_p(metric, labels, near, labels + rng.normal(size=300), None) > 0.05


def test_equal_predictions_have_p_one():
    labels = np.array([0, 1, 1, 0])
    assert randomisation_p("f1", labels, labels, labels, 2) == 1.0


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mse"])
def test_a_clear_difference_of_values_gets_a_p_that_survives_correction(metric):
    rng = np.random.default_rng(2)
    labels = rng.uniform(0, 5, 300)
    near, far = labels + rng.normal(size=300), labels + 4 * rng.normal(size=300)
    # A whole study corrects for about thirty comparisons.
    assert 30 * randomisation_p(metric, labels, near, far, None) < 0.001


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mse"])
def test_randomisation_of_values_approaches_the_exact_test_over_all_exchanges(metric):
    rng = np.random.default_rng(3)
    labels = rng.uniform(0, 5, 9)  # not a whole number of bytes
    a, b = labels + rng.normal(size=9), labels + 2 * rng.normal(size=9)
    if metric == "spearman":  # exchanged are the ranks, made once
        labels, a, b = (stats.rankdata(values) for values in (labels, a, b))
    score = (lambda y, p: ((y - p) ** 2).mean()) if metric == "mse" else (lambda y, p: np.corrcoef(y, p)[0, 1])
    observed, reached = abs(score(labels, a) - score(labels, b)), 0
    for coins in itertools.product([False, True], repeat=9):
        x, y = np.where(coins, b, a), np.where(coins, a, b)
        reached += abs(score(labels, x) - score(labels, y)) >= observed - 1e-12
    assert randomisation_p(metric, labels, a, b, None) == pytest.approx(reached / 2**9, abs=0.015)


def test_chunks_change_no_test_of_values_by_more_than_chance(monkeypatch):
    rng = np.random.default_rng(4)
    labels = rng.uniform(0, 5, 60)
    a, b = labels + rng.normal(size=60), labels + 1.2 * rng.normal(size=60)
    whole = randomisation_p("mse", labels, a, b, None)
    monkeypatch.setattr(randomisation, "CHUNK_ELEMENTS", 8 * 8 * 100)
    assert randomisation_p("mse", labels, a, b, None) == pytest.approx(whole, abs=0.02)


def test_values_equal_everywhere_have_p_one_and_undefined_ones_none():
    labels = np.arange(20.0)
    assert randomisation_p("mse", labels, labels, labels, None) == 1.0
    assert np.isnan(randomisation_p("pearson", labels, np.ones(20), labels, None))

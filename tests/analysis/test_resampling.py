"""Resampled metrics are the field's metrics, and the tests' p are those of the textbook."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from internal_kd.analysis import resampling as rs

REFERENCE = {
    "accuracy": sk.accuracy_score,
    "f1": sk.f1_score,
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro"),
    "matthews_correlation": sk.matthews_corrcoef,
    "pearson": lambda y, p: stats.pearsonr(y, p).statistic,
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
    "mse": sk.mean_squared_error,
}


@pytest.mark.parametrize(
    ("metric", "classes"),
    [(m, k) for m in ("accuracy", "macro_f1", "matthews_correlation") for k in (2, 3)] + [("f1", 2)],
)
def test_bootstrapped_classification_metrics_are_scikit_learn_s(metric, classes):
    rng = np.random.default_rng(0)
    labels, runs = rng.integers(classes, size=30), [rng.integers(classes, size=30) for _ in range(2)]
    found = rs.bootstrap_runs(labels, runs, [metric], classes, resamples=20)[metric]
    weights = np.concatenate(list(rs.example_weights(30, 20, np.random.default_rng(rs.SEED))))
    for row, draw in enumerate(weights.astype(int)):
        idx = np.repeat(np.arange(30), draw)
        for run in (0, 1):
            assert found[run, row] == pytest.approx(REFERENCE[metric](labels[idx], runs[run][idx]), abs=1e-9)


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mse"])
def test_bootstrapped_regression_metrics_are_scipy_s(metric):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 11, 40) / 2  # ties, as in STS-B
    runs = [labels + rng.normal(size=40), rng.normal(size=40).round(1)]
    found = rs.bootstrap_runs(labels, runs, [metric], None, resamples=15)[metric]
    weights = np.concatenate(list(rs.example_weights(40, 15, np.random.default_rng(rs.SEED))))
    for row, draw in enumerate(weights.astype(int)):
        idx = np.repeat(np.arange(40), draw)
        for run in (0, 1):
            assert found[run, row] == pytest.approx(REFERENCE[metric](labels[idx], runs[run][idx]), abs=1e-9)


def test_constant_predictions_give_no_correlation():
    labels = np.arange(10.0)
    found = rs.bootstrap_runs(labels, [np.full(10, 2.5)], ["pearson", "spearman"], None, resamples=50)
    assert np.isnan(found["pearson"]).all() and np.isnan(found["spearman"]).all()
    assert rs.interval(found["pearson"][0]) is None


def test_chunks_do_not_change_the_draws(monkeypatch):
    labels, run = np.array([0, 1] * 20), np.array([0, 1, 1, 1] * 10)
    whole = rs.bootstrap_runs(labels, [run], ["f1"], 2, resamples=50)["f1"]
    monkeypatch.setattr(rs, "_CHUNK_ELEMENTS", 7 * 40)
    np.testing.assert_array_equal(rs.bootstrap_runs(labels, [run], ["f1"], 2, resamples=50)["f1"], whole)


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
    assert rs.randomisation_p(metric, labels, a, b, 2) == pytest.approx(reached / 2 ** len(different), abs=0.012)


def test_a_clear_difference_gets_a_p_that_survives_correction():
    labels = np.arange(400) % 2
    a, b = labels.copy(), labels.copy()
    b[:80] = 1 - b[:80]
    assert rs.randomisation_p("f1", labels, a, b, 2) < 1e-5


@pytest.mark.parametrize("metric", ["pearson", "spearman", "mse"])
def test_randomisation_of_values_tells_equal_from_different(metric):
    rng = np.random.default_rng(2)
    labels = rng.uniform(0, 5, 300)
    near, far = labels + rng.normal(size=300), labels + 4 * rng.normal(size=300)
    assert rs.randomisation_p(metric, labels, near, far, None) < 0.001
    assert rs.randomisation_p(metric, labels, near, labels + rng.normal(size=300), None) > 0.05


def test_equal_predictions_have_p_one():
    labels = np.array([0, 1, 1, 0])
    assert rs.randomisation_p("f1", labels, labels, labels, 2) == 1.0


def test_the_interval_holds_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        labels = np.zeros(200, int)
        run = (rng.random(200) < 0.3).astype(int)
        low, high = rs.interval(rs.bootstrap_runs(labels, [run], ["accuracy"], 2, resamples=300)["accuracy"][0])
        held += low <= 0.7 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_seeds_widen_the_interval():
    rng = np.random.default_rng(4)
    scores = np.array([[0.6], [0.8]]) + 0.001 * rng.normal(size=(2, 4000))
    means = rs.mean_over_seeds(scores, rng)
    assert means.std() == pytest.approx(0.1 / np.sqrt(2), rel=0.05)

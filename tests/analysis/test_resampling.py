"""Resampled metrics are the field's metrics, and intervals hold the truth as often as they say."""

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
    monkeypatch.setattr(rs, "CHUNK_ELEMENTS", 7 * 40)
    np.testing.assert_array_equal(rs.bootstrap_runs(labels, [run], ["f1"], 2, resamples=50)["f1"], whole)


def test_the_interval_holds_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        labels = np.zeros(200, int)
        run = (rng.random(200) < 0.3).astype(int)
        low, high = rs.interval(rs.bootstrap_runs(labels, [run], ["accuracy"], 2, resamples=300)["accuracy"][0])
        held += low <= 0.7 <= high
    assert 0.89 <= held / 200 <= 0.99


def coverage(seeds, examples, own=0.0, ways=600):
    """How often the interval of a difference of two equal methods, seeds of variance 1, holds 0."""
    rng = np.random.default_rng(4)

    def method(noise, resampled):
        scores = rng.normal(size=seeds) + own * rng.normal(size=seeds) + noise
        return rs.seed_mean(scores[:, None] + resampled + own * rng.normal(size=(seeds, 300)), rng)

    held = 0
    for _ in range(ways):
        first = method(examples * rng.normal(), examples * rng.normal(size=300))
        low, high = rs.joint_interval(np.subtract, [first, method(0, 0)])
        held += low <= 0 <= high
    return held / ways


@pytest.mark.parametrize("examples", [0, 0.5])
def test_three_seeds_are_enough_for_an_interval_that_holds_the_truth(examples):
    # A percentile bootstrap over the seeds themselves holds it in 80 and 89 of 100.
    assert 0.93 <= coverage(3, examples) <= 0.985


def test_two_seeds_give_an_interval_that_is_wide_rather_than_wrong():
    assert coverage(2, 0.5) >= 0.9


def test_what_examples_and_seeds_both_hold_is_counted_once():
    assert 0.93 <= coverage(5, 0.5, own=1) <= 0.985
    rng = np.random.default_rng(5)
    # Seeds that differ by their own errors on these examples alone: 1 / sqrt 3 each, not sqrt 2 / sqrt 3 together.
    widths = [
        rs.seed_mean(rng.normal(size=(3, 1)) + rng.normal(size=(3, 1000)), rng).resampled.std() for _ in range(200)
    ]
    assert np.sqrt(np.mean(np.square(widths))) == pytest.approx(np.sqrt(1 / 3), rel=0.2)


def test_seeds_widen_the_interval_by_their_standard_error():
    rng = np.random.default_rng(4)
    scores = np.array([[0.6], [0.8]]) + 0.001 * rng.normal(size=(2, 4000))
    assert rs.seed_mean(scores, rng).resampled.std() == pytest.approx(0.1, rel=0.05)
    low, high = rs.joint_interval(np.positive, [rs.seed_mean(scores, rng)])
    assert (high - low) / 2 == pytest.approx(0.1 * stats.t.ppf(0.975, 1), rel=0.1)


def test_one_seed_has_an_interval_over_examples_only():
    scores = np.random.default_rng(6).normal(size=(1, 1000))
    mean = rs.seed_mean(scores, np.random.default_rng(0))
    assert mean.degrees == 0
    assert rs.joint_interval(np.positive, [mean]) == rs.interval(scores[0])


def test_equal_draws_keep_quantities_of_one_method_joint():
    scores = np.array([[0.2], [0.5], [0.6]]) + np.zeros((3, 500))
    one, other = (rs.seed_mean(values, np.random.default_rng(7)).resampled for values in (scores, 1 - scores))
    np.testing.assert_allclose(one + other, 1)


def test_a_score_that_no_resample_defines_has_no_interval():
    undefined = rs.seed_mean(np.full((3, 100), np.nan), np.random.default_rng(0))
    assert rs.joint_interval(np.positive, [undefined]) is None

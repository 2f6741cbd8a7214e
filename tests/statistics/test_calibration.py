"""Calibration: Guo et al.'s expected calibration error."""

from itertools import pairwise

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from internal_kd.errors import UserError
from internal_kd.statistics import calibration, confidence_diversity, mean_entropy
from internal_kd.statistics.calibration import confidences, expected_calibration_error


def test_a_case_counted_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    # Half of the examples are 0.05 too modest, half of them 0.05 too sure.
    assert expected_calibration_error(confidence, right) == pytest.approx(0.05)


def test_a_model_that_is_always_sure_and_half_right_errs_by_half():
    assert expected_calibration_error(np.ones(10), np.arange(10) % 2 == 0) == 0.5


def test_confidence_is_the_top_label_s_probability():
    assert confidences(np.log([[0.2, 0.8], [0.7, 0.3]])) == pytest.approx([0.8, 0.7])
    assert confidences(np.array([[1000.0, -1000.0]])) == pytest.approx([1.0])


def test_bins_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    confidence = np.append(rng.uniform(0.3, 1, 500), [1.0, 14 / 15, 0.6])
    right = rng.random(len(confidence)) < confidence
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    edges = np.linspace(0, 1, 16)
    counts = np.array([np.sum((low < confidence) & (confidence <= high)) for low, high in pairwise(edges)])
    expected = counts[counts > 0] @ np.abs(accuracy - mean) / len(confidence)
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)


def test_a_model_that_is_right_as_often_as_sure_has_a_small_error_that_falls_with_examples():
    rng = np.random.default_rng(1)
    errors = []
    for size in (200, 200_000):
        confidence = rng.uniform(0.5, 1, size)
        errors.append(expected_calibration_error(confidence, rng.random(size) < confidence))
    assert errors[1] < 0.005 < errors[0]


def test_a_method_has_each_seed_s_error():
    rng = np.random.default_rng(2)
    labels = rng.integers(3, size=100)
    seeds = [2 * np.eye(3)[labels] + rng.normal(size=(100, 3)) for _ in range(4)]
    found = calibration(labels, seeds)
    errors = [expected_calibration_error(confidences(own), own.argmax(1) == labels) for own in seeds]
    assert found.errors == pytest.approx(errors)
    assert (found.error, found.std) == pytest.approx((np.mean(errors), np.std(errors, ddof=1)))
    assert found.accuracy == pytest.approx(np.mean([own.argmax(1) == labels for own in seeds]))
    assert np.isnan(calibration(labels, seeds[:1]).std)


def test_logits_of_other_examples_are_refused():
    with pytest.raises(UserError, match="100 labels"):
        calibration(np.zeros(100, int), [np.zeros((90, 2))])
    with pytest.raises(UserError, match="NaN"):
        calibration([0, 1], [np.array([[1, np.nan], [0, 1]])])


def logits_of(gold: np.ndarray) -> np.ndarray:
    """Logits of two classes that give the first one these probabilities."""
    return np.log(np.stack([gold, 1 - gold], axis=1))


def test_diversity_is_the_differential_entropy_of_the_gold_labels_probability():
    labels, even = np.zeros(4999, int), np.linspace(0, 1, 5001)[1:-1]
    assert confidence_diversity(labels, logits_of(even)) == pytest.approx(0, abs=0.03)
    # A tenth of the spread: log(1 / 10) less; and the order of the examples does not count.
    narrow = 0.45 + even[::-1] / 10
    assert confidence_diversity(labels, logits_of(narrow)) == pytest.approx(np.log(0.1), abs=0.03)
    assert np.isfinite(confidence_diversity(labels, np.tile([800.0, -800.0], (4999, 1))))


def test_the_mean_entropy_of_even_guesses_is_that_of_the_classes():
    assert mean_entropy(np.zeros((5, 4))) == pytest.approx(np.log(4))

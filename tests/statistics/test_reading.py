"""What a comparison reads as: verdicts, intervals within what is possible, p values, what would decide."""

import math

import numpy as np
import pytest

from internal_kd.report.words import interval
from internal_kd.statistics import (
    bounded_interval,
    compare,
    interval_text,
    mean_score,
    p_text,
    reading,
    what_would_decide,
)

LABELS = np.zeros(100, int)


def right(*shares):
    """Predictions of one seed a share, so many of 100 examples right."""
    return np.stack([(np.arange(100) >= round(100 * share)).astype(int) for share in shares])


def test_the_corrected_p_decides():
    result = compare(LABELS, right(0.70, 0.72, 0.71), right(0.80, 0.82, 0.81))
    assert reading(result) == reading(result, "dev") == "better"
    assert reading(result, p=0.2) == "undecided"
    assert reading(result, p=0.04, alpha=0.01) == "undecided"


def test_equality_is_the_whole_90_percent_interval_within_the_margin():
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=20_000)
    seeds = [np.where(rng.random((5, 20_000)) < 0.9, labels, 1 - labels) for _ in range(2)]
    for margin, verdict in ((0.01, "equal within 1 point"), (0.025, "equal within 2.5 points"), (0.0005, "undecided")):
        result = compare(labels, *seeds, margin=margin)
        assert reading(result) == verdict
        low, high = result.new.interval(0.9)
        assert result.equal() == (-margin < low and high < margin)


def test_an_interval_wider_than_all_that_is_possible_is_not_estimable():
    result = compare(LABELS, right(0.95, 0.96), right(0.95, 0.17))
    assert result.dev_low < -1 and result.dev_high > 1
    assert bounded_interval(result, "dev") is None
    assert interval_text(result, "dev") == "not estimable from 2 seeds"
    assert interval_text(mean_score(LABELS, right(0.95, 0.17)), "dev") == "not estimable from 2 seeds"
    assert interval_text(compare(LABELS, right(0.9), right(0.8)), "dev") == "not estimable from 1 seed"


def test_an_interval_wider_than_the_range_of_the_metric_is_not_estimable_of_a_lead_either():
    rng = np.random.default_rng(3)
    found = [compare(LABELS[:12], *rng.integers(2, size=(2, 2, 12))) for _ in range(60)]
    between = [result for result in found if 1 < result.high - result.low < 2]
    assert between and {interval_text(result) for result in between} == {"not estimable from 2 seeds"}
    assert interval("accuracy", between[0].low, between[0].high, 2, difference=True) == "not estimable from 2 seeds"


def test_a_small_error_keeps_its_number():
    labels = np.linspace(0, 1, 50)
    worse = labels + 0.2 * np.random.default_rng(0).normal(size=(3, 50))
    result = compare(labels, worse, labels + 0.95 * (worse - labels), "mse")
    text = str(result)
    assert text.startswith(f"−{-result.difference:.3f};") and result.difference > -0.05
    assert f"dev set {result.dev_low:+.3f} to".replace("-", "−") in text


def test_no_interval_in_words_leaves_the_scale():
    mean = mean_score(LABELS, right(0.97, 1.0, 0.99))
    assert mean.high > 1
    assert bounded_interval(mean) == (pytest.approx(mean.low), 1)
    assert interval_text(mean).endswith("to 100.0")


def test_leads_have_a_sign_and_errors_their_own_units():
    assert interval_text(compare(LABELS, right(0.7, 0.72, 0.71), right(0.8, 0.82, 0.81)), "dev") == "+7.7 to +12.3"
    labels = np.linspace(0, 5, 50)
    result = compare(labels, labels + np.array([[1.0], [1.1]]), labels + np.array([[0.5], [0.6]]), "mse")
    assert interval_text(result, digits=2).startswith("−1.") and reading(result) == "better"


def test_what_would_decide_is_more_seeds_or_something_else():
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=3000)
    few = [
        np.where(rng.random((3, 3000)) < accuracy + 0.03 * rng.standard_normal((3, 1)), labels, 1 - labels)
        for accuracy in (0.8, 0.83)
    ]
    result = compare(labels, *few)
    assert reading(result) == "undecided"
    assert what_would_decide(result) == f"about {result.seeds_needed()} seeds of each method would do"
    same = compare(labels, few[0], few[0])
    assert what_would_decide(same) == "more seeds would not help"
    assert "second seed" in what_would_decide(compare(labels, few[0][0], few[1]))


@pytest.mark.parametrize(
    ("p", "text"),
    [(0.0002, "< 0.001"), (0.0043, "0.004"), (0.0496, "0.050"), (1.0, "1.000"), (math.nan, "–"), (None, "–")],
)
def test_p_has_the_digits_that_matter(p, text):
    assert p_text(p) == text

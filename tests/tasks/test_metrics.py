"""Every metric is the field's metric, defined once for scores, bootstraps and jackknives."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from internal_kd.errors import UserError
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import METRICS, score

REFERENCE = {
    "accuracy": sk.accuracy_score,
    "f1": lambda y, p: sk.f1_score(y, p, zero_division=0),
    "macro_f1": lambda y, p: sk.f1_score(y, p, average="macro", zero_division=0),
    "matthews_correlation": sk.matthews_corrcoef,
    "pearson": lambda y, p: stats.pearsonr(y, p).statistic,
    "spearman": lambda y, p: stats.spearmanr(y, p).statistic,
    "mse": sk.mean_squared_error,
}
CASES = [
    (metric, classes)
    for metric, entry in METRICS.items()
    if entry.kind != "tags"  # test_tags.py
    for classes in ((1,) if entry.kind == "values" else (2,) if metric == "f1" else (2, 3, 7))
]


def drawn(metric, classes, examples=60, seed=0):
    rng = np.random.default_rng(seed)
    if METRICS[metric].kind == "values":
        labels = rng.integers(0, 11, examples) / 2  # ties, as in STS-B
        return labels, (labels + rng.normal(size=examples)).round(1)
    labels = rng.integers(classes, size=examples)
    return labels, np.where(rng.random(examples) < 0.5, labels, rng.integers(classes, size=examples))


def statistics(metric, labels, predicted, classes):
    return METRICS[metric].statistics(labels, predicted, classes)


def test_every_metric_has_a_reference_and_a_kind():
    assert set(REFERENCE) == {name for name, metric in METRICS.items() if metric.kind != "tags"}
    assert all(metric.kind in KINDS for metric in METRICS.values())


@pytest.mark.parametrize(("metric", "classes"), CASES)
def test_scores_are_those_of_scikit_learn_and_scipy(metric, classes):
    labels, predicted = drawn(metric, classes)
    assert score(labels, predicted, metric, classes) == pytest.approx(REFERENCE[metric](labels, predicted), abs=1e-12)
    assert score(labels, predicted, metric) == pytest.approx(score(labels, predicted, metric, classes))
    low, high = METRICS[metric].bounds
    assert low <= score(labels, predicted, metric) <= high


@pytest.mark.parametrize(("metric", "classes"), [case for case in CASES if case[0] != "spearman"])
def test_weighted_sums_give_the_metric_of_a_resample(metric, classes):
    labels, predicted = drawn(metric, classes)
    rng = np.random.default_rng(1)
    weights = rng.multinomial(60, np.full(60, 1 / 60), size=5).astype(float)
    resampled = METRICS[metric].value(weights @ statistics(metric, labels, predicted, classes))
    for value, row in zip(resampled, weights.astype(int), strict=True):
        at = np.repeat(np.arange(60), row)
        assert value == pytest.approx(REFERENCE[metric](labels[at], predicted[at]), abs=1e-9)


def test_ranks_are_made_again_when_an_example_is_left_out():
    labels, predicted = drawn("spearman", 1, examples=40)
    left_out = METRICS["spearman"].left_out(labels, predicted)
    for at in range(40):
        expected = stats.spearmanr(np.delete(labels, at), np.delete(predicted, at)).statistic
        assert left_out[at] == pytest.approx(expected, abs=1e-12)


def test_fewer_classes_than_occur_are_refused():
    with pytest.raises(UserError, match="classes=2"):
        score([0, 0, 1], [3, 0, 1], "accuracy", classes=2)
    assert score([0.5, 3.0], [0.5, 2.0], "mse", classes=1) == 0.5


def test_f1_counts_class_1_and_is_undefined_for_more_than_two_classes():
    labels, predicted = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    assert score(labels, predicted, "f1") == pytest.approx(2 / 3)
    assert np.isnan(score(labels, predicted, "f1", classes=3))
    assert np.isnan(score(np.array([0, 1, 2]), np.array([0, 1, 1]), "f1"))
    assert score(np.zeros(4, int), np.zeros(4, int), "f1") == 0


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_have_a_matthews_correlation_of_0(constant):
    assert score([0, 1, 1, 0], [constant] * 4, "matthews_correlation") == 0


@pytest.mark.parametrize("metric", ["pearson", "spearman"])
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_constants_have_no_correlation(metric, constant):
    assert np.isnan(score(np.arange(7.0), np.full(7, constant), metric))
    assert np.isnan(score(np.full(7, constant), np.arange(7.0), metric))


@pytest.mark.parametrize("metric", ["macro_f1", "matthews_correlation"])
def test_ten_thousand_classes_take_little_memory(metric):
    rng = np.random.default_rng(2)
    labels = rng.integers(10_000, size=10_000)
    predicted = np.where(rng.random(10_000) < 0.7, labels, rng.integers(10_000, size=10_000))
    counted = statistics(metric, labels, predicted, 10_000)
    assert counted.shape[0] == 10_000
    assert counted.data.nbytes < 1e6
    assert score(labels, predicted, metric, 10_000) == pytest.approx(REFERENCE[metric](labels, predicted), abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "labels", "predicted", "named"),
    [
        ("acuracy", [0], [0], "accuracy"),
        ("accuracy", [], [], "empty"),
        ("accuracy", [0, 1], [0, 1, 1], "(3,)"),
        ("accuracy", [-1, 1], [0, 1], "-1"),
        ("accuracy", [0, 1], [0.5, 1], "0.5"),
        ("pearson", [0.0, 1.0], [np.nan, 1.0], "NaN"),
        ("accuracy", [0, 1], [[0, 1], [0]], "unequal lengths"),
        ("accuracy", ["yes"], ["no"], "not numbers"),
    ],
)
def test_what_cannot_be_scored_is_refused(metric, labels, predicted, named):
    with pytest.raises(UserError) as refusal:
        score(labels, predicted, metric)
    assert named in str(refusal.value)


@pytest.mark.parametrize(("metric", "labels"), [("accuracy", [[0, 1], [1, -1]]), ("mse", [[0.0]]), ("span_f1", [0, 1])])
def test_labels_of_another_kind_of_task_are_refused_by_their_shape(metric, labels):
    with pytest.raises(UserError, match=f"{metric}: labels of shape"):
        score(labels, labels, metric)

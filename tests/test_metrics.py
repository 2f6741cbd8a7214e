"""Every metric of the table is the same where intervals and tests compute it their own, faster way."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from internal_kd.analysis.randomisation import _moment_metric
from internal_kd.analysis.resampling import class_metric, value_metric
from internal_kd.metrics import score_predictions
from internal_kd.tasks import GLUE, METRICS

EXAMPLES = 50
WAY_OUT = "a metric that analysis/resampling.py or analysis/randomisation.py does not know is taken for another there"


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if not metric.regression])
def test_a_metric_of_classes_has_its_form_for_counts(metric):
    rng = np.random.default_rng(4)
    labels, predicted = rng.integers(2, size=(2, EXAMPLES))
    frame = pd.DataFrame({"label": labels, "logit_0": 1 - predicted, "logit_1": predicted})
    one_hot = np.eye(2)
    correct = (one_hot[labels] * (labels == predicted)[:, None]).sum(0)
    found = class_metric(metric, correct, one_hot[predicted].sum(0), one_hot[labels].sum(0))
    assert found == pytest.approx(score_predictions(frame, [metric], False)[metric]), WAY_OUT


@pytest.mark.parametrize("metric", [name for name, metric in METRICS.items() if metric.regression])
def test_a_metric_of_values_has_its_form_for_moments(metric):
    rng = np.random.default_rng(4)
    labels, predicted = rng.normal(size=(2, EXAMPLES))
    frame = pd.DataFrame({"label": labels, "logit_0": predicted})
    expected = score_predictions(frame, [metric], True)[metric]
    assert value_metric(metric, labels, predicted, np.ones((1, EXAMPLES))) == pytest.approx(expected), WAY_OUT
    # There a test exchanges ranks, which are made once.
    y, x = (rankdata(values) if metric == "spearman" else values for values in (labels, predicted))
    sums = np.stack([x - x.mean(), (x - x.mean()) ** 2, x * (y - y.mean()), (x - y) ** 2]).sum(1)
    assert _moment_metric(metric, sums, y - y.mean()) == pytest.approx(expected), WAY_OUT


def test_glue_is_scored_by_metrics_of_the_table():
    for task in GLUE.values():
        assert all(METRICS[metric].regression == task.regression for metric in task.metrics)

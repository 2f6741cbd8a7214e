"""A comparison has one estimate, and an interval and a p that agree with each other and with the field's tests."""

import dataclasses
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.special import ndtri
from sklearn.metrics import matthews_corrcoef

from internal_kd.errors import UserError
from internal_kd.statistics import compare, contrast, holm, lead, mean_of, mean_score, pool, reading
from internal_kd.statistics.influence import influence
from internal_kd.tasks.metrics import METRICS, score

# Of tags: outside, the first and a further word of one kind of span.
CLASSES = {"classes": 2, "tags": 3, "values": 2}


def answers(rng, labels, seeds, accuracy, seed_std=0.0):
    """Predictions of two classes, (seeds, *labels.shape), right at random; of tags, O stands for B and B for others."""
    alike = (seeds, *np.ones_like(labels.shape))
    right = rng.random((seeds, *labels.shape)) < accuracy + seed_std * rng.standard_normal(alike)
    return np.where(right, labels, labels != 1)


def drawn(metric, seeds=4, examples=120, seed=0):
    """Labels and the predictions of a baseline and of a somewhat better method."""
    rng = np.random.default_rng(seed)
    if METRICS[metric].kind == "values":
        labels = rng.normal(size=examples)
        return labels, *(labels + noise * rng.normal(size=(seeds, examples)) for noise in (1.0, 0.7))
    tags = METRICS[metric].kind == "tags"
    labels = rng.integers(3, size=(examples, 5)) if tags else rng.integers(2, size=examples)
    return labels, *(answers(rng, labels, seeds, accuracy, 0.02) for accuracy in (0.7, 0.8))


@pytest.mark.parametrize("metric", METRICS)
def test_the_difference_is_ours_minus_baseline_in_natural_units(metric):
    labels, baseline, ours = drawn(metric)
    result = compare(labels, baseline, ours, metric)
    means = [np.mean([score(labels, seed, metric) for seed in side]) for side in (ours, baseline)]
    assert result.difference == pytest.approx(means[0] - means[1], abs=1e-12)
    assert (result.ours.mean, result.baseline.mean) == pytest.approx(means)
    assert (result.difference > 0) == METRICS[metric].higher_is_better
    assert result.low < result.difference < result.high
    assert result.dev_low < result.difference < result.dev_high


@pytest.mark.parametrize("metric", METRICS)
def test_on_this_dev_set_it_is_welch_s_t_test_over_seeds(metric):
    labels, baseline, ours = drawn(metric, seeds=6)
    result = compare(labels, baseline[:4], ours, metric)
    a, b = ([score(labels, seed, metric) for seed in side] for side in (ours, baseline[:4]))
    welch = stats.ttest_ind(a, b, equal_var=False)
    expected = (welch.pvalue, *welch.confidence_interval(0.95))
    assert (result.dev_p, result.dev_low, result.dev_high) == pytest.approx(expected)


@pytest.mark.parametrize("metric", METRICS)
def test_the_sides_may_be_swapped_and_seeds_and_examples_reordered(metric):
    labels, baseline, ours = drawn(metric)
    result, swapped = compare(labels, baseline, ours, metric), compare(labels, ours, baseline, metric)
    assert (swapped.difference, swapped.low, swapped.p) == pytest.approx((-result.difference, -result.high, result.p))
    order = np.random.default_rng(1).permutation(len(labels))
    again = compare(labels[order], baseline[::-1, order], ours[:, order], metric)
    assert (again.low, again.p, again.dev_p) == pytest.approx((result.low, result.p, result.dev_p))


@given(st.data())
def test_interval_and_p_never_disagree(data):
    examples, sides = data.draw(st.integers(2, 12)), [data.draw(st.integers(1, 4)) for _ in range(2)]
    metric = data.draw(st.sampled_from(list(METRICS)))
    kind = METRICS[metric].kind
    numbers = st.integers(0, {"classes": 1, "tags": 2, "values": 4}[kind])
    shape = (examples, 3) if kind == "tags" else (examples,)
    labels = data.draw(arrays(int, shape, elements=numbers))
    baseline, ours = (data.draw(arrays(int, (seeds, *shape), elements=numbers)) for seeds in sides)
    confidence = data.draw(st.sampled_from([0.8, 0.95, 0.99]))
    result = compare(labels, baseline, ours, metric, confidence=confidence)
    for estimate in (result.new, result.dev):
        low, high = estimate.interval(confidence)
        if np.isnan(estimate.p):
            assert np.isnan(low) and np.isnan(high)
        elif abs(estimate.p - (1 - confidence)) > 1e-9:
            assert low <= estimate.value <= high
            assert (estimate.p < 1 - confidence) == (low > 0 or high < 0)
    assert (result.one_seed, np.isnan(result.dev_low)) == (min(sides) == 1, np.isnan(result.dev_p))


@pytest.mark.parametrize("metric", METRICS)
def test_influence_is_what_leaving_an_example_out_takes_away(metric):
    labels, baseline, _ = drawn(metric, examples=40)
    found, of_examples = influence(metric, labels, baseline[0], CLASSES[METRICS[metric].kind])
    assert found == pytest.approx(score(labels, baseline[0], metric))
    others = [np.arange(40) != example for example in range(40)]
    without = np.array([score(labels[k], baseline[0, k], metric, CLASSES[METRICS[metric].kind]) for k in others])
    assert of_examples == pytest.approx(39 * (without.mean() - without), abs=1e-9)
    if metric == "accuracy":
        assert of_examples == pytest.approx((labels == baseline[0]) - found)


@pytest.mark.parametrize("metric", METRICS)
def test_the_error_over_examples_is_the_bootstrap_s(metric):
    labels, predicted, _ = drawn(metric, seeds=1, examples=400)
    rng = np.random.default_rng(2)
    picked = rng.integers(400, size=(1500, 400))
    resampled = [score(labels[at], predicted[0, at], metric, CLASSES[METRICS[metric].kind]) for at in picked]
    assert mean_score(labels, predicted, metric).new.error == pytest.approx(np.std(resampled), rel=0.1)


def test_the_error_is_that_of_a_mixed_model_with_crossed_seeds_and_examples():
    import statsmodels.formula.api as smf

    rng, seeds, examples = np.random.default_rng(3), 4, 25
    hard, own = rng.normal(size=examples), 0.8 * rng.normal(size=(2, 1, examples))
    values = hard + own + 0.3 * rng.normal(size=(2, seeds, 1)) + 0.5 * rng.normal(size=(2, seeds, examples))
    values[1] += 0.4
    result = lead(mean_of(values[0]), mean_of(values[1]))
    method, seed, example = np.indices(values.shape)
    table = pd.DataFrame({"y": values.ravel(), "method": method.ravel(), "example": example.ravel(), "all": 1})
    table["run"] = (seeds * method + seed).ravel()
    table["own"] = (examples * method + example).ravel()
    parts = {"example": "0 + C(example)", "own": "0 + C(own)", "run": "0 + C(run)"}
    model = smf.mixedlm("y ~ method", table, groups="all", re_formula="0", vc_formula=parts).fit(reml=True)
    assert result.difference == pytest.approx(model.params["method"])
    assert result.new.error == pytest.approx(model.bse["method"], rel=0.01)


def test_intervals_of_a_metric_that_is_no_mean_cover_the_truth():
    rng, missed = np.random.default_rng(4), 0
    for _ in range(250):
        labels = (rng.random(277) < 0.7).astype(int)
        hard = rng.normal(size=277)
        a, b = ((labels - 0.5 + hard + rng.normal(size=(5, 277)) > 0).astype(int) for _ in range(2))
        missed += compare(labels, a, b, "matthews_correlation").p < 0.05
    assert 0.01 <= missed / 250 <= 0.08


def unlike_methods(rng, biases, seed_spread, examples=1043, seeds=10):
    """Labels like CoLA's and predictions of methods that find other examples hard, one method a bias."""
    labels = (rng.random(examples) < 0.69).astype(int)
    hard = rng.normal(size=examples)
    found = []
    for bias, spread in zip(biases, seed_spread, strict=True):
        own, rest = 0.45 * rng.normal(size=examples), 0.35 * rng.normal(size=(seeds, examples))
        level = 0.75 + bias * (labels - 0.5) + spread * rng.normal(size=(seeds, 1)) * (labels - 0.5)
        found.append((level + hard + own + rest > 0).astype(int))
    return labels, found


def test_methods_may_be_better_on_this_dev_set_and_undecided_beyond_it():
    # The shape of 6-layer students on CoLA, ten seeds: 13.1 +- 1.2, 16.2 +- 1.5 and 16.4 +- 2.0 Matthews, on 1,043
    # examples: shown on these examples, too few of them for others.
    labels, (baseline, *rows) = unlike_methods(np.random.default_rng(26), [0.42, 0.53, 0.53], [0.02, 0.03, 0.06])
    results = [compare(labels, baseline, ours, "matthews_correlation") for ours in rows]
    stds = [100 * mean.std for mean in (results[0].baseline, results[0].ours, results[1].ours)]
    assert all(0.8 < std < 2.5 for std in stds)
    for scope, verdict in (("dev", "better"), ("new", "undecided")):
        corrected = holm([result.estimate(scope).p for result in results])
        assert [reading(r, scope, p) for r, p in zip(results, corrected, strict=True)] == [verdict] * 2
    for result in results:
        assert 0.02 < result.difference < 0.05
        assert result.low < 0 < result.dev_low
        assert result.seeds_needed("dev") <= 10
        assert matthews_corrcoef(labels, rows[0][0]) == pytest.approx(results[0].ours.scores[0])


def test_a_lead_of_4_points_on_277_examples_is_shown_with_ten_seeds_and_none_is_not():
    rng = np.random.default_rng(6)
    labels, hard = rng.integers(2, size=277), rng.normal(size=277)

    def method(accuracy):
        # Half of what makes an answer right or wrong is the example, for every method alike.
        right = hard + rng.normal(size=(10, 277)) + np.sqrt(2) * ndtri(accuracy) > 0
        return np.where(right, labels, 1 - labels)

    baseline, same, better = method(0.8), method(0.8), method(0.84)
    assert reading(compare(labels, baseline, better)) == "better"
    assert reading(compare(labels, better, baseline)) == "worse"
    assert reading(compare(labels, baseline, same)) in ("undecided", "equal within 1 point")


def test_one_seed_gives_an_interval_over_examples_alone_and_no_verdict():
    labels, baseline, ours = drawn("accuracy", seeds=3)
    result = compare(labels, baseline[0], ours[0])
    apart = (ours[0] == labels).astype(float) - (baseline[0] == labels)
    t = stats.ttest_1samp(apart, 0)
    assert (result.p, result.low) == pytest.approx((t.pvalue, t.confidence_interval(0.95).low))
    assert np.isnan([result.dev_p, result.dev_low, result.dev_high, result.smallest_lead()]).all()
    assert result.seeds_needed() is None and not result.equal()
    assert reading(result) == reading(result, "dev") == "one seed"
    assert compare(labels, baseline, ours[0]).one_seed


def test_methods_that_answer_alike_are_equal():
    labels, baseline, _ = drawn("matthews_correlation")
    result = compare(labels, baseline, baseline, "matthews_correlation")
    assert (result.difference, result.p, result.dev_p) == (0, 1, 1)
    same = compare(labels, baseline[[0, 0, 0]], baseline[[0, 0]], "macro_f1")
    assert (same.difference, same.low, same.high, same.dev_p) == (0, 0, 0, 1)
    assert reading(same) == "equal within 1 point"


def test_seeds_that_never_differ_leave_the_examples_alone():
    labels, baseline, ours = drawn("accuracy", seeds=1)
    result = compare(labels, np.repeat(baseline, 3, 0), np.repeat(ours, 3, 0))
    one = compare(labels, baseline, ours)
    assert (result.low, result.p) == pytest.approx((one.low, one.p))
    assert result.dev_p == 0 and result.dev_low == result.dev_high == result.difference


def test_a_collapsed_method_is_worse_and_an_undefined_one_has_no_verdict():
    labels, baseline, _ = drawn("matthews_correlation", examples=300)
    assert reading(compare(labels, baseline, np.ones_like(baseline), "matthews_correlation")) == "worse"
    labels, baseline, _ = drawn("pearson")
    undefined = compare(labels, baseline, np.ones_like(baseline), "pearson")
    assert np.isnan([undefined.difference, undefined.low, undefined.p, undefined.dev_p]).all()
    assert reading(undefined) == "not defined"


def test_a_lower_error_is_better():
    labels, baseline, ours = drawn("mse")
    result = compare(labels, baseline, ours, "mse")
    assert result.difference < 0 and reading(result) == "better"


def test_f1_of_three_classes_is_not_defined():
    labels = np.arange(30) % 3
    assert np.isnan(compare(labels, [labels] * 2, [labels] * 2, "f1").difference)


@pytest.mark.parametrize("scope", ["dev", "new"])
def test_so_many_seeds_would_be_enough_and_one_fewer_would_not(scope):
    rng = np.random.default_rng(8)
    labels = rng.integers(2, size=2000)
    result = compare(labels, answers(rng, labels, 4, 0.8, 0.03), answers(rng, labels, 3, 0.82, 0.03))
    needed = result.seeds_needed(scope)
    assert needed > 4
    assert result.with_seeds(needed, scope).p < 0.05 <= result.with_seeds(needed - 1, scope).p
    assert result.seeds_needed(scope, alpha=0.01) > needed


def test_no_number_of_seeds_shows_what_the_examples_leave_open():
    labels, (baseline, ours) = unlike_methods(np.random.default_rng(9), [0.42, 0.5], [0.03, 0.03], examples=200)
    assert compare(labels, baseline, ours).seeds_needed() is None


def test_as_many_seeds_as_there_are_leave_the_estimate_as_it_is():
    labels, baseline, ours = drawn("accuracy", seeds=5, examples=400)
    result = compare(labels, baseline, ours)
    assert dataclasses.astuple(result.with_seeds(5, "dev")) == pytest.approx(dataclasses.astuple(result.dev))


def test_a_lead_of_the_smallest_size_is_shown_in_8_of_10_studies():
    labels, baseline, ours = drawn("accuracy", seeds=10, examples=600)
    result = compare(labels, baseline, ours)
    error, degrees = result.new.error, result.new.degrees
    shown = 1 - stats.nct.cdf(stats.t.ppf(0.975, degrees), degrees, result.smallest_lead() / error)
    assert shown == pytest.approx(0.8, abs=0.01)


def test_pooling_adds_variances_and_counts_every_task_once():
    results = [
        compare(*drawn(metric, seed=place), metric) for place, metric in enumerate(("accuracy", "f1", "pearson"))
    ]
    pooled = pool(results)
    assert pooled.difference == pytest.approx(np.mean([one.difference for one in results]))
    assert pooled.new.error == pytest.approx(np.sqrt(sum(one.new.error**2 for one in results)) / 3)
    assert min(one.new.degrees for one in results) <= pooled.new.degrees <= sum(one.new.degrees for one in results)
    assert pooled.p < max(one.p for one in results)
    assert (pooled.low, pooled.high) == pytest.approx(pooled.new.interval())
    alone = pool(results[:1])
    assert (alone.low, alone.p, alone.dev_p) == pytest.approx((results[0].low, results[0].p, results[0].dev_p))


def test_several_undecided_tasks_may_decide_together():
    rng = np.random.default_rng(10)
    results = []
    for _ in range(6):
        labels = rng.integers(2, size=300)
        results.append(compare(labels, answers(rng, labels, 5, 0.8, 0.01), answers(rng, labels, 5, 0.83, 0.01)))
    assert sum(reading(one) == "undecided" for one in results) >= 2
    assert reading(pool(results)) == "better"
    assert pool(results).seeds_needed() <= 5


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metric": "acuracy"}, "accuracy"),
        ({"ours": np.zeros((2, 5), int)}, "(2, 5)"),
        ({"ours": np.zeros((1, 2, 120), int)}, "(1, 2, 120)"),
        ({"labels": np.full(120, -1)}, "-1"),
        ({"margin": 0}, "margin"),
        ({"confidence": 95}, "confidence"),
        ({"ours": np.full((2, 120), 3), "classes": 2}, "classes=2"),
    ],
)
def test_what_cannot_be_compared_is_refused(change, named):
    labels, baseline, ours = drawn("accuracy")
    with pytest.raises(UserError) as refusal:
        compare(**{"labels": labels, "baseline": baseline, "ours": ours, **change})
    assert named in str(refusal.value)


def test_metrics_of_opposite_directions_are_not_pooled():
    with pytest.raises(UserError, match="pooled"):
        pool([compare(*drawn("mse"), "mse"), compare(*drawn("pearson"), "pearson")])
    with pytest.raises(UserError, match="no results"):
        pool([])


def test_means_of_other_examples_are_not_compared():
    with pytest.raises(UserError, match="30 examples"):
        lead(mean_of(np.zeros((2, 20))), mean_of(np.zeros((2, 30))))
    with pytest.raises(UserError, match="20 and 30 examples"):
        contrast((1, mean_of(np.zeros((2, 20)))), (-1, mean_of(np.zeros((2, 30)))))
    with pytest.raises(UserError, match="one example"):
        mean_score([1], [[1]])


def test_a_result_is_frozen_and_reads_as_a_sentence():
    result = compare(*drawn("accuracy"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.margin = 1
    assert "points" in str(result) and "dev set" in str(result) and "new examples" in str(result)


def test_it_can_be_used_alone():
    code = (
        "import sys, internal_kd.statistics as s; s.compare([0, 1, 1], [[0, 1, 0]] * 2, [[0, 1, 1]] * 2).p; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'pandas', 'pydantic')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

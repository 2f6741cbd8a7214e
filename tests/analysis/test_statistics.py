"""Comparisons: the difference of the table's means, the paper's paired test, Holm's correction."""

import itertools

import numpy as np
import pandas as pd
import pytest
from fake_runs import QUALITY, SMALL, plan, write_run, write_study
from scipy import stats

from internal_kd.analysis.cells import cells_of
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.predictions import read_evidence
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.sentences import NOT_TESTED, ONE_SEED, reading_of
from internal_kd.analysis.statistics import arms_of, compare, expected_best, holm, mcnemar_p, read_comparisons
from internal_kd.analysis.summaries import share_interval
from internal_kd.errors import UserError

ONE = {"study": {"tasks": ["entailment"], "seeds": [1, 2]}, "teacher": {"seeds": [1]}}


def table(study, name):
    return pd.read_csv(study.folder / "tables" / name, dtype={"id": str, "baseline_id": str, "examples": str})


def test_differences_are_those_of_the_main_table_and_lie_in_their_interval(study):
    score_runs(study)
    compare_runs(study)
    means = table(study, "main.csv").set_index(["task", "metric", "method"])["mean"]
    comparisons = table(study, "comparisons.csv")
    # 3.0, 3.3 and 3.5 against 2.0; 3.3 and 3.5 against 3.0; two tasks with two metrics.
    assert len(comparisons) == 5 * 2 * 2
    assert not (comparisons.method == "teacher").any()
    for c in comparisons.itertuples():
        expected = means[c.task, c.metric, c.method] - means[c.task, c.metric, c.baseline]
        assert c.difference == pytest.approx(expected, abs=1e-12)
        assert c.low <= c.difference <= c.high


def test_the_tests_are_the_named_ones(study):
    score_runs(study)
    compare_runs(study)
    scores = table(study, "scores.csv")
    c = table(study, "comparisons.csv").query(
        "task=='entailment' and metric=='accuracy' and id=='3.5' and baseline_id=='3.0'"
    )
    c = c.iloc[0]
    of = {m: scores.query(f"task=='entailment' and metric=='accuracy' and method=='{m}'") for m in ("stacked", "soft")}
    assert c.p_seeds == pytest.approx(stats.ttest_rel(of["stacked"].value, of["soft"].value).pvalue)
    per_seed = []
    for seed in (1, 2, 3):
        right = {}
        for run in study.students:
            if (run.task, run.seed) == ("entailment", seed) and run.method.name in of:
                frame = pd.read_parquet(run.folder / "predictions.parquet").set_index("idx").sort_index()
                right[run.method.name] = (frame["logit_1"] > frame["logit_0"]).astype(int) == frame["label"]
        gained = int((right["stacked"] & ~right["soft"]).sum())
        lost = int((~right["stacked"] & right["soft"]).sum())
        per_seed.append(stats.binomtest(gained, gained + lost).pvalue)
    assert c.p_predictions == pytest.approx(min(1, 2 * np.median(per_seed)))


def test_holm_is_over_the_whole_table(study):
    score_runs(study)
    compare_runs(study)
    comparisons = table(study, "comparisons.csv")
    for kind in ("p_predictions", "p_seeds"):
        p, corrected = comparisons[kind].to_numpy(), comparisons[f"{kind}_holm"].to_numpy()
        order = np.argsort(p)
        expected = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
        np.testing.assert_allclose(corrected[order], expected)


def test_what_was_not_tested_does_not_count_in_the_correction():
    assert holm([None, 0.01, None, 0.03]) == [None, pytest.approx(0.02), None, pytest.approx(0.03)]
    assert holm([None]) == [None]


def test_statistics_are_the_same_every_time(small):
    score_runs(small)
    first = compare_runs(small).read_bytes()
    assert compare_runs(small).read_bytes() == first


def test_one_seed_is_compared_over_examples_only(project):
    study = write_study(plan(study={"seeds": [1]}))
    score_runs(study)
    compare_runs(study)
    comparisons = table(study, "comparisons.csv")
    assert comparisons["p_seeds"].isna().all()
    assert comparisons[["low", "high", "p_predictions"]].notna().all(axis=None)
    # Some of these models differ beyond doubt, which says nothing of the methods.
    assert (comparisons.p_predictions_holm < 1e-3).any()
    assert {reading_of(c) for c in read_comparisons(study)} == {ONE_SEED}


def test_a_side_with_one_seed_leaves_the_other_side_s_seeds_out_of_the_interval(small):
    for run in small.students:
        if run.method.name == "soft" and run.seed == 2:
            run.marker.unlink()
    score_runs(small)
    compare_runs(small)
    (c,) = [c for c in read_comparisons(small) if c.metric == "accuracy"]
    assert (c.seeds, c.baseline_seeds, reading_of(c)) == (2, 1, ONE_SEED)
    accuracy = table(small, "main.csv").query("metric == 'accuracy' and method != 'teacher'")["mean"]
    # Two independent accuracies over 200 examples, the second the mean of two.
    independent = np.sqrt(sum(p * (1 - p) / 200 for p in accuracy))
    assert (c.high - c.low) / 3.92 < 1.1 * independent


def test_finished_seeds_that_do_not_overlap_are_not_tested(project):
    study = write_study(plan(**{**SMALL, "study": {**SMALL["study"], "seeds": [1, 2, 3, 4]}}))
    for run in study.students:
        if (run.seed < 3) == (run.method.name == "soft"):
            run.marker.unlink()
    score_runs(study)
    compare_runs(study)
    for c in read_comparisons(study):
        assert (c.seeds, c.baseline_seeds, c.matched_seeds, c.p_predictions) == (2, 2, 0, None)
        assert reading_of(c) == NOT_TESTED


def test_methods_are_held_against_those_they_name(project):
    named = {"stacked": {"compare_with": ["soft_kl_cos", "soft"]}, "soft_kl_cos": {"compare_with": []}}
    comparisons = compare(arms_of(study := write_study(plan(**ONE, methods=named)), read_evidence(study)))
    pairs = [(c.id, c.baseline_id) for c in comparisons if c.metric == "accuracy"]
    assert pairs == [("3.0", "2.0"), ("3.5", "3.3"), ("3.5", "3.0")]


def test_a_baseline_that_the_study_has_not_is_no_comparison(project):
    study = plan(study={"methods": ["stacked", "finetuned"]}, methods={"stacked": {"compare_with": ["soft"]}})
    assert [cell.baselines for cell in cells_of(study) if not cell.is_teacher] == [()] * 4
    study = plan(study={"methods": ["stacked", "finetuned"]})
    assert [cell.baselines for cell in cells_of(study) if cell.id == "3.5"] == [("finetuned",)] * 2


def test_a_comparison_without_runs_is_empty_and_comes_back_so(small):
    for run in small.students:
        if run.method.name == "soft" and run.task == "entailment":
            run.marker.unlink()
    score_runs(small)
    compare_runs(small)
    empty = [c for c in read_comparisons(small) if c.task == "entailment" and c.baseline == "soft"]
    assert empty and all(c.difference is None and c.p_predictions is None and c.baseline_seeds == 0 for c in empty)


def test_scores_of_other_runs_are_refused(small):
    score_runs(small)
    small.students[0].marker.unlink()
    with pytest.raises(UserError, match="run internal-kd score-runs again"):
        compare_runs(small)
    write_run(small.students[0])
    compare_runs(small)


def test_without_scores_the_way_out_is_named(small):
    with pytest.raises(UserError, match="run internal-kd score-runs first"):
        compare_runs(small)


def test_mcnemar_without_discordant_examples_is_one():
    right = np.array([True, False, True])
    assert mcnemar_p(right, right) == 1.0


def test_expected_best_is_the_mean_of_the_best_over_all_draws():
    values = [0.2, 0.5, 0.9]
    for k in (1, 2, 3):
        draws = [max(draw) for draw in itertools.product(values, repeat=k)]
        assert expected_best(values, "accuracy")[k - 1] == pytest.approx(np.mean(draws))
    assert expected_best(values, "mse")[1] == pytest.approx(
        np.mean([min(d) for d in itertools.product(values, repeat=2)])
    )


def test_the_share_of_the_teacher_moves_with_the_teacher_s_own_examples(study):
    score_runs(study)
    compare_runs(study)
    cells = table(study, "cells.csv").query("task=='entailment' and metric=='accuracy'").set_index("method")
    evidence = read_evidence(study)
    arms = {arm.cell.method: arm for arm in arms_of(study, evidence).values() if (arm.cell.task, arm.metric) == (
        "entailment", "accuracy")}  # fmt: skip
    teacher, soft = arms["teacher"], arms["soft"]
    low, high = cells.loc["soft", ["teacher_share_low", "teacher_share_high"]]
    shares = np.quantile(soft.resampled / teacher.resampled, [0.025, 0.975])
    # Few seeds widen it beyond the quantiles; the share itself lies within.
    assert low <= shares[0] < soft.mean / teacher.mean < shares[1] <= high
    # A teacher taken as exact would leave its part of the spread out.
    assert high - low > (cells.loc["soft", "high"] - cells.loc["soft", "low"]) / teacher.mean
    assert cells.loc["teacher", ["teacher_share_low", "teacher_share_high"]].isna().all()


@pytest.mark.parametrize("quality", [0.54, 0.65])
def test_a_share_is_above_0_or_says_nothing(project, monkeypatch, quality):
    monkeypatch.setitem(QUALITY, "teacher", quality)
    study = write_study(plan(study={"tasks": ["acceptability"], "methods": ["soft"]}))
    arms = {(arm.cell.method, arm.metric): arm for arm in arms_of(study, read_evidence(study)).values()}
    teacher, soft = (arms[method, "matthews_correlation"] for method in ("teacher", "soft"))
    found = share_interval(soft, teacher)
    if quality == 0.54:
        assert teacher.mean > 0 > teacher.interval[0] and found is None
    else:
        # Two seeds of a teacher say little of it, and yet no share is negative.
        assert 0 < found[0] < soft.mean / teacher.mean < found[1]

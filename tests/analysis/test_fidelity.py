"""Fidelity: how alike student and teacher are, and whether shared mistakes are more than chance."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from fake_runs import QUALITY, SMALL, make_predictions, plan, write_record, write_run, write_study, write_task
from statsmodels.stats.contingency_tables import StratifiedTable

from internal_kd.analysis import resampling
from internal_kd.analysis.fidelity import (
    bootstrap_means,
    bootstrap_students,
    bootstrap_values,
    kl_to_teacher,
    likeness,
    odds_ratio,
    repetition,
)
from internal_kd.analysis.fidelity_rows import FidelityComparison
from internal_kd.analysis.fidelity_tables import measure_fidelity, teacher_of
from internal_kd.analysis.fidelity_text import (
    LESS,
    LESS_ALONE,
    MORE,
    MORE_ALONE,
    NONE,
    reading_of_comparison,
)
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.sentences import NOT_RUN, NOT_TESTED, ONE_SEED, UNDEFINED
from internal_kd.params import merge

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
TEACHER = np.array([0, 0, 1, 1, 1, 1, 1, 0])
STUDENT = np.array([0, 1, 1, 1, 1, 1, 0, 0])
FOUR_SEEDS = merge(SMALL, {"study": {"seeds": [1, 2, 3, 4]}})


def logits_of(answers, classes=2, height=2.0):
    return height * np.eye(classes)[answers]


def errors(rng, labels, rates, classes):
    """Answers that err at a rate of each label's own, independently of anything else."""
    wrong = rng.random(len(labels)) < np.asarray(rates)[labels]
    return np.where(wrong, (labels + rng.integers(1, classes, len(labels))) % classes, labels)


def measured(study, name="fidelity"):
    score_runs(study)
    measure_fidelity(study)
    words = {"id": str, "baseline_id": str, "examples": str, "teacher": str}
    return pd.read_csv(study.folder / "tables" / f"{name}.csv", dtype=words)


def copy_teacher(study, method):
    """Give a method's students the very predictions of their teacher."""
    for run in study.students:
        if run.method.name == method:
            make_predictions(run.outputs.teacher).to_parquet(run.folder / "predictions.parquet", index=False)
            write_record(run, ["predictions.parquet", "history.jsonl"])


def test_a_case_counted_by_hand():
    found = likeness(LABELS, logits_of(TEACHER), logits_of(STUDENT))
    assert (found.both_right, found.only_teacher_right, found.only_student_right, found.both_wrong) == (3, 2, 0, 3)
    assert found.agreement == 6 / 8
    # Label 0: 2 and 3 of 4 wrong, label 1: 1 and 2 of 4 wrong.
    assert (found.repeated.mistakes, found.repeated.observed) == (3, 3)
    assert found.repeated.expected == pytest.approx(2 * 3 / 4 + 1 * 2 / 4)
    assert found.repeated.variance == pytest.approx(2 * 3 * 2 * 1 / 48 + 1 * 2 * 3 * 2 / 48)
    assert found.same_wrong is None
    assert odds_ratio(LABELS, TEACHER, [STUDENT], 2) == float("inf")


def test_kl_is_the_teacher_s_to_the_student_in_nats():
    teacher, student = np.log([[0.25, 0.75]]), np.zeros((1, 2))
    expected = 0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5)
    assert kl_to_teacher(teacher, student + 7) == pytest.approx([expected])
    assert kl_to_teacher(np.array([[900.0, -900.0]]), np.array([[-900.0, 900.0]])) == pytest.approx([1800])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_a_student_that_is_its_teacher_agrees_in_everything(classes):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(classes, size=120), rng.normal(size=(120, classes))
    found = likeness(labels, logits, logits)
    assert (found.agreement, found.kl) == (1.0, 0.0)
    assert found.repeated.observed == found.repeated.mistakes == found.both_wrong
    assert found.repeated.p < 1e-6
    if classes > 2:
        assert found.same_wrong.observed == found.same_wrong.mistakes


def test_for_two_classes_the_test_is_statsmodels_cochran_mantel_haenszel():
    rng = np.random.default_rng(1)
    labels = rng.integers(2, size=300)
    teacher = errors(rng, labels, [0.2, 0.4], 2)
    student = np.where(rng.random(300) < 0.3, teacher, errors(rng, labels, [0.3, 0.2], 2))
    tables = []
    for label in (0, 1):
        t, s = (said[labels == label] != label for said in (teacher, student))
        tables.append(np.array([[np.sum(t & s), np.sum(t & ~s)], [np.sum(~t & s), np.sum(~t & ~s)]], float))
    reference = StratifiedTable(tables)
    found = repetition(labels, teacher, student, 2)
    assert found.p == pytest.approx(reference.test_null_odds(correction=True).pvalue)
    assert odds_ratio(labels, teacher, [student], 2) == pytest.approx(reference.oddsratio_pooled)


def test_mean_and_variance_are_those_of_all_ways_to_shuffle_a_label_s_answers():
    rng = np.random.default_rng(2)
    labels = rng.integers(3, size=60)
    teacher, student = (errors(rng, labels, [0.5, 0.6, 0.4], 3) for _ in range(2))
    found, counts = repetition(labels, teacher, student, 3), []
    for _ in range(4000):
        shuffled = student.copy()
        for label in range(3):
            shuffled[labels == label] = rng.permutation(student[labels == label])
        counts.append(np.sum((shuffled == teacher) & (teacher != labels)))
    assert found.expected == pytest.approx(np.mean(counts), rel=0.02)
    assert found.variance == pytest.approx(np.var(counts), rel=0.08)


@pytest.mark.parametrize("classes", [2, 3])
def test_independent_errors_are_significant_about_5_times_in_100(classes):
    # Both favour the same label, so over all labels their errors coincide, and within each they do not.
    rng = np.random.default_rng(3)
    rates = [0.1, 0.5, 0.3][:classes]
    significant = {"repeated": 0, "same_wrong": 0}
    for _ in range(400):
        labels = rng.integers(classes, size=300)
        found = likeness(labels, *(logits_of(errors(rng, labels, rates, classes), classes) for _ in range(2)))
        significant["repeated"] += found.repeated.p < 0.05
        significant["same_wrong"] += found.same_wrong is not None and found.same_wrong.p < 0.05
    assert 0.01 <= significant["repeated"] / 400 <= 0.075
    assert significant["same_wrong"] / 400 <= 0.075


def test_repeated_mistakes_are_found():
    rng = np.random.default_rng(4)
    labels = rng.integers(2, size=400)
    teacher = errors(rng, labels, [0.3, 0.3], 2)
    student = np.where(rng.random(400) < 0.5, teacher, errors(rng, labels, [0.3, 0.3], 2))
    assert repetition(labels, teacher, student, 2).p < 1e-4
    assert odds_ratio(labels, teacher, [student], 2) > 3


def test_a_student_that_always_says_the_same_repeats_nothing_beyond_chance():
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=200)
    found = repetition(labels, errors(rng, labels, [0.1, 0.5], 2), np.zeros(200, int), 2)
    assert found.observed > found.mistakes / 2
    assert (found.observed, found.p) == (pytest.approx(found.expected), 1.0)


def test_a_teacher_without_mistakes_has_none_to_repeat():
    found = repetition(LABELS, LABELS, STUDENT, 2)
    assert (found.mistakes, found.observed, found.expected, found.p) == (0, 0, 0.0, 1.0)
    assert odds_ratio(LABELS, LABELS, [STUDENT], 2) is None


@pytest.mark.parametrize("classes", [2, 3])
def test_resampled_shares_are_those_of_the_drawn_examples(classes):
    rng = np.random.default_rng(6)
    labels = rng.integers(classes, size=60)
    teacher, *students = (errors(rng, labels, [0.4, 0.5, 0.3][:classes], classes) for _ in range(3))
    logits = [logits_of(said, classes) + rng.normal(size=(60, classes)) / 9 for said in (teacher, *students)]
    found = bootstrap_students(labels, logits[0], logits[1:], classes, resamples=20)
    weights = np.concatenate(list(resampling.example_weights(60, 20, np.random.default_rng(resampling.SEED))))
    for row, draw in enumerate(weights.astype(int)):
        idx = np.repeat(np.arange(60), draw)
        for student, own, resampled in zip(students, logits[1:], found, strict=True):
            direct = likeness(labels[idx], logits[0][idx], own[idx])
            assert resampled.repeated[row] == pytest.approx(direct.repeated.observed / direct.repeated.mistakes)
            assert resampled.by_chance[row] == pytest.approx(direct.repeated.expected / direct.repeated.mistakes)
            assert (resampled.agreement[row], resampled.divergence[row]) == pytest.approx((direct.agreement, direct.kl))
            ratio = odds_ratio(labels[idx], teacher[idx], [student[idx]], classes)
            assert resampled.together[row] / resampled.apart[row] == pytest.approx(ratio)


def test_resampled_values_are_squared_differences_of_the_drawn_examples():
    teacher, student = np.arange(30.0)[:, None], np.arange(30.0)[:, None] ** 1.1
    (found,) = bootstrap_values(teacher, [student], resamples=10)
    assert found.divergence == pytest.approx(bootstrap_means((teacher - student)[:, 0] ** 2, resamples=10))
    assert np.isnan(found.agreement).all() and np.isnan(found.repeated).all()


def test_every_student_is_held_beside_the_teacher_it_learned_from(study):
    rows = measured(study)
    assert set(rows.method) == {"teacher", "finetuned", "soft", "soft_kl_cos", "stacked"}
    taught = next(run for run in study.students if run.method.name == "soft" and run.task == "entailment")
    untaught = next(run for run in study.students if run.method.name == "finetuned" and run.task == "entailment")
    assert teacher_of(study, untaught) == teacher_of(study, taught) == taught.outputs.teacher
    own = rows[rows.task == "entailment"].set_index("method")
    students = own.drop("teacher")
    assert (students.odds_ratio_low > 0).all() and (students.odds_ratio_high > students.odds_ratio).all()
    assert set(own.teacher) == {taught.outputs.teacher.fingerprint}
    assert own.loc["teacher", "seeds"] == 1, "the teacher of the other seed, and never the teaching one itself"
    counts = own[["both_right", "only_teacher_right", "only_student_right", "both_wrong"]].sum(axis=1)
    assert dict(counts) == {"teacher": 200, "finetuned": 600, "soft": 600, "soft_kl_cos": 600, "stacked": 600}
    frames = [
        pd.read_parquet(run.folder / "predictions.parquet").set_index("idx").sort_index()
        for run in study.runs
        if run == taught.outputs.teacher or (run.task, getattr(run, "method", None)) == ("entailment", taught.method)
    ]
    said = [(frame.logit_1 > frame.logit_0).to_numpy() for frame in frames]
    assert own.loc["soft", "agreement"] == pytest.approx(np.mean([np.mean(said[0] == one) for one in said[1:]]))


def test_a_student_that_copies_its_teacher_repeats_more_than_the_baselines(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "teacher", 0.75)
    study = write_study(plan(study={"tasks": ["entailment"]}))
    copy_teacher(study, "stacked")
    comparisons = measured(study, "fidelity_comparisons").set_index(["id", "baseline_id"])
    assert comparisons.loc[("3.5", "3.0"), "p_holm"] < 1e-3
    assert comparisons.loc[("3.5", "3.0"), "excess_low"] > 0
    said = " ".join(json.loads((study.folder / "tables" / "fidelity.json").read_text())["sentences"])
    assert "repeated by 3.5 (100 %, chance" in said
    number = r"\+[\d.]+ \(\+[\d.]+ to \+[\d.]+\)"
    beyond = rf"3\.5 by {number} points, beyond its own errors {number}\."
    assert re.search(rf"More often than standard distillation \(3\.0\): {beyond}", said)
    assert "beyond chance is not shown for 2.0, 3.0 and 3.3" in said


def test_a_student_that_is_only_worse_is_not_called_more_faithful(project, monkeypatch):
    for method, quality in {"teacher": 0.7, "soft": 0.97, "stacked": 0.55}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    study = write_study(plan(**FOUR_SEEDS))
    comparison = measured(study, "fidelity_comparisons").set_index(["id", "baseline_id"]).loc[("3.5", "3.0")]
    assert comparison.repeated > 0.2 and comparison.p_holm < 1e-3
    assert comparison.excess_low < 0 < comparison.excess_high
    said = (study.folder / "tables" / "fidelity_comparisons.md").read_text()
    assert MORE_ALONE in said and "| more |" not in said


def test_a_comparison_is_read_by_its_p_and_both_intervals():
    seen = FidelityComparison(
        "t", "dev", 6, "full", "3.5", "stacked", "3.0", "soft", 2, 2, 2, 0.1, 0.0, 0.2, "kl", -0.1, -0.2, 0.0,
        0.2, 0.1, 0.3, 0.15, 0.05, 0.25, "mcnemar", 1e-5, 1e-4,
    )  # fmt: skip
    assert reading_of_comparison(seen) == MORE
    assert reading_of_comparison(replace(seen, p_holm=0.01)) == NONE
    assert reading_of_comparison(replace(seen, repeated_low=-0.1)) == NONE
    assert reading_of_comparison(replace(seen, excess_low=-0.1)) == MORE_ALONE
    turned = replace(seen, repeated=-0.2, repeated_low=-0.3, repeated_high=-0.1)
    assert reading_of_comparison(turned) == LESS_ALONE
    assert reading_of_comparison(replace(turned, excess=-0.1, excess_low=-0.2, excess_high=-0.05)) == LESS
    assert reading_of_comparison(replace(seen, matched_seeds=0, p=None, p_holm=None)) == NOT_TESTED
    assert reading_of_comparison(replace(seen, seeds=1)) == reading_of_comparison(replace(seen, baseline_seeds=1))
    assert reading_of_comparison(replace(seen, seeds=1)) == ONE_SEED
    assert reading_of_comparison(replace(seen, baseline_seeds=0, repeated=None)) == NOT_RUN
    assert reading_of_comparison(replace(seen, repeated=None, excess=None, p_holm=None)) == UNDEFINED


def test_of_a_teacher_without_mistakes_repeating_them_is_undefined_and_nearness_is_not(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "teacher", 2.0)
    study = write_study(plan(**SMALL))
    (row,) = measured(study, "fidelity_comparisons").to_dict("records")
    assert row["seeds"] == row["baseline_seeds"] == 2 and np.isnan(row["repeated"])
    assert row["agreement_low"] < row["agreement"] < row["agreement_high"]
    assert "| undefined |" in (study.folder / "tables" / "fidelity_comparisons.md").read_text()
    (said,) = json.loads((study.folder / "tables" / "fidelity.json").read_text())["sentences"]
    assert "gets 0 of 200 dev examples wrong. There is no mistake to repeat." in said and "not run" not in said


def test_seeds_that_do_not_meet_are_not_tested(project):
    study = write_study(plan(**FOUR_SEEDS))
    for run in study.students:
        if (run.method.name == "soft") == (run.seed > 2):
            run.marker.unlink()
    (row,) = measured(study, "fidelity_comparisons").to_dict("records")
    assert row["matched_seeds"] == 0 and np.isnan(row["p"])
    assert "| not tested |" in (study.folder / "tables" / "fidelity_comparisons.md").read_text()
    said = json.loads((study.folder / "tables" / "fidelity.json").read_text())["sentences"]
    assert "Not tested against standard distillation (3.0), for want of a seed in common: 3.5." in " ".join(said)


def test_nearness_to_the_teacher_is_compared_with_an_interval(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "teacher", 0.75)
    study = write_study(plan(study={"tasks": ["entailment"]}))
    copy_teacher(study, "stacked")
    compared = measured(study, "fidelity_comparisons").set_index(["id", "baseline_id"]).loc[("3.5", "3.0")]
    rows = pd.read_csv(study.folder / "tables" / "fidelity.csv", dtype={"id": str}).set_index("id")
    assert compared.agreement == pytest.approx(1 - rows.loc["3.0", "agreement"])
    assert compared.divergence == pytest.approx(-rows.loc["3.0", "divergence"])
    assert 0 < compared.agreement_low < compared.agreement < compared.agreement_high
    assert compared.divergence_low < compared.divergence < compared.divergence_high < 0
    said = " ".join(json.loads((study.folder / "tables" / "fidelity.json").read_text())["sentences"])
    assert "KL to the teacher less that of standard distillation (3.0): 3.3 " in said
    assert f"3.5 {compared.divergence:+.3f} ({compared.divergence_low:+.3f} to" in said


def wide_study():
    tasks = {
        "similarity": {"source": "generator", "grammar": "entailment", "train": 400, "dev": 200},
        "nli": {"source": "generator", "grammar": "entailment", "train": 401, "dev": 200},
    }
    chosen = {"name": "wide", "tasks": list(tasks), "methods": ["finetuned", "soft"], "depths": [3], "seeds": [1, 2]}
    return plan(study=chosen, tasks=tasks)


def test_regression_has_a_squared_difference_and_three_classes_a_same_wrong_answer(project):
    rows = measured(write_study(wide_study()))
    similar = rows[rows.task == "similarity"]
    assert set(similar.divergence_kind) == {"mse"} and similar.divergence.notna().all()
    assert similar[["agreement", "repeated", "p_repeated"]].isna().all(axis=None)
    compared = pd.read_csv("results/wide/tables/fidelity_comparisons.csv").query("task == 'similarity'")
    assert set(compared.divergence_kind) == {"mse"} and compared.divergence_low.notna().all()
    assert compared[["agreement", "repeated", "p"]].isna().all(axis=None)
    nli = rows[rows.task == "nli"]
    assert set(nli.split) == {"dev", "dev_mismatched"}
    assert nli[["same_wrong", "same_wrong_by_chance", "p_same_wrong_holm"]].notna().all(axis=None)


def test_without_its_teacher_a_student_has_an_empty_row(project):
    study = plan(**SMALL)
    write_task(study.tasks["entailment"].data)
    for run in study.students:
        write_run(run)
    rows = measured(study)
    assert list(rows.method) == ["soft", "stacked"]
    assert rows[["agreement", "repeated", "p_repeated"]].isna().all(axis=None)
    assert json.loads((study.folder / "tables" / "fidelity.json").read_text())["sentences"] == []


def test_a_table_is_the_same_every_time(small):
    score_runs(small)
    first = measure_fidelity(small).read_bytes()
    assert measure_fidelity(small).read_bytes() == first

"""Calibration: Guo et al.'s expected calibration error, and what the figure is drawn from."""

import numpy as np
import pandas as pd
import pytest
from fake_runs import METHODS, QUALITY, plan, write_study
from sklearn.calibration import calibration_curve

from internal_kd.analysis.calibration import confidences, expected_calibration_error, reliability
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.figures import read_numbers
from internal_kd.analysis.reliability import plot_reliability, shown_cells
from internal_kd.analysis.scoring import score_runs
from internal_kd.errors import UserError

ONE = {
    "study": {"tasks": ["entailment"], "seeds": [1], "methods": ["soft", "soft_t2", "soft_kl_cos", "stacked"]},
    "teacher": {"seeds": [1]},
}


def test_a_case_counted_by_hand():
    confidence, right = np.array([0.95, 0.95, 0.55, 0.55]), np.array([True, True, True, False])
    # Half of the examples are 0.05 too modest, half of them 0.05 too sure.
    assert expected_calibration_error(confidence, right) == pytest.approx(0.05)
    bins = {one.count: one for one in reliability(confidence, right)[::-1] if one.count}
    assert (bins[2].low, bins[2].high) == (pytest.approx(8 / 15), pytest.approx(9 / 15))


def test_one_who_is_always_sure_and_half_right_errs_by_half():
    assert expected_calibration_error(np.ones(10), np.arange(10) % 2 == 0) == 0.5


def test_confidence_is_the_top_label_s_probability():
    assert confidences(np.log([[0.2, 0.8], [0.7, 0.3]])) == pytest.approx([0.8, 0.7])
    assert confidences(np.array([[1000.0, -1000.0]])) == pytest.approx([1.0])


def test_bins_are_scikit_learn_s():
    rng = np.random.default_rng(0)
    confidence = np.append(rng.uniform(0.3, 1, 500), [1.0, 14 / 15, 0.6])
    right = rng.random(len(confidence)) < confidence
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    found = [one for one in reliability(confidence, right) if one.count]
    assert [one.accuracy for one in found] == pytest.approx(list(accuracy))
    assert [one.confidence for one in found] == pytest.approx(list(mean))
    assert sum(one.count for one in found) == len(confidence)


def test_who_is_right_as_often_as_sure_has_a_small_error_that_falls_with_examples():
    rng = np.random.default_rng(1)
    sizes = (200, 200_000)
    errors = []
    for size in sizes:
        confidence = rng.uniform(0.5, 1, size)
        errors.append(expected_calibration_error(confidence, rng.random(size) < confidence))
    assert errors[1] < 0.005 < errors[0]


def test_every_cell_has_its_error_and_spread(study):
    score_runs(study)
    measure_fidelity(study)
    rows = pd.read_csv(study.folder / "tables" / "calibration.csv")
    assert len(rows) == 2 * (1 + len(METHODS))
    assert rows[["ece", "ece_std"]].notna().all(axis=None) and rows.ece.between(0, 1).all()
    one = rows[(rows.task == "entailment") & (rows.method == "soft")].iloc[0]
    runs = [run for run in study.students if (run.task, run.method.name) == ("entailment", "soft")]
    errors = []
    for run in runs:
        frame = pd.read_parquet(run.folder / "predictions.parquet")
        logits = frame[["logit_0", "logit_1"]].to_numpy(float)
        right = logits.argmax(1) == frame.label.to_numpy()
        errors.append(expected_calibration_error(confidences(logits), right))
    assert one.ece == pytest.approx(np.mean(errors))
    assert one.ece_std == pytest.approx(np.std(errors, ddof=1))
    bins = pd.read_csv(study.folder / "tables" / "reliability.csv")
    assert bins[(bins.task == "entailment") & (bins.method == "soft")]["count"].sum() == 3 * 200


def test_the_figure_needs_its_table_and_names_the_way_out(small):
    score_runs(small)
    compare_runs(small)
    with pytest.raises(UserError, match="run internal-kd measure-fidelity first"):
        plot_reliability(small)


def test_the_diagram_shows_the_best_internal_row_and_what_it_is_held_against(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "soft_t2", 0.9)

    def shown(**methods):
        study = write_study(plan(**ONE, methods=methods))
        score_runs(study)
        compare_runs(study)
        return {cell.id for cell in shown_cells(study, read_numbers(study), "entailment")}

    softer = {"soft_t2": {"id": "3.0.2", "weights": {"soft": 1}, "temperature": 2}}
    assert shown(**softer) == {"1.0", "3.0", "3.5"}  # 3.0.2 learns no layers, however well it scores
    assert shown(**softer, stacked={"compare_with": ["soft_t2", "soft_kl_cos"]}) == {"1.0", "3.0.2", "3.5"}

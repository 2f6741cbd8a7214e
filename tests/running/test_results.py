"""Whether results are those of the runs that are there now."""

from __future__ import annotations

from pathlib import Path

import pytest

from completed import complete_everything, complete_results
from internal_kd.plan.study import Study
from internal_kd.report.make import outputs
from internal_kd.running import results
from internal_kd.running.results import (
    evaluating,
    forget_results,
    is_current,
    made_from_path,
    recipe_key,
    record_results,
    recorded_key,
)
from tiny_study import complete, plan_here, write_overlay


def test_results_are_current_until_a_run_the_study_or_a_file_changes(study: Study) -> None:
    assert not is_current(study) and recorded_key(study) == ""
    complete_everything(study)
    assert is_current(study) and is_current(plan_here()) and recorded_key(study)
    complete(study.runs[0], seconds=61)
    assert not is_current(study), "trained again"
    complete_results(study)
    (study.runs[0].folder / "predictions.parquet").write_text("cut")
    assert not is_current(study), "broken"
    complete(study.runs[0], seconds=61)
    assert is_current(study)
    write_overlay(Path(), analysis={"margin": 2.0})
    assert not is_current(plan_here()), "judged otherwise"
    write_overlay(Path(), machine={"disk_budget_gb": 1.0})
    assert is_current(plan_here()), "the machine decides nothing"
    outputs(study)["plot"][0].unlink()
    assert not is_current(study)


def test_an_edited_report_makes_results_again(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    complete_everything(study)
    monkeypatch.setattr(results, "_source_code", lambda: "edited")
    assert not is_current(study)


def test_an_edited_claim_makes_results_again(study: Study) -> None:
    complete_everything(study)
    Path("papers").mkdir()
    Path("papers/mine.yaml").write_text("claims: []\n")
    assert not is_current(study)


def test_a_run_that_ends_during_an_evaluation_is_not_in_its_results(study: Study) -> None:
    complete_everything(study)
    study.runs[0].marker.unlink()
    with evaluating(study):
        assert not made_from_path(study).exists()
        complete(study.runs[0])
    record_results(study)
    assert not is_current(study)


def test_an_evaluation_that_failed_leaves_results_that_are_not_current(study: Study) -> None:
    complete_everything(study)
    with pytest.raises(RuntimeError), evaluating(study):
        raise RuntimeError
    record_results(study)
    assert not is_current(study) and not made_from_path(study).exists()


def test_a_measurement_by_hand_makes_the_rest_again(study: Study) -> None:
    complete_everything(study)
    forget_results(study)
    record_results(study)
    assert not is_current(study)


def test_how_results_are_made_does_not_depend_on_what_is_there(study: Study) -> None:
    before = recipe_key(study)
    complete_everything(study)
    assert recipe_key(study) == before


def test_an_edited_plugin_counts_among_what_decides_the_results(study: Study) -> None:
    Path("mine.py").write_text("")
    write_overlay(Path(), plugins=["mine.py"])
    before = recipe_key(plan_here())
    Path("mine.py").write_text("THRESHOLD = 2\n")
    assert recipe_key(plan_here()) != before != recipe_key(study)

"""Two studies, or two commits, compared: what moved beyond what seeds explain."""

import subprocess

import made_runs
import pandas as pd
import pytest

from internal_kd.errors import UserError
from internal_kd.plan.identity import RESULTS
from internal_kd.report.make import evaluate
from internal_kd.report.studies import compare_studies, compared_text


def written(name: str, quality: dict[str, float], **changes):
    study = made_runs.plan(study={"name": name, "seeds": [1, 2, 3]}, **changes)
    made_runs.write_study(study, quality)
    evaluate(study)
    return study


def write_scores(name: str, values: dict[str, list[float | None]], metric: str = "accuracy") -> None:
    """Write the scores of a row by temperature, a value a seed, as other commits may have them."""
    lines = [
        {"task": "rte", "metric": metric, "id": "3.0", "method": "soft", "examples": "full", "temperature": at}
        | {"seed": seed, "value": value, "fingerprint": f"{name}{at}{seed}"}
        for at, seeds in values.items()
        for seed, value in enumerate(seeds)
    ]
    (RESULTS / name / "tables").mkdir(parents=True)
    pd.DataFrame(lines).to_csv(RESULTS / name / "tables/scores.csv", index=False)


def test_what_moved_and_what_seeds_explain(project):
    # Another batch size is another training of every row but the teacher.
    written("before", {"teacher": 0.93, "soft": 0.8, "stacked": 0.82})
    after = {"teacher": 0.93, "soft": 0.801, "stacked": 0.9}
    written("after", after, methods={"soft": {"batch_size": 7}, "stacked": {"batch_size": 7}})
    moved = compare_studies("before", "after").set_index("method")
    assert moved["reading"].to_dict() == {"teacher": "same runs", "soft": "within seeds", "stacked": "better"}
    assert moved.loc["stacked", "difference"] == pytest.approx(0.08, abs=0.01)
    assert moved.loc["stacked", "low"] > 0
    text = compared_text("before", "after", moved.reset_index())
    assert "1 of the same runs" in text and "1 better" in text and "+7.9" in text


def test_a_row_of_one_side_and_one_seed(project):
    written("before", made_runs.QUALITY)
    study = made_runs.plan(study={"name": "after", "methods": ["teacher", "soft", "finetuned"], "seeds": [4]})
    made_runs.write_study(study)
    evaluate(study)
    readings = compare_studies("before", "after").set_index("method")["reading"].to_dict()
    assert readings == {"teacher": "same runs", "soft": "one seed", "stacked": "only in a", "finetuned": "only in b"}


def test_two_commits(project):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    for quality in (0.8, 0.9):
        written(
            "made",
            {"teacher": 0.93, "soft": 0.8, "stacked": quality},
            methods={"stacked": {"epochs": round(100 * quality)}},
        )
        subprocess.run([*git, "add", "-f", "results/made/tables"], check=True)
        subprocess.run([*git, "commit", "-qm", "results"], check=True)
    for a, b, study in (("HEAD~1", "HEAD", "made"), ("HEAD~1:made", "made", None)):
        readings = compare_studies(a, b, study).set_index("method")["reading"].to_dict()
        assert readings == {"teacher": "same runs", "soft": "same runs", "stacked": "better"}


def test_what_has_no_scores_is_named(project):
    written("made", made_runs.QUALITY)
    with pytest.raises(UserError, match=r"results/other/tables/scores\.csv"):
        compare_studies("made", "other")


def test_constant_scores_do_not_move_however_many_seeds_have_them(project):
    write_scores("few", {"1": [0.01] * 3, "2": [0.07] * 2})
    write_scores("many", {"1": [0.01] * 10, "2": [0.07] * 5})
    moved = compare_studies("few", "many")
    assert set(moved["reading"]) == {"within seeds"} and set(moved["difference"]) == {0}


def test_a_score_that_is_not_defined_has_no_verdict(project):
    write_scores("a", {"1": [0.5, None, 0.52]}, "pearson")
    write_scores("b", {"1": [0.9, 0.91, 0.92]}, "pearson")
    assert compare_studies("a", "b")["reading"].tolist() == ["not defined"]


def test_equal_values_of_a_varied_key_are_one_point_however_they_are_written(project):
    write_scores("a", {"1.0": [0.8, 0.81], "2.5": [0.8, 0.81]})
    write_scores("b", {"1": [0.9, 0.91], "4": [0.8, 0.82]})
    moved = compare_studies("a", "b")
    readings = dict(zip(moved["temperature"], moved["reading"], strict=True))
    assert readings == {"1": "better", "2.5": "only in a", "4": "only in b"}
    text = compared_text("a", "b", moved)
    assert "| temperature |" in text and "| 2.5 |" in text


@pytest.mark.parametrize(
    "content", ["", "task,metric\nrte,accuracy\n", "task,metric,id,method,examples,value,fingerprint\n"]
)
def test_a_table_without_scores_is_named(project, content):
    write_scores("a", {"1": [0.8, 0.81]})
    (RESULTS / "b/tables").mkdir(parents=True)
    (RESULTS / "b/tables/scores.csv").write_text(content)
    with pytest.raises(UserError, match=r"results/b/tables/scores\.csv has no scores"):
        compare_studies("a", "b")

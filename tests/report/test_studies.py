"""Two studies, or two commits, compared: what moved beyond what seeds explain."""

import subprocess

import made_runs
import pytest

from internal_kd.errors import UserError
from internal_kd.report.make import evaluate
from internal_kd.report.studies import compare_studies, compared_text


def written(name: str, quality: dict[str, float], **changes):
    study = made_runs.plan(study={"name": name, "seeds": [1, 2, 3]}, **changes)
    made_runs.write_study(study, quality)
    evaluate(study)
    return study


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

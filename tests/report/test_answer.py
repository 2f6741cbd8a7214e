"""What the first lines say: which method wins, by how much, how surely, and what is wrong."""

import re
import shutil

import made_runs
import pandas as pd
import pytest

from internal_kd.report.answer import verdict_of
from internal_kd.report.figures import figure_paths
from internal_kd.report.make import evaluate, figures_of, render
from internal_kd.running.make import to_make
from internal_kd.running.status import state_of

SEEDS = list(range(1, 11))


@pytest.fixture
def report(project, demo):
    """A function that evaluates a study and writes its page with the demo's figures, which cost most of the time."""

    def make(study):
        evaluate(study)
        figures = demo.folder / demo.study.folder / "figures"
        for name in figures_of(study):
            for path in figure_paths(study, name):
                path.parent.mkdir(exist_ok=True)
                shutil.copyfile(figures / f"forest{path.suffix}", path)
        render(study)

    return make


def first_lines(study) -> str:
    """The text of the page before the scores, without figures."""
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    body = re.sub("<figure.*?</figure>", "", page[page.index("<h1>") : page.index('<h2 id="scores"')], flags=re.S)
    return " ".join(re.sub("<[^>]+>", "", body).split())


def comparisons(study) -> pd.DataFrame:
    return pd.read_csv(study.folder / "tables/comparisons.csv", dtype={"id": str})


def test_a_lead_of_four_points_is_better_with_277_examples_and_ten_seeds(report):
    study = made_runs.plan(study={"seeds": SEEDS})
    made_runs.write_study(study, {"teacher": 0.93, "soft": 0.80, "stacked": 0.84})
    report(study)
    lines = comparisons(study)
    question = lines[(lines["family"] == "primary") & (lines["scope"] == "new examples")]
    assert question["reading"].tolist() == ["better"]
    assert question["difference"].iloc[0] == pytest.approx(0.04, abs=0.004)
    assert "Yes." in first_lines(study)
    assert "3.5 Stacked (SID) leads 3.0 Soft labels (standard KD)" in first_lines(study)


def test_without_a_lead_nothing_is_called_better(report):
    study = made_runs.plan(study={"seeds": SEEDS})
    made_runs.write_study(study, {"teacher": 0.93, "soft": 0.82, "stacked": 0.82})
    report(study)
    readings = set(comparisons(study).query("family == 'primary'")["reading"])
    assert readings <= {"undecided", "equal within 1 point"}
    assert "Not decided." in first_lines(study) or "It makes no difference." in first_lines(study)


def test_tasks_that_cannot_be_pooled_are_counted_one_by_one(report):
    study = made_runs.plan(
        study={"tasks": ["sts", "rte"], "methods": ["teacher", "soft", "soft_kl", "stacked"]},
        tasks={"sts": {"source": "glue", "glue": "stsb"}},
    )
    made_runs.write_examples(study.tasks["sts"].data, metrics=("mse",))
    made_runs.write_study(study, {"teacher": 0.93, "soft": 0.8, "soft_kl": 0.8, "stacked": 0.9})
    report(study)
    text = first_lines(study)
    assert re.search(r"Of 4 comparisons \(2 methods on 2 tasks\) against 3.0: \d better", text)
    # Points of accuracy and errors do not compare: the largest lead is one in points.
    assert re.search(r"leads 3.0 Soft labels \(standard KD\), which imitates answers alone, by \d+\.\d points", text)


def test_only_what_was_compared_is_counted_and_a_higher_error_is_worse(report):
    generated = {"source": "generator", "grammar": "entailment", "train": 300, "dev": 277}
    study = made_runs.plan(
        study={"tasks": ["sts", "rte", "gap"]},
        tasks={"sts": {"source": "glue", "glue": "stsb"}, "rte": generated, "gap": {**generated, "seed": 5}},
    )
    made_runs.write_examples(study.tasks["sts"].data, metrics=("mse",))
    made_runs.write_study(study, {"teacher": 0.93, "soft": 0.8, "stacked": 0.95})
    for run in study.runs:
        if run.method.name == "stacked" and run.task == "gap":
            shutil.rmtree(run.folder)
        elif run.method.name == "stacked" and run.task == "sts":
            made_runs.write_run(run, 0.4)
    report(study)
    assert "In part: some results are better, others worse." in first_lines(study)
    assert "Of 2 tasks against 3.0: 1 better and 1 worse." in first_lines(study)


def test_a_score_that_is_not_defined_is_not_a_missing_run(report):
    study = made_runs.plan(study={"tasks": ["sts"], "seeds": [1, 2]}, tasks={"sts": {"source": "glue", "glue": "stsb"}})
    made_runs.write_examples(study.tasks["sts"].data, metrics=("pearson",))
    made_runs.write_study(study, constant={("stacked", 2)})
    report(study)
    assert "a score of a row that is compared is not defined" in first_lines(study)
    assert "missing" not in first_lines(study)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (["worse", "worse"], "worse"),
        (["worse", "equal within 1 point"], "none"),
        (["worse", "undecided"], "open"),
        (["equal within 1 point"] * 2, "equal"),
        (["better", "worse"], "mixed"),
        (["better", "undecided"], "yes"),
        (["one seed"], "one"),
    ],
)
def test_readings_add_up_to_one_verdict(new, verdict):
    assert verdict_of(new, new) == verdict


def test_without_a_teacher_that_shows_its_inside_the_question_is_another(report):
    study = made_runs.plan(study={"methods": ["teacher", "finetuned", "soft"]})
    made_runs.write_study(study)
    report(study)
    assert "if a trained one (the teacher) teaches it" in first_lines(study)


def test_a_study_without_a_baseline_says_that_it_asks_nothing(report):
    study = made_runs.plan(study={"methods": ["teacher", "soft"]})
    made_runs.write_study(study)
    report(study)
    assert "This study asks no question" in first_lines(study)
    page = (study.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="figure-forest"' not in page and "Bold:" not in page


def test_the_answer_of_a_varied_study_says_which_values_it_is_about(report):
    study = made_runs.plan(study={"vary": {"learner.layers": [1, 3]}, "seeds": [1, 2]})
    made_runs.write_study(study)
    report(study)
    assert "on Entailment (generated) with layers = 3 (95" in first_lines(study)


def test_a_collapsed_seed_is_said_before_the_answer(report):
    study = made_runs.plan(study={"vary": {"learner.layers": [1, 3]}})
    made_runs.write_study(study, constant={("stacked", 2)})
    report(study)
    text = first_lines(study)
    assert "3.5 Stacked (SID) collapsed: seed 2 predicts one class for everything." in text
    assert text.index("collapsed") < text.index("Answer Can")
    shown = (study.folder / "tables/main.md").read_text()
    assert "3.5 Stacked (SID) on Entailment (generated) collapsed: seed 2 predicts one class for everything." in shown


def test_a_teacher_at_the_majority_class_is_said(report):
    study = made_runs.plan()
    made_runs.write_study(study, {"teacher": 0.48, "soft": 0.8, "stacked": 0.8})
    report(study)
    assert "1.0 Teacher is a teacher no better than the majority class" in first_lines(study)


def test_a_row_below_the_majority_class_is_said(report):
    study = made_runs.plan()
    made_runs.write_study(study, {"teacher": 0.9, "soft": 0.8, "stacked": 0.4})
    report(study)
    assert re.search(
        r"3.5 Stacked \(SID\) is no better than the majority class \((40|39).\d, majority class 5\d", first_lines(study)
    )


def test_one_seed_decides_nothing(report):
    study = made_runs.plan(study={"seeds": [1]})
    made_runs.write_study(study)
    report(study)
    assert "Not decided: one training of a method is too few." in first_lines(study)
    assert set(comparisons(study)["reading"]) == {"one seed"}


def test_a_declared_question_replaces_the_default_one(project):
    study = made_runs.plan(
        study={"methods": ["teacher", "finetuned", "soft", "stacked"]},
        analysis={"primary": {"rows": ["3.0"], "baseline": "finetuned"}},
    )
    made_runs.write_study(study)
    evaluate(study)
    primary = comparisons(study).query("family == 'primary'")
    assert set(zip(primary["method"], primary["baseline"], strict=True)) == {("soft", "finetuned")}


def test_missing_runs_are_counted_and_named(report):
    study = made_runs.plan()
    made_runs.write_study(study, missing={("stacked", 3)})
    report(study)
    page = (study.folder / "report.html").read_text()
    assert "1 of 7 runs are missing" in page
    missing = pd.read_csv(study.folder / "tables/missing.csv")
    assert missing["label"].tolist() == ["rte stacked L3 s3"] and missing["problem"].tolist() == ["missing"]
    main = pd.read_csv(study.folder / "tables/main.csv").set_index(["method", "metric"])
    assert main.loc[("stacked", "accuracy"), "seeds"] == 2


def test_without_any_run_the_page_says_so(report):
    study = made_runs.plan()
    made_runs.write_study(study, missing={(run.method.name, run.seed) for run in study.runs})
    report(study)
    assert "No answer yet" in first_lines(study) and "0 of 7 runs" in first_lines(study)


def test_a_damaged_run_enters_no_table(project):
    study = made_runs.write_study(made_runs.plan())
    run = study.runs[-1]
    assert state_of(run) == "complete"
    path = run.folder / "predictions.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert state_of(run) == "broken" and set(to_make(study.runs)) >= {run.fingerprint}
    evaluate(study)
    missing = pd.read_csv(study.folder / "tables/missing.csv")
    assert missing["fingerprint"].tolist() == [run.fingerprint]
    assert "predictions.parquet" in missing["problem"].iloc[0]


def test_links_to_mlflow_stand_in_the_last_line(report):
    study = made_runs.write_study(made_runs.plan())
    report(study)
    render(study, {"made/rte": "http://127.0.0.1:5000/#/experiments/7"})
    page = (study.folder / "report.html").read_text()
    assert '<a href="http://127.0.0.1:5000/#/experiments/7">made/rte</a>' in page

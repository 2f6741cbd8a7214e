"""Every number of the tables comes from predictions: recomputed here from the files, by other means."""

import json
import math
import re

import made_runs
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

from internal_kd.report.make import evaluate
from internal_kd.statistics import compare

METRICS = {"accuracy": accuracy_score, "matthews_correlation": matthews_corrcoef}


def table(demo, name: str) -> pd.DataFrame:
    return pd.read_csv(demo.folder / demo.study.folder / f"tables/{name}.csv", dtype={"id": str, "baseline_id": str})


def runs_of(demo, line) -> list:
    return [run for run in demo.study.runs if (run.task, run.method.name) == (line["task"], line["method"])]


def scores_of(demo, line) -> list[float]:
    return [METRICS[line["metric"]](*made_runs.labels_and_predictions(run)) for run in runs_of(demo, line)]


def test_scores_and_main_table(in_demo):
    main = table(in_demo, "main")
    teachers = {
        (line["task"], line["metric"]): line["mean"] for _, line in main.iterrows() if line["method"] == "teacher"
    }
    for _, line in main.iterrows():
        values = scores_of(in_demo, line)
        assert line["mean"] == pytest.approx(np.mean(values)) and line["seeds"] == len(values)
        assert math.isnan(line["std"]) if len(values) == 1 else line["std"] == pytest.approx(np.std(values, ddof=1))
        assert line["teacher_share"] == pytest.approx(np.mean(values) / teachers[line["task"], line["metric"]])
    scores = table(in_demo, "scores")
    assert len(scores) == sum(len(runs_of(in_demo, line)) for _, line in main.iterrows())


def test_columns_that_others_rely_on(in_demo):
    main, comparisons = table(in_demo, "main"), table(in_demo, "comparisons")
    assert list(main)[:12] == [
        "task", "metric", "id", "method", "depth", "examples", "seeds", "mean", "std", "teacher_share",
        "encoder_parameters", "total_parameters",
    ]  # fmt: skip
    assert list(comparisons)[:6] == ["task", "metric", "id", "method", "depth", "examples"]
    assert {"baseline", "scope", "seeds", "difference", "low", "high", "p", "p_holm", "reading"} <= set(comparisons)
    assert set(comparisons["scope"]) == {"dev set", "new examples"}


def test_comparisons_agree_with_the_library(in_demo):
    lines = table(in_demo, "comparisons")
    assert len(lines)
    for line in lines.to_dict("records"):
        baseline = {**line, "method": line["baseline"]}
        ours, theirs = (
            [made_runs.labels_and_predictions(run) for run in runs_of(in_demo, one)] for one in (line, baseline)
        )
        found = compare(ours[0][0], [p for _, p in theirs], [p for _, p in ours], line["metric"])
        dev = (found.dev_low, found.dev_high, found.dev_p)
        expected = dev if line["scope"] == "dev set" else (found.low, found.high, found.p)
        assert [line["low"], line["high"], line["p"]] == pytest.approx(expected)
        means = [np.mean(scores_of(in_demo, one)) for one in (line, baseline)]
        assert line["difference"] == pytest.approx(means[0] - means[1])
        assert line["p_holm"] >= line["p"]


def test_a_reading_never_disagrees_with_its_interval(in_demo):
    lines = pd.concat([table(in_demo, "comparisons"), table(in_demo, "pooled")])
    decided = lines[lines["reading"].isin(["better", "worse"])]
    assert len(decided)
    assert ((decided["low"] > 0) | (decided["high"] < 0)).all()


def test_main_table_of_the_page_prints_the_means(in_demo):
    page = in_demo.page
    body = page[page.index('<h2 id="scores"') :]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", body[: body.index("</table>")], flags=re.S)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, flags=re.S) for row in rows]
    printed = {re.sub("<[^>]+>", "", row[0]): [re.sub("<[^>]+>", "", text) for text in row[-2:]] for row in cells}
    main = table(in_demo, "main")
    tasks = {task: main[main["task"] == task]["metric"].iloc[0] for task in in_demo.study.tasks}
    for method in in_demo.study.methods.values():
        texts = printed[f"{method.id} {method.title}"]
        for text, (task, metric) in zip(texts, tasks.items(), strict=True):
            values = scores_of(in_demo, {"task": task, "method": method.name, "metric": metric})
            spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
            assert text == f"{100 * np.mean(values):.1f}{spread}"
    assert printed["Majority class"][1] == "50.0"


def test_answer_repeats_the_pooled_table(in_demo):
    pooled = table(in_demo, "pooled").query("scope == 'new examples'")
    best = pooled.loc[pooled["difference"].idxmax()]
    sentence = re.sub(r"\s+", " ", in_demo.page[in_demo.page.index('class="answer"') :][:900])
    assert f"by {100 * best['difference']:.1f} points on average over 2 tasks" in sentence
    assert f"(95&nbsp;% interval {100 * best['low']:+.1f} to {100 * best['high']:+.1f})" in sentence


def test_steps_are_timed_against_the_baseline(in_demo):
    lines = table(in_demo, "main").set_index("method")
    students = lines.drop(index="teacher")
    assert (students.loc["soft", "step_share"] == 1).all() and (students.loc["stacked", "step_share"] == 2).all()
    assert (students["recorded_bytes"] == 8).all() and lines.loc["teacher", "step_share"].isna().all()


def test_classes_and_confusion(in_demo):
    classes, confusion = table(in_demo, "classes"), table(in_demo, "confusion")
    run = next(run for run in in_demo.study.runs if run.method.name == "teacher")
    labels, predicted = made_runs.labels_and_predictions(run)
    own = classes[(classes["task"] == run.task) & (classes["method"] == "teacher")]
    expected = precision_recall_fscore_support(labels, predicted)
    columns = ["class_precision", "class_recall", "class_f1", "examples_of_class"]
    assert pytest.approx(np.array(expected)) == own[columns].to_numpy().T
    counts = confusion[(confusion["task"] == run.task) & (confusion["method"] == "teacher")]["count"]
    assert counts.tolist() == confusion_matrix(labels, predicted).ravel().tolist()


def test_phenomena_average_to_the_accuracy(in_demo):
    main = table(in_demo, "main").query("metric == 'accuracy'").set_index(["task", "method"])["mean"]
    for key, own in table(in_demo, "phenomena").groupby(["task", "method"]):
        assert np.average(own["accuracy"], weights=own["dev_examples"]) == pytest.approx(main[key])


def test_disagreements_are_examples_that_one_side_gets_right(in_demo):
    frame = pd.read_parquet(in_demo.study.folder / "frames/disagreements.parquet")
    assert len(frame) and (frame["teacher_answer"] != frame["student_answer"]).all()
    assert ((frame["gold"] == frame["teacher_answer"]) | (frame["gold"] == frame["student_answer"])).all()
    assert frame["text_a"].str.len().gt(0).all()
    # Sentences of the data are no table for git.
    assert not (in_demo.study.folder / "tables/disagreements.csv").exists()


def test_agreement_and_repeated_mistakes(in_demo):
    lines = table(in_demo, "fidelity").set_index(["task", "method"])
    for (task, method), line in lines.iterrows():
        teacher = next(run for run in in_demo.study.runs if (run.task, run.method.name) == (task, "teacher"))
        labels, taught = made_runs.labels_and_predictions(teacher)
        own = [made_runs.labels_and_predictions(run)[1] for run in runs_of(in_demo, {"task": task, "method": method})]
        wrong = taught != labels
        assert line["agreement"] == pytest.approx(np.mean([p == taught for p in own]))
        assert line["repeated"] == pytest.approx(np.mean([(p == taught)[wrong].mean() for p in own]))
        assert line["teacher_run"] == teacher.fingerprint


def test_metrics_for_dvc_are_the_main_table(in_demo):
    nested = json.loads((in_demo.study.folder / "tables/metrics.json").read_text())
    for _, line in table(in_demo, "main").iterrows():
        assert nested[line["task"]][line["metric"]][line["method"]]["mean"] == pytest.approx(line["mean"])


def test_values_and_a_second_dev_set(project):
    study = made_runs.plan(
        study={"tasks": ["sts", "nli"]},
        tasks={"sts": {"source": "glue", "glue": "stsb"}, "nli": {"source": "glue", "glue": "mnli"}},
    )
    made_runs.write_examples(study.tasks["sts"].data)
    made_runs.write_examples(study.tasks["nli"].data, ("yes", "maybe", "no"), mismatched=True)
    made_runs.write_study(study)
    evaluate(study)
    main = pd.read_csv(study.folder / "tables/main.csv")
    assert set(main[main["task"] == "sts"]["metric"]) == {"pearson", "mse"}
    assert set(main[main["task"] == "nli"]["metric"]) == {
        "accuracy",
        "macro_f1",
        "accuracy_mismatched",
        "macro_f1_mismatched",
    }
    # A lower error is better, and no share of an error is told.
    errors = main[main["metric"] == "mse"]
    assert errors["teacher_share"].isna().all()
    readings = pd.read_csv(study.folder / "tables/comparisons.csv").query("metric == 'mse' and difference < 0")
    assert "worse" not in set(readings["reading"])


def test_varied_keys_are_columns(project):
    study = made_runs.plan(study={"vary": {"learner.layers": [1, 3], "select.keep": [100, "full"]}})
    made_runs.write_study(study)
    evaluate(study)
    main = pd.read_csv(study.folder / "tables/main.csv")
    assert {"learner.layers", "select.keep"} <= set(main)
    soft = main[(main["method"] == "soft") & (main["metric"] == "accuracy")]
    assert sorted(zip(soft["learner.layers"], soft["select.keep"], soft["depth"], strict=True)) == [
        ("1", "100", 1), ("1", "full", 1), ("3", "100", 3), ("3", "full", 3),
    ]  # fmt: skip
    teacher = main[main["method"] == "teacher"]
    assert set(teacher["learner.layers"]) == {"all"} and set(teacher["select.keep"]) == {"full"}

"""Scores come from whole runs' predictions alone, and whatever is missing is named."""

import json

import numpy as np
import pandas as pd
import pytest
from fake_runs import METHODS, plan, write_record, write_run, write_study, write_task
from scipy import stats
from sklearn import metrics as sk

from internal_kd.analysis.scoring import score_runs
from internal_kd.errors import UserError
from internal_kd.metrics import score_predictions

MAIN_COLUMNS = [
    "task", "metric", "id", "method", "depth", "examples", "seeds", "mean", "std", "teacher_share",
    "encoder_parameters", "total_parameters",
]  # fmt: skip
INDEPENDENT = {
    "accuracy": lambda y, p, _: np.mean(y == p),
    "f1": lambda y, p, _: sk.f1_score(y, p),
    "macro_f1": lambda y, p, _: sk.f1_score(y, p, average="macro"),
    "matthews_correlation": lambda y, p, _: sk.matthews_corrcoef(y, p),
    "pearson": lambda y, _, z: np.corrcoef(y, z)[0, 1],
    "spearman": lambda y, _, z: np.corrcoef(stats.rankdata(y), stats.rankdata(z))[0, 1],
    "mse": lambda y, _, z: np.mean((y - z) ** 2),
}


def recomputed(run, metric, name="predictions.parquet"):
    frame = pd.read_parquet(run.folder / name)
    logits = frame.filter(like="logit_").to_numpy(float)
    return INDEPENDENT[metric](frame["label"].to_numpy(), logits.argmax(1), logits[:, 0])


def read(study, name):
    return pd.read_csv(study.folder / "tables" / name, dtype={"id": str, "examples": str})


def wide_study(**overlay):
    """A regression task and a three-class task with a mismatched dev set, as if they were generated."""
    tasks = {
        "similarity": {"source": "generator", "grammar": "entailment", "train": 400, "dev": 200},
        "nli": {"source": "generator", "grammar": "entailment", "train": 401, "dev": 200},
    }
    chosen = {"name": "wide", "tasks": list(tasks), "methods": list(METHODS), "depths": [3], "seeds": [1, 2]}
    return plan(study=chosen, tasks=tasks, **overlay)


def test_every_score_is_that_of_the_predictions(study):
    score_runs(study)
    scores = read(study, "scores.csv")
    assert len(scores) == 2 * len(study.runs)
    for line in scores.itertuples():
        assert line.value == pytest.approx(recomputed(study.by_fingerprint[line.fingerprint], line.metric), abs=1e-12)


def test_regression_classes_and_the_mismatched_dev_set(project):
    study = write_study(wide_study())
    score_runs(study)
    scores = read(study, "scores.csv")
    assert set(scores[scores.task == "similarity"].metric) == {"pearson", "spearman", "mse"}
    nli = scores[scores.task == "nli"]
    assert set(nli.metric) == {"accuracy", "macro_f1", "accuracy_mismatched", "macro_f1_mismatched"}
    for line in scores.itertuples():
        name = "predictions_dev_mismatched.parquet" if "mismatched" in line.metric else "predictions.parquet"
        run = study.by_fingerprint[line.fingerprint]
        expected = recomputed(run, line.metric.removesuffix("_mismatched"), name)
        assert line.value == pytest.approx(expected, abs=1e-9)


def test_main_table_has_its_columns_and_agrees_with_the_scores(study):
    score_runs(study)
    scores, main = read(study, "scores.csv"), read(study, "main.csv")
    assert list(main.columns) == MAIN_COLUMNS
    assert len(main) == 2 * 2 * 5
    grouped = scores.groupby(["task", "metric", "method"])["value"]
    for row in main.itertuples():
        values = grouped.get_group((row.task, row.metric, row.method))
        assert row.seeds == len(values)
        assert row.mean == pytest.approx(values.mean(), abs=1e-12)
        assert row.std == pytest.approx(values.std(ddof=1), abs=1e-12)
        teacher = grouped.get_group((row.task, row.metric, "teacher")).mean()
        assert row.teacher_share == pytest.approx(values.mean() / teacher, abs=1e-12)
    first = main.iloc[0]
    assert (first.method, first.id, first.depth, first.examples) == ("teacher", "1.0", 6, "full")
    text = (study.folder / "tables" / "main.csv").read_text()
    assert "acceptability,matthews_correlation,1.0,teacher,6,full,2," in text


def test_metrics_for_dvc_are_those_of_the_main_table(study):
    score_runs(study)
    nested = json.loads((study.folder / "tables" / "metrics.json").read_text())
    row = read(study, "main.csv").query("task == 'entailment' and metric == 'f1' and method == 'soft'").iloc[0]
    assert nested["entailment"]["f1"]["L3"]["soft"] == {"mean": row["mean"], "std": row["std"], "seeds": 3}
    assert "teacher" in nested["entailment"]["f1"]["L6"]


def break_by_cutting(run):
    path = run.folder / "predictions.parquet"
    path.write_bytes(path.read_bytes()[:-10])


def break_by_a_flipped_byte(run):
    path = run.folder / "predictions.parquet"
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)


def break_by_another_fingerprint(run):
    write_record(run, ["predictions.parquet", "history.jsonl"], fingerprint="0" * 12)


def break_by_other_examples(run):
    path = run.folder / "predictions.parquet"
    pd.read_parquet(path).iloc[:-1].to_parquet(path, index=False)
    write_record(run, ["predictions.parquet", "history.jsonl"])


def break_by_other_labels(run):
    path = run.folder / "predictions.parquet"
    frame = pd.read_parquet(path)
    frame.assign(label=1 - frame["label"]).to_parquet(path, index=False)
    write_record(run, ["predictions.parquet", "history.jsonl"])


def break_by_infinite_logits(run):
    path = run.folder / "predictions.parquet"
    pd.read_parquet(path).assign(logit_0=np.inf).to_parquet(path, index=False)
    write_record(run, ["predictions.parquet", "history.jsonl"])


def break_by_garbage(run):
    (run.folder / "predictions.parquet").write_bytes(b"no parquet")
    write_record(run, ["predictions.parquet", "history.jsonl"])


def break_by_not_listing(run):
    write_record(run, ["history.jsonl"])


def break_by_removing(run):
    run.marker.unlink()


@pytest.mark.parametrize(
    "damage",
    [
        break_by_cutting, break_by_a_flipped_byte, break_by_another_fingerprint, break_by_other_examples,
        break_by_other_labels, break_by_infinite_logits, break_by_garbage, break_by_not_listing, break_by_removing,
    ],
)  # fmt: skip
def test_a_run_that_is_not_whole_is_a_named_gap(study, damage):
    run = next(r for r in study.students if r.method.name == "soft" and r.task == "entailment" and r.seed == 2)
    damage(run)
    score_runs(study)
    assert run.fingerprint not in set(read(study, "scores.csv").fingerprint)
    missing = read(study, "missing.csv")
    assert list(missing.fingerprint) == [run.fingerprint]
    assert list(missing.label) == ["entailment | L3 | soft | s2"]
    rows = read(study, "main.csv").query("task == 'entailment' and method == 'soft'")
    assert list(rows.seeds) == [2, 2]
    assert "(2 of 3)" in (study.folder / "tables" / "main.md").read_text()


def test_a_row_without_any_run_stays_in_the_table(study):
    for run in study.students:
        if run.method.name == "stacked":
            run.marker.unlink()
    score_runs(study)
    rows = read(study, "main.csv").query("method == 'stacked'")
    assert list(rows.seeds) == [0] * 4
    assert rows[["mean", "std", "teacher_share", "encoder_parameters", "total_parameters"]].isna().all(axis=None)
    assert "| – (0 of 3) |" in (study.folder / "tables" / "main.md").read_text()


def test_runs_without_their_task_s_data_are_gaps(project):
    study = plan()
    for tokens in study.tasks.values():
        write_task(tokens.data)
    for run in study.runs:
        write_run(run)
    (study.tasks["entailment"].data.folder / "dev.parquet").unlink()
    score_runs(study)
    assert set(read(study, "scores.csv").task) == {"acceptability"}
    assert len(read(study, "missing.csv")) == sum(run.task == "entailment" for run in study.runs)


def test_one_seed_has_no_spread(project):
    study = write_study(plan(study={"seeds": [1]}))
    score_runs(study)
    rows = read(study, "main.csv").query("method != 'teacher'")
    assert rows["std"].isna().all()
    assert rows["mean"].notna().all()


def test_without_a_teacher_there_is_no_share(study):
    for run in study.teachers:
        run.marker.unlink()
    score_runs(study)
    rows = read(study, "main.csv")
    assert rows["teacher_share"].isna().all()
    assert rows.query("method != 'teacher'")["mean"].notna().all()


def test_a_student_that_predicts_one_value_leaves_its_correlation_empty(project):
    study = write_study(wide_study())
    run = next(r for r in study.students if r.task == "similarity" and r.method.name == "soft" and r.seed == 1)
    write_run(run, constant=True)
    score_runs(study)
    rows = read(study, "main.csv").query("task == 'similarity' and method == 'soft'").set_index("metric")
    assert rows.loc["pearson", "seeds"] == 2
    assert np.isnan(rows.loc["pearson", "mean"])
    assert np.isfinite(rows.loc["mse", "mean"])
    assert "undefined" in (study.folder / "tables" / "main.md").read_text()


def test_an_error_has_no_share(project):
    study = write_study(wide_study())
    score_runs(study)
    assert read(study, "main.csv").query("metric == 'mse'")["teacher_share"].isna().all()


def test_constant_classes_score_zero_matthews():
    frame = pd.DataFrame({"label": [0, 1, 1], "logit_0": [2.0, 2, 2], "logit_1": [0.0, 0, 0]})
    assert score_predictions(frame, ["matthews_correlation", "f1"], regression=False) == {
        "matthews_correlation": 0,
        "f1": 0,
    }


def test_f1_of_three_classes_is_undefined_rather_than_an_error():
    frame = pd.DataFrame({"label": [0, 1, 2], "logit_0": [1.0, 0, 0], "logit_1": [0.0, 1, 0], "logit_2": [0.0, 0, 1]})
    assert np.isnan(score_predictions(frame, ["f1"], regression=False)["f1"])


def test_an_unknown_metric_is_named():
    frame = pd.DataFrame({"label": [0], "logit_0": [0.0], "logit_1": [1.0]})
    with pytest.raises(UserError, match="'bleu' is unknown"):
        score_predictions(frame, ["bleu"], regression=False)


def test_latex_escapes_what_latex_would_read(study):
    score_runs(study)
    tex = (study.folder / "tables" / "main.tex").read_text()
    assert r"$\pm$" in tex and "±" not in tex.split(r"\end{tabular}")[0]

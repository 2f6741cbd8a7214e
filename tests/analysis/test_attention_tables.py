"""The attention tables: their numbers from what was measured, what they say of what is missing, and their figures."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_runs import METHODS, SMALL, plan

from internal_kd.analysis.attention import map_attention
from internal_kd.analysis.attention_figures import plot_attention_kl, plot_attention_maps, read_head_maps
from internal_kd.analysis.attention_rows import AttentionRow, Subject, attention_rows, baseline_of, head_rows
from internal_kd.analysis.attention_shown import choose_examples
from internal_kd.analysis.attention_text import attention_text, sentences
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.scoring import score_runs
from internal_kd.distillation.attention_maps import Distance
from internal_kd.errors import UserError

NINE = {f"way{n}": {"id": f"3.{n}", "title": f"Way {n}, of a title that takes some room", "weights": {"soft": 1 + n}}
        for n in range(9)}  # fmt: skip
FACTS = {"rte": SimpleNamespace(title="RTE")}


def subject(study, method):
    run = next(run for run in study.students if run.method.name == method)
    row = AttentionRow("rte", run.method.id, method, run.method.title, 3, "full", 1, student=method, teacher="T")
    return Subject(row, Path(method), (2, 4, 6), run)


def distance(level, seed=0):
    return Distance(level * np.random.default_rng(seed).uniform(0.5, 1.5, (40, 3, 4)))


def test_heads_and_means_come_from_the_same_numbers(study):
    subjects = [subject(study, "soft"), subject(study, "soft_kl_cos")]
    found = [distance(1.0), distance(0.1, seed=1)]
    lines, rows = head_rows(subjects, found), attention_rows(subjects, found)
    assert len(lines) == 2 * 3 * 4
    assert {(line.student_layer, line.teacher_layer) for line in lines} == {(1, 2), (2, 4), (3, 6)}
    one = [line for line in lines if line.method == "soft"][5]
    assert (one.student_layer, one.teacher_layer, one.head) == (2, 4, 2)
    assert one.kl == pytest.approx(found[0].kl[:, 1, 1].mean())
    assert one.kl_std == pytest.approx(found[0].kl[:, 1, 1].std(ddof=1))
    for row, one in zip(rows, found, strict=True):
        assert row.kl == pytest.approx(one.kl.mean()) and row.low < row.kl < row.high
        assert np.mean([line.kl for line in lines if line.method == row.method]) == pytest.approx(row.kl)
        assert [kl for _, _, kl in row.by_layer] == pytest.approx(one.kl.mean((0, 2)).tolist())
    assert (rows[0].ratio, rows[0].ratio_low, rows[0].ratio_high) == (1.0, 1.0, 1.0)
    assert rows[1].ratio == pytest.approx(found[1].kl.mean() / found[0].kl.mean())
    assert rows[1].ratio_low < rows[1].ratio < rows[1].ratio_high
    (said,) = sentences(FACTS, rows)
    assert said.startswith(
        "RTE. Mean attention KL to the teacher over 3 matched layers of 4 heads and 40 dev examples: 3.0: "
    )
    assert "times that of 3.0 (95 % interval 0." in said


def test_the_baseline_is_row_3_0_else_whoever_is_taught_by_outputs_alone(study):
    every = [subject(study, method) for method in ("finetuned", "stacked", "soft")]
    assert baseline_of(every) == 2
    assert baseline_of([every[0], every[1], replace(every[2], row=replace(every[2].row, id="7"))]) == 2
    assert baseline_of(every[:2]) is None
    (row,) = attention_rows(every[1:2], [distance(1.0)])
    assert row.ratio is None and row.kl is not None


def test_one_at_distance_zero_is_no_measure_for_others(study):
    subjects = [subject(study, "soft"), subject(study, "stacked")]
    rows = attention_rows(subjects, [distance(0.0), distance(1.0)])
    assert rows[0].kl == 0.0 and rows[1].ratio is None


def test_what_was_not_measured_has_a_line_that_says_why(study):
    missing = subject(study, "stacked")
    missing = replace(missing, row=replace(missing.row, problem="not run yet"))
    subjects, found = [subject(study, "soft"), missing], [distance(1.0), None]
    assert head_rows(subjects, found)[-1].problem == "not run yet"
    rows = attention_rows(subjects, found)
    assert attention_text(FACTS, rows).lines[1][-1] == "not run yet"
    assert sentences(FACTS, rows)[0].endswith("Not measured: 3.5.")


@pytest.mark.parametrize(("pairs", "expected"), [(False, [3, 2]), (True, [1, 3])])
def test_examples_shown_are_the_lowest_ids_of_fitting_length(project, study, pairs, expected):
    tokens = next(iter(study.tasks.values()))
    manifest = json.loads(tokens.data.marker.read_text())
    tokens.data.marker.write_text(json.dumps(manifest | {"text_columns": 1 + pairs}))
    split = SimpleNamespace(idx=np.array([9, 5, 7, 6, 1, 0]), lengths=np.array([20, 24, 8, 14, 7, 41]))
    assert choose_examples(tokens, split, np.arange(6)) == expected
    # Too few of them: the nearest; too long to be read: none.
    assert choose_examples(tokens, split, np.array([4, 5])) == [4]
    assert choose_examples(tokens, split, np.array([5])) == []


def test_without_weights_the_table_names_every_gap_and_nothing_fails(study):
    study.students[0].marker.unlink()
    score_runs(study)
    map_attention(study)
    table = pd.read_csv(study.folder / "tables/attention.csv", dtype={"id": str}, keep_default_na=False)
    own = table[table.task == "acceptability"]
    assert list(own.method) == ["before training", *METHODS]
    assert set(own.problem) == {"its weights are not here"} and set(table.kl) == {""}
    found = json.loads((study.folder / "tables/attention.json").read_text())
    assert found["sentences"] == [] and found["runs"] == []
    for task in study.tasks:
        assert plot_attention_kl(study, task).is_file() and plot_attention_maps(study, task).is_file()


def test_a_study_not_run_yet_says_so(project):
    study = plan(**SMALL)
    score_runs(study)
    map_attention(study)
    table = pd.read_csv(study.folder / "tables/attention.csv")
    assert set(table.problem[1:]) == {"not run yet"}


def drawn(study):
    task = next(iter(study.tasks))
    plot_attention_kl(study, task)
    plot_attention_maps(study, task)
    return {path.name: path.read_bytes() for path in (study.folder / "figures").glob(f"attention_*_{task}.*")}


def write_numbers(study, layers=6, heads=12):
    """Tables and maps as map_attention writes them, with numbers of no meaning."""
    rng = np.random.default_rng(0)
    task = next(iter(study.tasks))
    columns = ["task", "id", "method", "student_layer", "teacher_layer", "head", "dev_examples", "kl", "problem"]
    lines = [
        [task, m.id, name, layer, 2 * layer, head, 128, float(rng.gamma(2, 0.6)), ""]
        for name, m in study.methods.items() for layer in range(1, layers + 1) for head in range(1, heads + 1)
    ]  # fmt: skip
    write_csv(study.folder / "tables/attention.csv", columns, lines)
    tokens = ["[CLS]", "a", "$dollar$", "incomprehensibilities", "##ing", "<s>", "é", "_x^2", "[SEP]"]

    def maps():
        return rng.dirichlet(np.ones(len(tokens)), (2, len(tokens))).tolist()

    chosen = list(study.methods.values())[:2]
    shown = {
        "student_layer": 6, "teacher_layer": 12, "heads": [3, 11], "lengths": [8, 14], "problem": "",
        "students": [{"id": m.id, "title": m.title, "fingerprint": "0"} for m in chosen],
        "examples": [{"idx": 4, "tokens": tokens, "teacher": maps(), "students": [maps() for _ in chosen],
                      "kl": [[0.5, 0.1] for _ in chosen]}] * 2,
    }  # fmt: skip
    (study.folder / "figures").mkdir(exist_ok=True)
    (study.folder / "figures/attention_maps.json").write_text(json.dumps({"key": "0", "tasks": {task: shown}}))


@pytest.mark.parametrize("methods", [["way0"], list(NINE)], ids=["one method", "nine methods"])
def test_figures_hold_one_method_and_nine_and_are_the_same_bytes_every_time(project, methods):
    study = plan(study={"tasks": ["entailment"], "methods": methods, "seeds": [1]}, methods=NINE)
    score_runs(study)
    write_numbers(study)
    first = drawn(study)
    assert set(first) == {f"attention_{kind}_entailment.{type_}" for kind in ("kl", "maps") for type_ in ("png", "svg")}
    assert len(methods) > 1 or first == drawn(study)
    assert all(len(content) > 5000 for content in first.values())


def test_a_table_cut_short_names_the_way_out(small):
    score_runs(small)
    with pytest.raises(UserError, match="run internal-kd map-attention first"):
        read_head_maps(small, "entailment")
    map_attention(small)
    path = small.folder / "tables/attention.csv"
    path.write_text(path.read_text().replace("problem", "problm"))
    with pytest.raises(UserError, match="run internal-kd map-attention again"):
        read_head_maps(small, "entailment")
    (small.folder / "figures/attention_maps.json").write_text("{")
    with pytest.raises(UserError, match="run internal-kd map-attention first"):
        plot_attention_maps(small, "entailment")

"""The small parts: cells, numbers in words, laid-out tables, styles, frames."""

import math

import made_runs
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from internal_kd.errors import UserError
from internal_kd.params.method import MethodParams
from internal_kd.params.study import NAMING
from internal_kd.report.cells import at_shown_point, cells_of, point_text, primary_rows, shown_point, teacher_of
from internal_kd.report.efficiency import distillation_score
from internal_kd.report.figures import look, panels
from internal_kd.report.frames import SCHEMAS, frame_of, read_frame, write_frame
from internal_kd.report.layout import Shown, Strong, latex, markdown
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import main_lines, run_lines, score_lines
from internal_kd.report.styles import STYLES, styles_of
from internal_kd.report.sweeps import pareto_front
from internal_kd.report.words import (
    count,
    duration,
    estimate_text,
    interval,
    joined,
    metric_title,
    millions,
    scale_of,
    shown,
)
from internal_kd.statistics import Estimate
from internal_kd.tasks.info import TaskInfo

ROLES = {
    "study": {"methods": ["teacher", "soft", "assistant", "via_assistant", "finetuned"]},
    "methods": {
        "assistant": {"id": "4.0", "title": "Assistant", "learner": {"layers": 4}, "weights": {"soft": 1}},
        "via_assistant": {
            "id": "4.1",
            "title": "By the assistant",
            "teacher": {"of": "assistant"},
            "weights": {"soft": 1},
        },
    },
}


def test_a_dollar_in_a_title_is_no_mathematics():
    with look():
        figure, (panel,) = panels(1, 1, 2, 2)
        panel.set_title(r"KL ($\frac{1}$) costs $5, not $10")
        panel.set_xticks([0], ["$x$"])
        FigureCanvasAgg(figure).draw()
    assert panel.title.get_parse_math() is False


@pytest.mark.parametrize(
    ("size_percent", "accuracy", "score"),
    [(62.84, 69.12, 0.333), (35.36, 67.04, 0.210), (15.25, 62.87, 0.138), (3.74, 43.11, 0.218)],
)
def test_the_distillation_score_is_that_of_the_surveys_worked_example(size_percent, accuracy, score):
    # Alkhulaifi et al. 2021 (arXiv 2007.09029) on Walawalkar 2020: CIFAR-100, a ResNet-44 with 71.76 % as teacher.
    assert distillation_score(size_percent / 100, accuracy / 71.76, 0.5) == pytest.approx(score, abs=5e-4)


def by_method(study):
    return {cell.method.name: cell for cell in cells_of(study)}


def test_runs_of_a_cell_differ_in_their_seed_only(project):
    study = made_runs.plan(study={"vary": {"learner.layers": [1, 3]}})
    cells = cells_of(study)
    assert [(cell.method.name, cell.depth, len(cell.runs)) for cell in cells] == [
        ("teacher", 6, 1), ("soft", 1, 3), ("soft", 3, 3), ("stacked", 1, 3), ("stacked", 3, 3),
    ]  # fmt: skip
    assert {run.fingerprint for cell in cells for run in cell.runs} == set(study.by_fingerprint)
    assert shown_point(cells) == {"learner.layers": "3"}
    assert [cell.depth for cell in at_shown_point(cells)] == [6, 3, 3]


def test_a_row_is_set_beside_the_teacher_that_it_listens_to(project):
    cells = by_method(made_runs.plan(**ROLES))
    teachers = {name: teacher_of(cell, cells.values()) for name, cell in cells.items()}
    assert {name: found.method.name for name, found in teachers.items() if found} == {
        **dict.fromkeys(("teacher", "soft", "assistant", "finetuned"), "teacher"),
        "via_assistant": "assistant",
    }
    assert [name for name, cell in cells.items() if not cell.is_student] == ["teacher"]


def test_every_dev_set_has_columns_of_its_own():
    rows = {"train": 9, "dev": 9, "dev_shifted": 9, "test": 9}
    task = TaskInfo("x", "X", "classes", ("a", "b", "c"), ("accuracy", "macro_f1"), 1, rows)
    assert [column.name for column in task.columns] == [
        "accuracy", "macro_f1", "accuracy_shifted", "macro_f1_shifted",
    ]  # fmt: skip
    assert metric_title("macro_f1_shifted") == "macro F1 (shifted)" and scale_of("mse_shifted") == 1


def test_the_question_by_default_and_as_declared(project):
    assert primary_rows(made_runs.plan_demo()) == (("soft_kl_cos", "progressive", "stacked"), "soft")
    assert primary_rows(made_runs.plan(**ROLES)) == (("soft", "assistant", "via_assistant"), "finetuned")
    declared = made_runs.plan(analysis={"primary": {"rows": ["3.5"], "baseline": "3.0"}})
    assert primary_rows(declared) == (("stacked",), "soft")
    with pytest.raises(UserError, match=r"analysis\.primary\.rows: 'stakced' .*did you mean 'stacked'"):
        primary_rows(made_runs.plan(analysis={"primary": {"rows": ["stakced"]}}))


def test_every_varied_key_has_a_column_with_the_value_given(project):
    vary = {"precision": ["auto", "fp32"], "epochs": [4, 5], "teacher": ["teacher", "finetuned"]}
    study = made_runs.plan(study={"methods": ["teacher", "soft"], "seeds": [1], "vary": vary})
    made_runs.write_study(study)
    results = StudyResults.read(study)
    for name, lines in (("main", main_lines(results)), ("scores", score_lines(results)), ("runs", run_lines(results))):
        frame = frame_of(study, name, lines).query("method == 'soft'")
        assert len(frame.drop_duplicates(list(vary))) == 8, name
        assert set(frame["precision"]) == {"auto", "fp32"} and set(frame["epochs"]) == {"4", "5"}


def test_no_column_that_a_table_fills_itself_has_the_name_of_a_varied_key():
    recorded = {"runs": {"epochs", "precision"}}
    for name, columns in SCHEMAS.items():
        if "*" in columns:
            varied = set(MethodParams.model_fields) - set(NAMING)
            assert set(columns) & varied <= recorded.get(name, set()), name


def test_varied_values_as_text():
    assert [point_text(v) for v in (6, (2, 4), {"from": "teacher"}, None)] == ["6", "2,4", "from=teacher", "none"]
    assert [point_text(v) for v in (20.0, 2.5, [1.0, 2])] == ["20", "2.5", "1,2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (shown("accuracy", 0.8125), "81.2"),
        (shown("accuracy", -0.0131, sign=True), "−1.3"),
        (shown("accuracy", -0.0001, sign=True), "0.0"),
        (shown("mse", 0.25), "0.250"),
        (shown("accuracy", math.nan), "–"),
        (interval("accuracy", -2.77, 3.59, 2), "not estimable from 2 seeds"),
        (interval("accuracy", 0.91, 1.04, 5), "91.0 to 100.0"),
        (interval("matthews_correlation", -0.1, 0.2, 5, difference=True), "−10.0 to +20.0"),
        (interval("mse", 0.2, 0.9, 2), "0.200 to 0.900"),
        (estimate_text(Estimate(91, 5, 30), (0, 100)), "91.0 (80.8 to 100.0)"),
        (estimate_text(Estimate(91, 40, 30), (0, 100)), "91.0 (interval not estimable)"),
        (estimate_text(Estimate(-0.3, 0.1, 30), sign=True), "−0.300 (−0.504 to −0.096)"),
        (estimate_text(Estimate(57, 30, 30), digits=0, unit=" %"), "57 % (−4 to 118 %)"),
        (duration(8000), "2 h 13 min"),
        (duration(140), "2 min 20 s"),
        (millions(43_117_824), "43.1M"),
        (count(1, "seed") + count(1200, "study"), "1 seed1,200 studies"),
        (joined(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_in_words(text, expected):
    assert text == expected


def test_tables_escape_what_markdown_and_latex_obey():
    table = Shown("t", ("a_b", "x|y"), (("50 %", Strong("1 & 2")), ("−1 ± 2", "[CLS] #1")), "lr", "note", rules=(1,))
    assert markdown(table).splitlines() == [
        "| a_b | x\\|y |", "| --- | --: |", "| 50 % | **1 & 2** |", "| −1 ± 2 | [CLS] #1 |", "", "note",
    ]  # fmt: skip
    text = latex(table)
    for part in (
        r"a\_b & x$|$y \\",
        r"50 \% & \textbf{1 \& 2} \\",
        r"$-$1 $\pm$ 2 & {[}CLS{]} \#1 \\",
        "\\midrule",
        "% note",
    ):
        assert part in text
    assert text.count("\\midrule") == 2


def test_a_row_looks_the_same_in_every_study():
    assert len(STYLES) == len(set(STYLES.values())) == 20
    assert styles_of(["3.5"])["3.5"] == styles_of(["1.0", "3.0", "3.5", "X"])["3.5"] == STYLES["3.5"]
    unknown = [f"B{n}" for n in range(16)]
    found = styles_of(["1.0", "3.0", *unknown])
    assert len(set(found.values())) == 18 and found == styles_of([*reversed(unknown), "3.0", "1.0"])


def test_frames_have_their_columns_also_without_lines(project):
    study = made_runs.plan(study={"vary": {"learner.layers": [1, 3]}})
    for name, columns in SCHEMAS.items():
        frame = frame_of(study, name, [])
        assert len(frame.columns) == len(columns) - ("*" in columns) + ("*" in columns)
        write_frame(study, name, frame)
        pd.testing.assert_frame_equal(read_frame(study, name), frame)


def test_a_missing_frame_names_the_command_that_makes_it(project):
    study = made_runs.plan()
    for name, verb in (("main", "evaluate"), ("attention", "map-attention"), ("latency", "measure-latency")):
        with pytest.raises(UserError, match=f"internal-kd {verb}"):
            read_frame(study, name)


def test_the_pareto_front_is_what_nothing_cheaper_beats():
    assert pareto_front([(3, 80), (1, 60), (2, 55), (2, 70), (4, 80)]) == [(1, 60), (2, 70), (3, 80)]


def test_a_margin_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"analysis\.margin"):
        made_runs.plan(analysis={"margin": 0})

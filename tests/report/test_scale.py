"""Studies of many tasks, classes, columns and rows: nothing is wider than its page, and nothing says too much."""

import made_runs
import pandas as pd

from internal_kd.report.appendix_tables import SHOWN_CLASSES, classes_table, confusion_tables
from internal_kd.report.figures import MOST_PANELS, look
from internal_kd.report.layout import PAGE_WIDTH, Shown
from internal_kd.report.make import evaluate
from internal_kd.report.rows import explained, forest, forest_by_task
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.tables import summary_table


def test_a_wide_table_is_several_that_repeat_what_names_a_line():
    lines = tuple((f"3.{k} Some method", *(f"{k}{j}.5 ± 1.2" for j in range(40))) for k in range(3))
    wide = Shown("main", ("method", *(f"task {j}, accuracy" for j in range(40))), lines, "l" + "r" * 40, "A note.")
    parts = wide.parts
    assert 1 < len(parts) < 10 and [part.note for part in parts[:-1]] == [""] * (len(parts) - 1)
    assert parts[-1].note == "A note."
    assert [title for part in parts for title in part.header[1:]] == list(wide.header[1:])
    for part in parts:
        assert part.header[0] == "method" and [line[0] for line in part.lines] == [line[0] for line in lines]
        assert sum(7 * len(text) for text in part.lines[0]) < PAGE_WIDTH
    narrow = Shown("main", ("method", "score"), (("a", "1"),), "lr")
    assert narrow.parts == [narrow]


def test_many_classes_are_told_by_what_is_confused_most(project):
    study = made_runs.plan(
        study={"tasks": ["intents"], "seeds": [1]}, tasks={"intents": {"source": "glue", "glue": "mnli"}}
    )
    names = tuple(f"intent {k}" for k in range(40))
    made_runs.write_examples(study.tasks["intents"].data, names, rows=400)
    made_runs.write_study(study)
    evaluate(study)
    frames = StudyFrames(study)
    (confused,) = confusion_tables(frames)
    assert len(confused.header) < 8 and len(confused.lines) <= 3 * SHOWN_CLASSES
    counts = pd.Series([int(line[-2]) for line in confused.lines if line[0].startswith("3.0")])
    assert counts.is_monotonic_decreasing and counts.iloc[0] == (
        frames["confusion"].query("method == 'soft' and gold != predicted")["count"].max()
    )
    assert len(classes_table(frames).lines) == 3 * SHOWN_CLASSES
    # Pairs that never occur are no lines.
    assert len(frames["confusion"]) < 3 * 40 * 12


def test_of_many_tasks_the_page_shows_means(project):
    tasks = {
        f"task{k}": {"source": "generator", "grammar": "entailment", "train": 40, "dev": 60 + k}
        for k in range(MOST_PANELS + 2)
    }
    study = made_runs.plan(study={"tasks": list(tasks), "seeds": [1, 2]}, tasks=tasks)
    made_runs.write_study(study)
    evaluate(study)
    frames = StudyFrames(study)
    summary = summary_table(frames, frames["main"], frames["pooled"])
    mean = frames["main"].query("method == 'stacked' and metric == 'accuracy'")["mean"].mean()
    line = next(line for line in summary.lines if line[0].startswith("3.5"))
    assert line[-2] == f"{100 * mean:.1f}" and line[-1].startswith("+")
    with look():
        assert [len(draw(frames).axes) for draw in (forest, forest_by_task)] == [1, 2 * (MOST_PANELS + 1)]
        assert len(explained(frames, "agreement").axes) == 1

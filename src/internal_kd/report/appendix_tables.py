"""The tables of the appendix about single rows, classes, examples and runs, and the list of all tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from internal_kd.params.study import NAMING
from internal_kd.report import tables
from internal_kd.report.cells import point_text
from internal_kd.report.layout import Column, Layout, Shown, build
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import is_known, percent, shown, with_spread
from internal_kd.statistics.reading import DASH, SCOPES

if TYPE_CHECKING:
    import pandas as pd

# Classes of a task up to which every one is shown, and how many pairs or classes are shown of more.
MOST_CLASSES, SHOWN_CLASSES = 12, 10
PARTS = {"both right": "both_right", "teacher only": "only_teacher_right", "student only": "only_student_right"}


def _as_shares(frames: StudyFrames) -> pd.DataFrame:
    """Return the lines of fidelity with shares of the dev examples for their numbers."""
    lines = frames["fidelity"]
    total = lines[[*PARTS.values(), "both_wrong"]].sum(axis=1, min_count=1).astype("float64")
    return lines.assign(**{part: lines[part].astype("float64") / total for part in PARTS.values()})


fidelity_table = Layout(
    "fidelity",
    {
        "seeds": "seeds",
        "agreement": "agreement:%1",
        "KL": "divergence:.3f",
        **{title: f"{part}:%" for title, part in PARTS.items()},
        "mistakes repeated": "repeated:%",
        "by chance": "by_chance:%",
        "p": "p_repeated_holm:p",
    },
    "Each student compared with its teacher (row 2.0: with the same one), means over seeds. KL: KL(teacher || student) "
    "in nats; for values the mean squared difference. Repeated: share of the teacher's mistakes to which the student "
    "gives the same wrong answer; by chance: what its own errors within each class would make of it. p: generalised "
    "Cochran-Mantel-Haenszel test, after Holm's correction. Of tags every word counts, and there is no p: the words of "
    "a sentence depend on each other.",
    lines=_as_shares,
)
calibration_table = Layout(
    "calibration",
    {
        "seeds": "seeds",
        "error": lambda line: with_spread("accuracy", line["ece"], line["ece_std"]),
        "mean confidence": "confidence:%1",
        "accuracy": "accuracy:%1",
        "entropy": "entropy:.3f",
        "diversity": "diversity:.3f",
    },
    "Expected calibration error of the top label × 100, 15 bins of equal width (Guo et al. 2017); 0 is perfect. "
    "Confidence above accuracy is overconfidence. Entropy: of the predictions, in nats. Diversity: differential "
    "entropy, over examples, of the gold label's probability (Zhang and Sabuncu 2020). Of tags every word counts.",
)
attention_table = Layout(
    "attention_means",
    {
        "seed": "seed",
        "KL": lambda line: f"{line['kl']:.3f}" if is_known(line["kl"]) else line["problem"],
        "95 % interval": lambda line: f"{line['low']:.3f} to {line['high']:.3f}" if is_known(line["low"]) else DASH,
        "times the baseline's": lambda line: (
            f"{line['ratio']:.2f} ({line['ratio_low']:.2f} to {line['ratio_high']:.2f})"
            if is_known(line["ratio"])
            else DASH
        ),
    },
    "KL(teacher || student) of attention in nats, over real queries, heads, matched layers and dev examples; the "
    "interval is over examples. One student a row: the first seed whose weights are kept.",
    lines=lambda frames: frames.measured("attention_means"),
)
warnings_table = Layout("warnings", {"what": "text"}, left=1)
missing_table = Layout(
    "missing",
    {"run": "label", "fingerprint": "fingerprint", "problem": "problem"},
    left=3,
    head=(),
    lines=lambda frames: frames["runs"][frames["runs"]["problem"] != ""],
)
runs_table = Layout(
    "runs",
    {
        "run": "label",
        "fingerprint": "fingerprint",
        "commit": lambda line: line["git_commit"][:8],
        "device": lambda line: f"{line['device']}, {line['precision']}",
        "finished (UTC)": lambda line: line["finished"][:16].replace("T", " "),
        "seconds": "seconds:,.0f",
    },
    "Seconds compare only on one device with the same load.",
    left=5,
    head=(),
    lines=lambda frames: frames["runs"][frames["runs"]["problem"] == ""],
)


def classes_table(frames: StudyFrames) -> Shown:
    """Return scores per class; of many classes, those with the lowest F1 of each row."""
    classes = frames.at_point(frames["classes"])
    groups = classes.groupby(["task", "method", *frames.study.axes])
    many = groups["label"].transform("size") > MOST_CLASSES
    chosen = classes[~many | (groups["class_f1"].rank(method="first") <= SHOWN_CLASSES)]
    note = "Means over seeds." + (f" Of many classes, the {SHOWN_CLASSES} with the lowest F1." if many.any() else "")
    columns: dict[str, Column] = {
        "class": "label", "examples": "examples_of_class", "precision": "class_precision:%1",
        "recall": "class_recall:%1", "F1": "class_f1:%1",
    }  # fmt: skip
    return build(frames, "classes", chosen, columns, note, left=1)


def confusion_tables(frames: StudyFrames) -> list[Shown]:
    """Return each task's confusion matrices, shares of the gold class; of many classes, the largest mistakes."""
    found, axes = [], list(frames.study.axes)
    for task, own in frames.at_point(frames["confusion"]).groupby("task", sort=False):
        answers = list(dict.fromkeys([*own["gold"], *own["predicted"]]))
        columns: dict[str, Column] = {"gold class": "gold"}
        note = f"{frames.task(str(task))}. Shares of the gold class, all seeds."
        if len(answers) > MOST_CLASSES:
            mistakes = own[own["gold"] != own["predicted"]]
            order = mistakes.groupby(["method", *axes], sort=False)["count"].nlargest(SHOWN_CLASSES)
            own = mistakes.loc[order.index.get_level_values(-1)]
            columns |= {"answer": "predicted", "times": "count", "share": "share:%"}
            note = note.replace(". ", f". The {SHOWN_CLASSES} most frequent mistakes of each row. ", 1)
        else:
            keys = ["id", "method", *axes, "gold"]
            own = own.pivot_table("share", keys, "predicted", sort=False, fill_value=0.0).reset_index()
            columns |= {f"answer {a}": lambda line, a=a: percent(line.get(a, 0.0)) for a in answers}  # type: ignore[misc]
        found.append(build(frames, "confusion", own, columns, note, left=min(2, len(columns) - 2), head=("method",)))
    return found


def phenomena_tables(frames: StudyFrames) -> list[Shown]:
    """Return each generated task's accuracy by phenomenon: rows are phenomena, columns methods."""
    found = []
    for task, own in frames.at_point(frames["phenomena"]).groupby("task", sort=False):
        lines: dict[str, dict[str, Any]] = {}
        columns: dict[str, Column] = {"phenomenon": "phenomenon", "examples": "dev_examples"}
        for line in own.to_dict("records"):
            row = frames.row(line)
            lines.setdefault(line["phenomenon"], dict(line))[row] = line["accuracy"]
            columns[row] = lambda line, row=row: percent(line.get(row))  # type: ignore[misc]
        for line in lines.values():
            line["phenomenon"] = line["phenomenon"].replace("_", " ")
        note = f"{frames.task(str(task))}. Accuracy, mean over seeds."
        found.append(build(frames, "phenomena", lines.values(), columns, note, left=1, head=()))
    return found


def disagreements_tables(frames: StudyFrames) -> list[Shown]:
    """Return, task by task, dev examples that the row with the largest lead and its teacher judge differently."""
    frame, question = frames.at_point(frames["disagreements"]), frames.answering
    order = question[question["scope"] == SCOPES["new"]].sort_values("difference", ascending=False)["method"]
    chosen = next((method for method in order if method in set(frame["method"])), None)
    columns: dict[str, Column] = {
        "text": lambda line: " / ".join(filter(None, (line["text_a"], line["text_b"]))),
        "gold": "gold",
        "teacher": "teacher_answer",
        "student (seeds that differ)": lambda line: (
            f"{line['student_answer']} ({line['seeds_differing']} of {line['seeds']})"
        ),
    }
    about = "examples on which most seeds differ from the teacher and one of the two is right."
    return [
        build(
            frames, "", own, columns, f"{frames.task(str(task))}, {frames.name(str(chosen))}: {about}", left=4, head=()
        )
        for task, own in frame[frame["method"] == chosen].groupby("task", sort=False)
    ]


def best_table(frames: StudyFrames) -> Shown:
    """Return the expected best of k seeds."""
    best = frames.of_main(frames["expected_best"])
    most = int(best["k"].max()) if len(best) else 0
    keys = ["task", "metric", "id", "method", *frames.study.axes]
    lines = [own.iloc[0].to_dict() | dict(zip(own["k"], own["value"], strict=True))
             for _, own in best.groupby(keys, sort=False)]  # fmt: skip
    columns: dict[str, Column] = {
        f"k = {k}": lambda line, k=k: shown(line["metric"], line.get(k))  # type: ignore[misc]
        for k in range(1, most + 1)
        if k <= 5 or k == most
    }
    note = "Mean of the best dev score among k seeds drawn with replacement (Dodge et al. 2019)."
    return build(frames, "expected_best", lines, columns, note)


def settings_table(frames: StudyFrames) -> Shown:
    """Return the settings in which methods differ; what all have is below. Values at several points are joined."""
    texts: dict[str, dict[str, dict[str, None]]] = {}
    for cell in frames.cells:
        for key, value in cell.method.settings:
            if key not in NAMING:
                given = value.model_dump(mode="json", exclude_defaults=True) if isinstance(value, BaseModel) else value
                texts.setdefault(key, {}).setdefault(cell.method.name, {})[point_text(given)] = None
    joined = {key: {row: " / ".join(found) for row, found in rows.items()} for key, rows in texts.items()}
    differing = [key for key, rows in joined.items() if len(set(rows.values())) > 1]
    common = [
        f"{key.replace('_', ' ')} {next(iter(rows.values()))}" for key, rows in joined.items() if key not in differing
    ]
    lines = [{"row": frames.name(row)} | {key: joined[key][row] for key in differing} for row in joined["weights"]]
    columns: dict[str, Column] = {"method": "row", **{key.replace("_", " "): key for key in differing}}
    return build(frames, "", lines, columns, f"All: {', '.join(common)}.", left=len(columns), head=())


# By table: how it is laid out on the page, as Markdown and as LaTeX.
LAID_OUT: dict[str, Callable[[StudyFrames], Shown]] = {
    "main": tables.main_table,
    "comparisons": tables.comparisons_table,
    "pooled": tables.pooled_table,
    "efficiency": tables.efficiency_table,
    "fidelity": fidelity_table,
    "calibration": calibration_table,
    "claims": tables.claims_table,
    "published": tables.published_table,
}
# The same for what only the page has.
ON_THE_PAGE: dict[str, Callable[[StudyFrames], Shown | list[Shown]]] = {
    "primary": lambda frames: tables.comparisons_table(frames, "primary"),
    "secondary": lambda frames: tables.comparisons_table(frames, "secondary"),
    "classes": classes_table,
    "confusion": confusion_tables,
    "phenomena": phenomena_tables,
    "disagreements": disagreements_tables,
    "expected_best": best_table,
    "attention": attention_table,
    "settings": settings_table,
    "warnings": warnings_table,
    "missing": missing_table,
    "runs": runs_table,
}

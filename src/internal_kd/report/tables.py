"""The tables that answer a study's question, laid out from their frames; appendix_tables.py has the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from internal_kd.report.cells import FULL, primary_rows
from internal_kd.report.efficiency import with_latency
from internal_kd.report.frames import value_or_none
from internal_kd.report.layout import Column, Layout, Shown, Strong, build
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import (
    base_metric,
    bounds_of,
    interval,
    is_known,
    metric_title,
    millions,
    seeds_of,
    shown,
    with_spread,
)
from internal_kd.statistics.reading import DASH, SCOPES, p_text
from internal_kd.tasks.kinds import KINDS

if TYPE_CHECKING:
    import pandas as pd

Line = Mapping[str, Any]
NOTES = {
    "main": "Dev scores × 100, mean ± standard deviation over seeds.",
    "parameters": " Parameters: encoder and pooler, without embeddings.",
    "comparisons": "95 % intervals; p after Holm's correction over the family. Seeds needed: of each method, if the "
    "estimates stayed. Smallest lead shown: what a study like this shows four times in five. The paper's p: paired "
    "over predictions (McNemar), median over pairs of equal seeds.",
    "efficiency": "Shares are of the teacher's. Distillation score: {alpha:g} × the share of the parameters + "
    "{rest:g} × the share of the score that is lost; lower is better (Alkhulaifi et al. 2021). Training: median over "
    "seeds. Step: time of a training step over that of the baseline, all stages of a curriculum counted. Recorded: "
    "bytes of the teacher's answers that the row reads, for one example.",
    "latency": " Milliseconds: median forward pass over dev examples, fp32, one thread of {machines}.",
}


def _parameters(line: Line) -> str:
    return millions(value_or_none(line["encoder_parameters"]))


def _sizes(main: pd.DataFrame) -> dict[str, Column]:
    """Return the columns layers, unless no learner has any, and parameters."""
    layers: dict[str, Column] = {"layers": "depth"} if main["depth"].notna().any() else {}
    return {**layers, "parameters": _parameters}


def _rows_of(frames: StudyFrames, main: pd.DataFrame) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Return a line for every row, with its number of parameters on any task, and its lines of the main table."""
    groups = [own for _, own in main.groupby(["method", *frames.study.axes], sort=False)]
    known = [next(iter(own["encoder_parameters"].dropna()), None) for own in groups]
    return [
        (own.iloc[0].to_dict() | {"encoder_parameters": size}, own) for own, size in zip(groups, known, strict=True)
    ]


def main_table(frames: StudyFrames, main: pd.DataFrame | None = None, *, all_metrics: bool = True) -> Shown:
    """Return the main table, laid out like the paper's: rows are methods, columns tasks; bold only where decided."""
    main, axes = frames["main"] if main is None else main, frames.study.axes
    if not all_metrics:
        main = frames.of_main(main)
    bold = _bold(frames)
    uniform = main["planned"].nunique() == 1 and (main["planned"] == main["seeds"]).all()
    columns = _sizes(main)
    if (main["examples"] != FULL).any() and "select.keep" not in axes:
        columns["examples"] = "examples"
    if not uniform:
        columns["seeds"] = "all_seeds"
    named = len(columns)
    scores = main[["task", "metric"]].drop_duplicates()
    constant: dict[str, str] = {}
    for task, metric in scores.itertuples(index=False):
        title = f"{frames.task(task)}, {metric_title(metric)}"
        columns[title] = lambda line, key=(task, metric): line.get(key, "")  # type: ignore[misc]
        known = main[(main["task"] == task) & (main["metric"] == metric)]["majority"].dropna()
        constant[title] = shown(metric, float(known.iloc[0])) if len(known) else DASH
    lines = []
    for first, own in _rows_of(frames, main):
        seeds = {seeds_of(int(s), int(p)) for s, p in zip(own["seeds"], own["planned"], strict=True)}
        texts = {(line["task"], line["metric"]): _score(frames, line, bold) for line in own.to_dict("records")}
        lines.append(first | texts | {"all_seeds": " / ".join(sorted(seeds))})
    note = NOTES["main"] + NOTES["parameters"] * ("layers" in columns) + _bold_note(frames)
    if uniform and main["planned"].max() > 1:
        note += f" {main['planned'].max()} seeds each."
    if any("undefined" in line.values() for line in lines):
        note += " Undefined: the correlation of predictions, or of labels, that are all equal."
    if any(run.method.learner.kind == "specialist" for run in frames.study.runs):
        note += " A specialist answers its own classes alone: its score is at most their share."
    table = build(frames, "main", lines, columns, note, head=("method",))
    title = " or ".join(dict.fromkeys(KINDS[kind].constant for kind in frames["tasks"]["kind"])).capitalize()
    majority = (title, *(constant.get(name, "") for name in table.header[1:]))
    teachers = {run.method.name for run in frames.study.runs if run.teaches and run.answers is None}
    fixed = len(table.header) - len(columns) + named
    return replace(table, lines=(*table.lines, majority), rules=(len(teachers), len(table.lines)), fixed=fixed)


def summary_table(frames: StudyFrames, main: pd.DataFrame, pooled: pd.DataFrame) -> Shown:
    """Return the main table of many tasks: rows with their mean score over tasks and their mean lead."""
    keys = ["method", *frames.study.axes]
    new = pooled[pooled["scope"] == SCOPES["new"]].to_dict("records")
    leads = {tuple(line[key] for key in keys): line for line in new}
    lines = [
        first | {"mean": own["mean"].mean(skipna=False), "lead": leads.get(tuple(first[key] for key in keys))}
        for first, own in _rows_of(frames, frames.of_main(main))
    ]

    def lead(line: Line) -> str:
        found = line["lead"]
        if found is None:
            return DASH
        between = interval("accuracy", found["low"], found["high"], 2, difference=True)
        text = f"{shown('accuracy', found['difference'], sign=True)} ({between})"
        return Strong(text) if found["reading"] == "better" else text

    columns = _sizes(main) | {"mean score": lambda line: shown("accuracy", line["mean"]), "mean lead": lead}
    note = f"Means over the main metrics of {len(frames.study.tasks)} tasks, × 100; every task: All metrics."
    return build(frames, "pooled", lines, columns, note + _bold_note(frames), head=("method",))


def _key(frames: StudyFrames, line: Line) -> tuple[str, ...]:
    return (line["task"], line["metric"], line["method"], *(line[axis] for axis in frames.study.axes))


def _bold(frames: StudyFrames) -> set[tuple[str, ...]]:
    lines = frames["comparisons"]
    won = lines[(lines["family"] == "primary") & (lines["scope"] == SCOPES["new"]) & (lines["reading"] == "better")]
    return {_key(frames, line) for line in won.to_dict("records")}


def _bold_note(frames: StudyFrames) -> str:
    rows, baseline = primary_rows(frames.study)
    return f" Bold: better than {frames.name(baseline)} on new examples." if baseline and rows else ""


def _score(frames: StudyFrames, line: Line, bold: set[tuple[str, ...]]) -> str:
    if not line["seeds"]:
        return "not run"
    if not is_known(line["mean"]):
        return "undefined"
    text = with_spread(line["metric"], line["mean"], line["std"])
    return Strong(text) if _key(frames, line) in bold else text


def comparisons_table(frames: StudyFrames, family: str = "") -> Shown:
    """Return the comparisons of a family, both scopes on one line."""
    comparisons = frames["comparisons"]
    if family:
        comparisons = comparisons[comparisons["family"] == family]
    same = {
        (*_key(frames, line), line["baseline"]): line
        for line in comparisons[comparisons["scope"] == SCOPES["dev"]].to_dict("records")
    }
    new = comparisons[comparisons["scope"] == SCOPES["new"]]

    def asked(line: Line) -> str:
        seeds = int(min(line["seeds"], line["baseline_seeds"]))
        between = interval(line["metric"], line["low"], line["high"], seeds, difference=True)
        if between == DASH or not is_known(line["p_holm"]):
            return line["reading"] if between == DASH else f"{between}: {line['reading']}"
        return f"{between}, p {p_text(line['p_holm'])}: {line['reading']}"

    columns: dict[str, Column] = {
        "against": "baseline_id",
        "metric": lambda line: metric_title(line["metric"]),
        "on this dev set": lambda line: asked(same[*_key(frames, line), line["baseline"]]),
        "on new examples": asked,
        "lead": lambda line: shown(line["metric"], line["difference"], sign=True),
    }
    if (new["family"] == "primary").all():
        columns |= {"seeds needed": _needed, "smallest lead shown": _smallest}
    if new["p_predictions"].notna().any():
        columns["paper's p"] = "p_predictions:p"
    return build(frames, "comparisons", new, columns, NOTES["comparisons"], left=4)


def _needed(line: Line) -> str:
    if line["reading"] != "undecided":
        return DASH
    needed = value_or_none(line["seeds_needed"])
    return "more seeds would not help" if needed is None else f"{int(needed):,}"


def _smallest(line: Line) -> str:
    possible = is_known(line["smallest"]) and line["smallest"] < bounds_of(line["metric"], difference=True)[1] / 2
    return shown(line["metric"], line["smallest"]) if possible else DASH


pooled_table = Layout(
    "pooled",
    {
        "against": "baseline_id",
        "scope": "scope",
        "reading": "reading",
        "tasks": "tasks",
        "mean lead": lambda line: shown("accuracy", line["difference"], sign=True),
        "95 % interval": lambda line: interval("accuracy", line["low"], line["high"], 2, difference=True),
        "p": "p_holm:p",
    },
    "Mean over tasks of the lead in the main metric, in points.",
    left=3,
    head=("method",),
)


def efficiency_table(frames: StudyFrames) -> Shown:
    """Return sizes, times and scores, and their shares of the teacher's."""
    lines = with_latency(frames, frames.of_main(frames["main"]))
    columns: dict[str, Column] = {
        "parameters": _parameters,
        "share": "encoder_share:%",
        "with embeddings": "total_share:%",
        "score": lambda line: with_spread(line["metric"], line["mean"], line["std"]),
        "score kept": "teacher_share:%",
        "distillation score": "distillation_score:.3f",
        "training, s": "training_seconds:,.0f",
        "step": "step_share:.2f×",
        "recorded, B": "recorded_bytes:,.0f",
    }
    alpha = frames.study.params.analysis.distillation_alpha
    note = NOTES["efficiency"].format(alpha=alpha, rest=1 - alpha)
    if lines["latency_ms"].notna().any():
        columns |= {"multiply-adds": lambda line: millions(value_or_none(line["multiply_adds"]))}
        columns |= {"ms, 1 example": "latency_ms:.1f", "faster": "speed_up:.1f×", "ms, 32": "latency_batch_ms:.0f"}
        note += NOTES["latency"].format(machines="; ".join(sorted(lines["machine"].dropna().unique())))
    return build(frames, "efficiency", lines, columns, note)


def _source(line: Line) -> str:
    return f"[{line['status']}] {line['source']}"


claims_table = Layout(
    "claims",
    {
        "claim": "claim",
        "verdict": "verdict",
        "evidence": lambda line: f"{line['evidence']} {line['needed']}".strip(),
        "source": _source,
    },
    "Status: [paper] stated there, [repo] in its authors' code, [secondary] known from another's account.",
    left=4,
    head=(),
)
published_table = Layout(
    "published",
    {
        "system": "system",
        "task": "task_title",
        "metric": lambda line: metric_title(line["metric"]) if line["metric"] else "not stated",
        "our rows": "rows",
        "differs in": lambda line: line["differs"] or DASH,
        "source": _source,
        "published": "published:.2f",
        "ours": lambda line: with_spread(base_metric(line["metric"]), line["ours"], line["std"]),
    },
    "Of several rows the best. Ours are left out where task, data, encoder, learner or training-set size differ.",
    left=6,
    head=(),
    lines=lambda frames: frames["published"].assign(task_title=frames["published"]["task"].map(frames.task)),
)

"""The tables that answer a study's question, laid out from their frames; appendix_tables.py has the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from internal_kd.report.appendix_tables import calibration_table, fidelity_table
from internal_kd.report.cells import FULL, primary_rows
from internal_kd.report.frames import value_or_none
from internal_kd.report.layout import Layout, Shown, Strong, Text, number, p_value, plain, score, share
from internal_kd.report.words import (
    DASH,
    axis_title,
    base_metric,
    bounds_of,
    interval,
    is_known,
    metric_title,
    millions,
    p_text,
    seeds_of,
    shown,
    with_spread,
)

if TYPE_CHECKING:
    import pandas as pd

# What a model that ignores its input answers.
CONSTANT = {"classes": "majority class", "values": "mean of the labels"}
NEW, SAME = "new examples", "dev set"
NOTES = {
    "main": "Dev scores × 100, mean ± standard deviation over seeds. Parameters: encoder and pooler, without "
    "embeddings.",
    "comparisons": "95 % intervals; p after Holm's correction over the family. Seeds needed: of each method, if the "
    "estimates stayed. Smallest lead shown: what a study like this shows four times in five. The paper's p: paired "
    "over predictions (McNemar), median over pairs of equal seeds.",
    "pooled": "Mean over tasks of the lead in the main metric, in points.",
    "efficiency": "Shares are of the teacher's. Distillation score: {alpha:g} × the share of the parameters + "
    "{rest:g} × the share of the score that is lost; lower is better (Alkhulaifi et al. 2021). Training: median over "
    "seeds. Step: time of a training step over that of the baseline, all stages of a curriculum counted. Recorded: "
    "bytes of the teacher's answers that the row reads, for one example.",
    "latency": " Milliseconds: median forward pass at the median dev length, fp32, one thread of {machines}.",
    "claims": "Status: [paper] stated there, [repo] in its authors' code, [secondary] known from another's account.",
    "published": "Of several rows the best. Ours are left out where task, data, encoder, learner or training-set "
    "size differ.",
}


def main_table(layout: Layout, main: pd.DataFrame, comparisons: pd.DataFrame, *, all_metrics: bool = True) -> Shown:
    """Return the main table, laid out like the paper's: rows are methods, columns tasks; bold only where decided."""
    axes = layout.study.axes
    columns = []
    for task in layout.study.tasks:
        metrics = list(dict.fromkeys(main[main["task"] == task]["metric"]))
        columns += [(task, metric) for metric in (metrics if all_metrics else metrics[:1])]
    planned, finished = main["planned"], main["seeds"]
    uniform = planned.nunique() == 1 and (planned == finished).all()
    sizes = ("examples",) if (main["examples"] != FULL).any() and "select.keep" not in axes else ()
    extra = (*(axis for axis in axes if axis != "learner.layers"), *sizes)
    lines, bold = [], _bold(layout, comparisons)
    for _, own in main.groupby(["method", *axes], sort=False):
        first = own.iloc[0]
        parameters = own["encoder_parameters"].dropna()
        texts = [
            layout.row(first),
            plain("depth")(first),
            millions(int(parameters.iloc[0]) if len(parameters) else None),
        ]
        texts += [*(str(first[column]) for column in extra), *([] if uniform else [_seeds_text(own)])]
        for task, metric in columns:
            found = own[(own["task"] == task) & (own["metric"] == metric)]
            texts.append(_score_text(layout, found.iloc[0], bold) if len(found) else "")
        lines.append(tuple(texts))
    kinds = set(layout.tasks["kind"])
    constant = " or ".join(CONSTANT[kind] for kind in CONSTANT if kind in kinds).capitalize()
    majority = [constant, *[""] * (2 + len(extra) + (not uniform))]
    for task, metric in columns:
        values = main[(main["task"] == task) & (main["metric"] == metric)]["majority"].dropna()
        majority.append(shown(metric, float(values.iloc[0])) if len(values) else DASH)
    header = (
        "method", "layers", "parameters", *map(axis_title, extra), *(() if uniform else ("seeds",)),
        *(f"{layout.task(task)}, {metric_title(metric)}" for task, metric in columns),
    )  # fmt: skip
    note = (
        NOTES["main"] + _bold_note(layout) + (f" {planned.max()} seeds each." if uniform and planned.max() > 1 else "")
    )
    if any("undefined" in line for line in lines):
        note += " Undefined: the correlation of predictions, or of labels, that are all equal."
    teachers = {run.method.name for run in layout.study.runs if run.teaches and run.answers is None}
    return Shown(
        "main",
        header,
        (*lines, tuple(majority)),
        "l" + "r" * (len(header) - 1),
        note,
        rules=(len(teachers), len(lines)),
        fixed=3 + len(extra) + (not uniform),
    )


def summary_table(layout: Layout, main: pd.DataFrame, pooled: pd.DataFrame) -> Shown:
    """Return the main table of many tasks: rows with their mean score over tasks and their mean lead."""
    axes, lines = layout.study.axes, []
    own, new = layout.of_main(main), pooled[pooled["scope"] == NEW]
    for _, group in own.groupby(["method", *axes], sort=False):
        first, known = group.iloc[0], group["encoder_parameters"].dropna()
        leads = new[(new["method"] == first["method"]) & (new[list(axes)] == first[list(axes)]).all(axis=1)]
        lead = leads.iloc[0] if len(leads) else None
        mean = shown("accuracy", group["mean"].mean(skipna=False))
        text = DASH
        if lead is not None:
            between = interval("accuracy", lead["low"], lead["high"], 2, difference=True)
            text = f"{shown('accuracy', lead['difference'], sign=True)} ({between})"
        better = lead is not None and lead["reading"] == "better"
        parameters = millions(int(known.iloc[0]) if len(known) else None)
        named = (layout.row(first), *layout.point(first), plain("depth")(first), parameters)
        lines.append((*named, mean, Strong(text) if better else text))
    header = ("method", *layout.point_header, "layers", "parameters", "mean score", "mean lead")
    note = f"Means over the main metrics of {len(layout.study.tasks)} tasks, × 100; every task: All metrics."
    return Shown("pooled", header, tuple(lines), "l" + "r" * (len(header) - 1), note + _bold_note(layout))


def _bold(layout: Layout, comparisons: pd.DataFrame) -> set[tuple[str, ...]]:
    won = comparisons[
        (comparisons["family"] == "primary") & (comparisons["scope"] == NEW) & (comparisons["reading"] == "better")
    ]
    return {(line["task"], line["metric"], line["method"], *layout.point(line)) for _, line in won.iterrows()}


def _bold_note(layout: Layout) -> str:
    rows, baseline = primary_rows(layout.study)
    if baseline is None or not rows:
        return ""
    method = layout.study.methods[baseline]
    return f" Bold: better than {method.id} {method.title} on new examples too."


def _seeds_text(own: pd.DataFrame) -> str:
    texts = {seeds_of(int(s), int(p)) for s, p in zip(own["seeds"], own["planned"], strict=True)}
    return " / ".join(sorted(texts))


def _score_text(layout: Layout, line: pd.Series, bold: set[tuple[str, ...]]) -> str:
    if not line["seeds"]:
        return "not run"
    if not is_known(line["mean"]):
        return "undefined"
    text = with_spread(line["metric"], line["mean"], line["std"])
    key = (line["task"], line["metric"], line["method"], *layout.point(line))
    return Strong(text) if key in bold else text


def comparisons_table(layout: Layout, comparisons: pd.DataFrame) -> Shown:
    """Return comparisons, both scopes on one line."""
    keys = ["task", "metric", "id", "method", *layout.study.axes, "baseline"]
    same = comparisons[comparisons["scope"] == SAME].set_index(keys, drop=False)
    new = comparisons[comparisons["scope"] == NEW]

    def asked(line: pd.Series) -> str:
        seeds = int(min(line["seeds"], line["baseline_seeds"]))
        between = interval(line["metric"], line["low"], line["high"], seeds, difference=True)
        if between == DASH or not is_known(line["p_holm"]):
            return line["reading"] if between == DASH else f"{between}: {line['reading']}"
        return f"{between}, p {p_text(line['p_holm'])}: {line['reading']}"

    columns: dict[str, Text] = {
        "against": plain("baseline_id"),
        "metric": lambda line: metric_title(line["metric"]),
        "on this dev set": lambda line: asked(same.loc[tuple(line[key] for key in keys)]),
        "on new examples too": asked,
        "lead": lambda line: shown(line["metric"], line["difference"], sign=True),
    }
    if (new["family"] == "primary").all():
        columns |= {
            "seeds needed": _needed,
            "smallest lead shown": _smallest,
        }
    if new["p_predictions"].notna().any():
        columns["paper's p"] = p_value("p_predictions")
    return layout.build("comparisons", new, columns, NOTES["comparisons"], left=4)


def _needed(line: pd.Series) -> str:
    if line["reading"] != "undecided":
        return DASH
    needed = value_or_none(line["seeds_needed"])
    return "more seeds would not help" if needed is None else f"{int(needed):,}"


def _smallest(line: pd.Series) -> str:
    possible = is_known(line["smallest"]) and line["smallest"] < bounds_of(line["metric"], difference=True)[1] / 2
    return shown(line["metric"], line["smallest"]) if possible else DASH


def pooled_table(layout: Layout, pooled: pd.DataFrame) -> Shown:
    """Return the mean leads over tasks."""
    columns: dict[str, Text] = {
        "against": plain("baseline_id"),
        "scope": plain("scope"),
        "reading": plain("reading"),
        "tasks": plain("tasks"),
        "mean lead": lambda line: shown("accuracy", line["difference"], sign=True),
        "95 % interval": lambda line: interval("accuracy", line["low"], line["high"], 2, difference=True),
        "p": p_value(),
    }
    return layout.build("pooled", pooled, columns, NOTES["pooled"], left=3, task=False)


def efficiency_table(layout: Layout, efficiency: pd.DataFrame, main: pd.DataFrame) -> Shown:
    """Return sizes, times and scores beside the teacher's."""
    keys = ["task", "metric", "method", *layout.study.axes]
    lines = layout.of_main(efficiency).merge(main[[*keys, "encoder_parameters", "mean", "std"]], on=keys, how="left")
    columns: dict[str, Text] = {
        "parameters": lambda line: millions(value_or_none(line["encoder_parameters"])),
        "share": share("encoder_share"),
        "with embeddings": share("total_share"),
        "score": score("mean", "std"),
        "score kept": share("teacher_share"),
        "distillation score": number("distillation_score"),
        "training, s": number("training_seconds", ",.0f"),
        "step": number("step_share", ".2f", "×"),
        "recorded, B": number("recorded_bytes", ",.0f"),
    }
    alpha = layout.study.params.analysis.distillation_alpha
    note = NOTES["efficiency"].format(alpha=alpha, rest=1 - alpha)
    if lines["latency_ms"].notna().any():
        columns |= {"ms, 1 example": number("latency_ms", ".1f"), "faster": number("speed_up", ".1f", "×")}
        columns["ms, 32"] = number("latency_batch_ms", ".0f")
        note += NOTES["latency"].format(machines="; ".join(sorted({text for text in lines["machine"] if text})))
    return layout.build("efficiency", lines, columns, note)


def claims_table(claims: pd.DataFrame) -> Shown:
    """Return claims with their verdicts."""
    lines = tuple(
        (
            line["claim"],
            line["verdict"],
            f"{line['evidence']} {line['needed']}".strip(),
            f"[{line['status']}] {line['source']}",
        )
        for _, line in claims.iterrows()
    )
    return Shown("claims", ("claim", "verdict", "evidence", "source"), lines, "llll", NOTES["claims"])


def published_table(layout: Layout, published: pd.DataFrame) -> Shown:
    """Return published figures beside ours."""
    lines = tuple(
        (
            line["system"], layout.task(line["task"]), metric_title(line["metric"]) if line["metric"] else "not stated",
            line["rows"], line["differs"] or DASH, f"[{line['status']}] {line['source']}", f"{line['published']:.2f}",
            with_spread(base_metric(line["metric"]), line["ours"], line["std"]) if is_known(line["ours"]) else DASH,
        )
        for _, line in published.iterrows()
    )  # fmt: skip
    header = ("system", "task", "metric", "our rows", "differs in", "source", "published", "ours")
    return Shown("published", header, lines, "llllllrr", NOTES["published"])


# By table: how it is laid out, on the page and as Markdown and LaTeX.
LAID_OUT: dict[str, Callable[[Layout, Mapping[str, pd.DataFrame]], Shown]] = {
    "main": lambda layout, frames: main_table(layout, frames["main"], frames["comparisons"]),
    "comparisons": lambda layout, frames: comparisons_table(layout, frames["comparisons"]),
    "pooled": lambda layout, frames: pooled_table(layout, frames["pooled"]),
    "efficiency": lambda layout, frames: efficiency_table(layout, frames["efficiency"], frames["main"]),
    "fidelity": lambda layout, frames: fidelity_table(layout, frames["fidelity"]),
    "calibration": lambda layout, frames: calibration_table(layout, frames["calibration"]),
    "claims": lambda _, frames: claims_table(frames["claims"]),
    "published": lambda layout, frames: published_table(layout, frames["published"]),
}

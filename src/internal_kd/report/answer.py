"""What the first lines of a report say, as values for the template, which has the words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from internal_kd.report.cells import primary_rows, shown_point
from internal_kd.report.frames import value_or_none
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.words import (
    axis_title,
    bounds_of,
    interval,
    is_better,
    is_share,
    joined,
    metric_title,
    shown,
)
from internal_kd.statistics.reading import DASH, SCOPES

# Methods and tasks that are named one by one.
MOST_NAMED = 3


def warnings_of(frames: StudyFrames) -> list[dict[str, str]]:
    """Return what a reader must know first: row, tasks and text; the same of several tasks is one warning."""
    order, found = ("one answer", "weak teacher", "collapsed", "majority"), []
    for kind in order:
        own = frames["warnings"][frames["warnings"]["kind"] == kind]
        for _, same in own.groupby(["method", "text"], sort=False):
            line = same.iloc[0].to_dict()
            tasks = joined(frames.task(task) for task in dict.fromkeys(same["task"]))
            found.append({"row": frames.row(line), "task": tasks, "text": line["text"]})
    return found


def answer_of(frames: StudyFrames) -> dict[str, Any] | None:
    """Return a study's answer: over all tasks where that can be said, else on the task with the largest lead.

    Returns:
        ``question`` chooses the first sentence (internal, teacher or declared), ``verdict`` the second; ``asked`` are
        the methods of a declared question; ``compared`` and ``counts`` are what was compared and how it was read;
        ``best`` is the row that leads by most, or trails by least, ``needed`` what would decide an open question, one
        entry per task. None without comparisons.
    """
    (rows, baseline), lines = primary_rows(frames.study), frames.answering
    if baseline is None or lines.empty:
        return None
    new, same = (lines[lines["scope"] == SCOPES[scope]] for scope in ("new", "dev"))
    verdict = verdict_of(list(new["reading"]), list(same["reading"]))
    asked = same if verdict == "here" else new
    decided = asked[asked["reading"] == "better"]
    # Points and other units do not compare: points go first.
    likely = decided if len(decided) else asked
    likely = likely[likely["metric"].map(is_share)] if likely["metric"].map(is_share).any() else likely
    gains = likely["difference"].where(likely["metric"].map(lambda m: is_better(m, 1.0)), -likely["difference"])
    best = likely.loc[gains.idxmax()]
    metric, pooled = str(best["metric"]), "tasks" in best
    seeds = 2 if pooled else int(min(best["seeds"], best["baseline_seeds"]))
    between = interval(metric, best["low"], best["high"], seeds, difference=True)
    lead = shown(metric, abs(best["difference"]))
    point = joined(f"{axis_title(axis)} = {value}" for axis, value in shown_point(frames.cells).items())
    methods, several = asked["method"].nunique(), f"{asked['method'].nunique()} such methods"
    if len(asked) > methods:
        tasks = f"{asked['task'].nunique()} tasks"
        several = f"{len(asked)} comparisons ({methods} methods on {tasks})" if methods > 1 else tasks
    return {
        "question": _question(frames, rows, baseline),
        "verdict": verdict,
        "asked": joined(map(frames.name, rows), "or") if len(rows) <= MOST_NAMED else f"one of {len(rows)} methods",
        "baseline": frames.name(baseline),
        "compared": several if len(asked) > 1 else "",
        "counts": _counted(asked["reading"]),
        "best": frames.name(best["method"]),
        "leads": is_better(metric, float(best["difference"])),
        "level": not lead.strip("0."),
        "lead": f"{lead} {'points' if is_share(metric) else metric_title(metric)}",
        "interval": "" if between == DASH or between.startswith("not") else between,
        "place": (f"on average over {best['tasks']} tasks" if pooled else f"on {frames.task(best['task'])}")
        + (f" with {point}" if point else ""),
        "needed": _needed(frames, best["method"]),
        "many": MOST_NAMED,
    }


def _question(frames: StudyFrames, rows: tuple[str, ...], baseline: str) -> str:
    methods = frames.study.methods
    if frames.study.params.analysis.primary:
        return "declared"
    if any(methods[row].layer_terms for row in rows):
        return "internal"
    return "declared" if methods[baseline].needs_teacher else "teacher"


def _needed(frames: StudyFrames, method: str) -> list[dict[str, Any]]:
    """Return, of every task on which a method's lead is open, the smallest lead that could be proved, and seeds."""
    own = frames.question
    own = own[(own["scope"] == SCOPES["new"]) & (own["method"] == method) & (own["reading"] == "undecided")]
    return [
        {
            "task": frames.task(line["task"]),
            "seeds": value_or_none(line["seeds_needed"]),
            # Half of the range: no method leads another by more, so a study that would need it can prove nothing.
            "smallest": shown(line["metric"], line["smallest"])
            if line["smallest"] < bounds_of(line["metric"], difference=True)[1] / 2
            else "",
        }
        for line in own.to_dict("records")
    ]


def verdict_of(new: list[str], same: list[str]) -> str:
    """Return which answer the readings on new examples, and those on this dev set, add up to."""
    if set(new) == {"one seed"}:
        return "one"
    if "better" in new:
        return "mixed" if "worse" in new else "yes"
    kinds = {"equal" if reading.startswith("equal") else reading for reading in new}
    if kinds in ({"worse"}, {"worse", "equal"}):
        return "worse" if kinds == {"worse"} else "none"
    if "better" in same and "worse" not in same:
        return "here"
    return "equal" if kinds == {"equal"} else "open"


def _counted(readings: Iterable[str]) -> str:
    """Return ``3 better, 1 worse, 3 undecided``."""
    words = [reading.split(" within")[0] for reading in readings]
    order = {name: name for name in ("better", "worse", "equal", "undecided")} | {"one seed": "with one seed"}
    return joined(f"{words.count(word)} {text}" for word, text in order.items() if word in words)

"""What the first lines of a report say: warnings, the answer, and what may explain it; values for the template."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from internal_kd.plan.study import Study
from internal_kd.report.cells import cells_of, primary_rows, shown_point
from internal_kd.report.figures import at_point, main_lines, measured_attention
from internal_kd.report.frames import read_frame, value_or_none
from internal_kd.report.layout import Layout
from internal_kd.report.tables import NEW, SAME
from internal_kd.report.words import (
    DASH,
    axis_title,
    bounds_of,
    interval,
    is_better,
    is_share,
    joined,
    metric_title,
    percent,
    shown,
)

if TYPE_CHECKING:
    import pandas as pd


# Methods and tasks that are named one by one, and a number of seeds that is still advice.
MOST_NAMED, MOST_SEEDS = 3, 100


@dataclass(frozen=True)
class Answer:
    """What the first sentences say.

    Attributes:
        question: chooses the first sentence: ``internal``, ``teacher`` or ``declared``.
        verdict: chooses the second.
        asked: the methods of a declared question.
        compared: what was compared, if it is several things; ``counts``: how they were read.
        best: the row that leads by most, or trails by least; ``leads``: whether it does.
        place: where it does: on a task, or over all of them.
        needed: what would decide an open question.
    """

    question: str
    verdict: str
    asked: str
    baseline: str
    compared: str
    counts: str
    best: str
    leads: bool
    level: bool
    lead: str
    interval: str
    place: str
    needed: str


class Findings:
    """What a study's frames say in words."""

    def __init__(self, study: Study, layout: Layout) -> None:
        self.study, self.layout = study, layout
        self.pooled = read_frame(study, "pooled")

    def name(self, method: str) -> str:
        """Return what people call a method: ``3.5 Stacked (SID)``."""
        found = self.study.methods[method]
        return f"{found.id} {found.title}"

    def warnings(self) -> list[dict[str, Any]]:
        """Return what a reader must know first; the same of several tasks is one warning."""
        kinds = dict(zip(self.layout.tasks["task"], self.layout.tasks["kind"], strict=True))
        order = ("one answer", "weak teacher", "collapsed", "majority")
        frame = read_frame(self.study, "warnings")
        # Scores differ between tasks, and so stand apart.
        apart = frame["task"].where(frame["kind"].isin(["weak teacher", "majority"]), "")
        found: list[dict[str, Any]] = []
        for _, own in frame.groupby([frame["method"], "kind", "seeds", apart], sort=False):
            line, seeds = own.iloc[0], str(own["seeds"].iloc[0]).split(", ")
            metric = self.layout.metrics[line["task"]]
            found.append(
                {
                    "row": self.layout.row(line),
                    "task": joined(self.layout.task(task) for task in dict.fromkeys(own["task"])),
                    "kind": line["kind"], "one": len(seeds) == 1, "classes": kinds[line["task"]] == "classes",
                    "who": f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {joined(seeds)}",
                    "value": shown(metric, line["value"]), "reference": shown(metric, line["reference"]),
                }
            )  # fmt: skip
        for warning in found:
            warning["text"] = _warning_text(warning)
        return sorted(found, key=lambda warning: order.index(warning["kind"]))

    def answer(self) -> Answer | None:
        """Return the study's answer: over all tasks where that can be said, else on the task with the largest lead."""
        rows, baseline = primary_rows(self.study)
        lines = self.question()
        if baseline is None or lines.empty:
            return None
        new, same = lines[lines["scope"] == NEW], lines[lines["scope"] == SAME]
        verdict = _verdict(list(new["reading"]), list(same["reading"]))
        asked = same if verdict == "here" else new
        decided = asked[asked["reading"] == "better"]
        # Points and other units do not compare: points go first.
        likely = decided if len(decided) else asked
        likely = likely[likely["metric"].map(is_share)] if likely["metric"].map(is_share).any() else likely
        gains = likely["difference"].where(likely["metric"].map(lambda m: is_better(m, 1.0)), -likely["difference"])
        best = likely.loc[gains.idxmax()]
        metric, is_pooled = str(best["metric"]), "tasks" in best
        seeds = 2 if is_pooled else int(min(best["seeds"], best["baseline_seeds"]))
        between = interval(metric, best["low"], best["high"], seeds, difference=True)
        lead = shown(metric, abs(best["difference"]))
        return Answer(
            question=self._question(rows, baseline),
            verdict=verdict,
            asked=joined(map(self.name, rows), "or") if len(rows) <= MOST_NAMED else f"one of {len(rows)} methods",
            baseline=self.name(baseline),
            compared=_compared(len(asked), asked["method"].nunique(), self.study.tasks),
            counts=_counted(asked["reading"]),
            best=self.name(best["method"]),
            leads=is_better(metric, float(best["difference"])),
            level=not lead.strip("0."),
            lead=f"{lead} {'points' if is_share(metric) else metric_title(metric)}",
            interval="" if between == DASH or between.startswith("not") else between,
            place=(f"on average over {best['tasks']} tasks" if is_pooled else f"on {self.layout.task(best['task'])}")
            + self._point(),
            needed=self._needed(best["method"]),
        )

    def _point(self) -> str:
        """Return which values of the varied keys the answer is about."""
        point = shown_point(cells_of(self.study))
        return f" with {joined(f'{axis_title(axis)} = {value}' for axis, value in point.items())}" if point else ""

    def _question(self, rows: tuple[str, ...], baseline: str) -> str:
        if self.study.params.analysis.primary:
            return "declared"
        if any(self.study.methods[row].layer_terms for row in rows):
            return "internal"
        return "declared" if self.study.methods[baseline].needs_teacher else "teacher"

    def question(self) -> pd.DataFrame:
        """Return the lines that answer the study's question at the shown point, with the columns of either table."""
        pooled = at_point(self.study, self.pooled)
        pooled = pooled[pooled["difference"].notna()]
        if len(pooled) and len(self.study.tasks) > 1:
            return pooled.assign(metric="accuracy")
        own = main_lines(self.study, "comparisons")
        return own[(own["family"] == "primary") & own["difference"].notna()]

    def _needed(self, method: str) -> str:
        """Return what would decide the best row's lead, task by task."""
        own = main_lines(self.study, "comparisons")
        own = own[(own["family"] == "primary") & (own["scope"] == NEW) & (own["method"] == method)]
        own = own[own["reading"] == "undecided"]
        # Half of the range: no method leads another by more, so a study that would need it can prove nothing.
        most = [bounds_of(metric, difference=True)[1] / 2 for metric in own["metric"]]
        provable = own[own["smallest"] < most]
        if len(own) > MOST_NAMED:
            if provable.empty:
                return "This study could prove no lead on any task."
            texts = [shown(line["metric"], line["smallest"]) for _, line in provable.iterrows()]
            least, largest = min(texts, key=float), max(texts, key=float)
            return f"The smallest lead that this study could prove is {least} to {largest}, depending on the task."
        return " ".join(self._needed_on(line, provable=place in provable.index) for place, line in own.iterrows())

    def _needed_on(self, line: pd.Series, *, provable: bool) -> str:
        task, seeds = self.layout.task(line["task"]), value_or_none(line["seeds_needed"])
        lead = f"The smallest lead that this study could prove on {task} is {shown(line['metric'], line['smallest'])}"
        found = lead if provable else f"This study could prove no lead on {task}"
        if seeds is None:
            return f"{found}; more seeds would not help."
        return f"{found}; about {seeds} seeds of each method would decide it." if seeds < MOST_SEEDS else f"{found}."

    def why(self) -> dict[str, dict[str, str]]:
        """Return, for each figure that may explain the answer, the row that stands out and its value."""
        found = {}
        distances = measured_attention(self.study, "attention_means")
        if distances["kl"].notna().any():
            found["attention"] = self._extreme(distances[distances["id"] != ""], "kl", lambda v: f"{v:.2f}", least=True)
        fidelity = self._students(main_lines(self.study, "fidelity"))
        found["agreement"] = self._extreme(fidelity, "agreement", percent)
        found["mistakes"] = self._extreme(fidelity, "repeated", percent)
        found["calibration"] = self._extreme(
            self._students(main_lines(self.study, "calibration")), "ece", lambda v: f"{100 * v:.1f}", least=True
        )
        return {name: value for name, value in found.items() if value}

    def _students(self, frame: pd.DataFrame) -> pd.DataFrame:
        judged = {cell.method.name for cell in cells_of(self.study) if cell.is_student}
        return frame[frame["method"].isin(judged)]

    def _extreme(self, frame: pd.DataFrame, column: str, text: Any, *, least: bool = False) -> dict[str, str]:
        """Return the row with the highest or lowest mean over tasks; nothing unless all values are known."""
        means = frame[frame[column].notna()].groupby("method", sort=False)[column].mean()
        if len(means) < 2:
            return {}
        method = means.idxmin() if least else means.idxmax()
        return {"row": self.name(method), "value": text(float(means[method]))}


def _verdict(new: list[str], same: list[str]) -> str:
    """Return which answer the readings on new examples, and those on this dev set, add up to."""
    if set(new) == {"one seed"}:
        return "one"
    if "better" in new:
        return "mixed" if "worse" in new else "yes"
    if set(new) == {"worse"}:
        return "no"
    if "better" in same and "worse" not in same:
        return "here"
    return "equal" if all(reading.startswith("equal") for reading in new) else "open"


def _compared(comparisons: int, rows: int, tasks: Collection[str]) -> str:
    """Return what the counts are of; nothing for a single comparison."""
    if comparisons == rows:
        return f"{rows} such methods" if rows > 1 else ""
    return f"{comparisons} tasks" if rows == 1 else f"{comparisons} comparisons ({rows} methods on {len(tasks)} tasks)"


def _counted(readings: pd.Series) -> str:
    """Return ``3 better, 1 worse, 3 undecided``."""
    words = readings.map(lambda reading: reading.split(" within")[0])
    order = {name: name for name in ("better", "worse", "equal", "undecided")} | {"one seed": "with one seed"}
    return joined(f"{(words == word).sum()} {text}" for word, text in order.items() if (words == word).any())


def _warning_text(warning: Mapping[str, Any]) -> str:
    """Return what follows the names of a row and a task."""
    floor = "the majority class" if warning["classes"] else "a constant"
    if warning["kind"] == "one answer":
        predicts = "predicts" if warning["one"] else "predict"
        return (
            f"collapsed: {warning['who']} {predicts} one {'class' if warning['classes'] else 'value'} for everything."
        )
    if warning["kind"] == "collapsed":
        return f"collapsed: {warning['who']} {'is' if warning['one'] else 'are'} no better than {floor}."
    constant = "majority" if warning["classes"] else "constant"
    scores = f"({warning['value']}, {constant} {warning['reference']})"
    if warning["kind"] == "weak teacher":
        return f"is a teacher no better than {floor} {scores}: students cannot learn the task from it."
    return f"is no better than {floor} {scores}."

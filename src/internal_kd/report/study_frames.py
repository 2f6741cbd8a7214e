"""A study's frames, each read once, and what figures, tables and page ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from internal_kd.params.resolve import row_label
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, at_shown_point, cells_of
from internal_kd.report.frames import read_frame, read_or_empty
from internal_kd.report.styles import Style, styles_of

if TYPE_CHECKING:
    import pandas as pd


class StudyFrames(dict[str, "pd.DataFrame"]):
    """A study's frames by name, each read when it is first asked for."""

    def __init__(self, study: Study, known: Mapping[str, pd.DataFrame] | None = None) -> None:
        super().__init__(known or {})
        self.study = study

    def __missing__(self, name: str) -> pd.DataFrame:
        optional = name == "latency" or name.startswith("attention")
        self[name] = (read_or_empty if optional else read_frame)(self.study, name)
        return self[name]

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The study's cells."""
        return cells_of(self.study)

    @cached_property
    def metrics(self) -> dict[str, str]:
        """The column of each task's main metric."""
        return dict(zip(self["tasks"]["task"], self["tasks"]["metric"], strict=True))

    @cached_property
    def titles(self) -> dict[str, str]:
        """The tasks' titles."""
        return dict(zip(self["tasks"]["task"], self["tasks"]["title"], strict=True))

    @cached_property
    def styles(self) -> dict[str, Style]:
        """How each row is drawn, by its number."""
        return styles_of(method.id for method in self.study.methods.values())

    def task(self, name: str) -> str:
        """Return a task's title."""
        return self.titles.get(name, name)

    def name(self, method: str) -> str:
        """Return what people call a method: ``3.5 Stacked (SID)``."""
        return self.study.methods[method].label

    def row(self, line: Mapping[str, Any]) -> str:
        """Return what people call a line's row."""
        method = self.study.methods.get(line["method"])
        return row_label(line["id"], method.title if method else line.get("title", line["method"]))

    def of_main(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the lines under each task's main metric, on its first dev set."""
        if "metric" in frame:
            frame = frame[frame["metric"] == frame["task"].map(self.metrics)]
        return frame[frame["split"] == "dev"] if "split" in frame else frame

    def shown(self, name: str) -> pd.DataFrame:
        """Return a table's lines under each task's main metric at the shown point."""
        return self.at_point(self.of_main(self[name]))

    def at_point(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the lines at the shown point, and those of methods with one point only."""
        shown = {cell.row for cell in at_shown_point(self.cells)}
        rows = frame[["method", *self.study.axes]].itertuples(index=False, name=None)
        return frame[[row in shown for row in rows]] if len(frame) else frame

    @cached_property
    def asked(self) -> pd.DataFrame:
        """The comparisons of the study's question at the shown point, in both scopes."""
        lines = self.shown("comparisons")
        return lines[lines["family"] == "primary"]

    @cached_property
    def question(self) -> pd.DataFrame:
        """Those that have a difference."""
        return self.asked[self.asked["difference"].notna()]

    @cached_property
    def answering(self) -> pd.DataFrame:
        """The lines that answer the study's question: leads over all tasks if they can be pooled, else on each task."""
        pooled = self.at_point(self["pooled"])
        pooled = pooled[pooled["difference"].notna()]
        return pooled.assign(metric="accuracy") if len(pooled) and len(self.study.tasks) > 1 else self.question

    def measured(self, name: str) -> pd.DataFrame:
        """Return an attention table's lines about runs of the study as it is now."""
        return self[name][self[name]["teacher_run"].isin(self.study.by_fingerprint)]

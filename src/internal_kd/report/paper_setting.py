"""Whether a study is in a paper's setting, and published scores next to ours.

Everything in which a study differs from a setting is listed, never averaged away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any, Literal, NamedTuple

from internal_kd.params.resolve import Method
from internal_kd.report.cells import Cell, point_text, value_of
from internal_kd.report.papers import Paper, Published, Row, read_papers, rows_of
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.report.words import joined
from internal_kd.tasks.glue import GLUE

Kind = Literal["task", "data", "encoder", "learner", "size", "training", "rows", "seeds"]
# Where one of these differs, a score of ours and a published one are of different things.
ELSEWHERE: tuple[Kind, ...] = ("task", "data", "encoder", "learner", "size")


class Difference(NamedTuple):
    """One thing in which a study is not in a paper's setting: its kind in a word, and what it would need."""

    kind: Kind
    needed: str


def papers_of(results: StudyResults) -> dict[str, Paper]:
    """Return the papers that a study names, or those with a claim about tasks and rows that it has."""
    asked = results.study.params.analysis.papers
    papers = read_papers(asked)
    return papers if asked is not None else {n: p for n, p in papers.items() if PaperSetting(results, p).is_about()}


class PaperSetting:
    """A study looked at from a paper's setting."""

    def __init__(self, results: StudyResults, paper: Paper) -> None:
        self.results, self.setting, self.claims = results, paper.setting, paper.claims

    def is_about(self) -> bool:
        """Whether the study has a task of the paper's and every row of a claim."""
        ours = {name for cell in self.results.cells for name in (cell.id, cell.method.name)}
        claims = [{row.row for rule in claim.rule for row in rows_of(rule)} for claim in self.claims]
        return bool(self.tasks()) and any(rows <= ours for rows in claims)

    def tasks(self, names: Iterable[str] = ()) -> dict[str, str]:
        """Return the study's tasks by the paper's names: by a GLUE task's own name, else by ours."""
        inputs = self.results.study.tasks
        # Another task that is only called like one of GLUE's is not it.
        own = {task.data.glue or name: name for name, task in inputs.items() if task.data.glue or name not in GLUE}
        return {name: own[name] for name in names or self.setting.tasks if name in own}

    def cell(self, task: str, row: Row, at: Mapping[str, Any]) -> Cell | None:
        """Return a row's cell on a task of the study: at the given point, by default at the paper's own values."""
        own = [cell for cell in self.results.cells if cell.task == task and row.row in (cell.id, cell.method.name)]
        asked = {**self._stated(own[0]), **at, **row.at} if own else {}
        point = {axis: point_text(v) for axis, v in asked.items() if axis in self.results.study.axes}
        found = [cell for cell in own if all(dict(cell.point)[axis] == value for axis, value in point.items())]
        return next(iter(found or (own if len(own) == 1 else [])), None)

    def has_one(self, cell: Cell) -> bool:
        """Whether the setting says that a row has one run, such as the teacher of all, and the study has one too."""
        return len(self._stated(cell).get("seeds", ())) == len(self.results.finished(cell)) == 1

    def differences(
        self,
        tasks: Sequence[str],
        rows: Sequence[Row],
        ats: Sequence[Mapping[str, Any]] = ({},),
        seeds: int | None = None,
    ) -> list[Difference]:
        """Return what keeps these rows on these tasks, at each of these points, from being in the paper's setting."""
        own = self.tasks(tasks)
        found = [Difference("task", f"task {name}") for name in tasks if name not in own]
        for name, task in own.items():
            sizes, sizes_here = self.setting.tasks[name], self.results.tasks[task].info.rows
            if any(sizes_here.get(split) != number for split, number in sizes.items()):
                listed = joined(f"{number:,} {split}" for split, number in sizes.items())
                found.append(Difference("data", f"all of {name} ({listed} examples)"))
        found += self._encoder_differences()
        needed = self.setting.seeds if seeds is None else seeds
        finished: list[tuple[int, int]] = []
        for row, at in ((row, {**at, **row.at}) for at in ats for row in rows):
            cells = [cell for task in own.values() if (cell := self.cell(task, row, at))]
            if len(cells) < len(own):
                found.append(Difference("rows", f"row {row.row}"))
            for cell in cells:
                found += self._method_differences(cell, at)
                here, stated = len(self.results.finished(cell)), self._stated(cell).get("seeds")
                finished.append((here, min(needed, len(stated)) if stated else needed))
                if here < len(cell.runs):
                    found.append(Difference("seeds", "every planned run"))
        short = [(here, asked) for here, asked in finished if here < asked]
        if short:
            found.append(
                Difference("seeds", f"{max(asked for _, asked in short)} seeds of every row (here {min(short)[0]})")
            )
        return list(dict.fromkeys(found))

    def _encoder_differences(self) -> list[Difference]:
        needed = self.setting.teacher_encoder_parameters
        teachers = [cell for cell in self.results.cells if not cell.is_student]
        sizes = {done.record.get("encoder_parameters") for cell in teachers for done in self.results.finished(cell)}
        if needed is None or sizes == {needed}:
            return []
        return [Difference("encoder", f"a teacher with {needed:,} encoder parameters")]

    def _stated(self, cell: Cell) -> dict[str, Any]:
        rows, general = self.setting.rows, self.setting.students if cell.is_student else self.setting.teacher
        return {**general, **rows.get(cell.id, {}), **rows.get(cell.method.name, {})}

    def _method_differences(self, cell: Cell, at: Mapping[str, Any]) -> list[Difference]:
        found = []
        for key, value in {**self._stated(cell), **(at if cell.is_student else {})}.items():
            ours = _value(cell.method, key)
            theirs = _terms(value) if key == "weights" else point_text(value)
            if _is_used(cell.method, key) and ours != theirs:
                kind: Kind = "learner" if key.startswith("learner") else "size" if key == "select.keep" else "training"
                found.append(Difference(kind, f"{cell.name} with {key.replace('_', ' ')} {theirs} (here {ours})"))
        return found


def _value(method: Method, key: str) -> str:
    return _terms(method.weights) if key == "weights" else point_text(value_of(method, key))


def _terms(names: Iterable[str]) -> str:
    return joined(sorted(names))


def _is_used(method: Method, key: str) -> bool:
    """Whether a setting has any effect on a method: a temperature without a term that has one has not."""
    if key == "layer_map":
        return bool(method.layer_terms)
    if key == "temperature":
        return any(key in objective.settings for objective in method.objectives.values())
    # Without a curriculum the output terms always count.
    return key != "classification" or method.settings.curriculum != "all"


# Published scores


def published_lines(results: StudyResults, papers: dict[str, Paper]) -> Lines:
    """Return published scores and ours; ours are left out where the two are of different things."""
    lines = []
    for name, paper in papers.items():
        setting = PaperSetting(results, paper)
        for entry in paper.published:
            for task, scores in entry.scores.items():
                if own := setting.tasks([task]):
                    lines += [_published(setting, name, entry, task, own[task], m, v) for m, v in scores.items()]
    return lines


def _published(
    setting: PaperSetting, name: str, entry: Published, task: str, own: str, metric: str, value: float
) -> dict[str, Any]:
    rows = [Row(row=row) for row in entry.rows]
    kinds = tuple(dict.fromkeys(d.kind for d in setting.differences([task], rows)))
    line: dict[str, Any] = {
        "paper": name, "system": entry.system, "status": entry.status, "source": entry.source, "task": own,
        "metric": "" if metric == "unstated" else metric, "rows": ", ".join(entry.rows), "published": value,
        "differs": ", ".join(kinds),
    }  # fmt: skip
    task_of_ours = setting.results.tasks[own]
    columns = [column for column in task_of_ours.info.columns if column.name == metric == column.metric]
    if not columns or any(kind in ELSEWHERE for kind in kinds):
        return line
    cells = [cell for row in rows if (cell := setting.cell(own, row, {}))]
    means = [mean for cell in cells if (mean := setting.results.mean(cell, columns[0])) and not isnan(mean.mean)]
    if means:
        best = max(means, key=lambda mean: mean.mean)
        line |= {"ours": best.mean, "std": best.std, "seeds": best.seeds}
    return line

"""Published scores beside ours; ours are left out where the two are of different things."""

from __future__ import annotations

from math import isnan
from typing import Any

from internal_kd.report.papers import ELSEWHERE, Case, Paper, Published
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.report.words import base_metric


def published_lines(results: StudyResults, papers: dict[str, Paper]) -> Lines:
    """Return published scores beside ours; ours are left out where the two are of different things."""
    lines = []
    for name, paper in papers.items():
        case = Case(results, paper)
        for entry in paper.published:
            for task, scores in entry.scores.items():
                if own := case.tasks([task]):
                    lines += [_published(case, name, entry, task, own[task], m, v) for m, v in scores.items()]
    return lines


def _published(
    case: Case, name: str, entry: Published, task: str, own: str, metric: str, value: float
) -> dict[str, Any]:
    kinds = tuple(dict.fromkeys(d.kind for d in case.differences([task], entry.rows, {})))
    line: dict[str, Any] = {
        "paper": name, "system": entry.system, "status": entry.status, "source": entry.source, "task": own,
        "metric": "" if metric == "unstated" else metric, "rows": ", ".join(entry.rows), "published": value,
        "differs": ", ".join(kinds),
    }  # fmt: skip
    columns = [c for c in case.results.evidence.tasks[own].scored if c.name == metric and base_metric(metric) == metric]
    if not columns or any(kind in ELSEWHERE for kind in kinds):
        return line
    cells = [cell for row in entry.rows if (cell := case.cell(own, row, {}))]
    means = [(cell, mean) for cell in cells if (mean := case.results.mean(cell, columns[0])) and not isnan(mean.mean)]
    if means:
        _, best = max(means, key=lambda one: one[1].mean)
        line |= {"ours": best.mean, "std": best.std, "seeds": best.seeds}
    return line

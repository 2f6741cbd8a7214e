"""Published scores beside ours; ours are left out where the two are of different things."""

from __future__ import annotations

from math import isnan
from typing import Any

from internal_kd.report.paper_setting import ELSEWHERE, PaperSetting
from internal_kd.report.papers import Paper, Published, Row
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import Lines


def published_lines(results: StudyResults, papers: dict[str, Paper]) -> Lines:
    """Return published scores beside ours; ours are left out where the two are of different things."""
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
    task_of_ours = setting.results.evidence.tasks[own]
    columns = [column for column in task_of_ours.info.columns if column.name == metric == column.metric]
    if not columns or any(kind in ELSEWHERE for kind in kinds):
        return line
    cells = [cell for row in rows if (cell := setting.cell(own, row, {}))]
    means = [mean for cell in cells if (mean := setting.results.mean(cell, columns[0])) and not isnan(mean.mean)]
    if means:
        best = max(means, key=lambda mean: mean.mean)
        line |= {"ours": best.mean, "std": best.std, "seeds": best.seeds}
    return line

"""The table of specialists: Tables 3 and 4 of Hinton et al. 2015, of every run that they teach."""

from __future__ import annotations

from typing import Any

import numpy as np

from internal_kd.plan.runs import Ensemble
from internal_kd.report.results import FinishedRun, StudyResults
from internal_kd.report.scoring import Lines
from internal_kd.statistics.p_values import mcnemar

Array = np.ndarray


def specialist_lines(results: StudyResults) -> Lines:
    """Return the table specialists: what the answers of generalist and specialists together get right of the dev set.

    ``coverage``: ``all`` examples; those whose class has so many specialists; or ``conditional``: of every specialist
    the examples of its classes, when it and the generalist choose among these.
    """
    lines = []
    for cell in results.cells:
        for done in results.finished(cell):
            members = [results.finished_runs.get(run.fingerprint) for run in done.run.teachers]
            found = [member for member in members if member]
            if _by_specialists(done) and len(found) == len(members):
                name = cell.columns() | {"seed": done.run.seed}
                lines += [name | line for line in _coverage(found, results.task(cell).labels())]
    return lines


def _by_specialists(done: FinishedRun) -> bool:
    return isinstance(done.run.answers, Ensemble) and done.run.answers.combine == "specialists"


def _coverage(members: list[FinishedRun], labels: Array) -> Lines:
    import torch

    from internal_kd.distillation.specialists import combined

    logits = [member.logits["dev"] for member in members]
    subsets: list[list[int]] = [member.record["subset"] for member in members[1:]]
    together = combined(torch.tensor(np.stack(logits)), [None, *subsets]).argmax(-1).numpy()
    before = logits[0].argmax(axis=1)
    covering = np.sum([np.isin(labels, subset) for subset in subsets], axis=0)
    lines = [_line("all", labels, before, together)]
    for count in np.unique(covering):
        of_them = covering == count
        lines.append(_line(str(count), labels[of_them], before[of_them], together[of_them]))
    gold, general, special = [], [], []
    for own, subset in zip(logits[1:], subsets, strict=True):
        of_them, classes = np.isin(labels, subset), np.asarray(subset)
        gold.append(labels[of_them])
        general.append(classes[logits[0][of_them][:, classes].argmax(axis=1)])
        special.append(classes[own[of_them][:, classes].argmax(axis=1)])
    return [*lines, _line("conditional", np.concatenate(gold), np.concatenate(general), np.concatenate(special))]


def _line(coverage: str, labels: Array, before: Array, after: Array) -> dict[str, Any]:
    was, became = before == labels, after == labels
    change = int(became.sum()) - int(was.sum())
    return {
        "coverage": coverage,
        "dev_examples": len(labels),
        "right_before": int(was.sum()),
        "right_after": int(became.sum()),
        "newly_right": int((became & ~was).sum()),
        "newly_wrong": int((was & ~became).sum()),
        "gain": 100 * change / max(1, len(labels)),
        "relative_gain": 100 * change / max(1, int(was.sum())),
        "p": mcnemar(labels, before, after)[0],
    }

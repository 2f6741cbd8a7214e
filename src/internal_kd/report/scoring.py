"""From evidence to the tables of scores: per run, per row, per class, per phenomenon, and what stands out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from internal_kd.plan.artefacts import Run
from internal_kd.plan.study import Study
from internal_kd.report.cells import Cell, cells_of, teacher_of
from internal_kd.report.evidence import Evidence, FinishedRun, Scored, TaskEvidence, read_evidence
from internal_kd.report.words import is_better
from internal_kd.statistics import Mean, mean_score
from internal_kd.tasks.metrics import METRICS, score

Array = np.ndarray
Lines = list[dict[str, Any]]

# Columns of a run's record that the tables of runs and scores repeat.
RECORDED = (
    "git_commit", "git_dirty", "device", "precision", "seconds", "peak_memory", "examples_per_second",
    "encoder_parameters", "total_parameters", "epochs", "started", "finished",
)  # fmt: skip
# Of the examples that teacher and student judge differently, those shown per row.
SHOWN_EXAMPLES = 8


@dataclass(frozen=True)
class Known:
    """A study with all that was read of it: what every table is computed from."""

    study: Study
    evidence: Evidence
    means: dict[tuple[Any, ...], Mean] = field(default_factory=dict)

    @classmethod
    def read(cls, study: Study) -> Known:
        """Read a study's runs."""
        return cls(study, read_evidence(study))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the study's tables."""
        return cells_of(self.study)

    def task(self, cell: Cell) -> TaskEvidence:
        """Return a cell's task."""
        return self.evidence.tasks[cell.task]

    def finished(self, cell: Cell) -> tuple[FinishedRun, ...]:
        """Return a cell's finished runs, one a seed."""
        return tuple(self.evidence.of(cell.runs))

    def predicted(self, cell: Cell, split: str = "dev") -> Array:
        """Return predictions of a cell's finished runs, (seeds, examples)."""
        return np.stack([run.predicted(split) for run in self.finished(cell)])

    def teacher_run(self, run: Run) -> FinishedRun | None:
        """Return the run that a student's answers come from; for one without a teacher, the first run that teaches."""
        runs = run.teachers or tuple(
            other for other in self.study.runs if other.task == run.task and other.teaches and other.answers is None
        )
        return next(self.evidence.of(runs), None)

    @cached_property
    def values(self) -> dict[tuple[str, str], float | None]:
        """Every finished run's score by fingerprint and column; None where the metric is not defined."""
        found: dict[tuple[str, str], float | None] = {}
        for run in self.evidence.finished.values():
            task = self.evidence.tasks[run.run.task]
            for name, metric, split in task.scored:
                value = score(task.labels(split), run.predicted(split), metric, _classes(task))
                found[run.run.fingerprint, name] = float(value) if np.isfinite(value) else None
        return found

    def scores(self, cell: Cell, name: str) -> list[float | None]:
        """Return a cell's scores, one a finished seed."""
        return [self.values[run.run.fingerprint, name] for run in self.finished(cell)]

    def mean(self, cell: Cell, column: Scored) -> Mean | None:
        """Return a cell's mean score under a column, with its error; None without a finished run."""
        key = (cell.key, column.name)
        if key not in self.means and self.finished(cell):
            task = self.task(cell)
            labels, predicted = task.labels(column.split), self.predicted(cell, column.split)
            self.means[key] = mean_score(labels, predicted, column.metric, classes=_classes(task))
        return self.means.get(key)

    def scored_cells(self) -> Iterator[tuple[Cell, Scored]]:
        """Yield every cell with every column of scores of its task, task by task, metric by metric."""
        for name, task in self.evidence.tasks.items():
            for column in task.scored:
                yield from ((cell, column) for cell in self.cells if cell.task == name)

    @cached_property
    def majority(self) -> dict[tuple[str, str], float | None]:
        """By task and column: the score of always predicting the dev set's most frequent class, or its mean."""
        found: dict[tuple[str, str], float | None] = {}
        for task in self.evidence.tasks.values():
            for name, metric, split in task.scored if task.dev else ():
                labels = task.labels(split)
                constant = labels.mean() if task.info.kind == "values" else np.bincount(labels).argmax()
                value = score(labels, np.full(len(labels), constant), metric, _classes(task))
                # A constant has no correlation with anything.
                found[task.info.name, name] = float(value) if np.isfinite(value) else 0.0
        return found


def _classes(task: TaskEvidence) -> int | None:
    return len(task.info.labels) or None


def task_lines(known: Known) -> Lines:
    """Return the table of tasks."""
    return [
        {
            "task": name, "title": task.info.title, "kind": task.info.kind, "metric": task.scored[0].name,
            "labels": len(task.info.labels), "train": task.info.rows.get("train"), "dev": task.info.rows.get("dev"),
            "licence": task.info.licence, "source": task.info.source, "problem": task.problem,
        }
        for name, task in known.evidence.tasks.items()
    ]  # fmt: skip


def run_lines(known: Known) -> Lines:
    """Return the table of runs: one line per planned run."""
    lines = []
    for cell in known.cells:
        for run in cell.runs:
            done = known.evidence.finished.get(run.fingerprint)
            record = done.record if done else {}
            own = {name: record.get(name) for name in RECORDED}
            answers = None
            if done:
                predicted = done.predicted()
                answers = len(np.unique(predicted))
            more = {
                "fingerprint": run.fingerprint, "label": run.label, "seed": run.seed, "answers": answers,
                "problem": known.evidence.problems.get(run.fingerprint, ""), "majority": record.get("majority"),
            }  # fmt: skip
            lines.append(cell.columns() | own | more)
    return lines


def score_lines(known: Known) -> Lines:
    """Return the table of scores: one line per finished run and metric."""
    lines = []
    for cell, column in known.scored_cells():
        for done, value in zip(known.finished(cell), known.scores(cell, column.name), strict=True):
            held_out = (done.record.get("held_out") or {}).get(column.name)
            own = {name: done.record.get(name) for name in RECORDED}
            named = {"metric": column.name, "seed": done.run.seed, "value": value, "held_out": held_out}
            lines.append(cell.columns() | own | named | {"fingerprint": done.run.fingerprint})
    return lines


def main_lines(known: Known) -> Lines:
    """Return the main table: every planned row, also one without any run.

    A mean is missing if a finished seed has no defined value: leaving that seed out would flatter the method.
    """
    means = {(cell.key, column.name): _mean(known.scores(cell, column.name)) for cell, column in known.scored_cells()}
    lines = []
    for cell, column in known.scored_cells():
        values, mean = known.scores(cell, column.name), means[cell.key, column.name]
        teacher = teacher_of(cell, known.cells)
        of_teacher = means[teacher.key, column.name] if teacher else None
        share, std = score_share(mean, of_teacher, column.metric), _std(values)
        with_error = known.mean(cell, column) if mean is not None else None
        records = [done.record for done in known.finished(cell)]
        lines.append(
            {
                **cell.columns(), "metric": column.name, "seeds": len(values), "planned": len(cell.runs), "mean": mean,
                "std": std, "low": with_error and with_error.low, "high": with_error and with_error.high,
                "teacher_share": share,
                "teacher_share_std": std * share / mean if std is not None and share and mean else None,
                "majority": known.majority.get((cell.task, column.name)),
                "encoder_parameters": records[0].get("encoder_parameters") if records else None,
                "total_parameters": records[0].get("total_parameters") if records else None,
                "training_seconds": _median([record.get("seconds") for record in records]),
            }
        )  # fmt: skip
    return lines


def score_share(mean: float | None, of_teacher: float | None, metric: str) -> float | None:
    """Return a mean score divided by the teacher's; None for an error, and for a score at or below 0."""
    if mean is None or of_teacher is None or not METRICS[metric].higher_is_better or mean <= 0 or of_teacher <= 0:
        return None
    return mean / of_teacher


def best_lines(known: Known) -> Lines:
    """Return the expected best of k seeds (Dodge et al. 2019, "Show your work"), for rows with several."""
    lines = []
    for cell, column in known.scored_cells():
        values = known.scores(cell, column.name)
        if len(values) < 2 or _mean(values) is None:
            continue
        ordered = sorted((v for v in values if v is not None), reverse=not METRICS[column.metric].higher_is_better)
        below = np.arange(len(ordered) + 1) / len(ordered)
        for k in range(1, len(ordered) + 1):
            best = float(np.dot(np.diff(below**k), ordered))
            lines.append(cell.columns() | {"metric": column.name, "k": k, "value": best})
    return lines


def class_lines(known: Known) -> tuple[Lines, Lines]:
    """Return the scores per class, means over seeds, and the confusion matrices, counts over seeds."""
    scores: Lines = []
    confusion: Lines = []
    for cell in known.cells:
        task = known.task(cell)
        if task.info.kind != "classes" or not known.finished(cell):
            continue
        names, labels = task.info.labels, task.labels()
        counts = np.stack([_counts(labels, one, len(names)) for one in known.predicted(cell)])
        right, gold, said = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
        parts = {"precision": (right, said), "recall": (right, gold), "f1": (2 * right, gold + said)}
        shares = {name: np.divide(a, b, out=np.zeros(a.shape), where=b > 0).mean(0) for name, (a, b) in parts.items()}
        for k, label in enumerate(names):
            own = {name: float(values[k]) for name, values in shares.items()}
            common = {"label": label, "examples_of_class": int(gold[0, k]), "seeds": len(counts)}
            scores.append(cell.columns() | common | own)
            for j, other in enumerate(names):
                number = int(counts[:, k, j].sum())
                share = number / max(1, int(gold[:, k].sum()))
                confusion.append(cell.columns() | {"gold": label, "predicted": other, "count": number, "share": share})
    return scores, confusion


def _counts(labels: Array, predicted: Array, classes: int) -> Array:
    return np.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def phenomenon_lines(known: Known) -> Lines:
    """Return the accuracy per phenomenon of generated tasks."""
    lines = []
    for cell in known.cells:
        task = known.task(cell)
        if not known.finished(cell) or "phenomenon" not in task.dev["dev"]:
            continue
        right = known.predicted(cell) == task.labels()
        phenomena = task.dev["dev"]["phenomenon"].to_numpy(str)
        for phenomenon in dict.fromkeys(sorted(phenomena)):
            own = right[:, phenomena == phenomenon]
            values = own.mean(1).tolist()
            common = {"phenomenon": phenomenon, "dev_examples": own.shape[1], "seeds": len(values)}
            lines.append(cell.columns() | common | {"accuracy": _mean(values), "std": _std(values)})
    return lines


def disagreement_lines(known: Known) -> Lines:
    """Return dev examples that the teacher and most seeds of a row judge differently, one of them being right."""
    lines = []
    for cell in (cell for cell in known.cells if cell.is_student):
        task, teacher = known.task(cell), known.teacher_run(cell.runs[0])
        if task.info.kind != "classes" or not known.finished(cell) or teacher is None:
            continue
        labels, of_teacher, own = task.labels(), teacher.predicted(), known.predicted(cell)
        differing = (own != of_teacher).sum(0)
        usual = np.array([np.bincount(column).argmax() for column in own.T])
        decided = (usual != of_teacher) & ((of_teacher == labels) | (usual == labels))
        order = np.lexsort((task.dev["dev"]["idx"], -differing, of_teacher != labels))
        for at in [at for at in order if decided[at]][:SHOWN_EXAMPLES]:
            example, names = task.dev["dev"].iloc[at], task.info.labels
            lines.append(
                {
                    **cell.columns(), "idx": int(example["idx"]), "text_a": example.get("text_a", ""),
                    "text_b": example.get("text_b", ""), "gold": names[labels[at]], "teacher": names[of_teacher[at]],
                    "student": names[usual[at]], "seeds_differing": int(differing[at]), "seeds": len(own),
                }
            )  # fmt: skip
    return lines


def curve_lines(known: Known) -> Lines:
    """Return the histories: dev scores and layer terms, one line per run, epoch and quantity."""
    lines = []
    for cell in known.cells:
        wanted = (f"dev_{known.task(cell).info.metrics[0]}", *cell.method.weights)
        for done in known.finished(cell):
            for entry in done.history:
                for quantity in (name for name in wanted if isinstance(_term(entry, name), int | float)):
                    own = {"seed": done.run.seed, "epoch": entry.get("epoch"), "stage": entry.get("stage")}
                    lines.append(cell.columns() | own | {"quantity": quantity, "value": _term(entry, quantity)})
    return lines


def _term(entry: dict[str, Any], name: str) -> Any:
    terms = entry.get("terms")
    return terms.get(name, entry.get(name)) if isinstance(terms, dict) else entry.get(name)


def warning_lines(known: Known) -> Lines:
    """Return what the first lines of a report must say: collapsed seeds, one answer for everything, weak teachers.

    A seed has collapsed if it gives one answer to every example, or if it is no better than the majority class while
    the row's median is.
    """
    lines: Lines = []
    for cell in known.cells:
        name = known.task(cell).scored[0].name
        line = cell.columns() | {"reference": known.majority.get((cell.task, name))}
        done, values = known.finished(cell), known.scores(cell, name)
        constant = [run.run.seed for run in done if len(np.unique(run.predicted())) == 1]
        below = [
            run.run.seed
            for run, value in zip(done, values, strict=True)
            if run.run.seed not in constant and not _beats(known, cell.task, name, value)
        ]
        if constant:
            lines.append(line | {"kind": "one answer", "seeds": _listed(constant)})
        if below and (not cell.is_student or len(below) + len(constant) < len(done)):
            kind = "collapsed" if cell.is_student else "weak teacher"
            lines.append(line | {"kind": kind, "seeds": _listed(below), "value": _mean(values)})
        elif below:
            lines.append(line | {"kind": "majority", "seeds": _listed(below), "value": _mean(values)})
    return lines


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _beats(known: Known, task: str, name: str, value: float | None) -> bool:
    reference = known.majority.get((task, name))
    return value is not None and (reference is None or (value != reference and is_better(name, value - reference)))


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _std(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.std(known, ddof=1)) if len(known) > 1 and len(known) == len(values) else None


def _median(values: Sequence[Any]) -> float | None:
    known = [float(value) for value in values if isinstance(value, int | float)]
    return float(np.median(known)) if known else None

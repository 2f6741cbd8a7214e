"""From evidence to the tables of scores: per run, per row, per class, per phenomenon, and what stands out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from internal_kd.report.cells import teacher_of
from internal_kd.report.efficiency import cost_columns
from internal_kd.report.results import StudyResults
from internal_kd.report.words import is_better, joined, shown
from internal_kd.statistics import mean_over_seeds, std_over_seeds
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import METRICS
from internal_kd.tasks.tags import span_counts, types_of

Lines = list[dict[str, Any]]

# Columns of a run's record that the tables of runs and scores repeat.
RECORDED = (
    "git_commit", "git_dirty", "device", "precision", "seconds", "peak_memory", "examples_per_second",
    "encoder_parameters", "total_parameters", "epochs", "started", "finished",
)  # fmt: skip
# Of the examples that teacher and student judge differently, those shown per row.
SHOWN_EXAMPLES = 8


def task_lines(results: StudyResults) -> Lines:
    """Return the table of tasks."""
    return [
        {
            "task": name, "title": task.info.title, "kind": task.info.kind, "metric": task.info.columns[0].name,
            "labels": len(task.info.labels), "train": task.info.rows.get("train"), "dev": task.info.rows.get("dev"),
            "scored_on": task.info.scored_on, "licence": task.info.licence, "source": task.info.source,
            "problem": task.problem,
        }
        for name, task in results.tasks.items()
    ]  # fmt: skip


def run_lines(results: StudyResults) -> Lines:
    """Return the table of runs: one line per planned run."""
    lines = []
    for cell in results.cells:
        for run in cell.runs:
            done = results.finished_runs.get(run.fingerprint)
            record = done.record if done else {}
            own = {name: record.get(name) for name in RECORDED}
            more = {
                "fingerprint": run.fingerprint, "label": run.label, "seed": run.seed,
                "problem": results.problems.get(run.fingerprint, ""),
            }  # fmt: skip
            lines.append(own | cell.columns() | more)  # a varied key may be recorded too
    return lines


def score_lines(results: StudyResults) -> Lines:
    """Return the table of scores: one line per finished run and metric."""
    lines = []
    for cell, column in results.scored_cells():
        for done, value in zip(results.finished(cell), results.scores(cell, column.name), strict=True):
            held_out = (done.record.get("held_out") or {}).get(column.name)
            own = {name: done.record.get(name) for name in RECORDED}
            named = {"metric": column.name, "seed": done.run.seed, "value": value, "held_out": held_out}
            lines.append(own | cell.columns() | named | {"fingerprint": done.run.fingerprint})
    return lines


def main_lines(results: StudyResults) -> Lines:
    """Return the main table: every planned row, also one without any run.

    A mean is missing if a finished seed has no defined value: leaving that seed out would flatter the method.
    """
    means = {
        (cell.key, column.name): mean_over_seeds(results.scores(cell, column.name))
        for cell, column in results.scored_cells()
    }
    lines = []
    for cell, column in results.scored_cells():
        values, mean = results.scores(cell, column.name), means[cell.key, column.name]
        teacher = teacher_of(cell, results.cells)
        share = score_share(mean, means[teacher.key, column.name] if teacher else None, column.metric)
        with_error = results.mean(cell, column) if mean is not None else None
        lines.append(
            {
                **cell.columns(), "metric": column.name, "seeds": len(values), "planned": len(cell.runs), "mean": mean,
                "std": std_over_seeds(values), "low": with_error and with_error.low,
                "high": with_error and with_error.high, "teacher_share": share,
                "majority": results.majority.get((cell.task, column.name)),
                **cost_columns(results, cell, teacher, share),
            }
        )  # fmt: skip
    return lines


def score_share(mean: float | None, of_teacher: float | None, metric: str) -> float | None:
    """Return a mean score divided by the teacher's; None for an error, and for a score at or below 0."""
    if mean is None or of_teacher is None or not METRICS[metric].higher_is_better or mean <= 0 or of_teacher <= 0:
        return None
    return mean / of_teacher


def best_lines(results: StudyResults) -> Lines:
    """Return the expected best of k seeds (Dodge et al. 2019, "Show your work"), for rows with several."""
    lines = []
    for cell, column in results.scored_cells():
        values = results.scores(cell, column.name)
        if len(values) < 2 or mean_over_seeds(values) is None:
            continue
        ordered = sorted((v for v in values if v is not None), reverse=not METRICS[column.metric].higher_is_better)
        below = np.arange(len(ordered) + 1) / len(ordered)
        for k in range(1, len(ordered) + 1):
            best = float(np.dot(np.diff(below**k), ordered))
            lines.append(cell.columns() | {"metric": column.name, "k": k, "value": best})
    return lines


def class_lines(results: StudyResults) -> tuple[Lines, Lines]:
    """Return the scores per class or type of entity, means over seeds, and the confusion matrices of classes."""
    scores: Lines = []
    confusion: Lines = []
    for cell in results.cells:
        task = results.task(cell)
        if task.info.kind == "values" or not results.finished(cell):
            continue
        names, labels, predicted = task.info.labels, task.labels(), results.predicted(cell)
        if task.info.kind == "tags":
            sums = np.stack([span_counts(labels, one, len(names)).sum(0) for one in predicted])
            names, (right, said, gold) = types_of(names), np.split(sums, 3, axis=1)
        else:
            size = len(names)
            counts = np.stack([np.bincount(labels * size + one, minlength=size**2) for one in predicted])
            counts = counts.reshape(-1, size, size)
            right, gold, said = np.diagonal(counts, axis1=1, axis2=2), counts.sum(2), counts.sum(1)
            # Most pairs of many classes never occur.
            for k, j in np.argwhere(counts.sum(0)):
                number, of_class = int(counts[:, k, j].sum()), max(1, int(gold[:, k].sum()))
                own = {"gold": names[k], "predicted": names[j], "count": number, "share": number / of_class}
                confusion.append(cell.columns() | own)
        parts = {
            "class_precision": (right, said), "class_recall": (right, gold), "class_f1": (2 * right, gold + said)
        }  # fmt: skip
        shares = {name: np.divide(a, b, out=np.zeros(a.shape), where=b > 0).mean(0) for name, (a, b) in parts.items()}
        for k, label in enumerate(names):
            own = {name: float(values[k]) for name, values in shares.items()}
            common = {"label": label, "examples_of_class": int(gold[0, k]), "seeds": len(predicted)}
            scores.append(cell.columns() | common | own)
    return scores, confusion


def phenomenon_lines(results: StudyResults) -> Lines:
    """Return the accuracy per phenomenon of generated tasks."""
    lines = []
    for cell in results.cells:
        task = results.task(cell)
        if not results.finished(cell) or "phenomenon" not in task.dev["dev"]:
            continue
        right = results.predicted(cell) == task.labels()
        phenomena = task.dev["dev"]["phenomenon"].to_numpy(str)
        for phenomenon in dict.fromkeys(sorted(phenomena)):
            own = right[:, phenomena == phenomenon]
            values = own.mean(1).tolist()
            common = {"phenomenon": phenomenon, "dev_examples": own.shape[1], "seeds": len(values)}
            lines.append(cell.columns() | common | {"accuracy": mean_over_seeds(values), "std": std_over_seeds(values)})
    return lines


def disagreement_lines(results: StudyResults) -> Lines:
    """Return dev examples that the teacher and most seeds of a row judge differently, one of them being right."""
    lines = []
    for cell in (cell for cell in results.cells if cell.is_student):
        task, teacher = results.task(cell), results.teacher_run(cell.runs[0])
        if task.info.kind != "classes" or not task.info.texts or not results.finished(cell) or teacher is None:
            continue
        labels, of_teacher, own = task.labels(), teacher.predicted(), results.predicted(cell)
        differing = (own != of_teacher).sum(0)
        usual = np.array([np.bincount(column).argmax() for column in own.T])
        decided = (usual != of_teacher) & ((of_teacher == labels) | (usual == labels))
        order = np.lexsort((task.dev["dev"]["idx"], -differing, of_teacher != labels))
        for at in [at for at in order if decided[at]][:SHOWN_EXAMPLES]:
            example, names = task.dev["dev"].iloc[at], task.info.labels
            lines.append(
                {
                    **cell.columns(), "idx": int(example["idx"]), "text_a": example.get("text_a", ""),
                    "text_b": example.get("text_b", ""), "gold": names[labels[at]],
                    "teacher_answer": names[of_teacher[at]], "student_answer": names[usual[at]],
                    "seeds_differing": int(differing[at]), "seeds": len(own),
                }
            )  # fmt: skip
    return lines


def curve_lines(results: StudyResults) -> Lines:
    """Return the histories: dev scores and layer terms, one line per run, epoch and quantity."""
    lines = []
    for cell, done in results.each():
        wanted = (f"dev_{done.task.info.metrics[0]}", *cell.method.weights)
        for entry in done.history:
            for quantity in (name for name in wanted if isinstance(entry.get(name), int | float)):
                own = {"seed": done.run.seed, "epoch": entry.get("epoch"), "stage": entry.get("stage")}
                lines.append(cell.columns() | own | {"quantity": quantity, "value": entry[quantity]})
    return lines


def warning_lines(results: StudyResults) -> Lines:
    """Return what the first lines of a report must say: collapsed seeds, one answer for everything, weak teachers.

    A seed has collapsed if it gives one answer to every example, or if it is no better than the majority class while
    another seed of the row is.
    """
    lines: Lines = []
    listened = {teacher.fingerprint for run in results.study.runs for teacher in run.teachers}
    for cell in results.cells:
        task, kind = results.task(cell), KINDS[results.task(cell).info.kind]
        name, floor = task.info.columns[0].name, f"the {kind.constant}"
        runs = list(zip(results.finished(cell), results.scores(cell, name), strict=True))
        same = [run.run.seed for run, _ in runs if len(np.unique(kind.predicted(run.logits["dev"]))) == 1]
        below = [
            (run.run, value)
            for run, value in runs
            if run.run.seed not in same and not _beats(results, cell.task, name, value)
        ]
        teaching = [pair for pair in below if pair[0].fingerprint in listened and not cell.is_student]
        found = []
        if same:
            predict = "predicts" if len(same) == 1 else "predict"
            found.append(("one answer", same, f"collapsed: {_seeds(same)} {predict} one {kind.answer} for everything."))
        seeds, values = [run.seed for run, _ in teaching or below], [value for _, value in teaching or runs]
        constant = shown(name, results.majority.get((cell.task, name)))
        scores = f"({shown(name, mean_over_seeds(values))}, {kind.constant} {constant})"
        if teaching:
            text = f"is a teacher no better than {floor} {scores}: students cannot learn the task from it."
            found.append(("weak teacher", seeds, text))
        elif below and len(below) + len(same) < len(runs):
            text = f"collapsed: {_seeds(seeds)} {'is' if len(seeds) == 1 else 'are'} no better than {floor}."
            found.append(("collapsed", seeds, text))
        elif below:
            found.append(("majority", seeds, f"is no better than {floor} {scores}."))
        for about, of, text in found:
            lines.append(cell.columns() | {"kind": about, "seeds": ", ".join(map(str, of)), "text": text})
    return lines


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {joined(map(str, seeds))}"


def _beats(results: StudyResults, task: str, name: str, value: float | None) -> bool:
    reference = results.majority.get((task, name))
    return value is not None and (reference is None or (value != reference and is_better(name, value - reference)))

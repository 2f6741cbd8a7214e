"""What MLflow shows of a study: names, parameters, metrics and tags, made from its runs' own files alone."""

from __future__ import annotations

from dataclasses import dataclass

from internal_kd.errors import UserError
from internal_kd.plan.store import problem_with, read_record
from internal_kd.plan.study import Study
from internal_kd.report.cells import cells_of
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.metrics import METRICS
from internal_kd.tracking.names import MADE_BY, MAKER, experiment_name, identity_of
from internal_kd.tracking.runs import RunContent, TaskRuns, cell_content, cell_identity, finished_content, live_content
from internal_kd.tracking.view import views


@dataclass(frozen=True)
class MethodContent:
    """A row of a task's tables: its aggregates over seeds, None before the first is finished, and a run for each."""

    aggregate: RunContent | None
    seeds: tuple[RunContent, ...]


@dataclass(frozen=True)
class ExperimentContent:
    """A task of a study. ``planned`` names everything that belongs here, whether it is finished or not."""

    name: str
    tags: dict[str, str]
    methods: tuple[MethodContent, ...]
    planned: frozenset[str]


def content_of(study: Study) -> tuple[list[ExperimentContent], int, int]:
    """Return a study's tasks, how many of the runs shown are not finished, and how many have nothing to show.

    Finished runs are shown from their records, trainings at work from their progress.
    """
    cells, live, missing = cells_of(study), 0, 0
    experiments: list[ExperimentContent] = []
    for name in study.tasks:
        own = tuple(cell for cell in cells if cell.task == name)
        runs = [run for cell in own for run in cell.runs]
        records = {run.fingerprint: read_record(run) for run in runs if problem_with(run) is None}
        task = TaskRuns(study, name, _info_of(study, name), own, records)
        experiments.append(_experiment(task))
        shown = [seed for method in experiments[-1].methods for seed in method.seeds]
        live += sum(seed.is_live for seed in shown)
        missing += len(runs) - len(shown)
    return experiments, live, missing


def _info_of(study: Study, task: str) -> TaskInfo | None:
    from internal_kd.data.examples import read_task

    try:
        return read_task(study.tasks[task].data).info
    except UserError:  # runs may be pulled without data
        return None


def _experiment(task: TaskRuns) -> ExperimentContent:
    methods = []
    for cell in task.cells:
        done = tuple(finished_content(task, cell, run) for run in task.finished(cell))
        begun = tuple(live_content(task, cell, run) for run in cell.runs if run.fingerprint not in task.records)
        seeds = (*done, *(seed for seed in begun if seed is not None))
        if seeds:
            methods.append(MethodContent(cell_content(task, cell, done) if done else None, seeds))
    title = task.info.title if task.info else task.name
    layer_terms = dict.fromkeys(term for cell in task.cells for term in cell.method.layer_terms)
    metrics = [column.name for column in task.columns] or ["score"]
    lower_is_better = metrics[0] in METRICS and not METRICS[metrics[0]].higher_is_better
    tags = {
        "mlflow.note.content": f"{title} in the study {task.study.name}. Scores are on the dev set, means over seeds.",
        **views(metrics, list(layer_terms), ascending=lower_is_better),
        "mlflow.experiment.primaryMetric.name": metrics[0],
        MADE_BY: MAKER,
    }
    runs = [identity_of(run) for cell in task.cells for run in cell.runs]
    planned = frozenset([*map(cell_identity, task.cells), *runs])
    return ExperimentContent(experiment_name(task.study.name, task.name), tags, tuple(methods), planned)

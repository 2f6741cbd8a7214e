"""Publishing: after it, a study's experiments in MLflow show exactly its finished runs, however often it is done.

A run is recognised by its identity, and left alone where it shows what it should (its digest tells). What changed is
replaced: the new run is written first, the old one deleted when everything is there. What a study no longer wants
goes; what it wants and is not finished here stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.analysis.built import is_current, outputs_of
from internal_kd.errors import UserError
from internal_kd.files import sha256_file
from internal_kd.operations.tracking.content import ExperimentContent, RunContent, content_of
from internal_kd.operations.tracking.names import IDENTITY, LIVE, LOSS, experiment_name
from internal_kd.operations.tracking.store import (
    alone,
    experiment_id,
    log_points,
    made_here,
    open_store,
    patience,
    shown_uri,
    tracking_uri,
)
from internal_kd.operations.tracking.view import address
from internal_kd.study import Study

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DIGEST = "digest"
FILES = "files"
PARENT = "mlflow.parentRunId"
SHOWN_FILES = (".md", ".csv", ".png")
LOCK_SECONDS = 900.0


@dataclass
class Published:
    """What was done: numbers of runs, and the experiments' ids by name.

    ``unfinished`` counts the study's runs that have nothing to show.
    """

    uri: str
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    unfinished: int = 0
    files_are_current: bool = True
    experiments: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what was done and where to look, for people."""
        lines = [f"{self.uri}: {self.written} written, {self.unchanged} unchanged, {self.removed} removed"]
        if self.unfinished:
            lines.append(f"{self.unfinished} runs of the study are not complete here: not shown")
        if not self.files_are_current:
            lines.append("tables and figures are older than the runs: not shown; `internal-kd run` renews them")
        served = self.uri.startswith("http")
        if not served:
            lines.append(f"look: mlflow ui --backend-store-uri {self.uri}, then")
        base = self.uri.rstrip("/") if served else "http://127.0.0.1:5000"
        return lines + [f"  {name}: {address(base, number)}" for name, number in self.experiments.items()]


def publish_runs(study: Study) -> Published:
    """Show every complete run of a study in the MLflow store; may be repeated, and done by many at once.

    The store is MLFLOW_TRACKING_URI, else ``mlflow.db`` in the project root. Scores are computed from predictions.

    Raises:
        UserError: the store does not answer or takes nothing; whatever was written is completed the next time.
    """
    uri = tracking_uri()
    os.environ.update(patience(timeout=30, retries=1))
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    content = content_of(study)
    files = _files_of(study) if is_current(study) else None
    done = Published(shown_uri(uri), unfinished=content.unfinished, files_are_current=files is not None)
    try:
        client = open_store(uri, LOCK_SECONDS)
        with alone(uri, "publish", LOCK_SECONDS):
            for experiment in content.experiments:
                _publish(client, experiment, files, done)
            _clear_dropped(client, study, done)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason = shown_uri(" ".join(str(error).split()))[:200]
        raise UserError(
            f"MLflow at {done.uri} does not take the results ({reason}): start it or mend MLFLOW_TRACKING_URI, "
            "then run internal-kd publish-runs"
        ) from error
    return done


def _files_of(study: Study) -> dict[str, tuple[Path, ...]]:
    """Return the tables and figures to show, by their folder in MLflow."""
    found: dict[str, list[Path]] = {}
    for path in (path for paths in outputs_of(study).values() for path in paths):
        if path.suffix in SHOWN_FILES and path.is_file():
            found.setdefault(path.parent.name, []).append(path)
    return {folder: tuple(paths) for folder, paths in found.items()}


def _publish(
    client: MlflowClient,
    experiment: ExperimentContent,
    files: Mapping[str, tuple[Path, ...]] | None,
    done: Published,
) -> None:
    if not experiment.methods and client.get_experiment_by_name(experiment.name) is None:
        return
    shelf = _Shelf(client, experiment_id(client, experiment.name), done)
    for method in experiment.methods:
        seeds = [shelf.put(seed) for seed in method.seeds]
        parent = shelf.put(method.aggregate, files)
        shelf.gather(parent, seeds)
    shelf.clear(experiment.wanted)
    if not experiment.methods:
        return
    done.experiments[experiment.name] = shelf.experiment
    for name, value in experiment.tags.items():
        client.set_experiment_tag(shelf.experiment, name, value)


def _clear_dropped(client: MlflowClient, study: Study, done: Published) -> None:
    """Delete the runs of tasks that the study no longer has."""
    from mlflow.entities import ViewType

    prefix = experiment_name(study.name, "")
    wanted = {experiment_name(study.name, task) for task in study.tasks}
    for found in client.search_experiments(ViewType.ACTIVE_ONLY, filter_string=f"name LIKE '{prefix}%'"):
        # In LIKE the underscore of a name stands for any letter.
        if found.name.startswith(prefix) and found.name not in wanted:
            _Shelf(client, found.experiment_id, done).clear(frozenset())


@dataclass
class _Shelf:
    """The runs of one experiment that this project put there, by identity."""

    client: MlflowClient
    experiment: str
    done: Published
    known: dict[str, list[Run]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for run in made_here(self.client, self.experiment):
            self.known.setdefault(run.data.tags.get(IDENTITY, ""), []).append(run)

    def put(self, content: RunContent, files: Mapping[str, tuple[Path, ...]] | None = None) -> str:
        """Make sure that a run shows this content, and return its id."""
        there = self.known.get(content.identity, [])
        same = [
            run for run in there if run.data.tags.get(DIGEST) == content.digest and not _has_other_files(run, files)
        ]
        if same:
            chosen = same[0].info.run_id
            self.done.unchanged += 1
            self._attach(chosen, same[0].data.tags.get(FILES, ""), files)
        else:
            lived = next((run for run in there if self._is_beginning_of(run, content)), None)
            chosen = self._complete(lived, content) if lived else self._create(content)
            self._attach(chosen, "", files)
            self._finish(chosen, content)
            self.done.written += 1
        self.kept[content.identity] = chosen
        return chosen

    def gather(self, parent: str, seeds: Iterable[str]) -> None:
        """Put the runs of single seeds under their method's."""
        above = {run.info.run_id: run.data.tags.get(PARENT) for runs in self.known.values() for run in runs}
        for seed in seeds:
            if above.get(seed) != parent:
                self.client.set_tag(seed, PARENT, parent)

    def clear(self, wanted: frozenset[str]) -> None:
        """Delete what was replaced and what is no longer wanted; what is wanted and not finished here stays."""
        gone = {run.info.run_id: identity for identity, run in self._all() if self._has_to_go(identity, run, wanted)}
        for _, run in self._all():
            above = run.data.tags.get(PARENT, "")
            away = run.info.run_id not in gone and run.info.run_id not in self.kept.values()
            # A seed finished elsewhere moves to its method's new run: below a deleted one nobody would see it.
            if away and (parent := self.kept.get(gone.get(above, ""))):
                self.client.set_tag(run.info.run_id, PARENT, parent)
        for run_id in gone:
            self.client.delete_run(run_id)
            self.done.removed += 1

    def _all(self) -> Iterator[tuple[str, Run]]:
        return ((identity, run) for identity, runs in self.known.items() for run in runs)

    def _has_to_go(self, identity: str, run: Run, wanted: frozenset[str]) -> bool:
        replaced = identity in self.kept and run.info.run_id != self.kept[identity]
        return replaced or (identity not in wanted and run.info.status != "RUNNING")

    def _create(self, content: RunContent) -> str:
        run = self.client.create_run(
            self.experiment, start_time=content.started, tags=content.tags, run_name=content.name
        )
        self._log_params(run.info.run_id, content)
        log_points(self.client, run.info.run_id, content.metrics)
        return run.info.run_id

    def _is_beginning_of(self, run: Run, content: RunContent) -> bool:
        """Whether a live run shows a part of this very training: the same losses, only not all of them."""
        if LIVE not in run.data.tags:
            return False
        losses = {point.step: point.value for point in content.metrics if point.name == LOSS}
        told = self._losses(run)
        return bool(told) and all(losses.get(step) == value for step, value in told)

    def _complete(self, run: Run, content: RunContent) -> str:
        """Add what a live run lacks; its address stays the same for whoever is looking at it."""
        from mlflow.entities import RunTag

        run_id = run.info.run_id
        told = {step for step, _ in self._losses(run)}
        self.client.log_batch(run_id, tags=[RunTag(*item) for item in content.tags.items()])
        self._log_params(run_id, content)
        log_points(self.client, run_id, [point for point in content.metrics if point.step not in told])
        return run_id

    def _losses(self, run: Run) -> list[tuple[int, float]]:
        return [(point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, LOSS)]

    def _log_params(self, run_id: str, content: RunContent) -> None:
        from mlflow.entities import Param

        self.client.log_batch(run_id, params=[Param(*item) for item in content.params.items()])

    def _attach(self, run_id: str, attached: str, files: Mapping[str, tuple[Path, ...]] | None) -> None:
        if files is None or _described(files) == attached:
            return
        for folder, paths in files.items():
            for path in paths:
                self.client.log_artifact(run_id, str(path), folder)
        self.client.set_tag(run_id, FILES, _described(files))

    def _finish(self, run_id: str, content: RunContent) -> None:
        """Close a run; the digest comes last and says that everything is there."""
        self.client.set_terminated(run_id, "FINISHED", content.finished)
        if LIVE in self.client.get_run(run_id).data.tags:
            self.client.delete_tag(run_id, LIVE)
        self.client.set_tag(run_id, DIGEST, content.digest)


def _described(files: Mapping[str, tuple[Path, ...]]) -> str:
    return " ".join(f"{folder}/{p.name}:{sha256_file(p)[:8]}" for folder, paths in files.items() for p in paths)


def _has_other_files(run: Run, files: Mapping[str, tuple[Path, ...]] | None) -> bool:
    """Whether a run shows a file that there is no more: MLflow's clients cannot delete single files."""
    shown = {part.rpartition(":")[0] for part in run.data.tags.get(FILES, "").split()}
    return files is not None and not shown <= {f"{folder}/{p.name}" for folder, paths in files.items() for p in paths}

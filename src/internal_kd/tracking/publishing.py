"""Publishing: after it, a study's experiments in MLflow show exactly its runs, however often it is done.

A run is recognised by its identity, and left alone if it shows what it should (its digest tells). A changed one is
replaced: the new run is written first, the old one deleted when everything is there. A training that is at work is
shown from its progress, and completed in place when it has finished. What a study no longer plans is deleted; what it
plans and is not finished here stays as it is.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.errors import UserError
from internal_kd.plan.study import Study
from internal_kd.report.make import outputs, render
from internal_kd.report.words import count
from internal_kd.running.results import is_current
from internal_kd.tracking.content import ExperimentContent, content_of
from internal_kd.tracking.names import announce, experiment_name, links_of, remember_links, withdraw
from internal_kd.tracking.shelf import Shelf
from internal_kd.tracking.store import (
    alone,
    client_environment,
    experiment_id,
    follow_project,
    masked,
    open_store,
    shown_uri,
    tracking_uri,
)
from internal_kd.tracking.view import CURVES, address

if TYPE_CHECKING:
    from mlflow import MlflowClient

SHOWN_FILES = (".md", ".csv", ".png", ".html")
# Between two looks at the progress of trainings.
PAUSE = 15.0
FIRST_PORT = 5000


@dataclass
class Published:
    """What was done: numbers of runs, and the experiments' ids by name.

    Attributes:
        uri: the store, without secrets.
        live: runs that are shown and not finished.
        missing: runs of the study that have nothing to show.
    """

    uri: str
    written: int = 0
    unchanged: int = 0
    removed: int = 0
    live: int = 0
    missing: int = 0
    files_are_current: bool = True
    experiments: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return what was done and where to look, for people."""
        lines = [f"{self.uri}: {self.written} written, {self.unchanged} unchanged, {self.removed} removed"]
        if self.live:
            lines.append(f"not finished, shown as far as they are: {count(self.live, 'training')}")
        if self.missing:
            lines.append(f"not here, not shown: {count(self.missing, 'run')}")
        if not self.files_are_current:
            lines.append("tables and figures are older than the runs: not shown; `internal-kd report` makes them again")
        base = self._address
        if base is None:
            port = os.environ.get("MLFLOW_PORT") or _free_port()
            base = f"http://127.0.0.1:{port}"
            start = f"mlflow ui --workers 1 --port {port} --backend-store-uri {self.uri}"
            lines.append(f"to look, start `{start}` and open")
        for name, number in self.experiments.items():
            lines += [f"  {name}: {address(base, number)}", f"  {name}, curves: {address(base, number, CURVES)}"]
        return lines

    def links_for_report(self) -> dict[str, str]:
        """Return the address of every experiment's results; a store without a server is taken to be at MLflow's port.

        Nothing in it depends on which ports are free at the moment.
        """
        base = self._address or f"http://127.0.0.1:{os.environ.get('MLFLOW_PORT', FIRST_PORT)}"
        return {name: address(base, number) for name, number in self.experiments.items()}

    @property
    def _address(self) -> str | None:
        """The server's, None for a store that has none."""
        return self.uri.partition("?")[0].rstrip("/") if self.uri.startswith("http") else None


def publish_runs(study: Study, *, follow: bool = False, say: Callable[[str], object] = print) -> Published:
    """Show every complete run of a study, and every training at work, in the MLflow store.

    The store is MLFLOW_TRACKING_URI, else ``mlflow.db`` in the project root. It may be repeated, and done by many at
    once. Trainings never wait for it: it reads their files.

    Args:
        follow: go on until every run of the study is finished; a store that does not answer is tried again.
        say: takes what following has to report, one line at a time.

    Raises:
        UserError: the store does not answer or takes nothing; what was written is completed the next time.
    """
    if follow:
        return _follow(study, say)
    announce(study)
    done = _publish_once(study)
    withdraw(study)
    return done


def _follow(study: Study, say: Callable[[str], object]) -> Published:
    last = ""
    while True:
        began = time.monotonic()
        try:
            done = _publish_once(study)
        except UserError as error:
            line, finished = str(error), False
        else:
            line, finished = "\n".join(done.lines()[1:]), not (done.live or done.missing)
        if line != last:
            say(line)
            last = line
        if finished:
            withdraw(study)
            return done
        # Looking at a large study takes seconds of the processor that trainings could use.
        time.sleep(max(PAUSE, 10 * (time.monotonic() - began)))


def _publish_once(study: Study) -> Published:
    uri = tracking_uri()
    os.environ.update(client_environment(uri, timeout=30, retries=1))
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    experiments, live, missing = content_of(study)
    files = _files_of(study) if is_current(study) else None
    done = Published(shown_uri(uri), live=live, missing=missing, files_are_current=files is not None)
    try:
        client = open_store(uri)
        with alone(uri, "publish"):
            follow_project(client, uri, experiment_name(study.name, ""))
            _publish_study(client, study, experiments, files, done)
    except (MlflowException, SQLAlchemyError, OSError, ImportError) as error:
        reason = masked(" ".join(str(error).split()), uri)
        raise UserError(
            f"MLflow at {done.uri} does not take the results: start it or correct MLFLOW_TRACKING_URI, then run "
            f"`internal-kd publish-runs` ({reason})"
        ) from None
    return done


def _publish_study(
    client: MlflowClient,
    study: Study,
    experiments: Sequence[ExperimentContent],
    files: Mapping[str, tuple[Path, ...]] | None,
    done: Published,
) -> None:
    shown = [one for one in experiments if one.methods or client.get_experiment_by_name(one.name)]
    shelves = [Shelf(client, experiment_id(client, one.name)) for one in shown]
    done.experiments = {one.name: shelf.experiment for one, shelf in zip(shown, shelves, strict=True) if one.methods}
    # The report names the addresses, and is itself among the files that are shown.
    if remember_links(study, done.links_for_report()) and files is not None:
        render(study, links_of(study))
    for one, shelf in zip(shown, shelves, strict=True):
        _publish_experiment(shelf, one, files, done)
    _clear_dropped(client, study, done)


def _files_of(study: Study) -> dict[str, tuple[Path, ...]]:
    """Return tables, figures and report to show, by their folder in MLflow."""
    found: dict[str, list[Path]] = {}
    for path in (path for paths in outputs(study).values() for path in paths):
        if path.suffix in SHOWN_FILES and path.is_file():
            folder = "" if path.parent == study.folder else path.parent.name
            found.setdefault(folder, []).append(path)
    return {folder: tuple(paths) for folder, paths in found.items()}


def _publish_experiment(
    shelf: Shelf, experiment: ExperimentContent, files: Mapping[str, tuple[Path, ...]] | None, done: Published
) -> None:
    for method in experiment.methods:
        seeds = [shelf.put(seed) for seed in method.seeds]
        if method.aggregate is not None:
            shelf.gather(shelf.put(method.aggregate, files), seeds)
    done.removed += shelf.clear(experiment.planned)
    done.written += shelf.written
    done.unchanged += len(shelf.kept) - shelf.written
    for name, value in experiment.tags.items() if experiment.methods else ():
        shelf.client.set_experiment_tag(shelf.experiment, name, value)


def _clear_dropped(client: MlflowClient, study: Study, done: Published) -> None:
    """Delete the runs of tasks that the study no longer has."""
    from mlflow.entities import ViewType

    prefix = experiment_name(study.name, "")
    planned = {experiment_name(study.name, task) for task in study.tasks}
    for found in client.search_experiments(ViewType.ACTIVE_ONLY, filter_string=f"name LIKE '{prefix}%'"):
        # In LIKE the underscore of a name stands for any letter.
        if found.name.startswith(prefix) and found.name not in planned:
            done.removed += Shelf(client, found.experiment_id).clear(frozenset())


def _free_port() -> int:
    """Return the first port from 5000 on that nobody listens on, so that the printed command and links work."""
    for port in range(FIRST_PORT, FIRST_PORT + 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    return FIRST_PORT

"""Opening an MLflow store: one that may not exist yet, with others that come at the same moment, or that is away."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from internal_kd.errors import UserError
from internal_kd.files import sha256_text
from internal_kd.identity import WORK
from internal_kd.operations.tracking.names import MADE_BY, MAKER, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_URI = "sqlite:///mlflow.db"
BATCH = 900  # MLflow takes 1,000 metrics at once
# What the UI needs to know to show experiments as trainings, not as chats.
TRAINING_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database in the project root that ``mlflow ui`` opens there by itself."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def shown_uri(text: str) -> str:
    """Return an address, or a text with addresses in it, without passwords."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def patience(timeout: int, retries: int) -> dict[str, str]:
    """Return the environment that makes MLflow's client give up soon: by default one call may block for 4 minutes.

    What is set already stands. MLflow's reports on its own use are switched off.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }
    return {name: os.environ.get(name, value) for name, value in wanted.items()}


@contextmanager
def alone(uri: str, purpose: str, timeout: float) -> Iterator[None]:
    """Hold a lock on a store; it lies beside an SQLite database, else in work/, and dies with its owner.

    Raises:
        UserError: somebody else holds it for longer than ``timeout`` seconds.
    """
    from filelock import FileLock, Timeout

    match = re.fullmatch(r"sqlite:///([^?]+)(?:\?.*)?", uri)
    path = Path(f"{match[1]}.{purpose}.lock") if match else WORK / f"mlflow-{sha256_text(uri)[:8]}.{purpose}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(path, timeout=timeout):
            yield
    except Timeout:
        raise UserError(f"{path} is held by another process for {timeout:.0f} s: wait for it and try again") from None


def open_store(uri: str, timeout: float) -> MlflowClient:
    """Return a client of a store whose database exists; one process creates it, the others wait for that.

    Parallel first users of a missing database would drop each other's tables half-way.
    """
    from mlflow import MlflowClient

    with alone(uri, "create", timeout):
        client = MlflowClient(uri)  # lays the tables already
        client.search_experiments(max_results=1)
    return client


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; it is created, or taken back from the deleted ones, where need be."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name, tags=TRAINING_EXPERIMENT)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # somebody was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def log_points(client: MlflowClient, run_id: str, points: Sequence[Point]) -> None:
    """Log metrics in few calls; an epoch is never split over two, so whoever reads meanwhile finds whole ones."""
    from mlflow.entities import Metric

    waiting: list[Metric] = []
    by_step: dict[int, list[Metric]] = {}
    for point in points:
        by_step.setdefault(point.step, []).append(Metric(point.name, point.value, point.time, point.step))
    for metrics in by_step.values():
        if waiting and len(waiting) + len(metrics) > BATCH:
            client.log_batch(run_id, metrics=waiting)
            waiting = []
        waiting += metrics
    if waiting:
        client.log_batch(run_id, metrics=waiting)


def made_here(client: MlflowClient, experiment: str) -> list[Run]:
    """Return all runs of an experiment that this project put there, the oldest first."""
    found: list[Run] = []
    page: str | None = None
    while page != "":
        runs = client.search_runs([experiment], f"tags.{MADE_BY} = '{MAKER}'", max_results=1000, page_token=page)
        found += runs
        page = runs.token or ""
    return sorted(found, key=lambda run: (run.info.start_time, run.info.run_id))

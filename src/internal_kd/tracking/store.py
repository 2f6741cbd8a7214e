"""Opening an MLflow store: one that does not exist yet, that many use at once, that is down, or that was moved."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from internal_kd.checksums import sha256_text
from internal_kd.held import InUse, take
from internal_kd.plan.identity import WORK
from internal_kd.tracking.names import MADE_BY, MAKER, Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DEFAULT_URI = "sqlite:///mlflow.db"
LOCK_SECONDS = 900.0
BATCH = 900  # MLflow takes 1,000 metrics at once
# What the UI needs to show experiments as trainings, not as chats.
TRAINING_EXPERIMENT = {"mlflow.experimentKind": "custom_model_development"}
HIDDEN = "***"
SERVERS = ("http://", "https://")
# Where MLflow keeps artefacts for a store that is a file: in the folder that it is used from.
ARTEFACTS = "mlruns"


def tracking_uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the database in the project root that ``mlflow ui`` opens there by default."""
    return os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def shown_uri(uri: str) -> str:
    """Return an address without user, password and the values of its query.

    Example:
        >>> shown_uri("https://me:p/a@ss@host/x?token=1")
        'https://host/x?token=***'
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    address, mark, query = rest.rpartition("@")[2].partition("?")
    return f"{scheme}://{address}{mark}{re.sub('=[^&]*', f'={HIDDEN}', query)}"


def masked(text: str, uri: str) -> str:
    """Return a text, such as an error of MLflow's, without the secrets of an address or of the environment."""
    secrets = _secrets(uri)
    secrets |= {os.environ.get(name, "") for name in ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")}
    text = text.replace(uri, shown_uri(uri))
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(uri: str) -> set[str]:
    rest = uri.partition("://")[2]
    before, at, after = rest.rpartition("@")
    found = set(re.findall("=([^&]*)", after.partition("?")[2]) + re.findall("=([^&]*)", rest.partition("?")[2]))
    if at:
        password = before.partition(":")[2]
        found |= {before, password}
        # With such characters in it, others take parts of a password for a host, a port or a path, and print those.
        if re.search(r"[/?#@:]", password):
            found |= {part for part in re.split(r"\W+", password) if len(part) > 1}
    return found | {unquote(secret) for secret in found}


def without_password(uri: str) -> str:
    """Return an address for MLflow's client, which prints it: a server's goes without user and password."""
    if not uri.startswith(SERVERS):
        return uri
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def client_environment(uri: str, timeout: int, retries: int) -> dict[str, str]:
    """Return the environment that MLflow's client needs: it is to give up soon, and finds user and password there.

    By default one call may block for 4 minutes. What is set already stays. MLflow's reports on its own use are switched
    off.
    """
    preferred = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    user, at, _ = uri.partition("://")[2].rpartition("@")
    if uri.startswith(SERVERS) and at:
        name, _, password = user.partition(":")
        preferred |= {"MLFLOW_TRACKING_USERNAME": unquote(name), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return {name: os.environ.get(name, value) for name, value in preferred.items()}


@contextmanager
def alone(uri: str, purpose: str) -> Iterator[None]:
    """Hold a store's lock; it lies beside an SQLite database, else in work/, and is free when its holder has ended.

    Raises:
        InUse: another process holds it for longer than ``LOCK_SECONDS``.
    """
    database = database_of(uri)
    path = WORK / f"mlflow-{sha256_text(uri)[:8]}.{purpose}.lock"
    if database:
        path = database.with_name(f"{database.name}.{purpose}.lock")
    end = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            hold = take(path, {"what": f"internal-kd publish-runs ({purpose})"})
            break
        except InUse:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)
    try:
        yield
    finally:
        hold.release()


def database_of(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for any other store."""
    match = re.fullmatch(r"sqlite:///([^?]+)(?:\?.*)?", uri)
    return Path(match[1]) if match else None


def open_store(uri: str) -> MlflowClient:
    """Return a client of a store whose database exists; one process creates it, the others wait for that.

    Parallel first users of a missing database would drop each other's tables half-way.
    """
    from mlflow import MlflowClient

    with alone(uri, "create"):
        client = MlflowClient(without_password(uri))  # creates the tables already
        client.search_experiments(max_results=1)
    return client


def follow_project(client: MlflowClient, uri: str, prefix: str) -> None:
    """Point experiments at the artefacts of this folder if the project, with its database, was moved or copied.

    MLflow records absolute paths and cannot change them; only those of an SQLite store, of the experiments whose names
    begin with ``prefix``, and below a folder ``mlruns`` are changed.
    """
    database = database_of(uri)
    if database is None:
        return
    here = Path(ARTEFACTS).absolute()
    for experiment in client.search_experiments():
        place = Path(str(experiment.artifact_location).removeprefix("file://"))
        moved = place.is_absolute() and place.parent.name == ARTEFACTS and place.parent != here
        if not (experiment.name.startswith(prefix) and moved):
            continue
        # Without a scheme, as MLflow writes them.
        new = str(here / place.name)
        with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
            for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE experiment_id = ?",
                    (new, len(experiment.artifact_location) + 1, int(experiment.experiment_id)),
                )


def experiment_id(client: MlflowClient, name: str) -> str:
    """Return an experiment's id; it is created, or restored if it was deleted."""
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
    """Log metrics in few calls; an epoch is never split over two, so others see complete ones."""
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

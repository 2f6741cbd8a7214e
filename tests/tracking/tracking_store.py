"""An MLflow store of a test's own, and what it shows."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from internal_kd.plan.study import Study
from internal_kd.tracking.store import client_environment, made_here, tracking_uri
from trained_study import plan_trained

EXPERIMENT = "trained/judge"


def plan_small(**changes: Any) -> Study:
    """Plan one task of the trained study with three methods of two seeds each: six runs that are there."""
    study = {"tasks": ["judge"], "methods": ["teacher", "soft", "stacked"]} | changes.pop("study", {})
    return plan_trained(study=study, **changes)


def isolate(monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """Use a store and a patience of this test's own, whatever is set outside or by what is tested."""
    for name in client_environment("https://user:password@host", 1, 1):
        monkeypatch.setenv(name, "0")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)


@functools.cache
def _empty_database(folder: Path) -> Path:
    # MLflow takes seconds to create its tables: once is enough for all tests.
    client_of(f"sqlite:///{folder / 'empty.db'}").search_experiments()
    return folder / "empty.db"


def empty_store(folder: Path, temporary: Path) -> str:
    """Put an empty database into a folder and return its address; ``temporary`` is the tests' common folder."""
    shutil.copyfile(_empty_database(temporary), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


def client_of(uri: str | None = None) -> MlflowClient:
    """A client of a store, by default of the test's own."""
    return MlflowClient(uri or tracking_uri())


def runs_of(experiment: str = EXPERIMENT, uri: str | None = None) -> dict[str, Run]:
    """The active runs of an experiment by name; no name may be there twice."""
    client = client_of(uri)
    found = client.get_experiment_by_name(experiment)
    runs = made_here(client, found.experiment_id) if found else []
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs), sorted(run.info.run_name for run in runs)
    return by_name


def ids(runs: dict[str, Run]) -> dict[str, str]:
    """Run ids by name."""
    return {name: run.info.run_id for name, run in runs.items()}

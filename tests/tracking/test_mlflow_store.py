"""Addresses never show a secret, and only one process at a time creates or fills a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from internal_kd.held import InUse
from internal_kd.tracking import store
from internal_kd.tracking.store import alone, client_environment, database_of, masked, shown_uri, without_password


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://host:5000", "http://host:5000"),
        ("http://user:secret@host", "http://host"),
        ("http://user:pa/ss@host/x", "http://host/x"),
        ("http://user:pa@ss@host", "http://host"),
        ("postgresql://host/db?user=u&password=secret", "postgresql://host/db?user=***&password=***"),
        ("https://host/?token=secret", "https://host/?token=***"),
        ("mlruns", "mlruns"),
    ],
)
def test_an_address_is_shown_without_its_secrets(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


@pytest.mark.parametrize(
    ("uri", "secrets"),
    [
        ("http://user:secret@host", ["secret"]),
        ("http://user:pa/ss@host", ["pa/ss", "'pa'"]),
        ("http://user:p%40ss@host", ["p%40ss", "p@ss"]),
        ("postgresql://host/db?password=x@y", ["x@y"]),
        ("https://host/?token=key", ["key"]),
    ],
)
def test_an_error_that_quotes_an_address_or_parts_of_it_hides_the_secrets(uri: str, secrets: list[str]) -> None:
    text = f"cannot reach {uri}: parts {' '.join(secrets)}; {uri}/api/2.0"
    for secret in secrets:
        assert secret not in masked(text, uri)
    assert "cannot reach" in masked(text, uri)


def test_secrets_of_the_environment_are_hidden_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    assert masked("bad token t0ken", "http://host") == "bad token ***"


def test_a_lock_lies_beside_a_database_and_is_gone_afterwards(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.2)
    assert database_of("sqlite:///a/b.db?x=1") == Path("a/b.db") and database_of("http://host") is None
    with alone("sqlite:///mlflow.db", "publish"):
        assert Path("mlflow.db.publish.lock").is_file()
        with pytest.raises(InUse), alone("sqlite:///mlflow.db", "publish"):
            pass
        with alone("sqlite:///mlflow.db", "create"):
            pass
    assert not Path("mlflow.db.publish.lock").exists()
    with alone("http://user:secret@host", "publish"):
        assert [path.name for path in Path("work").iterdir()] and "secret" not in str(list(Path("work").iterdir()))


def test_what_is_set_already_is_more_patient_or_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "99")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    found = client_environment("sqlite:///mlflow.db", 3, 1)
    assert found["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "99" and found["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"


def test_a_client_that_prints_its_address_has_no_password_to_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    uri = "https://me:p%40ss/w@host:5000/mlflow?token=1"
    assert without_password(uri) == "https://host:5000/mlflow?token=1"
    found = client_environment(uri, 3, 1)
    assert (found["MLFLOW_TRACKING_USERNAME"], found["MLFLOW_TRACKING_PASSWORD"]) == ("me", "p@ss/w")
    assert (
        not {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} & client_environment("https://host", 3, 1).keys()
    )
    database = "postgresql://me:secret@host/mlflow"
    assert without_password(database) == database, "it is never printed, and has no other way in"

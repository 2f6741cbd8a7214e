"""Every test here has a copy of the trained study and an empty store."""

from __future__ import annotations

import pytest
import tracking_store

from trained_study import Trained, trained, trained_copy, trained_project

__all__ = ["trained", "trained_copy", "trained_project"]


@pytest.fixture
def store(trained_copy: Trained, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The trained study in the current directory, with an empty database in its root."""
    uri = tracking_store.empty_store(trained_copy.folder, tmp_path_factory.getbasetemp())
    tracking_store.isolate(monkeypatch, uri)
    return trained_copy

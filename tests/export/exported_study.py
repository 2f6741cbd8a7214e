"""An exported study, as the tests of this folder see it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from internal_kd.export.facts import ExportFacts
from internal_kd.export.folders import export_path
from internal_kd.plan.study import Study


@dataclass(frozen=True)
class Exported:
    """Where the exported study lies, the lines that were printed, and what its exports knew, by task."""

    folder: Path
    study: Study
    facts: dict[str, ExportFacts]
    lines: list[str]

    def record(self, task: str) -> dict[str, Any]:
        """Return a task's export.json."""
        return json.loads(export_path(self.study, task).read_text())

    def path(self, task: str, name: str = "model") -> Path:
        """Return a part of a task's export."""
        return export_path(self.study, task).parent / name

    def run(self, task: str) -> Any:
        """Return the exported run."""
        return self.study.by_fingerprint[self.record(task)["run"]["fingerprint"]]

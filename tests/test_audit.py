"""`make audit`: findings fail it, explained ones and a service out of reach do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tiny_study import ROOT

FOUND = {
    "dependencies": [
        {"name": "fine", "version": "1", "vulns": []},
        {"name": "weak", "version": "2", "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3"]}]},
    ]
}


def audit(folder: Path, says: str, *, errors: str = "", allowed: str = "") -> subprocess.CompletedProcess[str]:
    """The audit of a project with a pip-audit that says this."""
    (folder / ".ci").mkdir()
    (folder / ".ci/audit.py").write_bytes((ROOT / ".ci/audit.py").read_bytes())
    (folder / ".ci/audit-allowed.toml").write_text(allowed)
    (folder / "speak.py").write_text(f"import sys\nprint({says!r})\nprint({errors!r}, file=sys.stderr)\nsys.exit(1)\n")
    command = [sys.executable, str(folder / ".ci/audit.py"), sys.executable, str(folder / "speak.py")]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("values", "allowed", "code", "said"),
    [
        ({"dependencies": FOUND["dependencies"][:1]}, "", 0, "1 packages, 0 known weaknesses"),
        (FOUND, "", 1, "weak 2: PYSEC-1: fixed in 3; upgrade, or explain it in audit-allowed.toml"),
        (FOUND, "CVE-1 = 'only its server, which is never started'", 0, "allowed: only its server"),
        (FOUND, "CVE-1 = ''", 1, "1 not allowed"),
        (FOUND, "CVE-1 = 'x'\nCVE-2 = 'y'", 0, "CVE-2 in audit-allowed.toml is not found any more"),
    ],
)
def test_a_finding_without_a_reason_fails(
    tmp_path: Path, values: dict[str, Any], allowed: str, code: int, said: str
) -> None:
    done = audit(tmp_path, json.dumps(values), allowed=allowed)
    assert done.returncode == code and said in done.stdout, done.stderr


def test_a_service_out_of_reach_is_a_warning_and_any_other_failure_is_none(tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "broken").mkdir()
    away = audit(tmp_path / "away", "", errors="requests.exceptions.ConnectionError: Max retries exceeded")
    assert away.returncode == 0 and "WARNING: the advisory service cannot be reached" in away.stdout
    broken = audit(tmp_path / "broken", "", errors="the lock cannot be read")
    assert broken.returncode == 1 and "pip-audit failed: the lock cannot be read" in broken.stdout

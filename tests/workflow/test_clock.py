"""A clock that jumps gets in no study's way."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from internal_kd.study import Study
from tiny_study import complete_everything, planned_jobs, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("shift", [-20 * 365 * 86400, 20 * 365 * 86400], ids=["past", "future"])
def test_a_clock_that_jumps_trains_nothing_and_loses_nothing(study: Study, shift: int) -> None:
    complete_everything(study)
    missing = study.students[0]
    missing.marker.unlink()
    kept = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    for path in (path for path in Path().rglob("*") if path.is_file() and ".snakemake" not in path.parts):
        os.utime(path, (time.time() + shift, time.time() + shift))
    planned = planned_jobs(snakemake("--dry-run").stdout)
    assert planned["train_student"] == planned["score_runs"] == planned["render_report"] == 1
    missing.marker.write_text("")
    complete_everything(study)
    for path in (path for path in Path("results").rglob("*") if path.is_file()):
        os.utime(path, (time.time() + shift, time.time() + shift))
    assert planned_jobs(snakemake("--dry-run").stdout) == {}
    assert all(path.read_bytes() == content for path, content in kept.items() if path.suffix != ".html")

"""A complete study in miniature, really trained: killed on the way, finished, and then left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from internal_kd.running.project import at_work
from internal_kd.running.results import is_current
from internal_kd.running.status import look
from internal_kd.tracking.names import links_of
from tiny_study import OVERLAY, environment, make_encoder, plan_here, planned_jobs, snakemake, wait_until, write_overlay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMMAND = [sys.executable, "-m", "internal_kd.command_line", "run", "--cores", "2", "--overlay", OVERLAY]


def start(**streams: int) -> subprocess.Popen[str]:
    return subprocess.Popen(COMMAND, env=environment(), text=True, **streams)


def test_a_study_killed_on_the_way_is_finished_by_the_same_command_and_then_left_alone(project: Path) -> None:
    methods = ["teacher", "finetuned", "stacked"]
    write_overlay(project, study={"methods": methods, "seeds": [1]})
    make_encoder(project / "encoder")
    study = plan_here()

    # Killed with -9, group and all, once its first file is there: nobody tidies up.
    first = start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(study.tasks["judge"].data.marker.is_file)
    working = at_work()
    assert working and first.poll() is None
    os.killpg(working["group"], signal.SIGKILL)
    assert first.wait() == 128 + signal.SIGKILL
    assert list(Path(".snakemake/locks").iterdir())

    second = start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "the locks of a Snakemake that was killed are removed" in output
    assert "0 of 3 runs done" in output
    # Every finished run shows its score beside its teacher's.
    (line,) = (line for line in output.splitlines() if line.startswith("judge stacked L2 s1: "))
    assert ", teacher " in line
    assert f"report: {study.folder}/report.html" in output

    assert look(plan_here()).finished and is_current(plan_here()) and (study.folder / "report.html").is_file()
    page = (study.folder / "report.html").read_text()
    assert links_of(study) and all(link.replace("&", "&amp;") in page for link in links_of(study).values())
    assert at_work() is None
    listed = subprocess.run(
        [sys.executable, "-m", "internal_kd.command_line", "runs", "--overlay", OVERLAY, "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {run["state"] for run in json.loads(listed.stdout)} == {"complete"}

    stamps = {run.label: run.marker.stat().st_mtime_ns for run in study.runs}
    again = snakemake()
    assert "Nothing to be done" in again.stdout
    # A parameter changed and changed back costs nothing either.
    planned = planned_jobs(snakemake("--dry-run", "--config", "defaults={learning_rate: 0.001}").stdout)
    assert (planned["train_teacher"], planned["distill_labels"], planned["distill_internals"]) == (1, 1, 1)
    assert planned_jobs(snakemake("--dry-run").stdout) == {}
    assert {run.label: run.marker.stat().st_mtime_ns for run in study.runs} == stamps


def test_a_method_that_fails_for_good_is_a_named_gap_in_the_results_of_the_others(project: Path) -> None:
    write_overlay(
        project,
        study={"methods": ["teacher", "finetuned", "soft"], "seeds": [1, 2]},
        defaults={"epochs": 1, "warmup_share": 0.0},
        methods={"teacher": {"seeds": [1]}, "soft": {"learning_rate": 1e30}},
    )
    make_encoder(project / "encoder")
    study = plan_here()
    done = subprocess.run(COMMAND, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1, done.stdout
    assert "the loss is no longer a number" in done.stdout and not (study.folder / "report.html").exists()
    (line,) = (line for line in done.stdout.splitlines() if "internal-kd report" in line)
    assert line.startswith("2 of 5 runs are missing.")

    command = [sys.executable, "-m", "internal_kd.command_line", *line.split("internal-kd ")[-1].split()]
    made = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert is_current(plan_here())
    missing = (study.folder / "tables/missing.csv").read_text()
    assert all(run.fingerprint in missing for run in study.runs if run.method.name == "soft")
    assert (study.folder / "report.html").is_file()

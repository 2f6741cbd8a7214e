"""A whole study in miniature, really trained: killed on the way, finished, and then left alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from internal_kd.analysis.built import is_current
from internal_kd.operations.owners import owners
from internal_kd.operations.progress import look
from tiny_study import OVERLAY, environment, make_encoder, plan_here, planned_jobs, snakemake, wait_until, write_overlay

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

COMMAND = [sys.executable, "-m", "internal_kd.operations.cli", "run", "--cores", "2", "--configfile", OVERLAY]


def start(**streams: int) -> subprocess.Popen:
    return subprocess.Popen(COMMAND, env=environment(), text=True, **streams)


def test_a_study_killed_on_the_way_is_finished_by_the_same_command_and_then_left_alone(project: Path) -> None:
    write_overlay(project, study={"methods": ["finetuned", "stacked"], "seeds": [1]}, teacher={"seeds": [1]})
    make_encoder(project / "encoder")
    study = plan_here()

    # Killed with -9, group and all, once its first file is there: nobody tidies up.
    first = start(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(study.tasks["judge"].data.marker.is_file)
    (owner,) = owners()
    os.killpg(owner.pid, signal.SIGKILL)
    assert first.wait(timeout=60) == 128 + signal.SIGKILL
    assert list(Path(".snakemake/locks").iterdir())

    # While it works, a second one in the same folder is told so.
    second = start(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_until(lambda: any(owner.alive for owner in owners()))
    other = subprocess.run(COMMAND, env=environment(), capture_output=True, text=True)
    assert other.returncode == 1
    assert other.stderr.startswith("internal-kd: another `internal-kd run` is at work in this folder (process ")
    output, _ = second.communicate()
    assert second.returncode == 0, output
    assert "locks left by a Snakemake that was killed are cleared" in output
    assert "teachers 0 of 1 done, students 0 of 2 done" in output

    assert look(plan_here()).finished and (study.folder / "report.html").is_file()
    assert owners() == []
    stamps = {run.label: run.marker.stat().st_mtime_ns for run in study.runs}
    again = snakemake()
    assert "Nothing to be done" in again.stdout
    # A parameter changed and changed back costs nothing either.
    assert (
        planned_jobs(snakemake("--dry-run", "--config", "student={learning_rate: 0.001}").stdout)["train_student"] == 2
    )
    assert planned_jobs(snakemake("--dry-run").stdout) == {}
    assert {run.label: run.marker.stat().st_mtime_ns for run in study.runs} == stamps


def test_a_method_that_fails_for_good_is_a_named_gap_in_the_results_of_the_others(project: Path) -> None:
    write_overlay(
        project,
        study={"methods": ["finetuned", "soft"], "seeds": [1, 2]},
        teacher={"seeds": [1], "warmup_share": 0.0},
        student={"epochs": 1, "warmup_share": 0.0},
        methods={"soft": {"learning_rate": 1e30}},
    )
    make_encoder(project / "encoder")
    study = plan_here()
    done = subprocess.run(COMMAND, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 1, done.stdout
    assert "the loss is no longer a number" in done.stdout and not (study.folder / "report.html").exists()
    (line,) = (line for line in done.stdout.splitlines() if "internal-kd results" in line)
    assert line.startswith("2 of 5 runs are missing.")

    command = [sys.executable, "-m", "internal_kd.operations.cli", *line.split("internal-kd ")[-1].split()]
    made = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert is_current(plan_here())
    table = (study.folder / "tables/main.md").read_text()
    assert "2 of 5 runs are missing" in table and table.strip() in made.stdout
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert [row.count("– (0 of 2)") for row in rows if row.startswith(("| 1.0", "| 2.0", "| 3.0"))] == [0, 0, 1]
    report = (study.folder / "report.html").read_text()
    assert "2 of 5 runs are not in these tables" in report
    assert all(run.label in report for run in study.students if run.method.name == "soft")

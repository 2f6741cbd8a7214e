"""A study through a real SLURM of this machine: killed on the way, started again, and compared with a local one."""

from __future__ import annotations

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from one_machine import slurm, why_not

import tiny_study
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.running.project import at_work

REASON = why_not()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

RUN = [sys.executable, "-m", "internal_kd.command_line", "run", "--overlay", tiny_study.OVERLAY]
# No accounting, and no patience: the executor looks after a second, after 11 more, after 21 more.
HERE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5"]
ON_SLURM = [*RUN, "--workflow-profile", "profiles/slurm", *HERE]
ASKED = {"mem_mb": 2000, "runtime": 30, "threads": 1}
CHANGES = {
    "study": {"methods": ["teacher", "soft", "stacked"], "seeds": [1]},
    "tasks": {"judge": {"train": 256}},
    # Long enough to be met on the way.
    "defaults": {"epochs": 100},
    "machine": {
        kind: {**ASKED, "gpu": 0 if kind == "light" else 1} for kind in ("light", "teacher", "recording", "student")
    },
}


@dataclass(frozen=True)
class Job:
    """A job as SLURM remembers it."""

    number: str
    state: str
    rule: str


@dataclass(frozen=True)
class Story:
    """What happened: the study and its logs, SLURM's memory of the jobs, and the same study made without SLURM."""

    study: Study
    folder: Path
    local: Path
    jobs: tuple[Job, ...]
    killed: tuple[str, ...]
    output: str

    @property
    def students(self) -> list[Run]:
        """The runs that listen to the teacher."""
        return _students(self.study)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """Start a study through SLURM, kill its Snakemake when both students are in training, start it again."""
    top = Path(tempfile.mkdtemp(prefix="slurm-"))
    before = Path.cwd()
    try:
        local, folder = (_project(top / name) for name in ("local", "cluster"))
        (top / "slurm").mkdir()
        os.chdir(folder)
        study = tiny_study.plan_here()
        with slurm(top / "slurm") as client, _started([*RUN, "--cores", "2"], local) as alone:
            environment = tiny_study.environment() | client
            killed = _kill_on_the_way(study, environment)
            done = subprocess.run(ON_SLURM, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            jobs = _remembered(environment)
            assert alone.wait() == 0
        yield Story(study, folder, local, jobs, killed, done.stderr)
    finally:
        os.chdir(before)
        shutil.rmtree(top)


@contextmanager
def _started(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a study without SLURM while those that wait for SLURM do; it ends with the block."""
    environment = tiny_study.environment()
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def _project(folder: Path) -> Path:
    folder.mkdir()
    tiny_study.make_project(folder, **CHANGES)
    tiny_study.make_encoder(folder / "encoder")
    return folder


def _kill_on_the_way(study: Study, environment: dict[str, str]) -> tuple[str, ...]:
    """Start the study, kill -9 the master once both students are in training, return the numbers of their jobs."""
    master = subprocess.Popen(
        ON_SLURM, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        while not all(_steps_done(run.fingerprint) for run in _students(study)):
            assert master.poll() is None, "the students were not met in training"
            time.sleep(0.2)
    finally:
        if working := at_work():
            with suppress(ProcessLookupError):
                os.killpg(working["group"], signal.SIGKILL)
        master.wait()
    return tuple(job.number for job in _remembered(environment) if job.state == "RUNNING")


def _untimed(table: Path) -> list[dict[str, str]]:
    """Return a table's rows without what depends on the moment: seconds, and the share of two numbers of seconds."""
    with table.open() as handle:
        rows = list(csv.DictReader(handle))
    return [{k: v for k, v in row.items() if "seconds" not in k and k != "step_share"} for row in rows]


def _students(study: Study) -> list[Run]:
    return [run for run in study.runs if run.teachers]


def _steps_done(fingerprint: str) -> bool:
    try:
        text = Path(f"work/progress/{fingerprint}.json").read_text()
    except FileNotFoundError:
        return False
    found = re.search(r'"step": (\d+)', text)
    return found is not None and int(found[1]) > 1


def _remembered(environment: dict[str, str]) -> tuple[Job, ...]:
    command = ["squeue", "--noheader", "--states=all", "--format=%i|%T|%k"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return tuple(Job(*line.split("|", 2)) for line in done.stdout.splitlines())


def test_the_tables_and_every_prediction_are_those_of_a_local_study(story: Story) -> None:
    for file in (run.folder / "predictions.parquet" for run in story.study.runs):
        assert (story.folder / file).read_bytes() == (story.local / file).read_bytes(), file
    here, there = (_untimed(folder / story.study.folder / "tables/main.csv") for folder in (story.folder, story.local))
    assert here == there


def test_only_what_is_not_light_goes_through_the_queue(story: Story) -> None:
    rules = {"_".join(job.rule.split("_")[1:3]) for job in story.jobs}
    assert rules == {
        "encode_task", "train_teacher", "record_answers", "distill_labels", "distill_internals", "map_attention"
    }  # fmt: skip


def test_jobs_at_the_same_time_got_different_gpus(story: Story) -> None:
    given = set()
    for run in story.students:
        log = (story.folder / "work/logs" / run.folder.relative_to("results")).with_suffix(".log").read_text()
        given |= set(re.findall(r"SLURM has given GPU (\d+) to job", log))
    assert given == {"0", "1"}


def test_jobs_of_the_killed_snakemake_are_ended_before_a_new_one_submits(story: Story) -> None:
    assert len(story.killed) == 2
    assert "2 jobs of a Snakemake that was killed still in SLURM's queue, 2 running" in story.output
    states = {job.number: job.state for job in story.jobs}
    assert {states[number] for number in story.killed} <= {"FAILED", "CANCELLED"}


def test_every_run_was_finished_exactly_once_and_none_was_begun_again(story: Story) -> None:
    for run in story.study.runs:
        finished = [job for job in story.jobs if run.fingerprint in job.rule and job.state == "COMPLETED"]
        assert len(finished) == 1, run.label
    for run in story.students:
        log = (story.folder / "work/logs" / run.folder.relative_to("results")).with_suffix(".log").read_text()
        assert f"going on from work/checkpoints/{run.fingerprint}/step-" in log

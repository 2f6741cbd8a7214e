"""A project on a disk that cannot be written, such as a mirror: what only reads works, the rest is one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from disks import mount, remount, unmount
from internal_kd.operations import owners
from internal_kd.operations.cli import main
from internal_kd.steps.fetch_task import fetch_task
from internal_kd.study import Study
from tiny_study import OVERLAY, complete_everything, make_project, plan_here


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Study]:
    """A tiny study with all its files; no checksum of its encoder is remembered, and somebody's record is cut short."""
    mount(tmp_path)
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    study = plan_here()
    complete_everything(study)
    fetch_task(study.tasks["judge"].data)
    assert main(["score-runs", "--overlay", OVERLAY]) == 0
    Path("work/hashes.json").unlink()
    capsys.readouterr()
    owners.OWNERS.mkdir()
    (owners.OWNERS / "here-1.json").write_text("{")
    remount(tmp_path, "ro")
    yield study
    unmount(tmp_path)


def test_the_state_of_a_study_is_shown(read_only: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--overlay", OVERLAY]) == 0
    shown = capsys.readouterr()
    assert f"all {len(read_only.runs)} runs done" in shown.out and shown.err == ""


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["params", "--write"], "params.yaml"),
        (["score-runs"], "results/tiny/tables/built_from.json"),
        (["compare-runs"], "results/tiny/tables/claims.json"),
        (["measure-fidelity"], "results/tiny/tables/fidelity.json"),
        (["measure-latency"], "results/tiny/tables/built_from.json"),
    ],
)
def test_a_command_that_writes_is_one_line(
    read_only: Study, command: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--overlay", OVERLAY]) == 1
    assert capsys.readouterr().err == (
        f"internal-kd: {place} cannot be written (Read-only file system): make its folder writable and start again\n"
    )


def test_a_run_of_the_whole_is_one_line(read_only: Study, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--cores", "1", "--configfile", OVERLAY]) == 1
    assert capsys.readouterr().err.startswith("internal-kd: work/run.lock cannot be written (Read-only file system)")

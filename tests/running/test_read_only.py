"""A project on a disk that cannot be written, such as a mirror: what only reads works, the rest is one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from completed import complete_everything
from disks import mount, remount, unmount
from internal_kd.command_line import main
from internal_kd.plan.study import Study
from tiny_study import OVERLAY, make_project, plan_here


@pytest.fixture
def read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Study]:
    """A tiny study with all its files; no checksum of its encoder is remembered."""
    mount(tmp_path)
    monkeypatch.chdir(tmp_path)
    make_project(tmp_path)
    study = plan_here()
    complete_everything(study)
    Path("work/hashes.json").unlink()
    capsys.readouterr()
    remount(tmp_path, "ro")
    yield study
    unmount(tmp_path)


@pytest.mark.parametrize("command", ["status", "runs", "show", "params", "gc"])
def test_what_only_reads_works(read_only: Study, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    study = [] if command == "gc" else ["--overlay", OVERLAY]
    assert main([command, *study]) == 0
    shown = capsys.readouterr()
    assert shown.out and shown.err == ""


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["params", "--write"], "params.yaml"),
        (["evaluate"], "results/tiny/"),
        (["measure-latency"], "results/tiny/"),
        (["gc", "--delete"], ""),
        (["run", "--cores", "1"], "work/run.lock"),
    ],
)
def test_a_command_that_writes_is_one_line(
    read_only: Study, command: list[str], place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = [] if command[0] == "gc" else ["--overlay", OVERLAY]
    assert main([*command, *study]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"internal-kd: {place}") and error.count("\n") == 1
    assert "cannot be written (Read-only file system)" in error

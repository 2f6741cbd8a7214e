"""The memory that a step reports is its own, and it goes on with less where memory runs out."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from internal_kd.distillation import hardware
from internal_kd.distillation.hardware import choose_hardware, in_micro_batches, process_memory
from internal_kd.errors import UserError

MEGABYTE = 2**20
on_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the kernel keeps no such count")


@on_linux
def test_the_peak_is_that_of_the_step_and_not_of_what_was_before() -> None:
    np.ones(400 * MEGABYTE, np.uint8)
    before = process_memory()
    chosen = choose_hardware("fp32")
    assert process_memory() < before - 200 * MEGABYTE
    held = process_memory()
    np.ones(100 * MEGABYTE, np.uint8)
    assert 90 * MEGABYTE < process_memory() - held < 200 * MEGABYTE
    if chosen.device.type == "cpu":
        assert chosen.peak_memory() == process_memory()


@pytest.mark.parametrize("kept", [None, "Name:\tpython\nVmRSS:\t1 kB\n"])
def test_without_the_kernels_count_the_systems_own_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str | None
) -> None:
    monkeypatch.setattr(hardware, "OF_THIS_PROCESS", tmp_path / "self")
    monkeypatch.setattr(hardware.sys, "platform", "linux")
    if kept is not None:
        (tmp_path / "self").mkdir()
        (tmp_path / "self/status").write_text(kept)
    choose_hardware("fp32")
    assert process_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    assert process_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_out_of_memory_every_row_is_done_once_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    tried, done = [], []

    def work(rows: np.ndarray) -> None:
        tried.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError("as a GPU would say")
        done.extend(rows.tolist())

    in_micro_batches(np.arange(18)[::-1], 16, work)
    assert done == list(range(18))[::-1]
    assert tried == [16, 8, 4, 4, 4, 4, 2]
    assert capsys.readouterr().out.splitlines() == [
        "out of GPU memory: continuing with micro-batches of 8",
        "out of GPU memory: continuing with micro-batches of 4",
    ]


def test_memory_that_runs_out_with_one_row_is_one_line() -> None:
    def work(rows: np.ndarray) -> None:
        raise torch.OutOfMemoryError("as a GPU would say")

    with pytest.raises(UserError, match="max_length"):
        in_micro_batches(np.arange(3), 64, work)

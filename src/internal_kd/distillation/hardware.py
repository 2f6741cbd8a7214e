"""Which device a job computes on, in which precision, and how much of a batch at a time."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from internal_kd.errors import UserError

OF_THIS_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Hardware:
    """A device and the precision of its matrix products; weights and losses stay in fp32."""

    device: torch.device
    precision: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return bf16 autocast, or nothing in fp32."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def name(self) -> str:
        """What a reader of run.json wants to know: the GPU's name, or the CPU with its threads."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu, {torch.get_num_threads()} threads"

    def place(self, model: torch.nn.Module) -> None:
        """Move a model's weights to the device."""
        model.to(self.device)

    def peak_memory(self) -> int:
        """Return the most bytes held since the hardware was chosen: on the GPU where there is one, else here."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return process_memory()


def choose_hardware(precision: str) -> Hardware:
    """Take the GPU where there is one; ``auto`` precision is bf16 where the hardware computes it natively.

    Every step begins with it, so the peak of memory is that of the step alone.
    """
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    forget_process_memory()
    return Hardware(device, precision_on(device, precision))


def precision_on(device: torch.device, precision: str) -> str:
    """Return the precision a device computes in, ``auto`` resolved."""
    if precision != "auto":
        return precision
    return "bf16" if _native_bf16(device) else "fp32"


def process_memory() -> int:
    """Return the most bytes this process has held since ``forget_process_memory``, as the kernel counts pages.

    Off Linux since the process began, and there a child may begin with what its parent held.
    """
    try:
        lines = (OF_THIS_PROCESS / "status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        # Kilobytes, but bytes on macOS.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def forget_process_memory() -> None:
    """Let the peak begin anew at what the process holds now; kernels that do not know how keep the old one."""
    with contextlib.suppress(OSError):
        # 5: reset the peak resident set size (proc(5)).
        (OF_THIS_PROCESS / "clear_refs").write_text("5")


def in_micro_batches(rows: np.ndarray, size: int, work: Callable[[np.ndarray], object]) -> None:
    """Do ``work`` on ``rows``, so many at a time and in their order; out of GPU memory, on half as many from there on.

    Raises:
        UserError: memory runs out with one row.
    """
    done = 0
    while done < len(rows):
        chosen = rows[done : done + size]
        try:
            work(chosen)
        except torch.OutOfMemoryError:
            size = halved(len(chosen))
        else:
            done += len(chosen)
            continue
        # Outside the handler: the exception holds what was computed alive.
        torch.cuda.empty_cache()


def halved(micro_batch_size: int) -> int:
    """Return half of a micro-batch that did not fit into the GPU's memory, and say so.

    Raises:
        UserError: it was one example.
    """
    if micro_batch_size == 1:
        raise UserError("out of GPU memory with one example at a time: lower tokens.max_length") from None
    half = (micro_batch_size + 1) // 2
    print(f"out of GPU memory: continuing with micro-batches of {half}", flush=True)
    return half


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

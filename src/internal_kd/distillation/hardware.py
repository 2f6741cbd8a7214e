"""Which devices a job computes on, in which precision, and how much of a batch at a time."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internal_kd.errors import UserError

OF_THIS_PROCESS = Path("/proc/self")


@dataclass(frozen=True)
class Hardware:
    """A device and the precision of its matrix products; weights and losses stay in fp32.

    Attributes:
        precision: "fp32" or "bf16".
        rank, world: number of this process and how many train together, as `accelerate launch` started them.
    """

    device: torch.device
    precision: str = "fp32"
    rank: int = 0
    world: int = 1

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return bf16 autocast, or nothing in fp32."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    @property
    def name(self) -> str:
        """The GPU's name, or the CPU with its threads."""
        if self.device.type == "cuda":
            several = f"{self.world} x " if self.world > 1 else ""
            return several + torch.cuda.get_device_name(self.device)
        threads = torch.get_num_threads()
        return f"cpu, {threads} thread{'s' if threads > 1 else ''}"

    def place(self, module: torch.nn.Module) -> None:
        """Move a module's weights to the device."""
        module.to(self.device)

    def agree(self, module: torch.nn.Module) -> None:
        """Give all processes the weights of the first, where each computed its own and may have rounded otherwise."""
        for weight in module.state_dict().values() if self.world > 1 else ():
            torch.distributed.broadcast(weight, 0)

    def peak_memory(self) -> int:
        """Return the most bytes held since the hardware was chosen: on the GPU if there is one, else in memory."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        return process_memory()

    def gather(self, value: Any) -> list[Any]:
        """Return the plain values of all processes, in the order of their ranks."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(found, value)
        return found

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes; a parameter that has none anywhere keeps none."""
        if self.world == 1:
            return
        mine = torch.tensor([weight.grad is not None for weight in parameters], dtype=torch.uint8, device=self.device)
        torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX)
        pending = []
        for weight, used in zip(parameters, mine.tolist(), strict=True):
            if used:
                weight.grad = torch.zeros_like(weight) if weight.grad is None else weight.grad
                pending.append(torch.distributed.all_reduce(weight.grad, async_op=True))
        for work in pending:
            work.wait()


def choose_hardware(precision: str) -> Hardware:
    """Take the device that accelerate finds; ``auto`` precision is bf16 where the hardware computes it natively.

    Every step begins with it, so the peak of memory is that of the step alone.
    """
    from accelerate import PartialState

    state = PartialState()
    forget_process_memory()
    return Hardware(state.device, precision_on(state.device, precision), state.process_index, state.num_processes)


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
    """Reset the peak to what the process holds now; kernels that cannot do it keep the old one."""
    with contextlib.suppress(OSError):
        # 5: reset the peak resident set size (proc(5)).
        (OF_THIS_PROCESS / "clear_refs").write_text("5")


def in_micro_batches(rows: np.ndarray, size: int, work: Callable[[np.ndarray], object]) -> None:
    """Do ``work`` on ``size`` of ``rows`` at a time, in their order; out of GPU memory, on half as many from there on.

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
    """Return half of a micro-batch that did not fit into the GPU's memory, and print it.

    Raises:
        UserError: it was one example.
    """
    if micro_batch_size == 1:
        raise UserError("out of GPU memory with one example at a time: lower max_length") from None
    half = (micro_batch_size + 1) // 2
    print(f"out of GPU memory: continuing with micro-batches of {half}", flush=True)
    return half


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

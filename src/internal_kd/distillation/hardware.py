"""Which device a job computes on and in which precision."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch


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
        """Return the most memory held so far, in bytes: on the GPU where there is one, else of this process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def choose_hardware(precision: str) -> Hardware:
    """Take the GPU where there is one; ``auto`` precision is bf16 where the hardware computes it natively."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if precision == "auto":
        precision = "bf16" if _native_bf16(device) else "fp32"
    return Hardware(device, precision)


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())

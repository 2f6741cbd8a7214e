"""Checkpoints from which a training goes on bit for bit as if it had never stopped; no pickle, complete or absent.

A checkpoint is a folder of safetensors (weights, optimizer, projections) and JSON (where the training stands, and the
size and SHA-256 of the other files). It is written beside its place and, once the disk has all of it, renamed into it;
the one before is removed afterwards, so a process killed or a machine that loses its power at any moment leaves a
complete checkpoint behind. No random state is kept: the loop seeds every step.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from internal_kd.checksums import describe_files
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, replace_folder, staging_folder

PREFIX = "step-"
NAMED = re.compile(rf"{PREFIX}([0-9]+)")
STATE = "training.json"
TENSORS = ("model", "optimizer", "loss")


class StopRequest:
    """Remembers that SIGTERM or SIGINT came, so that the training stops after a complete step."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the two signals while the block runs; a second one ends the process at once."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone
            return
        before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: Any) -> None:
        self.signal = signal.Signals(number)
        signal.signal(number, signal.SIG_DFL)


class CheckpointFolder:
    """The checkpoints of one run; the newest complete one counts.

    The first checkpoint is due ``minutes`` after the start.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        self._folder, self._seconds = folder, minutes * 60
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the period has passed since the last checkpoint."""
        return time.monotonic() - self._last >= self._seconds

    def newest(self) -> Path | None:
        """Return the newest complete checkpoint, or None; damaged ones are passed over with a line each."""
        for path, step in sorted(self._named().items(), key=lambda named: named[1], reverse=True):
            if (problem := problem_with_checkpoint(path, step)) is None:
                return path
            print(f"{path} is passed over: {problem}", flush=True)
        return None

    def _named(self) -> dict[Path, int]:
        found = {path: NAMED.fullmatch(path.name) for path in self._folder.glob(f"{PREFIX}*")}
        return {path: int(match[1]) for path, match in found.items() if match}

    def write(self, step: int, tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]) -> None:
        """Write a checkpoint and remove those before it.

        Raises:
            UserError: the disk is full, the folder cannot be written, or a weight is not a number; the checkpoint
                before stays.
        """
        refuse_broken_weights(tensors["model"], step)
        target = self._folder / f"{PREFIX}{step}"
        before = self._named()
        with staging_folder(target) as staged:
            for name in TENSORS:
                kept = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors[name].items()}
                save_file(kept, staged / f"{name}.safetensors")
            files = describe_files(staged, [f"{name}.safetensors" for name in TENSORS])
            (staged / STATE).write_text(json.dumps({**state, "step": step, "files": files}), encoding="utf-8")
            replace_folder(staged, target)
        for old in before:
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove all checkpoints: the run is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def refuse_broken_weights(weights: Mapping[str, Tensor], step: int) -> None:
    """Check weights before they are kept or scored: the loss of a step is that of the weights before it.

    Raises:
        UserError: a weight is not a number, as after a gradient that was not.
    """
    if broken := next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None):
        raise UserError(
            f"the weights are no longer numbers after step {step} ({broken}): lower the learning rate, or set "
            "precision: fp32"
        )


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what ``training.json`` of a checkpoint holds.

    Raises:
        UserError: the file is missing or damaged.
    """
    return read_mapping(checkpoint / STATE, f"delete {checkpoint} and start again")


def read_tensors(checkpoint: Path, name: str) -> dict[str, Tensor]:
    """Return the tensors of one file of a checkpoint.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = checkpoint / f"{name}.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path} cannot be read ({error}): delete {checkpoint} and start again") from None


def problem_with_checkpoint(checkpoint: Path, step: int) -> str | None:
    """Return None for a complete checkpoint of that step, or what is wrong with it."""
    try:
        state = read_state(checkpoint)
        described = describe_files(checkpoint, [f"{name}.safetensors" for name in TENSORS])
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{Path(error.filename or checkpoint).name} cannot be read ({error.strerror})"
    recorded = state.get("files")
    for name, facts in described.items():
        if not isinstance(recorded, dict) or recorded.get(name) != facts:
            return f"{name} does not have its recorded checksum"
    return None if state.get("step") == step else f"it was written at step {state.get('step')}"


def tensors_of(network: nn.Module, optimizer: torch.optim.Optimizer, loss: nn.Module) -> dict[str, dict[str, Tensor]]:
    """Return everything of a training that is a tensor, by name of ``TENSORS``."""
    return {"model": network.state_dict(), "optimizer": optimizer_tensors(optimizer), "loss": loss.state_dict()}


def load_tensors(checkpoint: Path, network: nn.Module, optimizer: torch.optim.Optimizer, loss: nn.Module) -> None:
    """Put a checkpoint's tensors back into a training.

    Raises:
        UserError: a file is missing or damaged.
    """
    network.load_state_dict(read_tensors(checkpoint, "model"))
    loss.load_state_dict(read_tensors(checkpoint, "loss"))
    load_optimizer(optimizer, read_tensors(checkpoint, "optimizer"))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as flat tensors, named by the number of the parameter."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value)
        for number, state in states.items()
        for name, value in state.items()
        if value is not None
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put flat tensors back into an optimizer; its parameter groups stay as they are."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})

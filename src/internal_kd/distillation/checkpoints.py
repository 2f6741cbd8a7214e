"""Checkpoints from which a training goes on as if it had never stopped: bit for bit, without pickle, whole or absent.

A checkpoint is a folder of safetensors (weights, optimizer, random state) and JSON (where the training stands). It is
written beside its place and, once the disk holds all of it, renamed into it; the one before is removed afterwards, so
a process killed or a machine that loses its power at any moment leaves a whole checkpoint behind.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState

from internal_kd.errors import UserError
from internal_kd.files import read_mapping, replace_folder, staging_folder

PREFIX = "step-"
NAMED = re.compile(rf"{PREFIX}([0-9]+)")
STATE = "training.json"
TENSORS = ("model", "optimizer", "random")


class StopRequest:
    """Remembers that SIGTERM or SIGINT came, so that the training stops after a whole step."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self.signal: signal.Signals | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the two signals while the block runs; a second one ends the process at once."""
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
    """The checkpoints of one run, of which the newest counts."""

    def __init__(self, folder: Path, minutes: float) -> None:
        """``minutes``: the period; the first checkpoint is due that long after the start."""
        self._folder, self._seconds = folder, minutes * 60
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether the period has passed since the last checkpoint."""
        return time.monotonic() - self._last >= self._seconds

    def newest(self) -> Path | None:
        """Return the newest whole checkpoint, or None; one that is not whole is passed over with a line."""
        for path, step in sorted(self._named().items(), key=lambda named: named[1], reverse=True):
            if _is_whole(path, step):
                return path
            print(f"{path} is not whole: passing it over", flush=True)
        return None

    def _named(self) -> dict[Path, int]:
        found = {path: NAMED.fullmatch(path.name) for path in self._folder.glob(f"{PREFIX}*")}
        return {path: int(match[1]) for path, match in found.items() if match}

    def write(
        self,
        step: int,
        model: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        trainer_state: dict[str, Any],
    ) -> None:
        """Write a checkpoint and remove the ones before it; ``trainer_state`` is what Trainer itself reads.

        Raises:
            UserError: the disk is full, the folder cannot be written, or a weight is no number; the checkpoint before
                stays.
        """
        refuse_broken_weights(model, step)
        target = self._folder / f"{PREFIX}{step}"
        before = self._named()
        with staging_folder(target) as staged:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in model.items()},
                staged / "model.safetensors",
            )
            save_file(optimizer_tensors(optimizer), staged / "optimizer.safetensors")
            numbers, tensors = random_state()
            save_file(tensors, staged / "random.safetensors")
            (staged / TRAINER_STATE_NAME).write_text(json.dumps(trainer_state), encoding="utf-8")
            (staged / STATE).write_text(json.dumps({**state, "step": step, "random": numbers}), encoding="utf-8")
            replace_folder(staged, target)
        for old in before:
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove all checkpoints: the run is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def refuse_broken_weights(weights: dict[str, Tensor], step: int) -> None:
    """Look at weights before they are kept or judged: the loss of a step is that of the weights before it.

    Raises:
        UserError: a weight is no number, as after a gradient that was none.
    """
    if broken := next((name for name, tensor in weights.items() if not torch.isfinite(tensor).all()), None):
        raise UserError(
            f"the weights are no longer numbers after step {step} ({broken}): lower the learning rate, or set "
            "precision: fp32"
        )


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return what ``training.json`` of a checkpoint says.

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
        raise UserError(f"{path} cannot be read ({error}): delete {checkpoint.parent} and start again") from None


def _is_whole(checkpoint: Path, step: int) -> bool:
    """Whether every file of a checkpoint is there and can be read: a power failure may leave names without bytes."""
    try:
        state = read_state(checkpoint)
        TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
        for name in TENSORS:
            # Opening compares what the header says with the size of the file.
            with safe_open(checkpoint / f"{name}.safetensors", framework="pt"):
                pass
    except (UserError, OSError, ValueError, TypeError, RecursionError, SafetensorError):
        return False
    return state.get("step") == step and {"book", "micro_batch_size", "random"} <= state.keys()


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return an optimizer's state as flat tensors, named by the number of the parameter."""
    states = optimizer.state_dict()["state"]
    return {
        f"{number}.{name}": torch.as_tensor(value).detach().cpu().contiguous()
        for number, state in states.items()
        for name, value in state.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put flat tensors back into an optimizer; its parameter groups stay as they are."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})


def random_state() -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the state of every random number generator, as plain numbers and as tensors."""
    version, internal, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = cast(
        "tuple[str, np.ndarray, int, int, float]", np.random.get_state(legacy=True)
    )
    numbers = {
        "python": [version, list(internal), gauss],
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
    }
    tensors = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    return numbers, tensors


def restore_random_state(numbers: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Put the state of every random number generator back."""
    version, internal, gauss = numbers["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = numbers["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])

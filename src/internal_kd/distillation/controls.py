"""What a teacher's answers are replaced by to see which part of them teaches: the controls of `teacher.control`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import log_softmax

from internal_kd.distillation.answers import Answers
from internal_kd.distillation.batches import Batch, Examples
from internal_kd.distillation.hardware import Hardware
from internal_kd.errors import UserError
from internal_kd.learners.learner import LOGITS, Captured, Wanted

AT_ONCE = 512


def shuffled(logits: np.ndarray, labels: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """Return the answers permuted among the examples of the same label: as diverse, and of no single example.

    Example:
        >>> shuffled(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]), np.array([0, 0, 1]), 1.0, seed=4).tolist()
        [[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]]
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    found = logits.copy()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        found[members] = logits[rng.permutation(members)]
    return found


def uniform(logits: np.ndarray, labels: np.ndarray, temperature: float, seed: int) -> np.ndarray:
    """Return one answer for each label: so much on the label, the rest shared, that the mean entropy stays the same.

    The entropy is that of softmax(z / temperature), which a student is given. This is label smoothing whose strength is
    the teacher's.

    Example:
        >>> uniform(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 1]), 1.0, seed=1).round(3).tolist()
        [[-0.313, -1.313], [-1.313, -0.313]]
    """
    logs = log_softmax(logits.astype(np.float64) / temperature, axis=-1)
    others = logits.shape[1] - 1
    asked = float(-(np.exp(logs) * logs).sum(-1).mean())

    def entropy(gold: float) -> float:
        rest = (1 - gold) / others
        return -gold * np.log(gold) - (1 - gold) * np.log(rest)

    least, most = 1 / (others + 1), 1 - 1e-12
    gold = brentq(lambda share: entropy(share) - asked, least, most) if entropy(most) < asked < entropy(least) else most
    found = np.full(logits.shape, temperature * np.log((1 - gold) / others), dtype=logits.dtype)
    found[np.arange(len(labels)), labels] = temperature * np.log(gold)
    return found


# (logits (examples, classes), labels (examples,), temperature, seed) -> logits
CONTROLS: dict[str, Callable[[np.ndarray, np.ndarray, float, int], np.ndarray]] = {
    "shuffled": shuffled,
    "uniform": uniform,
}


class Controlled:
    """A teacher's answers, replaced by those of a control. They are read once, of all training examples."""

    def __init__(
        self,
        answers: Answers,
        control: str,
        examples: Examples,
        positions: np.ndarray,
        temperature: float,
        seed: int,
        hardware: Hardware,
    ) -> None:
        parts = np.array_split(positions, -(-len(positions) // AT_ONCE))
        read = [answers.answers(_on(hardware, examples.batch(part)), LOGITS)["logits", 0].cpu() for part in parts]
        logits = torch.cat(read).numpy()
        labels = np.asarray(examples.labels)[positions]
        # Examples without a label count as of the class that the teacher gives them.
        labels = np.where(labels < 0, logits.argmax(-1), labels)
        made = CONTROLS[control](logits, labels, temperature, seed)
        by_id = np.argsort(np.asarray(examples.idx)[positions])
        self._ids = np.asarray(examples.idx)[positions][by_id]
        self._logits, self._hardware = torch.from_numpy(made[by_id]), hardware

    def answers(self, batch: Batch, wanted: Wanted) -> Captured:
        """Return the replaced logits of a batch; a control has nothing else."""
        if wanted - LOGITS:
            raise UserError("teacher.control: replaces logits, and a term reads more of the teacher; leave it out")
        places = np.searchsorted(self._ids, batch["idx"].cpu().numpy())
        return {("logits", 0): self._logits[torch.from_numpy(places)].to(self._hardware.device)}


def _on(hardware: Hardware, batch: Batch) -> Batch:
    return {name: tensor if name == "idx" else tensor.to(hardware.device) for name, tensor in batch.items()}

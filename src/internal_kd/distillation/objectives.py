"""The registry of objectives: every term a method may weigh, and what it has to be given.

A new objective is one pure function in ``losses.py`` (or anywhere importable), one line here and one test. Importing
this module costs nothing: the functions are resolved when a training starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from internal_kd.errors import UserError

READABLE = {"layer": ("attention", "cls"), "output": ("logits", "labels")}


@dataclass(frozen=True)
class Objective:
    """One term of the training loss.

    ``level`` says where it applies: ``layer`` terms are summed over the matched layer pairs that the curriculum has
    reached, ``output`` terms belong to the classification loss. ``reads`` names what the function is given:

    - ``attention``: (student_log_probs, teacher_log_probs, attention_mask),
      (batch, heads, query, key) and (batch, length)
    - ``cls``: (student_cls, teacher_cls), (batch, width)
    - ``logits``: (student_logits, teacher_logits, temperature), (batch, classes)
    - ``labels``: (student_logits, labels)
    """

    level: Literal["layer", "output"]
    reads: Literal["attention", "cls", "logits", "labels"]
    function: str

    def __post_init__(self) -> None:
        """Refuse a term whose level never sees what it reads."""
        if self.reads not in READABLE[self.level]:
            raise UserError(
                f"objective {self.function}: a {self.level} term cannot read {self.reads!r}; it reads "
                f"{' or '.join(READABLE[self.level])}"
            )

    @property
    def needs_teacher(self) -> bool:
        """Whether the term compares with a teacher."""
        return self.reads != "labels"

    def resolve(self) -> Callable[..., Any]:
        """Import and return the function."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)


_LOSSES = "internal_kd.distillation.losses"

OBJECTIVES: dict[str, Objective] = {
    "hard": Objective("output", "labels", f"{_LOSSES}:hard_label_loss"),
    "soft": Objective("output", "logits", f"{_LOSSES}:soft_label_loss"),
    "attention_kl": Objective("layer", "attention", f"{_LOSSES}:attention_kl"),
    "cls_cosine": Objective("layer", "cls", f"{_LOSSES}:cls_cosine"),
}

"""internal-kd: distillation of encoders, done, compared and trusted.

The names below work in any notebook, on plain transformers models and arrays; the pipeline is `internal-kd --help`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from internal_kd.notebook import Distiller, student_of
    from internal_kd.statistics import compare, pool

__all__ = ["Distiller", "compare", "pool", "student_of"]

_HOMES = {
    "Distiller": "internal_kd.notebook",
    "compare": "internal_kd.statistics",
    "pool": "internal_kd.statistics",
    "student_of": "internal_kd.notebook",
}


def __getattr__(name: str) -> Any:
    # Imported when they are asked for: the command line imports this package too, and has to answer at once.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

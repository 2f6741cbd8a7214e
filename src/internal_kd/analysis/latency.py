"""Measured latencies as other tables and figures read them: tables/latency.csv, which ``measure_latency`` writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from internal_kd.analysis.built import tables_folder
from internal_kd.analysis.csv_files import Line, read_csv, write_csv
from internal_kd.study import Study

# Examples in a forward pass: one as it comes, and a batch.
ONE, BATCH = 1, 32


@dataclass(frozen=True)
class LatencyRow:
    """A forward pass of a model with so many layers, in milliseconds; the teacher's layers have the speed-up 1.

    ``tokens`` is the median length of the task's dev examples; ``low_ms`` and ``high_ms`` are quartiles over
    ``rounds``. The figures are those of ``machine``, and of no other.
    """

    task: str
    tokens: int
    layers: int
    batch: int
    rounds: int
    median_ms: float
    low_ms: float
    high_ms: float
    speed_up: float
    threads: int
    precision: str
    machine: str
    versions: str


LATENCY_COLUMNS = tuple(field.name for field in fields(LatencyRow))
# By task, layers and batch.
Latencies = Mapping[tuple[str, int, int], LatencyRow]


def latency_path(study: Study) -> Path:
    """``results/<study>/tables/latency.csv``."""
    return tables_folder(study) / "latency.csv"


def write_latencies(study: Study, rows: Iterable[LatencyRow]) -> Path:
    """Write latency.csv; returns its path."""
    write_csv(latency_path(study), LATENCY_COLUMNS, (astuple(row) for row in rows))
    return latency_path(study)


def read_latencies(study: Study) -> dict[tuple[str, int, int], LatencyRow]:
    """Read latency.csv back; nothing where nothing was measured.

    Raises:
        UserError: the file is not whole.
    """
    path = latency_path(study)
    if not path.is_file():
        return {}
    numbers: dict[str, Callable[[str], Any]] = {
        "tokens": int,
        "layers": int,
        "batch": int,
        "rounds": int,
        "threads": int,
    } | dict.fromkeys(("median_ms", "low_ms", "high_ms", "speed_up"), float)

    def build(lines: Iterable[Line]) -> list[LatencyRow]:
        return [LatencyRow(**{name: numbers.get(name, str)(text) for name, text in line.items()}) for line in lines]

    rows = read_csv(path, "measure-latency", build)
    return {(row.task, row.layers, row.batch): row for row in rows}

"""What a student saves against what it loses: the distillation score of every cell, beside the main table.

    DS = alpha * size_student / size_teacher + (1 - alpha) * (1 - score_student / score_teacher)

Alkhulaifi, Alsahli and Ahmad 2021, "Knowledge distillation in deep learning and its applications", PeerJ Computer
Science. Lower is better: 0 is a student without size that scores like its teacher, the teacher itself has alpha, and a
student that outscores its teacher by more than it weighs has less than nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from internal_kd.analysis.cells import TEACHER
from internal_kd.analysis.latency import BATCH, ONE, Latencies
from internal_kd.analysis.layout import depth_text, metric_title, millions, percent, size_text, value_text
from internal_kd.analysis.tables import MainRow, MainTable
from internal_kd.analysis.text_tables import TextTable


@dataclass(frozen=True)
class EfficiencyRow:
    """A cell's size and score as shares of its teacher's, and what both make together.

    ``distillation_score`` counts encoder and pooler, as the paper's tables do; the last column all parameters. None
    where the teacher is missing, or a share of its score says nothing (errors, and scores at or below chance's 0).
    Standard deviations are over the row's seeds, the teacher's mean taken as it is; that of both scores is the same.
    Latencies are medians in milliseconds for one example and for a batch, speed-ups against the teacher; None where
    nothing was measured.
    """

    task: str
    metric: str
    id: str
    method: str
    depth: int | None
    examples: str
    seeds: int
    alpha: float
    encoder_share: float | None
    total_share: float | None
    teacher_share: float | None
    teacher_share_std: float | None
    distillation_score: float | None
    distillation_score_total: float | None
    distillation_score_std: float | None
    latency_ms: float | None
    speed_up: float | None
    latency_batch_ms: float | None
    speed_up_batch: float | None
    machine: str | None


EFFICIENCY_COLUMNS = tuple(field.name for field in fields(EfficiencyRow))


def distillation_score(size_share: float | None, score_share: float | None, alpha: float) -> float | None:
    """Return DS for a student's size and score as shares of its teacher's; None where one of them is."""
    if size_share is None or score_share is None:
        return None
    return alpha * size_share + (1 - alpha) * (1 - score_share)


def efficiency_rows(table: MainTable, alpha: float, latencies: Latencies) -> list[EfficiencyRow]:
    """Return one row per row of the main table; ``alpha`` is the weight of the size, from 0 to 1."""
    teachers = {(row.task, row.metric): row for row in table.rows if row.method == TEACHER}
    return [_row(row, teachers.get((row.task, row.metric)), alpha, latencies) for row in table.rows]


def _row(row: MainRow, teacher: MainRow | None, alpha: float, latencies: Latencies) -> EfficiencyRow:
    one, batch = (latencies.get((row.task, row.depth or 0, size)) for size in (ONE, BATCH))
    encoder = _share(row.encoder_parameters, teacher.encoder_parameters if teacher else None)
    total = _share(row.total_parameters, teacher.total_parameters if teacher else None)
    std, score = row.teacher_share_std, distillation_score(encoder, row.teacher_share, alpha)
    return EfficiencyRow(
        task=row.task,
        metric=row.metric,
        id=row.id,
        method=row.method,
        depth=row.depth,
        examples=row.examples,
        seeds=row.seeds,
        alpha=alpha,
        encoder_share=encoder,
        total_share=total,
        teacher_share=row.teacher_share,
        teacher_share_std=std,
        distillation_score=score,
        distillation_score_total=distillation_score(total, row.teacher_share, alpha),
        distillation_score_std=None if std is None or score is None else (1 - alpha) * std,
        latency_ms=one.median_ms if one else None,
        speed_up=one.speed_up if one else None,
        latency_batch_ms=batch.median_ms if batch else None,
        speed_up_batch=batch.speed_up if batch else None,
        machine=one.machine if one else None,
    )


def _share(size: int | None, of: int | None) -> float | None:
    return size / of if size is not None and of else None


def efficiency_text(table: MainTable, rows: Sequence[EfficiencyRow]) -> TextTable:
    """Return the rows of every task's first metric laid out."""
    main = {task: facts.scored[0][0] for task, facts in table.tasks.items()}
    parameters = {(row.task, row.metric, row.method, row.depth, row.examples): row for row in table.rows}
    measured = any(row.latency_ms is not None for row in rows)
    lines = []
    for row in (row for row in rows if row.metric == main[row.task]):
        of_main = parameters[(row.task, row.metric, row.method, row.depth, row.examples)]
        lines.append(
            (
                table.tasks[row.task].title,
                row.id,
                row.method + size_text(row.examples),
                depth_text(row.depth),
                millions(of_main.encoder_parameters),
                percent(row.encoder_share),
                f"{metric_title(row.metric)} {_score_text(of_main)}",
                percent(row.teacher_share, row.teacher_share_std),
                _distillation_text(row),
                *(_latency_texts(row) if measured else ()),
            )
        )
    header = (
        "task", "id", "method", "layers", "parameters", "of the teacher's", "score", "of the teacher's",
        "distillation score", *((f"ms for {ONE} / {BATCH}", "speed-up") if measured else ()),
    )  # fmt: skip
    return TextTable(header, tuple(lines), "lllrrrlrr" + ("rr" if measured else ""), _notes(rows))


def _score_text(row: MainRow) -> str:
    return f"{value_text(row)} ({row.seeds})" if row.seeds else "–"


def _distillation_text(row: EfficiencyRow) -> str:
    if row.distillation_score is None:
        return "–"
    spread = "" if row.distillation_score_std is None else f" ± {row.distillation_score_std:.3f}"
    return f"{row.distillation_score:.3f}{spread}"


def _latency_texts(row: EfficiencyRow) -> tuple[str, str]:
    if row.latency_ms is None or row.latency_batch_ms is None:
        return ("–", "–")
    return (f"{row.latency_ms:.1f} / {row.latency_batch_ms:.0f}", f"{row.speed_up:.2f}× / {row.speed_up_batch:.2f}×")


def _notes(rows: Sequence[EfficiencyRow]) -> tuple[str, ...]:
    alpha = rows[0].alpha if rows else 0.5
    machines = sorted({row.machine for row in rows if row.machine})
    timed = (
        f"Milliseconds: the median forward pass of {ONE} example / of a batch of {BATCH}, at the task's median dev "
        f"length, in fp32 on one thread of this machine: {'; '.join(machines)}. Another machine gives other figures; "
        "latency.csv has quartiles, rounds and versions.",
    )
    return (
        f"Distillation score: {alpha:g} × parameters as a share of the teacher's + {1 - alpha:g} × (1 - score as a "
        "share of the teacher's); lower is better (Alkhulaifi, Alsahli and Ahmad 2021). Parameters: encoder and "
        "pooler, without embeddings; efficiency.csv has every metric, and the score with embeddings. Mean ± sample "
        "standard deviation over a row's seeds (number of seeds), the teacher's mean taken as it is; of one seed no "
        "spread is known, and none of these says what other dev examples would give. A dash where a share says "
        "nothing: for an error, and for a score at or below 0.",
        *(timed if machines else ()),
    )

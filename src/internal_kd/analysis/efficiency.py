"""What a student saves against what it loses, and what its training took: every cell, beside the main table.

    DS = alpha * size_student / size_teacher + (1 - alpha) * (1 - score_student / score_teacher)

Alkhulaifi, Alsahli and Ahmad 2021, "Knowledge distillation in deep learning and its applications", PeerJ Computer
Science. Lower is better: 0 is a student without size that scores like its teacher, the teacher itself has alpha, and a
student that outscores its teacher by more than it weighs has less than nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from internal_kd.analysis.cells import TEACHER
from internal_kd.analysis.latency import BATCH, ONE, Latencies
from internal_kd.analysis.layout import depth_text, metric_title, millions, percent, size_text, value_text
from internal_kd.analysis.scores import Score
from internal_kd.analysis.tables import MainRow, MainTable
from internal_kd.analysis.text_tables import TextTable
from internal_kd.records import read_record


@dataclass(frozen=True)
class EfficiencyRow:
    """A cell's size and score as shares of its teacher's, and what both make together.

    ``distillation_score`` counts encoder and pooler, as the paper's tables do; ``total_share`` all parameters. None
    where the teacher is missing, or a share of its score says nothing (errors, and scores at or below chance's 0).
    Standard deviations are over the row's seeds, the teacher's mean taken as it is; that of both scores is the same.
    Latencies are medians in milliseconds for one example and for a batch, speed-ups against the teacher; None where
    nothing was measured. ``training_seconds`` is the median of what run.json records over finished seeds; None where
    no record has it, or where they are of several devices, whose times say nothing together. ``least`` and ``most``
    are None for a single seed.
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
    training_seconds: float | None
    training_seconds_least: float | None
    training_seconds_most: float | None
    training_device: str | None


EFFICIENCY_COLUMNS = tuple(field.name for field in fields(EfficiencyRow))


@dataclass(frozen=True)
class _TrainingTime:
    """Seconds of a cell's trainings, and the device of them all."""

    median: float
    least: float | None
    most: float | None
    device: str


def distillation_score(size_share: float | None, score_share: float | None, alpha: float) -> float | None:
    """Return DS for a student's size and score as shares of its teacher's; None where one of them is."""
    if size_share is None or score_share is None:
        return None
    return alpha * size_share + (1 - alpha) * (1 - score_share)


def efficiency_rows(
    table: MainTable, alpha: float, latencies: Latencies, scores: Sequence[Score]
) -> list[EfficiencyRow]:
    """Return one row per row of the main table; ``alpha`` is the weight of the size, from 0 to 1.

    Raises:
        UserError: a scored run has no run.json any more.
    """
    teachers = {(row.task, row.metric): row for row in table.rows if row.method == TEACHER}
    times = _training_times(table, scores)
    return [_row(row, teachers.get((row.task, row.metric)), alpha, latencies, times) for row in table.rows]


def _training_times(table: MainTable, scores: Sequence[Score]) -> dict[tuple[str, ...], _TrainingTime]:
    """Return the times by cell; one whose runs were not all trained on one device has none."""
    seconds = {score.fingerprint: score.seconds for score in scores if score.seconds is not None}
    times: dict[tuple[str, ...], _TrainingTime] = {}
    for cell in table.cells:
        runs = [run for run in cell.runs if run.fingerprint in seconds]
        devices = {str(read_record(run).get("device", "unknown")) for run in runs}
        if len(devices) == 1:
            taken = [seconds[run.fingerprint] for run in runs]
            least, most = (min(taken), max(taken)) if len(taken) > 1 else (None, None)
            times[cell.key] = _TrainingTime(statistics.median(taken), least, most, devices.pop())
    return times


def _row(
    row: MainRow,
    teacher: MainRow | None,
    alpha: float,
    latencies: Latencies,
    times: Mapping[tuple[str, ...], _TrainingTime],
) -> EfficiencyRow:
    one, batch = (latencies.get((row.task, row.depth or 0, size)) for size in (ONE, BATCH))
    time = times.get((row.task, row.method, "" if row.depth is None else str(row.depth), row.examples))
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
        training_seconds=time.median if time else None,
        training_seconds_least=time.least if time else None,
        training_seconds_most=time.most if time else None,
        training_device=time.device if time else None,
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
                _size_text(row),
                f"{metric_title(row.metric)} {_score_text(of_main)}",
                percent(row.teacher_share, row.teacher_share_std),
                _distillation_text(row),
                _training_text(row),
                *(_latency_texts(row) if measured else ()),
            )
        )
    header = (
        "task", "id", "method", "layers", "parameters", "of the teacher's (with embeddings)", "score",
        "of the teacher's score", "distillation score", "training seconds",
        *((f"ms for {ONE} / {BATCH}", "speed-up") if measured else ()),
    )  # fmt: skip
    return TextTable(header, tuple(lines), "lllrrrlrrr" + ("rr" if measured else ""), _notes(rows))


def _score_text(row: MainRow) -> str:
    return f"{value_text(row)} ({row.seeds})" if row.seeds else "–"


def _size_text(row: EfficiencyRow) -> str:
    if row.encoder_share is None and row.total_share is None:
        return "–"
    return f"{percent(row.encoder_share)} ({percent(row.total_share)})"


def _distillation_text(row: EfficiencyRow) -> str:
    if row.distillation_score is None:
        return "–"
    spread = "" if row.distillation_score_std is None else f" ± {row.distillation_score_std:.3f}"
    return f"{row.distillation_score:.3f}{spread}"


def _training_text(row: EfficiencyRow) -> str:
    if row.training_seconds is None:
        return "–"
    has_range = row.training_seconds_least is not None
    spread = f" ({row.training_seconds_least:,.0f} to {row.training_seconds_most:,.0f})" if has_range else ""
    return f"{row.training_seconds:,.0f}{spread}"


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
        "latency.csv has quartiles, rounds and versions. Speed-up: the median of the ratios taken round by round, not "
        "the ratio of the medians printed here.",
    )
    return (
        f"Distillation score: {alpha:g} × parameters as a share of the teacher's + {1 - alpha:g} × (1 - score as a "
        "share of the teacher's); lower is better (Alkhulaifi, Alsahli and Ahmad 2021). Parameters: encoder and "
        "pooler, without embeddings, which the share in brackets counts too; efficiency.csv has every metric, and the "
        "distillation score with embeddings. Mean ± sample standard deviation over a row's seeds (number of seeds), "
        "the teacher's mean taken as it is; of one seed no spread is known, and none of these says what other dev "
        "examples would give. A dash where a share says nothing: for an error, and for a score at or below 0.",
        _training_note(rows),
        *(timed if machines else ()),
    )


def _training_note(rows: Sequence[EfficiencyRow]) -> str:
    devices = sorted({row.training_device for row in rows if row.training_device})
    alone = "; a CPU goes by its threads alone" if any(device.startswith("cpu") for device in devices) else ""
    where = f" (here: {'; '.join(devices)}{alone})" if devices else ""
    return (
        "Training seconds: one model's training from loading to writing it, scoring the dev set included, over every "
        "attempt where it was stopped; median over finished seeds (least to most). Neither recording the teacher's "
        "outputs, once for all students, nor training the teacher is in a student's time. Such times compare only on "
        f"one device{where} and where the machine did the same work meanwhile; docs/performance.md has ratios measured "
        "side by side. A dash where none is recorded, or a row's seeds were trained on different devices."
    )

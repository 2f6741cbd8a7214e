"""Every table of the analysis as a pandas frame with declared columns.

``evaluate`` computes the frames and keeps them as Parquet in ``results/<study>/frames/``; ``plot`` and ``report`` read
those. CSV, LaTeX and Markdown are outputs for people and other programs, and are never read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.errors import UserError
from internal_kd.files import replacing, write_text
from internal_kd.plan.study import Study

if TYPE_CHECKING:
    import pandas as pd

TEXT, COUNT, NUMBER, FLAG = "str", "Int64", "float64", "boolean"

# What names a row; the columns of the varied keys follow it.
ROW = {"id": TEXT, "method": TEXT, "depth": COUNT, "examples": TEXT}
AXES = {"*": TEXT}
INTERVAL = {"low": NUMBER, "high": NUMBER}


def _row(*before: str) -> dict[str, str]:
    return {**dict.fromkeys(before, TEXT), **ROW}


# By table: its columns and their types, in order; "*" stands for one column per varied key. Scores, differences and
# intervals are in natural units (0.83, not 83).
SCHEMAS: dict[str, dict[str, str]] = {
    # One line per task; ``metric``: the main one.
    "tasks": {
        "task": TEXT, "title": TEXT, "kind": TEXT, "metric": TEXT, "labels": COUNT, "train": COUNT, "dev": COUNT,
        "scored_on": TEXT, "licence": TEXT, "source": TEXT, "problem": TEXT,
    },
    # One line per planned run; ``problem`` is empty for a finished one.
    "runs": {
        **_row("fingerprint", "label", "task"), **AXES, "seed": COUNT, "problem": TEXT, "git_commit": TEXT,
        "git_dirty": FLAG, "device": TEXT, "precision": TEXT, "seconds": NUMBER, "peak_memory": NUMBER,
        "examples_per_second": NUMBER, "encoder_parameters": COUNT, "total_parameters": COUNT, "epochs": COUNT,
        "started": TEXT, "finished": TEXT,
    },
    # One line per finished run and metric; ``held_out``: on held-out training examples.
    "scores": {
        **_row("task", "metric"), **AXES, "seed": COUNT, "value": NUMBER, "held_out": NUMBER, "fingerprint": TEXT,
        "encoder_parameters": COUNT, "total_parameters": COUNT, "seconds": NUMBER, "examples_per_second": NUMBER,
    },
    # One line per row, task and metric. ``low`` and ``high``: 95 % interval of the mean on new examples and seeds;
    # ``majority``: the metric of always predicting the most frequent class, or the mean.
    "main": {
        **_row("task", "metric"), **AXES, "seeds": COUNT, "mean": NUMBER, "std": NUMBER, "teacher_share": NUMBER,
        "encoder_parameters": COUNT, "total_parameters": COUNT, "title": TEXT, **INTERVAL, "planned": COUNT,
        "majority": NUMBER, "training_seconds": NUMBER,
    },
    # One line per comparison and scope. ``smallest``: the lead that this many seeds and examples would show.
    "comparisons": {
        **_row("task", "metric"), **AXES, "baseline": TEXT, "scope": TEXT, "seeds": COUNT, "difference": NUMBER,
        **INTERVAL, "p": NUMBER, "p_holm": NUMBER, "reading": TEXT, "baseline_id": TEXT, "baseline_seeds": COUNT,
        "family": TEXT, "seeds_needed": COUNT, "smallest": NUMBER, "p_predictions": NUMBER,
    },
    # The mean lead over tasks, main metrics.
    "pooled": {
        **ROW, **AXES, "baseline": TEXT, "scope": TEXT, "tasks": COUNT, "difference": NUMBER, **INTERVAL, "p": NUMBER,
        "p_holm": NUMBER, "reading": TEXT, "baseline_id": TEXT,
    },
    "expected_best": {**_row("task", "metric"), **AXES, "k": COUNT, "value": NUMBER},
    # Sizes and times against the teacher's; latencies are medians in milliseconds on one thread. ``step_share``: of a
    # training step over one of the primary baseline; ``recorded_bytes``: of the teacher's answers, for one example.
    "efficiency": {
        **_row("task", "metric"), **AXES, "seeds": COUNT, "alpha": NUMBER, "encoder_share": NUMBER,
        "total_share": NUMBER, "teacher_share": NUMBER, "distillation_score": NUMBER,
        "latency_ms": NUMBER, "speed_up": NUMBER, "latency_batch_ms": NUMBER, "machine": TEXT,
        "training_seconds": NUMBER, "step_seconds": NUMBER, "step_share": NUMBER, "recorded_bytes": NUMBER,
    },
    # Scores per class, means over seeds; per phenomenon of a generated task; counts of answers, summed over seeds,
    # without pairs of classes that never occur.
    "classes": {
        **_row("task"), **AXES, "label": TEXT, "examples_of_class": COUNT, "seeds": COUNT, "class_precision": NUMBER,
        "class_recall": NUMBER, "class_f1": NUMBER,
    },
    "confusion": {**_row("task"), **AXES, "gold": TEXT, "predicted": TEXT, "count": COUNT, "share": NUMBER},
    "phenomena": {
        **_row("task", "phenomenon"), **AXES, "dev_examples": COUNT, "seeds": COUNT, "accuracy": NUMBER, "std": NUMBER,
    },
    # Dev examples that the teacher gets right and most seeds of a row wrong, or the other way round.
    "disagreements": {
        **_row("task"), **AXES, "idx": COUNT, "text_a": TEXT, "text_b": TEXT, "gold": TEXT, "teacher_answer": TEXT,
        "student_answer": TEXT, "seeds_differing": COUNT, "seeds": COUNT,
    },
    # A row and its teacher, means over seeds. ``divergence``: KL(teacher || student) in nats, or for values the
    # mean squared difference; ``repeated``: share of the teacher's mistakes given the teacher's wrong answer.
    "fidelity": {
        **_row("task", "split"), **AXES, "seeds": COUNT, "both_right": COUNT, "only_teacher_right": COUNT,
        "only_student_right": COUNT, "both_wrong": COUNT, "agreement": NUMBER, "agreement_low": NUMBER,
        "agreement_high": NUMBER, "divergence_kind": TEXT, "divergence": NUMBER, "divergence_low": NUMBER,
        "divergence_high": NUMBER, "teacher_mistakes": COUNT, "repeated": NUMBER, "repeated_low": NUMBER,
        "repeated_high": NUMBER, "by_chance": NUMBER, "excess": NUMBER, "excess_low": NUMBER, "excess_high": NUMBER,
        "p_repeated": NUMBER, "p_repeated_holm": NUMBER, "teacher_run": TEXT,
    },
    "calibration": {
        **_row("task", "split"), **AXES, "seeds": COUNT, "ece": NUMBER, "ece_std": NUMBER, "confidence": NUMBER,
        "accuracy": NUMBER,
    },
    # One line per run, epoch and quantity of its history.
    "curves": {
        **_row("task"), **AXES, "seed": COUNT, "epoch": COUNT, "stage": TEXT, "quantity": TEXT, "value": NUMBER,
    },
    # One line per run that leaves classes out, and set of examples that the shift of their biases was chosen on.
    "bias_shifts": {
        **_row("task"), **AXES, "seed": COUNT, "chosen_on": TEXT, "unseen": TEXT, "shift": NUMBER,
        "errors_before": COUNT, "errors_after": COUNT, "error_before": NUMBER, "error_after": NUMBER,
        "error_kept": NUMBER, "errors_unseen_before": COUNT, "errors_unseen_after": COUNT,
        "unseen_of_errors_before": NUMBER, "unseen_of_errors_after": NUMBER, "unseen_right_before": NUMBER,
        "unseen_right_after": NUMBER,
    },
    # One line per run that is taught by several; ``kept``: percent of what they gain together.
    "ensembles": {
        **_row("task", "metric"), **AXES, "seed": COUNT, "members": COUNT, "alone": NUMBER, "together": NUMBER,
        "score": NUMBER, "kept": NUMBER,
    },
    # One line per run of a pair. ``together``: the mean of both probabilities; ``*_alone_right``: percent of the dev
    # examples that this one alone gets right; ``agreement``: percent answered alike, after the first epoch and at last.
    "peers": {
        **_row("task", "metric"), **AXES, "seed": COUNT, "first": NUMBER, "second": NUMBER, "mean": NUMBER,
        "together": NUMBER, "first_alone_right": NUMBER, "second_alone_right": NUMBER, "agreement_at_first": NUMBER,
        "agreement": NUMBER,
    },
    # One line per soft tree whose weights are here; shares in percent. ``readings_agree``: its most probable leaf and
    # the mean of all leaves give one class.
    "trees": {
        **_row("task"), **AXES, "seed": COUNT, "leaves": COUNT, "leaves_used": COUNT, "filters": COUNT,
        "right_by_leaf": NUMBER, "right_by_mean": NUMBER, "readings_agree": NUMBER, "path_probability": NUMBER,
    },
    # Of one tree a task: its upper filters, and the way of some examples; level -1 is the example, the last its leaf.
    "tree_nodes": {
        **_row("task"), **AXES, "seed": COUNT, "title": TEXT, "node": COUNT, "level": COUNT, "share": NUMBER,
        "filter": "object", "words": TEXT, "answer": TEXT,
    },
    "tree_paths": {
        **_row("task"), **AXES, "seed": COUNT, "title": TEXT, "idx": COUNT, "gold": TEXT, "predicted": TEXT,
        "level": COUNT, "node": COUNT, "goes_right": FLAG, "probability": NUMBER, "filter": "object", "words": TEXT,
        "answer": TEXT,
    },
    # What a reader must know before anything else.
    "warnings": {**_row("task"), "title": TEXT, "kind": TEXT, "seeds": TEXT, "value": NUMBER, "reference": NUMBER},
    "claims": {
        "paper": TEXT, "claim_id": TEXT, "source": TEXT, "claim": TEXT, "status": TEXT, "rule": TEXT, "verdict": TEXT,
        "evidence": TEXT, "needed": TEXT,
    },
    # Published figures and ours, times 100.
    "published": {
        "paper": TEXT, "system": TEXT, "status": TEXT, "source": TEXT, "task": TEXT, "metric": TEXT, "rows": TEXT,
        "published": NUMBER, "ours": NUMBER, "std": NUMBER, "seeds": COUNT, "differs": TEXT,
    },
    # Of map_attention: one line per head, and the means. KL(teacher || student) in nats over real queries.
    "attention": {
        **_row("task"), **AXES, "title": TEXT, "seed": COUNT, "student_layer": COUNT, "teacher_layer": COUNT,
        "head": COUNT, "dev_examples": COUNT, "kl": NUMBER, "kl_std": NUMBER, "student_run": TEXT, "teacher_run": TEXT,
        "problem": TEXT,
    },
    "attention_means": {
        **_row("task"), **AXES, "title": TEXT, "seed": COUNT, "dev_examples": COUNT, "heads": COUNT, "kl": NUMBER,
        **INTERVAL, "baseline": TEXT, "ratio": NUMBER, "ratio_low": NUMBER, "ratio_high": NUMBER, "student_run": TEXT,
        "teacher_run": TEXT, "problem": TEXT,
    },
    # Some maps with their tokens; ``probabilities``: query after query.
    "attention_maps": {
        "task": TEXT, "idx": COUNT, "model": TEXT, "title": TEXT, "layer": COUNT, "head": COUNT, "kl": NUMBER,
        "tokens": "object", "probabilities": "object", "fingerprint": TEXT,
    },
    # Of measure_latency: a forward pass, for every learner, at the task's median dev length.
    "latency": {
        "task": TEXT, "learner": TEXT, "layers": COUNT, "tokens": COUNT, "batch": COUNT, "rounds": COUNT,
        "median_ms": NUMBER, "low_ms": NUMBER, "high_ms": NUMBER, "speed_up": NUMBER, "threads": COUNT,
        "precision": TEXT, "machine": TEXT, "versions": TEXT, "method": TEXT, "title": TEXT,
    },
}  # fmt: skip

# Frames with texts of the data, which no table for git may contain.
WITH_TEXTS = ("disagreements", "attention_maps", "tree_nodes", "tree_paths")


def frames_folder(study: Study) -> Path:
    """``results/<study>/frames``."""
    return study.folder / "frames"


def tables_folder(study: Study) -> Path:
    """``results/<study>/tables``."""
    return study.folder / "tables"


def columns_of(study: Study, name: str) -> dict[str, str]:
    """Return a table's columns and their types, those of the study's varied keys in their place."""
    found: dict[str, str] = {}
    for column, kind in SCHEMAS[name].items():
        for own in study.axes if column == "*" else (column,):
            found.setdefault(own, kind)  # a varied key stands where it names the row, as the text given
    return found


def frame_of(study: Study, name: str, lines: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return lines as a table's frame; what a line leaves out is missing, what the table has no column for is left out.

    Args:
        study: whose varied keys become columns.
        name: a key of ``SCHEMAS``.
        lines: mappings from columns to values.
    """
    import pandas as pd

    columns = columns_of(study, name)
    lines = list(lines)
    values = {
        column: pd.Series([line.get(column) for line in lines], dtype=kind if kind != TEXT else object).astype(kind)
        if kind != TEXT
        else pd.Series(["" if line.get(column) is None else str(line[column]) for line in lines], dtype=TEXT)
        for column, kind in columns.items()
    }
    return pd.DataFrame(values)


def write_frame(study: Study, name: str, frame: pd.DataFrame) -> Path:
    """Write a frame as Parquet and, unless it has texts of the data, as ``tables/<name>.csv``; returns the former."""
    path = frames_folder(study) / f"{name}.parquet"
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
    if name not in WITH_TEXTS:
        write_text(tables_folder(study) / f"{name}.csv", frame.to_csv(index=False, lineterminator="\n"))
    return path


def read_frame(study: Study, name: str) -> pd.DataFrame:
    """Return a table that ``evaluate``, ``map_attention`` or ``measure_latency`` wrote.

    Raises:
        UserError: it is missing or has other columns; the message names the command that makes it.
    """
    import pandas as pd

    path = frames_folder(study) / f"{name}.parquet"
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with internal-kd {_maker(name)}")
    try:
        frame = pd.read_parquet(path)
        return frame[list(columns_of(study, name))].astype(
            {column: kind for column, kind in columns_of(study, name).items() if kind != "object"}
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} is damaged or of another version; make it again with internal-kd {_maker(name)}"
        ) from None


def read_or_empty(study: Study, name: str) -> pd.DataFrame:
    """Return a table, without lines if it was never made."""
    if not (frames_folder(study) / f"{name}.parquet").is_file():
        return frame_of(study, name, [])
    return read_frame(study, name)


class Frames(dict[str, "pd.DataFrame"]):
    """A study's tables by name, each read when it is first asked for."""

    def __init__(self, study: Study) -> None:
        super().__init__()
        self.study = study

    def __missing__(self, name: str) -> pd.DataFrame:
        self[name] = read_frame(self.study, name)
        return self[name]


def _maker(name: str) -> str:
    return "map-attention" if name.startswith("attention") else "measure-latency" if name == "latency" else "evaluate"


def is_at(frame: pd.DataFrame, point: Mapping[str, str]) -> pd.Series:
    """Return which lines are at a point of the varied keys."""
    import pandas as pd

    same = pd.Series(True, index=frame.index)
    for column, value in point.items():
        same &= frame[column] == value
    return same


def value_or_none(value: Any) -> Any:
    """Return a frame's value, None where it is missing."""
    import pandas as pd

    return None if value is None or (not isinstance(value, Sequence) and pd.isna(value)) else value

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

TEXT, COUNT, NUMBER, FLAG, OBJECT = "str", "Int64", "float64", "boolean", "object"

# What names a row; the columns of the varied keys follow it.
ROW, AXES = "id method depth examples", "*"
# The types of columns, of all tables alike. What is not here is a number.
_TEXTS = (
    "baseline baseline_id chosen_on claim claim_id device differs divergence_kind evidence examples family "
    "fingerprint finished git_commit gold heading id kind label learner licence machine method metric model needed "
    "paper phenomenon picture precision predicted problem quantity reading rows rule scope scored_on source split "
    "stage started status student_answer student_run system task teacher_answer teacher_run text text_a text_b "
    "title unseen verdict versions words"
)
_COUNTS = (
    "baseline_seeds batch both_right both_wrong column count depth dev dev_examples encoder_parameters epoch epochs "
    "errors_after errors_before errors_unseen_after errors_unseen_before examples_of_class filters head heads idx k "
    "labels layer layers leaves leaves_used members multiply_adds only_student_right only_teacher_right planned rounds "
    "row seed seeds seeds_differing seeds_needed student_layer tasks teacher_layer teacher_mistakes threads tokens "
    "total_parameters train"
)
TYPES = {
    **dict.fromkeys(_TEXTS.split(), TEXT), **dict.fromkeys(_COUNTS.split(), COUNT),
    **dict.fromkeys(("git_dirty",), FLAG), **dict.fromkeys(("image", "probabilities"), OBJECT),
}  # fmt: skip


def _columns(names: str) -> dict[str, str]:
    """Return columns with their types; a name may have its own, as in ``seeds:str``."""
    split = [name.partition(":") for name in names.replace("ROW", ROW).replace("AXES", AXES).split()]
    return {name: own or TYPES.get(name, TEXT if name == AXES else NUMBER) for name, _, own in split}


# By table: its columns, in order; AXES stands for one column per varied key. Scores, differences and intervals are in
# natural units (0.83, not 83).
SCHEMAS: dict[str, dict[str, str]] = {
    # One line per task; ``metric``: the main one.
    "tasks": _columns("task title kind metric labels train dev scored_on licence source problem"),
    # One line per planned run; ``problem`` is empty for a finished one.
    "runs": _columns(
        "fingerprint label task ROW AXES seed problem git_commit git_dirty device precision seconds peak_memory "
        "examples_per_second encoder_parameters total_parameters epochs started finished"
    ),
    # One line per finished run and metric; ``held_out``: on held-out training examples.
    "scores": _columns(
        "task metric ROW AXES seed value held_out fingerprint encoder_parameters total_parameters seconds "
        "examples_per_second"
    ),
    # One line per row, task and metric. ``low`` and ``high``: 95 % interval of the mean on new examples and seeds;
    # ``majority``: the metric of always predicting the most frequent class, or the mean. ``step_share``: of a training
    # step over one of the primary baseline; ``recorded_bytes``: of the teacher's answers, for one example.
    "main": _columns(
        "task metric ROW AXES seeds mean std teacher_share encoder_parameters total_parameters title low high planned "
        "majority encoder_share total_share distillation_score training_seconds step_seconds step_share "
        "recorded_bytes"
    ),
    # One line per comparison and scope. ``smallest``: the lead that this many seeds and examples would show.
    "comparisons": _columns(
        "task metric ROW AXES baseline scope seeds difference low high p p_holm reading baseline_id baseline_seeds "
        "family seeds_needed smallest p_predictions"
    ),
    # The mean lead over tasks, main metrics.
    "pooled": _columns("ROW AXES baseline scope tasks difference low high p p_holm reading baseline_id"),
    "expected_best": _columns("task metric ROW AXES k value"),
    # Scores per class, means over seeds; per phenomenon of a generated task; counts of answers, summed over seeds,
    # without pairs of classes that never occur.
    "classes": _columns("task ROW AXES label examples_of_class seeds class_precision class_recall class_f1"),
    "confusion": _columns("task ROW AXES gold predicted count share"),
    "phenomena": _columns("task phenomenon ROW AXES dev_examples seeds accuracy std"),
    # Dev examples that the teacher gets right and most seeds of a row wrong, or the other way round.
    "disagreements": _columns(
        "task ROW AXES idx text_a text_b gold teacher_answer student_answer seeds_differing seeds"
    ),
    # A row and its teacher, means over seeds. ``divergence``: KL(teacher || student) in nats, or for values the
    # mean squared difference; ``repeated``: share of the teacher's mistakes given the teacher's wrong answer.
    "fidelity": _columns(
        "task split ROW AXES seeds both_right only_teacher_right only_student_right both_wrong agreement "
        "agreement_low agreement_high divergence_kind divergence divergence_low divergence_high teacher_mistakes "
        "repeated repeated_low repeated_high by_chance excess excess_low excess_high p_repeated p_repeated_holm "
        "teacher_run"
    ),
    # Means over seeds. ``entropy``: of the predictions, in nats; ``diversity``: differential entropy, over examples, of
    # the gold label's probability.
    "calibration": _columns("task split ROW AXES seeds ece ece_std confidence accuracy entropy diversity"),
    # One line per run, epoch and quantity of its history.
    "curves": _columns("task ROW AXES seed epoch stage quantity value"),
    # One line per run that leaves classes out, and set of examples that the shift of their biases was chosen on.
    "bias_shifts": _columns(
        "task ROW AXES seed chosen_on unseen shift errors_before errors_after error_before error_after error_kept "
        "errors_unseen_before errors_unseen_after unseen_of_errors_before unseen_of_errors_after unseen_right_before "
        "unseen_right_after"
    ),
    # One line per run that is taught by several; ``kept``: percent of what they gain together.
    "ensembles": _columns("task metric ROW AXES seed members alone together score kept"),
    # One line per run of a pair. ``together``: the mean of both probabilities; ``*_alone_right``: percent of the dev
    # examples that this one alone gets right; ``agreement``: percent answered alike, after the first epoch and at last.
    "peers": _columns(
        "task metric ROW AXES seed first second mean together first_alone_right second_alone_right agreement_at_first "
        "agreement"
    ),
    # Of every run that specialists teach: what they and their generalist answer together, by how many specialists have
    # the example's class, of ``all``, and ``conditional``; ``gain`` in points, ``relative_gain`` in percent of what the
    # generalist gets right, ``p`` by McNemar's test.
    "specialists": _columns(
        "task ROW AXES seed coverage:str dev_examples right_before:Int64 right_after:Int64 newly_right:Int64 "
        "newly_wrong:Int64 gain relative_gain p"
    ),
    # One line per soft tree whose weights are here; shares in percent. ``readings_agree``: its most probable leaf and
    # the mean of all leaves give one class.
    "trees": _columns(
        "task ROW AXES seed leaves leaves_used filters right_by_leaf right_by_mean readings_agree path_probability"
    ),
    # Of one tree a task: panels of its upper filters, and of the way of some examples to their leaves.
    "tree_pictures": _columns("task ROW AXES seed picture row column heading image words"),
    # The examples of every distilled set, first seed: each an image, or the nearest words. ``answer``: its label.
    "distilled_examples": _columns("task ROW AXES seed step:Int64 example:Int64 label words answer:object image"),
    # What a reader must know before anything else.
    "warnings": _columns("task ROW AXES title kind seeds:str text"),
    "claims": _columns("paper claim_id source claim status rule verdict evidence needed"),
    # Published figures and ours, times 100.
    "published": _columns("paper system status source task metric rows published ours std seeds differs"),
    # Of map_attention: one line per head, and the means. KL(teacher || student) in nats over real queries.
    "attention": _columns(
        "task ROW AXES title seed student_layer teacher_layer head dev_examples kl kl_std student_run teacher_run "
        "problem"
    ),
    "attention_means": _columns(
        "task ROW AXES title seed dev_examples heads kl low high baseline ratio ratio_low ratio_high student_run "
        "teacher_run problem"
    ),
    # Some maps with their tokens; ``probabilities``: query after query.
    "attention_maps": _columns("task idx model title layer head kl tokens:object probabilities fingerprint"),
    # Of measure_latency: a forward pass over dev examples, for every learner; ``tokens``: their median length;
    # ``multiply_adds``: of products with weights, for the example of median length.
    "latency": _columns(
        "task learner layers tokens batch rounds multiply_adds median_ms low_ms high_ms speed_up threads precision "
        "machine versions method title"
    ),
}

# Frames with texts of the data, which no table for git may contain.
WITH_TEXTS = ("disagreements", "attention_maps", "tree_pictures")


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
    """
    import pandas as pd

    columns = columns_of(study, name)
    lines = list(lines)
    values = {
        column: pd.Series(["" if line.get(column) is None else str(line[column]) for line in lines], dtype=TEXT)
        if kind == TEXT
        else pd.Series([line.get(column) for line in lines], dtype=kind)
        for column, kind in columns.items()
    }
    return pd.DataFrame(values)


def write_frame(study: Study, name: str, frame: pd.DataFrame) -> Path:
    """Write a frame as Parquet and, unless it has texts of the data, its plain columns as ``tables/<name>.csv``.

    Returns the path of the Parquet file.
    """
    path = frames_folder(study) / f"{name}.parquet"
    with replacing(path) as temporary:
        frame.to_parquet(temporary, index=False)
    if name not in WITH_TEXTS:
        plain = frame.drop(columns=[column for column, kind in columns_of(study, name).items() if kind == OBJECT])
        write_text(tables_folder(study) / f"{name}.csv", plain.to_csv(index=False, lineterminator="\n"))
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


def _maker(name: str) -> str:
    return "map-attention" if name.startswith("attention") else "measure-latency" if name == "latency" else "evaluate"


def value_or_none(value: Any) -> Any:
    """Return a frame's value, None where it is missing."""
    import pandas as pd

    return None if value is None or (not isinstance(value, Sequence) and pd.isna(value)) else value

"""Scoring a study: from the predictions of its runs to the scores and the main table on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from pathlib import Path

from internal_kd.analysis.built import built_from_path, describe_inputs, key_of, params_path, tables_folder
from internal_kd.analysis.cells import label_of
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.efficiency import EFFICIENCY_COLUMNS, efficiency_rows, efficiency_text
from internal_kd.analysis.latency import read_latencies
from internal_kd.analysis.layout import text_table
from internal_kd.analysis.predictions import TaskFacts, read_evidence
from internal_kd.analysis.scores import GAP_COLUMNS, Score, scores_of
from internal_kd.analysis.tables import MAIN_COLUMNS, nested_metrics, summarise
from internal_kd.analysis.text_tables import write_text_table
from internal_kd.files import remove, write_json, write_text
from internal_kd.study import Study


def score_runs(study: Study) -> Path:
    """Score every finished run of a study and write its tables.

    Writes scores.csv (one line per run and metric), missing.csv (every gap and why), main and efficiency as .csv, .md
    and .tex, metrics.json, params.yaml and, last, built_from.json into ``results/<study>/tables``; returns the path of
    scores.csv.
    """
    evidence = read_evidence(study)
    scores = scores_of(study, evidence)
    folder = tables_folder(study)
    remove(built_from_path(study))
    write_csv(folder / "scores.csv", [f.name for f in fields(Score)], (astuple(score) for score in scores))
    broken = [run for run in study.runs if str(run.folder) in evidence.problems]
    gaps = [(label_of(run), run.fingerprint, evidence.problems[str(run.folder)]) for run in broken]
    write_csv(folder / "missing.csv", GAP_COLUMNS, gaps)
    write_main_tables(study, evidence.tasks, scores)
    write_text(params_path(study), study.as_yaml())
    inputs = describe_inputs(study, evidence.problems)
    write_json(built_from_path(study), {**inputs, "key": key_of(inputs)})
    return folder / "scores.csv"


def write_main_tables(study: Study, tasks: Mapping[str, TaskFacts], scores: Sequence[Score]) -> None:
    """Write main and efficiency as .csv, .md and .tex, and metrics.json."""
    table = summarise(study, tasks, scores)
    folder = tables_folder(study)
    write_csv(folder / "main.csv", MAIN_COLUMNS, (astuple(row) for row in table.rows))
    write_text_table(folder, "main", text_table(table))
    efficiency = efficiency_rows(table, study.params.analysis.distillation_alpha, read_latencies(study), scores)
    write_csv(folder / "efficiency.csv", EFFICIENCY_COLUMNS, (astuple(row) for row in efficiency))
    write_text_table(folder, "efficiency", efficiency_text(table, efficiency))
    write_json(folder / "metrics.json", nested_metrics(table.rows))

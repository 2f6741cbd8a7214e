"""compare_runs: from the scored runs to cells.csv, comparisons.csv, expected_best.csv, paper.csv and claims.json."""

from __future__ import annotations

from dataclasses import asdict, astuple, fields
from pathlib import Path

from internal_kd.analysis.built import recorded_key, tables_folder
from internal_kd.analysis.predictions import Evidence, read_evidence
from internal_kd.analysis.scores import read_scores, write_csv
from internal_kd.analysis.statistics import Arm, Comparison, arms_of, compare, expected_best
from internal_kd.errors import UserError
from internal_kd.files import write_json
from internal_kd.study import Study

CELL_COLUMNS = ("task", "metric", "id", "method", "depth", "examples", "seeds", "mean", "std", "low", "high")
BEST_COLUMNS = ("task", "metric", "id", "method", "depth", "examples", "k", "value")


def compare_runs(study: Study) -> Path:
    """Compute the statistics of the runs that score_runs scored; returns the path of comparisons.csv.

    Raises:
        UserError: there are no scores, or the runs have changed since.
    """
    from internal_kd.analysis.claims import judge_claims
    from internal_kd.analysis.paper import PAPER_COLUMNS, paper_lines, read_claims

    key, evidence = recorded_key(study), scored_evidence(study)
    arms, folder = arms_of(study, evidence), tables_folder(study)
    comparisons = compare(arms)
    (folder / "claims.json").unlink(missing_ok=True)
    write_csv(folder / "cells.csv", CELL_COLUMNS, [_cell_line(arm) for arm in arms.values()])
    write_csv(folder / "comparisons.csv", [f.name for f in fields(Comparison)], [astuple(c) for c in comparisons])
    write_csv(folder / "expected_best.csv", BEST_COLUMNS, [line for arm in arms.values() for line in _best_lines(arm)])
    known = read_claims()
    write_csv(folder / "paper.csv", PAPER_COLUMNS, paper_lines(study, known, arms))
    verdicts = judge_claims(study, known, arms, comparisons, evidence)
    write_json(folder / "claims.json", {"key": key, "claims": [asdict(verdict) for verdict in verdicts]})
    return folder / "comparisons.csv"


def scored_evidence(study: Study) -> Evidence:
    """Return the runs behind scores.csv, read again.

    Raises:
        UserError: runs were finished, broken or removed since they were scored.
    """
    evidence = read_evidence(study)
    scored = {(score.task, score.fingerprint) for score in read_scores(study)}
    if scored != {(run.run.task, run.run.fingerprint) for run in evidence.finished.values()}:
        path = tables_folder(study) / "scores.csv"
        raise UserError(f"{path} is of other runs than are there now: run internal-kd score-runs again")
    return evidence


def _cell_line(arm: Arm) -> tuple[object, ...]:
    cell, bounds = arm.cell, arm.interval or (None, None)
    row = (cell.task, arm.metric, cell.id, cell.method, cell.depth, cell.examples)
    return (*row, len(arm.seeds), arm.mean, arm.std, *bounds)


def _best_lines(arm: Arm) -> list[tuple[object, ...]]:
    cell = arm.cell
    row = (cell.task, arm.metric, cell.id, cell.method, cell.depth, cell.examples)
    best = expected_best(arm.values, arm.metric) if arm.defined else []
    return [(*row, k, value) for k, value in enumerate(best, start=1)]

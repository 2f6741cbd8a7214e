"""compare_runs: from the scored runs to the cells, comparisons, expected_best and paper tables, and claims.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, fields
from pathlib import Path

from internal_kd.analysis.built import recorded_key, tables_folder
from internal_kd.analysis.csv_files import write_csv
from internal_kd.analysis.layout import metric_title, shown, size_text
from internal_kd.analysis.predictions import Evidence, TaskFacts, read_evidence
from internal_kd.analysis.scores import read_scores
from internal_kd.analysis.sentences import INTERVALS_NOTE, p_text, reading_of
from internal_kd.analysis.statistics import Arm, Comparison, arms_of, compare, expected_best
from internal_kd.analysis.summaries import write_summaries
from internal_kd.analysis.text_tables import TextTable, write_text_table
from internal_kd.errors import UserError
from internal_kd.files import remove, write_json
from internal_kd.study import Study

COMPARISONS_NOTE = (
    f"Differences in points. {INTERVALS_NOTE} p over predictions: exact McNemar for accuracy, approximate "
    "randomisation otherwise; of several pairs of equal seeds twice the median; not tested where no seed is finished "
    "on both sides. p over seeds: paired t-test. Both after Holm's correction over the whole table (comparisons.csv, "
    "which has every metric). A difference is called shown when both sides have several seeds, the interval leaves 0 "
    "out and p over predictions is below 0.001."
)
BEST_COLUMNS = ("task", "metric", "id", "method", "depth", "examples", "k", "value")


def compare_runs(study: Study) -> Path:
    """Compute the statistics of the runs that score_runs scored; returns the path of comparisons.csv.

    Raises:
        UserError: there are no scores, or the runs have changed since.
    """
    from internal_kd.analysis.claims import judge_claims
    from internal_kd.analysis.paper import PAPER_COLUMNS, paper_lines, paper_text, read_claims

    key, evidence = recorded_key(study), scored_evidence(study)
    arms, folder = arms_of(study, evidence), tables_folder(study)
    comparisons = compare(arms)
    remove(folder / "claims.json")
    write_summaries(study, arms)
    write_csv(folder / "comparisons.csv", [f.name for f in fields(Comparison)], [astuple(c) for c in comparisons])
    write_text_table(folder, "comparisons", comparisons_text(evidence.tasks, comparisons))
    write_csv(folder / "expected_best.csv", BEST_COLUMNS, [line for arm in arms.values() for line in _best_lines(arm)])
    known = read_claims()
    published = paper_lines(study, known, arms, evidence)
    write_csv(folder / "paper.csv", PAPER_COLUMNS, [astuple(line) for line in published])
    write_text_table(folder, "paper", paper_text(published))
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


def comparisons_text(tasks: Mapping[str, TaskFacts], comparisons: Sequence[Comparison]) -> TextTable:
    """Return the comparisons under every task's first metric laid out."""
    header = (
        "where", "metric", "rows", "seeds", "difference", "95 % interval", "p, predictions", "p, seeds", "reading"
    )  # fmt: skip
    lines = []
    for c in (c for c in comparisons if c.metric == tasks[c.task].scored[0][0]):
        between = (
            "–" if c.low is None else f"{shown(c.metric, c.low, sign=True)} to {shown(c.metric, c.high, sign=True)}"
        )
        lines.append(
            (
                f"{tasks[c.task].title}, L{c.depth}{size_text(c.examples)}",
                metric_title(c.metric),
                f"{c.id} – {c.baseline_id}",
                f"{c.seeds} / {c.baseline_seeds}",
                shown(c.metric, c.difference, sign=True),
                between,
                p_text(c.p_predictions_holm),
                p_text(c.p_seeds_holm),
                reading_of(c),
            )
        )
    return TextTable(header, tuple(lines), "llrrrrrrl", (COMPARISONS_NOTE,))


def _best_lines(arm: Arm) -> list[tuple[object, ...]]:
    cell = arm.cell
    row = (cell.task, arm.metric, cell.id, cell.method, cell.depth, cell.examples)
    best = expected_best(arm.values, arm.metric) if arm.defined else []
    return [(*row, k, value) for k, value in enumerate(best, start=1)]

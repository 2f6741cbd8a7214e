"""Statistics of a study: intervals, paired tests and the expected best of k seeds, through scipy and statsmodels.

Two questions are kept apart. "Would other examples and other seeds tell the same?" is answered by an interval over
both: a bootstrap over examples, and the seeds' variance with Student's t, for there are few. "Do these models differ
on these examples?" is the paper's question (p < 1e-3, Dror et al. 2018): exact McNemar for accuracy, approximate
randomisation for the rest, for each pair of equal seeds; several pairs give twice their median p, which is valid
however the pairs depend on each other (Meinshausen, Meier and Buehlmann 2009). A paired t-test over seeds stands
beside it. Holm's correction is over the whole table, for each kind of test.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from internal_kd.analysis.built import tables_folder
from internal_kd.analysis.cells import Cell, cells_of
from internal_kd.analysis.csv_files import read_csv
from internal_kd.analysis.outlook import outlook
from internal_kd.analysis.predictions import Evidence, TaskFacts
from internal_kd.analysis.randomisation import randomisation_p
from internal_kd.analysis.resampling import (
    SEED,
    SeedMean,
    bootstrap_runs,
    difference_interval,
    joint_interval,
    seed_mean,
)
from internal_kd.analysis.tables import base_metric
from internal_kd.metrics import predicted_values, score_predictions
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

Array = np.ndarray

NO_SEED = SeedMean(np.zeros(0), np.zeros(0), np.zeros(0), 0)


@dataclass(frozen=True)
class Arm:
    """A cell's finished seeds under one metric: values, predictions (N,), labels (N,) and the resampled mean."""

    cell: Cell
    metric: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    predicted: tuple[Array, ...]
    labels: Array
    classes: int | None
    spread: SeedMean

    @property
    def resampled(self) -> Array:
        """The mean under other examples and other seeds, (R,)."""
        return self.spread.resampled

    @cached_property
    def defined(self) -> bool:
        """Whether there is a seed, and every seed has a value."""
        return bool(self.values) and all(math.isfinite(value) for value in self.values)

    @property
    def mean(self) -> float | None:
        """Mean over seeds."""
        return float(np.mean(self.values)) if self.defined else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None with fewer than two."""
        return float(np.std(self.values, ddof=1)) if self.defined and len(self.values) > 1 else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the mean over examples, and over seeds where there are several."""
        return joint_interval(np.positive, [self.spread]) if self.defined else None


@dataclass(frozen=True)
class Comparison:
    """A method against a baseline: the difference in natural units, its interval, and the paired tests' p.

    ``many_seeds`` and ``seeds_needed`` say what more seeds would do (``outlook``).
    """

    task: str
    metric: str
    depth: int | None
    examples: str
    id: str
    method: str
    baseline_id: str
    baseline: str
    seeds: int
    baseline_seeds: int
    matched_seeds: int
    difference: float | None
    low: float | None
    high: float | None
    test_predictions: str
    p_predictions: float | None
    p_predictions_holm: float | None
    test_seeds: str
    p_seeds: float | None
    p_seeds_holm: float | None
    many_seeds: float | None
    seeds_needed: int | None


def arms_of(study: Study, evidence: Evidence) -> dict[tuple[str, ...], Arm]:
    """Return every cell under every metric, keyed by (task, method, depth, examples, metric)."""
    cells = cells_of(study)
    arms: dict[tuple[str, ...], Arm] = {}
    for place, (task, facts) in enumerate(evidence.tasks.items()):
        own = [cell for cell in cells if cell.task == task]
        for split in dict.fromkeys(split for _, _, split in facts.scored):
            arms |= _arms_of_split(own, evidence, facts, split, place)
    return arms


def _arms_of_split(
    cells: Sequence[Cell], evidence: Evidence, facts: TaskFacts, split: str, place: int
) -> dict[tuple[str, ...], Arm]:
    finished = {
        cell.key: [evidence.finished[str(run.folder)] for run in cell.runs if str(run.folder) in evidence.finished]
        for cell in cells
    }
    runs = [run for group in finished.values() for run in group]
    names = {metric: name for name, metric, of_split in facts.scored if of_split == split}
    classes = None if facts.regression else facts.classes
    frames = [run.predictions[split] for run in runs]
    labels = frames[0]["label"].to_numpy(float if facts.regression else int) if frames else np.zeros(0)
    predicted = [predicted_values(frame, facts.regression) for frame in frames]
    resampled = bootstrap_runs(labels, predicted, tuple(names), classes) if runs else {}
    values = [score_predictions(frame, tuple(names), facts.regression) for frame in frames]
    positions = {str(run.run.folder): position for position, run in enumerate(runs)}
    arms: dict[tuple[str, ...], Arm] = {}
    for number, cell in enumerate(cells):
        at = [positions[str(run.run.folder)] for run in finished[cell.key]]
        for metric, name in names.items():
            # The same draws for every metric, others for every task: what is averaged over tasks is then independent.
            rng = np.random.default_rng([SEED, place, number])
            spread = seed_mean(resampled[metric][at], rng) if at else NO_SEED
            arms[(*cell.key, name)] = Arm(
                cell, name, tuple(run.run.seed for run in finished[cell.key]), tuple(values[p][metric] for p in at),
                tuple(predicted[p] for p in at), labels, classes, spread,
            )  # fmt: skip
    return arms


def compare(arms: dict[tuple[str, ...], Arm]) -> list[Comparison]:
    """Compare every student with its baselines of the same task, depth and size; Holm-corrected."""
    pairs = [
        (arm, baseline)
        for arm in arms.values()
        for baseline in arms.values()
        if arm.metric == baseline.metric and is_compared(arm.cell, baseline.cell)
    ]
    order = {key: position for position, key in enumerate(arms)}
    pairs.sort(
        key=lambda pair: (order[(*pair[0].cell.key, pair[0].metric)], pair[0].cell.baselines.index(pair[1].cell.method))
    )
    return _corrected([compare_pair(arm, baseline) for arm, baseline in pairs])


def is_compared(cell: Cell, baseline: Cell) -> bool:
    """Whether a cell is held against another: one of its baselines at the same task, depth and size."""
    place = (baseline.task, *baseline.row[1:])
    return baseline.method in cell.baselines and (cell.task, *cell.row[1:]) == place


def compare_pair(arm: Arm, baseline: Arm) -> Comparison:
    """Compare two arms of one task and metric."""
    matched = sorted(set(arm.seeds) & set(baseline.seeds))
    both = arm.defined and baseline.defined
    bounds = difference_interval(arm.spread, baseline.spread) if both else None
    difference = float(np.mean(arm.values) - np.mean(baseline.values)) if both else None
    ahead = outlook(difference, arm.spread, baseline.spread) if difference is not None else None
    return Comparison(
        task=arm.cell.task,
        metric=arm.metric,
        depth=arm.cell.depth,
        examples=arm.cell.examples,
        id=arm.cell.id,
        method=arm.cell.method,
        baseline_id=baseline.cell.id,
        baseline=baseline.cell.method,
        seeds=len(arm.seeds),
        baseline_seeds=len(baseline.seeds),
        matched_seeds=len(matched),
        difference=difference,
        low=bounds[0] if bounds else None,
        high=bounds[1] if bounds else None,
        test_predictions="mcnemar" if base_metric(arm.metric) == "accuracy" else "randomisation",
        p_predictions=_p_predictions(arm, baseline, matched) if both else None,
        p_predictions_holm=None,
        test_seeds="paired t",
        p_seeds=_p_seeds(arm, baseline, matched) if both else None,
        p_seeds_holm=None,
        many_seeds=ahead.many_seeds if ahead else None,
        seeds_needed=ahead.seeds_needed if ahead else None,
    )


def _p_predictions(arm: Arm, baseline: Arm, matched: Sequence[int]) -> float | None:
    values = []
    for seed in matched:
        a = arm.predicted[arm.seeds.index(seed)]
        b = baseline.predicted[baseline.seeds.index(seed)]
        if base_metric(arm.metric) == "accuracy":
            values.append(mcnemar_p(a == arm.labels, b == arm.labels))
        else:
            values.append(randomisation_p(base_metric(arm.metric), arm.labels, a, b, arm.classes))
    return joint_p(values)


def joint_p(values: Sequence[float]) -> float | None:
    """Return one p for several seeds': twice their median, valid however they depend; None where one is missing.

    Meinshausen, Meier and Buehlmann 2009.
    """
    if not values or not all(math.isfinite(p) for p in values):
        return None
    return values[0] if len(values) == 1 else min(1.0, 2 * float(np.median(values)))


def mcnemar_p(a_right: Array, b_right: Array) -> float:
    """Return the exact two-sided McNemar p for two systems' correct answers, each (N,) of bool."""
    from statsmodels.stats.contingency_tables import mcnemar

    table = [[int(np.sum(x & y)) for y in (b_right, ~b_right)] for x in (a_right, ~a_right)]
    if table[0][1] + table[1][0] == 0:
        return 1.0
    return float(min(1.0, mcnemar(table, exact=True).pvalue))


def _p_seeds(arm: Arm, baseline: Arm, matched: Sequence[int]) -> float | None:
    from scipy.stats import ttest_rel

    if len(matched) < 2:
        return None
    a, b = (np.array([x.values[x.seeds.index(seed)] for seed in matched]) for x in (arm, baseline))
    if np.allclose(a, b, rtol=0, atol=1e-15):
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal differences have no spread to test against: left empty
        p = float(ttest_rel(a, b).pvalue)
    return p if math.isfinite(p) and np.std(a - b) > 1e-12 else None


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    predictions = holm([c.p_predictions for c in comparisons])
    seeds = holm([c.p_seeds for c in comparisons])
    return [
        replace(c, p_predictions_holm=p, p_seeds_holm=q)
        for c, p, q in zip(comparisons, predictions, seeds, strict=True)
    ]


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Return Holm-corrected p; what was not tested stays None and does not count."""
    from statsmodels.stats.multitest import multipletests

    known = [p for p in values if p is not None]
    corrected = iter(multipletests(known, method="holm")[1] if known else [])
    return [None if p is None else float(next(corrected)) for p in values]


def expected_best(values: Sequence[float], metric: str) -> list[float]:
    """Return the expected best of k = 1..n seeds, for n observed values (Dodge et al. 2019, "Show your work")."""
    worst_first = sorted(values, reverse=not HIGHER_IS_BETTER[base_metric(metric)])
    n = len(values)
    below = np.arange(n + 1) / n
    return [float(np.dot(np.diff(below**k), worst_first)) for k in range(1, n + 1)]


def read_comparisons(study: Study) -> list[Comparison]:
    """Read comparisons.csv back.

    Raises:
        UserError: it is missing or not whole.
    """
    path = tables_folder(study) / "comparisons.csv"
    return read_csv(path, "compare-runs", lambda lines: [_comparison_of(line) for line in lines])


def _comparison_of(line: dict[str, str]) -> Comparison:
    whole = ("depth", "seeds", "baseline_seeds", "matched_seeds", "seeds_needed")
    words = ("task", "metric", "examples", "id", "method", "baseline_id", "baseline", "test_predictions", "test_seeds")
    values: dict[str, Any] = {}
    for name, text in line.items():
        kind: type = str if name in words else int if name in whole else float
        values[name] = text if kind is str else kind(text) if text else None
    return Comparison(**values)

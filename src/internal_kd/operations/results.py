"""The sub-commands on a study's results: cheap, from recorded predictions and, for attention, from weights."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from internal_kd.analysis.built import (
    FIGURE_TYPES,
    attention_figures,
    figure_names,
    figure_paths,
    is_current,
    outputs_of,
    recorded_key,
)
from internal_kd.files import remove, write_text
from internal_kd.operations.progress import look, summary
from internal_kd.params import load_params
from internal_kd.study import Study, plan_study


def show(options: argparse.Namespace) -> int:
    """Print the main table, where the report lies, and whether runs are missing or the table is behind them."""
    from internal_kd.analysis import report

    study = _study(options)
    print(report.show(study))
    print(summary(look(study)))
    if not is_current(study):
        print("the table is older than the runs or the parameters: `internal-kd run` brings it up to date")
    return 0


def score_runs(options: argparse.Namespace) -> int:
    """Score every run."""
    from internal_kd.analysis import scoring

    study = _study(options)
    scoring.score_runs(study)
    return _tell(study, "score-runs")


def compare_runs(options: argparse.Namespace) -> int:
    """Compare the methods."""
    from internal_kd.analysis import comparisons

    study = _study(options)
    comparisons.compare_runs(study)
    return _tell(study, "compare-runs")


def measure_fidelity(options: argparse.Namespace) -> int:
    """Hold students beside their teachers."""
    from internal_kd.analysis import fidelity_tables

    study = _study(options)
    fidelity_tables.measure_fidelity(study)
    return _tell(study, "measure-fidelity")


def map_attention(options: argparse.Namespace) -> int:
    """Hold the students' attention maps beside their teacher's; tokens that the scratch lacks are made first."""
    from internal_kd.analysis import attention
    from internal_kd.operations.catalogue import Catalogue, inputs_of, lack_of
    from internal_kd.operations.making import make, surroundings

    study = _study(options)
    catalogue = Catalogue(study)
    teachers = [run for run in study.teachers if run.seed == study.params.teacher.teaching_seed]
    for run in teachers:
        if not any(lack_of(needed) for needed in (run, *inputs_of(run.tokens))):
            make(run.tokens, catalogue)
    with surroundings(teachers[0], study.params):
        attention.map_attention(study)
    return _tell(study, "map-attention")


def plot_figures(options: argparse.Namespace) -> int:
    """Draw every figure the study has, in one process: starting costs more than drawing."""
    from functools import partial

    from internal_kd.analysis.attention_figures import plot_attention_kl, plot_attention_maps
    from internal_kd.analysis.curves import plot_learning
    from internal_kd.analysis.figures import plot_main
    from internal_kd.analysis.reliability import plot_reliability
    from internal_kd.analysis.sweeps import plot_depth, plot_size

    study = _study(options)
    drawing: dict[str, Callable[[Study], object]] = {
        "main": plot_main,
        "learning": plot_learning,
        "reliability": plot_reliability,
        "depth": plot_depth,
        "size": plot_size,
    }
    for kind, plot in (("attention_kl", plot_attention_kl), ("attention_maps", plot_attention_maps)):
        drawing |= {name: partial(plot, task=task) for name, task in attention_figures(study, kind).items()}
    names = figure_names(study)
    for name in names:
        drawing[name](study)
    # A study that once had more depths, sizes or tasks must not go on showing the figures of them.
    kept = {path for name in names for path in figure_paths(study, name)}
    once = [path for name in drawing for path in figure_paths(study, name)]
    once += [path for kind in FIGURE_TYPES for path in (study.folder / "figures").glob(f"attention_*.{kind}")]
    for path in set(once) - kept:
        remove(path)
    return _tell(study, *(f"plot-{name}" for name in names))


def render_report(options: argparse.Namespace) -> int:
    """Write the report."""
    from internal_kd.analysis import report

    study = _study(options)
    report.render_report(study)
    return _tell(study, "render-report")


def publish_runs(options: argparse.Namespace) -> int:
    """Show the study in MLflow and say where to look."""
    from internal_kd.operations.tracking.publishing import publish_runs as publish

    study = _study(options)
    key = recorded_key(study) if options.marker else ""
    for line in publish(study).lines():
        print(line)
    if options.marker:
        write_text(options.marker, f"{key}\n")
    return 0


def _study(options: argparse.Namespace) -> Study:
    return plan_study(load_params(options.params, options.overlay))


def _tell(study: Study, *verbs: str) -> int:
    for path in (path for verb in verbs for path in outputs_of(study)[verb]):
        print(path)
    return 0

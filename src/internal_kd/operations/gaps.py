"""``internal-kd results``: what a study's finished runs say while others are missing, as where one fails for good."""

from __future__ import annotations

import argparse
from pathlib import Path

from internal_kd.operations import results
from internal_kd.operations.exporting import measure_latency
from internal_kd.operations.progress import look
from internal_kd.study import Study

# In the order of the rules, which wait for all runs.
STEPS = (
    measure_latency,
    results.score_runs,
    results.compare_runs,
    results.measure_fidelity,
    results.map_attention,
    results.plot_figures,
    results.render_report,
)


def make_results(options: argparse.Namespace) -> int:
    """Make tables, figures and report of the runs that are there, and print the main table."""
    asked = argparse.Namespace(**vars(options), again=False)
    for step in STEPS:
        step(asked)
    return results.show(options)


def way_on(study: Study, params: Path) -> str | None:
    """Return a line that names the command above where some runs are there and others are not, or None.

    ``params`` is the file that describes the study.
    """
    state = look(study)
    if state.finished or not state.done:
        return None
    return (
        f"{len(study.runs) - len(state.done)} of {len(study.runs)} runs are missing. Tables, figures and report of the "
        f"others, each gap named: internal-kd results --params {params}"
    )

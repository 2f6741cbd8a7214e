"""The steps of the analysis: evaluate once, then draw and write from the frames; each can be run alone.

    evaluate          every finished run  ->  frames/, tables/
    plot              frames/             ->  figures/
    render            frames/, figures/   ->  report.html
    map_attention     weights             ->  frames/attention*, tables/attention*
    measure_latency   configuration       ->  frames/latency, tables/latency

Runs may be missing at any time: tables have named gaps, figures and page leave out what is not results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from internal_kd.files import remove, write_json, write_text
from internal_kd.plan.study import Study
from internal_kd.report import figures, pictures, rows, sweeps
from internal_kd.report.answer import warnings_of
from internal_kd.report.appendix_tables import LAID_OUT, attention_table
from internal_kd.report.frames import (
    SCHEMAS,
    WITH_TEXTS,
    frame_of,
    frames_folder,
    read_or_empty,
    tables_folder,
    write_frame,
)
from internal_kd.report.layout import write_shown
from internal_kd.report.study_frames import StudyFrames

ATTENTION = ("attention", "attention_means", "attention_maps")
EVALUATED = tuple(name for name in SCHEMAS if name not in (*ATTENTION, "latency"))
FIGURES: dict[str, Callable[[StudyFrames], Any]] = {
    "forest": rows.forest,
    "scores": rows.scores,
    "cost": sweeps.cost,
    **{name: partial(rows.explained, name=name) for name in rows.EXPLAINED},
    "learning": sweeps.learning,
}


def outputs(study: Study) -> dict[str, list[Path]]:
    """Return every file of the analysis by the step that makes it."""
    folder = tables_folder(study)
    laid_out = [folder / f"{name}.{kind}" for name in LAID_OUT for kind in ("md", "tex")]
    more = [folder / name for name in ("missing.csv", "metrics.json", "params.yaml")]
    return {
        "measure_latency": _files(study, ("latency",)),
        "map_attention": [*_files(study, ATTENTION), folder / "attention_means.md", folder / "attention_means.tex"],
        "evaluate": [*_files(study, EVALUATED), *laid_out, *more],
        "plot": [path for name in figures_of(study) for path in figures.figure_paths(study, name)],
        "report": [study.folder / "report.html"],
    }


def _files(study: Study, names: tuple[str, ...]) -> list[Path]:
    frames = [frames_folder(study) / f"{name}.parquet" for name in names]
    return [*frames, *(tables_folder(study) / f"{name}.csv" for name in names if name not in WITH_TEXTS)]


def figures_of(study: Study) -> dict[str, Callable[[StudyFrames], Any]]:
    """Return the figures of a study by name, and what draws each."""
    by_task = {"forest_by_task": rows.forest_by_task} if len(study.tasks) > figures.MOST_PANELS else {}
    varied = {sweeps.sweep_name(axis): partial(sweeps.sweep, axis=axis) for axis in study.axes}
    return {**FIGURES, **by_task, **varied, **pictures.pictures_of(study)}


def evaluate(study: Study) -> Path:
    """Read every finished run once and write all tables; returns the path of ``tables/main.csv``."""
    from internal_kd.report import comparing, ensembles, scoring
    from internal_kd.report.claims import claim_lines
    from internal_kd.report.distilled import distilled_lines
    from internal_kd.report.measures import Measures
    from internal_kd.report.paper_setting import papers_of, published_lines
    from internal_kd.report.results import StudyResults
    from internal_kd.report.shifts import shift_lines
    from internal_kd.report.trees import tree_lines

    results = StudyResults.read(study)
    papers = papers_of(results)
    compared = comparing.compare_cells(results)
    taught = comparing.compare_with_teachers(results)
    classes, confusion = scoring.class_lines(results)
    lines = {
        "tasks": scoring.task_lines(results),
        "runs": scoring.run_lines(results),
        "scores": scoring.score_lines(results),
        "main": scoring.main_lines(results),
        "comparisons": comparing.comparison_lines(results, compared),
        "pooled": comparing.pooled_lines(results, compared),
        "expected_best": scoring.best_lines(results),
        "classes": classes,
        "confusion": confusion,
        "phenomena": scoring.phenomenon_lines(results),
        "disagreements": scoring.disagreement_lines(results),
        "fidelity": comparing.fidelity_lines(taught),
        "calibration": comparing.calibration_lines(results),
        "curves": scoring.curve_lines(results),
        "warnings": scoring.warning_lines(results),
        "published": published_lines(results, papers),
        "bias_shifts": shift_lines(results),
        "ensembles": ensembles.ensemble_lines(results),
        "peers": ensembles.peer_lines(results),
        "specialists": ensembles.specialist_lines(results),
        **tree_lines(results),
        "distilled_examples": distilled_lines(results),
    }
    frames = {name: frame_of(study, name, lines[name]) for name in EVALUATED if name in lines}
    measures = Measures(results, taught, lambda name: frames[name] if name in frames else read_or_empty(study, name))
    frames["claims"] = frame_of(study, "claims", claim_lines(papers, measures))
    for name, frame in frames.items():
        write_frame(study, name, frame)
    _write_for_people(StudyFrames(study, frames))
    return tables_folder(study) / "main.csv"


def _write_for_people(frames: StudyFrames) -> None:
    """Write the tables that are laid out, what is missing, the scores for DVC, and the study's parameters."""
    study, folder = frames.study, tables_folder(frames.study)
    warnings = [f"{w['row']} on {w['task']} {w['text']}" for w in warnings_of(frames)]
    for name, lay_out in LAID_OUT.items():
        table = lay_out(frames)
        write_shown(study, replace(table, note="\n\n".join([table.note, *(warnings if name == "main" else [])])))
    lost = frames["runs"][frames["runs"]["problem"] != ""][["label", "fingerprint", "problem"]]
    write_text(folder / "missing.csv", lost.to_csv(index=False, lineterminator="\n"))
    write_json(folder / "metrics.json", _nested(study, frames["main"]))
    write_text(folder / "params.yaml", study.as_yaml())


def _nested(study: Study, main: Any) -> dict[str, Any]:
    """Return task -> metric -> row -> mean, std, seeds in natural units, for ``dvc metrics``."""
    nested: dict[str, Any] = {}
    for _, line in main.iterrows():
        row = " ".join([line["method"], *(f"{axis}={line[axis]}" for axis in study.axes)])
        values = {name: float(line[name]) for name in ("mean", "std") if line[name] == line[name]}
        own = nested.setdefault(line["task"], {}).setdefault(line["metric"], {})
        own[row] = {**values, "seeds": int(line["seeds"])}
    return nested


def plot(study: Study) -> Path:
    """Draw every figure from the frames; returns the path of the forest plot.

    Raises:
        UserError: ``evaluate`` has not run.
    """
    frames, drawn = StudyFrames(study), figures_of(study)
    with figures.look():
        for name, draw in drawn.items():
            figures.save(study, name, draw(frames))
    # A study that once had other tasks or varied keys must not keep their figures.
    kept = {path for name in drawn for path in figures.figure_paths(study, name)}
    for path in set((study.folder / "figures").glob("*.*")) - kept:
        remove(path)
    return figures.figure_paths(study, "forest")[0]


def render(study: Study, mlflow: Mapping[str, str] | None = None) -> Path:
    """Write ``report.html``, as `render_page` returns it; returns its path."""
    from internal_kd.report.page import render_page

    path = study.folder / "report.html"
    write_text(path, render_page(study, mlflow or {}))
    return path


def make_report(study: Study, mlflow: Mapping[str, str] | None = None) -> Path:
    """Evaluate, plot and render; returns the report's path."""
    evaluate(study)
    plot(study)
    return render(study, mlflow)


def map_attention(study: Study) -> Path:
    """Compare the students' attention with their teachers'; returns the path of ``tables/attention.csv``."""
    from internal_kd.report.attention import measure_attention

    for name, frame in measure_attention(study).items():
        write_frame(study, name, frame)
    # Nothing but weights need be there: then tasks go by their names.
    write_shown(study, attention_table(StudyFrames(study, {"tasks": read_or_empty(study, "tasks")})))
    return tables_folder(study) / "attention.csv"


def measure_latency(study: Study, *, again: bool = False) -> Path:
    """Measure how fast the study's learners are on this machine; returns the path of ``tables/latency.csv``."""
    from internal_kd.report.latency import measure_latencies

    write_frame(study, "latency", measure_latencies(study, again=again))
    return tables_folder(study) / "latency.csv"

"""render_report: one self-contained page that reads like a results section, for a phone, a screen or paper."""

from __future__ import annotations

import base64
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from internal_kd.analysis.answer import answer_of
from internal_kd.analysis.built import (
    STAMPED_TABLES,
    built_from_path,
    carries,
    figure_names,
    figure_paths,
    params_path,
    recorded_key,
    report_path,
    tables_folder,
)
from internal_kd.analysis.captions import attention_captions_of, captions_of
from internal_kd.analysis.cells import FULL, cells_of, joined, label_of, teacher_layers
from internal_kd.analysis.comparisons import BEST_COLUMNS, comparisons_text
from internal_kd.analysis.efficiency import efficiency_rows, efficiency_text
from internal_kd.analysis.latency import read_latencies
from internal_kd.analysis.layout import expected_best_text, header_of, lines_of, notes_of
from internal_kd.analysis.paper import paper_text, read_paper_lines
from internal_kd.analysis.predictions import read_facts
from internal_kd.analysis.scores import GAP_COLUMNS, read_scores
from internal_kd.analysis.sentences import findings
from internal_kd.analysis.statistics import read_comparisons
from internal_kd.analysis.summaries import read_summaries
from internal_kd.analysis.tables import MainTable, summarise
from internal_kd.errors import UserError
from internal_kd.files import read_json, write_text
from internal_kd.params import load_params
from internal_kd.records import read_record
from internal_kd.study import Study, plan_study


def render_report(study: Study) -> Path:
    """Write ``results/<study>/report.html`` from the tables and figures that are there; returns its path.

    Raises:
        UserError: a table or figure is missing, or was made from other runs than the scores.
    """
    key = recorded_key(study)
    _require_same_key(study, key)
    facts, scores = {name: read_facts(tokens) for name, tokens in study.tasks.items()}, read_scores(study)
    table = summarise(study, facts, scores)
    comparisons, summaries = read_comparisons(study), read_summaries(study)
    efficiency = efficiency_rows(table, study.params.analysis.distillation_alpha, read_latencies(study), scores)
    fidelity = read_json(tables_folder(study) / "fidelity.json")
    overlay = _described_by(study)
    page = _template().render(
        key=key,
        study=study.name,
        setup=_setup(study, table),
        header=header_of(table),
        lines=lines_of(table),
        notes=notes_of(table),
        figures=[_figure(study, name, caption) for name, caption in captions_of(study).items()],
        attention=read_json(tables_folder(study) / "attention.json"),
        attention_figures=[
            _figure(study, name, caption) for name, caption in attention_captions_of(study, facts).items()
        ],
        findings=findings(table, comparisons, summaries),
        comparisons=comparisons_text(facts, comparisons),
        best=expected_best_text(table, _read_lines(tables_folder(study) / "expected_best.csv", BEST_COLUMNS)),
        fidelity=fidelity,
        answer=answer_of(study, table, comparisons, summaries, efficiency),
        efficiency=efficiency_text(table, efficiency),
        claims=read_json(tables_folder(study) / "claims.json")["claims"],
        paper=paper_text(read_paper_lines(tables_folder(study) / "paper.csv")),
        gaps=_read_lines(tables_folder(study) / "missing.csv", GAP_COLUMNS),
        runs=_runs(study),
        wanted=len(study.runs),
        commands=_commands(overlay),
        overlay=f" --overlay {overlay.as_posix()}" if overlay else "",
    )
    write_text(report_path(study), page)
    return report_path(study)


def show(study: Study) -> str:
    """Return the main table as Markdown and the report's path, for the end of a terminal session.

    Raises:
        UserError: the study has no table yet.
    """
    path = tables_folder(study) / "main.md"
    if not path.is_file():
        raise UserError(f"{path} does not exist: study {study.name!r} was not run yet; start it with internal-kd run")
    report = report_path(study)
    where = f"Report: {report}" if report.is_file() else f"Report: {report} is not rendered yet"
    return f"{path.read_text(encoding='utf-8')}\n{where}\n"


def _require_same_key(study: Study, key: str) -> None:
    made_by = {tables_folder(study) / name: verb for name, verb in STAMPED_TABLES.items()}
    made_by |= {path: "plot-figures" for name in figure_names(study) for path in figure_paths(study, name)}
    for path, verb in made_by.items():
        if not path.is_file():
            raise UserError(f"{path} does not exist: run internal-kd {verb} first")
        if not carries(path, key):
            raise UserError(
                f"{path} was made from other scores than {built_from_path(study)}: run internal-kd {verb} again"
            )


def _template() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("internal_kd.analysis", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2")


def _setup(study: Study, table: MainTable) -> list[tuple[str, str]]:
    chosen, encoder = study.params.study, study.params.encoder
    sizes = ["the full set" if size == FULL else f"{size:,}" for size in chosen.examples]
    source = {"hub": encoder.id, "package": f"package {encoder.package}", "folder": "local folder"}[encoder.source]
    rows = {facts.title: facts.rows for facts in table.tasks.values()}
    counts = [
        f"{title} ({n.get('train', 0):,} training, {n.get('dev', 0):,} dev examples)" for title, n in rows.items()
    ]
    layers, teachers = teacher_layers(study) or "?", len(study.params.teacher.seeds)
    titles = {task: facts.title for task, facts in table.tasks.items()}
    students = _epochs({(run.task, run.method.settings.epochs) for run in study.students}, titles)
    trained = _epochs({(run.task, run.training.epochs) for run in study.teachers}, titles)
    depths = joined([str(depth) for depth in chosen.depths])
    return [
        ("Tasks", joined(counts)),
        ("Teacher", f"{encoder.name} ({source}), {layers} layers, seeds: {teachers}"),
        (
            "Students",
            f"{depths} layers, seeds: {len(chosen.seeds)}, trained on {joined(sizes)}; {_first_weights(study)}",
        ),
        ("Training", f"epochs: students {students}, teachers {trained}; the model of the last epoch counts"),
    ]


def _epochs(chosen: set[tuple[str, int]], titles: dict[str, str]) -> str:
    """Return the epochs of trainings given as (task, epochs), told apart by task where tasks differ."""
    by_task = {task: " or ".join(str(n) for name, n in sorted(chosen) if name == task) for task in titles}
    if len({*by_task.values()}) == 1:
        return next(iter(by_task.values()))
    return joined([f"{epochs} ({titles[task]})" for task, epochs in by_task.items()])


def _first_weights(study: Study) -> str:
    """Say what students start from; methods that differ in it are told apart in params.yaml."""
    chosen = {method.settings.initialization for method in study.methods.values()}
    if len(chosen) > 1:
        return "differ between methods"
    (first,) = chosen
    if first.source == "random":
        return "random"
    layers = first.layers if isinstance(first.layers, str) else ", ".join(map(str, first.layers))
    source = "fine-tuned teacher" if first.source == "teacher" else "pre-trained encoder"
    return f"layers of the {source} ({layers.replace('_', ' ')})"


def _figure(study: Study, name: str, caption: str) -> dict[str, str]:
    data = base64.b64encode(figure_paths(study, name)[0].read_bytes()).decode()
    return {"name": name, "source": f"data:image/png;base64,{data}", "caption": caption}


def _read_lines(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as handle:
        return [{name: line[name] for name in columns} for line in csv.DictReader(handle)]


def _runs(study: Study) -> list[dict[str, str]]:
    scored = {score.fingerprint for score in read_scores(study)}
    runs = [run for cell in cells_of(study) for run in cell.runs if run.fingerprint in scored]
    lines = []
    for run in runs:
        record = read_record(run)
        commit = str(record.get("git_commit") or "unknown")[:10] + (" (changed)" if record.get("git_dirty") else "")
        seconds = record.get("seconds")
        lines.append(
            {
                "label": label_of(run),
                "fingerprint": run.fingerprint,
                "commit": commit,
                "device": f"{record.get('device', 'unknown')}, {record.get('precision', '?')}",
                "seconds": f"{seconds:,.0f}" if isinstance(seconds, int | float) else "–",
                "finished": str(record.get("finished", "–")),
            }
        )
    return lines


def _described_by(study: Study) -> Path | None:
    """Return the file that says the same as this study's parameters when laid over params.yaml; None for params.yaml.

    A study composed of several overlays, or with values from the command line, is described by its own copy alone.
    """
    for overlay in (None, Path("config") / f"{study.name}.yaml"):
        try:
            if plan_study(load_params("params.yaml", [overlay] if overlay else [])).as_yaml() == study.as_yaml():
                return overlay
        except UserError:
            continue
    return params_path(study)


def _commands(overlay: Path | None) -> list[str]:
    if overlay is None:
        return ["internal-kd run --cores 8 --resources gpu=2"]
    return [f"internal-kd run --cores 2 --configfile {overlay.as_posix()}"]

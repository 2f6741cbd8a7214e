"""The report of a study as one self-contained page: values for the template, which has the prose."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from internal_kd.errors import UserError
from internal_kd.plan.study import Study
from internal_kd.report.answer import answer_of, warnings_of
from internal_kd.report.appendix_tables import LAID_OUT, ON_THE_PAGE
from internal_kd.report.cells import primary_rows
from internal_kd.report.figures import MOST_PANELS, figure_paths
from internal_kd.report.layout import Shown, Strong
from internal_kd.report.pictures import TREE_PICTURES
from internal_kd.report.rows import EXPLAINED, explained_lines
from internal_kd.report.study_frames import StudyFrames
from internal_kd.report.sweeps import cost_points, sweep_name
from internal_kd.report.tables import main_table, summary_table
from internal_kd.report.words import axis_title, duration, is_share, joined
from internal_kd.statistics.reading import UNDEFINED

TEMPLATES = Path(__file__).with_name("templates")
# Rows of the open main table, and warnings that the first lines name one by one.
MOST_ROWS, MOST_WARNINGS = 24, 3
KINDS = (("csv", "CSV"), ("tex", "LaTeX"), ("md", "Markdown"))


def render_page(study: Study, mlflow: Mapping[str, str]) -> str:
    """Return the page from the frames and figures that are there.

    Args:
        mlflow: addresses of the study's experiments in MLflow by name.

    Raises:
        UserError: ``evaluate`` or ``plot`` have not run.
    """
    loader = FileSystemLoader(TEMPLATES)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["strong"] = lambda text: isinstance(text, Strong)
    # Macros see globals only, and a figure's caption is the body of its call.
    environment.globals |= {"all_kinds": KINDS, "csv_only": KINDS[:1], "laid_out_only": KINDS[1:]}
    values = page_values(StudyFrames(study)) | {"mlflow": list(mlflow.items())}
    return environment.get_template("report.html.j2").render(values)


def page_values(frames: StudyFrames) -> dict[str, Any]:
    """Return everything that the template names."""
    study, analysis, runs = frames.study, frames.study.params.analysis, frames["runs"]
    answer, warnings, (rows, baseline) = answer_of(frames), warnings_of(frames), primary_rows(study)
    tests = frames["tasks"][frames["tasks"]["scored_on"] == "test set"]["task"]
    return {
        "study": study.name,
        "folder": study.folder.as_posix(),
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "facts": _facts(frames),
        "warnings": warnings[:MOST_WARNINGS],
        "more_warnings": max(0, len(warnings) - MOST_WARNINGS),
        "several_tasks": len(study.tasks) > 1,
        "planned": len(runs),
        "gaps": int((runs["problem"] != "").sum()),
        "answer": answer,
        "asks": bool(rows and baseline),
        "undefined": UNDEFINED in set(frames.asked["reading"]),
        "margin": f"{analysis.margin:g}",
        "alpha": f"{analysis.alpha:g}",
        "question": f"{joined(map(frames.name, rows))} against {frames.name(baseline)}" if baseline else "none",
        "main": _main(frames),
        "tables": {name: lay_out(frames) for name, lay_out in (LAID_OUT | ON_THE_PAGE).items()},
        "figures": _figures(frames, answered=answer is not None),
        "explained": EXPLAINED,
        "latency": frames["latency"]["median_ms"].notna().any(),
        "claims": frames["claims"].to_dict("records"),
        "on_test": joined(frames.task(name) for name in tests if name in study.tasks),
    }


def _facts(frames: StudyFrames) -> list[str]:
    """Return the line below the title: dates, commit, machine, runs, time, encoder, tasks."""
    done = frames["runs"][frames["runs"]["problem"] == ""]
    first, last = str(done["started"].min())[:10], str(done["finished"].max())[:10]
    commits = [commit[:8] for commit in dict.fromkeys(done["git_commit"]) if commit]
    changed = " (with local changes)" if done["git_dirty"].fillna(False).any() else ""
    more = f" and {len(commits) - 1} more" if commits[1:] else ""
    sizes = frames["tasks"].dropna(subset=["train", "dev"])
    tasks = joined(
        f"{line['title']} ({line['train']:,} training, {line['dev']:,} {line['scored_on'].split()[0]} examples)"
        for line in sizes.to_dict("records")
    )
    if len(sizes) > MOST_PANELS:
        tasks = f"{len(sizes)} tasks with {sizes['dev'].min():,} to {sizes['dev'].max():,} examples each"
    facts = (
        (first if first == last else f"{first} to {last}") if len(done) else "",
        f"commit {commits[-1]}{changed}{more}" if commits else "",
        joined(dict.fromkeys(device for device in done["device"] if device)),
        f"{len(done)} of {len(frames['runs'])} runs",
        f"{duration(done['seconds'].sum())} of training" if len(done) else "",
        f"encoder {frames.study.params.encoder.name}"
        if any(inputs.encoder for inputs in frames.study.tasks.values())
        else "",
        tasks,
    )
    return [fact for fact in facts if fact]


def _main(frames: StudyFrames) -> Shown:
    """Return the open main table: of too many rows those at the shown point, of too many tasks their mean."""
    main = frames["main"]
    if main.groupby(["method", *frames.study.axes]).ngroups > MOST_ROWS:
        main = frames.at_point(main)
    table = main_table(frames, main, all_metrics=False)
    if len(table.parts) == 1 or not all(map(is_share, frames.metrics.values())):
        return table
    return summary_table(frames, main, frames.at_point(frames["pooled"]))


def _figures(frames: StudyFrames, *, answered: bool) -> dict[str, Any]:
    """Return the figures that have something to show, by name; those that there are several of as lists."""
    study, attention = frames.study, frames.measured("attention")
    has = {
        "forest": answered,
        "forest_by_task": answered and len(study.tasks) > MOST_PANELS,
        "cost": len(cost_points(frames)["score"].dropna()) > 1,
        "scores": frames["main"]["mean"].notna().any(),
        "learning": len(frames["curves"]) > 0,
        **{name: explained_lines(frames, name)["method"].nunique() > 1 for name in EXPLAINED},
    }
    tasks = [task for task in study.tasks if attention[attention["task"] == task]["kl"].notna().any()]
    return {name: _figure(study, name) if shown else None for name, shown in has.items()} | {
        "sweeps": [_figure(study, sweep_name(axis), axis=axis_title(axis)) for axis in study.axes],
        "heads": [_figure(study, f"attention_heads_{task}", task=frames.task(task)) for task in tasks],
        "maps": [_figure(study, f"attention_maps_{task}", task=frames.task(task)) for task in tasks],
        "trees": [
            _figure(study, f"tree_{picture}_{task}")
            for task in dict.fromkeys(frames["tree_pictures"]["task"])
            for picture in TREE_PICTURES
        ],
        "distilled": [
            _figure(study, f"distilled_{task}") for task in dict.fromkeys(frames["distilled_examples"]["task"])
        ],
    }


def _figure(study: Study, name: str, **more: str) -> dict[str, Any]:
    """Return a figure's name, content and size in CSS pixels."""
    path = figure_paths(study, name)[0]
    try:
        data = path.read_bytes()
    except OSError:
        raise UserError(f"{path} does not exist; make it with internal-kd plot") from None
    head = data[:2000].decode("utf-8", "replace")
    width, height = (float(re.search(rf'<svg[^>]* {side}="([\d.]+)pt"', head)[1]) for side in ("width", "height"))  # type: ignore[index]
    source = f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"
    return {"name": name, "source": source, "width": round(width * 4 / 3), "height": round(height * 4 / 3), **more}

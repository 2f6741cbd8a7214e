"""The report of a study as one self-contained page: values for the template, which has the prose."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.errors import UserError
from internal_kd.plan.study import Study
from internal_kd.report import appendix_tables as appendix
from internal_kd.report import reproduce, tables
from internal_kd.report.answer import Findings
from internal_kd.report.attention_figures import attention_names
from internal_kd.report.cells import primary_rows
from internal_kd.report.figures import EXPLAINED, MOST_PANELS, at_point, figure_paths, measured_attention
from internal_kd.report.frames import Frames, read_or_empty
from internal_kd.report.layout import Layout, Shown, Strong
from internal_kd.report.settings import settings_table
from internal_kd.report.sweeps import cost_points, sweep_name
from internal_kd.report.tables import NEW
from internal_kd.report.tree_figures import tree_names
from internal_kd.report.words import (
    axis_title,
    duration,
    is_share,
    joined,
)

if TYPE_CHECKING:
    pass

TEMPLATES = Path(__file__).with_name("templates")
# Rows of the open main table.
MOST_ROWS = 24
# Warnings that the first lines name one by one.
MOST_WARNINGS = 3
KINDS = (("csv", "CSV"), ("tex", "LaTeX"), ("md", "Markdown"))


def render_page(study: Study, mlflow: Mapping[str, str]) -> str:
    """Return the page from the frames and figures that are there.

    Args:
        study: what is reported.
        mlflow: addresses of the study's experiments in MLflow by name.

    Raises:
        UserError: ``evaluate`` or ``plot`` have not run.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = lambda text: text.replace(" ", "\u00a0")
    environment.tests["strong"] = lambda text: isinstance(text, Strong)
    # Macros see globals only, and a figure's caption is the body of its call.
    environment.globals |= {"all_kinds": KINDS, "csv_only": KINDS[:1]}
    return environment.get_template("report.html.j2").render(_Page(study).values() | {"mlflow": list(mlflow.items())})


class _Page:
    """The values of a study's page, each computed once."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.frames = Frames(study)
        self.layout = Layout(study, self.frames["tasks"])
        self.runs = self.frames["runs"]
        self.findings = Findings(study, self.layout)
        self.why = self.findings.why()

    def values(self) -> dict[str, Any]:
        """Return everything that the template names."""
        analysis = self.study.params.analysis
        finished = int((self.runs["problem"] == "").sum())
        answer, why, claims = self.findings.answer(), self.why, self._claims()
        shown_tables, figures, warnings = self._tables(), self._figures(answer is not None), self.findings.warnings()
        contents = {
            "answer": "Answer", "scores": "Scores", "cost": "Cost" if figures["cost"] else "",
            "why": "Why" if why else "", "claims": "Claims" if claims else "", "appendix": "Appendix",
        }  # fmt: skip
        rows, baseline = primary_rows(self.study)
        return {
            "study": self.study.name,
            "css": _css(),
            "facts": self._facts(finished),
            "contents": [(anchor, title) for anchor, title in contents.items() if title],
            "warnings": warnings[:MOST_WARNINGS],
            "more_warnings": max(0, len(warnings) - MOST_WARNINGS),
            "several_tasks": len(self.study.tasks) > 1,
            "planned": len(self.runs),
            "gaps": len(self.runs) - finished,
            "answer": answer,
            "asks": bool(rows and baseline),
            "margin": f"{analysis.margin:g}",
            "alpha": f"{analysis.alpha:g}",
            "question": f"{joined(self.findings.name(row) for row in rows)} against {self.findings.name(baseline)}"
            if baseline
            else "none",
            "main": self._main(),
            "tables": shown_tables,
            "figures": figures,
            "sweeps": [self._figure(sweep_name(axis)) | {"axis": axis_title(axis)} for axis in self.study.axes],
            "latency": read_or_empty(self.study, "latency")["median_ms"].notna().any(),
            "why": why,
            "claims": claims,
            "attention": self._attention(),
            "trees": self._trees(),
            "on_test": joined(self.layout.task(name) for name in self._on_test()),
            "command": reproduce.command(self.study),
        }

    # The head

    def _facts(self, finished: int) -> list[str]:
        done = self.runs[self.runs["problem"] == ""]
        facts = []
        if len(done):
            first, last = str(done["started"].min()), str(done["finished"].max())
            facts.append(f"{first[:10]} to {last[:10]}" if first[:10] != last[:10] else last[:10])
            commits = [c[:8] for c in dict.fromkeys(done["git_commit"]) if c]
            changed = " (with local changes)" if done["git_dirty"].fillna(False).any() else ""
            if commits:
                facts.append(
                    f"commit {commits[-1]}{changed}" + (f" and {len(commits) - 1} more" if commits[1:] else "")
                )
            facts.append(joined(dict.fromkeys(device for device in done["device"] if device)))
        facts.append(f"{finished} of {len(self.runs)} runs")
        if len(done):
            facts.append(f"{duration(done['seconds'].sum())} of training")
        if any(inputs.encoder for inputs in self.study.tasks.values()):
            facts.append(f"encoder {self.study.params.encoder.name}")
        sizes = self.layout.tasks.dropna(subset=["train", "dev"])
        tasks = joined(
            f"{line['title']} ({line['train']:,} training, {line['dev']:,} {line['scored_on'].split()[0]} examples)"
            for _, line in sizes.iterrows()
        )
        if len(sizes) > MOST_PANELS:
            tasks = f"{len(sizes)} tasks with {sizes['dev'].min():,} to {sizes['dev'].max():,} examples each"
        return [fact for fact in (*facts, tasks) if fact]

    def _claims(self) -> list[dict[str, str]]:
        return self.frames["claims"].to_dict("records")

    # Tables and figures

    def _main(self) -> Shown:
        """Return the open main table: of too many rows those at the shown point, of too many tasks their mean."""
        many = self.frames["main"].groupby(["method", *self.study.axes]).ngroups > MOST_ROWS
        rows = at_point(self.study, self.frames["main"]) if many else self.frames["main"]
        table = tables.main_table(self.layout, rows, self.frames["comparisons"], all_metrics=False)
        shares = all(is_share(metric) for metric in self.layout.metrics.values())
        if len(table.parts) == 1 or not shares:
            return table
        return tables.summary_table(self.layout, rows, at_point(self.study, self.frames["pooled"]))

    def _tables(self) -> dict[str, Any]:
        study, layout = self.study, self.layout
        classes, confusion, phenomena = (
            at_point(study, self.frames[name]) for name in ("classes", "confusion", "phenomena")
        )
        family = self.frames["comparisons"]["family"] == "primary"
        laid_out = {name: lay_out(layout, self.frames) for name, lay_out in tables.LAID_OUT.items()}
        return laid_out | {
            "primary": tables.comparisons_table(layout, self.frames["comparisons"][family]),
            "secondary": tables.comparisons_table(layout, self.frames["comparisons"][~family]),
            "classes": appendix.classes_table(layout, classes),
            "confusion": [appendix.confusion_table(layout, confusion, t) for t in dict.fromkeys(confusion["task"])],
            "phenomena": [appendix.phenomena_table(layout, phenomena, t) for t in dict.fromkeys(phenomena["task"])],
            "disagreements": self._disagreements(),
            "expected_best": appendix.best_table(layout, self.frames["expected_best"]),
            "attention": appendix.attention_table(study, measured_attention(study, "attention_means")),
            "settings": settings_table(study),
            "warnings": appendix.warnings_table(self.findings.warnings()),
            "missing": appendix.missing_table(self.runs),
            "runs": appendix.runs_table(self.runs),
        }

    def _disagreements(self) -> list[Shown]:
        frame = at_point(self.study, self.frames["disagreements"])
        lines = self.findings.question()
        order = lines[lines["scope"] == NEW].sort_values("difference", ascending=False)["method"]
        chosen = next((method for method in order if method in set(frame["method"])), None)
        if chosen is None:
            return []
        tasks = [task for task in self.study.tasks if ((frame["task"] == task) & (frame["method"] == chosen)).any()]
        return [appendix.disagreements_table(self.layout, frame, task, chosen) for task in tasks]

    def _figures(self, answered: bool) -> dict[str, Any]:
        study = self.study
        has = {
            "forest": answered,
            "forest_by_task": answered and len(study.tasks) > MOST_PANELS,
            "cost": len(cost_points(study)["score"].dropna()) > 1,
            "scores": self.frames["main"]["mean"].notna().any(),
            "learning": len(self.frames["curves"]) > 0,
        }
        has |= {name: name in self.why for name in EXPLAINED}
        return {name: self._figure(name) if shown_ else None for name, shown_ in has.items()}

    def _attention(self) -> dict[str, list[dict[str, Any]]] | None:
        known = measured_attention(self.study, "attention")
        tasks = [task for task in self.study.tasks if known[known["task"] == task]["kl"].notna().any()]
        if not tasks:
            return None
        return {
            kind: [self._figure(f"attention_{kind}_{task}") | {"task": self.layout.task(task)} for task in tasks]
            for kind in ("heads", "maps")
            if set(attention_names(self.study))
        }

    def _on_test(self) -> list[str]:
        """Return the tasks without a dev set, whose scores are on their test set."""
        tasks = self.layout.tasks
        return [name for name in tasks[tasks["scored_on"] == "test set"]["task"] if name in self.study.tasks]

    def _trees(self) -> list[dict[str, Any]]:
        known = set(read_or_empty(self.study, "tree_nodes")["task"])
        return [self._figure(name) for name in tree_names(self.study) if name.split("_", 2)[2] in known]

    def _figure(self, name: str) -> dict[str, Any]:
        path = figure_paths(self.study, name)[0]
        try:
            data = path.read_bytes()
        except OSError:
            raise UserError(f"{path} does not exist; make it with internal-kd plot") from None
        width, height = _size(data)
        source = f"data:image/svg+xml;base64,{base64.b64encode(data).decode()}"
        return {
            "name": name,
            "source": source,
            "alt": f"Figure {name.replace('_', ' ')}",
            "width": width,
            "height": height,
        }


def _css() -> str:
    from markupsafe import Markup

    return Markup((TEMPLATES / "report.css").read_text(encoding="utf-8"))


def _size(svg: bytes) -> tuple[int, int]:
    """Return the size of a figure in CSS pixels."""
    head = svg[:2000].decode("utf-8", "replace")
    found = re.search(r'width="([\d.]+)pt" height="([\d.]+)pt"|height="([\d.]+)pt".*?width="([\d.]+)pt"', head, re.S)
    if not found:
        return 640, 320
    width, height = (found[1], found[2]) if found[1] else (found[4], found[3])
    return round(float(width) * 96 / 72), round(float(height) * 96 / 72)

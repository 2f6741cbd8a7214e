"""What a study's tables, figures and report are made of, and whether they are still made of it.

The answer is the set of wanted fingerprints with the state of each, the study's titles and order, and the version of
the analysis; never a modification time. Free of pandas, numpy and torch: the planner asks at every start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from internal_kd.analysis.cells import cells_of
from internal_kd.artefacts import TaskData
from internal_kd.errors import UserError
from internal_kd.files import sha256_file, sha256_text
from internal_kd.params.sources import FilesEntry
from internal_kd.records import problem_with
from internal_kd.study import Study

# Raised when the same runs give other tables, figures or another report.
ANALYSIS = 9

CLAIMS_FILE = Path("paper/claims.yaml")
FIGURE_TYPES = ("png", "svg")
# A timing is never the same twice, so it is made before the scores and is no part of what determines them.
LATENCY_TABLE = "latency.csv"
SCORE_TABLES = (
    "scores.csv", "missing.csv", "main.csv", "main.md", "main.tex", "efficiency.csv", "efficiency.md", "efficiency.tex",
    "metrics.json", "params.yaml", "built_from.json",
)  # fmt: skip
COMPARISON_TABLES = (
    "cells.csv", "comparisons.csv", "comparisons.md", "comparisons.tex", "expected_best.csv", "paper.csv", "paper.md",
    "paper.tex", "claims.json",
)  # fmt: skip
FIDELITY_TABLES = (
    "fidelity.csv", "fidelity.md", "fidelity.tex", "fidelity_comparisons.csv", "fidelity_comparisons.md",
    "fidelity_comparisons.tex", "calibration.csv", "calibration.md", "calibration.tex", "reliability.csv",
    "fidelity.json",
)  # fmt: skip
ATTENTION_TABLES = ("attention.csv", "attention.md", "attention.tex", "attention_means.csv", "attention.json")
# Drawn for every task, for a page holds the maps of one.
ATTENTION_FIGURES = ("attention_kl", "attention_maps")
# Written last by their verbs, with the key of the scores they were made from.
STAMPED_TABLES = {
    "claims.json": "compare-runs",
    "fidelity.json": "measure-fidelity",
    "attention.json": "map-attention",
}


def tables_folder(study: Study) -> Path:
    """``results/<study>/tables``."""
    return study.folder / "tables"


def built_from_path(study: Study) -> Path:
    """``results/<study>/tables/built_from.json``, written when the scores are whole."""
    return tables_folder(study) / "built_from.json"


def params_path(study: Study) -> Path:
    """``results/<study>/tables/params.yaml``, the study's parameters in one piece, overlays and all."""
    return tables_folder(study) / "params.yaml"


def report_path(study: Study) -> Path:
    """``results/<study>/report.html``."""
    return study.folder / "report.html"


def attention_maps_path(study: Study) -> Path:
    """``results/<study>/figures/attention_maps.json``, which holds texts of the data and so is no table for git."""
    return study.folder / "figures" / "attention_maps.json"


def export_path(study: Study, task: str) -> Path:
    """``results/<study>/export/<task>/export.json``, written last of what ``export_students`` makes."""
    return study.folder / "export" / task / "export.json"


def figure_names(study: Study) -> tuple[str, ...]:
    """Return the figures a study has: one over depths or sizes needs more than one of them."""
    names = ["main", "learning", "reliability"]
    if len(study.params.study.depths) > 1:
        names.append("depth")
    if len(study.params.study.examples) > 1:
        names.append("size")
    return (*names, *(name for kind in ATTENTION_FIGURES for name in attention_figures(study, kind)))


def attention_figures(study: Study, kind: str) -> dict[str, str]:
    """Return the tasks by their figure of one of the two kinds, ``attention_kl_<task>``."""
    return {f"{kind}_{task}": task for task in study.tasks}


def figure_paths(study: Study, name: str) -> tuple[Path, ...]:
    """Return ``results/<study>/figures/<name>.png`` and ``.svg``."""
    return tuple(study.folder / "figures" / f"{name}.{kind}" for kind in FIGURE_TYPES)


def outputs_of(study: Study) -> dict[str, tuple[Path, ...]]:
    """Return every output of the analysis by the verb that makes it."""
    tables = tables_folder(study)
    return {
        "measure-latency": (tables / LATENCY_TABLE,),
        "score-runs": tuple(tables / name for name in SCORE_TABLES),
        "compare-runs": tuple(tables / name for name in COMPARISON_TABLES),
        "measure-fidelity": tuple(tables / name for name in FIDELITY_TABLES),
        "map-attention": (*(tables / name for name in ATTENTION_TABLES), attention_maps_path(study)),
        **{f"plot-{name}": figure_paths(study, name) for name in figure_names(study)},
        "render-report": (report_path(study),),
    }


def describe_inputs(study: Study, problems: dict[str, str] | None = None) -> dict[str, Any]:
    """Return all that determines the outputs: the analysis' version, the study's layout, and every run's state.

    ``problems`` maps runs' folders to what is wrong with each, where that is known by content; otherwise files are
    compared by size. Runs go by their folder, which ends in the fingerprint.
    """
    states = {}
    for folder, run in sorted({str(run.folder): run for run in study.runs}.items()):
        problem = problem_with(run) if problems is None else problems.get(folder)
        states[folder] = {"record": _sha256_or_none(run.marker), "problem": problem}
    return {
        "analysis": ANALYSIS,
        "study": study.name,
        "rows": [
            [*cell.key, cell.id, cell.title, list(cell.baselines), [run.fingerprint for run in cell.runs]]
            for cell in cells_of(study)
        ],
        "weights": study.params.analysis.model_dump(),
        "paper": _sha256_or_none(CLAIMS_FILE),
        "tasks": {name: _state_of(tokens.data) for name, tokens in study.tasks.items()},
        "runs": states,
    }


def _state_of(data: TaskData) -> Any:
    """Return what a task's examples are, and what one's own files are scored by, which their manifest does not say."""
    examples = _sha256_or_none(data.marker)
    return [examples, *data.entry.metrics] if isinstance(data.entry, FilesEntry) else examples


def key_of(inputs: dict[str, Any]) -> str:
    """Return one short word for a description of the inputs; every output carries it."""
    return sha256_text(json.dumps(inputs, sort_keys=True, ensure_ascii=False))[:16]


def recorded_key(study: Study) -> str:
    """Return the key of the scores that are there.

    Raises:
        UserError: there are none.
    """
    try:
        return str(json.loads(built_from_path(study).read_text(encoding="utf-8"))["key"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{built_from_path(study)} is missing or cut short: run internal-kd score-runs first") from None


def is_current(study: Study) -> bool:
    """Whether every output exists and was made from exactly the runs that are wanted and there now."""
    return scores_are_current(study) and not stale_outputs(study, recorded_key(study))


def scores_are_current(study: Study) -> bool:
    """Whether the scores were made from exactly the runs that are wanted and there now."""
    try:
        recorded = json.loads(built_from_path(study).read_text(encoding="utf-8"))
        del recorded["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return recorded == describe_inputs(study)


def stale_outputs(study: Study, key: str) -> tuple[Path, ...]:
    """Return the outputs that are missing, or carry the key of other scores."""
    outputs = outputs_of(study)
    stamped = [*(tables_folder(study) / name for name in STAMPED_TABLES), *outputs["render-report"]]
    stamped += [path for name in figure_names(study) for path in outputs[f"plot-{name}"]]
    plain = [path for paths in outputs.values() for path in paths if path not in stamped]
    missing = [path for path in plain if not path.is_file()]
    return (*missing, *(path for path in stamped if not carries(path, key)))


def carries(path: Path, key: str) -> bool:
    """Whether a file was made from the scores with this key."""
    try:
        return key.encode() in path.read_bytes()
    except OSError:
        return False


def _sha256_or_none(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None

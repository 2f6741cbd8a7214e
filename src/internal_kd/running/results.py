"""Whether a study's tables, figures and report are those of the runs that are there now; file times do not count.

``results/<study>/made_from.json`` records what they were made from: the study's parameters, the source code that makes
them, and the ``run.json`` of every run. What differs from that is made again, in seconds. ``evaluating`` notes it with
the frames; the report, which is made last, takes it over (``record_results``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from internal_kd.checksums import sha256_file, sha256_text
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, remove, write_json
from internal_kd.plan.identity import PAPERS, WORK
from internal_kd.plan.store import problem_with
from internal_kd.plan.study import Study
from internal_kd.report.make import outputs

# What decides the numbers and the looks of results, below the package's folder.
MAKERS = ("report", "statistics", "tasks")


def made_from_path(study: Study) -> Path:
    """``results/<study>/made_from.json``."""
    return study.folder / "made_from.json"


def published_path(study: Study) -> Path:
    """``work/published/<study>.txt``, which records what MLflow shows; scratch, as MLflow's own database."""
    return WORK / "published" / f"{study.name}.txt"


def what_decides(study: Study) -> dict[str, Any]:
    """Return all that determines a study's results; runs go by their folders, which end in their fingerprints."""
    return {
        **_recipe(study),
        "tasks": {name: _sha256_or_none(inputs.data.marker) for name, inputs in study.tasks.items()},
        "runs": {str(run.folder): problem_with(run) or _sha256_or_none(run.marker) for run in study.runs},
    }


def recipe_key(study: Study) -> str:
    """Return one short word for how results are made, whatever is there."""
    return _key(_recipe(study))


def recorded_key(study: Study) -> str:
    """Return one short word for what the results that are there were made from, empty if there are none."""
    with suppress(UserError):
        return _key(read_mapping(made_from_path(study)))
    return ""


def is_current(study: Study) -> bool:
    """Whether every output exists and was made from exactly the runs that are needed and there now."""
    there = all(path.is_file() for paths in outputs(study).values() for path in paths)
    with suppress(UserError):
        return there and read_mapping(made_from_path(study)) == what_decides(study)
    return False


@contextmanager
def evaluating(study: Study) -> Iterator[None]:
    """Evaluate a study in the block; what is there when it begins is what the frames are made from."""
    forget_results(study)
    decided_by = what_decides(study)
    yield
    write_json(_evaluated_path(study), decided_by)


def record_results(study: Study) -> None:
    """Record that the results are those of the last evaluation, now that all of them are there."""
    with suppress(UserError):
        write_json(made_from_path(study), read_mapping(_evaluated_path(study)))


def forget_results(study: Study) -> None:
    """Let everything be evaluated again, because something that it rests on is made again."""
    for path in (made_from_path(study), _evaluated_path(study)):
        remove(path)


def _evaluated_path(study: Study) -> Path:
    return study.folder / "frames/made_from.json"


def _recipe(study: Study) -> dict[str, Any]:
    params = study.params.model_dump(mode="json", exclude={"machine"}, by_alias=True)
    return {
        "study": study.name,
        "parameters": sha256_text(json.dumps(params, sort_keys=True)),
        "claims": {str(path): sha256_file(path) for path in sorted(PAPERS.glob("*.yaml"))},
        "source": _source_code(),
        "plugins": {path: _sha256_or_none(Path(path)) for path in study.params.plugins},
    }


@cache
def _source_code() -> str:
    found = sorted(path for name in MAKERS for path in (Path(__file__).parents[1] / name).rglob("*") if path.is_file())
    return sha256_text("".join(sha256_file(path) for path in found if path.suffix != ".pyc"))


def _sha256_or_none(path: Path) -> str | None:
    try:
        return sha256_file(path)
    except OSError:
        return None


def _key(values: dict[str, Any]) -> str:
    return sha256_text(json.dumps(values, sort_keys=True, ensure_ascii=False))[:16]

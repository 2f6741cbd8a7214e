"""The command that makes a study again: params.yaml with the overlays that mean exactly this study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from internal_kd.errors import UserError
from internal_kd.params import Params, merge, parse_params, read_yaml
from internal_kd.params.study import StudyParams
from internal_kd.plan.study import Study
from internal_kd.report.frames import tables_folder

MAIN = Path("params.yaml")
# Where overlays may lie, and how many are tried on top of each other.
OVERLAYS = ("config/**/*.yaml", "*.yaml")
MOST = 3


def command(study: Study) -> str:
    """Return the command: with the project's overlays, or else with the study's own copy of its parameters."""
    overlays = overlays_of(study)
    if overlays is None:
        overlays = (tables_folder(study) / "params.yaml",)
    machine = "--cores 2" if overlays else "--cores 8 --resources gpu=2"
    return " ".join(["internal-kd run", machine, *(f"--overlay {path.as_posix()}" for path in overlays)])


def overlays_of(study: Study) -> tuple[Path, ...] | None:
    """Return the fewest overlays that, laid over params.yaml in this order, mean a study; None if none do."""
    try:
        main = read_yaml(MAIN)
        files = dict(_overlays(path for pattern in OVERLAYS for path in sorted(Path().glob(pattern))))
    except UserError:
        return None
    for number in range(MOST + 1):
        for paths in permutations(files, number):
            values = [main, *(files[path] for path in paths)]
            if _last_name(values) == study.name and _means(values, study.params):
                return paths
    return None


def _overlays(paths: Iterable[Path]) -> Iterable[tuple[Path, dict[str, Any]]]:
    for path in paths:
        try:
            values = read_yaml(path)
        except UserError:
            continue
        if path != MAIN and set(values) <= set(Params.model_fields):
            yield path, values


def _last_name(values: Sequence[dict[str, Any]]) -> Any:
    studies = [value.get("study") for value in values]
    return [study["name"] for study in studies if isinstance(study, dict) and "name" in study][-1]


def _means(values: Sequence[dict[str, Any]], params: Params) -> bool:
    merged: dict[str, Any] = {}
    for value in values:
        merged = merge(merged, value)
    try:
        # Most overlays differ in this, which is read much faster than the whole.
        if StudyParams.model_validate(merged.get("study")) != params.study:
            return False
        return parse_params(merged).model_copy(update={"machine": params.machine}) == params
    except (UserError, ValidationError):
        return False

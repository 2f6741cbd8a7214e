"""Plans for tests: a task or an encoder as the planner would name it, in a project of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internal_kd.artefacts import EncoderFiles, TaskData, TokenizedTask
from internal_kd.identity import ContentHashes
from internal_kd.params import parse_params, read_yaml
from internal_kd.study import plan_encoder, plan_study

PARAMS = read_yaml(Path(__file__).parents[1] / "params.yaml")


def study_values(tasks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The paper's parameters with other tasks, and two layers for students."""
    study = {**PARAMS["study"], "tasks": list(tasks), "depths": [2], "methods": ["soft"]}
    return PARAMS | {"tasks": tasks, "study": study} | changes


def planned(tasks: dict[str, Any], **changes: Any) -> TokenizedTask:
    """The first task of a study, planned."""
    return next(iter(plan_study(parse_params(study_values(tasks, **changes))).tasks.values()))


def planned_task(entry: dict[str, Any], **changes: Any) -> TaskData:
    """A task called "mine"."""
    return planned({"mine": entry}, **changes).data


def planned_encoder(**encoder: Any) -> EncoderFiles:
    """An encoder."""
    params = parse_params(study_values({"rte": None}, encoder={"name": "tiny", **encoder}))
    return plan_encoder(params.encoder, ContentHashes())

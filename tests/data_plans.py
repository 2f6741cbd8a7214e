"""Plans for tests of data: a task, an encoder or inputs as the planner would name them, in a project of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.plan.artefacts import Data, Encoder, Inputs
from internal_kd.plan.identity import ContentHashes
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.sources import plan_data, plan_encoder

PARAMS = read_yaml(Path(__file__).parents[1] / "params.yaml")


def planned_data(entry: dict[str, Any] | None, name: str = "mine", **changes: Any) -> Data:
    """A task, called "mine" if it is not one of GLUE's."""
    values = merge({**PARAMS, "tasks": {name: entry}}, {"study": {"tasks": [name]}, **changes})
    return plan_data(parse_params(values), name, ContentHashes())


def planned_encoder(**encoder: Any) -> Encoder:
    """An encoder, called "tiny"."""
    params = parse_params({**PARAMS, "encoder": {"name": "tiny", **encoder}})
    return plan_encoder(params.encoder, ContentHashes(), "encoder")


def planned_inputs(entry: dict[str, Any], encoder: Path, length: int = 9) -> Inputs:
    """A task as the encoder in a folder reads it."""
    source = planned_encoder(source="folder", path=str(encoder))
    return Inputs(RECIPES["encode_task"], planned_data(entry), source, length)

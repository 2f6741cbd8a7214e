"""A study's parameters as files: one for DVC, which knows params.yaml and no overlays, and a schema for editors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from internal_kd.params import Params, merge, parse_params, read_yaml

SCHEMA_FILE = Path("workflow/schemas/params.schema.json")


def merged_text(params: str | Path, overlays: Sequence[str | Path]) -> str:
    """Return a parameter file with its overlays laid over it as YAML, without comments.

    Raises:
        UserError: a file cannot be read, or they do not describe a study together.
    """
    values = read_yaml(params)
    for overlay in overlays:
        values = merge(values, read_yaml(overlay))
    parse_params(values, " + ".join(map(str, [params, *overlays])))
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)


def schema_text() -> str:
    """Return the JSON schema of params.yaml, for editors; the program itself checks the typed parameters."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    named = schema["properties"]["tasks"]["patternProperties"]
    # A bare `rte:` is the GLUE task of that name; the typed parameters fill it in before they are checked.
    schema["properties"]["tasks"]["patternProperties"] = {
        pattern: {"anyOf": [{"type": "null"}, entry]} for pattern, entry in named.items()
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"

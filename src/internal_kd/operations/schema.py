"""The JSON schema of params.yaml, for editors; the program itself checks through the typed parameters."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from internal_kd.files import write_text
from internal_kd.params.study import Params

SCHEMA_FILE = Path("workflow/schemas/params.schema.json")


def schema_text() -> str:
    """Return the schema as the text of its file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
    named = schema["properties"]["tasks"]["patternProperties"]
    # A bare `rte:` is the GLUE task of that name; the typed parameters fill it in before they are checked.
    schema["properties"]["tasks"]["patternProperties"] = {
        pattern: {"anyOf": [{"type": "null"}, entry]} for pattern, entry in named.items()
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def schema(options: argparse.Namespace) -> int:
    """Print the schema, or write it to its place."""
    if options.write:
        write_text(SCHEMA_FILE, schema_text())
        print(SCHEMA_FILE)
    else:
        print(schema_text(), end="")
    return 0

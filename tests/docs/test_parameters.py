"""docs/parameters.md explains every key of params.yaml, as params.yaml says."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_key_is_explained():
    schema = json.loads((ROOT / "workflow/schemas/params.schema.json").read_text(encoding="utf-8"))
    groups = [schema, *schema["$defs"].values()]
    keys = {key for group in groups for key in group.get("properties", {})}
    page = (ROOT / "docs/parameters.md").read_text(encoding="utf-8")
    # In backticks, by itself or as `section.key`, or in one of the examples.
    explained = set(re.findall(r"[`.](\w+)`", page))
    explained |= set(re.findall(r"(\w+): ", "".join(re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL))))
    assert keys - explained == set()

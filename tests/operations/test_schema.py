from pathlib import Path

from internal_kd.operations.schema import SCHEMA_FILE, schema_text

ROOT = Path(__file__).parents[2]


def test_the_committed_schema_is_what_the_typed_parameters_say() -> None:
    assert (ROOT / SCHEMA_FILE).read_text(encoding="utf-8") == schema_text(), "run `internal-kd schema --write`"


def test_the_committed_parameters_and_overlays_suit_the_schema() -> None:
    import json

    import jsonschema

    from internal_kd.params import merge, read_yaml

    schema = json.loads(schema_text())
    params = read_yaml(ROOT / "params.yaml")
    for overlay in [{}, *(read_yaml(path) for path in sorted((ROOT / "config").glob("*.yaml")))]:
        jsonschema.validate(merge(params, overlay), schema)

"""A study's parameters as files: what Snakemake is given, what its jobs read, one for DVC, a schema for editors."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError
from internal_kd.files import write_text
from internal_kd.params import Params, merge, parse_params, read_merged, read_yaml, with_nulls
from internal_kd.plan.identity import WORK

MAIN = Path("params.yaml")
SNAPSHOTS = WORK / "params"
SCHEMA_FILE = Path("workflow/schemas/params.schema.json")


def check_config_files(overlays: Iterable[Path | str] = ()) -> None:
    """Read params.yaml, if there is one, and overlays as strictly as internal-kd itself does.

    Snakemake takes a file with ``__use_yte__: true`` for a template and runs the Python in it; no study needs that.

    Raises:
        UserError: a file cannot be read, or is such a template.
    """
    for path in (*filter(Path.exists, (MAIN,)), *overlays):
        for key in read_yaml(path):
            if str(key).startswith("__"):
                raise UserError(f"{path}: {key} makes this a template that runs Python: remove it and write plain YAML")


def read_given(configfiles: Sequence[Path], given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return the parameters that Snakemake was started with, and what they are called in errors.

    The files of ``--configfile`` are laid over params.yaml, and the values of ``--config``, ``given``, over both.
    """
    values = read_merged((*((MAIN,) if MAIN.exists() or not configfiles else ()), *configfiles))
    here = Path.cwd()
    files = [str(file.relative_to(here)) if file.is_relative_to(here) else str(file) for file in configfiles]
    return with_nulls(merge(values, given), given), " + ".join([str(MAIN), *files, *(["--config"] if given else [])])


def snapshot(values: Mapping[str, Any]) -> Path:
    """Write parameters to ``work/params/<hash>.yaml`` and return that path.

    Every job reads it there, so that --config, --configfile and an edit of params.yaml while jobs wait all mean
    what they meant when the runs were planned.
    """
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    path = SNAPSHOTS / f"{sha256_text(text)[:12]}.yaml"
    if not path.exists():
        write_text(path, text)
    return path


def merged_text(params: str | Path, overlays: Sequence[str | Path]) -> str:
    """Return a parameter file with its overlays laid over it as YAML, without comments.

    Raises:
        UserError: a file cannot be read, or they do not describe a study together.
    """
    values = read_merged((params, *overlays))
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

"""The files that describe a study, before Snakemake reads them, and the option that names them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.params import read_yaml

MAIN = Path("params.yaml")


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

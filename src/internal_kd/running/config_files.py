"""The configuration that Snakemake reads, looked at before Snakemake does.

Snakemake takes a file with ``__use_yte__: true`` for a template, runs the Python in it and drops the key; of two equal
keys it keeps the last. So a file is read strictly first, and a key at its top that is no section of a study is refused.
What is given to ``snakemake --configfile`` itself is read before the Snakefile, and can only be refused afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from internal_kd.errors import UserError, nearest
from internal_kd.params import Params, read_yaml

MAIN = Path("params.yaml")
# `--configfile` and `--configfiles`, also cut short: no other option of Snakemake begins like this.
OVERLAYS = "--configf"
VALUES = ("--config", "-C")


def check_config_files(overlays: Iterable[Path | str]) -> None:
    """Read params.yaml, where there is one, and overlays as strictly as if nobody else would read them.

    Raises:
        UserError: one cannot be read, or holds a key that no study has.
    """
    for path in (*filter(Path.exists, (MAIN,)), *overlays):
        for key in read_yaml(path):
            _check_section(key, str(path))


def check_arguments(arguments: Sequence[str]) -> None:
    """Check the configuration that arguments of Snakemake name.

    Raises:
        UserError: as check_config_files does, or a value of ``--config`` is no ``key=value``.
    """
    check_config_files(value for option, value in _values(arguments) if option.startswith(OVERLAYS))
    for option, value in _values(arguments):
        if option in VALUES:
            key, equals, _ = value.partition("=")
            if not equals:
                raise UserError(f"{option} {value}: should be key=value, such as --config study='{{seeds: [1, 2]}}'")
            _check_section(key, option)


def _values(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield every value with its option, read as Snakemake reads them: an option has all that follow it."""
    option = ""
    for argument in arguments:
        if argument == "--":
            return
        if argument.startswith("--") and "=" in argument:
            name, _, value = argument.partition("=")
            option = ""
            yield name, value
        elif argument.startswith("-C") and len(argument) > 2:
            option = ""
            yield "-C", argument[2:].removeprefix("=")
        elif argument.startswith("-"):
            option = argument
        elif option:
            yield option, argument


def _check_section(key: object, origin: str) -> None:
    known = list(Params.model_fields)
    if key not in known:
        raise UserError(
            f"{origin}: unknown parameter {key!r}{nearest(str(key), known)}; at the top stand {', '.join(known)}"
        )

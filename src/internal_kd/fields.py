"""The kinds of values a parameter may have, and the group that refuses unknown keys."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from internal_kd.errors import nearest

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$"
ROW = r"^[0-9A-Za-z.]{1,12}$"
HEX_40 = r"^[0-9a-f]{40}$"
HEX_64 = r"^[0-9a-f]{64}$"


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true/false")
    return value


def _digits_count(value: Any) -> Any:
    # Snakemake hands over what is nested in --config, as in study='{seeds: [1]}', as text.
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    return int(value) if digits else value


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that names something twice, as a number and as a word too."""
    names = list(map(str, values))
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names {', '.join(repeated)} twice")
    return values


def _inside_or_absolute(path: str) -> str:
    if not Path(path).is_absolute() and ".." in Path(path).parts:
        raise ValueError(f"relative path {path!r} leaves the project: give it as an absolute path")
    return path


def _is_number(name: str) -> bool:
    # One YAML reader takes 2e-5 for a text, another, DVC's, for 0.00002.
    for read in (float, partial(int, base=0)):
        with suppress(ValueError):
            read(name)
            return name[0].isdigit()
    return False


def _not_a_number(name: str) -> str:
    if _is_number(name):
        raise ValueError(f"YAML may read {name} as a number: choose a name with a letter, such as n{name}")
    return name


def as_name(text: str, prefix: str) -> str:
    """Return a text as a `Name`: itself if it is one, else what is left of it, after a prefix if need be.

    Example:
        >>> [as_name(text, "model") for text in ("bert-4", "Größe 2", "2e5", "модель")]
        ['bert-4', 'Gr__e_2', 'model-2e5', 'model']
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", text).lstrip("_.-")[:80]
    return name if name and not _is_number(name) else f"{prefix}-{name}".rstrip("-")[:80]


# What the patterns below mean, for error lines.
IN_WORDS = {
    NAME: "letters, digits, `_`, `.` and `-`, the first one a letter or a digit, at most 80 of them",
    ROW: "letters, digits and `.`, at most 12 of them",
    HEX_40: "40 hexadecimal digits in small letters",
    HEX_64: "64 hexadecimal digits in small letters",
}

Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9), BeforeValidator(_digits_count)]
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31), BeforeValidator(_digits_count)]
Seed = Whole
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=NAME), AfterValidator(_not_a_number)]
Row = Annotated[str, StringConstraints(pattern=ROW)]
Text = Annotated[str, StringConstraints(min_length=1)]
FilePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside_or_absolute)]
Revision = Annotated[str, StringConstraints(pattern=HEX_40)]
Sha256 = Annotated[str, StringConstraints(pattern=HEX_64)]


class Frozen(BaseModel):
    """A group of parameters: immutable, and closed to unknown keys.

    A key that is a word of Python's own, such as ``from``, is the alias of a field with another name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            keys = [field.alias or name for name, field in cls.model_fields.items()]
            for key in values:
                if key not in keys and key not in cls.model_fields:
                    raise ValueError(f"unknown parameter {key!r}{nearest(str(key), keys)}")
        return values

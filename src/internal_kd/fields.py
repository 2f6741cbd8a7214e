"""The kinds of values a parameter may have, and the group that refuses unknown keys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from internal_kd.errors import nearest


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("should be a number, not true/false")
    return value


def _digits_count(value: Any) -> Any:
    # Snakemake hands over what is nested in --config, as in study='{seeds: [1]}', as text.
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20
    return int(value) if digits else value


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that names something twice."""
    if repeated := sorted({str(v) for v in values if values.count(v) > 1}):
        raise ValueError(f"names {', '.join(repeated)} twice")
    return values


def _inside_or_absolute(path: str) -> str:
    if not Path(path).is_absolute() and ".." in Path(path).parts:
        raise ValueError(f"relative path {path!r} leaves the project: give it as an absolute path")
    return path


Integer = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1, le=10**9), BeforeValidator(_digits_count)]
Whole = Annotated[int, Field(strict=True, ge=0, lt=2**31), BeforeValidator(_digits_count)]
Seed = Whole
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Positive = Annotated[Number, Field(gt=0)]
NotNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(ge=0, le=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
Text = Annotated[str, StringConstraints(min_length=1)]
FilePath = Annotated[str, StringConstraints(min_length=1), AfterValidator(_inside_or_absolute)]
Revision = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Frozen(BaseModel):
    """A group of parameters: immutable, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        if isinstance(values, Mapping):
            for key in values:
                if key not in cls.model_fields:
                    raise ValueError(f"unknown parameter {key!r}{nearest(str(key), list(cls.model_fields))}")
        return values

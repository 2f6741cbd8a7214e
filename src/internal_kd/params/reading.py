"""From YAML files to checked parameters, with one line for whatever is wrong."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from internal_kd.errors import UserError
from internal_kd.files import read_text
from internal_kd.messages import refusal
from internal_kd.params.resolve import is_whole
from internal_kd.params.study import Params

# The deepest parameter, an option of a phase of a task's own method, stands at 8.
DEEPEST = 14
# Merge keys in merge keys multiply: 500 bytes can stand for 100 million keys.
MOST_MERGED = 10_000
# Spellings of numbers that few people mean.
_SURPRISING = (
    (re.compile(":"), "base 60", "write one number (a runtime is in minutes)"),
    (re.compile("^[-+]?0[0-7_]+$"), "base 8", "leave out the leading zero"),
)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any], path: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Return ``base`` updated by ``overlay``, mapping by mapping.

    Some mappings are one thing and are replaced whole: an encoder under another name or from elsewhere, a task with
    another source, and a method's teacher, weights and curriculum. Half of another encoder's entry, its licence for
    instance, would be wrong.
    """
    merged = dict(base)
    for key, value in overlay.items():
        old, here = merged.get(key), (*path, key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            value = {**_kept(here, old, value), **value} if _is_replaced(here, old, value) else merge(old, value, here)
        merged[key] = value
    return merged


def _kept(path: tuple[Any, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stays of an entry that is replaced: of an encoder from elsewhere under the same name, its name."""
    if path != ("encoder",) or new.get("name", old.get("name")) != old.get("name"):
        return {}
    return {key: old[key] for key in ("name", "source") if key in old}


def _is_replaced(path: tuple[Any, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if path == ("encoder",):
        return any(new.get(key, old.get(key)) != old.get(key) for key in ("name", "source", "id", "path", "package"))
    if len(path) == 2 and path[0] == "tasks":
        return new.get("source", old.get("source", "glue")) != old.get("source", "glue")
    entry = path[2:] if path[0] == "tasks" else path
    of_method = (entry[:1] == ("defaults",) and len(entry) == 2) or (entry[:1] == ("methods",) and len(entry) == 3)
    return of_method and is_whole(entry[-1], old, new)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read one YAML mapping.

    Raises:
        UserError: the file is missing, is not YAML, names a key twice, has a number in base 8 or 60, or is not
            a mapping.
    """
    try:
        value = yaml.load(read_text(path), Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict):
        held = "nothing" if value is None else "a list" if isinstance(value, list) else "a single value"
        raise UserError(f"{path} should contain `key: value` lines, and contains {held}")
    _check_structure(value, str(path))
    return value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses what YAML would silently read as something else.

    A key given twice would be the last one, ``4:00:00`` would be 14400 and ``010`` would be 8.
    """

    _merged = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":  # `<<: *alias` may bring keys that are given here too
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        before = len(node.value)
        super().flatten_mapping(node)
        self._merged += max(0, len(node.value) - before)
        if self._merged > MOST_MERGED:
            raise yaml.constructor.ConstructorError(None, None, "too many merged keys (<<)", node.start_mark)

    def _number(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        number = self.construct_yaml_int(node) if node.tag.endswith("int") else self.construct_yaml_float(node)
        for pattern, base, way_out in _SURPRISING:
            if pattern.search(text):
                problem = f"{text} is {number:g} in YAML ({base}): {way_out}, or '{text}' if it is text"
                raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return number


for _kind in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _StrictLoader._number)


def parse_params(values: Mapping[str, Any], origin: str = "params.yaml") -> Params:
    """Check a mapping and return typed parameters.

    Raises:
        UserError: the first thing that is wrong, as ``<origin>: <where>: <what>``, and how many more there are.
    """
    _check_structure(values, origin)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{origin}: {refusal(error.errors(include_url=False), values)}") from None


def with_nulls(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return Snakemake's merged ``config`` with null where ``--config`` (its ``given`` part) said null.

    Snakemake hands over as text whatever is nested in ``--config data='{root: null}'``, and a folder called "null" is
    not what is meant. A text that is the word null itself can be given in a file, between quotes.
    """
    meant = dict(config)
    for key, value in given.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), Mapping):
            meant[key] = with_nulls(config[key], value)
        elif isinstance(value, str) and value in ("", "~", "null", "Null", "NULL"):
            meant[key] = None
    return meant


def _check_structure(values: Mapping[str, Any], origin: str) -> None:
    """Refuse what no later step could write down: endless nesting or digits, broken characters, NaN, bytes.

    Every mapping and list is looked at once, so that aliases upon aliases take no time.
    """
    looked_at: set[int] = set()
    around: set[int] = set()

    def look(value: Any, where: tuple[str, ...]) -> None:
        named = f"{origin}: {'.'.join(where)}: " if where else f"{origin}: "
        if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise UserError(f"{named}{value[:40]!a} contains an invalid character (NUL or a lone surrogate)")
        if isinstance(value, int) and value.bit_length() > 64:
            # Before anything writes it: Python refuses to where there are more than 4300 digits.
            raise UserError(f"{named}number too large (more than 64 bits)")
        if (isinstance(value, float) and not math.isfinite(value)) or isinstance(value, bytes):
            raise UserError(f"{named}{value!r:.40} is not a value that a parameter may have")
        if not isinstance(value, Mapping | list | tuple) or id(value) in looked_at:
            return
        if id(value) in around:
            raise UserError(f"{named}an alias refers to itself")
        if len(where) > DEEPEST:
            raise UserError(f"{origin}: {'.'.join(where[:3])}: the values are nested too deeply")
        around.add(id(value))
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for key, item in items:
            look(key, where)
            look(item, (*where, str(key)))
        around.remove(id(value))
        looked_at.add(id(value))

    look(values, ())


def read_merged(files: Iterable[Path | str]) -> dict[str, Any]:
    """Read YAML files, each laid over those before it; errors as ``read_yaml``."""
    return reduce(merge, map(read_yaml, files), {})


def load_params(path: Path | str = "params.yaml", overlays: Sequence[Path | str] = ()) -> Params:
    """Read ``path``, lay the overlays over it in order, and check the result."""
    return parse_params(read_merged((path, *overlays)), " + ".join(map(str, (path, *overlays))))

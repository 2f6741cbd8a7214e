"""What is wrong with parameters, in the words of YAML and not in pydantic's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date
from typing import TYPE_CHECKING, Any

from internal_kd.errors import nearest
from internal_kd.fields import IN_WORDS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Where = tuple[str | int, ...]
# How pydantic marks that a key itself is wrong, and not what it stands for.
KEY = "[key]"
GROUP = "should be a group of `key: value` lines"
MESSAGES = {
    "missing": "is missing",
    "dict_type": GROUP,
    "model_type": GROUP,
    "model_attributes_type": GROUP,
    "string_type": "should be text (between quotes)",
    "float_parsing": "should be a number",
    "float_type": "should be a number",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "int_from_float": "should be a whole number",
}
YAML_WORDS = {None: "null", True: "true", False: "false"}


def refusal(problems: Iterable[ErrorDetails], values: Mapping[str, Any], inside: str = "") -> str:
    """Return the first mistake in ``values`` as ``<where>: <what>``, and how many more there are.

    ``inside`` is where the values themselves stand, such as ``methods.soft.learner``.

    A union fails once for each of its members: what fails at one place is one mistake, and where a member got further
    than the others it is the one that was meant.
    """
    found: dict[Where, list[ErrorDetails]] = {}
    for problem in problems:
        found.setdefault(_where(problem, values), []).append(problem)
    around = {where[:depth] for where in found if KEY not in where for depth in range(len(where))}
    (where, alternatives), *others = [(where, group) for where, group in found.items() if where not in around]
    more = f" (and {len(others)} more)" if others else ""
    return f"{_name((inside, *where) if inside else where)}{_what(alternatives)}{more}"


def _where(problem: ErrorDetails, values: Any) -> Where:
    """Return the keys and indices of the input that lead to a problem, without the branches that pydantic took."""
    where: list[str | int] = []
    parts = problem["loc"]
    for depth, part in enumerate(parts):
        if depth == 2 and where[:1] == ["tasks"] and part != KEY:
            continue  # the entry's source, by which its kind was chosen
        if isinstance(values, Mapping) and part in values:
            where.append(part)
            values = values[part]
        elif isinstance(part, int) and isinstance(values, Sequence | Set) and part < len(values):
            where.append(part)
            values = list(values)[part]
        elif part == KEY or (problem["type"] == "missing" and depth == len(parts) - 1):
            where.append(part)
    if problem["type"] == "union_tag_invalid":
        where.append("source")
    return tuple(where)


def _name(where: Where) -> str:
    """Return ``<where>: `` for what the whole of the parameters is not."""
    parts = [str(part) for part in where if part != KEY]
    return f"{'.'.join(parts)}: {'the name ' if KEY in where else ''}" if parts else ""


def _what(alternatives: Sequence[ErrorDetails]) -> str:
    messages = list(dict.fromkeys(_message(problem, alone=len(alternatives) == 1) for problem in alternatives))
    rest = "".join(f", or {message.removeprefix('should be ')}" for message in messages[1:])
    first = alternatives[0]
    return " ".join((messages[0] + rest).split()) + (
        "" if first["type"] in ("value_error", "missing") else _given(first) + _nearest(alternatives)
    )


def _message(problem: ErrorDetails, *, alone: bool) -> str:
    kind, context, value = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind in MESSAGES:
        return MESSAGES[kind]
    if kind in ("tuple_type", "list_type"):
        example = type(value) is int or (type(value) is str and alone and len(value) <= 40)
        return f"should be a list such as [{value}]" if example else "should be a list"
    if kind in ("too_short", "too_long"):
        bound, count = ("least", context["min_length"]) if kind == "too_short" else ("most", context["max_length"])
        return f"should have at {bound} {count} {'entry' if count == 1 else 'entries'}"
    if kind == "string_pattern_mismatch":
        return f"should be {IN_WORDS[context['pattern']]}"
    if kind == "union_tag_invalid":
        return f"should be one of {context['expected_tags']}"
    return problem["msg"].removeprefix("Value error, ").removeprefix("Input ").removeprefix("String ")


def _given(problem: ErrorDetails) -> str:
    value = problem["ctx"]["tag"] if problem["type"] == "union_tag_invalid" else problem["input"]
    if isinstance(value, Mapping | Set) or (isinstance(value, Sequence) and not isinstance(value, str)):
        return ""
    text = YAML_WORDS[value] if value is None or isinstance(value, bool) else repr(value)
    text = str(value) if isinstance(value, date) else text
    return f" (given: {text if len(text) <= 80 else text[:80] + '...'})"


def _nearest(alternatives: Sequence[ErrorDetails]) -> str:
    """Return the nearest of the words that a value may be, for one that is another word."""
    contexts = [problem.get("ctx", {}) for problem in alternatives]
    listed = " ".join(str(context.get("expected") or context.get("expected_tags") or "") for context in contexts)
    given = contexts[0].get("tag", alternatives[0]["input"])
    return nearest(given, re.findall(r"'([^']+)'", listed)) if isinstance(given, str) else ""

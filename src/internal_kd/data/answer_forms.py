"""The forms an answer may have in a user's file: logits, probabilities, a label or a value, as numbers by class."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from internal_kd.data.cells import named_type, number_in, shown
from internal_kd.data.labels import MISSING, label_text, target_value
from internal_kd.data.repairs import Repairs
from internal_kd.errors import UserError, nearest

# A bare label's distribution: this much is shared by the other classes.
LABEL_SMOOTHING = 0.1
# The smallest probability, so that logits are finite; and how far from 1 rounded probabilities may sum to.
LEAST_PROBABILITY = 1e-6
SUM_TOLERANCE = 0.01

# Names of a column with an object by class, and how a column of one class begins.
_NESTED = {"logits": ("logits", "logprobs", "log_probabilities"), "probabilities": ("probabilities", "probs")}
_FLAT = {
    "logits": ("logit_", "logits_", "logits.", "logprob_"),
    "probabilities": ("probability_", "probabilities_", "probabilities.", "prob_"),
}
_VALUES = ("value", "label")
# NaN is a wrong number, not a missing one.
_WRONG = {"nan", "-nan", "1.#qnan", "-1.#ind"}


@dataclass
class AnswerForm:
    """How to read the answer of a row."""

    path: Path
    kind: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    nested: dict[str, str]
    flat: dict[str, dict[str, str]]
    label: str | None
    repairs: Repairs
    counts: Counter[str] = field(default_factory=Counter)
    named: set[str] = field(default_factory=set)
    unreadable: list[UserError] = field(default_factory=list)

    def read(self, row: Mapping[str, Any], place: str) -> np.ndarray | None:
        """Return a row's logits, (outputs,), float64; None for a label that names no class, which is counted.

        Raises:
            UserError: there is no answer, or one that cannot be used.
        """
        if self.kind == "values":
            assert self.label is not None
            self.counts["value"] += 1
            return np.array([target_value(row[self.label], self.path, place, self.label)])
        for form in ("logits", "probabilities"):
            numbers = self._numbers(form, row, place)
            if numbers:
                self.counts[form] += 1
                self.named |= set(numbers)
                return self._from_logits(numbers) if form == "logits" else self._from_probabilities(numbers, place)
        if self.label is None:
            raise UserError(f"{self.path} {place}: no answer; give one or remove the row")
        label = self._named(label_text(row[self.label], self.path, place, self.label, self.labels), place)
        if label is None:
            return None
        self.counts["label"] += 1
        self.named.add(label)
        shares = np.full(len(self.labels), LABEL_SMOOTHING / (len(self.labels) - 1))
        shares[self.labels.index(label)] = 1 - LABEL_SMOOTHING
        return np.log(shares)

    def _numbers(self, form: str, row: Mapping[str, Any], place: str) -> dict[str, float]:
        """Return the numbers that a row gives in this form, by class; empty if it gives none."""
        if form in self.nested:
            column = self.nested[form]
            value = _object(row[column], self.path, place, column)
            numbers = {self._class(str(name).strip(), place): number for name, number in value.items()}
        else:
            numbers = {label: row[column] for label, column in self.flat.get(form, {}).items()}
        found = {label: number_in(number) for label, number in numbers.items() if not _is_missing(number)}
        for label, number in found.items():
            if math.isnan(number):
                raise UserError(
                    f"{self.path} {place}: {form} of {label!r} is {str(numbers[label])[:40]!r}, not a finite number; "
                    "correct or remove the row"
                )
        return found

    def _named(self, text: str, place: str) -> str | None:
        """Return the class that a label names, in another spelling or in a sentence too; None if it names none."""
        try:
            return self._class(text, place)
        except UserError as error:
            label, rule = class_named(text, self.labels)
            self.repairs.note(rule, place, text)
            if label is None:
                self.unreadable.append(error)
            return label

    def _class(self, name: str, place: str) -> str:
        if name in self.labels:
            return name
        whole = name.removesuffix(".0")
        if whole in self.labels:
            return whole
        raise UserError(
            f"{self.path} {place}: {name[:40]!r} is not a class of the task ({shown(self.labels)})"
            f"{nearest(name, self.labels[:200])}; correct or remove it"
        )

    def _from_logits(self, numbers: Mapping[str, float]) -> np.ndarray:
        if len(numbers) == len(self.labels):
            return np.array([numbers[label] for label in self.labels])
        # Those of some classes, as of a model's likeliest tokens: the others have probability 0.
        return self._logarithms(dict(zip(numbers, softmax(list(numbers.values())), strict=True)))

    def _from_probabilities(self, numbers: Mapping[str, float], place: str) -> np.ndarray:
        for label, number in numbers.items():
            if not -SUM_TOLERANCE <= number <= 1 + SUM_TOLERANCE:
                percent = "; are these percent? divide by 100" if 1 < number <= 100 else ""
                raise UserError(f"{self.path} {place}: probability {number:g} of {label!r} is not from 0 to 1{percent}")
        total = sum(numbers.values())
        if abs(total - 1) > SUM_TOLERANCE + 1e-9:
            raise UserError(
                f"{self.path} {place}: probabilities sum to {total:g}, not 1; correct them, or call them "
                "logits if they are"
            )
        return self._logarithms({label: number / total for label, number in numbers.items()})

    def _logarithms(self, shares: Mapping[str, float]) -> np.ndarray:
        return np.log(np.maximum([shares.get(label, 0.0) for label in self.labels], LEAST_PROBABILITY))


def class_named(text: str, labels: Sequence[str]) -> tuple[str | None, str]:
    """Return the class that a text names and the rule by which it was read; None if it names none, or several.

    Example:
        >>> class_named("**Not entailment.**", ["entailment", "not_entailment"])
        ('not_entailment', 'label in other spelling')
        >>> class_named("The label is: yes", ["yes", "no"])
        ('yes', 'label in a sentence')
    """
    folded = {label: _words(label) for label in labels}
    said = _words(text)
    same = [label for label, words in folded.items() if words == said]
    if len(same) == 1:
        return same[0], "label in other spelling"
    # A class whose name is part of another's counts only where it stands alone.
    left, found = f" {said} ", []
    for label, words in sorted(folded.items(), key=lambda pair: -len(pair[1])):
        if words and f" {words} " in left:
            found.append(label)
            left = left.replace(f" {words} ", " \0 ")
    return (found[0], "label in a sentence") if len(found) == 1 else (None, "no class named")


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold().replace("_", " ")))


def form_of(path: Path, found: Sequence[str], kind: str, labels: Sequence[str], repairs: Repairs) -> AnswerForm:
    """Return how to read the answers of a file with these columns.

    Raises:
        UserError: no column has answers, or one of a class that the task does not have.
    """
    labels = tuple(labels)
    if kind == "values":
        column = next((name for name in _VALUES if name in found), None)
        if column is None:
            raise UserError(f"{path} has no answers: it needs a column 'value'; it has {shown(found)}")
        return AnswerForm(path, kind, labels, (column,), {}, {}, column, repairs)
    nested = {form: name for form, names in _NESTED.items() for name in reversed(names) if name in found}
    flat = {form: _flat_columns(path, found, prefixes, labels) for form, prefixes in _FLAT.items()}
    if not nested and not any(flat.values()):
        # Columns named like the classes themselves: probabilities, because logits have to be called so.
        flat["probabilities"] = {label: label for label in labels if label in found and label != "label"}
    flat = {form: columns for form, columns in flat.items() if columns and form not in nested}
    label = "label" if "label" in found else None
    columns = [*nested.values(), *(column for of_form in flat.values() for column in of_form.values())]
    if label is not None:
        columns.append(label)
    if not columns:
        raise UserError(
            f"{path} has no answers: it needs a column 'label', 'probabilities' or 'logits', or one per class such as "
            f"'probability_{labels[0]}'; it has {shown(found)}"
        )
    return AnswerForm(path, kind, labels, tuple(columns), nested, flat, label, repairs)


def _flat_columns(path: Path, found: Sequence[str], prefixes: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
    columns: dict[str, str] = {}
    for column in found:
        prefix = next((prefix for prefix in prefixes if column.startswith(prefix)), None)
        if prefix is None:
            continue
        name = column.removeprefix(prefix)
        if name not in labels:
            raise UserError(
                f"{path}: column {column!r} is of no class of the task ({shown(labels)})"
                f"{nearest(name, list(labels)[:200])}; rename or remove it"
            )
        columns.setdefault(name, column)
    return columns


def _object(value: Any, path: Path, place: str, column: str) -> Mapping[str, Any]:
    """Return an object by class: as it is, as a list of pairs (Parquet's maps), or as JSON inside CSV."""
    if isinstance(value, str) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} {place}: column {column!r} is not a JSON object ({error})") from None
    if _is_missing(value):
        return {}
    if isinstance(value, list) and value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        value = dict(value)
    if not isinstance(value, Mapping):
        raise UserError(
            f"{path} {place}: column {column!r} is {named_type(value)}; give an object with a number for every class, "
            'such as {"yes": 0.9, "no": 0.1}'
        )
    return value


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING - _WRONG)

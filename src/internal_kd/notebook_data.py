"""Texts and labels in memory as the training loop reads them: token ids, padded batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.data.ragged import EncodedExamples, Ragged, TaggedExamples
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import SentenceRows
from internal_kd.data.tag_inputs import Window, windows_of
from internal_kd.errors import UserError, nearest
from internal_kd.learners.rows import NO_ROW
from internal_kd.tasks.tags import OUTSIDE, window_id

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(
    rows: Any,
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[str],
    label: str,
    max_length: int,
    kind: str,
    names: Mapping[str, int],
) -> EncodedExamples:
    """Tokenise rows; pairs are truncated longest first, sentences with tags become windows.

    Args:
        rows: a list of dicts, a dict of lists, a `datasets.Dataset` or a pandas frame.
        tokenizer: a fast one with a padding token.
        text: one or two columns; for tags one, of lists of words or of texts.
        label: the label's column; for tags lists of tags, or spans or entities of a text.
        kind: a key of ``KINDS``.
        names: numbers of classes or tags by name.

    Raises:
        UserError: a column is missing, a text is not text, or a label is neither a class nor a value nor tags.
    """
    if tokenizer.pad_token_id is None:
        raise UserError("tokenizer: it has no padding token; set pad_token")
    if kind == "tags":
        return _encode_tags(rows, tokenizer, text, label, max_length, names)
    if len(text) not in (1, 2):
        raise UserError(f"text: {len(text)} columns are named; give one, or two for pairs")
    texts = [[_text(value, name, row) for row, value in enumerate(_column(rows, name))] for name in text]
    labels = [_label(value, kind, names, row) for row, value in enumerate(_column(rows, label))]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, padding=False)
    dtype = np.float32 if kind == "values" else np.int64
    part = Ragged.of(encoded["input_ids"], encoded.get("token_type_ids"), np.array(labels, dtype=dtype))
    return EncodedExamples("examples", [part], tokenizer.pad_token_id)


def _encode_tags(
    rows: Any,
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[str],
    label: str,
    max_length: int,
    names: Mapping[str, int],
) -> TaggedExamples:
    from tokenizers import Tokenizer

    if len(text) != 1:
        raise UserError(f"text: {len(text)} columns are named; a tagger reads one")
    windowing = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())  # the user's keeps its own settings
    windowing.no_padding()
    windowing.enable_truncation(max_length, stride=max_length // 4)
    repairs = Repairs(Path("examples"), asked=False, way_out="correct it")
    known, types = sorted(names, key=lambda tag: names[tag]), types_among(names)
    given = SentenceRows(repairs.path, text[0], label, types, repairs, names=known)
    windows: list[Window] = []
    idx: list[int] = []
    labels: list[np.ndarray] = []
    for row, (content, answer) in enumerate(zip(_column(rows, text[0]), _column(rows, label), strict=True)):
        sentence = given.sentence(content, answer, f"row {row}")
        if sentence is None or not sentence.tokens:
            continue
        tags = [-1] * len(sentence.tokens) if sentence.tags is None else [names[tag] for tag in sentence.tags]
        for number, window in enumerate(windows_of(windowing, sentence.text, sentence.tokens)):
            windows.append(window)
            idx.append(window_id(row, number))
            labels.append(np.array([*tags, NO_ROW])[window.words])
    if not windows:
        raise UserError("there are no examples: no sentence has a word")
    kinds = [one.type_ids for one in windows] if "token_type_ids" in tokenizer.model_input_names else None
    part = Ragged.of([one.ids for one in windows], kinds, np.concatenate(labels), [one.words for one in windows], idx)
    return TaggedExamples("examples", [part], tokenizer.pad_token_id)


def types_among(tags: Iterable[str]) -> list[str]:
    """Return the types of entities that some tags name, sorted."""
    return sorted({tag[2:] for tag in tags if tag != OUTSIDE})


def _column(rows: Any, name: str) -> list[Any]:
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        if not len(rows):
            raise UserError("there are no examples: the list is empty")
        if not isinstance(rows[0], Mapping):
            raise UserError(f"examples should be dicts such as {{{name!r}: ...}}, not {type(rows[0]).__name__}")
        known = list(rows[0])
        try:
            return [row[name] for row in rows]
        except KeyError:
            pass
    else:
        known = [str(column) for column in getattr(rows, "column_names", None) or getattr(rows, "columns", rows)]
        if name in known:
            return list(rows[name])
    raise UserError(f"column {name!r} is missing{nearest(name, known)}; columns: {', '.join(known)}")


def _text(value: Any, column: str, row: int) -> str:
    if not isinstance(value, str):
        raise UserError(f"row {row}: column {column!r} is {value!r}, not text")
    return value


def _label(value: Any, kind: str, names: Mapping[str, int], row: int) -> float | int:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    if kind == "values":
        try:
            return float("nan") if missing else float(value)
        except (TypeError, ValueError):
            raise UserError(f"row {row}: label {value!r} is not a number") from None
    if missing:
        return -1
    if isinstance(value, str) and value in names:
        return names[value]
    # A frame's column with a missing label holds its class numbers as floats.
    whole = isinstance(value, int | np.integer | np.bool_) or (isinstance(value, float) and value.is_integer())
    if whole and -1 <= value < len(names):
        return int(value)
    raise UserError(f"row {row}: label {value!r} is not a class of the student; classes: {', '.join(names)}")

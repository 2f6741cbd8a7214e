"""Texts and labels in memory as the training loop reads them: token ids, padded batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from internal_kd.data.cells import number_in
from internal_kd.data.labels import MISSING
from internal_kd.data.ragged import EncodedExamples, Ragged, TaggedExamples
from internal_kd.data.repairs import Repairs
from internal_kd.data.sentences import SentenceRows
from internal_kd.data.tag_inputs import Window, windows_of
from internal_kd.errors import UserError, named, nearest
from internal_kd.learners.rows import NO_ROW
from internal_kd.notebook_checks import check_ids, checked_length, described
from internal_kd.tasks.tags import OUTSIDE, window_id

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def encode(
    split: str,
    rows: Any,
    tokenizer: PreTrainedTokenizerBase,
    models: Sequence[PreTrainedModel],
    text: Sequence[str],
    label: str,
    max_length: int | None,
    kind: str,
    names: Mapping[str, int],
) -> EncodedExamples:
    """Tokenise rows; pairs are truncated longest first, sentences with tags become windows.

    Args:
        split: "train" or "dev", for error lines.
        rows: a list of dicts, a dict of lists, a `datasets.Dataset` or a pandas frame.
        tokenizer: a fast one with a padding token.
        models: those that read the examples.
        text: one or two columns; for tags one, of lists of words or of texts.
        label: the label's column; for tags lists of tags, or spans or entities of a text.
        max_length: in tokens; None: as `checked_length` chooses.
        kind: a key of ``KINDS``.
        names: numbers of classes or tags by name.

    Raises:
        UserError: a column is missing, a text is not text, or a label is neither a class nor a value nor tags; or the
            models cannot read as many tokens, or these.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise UserError(f"tokenizer: should be a fast one, such as AutoTokenizer loads, not {described(tokenizer)}")
    if tokenizer.pad_token_id is None:
        raise UserError("tokenizer: it has no padding token; set pad_token")
    length = checked_length(max_length, models)
    with named(split):
        if kind == "tags":
            examples: EncodedExamples = _encode_tags(rows, tokenizer, text, label, length, names)
        else:
            examples = _encode_texts(rows, tokenizer, text, label, length, kind, names)
        check_ids(examples, models)
        if split == "dev" and not examples.labelled.any():
            raise UserError("no example has a label, and scores are on those")
    return examples


def _encode_texts(
    rows: Any,
    tokenizer: PreTrainedTokenizerBase,
    text: Sequence[str],
    label: str,
    max_length: int,
    kind: str,
    names: Mapping[str, int],
) -> EncodedExamples:
    if len(text) not in (1, 2):
        raise UserError(f"text: {len(text)} columns are named; give one, or two for pairs")
    *columns, answers = _columns(rows, [*text, label])
    texts = [
        [_text(value, name, row) for row, value in enumerate(column)]
        for name, column in zip(text, columns, strict=True)
    ]
    labels = [_label(value, kind, names, row) for row, value in enumerate(answers)]
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
    for row, (content, answer) in enumerate(zip(*_columns(rows, [text[0], label]), strict=True)):
        sentence = given.sentence(content, None if _is_missing(answer) else answer, f"row {row}")
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


def _columns(rows: Any, names: Sequence[str]) -> list[list[Any]]:
    """Return columns of a table in memory, equally long and not empty."""
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise UserError(
                    f"row {number}: should be a dict such as {{{names[0]!r}: ...}}, not {type(row).__name__}"
                )
            _check_columns(names, list(row), f"row {number}: ")
        columns = [[row[name] for row in rows] for name in names]
    elif hasattr(rows, "__getitem__") and not isinstance(rows, str):
        known = getattr(rows, "column_names", None)
        known = getattr(rows, "columns", rows) if known is None else known
        _check_columns(names, [str(name) for name in known])
        columns = [list(rows[name]) for name in names]
    else:
        known = "a list of dicts, a dict of lists, a datasets.Dataset or a pandas frame"
        raise UserError(f"should be {known}, not {described(rows)}")
    if not columns[0]:
        raise UserError("there are no examples")
    for name, column in zip(names, columns, strict=True):
        if len(column) != len(columns[0]):
            raise UserError(f"column {names[0]!r} has {len(columns[0])} rows, and column {name!r} has {len(column)}")
    return columns


def _check_columns(names: Sequence[str], known: Sequence[str], where: str = "") -> None:
    if missing := [name for name in names if name not in known]:
        near = nearest(missing[0], list(known))
        raise UserError(f"{where}column {missing[0]!r} is missing{near}; columns: {', '.join(map(str, known))}")


def _text(value: Any, column: str, row: int) -> str:
    if not isinstance(value, str):
        raise UserError(f"row {row}: column {column!r} is {value!r}, not text")
    return value


def _is_missing(value: Any) -> bool:
    """Whether a cell has nothing: None, NaN, or as pandas writes it."""
    plain = value is not None and isinstance(value, str | Sequence | Mapping | np.ndarray)
    return not plain and str(value).lower() in MISSING


def _label(value: Any, kind: str, names: Mapping[str, int], row: int) -> float | int:
    if getattr(value, "ndim", None) == 0:  # a number of numpy's or torch's
        value = value.item()
    if kind == "values":
        if not np.isnan(number := number_in(value)) or _is_missing(value):
            return number
        raise UserError(f"row {row}: label {value!r} is not a number")
    if _is_missing(value):
        return -1
    if isinstance(value, str) and value in names:
        return names[value]
    # A frame's column with a missing label holds its class numbers as floats.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if whole and -1 <= value < len(names):
        return int(value)
    raise UserError(f"row {row}: label {value!r} is not a class of the student; classes: {', '.join(names)}")

"""Writing sentences of words as token ids: which token stands for which word, and windows of long sentences.

The text is tokenised as it stands, as `pipeline("ner")` does, and a word is the token that holds its first character.
A sentence longer than the limit becomes several windows that overlap by a quarter; each word is answered in the window
where it is farthest from a cut. So nothing is left out, whatever the length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from internal_kd.data.inputs_writing import CHUNK, SplitWriter
from internal_kd.data.tokenizers import EncoderTokenizer
from internal_kd.learners.rows import NO_ROW
from internal_kd.tasks.tags import window_id

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Stands for a word from which the tokenizer makes nothing, such as a control character.
STAND_IN = "?"


class Window(NamedTuple):
    """Token ids and types of a window, and the number of the word that each token stands for, -1 for others."""

    ids: list[int]
    type_ids: list[int]
    words: np.ndarray


def write_tagged_split(folder: Path, split: str, parquet: Path, encoder: EncoderTokenizer) -> dict[str, Any]:
    """Tokenise one split of a task of tags into ``folder``; inputs.py has the arrays.

    Returns:
        Its entry of the manifest: a row is a window; also numbers of sentences, of those in several windows, of words.

    Raises:
        UserError: the tokenizer makes ids that the encoder has no embedding for.
    """
    writer = SplitWriter(folder, split, encoder, {"idx": "<i8", "labels": "<i8", "words": "<i4"})
    facts = {"sentences": 0, "in_windows": 0, "words": 0}
    encoder.tokenizer.enable_truncation(encoder.max_length, stride=encoder.max_length // 4)
    for idx, text, words, labels in _sentences(parquet):
        windows = windows_of(encoder.tokenizer, text, words)
        facts["sentences"] += 1
        facts["in_windows"] += len(windows) > 1
        facts["words"] += len(words)
        tags = np.array([*labels, NO_ROW])  # the last one is for tokens of no word
        for number, window in enumerate(windows):
            writer.add([window], idx=[window_id(idx, number)], labels=tags[window.words], words=window.words)
    return {**writer.close(), **facts}


def places_of(text: str, words: Sequence[str]) -> list[int]:
    """Return where each word begins in the text that has them in this order.

    Example:
        >>> places_of("Don't go.", ["Do", "n't", "go", "."])
        [0, 2, 6, 8]
    """
    found, end = [], 0
    for word in words:
        start = text.index(word, end)
        found.append(start)
        end = start + len(word)
    return found


def _sentences(parquet: Path) -> Iterator[tuple[int, str, list[str], list[int]]]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(parquet) as file:
        for batch in file.iter_batches(CHUNK):
            columns = (batch[name].to_pylist() for name in ("idx", "text_a", "tokens", "label"))
            yield from zip(*columns, strict=True)


def windows_of(tokenizer: Tokenizer, text: str, words: Sequence[str]) -> list[Window]:
    """Return the windows of a sentence; the tokenizer truncates, with a stride."""
    encoding = tokenizer.encode(text)
    windows = [encoding, *encoding.overflowing]
    starts = np.array(places_of(text, words))
    found = [_words_at(window.offsets, window.special_tokens_mask, starts) for window in windows]
    if len(set(np.concatenate(found).tolist()) - {NO_ROW}) < len(words):
        # Two words in one token, or a word that leaves no token: each word alone.
        encoding = tokenizer.encode([_visible(tokenizer, word) for word in words], is_pretokenized=True)
        windows = [encoding, *encoding.overflowing]
        found = [_first_pieces(window) for window in windows]
    _answer_once(found)
    return [Window(window.ids, window.type_ids, own) for window, own in zip(windows, found, strict=True)]


def _words_at(offsets: Sequence[tuple[int, int]], special: Sequence[int], starts: np.ndarray) -> np.ndarray:
    """Return for every token the word whose first character it holds, -1 for others."""
    spans = np.array(offsets)
    word = np.searchsorted(starts, spans[:, 1], side="left") - 1  # the last word that begins before the token ends
    holds = (word >= 0) & (starts[word] >= spans[:, 0]) & (np.array(special) == 0)
    words = np.where(holds, word, NO_ROW)
    repeated = np.concatenate([[False], words[1:] == words[:-1]])  # several tokens of one character
    return np.where(repeated, NO_ROW, words)


def _first_pieces(window: Any) -> np.ndarray:
    pieces = zip(window.word_ids, window.offsets, strict=True)
    words = np.array([NO_ROW if word is None or start else word for word, (start, _) in pieces])
    return np.where(np.concatenate([[False], words[1:] == words[:-1]]), NO_ROW, words)


def _visible(tokenizer: Tokenizer, word: str) -> str:
    return word if tokenizer.encode(word, add_special_tokens=False).ids else STAND_IN


def _answer_once(windows: list[np.ndarray]) -> None:
    """Leave each word in the window where it is farthest from a cut, in place."""
    best: dict[int, tuple[int, int, int]] = {}
    for number, words in enumerate(windows):
        at = np.flatnonzero(words != NO_ROW)
        last = len(words)
        for place in at.tolist():
            left = last if number == 0 else place
            right = last if number == len(windows) - 1 else last - place
            entry = (min(left, right), -number, place)
            word = int(words[place])
            if word not in best or entry > best[word]:
                best[word] = entry
    kept = {(-number, place) for _, number, place in best.values()}
    for number, words in enumerate(windows):
        for place in np.flatnonzero(words != NO_ROW).tolist():
            if (number, place) not in kept:
                words[place] = NO_ROW

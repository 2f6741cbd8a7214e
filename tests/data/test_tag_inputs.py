"""Words and their tokens: each word is answered once, at its first piece, whatever the tokenizer and the length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from internal_kd.checksums import publish
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.own_tags import tagged_examples
from internal_kd.data.ragged import TaggedExamples
from internal_kd.data.sentences import Sentence
from internal_kd.data.tag_inputs import places_of, write_tagged_split
from internal_kd.data.tokenizers import EncoderTokenizer
from internal_kd.files import staging_folder
from internal_kd.learners.rows import row_ids
from internal_kd.tasks.info import TaskInfo
from internal_kd.tasks.tags import sentence_and_word, tag_names

LABELS = tag_names(["a"])
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##s", "new", "york", "in", ".", "?", "x"]


def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece({piece: n for n, piece in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def byte_level() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate(["<pad>", "<s>", "</s>", *alphabet, "Ġp", "la"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "p"), ("l", "a")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return tokenizer


def written(folder: Path, sentences: list[Sentence], length: int, tokenizer: Tokenizer) -> tuple[TaggedExamples, Any]:
    pq.write_table(tagged_examples(sentences, LABELS).table, folder / "train.parquet")
    encoder = EncoderTokenizer(tokenizer, length, 0, None, (), tokenizer.get_vocab_size(), False, "t")
    with staging_folder(folder / "inputs") as staged:
        facts = write_tagged_split(staged, "train", folder / "train.parquet", encoder)
        info = TaskInfo("mine", "Mine", "tags", LABELS, ("span_f1",), 1, {"train": len(sentences)})
        record = {"task": info.to_json(), "max_length": length, "pad_id": 0, "tokenizer": "t", "data_sha256": {}}
        publish(staged, folder / "inputs", {**record, "splits": {"train": facts}})
    split = EncodedTask(folder / "inputs").split("train")
    assert isinstance(split, TaggedExamples)
    return split, facts


def sentence(text: str, tags: str | None = None) -> Sentence:
    tokens = text.split()
    return Sentence(text, tokens, tags.split() if tags else None, "line 1")


def test_labels_are_at_the_first_piece_and_nowhere_else(tmp_path: Path) -> None:
    split, _ = written(tmp_path, [sentence("new york playing .", "B-a I-a O O")], 16, wordpiece())
    batch = split.batch([0])
    assert batch["input_ids"].tolist() == [[2, 7, 8, 4, 5, 10, 3]]
    assert batch["labels"].tolist() == [[-1, 1, 2, 0, -1, 0, -1]]
    assert batch["rows"].tolist() == [[-1, 0, 1, 2, -1, 3, -1]]


@pytest.mark.parametrize("make", [wordpiece, byte_level])
@pytest.mark.parametrize("length", [6, 8, 13, 128])
def test_every_word_is_answered_exactly_once_in_windows_of_any_length(tmp_path: Path, make: Any, length: int) -> None:
    texts = ["new", "in new york playing plays x . x new york plays in", "x " * 40 + "new", "plays playing"]
    sentences = [sentence(text.strip(), " ".join(["B-a"] * len(text.split()))) for text in texts]
    split, facts = written(tmp_path, sentences, length, make())
    expected = [(s, w) for s, text in enumerate(texts) for w in range(len(text.split()))]
    found = sorted(zip(*(part.tolist() for part in sentence_and_word(split.rows_of())), strict=True))
    assert found == expected and facts["words"] == len(expected)
    assert split.lengths.max() <= length and (split.labels == 1).all()
    assert (facts["in_windows"] > 0) == (length < 128)
    assert len(np.unique(split.idx)) == len(split)
    batch = split.batch(np.arange(len(split))[::-1])
    assert sorted(row_ids(batch).tolist()) == sorted(split.rows_of().tolist())


def test_a_word_far_inside_a_window_is_answered_there(tmp_path: Path) -> None:
    split, _ = written(tmp_path, [sentence("x " * 20 + "x", "O " * 21)], 10, wordpiece())
    for position in range(len(split)):
        at = np.flatnonzero(split.batch([position])["rows"][0].numpy() >= 0)
        if 0 < position < len(split) - 1:
            assert at.min() > 1 and at.max() < split.lengths[position] - 1


@pytest.mark.parametrize("odd", ["\x01", "\u200b"])
def test_a_word_of_which_nothing_is_left_still_has_its_row(tmp_path: Path, odd: str) -> None:
    tokenizer = wordpiece()
    from tokenizers import normalizers

    tokenizer.normalizer = normalizers.BertNormalizer()
    one = Sentence(f"new {odd} york", ["new", odd, "york"], ["B-a", "O", "B-a"], "line 1")
    split, _ = written(tmp_path, [one], 16, tokenizer)
    assert split.labels.tolist() == [1, 0, 1]


def test_two_words_in_one_token_have_a_row_each(tmp_path: Path) -> None:
    one = Sentence("york", ["yo", "rk"], ["B-a", "O"], "line 1")
    split, _ = written(tmp_path, [one], 16, wordpiece())
    assert split.labels.tolist() == [1, 0]


def test_texts_without_tags_have_rows_without_labels(tmp_path: Path) -> None:
    split, _ = written(tmp_path, [sentence("new york"), sentence("in x", "O B-a")], 16, wordpiece())
    assert split.labelled.tolist() == [False, True] and split.labels.tolist() == [-1, -1, 0, 1]
    assert split.answered(split.rows_of([1])).tolist() == [False, True]


def test_words_are_found_in_their_text() -> None:
    assert places_of("Don't go.", ["Do", "n't", "go", "."]) == [0, 2, 6, 8]

"""Tokens as people read them, of the vocabularies that BERT, RoBERTa and XLM-RoBERTa have."""

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, WordLevel, WordPiece

from internal_kd.data.tokenizers import token_texts


def pieces_of_words() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(["[UNK]", "[CLS]", "play", "##ing", "[SEP]"])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(["[CLS]", "[SEP]"])
    return tokenizer


def bytes_of_words() -> Tokenizer:
    vocabulary = {token: number for number, token in enumerate(["<s>", "Ġplay", "ing", "Ã©", "Ġ"])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>"])
    return tokenizer


def sentence_pieces() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({"<s>": 0, "▁play": 1, "ing": 2}, unk_token="<s>"))
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        (pieces_of_words(), ["[UNK]", "[CLS]", "play", "##ing", "[SEP]"]),
        (bytes_of_words(), ["<s>", "play", "ing", "é", "Ġ"]),
        (sentence_pieces(), ["<s>", "play", "ing"]),
    ],
    ids=["bert", "roberta", "xlm-roberta"],
)
def test_tokens_are_words_and_pieces_of_words(tokenizer: Tokenizer, expected: list[str]) -> None:
    assert token_texts(tokenizer, range(len(expected))) == expected

"""An encoder's tokenizer, from its folder alone: no network, no code of its own, nothing padded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.checksums import sha256_text
from internal_kd.errors import UserError
from internal_kd.learners.configs import positions_of, read_config

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# DistilBERT's forward pass takes no token_type_ids, whatever its tokenizer makes.
WITHOUT_TYPES = ("distilbert",)


@dataclass(frozen=True)
class EncoderTokenizer:
    """A fast tokenizer that truncates pairs longest first, and what the encoder's config states about its input.

    Attributes:
        tokenizer: set to truncate to ``max_length`` and to pad nothing.
        max_length: in tokens, special tokens included.
        pad_id: the padding token's id.
        mask_id: the mask token's id; None if it has none.
        special_ids: of tokens that stand for no text, such as [CLS].
        vocabulary: embeddings of the encoder.
        uses_types: whether the encoder tells the two texts of a pair apart.
        identity: SHA-256 of everything that decides which ids a text becomes. Two folders with one identity give the
            same ids for every text, whatever files their tokenizers were saved in.
    """

    tokenizer: Tokenizer
    max_length: int
    pad_id: int
    mask_id: int | None
    special_ids: tuple[int, ...]
    vocabulary: int
    uses_types: bool
    identity: str


def load_tokenizer(folder: Path, name: str, max_length: int) -> EncoderTokenizer:
    """Load a fetched encoder's tokenizer, set to truncate to ``max_length``, special tokens included.

    Raises:
        UserError: there is no tokenizer that can be read, it has no padding token, or ``max_length`` is more than the
            encoder has positions for. The line names the encoder, ``name``.
    """
    config = read_config(folder)
    auto = _read(folder, name)
    pad_id = auto.pad_token_id if auto.pad_token_id is not None else config.get("pad_token_id")
    if pad_id is None:
        raise UserError(f"encoder {name}: its tokenizer has no padding token; set pad_token in tokenizer_config.json")
    positions = positions_of(config)
    if max_length > positions:
        raise UserError(f"max_length: {max_length} is more than the {positions} positions of encoder {name}")
    tokenizer = auto.backend_tokenizer
    # tokenizer.json may have settings of its own (MiniLM's pads everything to 128).
    tokenizer.no_padding()
    tokenizer.no_truncation()
    types = config.get("type_vocab_size", 1) > 1 and config["model_type"] not in WITHOUT_TYPES
    identity = _identity(tokenizer)
    tokenizer.enable_truncation(max_length, stride=0, strategy="longest_first", direction="right")
    return EncoderTokenizer(
        tokenizer,
        max_length,
        pad_id,
        auto.mask_token_id,
        tuple(auto.all_special_ids),
        config.get("vocab_size", len(auto)),
        types,
        identity,
    )


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return every token as people read it: without the mark of a space that some vocabularies put before words."""
    texts = (tokenizer.decode([token], skip_special_tokens=False).strip() for token in ids)
    return [text or str(tokenizer.id_to_token(token)) for text, token in zip(texts, ids, strict=True)]


def _identity(tokenizer: Tokenizer) -> str:
    parts = json.loads(tokenizer.to_str())
    deciding = {key: part for key, part in parts.items() if key not in ("version", "truncation", "padding", "decoder")}
    return sha256_text(json.dumps(deciding, sort_keys=True))


def _read(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        auto = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the Rust side raises bare Exception for a tokenizer.json it cannot read
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"encoder {name}: its tokenizer in {folder} cannot be read ({reason})") from None
    if not auto.is_fast:
        raise UserError(
            f"encoder {name}: only tokenizers with a tokenizer.json are supported; save it with AutoTokenizer"
        )
    return auto

"""An encoder's tokenizer, from its folder alone: no network, no remote code, nothing padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from internal_kd.errors import UserError
from internal_kd.files import read_json

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Their position ids start behind the padding id, so that many rows of the position table are never used.
POSITIONS_BEHIND_PAD = ("camembert", "roberta", "xlm-roberta")
# DistilBERT's forward pass takes no token_type_ids, whatever its tokenizer makes.
WITHOUT_TYPES = ("distilbert",)


@dataclass(frozen=True)
class EncoderTokenizer:
    """A fast tokenizer that truncates pairs longest first, and what the encoder's config says about its input."""

    tokenizer: Tokenizer
    max_length: int
    pad_id: int
    vocabulary: int
    uses_types: bool


def load_tokenizer(folder: Path, name: str, max_length: int) -> EncoderTokenizer:
    """Load a fetched encoder's tokenizer, set to truncate to ``max_length`` with special tokens included.

    Raises:
        UserError: there is no tokenizer that can be read, it has no padding token, or ``max_length`` is more than the
            encoder has positions for.
    """
    config = read_json(folder / "config.json")
    auto = _read(folder, name)
    pad_id = auto.pad_token_id if auto.pad_token_id is not None else config.get("pad_token_id")
    if pad_id is None:
        raise UserError(f"encoder {name}: its tokenizer has no padding token; set pad_token in tokenizer_config.json")
    positions = positions_of(config)
    if max_length > positions:
        raise UserError(f"tokens.max_length: {max_length} is more than the {positions} positions of encoder {name}")
    tokenizer = auto.backend_tokenizer
    # tokenizer.json may carry settings of its own (MiniLM's pads everything to 128).
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, stride=0, strategy="longest_first", direction="right")
    types = config.get("type_vocab_size", 1) > 1 and config["model_type"] not in WITHOUT_TYPES
    return EncoderTokenizer(tokenizer, max_length, pad_id, config["vocab_size"], types)


def positions_of(config: Mapping[str, Any]) -> int:
    """Return the longest input an encoder with this ``config.json`` has positions for; 512 if that says nothing."""

    def number(key: str, default: int) -> int:
        value = config.get(key)
        return value if isinstance(value, int) else default

    behind = number("pad_token_id", 1) + 1 if config.get("model_type") in POSITIONS_BEHIND_PAD else 0
    return number("max_position_embeddings", 512) - behind


def token_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """Return every token as people read it: without the sign for a space that some vocabularies put before words."""
    texts = (tokenizer.decode([token], skip_special_tokens=False).strip() for token in ids)
    return [text or str(tokenizer.id_to_token(token)) for text, token in zip(texts, ids, strict=True)]


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

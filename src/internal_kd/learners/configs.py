"""What a model's folder states about itself: its sizes, how long a text it reads, and whether it can be trusted.

Free of torch apart from `check_config`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.families import FAMILIES, family_of
from internal_kd.learners.learner import EVERYTHING, Shape

WAY_OUT = "copy or download the model again"
# Position ids of these start after the padding id, so that many rows of the position table are never used.
POSITIONS_AFTER_PAD = ("camembert", "roberta", "xlm-roberta")
# transformers' own ways of attending. A config may name a repository on the hub instead, whose code would be run.
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
# Largest sizes that are taken for real: beyond those of any published encoder.
LARGEST = {
    "layers": 1_000,
    "width": 65_536,
    "heads": 4_096,
    "inner": 1_000_000,
    "vocab_size": 5_000_000,
    "max_position_embeddings": 5_000_000,
    "type_vocab_size": 1_000,
    "embedding_size": 65_536,
}


def read_config(folder: Path) -> dict[str, Any]:
    """Return a model folder's ``config.json``.

    Raises:
        UserError: it is missing, is not a JSON object, names no ``model_type``, names code to run, or is a decoder's.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a folder with a config and model.safetensors")
    config = read_mapping(path, WAY_OUT)
    if not isinstance(config.get("model_type"), str) or not config["model_type"]:
        raise UserError(f'{path} has no model_type; add it, for example "model_type": "bert"')
    if config.get("auto_map"):
        raise UserError(f"{path}: auto_map names code of its own, which is never run; take a model that needs none")
    if config.get("quantization_config"):
        raise UserError(f"{path}: quantization_config: quantized weights are not read; take the unquantized model")
    for key in ("is_decoder", "add_cross_attention"):
        if config.get(key):
            raise UserError(f"{path}: {key} makes it a decoder, which reads only what stands before a token; remove it")
    for key in ("_attn_implementation", "attn_implementation"):
        if config.get(key) not in (None, *ATTENTIONS):
            raise UserError(f"{path}: {key} names {config[key]!r}, code that is never run; remove the line")
    return config


def shape_of(folder: Path) -> Shape:
    """Return the sizes of the model in a folder; of an unknown family only logits can be read.

    Raises:
        UserError: as `read_config`, or a size is not a positive integer.
    """
    return shape_of_config(read_config(folder), str(Path(folder) / "config.json"))


def shape_of_config(config: Mapping[str, Any], where: str = "config.json") -> Shape:
    """Return the sizes that a ``config.json`` with a ``model_type`` states.

    Raises:
        UserError: one of them is not a positive integer, or larger than any encoder's.
    """
    family = FAMILIES.get(str(config["model_type"]))
    if family is None:
        return Shape(family=str(config["model_type"]), hands_out=frozenset({"logits"}))
    keys = {"layers": family.depth, "width": family.width, "heads": family.heads, "inner": family.inner_size}
    sizes: dict[str, int | None] = {}
    for name, key in keys.items():
        sizes[name] = _size(config, key, LARGEST[name], where)
    width, heads = sizes["width"], sizes["heads"]
    if width and heads and width % heads:
        raise UserError(f"{where}: {heads} heads do not divide {family.width} {width}; {WAY_OUT}")
    return Shape(family=str(config["model_type"]), hands_out=EVERYTHING, **sizes)


def positions_of(config: Mapping[str, Any]) -> int:
    """Return the longest input, in tokens, that a model with this ``config.json`` has positions for; 512 by default."""

    def number(key: str, default: int) -> int:
        value = config.get(key)
        return value if isinstance(value, int) else default

    used = number("pad_token_id", 1) + 1 if config.get("model_type") in POSITIONS_AFTER_PAD else 0
    return number("max_position_embeddings", 512) - used


def own_max_length(folder: Path) -> int:
    """Return the longest input, in tokens, that a finished model was made for.

    That is its tokenizer's ``model_max_length``, or fewer where it has fewer positions.

    Raises:
        UserError: as `read_config`.
    """
    positions = positions_of(read_config(folder))
    path = Path(folder) / "tokenizer_config.json"
    stated = read_mapping(path, WAY_OUT).get("model_max_length") if path.is_file() else None
    # Tokenizers without a limit state 1e30.
    return min(positions, int(stated)) if isinstance(stated, int | float) and stated >= 1 else positions


def check_config(folder: Path) -> Shape:
    """Refuse a model whose config could not be built or would be absurdly large, before any weight is allocated.

    The model is built on torch's meta device, without memory and without running code from the folder, and compared
    with the shapes that its safetensors files list.

    Returns:
        The model's sizes.

    Raises:
        UserError: as `read_config` and `shape_of`, the family is not supported, a size is out of range, transformers
            cannot build it, or its weights have other shapes.
    """
    folder = Path(folder)
    config, where = read_config(folder), str(folder / "config.json")
    family_of(config["model_type"])
    shape = shape_of_config(config, where)
    for key in ("vocab_size", "max_position_embeddings", "type_vocab_size", "embedding_size"):
        _size(config, key, LARGEST[key], where)
    from internal_kd.learners.weights import classifier_on_meta  # imports torch

    expected = {name: tuple(weight.shape) for name, weight in classifier_on_meta(folder).state_dict().items()}
    for name, found in stored_shapes(folder).items():
        # A pre-trained encoder's file names its weights with or without the base model's prefix.
        asked = next((s for known, s in expected.items() if known == name or known.split(".", 1)[-1] == name), None)
        head = name.startswith(("classifier", "pre_classifier"))
        if asked is not None and asked != found and not head:
            raise UserError(f"{where} asks for {name} of shape {asked}, but {found} is stored; {WAY_OUT}")
    return shape


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights in a folder's safetensors files, by name, from their headers alone.

    Raises:
        UserError: a file is truncated.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        try:
            with path.open("rb") as handle:
                (length,) = struct.unpack("<Q", handle.read(8))
                header = json.loads(handle.read(min(length, path.stat().st_size)))
            shapes |= {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is truncated or not a safetensors file; {WAY_OUT}") from error
    return shapes


def _size(config: Mapping[str, Any], key: str, largest: int, where: str) -> int | None:
    value = config.get(key)
    if value is not None and (type(value) is not int or not 1 <= value <= largest):
        raise UserError(f"{where}: {key} is {value!r}; a whole number from 1 to {largest} is expected; {WAY_OUT}")
    return value

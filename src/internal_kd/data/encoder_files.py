"""The files of a pre-trained encoder: which are needed, and whether they are what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from internal_kd.artefacts import ENCODER_FILES, EncoderFiles
from internal_kd.data.hub import Wanted, download
from internal_kd.errors import UserError
from internal_kd.files import read_mapping, sha256_file
from internal_kd.params.sources import EncoderParams

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
# Any one of these lines is a tokenizer.
TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))
# The source is its owner's: nobody is told to delete anything there.
WAY_OUT = "copy or download the encoder anew"


def read_config(path: Path) -> tuple[dict[str, Any], int | None]:
    """Return an encoder's ``config.json`` and its number of layers, None where it tells none.

    Raises:
        UserError: it is missing, no whole JSON object, or its number of layers is no positive integer.
    """
    config = read_mapping(path, WAY_OUT)
    layers = config.get("num_hidden_layers", config.get("n_layers"))
    if layers is not None and (type(layers) is not int or layers < 1):
        raise UserError(f"{path}: {layers!r} is no number of layers; {WAY_OUT}")
    return config, layers


def find_encoder(files: EncoderFiles) -> dict[str, Path]:
    """Return the encoder's files by name, downloading them if it is the hub's.

    Raises:
        UserError: it cannot be reached, or has no configuration, tokenizer or whole set of safetensors weights.
    """
    where = _where(files.encoder)
    if files.path is None:
        found = _download(files.encoder)
    else:
        found = {name: files.path / name for name in files.content}
    if "config.json" not in found:
        raise UserError(f"{where} holds no config.json; take a saved Hugging Face encoder")
    weights = _weights(found, where)
    if not any(all(name in found for name in names) for names in TOKENIZERS):
        raise UserError(f"{where} holds no tokenizer.json or vocabulary; save the tokenizer beside the weights")
    # An encoder needs one set of weights; others that lie beside it stay where they are.
    return {name: path for name, path in found.items() if not name.endswith(".safetensors") or name in weights}


def _where(encoder: EncoderParams) -> str:
    source = {"hub": encoder.id, "folder": encoder.path, "package": encoder.package}[encoder.source]
    return (
        f"encoder.{'id' if encoder.source == 'hub' else 'path' if encoder.source == 'folder' else 'package'} {source}"
    )


def _download(encoder: EncoderParams) -> dict[str, Path]:
    wanted = Wanted(
        kind="model",
        repository=str(encoder.id),
        revision=str(encoder.revision),
        patterns=ENCODER_FILES,
        ignored=("*/*",),
        way_out="give a saved encoder as encoder.source: folder and encoder.path",
    )
    return download(wanted)


def _weights(found: dict[str, Path], where: str) -> set[str]:
    if WEIGHTS in found:
        return {WEIGHTS}
    if SHARDS not in found:
        raise UserError(
            f"{where} holds no {WEIGHTS} (pickled weights are never read); take a revision that has it, or save it "
            "anew with save_pretrained"
        )
    weights = read_mapping(found[SHARDS], WAY_OUT).get("weight_map")
    shards = {str(name) for name in weights.values()} if isinstance(weights, dict) else set()
    if not shards:
        raise UserError(f"{where}: {SHARDS} names no weights; save the encoder anew with save_pretrained")
    if missing := sorted(shards - set(found)):
        raise UserError(f"{where} lacks {missing[0]}, which {SHARDS} names; {WAY_OUT}")
    return shards


def check_encoder(encoder: EncoderParams, found: dict[str, Path]) -> dict[str, Any]:
    """Compare the files with what the parameters say, and return what the manifest tells about the encoder.

    Raises:
        UserError: another checksum or number of layers, a kind that is not supported, or weights cut short.
    """
    where = _where(encoder)
    config, layers = read_config(found["config.json"])
    if layers is None:
        raise UserError(f"{where}: config.json names no num_hidden_layers; save the encoder anew with save_pretrained")
    if encoder.layers not in (None, layers):
        raise UserError(f"encoder.layers: {encoder.layers} was given, but {where} has {layers}")
    if encoder.sha256 is not None:
        if WEIGHTS not in found:
            raise UserError(f"encoder.sha256 is of {WEIGHTS}, but {where} comes in shards: leave sha256 out")
        _check_sum(where, found[WEIGHTS], WEIGHTS, encoder.sha256)
    if encoder.vocab_sha256 is not None and encoder.source == "hub":
        if "vocab.txt" not in found:
            raise UserError(f"encoder.vocab_sha256 is of vocab.txt, which {where} lacks: leave vocab_sha256 out")
        _check_sum(where, found["vocab.txt"], "vocab.txt", encoder.vocab_sha256)
    for name, path in found.items():
        if name.endswith(".safetensors"):
            _check_whole(where, name, path)
    from internal_kd.models.families import family_of  # imports torch: last, so that a refusal comes quickly

    model_type = str(config.get("model_type", ""))
    family_of(model_type)
    return {
        "name": encoder.name,
        "source": f"{encoder.id}@{encoder.revision}" if encoder.source == "hub" else f"local {encoder.source}",
        "model_type": model_type,
        "layers": layers,
        "heads": config.get("num_attention_heads", config.get("n_heads")),
        "width": config.get("hidden_size", config.get("dim")),
        "licence": encoder.licence,
    }


def _check_sum(where: str, path: Path, name: str, expected: str) -> None:
    found = sha256_file(path)
    if found != expected:
        raise UserError(
            f"{where}: {name} has sha256 {found} instead of {expected}; it was changed or cut short: get it anew, or "
            "correct the expected value"
        )


def _check_whole(where: str, name: str, path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as weights:
            empty = not list(weights.keys())
    except (SafetensorError, OSError) as error:
        raise UserError(f"{where}: {name} is cut short or no safetensors file ({error}); get it anew") from None
    if empty:
        raise UserError(f"{where}: {name} holds no weights; get it anew")

"""The files of a pre-trained encoder, or of a model that somebody fine-tuned: which are needed, and are they right?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from internal_kd.checksums import sha256_once
from internal_kd.data.file_kinds import surprise_in
from internal_kd.data.hub import HubFiles, download
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.configs import WAY_OUT, check_config, read_config, shape_of
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.finished import HEADS
from internal_kd.params.data import EncoderParams
from internal_kd.plan.artefacts import ENCODER_FILES, Encoder

WEIGHTS = "model.safetensors"
SHARDS = "model.safetensors.index.json"
# Any one of these is a tokenizer.
TOKENIZERS = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))


def source_of(encoder: EncoderParams) -> str:
    """Return where an encoder, or a fine-tuned model, comes from, for error lines."""
    if encoder.source == "package":
        return f"package {encoder.package}"
    return str(encoder.path if encoder.source == "folder" else encoder.id)


@contextmanager
def naming_source(files: Encoder, folder: Path) -> Iterator[None]:
    """Have errors about a copy in ``folder`` name its source, which is what has to be corrected."""
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), source_of(files.encoder))) from None


def find_encoder(files: Encoder) -> dict[str, Path]:
    """Return the encoder's files by name, after downloading them if they come from the hub.

    Raises:
        UserError: the source cannot be reached, or has no configuration, tokenizer or complete set of safetensors
            weights.
    """
    where = source_of(files.encoder)
    if files.path is None:
        found = _download(files.encoder)
    else:
        found = {name: files.path / name for name in files.content}
    if "config.json" not in found:
        raise UserError(f"{where} has no config.json; take a saved Hugging Face encoder")
    weights = _weights(found, where)
    if not any(all(name in found for name in names) for names in TOKENIZERS):
        raise UserError(f"{where} has no tokenizer.json or vocabulary; save the tokenizer in the same folder")
    # An encoder needs one set of weights; others in the same folder stay where they are.
    return {name: path for name, path in found.items() if not name.endswith(".safetensors") or name in weights}


def check_encoder(files: Encoder, folder: Path) -> dict[str, Any]:
    """Compare a copy of the encoder's files with what the parameters state, and check that it can be built.

    Returns what the manifest records about it.

    Raises:
        UserError: a file is damaged or changed since the study was planned, a checksum or the number of layers is
            another than stated, or the config is of a kind that is not supported, cannot be built or names code.
    """
    encoder, where = files.encoder, source_of(files.encoder)
    with naming_source(files, folder):
        config = read_config(folder)
        shape = shape_of(folder)
        if encoder.layers not in (None, shape.layers):
            raise UserError(f"encoder.layers: {encoder.layers} was given, but {where} has {shape.layers}")
        _check_sums(files, folder)
        for path in sorted(folder.glob("*.safetensors")):
            _check_weights(where, path)
        if config["model_type"] in FAMILIES or not _is_classifier(config):
            check_config(folder)  # imports torch: last, so that other refusals come quickly
    return {
        "name": encoder.name,
        "source": f"{encoder.id}@{encoder.revision}" if encoder.source == "hub" else f"local {encoder.source}",
        "model_type": config["model_type"],
        "layers": shape.layers,
        "heads": shape.heads,
        "width": shape.width,
        "licence": encoder.licence,
    }


def _is_classifier(config: dict[str, Any]) -> bool:
    """Whether somebody fine-tuned it: then its logits can be read, whatever the family."""
    names = config.get("architectures")
    return isinstance(names, list) and any(str(name).endswith(HEADS) for name in names)


def _download(encoder: EncoderParams) -> dict[str, Path]:
    way_out = "give a saved copy: encoder.source: folder and encoder.path, or teacher.folder"
    return download(HubFiles("model", str(encoder.id), str(encoder.revision), ENCODER_FILES, way_out, ignored=("*/*",)))


def _weights(found: dict[str, Path], where: str) -> set[str]:
    if WEIGHTS in found:
        return {WEIGHTS}
    if SHARDS not in found:
        raise UserError(
            f"{where} has no {WEIGHTS} (pickled weights are never read); take a revision that has it, or save the "
            "model again with save_pretrained"
        )
    weights = read_mapping(found[SHARDS], WAY_OUT).get("weight_map")
    shards = {str(name) for name in weights.values()} if isinstance(weights, dict) else set()
    if not shards:
        raise UserError(f"{where}: {SHARDS} names no weights; save the encoder again with save_pretrained")
    if missing := sorted(shards - set(found)):
        raise UserError(f"{where} has no {missing[0]}, which {SHARDS} names; {WAY_OUT}")
    return shards


def _check_sums(files: Encoder, folder: Path) -> None:
    encoder, where = files.encoder, source_of(files.encoder)
    for name, content in files.content.items():
        if (folder / name).exists() and sha256_once(folder / name) != content:
            raise UserError(f"{where}: {name} changed since the study was planned; start again")
    stated: dict[str, tuple[str, str | None, str]] = {"sha256": (WEIGHTS, encoder.sha256, "comes in shards")}
    if encoder.source == "hub":
        stated["vocab_sha256"] = ("vocab.txt", encoder.vocab_sha256, "has none")
    for key, (name, expected, otherwise) in stated.items():
        if expected is None:
            continue
        if not (folder / name).exists():
            raise UserError(f"encoder.{key} is of {name}, but {where} {otherwise}: leave {key} out")
        if (found := sha256_once(folder / name)) != expected:
            raise UserError(
                f"{where}: {name} has sha256 {found} instead of {expected}; it was changed or truncated: get it "
                "again, or correct the expected value"
            )


def _check_weights(where: str, path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as weights:
            empty = not list(weights.keys())
    except (SafetensorError, OSError) as error:
        with path.open("rb") as handle:
            surprise = surprise_in(handle.read(64))
        if surprise:
            way_out = surprise[1].format(name=path.name, ending=path.suffix)
            raise UserError(f"{where}: {path.name} is {surprise[0]}: {way_out}") from None
        raise UserError(f"{where}: {path.name} is truncated or not safetensors ({error}); {WAY_OUT}") from None
    if empty:
        raise UserError(f"{where}: {path.name} has no weights; {WAY_OUT}")

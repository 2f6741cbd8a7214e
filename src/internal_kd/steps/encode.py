"""Tokenise a task with an encoder's tokenizer into ragged, memory-mappable arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.plan.artefacts import Inputs


def encode_task(inputs: Inputs) -> None:
    """Write ``work/inputs/<task>-<fp>/``: the token ids of every split and a manifest.

    Pairs are truncated longest first; special tokens count towards the length; nothing is padded. Splits are streamed,
    so the memory needed does not grow with them.

    Raises:
        UserError: task or encoder was not fetched, or the tokenizer does not suit the encoder.
        Damaged: a file of the task or the encoder is not what was fetched.
    """
    from internal_kd.data.examples import manifest_of, read_task
    from internal_kd.data.inputs_writing import write_split
    from internal_kd.data.tokenizers import load_tokenizer
    from internal_kd.files import publish, read_mapping, staging_folder, verified

    task = read_task(inputs.data)
    source = inputs.encoder
    record = read_mapping(source.marker)
    verified(source.folder, record, [name for name in record.get("files", {}) if not name.endswith(".safetensors")])
    encoder = load_tokenizer(source.folder, source.name, inputs.max_length)
    with staging_folder(inputs.folder) as staged:
        splits = {
            split: write_split(staged, split, task.path(split), encoder, kind=task.info.kind)
            for split in task.info.rows
        }
        manifest = {
            "task": task.info.to_json(),
            "max_length": inputs.max_length,
            "pad_id": encoder.pad_id,
            "tokenizer": encoder.identity,
            "splits": splits,
            "data_sha256": task.sha256,
        }
        publish(staged, inputs.folder, {**manifest_of(inputs), **manifest})

"""Tokenise a task with an encoder's tokenizer into ragged, memory-mappable arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from internal_kd.artefacts import TokenizedTask

# Raised when the same parameters and inputs give another result.
RECIPE = 1


def tokenize_task(tokens: TokenizedTask) -> None:
    """Write ``work/tokens/<task>-<fp>/``: the token ids of every split and a manifest.

    Pairs are truncated longest first; special tokens count towards the length; nothing is padded. Splits are streamed,
    so the memory needed does not grow with them.

    Raises:
        UserError: task or encoder was not fetched, or the tokenizer does not suit the encoder.
    """
    from internal_kd.data.tasks_on_disk import read_task
    from internal_kd.data.tokenizers import load_tokenizer
    from internal_kd.data.tokens_writing import write_split
    from internal_kd.files import describe_files, publish_folder, staging_folder, write_json
    from internal_kd.identity import plain

    task = read_task(tokens.data)
    encoder = load_tokenizer(tokens.encoder.folder, tokens.encoder.name, tokens.max_length)
    with staging_folder(tokens.folder) as staged:
        splits = {
            split: write_split(staged, split, task.path(split), encoder, regression=task.regression)
            for split in task.splits
        }
        manifest = {
            "fingerprint": tokens.fingerprint,
            "recipe": tokens.recipe,
            "params": plain(tokens.params()),
            "inputs": tokens.inputs(),
            "task": task.task,
            "labels": list(task.labels),
            "classes": task.classes,
            "regression": task.regression,
            "metrics": list(task.metrics),
            "max_length": tokens.max_length,
            "pad_id": encoder.pad_id,
            "splits": splits,
            "data_sha256": {split: facts["sha256"] for split, facts in task.splits.items()},
            "files": describe_files(staged, [path.name for path in staged.glob("*.npy")]),
        }
        write_json(staged / tokens.marker.name, manifest)
        publish_folder(staged, tokens.folder, last=tokens.marker.name)

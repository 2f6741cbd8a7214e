"""Make a task's inputs: token ids of an encoder's tokenizer, its word or sentence vectors, or the pixels of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internal_kd.checksums import publish, verified
from internal_kd.data.dense import write_dense
from internal_kd.data.encoder_files import naming_source
from internal_kd.data.examples import TaskOnDisk, manifest_of, read_task
from internal_kd.data.images import images_of
from internal_kd.data.inputs import EncodedTask
from internal_kd.data.inputs_writing import write_split
from internal_kd.data.tag_inputs import write_tagged_split
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.distillation.hardware import choose_hardware
from internal_kd.files import read_mapping, staging_folder
from internal_kd.learners.encoder import EncoderLearner
from internal_kd.learners.weights import word_vectors
from internal_kd.plan.artefacts import Encoder, Inputs
from internal_kd.plan.store import verified_folder

# Examples that an encoder reads at a time.
_AT_ONCE = 64


def encode_task(inputs: Inputs) -> None:
    """Write ``work/inputs/<task>-<fp>/``: the inputs of every split and a manifest.

    Pairs are truncated longest first, sentences of tags never: they become windows. Special tokens count towards the
    length; nothing is padded. Token ids are streamed, so the memory needed does not grow with a split.

    Raises:
        UserError: task or encoder was not fetched, or the tokenizer does not suit the encoder.
        Damaged: a file of the task or the encoder is not what was fetched.
    """
    task = read_task(inputs.data)
    write = {"tokens": _tokens, "pixels": _pixels, "sentences": _vectors, "embeddings": _vectors}[inputs.form]
    with staging_folder(inputs.folder) as staged:
        facts = write(inputs, task, staged)
        common = {"task": task.info.to_json(), "data_sha256": task.sha256}
        publish(staged, inputs.folder, {**manifest_of(inputs), **common, **facts})


def _tokens(inputs: Inputs, task: TaskOnDisk, folder: Path) -> dict[str, Any]:
    assert inputs.encoder is not None
    _verify_tokenizer(inputs.encoder)
    with naming_source(inputs.encoder, inputs.encoder.folder):
        encoder = load_tokenizer(inputs.encoder.folder, inputs.encoder.name, inputs.max_length)
    write = write_tagged_split if task.info.kind == "tags" else partial(write_split, kind=task.info.kind)
    splits = {split: write(folder, split, task.path(split), encoder) for split in task.info.rows}
    named = {"max_length": inputs.max_length, "pad_id": encoder.pad_id, "tokenizer": encoder.identity}
    return {**named, "splits": splits}


def _verify_tokenizer(source: Encoder) -> None:
    record = read_mapping(source.marker)
    verified(source.folder, record, [name for name in record.get("files", {}) if not name.endswith(".safetensors")])


def _pixels(inputs: Inputs, task: TaskOnDisk, folder: Path) -> dict[str, Any]:
    splits, size = {}, []
    for split in task.info.rows:
        table = task.table(split)
        images = images_of(table)
        labels = table["label"].to_numpy()
        splits[split] = write_dense(folder, split, "pixels", table["idx"].to_numpy(), labels, images)
        size = list(images.shape[1:])
    return {"form": "pixels", "size": size, "splits": splits}


def _vectors(inputs: Inputs, task: TaskOnDisk, folder: Path) -> dict[str, Any]:
    """Write what an encoder makes of the token ids: a vector a sentence, or one a token."""
    tokens = EncodedTask(inputs.tokens.folder)
    read = _mean_states(inputs) if inputs.form == "sentences" else _word_vectors(inputs)
    splits: dict[str, Any] = {}
    size: list[int] = []
    for split in tokens.splits:
        examples = tokens.texts(split)
        starts = range(0, len(examples), _AT_ONCE)
        vectors = np.concatenate([read(examples.batch(range(s, min(s + _AT_ONCE, len(examples))))) for s in starts])
        splits[split] = write_dense(folder, split, inputs.form, examples.idx, examples.labels, vectors)
        size = list(vectors.shape[1:])
    return {"form": inputs.form, "size": size, "splits": splits}


def _word_vectors(inputs: Inputs) -> Any:
    """Return a function from a batch of token ids to word vectors (B, max_length, D), fp16, zeros where none is."""
    assert inputs.encoder is not None
    table = word_vectors(verified_folder(inputs.encoder)).astype(np.float16)

    def read(batch: dict[str, torch.Tensor]) -> np.ndarray:
        vectors = table[batch["input_ids"].numpy()] * batch["attention_mask"].numpy()[..., None].astype(np.float16)
        return np.pad(vectors, ((0, 0), (0, inputs.max_length - vectors.shape[1]), (0, 0)))

    return read


def _mean_states(inputs: Inputs) -> Any:
    """Return a function from a batch of token ids to the means of the encoder's last states over real tokens."""
    assert inputs.encoder is not None
    network = EncoderLearner().build(verified_folder(inputs.encoder), 2, seed=0).freeze()
    hardware = choose_hardware("fp32")
    hardware.place(network.module)
    top = "hidden", network.layers

    def read(batch: dict[str, torch.Tensor]) -> np.ndarray:
        batch = {name: tensor.to(hardware.device) for name, tensor in batch.items()}
        with torch.no_grad():
            states = network.read(batch, frozenset({top}))[top].float()
        real = batch["attention_mask"].unsqueeze(-1).float()
        return ((states * real).sum(1) / real.sum(1)).cpu().numpy()

    return read

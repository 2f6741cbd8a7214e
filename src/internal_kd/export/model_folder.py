"""A run as a Hugging Face folder: what ``from_pretrained`` and ``pipeline`` open without any code of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedModel

from internal_kd.checksums import verified
from internal_kd.data.ragged import EncodedExamples, TaggedExamples
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.blocks import multiplied_out
from internal_kd.learners.rows import by_row
from internal_kd.learners.small import open_network
from internal_kd.learners.weights import (
    classifier_class,
    load_classifier,
    load_finished,
    name_labels,
    quiet,
    save_classifier,
    stored_kind,
)
from internal_kd.plan.runs import Run
from internal_kd.plan.store import verified_folder
from internal_kd.tasks.info import TaskInfo

VALUE_LABEL = "score"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "pixels", "sentences", "embeddings")
# Largest difference of a logit, as a share of the largest one (of 1 where that is smaller). Dev predictions made under
# bf16 autocast have its rounding (8 bits of mantissa) in every layer; in fp32 only the order of sums differs.
TOLERANCES = {"fp32": 1e-3, "bf16": 1e-1}
_COMPARED_TEXTS = 512


@dataclass(frozen=True)
class Agreement:
    """How far two sets of logits of the same examples lie apart.

    Attributes:
        examples: how many were compared.
        largest: the largest difference of a logit.
        allowed: what is tolerated; None if it is recorded, not judged.
        same: the share of examples with the same predicted class; 1 for values.
    """

    examples: int
    largest: float
    allowed: float | None
    same: float

    @property
    def holds(self) -> bool:
        """Whether the difference is tolerated."""
        return self.allowed is None or self.largest <= self.allowed


def agreement(one: np.ndarray, other: np.ndarray, share: float | None) -> Agreement:
    """Compare logits (examples, outputs); ``share`` of the largest logit of ``one`` is tolerated, anything if None."""
    same = 1.0 if one.shape[1] == 1 else float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
    allowed = None if share is None else share * max(1.0, float(np.abs(one).max()))
    return Agreement(len(one), float(np.abs(one - other).max()), allowed, same)


def write_model_folder(run: Run, info: TaskInfo, folder: Path) -> None:
    """Write configuration with the names of the classes, weights as safetensors, and of texts the tokenizer.

    Cheap blocks are multiplied out: transformers knows none. Learned projections are left out: they belong to the loss.

    Raises:
        UserError: the weights or the encoder's tokenizer cannot be read.
        Damaged: they are not what was written.
    """
    source = verified_folder(run, "model")
    if not is_encoder(run):
        run.method.learner.load(source, info.outputs, labels=info.labels or (VALUE_LABEL,)).save(folder)
        if run.encoder is not None:
            _tokenizer(run).save_pretrained(str(folder))
        return
    finished = run.method.learner.kind == "finished"
    model = multiplied_out(load_finished(source, info.outputs) if finished else load_classifier(source, info.outputs))
    name_labels(model, info.labels or (VALUE_LABEL,))
    save_classifier(model, folder)
    _tokenizer(run).save_pretrained(str(folder))


def _tokenizer(run: Run) -> Any:
    source, length = run.reader.folder, run.inputs.max_length
    record = read_mapping(run.reader.marker)
    verified(source, record, [name for name in record["files"] if not name.endswith(".safetensors")])
    ours = load_tokenizer(source, run.reader.name, length)
    names = ["input_ids", *(["token_type_ids"] if ours.uses_types else []), "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(
        str(source), local_files_only=True, trust_remote_code=False, model_max_length=length, model_input_names=names
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ours.pad_id)
    # How it was loaded here does not matter to those who load it elsewhere.
    for name in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(name, None)
    # tokenizer.json may have settings of its own (MiniLM's pads everything to 128).
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def load_exported(folder: Path, attention: str = "sdpa") -> PreTrainedModel:
    """Load an exported folder as anybody would, by default with transformers' default attention."""
    with quiet():
        model: PreTrainedModel = classifier_class(stored_kind(folder)).from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=attention,
        )
    return model.eval()


def graph_source(run: Run, info: TaskInfo, folder: Path) -> PreTrainedModel:
    """Return the model that becomes an ONNX graph: the exported one, or with cheap blocks the run's own."""
    if not getattr(run.method.learner, "has_blocks", False):
        return load_exported(folder, "eager")
    model = load_classifier(verified_folder(run, "model"), info.outputs)
    model.config._attn_implementation = "eager"
    return model


class Caller:
    """Anything that answers a batch with logits, for `predict_logits`: nothing of our networks is inside.

    Attributes:
        module: what is put into eval mode; an empty one for what is not torch.
    """

    def __init__(self, call: Callable[[dict[str, Tensor]], Tensor], module: nn.Module | None = None) -> None:
        self.module, self._call = module or nn.Identity(), call

    def read(self, batch: Mapping[str, Tensor], wanted: object = None) -> dict[tuple[str, int], Tensor]:
        """Return the logits (B, C) of a batch; of a token classifier those of the words (R, C)."""
        return {("logits", 0): by_row(self._call({name: batch[name] for name in INPUTS if name in batch}), batch)}


def is_encoder(run: Run) -> bool:
    """Whether a run's model is one that plain transformers opens."""
    return run.method.learner.starts_from != "nothing"


def exported_caller(run: Run, folder: Path) -> Caller:
    """Return how the model in an exported folder is called, or in a run's own."""
    if is_encoder(run):
        model = load_exported(folder)
        return Caller(lambda batch: model(**batch).logits, model)
    network = open_network(folder)
    return Caller(lambda batch: network.read(batch)["logits", 0], network.module)


def check_tokenizer(folder: Path, texts: pd.DataFrame, split: EncodedExamples) -> bool:
    """Compare the exported tokenizer with the token ids that the run was trained and scored on.

    ``texts`` are a split's examples and ``split`` the same as token ids. Returns whether the model takes token types.

    Raises:
        UserError: a text becomes other tokens.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    first = texts.head(_COMPARED_TEXTS)
    pairs = {"text_pair": first["text_b"].tolist()} if "text_b" in first else {}
    found = tokenizer(first["text_a"].tolist(), **pairs, truncation=True)["input_ids"]
    place = {idx: number for number, idx in enumerate(split.idx.tolist())}
    positions = [place[idx] for idx in first["idx"].tolist()]
    differing = [n for n, ids in zip(positions, found, strict=True) if ids != split.ids(n).tolist()]
    # Sentences whose words share a token are read word by word, and a long one's first window may end elsewhere.
    if not isinstance(split, TaggedExamples) or len(differing) * 2 > len(found):
        for position in differing:
            raise UserError(
                f"{folder}: the exported tokenizer gives other token ids for example {split.idx[position]} than the "
                "run was trained with; save the encoder's tokenizer with AutoTokenizer and start again"
            )
    return "token_type_ids" in tokenizer.model_input_names

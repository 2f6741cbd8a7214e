"""A student as a Hugging Face folder: what ``from_pretrained`` and ``pipeline`` load without any code of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from internal_kd.artefacts import StudentRun
from internal_kd.data.tasks_on_disk import TaskOnDisk
from internal_kd.data.tokenizers import load_tokenizer
from internal_kd.data.tokens import TokenSplit
from internal_kd.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REGRESSION_LABEL = "score"
# Largest difference of a logit, as a share of the largest one (of 1 where that is smaller). Dev predictions made under
# bf16 autocast carry its rounding (8 bits of mantissa) through every layer; in fp32 only the order of sums differs.
TOLERANCES = {"fp32": 1e-3, "bf16": 1e-1}
_COMPARED_TEXTS = 512


@dataclass(frozen=True)
class Agreement:
    """How far two sets of logits of the same examples lie apart.

    ``largest`` is the largest difference, ``allowed`` what is tolerated (None: anything), ``same`` the share of
    examples with the same predicted class (1 for regression).
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
    """Compare logits of shape (examples, classes); ``share`` of the largest logit of ``one`` is allowed, None: all."""
    same = 1.0 if one.shape[1] == 1 else float((one.argmax(axis=1) == other.argmax(axis=1)).mean())
    allowed = None if share is None else share * max(1.0, float(np.abs(one).max()))
    return Agreement(len(one), float(np.abs(one - other).max()), allowed, same)


def write_model_folder(run: StudentRun, task: TaskOnDisk, folder: Path) -> bool:
    """Write configuration with the labels' names, weights as safetensors, and the tokenizer.

    Returns:
        Whether the model tells the two texts of a pair apart by token types.

    Raises:
        UserError: the weights or the encoder's tokenizer cannot be read.
    """
    from internal_kd.models.classifiers import load_classifier, save_classifier

    model = load_classifier(run.folder / "model", task.classes)
    names = task.labels or (REGRESSION_LABEL,)
    model.config.id2label = dict(enumerate(names))
    model.config.label2id = {name: number for number, name in enumerate(names)}
    save_classifier(model, folder)
    tokenizer = _tokenizer(run)
    tokenizer.save_pretrained(str(folder))
    return "token_type_ids" in tokenizer.model_input_names


def _tokenizer(run: StudentRun) -> Any:
    from transformers import AutoTokenizer

    source = run.encoder.folder
    ours = load_tokenizer(source, run.encoder.name, run.tokens.max_length)
    names = ["input_ids", *(["token_type_ids"] if ours.uses_types else []), "attention_mask"]
    tokenizer = AutoTokenizer.from_pretrained(
        str(source),
        local_files_only=True,
        trust_remote_code=False,
        model_max_length=run.tokens.max_length,
        model_input_names=names,
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(ours.pad_id)
    # How it was loaded here is nothing to tell those who load it elsewhere.
    for name in ("local_files_only", "is_local"):
        tokenizer.init_kwargs.pop(name, None)
    # tokenizer.json may carry settings of its own (MiniLM's pads everything to 128).
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    return tokenizer


def load_exported(folder: Path, attention: str = "sdpa") -> PreTrainedModel:
    """Load an exported folder as anybody would, by default with transformers' default attention."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from internal_kd.models.classifiers import quiet

    with quiet():
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation=attention,
        )
    return cast("PreTrainedModel", model.eval())


def check_tokenizer(folder: Path, task: TaskOnDisk, split: TokenSplit) -> None:
    """Hold the exported tokenizer beside the token ids that the student was scored on.

    Raises:
        UserError: it cuts a text into other tokens.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    frame = task.frame(split.name).head(_COMPARED_TEXTS)
    pairs = {"text_pair": frame["text_b"].tolist()} if "text_b" in frame else {}
    found = tokenizer(frame["text_a"].tolist(), **pairs, truncation=True)["input_ids"]
    for position, ids in enumerate(found):
        if ids != split.ids(position).tolist():
            raise UserError(
                f"{folder}: the tokenizer cuts {task.task}'s example {split.idx[position]} as no training did"
            )

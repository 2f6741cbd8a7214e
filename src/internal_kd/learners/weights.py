"""Encoders with a classification head: loading, saving, counting and freezing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MethodType
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from internal_kd.errors import UserError
from internal_kd.models.families import family_of

_WEIGHTS = "model.safetensors"


class ParameterCount(NamedTuple):
    """Sizes of a model, its classification head left out so that they compare across tasks and with the paper.

    encoder: encoder layers and, where the base model has one, the pooler; total: the same with embeddings.
    """

    encoder: int
    total: int


def load_classifier(
    folder: Path | str, num_labels: int, *, depth: int | None = None, seed: int = 0, new_head: bool = False
) -> PreTrainedModel:
    """Load an encoder with a classification head from a local folder, in fp32 and in eval mode.

    Reads safetensors only and runs no code from the folder. ``num_labels`` 1 means regression. ``depth`` keeps the
    lowest layers only. A head or pooler that the folder lacks is drawn from ``seed``; the global random state stays
    untouched. ``new_head`` draws the head even where the folder has one: a pre-trained encoder may be a model that was
    fine-tuned for another task, with as many labels or not. Raises UserError when the folder, its config or its
    weights are missing, damaged or of another architecture, or hold a head of another size that is to be kept.
    """
    folder = Path(folder)
    config = _read_config(folder, num_labels, depth)
    if not any((folder / name).is_file() for name in (_WEIGHTS, f"{_WEIGHTS}.index.json")):
        raise UserError(f"{folder / _WEIGHTS} does not exist; weights are read from safetensors files only")
    try:
        with quiet(), seeded(seed):
            model, info = AutoModelForSequenceClassification.from_pretrained(
                folder,
                config=config,
                # Stated, because the default is whatever was stored, and some encoders are stored in fp16.
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (SafetensorError, OSError) as error:
        raise UserError(f"the weights in {folder} cannot be read ({_one_line(error)}); fetch them again") from error
    base = f"{model.base_model_prefix}."
    if new_head:
        info["mismatched_keys"] = {found for found in info["mismatched_keys"] if found[0].startswith(base)}
    _require_complete(folder, model, info)
    head = {name for name in model.state_dict() if not name.startswith(base)}
    if new_head and not head <= info["missing_keys"]:
        _draw_head(model, seed)
    return model.eval()


def _draw_head(model: PreTrainedModel, seed: int) -> None:
    """Put a head drawn from ``seed`` in the place of the model's own."""
    with seeded(seed):
        drawn = type(model)(model.config).float()
    for name, part in drawn.named_children():
        if name != model.base_model_prefix:
            setattr(model, name, part)


def save_classifier(model: PreTrainedModel, folder: Path | str) -> None:
    """Write a model's config and its weights, as one safetensors file, into a folder."""
    with quiet():
        # One file whatever the size: a run declares its files before it starts.
        model.save_pretrained(folder, max_shard_size="1000GB")


def count_parameters(model: PreTrainedModel) -> ParameterCount:
    """Count a model's parameters without its classification head.

    BERT-base of 12 layers: 85,645,056 and 109,482,240. The pooler counts where it belongs to the base model (BERT);
    the dense layer that RoBERTa, ELECTRA and DistilBERT put into their head does not.
    """
    sizes = [(name, weight.numel()) for name, weight in model.base_model.named_parameters()]
    total = sum(size for _, size in sizes)
    # ELECTRA's projection of narrow embeddings, "embeddings_project", counts as embeddings.
    return ParameterCount(total - sum(size for name, size in sizes if name.startswith("embeddings")), total)


def freeze_teacher(model: PreTrainedModel) -> PreTrainedModel:
    """Put a model into eval mode for good and take its parameters out of training; returns the same model.

    Calling train() on it, or on a module that holds it, no longer turns its dropout on (METHOD.md, trap 5).
    """
    model.eval().requires_grad_(False)
    model.__dict__["train"] = MethodType(_stay_in_eval, model)
    return model


def _stay_in_eval(model: nn.Module, mode: bool = True) -> nn.Module:
    return model


def _read_config(folder: Path, num_labels: int, depth: int | None) -> PreTrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path} does not exist; give a folder with a config and {_WEIGHTS}")
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, OSError) as error:
        raise UserError(f"{path} describes no encoder that can be read ({_one_line(error)})") from error
    family_of(config.model_type)
    if depth is not None and not 1 <= depth <= config.num_hidden_layers:
        raise UserError(f"{depth} layers cannot be taken from {folder}, which has {config.num_hidden_layers}")
    config.num_hidden_layers = depth or config.num_hidden_layers
    if config.num_labels != num_labels:  # setting it renames the labels
        config.num_labels = num_labels
    config.problem_type = "regression" if num_labels == 1 else "single_label_classification"
    return config


def _require_complete(folder: Path, model: PreTrainedModel, info: dict[str, set]) -> None:
    """Refuse weights that would leave the encoder itself random, and weights of another size."""
    if info["mismatched_keys"]:
        name, stored, expected = min(info["mismatched_keys"])
        raise UserError(
            f"{folder}: {name} is stored with shape {tuple(stored)}, but {tuple(expected)} is needed for "
            f"{model.config.num_labels} labels and the folder's config"
        )
    base = f"{model.base_model_prefix}."
    drawn = sorted(x for x in info["missing_keys"] if x.startswith(base) and not x.startswith(f"{base}pooler."))
    if drawn:
        raise UserError(f"{folder} lacks {len(drawn)} weights of its encoder, such as {drawn[0]}")


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back transformers' progress bars and its report of newly drawn heads, which is checked here instead."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed inside the block and leave the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]

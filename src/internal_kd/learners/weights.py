"""Encoders with a classification head: loading and saving them without code, noise or unseeded draws."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from internal_kd.errors import UserError
from internal_kd.learners.blocks import blocks_of, with_blocks
from internal_kd.learners.configs import read_config, shape_of_config
from internal_kd.learners.families import family_of

WEIGHTS = "model.safetensors"


def load_classifier(
    folder: Path | str, outputs: int, *, seed: int = 0, new_head: bool = False, kind: str | None = None
) -> PreTrainedModel:
    """Load an encoder with a classification head from a local folder, in fp32 and in eval mode.

    Reads safetensors only and runs no code from the folder; the global random state stays untouched.

    Args:
        outputs: columns of logits; 1 means values (regression).
        seed: a head or pooler that the folder does not have is drawn from it.
        new_head: draw the head even where the folder has one: a pre-trained encoder may be a model that was
            fine-tuned for another task, with as many classes or not.
        kind: of the task, which decides whether the head answers for texts or for tokens (tags); None: as the folder
            states.

    Raises:
        UserError: the folder, its config or its weights are missing, damaged or of another architecture, or there is a
            head of another size that is to be kept.

    Example:
        >>> model = load_classifier("data/encoders/minilm-l6", 2, seed=1, new_head=True)  # doctest: +SKIP
    """
    folder = Path(folder)
    config = _config(folder, outputs)
    model, info = _from_pretrained(folder, config, seed, kind or stored_kind(folder))
    base = f"{model.base_model_prefix}."
    if new_head:
        info["mismatched_keys"] = {found for found in info["mismatched_keys"] if found[0].startswith(base)}
    _require_complete(folder, model, info)
    head = {name for name in model.state_dict() if not name.startswith(base)}
    if new_head and not head <= info["missing_keys"]:
        draw_head(model, seed)
    return model.eval()


def load_finished(folder: Path | str, outputs: int) -> PreTrainedModel:
    """Load a model of any family that somebody fine-tuned, with every one of its weights.

    Raises:
        UserError: as `load_classifier`, or any weight of the encoder or the head is not in the folder.
    """
    folder = Path(folder)
    config = _config(folder, outputs, any_family=True)
    model, info = _from_pretrained(folder, config, 0, stored_kind(folder))
    _require_complete(folder, model, info)
    if info["missing_keys"]:
        raise UserError(
            f"{folder} has no {min(info['missing_keys'])}: it is not a fine-tuned classifier; save it as "
            f"{type(model).__name__}"
        )
    return model.eval()


def classifier_on_meta(folder: Path | str, kind: str = "classes") -> PreTrainedModel:
    """Return the model that a folder's config describes without its weights, on torch's meta device.

    Raises:
        UserError: the config is missing, of an unsupported family or cannot be built.
    """
    folder = Path(folder)
    config = _config(folder, stored_outputs(folder))
    try:
        with quiet(), torch.device("meta"):
            return classifier_class(kind).from_config(config, trust_remote_code=False)
    except Exception as error:  # whatever a config makes transformers raise, the config is what is wrong
        raise UserError(
            f"{folder / 'config.json'} does not describe an encoder that can be built ({one_line(error)})"
        ) from error


def classifier_class(kind: str) -> Any:
    """Return transformers' class of models for a kind of task: of texts, or for tags of tokens."""
    return AutoModelForTokenClassification if kind == "tags" else AutoModelForSequenceClassification


def class_for(config: PreTrainedConfig, kind: str) -> Any:
    """Return the class that a folder's weights are loaded into: transformers' own, or the same with cheap blocks."""
    general, blocks = classifier_class(kind), blocks_of(config)
    if blocks is None:
        return general
    with torch.device("meta"):
        return with_blocks(type(general.from_config(config, trust_remote_code=False)), blocks)


def stored_kind(folder: Path | str) -> str:
    """Return "tags" for a folder with a token classifier, else "classes"."""
    names = read_config(Path(folder)).get("architectures") or ()
    return "tags" if any(str(name).endswith("ForTokenClassification") for name in names) else "classes"


def stored_outputs(folder: Path | str) -> int:
    """Return how many columns of logits a folder's config states; transformers' default is 2."""
    config = read_config(Path(folder))
    stated = config.get("id2label") or config.get("num_labels") or 2
    return stated if isinstance(stated, int) else len(stated)


def name_labels(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Write the names of the classes, in the order of the columns, into a model's config; () leaves it as it is."""
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: column for column, label in enumerate(labels)}


def save_classifier(model: PreTrainedModel, folder: Path | str) -> None:
    """Write a model's config and its weights, as one safetensors file, into a folder."""
    folder = Path(folder)
    with quiet():
        # One file whatever the size: a run declares its files before it starts.
        model.save_pretrained(folder, max_shard_size="1000GB")
    # safetensors writes for the owner alone, whatever the umask.
    shutil.copymode(folder / "config.json", folder / WEIGHTS)


def draw_head(model: PreTrainedModel, seed: int) -> None:
    """Replace a model's head, everything outside its base model, by one drawn from ``seed``."""
    with seeded(seed):
        drawn = type(model)(model.config).float()
    for name, part in drawn.named_children():
        if name != model.base_model_prefix:
            setattr(model, name, part.train(model.training))


def _config(folder: Path, outputs: int, any_family: bool = False) -> PreTrainedConfig:
    path = folder / "config.json"
    stated = read_config(folder)
    if not any_family:
        family_of(stated["model_type"])
    shape_of_config(stated, str(path))
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers validates configs with errors of several libraries
        raise UserError(f"{path} does not describe an encoder that can be read ({one_line(error)})") from error
    if config.num_labels != outputs:  # setting it renames the labels
        config.num_labels = outputs
    config.problem_type = "regression" if outputs == 1 else "single_label_classification"
    return config


def _from_pretrained(
    folder: Path, config: PreTrainedConfig, seed: int, kind: str
) -> tuple[PreTrainedModel, dict[str, set]]:
    if not any((folder / name).is_file() for name in (WEIGHTS, f"{WEIGHTS}.index.json")):
        raise UserError(f"{folder / WEIGHTS} does not exist; weights are read from safetensors files only")
    try:
        with quiet(), seeded(seed):
            return class_for(config, kind).from_pretrained(
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
        raise UserError(f"the weights in {folder} cannot be read ({one_line(error)}); fetch them again") from error
    except ValueError as error:
        raise UserError(f"{folder} cannot be loaded as a classifier ({one_line(error)})") from error


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
        raise UserError(f"{folder} is missing {len(drawn)} weights of its encoder, such as {drawn[0]}")


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


def word_vectors(folder: Path) -> np.ndarray:
    """Return an encoder's input embeddings (V, D), scaled to a root mean square of 1."""
    from internal_kd.learners.encoder import EncoderLearner

    network = EncoderLearner().build(folder, 2, seed=0)
    table: torch.Tensor = network.module.base_model.get_input_embeddings().weight.detach()  # type: ignore[operator,union-attr]
    return (table / table.square().mean().sqrt()).numpy()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed inside the block and leave the global random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def head_of(model: PreTrainedModel) -> nn.Linear:
    """Return the linear map that gives the logits, wherever a family keeps it.

    Raises:
        UserError: there is none, or more than one could be it.
    """
    outputs = model.config.num_labels
    found = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == outputs
        and not name.startswith(f"{model.base_model_prefix}.")
    ]
    if len(found) != 1:
        raise UserError(f"the head of {type(model).__name__} cannot be found; save the model with its labels in order")
    return found[0]


def one_line(error: BaseException) -> str:
    """Return an error's message on one line, its first 200 characters."""
    return " ".join(str(error).split())[:200]

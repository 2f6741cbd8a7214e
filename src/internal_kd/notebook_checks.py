"""What is given to `Distiller` and `student_of`, checked at the door: models, settings, seed and length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pydantic import ValidationError

from internal_kd.distillation.optimizing import TrainingParams
from internal_kd.errors import UserError, nearest
from internal_kd.learners.configs import positions_of
from internal_kd.messages import refusal
from internal_kd.params.method import MethodParams, TeacherParams
from internal_kd.params.resolve import check_terms

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from internal_kd.data.ragged import EncodedExamples

# What each takes beside its own arguments, as in params.yaml.
OF_DISTILLER = (
    "curriculum", "classification", "epochs_per_layer", "cosine_threshold", "layer_map", "temperature", "options",
)  # fmt: skip
OF_TRAINING = tuple(name for name in TrainingParams.model_fields if name != "augment")  # images have no notebook
USUAL_LENGTH = 128


def described(value: Any) -> str:
    """Return what a value is, for error lines: None and texts as they are, the type of others."""
    return repr(value)[:40] if value is None or isinstance(value, str) else type(value).__name__


def settings_of(where: str, values: Mapping[str, Any], known: tuple[str, ...]) -> MethodParams:
    """Return checked settings.

    Raises:
        UserError: one is not ``known`` here, or has a wrong value.
    """
    for name in values:
        if name not in known:
            near = "" if name in MethodParams.model_fields else nearest(name, known)  # right, but not here
            raise UserError(f"{where}: {name!r} is not a setting of it{near}; it takes {', '.join(known)}")
    try:
        return MethodParams.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {refusal(error.errors(include_url=False), values)}") from None


def check_method(settings: MethodParams, teacher: PreTrainedModel | None) -> None:
    """Refuse terms, options and a curriculum as params.yaml does, by UserError."""
    named = None if teacher is None else TeacherParams(of=("teacher",))
    weights = {term: weight for term, weight in settings.weights.items() if weight != 0}
    check_terms(settings.model_copy(update={"teacher": named}), weights, "encoder", "Distiller")


def check_model(model: Any, where: str) -> None:
    """Refuse what is not a classifier of transformers, by UserError."""
    from transformers import PreTrainedModel

    if not isinstance(model, PreTrainedModel) or model.base_model is model:
        raise UserError(
            f"{where} should be a sequence or token classifier, such as AutoModelForSequenceClassification loads, not "
            f"{described(model)}"
        )


def check_models(teacher: PreTrainedModel | None, student: PreTrainedModel) -> None:
    """Refuse models that are not classifiers, or do not answer the same, by UserError."""
    check_model(student, "Distiller: the student")
    if teacher is None:
        return
    check_model(teacher, "Distiller: the teacher")
    if teacher is student:
        raise UserError("Distiller: teacher and student are one model, and a teacher is frozen; give a copy")
    theirs, ours = (int(model.config.num_labels or 2) for model in (teacher, student))
    if theirs != ours:
        raise UserError(f"the teacher has {theirs} classes and the student {ours}")
    kind = kind_of(student)
    if kind_of(teacher) != kind:
        raise UserError(f"the teacher's answers are {kind_of(teacher)} and the student's {kind}")
    if kind != "values":
        names, own = (_class_names(model) for model in (teacher, student))
        if names != own and set(names) == set(own):
            raise UserError(f"the teacher's classes are {names} and the student's {own}; give both the same order")


def checked_seed(where: str, seed: Any) -> int:
    """Return a seed, refusing what is not one by UserError."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**31:
        raise UserError(f"{where}: seed: should be a whole number from 0 to {2**31 - 1} (given: {seed!r})")
    return int(seed)


def checked_length(asked: Any, models: Sequence[PreTrainedModel]) -> int:
    """Return the longest input in tokens: as asked, else the usual one or as many as the models have positions for.

    Raises:
        UserError: it is not a number of at least 4, or more than a model has positions for.
    """
    positions = min(map(_positions, models))
    if asked is None:
        return int(min(USUAL_LENGTH, positions))
    length = settings_of("train", {"max_length": asked}, ("max_length",)).max_length
    if length > positions:
        raise UserError(f"train: max_length: {length} is more than the {positions} positions of the model")
    return length


def check_ids(examples: EncodedExamples, models: Sequence[PreTrainedModel]) -> None:
    """Refuse token ids that a model has no embedding for, by UserError."""
    highest = int(examples.vocabulary(np.arange(len(examples)))[-1])
    for model in models:
        known = cast("Any", model.get_input_embeddings()).weight.shape[0]
        if highest >= known:
            raise UserError(
                f"tokenizer: it makes id {highest}, but a model has {known} embeddings: tokenizer and weights do not "
                "belong together"
            )


def kind_of(model: PreTrainedModel) -> str:
    """Return the kind of task that a model answers: a key of ``KINDS``."""
    if type(model).__name__.endswith("ForTokenClassification"):
        return "tags"
    return "values" if model.config.num_labels == 1 else "classes"


def _positions(model: PreTrainedModel) -> float:
    # By attribute, because some families call it otherwise; none where positions are relative.
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return math.inf
    return positions_of({**model.config.to_dict(), "max_position_embeddings": positions})


def _class_names(model: PreTrainedModel) -> list[str]:
    names = cast("dict[int, str]", model.config.id2label or {})
    return [str(names[number]).strip().casefold() for number in sorted(names)]

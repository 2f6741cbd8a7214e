"""Distillation in a notebook: plain transformers models and lists in, scores out; no folders, no workflow.

    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from internal_kd import Distiller, compare, student_of

    teacher = AutoModelForSequenceClassification.from_pretrained("my-fine-tuned-bert")
    tokenizer = AutoTokenizer.from_pretrained("my-fine-tuned-bert")
    student = student_of(teacher, layers=6, take="every_other")
    kd = Distiller(teacher, student, method="stacked", epochs_per_layer=1)
    result = kd.train(train, dev, tokenizer=tokenizer, text=("sentence1", "sentence2"), label="label", epochs=10)
    result.scores

The parts are those of the pipeline: the same loss, curricula, batches, recorded answers and loop.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from internal_kd.distillation.curricula import CurriculumState, Schedule, stages_of
from internal_kd.distillation.terms import Term, asked_of_teacher, compared_layers, terms_of
from internal_kd.errors import UserError, named, nearest
from internal_kd.learners.layers import layer_map as pairs_of
from internal_kd.learners.learner import Network, Shape, parse_learner
from internal_kd.notebook_checks import (
    OF_DISTILLER,
    OF_TRAINING,
    check_method,
    check_model,
    check_models,
    checked_seed,
    kind_of,
    settings_of,
)
from internal_kd.notebook_data import encode
from internal_kd.notebook_scores import NotebookScorer, numbers_of, order_of_tags
from internal_kd.tasks.kinds import KINDS
from internal_kd.tasks.metrics import check_metrics

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from internal_kd.data.ragged import EncodedExamples

_INTERNAL = {"soft": 1.0, "attention_kl": 1.0, "cls_cosine": 1.0}
# The rows of the paper's main table, as in params.yaml.
METHODS: dict[str, dict[str, Any]] = {
    "finetuned": {"weights": {"hard": 1.0}},
    "soft": {"weights": {"soft": 1.0}},
    "soft_kl": {"weights": {"soft": 1.0, "attention_kl": 1.0}},
    "soft_cos": {"weights": {"soft": 1.0, "cls_cosine": 1.0}},
    "soft_kl_cos": {"weights": _INTERNAL},
    "progressive": {"weights": _INTERNAL, "curriculum": "progressive"},
    "stacked": {"weights": _INTERNAL, "curriculum": "stacked"},
    "stacked_soft": {"weights": _INTERNAL, "curriculum": "stacked", "classification": "always"},
    "stacked_soft_hard": {"weights": {**_INTERNAL, "hard": 0.1}, "curriculum": "stacked", "classification": "always"},
}


@dataclass(frozen=True)
class Result:
    """What a distillation in a notebook returns.

    Attributes:
        scores: dev scores by metric, in natural units; None where a metric is not defined.
        history: a line for every epoch: loss terms, dev scores, speed.
        labels: gold classes or values of the dev set, (examples,), -1 or NaN where missing. Of tags (sentences,
            longest), padded with -1: 0 is O, then B- and I- of every type, types sorted.
        predictions: the same of the student.
        logits: (examples, outputs), of tags (words, tags), fp32, in the student's order of classes or tags.
    """

    scores: dict[str, float | None]
    history: list[dict[str, Any]]
    labels: np.ndarray
    predictions: np.ndarray
    logits: np.ndarray


def student_of(
    teacher: PreTrainedModel,
    layers: int | None = None,
    take: str | Sequence[int] = "every_other",
    *,
    width: int | None = None,
    heads: int | None = None,
    inner: int | None = None,
    rank: int | None = None,
    groups: int | None = None,
    shared_keys: int | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """Return a student cut out of a teacher, in eval mode; the teacher is not changed.

    Args:
        teacher: any sequence or token classifier of a supported encoder family.
        layers: how many; as many as ``take`` lists, or all of the teacher's, if None.
        take: which of the teacher's layers: ``first``, ``every_other``, ``spread``, ``last``, a list from 1, or
            ``"random"`` for random weights.
        width: of hidden states; the teacher's if None. What is kept is chosen by importance.
        heads: of attention, which have to divide the width; the teacher's if None.
        inner: neurons of the feed-forward part; in proportion to the width if None.
        rank, groups, shared_keys: cheap blocks, as the encoder learner has them (docs/reference/learners.md).
        seed: of what is drawn.

    Raises:
        UserError: the teacher is not a classifier of a supported family, or sizes, layers or seed do not fit.

    Example:
        >>> student = student_of(teacher, take=[2, 4, 6, 8, 10, 12])  # doctest: +SKIP
    """
    check_model(teacher, "student_of: the teacher")
    start = {"from": "random"} if take == "random" else {"from": "teacher", "layers": take}
    if layers is None and isinstance(take, Sequence) and not isinstance(take, str):
        layers = len(take)
    sizes = {
        "layers": layers, "width": width, "heads": heads, "inner": inner,
        "rank": rank, "groups": groups, "shared_keys": shared_keys,
    }  # fmt: skip
    learner = parse_learner(
        {**{name: size for name, size in sizes.items() if size is not None}, "start": start}, "student_of"
    )
    outputs, seed = int(teacher.config.num_labels or 2), checked_seed("student_of", seed)
    return cast("PreTrainedModel", learner.build(teacher, outputs, seed).module)


class Distiller:
    """A teacher, a student and a way to teach.

    Args:
        teacher: a fine-tuned sequence or token classifier; None if no term asks one. It is frozen.
        student: trained in place by `train`; the same classes or tags as the teacher's. A token classifier learns tags.
        method: a row of the paper's table (``soft``, ``soft_kl_cos``, ``stacked``, ...), or None with ``weights``.
        weights: terms of the loss and their weights (docs/reference/objectives.md).
        settings: ``curriculum``, ``classification``, ``epochs_per_layer``, ``cosine_threshold``, ``layer_map``,
            ``temperature``, ``options``: as in params.yaml.

    Raises:
        UserError: a name is unknown, the two models do not fit each other or the terms, or params.yaml would refuse the
            method.

    Example:
        >>> Distiller(teacher, student, weights={"soft": 1, "hidden_mse": 1})  # doctest: +SKIP
    """

    def __init__(
        self,
        teacher: PreTrainedModel | None,
        student: PreTrainedModel,
        method: str | None = None,
        *,
        weights: Mapping[str, float | Schedule] | None = None,
        **settings: Any,
    ) -> None:
        from internal_kd.learners.capture import network_of

        if (method is None) == (weights is None):
            raise UserError("Distiller: give `method`, or `weights`")
        if method is not None and method not in (known := list(METHODS)):
            raise UserError(
                f"Distiller: unknown method {method!r}{nearest(str(method), known)}; known: {', '.join(known)}"
            )
        check_models(teacher, student)
        chosen = METHODS[method] if method else {"weights": weights}
        self._settings = settings_of("Distiller", {**chosen, **settings}, ("weights", *OF_DISTILLER))
        check_method(self._settings, teacher)
        self._student = network_of(student)
        self._teacher = None if teacher is None else network_of(teacher)
        self._outputs, self._kind = int(student.config.num_labels or 2), kind_of(student)
        self._order = order_of_tags(student) if self._kind == "tags" else np.arange(self._outputs)
        self._terms = self._make_terms()
        weighted, layers = [term.name for term in self._terms], compared_layers(self._terms)
        self._stages = stages_of(self._settings.course, self._settings.classification, layers, weighted)

    def train(
        self,
        train: Any,
        dev: Any,
        *,
        tokenizer: PreTrainedTokenizerBase,
        text: str | Sequence[str] = "text",
        label: str = "label",
        metrics: str | Sequence[str] | None = None,
        max_length: int | None = None,
        seed: int = 0,
        **training: Any,
    ) -> Result:
        """Train the student in place, leave it in eval mode, and return its scores on the dev set.

        Args:
            train, dev: lists of dicts, a dict of lists, a `datasets.Dataset` or a pandas frame. A label that is None,
                NaN or -1 is missing: such examples count for every term but those that read labels.
            tokenizer: a fast one, for teacher and student.
            text: the column of the text, or of both texts; for tags that of the words, lists of texts.
            label: the column of the label: a class's number or name, or a value; for tags a list with one for each
                word. Texts with spans or entities are read too, as in params.yaml.
            metrics: main metric first; the usual ones of the task if None.
            max_length: longest input in tokens; 128, or as many as the models have positions for, if None.
            seed: of order, dropout and projections.
            training: ``epochs``, ``steps_per_epoch``, ``batch_size``, ``learning_rate``, ``warmup_share``,
                ``weight_decay``, ``max_gradient_norm``, ``precision``, ``optimizer``, ``momentum``: as in params.yaml.

        Raises:
            UserError: a setting, column or label cannot be used, the tokenizer is not the models', or the loss became
                NaN.
        """
        from internal_kd.distillation.hardware import choose_hardware
        from internal_kd.distillation.loop import train as run_loop
        from internal_kd.distillation.loss import DistillationLoss

        given = settings_of("train", training, OF_TRAINING).model_dump(exclude_unset=True)
        settings, seed = self._settings.model_copy(update=given), checked_seed("train", seed)
        scores = (metrics,) if isinstance(metrics, str) else tuple(metrics or self._default_metrics())
        with named("train: metrics"):
            check_metrics(scores, self._kind)
        hardware = choose_hardware(settings.precision)
        models = [network.module for network in (self._student, self._teacher) if network is not None]
        columns, names = [text] if isinstance(text, str) else list(text), numbers_of(self._student.module)
        examples, scored = (
            encode(split, rows, tokenizer, models, columns, label, max_length, self._kind, names)
            for split, rows in (("train", train), ("dev", dev))
        )
        positions = np.arange(len(examples))
        if not any(term.objective.teacher for term in self._terms):
            positions = np.flatnonzero(examples.labelled)
        climbing = settings.epochs_per_layer * sum(not stage.last for stage in self._stages)
        if isinstance(settings.curriculum, str) and climbing >= settings.epochs:
            # What was asked for is done all the same: the student's head may be its teacher's.
            warnings.warn(
                f"epochs: {settings.epochs} may leave none for the last of {len(self._stages)} stages, which trains "
                f"the head; give more than {climbing}",
                stacklevel=2,
            )
        scorer = NotebookScorer(self._student, scored, hardware, self._kind, self._order, scores)
        hardware.place(self._student.module)
        with tempfile.TemporaryDirectory(prefix="internal-kd-") as folder:
            answers = self._record(examples, positions, Path(folder), hardware)
            result = run_loop(
                self._student,
                DistillationLoss(self._student, self._terms, answers, hardware, seed),
                examples=examples,
                positions=positions,
                curriculum=CurriculumState(self._stages, settings.epochs_per_layer, settings.cosine_threshold),
                training=settings,
                seed=seed,
                hardware=hardware,
                scorer=scorer,
            )
        self._student.module.eval()
        logits = scorer.logits()
        return Result(scorer.scores(logits), result.history, *scorer.compared(logits), logits)

    def _make_terms(self) -> tuple[Term, ...]:
        student, teacher = _shape(self._student), _shape(self._teacher)
        layered = teacher.layers and student.layers
        pairs = pairs_of(self._settings.layer_map, teacher.layers, student.layers) if layered else ()  # type: ignore[arg-type]
        return terms_of(
            self._settings.weights,
            layer_map=pairs,
            student=student,
            teacher=teacher,
            kind=self._kind,
            outputs=self._outputs,
            settings=self._settings.model_dump(),
            options=self._settings.options,
        )

    def _record(self, examples: EncodedExamples, positions: np.ndarray, folder: Path, hardware: Any) -> Any:
        """Record what the terms ask of the teacher, once for all epochs; None without a teacher."""
        from internal_kd.distillation.answers import Recorded
        from internal_kd.distillation.record_network import record_network
        from internal_kd.distillation.recording import RecordingReader

        wanted = asked_of_teacher(self._terms)
        if not wanted:
            return None
        assert self._teacher is not None
        hardware.place(self._teacher.module)
        self._teacher.freeze()
        record_network(self._teacher, examples, positions, wanted, self._outputs, folder, hardware)
        return Recorded(RecordingReader(folder), None, hardware)

    def _default_metrics(self) -> tuple[str, ...]:
        return KINDS[self._kind].default_metrics(tuple(map(str, range(self._outputs))))


def _shape(network: Network | None) -> Shape:
    if network is None:
        return Shape()
    return Shape(network.layers, network.width, network.heads, hands_out=network.hands_out)

"""What a run is refused for while it is planned: its examples, its layers, its teacher's answers and its terms."""

from __future__ import annotations

from internal_kd.distillation.curricula import stages_of
from internal_kd.distillation.terms import compared_layers, terms_of
from internal_kd.errors import UserError, nearest
from internal_kd.learners.configs import positions_of
from internal_kd.learners.finished import HEADS, FinishedModel, column_order
from internal_kd.learners.learner import UNTRAINED, InputShape
from internal_kd.plan.artefacts import Encoder
from internal_kd.plan.known import (
    available_examples,
    known_labels,
    known_size,
    pairs_of,
    same_tokenizer,
    teacher_shape,
)
from internal_kd.plan.runs import AnswersFile, Ensemble, Run
from internal_kd.plan.sources import config_of


def check_run(run: Run, *, maps_layers: bool) -> None:
    """Refuse a run that cannot work, by UserError; ``maps_layers``: its method's own entry has a layer map."""
    if maps_layers and run.method.learner.starts_from == "nothing":
        raise UserError(f"layer_map: a {run.method.learner.kind} has no layers to match; leave it out")
    for check in _CHECKS:
        check(run)


def _check_length(run: Run) -> None:
    if run.encoder is None or (config := config_of(run.encoder)) is None:
        return
    if run.inputs.max_length > (positions := positions_of(config)):
        raise UserError(
            f"max_length: {run.inputs.max_length} is more than the {positions} positions of {run.encoder.name}"
        )


def _check_examples(run: Run) -> None:
    select, labels = run.method.settings.select, known_labels(run.inputs.data)
    for name in (*(select.classes or ()), *select.drop_classes):
        if labels is not None and name not in labels:
            raise UserError(
                f"select: {run.task} has no class {name!r}{nearest(name, list(labels))}; it has {', '.join(labels)}"
            )
    available = available_examples(run)
    if available == 0:
        raise UserError(
            f"select: leaves no training example of {run.task}; see more classes, or hold fewer examples out"
        )
    if isinstance(select.keep, int) and available is not None and select.keep > available:
        chosen = " of the classes chosen" if select.classes or select.drop_classes else ""
        aside = " that are not held out" if select.hold_out else ""
        raise UserError(
            f"select.keep: {select.keep} is more than the {available} training examples{chosen} of {run.task}{aside}; "
            "use `full`"
        )
    if run.scored_by and run.inputs.data.kind != "classes":
        raise UserError(
            f"select.by: scores are of examples with one class each, and {run.task} has {run.inputs.data.kind}"
        )


def _check_size(run: Run) -> None:
    if (size := known_size(run.inputs)) is not None:
        run.method.learner.check_inputs(InputShape(run.inputs.form, size))


def _check_source(run: Run) -> None:
    """Refuse to choose a distilled set's examples by class where there are no classes."""
    source = getattr(run.method.learner, "source", "learned")
    if source != "learned" and run.inputs.data.kind == "values":
        raise UserError(
            f"learner.source: {source} takes its examples by class, and {run.task} has values; use `learned`"
        )


def _check_tags(run: Run) -> None:
    """Refuse what has no meaning for a sentence of many labels."""
    if run.inputs.data.kind != "tags":
        return
    select, learner = run.method.settings.select, run.method.learner
    if run.inputs.form != "tokens" or learner.starts_from == "nothing":
        raise UserError(
            f"learner.kind: {learner.kind!r} gives one answer a text, and {run.task} has tags; use `encoder`"
        )
    for name in ("classes", "drop_classes", "masked_copies"):
        if getattr(select, name):
            raise UserError(f"select.{name}: is for texts with one label each, and {run.task} has tags; leave it out")
    for term, objective in run.method.objectives.items():
        if objective.reads_labels and objective.per != "output":
            raise UserError(f"weights.{term}: reads one label per text next to layers, and {run.task} has tags")


def _check_augment(run: Run) -> None:
    if not run.method.settings.augment.shift:
        return
    if run.inputs.form != "pixels":
        raise UserError(f"augment.shift: moves images, and {run.task} has texts; leave it out")
    size = known_size(run.inputs)
    if size and run.method.settings.augment.shift >= min(size[:2]):
        raise UserError(
            f"augment.shift: {run.method.settings.augment.shift} pixels move an image of {size[0]}x{size[1]} out of "
            "sight; give fewer"
        )
    if run.parts:
        raise UserError(
            "augment.shift: a teacher's answers are recorded once, about the images as they are; augment the teacher "
            "alone, or a method without one"
        )


def _check_copies(run: Run) -> None:
    if not run.method.settings.select.masked_copies or run.method.learner.kind in UNTRAINED:
        return
    asks = [name for name, term in run.method.objectives.items() if term.teacher]
    if not asks or not run.parts:
        raise UserError("select.masked_copies: copies have no label, so a teacher has to answer them; name one")
    for part in run.parts:
        if isinstance(part.of, AnswersFile):
            raise UserError(f"select.masked_copies: {part.who} has no answers for copies; leave masked_copies out")
        if part.inputs.fingerprint != run.inputs.fingerprint:
            raise UserError(
                f"select.masked_copies: {part.who} reads other tokens than {_name(run.encoder)} at max_length "
                f"{run.inputs.max_length}, and tokens are masked; give both the same, or leave masked_copies out"
            )


def _check_answers(run: Run) -> None:
    source = run.first.source if run.first is not None else None
    if source is not None and not same_tokenizer(source.encoder, run.encoder):
        raise UserError(
            f"learner.start.from: {source.label} reads texts with another tokenizer than {_name(run.encoder)}; start "
            "from `encoder` or `random`"
        )
    teacher = run.method.teacher
    if teacher and teacher.control and run.inputs.data.kind != "classes":
        kind = run.inputs.data.kind
        raise UserError(f"teacher.control: is for answers about examples of one class each, and {run.task} has {kind}")
    terms = ", ".join(run.method.layer_terms)
    of_outputs = any(term.per == "output" and term.teacher for term in run.method.objectives.values())
    if isinstance(run.answers, Ensemble) and terms and run.answers.internals == "none":
        raise UserError(
            f"teacher: {terms} compare layers, and those of several teachers have no mean; add `internals: first`, or "
            "leave the layer terms out"
        )
    for part in run.parts:
        if isinstance(part.of, Encoder) and of_outputs:
            raise UserError(
                "teacher: a pre-trained encoder has no classes to answer; weigh layer terms, or name a method"
            )
        if not terms:
            continue
        what = "file of answers" if isinstance(part.of, AnswersFile) else ""
        if part.runs and part.runs[0].method.learner.starts_from == "nothing":
            what = part.runs[0].method.learner.kind
        if what:
            raise UserError(f"teacher: {terms} compare layers, and a {what} has none; weigh `soft` or `hard` alone")
        if not same_tokenizer(part.inputs.encoder, run.encoder):
            raise UserError(
                f"teacher: {part.who} reads texts with another tokenizer than {_name(run.encoder)}, so that only its "
                f"logits can be compared; leave out {terms}"
            )
        if part.inputs.max_length != run.inputs.max_length:
            raise UserError(
                f"max_length: the student reads {run.inputs.max_length} tokens, {part.who} {part.inputs.max_length}; "
                f"{terms} compare tokens, so give both the same"
            )


def _check_classes(run: Run) -> None:
    """Match the classes of somebody's model with the task's, where both are known."""
    learner, labels = run.method.learner, known_labels(run.inputs.data)
    if not isinstance(learner, FinishedModel) or labels is None:
        return
    if (config := config_of(run.reader)) is not None:
        head = HEADS[run.inputs.data.kind == "tags"]
        column_order(config, labels, learner.labels, str(learner.folder or learner.hub), head)


def _name(encoder: Encoder | None) -> str:
    return encoder.name if encoder else "pixels"


def _check_terms(run: Run) -> None:
    method, student = run.method, run.shape
    pairs, settings = pairs_of(run), method.settings
    for term, objective in method.objectives.items():
        missing = [kind for kind in objective.kinds if kind not in student.hands_out]
        if missing:
            raise UserError(
                f"weights.{term}: reads {missing[0]!r}, which a learner of this kind ({method.learner.kind}) does not "
                f"hand out; it has {', '.join(sorted(student.hands_out))}"
            )
    path = "path_log_likelihood"
    if path in student.hands_out and not any(path in objective.kinds for objective in method.objectives.values()):
        raise UserError(
            f"weights: a {method.learner.kind} learns by tree_hard or tree_soft, and none has a weight; its logits are "
            "those of a single leaf, so that other terms never move its gates"
        )
    if method.layer_terms and not pairs:
        return  # depths are unknown before the encoder is fetched
    labels = known_labels(run.inputs.data)
    terms = terms_of(
        method.weights,
        layer_map=pairs,
        student=student,
        teacher=teacher_shape(run),
        kind=run.inputs.data.kind,
        outputs=1 if run.inputs.data.kind == "values" else len(labels) if labels else None,
        settings=settings.model_dump(),
        options=settings.options,
    )
    stages = stages_of(settings.course, settings.classification, compared_layers(terms), tuple(method.weights))
    climbing = settings.epochs_per_layer * sum(not stage.last for stage in stages)
    if isinstance(settings.curriculum, str) and climbing >= settings.epochs:
        raise UserError(
            f"epochs: {settings.epochs} leave none for the last stage, since those before it take up to {climbing}; "
            "raise epochs or lower epochs_per_layer"
        )


_CHECKS = (
    _check_length, _check_examples, _check_size, _check_source, _check_tags, _check_augment, _check_answers,
    _check_classes, _check_copies, _check_terms,
)  # fmt: skip

"""Who taught a run, where it started from and what determined it, in words for cards and MLflow."""

from __future__ import annotations

from typing import Any

from internal_kd.errors import UserError
from internal_kd.learners.learner import UNTRAINED
from internal_kd.params.method import MethodParams
from internal_kd.plan.artefacts import Encoder
from internal_kd.plan.identity import plain
from internal_kd.plan.runs import Answers, AnswersFile, Run
from internal_kd.report.words import count, joined

COMBINED = {"mean_probabilities": "the mean probabilities", "mean_logits": "the mean logits"}


def run_text(run: Run) -> str:
    """Return a run for people: ``3.5 Stacked (SID), seed 1, 6 layers``; a model made elsewhere by its place."""
    row = run.method.label
    learner: Any = run.method.learner
    if learner.kind == "finished":
        place = learner.folder or f"{learner.hub} at {learner.revision}"
        return f"{row}, a model that was fine-tuned elsewhere ({place})"
    layers = f", {count(run.depth, 'layer')}" if run.depth else ""
    return f"{row}, seed {run.seed}{layers}"


def teacher_text(run: Run) -> str:
    """Return whose answers a run listened to; empty for a run without a teacher."""
    if not run.parts:
        return ""
    members = [_answering(part) for part in run.parts]
    if len(members) == 1:
        return members[0]
    combined = COMBINED.get(str(getattr(run.answers, "combine", "")), "the answers")
    return f"{combined} of {count(len(members), 'teacher')}: {joined(members)}"


def _answering(part: Answers) -> str:
    if isinstance(part.of, AnswersFile):
        return f"the file of answers {part.of.path.name} (SHA-256 {part.of.content[:12]}...)"
    if isinstance(part.of, Encoder):
        return f"the pre-trained encoder {part.of.name} itself"
    if len(part.of) == 1:
        taught = teacher_text(part.of[0])
        return run_text(part.of[0]) + (f" (itself taught by {taught})" if taught else "")
    from internal_kd.steps.record import choose_teacher

    row = part.of[0].method.label
    best = f"the best of {count(len(part.of), 'seed')} of {row} by held-out examples"
    try:
        chosen = choose_teacher(part)
    except UserError:  # pulled without its teachers
        chosen = None
    return best + (f", seed {chosen.seed}" if chosen else "")


def start_text(run: Run) -> str:
    """Return where a run's first weights come from."""
    learner: Any = run.method.learner
    if learner.kind == "finished":
        return "its own, as they were"
    if learner.starts_from == "nothing":
        return "random"
    if run.first is None:
        return f"all layers of the pre-trained encoder {run.reader.name}"
    if isinstance(run.first, Run):
        part = f"width {learner.width:g} and depth {learner.depth:g} of " if learner.kind == "subnetwork" else ""
        return f"{part}{run_text(run.first)}"
    if learner.starts_from == "random":
        return "random, in the encoder's shape"
    source = f"the pre-trained encoder {run.reader.name}" if run.first.source is None else run_text(run.first.source)
    start = getattr(learner, "start", None)
    layers = getattr(start, "layers", "all")
    which = layers if isinstance(layers, str) else " ".join(map(str, layers))
    return f"layers of {source}, chosen by: {which.replace('_', ' ')}"


def settings_of(run: Run) -> dict[str, Any]:
    """Return everything that a run's method sets and that has an effect, defaults included, as plain values."""
    method, settings = run.method, run.method.settings
    used = ["max_length"] if method.learner.kind in UNTRAINED else [*method.used, "max_length", "select"]
    values = {name: getattr(settings, name) for name in MethodParams.model_fields if name in used}
    learner: Any = method.learner
    dumped = learner.model_dump(mode="json", by_alias=True, exclude_none=True)
    options = {term: method.options(term) for term in method.weights if method.options(term)}
    teacher = {"teacher": method.teacher.model_dump(mode="json", exclude_defaults=True)} if method.teacher else {}
    return plain({"learner": dumped, **teacher, "weights": method.weights, "options": options, **values})

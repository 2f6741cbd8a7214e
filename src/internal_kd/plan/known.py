"""What planning can know of a run's examples, tokens and layers, often before anything is fetched."""

from __future__ import annotations

from internal_kd.errors import UserError, named
from internal_kd.files import read_mapping
from internal_kd.generator import grammar_of
from internal_kd.learners.layers import layer_map
from internal_kd.learners.learner import Shape
from internal_kd.params.data import GeneratorEntry
from internal_kd.plan.artefacts import Data, Encoder, Inputs
from internal_kd.plan.runs import Run
from internal_kd.plan.sources import shape_of, vocabulary_of
from internal_kd.tasks.glue import GLUE
from internal_kd.tasks.tags import tag_names


def known_rows(data: Data) -> dict[str, int] | None:
    """Return examples by split of what is fetched or to be generated, None while they are unknown."""
    try:
        return {split: int(rows) for split, rows in read_mapping(data.marker)["task"]["rows"].items()}
    except (UserError, KeyError, TypeError, ValueError, AttributeError):
        # Not there, or damaged: what is damaged is fetched again.
        return {"train": data.entry.train, "dev": data.entry.dev} if isinstance(data.entry, GeneratorEntry) else None


def known_labels(data: Data) -> tuple[str, ...] | None:
    """Return a task's classes where they are known before it is fetched, None otherwise."""
    if data.kind == "values":
        return ()
    if data.glue is not None:
        return GLUE[data.glue].labels
    if isinstance(data.entry, GeneratorEntry):
        return grammar_of(data.entry.grammar).label_names
    try:
        return tuple(read_mapping(data.marker)["task"]["labels"])
    except (UserError, KeyError, TypeError):
        labels = getattr(data.entry, "labels", None)
        if labels is None:
            return None
        return tag_names(map(str, labels)) if data.kind == "tags" else tuple(map(str, labels))


def available_examples(run: Run) -> int | None:
    """Return how many training examples a run has to choose from, at most; None while that is not known.

    They are of the classes that it sees, and not held out.
    """
    select, rows, labels = run.method.settings.select, known_rows(run.inputs.data), known_labels(run.inputs.data)
    seen = set(select.classes or labels or ()).difference(select.drop_classes)
    if labels and not seen:
        return 0
    if rows is None:
        return None
    left = rows["train"] - round(select.hold_out * rows["train"])
    try:
        shares = read_mapping(run.inputs.data.marker)["splits"]["train"]["label_shares"]
    except (UserError, KeyError, TypeError):
        return left
    if not (select.classes or select.drop_classes):
        return left
    return min(left, round(rows["train"] * sum(share for name, share in shares.items() if name in seen)))


def known_size(inputs: Inputs) -> tuple[int, ...] | None:
    """Return the size of an example that is not a text's tokens, as `InputShape` has it; None before it is encoded."""
    try:
        return tuple(map(int, read_mapping(inputs.marker)["size"])) if inputs.form != "tokens" else None
    except (UserError, KeyError, TypeError, ValueError):
        return None


def same_tokenizer(one: Encoder | None, other: Encoder | None) -> bool:
    """Whether two encoders have the same vocabulary, as a model fine-tuned elsewhere has its encoder's.

    File checksums do not help, because saving a tokenizer rewrites its files. True if a vocabulary is not available;
    training compares the complete tokenizers.
    """
    if one is None or other is None:
        return one is other
    if one.fingerprint == other.fingerprint:
        return True
    first, second = (vocabulary_of(source) for source in (one, other))
    return first is None or second is None or first == second


def teacher_shape(run: Run) -> Shape:
    """Return the sizes of the teacher whose layers a run compares with, as far as they are known."""
    if not run.parts:
        return Shape()
    first = run.parts[0]
    if isinstance(first.of, tuple):
        return first.of[0].shape
    return shape_of(first.inputs.encoder) if first.inputs.encoder else Shape()


def pairs_of(run: Run) -> tuple[tuple[int, int], ...]:
    """Return the matched layers of a run, none while a depth is unknown.

    Raises:
        UserError: the map does not fit the two depths.
    """
    student, teacher = run.shape.layers, teacher_shape(run).layers
    if not (run.method.layer_terms and student and teacher):
        return ()
    with named("layer_map"):
        return layer_map(run.method.settings.layer_map, teacher, student)

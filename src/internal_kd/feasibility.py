"""What a study is refused for while it is planned, before anything is computed: one line that names the parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from internal_kd.artefacts import StudentRun, TaskData, TokenizedTask
from internal_kd.data.generator import grammar_of
from internal_kd.data.tokenizers import positions_of
from internal_kd.distillation.curricula import stages_of
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.models.layers import choose_layers, layer_map
from internal_kd.params import Params
from internal_kd.params.sources import GeneratorEntry
from internal_kd.params.training import ResolvedMethod


def check_generated(name: str, entry: GeneratorEntry) -> None:
    """Refuse a phenomenon that the grammar has not, and more examples than it is sure to have."""
    with _named(f"tasks.{name}.phenomena"):
        grammar = grammar_of(entry.grammar, entry.phenomena)
    if entry.train + entry.dev > grammar.capacity:
        raise UserError(
            f"tasks.{name}: train {entry.train} + dev {entry.dev} are more examples than the {grammar.capacity} that "
            f"{entry.grammar} is sure to have; ask for fewer"
        )


def check_layers(params: Params, encoder: str, layers: int, methods: Mapping[str, ResolvedMethod]) -> None:
    """Refuse depths, layer maps and initialisations that an encoder of ``layers`` layers has not."""
    if params.encoder.layers not in (None, layers):
        raise UserError(f"encoder.layers: {params.encoder.layers} was given, but {encoder} has {layers}")
    for depth in params.study.depths:
        if depth > layers:
            raise UserError(f"study.depths: {depth} layers are more than the teacher's {layers}; take at most {layers}")
        for name, method in methods.items():
            own = params.methods[name]
            if method.layer_terms:
                with _named(f"{'student' if own.layer_map is None else f'methods.{name}'}.layer_map"):
                    layer_map(method.settings.layer_map, layers, depth)
            chosen = method.settings.initialization
            if chosen.source != "random":
                whose = f"methods.{name}" if own.initialization and own.initialization.layers else "student"
                with _named(f"{whose}.initialization.layers"):
                    choose_layers(chosen.layers, layers, depth)


def check_lengths(params: Params, tasks: Mapping[str, TokenizedTask], config: Mapping[str, Any]) -> None:
    """Refuse inputs longer than an encoder with this ``config.json`` has positions for."""
    positions = positions_of(config)
    for name, tokens in tasks.items():
        if tokens.max_length > positions:
            where = f"tasks.{name}.max_length" if params.tasks[name].max_length else "tokens.max_length"
            raise UserError(
                f"{where}: {tokens.max_length} is more than the {positions} positions of encoder {tokens.encoder.name}"
            )


def check_examples(params: Params, tasks: Mapping[str, TokenizedTask]) -> None:
    """Refuse larger subsets than a task has training examples, where their number is known."""
    wanted = max((size for size in params.study.examples if size != "full"), default=0)
    for name, tokens in tasks.items():
        if (rows := known_rows(tokens.data)) and wanted > rows[0]:
            raise UserError(f"study.examples: {wanted} are more than the {rows[0]} of {name}; say 'full'")


def known_rows(data: TaskData) -> tuple[int, int] | None:
    """Return training and dev examples of what is fetched or to be generated, None where nobody knows them yet."""
    try:
        splits = read_json(data.marker)["splits"]
        dev = sum(facts["rows"] for name, facts in splits.items() if name.startswith("dev"))
        return int(splits["train"]["rows"]), int(dev)
    except (UserError, OSError, KeyError, TypeError, ValueError, AttributeError):
        # Nothing there, or nothing that can be believed: what is broken is fetched again.
        return (data.entry.train, data.entry.dev) if isinstance(data.entry, GeneratorEntry) else None


def check_climb(run: StudentRun) -> None:
    """Refuse a curriculum that leaves no epoch for its last stage, the classification."""
    method, settings = run.method, run.method.settings
    climbing = sum(not stage.last for stage in stages_of(method.curriculum, method.classification, run.depth))
    if climbing * settings.epochs_per_layer >= settings.epochs:
        raise UserError(
            f"methods.{method.name}: {climbing} stages of up to {settings.epochs_per_layer} epochs leave none of "
            f"{settings.epochs} epochs for classification; raise epochs or lower epochs_per_layer"
        )


def check_distinct(tasks: Mapping[str, TokenizedTask], students: tuple[StudentRun, ...], layers: int | None) -> None:
    """Refuse two names for one thing: two jobs would write its checkpoints, and tables would count it twice.

    ``layers`` is the teacher's depth, None where nobody knows it yet.
    """
    names: dict[str, str] = {}
    for name, tokens in tasks.items():
        if (first := names.setdefault(tokens.data.fingerprint, name)) != name:
            raise UserError(
                f"study.tasks: {first!r} and {name!r} hold the same examples: leave one of them out, or give each a "
                "study of its own"
            )
    runs: dict[str, StudentRun] = {}
    for run in students:
        if (twin := runs.setdefault(run.fingerprint, run)) is not run:
            raise UserError(
                f"study.methods: {twin.method.name!r} and {run.method.name!r} differ in nothing that counts on "
                f"{run.task}: they are one training; leave one of them out, or change a setting that it uses"
            )
    trainings: dict[str, list[Any]] = {}
    for run in students:
        trainings.setdefault(run.method.name, []).append(_what_counts(run, layers))
    methods: dict[str, str] = {}
    for name, counts in trainings.items():
        if (first := methods.setdefault(repr(counts), name)) != name:
            raise UserError(
                f"study.methods: {first!r} and {name!r} differ in nothing that counts on {', '.join(tasks)}: they are "
                "one training; leave one of them out, or change a setting that it uses"
            )


def _what_counts(run: StudentRun, layers: int | None) -> list[tuple[str, Any]]:
    """Return what determines a student, in one spelling and without settings that this task or method never reads.

    Finer than the fingerprint, which knows neither the task's kind nor the teacher's depth.
    """
    weights, chosen = run.method.weights, run.method.settings.initialization
    counts: dict[str, Any] = {**run.params(), **run.inputs()}
    if run.tokens.data.regression and [term for term in weights if OBJECTIVES[term].reads == "logits"] == ["soft"]:
        del counts["temperature"]
    if "cls_cosine" not in weights:
        counts.pop("cosine_threshold", None)
    if layers is not None and run.method.layer_terms:
        counts["layer_map"] = layer_map(counts["layer_map"], layers, run.depth)
    if layers is not None and chosen.source != "random":
        counts["initial"] = (chosen.source, choose_layers(chosen.layers, layers, run.depth))
    return sorted(counts.items())


@contextmanager
def _named(parameter: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{parameter}: {error}") from None

"""What a study is refused for while it is planned, before anything is computed: one line that names the parameter.

Here: papers, methods in roles that they cannot fill, two names for one thing. run_refusals.py has the rest, run by run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from internal_kd.errors import UserError, named, nearest
from internal_kd.generator import check_sizes, grammar_of
from internal_kd.learners.adaptive import AdaptiveLearner, SubnetworkLearner
from internal_kd.learners.learner import UNTRAINED
from internal_kd.params.data import GeneratorEntry
from internal_kd.params.resolve import Method
from internal_kd.plan.artefacts import Data
from internal_kd.plan.identity import PAPERS
from internal_kd.plan.known import known_labels, pairs_of
from internal_kd.plan.run_refusals import check_run
from internal_kd.plan.runs import Run

if TYPE_CHECKING:
    from internal_kd.plan.study import Study


def check_study(study: Study, entry_of: Callable[[str], str]) -> None:
    """Refuse a study that cannot work, by UserError; ``entry_of`` says where parameters describe a method."""
    _check_papers(study.params.analysis.papers or ())
    for name, inputs in study.tasks.items():
        _check_generated(name, inputs.data)
    seen: set[tuple[Any, ...]] = set()
    for run in study.runs:
        key = (run.task, run.method.name, repr(run.method.point))
        if key in seen:
            continue
        seen.add(key)  # other seeds differ in nothing that is checked here
        given = study.params.methods.get(run.method.name)
        with named(entry_of(run.method.name)):
            check_run(run, maps_layers=given is not None and "layer_map" in given.model_fields_set)
    _check_distinct(study)
    for which, rows in study.params.analysis.primary.items():
        for row in rows if isinstance(rows, list | tuple) else (rows,) if rows else ():
            study.method_of(row, f"analysis.primary.{which}")


def _check_papers(names: tuple[str, ...]) -> None:
    known = sorted(path.stem for path in PAPERS.glob("*.yaml"))
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"analysis.papers: {PAPERS / unknown[0]}.yaml does not exist{nearest(unknown[0], known)}; known papers: "
            f"{', '.join(known) or 'none'}"
        )


def check_method(name: str, where: str, known: tuple[str, ...]) -> None:
    """Refuse a teacher, or a source of first weights, that is not a method."""
    if name not in known:
        raise UserError(
            f"methods.{where}: {name!r} is not a method{nearest(name, list(known))}; known: {', '.join(known)}"
        )


def no_held_out(method: str) -> UserError:
    """Return the refusal to choose among the runs of a method without a held-out score."""
    return UserError(
        f"methods.{method}: has no held-out score, by which `seed: best` chooses; give it `select: {{hold_out: 0.1}}`"
    )


def check_specialists(method: Method, kinds: list[str]) -> None:
    """Refuse a combination of a generalist and its specialists that are not these."""
    if kinds[0] in ("", "specialist") or set(kinds[1:]) != {"specialist"}:
        raise UserError(
            f"methods.{method.name}.teacher.combine: specialists answer together with their generalist; name it first "
            "in `of`, and methods with `learner: {kind: specialist, ...}` after it"
        )


def check_generalist(generalist: Method, specialist: Method, data: Data) -> None:
    """Refuse a specialist whose generalist, or whose task, has no classes that could be grouped."""
    where, kind = f"methods.{specialist.name}.learner", generalist.learner.kind
    if data.kind != "classes":
        raise UserError(f"{where}.kind: a specialist has some of the classes, and {data.name} has {data.kind}")
    if kind not in ("encoder", "mlp", "cnn"):
        raise UserError(
            f"{where}.of: {generalist.name!r} is a {kind}; name a method that trains an encoder, mlp or cnn"
        )
    if not generalist.settings.select.hold_out:
        raise UserError(
            f"{where}.of: {generalist.name!r} keeps no examples aside, by which its classes are grouped; give it "
            "`select: {hold_out: 0.1}`"
        )
    labels, size = known_labels(data), getattr(specialist.learner, "size", 0)
    if labels is not None and size >= len(labels):
        raise UserError(f"{where}.size: {size} of {len(labels)} classes leave none for the dustbin class; name fewer")


def check_adaptive(whole: Method, part: Method, data: Data) -> None:
    """Refuse a sub-network of a run that was not trained at its width and depth."""
    where, learner, own = f"methods.{part.name}.learner", whole.learner, part.learner
    if not isinstance(learner, AdaptiveLearner):
        raise UserError(
            f"{where}.of: {whole.name!r} has a learner of kind {learner.kind!r}; name a method with "
            "`learner: {kind: adaptive, ...}`"
        )
    assert isinstance(own, SubnetworkLearner)
    for name, share, shares in (("width", own.width, learner.widths), ("depth", own.depth, learner.depths)):
        if share not in shares:
            known = ", ".join(f"{one:g}" for one in shares)
            raise UserError(f"{where}.{name}: {share:g} was never trained; {whole.name!r} has {name}s {known}")
    if own.width == own.depth == 1:
        raise UserError(f"{where}: width 1 and depth 1 are the row {whole.name!r} itself; leave this one out")


def check_scout(method: Method, scout: Method, seeds: tuple[int, ...]) -> None:
    """Refuse scores by runs that do not exist, by models that were never trained here, or of epochs that never come."""
    asked, where = method.scout, f"methods.{method.name}.select.of"
    assert asked is not None
    if scout.learner.kind in UNTRAINED:
        raise UserError(f"{where}: {scout.name!r} is not trained here, so it has no epochs; name a method that is")
    if unknown := [seed for seed in asked.seeds if seed not in seeds]:
        raise UserError(f"{where}: {scout.name!r} has no seed {unknown[0]}; its seeds are {', '.join(map(str, seeds))}")
    if isinstance(scout.settings.curriculum, str) and asked.epoch and asked.epoch > scout.settings.epochs:
        raise UserError(f"{where}: {scout.name!r} has {scout.settings.epochs} epochs, and no epoch {asked.epoch}")


def _check_generated(name: str, data: Data) -> None:
    entry = data.entry
    if not isinstance(entry, GeneratorEntry):
        return
    with named(f"tasks.{name}.phenomena"):
        grammar = grammar_of(entry.grammar, entry.phenomena)
    with named(f"tasks.{name}"):
        check_sizes(grammar, entry.train, entry.dev, entry.unlabelled if isinstance(entry.unlabelled, int) else 0)


def _check_distinct(study: Study) -> None:
    """Refuse two names for one thing: two jobs would write its checkpoints, and tables would count it twice."""
    names: dict[str, str] = {}
    for name, inputs in study.tasks.items():
        if (first := names.setdefault(inputs.data.fingerprint, name)) != name:
            raise UserError(
                f"study.tasks: {first!r} and {name!r} have the same examples: leave one of them out, or give each a "
                "study of its own"
            )
    runs: dict[str, Run] = {}
    for run in study.runs:
        twin = runs.setdefault(run.fingerprint, run)
        if twin is not run and twin.method.name != run.method.name:
            raise UserError(
                f"study.methods: {twin.method.name!r} and {run.method.name!r} would train the same model on "
                f"{run.task}; leave one of them out, or change a setting that counts"
            )
    kinds = {inputs.data.kind for inputs in study.tasks.values()}
    trainings: dict[str, list[Any]] = {}
    for run in study.runs:
        trainings.setdefault(run.method.name, []).append(_what_counts(run))
    methods: dict[str, str] = {}
    for name, counts in trainings.items():
        if (first := methods.setdefault(repr(counts), name)) != name:
            raise UserError(
                f"study.methods: {first!r} and {name!r} would train the same models on {', '.join(study.tasks)} "
                f"(tasks of {' and '.join(sorted(kinds))}); leave one of them out, or change a setting that counts"
            )


def _what_counts(run: Run) -> list[tuple[str, Any]]:
    """Return what determines a run in one spelling, without settings that this task or method never reads.

    Finer than the fingerprint, which knows neither the task's kind nor the teacher's depth.
    """
    weights = run.method.weights
    counts: dict[str, Any] = {**run.params(), **{role: found.fingerprint for role, found in run.reads().items()}}
    if run.inputs.data.kind == "values" and "soft" in weights:
        counts.pop("temperature", None)
    if "cls_cosine" not in weights:
        counts.pop("cosine_threshold", None)
    if pairs := pairs_of(run):
        counts["layer_map"] = pairs
    return sorted(counts.items())

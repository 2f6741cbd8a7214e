"""The planner: from parameters to runs and everything that they rest on, before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError, named
from internal_kd.learners.adaptive import share_of
from internal_kd.learners.configs import own_max_length
from internal_kd.learners.learner import Form, Shape
from internal_kd.params import Params
from internal_kd.params.data import EncoderParams
from internal_kd.params.method import SelectParams
from internal_kd.params.resolve import Method
from internal_kd.plan.artefacts import Data, Encoder, Inputs
from internal_kd.plan.identity import ContentHashes
from internal_kd.plan.methods import StudyMethods, model_name
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.refusals import check_adaptive, check_generalist, check_scout, check_specialists, no_held_out
from internal_kd.plan.runs import Answers, AnswersFile, Ensemble, FirstWeights, Need, Run, ScoresFile
from internal_kd.plan.sources import plan_data, plan_encoder, shape_of

# Learners that are made of a run as it is, and what is refused of the two methods.
OF_RUNS: dict[str, Callable[[Method, Method, Data], None]] = {
    "specialist": check_generalist,
    "subnetwork": check_adaptive,
}
# Who answers a run, in plain words: task, kind ("run", "file", "encoder") and which.
Key = tuple[Any, ...]


class Planner:
    """One planning, and what was planned already."""

    def __init__(self, params: Params) -> None:
        self.methods = StudyMethods(params)
        self.hashes = ContentHashes()
        self.data = {name: plan_data(params, name, self.hashes) for name in self.methods.tasks}
        self.inputs: dict[tuple[str, str, int, Form], Inputs] = {}
        self.models: dict[str, Encoder] = {}
        self.needs: dict[Key, set[Need]] = {}
        self.runs: dict[tuple[str, str, str, int], Run] = {}

    @cached_property
    def encoder(self) -> Encoder:
        """The study's encoder, asked for by tasks of texts alone."""
        return plan_encoder(self.methods.params.encoder, self.hashes, "encoder")

    def plan(self) -> tuple[dict[str, Inputs], dict[str, Method], tuple[Run, ...]]:
        """Return the inputs of every task, the methods in the order of the tables, and the runs.

        What every student reads of its teacher is noted first, because a recording holds all of it.
        """
        tasks, requested = self.methods.tasks, self.methods.params.requested
        orders = {task: self.methods.on(task) for task in tasks}
        chosen = {(task, name): self.methods.points_of(task, name) for task in tasks for name in orders[task]}
        for (task, _), methods in chosen.items():
            for method in methods:
                self._note_needs(task, method)
        for (task, name), methods in chosen.items():
            for method in methods:
                for seed in self.methods.seeds_of(task, name):
                    self._run(task, method, seed)
        inputs = {
            task: self._pixels(task) if data.images else self._inputs(task, self.encoder, _longest(task, chosen))
            for task, data in self.data.items()
        }
        rows: list[str] = []
        for name in requested:  # after those that teach it on any task
            rows += [other for order in orders.values() for other in order[: order.index(name)]]
            rows.append(name)
        first = {name: next(chosen[task, name][0] for task in tasks if (task, name) in chosen) for name in rows}
        return inputs, first, tuple(self.runs.values())

    def _inputs(self, task: str, encoder: Encoder, max_length: int, form: Form = "tokens") -> Inputs:
        key = (task, encoder.fingerprint, max_length, form)
        if key not in self.inputs:
            self.inputs[key] = Inputs(RECIPES["encode_task"], self.data[task], encoder, max_length, form)
        return self.inputs[key]

    def _whole(self, task: str, method: Method) -> Method:
        """Return the method whose run a learner is a part or a copy of."""
        name = self.methods.source_of(task, method)
        if name is None:
            of = method.learner.starts_from
            raise UserError(f"methods.{method.name}.learner.of: {of!r} is not a run; name the method that trains it")
        return self.methods.of(task, name, {})

    def _pixels(self, task: str) -> Inputs:
        return Inputs(RECIPES["encode_task"], self.data[task], None, form="pixels")

    def _inputs_of(self, task: str, method: Method) -> Inputs:
        if method.learner.kind in OF_RUNS:
            return self._inputs_of(task, self._whole(task, method))
        with named(self.methods.entry_of(method.name, ".learner")):
            form = method.learner.form(self.data[task].images)
        if form == "pixels":
            return self._pixels(task)
        if method.learner.kind != "finished":
            return self._inputs(task, self.encoder, method.settings.max_length, form)
        model = self._model(method.learner, self.methods.entry_of(method.name, ".learner"))
        return self._inputs(task, model, _longest_of(model, method))

    def _model(self, learner: Any, where: str) -> Encoder:
        """Return somebody's fine-tuned model as files with a tokenizer, like an encoder; errors name ``where``."""
        name = model_name(learner)
        key = repr((learner.folder, learner.hub, learner.revision))
        if key not in self.models:
            source = {"source": "folder", "path": learner.folder}
            if learner.hub:
                source = {"source": "hub", "id": learner.hub, "revision": learner.revision}
            entry = EncoderParams.model_validate({"name": name, **source})
            self.models[key] = plan_encoder(entry, self.hashes, where)
        return self.models[key]

    def _teacher_key(self, task: str, method: Method, seed: int) -> tuple[tuple[Any, ...], ...]:
        """Return who answers a run, in plain words: one key for each of its teachers."""
        teacher = method.teacher
        if teacher is None or teacher.average:
            return ()
        if teacher.answers:
            return ((task, "file", teacher.answers, method.settings.max_length, teacher.occurrences),)
        if teacher.encoder:
            return ((task, "encoder", method.settings.max_length),)
        names = (model_name(teacher),) if teacher.folder or teacher.hub else teacher.of
        found = []
        for name in names:
            known = self.methods.seeds_of(task, name)
            if teacher.seed == "best":
                if len(known) > 1 and not self.methods.of(task, name, {}).settings.select.hold_out:
                    raise no_held_out(name)
                found.append((task, "run", name, known))
                continue
            single = {"first": known[0], "same": seed}.get(str(teacher.seed), teacher.seed)
            if self.methods.of(task, name, {}).learner.kind == "finished":
                single = known[0]
            for number in teacher.seeds or (single,):
                if number not in known:
                    raise UserError(
                        f"methods.{method.name}.teacher: {name!r} has no seed {number}; its seeds are "
                        f"{', '.join(map(str, known))}"
                    )
                found.append((task, "run", name, (number,)))
        return tuple(found)

    def _note_needs(self, task: str, method: Method) -> None:
        teacher = method.teacher
        if teacher is None:
            return
        asking = tuple(sorted(name for name, objective in method.objectives.items() if objective.teacher))
        need = Need(
            asking,
            json.dumps({name: method.options(name) for name in asking}, sort_keys=True),
            method.settings.layer_map,
            self._layers(task, method),
            _recorded_for(method),
            teacher.weak == "accept",
        )
        of_outputs = tuple(name for name in asking if method.objectives[name].per == "output")
        for seed in self.methods.seeds_of(task, method.name):
            keys = self._teacher_key(task, method, seed)
            for number, key in enumerate(keys):
                inside = len(keys) == 1 or (number == 0 and teacher.internals == "first")
                self.needs.setdefault(key, set()).add(need if inside else replace(need, terms=of_outputs))

    def _layers(self, task: str, method: Method) -> int | str | None:
        """Return a learner's depth as far as its entry says; `all` is that of the run that it starts from."""
        layers, depth = getattr(method.learner, "layers", None), 1.0
        while layers == "all" and (source := self.methods.source_of(task, method)):
            method = self.methods.of(task, source, {})
            layers = getattr(method.learner, "layers", "all")
            depth = getattr(method.learner, "depth", depth)
        if layers == "all" and depth < 1:  # from a sub-network
            whole = shape_of(self.encoder).layers
            return share_of(depth, whole) if whole else layers
        return layers

    def _answers(self, task: str, method: Method, seed: int) -> Answers | Ensemble | None:
        parts = tuple(self._part(key, task, method) for key in self._teacher_key(task, method, seed))
        if len(parts) < 2:
            return parts[0] if parts else None
        teacher = method.teacher
        assert teacher is not None
        if teacher.combine == "specialists":
            check_specialists(method, [part.runs[0].method.learner.kind if part.runs else "" for part in parts])
        return Ensemble(parts, teacher.combine, teacher.internals)

    def _part(self, key: tuple[Any, ...], task: str, method: Method) -> Answers:
        own, needs = self._inputs_of(task, method), frozenset(self.needs[key])
        of: tuple[Run, ...] | Encoder | AnswersFile
        if key[1] == "file":
            path = Path(key[2])
            of = AnswersFile(path, self.hashes.of_file(path, f"methods.{method.name}.teacher.answers"), key[4])
        elif key[1] == "encoder":
            of = self.encoder
        else:
            teacher = self.methods.of(task, key[2], {})
            of = tuple(self._run(task, teacher, number) for number in key[3])
            own = of[0].inputs
        return Answers(RECIPES["record_answers"], of, own, needs)

    def _run(self, task: str, method: Method, seed: int) -> Run:
        key = (task, method.name, repr(method.point), seed)
        if key not in self.runs:
            inputs = self._inputs_of(task, method)
            answers = self._answers(task, method, seed)
            first = self._first(task, method, seed)
            if first is not None and first.source is not None:
                source = first.source.shape
            else:
                source = shape_of(inputs.encoder) if inputs.encoder else Shape()
            with named(self.methods.entry_of(method.name, ".learner")):
                shape = method.learner.shape(source)
            self.runs[key] = Run(
                RECIPES["train"], method, inputs, first, answers, seed, self._scored_by(task, method), shape,
                teaches=method.name in self.methods.teaching, scouts=method.name in self.methods.scouting,
            )  # fmt: skip
        return self.runs[key]

    def _scored_by(self, task: str, method: Method) -> tuple[Run, ...] | ScoresFile:
        """Return the runs, or the file, whose scores choose a method's examples; none for most."""
        scout = method.scout
        if file := method.settings.select.file:
            return ScoresFile(Path(file), self.hashes.of_file(Path(file), f"methods.{method.name}.select.by"))
        if scout is None:
            return ()
        scouting, known = self.methods.of(task, scout.of, {}), self.methods.seeds_of(task, scout.of)
        check_scout(method, scouting, known)
        return tuple(self._run(task, scouting, seed) for seed in scout.seeds or known)

    def _first(self, task: str, method: Method, seed: int) -> FirstWeights | Run | None:
        learner = method.learner
        if learner.kind in ("finished", "pair") or learner.starts_from == "nothing" or not learner.identity():
            return None
        name = self.methods.source_of(task, method)
        source = None
        if name is not None:
            start = self.methods.of(task, name, {}).learner
            if learner.kind in OF_RUNS:
                OF_RUNS[learner.kind](self._whole(task, method), method, self.data[task])
                return self._run(task, self._whole(task, method), self._source_seed(task, method, name, seed))
            if start.starts_from == "nothing":
                raise UserError(
                    f"methods.{method.name}.learner.start.from: {name!r} is a {start.kind}, which has no layers to "
                    "start from; name a method whose learner is an encoder"
                )
            source = self._run(task, self.methods.of(task, name, {}), self._source_seed(task, method, name, seed))
        return FirstWeights(
            RECIPES["initialize_student"], self.encoder, learner, source, seed if learner.draws else None
        )

    def _source_seed(self, task: str, method: Method, name: str, seed: int) -> int:
        """Return the run whose weights a learner starts from: its teacher, else the one of its own seed."""
        for _, kind, taught, numbers in (key for key in self._teacher_key(task, method, seed) if key[1] == "run"):
            if kind == "run" and taught == name:
                if len(numbers) > 1:
                    raise UserError(
                        f"methods.{method.name}.learner.start.from: which seed of {name!r} is best is known only after "
                        "training; start from `encoder`, or name a seed"
                    )
                return numbers[0]
        known = self.methods.seeds_of(task, name)
        return seed if seed in known else known[0]


def _recorded_for(method: Method) -> SelectParams:
    """Return the examples that a method's teacher answers: all, if those that it sees turn out by scores."""
    select = method.settings.select
    if select.of is None and select.file is None:
        return select
    return select.model_copy(update={"by": "random", "keep": "full", "of": None, "order": "high"})


def _longest(task: str, chosen: dict[tuple[str, str], list[Method]]) -> int:
    """Return how many tokens of a task's texts some method reads."""
    methods = [method for (of, _), points in chosen.items() if of == task for method in points]
    return max((m.settings.max_length for m in methods if m.learner.kind != "finished"), default=64)


def _longest_of(model: Encoder, method: Method) -> int:
    """Return how many tokens somebody's model reads: as many as it was made for, else what the method says.

    Of a model on the hub that is known only once it has been fetched, and a fingerprint must not move then.
    """
    if model.encoder.source == "hub":
        return method.settings.max_length
    for folder in (model.path, model.folder):
        if folder is not None and (folder / "config.json").is_file():
            return own_max_length(folder)
    return method.settings.max_length

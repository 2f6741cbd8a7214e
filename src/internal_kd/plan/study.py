"""The planner: from parameters to the exact runs a study needs, before anything is computed.

``plan_study`` is the only place where parameters become artefacts. Snakemake's rules, every command, the tables and
MLflow all ask it, so they name the same run by the same fingerprint.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from internal_kd.distillation.objectives import load_plugins
from internal_kd.errors import UserError, named
from internal_kd.learners.configs import own_max_length
from internal_kd.learners.learner import Learner
from internal_kd.params import Params
from internal_kd.params.data import EncoderParams
from internal_kd.params.method import Method, TeacherParams, at, given_in, lay_over, read_at, resolve, says
from internal_kd.plan import refusals
from internal_kd.plan.artefacts import (
    Answers,
    AnswersFile,
    Artefact,
    Encoder,
    Ensemble,
    FirstWeights,
    Inputs,
    Need,
    Run,
    everything_below,
)
from internal_kd.plan.identity import RESULTS, ContentHashes, plain
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.sources import plan_data, plan_encoder, shape_of


@dataclass(frozen=True)
class Study:
    """The runs a study needs, each after those it listens to.

    Attributes:
        tasks: the examples of every task, as the study's encoder reads them.
        methods: every method with runs, in the order of the tables: those of ``study.methods``, with the methods that
            they listen to before them, at the first point of ``study.vary``.
        runs: the runs, in an order in which they can be made.
    """

    params: Params
    tasks: dict[str, Inputs]
    methods: dict[str, Method]
    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The study's name."""
        return self.params.study.name

    @property
    def folder(self) -> Path:
        """``results/<study>``."""
        return RESULTS / self.name

    @property
    def axes(self) -> tuple[str, ...]:
        """The varied keys."""
        return tuple(self.params.study.vary)

    @cached_property
    def by_fingerprint(self) -> dict[str, Run]:
        """Every run by its fingerprint."""
        return {run.fingerprint: run for run in self.runs}

    @cached_property
    def artefacts(self) -> dict[str, Artefact]:
        """Every artefact that the runs rest on, and the runs themselves, by fingerprint."""
        return everything_below(self.runs)

    def as_yaml(self) -> str:
        """Return the parameters in one piece: alone, or laid over any params.yaml, they mean this study."""
        params = plain(self.params.model_dump(mode="json", exclude_unset=True, by_alias=True))
        params["study"]["tasks"] = list(self.tasks)
        params["tasks"] = {name: params["tasks"][name] for name in self.tasks}
        kept = {name for name in self.params.methods if name in self.methods}
        params["study"]["methods"] = [name for name in self.requested if name in kept]
        params["methods"] = {name: entry for name, entry in params["methods"].items() if name in kept}
        for method in params["methods"].values():
            if method.get("compare_with") is not None:
                method["compare_with"] = [name for name in method["compare_with"] if name in kept]
        for task in params["tasks"].values():
            if "methods" in task:
                task["methods"] = {name: entry for name, entry in task["methods"].items() if name in kept}
        return yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120)

    @property
    def requested(self) -> tuple[str, ...]:
        """The methods that params.yaml asks for, without those that only teach them."""
        return self.params.study.methods or tuple(self.params.methods)


def plan_study(params: Params) -> Study:
    """Work out every run a study needs.

    Raises:
        UserError: a local source is missing; a learner, layer map or length does not suit the encoder; teachers form a
            circle, are unknown or have other seeds; a subset is larger than its task; two names mean one training.
    """
    load_plugins(tuple(Path(path) for path in params.plugins))
    return _Planner(params).plan()


class _Planner:
    """The state of one planning: what was planned already, by name."""

    def __init__(self, params: Params) -> None:
        self.params = params
        self.hashes = ContentHashes()
        self.encoder = plan_encoder(params.encoder, self.hashes, "encoder")
        self.names = tuple(params.tasks) if params.study.tasks is None else params.study.tasks
        self.given = {name: given_in(entry) for name, entry in params.methods.items()}
        self.defaults = given_in(params.defaults)
        self.data = {name: plan_data(params, name, self.hashes) for name in self.names}
        self.inputs: dict[tuple[str, str, int], Inputs] = {}
        self.models: dict[str, Encoder] = {}
        self.needs: dict[tuple[Any, ...], set[Need]] = {}
        self.methods: dict[tuple[str, str, tuple[Any, ...]], Method] = {}
        self.runs: dict[tuple[str, str, tuple[Any, ...], int], Run] = {}

    def plan(self) -> Study:
        """Plan everything."""
        self._name_models()
        order = self._in_order()
        axes = self.params.study.vary
        points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        chosen = {(t, name): self._points(t, name, points) for t in self.names for name in order}
        for (task, _), methods in chosen.items():
            for method in methods:
                self._note_needs(task, method)
        for (task, name), methods in chosen.items():
            for method in methods:
                for seed in self._seeds(task, name):
                    self._run(task, method, seed)
        tasks = {name: self._inputs(name, self.encoder, self._longest(name, order)) for name in self.names}
        rows = {name: chosen[self.names[0], name][0] for name in order}
        study = Study(self.params, tasks, rows, tuple(self.runs.values()))
        refusals.check_study(study)
        return study

    # Who teaches whom

    def _name_models(self) -> None:
        """Give every model that somebody fine-tuned, named by a teacher alone, a method and so a row of its own."""
        for name in tuple(self.given):
            for teacher in self._teachers_named_by(name):
                if not (teacher.folder or teacher.hub):
                    continue
                model = model_name(teacher)
                if model not in self.given:
                    taken = {entry.get("id") for entry in self.given.values()}
                    row = next(row for row in ("1.0", *(f"1.{i}" for i in range(1, 100))) if row not in taken)
                    learner = teacher.model_dump(include={"folder", "hub", "revision", "labels"}, exclude_none=True)
                    title = f"{Path(teacher.folder).name if teacher.folder else teacher.hub}, as it is"
                    self.given[model] = {
                        "id": row, "title": title, "learner": {"kind": "finished", **learner}, "teacher": None,
                        "weights": {}, "curriculum": "all", "select": {"keep": "full"},
                    }  # fmt: skip

    def _teachers_named_by(self, name: str) -> list[TeacherParams]:
        layers = [self.defaults, self.given[name]]
        for task in self.names:
            entry = self.params.tasks[task]
            layers += [given_in(entry.defaults), given_in(entry.methods[name]) if name in entry.methods else {}]
        found = []
        for layer in layers:
            if isinstance(layer.get("teacher"), dict):
                found.append(TeacherParams.model_validate(layer["teacher"]))
        return found

    def _in_order(self) -> tuple[str, ...]:
        """Return the methods of the study, each after those it listens to or starts from."""
        order: list[str] = []
        around: list[str] = []

        def visit(name: str, asked_by: str) -> None:
            if name in order:
                return
            if name not in self.given:
                raise UserError(refusals.unknown_method(name, asked_by, tuple(self.given)))
            if name in around:
                circle = " -> ".join([*around[around.index(name) :], name])
                raise UserError(f"methods.{asked_by}.teacher: these methods teach each other in a circle: {circle}")
            around.append(name)
            for task in self.names:
                for teacher in self._taught_by(self._method(task, name, {})):
                    visit(teacher, name)
            around.pop()
            order.append(name)

        for name in self.params.study.methods or tuple(self.params.methods):
            visit(name, name)
        return tuple(order)

    def _taught_by(self, method: Method) -> tuple[str, ...]:
        """Return the methods that a method listens to or starts from."""
        teacher = method.teacher
        names = () if teacher is None else (model_name(teacher),) if teacher.folder or teacher.hub else teacher.of
        source = self._source_method(method)
        return (*names, source) if source and source not in names else names

    def _source_method(self, method: Method) -> str | None:
        """Return the method whose run a learner's first weights come from, None for the encoder or random weights."""
        source = method.learner.starts_from
        if source in ("encoder", "random"):
            return None
        if source != "teacher":
            return source
        # A method without a teacher starts where its rivals do: from the teacher of `defaults`.
        teacher = method.settings.teacher or self.params.defaults.teacher
        if teacher is None or teacher.encoder or teacher.answers:
            raise UserError(
                f"methods.{method.name}.learner.start.from: `teacher` needs a teacher with weights; name a method, or "
                "start from `encoder`"
            )
        return model_name(teacher) if teacher.folder or teacher.hub else teacher.of[0]

    @cached_property
    def _teaching(self) -> frozenset[str]:
        """The methods that teach others, or whose weights others start from."""
        order = self.params.study.methods or tuple(self.params.methods)
        found: set[str] = set()
        waiting = list(order)
        while waiting:
            name = waiting.pop()
            for task in self.names:
                for teacher in self._taught_by(self._method(task, name, {})):
                    if teacher not in found:
                        found.add(teacher)
                        waiting.append(teacher)
        return frozenset(found)

    # Methods and their points

    def _points(self, task: str, name: str, points: list[dict[str, Any]]) -> list[Method]:
        """Return a method at every point of ``study.vary`` that it takes part in, each once."""
        methods: dict[tuple[Any, ...], Method] = {}
        for point in points:
            own = {} if name in self._teaching else {k: v for k, v in point.items() if not says(self.given[name], k)}
            method = self._method(task, name, own)
            methods.setdefault(tuple(own.items()), method)
        return list(methods.values())

    def _method(self, task: str, name: str, own: dict[str, Any]) -> Method:
        key = (task, name, tuple(own.items()))
        if key not in self.methods:
            entry = self.params.tasks[task]
            varied: dict[str, Any] = {}
            for path, value in own.items():
                varied = lay_over(varied, at(path, value))
            layers = [self.defaults, given_in(entry.defaults), varied, self.given[name]]
            layers.append(given_in(entry.methods[name]) if name in entry.methods else {})
            merged: dict[str, Any] = {}
            for layer in layers:
                merged = lay_over(merged, layer)
            point = {axis: _shown(own.get(axis, read_at(merged, axis))) for axis in self.params.study.vary}
            self.methods[key] = resolve(name, layers, point, f"methods.{name}")
        return self.methods[key]

    def _seeds(self, task: str, name: str) -> tuple[int, ...]:
        """Return the seeds of a method: its own, else the study's; a finished model has one."""
        method = self._method(task, name, {})
        if _finished(method.learner):
            return (0,)
        return method.settings.seeds or self.params.study.seeds

    # Runs

    def _inputs(self, task: str, encoder: Encoder, max_length: int) -> Inputs:
        key = (task, encoder.fingerprint, max_length)
        if key not in self.inputs:
            self.inputs[key] = Inputs(RECIPES["encode_task"], self.data[task], encoder, max_length)
        return self.inputs[key]

    def _longest(self, task: str, order: tuple[str, ...]) -> int:
        methods = [self._method(task, name, {}) for name in order]
        return max((m.settings.max_length for m in methods if not _finished(m.learner)), default=64)

    def _inputs_of(self, task: str, method: Method) -> Inputs:
        if not _finished(method.learner):
            return self._inputs(task, self.encoder, method.settings.max_length)
        return self._inputs(task, self._model(method.learner), _longest_of(self._model(method.learner), method))

    def _model(self, learner: Any) -> Encoder:
        """Return somebody's fine-tuned model as files with a tokenizer, like an encoder."""
        name = Path(learner.folder).name if learner.folder else learner.hub.rpartition("/")[2]
        if name not in self.models:
            source = {"source": "folder", "path": learner.folder}
            if learner.hub:
                source = {"source": "hub", "id": learner.hub, "revision": learner.revision}
            entry = EncoderParams.model_validate({"name": name, **source})
            self.models[name] = plan_encoder(entry, self.hashes, "teacher")
        return self.models[name]

    def _teacher_key(self, task: str, method: Method, seed: int) -> tuple[tuple[Any, ...], ...]:
        """Return who answers a run, in plain words: one key for each of its teachers."""
        teacher = method.teacher
        if teacher is None:
            return ()
        if teacher.answers:
            return ((task, "file", teacher.answers, method.settings.max_length),)
        if teacher.encoder:
            return ((task, "encoder", method.settings.max_length),)
        names = (model_name(teacher),) if teacher.folder or teacher.hub else teacher.of
        found = []
        for name in names:
            known = self._seeds(task, name)
            if teacher.seed == "best":
                found.append((task, "run", name, known))
                continue
            single = {"first": known[0], "same": seed}.get(str(teacher.seed), teacher.seed)
            if _finished(self._method(task, name, {}).learner):
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
            getattr(method.learner, "layers", None),
            method.settings.select,
            teacher.weak == "accept",
        )
        of_outputs = tuple(name for name in asking if method.objectives[name].per == "output")
        for seed in self._seeds(task, method.name):
            keys = self._teacher_key(task, method, seed)
            for number, key in enumerate(keys):
                inside = len(keys) == 1 or (number == 0 and teacher.internals == "first")
                self.needs.setdefault(key, set()).add(need if inside else replace(need, terms=of_outputs))

    def _answers(self, task: str, method: Method, seed: int) -> Answers | Ensemble | None:
        parts = tuple(self._part(key, task, method) for key in self._teacher_key(task, method, seed))
        if len(parts) < 2:
            return parts[0] if parts else None
        teacher = method.teacher
        assert teacher is not None
        refusals.check_ensemble(method, teacher)
        return Ensemble(parts, teacher.combine, teacher.internals)

    def _part(self, key: tuple[Any, ...], task: str, method: Method) -> Answers:
        own, needs = self._inputs_of(task, method), frozenset(self.needs[key])
        of: tuple[Run, ...] | Encoder | AnswersFile
        if key[1] == "file":
            path = Path(key[2])
            of = AnswersFile(path, self.hashes.of_file(path, f"methods.{method.name}.teacher.answers"))
        elif key[1] == "encoder":
            of = self.encoder
        else:
            teacher = self._method(task, key[2], {})
            of = tuple(self._run(task, teacher, number) for number in key[3])
            own = of[0].inputs
        return Answers(RECIPES["record_answers"], of, own, needs)

    def _run(self, task: str, method: Method, seed: int) -> Run:
        key = (task, method.name, tuple(method.point.items()), seed)
        if key not in self.runs:
            inputs = self._inputs_of(task, method)
            answers = self._answers(task, method, seed)
            first = self._first(task, method, seed)
            teaches = method.name in self._teaching
            source = first.source.shape if first is not None and first.source is not None else shape_of(inputs.encoder)
            with named(f"methods.{method.name}.learner"):
                shape = method.learner.shape(source)
            self.runs[key] = Run(RECIPES["train"], method, inputs, first, answers, seed, shape, teaches)
        return self.runs[key]

    def _first(self, task: str, method: Method, seed: int) -> FirstWeights | None:
        learner: Learner = method.learner
        if _finished(learner) or not learner.identity():
            return None
        name = self._source_method(method)
        source = None
        if name is not None:
            source = self._run(task, self._method(task, name, {}), self._source_seed(task, method, name, seed))
        return FirstWeights(
            RECIPES["initialize_student"], self.encoder, learner, source, seed if learner.draws else None
        )

    def _source_seed(self, task: str, method: Method, name: str, seed: int) -> int:
        """Return the run whose weights a learner starts from: its teacher, else the one of its own seed."""
        for _, kind, taught, numbers in (key for key in self._teacher_key(task, method, seed) if key[1] == "run"):
            if kind == "run" and taught == name:
                return numbers[0]
        known = self._seeds(task, name)
        return seed if seed in known else known[0]


def model_name(teacher: TeacherParams) -> str:
    """Return the name of the method that stands for a model that was fine-tuned elsewhere."""
    given = Path(str(teacher.folder)).name if teacher.folder else str(teacher.hub).rpartition("/")[2]
    return "".join(c if c.isalnum() or c in "_.-" else "_" for c in given) or "model"


def _longest_of(model: Encoder, method: Method) -> int:
    """Return how many tokens somebody's model reads: as many as it was made for, else what the method says."""
    for folder in (model.path, model.folder):
        if folder is not None and (folder / "config.json").is_file():
            return own_max_length(folder)
    return method.settings.max_length


def _finished(learner: Learner) -> bool:
    return learner.kind == "finished"


def _shown(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

"""The methods of a study: what each is on a task and at a point of ``study.vary``, and who teaches whom."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.fields import as_name
from internal_kd.params import Params
from internal_kd.params.method import TeacherParams
from internal_kd.params.resolve import WHOLE, Method, at, given_in, lay_over, read_at, resolve, says
from internal_kd.plan import refusals


class StudyMethods:
    """The methods of a study, resolved when they are asked for.

    Attributes:
        given: what each method's entry says, those of models that were fine-tuned elsewhere included.
    """

    def __init__(self, params: Params) -> None:
        self.params = params
        self.tasks = tuple(params.tasks) if params.study.tasks is None else params.study.tasks
        self.given = {name: given_in(entry) for name, entry in params.methods.items()}
        self._defaults = given_in(params.defaults)
        self._known: dict[tuple[str, str, str], Method] = {}
        self._named_by: dict[str, str] = {}

    # Who teaches whom

    def on(self, task: str) -> tuple[str, ...]:
        """Return the methods that a task needs, each after those it listens to or starts from.

        Raises:
            UserError: a method is unknown, or some teach each other in a circle.
        """
        order: list[str] = []
        around: list[str] = []

        def visit(name: str, asked_by: str) -> None:
            if name in order:
                return
            if name in around:
                circle = " -> ".join([*around[around.index(name) :], name])
                raise UserError(f"methods.{asked_by}.teacher: these methods teach each other in a circle: {circle}")
            around.append(name)
            for method in self.points_of(task, name):
                for teacher in self.taught_by(task, method):
                    visit(teacher, name)
            around.pop()
            order.append(name)

        for name in self.params.requested:
            visit(name, name)
        return tuple(order)

    def taught_by(self, task: str, method: Method) -> tuple[str, ...]:
        """Return the methods that a method listens to, starts from or has its examples scored by.

        Raises:
            UserError: one of them is unknown.
        """
        names = self._listened(task, method)
        scout = method.scout.of if method.scout else None
        if scout:
            refusals.check_method(scout, f"{method.name}.select.of", tuple(self.given))
        return (*names, scout) if scout and scout not in names else names

    def _listened(self, task: str, method: Method) -> tuple[str, ...]:
        """Return the methods that a method listens to or starts from."""
        teacher = method.teacher
        names = () if teacher is None else self._names_of(teacher, method.name)
        for name in names:
            refusals.check_method(name, f"{method.name}.teacher", tuple(self.given))
        if source := self.source_of(task, method):
            known = tuple(dict.fromkeys((*self.given, "encoder", "teacher", "random")))
            refusals.check_method(source, f"{method.name}.learner.start.from", known)
        return (*names, source) if source and source not in names else names

    def _names_of(self, teacher: TeacherParams, asked_by: str) -> tuple[str, ...]:
        """Return the methods that a teacher names; a model that somebody fine-tuned becomes a method, and so a row."""
        if not (teacher.folder or teacher.hub):
            return teacher.of
        model = model_name(teacher)
        self._named_by.setdefault(model, f"methods.{asked_by}.teacher")
        named = teacher.model_dump(include={"folder", "hub", "revision", "labels"}, exclude_none=True)
        learner = {"kind": "finished", **named}
        if model not in self.given:
            taken = {entry.get("id") for entry in self.given.values()}
            row = next(row for row in ("1.0", *(f"1.{i}" for i in range(1, 100))) if row not in taken)
            title = f"{model if teacher.folder else teacher.hub}, as it is"
            self.given[model] = {
                "id": row, "title": title, "learner": learner, "teacher": None,
                "weights": {}, "curriculum": "all", "select": {"keep": "full"},
            }  # fmt: skip
        if self.given[model].get("learner") != learner:
            raise UserError(
                f"methods.{asked_by}.teacher: {teacher.folder or teacher.hub} would be the row {model!r}, which is "
                "another method or model already; rename the folder, or that method"
            )
        return (model,)

    def entry_of(self, name: str, key: str = "") -> str:
        """Return where parameters describe a method, for error lines: of a model, the teacher that names it."""
        return self._named_by.get(name) or f"methods.{name}{key}"

    def source_of(self, task: str, method: Method) -> str | None:
        """Return the method whose run a learner's first weights come from, None for the encoder or random ones."""
        source = method.learner.starts_from
        if source in ("encoder", "random", "nothing"):
            return None
        if source != "teacher":
            return source
        # A method without a teacher starts where its rivals do: from the teacher of `defaults`, or of its task's.
        common = self.params.tasks[task].defaults.teacher or self.params.defaults.teacher
        teacher = method.settings.teacher or common
        if teacher is None or teacher.encoder or teacher.answers or teacher.average:
            raise UserError(
                f"methods.{method.name}.learner.start.from: `teacher` needs a teacher with weights; name a method, or "
                "start from `encoder`"
            )
        return self._names_of(teacher, method.name)[0]

    @cached_property
    def teaching(self) -> frozenset[str]:
        """The methods that teach others, or whose weights others start from, at any point of ``study.vary``."""
        return frozenset(name for name, roles in self._asked.items() if "teacher" in roles)

    @cached_property
    def scouting(self) -> frozenset[str]:
        """The methods whose predictions score the examples of others."""
        return frozenset(name for name, roles in self._asked.items() if "scout" in roles)

    @cached_property
    def _asked(self) -> dict[str, set[str]]:
        """The methods that others ask for, and what as."""
        found: dict[str, set[str]] = {}
        waiting = list(self.params.requested)
        for name in waiting:  # grows meanwhile: who turns out to be asked does not vary, and may ask others then
            for task in self.tasks:
                for method in self._points(task, name, fixed=name in found):
                    for other in self.taught_by(task, method):
                        if other not in found:
                            waiting.append(other)
                        scouts = method.scout is not None and method.scout.of == other
                        listens = other in self._listened(task, method)
                        found.setdefault(other, set()).update(
                            role for role, has in (("scout", scouts), ("teacher", listens)) if has
                        )
        return found

    # Methods and their points

    def points_of(self, task: str, name: str) -> list[Method]:
        """Return a method at every point of ``study.vary`` that it takes part in, each once."""
        return self._points(task, name, fixed=name in self._asked)

    def _points(self, task: str, name: str, *, fixed: bool) -> list[Method]:
        axes = self.params.study.vary
        points = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
        methods: dict[str, Method] = {}
        for point in points:
            own = {} if fixed else {path: v for path, v in point.items() if not self._keeps(task, name, path)}
            methods.setdefault(repr(own), self.of(task, name, own))
        return list(methods.values())

    def _keeps(self, task: str, name: str, path: str) -> bool:
        """Whether a method gives a key itself, in its own entry or its task's; half of a teacher is not a teacher."""
        entry = self.params.tasks[task]
        given = [self.given[name], given_in(entry.methods[name]) if name in entry.methods else {}]
        top = path.partition(".")[0]
        return any(says(one, path) or (top in WHOLE and says(one, top)) for one in given)

    def of(self, task: str, name: str, own: dict[str, Any]) -> Method:
        """Return a method on a task; ``own`` are its varied keys, none for a method that teaches others."""
        key = (task, name, repr(own))
        if key not in self._known:
            entry = self.params.tasks[task]
            base = lay_over(self._defaults, given_in(entry.defaults))
            for path, value in own.items():
                # A key inside of something that counts as one thing changes it, and does not replace it.
                base = lay_over(base, at(path, value), path if "." in path else "")
            layers = [base, self.given[name]]
            layers.append(given_in(entry.methods[name]) if name in entry.methods else {})
            merged: dict[str, Any] = {}
            for layer in layers:
                merged = lay_over(merged, layer)
            point = {axis: _shown(own.get(axis, read_at(merged, axis))) for axis in self.params.study.vary}
            self._known[key] = resolve(name, layers, point, f"methods.{name}")
        return self._known[key]

    def seeds_of(self, task: str, name: str) -> tuple[int, ...]:
        """Return the seeds of a method: its own, else the study's; a finished model has one, a part its run's."""
        method = self.of(task, name, {})
        if method.learner.kind == "finished":
            return (0,)
        if method.learner.kind == "subnetwork" and (source := self.source_of(task, method)) and source != name:
            return self.seeds_of(task, source)
        return method.settings.seeds or self.params.study.seeds


def model_name(model: Any) -> str:
    """Return the name of the method that stands for a model of a folder or the hub; ``theirs/model`` is ``theirs``."""
    path = Path(model.folder or str(model.hub))
    given = path.parent.name if path.name == "model" else path.name
    return as_name(given, "model")


def _shown(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value

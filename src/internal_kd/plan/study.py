"""A study: the exact runs that parameters mean, found before anything is computed.

``plan_study`` is the only place where parameters become artefacts. Snakemake's rules, every command, the tables and
MLflow all ask it, so they name the same run by the same fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

from internal_kd.errors import UserError, nearest
from internal_kd.params import Params
from internal_kd.params.resolve import Method
from internal_kd.plan import refusals
from internal_kd.plan.artefacts import Artefact, Inputs, everything_below
from internal_kd.plan.identity import RESULTS, plain
from internal_kd.plan.planner import Planner
from internal_kd.plan.runs import Run
from internal_kd.plugins import load_plugins


@dataclass(frozen=True)
class Study:
    """The runs a study needs, each after those it listens to.

    Attributes:
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

    def method_of(self, row: object, where: str) -> str:
        """Return the method that a parameter means by a name or by a row's number; ``where`` is that parameter.

        Raises:
            UserError: the study has no such row.
        """
        numbers = {method.id: name for name, method in self.methods.items()}
        text = str(row)
        if text in self.methods or text in numbers:
            return text if text in self.methods else numbers[text]
        near = nearest(text, [*self.methods, *numbers])
        raise UserError(f"{where}: {text!r} is not a row of the study{near}; its rows: {', '.join(self.methods)}")

    def run_beginning(self, beginning: str) -> Run:
        """Return the run whose fingerprint begins so.

        Raises:
            UserError: there is none, or more than one.
        """
        found = [run for run in self.runs if run.fingerprint.startswith(beginning)]
        if len(found) == 1:
            return found[0]
        what = "more than one run" if found else "no run"
        raise UserError(
            f"{what} of {self.name} has a fingerprint that begins with {beginning!r}; `internal-kd runs` lists them"
        )

    def as_yaml(self) -> str:
        """Return the parameters in one piece: alone, or laid over any params.yaml, they mean this study."""
        params = plain(self.params.model_dump(mode="json", exclude_unset=True, by_alias=True))
        params["study"]["tasks"] = list(self.tasks)
        params["tasks"] = {name: params["tasks"][name] for name in self.tasks}
        kept = {name for name in self.params.methods if name in self.methods}
        params["study"]["methods"] = [name for name in self.params.requested if name in kept]
        params["methods"] = {name: entry for name, entry in params["methods"].items() if name in kept}
        for method in params["methods"].values():
            if method.get("compare_with") is not None:
                method["compare_with"] = [name for name in method["compare_with"] if name in kept]
        for task in params["tasks"].values():
            if "methods" in task:
                task["methods"] = {name: entry for name, entry in task["methods"].items() if name in kept}
        return yaml.safe_dump(params, sort_keys=False, allow_unicode=True, width=120)


def plan_study(params: Params) -> Study:
    """Work out every run a study needs.

    Raises:
        UserError: a local source is missing; a learner, layer map or length does not suit the encoder; teachers form a
            circle, are unknown or have other seeds; a subset is larger than its task; two names mean one training.
    """
    load_plugins(tuple(Path(path) for path in params.plugins))
    planner = Planner(params)
    study = Study(params, *planner.plan())
    refusals.check_study(study, planner.methods.entry_of)
    return study

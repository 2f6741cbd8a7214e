"""What the Snakefile asks: which files are targets, which inputs a job waits for, which rule makes a run.

What exists is not made again; timestamps are ignored. A complete artefact is no part of the DAG, so neither file times
nor what ``.snakemake/`` remembers can make it again; one that is missing or broken is planned with all that it needs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError
from internal_kd.export.folders import export_path
from internal_kd.export.folders import is_current as is_current_export
from internal_kd.files import write_text
from internal_kd.params import parse_params
from internal_kd.plan.artefacts import Artefact, Data, Encoder
from internal_kd.plan.identity import FINGERPRINT_PATTERN, WORK
from internal_kd.plan.runs import Run
from internal_kd.plan.sources import remember
from internal_kd.plan.store import FOUND_DAMAGED, problem_with
from internal_kd.plan.study import Study, plan_study
from internal_kd.report.make import outputs
from internal_kd.running.check import refuse_answers, warnings_of
from internal_kd.running.dvc import is_described, remember_study, runs_not_pulled, write_lists
from internal_kd.running.make import WITHOUT_WEIGHTS, inputs_of, problem_for_readers, to_make
from internal_kd.running.parameter_files import read_given, snapshot
from internal_kd.running.results import is_current, published_path, recorded_key
from internal_kd.running.status import describe, look

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
WILDCARDS = {
    **dict.fromkeys(("task", "encoder", "method", "variant", "shape"), NAME_PATTERN),
    "seed": r"[0-9]+",
    "needs": r"[0-9a-f]{8}",
    "fp": FINGERPRINT_PATTERN,
}
# A method with runs of several kinds is made by the first of these rules that one of them needs.
RUN_RULES = ("distill_internals", "distill_labels", "train_teacher")
NOTHING = r"(?!)"
STALE = WORK / "stale"


@dataclass(frozen=True)
class Plan:
    """A study as Snakemake sees it.

    Attributes:
        snapshot: the file with its parameters that all jobs read.
        described: whether `internal-kd gc` knows the study without being told.
        main_process: False if Snakemake reads the Snakefile for a single job on a cluster's node.
    """

    study: Study
    snapshot: Path
    described: bool = True
    main_process: bool = True

    # What is missing

    @cached_property
    def problems(self) -> dict[str, str]:
        """What is missing or broken among the study's runs and all that it takes to make them, by fingerprint."""
        return {fp: problem for fp, (_, problem) in to_make(self.study.runs, self._problem).items()}

    @cached_property
    def missing_runs(self) -> list[str]:
        """The markers of runs that are to be made; complete runs are read, not waited for."""
        return [str(run.marker) for run in self.study.runs if run.fingerprint in self.problems]

    @property
    def missing_teachers(self) -> list[str]:
        """Those of them that teach others."""
        missing = (run for run in self.study.runs if run.fingerprint in self.problems)
        return [str(run.marker) for run in missing if run.fingerprint in self._teaching]

    @property
    def missing_data(self) -> list[str]:
        """The markers of tasks and encoders that are not here, whether or not a run still needs them."""
        return [str(source.marker) for source in self._sources if problem_with(source)]

    # What a job asks

    @cached_property
    def inputs(self) -> Callable[[Any], list[str]]:
        """What a job waits for: its inputs that are not there, and ``STALE`` if its own output cannot be used."""
        return _with_signature(lambda wildcards: self._inputs(wildcards.fp))

    def _inputs(self, fp: str) -> list[str]:
        if fp not in self.study.artefacts:
            raise UserError(f"study {self.study.name!r} has nothing with the fingerprint {fp}")
        artefact = self.study.artefacts[fp]
        # Something that no run is waiting for may be asked for too, by name.
        problem = self.problems.get(fp) or problem_with(artefact)
        if not problem:
            return []
        missing = [needed for needed in inputs_of(artefact) if self._problem(needed)]
        # Those that others of them wait for anyway are left out: fewer edges, faster planning.
        indirect = {below.fingerprint for needed in missing for below in inputs_of(needed)}
        files = [str(needed.marker) for needed in missing if needed.fingerprint not in indirect]
        # Snakemake makes again what is older than its inputs, in a dry run too, and deletes the old file first.
        return files if problem == "missing" else [*files, self._stale]

    def methods_of(self, rule: str) -> str:
        """Return the pattern of the methods whose runs a rule makes, one that matches nothing if there are none."""
        names = [re.escape(name) for name, made_by in self._rules.items() if made_by == rule]
        return "|".join(names) if names else NOTHING

    @cached_property
    def priority(self) -> Callable[[Any], int]:
        """How early a training starts: others wait for those that teach."""
        return _with_signature(lambda wildcards: 100 if wildcards.fp in self._teaching else 50)

    def resources(self, kind: str) -> dict[str, Any]:
        """Return ``gpu``, ``mem_mb`` and ``runtime`` of a kind of job; memory and time grow with every attempt."""
        asked = getattr(self.study.params.machine, kind)
        return {
            "gpu": asked.gpu,
            "mem_mb": _with_signature(lambda wildcards, attempt: asked.mem_mb * attempt),
            "runtime": _with_signature(lambda wildcards, attempt: asked.runtime * attempt),
        }

    def threads(self, kind: str) -> int:
        """Return the threads of a kind of job."""
        return getattr(self.study.params.machine, kind).threads

    # Tables, figures, report, MLflow, exports

    @cached_property
    def results_are_current(self) -> bool:
        """Whether every run is there and tables, figures and report were made from exactly these."""
        return not self.missing_runs and is_current(self.study)

    def results(self, *steps: str) -> list[str]:
        """Return the files that some steps write under ``results/<study>/``; without steps, all of them."""
        return [str(path) for step in steps or self._outputs for path in self._outputs[step]]

    def renewed(self, *steps: str) -> list[str]:
        """Return the same files if they are about to be made, nothing if all results are current."""
        return [] if self.results_are_current else self.results(*steps)

    @property
    def stale_results(self) -> list[str]:
        """``STALE`` if the results are about to be made."""
        return [] if self.results_are_current else [self._stale]

    @property
    def published(self) -> str:
        """The file that records which results MLflow shows."""
        return str(published_path(self.study))

    def publishing(self, announced: bool) -> list[str]:
        """Return ``published`` if MLflow is to be shown results: about to be made, or made here and not shown yet.

        Results that came from elsewhere are not published, so that a fresh clone has nothing to do; ``announced`` are
        those that an earlier start was to show and could not.
        """
        if announced or not self.results_are_current:
            return [self.published]
        try:
            shown = Path(self.published).read_text(encoding="utf-8").strip()
        except OSError:
            return []
        return [] if shown == recorded_key(self.study) else [self.published]

    def stale_published(self, wildcards: Any) -> list[str]:
        """Return ``STALE``; asked only if MLflow is to be shown something."""
        return [self._stale]

    @property
    def exports(self) -> list[str]:
        """What an export writes last, for each task."""
        return [str(export_path(self.study, task)) for task in self.study.tasks]

    def stale_exports(self, wildcards: Any) -> list[str]:
        """Return ``STALE`` if a task's export is incomplete or not of its best student; asked only for an export."""
        current = not self.missing_runs and all(is_current_export(self.study, task) for task in self.study.tasks)
        return [] if current else [self._stale]

    # What the Snakefile does before and after its jobs

    def describe(self) -> list[str]:
        """Return what will be done, for people: the study's counts, and one line for everything made again."""
        lines = describe(look(self.study))
        if hint := runs_not_pulled():
            lines.append(hint)
        if self.missing_runs:
            lines += [f"  warning: {line}" for line in warnings_of(self.study)]
        for artefact, problem in ((self.study.artefacts[fp], problem) for fp, problem in self.problems.items()):
            if problem == WITHOUT_WEIGHTS:
                lines.append(
                    f"  will be trained again for its weights: {artefact.folder}: {problem} (`dvc pull` first, if they "
                    "are kept elsewhere)"
                )
            elif problem != "missing" and not isinstance(artefact, Run):
                lines.append(f"  broken, will be made again: {artefact.folder}: {problem}")
        return lines

    def start(self) -> None:
        """Write down what is being started, so that `internal-kd status` and `gc` know it even if it is killed."""
        remember_study(self.study, self.snapshot, described=self.described, started=True)

    def remember_sources(self) -> None:
        """Write down what local sources held when they were copied, for clones that have the copy alone."""
        for source in self._sources:
            remember(source)

    def outcome(self) -> str | None:
        """Return a line that names the report if this start has made it, or what a step found damaged."""
        if self.results_are_current:
            return None
        if is_current(self.study):
            return f"report: {self.study.folder / 'report.html'}"
        damaged = [str(one.folder) for one in self.study.artefacts.values() if problem_with(one) == FOUND_DAMAGED]
        return f"found damaged; start again to make it again: {', '.join(damaged)}" if damaged else None

    def way_out(self) -> str | None:
        """Return a line for a study that ended with runs missing: how to get the results of the others."""
        state = look(self.study)
        if state.finished or not state.done:
            return None
        missing = len(self.study.runs) - len(state.done)
        return (
            f"{missing} of {len(self.study.runs)} runs are missing. Tables, figures and report of the others, with "
            f"each gap named: internal-kd report --params {self.snapshot}"
        )

    # Behind all of that

    @cached_property
    def _stale(self) -> str:
        # New content every time: Snakemake compares checksums of small inputs, not only their times.
        if self.main_process:
            write_text(STALE, f"{time.time_ns()}\n")
        return str(STALE)

    @cached_property
    def _outputs(self) -> dict[str, list[Path]]:
        return outputs(self.study)

    @cached_property
    def _rules(self) -> dict[str, str]:
        """The rule of every method."""
        needed = sorted(self.study.runs, key=lambda run: RUN_RULES.index(run.rule), reverse=True)
        return {run.method.name: run.rule for run in needed}

    @cached_property
    def _teaching(self) -> frozenset[str]:
        """The fingerprints of runs that others listen to, start from or have their examples scored by."""
        sources = (run.first.source for run in self.study.runs if run.first is not None)
        taught = (teacher for run in self.study.runs for teacher in run.teachers)
        scouts = (scout for run in self.study.runs for scout in run.scouting_runs)
        return frozenset(run.fingerprint for run in (*sources, *taught, *scouts) if run is not None)

    @property
    def _sources(self) -> list[Data | Encoder]:
        return [artefact for artefact in self.study.artefacts.values() if isinstance(artefact, Data | Encoder)]

    @cached_property
    def _problem(self) -> Callable[[Artefact], str | None]:
        """What keeps others from reading an artefact, asked for every input of every job: each is looked at once."""
        known: dict[str, str | None] = {}

        def problem(artefact: Artefact) -> str | None:
            if artefact.fingerprint not in known:
                known[artefact.fingerprint] = problem_for_readers(artefact)
            return known[artefact.fingerprint]

        return problem


def make_plan(configfiles: Sequence[Path], given: Mapping[str, Any], *, main_process: bool) -> Plan:
    """Read the parameters that Snakemake was started with, as ``read_given`` does, and plan their study.

    Raises:
        UserError: what is wrong with the parameters, in one line.
    """
    values, name = read_given(configfiles, given)
    study = plan_study(parse_params(values, name))
    plan = Plan(study, snapshot(values), is_described(configfiles, bool(given)), main_process)
    if main_process:
        refuse_answers(study)
        write_lists(study)
        remember_study(study, plan.snapshot, described=plan.described, started=False)
        plan.remember_sources()
    return plan


def _with_signature(function: Callable[..., Any]) -> Callable[..., Any]:
    """Cache a function's signature: Snakemake inspects it for every job, a tenth of the planning time."""
    function.__signature__ = signature(function)  # type: ignore[attr-defined]
    return function

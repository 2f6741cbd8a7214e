"""What the Snakefile asks: which files are wanted, which inputs a job waits for, how a job is called.

Existence is the only truth here. A complete artefact is left out of the DAG, so neither file times nor what
``.snakemake/`` remembers can make it again; an incomplete one is asked for together with what it lacks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import yaml

from internal_kd.analysis.built import carries, export_path, is_current, outputs_of, recorded_key
from internal_kd.artefacts import Artefact, EncoderFiles, Run, TaskData
from internal_kd.deployment.exported import is_best
from internal_kd.errors import UserError
from internal_kd.files import sha256_text, write_text
from internal_kd.identity import FINGERPRINT_PATTERN, WORK
from internal_kd.operations import estimate
from internal_kd.operations.catalogue import WITHOUT_WEIGHTS, Catalogue, files_read, inputs_of, lack_of, lacking
from internal_kd.operations.progress import describe, look
from internal_kd.operations.wanted import remember_study, runs_not_pulled, write_wanted
from internal_kd.params import parse_params
from internal_kd.records import problem_with
from internal_kd.sources import remember
from internal_kd.study import Study, plan_study

NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9_.-]*"
WILDCARDS = {
    "task": NAME_PATTERN,
    "encoder": NAME_PATTERN,
    "method": NAME_PATTERN,
    "depth": r"[0-9]+",
    "seed": r"[0-9]+",
    "examples": r"[0-9]+|full",
    "needs": r"[0-9a-f]{8}",
    "fp": FINGERPRINT_PATTERN,
}
STALE = WORK / "stale"
SNAPSHOTS = WORK / "params"


def snapshot(config: Mapping[str, Any]) -> Path:
    """Write the merged configuration to ``work/params/<hash>.yaml`` and return that path.

    Every job reads it there, so that --config, --configfile and an edit of params.yaml while jobs wait all mean
    what they meant when the runs were planned.
    """
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    path = SNAPSHOTS / f"{sha256_text(text)[:12]}.yaml"
    if not path.exists():
        write_text(path, text)
    return path


def find_own_commands() -> None:
    """Put this Python's scripts first in PATH, so that jobs find `internal-kd` in an environment not activated."""
    scripts = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", "").split(os.pathsep)
    if paths[0] != scripts:
        os.environ["PATH"] = os.pathsep.join([scripts, *paths])


@dataclass(frozen=True)
class Plan:
    """A study as Snakemake sees it: targets, inputs and command options of jobs."""

    study: Study
    catalogue: Catalogue
    snapshot: Path
    described: bool = True

    @cached_property
    def lacks(self) -> dict[str, str]:
        """What is missing or broken, by fingerprint, among the wanted runs and all they need to be made."""
        broken = [run for run in self.study.runs if problem_with(run)]
        return {fp: problem for fp, (_, problem) in lacking(broken, self._lack).items()}

    @property
    def broken(self) -> list[str]:
        """What is there, cannot be used as it is, and will be made again, by fingerprint."""
        return [fp for fp, lack in self.lacks.items() if lack != "missing"]

    def describe(self) -> list[str]:
        """Return what will be done, for people: a study's counts, and one line for everything made again."""
        known = self.catalogue.by_fingerprint
        state = look(self.study)
        lines = describe(state)
        if line := estimate.line(state):
            lines.append(f"  {line}")
        if hint := runs_not_pulled():
            lines.append(hint)
        for fp in self.broken:
            if self.lacks[fp] == WITHOUT_WEIGHTS:
                why = f"{WITHOUT_WEIGHTS} (`dvc pull` first, if it is kept elsewhere)"
                lines.append(f"  will be trained again for its weights: {known[fp].folder}: {why}")
            elif not isinstance(known[fp], Run):
                lines.append(f"  broken, will be made again: {known[fp].folder}: {self.lacks[fp]}")
        return lines

    @cached_property
    def results_are_current(self) -> bool:
        """Whether every wanted run is there and tables, figures and report were built from exactly these."""
        return not self.missing_runs and is_current(self.study)

    @property
    def missing_runs(self) -> list[str]:
        """The markers of wanted runs that are not complete; complete runs are read, not waited for."""
        return [*self.missing_teachers, *self.missing_students]

    @property
    def missing_teachers(self) -> list[str]:
        """The markers of the teachers that are not complete."""
        return [str(run.marker) for run in self.study.teachers if run.fingerprint in self.lacks]

    @property
    def missing_students(self) -> list[str]:
        """The markers of the students that are not complete."""
        return [str(run.marker) for run in self.study.students if run.fingerprint in self.lacks]

    @property
    def missing_data(self) -> list[str]:
        """The markers of tasks and encoders that are not here, whether or not a run still needs them."""
        return [str(data.marker) for data in self._fetched if problem_with(data)]

    def remember_study(self) -> None:
        """Let `internal-kd gc` know of this study, which is being started."""
        remember_study(self.study, self.snapshot, described=self.described, started=True)

    def remember_sources(self) -> None:
        """Write down what the local sources held of which there is a copy, for clones that have the copy alone."""
        for data in self._fetched:
            remember(data)

    def results(self, *verbs: str) -> list[str]:
        """Return the files some sub-commands write under ``results/<study>/``; without verbs, all of them."""
        made = outputs_of(self.study)
        return [str(path) for verb in verbs or made for path in made[verb]]

    def renewed(self, *verbs: str) -> list[str]:
        """Return the same files where they are about to be made, nothing where all results are current."""
        return [] if self.results_are_current else self.results(*verbs)

    @property
    def figures(self) -> list[str]:
        """The figures a study has, as sub-commands of outputs_of."""
        return [verb for verb in outputs_of(self.study) if verb.startswith("plot-")]

    @cached_property
    def inputs(self) -> Callable[[Any], list[str]]:
        """What a job waits for: the files that it lacks, and one newer than everything if it is to be made again."""
        return _told(lambda wildcards: [*self.missing_inputs(wildcards), *self.stale(wildcards)])

    def missing_inputs(self, wildcards: Any) -> list[str]:
        """Return the files of a job's inputs that are still to be made, without those that others of them bring."""
        artefact = self._artefact(wildcards.fp)
        if not self._lack(artefact):
            return []
        missing = [needed for needed in inputs_of(artefact) if self._lack(needed)]
        brought = {below.fingerprint for needed in missing for below in inputs_of(needed)}
        return [file for needed in missing if needed.fingerprint not in brought for file in files_read(needed)]

    def stale(self, wildcards: Any) -> list[str]:
        """Return a file newer than everything when a job's outputs are there but cannot be believed.

        Snakemake makes again what is older than its inputs, in a dry run as in earnest, and deletes the old first.
        """
        lack = self._lack(self._artefact(wildcards.fp))
        return [] if lack in (None, "missing", WITHOUT_WEIGHTS) else [str(STALE)]

    @property
    def stale_results(self) -> list[str]:
        """The same for the study's results."""
        return [] if self.results_are_current else [str(STALE)]

    @property
    def exports(self) -> list[str]:
        """What an export writes last, for each task."""
        return [str(export_path(self.study, task)) for task in self.study.tasks]

    @cached_property
    def exporting(self) -> list[str]:
        """The same where a task's export is not there whole or not of its best student; nothing where all are."""
        if not self.results_are_current:
            return self.exports
        key = recorded_key(self.study)
        return [path for path in self.exports if not is_best(Path(path), key)]

    @property
    def stale_exports(self) -> list[str]:
        """A file newer than everything while something is to be exported."""
        return [str(STALE)] if self.exporting else []

    @property
    def published(self) -> Path:
        """What says which tables MLflow shows; scratch, as MLflow's own database is."""
        return WORK / "published" / f"{self.study.name}.txt"

    @cached_property
    def publishing(self) -> list[str]:
        """That file where MLflow is to be told: of tables about to be made, or made here and not told of yet.

        Results that came from elsewhere are not published by themselves, so that a fresh clone has nothing to do.
        """
        if not self.results_are_current:
            return [str(self.published)]
        told = not self.published.exists() or carries(self.published, recorded_key(self.study))
        return [] if told else [str(self.published)]

    @property
    def stale_published(self) -> list[str]:
        """A file newer than everything while MLflow is to be told."""
        return [str(STALE)] if self.publishing else []

    def announce_publishing(self) -> None:
        """Write down that MLflow is to be told, so that a pipeline killed before that is made good for."""
        if self.publishing and not self.published.exists():
            write_text(self.published, "not yet\n")

    def coordinates(self, wildcards: Any) -> str:
        """Return the options that name a job's artefact to its sub-command."""
        named = self.catalogue.coordinates(self._artefact(wildcards.fp))
        return " ".join(f"--{key} {value}" for key, value in named.items())

    def resources(self, kind: str) -> dict[str, Any]:
        """Return ``gpu``, ``mem_mb`` and ``runtime`` of a kind of job; memory and time grow with every attempt."""
        asked = getattr(self.study.params.machine, kind)
        return {
            "gpu": asked.gpu,
            "mem_mb": _told(lambda wildcards, attempt: asked.mem_mb * attempt),
            "runtime": _told(lambda wildcards, attempt: asked.runtime * attempt),
        }

    def threads(self, kind: str) -> int:
        """Return the threads of a kind of job."""
        return getattr(self.study.params.machine, kind).threads

    def teaches(self, wildcards: Any) -> bool:
        """Whether a teacher has students: these go first, the others only fill row 1.0."""
        return int(wildcards.seed) == self.study.params.teacher.teaching_seed

    @property
    def _fetched(self) -> list[TaskData | EncoderFiles]:
        return [a for a in self.catalogue.by_fingerprint.values() if isinstance(a, TaskData | EncoderFiles)]

    def _lack(self, artefact: Artefact) -> str | None:
        # Asked for every input of every job: each file is looked at once.
        if artefact.fingerprint not in self._known_lacks:
            self._known_lacks[artefact.fingerprint] = lack_of(artefact)
        return self._known_lacks[artefact.fingerprint]

    @cached_property
    def _known_lacks(self) -> dict[str, str | None]:
        return {}

    def _artefact(self, fp: str) -> Artefact:
        try:
            return self.catalogue.by_fingerprint[fp]
        except KeyError:
            raise UserError(f"study {self.study.name!r} wants nothing with the fingerprint {fp}") from None


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Write down a function's parameters: Snakemake works them out anew for every job, at a tenth of planning time."""
    function.__signature__ = signature(function)  # type: ignore[attr-defined]
    return function


def make_plan(config: Mapping[str, Any], *, main_process: bool, described: bool = True) -> Plan:
    """Check Snakemake's merged configuration and plan its study.

    ``described`` says that `internal-kd gc` knows the study without being told (`is_described`).
    ``main_process`` is False where Snakemake reads the Snakefile once more for a single job on a cluster's node.

    Raises:
        UserError: whatever is wrong with the parameters, in one line.
    """
    study = plan_study(parse_params(config))
    plan = Plan(study, Catalogue(study), snapshot(config), described)
    if main_process and (plan.broken or plan.publishing or plan.exporting):
        # New content every time: Snakemake compares checksums of small inputs, not only their times.
        write_text(STALE, f"{time.time_ns()}\n")
    if main_process:
        write_wanted(study)
        remember_study(study, plan.snapshot, described=described, started=False)
        plan.remember_sources()
    return plan

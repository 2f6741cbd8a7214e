"""Making one artefact, by hand or for Snakemake: find it, check what its step reads, do the step."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from internal_kd.errors import UserError, nearest
from internal_kd.held import held
from internal_kd.plan.artefacts import Artefact, Data, Encoder, Inputs
from internal_kd.plan.identity import FINGERPRINT_PATTERN, WORK
from internal_kd.plan.runs import Answers, Run
from internal_kd.plan.store import WEIGHTS, problem_with, read_record
from internal_kd.plan.study import Study
from internal_kd.registry import resolve
from internal_kd.running.environment import prepare_environment
from internal_kd.running.leases import lease_gpu

STEPS = {
    "fetch_task": "internal_kd.steps.fetch:fetch_task",
    "fetch_encoder": "internal_kd.steps.fetch:fetch_encoder",
    "encode_task": "internal_kd.steps.encode:encode_task",
    "initialize_student": "internal_kd.steps.train:initialize_student",
    "record_answers": "internal_kd.steps.record:record_answers",
    "train": "internal_kd.steps.train:train_run",
}
WITHOUT_WEIGHTS = f"{WEIGHTS} is missing"
# Fewer digits of a fingerprint than these are too easily a word.
SHORTEST = 4

Problem = Callable[[Artefact], str | None]


def make(artefact: Artefact, study: Study, options: str = "") -> bool:
    """Do the step that makes an artefact; return False if it is complete already.

    Only the two fetching steps may use a network. Steps that run a model hold a GPU, and every step holds the lock
    ``lock_of``, by which others see that it is at work. ``options`` name the study in the commands that errors print.

    Raises:
        UserError: an input is missing or broken, or another process is making this.
    """
    runs_a_model = isinstance(artefact, Run | Answers)
    if _is_made(artefact):
        return False
    check_inputs(artefact, options)
    prepare_environment(offline=not isinstance(artefact, Data | Encoder))
    with (
        held(lock_of(artefact), {"what": artefact.label}) as lock,
        lease_gpu(study.params.machine.jobs_per_gpu) if runs_a_model else nullcontext(),
    ):
        if lock.locked:
            _clear_killed(artefact)
        resolve(STEPS[artefact.step])(artefact, **_settings(artefact, study))
    return True


def _clear_killed(artefact: Artefact) -> None:
    """Give back the disk space of those who began to make an artefact and were killed: its lock is ours now."""
    for left in artefact.folder.parent.glob(f".{artefact.folder.name}.*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def lock_of(artefact: Artefact) -> Path:
    """``work/locks/<fp>.lock``, held by the process that makes the artefact."""
    return WORK / "locks" / f"{artefact.fingerprint}.lock"


def _is_made(artefact: Artefact) -> bool:
    """Whether everything is there that making this again would bring, weights that were kept once included."""
    if problem_with(artefact):
        return False
    if not isinstance(artefact, Run) or (artefact.folder / WEIGHTS).is_file():
        return True
    return problem_for_readers(artefact) is None or not (artefact.teaches or WEIGHTS in read_record(artefact)["files"])


def _settings(artefact: Artefact, study: Study) -> dict[str, Any]:
    machine = study.params.machine
    if isinstance(artefact, Answers):
        return {"machine": machine}
    if not isinstance(artefact, Run):
        return {}
    return {"machine": machine, "keep_model": keeps_model(artefact, study)}


def keeps_model(run: Run, study: Study) -> bool:
    """Whether a run's weights are kept: those of runs that teach, and of others as the machine says."""
    kept = {"all": True, "first-seed": run.seed == study.params.study.seeds[0], "none": False}
    return run.teaches or kept[study.params.machine.keep_models]


def find(study: Study, named: str) -> Artefact:
    """Return the artefact of a study that a fingerprint, the beginning of one, a folder or a file in it names.

    Raises:
        UserError: nothing of the study, or more than one thing, is named so.
    """
    known = study.artefacts
    if named in known:
        return known[named]
    path = Path(named).absolute()
    for artefact in known.values():
        if artefact.folder.absolute() in (path, *path.parents):
            return artefact
    starting = [fp for fp in known if len(named) >= SHORTEST and fp.startswith(named)]
    if len(starting) == 1:
        return known[starting[0]]
    if starting:
        raise UserError(f"{named!r} begins {len(starting)} fingerprints: {', '.join(starting[:5])}; give more digits")
    since = ""
    if re.fullmatch(FINGERPRINT_PATTERN, named):
        since = "; if it was planned for this study, the program or a local source has changed since: start again"
    close = nearest(named, [*known, *(str(artefact.folder) for artefact in known.values())])
    raise UserError(
        f"study {study.name!r} has nothing with the fingerprint or folder {named!r}{close}: `internal-kd runs` lists "
        f"its runs, --overlay chooses another study{since}"
    )


def inputs_of(artefact: Artefact) -> tuple[Artefact, ...]:
    """Return what a step reads: what its artefact was fingerprinted with, and what token ids were made of."""
    found = {needed.fingerprint: needed for needed in artefact.reads().values()}
    for needed in list(found.values()):
        if isinstance(needed, Inputs):
            found |= {below.fingerprint: below for below in needed.reads().values()}
    return tuple(found.values())


def problem_for_readers(artefact: Artefact) -> str | None:
    """Return what keeps other steps from reading an artefact, or None.

    A run without its weights is complete, but nothing can be recorded from it and no learner can start from it.
    """
    if problem := problem_with(artefact):
        return problem
    if not isinstance(artefact, Run) or (artefact.scouts and not artefact.teaches):
        return None  # of a scout others read its predictions
    return None if (artefact.folder / WEIGHTS).is_file() else WITHOUT_WEIGHTS


def to_make(runs: Iterable[Run], problem: Problem = problem_for_readers) -> dict[str, tuple[Artefact, str]]:
    """Return what has to be made for ``runs`` and what is wrong with each, by fingerprint.

    The runs' own weights are not asked for. ``problem`` is that of an artefact that others read; a cached one spares
    looking at a file twice.
    """
    found: dict[str, tuple[Artefact, str]] = {}
    waiting: list[Artefact] = []
    for run in runs:
        if wrong := problem_with(run):
            found[run.fingerprint] = run, wrong
            waiting.extend(inputs_of(run))
    while waiting:
        artefact = waiting.pop()
        if artefact.fingerprint not in found and (wrong := problem(artefact)):
            found[artefact.fingerprint] = artefact, wrong
            waiting.extend(inputs_of(artefact))
    return found


def check_inputs(artefact: Artefact, options: str = "") -> None:
    """Refuse to make something whose inputs are not there.

    Raises:
        UserError: names the first input that is missing or broken, and the command that makes it.
    """
    for needed in inputs_of(artefact):
        if problem := problem_for_readers(needed):
            state = "is missing" if problem == "missing" else f"cannot be used ({problem})"
            raise UserError(
                f"{needed.marker} {state}; make it with `internal-kd make {needed.fingerprint}{options}`, or "
                "everything with `internal-kd run`"
            )


def score_line(run: Run) -> str:
    """Return a finished run's dev score beside its teacher's: ``mnli stacked L6 s1: accuracy 46.4, teacher 60.5``.

    Raises:
        UserError: its run.json cannot be read.
    """
    metric, own = main_score(run)
    taught = []
    for teacher in run.teachers:
        with suppress(UserError):  # pulled without its teacher
            taught.append(main_score(teacher)[1])
    line = f"{run.label}: {metric} {own}" if metric else f"{run.label}: finished"
    return f"{line}, {'teacher' if len(taught) == 1 else 'teachers'} {', '.join(taught)}" if taught else line


def main_score(run: Run) -> tuple[str, str]:
    """Return the name of a finished run's main metric and its dev score as text, in percent if it is a share.

    Raises:
        UserError: its run.json cannot be read.
    """
    from internal_kd.tasks.metrics import METRICS

    scores = read_record(run).get("scores")
    if not isinstance(scores, dict) or not scores:
        return "", "not scored"
    metric, value = next(iter(scores.items()))
    if not isinstance(value, int | float):
        return metric, "undefined"
    share = metric not in METRICS or METRICS[metric].bounds[1] <= 1
    return metric, f"{100 * value:.1f}" if share else f"{value:.3f}"

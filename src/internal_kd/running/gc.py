"""What lies in a project and no study needs any more."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from internal_kd.errors import UserError, nearest
from internal_kd.files import read_mapping, writing_failed
from internal_kd.held import is_held, read_note, untested
from internal_kd.params import load_params
from internal_kd.plan.artefacts import Artefact
from internal_kd.plan.identity import DATA, FINGERPRINT_PATTERN, RESULTS, RUNS, WORK
from internal_kd.plan.store import problem_with
from internal_kd.plan.study import plan_study
from internal_kd.running.dvc import OVERLAYS, STUDIES
from internal_kd.running.project import at_work

# Where artefacts lie, and what belongs to the making of one.
FOLDERS = {DATA: ("tasks/*", "encoders/*"), WORK: ("inputs/*", "initial/*", "answers/*/*"), RUNS: ("*/*/*/*",)}
SCRATCH = ("checkpoints/*", "progress/*.json*", "locks/*.lock")
NAMED = re.compile(rf"(?:.*-)?(?P<fp>{FINGERPRINT_PATTERN})(?:\.jsonl?|\.lock)?")
# A half-written folder; its writer holds the lock of what it makes.
UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9]+\.[0-9a-f]{6}\.tmp")
LOCKS = WORK / "locks"


@dataclass(frozen=True)
class Needed:
    """What the studies of a project need.

    Attributes:
        folders: of all their artefacts, and of the runs that results were made from.
        fingerprints: of the artefacts.
        complete: the fingerprints of those that are complete.
        unplanned: overlays that cannot be planned here, and why.
        remembered: the files of studies that no overlay in config/ describes.
        results: by folder of results, how many runs are kept only because these were made from them.
    """

    folders: frozenset[Path]
    fingerprints: frozenset[str]
    complete: frozenset[str]
    unplanned: tuple[tuple[Path, str], ...]
    remembered: tuple[Path, ...]
    results: Mapping[Path, int]


@dataclass(frozen=True)
class Unneeded:
    """A file or folder that no study needs; ``size`` in bytes."""

    path: Path
    size: int


def needed_here(params: Path, overlays: Sequence[Path] = (), ignored: Sequence[Path] = ()) -> Needed:
    """Plan the study of ``params``, that of every overlay in config/, those started otherwise, and the one at work.

    ``overlays`` laid over ``params`` are a further one.

    Overlays may lie elsewhere or be combined, and values be given on the command line: what was last started like that
    is remembered by the study's name, and is needed too.

    Raises:
        UserError: ``params``, or with ``overlays``, cannot be planned, or what is ``ignored`` is not planned here.
    """
    artefacts: dict[Path, Artefact] = {}
    unplanned: list[tuple[Path, str]] = []
    remembered = sorted(STUDIES.glob("*.yaml"))

    def add(*files: Path) -> None:
        study = plan_study(load_params(files[0], files[1:]))
        artefacts.update({artefact.folder: artefact for artefact in study.artefacts.values()})

    add(params)
    add(params, *overlays)
    described = [(params, overlay) for overlay in sorted(OVERLAYS.rglob("*.yaml"))]
    planned = (*described, *((file,) for file in remembered))
    if unknown := sorted(set(ignored) - {files[-1] for files in planned}):
        known = [str(files[-1]) for files in planned]
        raise UserError(f"--ignore: {unknown[0]} is not a study here{nearest(str(unknown[0]), known)}")
    for files in planned:
        if files[-1] not in ignored:
            try:
                add(*files)
            except UserError as error:
                unplanned.append((files[-1], str(error)))
    if working_on := (at_work() or {}).get("params"):
        add(Path(str(working_on)))
    behind = {folder: runs - artefacts.keys() for folder, runs in _behind_results()}
    return Needed(
        frozenset(artefacts).union(*behind.values()),
        frozenset(artefact.fingerprint for artefact in artefacts.values()),
        frozenset(artefact.fingerprint for artefact in artefacts.values() if problem_with(artefact) is None),
        tuple(unplanned),
        tuple(remembered),
        {folder: len(runs) for folder, runs in behind.items() if runs},
    )


def unneeded_here(needed: Needed) -> list[Unneeded]:
    """Return what lies in data/, work/ and results/runs/, is not needed and is not being made."""
    busy = being_made()
    found = [
        path for root, patterns in FOLDERS.items() for path in _paths(root, patterns) if path not in needed.folders
    ]
    # Once an artefact is complete, its checkpoints, progress and lock are of no use.
    useful = needed.fingerprints - needed.complete
    found += [path for path in _paths(WORK, SCRATCH) if _fingerprint(path) not in useful]
    return [Unneeded(path, size_of(path)) for path in found if (fp := _fingerprint(path)) and fp not in busy]


def check_deletable(needed: Needed) -> None:
    """Refuse to delete anything while something may be needed that is not known here.

    Raises:
        UserError: an overlay cannot be planned, or an artefact is being made that no known study needs.
    """
    if needed.unplanned:
        path, why = needed.unplanned[0]
        ignore = " ".join(f"--ignore {path}" for path, _ in needed.unplanned)
        raise UserError(f"nothing is removed: what {path} needs is not known ({why}); fix it, or give {ignore}")
    for fingerprint, what in being_made().items():
        if fingerprint not in needed.fingerprints:
            raise UserError(f"nothing is removed: {what} ({fingerprint}) is being made for a study not known here")


def being_made() -> dict[str, str]:
    """Return what processes are at work on, by fingerprint."""
    found = {}
    for path in sorted(LOCKS.glob("*.lock")):
        with suppress(UserError):
            if is_held(path) or untested(path):
                found[path.stem] = str(read_note(path).get("what", "something"))
    return found


def remove(path: Path) -> None:
    """Remove a file or folder, and the folders above it that are then empty.

    Raises:
        UserError: it cannot be removed.
    """
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent in (Path(), DATA, WORK, RUNS) or any(parent.iterdir()):
                break
            parent.rmdir()
    except OSError as error:
        raise writing_failed(path, error) from error


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


def _paths(root: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def _fingerprint(path: Path) -> str | None:
    """Return the fingerprint in the name of a file or folder, a half-written one too; None if there is none."""
    unfinished = UNFINISHED.fullmatch(path.name)
    name = unfinished["name"] if unfinished else path.name
    # Answers lie one folder deeper, by what was recorded of them.
    named = NAMED.fullmatch(path.parent.name if path.is_relative_to(WORK / "answers") else name)
    return named["fp"] if named else None


def _behind_results() -> Iterator[tuple[Path, set[Path]]]:
    """Yield folders of results and the folders of the runs that they were made from."""
    for path in sorted(RESULTS.glob("*/made_from.json")):
        with suppress(UserError, KeyError, AttributeError, TypeError):
            yield path.parent, {Path(folder) for folder in read_mapping(path)["runs"]}

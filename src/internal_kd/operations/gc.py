"""``internal-kd gc``: what lies here and no study wants."""

from __future__ import annotations

import argparse
import contextlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.files import read_json, writing_failed
from internal_kd.identity import DATA, FINGERPRINT_PATTERN, RUNS, WORK
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.owners import owners
from internal_kd.operations.progress import running_runs
from internal_kd.operations.wanted import OVERLAYS, STUDIES
from internal_kd.params import load_params
from internal_kd.records import is_complete
from internal_kd.study import plan_study

ARTEFACTS = {
    DATA: ("tasks/*", "encoders/*"),
    WORK: ("tokens/*", "initial/*", "teacher_outputs/*", "checkpoints/*", "progress/*.json"),
    RUNS: ("teachers/*/*/*", "students/*/*/*/*/*/*"),
}
NAMED = re.compile(rf"(?:.*-)?(?P<fp>{FINGERPRINT_PATTERN})(?:\.json)?")
UNFINISHED = re.compile(r"\..+\.(?P<pid>[0-9]+)\.[0-9a-f]{6}\.tmp")
# A half-written folder this old belongs to nobody, wherever its writer ran.
ABANDONED_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Wanted:
    """What the studies here want, which of their runs are complete, and which overlays could not be planned.

    ``remembered`` names the files of studies that no overlay of ``config/`` describes by itself; ``results`` counts, by
    folder of results, the runs that are kept only since these were made from them.
    """

    fingerprints: frozenset[str]
    complete: frozenset[str]
    unplanned: tuple[tuple[Path, str], ...]
    remembered: tuple[Path, ...]
    results: Mapping[Path, int]


@dataclass(frozen=True)
class Unwanted:
    """A file or folder nobody wants; ``size`` in bytes."""

    path: Path
    size: int


def collect(options: argparse.Namespace) -> int:
    """List what no study wants, and with ``--delete`` remove it."""
    ignored = [Path(path) for path in options.ignore]
    wanted = wanted_here(Path(options.params), sorted(OVERLAYS.rglob("*.yaml")), ignored)
    for path in wanted.remembered:
        print(f"{path} is the study {path.stem!r} as last started here: its runs are kept while this file is")
    for path, count in wanted.results.items():
        print(f"{path} was made from {count} runs that no study here wants: they are kept while it is")
    for path, why in wanted.unplanned:
        print(f"what {path} wants is not known here: {why}")
    found = unwanted_here(wanted)
    if options.delete:
        _check_deletable(wanted)
    for item in found:
        if options.delete:
            _remove(item.path)
        print(f"{'removed ' if options.delete else ''}{item.path}  {readable(item.size)}")
    total = readable(sum(item.size for item in found))
    if not found:
        print("nothing lies here that no study wants")
    elif options.delete:
        print(f"{len(found)} removed, {total}")
    else:
        print(f"{len(found)} that no study wants, {total}; `internal-kd gc --delete` removes them")
    return 0


def wanted_here(params: Path, overlays: Sequence[Path], ignored: Sequence[Path]) -> Wanted:
    """Plan the study of ``params``, the one of every overlay, those last started here, and those worked on now.

    Overlays may lie elsewhere or over each other, and values be given on the command line: what was last started so is
    remembered by the study's name, and is wanted too.

    Raises:
        UserError: ``params`` itself cannot be planned.
    """
    catalogues = [Catalogue(plan_study(load_params(params)))]
    unplanned = []
    remembered = sorted(STUDIES.glob("*.yaml"))
    for path in (path for path in (*overlays, *remembered) if path not in ignored):
        try:
            read = load_params(path) if path in remembered else load_params(params, [path])
            catalogues.append(Catalogue(plan_study(read)))
        except UserError as error:
            unplanned.append((path, str(error)))
    catalogues += [Catalogue(plan_study(load_params(owner.params))) for owner in owners() if owner.alive]
    artefacts = {fp: artefact for catalogue in catalogues for fp, artefact in catalogue.by_fingerprint.items()}
    complete = {fp for fp, artefact in artefacts.items() if is_complete(artefact)}
    shown = {path: fingerprints - artefacts.keys() for path, fingerprints in _behind_results()}
    return Wanted(
        frozenset(artefacts).union(*shown.values()),
        frozenset(complete),
        tuple(unplanned),
        tuple(remembered),
        {path: len(fingerprints) for path, fingerprints in shown.items() if fingerprints},
    )


def _behind_results() -> Iterator[tuple[Path, set[str]]]:
    """Yield folders of results and the fingerprints of the runs that their tables were made from."""
    for path in sorted(RUNS.parent.glob("*/tables/built_from.json")):
        with contextlib.suppress(UserError, KeyError, AttributeError, TypeError):
            named = (NAMED.fullmatch(Path(folder).name) for folder in read_json(path)["runs"])
            yield path.parents[1], {match["fp"] for match in named if match}


def unwanted_here(wanted: Wanted) -> list[Unwanted]:
    """Return what lies under data/, work/ and results/runs/ and is neither wanted nor being made."""
    running = running_runs().keys()
    found = []
    for root, patterns in ARTEFACTS.items():
        for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
            if unfinished := UNFINISHED.fullmatch(path.name):
                drop = _is_abandoned(path, int(unfinished["pid"]))
            elif named := NAMED.fullmatch(path.name):
                fp = named["fp"]
                # Once a run is complete, its checkpoints and its last word on progress serve nobody.
                over = path.parent.name in ("checkpoints", "progress") and fp in wanted.complete
                drop = fp not in running and (over or fp not in wanted.fingerprints)
            else:
                drop = False
            if drop:
                found.append(Unwanted(path, size_of(path)))
    return found


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    return sum(file.stat().st_size for file in _files(path))


def readable(size: int) -> str:
    """Return bytes in the unit people would choose."""
    value, unit = float(size), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def _files(path: Path) -> Iterable[Path]:
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _is_abandoned(path: Path, pid: int) -> bool:
    import psutil

    if psutil.pid_exists(pid):
        return False
    newest = max((file.stat().st_mtime for file in _files(path)), default=path.stat().st_mtime)
    return time.time() - newest > ABANDONED_SECONDS


def _check_deletable(wanted: Wanted) -> None:
    if wanted.unplanned:
        path, why = wanted.unplanned[0]
        ignore = " ".join(f"--ignore {path}" for path, _ in wanted.unplanned)
        raise UserError(f"nothing is removed: what {path} wants is not known ({why}); mend it, or give {ignore}")
    for fp, run in running_runs().items():
        if fp not in wanted.fingerprints:
            raise UserError(f"nothing is removed: {run.label} ({fp}) is being trained for a study not known here")


def _remove(path: Path) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        # Folders that only led here go too, up to the first that leads elsewhere.
        for parent in path.parents:
            if parent in (Path(), DATA, WORK, RUNS) or any(parent.iterdir()):
                break
            parent.rmdir()
    except OSError as error:
        raise writing_failed(path, error) from error

"""What is promised besides the speed of a step: memory, the command line, planning."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.rounds import ROOT

_PIPELINE = ("Snakefile", "workflow", "profiles", "params.yaml")
_OVERLAY = "planning.yaml"
# params.yaml as it is has 200 runs. Ten methods on four tasks, students of five depths, eleven seeds: 2,024.
_STUDIES: dict[str, dict[str, Any]] = {
    "paper": {"study": {"name": "paper"}},
    "large": {
        "study": {"name": "large", "vary": {"learner.layers": [1, 2, 3, 4, 6]}, "seeds": list(range(1, 12))},
    },
}
FEW, MANY = 8_000, 64_000


@dataclass(frozen=True)
class Planning:
    """A study of so many runs: seconds of a plan that describes every job, and of a start that finds nothing to do."""

    runs: int
    dry_run_seconds: float
    nothing_to_do_seconds: float


@dataclass(frozen=True)
class Promises:
    """Seconds of commands, and the most bytes that a training held on few and on many examples."""

    help_seconds: float
    planning: tuple[Planning, ...]
    bytes_few: int
    bytes_many: int


def measure(folder: Path, threads: int) -> dict[str, Any]:
    """Measure all of them; ``folder`` takes scratch files."""
    return asdict(
        Promises(
            help_seconds=statistics.median(_seconds([_command(), "--help"], ROOT) for _ in range(3)),
            planning=tuple(_plan(folder / name, changes) for name, changes in _STUDIES.items()),
            bytes_few=_training_bytes(folder, FEW, threads),
            bytes_many=_training_bytes(folder, MANY, threads),
        )
    )


def _plan(project: Path, changes: dict[str, Any]) -> Planning:
    project.mkdir()
    for name in _PIPELINE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name)
        else:
            shutil.copyfile(ROOT / name, project / name)
    (project / _OVERLAY).write_text(yaml.safe_dump(changes))
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "8", "--configfile", _OVERLAY]
    dry = _seconds([*snakemake, "--dry-run"], project)
    # As the tests do it: every artefact of the study is marked as complete.
    complete = [sys.executable, "-c", _COMPLETE, str(ROOT / "tests"), _OVERLAY]
    runs = int(subprocess.run(complete, cwd=project, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return Planning(runs, dry, _seconds(snakemake, project))


_COMPLETE = """
import sys
sys.path.insert(0, sys.argv[1])
from completed import complete_everything
from internal_kd.params import load_params
from internal_kd.plan.study import plan_study
study = plan_study(load_params("params.yaml", [sys.argv[2]]))
complete_everything(study)
print(len(study.runs))
"""


def _training_bytes(folder: Path, examples: int, threads: int) -> int:
    command = [sys.executable, "-m", "bench.memory", str(folder / f"memory-{examples}")]
    command += map(str, (examples, MANY // examples, threads))
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(printed.splitlines()[-1])


def _seconds(command: Sequence[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began


def _command() -> str:
    return str(Path(sys.executable).with_name("internal-kd"))

"""What is promised about everything but the speed of a step: memory, the command line, planning."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from bench.rounds import ROOT

_PIPELINE = ("Snakefile", "workflow", "profiles", "params.yaml")
_TOLD = "planning.yaml"
# Nine methods, four tasks: 2,160 students and 20 teachers.
_LARGE = {"study": {"name": "large", "depths": [1, 2, 3, 4, 6], "seeds": list(range(1, 13))}}
FEW, MANY = 8_000, 64_000


@dataclass(frozen=True)
class Promises:
    """Seconds of commands, and bytes a training held at most on few and on many examples.

    ``dry_run_seconds`` are those of a plan that describes every job, ``counted_seconds`` of one that counts them.
    """

    help_seconds: float
    dry_run_seconds: float
    counted_seconds: float
    nothing_to_do_seconds: float
    planned_runs: int
    bytes_few: int
    bytes_many: int


def measure(folder: Path, threads: int) -> dict[str, float]:
    """Measure all of them; ``folder`` takes scratch files."""
    project = folder / "planning"
    planned = _make_large_study(project)
    snakemake = [sys.executable, "-m", "snakemake", "--cores", "8", "--configfile", _TOLD]
    dry = _seconds([*snakemake, "--dry-run"], project)
    counted = _seconds([*snakemake, "--dry-run", "--quiet"], project)
    # As the tests do it: every artefact of the study is marked as complete.
    subprocess.run([sys.executable, "-c", _COMPLETE, str(ROOT / "tests"), _TOLD], cwd=project, check=True)
    return asdict(
        Promises(
            help_seconds=statistics.median(_seconds([_command(), "--help"], ROOT) for _ in range(3)),
            dry_run_seconds=dry,
            counted_seconds=counted,
            nothing_to_do_seconds=_seconds(snakemake, project),
            planned_runs=planned,
            bytes_few=_training_bytes(folder, FEW, threads),
            bytes_many=_training_bytes(folder, MANY, threads),
        )
    )


_COMPLETE = """
import sys
sys.path.insert(0, sys.argv[1])
from tiny_study import complete_everything
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.study import plan_study
complete_everything(plan_study(parse_params(merge(read_yaml("params.yaml"), read_yaml(sys.argv[2])))))
"""


def _make_large_study(project: Path) -> int:
    from internal_kd.params import merge, parse_params, read_yaml
    from internal_kd.study import plan_study

    project.mkdir()
    for name in _PIPELINE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, project / name)
        else:
            shutil.copyfile(ROOT / name, project / name)
    (project / _TOLD).write_text(yaml.safe_dump(_LARGE))
    return len(plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), _LARGE))).runs)


def _training_bytes(folder: Path, examples: int, threads: int) -> int:
    command = [sys.executable, "-m", "bench.memory", str(folder / f"memory-{examples}")]
    command += map(str, (examples, MANY // examples, threads))
    said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return int(said.splitlines()[-1])


def _seconds(command: Sequence[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began


def _command() -> str:
    return str(Path(sys.executable).with_name("internal-kd"))

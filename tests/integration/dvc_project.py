"""A study in miniature under git and DVC: this project's own stages, and clones of it that share a DVC remote."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from forked import forked
from internal_kd.params import load_params, merge, read_yaml
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study, plan_study
from tiny_study import PIPELINE, ROOT, VALUES, environment, make_encoder, planned_jobs

UNDER_DVC = ("dvc.yaml", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "data/.gitignore", "results/.gitignore")
# One method without a teacher and one with everything; trained hard enough for a random encoder's scores to move.
HARD = {"learning_rate": 0.002, "batch_size": 4, "epochs": 6}
CHANGES: dict[str, Any] = {
    "study": {"methods": ["teacher", "finetuned", "stacked_soft_hard"], "seeds": [1]},
    "defaults": HARD,
    # Long enough to be met in training.
    "methods": {"teacher": {"seeds": [1], **HARD}, "stacked_soft_hard": {"epochs": 12}},
}
# Of one machine, and of one moment.
TIMED = ("latency", "efficiency")
TABLES = "results/tiny/tables"


@dataclass(frozen=True)
class Project:
    """A working copy."""

    folder: Path
    code: Path | None = None

    def run(self, *command: str) -> str:
        """Run a command here and return what it says; it has to succeed."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}"
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """No settings of the user's own, our commands first, and another version of the package where one is given."""
        own = self.folder.parent / "surroundings"
        names = {"GIT_AUTHOR_NAME": "A", "GIT_COMMITTER_NAME": "A"}
        names |= {"GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_EMAIL": "a@example.org"}
        names |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "DVC_NO_ANALYTICS": "1"}
        names |= {f"DVC_{name}": str(own / name.lower()) for name in ("GLOBAL_CONFIG_DIR", "SITE_CACHE_DIR")}
        names["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return environment() | names | ({"PYTHONPATH": str(self.code)} if self.code else {})

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command as a terminal does: in a process group of its own, which Ctrl-C reaches as a whole."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def dvc(self, *arguments: str) -> str:
        """Run DVC."""
        return self._forked("dvc", *arguments)

    def git(self, *arguments: str) -> str:
        """Run git."""
        return self.run("git", *arguments)

    def snakemake(self, *arguments: str) -> str:
        """Run Snakemake as a person does."""
        return self._forked("snakemake", "--cores", "2", *arguments)

    def _forked(self, command: str, *arguments: str) -> str:
        done = forked(command, *arguments, folder=self.folder, env=self.environment)
        assert done.code == 0, f"{command} {' '.join(arguments)} ended with {done.code}:\n{done.output}"
        return done.output

    def planned(self) -> dict[str, int]:
        """The jobs Snakemake would do, without tables, figures, report and what MLflow is shown."""
        results = ("measure_latency", "map_attention", "evaluate", "plot", "report", "publish_runs", "all")
        return {rule: n for rule, n in planned_jobs(self.snakemake("--dry-run")).items() if rule not in results}

    def changed_stages(self) -> list[str]:
        """The stages DVC would run, without the one that always runs."""
        return [stage for stage in json.loads(self.dvc("status", "--json")) if stage != "data"]

    def edit(self, **changes: Any) -> None:
        """Change parameters."""
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump(merge(read_yaml(path), changes), sort_keys=False))

    def commit(self, message: str) -> None:
        """Commit everything that git sees."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def trainings(self) -> set[tuple[str, str]]:
        """Every training whose run lies here: its label and when it started."""
        records = [json.loads(path.read_text()) for path in (self.folder / "results/runs").rglob("run.json")]
        return {(record["label"], record["started"]) for record in records}

    def trained_since(self, before: set[tuple[str, str]]) -> set[str]:
        """The labels of the runs trained since."""
        return {label for label, _ in self.trainings() - before}

    def study(self) -> Study:
        """The study of this copy's params.yaml."""
        with contextlib.chdir(self.folder):
            return plan_study(load_params())

    def is_in_the_table(self) -> bool:
        """Whether the table shows exactly the runs of the study."""
        return self.shown() == {run.fingerprint for run in self.study().runs}

    def shown(self) -> set[str]:
        """The runs whose scores are in the tables."""
        with (self.folder / TABLES / "scores.csv").open() as handle:
            return {row["fingerprint"] for row in csv.DictReader(handle)}

    def tables(self) -> dict[str, bytes]:
        """The tables, byte by byte, without timings: a clone that makes them measures again."""
        folder = self.folder / TABLES
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.stem not in TIMED}

    def log(self, run: Run) -> str:
        """What a run's job has said so far."""
        path = (self.folder / "work/logs" / run.folder.relative_to("results")).with_suffix(".log")
        return path.read_text() if path.is_file() else ""

    def state(self) -> dict[str, bytes]:
        """Everything that a study is made of, and what says who is at work on it, apart from logs."""
        places = ["data", "results", ".snakemake/locks", ".snakemake/incomplete", "params.yaml", "dvc.lock"]
        places += [f"work/{name}" for name in ("locks", "checkpoints", "inputs", "initial", "answers", "dvc")]
        paths = [path for place in places for path in ((self.folder / place), *(self.folder / place).rglob("*"))]
        return {str(path): path.read_bytes() for path in paths if path.is_file()}

    def result(self, run: Run) -> tuple[bytes, ...]:
        """What a training leaves behind, byte by byte, without the time it took."""
        folder = self.folder / run.folder
        lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        timeless = [{k: v for k, v in line.items() if k not in ("seconds", "examples_per_second")} for line in lines]
        files = (folder / "model/model.safetensors", folder / "predictions.parquet")
        return (json.dumps(timeless).encode(), *(path.read_bytes() for path in files))

    def copy(self, name: str, code: Path | None = None) -> Project:
        """Copy everything, scratch and the encoder's source included."""
        shutil.copytree(self.folder, self.folder.parent / name, symlinks=True)
        return Project(self.folder.parent / name, code)

    def clone(self, name: str) -> Project:
        """Clone what git has and pull what DVC has."""
        self.git("clone", "--quiet", str(self.folder), str(self.folder.parent / name))
        clone = Project(self.folder.parent / name)
        clone.dvc("pull")
        return clone


def make_project(folder: Path) -> Project:
    """Lay this project's pipeline and stages out over the tiny study and commit; nothing is trained yet."""
    folder.mkdir()
    for name in (*PIPELINE, *UNDER_DVC, ".gitignore", "papers"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / name)
    project = Project(folder)
    project.edit(**merge(VALUES, CHANGES))
    make_encoder(folder / "encoder")
    project.git("init", "--quiet", "--initial-branch", "main")
    # A local source is on its owner's disk alone: no clone has it.
    (folder / ".git/info/exclude").write_text("/encoder/\n")
    project.commit("a study")
    return project


def change_package(folder: Path, file: str, old: str, new: str) -> Path:
    """Copy the package, change one of its files, and return the folder to be put on PYTHONPATH."""
    shutil.copytree(ROOT / "src", folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    path = folder / "internal_kd" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return folder

"""A tiny study that is really trained, once per session: two tasks, a 4-layer random encoder, six methods.

    judge   generated sentences, two classes
    rte     GLUE files with pairs of them and random labels, and a test set

Take the fixtures over in a conftest.py: ``from trained_study import trained, trained_copy``.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from internal_kd.held import InUse, held, wait_for
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.plan.artefacts import Artefact, Data, Encoder, Inputs
from internal_kd.plan.runs import Answers, FirstWeights, Run
from internal_kd.plan.store import is_complete
from internal_kd.plan.study import Study, plan_study
from tiny_study import ROOT, VALUES, make_encoder

ROWS = {"train": 48, "dev": 40}
CHANGES: dict[str, Any] = {
    "study": {
        "name": "trained",
        "tasks": ["judge", "rte"],
        "methods": ["teacher", "finetuned", "soft", "stacked", "ensemble", "narrow"],
        "seeds": [1, 2],
    },
    "data": {"root": "glue"},
    "tasks": {"judge": {"train": ROWS["train"], "dev": ROWS["dev"]}, "rte": None},
    "encoder": {"licence": "mit"},
    "defaults": {"epochs": 4, "learning_rate": 3.0e-4},
    "methods": {
        "teacher": {"epochs": 2},
        "ensemble": {
            "id": "4.2",
            "title": "Taught by two teachers",
            "teacher": {"of": "teacher", "seeds": [1, 2], "combine": "mean_probabilities", "weak": "accept"},
            "weights": {"soft": 1},
            "seeds": [1],
        },
        # Hidden states of another width meet through a learned projection; its blocks are cheap.
        "narrow": {
            "id": "4.5",
            "title": "Half as wide",
            "learner": {"layers": 2, "width": 16, "heads": 2, "inner": 32, "rank": 8, "groups": 2, "shared_keys": 2},
            "weights": {"soft": 1, "hidden_mse": 1},
            "seeds": [1],
        },
    },
}


def plan_trained(**changes: Any) -> Study:
    """Plan the study in the current directory, with changes laid over it."""
    values = merge(merge(read_yaml(ROOT / "params.yaml"), VALUES), CHANGES)
    return plan_study(parse_params(merge(values, changes)))


@dataclass(frozen=True)
class Trained:
    """The study and the folder that it was planned and trained in."""

    folder: Path
    study: Study

    def run(self, task: str, method: str, seed: int = 1) -> Run:
        """Return one of its runs."""
        return run_of(self.study, task, method, seed)


def run_of(study: Study, task: str, method: str, seed: int = 1) -> Run:
    """Return the run of a task, a method and a seed."""
    found = (run for run in study.runs if (run.task, run.method.name, run.seed) == (task, method, seed))
    return next(found)


@pytest.fixture(scope="session")
def trained_project(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The trained study, to be read only."""
    base = tmp_path_factory.getbasetemp()
    return _train_once(base.parent if "PYTEST_XDIST_WORKER" in os.environ else base)


@pytest.fixture
def trained(trained_project: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The trained study in the current directory, to be read only."""
    monkeypatch.chdir(trained_project.folder)
    return trained_project


@pytest.fixture
def trained_copy(trained_project: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A copy of the trained study in the current directory, to be changed."""
    folder = tmp_path / "trained"
    copy_project(trained_project.folder, folder)
    monkeypatch.chdir(folder)
    return Trained(folder, plan_trained())


def copy_project(source: Path, target: Path) -> None:
    """Copy a project; what is never edited in place, only replaced, becomes a hard link."""
    shutil.copytree(source, target, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> str:
    if source.endswith((".safetensors", ".npy")):
        os.link(source, target)
        return target
    return shutil.copy2(source, target)


def make_all(study: Study) -> None:
    """Make every run of a study, and everything that it rests on, in this process."""
    for run in study.runs:
        make(run)


def make(artefact: Artefact) -> None:
    """Make an artefact and, before it, what its step reads."""
    if is_complete(artefact):
        return
    for needed in artefact.reads().values():
        make(needed)
    from internal_kd.params.study import MachineParams
    from internal_kd.steps.encode import encode_task
    from internal_kd.steps.fetch import fetch_encoder, fetch_task
    from internal_kd.steps.record import record_answers
    from internal_kd.steps.train import initialize_student, train_run

    if isinstance(artefact, Data):
        fetch_task(artefact)
    elif isinstance(artefact, Encoder):
        fetch_encoder(artefact)
    elif isinstance(artefact, Inputs):
        encode_task(artefact)
    elif isinstance(artefact, FirstWeights):
        initialize_student(artefact)
    elif isinstance(artefact, Answers):
        record_answers(artefact, MachineParams())
    elif isinstance(artefact, Run):
        train_run(artefact, MachineParams())


def write_glue(folder: Path) -> None:
    """Write RTE's three files with sentences of the generator's; the test set is in an order of its own."""
    import numpy as np

    from internal_kd.generator import generate

    folder.mkdir(parents=True)
    texts = [example.text_a for example in generate("acceptability", train=200, dev=10, seed=3)["train"]]
    draw = np.random.default_rng(0)
    for split, rows in {**ROWS, "test": 30}.items():
        lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
        for row in range(rows):
            pair = [texts[k] for k in draw.integers(len(texts), size=2)]
            label = [] if split == "test" else [("entailment", "not_entailment")[int(draw.integers(2))]]
            lines.append("\t".join([str(row), *pair, *label]))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def _widen(weights: Path) -> None:
    """Make a random encoder's matrices as large as those of a trained one, so that it tells texts apart."""
    from safetensors.torch import load_file, save_file

    tensors = {name: 30 * tensor if tensor.ndim == 2 else tensor for name, tensor in load_file(weights).items()}
    save_file(tensors, weights, metadata={"format": "pt"})


@functools.cache
def _train_once(base: Path) -> Trained:
    folder = base / "trained-study"
    while not (folder / "done").is_file():
        try:
            with held(base / "trained-study.lock", {"what": "the trained study"}):
                if not (folder / "done").is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                    folder.mkdir()
                    with contextlib.chdir(folder):
                        _train(folder)
        except InUse:
            wait_for(base / "trained-study.lock")
    with contextlib.chdir(folder):
        return Trained(folder, plan_trained())


def _train(folder: Path) -> None:
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    make_encoder(folder / "encoder")
    _widen(folder / "encoder/model.safetensors")
    write_glue(folder / "glue/RTE")
    make_all(plan_trained())
    torch.set_num_threads(threads)
    (folder / "done").touch()

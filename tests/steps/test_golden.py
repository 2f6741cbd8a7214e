"""Results move only with a new RECIPE: a few numbers of the steps that run a model, and what they would not let pass.

Those of fetching and tokenising are in test_tokenize_task.py, those of the generator in tests/data/test_generator.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file
from test_training import MACHINE, history, make, student
from test_training import plan as plan_tiny

from internal_kd.artefacts import Run, TeacherRun
from internal_kd.files import read_json
from internal_kd.models.classifiers import load_classifier, save_classifier
from internal_kd.params import merge
from internal_kd.steps import initialize_student as initializing
from internal_kd.steps import record_teacher as recording
from internal_kd.steps import train_student as students
from internal_kd.steps import train_teacher as teachers
from internal_kd.steps.fetch_encoder import fetch_encoder
from internal_kd.steps.fetch_task import fetch_task
from internal_kd.steps.tokenize_task import tokenize_task
from internal_kd.study import Study
from tiny_study import make_encoder

# When a number here moves, raise the RECIPE of the step whose result it is, then write the new ones.
RECIPES = {initializing: 1, recording: 1, students: 2, teachers: 2}

# Strong decay, warm-up and clipping, so that a few steps show each of them.
TRAINING = {
    "epochs": 3, "learning_rate": 3e-3, "weight_decay": 0.3, "warmup_share": 0.25, "max_gradient_norm": 0.2,
}  # fmt: skip

# The last epoch's loss, and the mean absolute logit on the dev set.
TRAINED = {
    "teacher": (0.6891939640045166, 0.03481041267514229),
    "finetuned": (0.6905496120452881, 0.07867708802223206),
    "soft": (0.0006009694770909846, 0.10155098885297775),
    "soft_kl_cos": (2.3319449424743652, 0.05399191752076149),
    "progressive": (0.0007775105768814683, 0.08775904774665833),
    "stacked": (0.0007171441684477031, 0.09121271222829819),
    "stacked_soft_hard": (0.0695795938372612, 0.11044128984212875),
}
# Ten times what these numbers differ by between torch's plain, AVX2 and AVX-512 kernels; a learning rate of 1 % more
# moves the logits by fifteen times as much.
TOLERANCE = 2e-4

# A student's weights, by where its layers come from.
INITIAL = {
    ("pretrained", "first"): 8.214209233520188,
    ("pretrained", "every_other"): 8.217293071350378,
    ("pretrained", "last"): 8.271957462106165,
    ("teacher", "spread"): 8.232471069303369,
    ("random", "first"): 5.269461946008305,
}
# What is written of an untrained teacher. This and the above differ by 1e-6 between kernels; other layers by 3e-4.
RECORDED = {
    "ids": 32.135784264137286,
    "lengths": 12.04879159387371,
    "logits": 0.055212244128744536,
    "cls-L2": 0.8222013329813882,
    "cls-L4": 0.8490640908472542,
    "attention-L2": 3.1129883980923467,
    "attention-L4": 2.649413636201341,
}


def plan(**changes: Any) -> Study:
    return plan_tiny(**merge({"teacher": TRAINING, "student": TRAINING}, changes))


def spread_out(encoder: Path) -> None:
    """Give an encoder weights that tell words apart, so that a training learns from its first step on."""
    path = encoder / "model.safetensors"
    rng, weights = np.random.default_rng(0), load_file(path)
    for name in sorted(weights):
        if weights[name].ndim == 2:
            weights[name] = rng.normal(0.0, 0.25, weights[name].shape).astype(np.float32)
    save_file(weights, path)


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with the tokens of the tiny task."""
    folder, before = tmp_path_factory.mktemp("golden"), Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    make_encoder(folder / "encoder")
    spread_out(folder / "encoder")
    (tokens,) = plan().tasks.values()
    fetch_task(tokens.data)
    fetch_encoder(tokens.encoder)
    tokenize_task(tokens)
    yield folder
    os.chdir(before)


def trained(study: Study, name: str) -> Run:
    teacher = study.teachers[0]
    if not teacher.marker.exists():
        teachers.train_teacher(teacher, MACHINE)
    return teacher if name == "teacher" else make(student(study, name))


def facts(run: Run) -> tuple[float, float]:
    logits = pd.read_parquet(run.folder / "predictions.parquet").filter(like="logit_").to_numpy()
    return history(run)[-1]["loss"], float(np.abs(logits).mean())


def number_of(array: np.ndarray, begin: int = 0) -> float:
    """Return one number that every value of an array moves, by its size and by its place."""
    values = array.ravel().astype(np.float64)
    return float(np.abs(values).mean() + np.cos(begin + np.arange(values.size)) @ values / values.size)


def test_every_recipe_is_that_of_the_numbers_here() -> None:
    assert {step.__name__: step.RECIPE for step in RECIPES} == {step.__name__: n for step, n in RECIPES.items()}


@pytest.mark.parametrize("name", TRAINED)
def test_trainings_move_only_with_a_new_recipe(name: str) -> None:
    assert facts(trained(plan(), name)) == pytest.approx(TRAINED[name], rel=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("teacher", {"learning_rate": 3e-2}),
        ("teacher", {"warmup_share": 0.1}),
        ("finetuned", {"learning_rate": 3e-4}),
        ("finetuned", {"batch_size": 8}),
        ("finetuned", {"max_gradient_norm": 1.0}),
        ("soft", {"learning_rate": 3e-2}),
        ("soft", {"weight_decay": 0.0}),
        ("stacked", {"learning_rate": 3e-2}),
    ],
)
def test_a_training_that_went_otherwise_would_not_pass(name: str, change: dict[str, float]) -> None:
    run = trained(plan(**{"teacher" if name == "teacher" else "student": change}), name)
    assert facts(run) != pytest.approx(TRAINED[name], rel=10 * TOLERANCE)


@pytest.mark.parametrize(("source", "layers"), INITIAL)
def test_students_begin_as_before_or_with_a_new_recipe(source: str, layers: str) -> None:
    study = plan(teacher={"epochs": 8}, student={"initialization": {"source": source, "layers": layers}})
    put_teacher(study.teachers[0])
    initial = student(study, "soft").initial
    initializing.initialize_student(initial)
    weights = load_file(initial.folder / "model/model.safetensors")
    found = sum(number_of(weights[name], place) for place, name in enumerate(sorted(weights)))
    assert found == pytest.approx(INITIAL[source, layers], rel=1e-5)


def put_teacher(run: TeacherRun) -> None:
    """Put a teacher that no training has touched where a run would have left it."""
    save_classifier(load_classifier(run.encoder.folder, 2, seed=run.seed), run.folder / "model")


def test_recordings_move_only_with_a_new_recipe() -> None:
    outputs = student(plan(teacher={"epochs": 9}), "soft_kl_cos").outputs
    assert outputs
    put_teacher(outputs.teacher)
    recording.record_teacher(outputs, MACHINE)
    assert read_json(outputs.marker)["recipe"] == RECIPES[recording]
    found = {path.stem: number_of(np.load(path)) for path in sorted(outputs.folder.glob("*.npy"))}
    assert found == pytest.approx(RECORDED, rel=1e-5)

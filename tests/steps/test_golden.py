"""Results move only with a new RECIPE: a few numbers of the steps that run a model, and what they would not let pass.

Those of fetching and tokenising are in test_encode_task.py, those of the generator in tests/data/test_generator.py.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

import tiny_study
from internal_kd.checksums import publish
from internal_kd.files import staging_folder
from internal_kd.learners.weights import load_classifier, save_classifier
from internal_kd.params import merge
from internal_kd.params.study import MachineParams
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.steps.record import record_answers
from internal_kd.steps.train import initialize_student
from tiny_study import VALUES, make_encoder
from trained_study import make

MACHINE = MachineParams()
# When a number here moves, raise the RECIPE of the step whose result it is, then write the new ones.
NUMBERS_OF = {"initialize_student": 2, "record_answers": 2, "train": 3}

# Strong decay, warm-up and clipping, so that a few steps show each of them.
TRAINING = {
    "epochs": 3, "learning_rate": 3e-3, "weight_decay": 0.3, "warmup_share": 0.25, "max_gradient_norm": 0.2,
}  # fmt: skip

# The last epoch's loss, and the mean absolute logit on the dev set.
TRAINED = {
    "teacher": (0.6943179965019226, 0.013939924538135529),
    "finetuned": (0.6915125846862793, 0.09773518890142441),
    "soft": (0.00016121900989674032, 0.03841496631503105),
    "soft_kl_cos": (2.0549590587615967, 0.054498832672834396),
    "progressive": (0.0010844110511243343, 0.05002674460411072),
    "stacked": (0.0010085426038131118, 0.048551782965660095),
    "stacked_soft_hard": (0.07021571695804596, 0.017492180690169334),
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


METHODS = ["teacher", "finetuned", "soft", "soft_kl_cos", "progressive", "stacked", "stacked_soft_hard"]


def plan(**changes: Any) -> Study:
    values = {"study": {"methods": METHODS, "seeds": [1]}, "defaults": {**TRAINING, "cosine_threshold": 0.0}}
    return tiny_study.planned(**merge(merge(VALUES, merge(values, {"methods": {"teacher": TRAINING}})), changes))


def run_of(study: Study, name: str) -> Run:
    return next(run for run in study.runs if run.method.name == name)


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
    for artefact in run_of(plan(), "teacher").reads().values():
        make(artefact)
    yield folder
    os.chdir(before)


def trained(study: Study, name: str) -> Run:
    run = run_of(study, name)
    make(run)
    return run


def facts(run: Run) -> tuple[float, float]:
    logits = pd.read_parquet(run.folder / "predictions.parquet").filter(like="logit_").to_numpy()
    last = json.loads((run.folder / "history.jsonl").read_text().splitlines()[-1])
    return last["loss"], float(np.abs(logits).mean())


def number_of(array: np.ndarray, begin: int = 0) -> float:
    """Return one number that every value of an array moves, by its size and by its place."""
    values = array.ravel().astype(np.float64)
    return float(np.abs(values).mean() + np.cos(begin + np.arange(values.size)) @ values / values.size)


def test_every_recipe_is_that_of_the_numbers_here() -> None:
    assert {step: RECIPES[step] for step in NUMBERS_OF} == NUMBERS_OF


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
    run = trained(plan(methods={name: change}), name)
    assert facts(run) != pytest.approx(TRAINED[name], rel=10 * TOLERANCE)


@pytest.mark.parametrize(("source", "layers"), INITIAL)
def test_students_begin_as_before_or_with_a_new_recipe(source: str, layers: str) -> None:
    start = {"from": {"pretrained": "encoder"}.get(source, source), "layers": layers}
    study = plan(methods={"teacher": {"epochs": 8}, "soft": {"learner": {"start": start}}})
    put_teacher(run_of(study, "teacher"))
    first = run_of(study, "soft").first
    assert first is not None
    initialize_student(first)
    weights = load_file(first.folder / "model/model.safetensors")
    found = sum(number_of(weights[name], place) for place, name in enumerate(sorted(weights)))
    assert found == pytest.approx(INITIAL[source, layers], rel=1e-5)


def put_teacher(run: Run) -> None:
    """Put a teacher that no training has touched where a run would have left it."""
    with staging_folder(run.folder) as staged:
        save_classifier(load_classifier(run.encoder.folder, 2, seed=run.seed), staged / "model")
        publish(staged, run.folder, {"fingerprint": run.fingerprint, "scores": {}}, run.marker.name)


def test_recordings_move_only_with_a_new_recipe() -> None:
    study = plan(study={"methods": ["teacher", "soft_kl_cos"]}, methods={"teacher": {"epochs": 9}})
    put_teacher(run_of(study, "teacher"))
    (part,) = run_of(study, "soft_kl_cos").parts
    record_answers(part, MACHINE)
    found = {path.stem: number_of(np.load(path)) for path in sorted(part.folder.glob("*.npy"))}
    assert found == pytest.approx(RECORDED, rel=1e-5)

"""A study of images from end to end: perceptrons and soft trees are trained, taught, told apart and pictured."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from internal_kd.files import read_json
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.plan.study import Study, plan_study
from internal_kd.report.frames import read_frame
from internal_kd.report.latency import measure_latencies
from internal_kd.report.make import evaluate, plot, render
from internal_kd.statistics import best_shift, shifted_predictions
from tiny_study import ROOT
from trained_study import make_all

VALUES = {
    "study": {
        "name": "images",
        "tasks": ["digits"],
        "methods": ["teacher", "hard", "without_b", "ensemble", "tree", "pair", "set"],
        "seeds": [1, 2],
    },
    "tasks": {
        "digits": {
            "source": "images",
            "train": "train-images-idx3-ubyte",
            "test": "test-images-idx3-ubyte",
            "shifted": 1,
        }
    },
    "defaults": {
        "learner": {"kind": "mlp", "widths": [16]},
        "teacher": {"of": "teacher", "seed": "first", "weak": "accept"},
        "epochs": 8,
        "batch_size": 16,
        "learning_rate": 0.01,
        "precision": "fp32",
    },
    "methods": {
        "teacher": {
            "learner": {"kind": "mlp", "widths": [32], "dropout": 0.1, "max_norm": 3.0},
            "augment": {"shift": 1},
            "epochs": 8,
        },
        "hard": {"id": "2.0", "teacher": "none", "weights": {"hard": 1}},
        "without_b": {"id": "4.1", "weights": {"soft": 1}, "select": {"drop_classes": [1], "hold_out": 0.25}},
        "ensemble": {"id": "6.0", "teacher": {"of": "hard", "seeds": [1, 2], "weak": "accept"}, "weights": {"soft": 1}},
        "set": {
            "id": "9.0",
            "teacher": "none",
            "learner": {"kind": "distilled_set", "network": {"kind": "mlp", "widths": [8]}, "examples": 3},
            "weights": {"hard": 1},
        },
        "tree": {
            "id": "7.0",
            "learner": {"kind": "soft_tree", "depth": 3},
            "weights": {"tree_soft": 1, "tree_balance": 0.1},
        },
        "pair": {
            "id": "8.0",
            "learner": {"kind": "pair", "of": [{"kind": "mlp", "widths": [16]}, {"kind": "mlp", "widths": [4]}]},
            "teacher": "none",
            "weights": {"hard": 1, "mutual": 1},
        },
    },
}


def write_images(folder: Path) -> None:
    """Three classes of 8x8 images: a bright bar in one of three places."""
    drawn = np.random.default_rng(0)
    for name, count in (("train", 96), ("test", 48)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        images = drawn.integers(0, 60, (count, 8, 8)).astype(np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[:, 1 + 2 * label] = 255
        for what, magic, array in (("images-idx3", 0x0803, images), ("labels-idx1", 0x0801, labels)):
            header = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
            (folder / f"{name}-{what}-ubyte").write_bytes(header + array.tobytes())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder, before = tmp_path_factory.mktemp("images"), Path.cwd()
    os.chdir(folder)
    write_images(folder)
    planned = plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), VALUES)))
    make_all(planned)
    evaluate(planned)
    yield planned
    os.chdir(before)


def test_scores_are_on_the_test_set_and_on_its_moved_copy(study: Study) -> None:
    main = read_frame(study, "main")
    assert set(main["metric"]) == {"accuracy", "accuracy_shifted"}
    assert main.query("method == 'hard' and metric == 'accuracy'")["mean"].item() > 0.9
    assert set(read_frame(study, "tasks")["scored_on"]) == {"test set"}


def test_the_shift_is_chosen_on_held_out_examples_and_beside_it_on_the_test_set(study: Study) -> None:
    lines = read_frame(study, "bias_shifts")
    assert set(lines["method"]) == {"without_b"} and set(lines["unseen"]) == {"1"}
    assert set(lines["chosen_on"]) == {"held-out training examples", "test set"} and len(lines) == 4
    run = next(run for run in study.runs if run.method.name == "without_b" and run.seed == 2)
    held_out, test = (
        pd.read_parquet(run.folder / f"predictions{name}.parquet").sort_values("idx") for name in ("_held_out", "")
    )
    assert len(held_out) == 24 and set(held_out["label"]) == {0, 1, 2}
    logits = [f"logit_{number}" for number in range(3)]
    shift = best_shift(held_out[logits], held_out["label"], [1])
    wrong = (shifted_predictions(test[logits], [1], shift) != test["label"]).sum()
    line = lines.query("seed == 2 and chosen_on == 'held-out training examples'")
    assert line["shift"].item() == pytest.approx(shift) and line["errors_after"].item() == wrong


def test_the_omitted_class_was_never_trained_on(study: Study) -> None:
    from internal_kd.data.inputs import EncodedTask
    from internal_kd.steps.train import training_positions

    run = next(run for run in study.runs if run.method.name == "without_b")
    examples = EncodedTask.of(run.inputs).training()
    chosen, held_out = training_positions(examples, run.method.settings.select, ("0", "1", "2"))
    assert set(examples.labels[chosen]) == {0, 2} and not set(chosen) & set(held_out)


def test_an_ensemble_is_compared_with_its_members(study: Study) -> None:
    line = read_frame(study, "ensembles").query("method == 'ensemble' and seed == 1")
    scores = read_frame(study, "scores").query("method == 'hard' and metric == 'accuracy'")["value"]
    assert line["alone"].item() == pytest.approx(scores.mean()) and line["members"].item() == 2


def test_both_of_a_pair_are_scored_and_the_first_stands_for_the_run(study: Study) -> None:
    lines = read_frame(study, "peers")
    scores = read_frame(study, "scores").query("method == 'pair' and metric == 'accuracy'")["value"]
    assert lines["first"].to_numpy() == pytest.approx(scores.to_numpy()) and len(lines) == 2
    for _, line in lines.iterrows():
        assert line["mean"] == pytest.approx((line["first"] + line["second"]) / 2)
        apart = line["first_alone_right"] - line["second_alone_right"]
        assert apart == pytest.approx(100 * (line["first"] - line["second"]), abs=1e-9)
        assert 0 < line["agreement_at_first"] <= 100
    run = next(run for run in study.runs if run.method.name == "pair" and run.seed == 1)
    assert read_json(run.marker)["peer_scores"]["accuracy"] == lines.query("seed == 1")["second"].item()


def test_trees_are_described_and_pictured(study: Study) -> None:
    lines = read_frame(study, "trees")
    assert set(lines["method"]) == {"tree"} and (lines["leaves"] == 8).all() and (lines["filters"] == 3).all()
    runs = read_frame(study, "scores").query("method == 'tree' and metric == 'accuracy'")["value"]
    assert 100 * runs.to_numpy() == pytest.approx(lines["right_by_leaf"].to_numpy())
    panels = read_frame(study, "tree_pictures")
    filters, paths = (panels[panels["picture"] == picture] for picture in ("filters", "paths"))
    shares = filters.query("row == 3")["heading"].str.removesuffix(" %").astype(int)
    assert len(filters) == 15 and shares.sum() == pytest.approx(100, abs=4)
    assert set(paths["column"]) == {0, 1, 2, 3, 4} and paths["image"].notna().sum() == 4 * paths["row"].nunique()
    examples = read_frame(study, "distilled_examples")
    assert set(examples["method"]) == {"set"} and len(examples) == 3
    plot(study)
    page = render(study).read_text()
    assert "Distilled examples" in page
    assert "tree filters digits" in page and "digits: there is no dev set" in page


@pytest.mark.parametrize("method", ["tree", "pair"])
def test_a_run_is_exported_as_a_folder_that_opens_alone_and_as_onnx(study: Study, method: str) -> None:
    from internal_kd.data.inputs import EncodedTask
    from internal_kd.export.export import export_students
    from internal_kd.export.onnx import missing_packages, open_onnx
    from internal_kd.learners.small import open_network

    (marker,) = export_students(study, method=method, to=Path(f"exported-{method}"), say=lambda line: None)
    record, folder = read_json(marker), marker.parent
    assert record["as_predicted"]["same"] == 1.0
    batch = EncodedTask.of(study.tasks["digits"]).split("dev").batch(np.arange(8))
    logits = open_network(folder / "model").read(batch)["logits", 0].detach().numpy()
    if not missing_packages():
        assert np.allclose(open_onnx(folder / "onnx/model.onnx", threads=1).answer(batch), logits, atol=1e-4)
    card = (folder / "model/README.md").read_text()
    assert "image-classification" in card and "test set" in card and "tokens" not in card.split("## Data")[0]


def test_timed_as_encoders_are(study: Study) -> None:
    lines = measure_latencies(study)
    assert set(lines["batch"]) == {1, 32} and len(set(lines["learner"])) == 4

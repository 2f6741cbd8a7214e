"""A study of images from end to end: perceptrons and soft trees are trained, taught, told apart and pictured."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from scipy.special import expit, softmax

from internal_kd.data.inputs import EncodedTask
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.learners.pair import PEER_PREDICTIONS
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study, plan_study
from internal_kd.report.frames import read_frame
from internal_kd.report.latency import measure_latencies
from internal_kd.report.make import evaluate, plot, render
from internal_kd.report.shifts import shares
from tiny_study import ROOT
from trained_study import make_all, run_of

VALUES = {
    "study": {
        "name": "images",
        "tasks": ["digits"],
        "methods": ["teacher", "hard", "without_b", "ensemble", "tree", "pair", "set", "distilled"],
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
        "general": {"id": "9.0", "teacher": "none", "weights": {"hard": 1}, "select": {"hold_out": 0.25}, "epochs": 1},
        **{
            f"special_{number}": {
                "id": f"9.{number}",
                "learner": {"kind": "specialist", "of": "general", "clusters": 2, "size": 2, "number": number},
                "teacher": "none",
                "weights": {"hard": 1},
                "select": {"hold_out": 0.25},
            }
            for number in (1, 2)
        },
        "distilled": {
            "id": "9.3",
            "teacher": {"of": ["general", "special_1", "special_2"], "seed": "same", "combine": "specialists"},
            "weights": {"soft": 1},
        },
    },
}


def write_images(folder: Path) -> None:
    """Three classes of 8x6 images: a bright bar in one of three places."""
    drawn = np.random.default_rng(0)
    for name, count in (("train", 96), ("test", 48)):
        labels = (np.arange(count) % 3).astype(np.uint8)
        images = drawn.integers(0, 60, (count, 8, 6)).astype(np.uint8)
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
    for line in lines.to_dict("records"):
        run = run_of(study, "digits", "without_b", line["seed"])
        held_out, test = (read_predictions(run.folder / f"predictions{name}.parquet") for name in ("_held_out", ""))
        assert len(held_out[0]) == 24 and set(held_out[0]) == {0, 1, 2}
        labels, logits = test if line["chosen_on"] == "test set" else held_out
        # An example changes sides where the unseen class overtakes the others: nothing between two such places matters.
        edges = np.sort(logits[:, [0, 2]].max(1) - logits[:, 1])
        tried = [edges[0] - 1, *(edges[1:] + edges[:-1]) / 2, edges[-1] + 1]
        fewest = min((shifted(logits, amount) != labels).sum() for amount in tried)
        assert (shifted(logits, line["shift"]) != labels).sum() == fewest
        labels, logits = test
        for when, amount in (("before", 0.0), ("after", line["shift"])):
            wrong = shifted(logits, amount) != labels
            of_unseen = wrong & (labels == 1)
            assert (line[f"errors_{when}"], line[f"errors_unseen_{when}"]) == (wrong.sum(), of_unseen.sum())
            assert line[f"error_{when}"] == pytest.approx(100 * wrong.mean())
            assert line[f"unseen_of_errors_{when}"] == pytest.approx(100 * of_unseen.sum() / max(1, wrong.sum()))
            assert line[f"unseen_right_{when}"] == pytest.approx(100 * (1 - wrong[labels == 1].mean()))
        assert line["error_kept"] == pytest.approx(line["error_after"] / line["error_before"])


def read_predictions(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels and logits."""
    frame = pd.read_parquet(path).sort_values("idx")
    return frame["label"].to_numpy(), frame.filter(like="logit_").to_numpy(float)


def shifted(logits: np.ndarray, amount: float) -> np.ndarray:
    """Answers once the unseen class, number 1, is raised by an amount."""
    return (logits + np.array([0.0, amount, 0.0])).argmax(1)


def test_the_omitted_class_was_never_trained_on(study: Study) -> None:
    from internal_kd.steps.training_examples import training_positions

    run = run_of(study, "digits", "without_b")
    examples = EncodedTask.of(run.inputs).training()
    chosen, held_out = training_positions(examples, run.method.settings.select, ("0", "1", "2"))
    assert set(examples.labels[chosen]) == {0, 2} and not set(chosen) & set(held_out)


def test_an_ensemble_is_compared_with_its_members(study: Study) -> None:
    for line in read_frame(study, "ensembles").query("metric == 'accuracy'").to_dict("records"):
        members = [read_predictions(run.folder / "predictions.parquet") for run in runs_of(study, "hard")]
        labels, given = read_predictions(
            run_of(study, "digits", "ensemble", line["seed"]).folder / "predictions.parquet"
        )
        together = np.mean([softmax(logits, 1) for _, logits in members], 0)
        expected = [
            np.mean([(logits.argmax(1) == labels).mean() for _, logits in members]),
            (together.argmax(1) == labels).mean(),
            (given.argmax(1) == labels).mean(),
        ]
        assert [line["alone"], line["together"], line["score"]] == pytest.approx(expected) and line["members"] == 2
        gain = expected[1] - expected[0]
        kept = 100 * (expected[2] - expected[0]) / gain if gain else np.nan
        assert line["kept"] == pytest.approx(kept, nan_ok=True)


def runs_of(study: Study, method: str) -> list[Run]:
    return [run for run in study.runs if run.method.name == method]


def test_both_of_a_pair_are_scored_and_the_first_stands_for_the_run(study: Study) -> None:
    lines = read_frame(study, "peers").to_dict("records")
    scores = read_frame(study, "scores").query("method == 'pair' and metric == 'accuracy'")["value"]
    assert [line["first"] for line in lines] == pytest.approx(scores.tolist()) and len(lines) == 2
    for line, run in zip(lines, runs_of(study, "pair"), strict=True):
        (labels, first), (_, second) = (
            read_predictions(run.folder / name) for name in ("predictions.parquet", f"{PEER_PREDICTIONS}.parquet")
        )
        one, other, both = (
            values.argmax(1) == labels for values in (first, second, softmax(first, 1) + softmax(second, 1))
        )
        assert read_json(run.marker)["peer_scores"]["accuracy"] == line["second"] == pytest.approx(other.mean())
        assert line["mean"] == pytest.approx((one.mean() + other.mean()) / 2)
        expected = [both.mean(), 100 * (one & ~other).mean(), 100 * (other & ~one).mean()]
        assert [line[name] for name in ("together", "first_alone_right", "second_alone_right")] == pytest.approx(
            expected
        )
        assert line["agreement"] == pytest.approx(100 * (first.argmax(1) == second.argmax(1)).mean())
        assert 0 < line["agreement_at_first"] <= 100


def test_specialists_start_from_the_generalist_of_their_seed_and_teach_with_it(study: Study) -> None:
    for run in (run for run in study.runs if run.method.learner.kind == "specialist"):
        assert run.first is not None and run.first.source is run.first
        assert (run.first.source.method.name, run.first.source.seed) == ("general", run.seed)
        assert len(read_json(run.marker)["subset"]) == 2
    lines = read_frame(study, "specialists")
    assert set(lines["method"]) == {"distilled"} and set(lines["seed"]) == {1, 2}
    for _, line in lines.iterrows():
        assert line["right_after"] - line["right_before"] == line["newly_right"] - line["newly_wrong"]
    own = lines[lines["seed"] == 1]
    whole = own[own["coverage"] == "all"]
    covered = own[~own["coverage"].isin(["all", "conditional"])]
    assert covered["dev_examples"].sum() == whole["dev_examples"].item() == 48
    scores = read_frame(study, "scores").query("method == 'general' and metric == 'accuracy' and seed == 1")
    assert whole["right_before"].item() == round(48 * scores["value"].item())


@pytest.mark.parametrize(
    ("method", "values", "named"),
    [
        ("general", {"select": {"hold_out": 0}}, "hold_out"),
        ("special_1", {"learner": {"kind": "specialist", "of": "tree"}}, "soft_tree"),
        ("distilled", {"teacher": {"of": ["special_1", "general"], "combine": "specialists"}}, "combine"),
        ("distilled", {"teacher": {"of": ["general", "hard"], "combine": "specialists"}}, "combine"),
        ("hard", {"weights": {"hard": 1, "mutual": 1}}, "peer_logits"),
        ("pair", {"learner": {"kind": "pair", "of": [{"kind": "mlp"}, {"layers": 2}]}}, "encoder"),
        ("pair", {"teacher": {"average": 0.9}, "weights": {"hard": 1, "soft": 1}}, "average"),
    ],
)
def test_pairs_and_specialists_that_cannot_be_are_refused(
    study: Study, method: str, values: dict[str, object], named: str
) -> None:
    with pytest.raises(UserError, match=named):
        plan_study(parse_params(merge(merge(read_yaml(ROOT / "params.yaml"), VALUES), {"methods": {method: values}})))


def test_trees_are_described_and_pictured(study: Study) -> None:
    lines, panels = read_frame(study, "trees"), read_frame(study, "tree_pictures")
    assert set(lines["method"]) == {"tree"} and (lines["leaves"] == 8).all() and (lines["filters"] == 3).all()
    for line, run in zip(lines.to_dict("records"), runs_of(study, "tree"), strict=True):
        batch = EncodedTask.of(run.inputs).split("dev").batch(np.arange(48))
        labels, pixels = batch["labels"].numpy(), batch["pixels"].reshape(48, -1).numpy() / 255
        weights = load_file(run.folder / "model/model.safetensors")
        beta = run.method.learner.inverse_temperature
        right = expit(beta * (pixels @ weights["gates.weight"].T + weights["gates.bias"]))
        reached = [np.ones(48)]
        for node in range(7):  # the children of node k are 2k + 1 and 2k + 2
            reached += [reached[node] * (1 - right[:, node]), reached[node] * right[:, node]]
        leaves, answers = np.stack(reached[7:], 1), softmax(weights["head.scores"], 1)
        by_leaf, by_mean = answers[leaves.argmax(1)].argmax(1), (leaves @ answers).argmax(1)
        assert line["seed"] == run.seed and line["leaves_used"] == len(set(leaves.argmax(1)))
        expected = [by_leaf == labels, by_mean == labels, by_leaf == by_mean, leaves.max(1)]
        found = [line[name] for name in ("right_by_leaf", "right_by_mean", "readings_agree", "path_probability")]
        assert found == pytest.approx([100 * np.mean(values) for values in expected], rel=1e-4)
        if run.seed == 1:
            check_pictures(panels, pixels, weights["gates.weight"], right, reached, leaves)
    examples = read_frame(study, "distilled_examples")
    assert set(examples["method"]) == {"set"} and len(examples) == 3
    assert all(pictured(image).any() for image in examples["image"])
    plot(study)
    page = render(study).read_text()
    assert "A specialist answers its own classes alone" in page
    assert "Distilled examples" in page
    assert "tree filters digits" in page and "digits: there is no dev set" in page


def test_without_an_example_of_an_unseen_class_no_share_of_them_is_right() -> None:
    found = shares(np.array([0, 1, 0]), np.array([0, 1, 1]), unseen=(2,))
    assert found["unseen_right"] is None and found["errors"] == 1


def pictured(image: Any) -> np.ndarray:
    """The pixels of a panel, whose rows are an image's."""
    assert np.stack(image).shape == (8, 6)
    return np.stack(image).ravel()


def check_pictures(panels: pd.DataFrame, pixels: Any, filters: Any, right: Any, reached: Any, leaves: Any) -> None:
    """Compare the panels with a tree's filters, where its examples go, and the ways of those that are shown."""
    upper = panels[panels["picture"] == "filters"]
    assert upper["heading"].tolist() == [f"{100 * share.mean():.0f} %" for share in reached]
    assert np.stack([pictured(image) for image in upper["image"][:7]]) == pytest.approx(filters)
    for _, way in panels[panels["picture"] == "paths"].groupby("row"):
        example = int(np.abs(pixels - pictured(way["image"].iloc[0])).sum(1).argmin())
        node = 0
        for heading, image in zip(way["heading"][1:4], way["image"][1:4], strict=True):
            to_right = bool(leaves[example].argmax() & (4 >> int(np.log2(node + 1))))
            taken = right[example, node] if to_right else 1 - right[example, node]
            assert heading == f"{'right' if to_right else 'left'} {100 * taken:.0f} %"
            assert pictured(image) == pytest.approx(filters[node])
            node = 2 * node + 1 + to_right


@pytest.mark.parametrize("method", ["tree", "pair"])
def test_a_run_is_exported_as_a_folder_that_opens_alone_and_as_onnx(study: Study, method: str) -> None:
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
    assert set(lines["batch"]) == {1, 32} and len(set(lines["learner"])) == 5

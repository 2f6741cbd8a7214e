"""Perceptrons and soft trees on texts: as the words that occur, and as the encoder's sentence vectors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_study
from internal_kd.data.inputs import EncodedTask
from internal_kd.errors import UserError
from internal_kd.files import read_json
from internal_kd.params import merge
from internal_kd.plan.runs import Run
from internal_kd.plan.study import Study
from internal_kd.report.distilled import distilled_lines
from internal_kd.report.results import StudyResults
from internal_kd.report.trees import tree_lines
from tiny_study import VALUES, make_encoder
from trained_study import make_all

TREE = {"tree_soft": 1, "tree_balance": 0.1}
STUDY = {
    "study": {"methods": ["teacher", "words", "sentences", "perceptron", "convolutions", "distilled"], "seeds": [1]},
    "defaults": {"learning_rate": 0.01},
    "methods": {
        "teacher": {"learning_rate": 1e-3},
        "words": {"id": "7.0", "learner": {"kind": "soft_tree", "depth": 2}, "weights": TREE},
        "sentences": {
            "id": "7.1",
            "learner": {"kind": "soft_tree", "depth": 2, "features": "sentences"},
            "weights": TREE,
        },
        "convolutions": {"id": "7.3", "learner": {"kind": "text_cnn", "filters": 2}, "weights": {"soft": 1}},
        "distilled": {
            "id": "7.4",
            "learner": {"kind": "distilled_set", "network": {"kind": "text_cnn", "filters": 2}, "examples": 2},
            "weights": {"soft": 1},
        },
        "perceptron": {"id": "7.2", "learner": {"kind": "mlp", "widths": [4]}, "weights": {"soft": 1}},
    },
}


def plan(**changes: object) -> Study:
    return tiny_study.planned(**merge(merge(VALUES, STUDY), changes))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    folder, before = tmp_path_factory.mktemp("texts"), Path.cwd()
    os.chdir(folder)
    make_encoder(folder / "encoder")
    planned = plan()
    make_all(planned)
    yield planned
    os.chdir(before)


def run_of(study: Study, method: str) -> Run:
    return next(run for run in study.runs if run.method.name == method)


@pytest.mark.parametrize("method", ["words", "sentences", "perceptron", "convolutions", "distilled"])
def test_it_is_trained_taught_and_scored_as_an_encoder_is(study: Study, method: str) -> None:
    run = run_of(study, method)
    record = read_json(run.marker)
    assert run.depth is None and run.parts and record["scores"]["accuracy"] is not None
    assert record["total_parameters"] > 0 and len((run.folder / "history.jsonl").read_text().splitlines()) == 3


def test_sentence_vectors_are_the_means_of_the_last_states(study: Study) -> None:
    from transformers import AutoModel

    run = run_of(study, "sentences")
    tokens = EncodedTask(run.inputs.tokens.folder).texts("dev").batch([0, 5])
    model = AutoModel.from_pretrained(run.reader.folder).eval()
    with torch.no_grad():
        states = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
    real = tokens["attention_mask"].unsqueeze(-1)
    expected = (states * real).sum(1) / real.sum(1)
    found = EncodedTask(run.inputs.folder).split("dev").batch([0, 5])["sentences"]
    assert np.allclose(found.numpy(), expected.numpy(), atol=1e-5)


def test_word_vectors_are_the_encoders_input_embeddings_with_zeros_after_the_text(study: Study) -> None:
    from transformers import AutoModel

    run = run_of(study, "convolutions")
    tokens = EncodedTask(run.inputs.tokens.folder).texts("dev").batch([0, 5])
    table = AutoModel.from_pretrained(run.reader.folder).get_input_embeddings().weight.detach()
    expected = table[tokens["input_ids"]] * tokens["attention_mask"].unsqueeze(-1) / table.square().mean().sqrt()
    found = EncodedTask(run.inputs.folder).split("dev").batch([0, 5])["embeddings"].float()
    assert found.shape[1] == run.inputs.max_length and not found[:, expected.shape[1] :].any()
    assert torch.allclose(found[:, : expected.shape[1]], expected, atol=5e-3)


def test_a_distilled_text_is_told_by_the_nearest_words(study: Study) -> None:
    lines = distilled_lines(StudyResults.read(study))
    assert {line["method"] for line in lines} == {"distilled"} and [line["example"] for line in lines] == [0, 1]
    assert all(len(line["words"].split()) > 1 and line["image"] is None and len(line["answer"]) == 2 for line in lines)


def test_an_explanation_reads_as_words(study: Study) -> None:
    panels = [line for line in tree_lines(StudyResults.read(study))["tree_pictures"] if line["picture"] == "paths"]
    inner = [line for line in panels if line["method"] == "words" and line["column"] in (1, 2)]
    assert inner and any(line["words"] for line in inner)
    assert not any(word.startswith("[") for line in inner for word in line["words"].split())


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ({"learner": {"kind": "cnn"}, "weights": {"soft": 1}}, "cnn reads images"),
        ({"learner": {"kind": "mlp"}, "weights": {"soft": 1, "cls_cosine": 1}}, "weights.cls_cosine"),
        ({"learner": {"kind": "mlp"}, "weights": {"soft": 1}, "layer_map": "last"}, "layer_map"),
        ({"learner": {"kind": "soft_tree"}, "weights": {"soft": 1}}, "tree_hard or tree_soft"),
        ({"learner": {"layers": 2}, "weights": {"tree_soft": 1}}, "path_log_likelihood"),
        ({"teacher": {"of": "words"}, "weights": {"soft": 1, "cls_cosine": 1}}, "soft_tree has none"),
        ({"learner": {"layers": 2, "start": {"from": "words"}}, "weights": {"soft": 1}}, "no layers to start from"),
        ({"weights": {"soft": 1}, "augment": {"shift": 1}}, "augment.shift"),
        ({"weights": {"soft": 1}, "select": {"classes": ["no such"]}}, "no class 'no such'"),
        ({"weights": {"soft": 1}, "select": {"keep": 60, "drop_classes": ["acceptable"]}}, "of the classes chosen"),
        ({"learner": {"kind": "soft_tree", "depth": 30}, "weights": TREE}, "depth"),
    ],
)
def test_what_cannot_work_is_refused_while_planning(study: Study, method: dict, named: str) -> None:
    with pytest.raises(UserError) as refused:
        plan(methods={"odd": {"id": "9.9", **method}}, study={"methods": ["odd"]})
    assert named in str(refused.value) and "\n" not in str(refused.value)

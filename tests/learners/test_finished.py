"""A model that somebody fine-tuned gives the answers that transformers itself computes, in the task's order."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertForTokenClassification,
    BertModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaForTokenClassification,
)

from internal_kd.errors import UserError
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.finished import FinishedModel, column_order
from internal_kd.learners.weights import save_classifier
from tiny_models import tiny_batch, tiny_classifier, tiny_config

OWN = ("Contradiction", "ENTAILMENT", "not neutral-at all")
TASK = ("entailment", "not_neutral at-all", "contradiction")
ORDER = [1, 2, 0]


def saved(folder: Path, family: str = "bert", labels: tuple[str, ...] | None = OWN, outputs: int = 3) -> Path:
    model = tiny_classifier(family, labels=outputs)
    if labels:
        model.config.id2label = dict(enumerate(labels))
        model.config.label2id = {label: column for column, label in enumerate(labels)}
    save_classifier(model, folder)
    return folder


@pytest.mark.parametrize("family", list(FAMILIES))
def test_another_order_of_labels_gives_what_transformers_computes(family: str, tmp_path: Path) -> None:
    plain, batch = AutoModelForSequenceClassification.from_pretrained(saved(tmp_path, family)), tiny_batch([6, 3])
    expected = plain.eval()(**batch).logits[:, ORDER]
    network = FinishedModel().load(tmp_path, 3, labels=TASK)
    assert torch.allclose(network.read(batch)["logits", 0], expected, atol=1e-6)
    assert not network.module.training and FinishedModel().order(tmp_path, TASK) == (1, 2, 0)


def test_a_saved_copy_has_the_tasks_order_and_names(tmp_path: Path) -> None:
    network, batch = FinishedModel().load(saved(tmp_path / "own"), 3, labels=TASK), tiny_batch([6, 3])
    network.save(tmp_path / "copy")
    copy = AutoModelForSequenceClassification.from_pretrained(tmp_path / "copy").eval()
    assert copy.config.id2label == dict(enumerate(TASK))
    assert torch.allclose(copy(**batch).logits, network.read(batch)["logits", 0], atol=1e-6)
    again = FinishedModel().build(tmp_path / "copy", 3, seed=1, labels=TASK)
    assert again.read(batch)["logits", 0].equal(network.read(batch)["logits", 0])


def test_an_order_that_is_given_replaces_names(tmp_path: Path) -> None:
    plain, batch = AutoModelForSequenceClassification.from_pretrained(saved(tmp_path, labels=None)), tiny_batch([6])
    given = FinishedModel(labels=("b", "c", "a"))
    logits = given.load(tmp_path, 3, labels=("a", "b", "c")).read(batch)["logits", 0]
    assert torch.allclose(logits, plain.eval()(**batch).logits[:, [2, 0, 1]], atol=1e-6)
    assert given.identity() == {"kind": "finished", "labels": ["b", "c", "a"]}
    assert FinishedModel().identity() == {"kind": "finished"}


def test_values_have_one_output(tmp_path: Path) -> None:
    plain, batch = AutoModelForSequenceClassification.from_pretrained(saved(tmp_path, labels=None, outputs=1)), None
    batch = tiny_batch([6, 3])
    logits = FinishedModel().load(tmp_path, 1).read(batch)["logits", 0]
    assert torch.allclose(logits, plain.eval()(**batch).logits, atol=1e-6)


def test_families_without_known_layers_teach_by_logits(tmp_path: Path) -> None:
    config = GPT2Config(vocab_size=50, n_positions=20, n_embd=8, n_layer=1, n_head=2, pad_token_id=1, num_labels=2)
    config.id2label = {0: "yes", 1: "no"}
    model, batch = GPT2ForSequenceClassification(config).eval(), tiny_batch([4, 2])
    model.save_pretrained(tmp_path)
    network = FinishedModel().load(tmp_path, 2, labels=("no", "yes"))
    assert network.hands_out == {"logits"}
    assert torch.allclose(network.read(batch)["logits", 0], model(**batch).logits[:, [1, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("config", "labels", "given", "named"),
    [
        ({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}, ("no", "yes"), None, "labels: [no, yes]"),
        ({}, ("no", "yes"), None, "LABEL_0, LABEL_1"),
        ({"id2label": {"0": "bad", "1": "good"}}, ("no", "yes"), None, "bad, good"),
        ({"id2label": {"0": "bad", "1": "good"}}, ("no", "yes"), None, "no, yes"),
        ({"id2label": {"0": "no", "1": "yes", "2": "maybe"}}, ("no", "yes"), None, "no, yes, maybe"),
        ({"id2label": {"0": "no", "1": "No"}}, ("no", "yes"), None, "no, No"),
        ({"id2label": {"0": "bad", "1": "good"}}, ("no", "yes"), ("no", "yes", "maybe"), "3 classes"),
        ({"id2label": {"0": "bad", "1": "good"}}, ("no", "yes"), ("no", "no"), "no, no"),
        ({"id2label": {"0": "score"}}, ("no", "yes"), None, "one output"),
        ({"id2label": {"0": "no", "1": "yes"}}, (), None, "2 classes"),
        (
            {"id2label": {"0": "no", "1": "yes"}, "problem_type": "multi_label_classification"},
            ("no", "yes"),
            None,
            "multi_label_classification",
        ),
        ({"architectures": ["BertForMaskedLM"]}, ("no", "yes"), None, "BertForMaskedLM"),
    ],
)
def test_a_model_for_something_else_is_refused_in_one_line(config, labels, given, named: str) -> None:
    with pytest.raises(UserError) as error:
        column_order(config, labels, given, "models/ours")
    assert named in str(error.value) and "\n" not in str(error.value)


def test_labels_that_differ_by_case_alone_are_matched_exactly() -> None:
    assert column_order({"id2label": {"0": "us", "1": "US"}}, ("US", "us"), None, "models/ours") == (1, 0)
    assert column_order({"id2label": {"0": "LABEL_1", "1": "LABEL_0"}}, ("LABEL_0", "LABEL_1"), None, "m") == (1, 0)


@pytest.mark.parametrize(
    "kind", [BertModel, BertForMaskedLM, BertForTokenClassification, RobertaForTokenClassification]
)
def test_a_folder_without_a_fine_tuned_head_is_refused_whatever_its_config_says(kind: type, tmp_path: Path) -> None:
    kind(tiny_config("roberta" if "Roberta" in kind.__name__ else "bert")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": None}))
    with pytest.raises(UserError, match="is not a fine-tuned classifier"):
        FinishedModel(labels=("a", "b")).load(tmp_path, 2, labels=("a", "b"))

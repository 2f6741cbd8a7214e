"""docs/notebook.ipynb runs from top to bottom; here with a tiny random encoder and a few examples."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
)

from docs.pages import ROOT
from internal_kd import Distiller, compare, student_of
from internal_kd.errors import UserError
from internal_kd.tasks.metrics import score
from tiny_models import PAD, VOCABULARY, tiny_classifier

CELLS = [
    cell for cell in json.loads((ROOT / "docs/notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    if cell["cell_type"] == "code"
]  # fmt: skip


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A tiny encoder with a tokenizer of single letters."""
    words = {chr(97 + n - 2) if n >= 2 else f"[{n}]": n for n in range(28)} | {
        f"w{n}": n for n in range(28, VOCABULARY)
    }
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[0]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    folder = tmp_path / "encoder"
    tiny_classifier(layers=4).save_pretrained(folder)
    pad = next(word for word, number in words.items() if number == PAD)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[0]", pad_token=pad).save_pretrained(folder)
    return folder


def test_the_notebook_runs(encoder: Path, project: Path) -> None:
    names: dict[str, Any] = {}
    for cell in CELLS:
        exec(cell["source"], names)
        if "parameters" in cell["metadata"].get("tags", ()):
            names |= {"encoder": encoder, "layers": 2, "epochs": 3, "seeds": (1, 2), "train_size": 32, "dev_size": 16}
    assert [len(result.history) for _, result in names["stacked"]] == [3, 3]
    assert (project / "student/model.safetensors").is_file() and names["student"].config.num_hidden_layers == 2


def test_too_few_epochs_for_a_curriculum_are_a_warning(encoder: Path) -> None:
    tokenizer, teacher = AutoTokenizer.from_pretrained(encoder), tiny_classifier(layers=4)
    rows = [{"sentence1": "a b c", "sentence2": "d", "label": number % 2} for number in range(6)]
    kd = Distiller(teacher, student_of(teacher, layers=4), method="stacked", epochs_per_layer=1)
    with pytest.warns(UserWarning, match="give more than 4"):
        result = kd.train(
            rows, rows, tokenizer=tokenizer, text=("sentence1", "sentence2"), label="label", epochs=3, batch_size=4
        )
    assert [epoch["stage"] for epoch in result.history] == ["layer 1", "layers 1-2", "layers 1-3"]
    assert set(result.scores) == {"accuracy", "f1"} and result.predictions.shape == (6,)


def test_a_trained_student_is_ready_to_use(encoder: Path) -> None:
    tokenizer, student = AutoTokenizer.from_pretrained(encoder), tiny_classifier(layers=1)
    rows = {"text": ["a b", "c", "d e f"], "label": [0, 1, 0]}
    kd = Distiller(None, student, method="finetuned")
    result = kd.train(rows, rows, tokenizer=tokenizer, epochs=1, precision="fp32")
    with torch.no_grad():
        found = [student(**tokenizer(text, return_tensors="pt")).logits[0] for text in rows["text"]]
    assert torch.stack(found).numpy() == pytest.approx(result.logits, abs=1e-5)


def test_a_list_of_layers_is_a_depth() -> None:
    teacher = tiny_classifier(layers=4)
    student = student_of(teacher, take=[1, 4])
    for layer, source in zip(student.bert.encoder.layer, (0, 3), strict=True):
        expected = teacher.bert.encoder.layer[source].output.dense.weight
        assert torch.equal(layer.output.dense.weight, expected)


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, None, 1],
        [0.0, 1.0, float("nan"), 1.0],
        [False, True, None, True],
        [np.float32(0), np.int64(1), np.float32("nan"), np.bool_(True)],
        [torch.tensor(0), torch.tensor(1.0), torch.tensor(-1), 1],
        pd.array([0, 1, None, 1], dtype="Int64"),
    ],
)
def test_a_class_is_its_number_however_a_table_holds_it(encoder: Path, labels: Any) -> None:
    rows = {"text": ["a", "b", "c", "d"], "label": labels}
    kd = Distiller(None, tiny_classifier(layers=1), method="finetuned")
    result = kd.train(rows, rows, tokenizer=AutoTokenizer.from_pretrained(encoder), epochs=1, metrics="accuracy")
    assert result.labels.tolist() == [0, 1, -1, 1] and set(result.scores) == {"accuracy"}


NAMES = ("O", "B-ORG", "B-PER", "I-ORG", "I-PER")  # in an order of their own


def tagger(encoder: Path, **settings: Any) -> BertForTokenClassification:
    config = BertConfig.from_pretrained(encoder, num_labels=len(NAMES), **settings)
    config.id2label = dict(enumerate(NAMES))
    torch.manual_seed(0)
    return BertForTokenClassification(config)


def test_a_tagger_learns_in_a_notebook_as_a_classifier_does(encoder: Path) -> None:
    tokenizer, teacher = AutoTokenizer.from_pretrained(encoder), tagger(encoder)
    rows = [{"tokens": list("abcde"), "tags": ["B-PER", "I-PER", "O", "O", "B-ORG"]},
            {"tokens": list("fg" * 20), "tags": ["O"] * 39 + ["B-PER"]}] * 8  # fmt: skip
    fine = Distiller(None, teacher, method="finetuned").train(
        rows, rows, tokenizer=tokenizer, text="tokens", label="tags", max_length=16, epochs=40, learning_rate=5e-3
    )
    assert fine.predictions.shape == fine.labels.shape == (16, 40) and fine.logits.shape == (8 * 45, 5)
    canonical = ["O", "B-ORG", "I-ORG", "B-PER", "I-PER"]
    assert [canonical[tag] for tag in fine.labels[0][:5]] == rows[0]["tags"] and fine.labels[0][5] == -1
    assert fine.scores["span_f1"] == pytest.approx(score(fine.labels, fine.predictions, "span_f1", 5))
    assert fine.scores["span_f1"] > 0.9
    student = student_of(teacher, layers=2)
    kd = Distiller(teacher, student, weights={"soft": 1, "attention_kl": 1, "hidden_mse": 1})
    spans = [{"text": "a b c", "entities": [{"text": "a b", "type": "PER"}]}, {"text": "c d", "entities": None}]
    result = kd.train(spans, spans, tokenizer=tokenizer, label="entities", max_length=16, epochs=2)
    assert {"soft", "attention_kl", "hidden_mse", "dev_span_f1"} <= set(result.history[-1])
    assert result.labels.tolist() == [[3, 4, 0], [-1, -1, -1]] and result.predictions[1][2] == -1
    compared = compare(fine.labels, [fine.predictions], [fine.predictions], metric="span_f1")
    assert compared.difference == 0


@pytest.mark.parametrize(
    ("row", "names"),
    [
        ({"tokens": ["a"], "tags": ["B-PER", "O"]}, "row 0.* tokens and tags differ in number"),
        ({"tokens": ["a"], "tags": ["B-XYZ"]}, "row 0.* unknown type"),
        ({"tokens": ["a"], "tags": "B-PER"}, "not a list of tags"),
    ],
)
def test_wrong_tags_are_one_line(encoder: Path, row: dict[str, Any], names: str) -> None:
    kd = Distiller(None, tagger(encoder), method="finetuned")
    with pytest.raises(UserError, match=names):
        kd.train([row], [row], tokenizer=AutoTokenizer.from_pretrained(encoder), text="tokens", label="tags")


def test_a_tagger_without_names_of_tags_is_refused(encoder: Path) -> None:
    with pytest.raises(UserError, match=r"LABEL_0.*id2label"):
        Distiller(None, BertForTokenClassification(BertConfig.from_pretrained(encoder)), method="finetuned")
    with pytest.raises(UserError, match="classes and the student's tags"):
        Distiller(tiny_classifier(labels=5), tagger(encoder), method="soft")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"method": "soft", "epochs": 3}, ["'epochs'", "temperature"]),
        ({"method": "soft", "learner": {"layers": 3}}, ["'learner'"]),
        ({"method": "soft", "temprature": 3}, ["'temperature'?"]),
        ({"weights": {"soft": 1}, "curriculum": "stacked"}, ["curriculum", "'stacked'", "no layer term"]),
        ({"weights": {"soft": 1, "attention_kl": 1}, "curriculum": "stakked"}, ["curriculum", "'stacked'?"]),
        ({"weights": {"hidden_mse": 1}}, ["weights", "no term reads the classes"]),
        ({"weights": {"soft": 0}}, ["weights", "above 0"]),
        ({"weights": ["soft"]}, ["weights", "should be"]),
        ({"method": "sof"}, ["'soft'?"]),
        ({"weights": {"soft": 1}, "options": {"sofft": {}}}, ["'soft'?"]),
        ({"weights": {"soft": 1}, "options": {"rkd": {"zz": 1}}}, ["options.rkd", "'zz'"]),
        ({"weights": {"soft": 1}, "curriculum": {"phases": [{"epochs": 1, "terms": ["hard"]}]}}, ["phase 1", "'hard'"]),
        ({"method": "soft", "teacher": None}, ["teacher", "none is named"]),
        ({"method": "soft", "teacher": "bert"}, ["teacher", "'bert'"]),
        ({"method": "soft", "student": None}, ["student", "None"]),
        ({"method": "soft", "student": tiny_classifier(layers=1).bert}, ["student", "BertModel"]),
    ],
)
def test_a_distiller_that_cannot_work_is_refused_at_the_door(given: dict[str, Any], words: list[str]) -> None:
    models = {"teacher": tiny_classifier(layers=1), "student": tiny_classifier(layers=1)}
    with pytest.raises(UserError) as refused:
        Distiller(**{**models, **given})
    assert all(word in str(refused.value) for word in words), refused.value


ROWS = [{"text": "a b", "label": 1}, {"text": "c", "label": 0}]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temperature": 9}, ["'temperature'", "learning_rate"]),
        ({"weights": {"hard": 1}}, ["'weights'"]),
        ({"seed": None}, ["seed", "None"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"metrics": "acuracy"}, ["'accuracy'?"]),
        ({"metrics": ["pearson"]}, ["'pearson'", "classes"]),
        *(({"max_length": wrong}, ["max_length"]) for wrong in (-5, 0, 2, "many")),
        ({"max_length": 71}, ["max_length", "71", "70 positions"]),
        ({"tokenizer": None}, ["tokenizer", "None"]),
        ({"tokenizer": "bert"}, ["tokenizer", "'bert'"]),
        ({"train": None}, ["train", "None"]),
        ({"dev": "dev.csv"}, ["dev", "'dev.csv'"]),
        ({"train": (row for row in ROWS)}, ["train", "generator"]),
        ({"train": []}, ["train", "no examples"]),
        ({"dev": {"text": [], "label": []}}, ["dev", "no examples"]),
        ({"train": {"text": ["a", "b"], "label": [0]}}, ["train", "'text' has 2 rows", "'label' has 1"]),
        ({"train": [*ROWS, None]}, ["train", "row 2", "None"]),
        ({"train": [*ROWS, {"text": "a"}]}, ["train", "row 2", "'label' is missing"]),
        ({"train": [*ROWS, {"text": "a", "label": [0]}]}, ["train", "row 2", "[0]"]),
        ({"dev": [{"text": "a", "label": None}]}, ["dev", "no example has a label"]),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_computed(
    encoder: Path, given: dict[str, Any], words: list[str]
) -> None:
    usual = {"train": ROWS, "dev": ROWS, "tokenizer": AutoTokenizer.from_pretrained(encoder)}
    with pytest.raises(UserError) as refused:
        Distiller(None, tiny_classifier(layers=1), method="finetuned").train(**{**usual, **given})
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_tokenizer_of_another_model_is_refused(encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    tokenizer.add_tokens(["beyond"])
    with pytest.raises(UserError, match=f"train: tokenizer.*id {VOCABULARY}"):
        Distiller(None, tiny_classifier(layers=1), method="finetuned").train(
            [*ROWS, {"text": "beyond", "label": 0}], ROWS, tokenizer=tokenizer
        )


def decoder() -> GPT2ForSequenceClassification:
    config = GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9, bos_token_id=0, eos_token_id=0)
    return GPT2ForSequenceClassification(config)


@pytest.mark.parametrize(
    ("teacher", "given", "words"),
    [
        (None, {}, ["teacher", "None"]),
        ("bert", {}, ["teacher", "'bert'"]),
        (decoder, {}, ["'gpt2'", "not supported"]),
        (tiny_classifier, {"take": None}, ["start.layers"]),
        (tiny_classifier, {"take": []}, ["layers"]),
        *((tiny_classifier, {"seed": seed}, ["seed", repr(seed)]) for seed in ("a", None, -1, 1.5, True)),
    ],
)
def test_a_student_that_cannot_be_cut_out_is_refused(teacher: Any, given: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        student_of(teacher() if callable(teacher) else teacher, **given)
    assert all(word in str(refused.value) for word in words), refused.value


# What `pip install .` does not bring.
OF_THE_PIPELINE = ("snakemake", "dvc", "mlflow", "datasets", "pandas", "pyarrow", "matplotlib", "PIL", "sklearn")
SCRIPT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[2].split()))
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer
from internal_kd import Distiller, compare, student_of
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
rows = [{"text": "a b c", "words": ["a", "b"], "label": n % 2, "tags": ["B-PER", "O"]} for n in range(8)]
for kind, column, target in (
    (AutoModelForSequenceClassification, "text", "label"), (AutoModelForTokenClassification, "words", "tags")
):
    teacher = kind.from_pretrained(sys.argv[1], num_labels=3, ignore_mismatched_sizes=True)
    teacher.config.id2label = {0: "O", 1: "B-PER", 2: "I-PER"}
    kd = Distiller(teacher, student_of(teacher, layers=2), weights={"soft": 1, "hidden_mse": 1})
    found = kd.train(rows, rows, tokenizer=tokenizer, text=column, label=target, max_length=8, epochs=1)
    both = [found.predictions] * 2
    assert compare(found.labels, both, both, metric=next(iter(found.scores))).difference == 0
"""


def test_a_notebook_needs_nothing_of_the_pipeline(encoder: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(encoder), " ".join(OF_THE_PIPELINE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_notebook_is_kept_without_outputs() -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CELLS)


def test_its_parameters_can_be_replaced() -> None:
    assert [number for number, cell in enumerate(CELLS) if "parameters" in cell["metadata"].get("tags", ())] == [0]

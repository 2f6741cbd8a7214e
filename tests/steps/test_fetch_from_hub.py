"""Data and encoders from the hub, against a server on the loopback that answers as the hub does."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.numpy import save

from hub_server import REVISION, hanging_up, run_step, serving
from internal_kd.params import merge, read_yaml

PARAMS = read_yaml(Path(__file__).parents[2] / "params.yaml")
DATA = {"repository": "nyu-mll/glue", "revision": REVISION}
ENCODER = {"name": "tiny", "source": "hub", "id": "google-bert/tiny", "revision": REVISION, "layers": 2}
NOBODY = "http://127.0.0.1:9"


def parquet(columns: dict[str, list[Any]], names: list[str]) -> bytes:
    """A Parquet file as the hub has it, with the class names in its metadata."""
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def pairs(columns: tuple[str, str], labels: list[int], names: list[str]) -> bytes:
    rows = range(len(labels))
    texts = {column: [f"{column} number {row}" for row in rows] for column in columns}
    return parquet({**texts, "label": labels, "idx": [100 + row for row in rows]}, names)


def glue() -> dict[str, bytes]:
    """A few rows of three tasks in the layout of nyu-mll/glue."""
    entailment = ["entailment", "not_entailment"]
    three = ["entailment", "neutral", "contradiction"]
    both, cola = ("premise", "hypothesis"), ["unacceptable", "acceptable"]
    files = {}
    for split, labels in (("train", [0, 1, 1, 0]), ("validation", [1, 0]), ("test", [-1, -1])):
        end = f"{split}-00000-of-00001.parquet"
        files[f"rte/{end}"] = pairs(("sentence1", "sentence2"), labels, entailment)
        texts = [f"Sentence {row}." for row in range(len(labels))]
        files[f"cola/{end}"] = parquet({"sentence": texts, "label": labels, "idx": list(range(len(labels)))}, cola)
    for split in ("train", "validation_matched", "validation_mismatched", "test_matched", "test_mismatched"):
        labels = [-1, -1, -1] if split.startswith("test") else [0, 1, 2]
        files[f"mnli/{split}-00000-of-00001.parquet"] = pairs(both, labels, three)
    return {"README.md": b"# GLUE", **files}


def encoder_files() -> dict[str, bytes]:
    """An encoder in the hub's layout, with other files that must not be taken."""
    config = {"model_type": "bert", "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "vocab_size": 4}
    return {
        "README.md": b"# tiny",
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save({"bert.embeddings.word_embeddings.weight": np.zeros((4, 8), np.float32)}),
        "pytorch_model.bin": b"pickled",
        "tokenizer.json": b"{}",
        "vocab.txt": b"[PAD]\n[UNK]\n",
        "onnx/model.safetensors": b"another",
    }


def write_params(project: Path, task: str = "rte", **changes: Any) -> None:
    study = {"tasks": [task], "methods": ["soft"], "seeds": [1]}
    small = {"study": study, "defaults": {"learner": {"layers": 2}, "max_length": 64}, "data": DATA}
    values = merge(merge(PARAMS, small), changes) | {"tasks": {task: None}, "encoder": changes.get("encoder", ENCODER)}
    (project / "params.yaml").write_text(yaml.safe_dump(values))


def served() -> Any:
    return serving({"datasets/nyu-mll/glue": glue(), "models/google-bert/tiny": encoder_files()})


def manifest(project: Path, folder: str) -> dict[str, Any]:
    return json.loads((project / folder / "manifest.json").read_text())


@pytest.mark.parametrize(
    ("task", "splits", "labels"),
    [
        ("rte", ["train", "dev", "test"], [0, 1, 1, 0]),
        ("cola", ["train", "dev", "test"], [0, 1, 1, 0]),
        ("mnli", ["train", "dev", "dev_mismatched", "test", "test_mismatched"], [0, 1, 2]),
    ],
)
def test_a_glue_task_comes_from_the_hub_at_first_try(
    project: Path, task: str, splits: list[str], labels: list[int]
) -> None:
    write_params(project, task)
    with served() as hub:
        folder, refusal = run_step("fetch_task", project, hub.endpoint)
    assert refusal == ""
    written = manifest(project, folder)
    assert list(written["splits"]) == splits
    assert written["task"]["source"] == f"nyu-mll/glue@{REVISION}"
    train = pq.read_table(project / folder / "train.parquet")
    assert train["label"].to_pylist() == labels
    assert set(pq.read_table(project / folder / "test.parquet")["label"].to_pylist()) == {-1}
    other_tasks = [line for line in hub.asked if "/resolve/" in line and f"/{task}/" not in line]
    assert other_tasks == []


def test_only_the_files_of_an_encoder_are_taken(project: Path) -> None:
    write_params(project)
    with served() as hub:
        folder, refusal = run_step("fetch_encoder", project, hub.endpoint)
    assert refusal == ""
    names = {path.name for path in (project / folder).iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "manifest.json"}
    assert not (project / folder / "model.safetensors").is_symlink()
    assert manifest(project, folder)["layers"] == 2


def test_what_was_fetched_once_needs_no_hub_again(project: Path) -> None:
    write_params(project)
    with served() as hub:
        folder, _ = run_step("fetch_task", project, hub.endpoint)
    (project / folder / "manifest.json").unlink()
    assert run_step("fetch_task", project, hub.endpoint) == (folder, "")
    (project / folder / "manifest.json").unlink()
    assert run_step("fetch_task", project, NOBODY, HF_HUB_OFFLINE="1") == (folder, "")


@pytest.mark.parametrize(
    ("verb", "names", "way_out"),
    [
        ("fetch_task", f"data set nyu-mll/glue at {REVISION}", "data.root"),
        ("fetch_encoder", "google-bert/tiny", "encoder.path"),
    ],
)
def test_a_dead_hub_is_asked_once_and_is_one_line_with_the_way_out(
    project: Path, verb: str, names: str, way_out: str
) -> None:
    write_params(project)
    with hanging_up() as hub:
        folder, refusal = run_step(verb, project, hub.endpoint)
    assert hub.asked == ["HEAD /"]  # the hub's own client tries again for 23 seconds
    assert folder == "" and names in refusal and way_out in refusal and hub.endpoint in refusal
    assert not list((project).glob("data/*/*"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"revision": "f" * 40}, "no such revision"),
        ({"repository": "nyu-mll/glu"}, "no such repository"),
    ],
)
def test_a_wrong_pin_is_one_line(project: Path, data: dict[str, str], said: str) -> None:
    write_params(project, data=DATA | data)
    with served() as hub:
        assert said in run_step("fetch_task", project, hub.endpoint)[1]


@pytest.mark.parametrize("fault", ["other bytes", "too short"])
def test_a_damaged_download_is_refused_and_starting_again_downloads_it(project: Path, fault: str) -> None:
    write_params(project)
    with served() as hub:
        hub.faults["rte/train-00000-of-00001.parquet"] = fault
        folder, refusal = run_step("fetch_task", project, hub.endpoint)
        assert folder == "" and "data set nyu-mll/glue" in refusal and "start again" in refusal
        hub.faults.clear()
        assert run_step("fetch_task", project, hub.endpoint)[1] == ""


def test_pickled_weights_alone_are_refused(project: Path) -> None:
    write_params(project)
    files = {name: content for name, content in encoder_files().items() if not name.endswith(".safetensors")}
    with serving({"models/google-bert/tiny": files}) as hub:
        refusal = run_step("fetch_encoder", project, hub.endpoint)[1]
    assert "has no model.safetensors" in refusal and "pickled" in refusal


def test_a_wrong_vocabulary_is_refused_with_both_checksums(project: Path) -> None:
    write_params(project, encoder=ENCODER | {"vocab_sha256": "0" * 64})
    with served() as hub:
        refusal = run_step("fetch_encoder", project, hub.endpoint)[1]
    assert "vocab.txt has sha256" in refusal and "instead of 000" in refusal


def test_labels_in_another_order_are_refused(project: Path) -> None:
    write_params(project)
    files = glue() | {
        "rte/train-00000-of-00001.parquet": pairs(("sentence1", "sentence2"), [0, 1], ["not_entailment", "entailment"])
    }
    with serving({"datasets/nyu-mll/glue": files}) as hub:
        assert "orders its labels not_entailment, entailment" in run_step("fetch_task", project, hub.endpoint)[1]


def real_encoder(folder: Path) -> dict[str, bytes]:
    """A tiny random BERT as the hub has BERT: keys under ``bert.`` with a masked-language head, and its tokenizer."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "sentence", "number", "0", "1", "2", "3", "##1", "##2"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 8, "intermediate_size": 8}
    BertForMaskedLM(BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)).save_pretrained(folder)
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_from_the_hub_to_inputs_and_a_model_with_no_hub_but_for_fetching(project: Path, tmp_path_factory: Any) -> None:
    from transformers import AutoModelForSequenceClassification

    from internal_kd.data.inputs import EncodedTask

    write_params(project)
    saved = real_encoder(tmp_path_factory.mktemp("saved"))
    with serving({"datasets/nyu-mll/glue": glue(), "models/google-bert/tiny": saved}) as hub:
        encoder, refusal = run_step("fetch_encoder", project, hub.endpoint)
        assert refusal == "" and run_step("fetch_task", project, hub.endpoint)[1] == ""
        asked = len(hub.asked)
        inputs, refusal = run_step("encode_task", project, hub.endpoint)
        assert refusal == ""
        model = AutoModelForSequenceClassification.from_pretrained(project / encoder, local_files_only=True)
        assert len(hub.asked) == asked
    batch = EncodedTask(project / inputs).split("train").batch([0, 3])
    assert batch["idx"].tolist() == [100, 103] and batch["token_type_ids"].max() == 1
    assert model(**{name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}).logits.shape == (
        2,
        2,
    )


def sentences(*rows: tuple[str, list[int]]) -> bytes:
    """Sentences in the layout of conll2003 and wnut_17: lists of words and of numbers that the features name."""
    names = ["O", "B-person", "I-person", "B-location", "I-location"]
    features = {
        "tokens": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "Sequence"},
        "ner_tags": {"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"},
    }
    columns = {"id": [str(row) for row in range(len(rows))], "tokens": [words.split() for words, _ in rows],
               "ner_tags": [tags for _, tags in rows]}  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


TAGGED = {
    "data/train-00000-of-00001.parquet": sentences(("Ada Lovelace wrote", [1, 2, 0]), ("Rome fell", [3, 0])),
    "data/validation-00000-of-00001.parquet": sentences(("Ada saw Rome", [1, 0, 3])),
    "README.md": b"# Entities",
}
ENTITIES = {
    "source": "files", "kind": "tags", "repository": "somebody/entities", "revision": REVISION,
    "train": "data/train-00000-of-00001.parquet", "dev": "data/validation-00000-of-00001.parquet",
    "text": ["tokens"], "label": "ner_tags",
}  # fmt: skip


def test_tagged_sentences_come_from_the_hub_with_the_names_of_their_numbers(project: Path) -> None:
    write_params(project)
    params = yaml.safe_load((project / "params.yaml").read_text())
    (project / "params.yaml").write_text(yaml.safe_dump(params | {"tasks": {"rte": ENTITIES}}))
    with serving({"datasets/somebody/entities": TAGGED}) as hub:
        folder, refusal = run_step("fetch_task", project, hub.endpoint)
        assert refusal == "" and not any("README" in line for line in hub.asked if "resolve" in line)
        wrong = {**ENTITIES, "dev": "data/dev.parquet"}
        (project / "params.yaml").write_text(yaml.safe_dump(params | {"tasks": {"rte": wrong}}))
        assert (
            "somebody/entities" in (said := run_step("fetch_task", project, hub.endpoint)[1]) and "dev.parquet" in said
        )
    facts = manifest(project, folder)["task"]
    assert facts["labels"] == ["O", "B-location", "I-location", "B-person", "I-person"]
    assert facts["source"] == f"somebody/entities@{REVISION}"
    assert pq.read_table(project / folder / "train.parquet")["label"].to_pylist() == [[3, 4, 0], [1, 0]]

"""An exported model is what was scored, opens without any code of ours, and states what it is."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from exported_study import Exported

from internal_kd.checksums import Damaged
from internal_kd.data.examples import read_task
from internal_kd.data.inputs import EncodedTask
from internal_kd.errors import UserError
from internal_kd.export.export import export_students
from internal_kd.export.folders import export_path
from internal_kd.export.onnx import missing_packages, open_onnx
from internal_kd.params import load_params
from internal_kd.plan.store import read_record
from internal_kd.plan.study import plan_study
from trained_study import ROWS, Trained, make, plan_trained, run_of

needs_onnx = pytest.mark.skipif(bool(missing_packages()), reason="pip install '.[export]'")
TASKS = ("judge", "rte")


def recorded(exported: Exported, task: str) -> tuple[np.ndarray, np.ndarray]:
    """The dev labels and the logits that were recorded after the training, by example id."""
    frame = pd.read_parquet(exported.run(task).folder / "predictions.parquet").sort_values("idx")
    return frame["label"].to_numpy(), frame[["logit_0", "logit_1"]].to_numpy()


def texts_of(exported: Exported, task: str) -> list[Any]:
    dev = read_task(exported.study.tasks[task].data).frame("dev").sort_values("idx")
    if "text_b" not in dev:
        return dev["text_a"].tolist()
    return [{"text": a, "text_pair": b} for a, b in zip(dev["text_a"], dev["text_b"], strict=True)]


@pytest.mark.parametrize("task", TASKS)
def test_a_plain_pipeline_gives_the_classes_that_were_scored(exported: Exported, task: str) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(exported.path(task)), truncation=True)
    labels = read_task(exported.study.tasks[task].data).info.labels
    gold, logits = recorded(exported, task)
    answered = np.array([labels.index(answer["label"]) for answer in classify(texts_of(exported, task))])
    assert (answered == logits.argmax(axis=1)).all()
    assert (answered == gold).mean() == pytest.approx(read_record(exported.run(task))["scores"]["accuracy"])


@pytest.mark.parametrize("task", TASKS)
def test_the_folder_gives_the_recorded_logits_through_its_own_tokenizer(exported: Exported, task: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(exported.path(task)).eval()
    tokenizer = AutoTokenizer.from_pretrained(exported.path(task))
    assert tokenizer.model_max_length == 24
    texts = texts_of(exported, task)
    pairs = [(text["text"], text["text_pair"]) for text in texts] if task == "rte" else texts
    batch = tokenizer(pairs, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits.numpy()
    assert np.abs(logits - recorded(exported, task)[1]).max() < 1e-4
    assert exported.record(task)["as_predicted"]["same"] == 1.0


def test_the_folder_has_nothing_of_this_machine_and_others_may_read_it(exported: Exported) -> None:
    files = {path.name: path for path in exported.path("judge").iterdir()}
    assert set(files) == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name, path in files.items():
        assert name == "model.safetensors" or str(exported.folder) not in path.read_text()
    mask = os.umask(0)
    os.umask(mask)
    for path in exported.path("judge", "").rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask, path


@needs_onnx
def test_projections_are_not_exported_and_cheap_blocks_are_multiplied_out(trained_copy: Trained, monkeypatch) -> None:
    from transformers import AutoModelForSequenceClassification

    monkeypatch.setattr("internal_kd.export.export.SECONDS", 0.0)
    (path,) = export_students(trained_copy.study, task="judge", method="narrow", say=lambda line: None)
    model, info = AutoModelForSequenceClassification.from_pretrained(path.parent / "model", output_loading_info=True)
    assert not any(info.values()), "no weight too many or too few"
    assert model.config.hidden_size == 16
    # That the folder answers as its run did, and the graph as the folder, the export itself requires.
    assert "multiplied out" in (path.parent / "model/README.md").read_text()
    assert json.loads(path.read_text())["onnx"] is not None


@needs_onnx
def test_a_sub_network_is_scored_without_training_exported_and_started_from(trained_copy: Trained, monkeypatch) -> None:
    monkeypatch.setattr("internal_kd.export.export.SECONDS", 0.0)
    methods = {
        "wide": {"id": "5.0", "learner": {"kind": "adaptive", "widths": [1, 0.5], "depths": [1, 0.5]},
                 "weights": {"soft": 1, "hidden_mse": 1}, "epochs": 1},
        "part": {"id": "5.1", "learner": {"kind": "subnetwork", "of": "wide", "width": 0.5, "depth": 0.5}},
        "tuned": {"id": "5.2", "learner": {"layers": "all", "kept_heads": 2, "start": "part"}, "weights": {"hard": 1},
                  "epochs": 1},
    }  # fmt: skip
    study = plan_trained(study={"methods": [*methods], "tasks": ["judge"], "seeds": [1]}, methods=methods)
    for run in study.runs:
        make(run)
    whole, part, tuned = (read_record(run_of(study, "judge", name)) for name in methods)
    assert part["epochs"] == 0 and part["scores"]["accuracy"] is not None
    assert part["encoder_parameters"] == tuned["encoder_parameters"] < whole["encoder_parameters"] / 2
    # That the folder answers as the run was scored, and the graph as the folder, the export itself requires.
    (path,) = export_students(study, task="judge", method="part", say=lambda line: None)
    card = (path.parent / "model/README.md").read_text()
    assert "width 0.5 and depth 0.5 of 5.0 wide" in card and "distilled from" in card and "soft × 1" in card


@pytest.mark.parametrize("method", ["teacher", "soft"])
def test_an_exported_folder_teaches_again_and_scores_the_same(trained_copy: Trained, method: str, quick: None) -> None:
    (path,) = export_students(
        trained_copy.study, task="rte", method=method, to=Path("models/ours"), say=lambda line: None
    )
    assert path == Path("models/ours/export.json") and not export_path(trained_copy.study, "rte").exists()
    again = {"folder": "models/ours/model", "weak": "accept"}
    methods = {"from_folder": {"id": "5.0", "teacher": again, "weights": {"soft": 1}, "seeds": [1], "epochs": 1}}
    study = plan_trained(study={"methods": ["from_folder"], "tasks": ["rte"]}, methods=methods)
    (theirs,) = (run for run in study.runs if run.method.learner.kind == "finished")
    make(theirs)
    ours = trained_copy.study.by_fingerprint[json.loads(path.read_text())["run"]["fingerprint"]]
    assert read_record(theirs)["scores"] == read_record(ours)["scores"]
    one, other = (pd.read_parquet(run.folder / "predictions.parquet") for run in (theirs, ours))
    assert np.abs(one.to_numpy() - other.to_numpy()).max() < 1e-4


@needs_onnx
@pytest.mark.parametrize("task", TASKS)
def test_onnx_answers_as_torch_at_any_batch_and_length(exported: Exported, task: str) -> None:
    import onnx
    import onnxruntime

    facts = exported.record(task)
    against = facts["onnx"]["against_torch"]
    assert against["examples"] == ROWS["dev"] and against["largest"] < 1e-4 and against["same"] == 1.0
    assert facts["dev_scores"]["ONNX fp32"] == facts["dev_scores"]["torch fp32"]
    weights = onnx.load(exported.path(task, "onnx/model-int8.onnx")).graph.initializer
    assert sum(weight.data_type == onnx.TensorProto.INT8 for weight in weights) > 10
    session = onnxruntime.InferenceSession(exported.path(task, "onnx/model.onnx"))
    assert {given.name for given in session.get_inputs()} == {"input_ids", "attention_mask", "token_type_ids"}
    for shape in ((1, 3), (5, 17)):
        inputs = {given.name: np.ones(shape, dtype=np.int64) for given in session.get_inputs()}
        assert session.run(["logits"], inputs)[0].shape == (shape[0], 2)


@needs_onnx
@pytest.mark.parametrize("task", TASKS)
def test_how_far_the_int8_graph_is_from_torch_is_recorded(exported: Exported, task: str) -> None:
    from internal_kd.distillation.hardware import choose_hardware
    from internal_kd.distillation.predicting import predict_logits

    against = exported.record(task)["onnx"]["int8_against_torch"]
    dev = EncodedTask.of(exported.run(task).inputs).split("dev")
    graph = open_onnx(exported.path(task, "onnx/model-int8.onnx"), threads=1)
    found = predict_logits(graph.caller(), dev, choose_hardware("fp32"), batch_size=32)  # type: ignore[arg-type]
    logits = recorded(exported, task)[1][np.argsort(np.argsort(dev.idx))]
    assert against["largest"] == pytest.approx(np.abs(found - logits).max(), rel=1e-2)
    assert against["same"] == (found.argmax(axis=1) == logits.argmax(axis=1)).mean()
    # 8 bits move these logits by about 0.05; a ruined layer by far more.
    assert against["largest"] < 0.25 and against["same"] >= 0.75


@needs_onnx
def test_teacher_student_and_graphs_are_timed_in_turns(exported: Exported) -> None:
    latency = exported.record("judge")["latency"]
    names = ["teacher, torch fp32", "torch fp32", "ONNX fp32", "ONNX int8"]
    assert [(line["contestant"], line["batch"]) for line in latency["lines"]] == [
        (n, b) for b in (1, 32) for n in names
    ]
    assert latency["threads"] == 1 and "onnxruntime" in latency["versions"] and latency["machine"]


def test_the_parameters_beside_it_plan_the_same_runs(exported: Exported) -> None:
    again = plan_study(load_params(exported.path("rte", "params.yaml")))
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in exported.study.runs]


def test_glues_test_set_is_predicted_in_glues_file(exported: Exported) -> None:
    text = exported.path("rte", "submission/RTE.tsv").read_text()
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["index", "prediction"] and [line[0] for line in lines[1:]] == [str(k) for k in range(30)]
    assert {line[1] for line in lines[1:]} <= {"entailment", "not_entailment"}
    assert not exported.path("judge", "submission").exists()
    with zipfile.ZipFile(exported.study.folder / "export/submission.zip") as archive:
        assert archive.namelist() == ["RTE.tsv"] and archive.read("RTE.tsv").decode() == text


def test_token_ids_are_made_again_if_they_are_not_here(exported_copy: Exported) -> None:
    before = exported_copy.path("rte", "submission/RTE.tsv").read_text()
    shutil.rmtree("work")
    shutil.rmtree(exported_copy.study.folder / "export")
    export_students(exported_copy.study, task="rte", say=lambda line: None)
    assert exported_copy.path("rte", "submission/RTE.tsv").read_text() == before
    assert not export_path(exported_copy.study, "judge").exists()


def test_damaged_weights_are_not_exported(trained_copy: Trained, quick: None) -> None:
    run = trained_copy.run("judge", "soft")
    weights = run.folder / "model/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 0x40
    weights.unlink()  # a hard link
    weights.write_bytes(data)
    with pytest.raises(Damaged, match=str(run.folder)):
        export_students(trained_copy.study, task="judge", run=run.fingerprint, say=lambda line: None)
    assert not export_path(trained_copy.study, "judge").exists()


def test_weights_that_are_not_those_of_the_predictions_are_not_exported(
    trained_copy: Trained, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, other = trained_copy.run("judge", "soft"), trained_copy.run("judge", "soft", 2)
    monkeypatch.setattr("internal_kd.export.model_folder.verified_folder", lambda *_: other.folder / "model")
    with pytest.raises(UserError, match=f"{run.folder}: its weights give other logits than its predictions"):
        export_students(trained_copy.study, task="judge", run=run.fingerprint, say=lambda line: None)


def test_one_task_whose_metric_is_undefined_does_not_stop_the_others(trained_copy: Trained, quick: None) -> None:
    rows = "".join(f'a text,{value}\n"more of it, longer",{value + 1}\n' for value in range(10))
    Path("train.csv").write_text(f"text,label\n{rows}")
    Path("dev.csv").write_text("text,label\n" + "a text,3\nanother text,3\n")
    entry = {"source": "files", "train": "train.csv", "dev": "dev.csv", "text": ["text"], "kind": "values"}
    changes: dict[str, Any] = {
        "study": {"tasks": ["grade", "judge"], "methods": ["finetuned"]},
        "tasks": {"grade": entry},
    }
    study = plan_trained(**changes)
    make(run_of(study, "grade", "finetuned", 1))
    lines: list[str] = []
    made = export_students(study, say=lines.append)
    assert made == [export_path(study, "judge")]
    (warning,) = (line for line in lines if "grade" in line and "Pearson" in line)
    assert warning.startswith("warning: grade:") and "all 2 dev examples have the label 3" in warning
    assert "`metrics: [mse]` in tasks.grade" in warning
    assert json.loads(export_path(study, "grade").read_text())["problem"] in warning
    # By name it can be exported all the same, and a metric that is defined ranks it.
    export_students(study, task="grade", method="finetuned", say=lines.append)
    assert (export_path(study, "grade").parent / "model/config.json").is_file()
    entry["metrics"] = ["mse"]
    study = plan_trained(**changes)
    (path,) = export_students(study, task="grade", say=lines.append)
    assert json.loads(path.read_text())["choice"]["metric"] == "mse"


def test_a_pipeline_on_values_answers_with_the_value(trained_copy: Trained, quick: None) -> None:
    from transformers import pipeline

    lines = "".join(f"number {k % 7} of these,{(k % 7) / 2}\n" for k in range(28))
    for split in ("train", "dev"):
        Path(f"{split}.csv").write_text(f"text,label\n{lines}")
    entry = {"source": "files", "train": "train.csv", "dev": "dev.csv", "text": ["text"], "kind": "values"}
    study = plan_trained(study={"tasks": ["grade"], "methods": ["finetuned"], "seeds": [1]}, tasks={"grade": entry})
    run = run_of(study, "grade", "finetuned")
    make(run)
    (path,) = export_students(study, method="finetuned", say=lambda line: None)
    predictions = pd.read_parquet(run.folder / "predictions.parquet").sort_values("idx")
    dev = read_task(run.inputs.data).frame("dev").sort_values("idx")
    answers = pipeline("text-classification", model=str(path.parent / "model"), truncation=True)(dev["text_a"].tolist())
    assert {answer["label"] for answer in answers} == {"score"}
    assert [answer["score"] for answer in answers] == pytest.approx(predictions["logit_0"].tolist(), abs=1e-4)
    assert (
        "predicts the same" not in (path.parent / "model/README.md").read_text()
        or predictions["logit_0"].nunique() == 1
    )


def test_without_its_packages_all_but_onnx_is_exported(
    exported_copy: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("internal_kd.export.onnx.find_spec", lambda name: None)
    lines: list[str] = []
    (path,) = export_students(exported_copy.study, task="judge", method="stacked", say=lines.append)
    assert lines[0].startswith("warning: ONNX files are left out: onnx and onnxruntime")
    assert {part.name for part in path.parent.iterdir()} == {"model", "params.yaml", "export.json"}
    assert "ONNX files were not made: they need pip install" in (path.parent / "model/README.md").read_text()


def test_what_is_asked_for_wrongly_is_refused_before_anything_is_written(exported: Exported) -> None:
    for request, words in (
        ({"task": "judges"}, "unknown task 'judges'"),
        ({"task": "judge", "method": "sofd"}, "unknown method 'sofd'"),
        ({"run": "0000"}, "no run of trained has a fingerprint"),
        ({"to": Path("elsewhere")}, "name a task too"),
    ):
        with pytest.raises(UserError, match=words):
            export_students(exported.study, **request, say=lambda line: None)  # type: ignore[arg-type]
    assert not Path("elsewhere").exists()

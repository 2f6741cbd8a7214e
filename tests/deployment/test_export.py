"""An exported student is what was scored, loads without any code of ours, and says what it is.

The students have random weights; all else is real: tokens, predictions, records, tables, ONNX Runtime.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_study import DEV_ROWS, folder_of, needs_onnx, told

from internal_kd.analysis.built import export_path, recorded_key
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.figures import read_numbers
from internal_kd.analysis.scores import read_scores
from internal_kd.analysis.scoring import score_runs
from internal_kd.data.tasks_on_disk import read_task
from internal_kd.deployment import onnx_files, students
from internal_kd.deployment.choice import choose_student
from internal_kd.deployment.exported import Wish, is_best
from internal_kd.deployment.onnx_files import PACKAGES, open_onnx
from internal_kd.deployment.splits import open_split
from internal_kd.deployment.students import export_students
from internal_kd.errors import UserError
from internal_kd.operations.cli import main
from internal_kd.params import load_params
from internal_kd.study import Study, plan_study


def recorded_logits(study: Study, task: str) -> pd.DataFrame:
    frame = pd.read_parquet(Path(told(study, task)["run"]["folder"]) / "predictions.parquet").set_index("idx")
    return frame[[name for name in frame.columns if name.startswith("logit_")]]


@pytest.mark.parametrize("task", ["judge", "rte"])
def test_the_folder_gives_the_predicted_logits_through_its_own_tokenizer(study: Study, task: str) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = folder_of(study, task) / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == 24
    dev = read_task(study.tasks[task].data).frame("dev")
    pairs = {"text_pair": dev["text_b"].tolist()} if "text_b" in dev else {}
    batch = tokenizer(dev["text_a"].tolist(), **pairs, truncation=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).logits.numpy()
    # fp32 predictions: only the order of sums differs.
    assert np.abs(logits - recorded_logits(study, task).loc[dev["idx"]].to_numpy()).max() < 1e-4
    assert told(study, task)["as_predicted"]["same"] == 1.0


def test_a_pipeline_names_the_tasks_own_labels(study: Study) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(folder_of(study, "rte") / "model"), truncation=True)
    dev = read_task(study.tasks["rte"].data).frame("dev")
    asked = [{"text": a, "text_pair": b} for a, b in zip(dev["text_a"], dev["text_b"], strict=True)]
    labels = ("entailment", "not_entailment")
    expected = [labels[k] for k in recorded_logits(study, "rte").loc[dev["idx"]].to_numpy().argmax(axis=1)]
    assert [answer["label"] for answer in classify(asked)] == expected
    config = json.loads((folder_of(study, "rte") / "model/config.json").read_text())
    assert config["label2id"] == {"entailment": 0, "not_entailment": 1}


def test_the_folder_holds_safetensors_and_nothing_of_this_machine(study: Study) -> None:
    files = {path.name for path in (folder_of(study, "judge") / "model").iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    for name in files - {"model.safetensors"}:
        assert str(Path.cwd()) not in (folder_of(study, "judge") / "model" / name).read_text()


@needs_onnx
@pytest.mark.parametrize("task", ["judge", "rte"])
def test_onnx_answers_as_torch_at_any_batch_and_length(study: Study, task: str) -> None:
    import onnxruntime

    facts = told(study, task)
    against = facts["onnx"]["against_torch"]
    assert against["examples"] == DEV_ROWS and against["largest"] < 1e-4 and against["same"] == 1.0
    assert facts["dev_scores"]["ONNX fp32"] == facts["dev_scores"]["torch fp32"]
    assert set(facts["dev_scores"]["ONNX int8"]) == set(facts["dev_scores"]["torch fp32"])
    assert facts["files"]["onnx/model-int8.onnx"] < facts["files"]["onnx/model.onnx"]
    session = onnxruntime.InferenceSession(folder_of(study, task) / "onnx/model.onnx")
    assert {given.name for given in session.get_inputs()} == {"input_ids", "attention_mask", "token_type_ids"}
    for shape in ((1, 3), (5, 17)):
        inputs = {given.name: np.ones(shape, dtype=np.int64) for given in session.get_inputs()}
        assert session.run(["logits"], inputs)[0].shape == (shape[0], 2)


@needs_onnx
@pytest.mark.parametrize("task", ["judge", "rte"])
def test_the_int8_graph_answers_nearly_as_torch_and_how_nearly_is_told(study: Study, task: str) -> None:
    against = told(study, task)["onnx"]["int8_against_torch"]
    with open_split(study.tasks[task], "dev") as dev:
        found = open_onnx(folder_of(study, task) / "onnx/model-int8.onnx", threads=1).logits_of(dev)
        recorded = recorded_logits(study, task).loc[np.asarray(dev.idx)].to_numpy()
    assert against["largest"] == pytest.approx(np.abs(found - recorded).max(), rel=1e-2)
    assert against["same"] == (found.argmax(axis=1) == recorded.argmax(axis=1)).mean()
    # Logits of either class spread by 0.2 here. 8 bits move them by 0.05, a ruined layer by 0.7 and more.
    assert against["examples"] == DEV_ROWS and against["largest"] < 0.25 and against["same"] >= 0.75
    card = " ".join((folder_of(study, task) / "model/README.md").read_text().split())
    assert f"with the same class for {100 * against['same']:.1f} % of the examples. What it answers also" in card


@needs_onnx
def test_latencies_of_all_four_stand_beside_each_other(study: Study) -> None:
    latency = told(study, "judge")["latency"]
    names = ["teacher, torch fp32", "torch fp32", "ONNX fp32", "ONNX int8"]
    assert [(line["contestant"], line["batch"]) for line in latency["lines"]] == [
        (n, b) for b in (1, 32) for n in names
    ]
    assert latency["threads"] == 1 and "onnxruntime" in latency["versions"] and latency["machine"]
    # The median length of the batches that were timed, the first ones of those drawn.
    with open_split(study.tasks["judge"], "dev") as dev:
        drawn = np.random.Generator(np.random.PCG64(0))
        for size in (1, 32):
            longest = [dev.lengths[drawn.choice(len(dev), size=size, replace=False)].max() for _ in range(40)]
            timed = [line for line in latency["lines"] if line["batch"] == size]
            assert {line["tokens"] for line in timed} == {int(np.median(longest[: timed[0]["rounds"]]))}
    assert all(line["low_ms"] <= line["median_ms"] <= line["high_ms"] for line in latency["lines"])


def test_the_best_mean_chooses_the_method_and_the_best_dev_score_its_seed(study: Study) -> None:
    scores = [s for s in read_scores(study) if s.task == "judge" and s.metric == "matthews_correlation"]
    values: dict[str, dict[int, float]] = {}
    for score in scores:
        values.setdefault(score.method, {})[score.seed] = score.value or 0.0
    students_ = {method: seeds for method, seeds in values.items() if method != "teacher"}
    best = max(students_, key=lambda method: np.mean([*students_[method].values()]))
    choice = told(study, "judge")["choice"]
    assert choice["method"] == best and choice["compared"][0] == best and len(choice["compared"]) == 2
    assert choice["seed"] == max(students_[best], key=lambda seed: students_[best][seed])
    assert choice["mean"] == pytest.approx(np.mean([*students_[best].values()]))
    other = next(method for method in students_ if method != best)
    numbers = read_numbers(study)
    assert choose_student(study, numbers, "judge", Wish(method=other)).cell.method == other
    with pytest.raises(UserError, match="unknown method 'stakced'"):
        choose_student(study, numbers, "judge", Wish(method="stakced"))
    with pytest.raises(UserError, match="unknown depth '3'; the study has: 2"):
        choose_student(study, numbers, "judge", Wish(depth=3))


def test_the_card_is_one_the_hub_reads_and_says_what_was_chosen(study: Study) -> None:
    from huggingface_hub import ModelCard

    card = ModelCard((folder_of(study, "rte") / "model/README.md").read_text())
    choice = told(study, "rte")["choice"]
    assert card.data.pipeline_tag == "text-classification" and card.data.license == "unknown"
    assert card.data.base_model is None and card.data.library_name == "transformers"
    (result,) = card.data.eval_results
    assert result.metric_type == "accuracy" and result.metric_value == pytest.approx(choice["value"], abs=1e-6)
    assert (result.dataset_config, result.dataset_split) == ("rte", "validation")
    run = told(study, "rte")["run"]
    text = " ".join(card.text.split())
    for said in (
        "Picking the best of 2 on the dev set is optimistic",
        "95 % interval of that",
        run["fingerprint"],
        "attention_kl" if choice["method"] == "stacked" else "soft × 1",
        json.loads((study.tasks["rte"].data.marker).read_text())["splits"]["train"]["sha256"],
        "export-students --params params.yaml --task rte",
        "Another machine gives other figures",
    ):
        assert said in text, said
    assert "None" not in text and "nan" not in text


def test_the_parameters_beside_it_plan_the_same_run(study: Study) -> None:
    params = folder_of(study, "rte") / "params.yaml"
    again = plan_study(load_params(params))
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in study.runs]


def test_glues_test_set_is_predicted_in_glues_file(study: Study) -> None:
    text = (folder_of(study, "rte") / "submission/RTE.tsv").read_text()
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["index", "prediction"] and [line[0] for line in lines[1:]] == [str(k) for k in range(30)]
    assert {line[1] for line in lines[1:]} <= {"entailment", "not_entailment"}
    assert not (folder_of(study, "judge") / "submission").exists()
    with zipfile.ZipFile(study.folder / "export/submission.zip") as archive:
        assert archive.namelist() == ["RTE.tsv"] and archive.read("RTE.tsv").decode() == text


def test_without_scratch_the_test_set_is_tokenised_anew(copy: Study) -> None:
    before = (folder_of(copy, "rte") / "submission/RTE.tsv").read_text()
    shutil.rmtree("work")
    shutil.rmtree(copy.folder / "export")
    export_students(copy, Wish(), ["rte"])
    assert (folder_of(copy, "rte") / "submission/RTE.tsv").read_text() == before
    assert not export_path(copy, "judge").exists()


def test_without_the_packages_for_onnx_the_rest_is_made_and_one_line_says_how_to_get_them(
    copy: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (onnx_files, students):
        monkeypatch.setattr(module, "missing_packages", lambda: PACKAGES)
    shutil.rmtree(copy.folder / "export")
    params = folder_params(copy)
    assert main(["export-students", "--params", params, "--task", "judge"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install '.[export]'" in said
    assert (folder_of(copy, "judge") / "model/model.safetensors").is_file()
    assert not (folder_of(copy, "judge") / "onnx").exists()
    assert told(copy, "judge")["onnx"] is None
    # Not what `snakemake export` promises, but its predictions are those of the best student.
    assert not is_best(export_path(copy, "judge"), recorded_key(copy))
    assert is_best(export_path(copy, "judge"), recorded_key(copy), complete=False)
    assert "ONNX files were not made" in (folder_of(copy, "judge") / "model/README.md").read_text()


def test_methods_of_unequal_seeds_are_a_warning_and_stand_on_the_card(
    copy: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    other = next(c for c in told(copy, "rte")["choice"]["candidates"][1:])
    run = next(r for r in copy.students if r.task == "rte" and r.method.name == other["method"])
    shutil.rmtree(run.folder)
    score_runs(copy)
    compare_runs(copy)
    assert main(["export-students", "--params", folder_params(copy), "--task", "rte"]) == 0
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: rte"))
    assert f"{other['title']} 1 of 2" in warning and "`internal-kd run`" in warning
    finished = {c["method"]: (c["finished"], c["wanted"]) for c in told(copy, "rte")["choice"]["candidates"]}
    assert finished == {method: (1 if method == other["method"] else 2, 2) for method in copy.methods}
    card = " ".join((folder_of(copy, "rte") / "model/README.md").read_text().split())
    assert "Not every run was finished; seeds of those wanted: " in card and f"{other['title']} 1 of 2" in card


def folder_params(study: Study) -> str:
    """Write the study's parameters and return where."""
    import yaml

    from internal_kd.identity import plain

    values = plain(study.params)
    Path("all.yaml").write_text(yaml.safe_dump(values | {"study": values["study"] | {"tasks": [*study.tasks]}}))
    return "all.yaml"


def test_weights_that_were_not_kept_are_one_line_and_one_kept_seed_is_enough(copy: Study) -> None:
    best = told(copy, "rte")["choice"]["method"]
    runs = [run for run in copy.students if run.task == "rte" and run.method.name == best]
    chosen = next(run for run in runs if run.fingerprint == told(copy, "rte")["run"]["fingerprint"])
    (other,) = (run for run in runs if run is not chosen)
    shutil.rmtree(chosen.folder / "model")
    score_runs(copy)
    choice = choose_student(copy, read_numbers(copy), "rte", Wish())
    assert choice.run == other and choice.kept == 1 and len(choice.values) == 2
    shutil.rmtree(other.folder / "model")
    with pytest.raises(UserError, match=r"weights of none of its 2 seeds are here \(machine.keep_models: all\)"):
        export_students(copy, Wish(), ["rte"])


def test_weights_that_are_not_those_of_the_predictions_are_refused(copy: Study) -> None:
    run = next(r for r in copy.students if r.fingerprint == told(copy, "rte")["run"]["fingerprint"])
    other = next(r for r in copy.students if r.task == "rte" and r is not run)
    shutil.copyfile(other.folder / "model/model.safetensors", run.folder / "model/model.safetensors")
    shutil.rmtree(copy.folder / "export")
    with pytest.raises(UserError, match="its weights give other logits than its predictions"):
        export_students(copy, Wish(), ["rte"])
    assert not folder_of(copy, "rte").exists()

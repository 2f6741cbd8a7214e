"""A study of tags from files to predictions: what a run writes, an LLM's answers in every form, kill and resume."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

import tiny_study
from internal_kd.checksums import sha256_file
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.errors import Interrupted, UserError
from internal_kd.export.answers import export_answers
from internal_kd.files import read_json
from internal_kd.generator import generate
from internal_kd.params import merge
from internal_kd.params.study import MachineParams
from internal_kd.plan.runs import Ensemble, Run
from internal_kd.plan.study import Study
from internal_kd.report.comparing import QUARTERS, calibration_lines, compare_with_teachers, fidelity_lines
from internal_kd.report.ensembles import ensemble_lines
from internal_kd.report.make import make_report, map_attention, measure_latency
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import class_lines
from internal_kd.steps.train import train_run
from internal_kd.tasks.metrics import score
from tiny_study import VALUES, make_encoder
from trained_study import make

NAMES = ("O", "B-FIRST", "I-FIRST", "B-LAST", "I-LAST")
TASK = {
    "source": "files", "kind": "tags", "train": "train.conll", "dev": "dev.conll", "text": [0], "label": 1,
}  # fmt: skip
STUDY: dict[str, Any] = {
    "study": {"tasks": ["entities"], "methods": ["teacher", "soft", "internal", "from_file"], "seeds": [1]},
    "tasks": {"entities": TASK},
    "defaults": {"max_length": 10, "learning_rate": 1e-3, "epochs": 2},
    "methods": {
        "teacher": {"epochs": 2},
        "internal": {"id": "3.8", "weights": {"soft": 1, "hard": 1, "attention_kl": 1, "hidden_mse": 1}},
        "from_file": {"id": "5.0", "weights": {"soft": 1}, "teacher": {"answers": "llm.jsonl"}},
    },
}


def sentences(split: str) -> list[tuple[list[str], list[str]]]:
    """Generated sentences, of which the first two words are one entity and the last is another."""
    found = []
    for example in generate("acceptability", train=24, dev=24, seed=3)[split]:
        words = example.text_a.lower().rstrip(".").split()
        found.append((words, ["B-FIRST", "I-FIRST", *["O"] * (len(words) - 3), "B-LAST"]))
    # Longer than the limit.
    long = [word for words, _ in found[:3] for word in words]
    return [*found, (long, ["O"] * (len(long) - 1) + ["B-LAST"])]


def plan(**changes: Any) -> Study:
    return tiny_study.planned(**merge(merge(VALUES, STUDY), changes))


def run_of(study: Study, method: str) -> Run:
    return next(run for run in study.runs if run.method.name == method)


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(folder)
    make_encoder(folder / "encoder")
    for split in ("train", "dev"):
        table = "\n\n".join("\n".join(f"{a}\t{b}" for a, b in zip(*one, strict=True)) for one in sentences(split))
        Path(f"{split}.conll").write_text(table)
    lines = [json.dumps({"tokens": words, "tags": tags}) for words, tags in sentences("train")]
    Path("llm.jsonl").write_text("\n".join(lines[:-4]))
    yield folder
    os.chdir(before)


def test_predictions_have_a_row_a_word_and_give_the_recorded_scores():
    run = run_of(plan(), "soft")
    make(run)
    found, record = pd.read_parquet(run.folder / "predictions.parquet"), read_json(run.marker)
    expected = [(idx, place, NAMES.index(tag)) for idx, (_, tags) in enumerate(sentences("dev"))
                for place, tag in enumerate(tags)]  # fmt: skip
    assert list(found.columns) == ["idx", "token", "label", *(f"logit_{k}" for k in range(5))]
    assert [tuple(row) for row in found[["idx", "token", "label"]].to_numpy().tolist()] == expected
    best = found[[f"logit_{k}" for k in range(5)]].to_numpy().argmax(1)
    longest = max(len(tags) for _, tags in sentences("dev"))
    gold, said = (np.full((len(sentences("dev")), longest), -1) for _ in range(2))
    gold[found["idx"], found["token"]], said[found["idx"], found["token"]] = found["label"], best
    assert record["scores"]["span_f1"] == pytest.approx(score(gold, said, "span_f1", 5))
    model = AutoModelForTokenClassification.from_pretrained(run.folder / "model")
    assert tuple(model.config.id2label[k] for k in range(5)) == NAMES


def test_internal_terms_learn_from_recorded_windows_and_a_report_has_each_type():
    study = plan(study={"methods": ["teacher", "internal"]})
    run = run_of(study, "internal")
    make(run)
    last = json.loads((run.folder / "history.jsonl").read_text().splitlines()[-1])
    assert {"soft", "hard", "attention_kl", "hidden_mse", "dev_span_f1"} <= set(last)
    results = StudyResults.read(study)
    lines, confusion = class_lines(results)
    assert {line["label"] for line in lines} == {"FIRST", "LAST"} and not confusion
    assert {line["examples_of_class"] for line in lines} == {24, 25}
    (near,), words = fidelity_lines(compare_with_teachers(results)), sum(len(tags) for _, tags in sentences("dev"))
    assert sum(near[part] for part in QUARTERS) == words and np.isnan(near["p_repeated"])
    ours, theirs = (pd.read_parquet(run.folder / "predictions.parquet").filter(like="logit_").to_numpy()
                    for run in (run, run_of(study, "teacher")))  # fmt: skip
    assert near["agreement"] == pytest.approx((ours.argmax(1) == theirs.argmax(1)).mean())
    assert near["agreement_low"] < near["agreement"] < near["agreement_high"] or near["agreement"] == 1
    gold = np.concatenate([[NAMES.index(tag) for tag in tags] for _, tags in sentences("dev")])
    accuracies = {line["method"]: line["accuracy"] for line in calibration_lines(results)}
    assert accuracies["internal"] == pytest.approx((ours.argmax(1) == gold).mean())


def test_a_study_of_tags_has_every_table_and_a_page():
    study = plan(study={"methods": ["teacher", "soft", "internal"]})
    for run in study.runs:
        make(run)
    measure_latency(study)
    map_attention(study)
    page = make_report(study).read_text()
    latency, near = (pd.read_csv(study.folder / f"tables/{name}.csv") for name in ("latency", "attention_means"))
    assert len(latency) == 4 and (latency["median_ms"] > 0).all() and (latency["multiply_adds"] > 0).all()
    assert near.loc[near["method"] == "internal", "kl"].notna().all() and "FIRST" in page
    assert "| Most frequent tag |" in (study.folder / "tables/main.md").read_text()


def test_taggers_that_teach_together_are_scored_by_entities():
    study = plan(study={"methods": ["teacher", "soft"]})
    run, teacher = run_of(study, "soft"), run_of(study, "teacher")
    make(run)
    results = StudyResults.read(study)
    alone, ours = (results.values[one.fingerprint, "span_f1"] for one in (teacher, run))
    twice = replace(run, answers=Ensemble((run.parts[0],) * 2, "mean_probabilities", "none"))
    results.finished_runs[run.fingerprint] = replace(results.finished_runs[run.fingerprint], run=twice)
    (line,) = ensemble_lines(results)
    assert [line[name] for name in ("alone", "together", "score")] == pytest.approx([alone, alone, ours])
    assert line["members"] == 2 and line["metric"] == "span_f1"


def in_every_form() -> dict[str, str]:
    rows = sentences("train")[:-1]

    def entities(words: list[str], tags: list[str]) -> list[dict[str, str]]:
        return [{"text": " ".join(words[:2]), "type": "FIRST"}, {"text": words[-1], "type": "LAST"}]

    return {
        "lists.jsonl": "\n".join(json.dumps({"tokens": words, "tags": tags}) for words, tags in rows),
        "entities.jsonl": "\n".join(json.dumps({"text": " ".join(w), "entities": entities(w, t)}) for w, t in rows),
        "raw.txt": "\n\n".join("\n".join(f"{a} {b}" for a, b in zip(w, t, strict=True)) for w, t in rows),
    }


def test_every_form_of_the_same_answers_ends_in_the_same_training():
    weights, rows = [], sentences("train")[:-1]
    # An entity that is named by its text is marked wherever it stands: here each stands once.
    assert all(words.count(words[-1]) == 1 for words, _ in rows)
    for name, content in in_every_form().items():
        Path(name).write_text(content)
        study = plan(study={"methods": ["from_file"]}, methods={"from_file": {"teacher": {"answers": name}}})
        run = run_of(study, "from_file")
        make(run)
        weights.append(load_file(run.folder / "model/model.safetensors"))
    for other in weights[1:]:
        assert all((weights[0][name] == other[name]).all() for name in other)


def test_a_student_of_a_runs_answers_learns_what_a_student_of_the_run_learns():
    study = plan(study={"methods": ["teacher", "soft"]})
    teacher, soft = run_of(study, "teacher"), run_of(study, "soft")
    make(soft)
    assert export_answers(teacher, Path("logits.jsonl")) == len(sentences("train"))
    changes = {"from_file": {"teacher": {"answers": "logits.jsonl"}}}
    learned = run_of(plan(study={"methods": ["from_file"]}, methods=changes), "from_file")
    make(learned)
    ours, theirs = (pd.read_parquet(run.folder / "predictions.parquet") for run in (learned, soft))
    assert np.abs(ours.to_numpy() - theirs.to_numpy()).max() < 1e-3
    assert read_json(learned.marker)["scores"] == read_json(soft.marker)["scores"]


def test_sentences_without_an_answer_are_not_trained_on(capsys):
    run = run_of(plan(), "from_file")
    make(run)
    assert "21 of 25 examples covered" in capsys.readouterr().out


def test_a_killed_training_goes_on_to_the_same_weights(monkeypatch):
    study = plan(study={"methods": ["teacher"]})
    run = run_of(study, "teacher")
    make(run)
    whole = sha256_file(run.folder / "model/model.safetensors")
    for path in sorted(run.folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    compute, steps = DistillationLoss.compute, []

    def count(self: DistillationLoss, *given: Any) -> Any:
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(self, *given)

    monkeypatch.setattr(DistillationLoss, "compute", count)
    with pytest.raises(Interrupted):
        train_run(run, MachineParams())
    train_run(run, MachineParams())
    assert sha256_file(run.folder / "model/model.safetensors") == whole


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"methods": {"soft": {"learner": {"kind": "mlp", "widths": [8]}}}}, "mlp"),
        ({"methods": {"soft": {"select": {"classes": ["B-FIRST"]}}}}, "select.classes"),
        ({"methods": {"soft": {"select": {"masked_copies": 1}}}}, "masked_copies"),
        ({"methods": {"soft": {"weights": {"label_smoothing": 1}}}}, None),
        ({"tasks": {"entities": {"text": ["a", "b"]}}}, "one text column"),
        ({"tasks": {"entities": {"metrics": ["accuracy"]}}}, "accuracy"),
        ({"tasks": {"entities": {"dev": None}}}, "`dev` and `split`"),
    ],
)
def test_what_has_no_meaning_for_tags_is_refused_while_planning(changes: dict[str, Any], names: str | None):
    if names is None:
        assert plan(**changes)
        return
    with pytest.raises(UserError, match=names):
        plan(**changes)

"""Runs of a tiny study, step by step: what a run writes, what its numbers depend on, and who can teach whom."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import matthews_corrcoef
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import tiny_study
from internal_kd.checksums import Damaged, sha256_file
from internal_kd.distillation.loss import DistillationLoss
from internal_kd.errors import Interrupted, UserError
from internal_kd.files import read_json, write_json
from internal_kd.params import merge
from internal_kd.params.study import MachineParams
from internal_kd.plan.known import known_rows
from internal_kd.plan.runs import Run
from internal_kd.plan.store import is_complete
from internal_kd.plan.study import Study
from internal_kd.steps import record, run_folder
from internal_kd.steps.record import record_answers
from internal_kd.steps.train import train_run
from tiny_study import VALUES, make_encoder
from trained_study import make

MACHINE = MachineParams()
METHODS = ["finetuned", "soft", "soft_kl_cos", "progressive", "stacked", "stacked_soft_hard"]
STUDY = {
    "study": {"methods": ["teacher", *METHODS], "seeds": [1]},
    "defaults": {"learning_rate": 1e-3, "cosine_threshold": 0.0},
    "methods": {"teacher": {"epochs": 2}},
}


def plan(**changes: Any) -> Study:
    return tiny_study.planned(**merge(merge(VALUES, STUDY), changes))


def run_of(study: Study, method: str, seed: int = 1) -> Run:
    return next(run for run in study.runs if run.method.name == method and run.seed in (seed, 0))


def made(study: Study, method: str, seed: int = 1) -> Run:
    run = run_of(study, method, seed)
    make(run)
    return run


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project folder with a random encoder, as the current directory."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    make_encoder(folder / "encoder")
    yield folder
    os.chdir(before)


def history(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]


def test_a_run_writes_everything_it_promises():
    run = made(plan(), "teacher")
    assert is_complete(run)
    record = read_json(run.marker)
    promised = """fingerprint recipe params inputs data_sha256 git_commit git_dirty lock_sha256 versions device seconds
        peak_memory examples_per_second started finished encoder_parameters total_parameters task method scores
        majority held_out recorded_bytes"""
    assert set(promised.split()) <= set(record)
    predictions = pd.read_parquet(run.folder / "predictions.parquet")
    assert list(predictions.columns) == ["idx", "label", "logit_0", "logit_1"] and len(predictions) == 48
    predicted = predictions[["logit_0", "logit_1"]].to_numpy().argmax(1)
    last = history(run)[-1]
    assert last["dev_matthews_correlation"] == pytest.approx(matthews_corrcoef(predictions["label"], predicted))
    assert record["scores"]["matthews_correlation"] == pytest.approx(last["dev_matthews_correlation"])
    assert record["majority"] == 0.0  # of a correlation
    assert (run.folder / "model/model.safetensors").stat().st_mode & 0o777 == run.marker.stat().st_mode & 0o777


@pytest.mark.parametrize("method", METHODS)
def test_a_student_of_every_method_trains_and_records_its_epochs(method):
    run = made(plan(), method)
    epochs = history(run)
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3]
    stages = {
        "progressive": ["layer 1", "layer 2", "classification"],
        "stacked": ["layer 1", "layers 1-2", "classification"],
        "stacked_soft_hard": ["layer 1", "layers 1-2", "classification"],
    }
    assert [epoch["stage"] for epoch in epochs] == stages.get(method, ["all"] * 3)
    for epoch in epochs:
        counted = method not in ("progressive", "stacked") or epoch["stage"] == "classification"
        assert (epoch["dev_accuracy"] is not None) == counted
        assert np.isfinite(epoch["loss"]) and epoch["examples_per_second"] > 0
    terms = {term for epoch in epochs for term in epoch if term in ("hard", "soft", "attention_kl", "cls_cosine")}
    assert terms == set(run.method.weights)


def test_the_same_run_gives_the_same_weights_bit_for_bit():
    run = made(plan(), "stacked")
    first = (run.folder / "model/model.safetensors").read_bytes()
    train_run(run, MACHINE)
    assert (run.folder / "model/model.safetensors").read_bytes() == first


def test_the_rest_of_a_study_does_not_move_a_run():
    # The same fingerprint has the same numbers, whether or not others of the study ask the teacher for its internals.
    run = made(plan(), "soft")
    beside = (run.folder / "model/model.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    alone = made(plan(study={"methods": ["soft"]}), "soft")
    assert alone.fingerprint == run.fingerprint
    assert (alone.folder / "model/model.safetensors").read_bytes() == beside


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_computed_while_training_is_what_would_have_been_recorded(precision, capsys):
    # A recording is in the teacher's precision: a student in another one has to be given the same.
    changes = {"methods": {"soft_kl_cos": {"precision": precision}}}
    run = made(plan(**changes), "soft_kl_cos")
    losses = [epoch["loss"] for epoch in history(run)]
    (part,) = run.parts
    record_answers(part, MachineParams(disk_budget_gb=1e-9))
    assert "exceed machine.disk_budget_gb" in capsys.readouterr().out
    assert not list(part.folder.glob("attention-*.npy"))
    train_run(run, MACHINE)
    assert [epoch["loss"] for epoch in history(run)] == pytest.approx(losses, rel=2e-6)
    part.marker.unlink()


def test_a_smaller_training_set_is_all_that_is_recorded():
    changes = {"defaults": {"select": {"keep": 32}}, "methods": {"teacher": {"select": {"keep": "full"}}}}
    run = made(plan(study={"methods": ["teacher", "soft"]}, **changes), "soft")
    assert "/L2-n32/" in str(run.folder)
    assert read_json(run.marker)["params"]["select"] == {"keep": 32}
    assert len(np.load(run.parts[0].folder / "ids.npy")) == 32


def test_scores_of_epochs_may_be_left_out_and_nothing_else_changes():
    changes = {"defaults": {"select": {"keep": 30}}, "methods": {"teacher": {"select": {"keep": "full"}}}}
    run = made(plan(**changes), "soft")
    scores, kept = read_json(run.marker)["scores"], ("model/model.safetensors", "predictions.parquet")
    before = [(run.folder / name).read_bytes() for name in kept]
    train_run(run, MachineParams(score_epochs=False))
    assert read_json(run.marker)["scores"] == scores
    assert [(run.folder / name).read_bytes() for name in kept] == before
    assert not [key for line in history(run) for key in line if key.startswith("dev_")]


def test_a_loss_that_is_not_a_number_stops_the_training_and_names_the_step():
    study = plan(defaults={"learning_rate": 1e30, "warmup_share": 0.0})
    with pytest.raises(UserError, match=r"step \d+, epoch \d+ \(hard, loss\)"):
        made(study, "finetuned")
    assert not run_of(study, "finetuned").marker.exists()


def test_memory_that_runs_out_is_made_do_with_and_recorded(monkeypatch, capsys):
    compute = DistillationLoss.compute

    def cramped(loss, part, *arguments):
        if len(part.batch["labels"]) > 5:
            raise torch.OutOfMemoryError("as a GPU would say")
        return compute(loss, part, *arguments)

    monkeypatch.setattr(DistillationLoss, "compute", cramped)
    record = read_json(made(plan(defaults={"epochs": 4}), "soft_kl_cos").marker)
    assert (record["params"]["batch_size"], record["micro_batch_size"], record["accumulation"]) == (16, 4, 4)
    assert "out of GPU memory: continuing with micro-batches of 4" in capsys.readouterr().out


def interrupted(run: Run, monkeypatch: pytest.MonkeyPatch, at: int) -> Path:
    """Stop a training by a signal after ``at`` batches; return the checkpoint's record."""
    for needed in run.reads().values():
        make(needed)
    compute, seen = DistillationLoss.compute, []

    def stopping(loss, part, *arguments):
        seen.append(1)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(loss, part, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(DistillationLoss, "compute", stopping)
        with pytest.raises(Interrupted):
            train_run(run, MACHINE)
    return next(run.checkpoints.glob("step-*/training.json"))


def test_a_stopped_training_goes_on_to_the_same_weights_and_counts_all_its_time(monkeypatch):
    run = run_of(plan(defaults={"epochs": 5}), "soft_kl_cos")
    make(run)
    expected = (run.folder / "model/model.safetensors").read_bytes()
    shutil.rmtree(run.folder)
    interrupted(run, monkeypatch, at=6)
    make(run)
    assert (run.folder / "model/model.safetensors").read_bytes() == expected
    record = read_json(run.marker)
    assert record["started"] < record["finished"] and record["seconds"] > 0
    assert not run.checkpoints.exists()


def test_the_code_that_is_named_is_that_of_the_start(project, monkeypatch):
    commit = ["a" * 40]
    monkeypatch.setattr(run_folder, "_git", lambda *arguments: commit[0])
    lock = project / "requirements.lock"
    lock.write_text("torch==1")
    trained_with = sha256_file(lock)
    epoch = run_folder.JobRecord.epoch

    def commit_meanwhile(job, lines):
        commit[0] = "b" * 40
        lock.write_text("torch==2")
        epoch(job, lines)

    monkeypatch.setattr(run_folder.JobRecord, "epoch", commit_meanwhile)
    record = read_json(made(plan(defaults={"epochs": 7}), "finetuned").marker)
    assert record["git_commit"] == "a" * 40 and record["lock_sha256"] == trained_with


# Who can teach whom


def test_the_best_of_several_teachers_is_chosen_by_examples_that_it_never_saw():
    changes = {"study": {"methods": ["teacher", "soft"]},
               "methods": {"teacher": {"seeds": [1, 2], "select": {"hold_out": 0.25}},
                           "soft": {"teacher": {"of": "teacher", "seed": "best", "weak": "accept"}}}}  # fmt: skip
    run = made(plan(**changes), "soft")
    teachers = run.teachers
    held_out = [read_json(teacher.marker)["held_out"]["matthews_correlation"] or 0 for teacher in teachers]
    chosen = read_json(run.parts[0].marker)["teacher"]
    assert chosen == teachers[int(np.argmax(held_out))].fingerprint
    assert {len(np.load(run.parts[0].folder / "ids.npy"))} == {64}


def test_a_teacher_that_learned_nothing_teaches_nobody_unless_that_is_accepted():
    weak = {"defaults": {"teacher": {"of": "teacher", "weak": "refuse"}},
            "methods": {"teacher": {"epochs": 1, "learning_rate": 1e-9}}}  # fmt: skip
    study = plan(**weak)
    teacher = made(study, "teacher")
    record = read_json(teacher.marker)
    write_json(teacher.marker, {**record, "scores": {"matthews_correlation": 0.0, "accuracy": 0.5}})
    with pytest.raises(UserError, match="learned nothing") as refused:
        made(study, "soft")
    assert "weak: accept" in str(refused.value) and "\n" not in str(refused.value)
    write_json(teacher.marker, record)


def test_a_teacher_of_one_answer_is_named_and_a_dev_set_that_cannot_judge_refuses_nobody(tmp_path, monkeypatch, capfd):
    study = plan(defaults={"teacher": {"of": "teacher", "weak": "refuse"}})
    teacher, answers = made(study, "teacher"), run_of(study, "soft").parts[0]
    weak = {"scores": {"matthews_correlation": 0.0}, "majority": 0.0}
    monkeypatch.setattr(record, "read_record", lambda run: weak)
    monkeypatch.setattr(record, "verified_folder", lambda run: tmp_path)
    predictions = pd.read_parquet(teacher.folder / "predictions.parquet").assign(logit_0=1.0, logit_1=0.0)
    predictions.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(UserError, match=r"it predicts '\w+' for every dev example"):
        record.refuse_weak(answers, teacher)
    for unable in (predictions.assign(label=1), predictions[: record.ENOUGH_TO_JUDGE - 1]):
        unable.to_parquet(tmp_path / "predictions.parquet")
        record.refuse_weak(answers, teacher)
        assert "is not judged" in capfd.readouterr().out


def test_an_ensemble_answers_by_the_mean_of_its_members():
    changes = {"study": {"methods": ["teacher", "soft"]},
               "methods": {"teacher": {"seeds": [1, 2]},
                           "soft": {"teacher": {"of": "teacher", "seeds": [1, 2], "weak": "accept"}}}}  # fmt: skip
    run = made(plan(**changes), "soft")
    assert len(run.parts) == 2 and is_complete(run)
    record = read_json(run.marker)
    assert record["params"]["combine"] == "mean_probabilities"
    assert record["recorded_bytes"] == 2 * 2 * 4  # two teachers, two classes, fp32


def test_masked_copies_are_answered_by_the_teacher_and_recorded_as_they_would_be_computed():
    select = {"keep": 32, "masked_copies": 2, "masked_share": 0.3}
    changes = {"study": {"methods": ["soft", "soft_kl"]}, "methods": {"soft_kl": {"select": select}}}
    run = made(plan(**changes), "soft_kl")
    losses = [epoch["loss"] for epoch in history(run)]
    rows = known_rows(run.inputs.data)["train"]
    assert read_json(run.parts[0].marker)["examples"] == rows + 2 * 32  # all for `soft`, and the copies
    record_answers(run.parts[0], MachineParams(disk_budget_gb=1e-9))
    train_run(run, MACHINE)
    assert [epoch["loss"] for epoch in history(run)] == pytest.approx(losses, rel=2e-6)
    assert run.method.identity["select"] == select
    run.parts[0].marker.unlink()


@pytest.mark.parametrize("changes", [{"weights": {"hard": 1}, "teacher": "none"}, {"teacher": {"answers": "a.csv"}}])
def test_masked_copies_need_a_teacher_that_can_answer_them(changes: dict[str, Any]):
    Path("a.csv").write_text("idx,label\n0,0\n")
    with pytest.raises(UserError, match=r"select\.masked_copies"):
        plan(methods={"soft": {"select": {"masked_copies": 1}, **changes}})


def test_an_assistant_and_generations_teach_as_teachers_do():
    changes = {"study": {"methods": ["via", "gen"]}, "methods": {
        "assistant": {"id": "4.0", "learner": {"layers": 3, "start": {"layers": "spread"}}, "weights": {"soft": 1}},
        "via": {"id": "4.1", "teacher": {"of": "assistant", "weak": "accept"}, "weights": {"soft": 1},
                "learner": {"layers": 1, "start": {"from": "teacher", "layers": "first"}}},
        "gen": {"id": "4.2", "learner": {"layers": "all"}, "weights": {"soft": 0.5, "hard": 0.5}},
    }}  # fmt: skip
    study = plan(**changes)
    assert is_complete(made(study, "via")) and is_complete(made(study, "gen"))
    assert run_of(study, "via").first.source.method.name == "assistant"


def test_a_narrower_student_reads_hidden_states_through_a_projection_that_is_not_kept():
    narrow = {"id": "4.5", "learner": {"layers": 2, "width": 16, "heads": 2}, "weights": {"soft": 1, "hidden_mse": 1}}
    run = made(plan(study={"methods": ["narrow"]}, methods={"narrow": narrow}), "narrow")
    weights = load_file(run.folder / "model/model.safetensors")
    assert weights["bert.embeddings.word_embeddings.weight"].shape[1] == 16
    assert not any("projection" in name for name in weights)
    assert history(run)[-1]["hidden_mse"] < history(run)[0]["hidden_mse"]


def test_a_model_from_elsewhere_teaches_in_the_tasks_order_and_scores_what_transformers_computes(project):
    teacher = made(plan(), "teacher")
    theirs = project / "theirs"
    shutil.copytree(teacher.folder / "model", theirs)
    for path in (project / "encoder").glob("*token*"):
        shutil.copy2(path, theirs)
    weights = load_file(theirs / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, theirs / "model.safetensors", metadata={"format": "pt"})
    config = read_json(theirs / "config.json")
    names = {"0": "Acceptable", "1": "un-acceptable".replace("-", "")}
    write_json(theirs / "config.json", {**config, "id2label": names, "label2id": {v: int(k) for k, v in names.items()}})

    study = plan(study={"methods": ["soft"]}, methods={"soft": {"teacher": {"folder": "theirs", "weak": "accept"}}})
    run = made(study, "soft")
    own = run_of(study, "theirs")
    assert read_json(own.marker)["scores"] == read_json(teacher.marker)["scores"]

    model = AutoModelForSequenceClassification.from_pretrained(theirs).eval()
    tokenizer = AutoTokenizer.from_pretrained(theirs)
    dev = pd.read_parquet(own.inputs.data.folder / "dev.parquet")
    with torch.no_grad():
        encoded = tokenizer(dev["text_a"].tolist(), padding=True, truncation=True, max_length=32, return_tensors="pt")
        predicted = model(**encoded).logits.argmax(1).numpy()
    accuracy = float(((1 - predicted) == dev["label"].to_numpy()).mean())
    assert read_json(own.marker)["scores"]["accuracy"] == pytest.approx(accuracy)
    assert is_complete(run)


def test_a_file_of_answers_teaches_what_it_covers(project):
    teacher = made(plan(), "teacher")
    train = pd.read_parquet(teacher.inputs.data.folder / "train.parquet")
    lines = [{"text": text, "label": ("unacceptable", "acceptable")[label]} for text, label in
             zip(train["text_a"][:40], train["label"][:40], strict=True)]  # fmt: skip
    (project / "llm.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    study = plan(study={"methods": ["soft"]}, methods={"soft": {"teacher": {"answers": "llm.jsonl"}}})
    run = made(study, "soft")
    assert len(np.load(run.parts[0].folder / "ids.npy")) == train["text_a"][:40].nunique() and is_complete(run)
    assert "40 of" in " ".join(read_json(run.parts[0].marker)["report"]) or run.parts[0].of.path.name == "llm.jsonl"


def test_layers_of_a_model_from_elsewhere_are_compared_where_its_tokenizer_splits_texts_alike(project):
    saved, other = project / "saved", project / "other"
    for folder in (saved, other):
        shutil.copytree(made(plan(), "teacher").folder / "model", folder)
        shutil.copy2(project / "encoder/tokenizer_config.json", folder)
    tokenizer = read_json(project / "encoder/tokenizer.json")
    length = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
    write_json(saved / "tokenizer.json", {**dict(reversed(tokenizer.items())), "truncation": length})
    write_json(other / "tokenizer.json", {**tokenizer, "normalizer": None})

    def taught(folder: Path) -> Run:
        teacher = {"folder": folder.name, "weak": "accept", "labels": ["unacceptable", "acceptable"]}
        methods = {"soft_kl_cos": {"teacher": teacher, "max_length": 32}}
        return made(plan(study={"methods": ["soft_kl_cos"]}, methods=methods), "soft_kl_cos")

    assert is_complete(taught(saved))
    with pytest.raises(UserError, match="tokenizer of other splits texts otherwise"):
        taught(other)
    tokenizer["model"]["vocab"]["unheard"] = 4
    write_json(other / "tokenizer.json", tokenizer)
    with pytest.raises(UserError, match="another tokenizer"):
        taught(other)


def test_texts_without_labels_are_answered_and_trained_on(project):
    (project / "more.csv").write_text("text\n" + "\n".join(f"the dog sees the cat {i}" for i in range(10)) + "\n")
    study = plan(tasks={"judge": {"unlabelled": "more.csv"}}, study={"methods": ["soft", "finetuned"]})
    run = made(study, "soft")
    assert len(np.load(run.parts[0].folder / "ids.npy")) == 64 + 10
    assert is_complete(made(study, "finetuned"))


def test_the_pretrained_encoder_teaches_its_internals():
    general = {"id": "6.0", "teacher": "encoder", "weights": {"hidden_mse": 1}, "learner": {"layers": 2}}
    run = made(plan(study={"methods": ["general"]}, methods={"general": general}), "general")
    assert history(run)[-1]["hidden_mse"] < history(run)[0]["hidden_mse"]


def test_a_flipped_bit_is_found_before_it_is_used():
    run = made(plan(), "soft_kl_cos")
    path = run.parts[0].folder / "logits.npy"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Damaged, match=r"logits\.npy"):
        train_run(run, MACHINE)
    assert not run.parts[0].marker.exists()


# Who chooses the examples

PRUNED = {
    "study": {"methods": ["teacher", "scout", "pruned"], "seeds": [1]},
    "methods": {
        "scout": {"id": "8.0", "title": "Scout", "weights": {"hard": 1}, "seeds": [1, 2], "epochs": 2},
        "pruned": {
            "id": "8.1",
            "title": "Pruned",
            "weights": {"soft": 1},
            "select": {"by": "el2n", "of": "scout", "keep": 0.5, "empty_classes": "accept"},
        },
    },
}


def trained_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The ids of the examples that a run sees."""
    seen: set[int] = set()
    compute = DistillationLoss.compute

    def watching(loss, part, *arguments):
        seen.update(part.batch["idx"].tolist())
        return compute(loss, part, *arguments)

    for needed in run.reads().values():
        make(needed)
    with monkeypatch.context() as patched:
        patched.setattr(DistillationLoss, "compute", watching)
        train_run(run, MACHINE)
    return seen


def test_a_scout_keeps_its_predictions_by_epoch_and_its_scores_choose_the_examples(monkeypatch):
    run = run_of(plan(**PRUNED), "pruned")
    seen = trained_on(run, monkeypatch)
    tables = [pd.read_parquet(scout.folder / "predictions_train.parquet") for scout in run.scouting_runs]
    assert [sorted({*table["epoch"]}) for table in tables] == [[1, 2], [1, 2]]
    errors = []
    for table in tables:
        last = table[table["epoch"] == 2]
        wrong = torch.tensor(last[["logit_0", "logit_1"]].to_numpy()).softmax(-1)
        wrong[range(64), last["label"].tolist()] -= 1
        errors.append(pd.Series(wrong.norm(dim=-1).numpy(), index=last["idx"]))
    hardest = (sum(errors) / 2).sort_values(ascending=False).index[:32]
    assert seen == {*hardest}
    easy = merge(PRUNED, {"methods": {"pruned": {"select": {"order": "low"}}}})
    assert trained_on(run_of(plan(**easy), "pruned"), monkeypatch) == {*range(64)} - seen


def test_a_run_that_was_no_scout_is_made_again_when_it_is_asked_for_its_predictions():
    alone = {
        "study": {"methods": ["scout"]},
        "methods": {**PRUNED["methods"], "scout": {**PRUNED["methods"]["scout"], "epochs": 3}},
    }
    run = made(plan(**alone), "scout")
    assert is_complete(run) and not (run.folder / "predictions_train.parquet").exists()
    scout = run_of(plan(**merge(PRUNED, {"methods": {"scout": {"epochs": 3}}})), "scout")
    assert scout.fingerprint == run.fingerprint and not is_complete(scout)


def test_a_stopped_scout_keeps_the_predictions_of_all_epochs(monkeypatch):
    changes = {"methods": {"scout": {"learning_rate": 2e-3, "epochs": 3}}}
    run = run_of(plan(**merge(PRUNED, changes)), "scout")
    make(run)
    expected = pd.read_parquet(run.folder / "predictions_train.parquet")
    shutil.rmtree(run.folder)
    interrupted(run, monkeypatch, at=6)
    make(run)
    pd.testing.assert_frame_equal(pd.read_parquet(run.folder / "predictions_train.parquet"), expected)


def test_scores_come_from_a_file_too_and_those_of_other_examples_are_refused(project, monkeypatch):
    scores = project / "scores.csv"
    table = pd.DataFrame({"idx": np.arange(64)[::-1], "score": np.arange(64)[::-1] / 2})
    table.to_csv(scores, index=False)
    changes = {"methods": {"pruned": {"select": {"by": "scores.csv", "of": None, "keep": 20}}}}
    run = run_of(plan(**merge(PRUNED, changes)), "pruned")
    assert trained_on(run, monkeypatch) == {*range(44, 64)}
    table[table["idx"] != 7].to_csv(scores, index=False)
    other = run_of(plan(**merge(PRUNED, changes)), "pruned")
    assert other.fingerprint != run.fingerprint
    with pytest.raises(UserError, match="example 7") as refused:
        train_run(other, MACHINE)
    assert "\n" not in str(refused.value)


def test_a_class_that_scores_leave_empty_is_refused_or_said(project, monkeypatch, capsys):
    inputs = run_of(plan(**PRUNED), "scout").inputs
    make(inputs)
    labels = pd.read_parquet(inputs.data.folder / "train.parquet")
    pd.DataFrame({"idx": labels["idx"], "score": labels["label"]}).to_csv(project / "one.csv", index=False)
    select = {"by": "one.csv", "of": None, "keep": 8, "empty_classes": "refuse"}
    with pytest.raises(UserError, match="empty_classes"):
        trained_on(run_of(plan(**merge(PRUNED, {"methods": {"pruned": {"select": select}}})), "pruned"), monkeypatch)
    select["empty_classes"] = "accept"
    seen = trained_on(run_of(plan(**merge(PRUNED, {"methods": {"pruned": {"select": select}}})), "pruned"), monkeypatch)
    assert len(seen) == 8 and "leaves no example" in capsys.readouterr().out


def test_an_epoch_may_have_as_many_steps_as_that_of_all_examples():
    changes = {"methods": {"pruned": {"steps_per_epoch": 4, "select": {"keep": 10}}}}
    run = made(plan(**merge(PRUNED, changes)), "pruned")
    assert [epoch["learning_rate"] for epoch in history(run)][-1] == 0
    assert read_json(run.marker)["params"]["steps_per_epoch"] == 4


def test_averages_and_controls_teach():
    common = {"title": "Taught", "weights": {"hard": 0.4, "beta_smoothing": 0.6}, "epochs": 2}
    changes = {
        "study": {"methods": ["average", "shuffled", "uniform"]},
        "methods": {
            "average": {**common, "id": "8.1", "teacher": {"average": 0.9}},
            "shuffled": {**common, "id": "8.2", "teacher": {"of": "teacher", "control": "shuffled", "weak": "accept"}},
            "uniform": {
                "id": "8.3",
                "title": "Uniform",
                "weights": {"soft": 1},
                "epochs": 2,
                "teacher": {"of": "teacher", "control": "uniform", "weak": "accept"},
            },
        },
    }
    study = plan(**changes)
    for name, term in {"average": "beta_smoothing", "shuffled": "beta_smoothing", "uniform": "soft"}.items():
        run = made(study, name)
        assert all(np.isfinite(epoch[term]) for epoch in history(run)) and is_complete(run)

"""Exporting: for every task its best student as a folder to hand on, with a card, ONNX files and GLUE's predictions.

results/<study>/export/<task>/model/         what from_pretrained loads, with README.md, the model card
                              onnx/          model.onnx, model-int8.onnx
                              submission/    GLUE's files, for its tasks
                              params.yaml    the study's parameters
                              export.json    what it was made from, files, choice, agreement, scores, latencies; last
results/<study>/export/submission.zip        all of GLUE's files
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from internal_kd.analysis.built import export_path, recorded_key, scores_are_current
from internal_kd.analysis.figures import Numbers, read_numbers
from internal_kd.artefacts import StudentRun
from internal_kd.data.tasks_on_disk import TaskOnDisk, read_task
from internal_kd.data.tokens import TokenSplit
from internal_kd.deployment.card import model_card
from internal_kd.deployment.choice import Choice, choose_student, settled
from internal_kd.deployment.contestants import ONNX, ONNX_INT8, TORCH, teacher_model, time_contestants
from internal_kd.deployment.exported import CARD, Wish, is_best, made_from, read_export
from internal_kd.deployment.facts import ExportFacts, OnnxFacts
from internal_kd.deployment.glue_submission import ARCHIVE, submission_files, submission_text, write_archive
from internal_kd.deployment.model_folder import (
    TOLERANCES,
    Agreement,
    agreement,
    check_tokenizer,
    load_exported,
    write_model_folder,
)
from internal_kd.deployment.onnx_files import FP32, INT8, PACKAGES, TOLERANCE, missing_packages, open_onnx, write_onnx
from internal_kd.deployment.splits import open_split
from internal_kd.deployment.timing import machine_name, versions_of
from internal_kd.distillation.hardware import Hardware, choose_hardware
from internal_kd.distillation.predicting import predict_logits, predictions_frame
from internal_kd.errors import UserError
from internal_kd.files import publish_folder, read_json, remove, staging_folder, write_json
from internal_kd.metrics import score_predictions
from internal_kd.records import read_record
from internal_kd.study import Study


def export_students(
    study: Study, wish: Wish, tasks: Sequence[str] = (), tell: Callable[[str], object] = print
) -> list[Path]:
    """Export one student of each of the tasks (of all when none is named); returns their ``export.json``.

    What is there already and was made from the same is left as it is. Without the packages for ONNX the rest is made.

    Raises:
        UserError: the tables are missing or behind the runs, no weights were kept, or an exported model does not give
            the logits that were recorded after its training.
    """
    key = recorded_key(study)
    if not scores_are_current(study):
        raise UserError(f"the tables of {study.name} are behind its runs or parameters: `internal-kd run` renews them")
    numbers = read_numbers(study)
    wish, made = settled(study, wish), []
    for task in tasks or study.tasks:
        choice = choose_student(study, numbers, task, wish)
        if choice.unfinished:
            tell(
                f"warning: {task}: seeds finished: {choice.unfinished}; once `internal-kd run` has trained the rest, "
                "another student may be chosen"
            )
        path = export_path(study, task)
        origin = made_from(key, wish, choice.run.fingerprint, missing_packages())
        there = read_export(path)
        if there is not None and there.get("made_from") == origin:
            tell(f"{path.parent} is complete already: nothing to do")
        else:
            _export(study, numbers, choice, path, origin)
            tell(f"{path.parent} is complete: {choice.run.label}")
        made.append(path)
    if left_out := _pack(study, key, made):
        tell(
            f"{ARCHIVE} leaves out {', '.join(left_out)}: exported by hand or from other scores, or no longer whole; "
            "`internal-kd run export` exports the best students"
        )
    return made


def _export(study: Study, numbers: Numbers, choice: Choice, path: Path, origin: dict[str, Any]) -> None:
    run, target = choice.run, path.parent
    task = read_task(run.tokens.data)
    with staging_folder(target) as staged:
        facts = _fill(study, numbers, choice, task, staged)
        (staged / CARD).write_text(model_card(facts), encoding="utf-8")
        write_json(staged / path.name, {"made_from": origin, **facts.as_json()})
        remove(path)
        for name in ("model", "onnx", "submission"):
            shutil.rmtree(target / name, ignore_errors=True)
        publish_folder(staged, target, last=path.name)


def _fill(study: Study, numbers: Numbers, choice: Choice, task: TaskOnDisk, folder: Path) -> ExportFacts:
    """Write all but the card into a folder, and measure it."""
    run, hardware = choice.run, choose_hardware("fp32")
    (folder / "params.yaml").write_text(study.as_yaml(), encoding="utf-8")
    uses_types = write_model_folder(run, task, folder / "model")
    model = load_exported(folder / "model")
    complete = not missing_packages()
    if complete:
        write_onnx(load_exported(folder / "model", "eager"), folder / "onnx", uses_types=uses_types)
    graphs = {ONNX: folder / "onnx" / FP32, ONNX_INT8: folder / "onnx" / INT8} if complete else {}
    with open_split(run.tokens, "dev") as dev:
        check_tokenizer(folder / "model", task, dev)
        hardware.place(model)
        logits = {TORCH: predict_logits(model, dev, hardware)}
        _write_submission(run, task, model, hardware, folder / "submission")
        Hardware(torch.device("cpu"), "fp32").place(model)
        as_predicted = _check_as_predicted(run, dev, logits[TORCH])
        threads = torch.get_num_threads()
        logits |= {name: open_onnx(graph, threads=threads).logits_of(dev) for name, graph in graphs.items()}
        sessions = {name: open_onnx(graph, threads=1) for name, graph in graphs.items()}
        teacher = next(r for r in study.teachers if r.task == run.task and r.seed == study.params.teacher.teaching_seed)
        cell = next(cell for cell in numbers.cells if cell.is_teacher and cell.task == run.task)
        latency = time_contestants(teacher_model(teacher, cell, task.classes), model, sessions, dev)
        scores = {name: _scores(task, dev, found) for name, found in logits.items()}
    return ExportFacts(
        study=study,
        choice=choice,
        task=task,
        numbers=numbers,
        teacher=teacher,
        record=read_record(run),
        encoder=read_json(run.encoder.marker),
        as_predicted=as_predicted,
        files=_sizes(folder),
        scores=scores,
        latency=tuple(latency),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", *(["onnxruntime"] if complete else [])),
        onnx=_onnx_facts(run, logits) if complete else None,
    )


def _check_as_predicted(run: StudentRun, dev: TokenSplit, logits: np.ndarray) -> Agreement:
    frame = pd.read_parquet(run.folder / "predictions.parquet").set_index("idx").loc[np.asarray(dev.idx)]
    recorded = frame[[name for name in frame.columns if name.startswith("logit_")]].to_numpy(np.float32)
    found = agreement(recorded, logits, TOLERANCES[read_record(run)["precision"]])
    if not found.holds:
        raise UserError(
            f"{run.folder}: its weights give other logits than its predictions (by up to {found.largest:.3g}, "
            f"{found.allowed:.3g} allowed); `dvc pull` the run again, or delete it and train it again"
        )
    return found


def _onnx_facts(run: StudentRun, logits: dict[str, np.ndarray]) -> OnnxFacts:
    found = agreement(logits[TORCH], logits[ONNX], TOLERANCE)
    if not found.holds:
        raise UserError(
            f"{run.label}: its ONNX graph gives other logits than torch (by up to {found.largest:.3g}, "
            f"{found.allowed:.3g} allowed); another version of {', '.join(PACKAGES)} may mend it"
        )
    # How much 8 bits cost differs from student to student: it is told, not judged.
    return OnnxFacts(found, agreement(logits[TORCH], logits[ONNX_INT8], None), versions_of("torch", *PACKAGES))


def _scores(task: TaskOnDisk, dev: TokenSplit, logits: np.ndarray) -> dict[str, float | None]:
    found = score_predictions(predictions_frame(dev, logits), task.metrics, task.regression)
    return {metric: value if math.isfinite(value) else None for metric, value in found.items()}


def _sizes(folder: Path) -> dict[str, int]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def _write_submission(
    run: StudentRun, task: TaskOnDisk, model: PreTrainedModel, hardware: Hardware, folder: Path
) -> None:
    for split, name in submission_files(run.tokens.data.glue, task).items():
        folder.mkdir(exist_ok=True)
        with open_split(run.tokens, split) as test:
            logits = predict_logits(model, test, hardware)
            text = submission_text(str(run.tokens.data.glue), test.idx, logits)
            (folder / name).write_text(text, encoding="utf-8")


def _pack(study: Study, key: str, made: Collection[Path]) -> list[str]:
    """Write one archive of the submissions of this call's exports and of the best students'; returns who is left out.

    Of two files of the same name the first task's counts.
    """
    files: dict[str, Path] = {}
    left_out = []
    for task in study.tasks:
        path = export_path(study, task)
        found = sorted((path.parent / "submission").glob("*.tsv"))
        # What lacks ONNX files predicts the same.
        if path in made or is_best(path, key, complete=False):
            files = {file.name: file for file in found} | files
        elif found:
            left_out.append(task)
    archive = study.folder / "export" / ARCHIVE
    if files:
        write_archive(archive, files)
    else:
        remove(archive)
    return left_out

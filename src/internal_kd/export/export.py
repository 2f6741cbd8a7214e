"""Exporting: for every task its best student, or a run that was asked for, as a folder for others to use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from internal_kd.checksums import publish
from internal_kd.data.examples import TaskOnDisk, read_task
from internal_kd.data.inputs import EncodedTask
from internal_kd.distillation.batches import Examples, labels_of, rows_of
from internal_kd.distillation.hardware import Hardware, choose_hardware
from internal_kd.distillation.predicting import predict_logits
from internal_kd.errors import UserError
from internal_kd.export.card import model_card
from internal_kd.export.choice import Choice, Request, Undefined, choose
from internal_kd.export.facts import ONNX, ONNX_INT8, TEACHER, TORCH, ExportFacts, OnnxFacts, score_lines
from internal_kd.export.folders import (
    CARD,
    MARKER,
    check_place,
    export_folder,
    export_path,
    is_current,
    made_from,
    not_made,
    read_export,
)
from internal_kd.export.glue_submission import ARCHIVE, submission_files, submission_text, write_archive
from internal_kd.export.model_folder import (
    TOLERANCES,
    Agreement,
    Caller,
    agreement,
    check_tokenizer,
    exported_caller,
    graph_source,
    is_encoder,
    write_model_folder,
)
from internal_kd.export.onnx import (
    BATCH,
    FP32,
    INT8,
    PACKAGES,
    TOLERANCE,
    OnnxModel,
    missing_packages,
    open_onnx,
    write_onnx,
    write_small_onnx,
)
from internal_kd.export.scores import Predictions, defined_score, entity_scores, predictions_of
from internal_kd.files import read_mapping, remove, staging_folder, write_json
from internal_kd.learners.small import open_network
from internal_kd.plan.runs import Run
from internal_kd.plan.store import WEIGHTS, is_complete, read_record, verified_folder
from internal_kd.plan.study import Study
from internal_kd.report.latency import LatencyLine, time_contestants
from internal_kd.report.timing import machine_name, versions_of
from internal_kd.steps.encode import encode_task
from internal_kd.tasks.kinds import KINDS

# Of timing, for each batch size; at least 5 rounds are made, whatever they take.
SECONDS = 5.0
_EXPORTED = ("model", "onnx", "submission")


def export_students(
    study: Study,
    *,
    task: str | None = None,
    method: str | None = None,
    run: str | None = None,
    point: Mapping[str, str] | None = None,
    to: Path | None = None,
    say: Callable[[str], object] = print,
) -> list[Path]:
    """Export one run of a task, or of every task, to ``results/<study>/export/<task>/``; return every ``export.json``.

    Without anything asked for it is the best student. An export that is complete and what would be made now is left
    alone. Without the packages for ONNX everything else is made. What is wrong with one task does not keep the others
    from being exported.

    Args:
        task: one task; all of them if None.
        method: the method to export, a teacher included.
        run: the fingerprint of the run to export, or its beginning.
        point: values of varied keys, such as ``{"learner.layers": "3"}``.
        to: another folder for the export of one task.
        say: takes one line at a time; what needs attention begins with ``warning:``.

    Raises:
        UserError: no such task, method or run; no run or no weights; ``to`` has other files; an exported model does not
            give the logits that were recorded after its training. If several tasks are exported, when the others are
            done.
    """
    names = _tasks(study, task, run)
    if to is not None and len(names) != 1:
        raise UserError("--to is a folder for one export; name a task too")
    if to is not None:
        check_place(to)
    request = Request(method, run, dict(point or {}))
    if missing := missing_packages():
        say(f"warning: ONNX files are left out: {' and '.join(missing)} are not installed (pip install '.[export]')")
    made: list[Path] = []
    problems: list[UserError] = []
    for name in names:
        path = to / MARKER if to else export_path(study, name)
        try:
            _export_task(study, name, request, path, say)
            made.append(path)
        except Undefined as problem:
            say(f"warning: {problem}")
            problems.append(problem)
            _note_problem(path, name, str(problem))
        except UserError as problem:
            problems.append(problem)
    if to is None:
        _pack(study, made, say)
    fatal = [problem for problem in problems if not isinstance(problem, Undefined)]
    if fatal or (problems and not made):
        raise (fatal or problems)[0]
    return made


def _tasks(study: Study, task: str | None, run: str | None) -> tuple[str, ...]:
    if task is not None and task not in study.tasks:
        raise UserError(f"unknown task {task!r}; the study has {', '.join(study.tasks)}")
    if task is not None:
        return (task,)
    return tuple(study.tasks) if run is None else (study.run_beginning(run).task,)


def _export_task(study: Study, name: str, request: Request, path: Path, say: Callable[[str], object]) -> None:
    task = read_task(study.tasks[name].data)
    choice = choose(study, name, task.info, request)
    if choice.unfinished:
        say(f"warning: {name}: not every run is finished ({'; '.join(choice.unfinished)}); another may be chosen later")
    origin = made_from(study, choice, request)
    there = read_export(path)
    if there is not None and there["made_from"] == origin:
        say(f"{path.parent} is complete already: nothing to do")
        return
    target = path.parent
    with staging_folder(target) as staged:
        facts = _fill(study, choice, task, staged)
        (staged / CARD).write_text(model_card(facts), encoding="utf-8")
        remove(path)
        for folder in _EXPORTED:
            shutil.rmtree(target / folder, ignore_errors=True)
        publish(staged, target, {"made_from": origin, **facts.as_json()}, MARKER)
    say(f"{target} is complete: {choice.run.label}")


def _note_problem(path: Path, task: str, problem: str) -> None:
    """Record why a task is not exported, in place of its export."""
    for folder in _EXPORTED:
        shutil.rmtree(path.parent / folder, ignore_errors=True)
    write_json(path, {"made_from": not_made(problem), "task": task, "files": {}, "problem": problem})


def _fill(study: Study, choice: Choice, task: TaskOnDisk, folder: Path) -> ExportFacts:
    """Write everything but the card into a folder, verify and measure it."""
    run, info = choice.run, task.info
    if not is_complete(run.inputs):  # scratch; a pulled run has none
        encode_task(run.inputs)
    data = EncodedTask.of(run.inputs)
    dev = data.split("dev")
    (folder / "params.yaml").write_text(study.as_yaml(), encoding="utf-8")
    write_model_folder(run, info, folder / "model")
    model = exported_caller(run, folder / "model")
    gpu, cpu = choose_hardware("fp32"), Hardware(torch.device("cpu"), "fp32")
    gpu.place(model.module)
    logits, sizes = {TORCH: _predict(model, dev, gpu)}, {TORCH: _size(folder / "model")}
    as_predicted = _check_as_predicted(run, dev, logits[TORCH])
    _write_submission(run, data, model, gpu, folder / "submission")
    cpu.place(model.module)
    uses_types = is_encoder(run) and check_tokenizer(folder / "model", task.frame("dev"), data.texts("dev"))
    sessions = {}
    if not missing_packages():
        if is_encoder(run):
            write_onnx(graph_source(run, info, folder / "model"), folder / "onnx", uses_types=uses_types)
        else:
            write_small_onnx(open_network(folder / "model"), folder / "onnx")  # type: ignore[arg-type]
        for name, file in ((ONNX, FP32), (ONNX_INT8, INT8)):
            path = folder / "onnx" / file
            logits[name] = _predict(open_onnx(path, threads=torch.get_num_threads()).caller(), dev, cpu)
            sessions[name], sizes[name] = open_onnx(path, threads=1), path.stat().st_size
    everything = np.arange(len(dev))
    rows, labels = rows_of(dev, everything), labels_of(dev, everything)
    predictions = {name: Predictions(rows, labels, found) for name, found in logits.items()}
    scores = {name: {m: defined_score(found, info, m) for m in info.metrics} for name, found in predictions.items()}
    return ExportFacts(
        study=study,
        choice=choice,
        task=task,
        record=read_record(run),
        encoder=read_mapping(run.encoder.marker) if run.encoder else {},
        as_predicted=as_predicted,
        sizes=sizes,
        scores=scores,
        lines=score_lines(choice, task, scores[TORCH]),
        entities=entity_scores(predictions[TORCH], info),
        predicts=len(np.unique(KINDS[info.kind].predicted(logits[TORCH]))),
        latency=tuple(_time(run, model, sessions, dev)),
        machine=machine_name(),
        versions=versions_of("torch", "transformers", *(["onnxruntime"] if sessions else [])),
        onnx=_onnx_facts(run, logits) if sessions else None,
    )


def _predict(caller: Caller, examples: Examples, hardware: Hardware) -> np.ndarray:
    return predict_logits(caller, examples, hardware, batch_size=BATCH)  # type: ignore[arg-type]


def _check_as_predicted(run: Run, dev: Examples, logits: np.ndarray) -> Agreement:
    recorded = predictions_of(run)
    order = np.argsort(rows_of(dev, np.arange(len(dev))), kind="stable")
    found = agreement(recorded.logits, logits[order], TOLERANCES[read_record(run)["precision"]])
    if not found.holds:
        raise UserError(
            f"{run.folder}: its weights give other logits than its predictions (by up to {found.largest:.3g}, "
            f"{found.allowed:.3g} allowed); `dvc pull` the run again, or delete it and train it again"
        )
    return found


def _onnx_facts(run: Run, logits: Mapping[str, np.ndarray]) -> OnnxFacts:
    found = agreement(logits[TORCH], logits[ONNX], TOLERANCE)
    if not found.holds:
        raise UserError(
            f"{run.label}: its ONNX graph gives other logits than torch (by up to {found.largest:.3g}, "
            f"{found.allowed:.3g} allowed); try another version of {' and '.join(PACKAGES)}"
        )
    # How much 8 bits cost differs from model to model: it is recorded, not judged.
    return OnnxFacts(found, agreement(logits[TORCH], logits[ONNX_INT8], None), versions_of("torch", *PACKAGES))


def _time(run: Run, model: Caller, graphs: Mapping[str, OnnxModel], dev: Examples) -> list[LatencyLine]:
    """Time a run beside the first of its teachers whose weights are here and that reads the same."""
    asked: dict[str, Callable[[Any], object]] = {}
    kept = (one for one in run.teachers if (one.folder / WEIGHTS).is_file())
    teacher = next((one for one in kept if one.inputs.form == run.inputs.form), None)
    if teacher is not None:
        asked[TEACHER] = exported_caller(teacher, verified_folder(teacher, "model")).read
    asked[TORCH] = model.read
    for name, graph in graphs.items():
        asked[name] = graph.answer
    return time_contestants({name: (ask, dev) for name, ask in asked.items()}, seconds=SECONDS)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _write_submission(run: Run, data: EncodedTask, model: Caller, hardware: Hardware, folder: Path) -> None:
    glue = run.inputs.data.glue
    for split, name in submission_files(glue, data.info).items():
        folder.mkdir(exist_ok=True)
        test = data.split(split)
        text = submission_text(str(glue), test.idx, _predict(model, test, hardware))
        (folder / name).write_text(text, encoding="utf-8")


def _pack(study: Study, made: list[Path], say: Callable[[str], Any]) -> None:
    """Write one archive of the submissions of these exports and of the best students'.

    Of two files of one name the first task's counts.
    """
    files: dict[str, Path] = {}
    left_out = []
    for task in study.tasks:
        path = export_path(study, task)
        found = sorted((path.parent / "submission").glob("*.tsv"))
        if found and (path in made or is_current(study, task, or_other_packages=True)):
            files = {file.name: file for file in found} | files
        elif found:
            left_out.append(task)
    archive = export_folder(study) / ARCHIVE
    if files:
        write_archive(archive, files)
    else:
        remove(archive)
    if left_out:
        say(
            f"{ARCHIVE} leaves out {', '.join(left_out)}: not the best student by the present scores, or incomplete; "
            "export all tasks to have them in it"
        )

"""A study looked at before anything is trained: its examples, token ids, encoder, answers, and this machine.

Local data and encoders are fetched and encoded, as ``internal-kd run`` would do first; nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from internal_kd.errors import UserError
from internal_kd.files import read_mapping
from internal_kd.learners.finished import FinishedModel
from internal_kd.plan.artefacts import Artefact, Data, Encoder, Inputs
from internal_kd.plan.known import known_labels
from internal_kd.plan.runs import Answers, AnswersFile, Run
from internal_kd.plan.store import problem_with
from internal_kd.plan.study import Study
from internal_kd.running.forecast import model_bytes, needed_disk, needed_downloads, readable
from internal_kd.running.leases import available_gpus
from internal_kd.running.make import make, to_make

# A share of truncated training texts, or of one class among dev examples, that is worth a warning.
MANY_CUT = 0.05
LOPSIDED = 0.9
FEW_EXAMPLES = 100
# Adam holds a gradient and two moments for every weight.
TRAINING = 4


@dataclass
class Findings:
    """What was found, one line each: facts, what is suspicious, and what keeps the study from running."""

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


def check(study: Study) -> Findings:
    """Look at everything that can be looked at without a network or a training."""
    needed = [artefact for artefact, _ in to_make(study.runs).values()]
    left = sum(isinstance(artefact, Run) for artefact in needed)
    found = Findings([f"study {study.name}: {len(study.runs)} runs, {left} to train"])
    usable = {fp for fp, artefact in study.artefacts.items() if _prepare(artefact, study, found)}
    for artefact in _of(study, Encoder):
        if artefact.fingerprint in usable:
            found.facts.append(_encoder_line(artefact))
    for data in _of(study, Data):
        if data.fingerprint in usable:
            found.facts += _data_lines(data)
            found.warnings += data_warnings(data)
    for inputs in _of(study, Inputs):
        if inputs.fingerprint in usable and inputs.encoder is not None:
            found.facts.append(_length_line(inputs, inputs.encoder.name))
            found.warnings += length_warnings(inputs)
    _check_teachers(study, usable, found)
    _check_machine(study, needed, found)
    return found


def refuse_answers(study: Study) -> None:
    """Refuse a file of answers that cannot be used, as far as its task is known; one that was recorded can be.

    Raises:
        UserError: what is wrong in it, with the row.
    """
    from internal_kd.data.answers_file import answers_from_file, read_answers
    from internal_kd.data.examples import text_columns

    for answers in _of(study, Answers):
        data = answers.inputs.data
        if not isinstance(answers.of, AnswersFile) or not problem_with(answers):
            continue
        if not problem_with(data):
            answers_from_file(answers.of.path, data, answers.of.content, answers.of.occurrences)
        elif data.kind == "tags":
            continue  # what it is about is known once the sentences are
        elif (labels := known_labels(data)) is not None:
            texts = list(dict.fromkeys([*text_columns(data, 2), *text_columns(data, 1)]))
            read_answers(answers.of.path, data.kind, labels, texts)


def warnings_of(study: Study) -> list[str]:
    """Return what is suspicious about the user's own data of a study, as far as they were fetched and encoded."""
    own = [data for data in _of(study, Data) if data.files and data.glue is None and not problem_with(data)]
    encoded = [inputs for inputs in _of(study, Inputs) if inputs.data in own and not problem_with(inputs)]
    return [*chain(*map(data_warnings, own)), *chain(*map(length_warnings, encoded))]


def data_warnings(data: Data) -> list[str]:
    """Return what is suspicious about a fetched task."""
    manifest = read_mapping(data.marker)
    lines = list(map(str, manifest.get("warnings", [])))
    dev = manifest["splits"].get("dev", {})
    if shares := dev.get("label_shares"):
        label, share = max(shares.items(), key=lambda item: item[1])
        if LOPSIDED <= share < 1:
            lines.append(f"{share:.0%} of the dev examples are {label!r}: always answering that has this accuracy")
    if dev and dev["rows"] < FEW_EXAMPLES:
        lines.append(f"{dev['rows']} dev examples: one of them moves an accuracy by {100 / dev['rows']:.1f} points")
    return [f"tasks.{data.name}: {line}" for line in lines]


def length_warnings(inputs: Inputs) -> list[str]:
    """Return a line if a task's training texts are truncated often."""
    train = _encoded(inputs)
    share = train.get("cut", 0) / train.get("rows", 1)
    if share < MANY_CUT:
        return []
    return [
        f"tasks.{inputs.task}: max_length {inputs.max_length} cuts {share:.0%} of the train examples; a larger one "
        "reads more of them"
    ]


def _of(study: Study, kind: type[Any]) -> list[Any]:
    chosen = [artefact for artefact in study.artefacts.values() if isinstance(artefact, kind)]
    return sorted(chosen, key=lambda artefact: artefact.label)


def _prepare(artefact: Artefact, study: Study, found: Findings) -> bool:
    """Make data, an encoder or token ids if that needs no network, and return whether they are there."""
    if not isinstance(artefact, Data | Encoder | Inputs) or (
        isinstance(artefact, Inputs) and artefact.form != "tokens"
    ):
        return False  # the vectors of sentences take a model
    if not problem_with(artefact):
        return True
    if _is_remote(artefact):
        return False
    if isinstance(artefact, Inputs) and not all(_prepare(one, study, Findings()) for one in artefact.reads().values()):
        return False  # the source has said why
    try:
        make(artefact, study)
    except UserError as error:
        found.errors.append(str(error))
        return False
    return True


def _is_remote(source: Artefact) -> bool:
    if isinstance(source, Encoder):
        return source.path is None
    return isinstance(source, Data) and source.hub is not None


def _encoder_line(encoder: Encoder) -> str:
    facts = read_mapping(encoder.marker)
    size = sum(file["bytes"] for name, file in facts["files"].items() if name.endswith(".safetensors"))
    return (
        f"encoder {encoder.name}: {facts['model_type']}, {facts['layers']} layers of width {facts['width']} with "
        f"{facts['heads']} heads, {readable(size)}, licence {facts['licence']}"
    )


def _data_lines(data: Data) -> list[str]:
    lines, manifest = [], read_mapping(data.marker)
    scored = manifest["task"].get("scored_on", "dev set").split()[0]
    for split, facts in manifest["splits"].items():
        shares = ", ".join(f"{label} {share:.0%}" for label, share in list(facts["label_shares"].items())[:12])
        name = split.replace("dev", scored)
        lines.append(f"tasks.{data.name}: {facts['rows']} {name} examples{f' ({shares})' if shares else ''}")
    return lines


def _encoded(inputs: Inputs) -> Mapping[str, Any]:
    """Return what is recorded of the training texts; nothing of pixels and sentence vectors."""
    return read_mapping(inputs.marker)["splits"]["train"] if inputs.form == "tokens" else {}


def _length_line(inputs: Inputs, encoder: str) -> str:
    train = _encoded(inputs)
    cut = f", {train['cut']} of {train['rows']} examples cut" if "cut" in train else ""
    if "in_windows" in train:  # sentences of tags are never cut
        cut = f", {train['in_windows']} of {train['sentences']} sentences in several windows"
    return (
        f"tasks.{inputs.task}: {train['tokens'] / train['rows']:.0f} tokens on average in {encoder}, "
        f"{train['longest']} at most, max_length {inputs.max_length}{cut}"
    )


def _check_teachers(study: Study, usable: Iterable[str], found: Findings) -> None:
    """Match the classes of somebody's model, and the texts of a file of answers, with the task's."""
    from internal_kd.data.answers_file import answers_from_file
    from internal_kd.data.examples import read_task

    for artefact in study.artefacts.values():
        try:
            if isinstance(artefact, Answers) and isinstance(artefact.of, AnswersFile):
                if artefact.inputs.data.fingerprint in usable:
                    file = artefact.of
                    answers = answers_from_file(file.path, artefact.inputs.data, file.content, file.occurrences)
                    fact, *suspicious = (f"{artefact.of.path}: {line}" for line in answers.report.lines())
                    found.facts.append(fact)
                    found.warnings += suspicious
            elif isinstance(artefact, Run) and isinstance(artefact.method.learner, FinishedModel):
                model, data = artefact.reader, artefact.inputs.data
                if {model.fingerprint, data.fingerprint} <= set(usable):
                    artefact.method.learner.order(model.folder, read_task(data).info.labels, data.kind)
        except UserError as error:
            found.errors.append(str(error))


def _check_machine(study: Study, needed: Sequence[Artefact], found: Findings) -> None:
    import psutil

    memory, gpus = psutil.virtual_memory().total, available_gpus()
    where = f"{len(gpus)} GPUs" if gpus else "no GPU: everything is computed on the CPU"
    found.facts.append(f"this machine: {os.cpu_count()} cores, {readable(memory)} of memory, {where}")
    if downloads := needed_downloads(needed):
        found.facts.append(f"{downloads}; they are checked once they are here")
    if disk := needed_disk(study, needed):
        (found.warnings if disk.startswith("WARNING") else found.facts).append(disk.removeprefix("WARNING, "))
    largest = max((model_bytes(run) or 0 for run in needed if isinstance(run, Run)), default=0)
    if not gpus and largest * TRAINING > memory:
        found.warnings.append(
            f"the largest model takes {readable(largest * TRAINING)} of memory to train, this machine has "
            f"{readable(memory)}"
        )

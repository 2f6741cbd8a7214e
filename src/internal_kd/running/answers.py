"""A run's answers as a file, which can teach in another study: ``teacher: {answers: FILE}``."""

from __future__ import annotations

from pathlib import Path

from internal_kd.errors import UserError
from internal_kd.params.method import SelectParams
from internal_kd.plan.artefacts import Answers, Artefact, Need, Run
from internal_kd.plan.recipes import RECIPES
from internal_kd.plan.store import verifier
from internal_kd.plan.study import Study
from internal_kd.running.make import WITHOUT_WEIGHTS, make, problem_for_readers

LOGITS = Need(("soft",), "{}", "uniform", None, SelectParams(), accepts_weak=True)


def write_answers_of(run: Artefact, study: Study, path: Path, options: str = "") -> int:
    """Write a run's logits for all training examples of its task as JSON Lines, and return their number.

    Args:
        run: a finished run with its weights.
        study: that it belongs to.
        path: the file, ending in .jsonl.
        options: as in ``make``.

    Raises:
        UserError: this is not a run, its weights are missing, or the file's name has another ending.
    """
    from internal_kd.data.answers_file import write_answers
    from internal_kd.data.examples import read_task

    if not isinstance(run, Run):
        raise UserError(f"{run.folder} is not a run: only runs have answers; `internal-kd runs` lists them")
    if path.suffix != ".jsonl":
        raise UserError(f"{path}: answers are written as JSON Lines: give a name that ends in .jsonl")
    if problem_for_readers(run) == WITHOUT_WEIGHTS:
        raise UserError(
            f"{run.folder} has no weights, which `machine.keep_models` decides: `dvc pull` brings them if they are kept "
            f"elsewhere, or delete {run.marker.name} there and make the run again"
        )
    answers = Answers(RECIPES["record_answers"], (run,), run.inputs, frozenset({LOGITS}))
    make(answers, study, options)

    import torch

    from internal_kd.distillation.recording import RecordingReader

    reader = RecordingReader(answers.folder, verify=verifier(answers))
    found = reader.read(torch.from_numpy(reader.ids), 0, [("logits", 0)])
    write_answers(path, reader.ids.tolist(), found["logits", 0].numpy(), read_task(run.inputs.data).info.labels)
    return len(reader.ids)

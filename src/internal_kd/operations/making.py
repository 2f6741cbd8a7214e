"""Making one artefact by hand or for Snakemake: find it, check what it reads, do the step."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from internal_kd.artefacts import Artefact, EncoderFiles, Run, StudentRun, TaskData, TeacherOutputs, TeacherRun
from internal_kd.operations.catalogue import Catalogue, lack_of
from internal_kd.operations.leases import lease_gpu
from internal_kd.operations.tracking.live import live_tracking
from internal_kd.params.study import Params
from internal_kd.records import problem_with


def make(artefact: Artefact, catalogue: Catalogue) -> bool:
    """Do the step that makes an artefact; return False when it is complete already.

    Raises:
        UserError: an input is missing or broken; the line names the command that makes it.
    """
    # Teachers are asked for by name when their weights are wanted; other runs are whole without weights.
    done = lack_of(artefact) is None if isinstance(artefact, TeacherRun) else problem_with(artefact) is None
    if done:
        return False
    catalogue.check_inputs(artefact)
    step = getattr(importlib.import_module(f"internal_kd.steps.{artefact.step}"), artefact.step)
    study = catalogue.study
    with surroundings(artefact, study.params), _shown_live(artefact, study.name) as live:
        step(artefact, **_options(artefact, study.params), **live)
    return True


@contextmanager
def surroundings(artefact: Artefact, params: Params) -> Iterator[None]:
    """What holds while a step works. Only the two fetching steps may use a network, only training needs a GPU."""
    if not isinstance(artefact, TaskData | EncoderFiles):
        # Read by the libraries when they are imported, so set before any step imports them.
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with lease_gpu(params.machine.jobs_per_gpu) if isinstance(artefact, Run | TeacherOutputs) else nullcontext():
        yield


@contextmanager
def _shown_live(artefact: Artefact, study: str) -> Iterator[dict[str, Any]]:
    """Yield the option by which a training tells MLflow its epochs, where MLFLOW_TRACKING_URI asks for that."""
    if not isinstance(artefact, Run):
        yield {}
        return
    with live_tracking(artefact, study) as on_epoch:
        yield {"on_epoch": on_epoch}


def _options(artefact: Artefact, params: Params) -> dict[str, Any]:
    machine = params.machine
    if isinstance(artefact, StudentRun):
        kept = {"all": True, "first-seed": artefact.seed == params.study.seeds[0], "none": False}
        return {"machine": machine, "keep_model": kept[machine.keep_models]}
    return {"machine": machine} if isinstance(artefact, TeacherRun | TeacherOutputs) else {}

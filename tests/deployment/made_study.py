"""A study whose students were not trained but have real weights, real predictions and real records."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from internal_kd.analysis.built import export_path
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.scoring import score_runs
from internal_kd.artefacts import Run, StudentRun
from internal_kd.data.generator import generate
from internal_kd.deployment import contestants, students
from internal_kd.deployment.exported import Wish
from internal_kd.deployment.facts import ExportFacts
from internal_kd.deployment.onnx_files import missing_packages
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.making import make
from internal_kd.params import merge, parse_params, read_yaml
from internal_kd.study import Study, plan_study
from tiny_study import ROOT, VALUES, make_encoder

DEV_ROWS = 48
needs_onnx = pytest.mark.skipif(
    bool(missing_packages()), reason=f"{', '.join(missing_packages())} missing: pip install '.[export]'"
)
OVERLAY: dict[str, Any] = {
    "study": {"name": "tiny", "tasks": ["judge", "rte"], "methods": ["soft", "stacked"]},
    "tasks": {"rte": None},
    "data": {"root": "glue"},
    "teacher": {"seeds": [1]},
}


def plan(**changes: Any) -> Study:
    """Plan it in the current directory."""
    return plan_study(parse_params(merge(merge(merge(read_yaml(ROOT / "params.yaml"), VALUES), OVERLAY), changes)))


def make_study() -> Study:
    """Make it in the current directory: two tasks, one of them GLUE's with a test set, tables and all."""
    (Path("paper")).mkdir()
    shutil.copyfile(ROOT / "paper/claims.yaml", "paper/claims.yaml")
    make_encoder(Path("encoder"))
    write_glue(Path("glue/RTE"))
    study = plan()
    catalogue = Catalogue(study)
    for tokens in study.tasks.values():
        for artefact in (tokens.data, tokens.encoder, tokens):
            make(artefact, catalogue)
    for run in study.runs:
        write_trained(run)
    score_runs(study)
    compare_runs(study)
    return study


@dataclass(frozen=True)
class Made:
    """Where the exported study lies, and what its exports knew of themselves, by task."""

    folder: Path
    study: Study
    facts: dict[str, ExportFacts]


def export_made_study(folder: Path) -> Made:
    """Make it in a folder and export its best students."""
    facts: dict[str, ExportFacts] = {}
    write = students.model_card

    def noting(known: ExportFacts) -> str:
        facts[known.task.task] = known
        return write(known)

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(contestants, "SECONDS", 0.0)
        patch.setattr(students, "model_card", noting)
        study = make_study()
        students.export_students(study, Wish())
    return Made(folder, study, facts)


def told(study: Study, task: str) -> dict[str, Any]:
    """Return what a task's export.json says."""
    return json.loads(export_path(study, task).read_text())


def folder_of(study: Study, task: str) -> Path:
    """Return where a task's export lies."""
    return export_path(study, task).parent


def write_glue(folder: Path) -> None:
    """Write RTE's three files with sentences of the generator's."""
    folder.mkdir(parents=True)
    texts = [example.text_a for example in generate("acceptability", train=200, dev=10, seed=3)["train"]]
    rng = np.random.default_rng(0)
    for split, rows in {"train": 20, "dev": DEV_ROWS, "test": 30}.items():
        lines = ["index\tsentence1\tsentence2" + ("" if split == "test" else "\tlabel")]
        for row in range(rows):
            pair = [texts[k] for k in rng.integers(len(texts), size=2)]
            label = [] if split == "test" else [("entailment", "not_entailment")[int(rng.integers(2))]]
            lines.append("\t".join([str(row), *pair, *label]))
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def write_trained(run: Run) -> None:
    """Write a run as its training would have: random weights, but its own predictions and record."""
    import torch

    from internal_kd.data.tokens import TokenStore
    from internal_kd.distillation.hardware import choose_hardware
    from internal_kd.distillation.trainer import TrainingResult
    from internal_kd.models.classifiers import load_classifier
    from internal_kd.steps.finishing import Stopwatch, write_run

    tokens = TokenStore(run.tokens.folder)
    depth = run.depth if isinstance(run, StudentRun) else None
    model = load_classifier(run.encoder.folder, tokens.classes, depth=depth, seed=run.seed)
    with torch.no_grad():  # wide enough for logits that tell examples apart
        generator = torch.Generator().manual_seed(run.seed + 10 * len(run.label))
        for weight in (w for w in model.parameters() if w.ndim == 2):
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))
    line = {"epoch": 1, "stage": "all", "loss": 1.0, "learning_rate": 1e-4, "seconds": 1.0}
    result = TrainingResult([line], 16, 1, 100.0)
    write_run(run, model, tokens, choose_hardware("fp32"), result, Stopwatch(run), keep_model=True)

"""The YAML at the head of a model card: what the hub reads, and only what is known."""

from __future__ import annotations

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from internal_kd.export.facts import ExportFacts
from internal_kd.export.model_folder import is_encoder
from internal_kd.params.data import OWN, GlueEntry
from internal_kd.plan.runs import Run
from internal_kd.report.words import base_metric
from internal_kd.tasks.glue import GLUE

# The hub's own words; any other licence is "other" with its name.
LICENCES = frozenset(
    {
        "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-3.0",
        "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0",
        "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0", "cc-by-nd-4.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl",
        "lgpl-2.1", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "epl-2.0", "eupl-1.2", "isc", "unlicense", "wtfpl",
        "zlib", "afl-3.0", "artistic-2.0", "openrail", "bigscience-openrail-m", "creativeml-openrail-m",
        "unknown",
    }
)  # fmt: skip
NOT_STATED = "not stated"
HUB_METRICS = {"macro_f1": "f1", "pearson": "pearsonr", "spearman": "spearmanr"}


def header(facts: ExportFacts) -> str:
    """Return the front matter that the hub reads, with only what is known, without its lines of dashes."""
    run, encoder = facts.run, facts.run.encoder.encoder if facts.run.encoder else None
    data, plain = run.inputs.data, is_encoder(facts.run)
    stated = encoder.licence if encoder else NOT_STATED
    licence: dict[str, Any] = {key: value for key, value in licence_of(stated).items() if value}
    kind = facts.encoder["model_type"] if plain else run.method.learner.kind
    card = ModelCardData(
        # Generated and GLUE texts are English; of a user's own nothing is known.
        language=None if isinstance(data.entry, OWN) else "en",
        **licence,
        library_name="transformers" if plain else "internal-kd",
        pipeline_tag=_task_type(facts),
        tags=[kind, *(["knowledge-distillation"] if run.parts else [])],
        base_model=encoder.id if encoder and plain and encoder.source == "hub" else None,
        datasets=[data.hub.repository] if data.hub is not None else None,
        metrics=sorted({hub_metric(metric) for metric in facts.task.info.metrics}),
        model_name=model_name(run),
        eval_results=_results(facts),
    )
    return card.to_yaml()


def model_name(run: Run) -> str:
    """Return a name such as ``bert-base-uncased-L6-rte-stacked``."""
    encoder = f"{run.encoder.name}-" if run.encoder and is_encoder(run) else ""
    return f"{encoder}{run.method.variant}-{run.task}-{run.method.name}"


def licence_of(stated: str) -> dict[str, str | None]:
    """Return ``license`` and, for one that the hub has no word for, ``license_name``."""
    word = stated.strip().lower()
    if word in ("", "none", NOT_STATED):
        return {"license": "unknown", "license_name": None}
    if word in LICENCES:
        return {"license": word, "license_name": None}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", word).strip("-")[:60]}


def hub_metric(name: str) -> str:
    """Return the hub's name of a metric."""
    return HUB_METRICS.get(base_metric(name), base_metric(name))


def _task_type(facts: ExportFacts) -> str:
    if facts.task.info.kind == "tags":
        return "token-classification"
    return "text-classification" if facts.task.info.texts else "image-classification"


def _results(facts: ExportFacts) -> list[EvalResult] | None:
    data, info = facts.run.inputs.data, facts.task.info
    glue = GLUE[str(data.glue)] if isinstance(data.entry, GlueEntry) else None
    results = [
        EvalResult(
            task_type=_task_type(facts),
            dataset_type=data.hub.repository if data.hub else (glue.name if glue else info.name),
            dataset_name=info.title,
            dataset_config=glue.name if glue else None,
            dataset_split=glue.hub_splits[line.column.split] if glue else line.column.split,
            dataset_revision=data.hub.revision if data.hub else None,
            metric_type=hub_metric(line.column.metric),
            metric_name=line.column.name,
            metric_value=round(line.model, 6),
        )
        for line in facts.lines
        if line.model is not None
    ]
    return results or None

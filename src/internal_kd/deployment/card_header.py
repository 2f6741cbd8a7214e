"""The YAML at the head of a model card: what the hub reads, and only what is known."""

from __future__ import annotations

import re
from typing import Any

from internal_kd.analysis.tables import base_metric
from internal_kd.deployment.facts import ExportFacts
from internal_kd.params.sources import FilesEntry, GlueEntry
from internal_kd.tasks import GLUE

# The hub's own words; any other licence is "other" with its name beside it.
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
HUB_METRICS = {"macro_f1": "f1", "pearson": "pearsonr", "spearman": "spearmanr"}


def header(facts: ExportFacts) -> str:
    """Return the front matter, the lines of dashes included."""
    from huggingface_hub import ModelCardData

    run, encoder = facts.choice.run, facts.study.params.encoder
    data = run.tokens.data
    licence: dict[str, Any] = {key: value for key, value in licence_of(encoder.licence).items() if value}
    # Generated and GLUE texts are English; of one's own nothing is known.
    language = None if isinstance(data.entry, FilesEntry) else "en"
    card = ModelCardData(
        language=language,
        **licence,
        library_name="transformers",
        pipeline_tag="text-classification",
        tags=[facts.encoder["model_type"], *(["knowledge-distillation"] if run.outputs else [])],
        base_model=encoder.id if encoder.source == "hub" else None,
        datasets=[data.hub.repository] if data.hub is not None else None,
        metrics=sorted({hub_metric(metric) for metric in facts.task.metrics}),
        model_name=model_name(facts),
        eval_results=_results(facts),
    )
    return f"---\n{card.to_yaml()}\n---\n"


def model_name(facts: ExportFacts) -> str:
    """Return a name that says what it is, such as ``bert-base-uncased-L6-rte-stacked``."""
    run = facts.choice.run
    return f"{run.encoder.name}-L{run.depth}-{run.task}-{run.method.name}"


def licence_of(stated: str) -> dict[str, str | None]:
    """Return ``license`` and, for one the hub has no word for, ``license_name``."""
    word = stated.strip().lower()
    if word in ("", "none", "not stated"):
        return {"license": "unknown", "license_name": None}
    if word in LICENCES:
        return {"license": word, "license_name": None}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", word).strip("-")[:60]}


def hub_metric(metric: str) -> str:
    """Return the hub's name of a metric."""
    return HUB_METRICS.get(base_metric(metric), base_metric(metric))


def _results(facts: ExportFacts) -> list[Any] | None:
    from huggingface_hub import EvalResult

    run, task = facts.choice.run, facts.task
    data = run.tokens.data
    glue = GLUE[str(data.glue)] if isinstance(data.entry, GlueEntry) else None
    results = []
    for name, metric, split in facts.numbers.facts[task.task].scored:
        value = facts.dev_score(name)
        if value is not None:
            results.append(
                EvalResult(
                    task_type="text-classification",
                    dataset_type=data.hub.repository if data.hub else (glue.name if glue else task.task),
                    dataset_name=task.title,
                    dataset_config=glue.hub_config if glue else None,
                    dataset_split=glue.hub_splits[split] if glue else split,
                    dataset_revision=data.hub.revision if data.hub else None,
                    metric_type=hub_metric(metric),
                    metric_name=metric,
                    metric_value=round(value, 6),
                )
            )
    return results or None

"""The page of parameters, from pydantic's descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from internal_kd.distillation.curricula import CURRICULA, Phase, Schedule
from internal_kd.distillation.objectives import OBJECTIVES
from internal_kd.distillation.selectors import SCORES, SELECTORS
from internal_kd.learners.encoder import Start
from internal_kd.learners.layers import MAPS
from internal_kd.learners.learner import LEARNERS
from internal_kd.params.data import DataParams, EncoderParams, FilesEntry, GeneratorEntry, GlueEntry, TaskCommon
from internal_kd.params.method import MethodParams, ScoutParams, SelectParams, TeacherParams
from internal_kd.params.study import AnalysisParams, MachineParams, Params, ResourceParams, StudyParams
from internal_kd.registry import resolve
from internal_kd.tasks.metrics import METRICS
from reference_pages.markdown import code_names, prose, summary, table

# Keys whose name alone is their description in the code. One that gets a description there is removed here.
UNDESCRIBED = {
    "epochs": "passes over the training examples",
    "batch_size": "examples per step",
    "learning_rate": "highest learning rate, after the warm-up",
    "weight_decay": "of AdamW or SGD",
    "max_gradient_norm": "longer gradients are scaled down to this norm",
    "temperature": "of soft labels",
    "select": "which training examples are used",
    "name": "name in paths and tables",
    "source": "where it comes from",
    "licence": "stated in model cards",
    "glue": "which GLUE task, if the entry has another name",
    "train": "file with training examples",
    "test": "file with more texts, without labels; for GLUE's server or your own use",
    "GeneratorEntry.train": "number of training examples",
    "GeneratorEntry.dev": "number of dev examples",
    "grammar": "which generated task",
    "seed": "of what is drawn",
    "jobs_per_gpu": "trainings that may share one GPU",
    "checkpoint_minutes": "minutes between checkpoints of a training",
    "light": "one fetching, encoding or reporting job",
    "teacher": "one training of a teacher",
    "recording": "one recording of a teacher's answers",
    "student": "one training of a student",
    "gpu": "GPUs",
    "mem_mb": "memory in MB",
    "threads": "CPU threads",
    "kind": "kind of learner",
}

# Where a mapping is described, by the name of its model.
SECTIONS = {
    "TeacherParams": "[mapping](#teacher)",
    "SelectParams": "[mapping](#select)",
    "ScoutParams": "[mapping](#selectof)",
    "Phase": "[phase](#phases)",
    "Start": "[mapping](#start)",
    "ResourceParams": "[mapping](#machine-light-teacher-recording-student)",
}
MODELS: tuple[type[BaseModel], ...] = (
    StudyParams, DataParams, TaskCommon, GlueEntry, FilesEntry, GeneratorEntry, EncoderParams, MethodParams,
    TeacherParams, SelectParams, ScoutParams, Schedule, Phase, AnalysisParams, MachineParams, ResourceParams, Start,
    *(resolve(path) for path in LEARNERS.values()),
)  # fmt: skip


def parameters() -> str:
    """Return docs/reference/parameters.md."""
    sections: list[tuple[str, str, type[BaseModel]]] = [
        ("study", "", StudyParams),
        ("data", "", DataParams),
        ("tasks", "A mapping from names to entries. Every entry may have:", TaskCommon),
        ("tasks: a GLUE task", "", GlueEntry),
        ("tasks: your own files", "", FilesEntry),
        ("tasks: generated", "", GeneratorEntry),
        ("encoder", "", EncoderParams),
        ("defaults and methods", "", MethodParams),
        ("teacher", "", TeacherParams),
        ("select", "", SelectParams),
        ("select.of", "", ScoutParams),
        ("weights that change", "", Schedule),
        ("phases", "Entries of `curriculum: {phases: [...]}`.", Phase),
        ("analysis", "", AnalysisParams),
        ("machine", "", MachineParams),
        ("machine: light, teacher, recording, student", "", ResourceParams),
    ]
    common = frozenset(TaskCommon.model_fields)
    parts = [_PARAMETERS]
    for title, note, model in sections:
        left_out = common if model in (GlueEntry, FilesEntry, GeneratorEntry) else frozenset()
        parts.append(f"## {title}\n\n{note or summary(model.__doc__)}\n\n{fields(model, left_out)}")
    plugins = Params.model_fields["plugins"].description
    parts.append(
        f"## plugins\n\nA list: {plugins}. See [your own objective](../how-to/own-objective.md).\n\n"
        f"## Named choices\n\nThe names that these keys accept, plugins aside:\n\n"
        + table(
            ("key", "names"),
            [
                ("`weights`", f"{code_names(OBJECTIVES)}: [objectives](objectives.md)"),
                ("`learner.kind`", f"{code_names(LEARNERS)}: [learners](learners.md)"),
                ("`curriculum`", code_names(CURRICULA)),
                ("`select.by`", f"{code_names(SELECTORS)}; by scores {code_names(SCORES)}; or a file"),
                ("`tasks.*.metrics`", code_names(METRICS)),
                ("`layer_map`", f"{code_names(MAPS)}, or a list: [layer maps](learners.md#layer-maps)"),
            ],
        )
    )
    return "\n".join(parts)


_PARAMETERS = """# Parameters

`params.yaml` describes a study: which models to train, from what, and how to judge them. Overlays change parts of it:
`internal-kd run --overlay config/demo.yaml`. A misspelt key is refused with the nearest known one.

How values are combined:

- An overlay is laid over `params.yaml` key by key; lists are replaced. Some mappings are one thing and are replaced
  as a whole: `encoder` under another name or from elsewhere, a task with another `source`, and a method's `teacher`,
  `weights` and `curriculum`.
- A method takes each value from the first place that has it: `tasks.<task>.methods.<method>`, `methods.<method>`,
  `study.vary`, `tasks.<task>.defaults`, `defaults`, then the default below.
- A run's identity contains only values that are used and differ from their default. Titles, ids, `compare_with`,
  licences, metrics, `analysis` and `machine` never cause a new training.

`internal-kd params --overlay ...` prints the combined parameters. `workflow/schemas/params.schema.json` is the same
reference as a JSON schema, for editors that complete and check YAML.
"""


def fields(model: type[BaseModel], left_out: frozenset[str] = frozenset()) -> str:
    """Return the table of a model's keys."""
    schema = model.model_json_schema()
    rows = []
    for name, field in model.model_fields.items():
        if name in left_out:
            continue
        shown = field.alias or name
        found = schema["properties"][shown]
        meaning = field.description or UNDESCRIBED.get(f"{model.__name__}.{name}") or UNDESCRIBED[name]
        meaning = re.sub(r"docs/reference/(\w+)\.md", r"[\1](\1.md)", prose(meaning))
        rows.append((f"`{shown}`", _values(found), _default(field, found), meaning))
    return table(("key", "value", "default", "meaning"), rows)


def unused_descriptions() -> set[str]:
    """Return the entries of `UNDESCRIBED` that the code describes by now, or that nothing has as a key."""
    used = set()
    for model in MODELS:
        for name, field in model.model_fields.items():
            if not field.description:
                used.add(own if (own := f"{model.__name__}.{name}") in UNDESCRIBED else name)
    return UNDESCRIBED.keys() - used


def _default(field: Any, found: Mapping[str, Any]) -> str:
    if field.is_required():
        return "required"
    value = found.get("default")
    if value is None or value in ((), {}, []) or isinstance(value, dict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _values(found: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema accepts."""
    if "anyOf" in found:
        kinds = [_values(each) for each in found["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds)) or "anything"
    if "$ref" in found:
        return SECTIONS.get(found["$ref"].rpartition("/")[2], "mapping")
    if found.get("type") == "object":
        return "mapping"
    if "enum" in found or "const" in found:
        return ", ".join(f"`{each}`" for each in found.get("enum", [found.get("const")]))
    if found.get("type") == "array":
        return f"list: {_values(found['items'])}" if found.get("items") else "list"
    if found.get("type") in ("integer", "number"):
        return ("whole number" if found["type"] == "integer" else "number") + _bounds(found)
    if "[0-9a-f]" in found.get("pattern", ""):
        return f"{'40' if '40' in found['pattern'] else '64'} hexadecimal digits"
    return {"string": "text", "boolean": "`true`, `false`"}.get(found.get("type", ""), "anything")


def _bounds(found: Mapping[str, Any]) -> str:
    low = found.get("exclusiveMinimum", found.get("gt"))
    at_least = found.get("minimum", found.get("ge"))
    high, below = found.get("maximum", found.get("le")), found.get("exclusiveMaximum", found.get("lt"))
    lower = f"> {low:g}" if low is not None else f"≥ {at_least:g}" if at_least is not None else ""
    upper = f"< {below:g}" if below is not None else f"≤ {high:g}" if high is not None else ""
    shown = [part for part in (lower, upper if (below or high or 0) < 10**6 else "") if part]
    return f" {', '.join(shown)}" if shown else ""

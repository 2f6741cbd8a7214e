"""The page of objectives, from their registry and docstrings."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from internal_kd.distillation.objectives import KINDS, OBJECTIVES, RESERVED
from reference_pages.markdown import prose, table


def objectives() -> str:
    """Return docs/reference/objectives.md."""
    rows = []
    for name, entry in OBJECTIVES.items():
        reads = ", ".join(f"`{kind}`" for kind in entry.reads)
        rows.append((f"[`{name}`](#{name})", reads, entry.per, "yes" if entry.teacher else "no"))
    kinds = [(f"`{name}`", ", ".join(("batch", *kind.axes))) for name, kind in KINDS.items()]
    parts = [
        f"{_OBJECTIVES}\n{table(('term', 'reads', 'per', 'teacher'), rows)}\n{_common_options()}\n"
        f"## What can be read\n\n{table(('kind', 'axes'), kinds)}"
    ]
    for name, entry in OBJECTIVES.items():
        facts = [
            ("options", ", ".join(f"`{key}: {value}`" for key, value in entry.options.items())),
            ("layers", "" if entry.per == "output" else f"`{entry.layers}`"),
            ("needs", ", ".join(need.replace("_", " ") for need in entry.needs)),
            ("projected where widths differ", ", ".join(f"`{kind}`" for kind in entry.project)),
            ("depends on which examples share a batch", "yes" if entry.across_batch else ""),
        ]
        listed = "".join(f"- {what}: {value}\n" for what, value in facts if value)
        parts.append(f"## {name}\n\n{_docstring(entry.function)}\n\n{listed}")
    return "\n".join(parts)


_OBJECTIVES = """# Objectives

Terms of the training loss. A method weighs them: `weights: {soft: 1, attention_kl: 0.5}`. *Per* says how often a term
is computed: once for the model's `output`, for every matched `pair` of layers and added up, or once for the `stack` of
all matched layers. [Your own objective](../how-to/own-objective.md) shows how to add one.
"""
# Options of every objective: the default in words, and what they do.
_RESERVED = {
    "layers": (
        "as declared",
        "`map`, `last`, `embeddings`, `map_with_embeddings`, a list of student layers of the map, or a list of pairs "
        "[student, teacher]",
    ),
    "projection": ("`shared`", "`shared`: one learned linear map for all layers; `per_layer`: one for each"),
    "always_project": ("`false`", "learn a map even if the widths are equal"),
}


def _common_options() -> str:
    if _RESERVED.keys() != RESERVED.keys():
        raise ValueError(f"options of every objective: {sorted(_RESERVED.keys() ^ RESERVED.keys())} differ")
    rows = [(f"`{name}`", *texts) for name, texts in _RESERVED.items()]
    return (
        "A method sets options under `options`: `options: {qkv_relation: {heads: 12}}`. Every objective also has:\n\n"
        + table(("option", "default", "meaning"), rows)
    )


def _docstring(path: str) -> str:
    """Return a function's docstring as Markdown, without importing its module (torch takes seconds)."""
    module, _, name = path.partition(":")
    found = find_spec(module)
    assert found is not None and found.origin is not None
    tree = ast.parse(Path(found.origin).read_text(encoding="utf-8"))
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    first, _, rest = (ast.get_docstring(function) or "").partition("\n\n")
    # One paragraph per subject: shapes and meaning, the source, the errors.
    text = re.sub(r"\s(?=Source: )|\n(?=(Raises|Args):? )", "\n\n", rest)
    paragraphs = [first, *(part for part in text.split("\n\n") if part and not part.startswith("Raises"))]
    return "\n\n".join(prose(part) for part in paragraphs)

"""The page of objectives, from their registry and docstrings."""

from __future__ import annotations

import ast
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

from internal_kd.distillation.declarations import KINDS, RESERVED, Objective
from internal_kd.distillation.objectives import OBJECTIVES
from reference_pages.markdown import prose, table


def objectives() -> str:
    """Return docs/reference/objectives.md."""
    steps = _measured_steps()
    rows = []
    for name, entry in OBJECTIVES.items():
        reads = ", ".join(f"`{kind}`" for kind in entry.reads)
        rows.append((f"[`{name}`](#{name})", reads, entry.per, _disk(entry), steps.get(name, "")))
    kinds = [(f"`{name}`", ", ".join(("batch", *kind.axes)), _bytes(name)) for name, kind in KINDS.items()]
    parts = [
        f"{_OBJECTIVES}\n{table(('term', 'reads', 'per', 'disk', 'step'), rows)}\n{_common_options()}\n"
        f"## What can be read\n\n{table(('kind', 'axes', 'bytes on disk'), kinds)}"
    ]
    for name, entry in OBJECTIVES.items():
        facts = [
            ("options", ", ".join(f"`{key}: {value}`" for key, value in entry.options.items())),
            ("teacher", "" if entry.teacher else "none is asked"),
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

*Disk*: bytes that recording the teacher takes, for an example of *n* tokens and one of the layers that are compared;
*D* is the width, *H* the heads and *C* the classes. *Step*: time of a training step with soft labels and this term over
one with soft labels alone, on two CPU cores at width 384 ([performance](../explanation/performance.md)).
"""
_PERFORMANCE = Path(__file__).parents[1] / "explanation/performance.md"
_LETTERS = {"classes": "C", "width": "D", "inner": "D", "heads": "H", "tokens": "n"}


def _bytes(kind: str) -> str:
    """What one example takes of a kind, of one layer: ``2·n·D``."""
    if parts := KINDS[kind].made_of:
        return " + ".join(_bytes(part) for part in parts)
    letters = "·".join(_LETTERS[axis] for axis in KINDS[kind].axes)
    return f"{4 if kind == 'logits' else 2}·{letters}".replace("n·n", "n²")


def _disk(entry: Objective) -> str:
    if not entry.teacher:
        return "0"
    counts = Counter(_bytes(kind) for kind in entry.kinds)
    return " + ".join(size if count == 1 else f"{count} × {size}" for size, count in counts.items())


def _measured_steps() -> dict[str, str]:
    """Return the step of every objective that the benchmark has measured, from the table that it wrote."""
    _, _, measured = _PERFORMANCE.read_text(encoding="utf-8").partition("\n### Every objective\n")
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+?) \|", measured.partition("\n### ")[0], re.MULTILINE)
    return dict(rows)


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
    written = {node.name: ast.get_docstring(node) or "" for node in tree.body if isinstance(node, ast.FunctionDef)}
    first, _, rest = written[name].partition("\n\n")
    if (whole := re.match(r"`(\w+)`", first)) and whole[1] in written:  # it weighs what that function returns
        definition, _, rest = written[whole[1]].partition("\n\n")
        rest = f"{definition}\n\n{rest}"
    # One paragraph per subject: shapes and meaning, the source, the errors.
    text = re.sub(r"\s(?=Source: )|\n(?=(Raises|Args):? )", "\n\n", rest)
    paragraphs = [first, *(part for part in text.split("\n\n") if part and not part.startswith("Raises"))]
    return "\n\n".join(prose(part) for part in paragraphs)

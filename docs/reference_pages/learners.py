"""The page of learners, from their registry and descriptions."""

from __future__ import annotations

import textwrap

from internal_kd.learners.encoder import Start
from internal_kd.learners.families import FAMILIES
from internal_kd.learners.layers import CHOICES, layer_map
from internal_kd.learners.learner import LEARNERS, LOWEST
from internal_kd.registry import resolve
from reference_pages.markdown import code_names, prose, summary, table
from reference_pages.parameters import fields


def learners() -> str:
    """Return docs/reference/learners.md."""
    parts = [_LEARNERS]
    for name in LEARNERS:
        described = resolve(LEARNERS[name])
        parts.append(f"## {name}\n\n{summary(described.__doc__)}\n\n{fields(described)}")
        if name == "encoder":
            parts.append(f"### start\n\n{summary(Start.__doc__)}\n\n{fields(Start)}")
    families = table(
        ("`model_type`", "layers", "attention"),
        [(f"`{n}`", f"`{f.layers}`", f"`{f.attention}`") for n, f in FAMILIES.items()],
    )
    lowest = table(("kind", "lowest layer"), [(f"`{kind}`", str(layer)) for kind, layer in LOWEST.items()])
    parts += [
        f"## Encoder families\n\nThe `encoder` of a study and `finished` models are of one of these:\n\n{families}",
        f"## Layer maps\n\n{_layer_maps()}",
        "## What learners hand out\n\nObjectives read these kinds. Layers count from 1; layer 0 is the output of the "
        f"embeddings.\n\n{lowest}",
    ]
    return "\n".join(parts)


_LEARNERS = """# Learners

Who learns: the `learner` of a method. `kind` chooses the sort of learner and is `encoder` if you leave it out. To add
one, see [your own learner](../how-to/own-learner.md).
"""


def _layer_maps() -> str:
    text = textwrap.dedent(layer_map.__doc__ or "")
    maps = "\n".join(prose(line) for line in text.splitlines() if line.strip().startswith("|"))
    return (
        '`layer_map` matches student layers with teacher layers. "12 to 6" means a teacher of 12 layers and a student '
        f"of 6.\n\n{maps}\n\n`start.layers` chooses the layers that a student's first weights come from: "
        f"{code_names(CHOICES)}, or a list."
        "\n"
    )

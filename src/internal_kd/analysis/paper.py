"""The paper's known figures beside our own: typed reading of paper/claims.yaml, and paper.csv.

A figure that is not known stays empty. Ours enter only where the study has the paper's task and depth on the full
training set; everything else would compare two different things.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from internal_kd.analysis.built import CLAIMS_FILE
from internal_kd.analysis.cells import FULL, TEACHER
from internal_kd.analysis.layout import metric_title, shown
from internal_kd.analysis.statistics import Arm
from internal_kd.analysis.text_tables import TextTable
from internal_kd.errors import UserError
from internal_kd.params.reading import read_yaml
from internal_kd.params.types import Frozen
from internal_kd.study import Study
from internal_kd.tasks import HIGHER_IS_BETTER

Status = Literal["stated", "arithmetic", "unverified"]
PAPER_COLUMNS = (
    "kind", "system", "status", "source", "task", "metric", "rows", "method", "seeds", "ours", "paper", "difference",
)  # fmt: skip


class Setting(Frozen):
    """Where the paper's claims can be decided."""

    glue: tuple[str, ...]
    metrics: dict[str, tuple[str, ...]]
    rows: tuple[str, ...]
    teacher_encoder_parameters: int
    student_layers: int


class Claim(Frozen):
    """One sentence of the paper and how it is judged; values are as published."""

    name: str
    text: str
    kind: Literal["better", "share", "best", "gap_grows", "parameters"]
    status: Status
    rows: tuple[str, ...] = ()
    than: str = "3.0"
    p: float = 0.001
    value: float = 0.0
    tolerance: float = 0.0
    glue: str | None = None
    among: tuple[str, ...] = ()
    values: dict[int, float] = {}


class Figure(Frozen):
    """One published score, times 100; of several rows the best is meant."""

    glue: str
    metric: str
    rows: tuple[str, ...]
    value: float
    status: Status


class Peer(Frozen):
    """Another system's published scores, times 100, by GLUE task and metric; ``rows`` are ours of the same kind."""

    system: str
    source: str
    rows: tuple[str, ...]
    scores: dict[str, dict[str, float]]


class KnownPaper(Frozen):
    """All that is known of the paper."""

    source: str
    setting: Setting
    claims: tuple[Claim, ...]
    figures: tuple[Figure, ...]
    peers: tuple[Peer, ...] = ()


def read_claims(path: Path = CLAIMS_FILE) -> KnownPaper | None:
    """Read paper/claims.yaml; None where the project has none.

    Raises:
        UserError: it says something that is not understood.
    """
    if not path.exists():
        return None
    try:
        return KnownPaper.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{path}: {where}: {problem['msg']}; mend the entry or take it out") from None


def glue_names(study: Study) -> dict[str, str]:
    """Return ``{GLUE task: the study's name for it}``."""
    return {tokens.data.glue: name for name, tokens in study.tasks.items() if tokens.data.glue}


def best_arm(
    arms: Mapping[tuple[str, ...], Arm], task: str, metric: str, rows: tuple[str, ...], depth: int, examples: str = FULL
) -> Arm | None:
    """Return the arm with the best mean among rows of one task, depth and size; the teacher has its own depth."""
    found = [
        arm
        for arm in arms.values()
        if (arm.cell.task, arm.metric) == (task, metric)
        and arm.cell.id in rows
        and (arm.cell.method == TEACHER or (arm.cell.depth, arm.cell.examples) == (depth, examples))
        and arm.defined
    ]
    sign = 1 if HIGHER_IS_BETTER.get(metric, True) else -1
    return max(found, key=lambda arm: sign * (arm.mean or 0.0), default=None)


def paper_lines(
    study: Study, known: KnownPaper | None, arms: Mapping[tuple[str, ...], Arm]
) -> Iterator[tuple[object, ...]]:
    """Yield the lines of paper.csv in natural units: the paper's table, its best-of figures, and the peers."""
    if known is None:
        return
    setting = known.setting
    single = {(f.glue, f.metric, f.rows[0]): f for f in known.figures if len(f.rows) == 1}
    for glue in setting.glue:
        for metric in setting.metrics[glue]:
            for row in setting.rows:
                figure = single.get((glue, metric, row))
                status, value = (figure.status, figure.value) if figure else ("unknown", None)
                yield _line(study, known, arms, ("paper", "paper", status, known.source), glue, metric, (row,), value)
    for figure in (f for f in known.figures if len(f.rows) > 1):
        head: tuple[str, str, str, str] = ("paper", "paper, best of", figure.status, known.source)
        yield _line(study, known, arms, head, figure.glue, figure.metric, figure.rows, figure.value)
    for peer in known.peers:
        for glue, scores in peer.scores.items():
            for metric, value in scores.items():
                head = ("peer", peer.system, "published", peer.source)
                yield _line(study, known, arms, head, glue, metric, peer.rows, value)


def paper_text(lines: Sequence[Sequence[Any]]) -> TextTable:
    """Return the published figures laid out; what is neither known of the paper nor run here stays in paper.csv."""
    header = ("system", "task", "metric", "our row", "published", "ours", "difference", "status")
    laid_out = []
    for line in (dict(zip(PAPER_COLUMNS, line, strict=True)) for line in lines):
        if line["paper"] is None:
            continue
        metric, rows = line["metric"], line["rows"].split()
        numbers = (shown(metric, line[name], 2, sign=name == "difference") for name in ("paper", "ours", "difference"))
        named = metric_title(metric) if metric != "unstated" else "not stated"
        ours = rows[0] if len(rows) == 1 else f"best of {rows[0]} to {rows[-1]}"
        laid_out.append((line["system"], line["task"], named, ours, *numbers, line["status"]))
    note = (
        "Ours only where this study has the GLUE task and 6-layer students on the full training set. Peers' protocols "
        "differ from ours. The paper's other cells are not known here and are left empty in paper.csv."
    )
    return TextTable(header, tuple(laid_out), "llllrrrl", (note,))


def _line(
    study: Study,
    known: KnownPaper,
    arms: Mapping[tuple[str, ...], Arm],
    head: tuple[str, str, str, str],
    glue: str,
    metric: str,
    rows: tuple[str, ...],
    published: float | None,
) -> tuple[object, ...]:
    task = glue_names(study).get(glue)
    arm = best_arm(arms, task, metric, rows, known.setting.student_layers) if task else None
    theirs = None if published is None else published / 100
    ours = arm.mean if arm else None
    difference = None if ours is None or theirs is None else ours - theirs
    named = " ".join(rows)
    return (
        *head,
        glue,
        metric,
        named,
        arm.cell.method if arm else None,
        len(arm.seeds) if arm else 0,
        ours,
        theirs,
        difference,
    )

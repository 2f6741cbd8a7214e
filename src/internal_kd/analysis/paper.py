"""The paper's known figures beside our own: typed reading of paper/claims.yaml, and paper.csv.

A figure that is not known stays empty. Ours enter only where the study has the paper's task whole, an encoder of the
paper's size and its depth on the full training set; everything else would compare two different things. What differs
besides is named line by line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from pydantic import ValidationError, model_validator

from internal_kd.analysis.built import CLAIMS_FILE
from internal_kd.analysis.cells import TEACHER_ID, joined
from internal_kd.analysis.csv_files import read_csv
from internal_kd.analysis.layout import metric_title, shown
from internal_kd.analysis.paper_setting import ELSEWHERE, Arms, Case, Setting, best_of, interval_of_best
from internal_kd.analysis.predictions import Evidence
from internal_kd.analysis.text_tables import TextTable
from internal_kd.errors import UserError, nearest
from internal_kd.params.reading import read_yaml
from internal_kd.fields import Frozen
from internal_kd.study import Study

Status = Literal["stated", "arithmetic", "unverified"]


class Claim(Frozen):
    """One sentence of the paper and how it is judged; values are as published.

    ``glue`` names the tasks it is about, where they are not all of the paper's; ``examples`` the training-set size that
    the smallest of a study may not exceed.
    """

    name: str
    text: str
    kind: Literal["better", "share", "best", "gap_grows", "parameters"]
    status: Status
    glue: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    than: str = "3.0"
    value: float = 0.0
    tolerance: float = 0.0
    among: tuple[str, ...] = ()
    examples: int = 0
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

    @model_validator(mode="after")
    def _names_known(self) -> KnownPaper:
        rows = {row for claim in self.claims for row in (*claim.rows, *claim.among, claim.than)}
        rows |= {row for figure in self.figures for row in figure.rows} | {
            row for peer in self.peers for row in peer.rows
        }
        tasks = {task for claim in self.claims for task in claim.glue} | {figure.glue for figure in self.figures}
        tasks |= {task for peer in self.peers for task in peer.scores} | set(self.setting.glue)
        for what, named, known in (
            ("row", rows, {TEACHER_ID, *self.setting.rows}),
            ("task", tasks, set(self.setting.examples)),
        ):
            if unknown := sorted(named - known):
                raise ValueError(f"unknown {what} {unknown[0]!r}{nearest(unknown[0], sorted(known))}")
        return self


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
        where = ".".join(str(part) for part in problem["loc"]) or "entries"
        raise UserError(f"{path}: {where}: {problem['msg']}; mend the entry or take it out") from None


@dataclass(frozen=True)
class PaperLine:
    """One published figure beside ours, in natural units; None where there is nothing to say.

    ``rows`` are the rows of ours that are of the same kind, ``compared`` those that are finished; of several the best
    is meant, ``method`` is its name, and ``low`` and ``high`` choose it anew in every resample. ``differs`` says in
    which respects ours are not in the paper's setting.
    """

    kind: str
    system: str
    status: str
    source: str
    task: str
    metric: str
    rows: str
    compared: str
    method: str
    seeds: int
    ours: float | None
    std: float | None
    low: float | None
    high: float | None
    paper: float | None
    difference: float | None
    differs: str


PAPER_COLUMNS = tuple(field.name for field in fields(PaperLine))
_NUMBERS = ("ours", "std", "low", "high", "paper", "difference")


def paper_lines(study: Study, known: KnownPaper | None, arms: Arms, evidence: Evidence) -> list[PaperLine]:
    """Return the lines of paper.csv: the paper's table, its best-of figures, and the peers."""
    if known is None:
        return []
    case, setting = Case(study, known.setting, arms, evidence), known.setting
    single = {(f.glue, f.metric, f.rows[0]): f for f in known.figures if len(f.rows) == 1}
    lines = []
    for glue in setting.glue:
        for metric in setting.metrics[glue]:
            for row in (TEACHER_ID, *setting.rows):
                figure = single.get((glue, metric, row))
                status, value = (figure.status, figure.value) if figure else ("unknown", None)
                head = ("paper", "paper", status, known.source)
                lines.append(_line(case, head, glue, metric, (row,), value))
    for figure in (f for f in known.figures if len(f.rows) > 1):
        head = ("paper", "paper, best of", figure.status, known.source)
        lines.append(_line(case, head, figure.glue, figure.metric, figure.rows, figure.value))
    for peer in known.peers:
        for glue, scores in peer.scores.items():
            for metric, value in scores.items():
                head = ("peer", peer.system, "published", peer.source)
                lines.append(_line(case, head, glue, metric, peer.rows, value))
    return lines


def _line(
    case: Case, head: tuple[str, str, str, str], glue: str, metric: str, rows: tuple[str, ...], published: float | None
) -> PaperLine:
    kinds = tuple(dict.fromkeys(lack.kind for lack in case.lacks([glue], rows)))
    elsewhere = any(kind in ELSEWHERE for kind in kinds)
    arms = [] if elsewhere else [a for task in case.tasks([glue]) for a in case.arms_of(task, rows, metric=metric)]
    best = best_of(arms) if arms else None
    low, high = (interval_of_best(arms) if arms else None) or (None, None)
    ours, theirs = best.mean if best else None, None if published is None else published / 100
    return PaperLine(
        *head,
        task=glue,
        metric=metric,
        rows=" ".join(rows),
        compared=" ".join(arm.cell.id for arm in arms),
        method=best.cell.method if best else "",
        seeds=len(best.seeds) if best else 0,
        ours=ours,
        std=best.std if best else None,
        low=low,
        high=high,
        paper=theirs,
        difference=None if ours is None or theirs is None else ours - theirs,
        differs=" ".join(kinds),
    )


def read_paper_lines(path: Path) -> list[PaperLine]:
    """Read paper.csv back.

    Raises:
        UserError: it is missing or not whole.
    """
    return read_csv(path, "compare-runs", lambda lines: [_line_of(line) for line in lines])


def _line_of(line: dict[str, str]) -> PaperLine:
    numbers = {name: float(line[name]) if line[name] else None for name in _NUMBERS}
    return PaperLine(**(line | numbers | {"seeds": int(line["seeds"])}))  # type: ignore[arg-type]


def paper_text(lines: Sequence[PaperLine]) -> TextTable:
    """Return the published figures laid out; what is neither known of the paper nor run here stays in paper.csv."""
    header = (
        "system", "task", "metric", "our row", "published", "ours", "95 % interval", "difference", "differs in",
        "status",
    )  # fmt: skip
    laid_out = []
    for line in (line for line in lines if line.paper is not None):
        rows, metric = (line.compared or line.rows).split(), line.metric
        several = f"best of {joined(rows)}" if line.compared else f"best of {rows[0]} to {rows[-1]}"
        ours = shown(metric, line.ours, 2) + ("" if line.std is None else f" ± {shown(metric, line.std, 2)}")
        laid_out.append(
            (
                line.system,
                line.task,
                metric_title(metric) if metric != "unstated" else "not stated",
                several if len(rows) > 1 else rows[0],
                shown(metric, line.paper, 2),
                ours if line.ours is None else f"{ours} ({line.seeds})",
                "–" if line.low is None else f"{shown(metric, line.low, 2)} to {shown(metric, line.high, 2)}",
                shown(metric, line.difference, 2, sign=True),
                ", ".join(line.differs.split()) or "–",
                line.status,
            )
        )
    note = (
        "Ours: mean ± sample standard deviation over seeds (number of seeds), with the mean's interval; of several "
        "rows the best, chosen anew in every resample. Ours are left empty where task, data, encoder, depth or "
        "training-set size is not the paper's; \"differs in\" names these and everything else that is not. Peers' "
        "protocols differ from ours. The paper's other cells are not known here and are left empty in paper.csv."
    )
    return TextTable(header, tuple(laid_out), "llllrrrrll", (note,))

"""Papers whose claims a study can decide: typed reading of ``papers/<name>.yaml``. docs/how-to/claims.md explains it.

A value without a source that was read is not entered at all: status is [paper] (stated there), [repo] (in its authors'
code) or [secondary] (results from another's account, and printed as such).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from internal_kd.errors import UserError
from internal_kd.fields import Frozen, Number, Share, Text
from internal_kd.params.reading import read_yaml
from internal_kd.plan.identity import PAPERS

Status = Literal["paper", "repo", "secondary"]
Scope = Literal["dev set", "new examples"]


class Row(Frozen):
    """A row of the study, by id or name; ``at``: the values of varied keys that are meant."""

    row: Text
    at: dict[str, Any] = Field(default_factory=dict)


def _row(value: Any) -> Any:
    return {"row": value} if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


AnyRow = Annotated[Row, BeforeValidator(_row)]
Rows = Annotated[tuple[AnyRow, ...], BeforeValidator(_listed), Field(min_length=1)]


class RuleCommon(Frozen):
    """What every rule may say.

    Attributes:
        rows: the rows that it is about.
        tasks: the setting's if left out; the claim has to hold on each.
        at: varied keys and the values that are meant.
        measure: what is compared, the task's main metric if left out.
        where: columns of the examples (``label: "3"``), or of a table, with the values that count.
        lower_is_better: of a measure whose direction is not known.
        scope: ``dev set``, what a benchmark table asks, or ``new examples``, beyond it.
    """

    rows: Rows
    tasks: tuple[Text, ...] = ()
    at: dict[str, Any] = Field(default_factory=dict)
    measure: Text | None = None
    where: dict[str, Any] = Field(default_factory=dict)
    lower_is_better: bool | None = None
    scope: Scope = "dev set"


class Better(RuleCommon):
    """Every row is better than a baseline, by more than ``least``.

    With ``per_seed``, McNemar's test has to show it with that p for every seed that both have.
    """

    kind: Literal["better"]
    than: AnyRow
    least: Number = 0.0
    per_seed: Share | None = None


class Within(RuleCommon):
    """The value of a row, of several the best one's, lies within bounds."""

    kind: Literal["within"]
    low: Number = -inf
    high: Number = inf


class Ratio(RuleCommon):
    """The value of a row, of several the best one's, divided by another's lies within bounds, averaged over tasks.

    With ``above`` both are counted from a third row's value: which share of a gap is closed.
    """

    kind: Literal["ratio"]
    of: AnyRow
    above: AnyRow | None = None
    low: Number = -inf
    high: Number = inf


class Order(RuleCommon):
    """Rows from best to worst; of a list in the list the best one counts."""

    kind: Literal["order"]
    rows: Annotated[tuple[Rows, ...], Field(min_length=2)]  # type: ignore[assignment]


class Trend(RuleCommon):
    """Along a varied key, ``measure`` or a column of ``where``, the rows' mean changes, or their lead over a baseline.

    Attributes:
        along: the key and its values in order, such as ``temperature: [1, 4, 20]``.
        direction: ``stays``: within ``within`` points, or within the standard deviation over ``seeds``.
    """

    kind: Literal["trend"]
    than: AnyRow | None = None
    along: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=2)]], Field(min_length=1, max_length=1)]
    direction: Literal["rises", "falls", "stays"]
    within: Number | Literal["seeds"] | None = None


class Correlation(RuleCommon):
    """Over all seeds of all rows, at every varied value, two measures go together (Spearman's rank correlation)."""

    kind: Literal["correlation"]
    to: Text
    sign: Literal["positive", "negative"] = "positive"


Rule = Annotated[Better | Within | Ratio | Order | Trend | Correlation, Field(discriminator="kind")]


def rows_of(rule: RuleCommon) -> list[Row]:
    """Return every row that a rule names."""
    groups = rule.rows if isinstance(rule, Order) else (rule.rows,)
    more = (getattr(rule, name, None) for name in ("than", "of", "above"))
    return [row for group in groups for row in group] + [row for row in more if row is not None]


class Claim(Frozen):
    """One claim of a paper.

    Attributes:
        id: a short name for pages that refer to it.
        source: section, table or equation.
        rule: what decides it; of several, all have to hold.
        seeds: finished seeds that it needs; the setting's if left out.
    """

    id: str = ""
    claim: Text
    source: Text
    status: Status
    rule: Annotated[tuple[Rule, ...], BeforeValidator(_listed), Field(min_length=1)]
    seeds: int | None = None


class Setting(Frozen):
    """Where a paper's claims can be decided.

    Attributes:
        tasks: its tasks by our names (a GLUE task under any name counts) with their numbers of examples by split.
        students, teacher: keys of a method, as in params.yaml, and the values that the paper gives them.
        rows: the same for single rows, by id or name; ``weights`` are the names of the terms.
        teacher_encoder_parameters: of the teacher, without embeddings.
        seeds: finished seeds that every row needs.
    """

    tasks: dict[str, dict[str, int]]
    students: dict[str, Any] = Field(default_factory=dict)
    teacher: dict[str, Any] = Field(default_factory=dict)
    rows: dict[str, dict[str, Any]] = Field(default_factory=dict)
    teacher_encoder_parameters: int | None = None
    seeds: int = 3


class Published(Frozen):
    """Published scores × 100 of a system, by task and metric; ``rows`` are ours of the same kind."""

    system: Text
    source: Text
    status: Status
    rows: tuple[Text, ...]
    scores: dict[str, dict[str, Number]]


class Paper(Frozen):
    """A paper: its claims, the setting in which they can be decided, and published scores to compare ours with."""

    source: Text
    setting: Setting
    claims: tuple[Claim, ...] = ()
    published: tuple[Published, ...] = ()

    @model_validator(mode="after")
    def _tasks_are_described(self) -> Paper:
        for claim in self.claims:
            named = {task for rule in claim.rule for task in rule.tasks}
            if unknown := sorted(named - set(self.setting.tasks)):
                raise ValueError(f"claim {claim.claim[:40]!r} names task {unknown[0]!r}, which is not in setting.tasks")
        return self


def read_papers(names: Sequence[str] | None = None, folder: Path = PAPERS) -> dict[str, Paper]:
    """Return papers by the names of their files in ``papers/``, all of them unless some are named.

    Raises:
        UserError: a file is missing, has an unknown key or a wrong value.
    """
    chosen = sorted(path.stem for path in folder.glob("*.yaml")) if names is None else names
    return {name: _read_paper(folder / f"{name}.yaml") for name in chosen}


def _read_paper(path: Path) -> Paper:
    try:
        return Paper.model_validate(read_yaml(path))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"]) or "entries"
        raise UserError(f"{path}: {where}: {problem['msg'].removeprefix('Value error, ')}; correct the entry") from None

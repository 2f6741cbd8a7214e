"""Studies held against the paper, in memory alone: planned for real, with synthetic predictions and records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from fake_runs import ROOT

from internal_kd.analysis.claims import Verdict, judge_claims
from internal_kd.analysis.paper import KnownPaper, PaperLine, paper_lines, read_claims
from internal_kd.analysis.predictions import Evidence, FinishedRun, TaskFacts
from internal_kd.analysis.statistics import Arm, arms_of, compare
from internal_kd.artefacts import Run, StudentRun
from internal_kd.params import merge, parse_params
from internal_kd.params.reading import read_yaml
from internal_kd.study import Study, plan_study

ROWS = 300
ALL = (
    "finetuned", "soft", "soft_kl", "soft_cos", "soft_kl_cos", "progressive", "stacked", "stacked_soft",
    "stacked_soft_hard",
)  # fmt: skip
SOME = ("soft", "soft_kl_cos", "stacked")
INTERNAL = ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7")
LAYERS = 7_087_872  # encoder parameters of one of BERT-base's layers
POOLER = 590_592


@dataclass(frozen=True)
class Held:
    """A study with its evidence, as ``compare_runs`` has it."""

    study: Study
    known: KnownPaper
    evidence: Evidence
    arms: dict[tuple[str, ...], Arm]

    def verdicts(self) -> dict[str, Verdict]:
        """Judge every claim."""
        judged = judge_claims(self.study, self.known, self.arms, compare(self.arms), self.evidence)
        return {verdict.name: verdict for verdict in judged}

    def lines(self) -> list[PaperLine]:
        """Hold every published figure against ours."""
        return paper_lines(self.study, self.known, self.arms, self.evidence)


def held(
    quality: Mapping[tuple[str, ...], float],
    *,
    unfinished: tuple[str, ...] = (),
    taught: tuple[str, ...] = SOME,
    blur: float = 0.01,
    whole: bool = False,
    layer: int = LAYERS,
    train: Mapping[str, int] | None = None,
    **overlay: Any,
) -> Held:
    """Hold a study against the paper: params.yaml's at three seeds, or what an overlay makes of it.

    ``quality`` gives the share of right answers, by (row,) or (row, place): a task, a size or L and a depth; ``blur``
    says how much students of one quality differ in what they get right; ``unfinished`` holds parts of labels of runs
    that are missing. For quickness every task is scored by accuracy, and the claims are asked of the methods that are
    there, unless they are to be ``whole``.
    """
    known, params = _files()
    three = {
        "study": {"seeds": [1, 2, 3], "methods": list(taught)},
        "teacher": {"seeds": [1, 2, 3]},
        "student": {"epochs_per_layer": 4},  # twelve layers are to fit
    }
    study = plan_study(parse_params(merge(merge(params, three), overlay)))
    facts, finished = {}, {}
    for name, tokens in study.tasks.items():
        sizes = known.setting.examples.get(str(tokens.data.glue), (0, 0))
        rows = {"train": (train or {}).get(name, sizes[0]), "dev": sizes[1]}
        facts[name] = TaskFacts(name, name.upper(), ("accuracy",), False, 2, ("no", "yes"), rows, {})
    for run in study.runs:
        if not any(part in run.label for part in unfinished):
            depth = run.depth if isinstance(run, StudentRun) else 12
            record = {"encoder_parameters": layer * depth + POOLER}
            finished[str(run.folder)] = FinishedRun(run, record, {"dev": _predictions(run, quality, blur)})
    evidence = Evidence(facts, finished, {})
    asked = known if whole else asking(known, {method.id for method in study.methods.values()})
    return Held(study, asked, evidence, arms_of(study, evidence))


@cache
def _files() -> tuple[KnownPaper, dict[str, Any]]:
    known = read_claims(ROOT / "paper/claims.yaml")
    assert known
    return known, read_yaml(ROOT / "params.yaml")


def asking(known: KnownPaper, rows: set[str]) -> KnownPaper:
    """Ask the claims of these rows alone, so that a study of some of them can decide."""

    def fewer(of: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(row for row in of if row in rows)

    claims = tuple(c.model_copy(update={"rows": fewer(c.rows), "among": fewer(c.among)}) for c in known.claims)
    return known.model_copy(update={"claims": claims})


def _predictions(run: Run, quality: Mapping[tuple[str, ...], float], blur: float) -> pd.DataFrame:
    row, places = "1.0", [run.task]
    if isinstance(run, StudentRun):
        row, places = run.method.id, [f"L{run.depth}", str(run.examples), run.task]
    share = next(quality[key] for key in (*((row, place) for place in places), (row,)) if key in quality)
    labels = np.random.default_rng([len(run.task), ord(run.task[0])]).integers(2, size=ROWS)
    # Which examples are easy is the task's, so that methods differ in their quality and in little else.
    ease = np.random.default_rng([7, ord(run.task[0])]).permutation(ROWS) / ROWS
    noise = np.random.default_rng([run.seed, *row.encode()]).normal(0, blur, ROWS)
    chosen = np.where(ease + noise < share, labels, 1 - labels)
    return pd.DataFrame({"idx": range(ROWS), "label": labels, "logit_0": 1.0 - chosen, "logit_1": 1.0 * chosen})

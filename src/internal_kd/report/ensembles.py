"""Tables of models that answer together: ensembles that teach, pairs that were trained in one run, specialists."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import softmax

from internal_kd.learners.pair import PEER_PREDICTIONS
from internal_kd.plan.runs import Ensemble
from internal_kd.report.results import FinishedRun, StudyResults, read_logits
from internal_kd.report.scoring import Lines
from internal_kd.statistics.p_values import mcnemar

Array = np.ndarray


def ensemble_lines(results: StudyResults) -> Lines:
    """Return the table ensembles: of every run taught by several, how much of what they gain together it keeps.

    ``alone`` is the mean score of the teachers, ``together`` that of their combined answers. ``kept`` is
    (score - alone) / (together - alone), in percent.
    """
    lines = []
    for cell, done in results.each():
        answers, members, task = done.run.answers, results.teachers(done.run), done.task
        if not members or not isinstance(answers, Ensemble) or answers.combine == "specialists":
            continue
        logits = np.stack([member.logits["dev"] for member in members])
        both, main = combined(logits, answers.combine if task.info.labels else "mean_logits"), task.info.columns[0]
        *own, together, score = (task.score(task.answers(each), main) for each in (*logits, both, done.logits["dev"]))
        alone = float(np.mean(own))
        kept = 100 * (score - alone) / (together - alone) if together != alone else None
        name = cell.columns() | {"metric": main.name, "seed": done.run.seed, "members": len(members)}
        lines.append(name | {"alone": alone, "together": together, "score": score, "kept": kept})
    return lines


def combined(logits: Array, combine: str) -> Array:
    """Return the answers (N, C) of members (M, N, C), as their student hears them."""
    if combine == "mean_logits":
        return logits.mean(axis=0)
    return softmax(logits, axis=-1).mean(axis=0)


def peer_lines(results: StudyResults) -> Lines:
    """Return the table peers, of every finished run of a pair: the pair is the unit that differs by seed.

    ``together`` is the score of the mean of both probabilities: the ensemble of two. What ``first`` scores is what
    every other table has of the run.
    """
    lines = []
    for cell, done in results.each():
        if cell.method.learner.kind != "pair":
            continue
        task, main = done.task, done.task.info.columns[0]
        peer = read_logits(done.run.folder / f"{PEER_PREDICTIONS}.parquet", task.rows(), task.info)
        both = np.stack([done.logits["dev"], peer])
        together = combined(both, "mean_probabilities" if task.info.labels else "mean_logits")
        answers = [task.answers(each) for each in (*both, together)]
        first, second, mean = (task.score(each, main) for each in answers)
        scores = {"first": first, "second": second, "mean": (first + second) / 2, "together": mean}
        told = _likeness(answers[0], answers[1], task.labels()) if task.info.labels else {}
        epochs = [line["dev_agreement"] for line in done.history if line.get("dev_agreement") is not None]
        at_first = {"agreement_at_first": 100 * epochs[0]} if epochs else {}
        lines.append(cell.columns() | {"metric": main.name, "seed": done.run.seed} | scores | told | at_first)
    return lines


def _likeness(first: Array, second: Array, labels: Array) -> dict[str, Any]:
    """Return how often two answer alike, and how often one alone is right, in percent of all rows."""
    real = labels >= 0  # sentences of tags are padded with -1
    first, second, labels = first[real], second[real], labels[real]
    return {
        "first_alone_right": 100 * float(((first == labels) & (second != labels)).mean()),
        "second_alone_right": 100 * float(((second == labels) & (first != labels)).mean()),
        "agreement": 100 * float((first == second).mean()),
    }


def specialist_lines(results: StudyResults) -> Lines:
    """Return the table specialists: what the answers of generalist and specialists together get right of the dev set.

    These are Tables 3 and 4 of Hinton et al. 2015, of every run that specialists teach. ``coverage``: ``all`` examples;
    those whose class has so many specialists; or ``conditional``: of every specialist the examples of its classes, when
    it and the generalist choose among these.
    """
    lines = []
    for cell, done in results.each():
        answers, members = done.run.answers, results.teachers(done.run)
        if members and isinstance(answers, Ensemble) and answers.combine == "specialists":
            name = cell.columns() | {"seed": done.run.seed}
            lines += [name | line for line in _coverage(members, done.task.labels())]
    return lines


def _coverage(members: tuple[FinishedRun, ...], labels: Array) -> Lines:
    import torch

    from internal_kd.distillation.specialists import combined as with_specialists

    logits = [member.logits["dev"] for member in members]
    subsets: list[list[int]] = [member.record["subset"] for member in members[1:]]
    together = with_specialists(torch.tensor(np.stack(logits)), [None, *subsets]).argmax(-1).numpy()
    before = logits[0].argmax(axis=1)
    covering = np.sum([np.isin(labels, subset) for subset in subsets], axis=0)
    lines = [_line("all", labels, before, together)]
    for count in np.unique(covering):
        of_them = covering == count
        lines.append(_line(str(count), labels[of_them], before[of_them], together[of_them]))
    gold, general, special = [], [], []
    for own, subset in zip(logits[1:], subsets, strict=True):
        of_them, classes = np.isin(labels, subset), np.asarray(subset)
        gold.append(labels[of_them])
        general.append(classes[logits[0][of_them][:, classes].argmax(axis=1)])
        special.append(classes[own[of_them][:, classes].argmax(axis=1)])
    return [*lines, _line("conditional", np.concatenate(gold), np.concatenate(general), np.concatenate(special))]


def _line(coverage: str, labels: Array, before: Array, after: Array) -> dict[str, Any]:
    was, became = before == labels, after == labels
    change = int(became.sum()) - int(was.sum())
    return {
        "coverage": coverage,
        "dev_examples": len(labels),
        "right_before": int(was.sum()),
        "right_after": int(became.sum()),
        "newly_right": int((became & ~was).sum()),
        "newly_wrong": int((was & ~became).sum()),
        "gain": 100 * change / max(1, len(labels)),
        "relative_gain": 100 * change / max(1, int(was.sum())),
        "p": mcnemar(labels, before, after)[0],
    }

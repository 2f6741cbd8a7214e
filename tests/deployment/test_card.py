"""A card says of each way a student can have come about what is true of it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_study import Made

from internal_kd.analysis.scores import Score
from internal_kd.deployment.card import model_card
from internal_kd.deployment.card_header import header
from internal_kd.deployment.choice import Candidate
from internal_kd.deployment.contestants import TORCH
from internal_kd.deployment.facts import ExportFacts

OPTIMISTIC = "Methods were compared by the same dev set"


@pytest.fixture
def facts(made: Made) -> ExportFacts:
    """What the made study's RTE export knew of itself."""
    return made.facts["rte"]


def text_of(facts: ExportFacts) -> str:
    return " ".join(model_card(facts).split())


def chosen(facts: ExportFacts, **changes: Any) -> ExportFacts:
    return replace(facts, choice=replace(facts.choice, **changes))


def test_a_method_chosen_among_several_has_an_optimistic_mean(facts: ExportFacts) -> None:
    said = text_of(facts)
    assert "Of 2 methods at this depth, " in said and "has the best mean accuracy on the dev set" in said
    assert f"{OPTIMISTIC}, so their best mean is also a little optimistic." in said
    assert "dev set of RTE alone, which also chose it." in said
    said = text_of(chosen(facts, kept=1))
    assert f"so no seed was chosen by its score. {OPTIMISTIC}, so their best mean is a little optimistic." in said


def test_a_method_asked_for_was_not_compared(facts: ExportFacts) -> None:
    title, best = facts.choice.cell.title, facts.choice.compared[:1]
    said = text_of(chosen(facts, method_given=True, candidates=best))
    assert f"The method, {title}, was asked for by name." in said and OPTIMISTIC not in said
    said = text_of(chosen(facts, method_given=True, candidates=best, kept=1))
    assert "dev set of RTE alone. How" in said


def test_a_studys_only_method_was_neither_asked_for_nor_compared(facts: ExportFacts) -> None:
    said = text_of(chosen(facts, candidates=facts.choice.compared[:1]))
    assert f"The study has one method at this depth and training-set size, {facts.choice.cell.title}." in said
    assert OPTIMISTIC not in said and "asked for" not in said


def test_methods_without_a_score_are_counted_and_seeds_that_are_missing_named(facts: ExportFacts) -> None:
    best, other = facts.choice.candidates
    nothing = Candidate("new", "New", None, 0, 2)
    said = text_of(chosen(facts, candidates=(best, nothing)))
    assert f"Of 2 methods at this depth, {best.title} is the only one with a mean accuracy on the dev set." in said
    assert OPTIMISTIC not in said and "asked for" not in said
    assert f"Not every run was finished; seeds of those wanted: {best.title} 2 of 2, New 0 of 2." in said
    said = text_of(chosen(facts, candidates=(best, replace(other, finished=1), nothing)))
    assert f"Of 3 methods at this depth, 1 of them without a score, {best.title} has the best mean" in said
    assert f"wanted: {best.title} 2 of 2, {other.title} 1 of 2, New 0 of 2." in said
    assert "Not every run was finished" not in text_of(facts)


def scored(facts: ExportFacts, value: float) -> ExportFacts:
    """Facts of a folder that scores otherwise than its bf16 predictions did."""
    assert facts.choice.value != value
    record = {**facts.record, "precision": "bf16"}
    return replace(facts, record=record, scores={**facts.scores, TORCH: {"accuracy": value}})


def test_this_models_scores_are_those_the_folder_gives(facts: ExportFacts) -> None:
    said = scored(facts, 0.8125)
    assert "value: 0.8125" in header(said) and f"value: {facts.choice.value}" not in header(said)
    (row,) = (line for line in model_card(said).splitlines() if line.startswith("| accuracy"))
    assert row.split("|")[2].strip() == "81.2"
    assert "On the 48 dev examples, times 100. This model: as this folder computes, in fp32." in text_of(said)
    # The seed was chosen by what was recorded, which is said where it is another figure.
    assert f"highest there: {100 * facts.choice.value:.1f}, as predicted in bf16 after training." in text_of(said)
    assert "as predicted in fp32 after training" not in text_of(facts)


def test_a_metric_that_the_folder_leaves_undefined_is_not_filled_in(facts: ExportFacts) -> None:
    undefined = replace(facts, scores={**facts.scores, TORCH: {"accuracy": None}})
    assert undefined.dev_score("accuracy") is None and "model-index" not in header(undefined)


def test_a_second_dev_set_has_its_own_count_and_its_recorded_score(made: Made) -> None:
    facts = made.facts["judge"]
    numbers, run, name = facts.numbers, facts.choice.run, "matthews_correlation_mismatched"
    recorded = Score(
        "judge", name, "", run.method.name, run.depth, "full", run.seed, 0.625, run.fingerprint, None, None, None, None
    )
    known = numbers.facts["judge"]
    numbers = replace(
        numbers,
        facts={**numbers.facts, "judge": replace(known, rows={**known.rows, "dev_mismatched": 32})},
        scores={**numbers.scores, (*facts.choice.cell.key, name): [recorded]},
    )
    splits = {**facts.task.splits, "dev_mismatched": {"rows": 32, "sha256": "0" * 64}}
    record = {**facts.record, "precision": "bf16"}
    said = replace(facts, numbers=numbers, record=record, task=replace(facts.task, splits=splits))
    (row,) = (line for line in model_card(said).splitlines() if line.startswith("| Matthews (mismatched)"))
    assert row.split("|")[2].strip() == "62.5" and row.split("|")[3].strip() == "– (1 of 2)"
    assert (
        "On the 48 dev examples (mismatched: 32 others), times 100. This model: as this folder computes, in fp32 "
        "(mismatched: as predicted in bf16 after training)." in text_of(said)
    )
    assert "mismatched" not in text_of(facts)


@pytest.mark.parametrize(("taught", "started"), [(True, False), (False, True), (False, False)])
def test_a_teachers_part_is_told_as_it_was(facts: ExportFacts, taught: bool, started: bool) -> None:
    run = facts.choice.run
    initial = replace(run.initial, teacher=facts.teacher if started else None)
    said = text_of(chosen(facts, run=replace(run, outputs=run.outputs if taught else None, initial=initial)))
    assert ("It was distilled from a teacher of 4 layers" in said) == taught
    assert ("without a teacher." in said) == ("No teacher: this method" in said) == (not taught and not started)
    assert ("starting from weights of a teacher of 4 layers: tiny, fine-tuned on the same task." in said) == started
    assert ("It gave the first weights; from there this method learns from the gold labels alone." in said) == started
    assert ("The teacher is seed 1 of row 1.0" in said) == (taught or started)


def test_a_regression_has_no_classes_to_agree_on(facts: ExportFacts) -> None:
    assert "with the same class for" in text_of(facts)
    assert "with the same class for" not in text_of(replace(facts, task=replace(facts.task, regression=True)))

"""The report's first lines say what the comparisons below say, and no more."""

import pytest
from fake_runs import QUALITY, SMALL, plan, write_study

from internal_kd.analysis.answer import answer_of
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.efficiency import efficiency_rows
from internal_kd.analysis.latency import read_latencies
from internal_kd.analysis.predictions import read_facts
from internal_kd.analysis.scores import read_scores
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.statistics import read_comparisons
from internal_kd.analysis.summaries import read_summaries
from internal_kd.analysis.tables import summarise

THREE = {"tasks": ["entailment"], "methods": ["soft", "soft_kl_cos", "stacked"], "seeds": [1, 2, 3]}


def answered(study):
    score_runs(study)
    compare_runs(study)
    scores = read_scores(study)
    table = summarise(study, {name: read_facts(tokens) for name, tokens in study.tasks.items()}, scores)
    rows = efficiency_rows(table, 0.5, read_latencies(study), scores)
    return answer_of(study, table, read_comparisons(study), read_summaries(study), rows)


def test_a_shown_lead_is_counted_and_the_best_row_is_named(project, monkeypatch):
    for method, quality in {"soft": 0.6, "soft_kl_cos": 0.6, "stacked": 0.97}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    answer = answered(write_study(plan(study=THREE)))
    assert "of 2 comparisons of a row" in answer.sentence
    assert "1 shown to score higher, 0 shown to score lower and 1 with no difference shown." in answer.sentence
    ((task, soft, best, lead, reading, kept, parameters, _),) = answer.table.lines
    assert task == "Entailment (accuracy)" and soft.endswith("(3)") and best.startswith("3.5 Stacked")
    assert reading == "better" and lead.startswith("+") and "95 % interval +" in lead
    assert kept.count("%") == 2 and parameters.endswith("%")


def test_the_best_row_may_be_shown_to_be_worse(project, monkeypatch):
    for method, quality in {"soft": 0.97, "soft_kl_cos": 0.55, "stacked": 0.6}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    answer = answered(write_study(plan(study=THREE)))
    assert "0 shown to score higher, 2 shown to score lower and 0 with no difference shown." in answer.sentence
    ((*_, lead, reading, _, _, _),) = answer.table.lines
    assert lead.startswith("-") and reading == "worse"


def test_one_seed_tells_nothing(project):
    answer = answered(write_study(plan(study={**THREE, "seeds": [1]})))
    assert answer.sentence.endswith("and 2 that cannot be told (one seed, or none on both sides).")


@pytest.mark.parametrize("methods", [["soft"], ["soft_kl_cos", "stacked"]])
def test_a_study_without_the_two_sides_has_no_answer(project, methods):
    answer = answered(write_study(plan(study={**THREE, "methods": methods})))
    assert answer.sentence.startswith("Nothing yet: ") and answer.table.lines == ()


def test_only_the_depth_and_size_of_the_figures_answer(project):
    answer = answered(write_study(plan(study={**THREE, "examples": [100, "full"], "depths": [2, 3]})))
    assert "At 3 layers, of 2 comparisons" in answer.sentence
    assert len(answer.table.lines) == 1


def test_a_study_without_any_run_has_none(project):
    assert answered(plan(**SMALL)).table.lines == ()

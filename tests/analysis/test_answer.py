"""The report's first lines say what the comparisons below say, and no more."""

import shutil

import pytest
from fake_runs import KINDS, QUALITY, SMALL, plan, write_study

from internal_kd.analysis.answer import answer_of
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.efficiency import efficiency_rows
from internal_kd.analysis.latency import read_latencies
from internal_kd.analysis.predictions import read_facts
from internal_kd.analysis.scores import read_scores
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.sentences import findings
from internal_kd.analysis.statistics import read_comparisons
from internal_kd.analysis.summaries import read_summaries
from internal_kd.analysis.tables import summarise

THREE = {"tasks": ["entailment"], "methods": ["soft", "soft_kl_cos", "stacked"], "seeds": [1, 2, 3]}


def told(study):
    """Return what answer and findings are made of."""
    facts = {name: read_facts(tokens) for name, tokens in study.tasks.items()}
    return summarise(study, facts, read_scores(study)), read_comparisons(study), read_summaries(study)


def answered(study):
    score_runs(study)
    compare_runs(study)
    table, comparisons, summaries = told(study)
    rows = efficiency_rows(table, 0.5, read_latencies(study), read_scores(study))
    return answer_of(study, table, comparisons, summaries, rows)


def test_a_shown_lead_is_counted_and_the_best_row_is_named(project, monkeypatch):
    for method, quality in {"soft": 0.6, "soft_kl_cos": 0.6, "stacked": 0.97}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    answer = answered(write_study(plan(study=THREE)))
    assert "of 2 comparisons of a row" in answer.sentence
    assert "1 shown to be better, 0 shown to be worse and 1 with no difference shown." in answer.sentence
    ((task, soft, best, lead, reading, kept, parameters, _),) = answer.table.lines
    assert task == "Entailment (accuracy)" and soft.endswith("(3)") and best.startswith("3.5 Stacked")
    assert reading == "better" and lead.startswith("+") and "95 % interval +" in lead
    assert kept.count("%") == 2 and parameters.endswith("%")


def test_the_best_row_may_be_shown_to_be_worse(project, monkeypatch):
    for method, quality in {"soft": 0.97, "soft_kl_cos": 0.55, "stacked": 0.6}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    answer = answered(write_study(plan(study=THREE)))
    assert "0 shown to be better, 2 shown to be worse and 0 with no difference shown." in answer.sentence
    ((*_, lead, reading, _, _, _),) = answer.table.lines
    assert lead.startswith("-") and reading == "worse"


def test_one_seed_tells_nothing(project):
    answer = answered(write_study(plan(study={**THREE, "seeds": [1]})))
    assert answer.sentence.endswith("0 with no difference shown and 2 of which there is one seed.")


@pytest.mark.parametrize("methods", [["soft"], ["soft_kl_cos", "stacked"]])
def test_a_study_without_the_two_sides_has_no_answer(project, methods):
    answer = answered(write_study(plan(study={**THREE, "methods": methods})))
    assert "this study has no comparison of a row" in answer.sentence and answer.table.lines == ()


def test_only_the_depth_and_size_of_the_figures_answer(project):
    answer = answered(write_study(plan(study={**THREE, "examples": [100, "full"], "depths": [2, 3]})))
    assert "At 3 layers, of 2 comparisons" in answer.sentence
    assert len(answer.table.lines) == 1


def test_what_has_not_run_is_counted(project):
    study = write_study(plan(study=THREE))
    for run in study.students:
        if run.method.name == "stacked":
            shutil.rmtree(run.folder)
    answer = answered(study)
    assert "of 2 comparisons" in answer.sentence and answer.sentence.endswith("and 1 not run yet.")
    assert answer.table.lines[0][2].startswith("3.3")


def test_of_an_error_the_smallest_is_the_best(project, monkeypatch):
    monkeypatch.setitem(KINDS, "similarity", KINDS["similarity"] | {"metrics": ["mse"]})
    for method, quality in {"soft": 0.6, "soft_kl_cos": 0.97, "stacked": 0.5}.items():
        monkeypatch.setitem(QUALITY, method, quality)
    similarity = {"source": "generator", "grammar": "entailment", "train": 400, "dev": 200}
    study = write_study(plan(study={**THREE, "tasks": ["similarity"]}, tasks={"similarity": similarity}))
    answer = answered(study)
    assert "1 shown to be better, 1 shown to be worse" in answer.sentence
    ((_, _, best, lead, reading, *_),) = answer.table.lines
    assert best.startswith("3.3") and lead.startswith("-") and reading == "better"
    (text,) = findings(*told(study))
    assert "3.3 has a smaller error than standard distillation (3.0) by -" in text
    assert "3.5 has a larger error than standard distillation (3.0) by +" in text


def test_a_study_without_any_run_has_none(project):
    answer = answered(plan(**SMALL))
    assert answer.table.lines == () and "not run yet" in answer.sentence

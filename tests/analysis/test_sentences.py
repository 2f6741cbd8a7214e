"""What the report says of differences: no more than the intervals and the test do."""

import re
from dataclasses import replace

import pytest
from fake_runs import QUALITY, plan, write_study

from internal_kd.analysis.predictions import read_evidence
from internal_kd.analysis.scores import scores_of
from internal_kd.analysis.sentences import findings, reading_of, what_would_decide
from internal_kd.analysis.statistics import Comparison, arms_of, compare
from internal_kd.analysis.summaries import read_summaries, write_summaries
from internal_kd.analysis.tables import summarise

ONE = {"tasks": ["entailment"], "seeds": [1, 2]}
SHOWN = Comparison(
    "entailment", "accuracy", 3, "full", "3.5", "stacked", "3.0", "soft", 3, 3, 3, 0.1, 0.05, 0.15, "mcnemar", 1e-6,
    1e-5, "paired t", 0.01, 0.02, 0.04, 3,
)  # fmt: skip


def said(**overlay):
    study = write_study(plan(teacher={"seeds": [1]}, **overlay))
    evidence = read_evidence(study)
    table, arms = summarise(study, evidence.tasks, scores_of(study, evidence)), arms_of(study, evidence)
    write_summaries(study, arms)
    return findings(table, compare(arms), read_summaries(study))


@pytest.mark.parametrize(
    ("changes", "reading"),
    [
        ({}, "better"),
        ({"difference": -0.1, "low": -0.15, "high": -0.05}, "worse"),
        ({"metric": "mse"}, "worse"),
        ({"low": -0.01}, "no difference shown"),
        ({"p_predictions_holm": 0.001}, "no difference shown"),
        ({"seeds": 1}, "one seed: says nothing of other seeds"),
        ({"baseline_seeds": 1}, "one seed: says nothing of other seeds"),
        ({"matched_seeds": 0, "p_predictions_holm": None}, "not tested"),
        ({"baseline_seeds": 0, "difference": None}, "not run yet"),
        ({"difference": None, "low": None, "high": None, "p_predictions_holm": None}, "undefined"),
    ],
)
def test_a_difference_is_read_only_when_interval_and_test_agree(changes, reading):
    assert reading_of(replace(SHOWN, **changes)) == reading


def test_the_highest_mean_comes_with_its_spread_and_is_no_lead(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "stacked", QUALITY["soft"])
    (text,) = said(study={**ONE, "methods": ["soft", "stacked"]})
    assert "No difference from standard distillation (3.0) is shown for 3.5." in text
    assert "The highest mean, which by itself shows no lead, is that of 3." in text
    share = text.split("The highest mean")[1]
    assert share.count("\u00b1") == 1 and "(2 seeds)" in share
    kept, low, high = map(int, re.search(r"(\d+) % \((\d+) to (\d+) %\) of the teacher's\.$", share).groups())
    assert low < kept < high


def test_what_would_decide_is_said_of_what_is_not_shown():
    open_one = replace(SHOWN, low=-0.01, p_predictions_holm=0.2)
    few, never = replace(open_one, seeds_needed=12), replace(open_one, id="3.4", many_seeds=0.105, seeds_needed=None)
    assert what_would_decide([few]) == [
        "If they stayed as they are, intervals would leave 0 out with about 12 seeds of each side (3.5); p over "
        "predictions, 0.200 at the least, hangs on the dev examples and not on the number of seeds."
    ]
    said = what_would_decide([few, never])
    assert "about 12 seeds of each side (3.5);" in said[0]
    assert said[1].startswith(
        "More seeds alone would not show so small a difference for 3.4: these dev examples leave "
    )
    assert "\u00b1 10.5, however many seeds." in said[1]


def test_seeds_are_no_advice_where_there_is_nothing_to_decide_or_too_many_are_needed():
    open_one = replace(SHOWN, low=-0.01)
    # One seed has no outlook, and students that answer alike have no difference.
    assert what_would_decide([replace(open_one, many_seeds=None, seeds_needed=None)]) == []
    assert what_would_decide([replace(open_one, difference=0.0, many_seeds=0.0, seeds_needed=None)]) == []
    beyond = replace(open_one, many_seeds=0.01, seeds_needed=None)
    assert what_would_decide([beyond]) == ["For 3.5 more than 1,000 seeds of each side would be needed."]


def test_an_interval_that_leaves_0_out_waits_for_the_test_and_not_for_seeds():
    clear = replace(SHOWN, p_predictions_holm=0.06)
    assert what_would_decide([clear]) == [
        "The interval of 3.5 leaves 0 out, but p over predictions is 0.060 and not below 0.001."
    ]
    (two,) = what_would_decide([clear, replace(clear, id="3.4", p_predictions_holm=0.5)])
    assert two.startswith("The intervals of 3.5 and 3.4 leave 0 out, but p over predictions is 0.060 and 0.500")


def test_a_study_with_row_2_0_alone_compares_with_it(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "finetuned", 0.55)
    monkeypatch.setitem(QUALITY, "stacked", 0.97)
    (text,) = said(study={**ONE, "methods": ["finetuned", "stacked"], "seeds": [1, 2, 3]})
    assert "3.5 scores higher than fine-tuning without a teacher (2.0) by +" in text


def test_a_study_without_a_baseline_says_so_and_not_that_runs_are_missing(project):
    (text,) = said(study={**ONE, "methods": ["soft_kl_cos", "stacked"]})
    assert "This study has no baseline for 3.3 and 3.5: nothing to compare with." in text
    assert "yet" not in text


def test_a_named_baseline_is_called_by_its_title(project):
    (text,) = said(
        study={**ONE, "methods": ["soft_kl_cos", "stacked"]}, methods={"stacked": {"compare_with": ["soft_kl_cos"]}}
    )
    assert "No difference from + KL + cosine, all layers (3.3) is shown for 3.5." in text


def test_one_seed_is_said_to_be_one(project, monkeypatch):
    monkeypatch.setitem(QUALITY, "soft", 0.55)
    (text,) = said(study={**ONE, "methods": ["soft", "stacked"], "seeds": [1]})
    assert "scores higher" not in text
    assert (
        "Against standard distillation (3.0) there is one seed of 3.5 or of it, which says nothing of others." in text
    )

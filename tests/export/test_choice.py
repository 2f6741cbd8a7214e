"""Which run is exported: the best mean over seeds, ties called ties, a seed that the dev set need not choose."""

from __future__ import annotations

from pathlib import Path

import pytest
from scored_runs import JUDGE, finish, plan, runs_of

from internal_kd.errors import UserError
from internal_kd.export.choice import Choice, Request, choose
from internal_kd.plan.study import Study


@pytest.fixture
def study(project: Path) -> Study:
    """The tiny study with every run finished: soft is best on average, stacked has the best seed."""
    study = plan(project)
    for method, scores in {
        "teacher": (0.9, 0.9),
        "finetuned": (0.3, 0.3),
        "soft": (0.6, 0.5),
        "stacked": (0.8, 0.1),
    }.items():
        for run, score in zip(runs_of(study, method), scores, strict=True):
            finish(run, score)
    return study


def chosen(study: Study, **request: object) -> Choice:
    return choose(study, "judge", JUDGE, Request(**request))  # type: ignore[arg-type]


def test_the_best_mean_chooses_the_row_and_the_best_dev_score_its_seed(study: Study) -> None:
    choice = chosen(study)
    assert (choice.run.method.name, choice.run.seed, choice.rule) == ("soft", 1, "dev")
    assert choice.mean == pytest.approx(0.55)
    assert [candidate.mean for candidate in choice.candidates] == pytest.approx([0.55, 0.45, 0.3])
    assert choice.tied == () and choice.unfinished == () and not choice.method_given


def test_a_teacher_is_no_student_but_may_be_asked_for(study: Study) -> None:
    assert not any("Teacher" in candidate.name for candidate in chosen(study).candidates)
    assert chosen(study, method="teacher").run.method.name == "teacher"


def test_equal_means_are_a_tie_and_the_smallest_model_counts(study: Study) -> None:
    for method, scores in {"finetuned": (0.7, 0.1), "soft": (0.1, 0.7), "stacked": (0.4, 0.4)}.items():
        for run, score in zip(runs_of(study, method), scores, strict=True):
            finish(run, score, encoder_parameters=900 if method == "stacked" else 1000)
    choice = chosen(study)
    assert choice.run.method.name == "stacked" and len(choice.tied) == 2
    assert [name.split()[0] for name in choice.tied] == ["2.0", "3.0"]


def test_held_out_examples_choose_the_seed_if_all_have_them(study: Study) -> None:
    first, second = runs_of(study, "soft")
    finish(first, 0.6, held_out={"matthews_correlation": 0.2})
    finish(second, 0.5, held_out={"matthews_correlation": 0.4})
    assert (chosen(study).run, chosen(study).rule) == (second, "held_out")
    finish(first, 0.6)
    assert (chosen(study).run, chosen(study).rule) == (first, "dev")


def test_only_seeds_whose_weights_are_here_can_be_exported(study: Study) -> None:
    first, second = runs_of(study, "soft")
    (first.folder / "model/model.safetensors").unlink()
    choice = chosen(study)
    assert (choice.run, choice.rule, choice.kept) == (second, "only", (2,))
    assert choice.mean == pytest.approx(0.55), "a mean needs no weights"
    (second.folder / "model/model.safetensors").unlink()
    with pytest.raises(UserError, match=r"judge: no weights of 3\.0 .*keep_models: all.*dvc pull"):
        chosen(study)


def test_a_score_that_is_not_defined_leaves_a_row_out_of_the_ranking(study: Study) -> None:
    finish(runs_of(study, "soft")[0], None)
    choice = chosen(study)
    assert choice.run.method.name == "stacked" and choice.candidates[-1].mean is None
    assert chosen(study, method="soft").run.seed == 2, "the seed with a score"


def test_runs_that_are_missing_are_counted(study: Study) -> None:
    runs_of(study, "soft")[1].marker.unlink()
    choice = chosen(study)
    assert choice.run.method.name == "soft" and choice.values == {1: 0.6}
    (line,) = choice.unfinished
    assert "1 of 2 seeds" in line and line.startswith("3.0")


def test_one_run_can_be_asked_for_by_the_beginning_of_its_fingerprint(study: Study) -> None:
    run = runs_of(study, "finetuned")[1]
    choice = chosen(study, run=run.fingerprint[:8])
    assert (choice.run, choice.rule, choice.method_given) == (run, "run", True)


def test_a_run_that_is_not_finished_is_not_another_one(study: Study) -> None:
    run = runs_of(study, "finetuned")[1]
    run.marker.unlink()
    with pytest.raises(UserError, match=f"run {run.fingerprint} is not finished"):
        chosen(study, run=run.fingerprint)
    with pytest.raises(UserError, match="more than one run"):
        chosen(study, run="")


def test_a_varied_value_can_be_asked_for(project: Path) -> None:
    study = plan(project, study={"vary": {"learner.layers": [1, 2]}, "seeds": [1], "methods": ["teacher", "soft"]})
    for run in study.runs:
        finish(run, 0.9 if run.depth == 2 else 0.2)
    assert chosen(study).run.depth == 2
    choice = chosen(study, point={"learner.layers": "1"})
    assert choice.run.depth == 1 and len(choice.candidates) == 1 and "learner.layers 1" in choice.candidates[0].name
    with pytest.raises(UserError, match=r"no method has learner\.layers 7; the study has 1, 2"):
        chosen(study, point={"learner.layers": "7"})
    with pytest.raises(UserError, match=r"'learner\.depth' is not varied .did you mean 'learner\.layers'"):
        chosen(study, point={"learner.depth": "1"})


@pytest.mark.parametrize(
    ("request_", "words"),
    [({"method": "stakced"}, "did you mean 'stacked'"), ({"run": "zzz"}, "no run of tiny .* 'zzz'")],
)
def test_what_the_study_does_not_have_is_refused_by_name(study: Study, request_: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        chosen(study, **request_)


def test_nothing_finished_is_said_so(project: Path) -> None:
    with pytest.raises(UserError, match=r"judge: no run .* is finished"):
        chosen(plan(project))

"""Claims of papers: each rule, each verdict, and the setting in which it can be decided."""

import contextlib
import re
from pathlib import Path
from typing import Any

import made_runs
import pandas as pd
import pytest
import yaml

from internal_kd.errors import UserError
from internal_kd.report.claims import claim_lines
from internal_kd.report.comparing import compare_with_teachers
from internal_kd.report.frames import frame_of
from internal_kd.report.make import evaluate
from internal_kd.report.measures import Measures
from internal_kd.report.paper_setting import papers_of, published_lines
from internal_kd.report.papers import read_papers
from internal_kd.report.results import StudyResults
from internal_kd.report.scoring import class_lines, curve_lines, run_lines

PARAMETERS = {"kind": "within", "rows": ["1.0"], "measure": "runs.encoder_parameters"}
RULE = {"kind": "better", "rows": ["3.5"], "than": "3.0"}
QUALITY = {"teacher": 0.95, "finetuned": 0.70, "soft": 0.78, "soft_kl_cos": 0.78, "stacked": 0.90}


def judge_study(**changes: Any):
    """A study of one generated task with another name than any of GLUE's."""
    values = {
        "study": {"tasks": ["judge"], "methods": list(QUALITY), "seeds": [1, 2, 3, 4]},
        "tasks": {"judge": {"source": "generator", "grammar": "entailment", "train": 300, "dev": 400}},
        "methods": {"teacher": {"seeds": [1, 2, 3]}},
    }  # fmt: skip
    return made_runs.plan(**{**values, **changes})


def write_paper(folder: Path, *rules: dict[str, Any], setting: dict[str, Any] | None = None, **more: Any) -> None:
    claims = [
        {"claim": f"claim {n}", "source": "table 1", "status": "paper", "rule": rule} for n, rule in enumerate(rules)
    ]
    paper = {
        "source": "Someone 2020",
        "setting": {"tasks": {"judge": {"dev": 400}}, **(setting or {})},
        "claims": claims,
        **more,
    }
    (folder / "papers").mkdir(exist_ok=True)
    (folder / "papers/someone.yaml").write_text(yaml.safe_dump(paper))


def judged(measures: Measures) -> list[dict[str, Any]]:
    return claim_lines(read_papers(["someone"]), measures)


def verdicts(measures: Measures, *rules: dict[str, Any], **more: Any) -> list[str]:
    write_paper(Path(), *rules, **more)
    return [line["verdict"] for line in judged(measures)]


def measures_of(study) -> Measures:
    results = StudyResults.read(study)
    lines = {"runs": run_lines(results), "classes": class_lines(results)[0], "curves": curve_lines(results)}
    frames = {name: frame_of(study, name, own) for name, own in lines.items()}
    return Measures(results, compare_with_teachers(results), frames.__getitem__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A project with two studies, one of them varied."""
    return tmp_path_factory.mktemp("claims")


@pytest.fixture(scope="module")
def measures_once(folder) -> Measures:
    with contextlib.chdir(folder):
        return measures_of(made_runs.write_study(judge_study(), QUALITY))


@pytest.fixture(scope="module")
def varied_once(folder) -> Measures:
    study = judge_study(
        study={
            "name": "varied", "tasks": ["judge"], "methods": ["teacher", "soft", "soft_kl", "stacked"],
            "seeds": [1, 2, 3, 4], "vary": {"select.keep": [100, 200, "full"]},
        }
    )  # fmt: skip
    quality = {
        "teacher": 0.95, ("soft", "full"): 0.8, ("soft", 200): 0.7, ("soft", 100): 0.6,
        ("stacked", "full"): 0.82, ("stacked", 200): 0.79, ("stacked", 100): 0.76,
        ("soft_kl", "full"): 0.82, ("soft_kl", 200): 0.72, ("soft_kl", 100): 0.62,
    }  # fmt: skip
    with contextlib.chdir(folder):
        return measures_of(made_runs.write_study(study, quality))


@pytest.fixture
def measures(measures_once, folder, monkeypatch) -> Measures:
    monkeypatch.chdir(folder)
    return measures_once


@pytest.fixture
def varied(varied_once, folder, monkeypatch) -> Measures:
    monkeypatch.chdir(folder)
    return varied_once


@pytest.mark.parametrize(
    ("rule", "verdict"),
    [
        ({"kind": "better", "rows": ["3.5"], "than": "3.0"}, "reproduced"),
        ({"kind": "better", "rows": ["stacked"], "than": "soft", "least": 20}, "not shown"),
        ({"kind": "better", "rows": ["2.0"], "than": "3.0"}, "contradicted"),
        ({"kind": "better", "rows": ["3.3"], "than": "3.0"}, "not shown"),
        ({"kind": "better", "rows": ["3.3", "3.5"], "than": "3.0"}, "not shown"),
        ({"kind": "within", "rows": ["3.5"], "low": 80, "high": 99}, "reproduced"),
        ({"kind": "within", "rows": ["3.5"], "low": 10, "high": 20}, "contradicted"),
        ({"kind": "within", "rows": ["3.5"], "low": 89.9, "high": 90.1}, "not shown"),
        ({**PARAMETERS, "low": 10_600_000, "high": 10_700_000}, "reproduced"),
        ({**PARAMETERS, "low": 85_000_000}, "contradicted"),
        ({"kind": "ratio", "rows": ["3.3", "3.5"], "of": "1.0", "low": 0.9, "high": 1.0}, "reproduced"),
        ({"kind": "ratio", "rows": ["3.0"], "of": "1.0", "low": 0.95}, "contradicted"),
        ({"kind": "ratio", "rows": ["3.5"], "of": "1.0", "above": "2.0", "low": 0.5}, "reproduced"),
        ({"kind": "order", "rows": ["1.0", "3.5", "3.0", "2.0"]}, "reproduced"),
        ({"kind": "order", "rows": [["3.3", "3.5"], "3.0"]}, "reproduced"),
        ({"kind": "order", "rows": ["3.0", "3.5"]}, "contradicted"),
        ({"kind": "order", "rows": ["3.3", "3.0"]}, "not shown"),
        ({"kind": "better", "rows": ["3.7"], "than": "3.0"}, "not run"),
        # One row needs no list; per seed, McNemar's test decides.
        ({"kind": "better", "rows": "3.5", "than": "3.0", "per_seed": 0.001}, "reproduced"),
        ({"kind": "better", "rows": "3.0", "than": "3.5", "per_seed": 0.001}, "contradicted"),
        ({"kind": "better", "rows": "3.3", "than": "3.0", "per_seed": 0.001}, "not shown"),
        # Some examples only: those of a class, or of a phenomenon.
        ({"kind": "within", "rows": "3.5", "where": {"label": "entailment"}, "low": 80, "high": 99}, "reproduced"),
        ({"kind": "better", "rows": "3.5", "than": "2.0", "where": {"phenomenon": "voice"}}, "reproduced"),
        # Other metrics, nearness to the teacher, and columns of tables.
        ({"kind": "better", "rows": "3.5", "than": "2.0", "measure": "f1"}, "reproduced"),
        ({"kind": "better", "rows": "3.5", "than": "2.0", "measure": "agreement"}, "reproduced"),
        ({"kind": "order", "rows": ["3.5", "2.0"], "measure": "divergence"}, "reproduced"),
        ({"kind": "within", "rows": "3.5", "measure": "classes.class_recall", "where": {"label": "entailment"},
          "low": 0.5}, "reproduced"),
        ({"kind": "within", "rows": "3.5", "measure": "runs.seconds", "high": 1}, "contradicted"),
        ({"kind": "correlation", "rows": ["2.0", "3.0", "3.5"], "measure": "agreement", "to": "accuracy"},
         "reproduced"),
        ({"kind": "correlation", "rows": ["2.0", "3.0", "3.5"], "measure": "divergence", "to": "accuracy"},
         "contradicted"),
        ({"kind": "better", "rows": "3.5", "than": "2.0", "measure": "nll"}, "reproduced"),
        ({"kind": "order", "rows": ["2.0", "3.5"], "measure": "ece"}, "contradicted"),
        ({"kind": "within", "rows": "3.5", "measure": "entropy", "low": 0, "high": 0.6931}, "reproduced"),
        # Several rules: all have to hold.
        ([RULE, {"kind": "ratio", "rows": "3.5", "of": "1.0", "above": "3.0", "low": 0.5}], "reproduced"),
        ([RULE, {"kind": "within", "rows": "3.5", "low": 95}], "contradicted"),
    ],
)  # fmt: skip
def test_rules(measures, rule, verdict):
    assert verdicts(measures, rule) == [verdict]


@pytest.mark.parametrize(
    ("row", "direction", "verdict"),
    [
        ("3.5", "rises", "reproduced"),
        ("3.5", "falls", "contradicted"),
        ("3.5", "stays", "contradicted"),
        ("3.1", "rises", "not shown"),
        ("3.1", "stays", "not shown"),
    ],
)
def test_trends_of_a_lead(varied, row, direction, verdict):
    along = {"select.keep": ["full", 200, 100]}
    rule = {"kind": "trend", "along": along, "rows": row, "than": "3.0", "direction": direction}
    assert verdicts(varied, rule) == [verdict]


def test_a_lead_within_the_spread_of_seeds_stays(varied):
    rule = {"kind": "trend", "along": {"select.keep": ["full", 200, 100]}, "rows": "3.1", "than": "3.0"}
    assert verdicts(varied, {**rule, "direction": "stays", "within": "seeds"}) == ["reproduced"]
    assert verdicts(varied, {**rule, "direction": "stays", "within": 20}) == ["reproduced"]


def test_a_trend_may_go_along_what_is_measured_or_along_a_column(measures):
    of_f1 = {"kind": "trend", "rows": "3.5", "than": "2.0", "along": {"measure": ["accuracy", "f1"]}}
    by_class = {"kind": "trend", "rows": "3.5", "along": {"label": ["entailment", "not_entailment"]}}
    assert set(verdicts(measures, *({**rule, "direction": "stays"} for rule in (of_f1, by_class)))) <= {
        "not shown", "contradicted", "reproduced",
    }  # fmt: skip
    assert all("a change of" in line["evidence"] for line in judged(measures))


def test_rows_are_compared_at_the_points_that_are_named(varied):
    small, full = ({"row": "3.5", "at": {"select.keep": value}} for value in (100, "full"))
    assert verdicts(varied, {"kind": "order", "rows": [full, small]}) == ["reproduced"]
    # A baseline without a point of its own is taken at the row's.
    assert verdicts(varied, {"kind": "better", "rows": [small], "than": "3.0", "least": 10}) == ["reproduced"]
    assert verdicts(varied, {"kind": "better", "rows": [full], "than": "3.0", "least": 10}) == ["not shown"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"measure": "accurracy"}, "'accuracy'"),
        ({"measure": "runs.second"}, "runs.second"),
        ({"where": {"lable": "entailment"}}, "'label'"),
        ({"measure": "classes.class_recall"}, "2 lines of classes"),
    ],
)
def test_a_measure_that_does_not_exist_is_one_line(measures, change, named):
    write_paper(Path(), {**RULE, **change})
    with pytest.raises(UserError, match=r"papers/someone\.yaml: ") as caught:
        judged(measures)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ({"tasks": {"judge": {"dev": 1000}}}, "all of judge (1,000 dev examples)"),
        ({"tasks": {"judge": {}, "other": {}}}, "task other"),
        ({"teacher_encoder_parameters": 85}, "85 encoder parameters"),
        ({"students": {"learner.layers": 6}}, "learner.layers 6 (here 3)"),
        ({"rows": {"soft": {"epochs": 50}}}, "epochs 50 (here 4)"),
        ({"students": {"epochs": 50}}, "epochs 50 (here 4)"),
        ({"teacher": {"batch_size": 7}}, None),
        ({"rows": {"3.5": {"weights": ["soft", "hard"], "curriculum": "stacked"}}}, "with weights hard and soft (here"),
        ({"seeds": 5}, "5 seeds of every row (here 4)"),
        ({"students": {"temperature": 1.0, "layer_map": "uniform"}}, None),
        ({"students": {"learner.kind": "encoder", "learner.shared_keys": 1}}, None),  # defaults, said nowhere
    ],
)
def test_outside_of_its_setting_a_claim_is_not_run_and_its_evidence_stays(measures, setting, needed):
    write_paper(Path(), RULE, setting=setting)
    (line,) = judged(measures)
    assert line["verdict"] == ("not run" if needed else "reproduced")
    assert "1 of 1 better" in line["evidence"]
    assert (needed or "") in line["needed"]


def test_the_row_that_needs_most_seeds_says_how_many(measures):
    write_paper(Path(), {**RULE, "than": "1.0"}, setting={"seeds": 9, "rows": {"3.5": {"seeds": [1, 2, 3, 4, 5]}}})
    assert "9 seeds of every row (here 3)" in judged(measures)[0]["needed"]


def test_the_one_teacher_of_a_setting_is_a_constant(project):
    study = made_runs.write_study(judge_study(methods={"teacher": {"seeds": [1]}}), QUALITY)
    rules = [
        {"kind": "ratio", "rows": ["stacked"], "of": "teacher", "low": 0.8},
        {"kind": "better", "rows": ["teacher"], "than": "soft"},
    ]
    measures = measures_of(study)
    assert verdicts(measures, *rules, setting={"rows": {"teacher": {"seeds": [1]}}}) == ["reproduced", "reproduced"]
    assert re.search(r"\d % \(\d+ to \d+ %\)", judged(measures)[0]["evidence"])
    assert verdicts(measures, *rules, setting={"seeds": 2}) == ["not run", "not run"]


def test_missing_runs_leave_a_claim_undecided(project):
    study = made_runs.write_study(judge_study(), QUALITY, missing={("stacked", 4)})
    assert verdicts(measures_of(study), RULE) == ["not run"]


def test_a_task_that_is_only_called_like_one_of_glue_does_not_count(project):
    study = made_runs.write_study(made_runs.plan())
    assert papers_of(StudyResults.read(study)) == {}


def test_the_papers_of_this_project_are_well_formed():
    papers = read_papers(folder=made_runs.ROOT / "papers")
    assert len(papers["aguilar2020"].claims) >= 5
    assert {claim.status for paper in papers.values() for claim in paper.claims} <= {"paper", "repo", "secondary"}


def test_the_files_of_the_page_are_well_formed(tmp_path):
    page = (made_runs.ROOT / "docs/how-to/claims.md").read_text()
    blocks = re.findall("^```yml\n(.*?)^```", page, flags=re.S | re.M)
    for number, block in enumerate(blocks):
        (tmp_path / f"paper{number}.yaml").write_text(block)
    assert len(read_papers(folder=tmp_path)) == len(blocks) >= 2


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"status": "recalled"}, "status"),
        ({"rule": {"kind": "nicer"}}, "rule"),
        ({"rule": {**RULE, "tasks": ["x"]}}, "'x'"),
    ],
)
def test_a_mistake_in_a_paper_is_one_line_with_file_and_place(project, change, named):
    write_paper(project, RULE)
    paper = yaml.safe_load((project / "papers/someone.yaml").read_text())
    paper["claims"][0] |= change
    (project / "papers/someone.yaml").write_text(yaml.safe_dump(paper))
    with pytest.raises(UserError, match=r"papers/someone\.yaml: .*") as caught:
        read_papers()
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_published_scores_stand_beside_ours_only_where_both_are_of_the_same_things(measures):
    entry = {
        "system": "Theirs",
        "source": "table 2",
        "status": "secondary",
        "rows": ["3.0", "3.5"],
        "scores": {"judge": {"accuracy": 91.0}},
    }
    for setting, known in (({}, True), ({"students": {"learner.layers": 6}}, False)):
        write_paper(Path(), RULE, setting=setting, published=[entry])
        (line,) = published_lines(measures.results, read_papers(["someone"]))
        assert (line.get("ours") == pytest.approx(0.90, abs=0.01)) is known
        assert line["published"] == 91.0 and line["status"] == "secondary"


def test_claims_are_written_as_tables(project):
    write_paper(project, RULE)
    study = made_runs.write_study(judge_study(), QUALITY)
    evaluate(study)
    claims = pd.read_csv(study.folder / "tables/claims.csv")
    assert claims["verdict"].tolist() == ["reproduced"]
    assert "reproduced" in (study.folder / "tables/claims.md").read_text()


def test_a_study_names_its_papers_or_gets_those_about_its_tasks_and_rows(measures):
    write_paper(Path(), RULE)
    assert list(papers_of(measures.results)) == ["someone"]
    write_paper(Path(), {**RULE, "rows": ["9.9"]})
    assert papers_of(measures.results) == {}
    assert judge_study(analysis={"papers": "someone"}).params.analysis.papers == ("someone",)
    with pytest.raises(UserError, match=r"analysis\.papers: .*'someone'"):
        judge_study(analysis={"papers": ["some-one"]})
    Path("papers").rename("elsewhere")
    with pytest.raises(UserError, match=r"analysis\.papers: .*none"):
        judge_study(analysis={"papers": ["someone"]})


def test_what_is_not_defined_or_never_differs_decides_nothing_and_is_said(project):
    study = made_runs.plan(
        study={"tasks": ["judge"], "seeds": [1, 2]},
        tasks={"judge": {"source": "generator", "grammar": "entailment", "train": 300, "dev": 40}},
    )
    made_runs.write_study(study, {"teacher": 1.1, "soft": 0.975, "stacked": 0.975}, seed_std=0)
    rules = [
        {"kind": "better", "rows": "3.5", "than": "3.0", "measure": "excess"},  # a perfect teacher has no mistakes
        {"kind": "within", "rows": "3.5", "measure": "repeated", "low": 10},
        {"kind": "ratio", "rows": "3.5", "of": "3.0", "measure": "excess", "low": 0.5},
        {"kind": "correlation", "rows": ["3.0", "3.5"], "measure": "accuracy", "to": "nll"},
        {"kind": "within", "rows": "3.5", "low": 90, "scope": "new examples"},
    ]
    setting = {"tasks": {"judge": {}}, "seeds": 2, "rows": {"teacher": {"seeds": [1]}}}
    assert verdicts(measures_of(study), *rules, setting=setting)[:4] == ["not run"] * 3 + ["not shown"]
    *undefined, constant, near_the_end = (line["evidence"] for line in judged(measures_of(study)))
    assert undefined == [""] * 3 and "same value" in constant
    assert near_the_end.endswith("to 100.0).")


def test_a_row_without_a_defined_value_is_not_shown_to_be_better(project):
    study = made_runs.plan(
        study={"tasks": ["sts"], "methods": ["teacher", "soft", "soft_kl", "stacked"]},
        tasks={"sts": {"source": "glue", "glue": "stsb"}},
    )
    made_runs.write_examples(study.tasks["sts"].data, metrics=("pearson",))
    made_runs.write_study(study, {"soft": 0.5, "soft_kl": 0.9, "stacked": 0.9}, constant={("stacked", 2)})
    rule = {"kind": "better", "rows": ["3.1", "3.5"], "than": "3.0"}
    assert verdicts(measures_of(study), rule, setting={"tasks": {"stsb": {}}}) == ["not shown"]
    assert judged(measures_of(study))[0]["evidence"].startswith("1 of 2 better")

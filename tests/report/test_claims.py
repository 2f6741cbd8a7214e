"""Claims of papers: each rule, each verdict, and the setting in which it can be decided."""

from pathlib import Path
from typing import Any

import made_runs
import pandas as pd
import pytest
import yaml

from internal_kd.errors import UserError
from internal_kd.report.claims import claim_lines
from internal_kd.report.make import evaluate
from internal_kd.report.papers import read_papers
from internal_kd.report.published import published_lines
from internal_kd.report.results import StudyResults

PARAMETERS = {"kind": "within", "rows": ["1.0"], "measure": "encoder_parameters"}
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


def verdicts(project: Path, study, *rules: dict[str, Any], **more: Any) -> list[str]:
    write_paper(project, *rules, **more)
    papers = {"someone": read_papers()["someone"]}
    return [line["verdict"] for line in claim_lines(StudyResults.read(study), papers)]


@pytest.fixture
def study(project):
    return made_runs.write_study(judge_study(), QUALITY)


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
        ({**PARAMETERS, "low": 10.7, "high": 10.7}, "reproduced"),
        ({**PARAMETERS, "low": 85.6, "high": 85.6}, "contradicted"),
        ({"kind": "ratio", "rows": ["3.3", "3.5"], "of": "1.0", "low": 0.9, "high": 1.0}, "reproduced"),
        ({"kind": "ratio", "rows": ["3.0"], "of": "1.0", "low": 0.95}, "contradicted"),
        ({"kind": "ratio", "rows": ["3.5"], "of": "1.0", "above": "2.0", "low": 0.5}, "reproduced"),
        ({"kind": "order", "rows": ["1.0", "3.5", "3.0", "2.0"]}, "reproduced"),
        ({"kind": "order", "rows": [["3.3", "3.5"], "3.0"]}, "reproduced"),
        ({"kind": "order", "rows": ["3.0", "3.5"]}, "contradicted"),
        ({"kind": "order", "rows": ["3.3", "3.0"]}, "not shown"),
        ({"kind": "better", "rows": ["3.7"], "than": "3.0"}, "not run"),
    ],
)  # fmt: skip
def test_rules(project, study, rule, verdict):
    assert verdicts(project, study, rule) == [verdict]


@pytest.mark.parametrize(
    ("direction", "small", "verdict"),
    [
        ("rises", 0.16, "reproduced"),
        ("falls", 0.16, "contradicted"),
        ("rises", 0.02, "not shown"),
        ("stays", 0.16, "contradicted"),
    ],
)
def test_trends(project, direction, small, verdict):
    study = judge_study(
        study={
            "tasks": ["judge"],
            "methods": ["teacher", "soft", "stacked"],
            "seeds": [1, 2, 3, 4],
            "vary": {"select.keep": [100, "full"]},
        }
    )
    quality = {
        ("soft", "full"): 0.8,
        ("stacked", "full"): 0.82,
        ("soft", 100): 0.6,
        ("stacked", 100): 0.6 + small,
        "teacher": 0.95,
    }
    made_runs.write_study(study, quality)
    rule = {
        "kind": "trend",
        "axis": "select.keep",
        "start": "full",
        "end": 100,
        "rows": ["3.5"],
        "than": "3.0",
        "direction": direction,
    }
    assert verdicts(project, study, rule) == [verdict]


RULE = {"kind": "better", "rows": ["3.5"], "than": "3.0"}


@pytest.mark.parametrize(
    ("setting", "needed"),
    [
        ({"tasks": {"judge": {"dev": 1000}}}, "all of judge (1,000 dev examples)"),
        ({"tasks": {"judge": {}, "other": {}}}, "task other"),
        ({"teacher_encoder_parameters": 85}, "85 encoder parameters"),
        ({"students": {"learner.layers": 6}}, "learner.layers 6 (here 3)"),
        ({"students": {"epochs": 50}}, "epochs 50 (here 4)"),
        ({"teacher": {"batch_size": 7}}, None),
        ({"rows": {"3.5": {"weights": ["soft", "hard"], "curriculum": "stacked"}}}, "row 3.5 with soft and hard"),
        ({"seeds": 5}, "5 seeds of every row (here 4)"),
        ({"students": {"temperature": 1.0, "layer_map": "uniform"}}, None),
    ],
)
def test_outside_of_its_setting_a_claim_is_not_run_and_its_evidence_stays(project, study, setting, needed):
    write_paper(project, RULE, setting=setting)
    (line,) = claim_lines(StudyResults.read(study), {"someone": read_papers()["someone"]})
    assert line["verdict"] == ("not run" if needed else "reproduced")
    assert "1 of 1 better" in line["evidence"]
    assert (needed or "") in line["needed"]


def test_missing_runs_leave_a_claim_undecided(project):
    study = made_runs.write_study(judge_study(), QUALITY, missing={("stacked", 4)})
    assert verdicts(project, study, RULE) == ["not run"]


def test_a_task_that_is_only_called_like_one_of_glue_does_not_count(project):
    study = made_runs.write_study(made_runs.plan())
    assert claim_lines(StudyResults.read(study), read_papers()) == []


def test_the_papers_of_this_project_are_well_formed():
    papers = read_papers(made_runs.ROOT / "papers")
    assert len(papers["aguilar2020"].claims) >= 5
    assert {claim.status for paper in papers.values() for claim in paper.claims} <= {"paper", "repo", "secondary"}


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


def test_published_scores_stand_beside_ours_only_where_both_are_of_the_same_things(project, study):
    entry = {
        "system": "Theirs",
        "source": "table 2",
        "status": "secondary",
        "rows": ["3.0", "3.5"],
        "scores": {"judge": {"accuracy": 91.0}},
    }
    for setting, known in (({}, True), ({"students": {"learner.layers": 6}}, False)):
        write_paper(project, RULE, setting=setting, published=[entry])
        (line,) = published_lines(StudyResults.read(study), {"someone": read_papers()["someone"]})
        assert (line.get("ours") == pytest.approx(0.90, abs=0.01)) is known
        assert line["published"] == 91.0 and line["status"] == "secondary"


def test_claims_are_written_as_tables(project, study):
    write_paper(project, RULE)
    evaluate(study)
    claims = pd.read_csv(study.folder / "tables/claims.csv")
    assert claims["verdict"].tolist() == ["reproduced"]
    assert "reproduced" in (study.folder / "tables/claims.md").read_text()

"""The paper's claims: nothing invented, nothing decided outside the paper's setting."""

import csv
import json

import pytest
from fake_runs import QUALITY, ROOT, plan, write_record, write_run, write_task

from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.paper import read_claims
from internal_kd.analysis.scoring import score_runs
from internal_kd.artefacts import StudentRun
from internal_kd.errors import UserError
from internal_kd.params.reading import read_yaml

GLUE_KINDS = {"cola": "acceptability", "qqp": "entailment", "mrpc": "entailment", "rte": "entailment"}


def paper_like(monkeypatch, **quality):
    """The paper's tasks, depths and parameter counts with synthetic predictions."""
    for name, value in quality.items():
        monkeypatch.setitem(QUALITY, name, value)
    values = read_yaml(ROOT / "params.yaml")
    study = plan(
        study={
            "name": "paper",
            "tasks": list(GLUE_KINDS),
            "methods": ["soft", "soft_kl_cos", "stacked"],
            "depths": [6],
            "seeds": [1, 2],
        },
        tasks=values["tasks"],
        encoder={"name": "bert-base-uncased", "layers": 12},
        student={"epochs": 8, "epochs_per_layer": 1},
    )
    for tokens in study.tasks.values():
        write_task(tokens.data, GLUE_KINDS[tokens.task], rows=600)
    for run in study.runs:
        write_run(run)
        encoder = 43_117_824 if isinstance(run, StudentRun) else 85_645_056
        write_record(run, ["predictions.parquet", "history.jsonl"], encoder_parameters=encoder)
    return study


def verdicts_of(study):
    score_runs(study)
    compare_runs(study)
    claims = json.loads((study.folder / "tables" / "claims.json").read_text())["claims"]
    return {claim["name"]: claim for claim in claims}


def paper_lines(study):
    with (study.folder / "tables" / "paper.csv").open() as handle:
        return list(csv.DictReader(handle))


def test_another_setting_decides_nothing_and_says_what_it_lacks(small):
    verdicts = verdicts_of(small)
    assert {claim["verdict"] for claim in verdicts.values()} == {"not shown"}
    assert "cola, qqp, mrpc and rte" in verdicts["internal-beats-standard"]["needed"]
    assert all(line["ours"] == "" for line in paper_lines(small))


def test_a_clear_lead_everywhere_is_reproduced(project, monkeypatch):
    study = paper_like(monkeypatch, soft=0.7, soft_kl_cos=0.75, stacked=0.93, teacher=0.97)
    verdicts = verdicts_of(study)
    assert verdicts["internal-beats-standard"]["verdict"] == "reproduced"
    assert verdicts["stacked-best-on-cola"]["verdict"] == "reproduced"
    assert verdicts["parameters"]["verdict"] == "reproduced"
    assert verdicts["gap-grows"]["verdict"] == "not shown"


def test_the_opposite_everywhere_is_contradicted(project, monkeypatch):
    study = paper_like(monkeypatch, soft=0.93, soft_kl_cos=0.7, stacked=0.6, teacher=0.97)
    verdicts = verdicts_of(study)
    assert verdicts["internal-beats-standard"]["verdict"] == "contradicted"
    assert verdicts["stacked-best-on-cola"]["verdict"] == "contradicted"
    assert verdicts["teacher-kept"]["verdict"] == "contradicted"


def test_no_difference_is_not_shown(project, monkeypatch):
    verdicts = verdicts_of(paper_like(monkeypatch, soft=0.8, soft_kl_cos=0.8, stacked=0.8))
    assert verdicts["internal-beats-standard"]["verdict"] == "not shown"
    assert "More seeds" in verdicts["internal-beats-standard"]["needed"]


def test_unknown_cells_stay_empty_and_known_ones_are_compared(project, monkeypatch):
    study = paper_like(monkeypatch)
    verdicts_of(study)
    lines = [line for line in paper_lines(study) if line["kind"] == "paper"]
    known = [line for line in lines if line["paper"]]
    assert len(known) == 5
    assert all(line["status"] == "unverified" for line in known)
    assert all(line["paper"] == "" and line["difference"] == "" for line in lines if line["status"] == "unknown")
    teacher = next(x for x in known if (x["task"], x["metric"], x["rows"]) == ("qqp", "accuracy", "1.0"))
    assert float(teacher["paper"]) == pytest.approx(0.9144)
    assert float(teacher["difference"]) == pytest.approx(float(teacher["ours"]) - 0.9144)


def test_the_project_s_claims_file_is_understood():
    known = read_claims(ROOT / "paper" / "claims.yaml")
    assert {claim.status for claim in known.claims} <= {"stated", "arithmetic", "unverified"}
    assert known.setting.teacher_encoder_parameters == 85_645_056


def test_a_misspelt_claim_is_named(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text((ROOT / "paper" / "claims.yaml").read_text().replace("kind: share", "kind: shares"))
    with pytest.raises(UserError, match=r"claims\.1\.kind"):
        read_claims(path)


def test_a_project_without_claims_has_none(small, project):
    (project / "paper" / "claims.yaml").unlink()
    assert verdicts_of(small) == {}

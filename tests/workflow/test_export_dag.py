"""Exporting is a target of its own: asked for by name, and done again when the scores are others."""

import pytest

from internal_kd.analysis.built import export_path, recorded_key
from internal_kd.files import write_json
from internal_kd.study import Study
from tiny_study import complete_everything, planned_jobs, snakemake

pytestmark = pytest.mark.slow


def dry_run(*arguments: str) -> dict[str, int]:
    return planned_jobs(snakemake("--dry-run", *arguments).stdout)


def test_an_export_is_planned_until_it_carries_the_key_of_the_scores(study: Study) -> None:
    complete_everything(study)
    assert dry_run() == {}
    assert dry_run("export") == {"export_students": 1, "export": 1}
    path = export_path(study, "judge")
    path.parent.mkdir(parents=True)
    write_json(path, {"scores_key": recorded_key(study)})
    assert dry_run("export") == {}
    write_json(path, {"scores_key": "of other scores"})
    assert dry_run("export") == {"export_students": 1, "export": 1}
    (study.folder / "tables/main.md").unlink()
    planned = dry_run("export")
    assert planned["export_students"] == planned["score_runs"] == planned["measure_latency"] == 1
    assert "train_student" not in planned

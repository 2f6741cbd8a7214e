"""Exporting is a target of its own: asked for by name, and done again unless the best students lie there whole."""

import pytest

from internal_kd.analysis.built import export_path, recorded_key
from internal_kd.deployment.exported import CARD, Wish, made_from
from internal_kd.files import write_json
from internal_kd.study import Study
from tiny_study import complete_everything, planned_jobs, snakemake

pytestmark = pytest.mark.slow


def dry_run(*arguments: str) -> dict[str, int]:
    return planned_jobs(snakemake("--dry-run", *arguments).stdout)


def write_export(study: Study, key: str, wish: Wish) -> None:
    """Write of an export what says that it is whole, and what it was made from."""
    path = export_path(study, "judge")
    for name in (CARD, "model/model.safetensors"):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / name).write_text("content")
    files = {"model/model.safetensors": len("content")}
    write_json(path, {"made_from": made_from(key, wish, "0123456789ab"), "files": files})


def test_an_export_is_planned_until_the_best_student_lies_there(study: Study) -> None:
    complete_everything(study)
    assert dry_run() == {}
    asked = {"export_students": 1, "export": 1}
    assert dry_run("export") == asked
    key = recorded_key(study)
    write_export(study, key, Wish())
    assert dry_run("export") == {}
    write_export(study, key, Wish(method="soft"))
    assert dry_run("export") == asked
    (study.folder / "tables/main.md").unlink()
    planned = dry_run("export")
    assert planned["export_students"] == planned["score_runs"] == planned["measure_latency"] == 1
    assert "train_student" not in planned

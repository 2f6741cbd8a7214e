"""What Snakemake itself plans: nothing that is complete, everything a missing run lacks."""

import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from internal_kd.files import write_json
from internal_kd.operations.owners import Owner, record_of
from internal_kd.params import read_yaml
from internal_kd.study import Study
from tiny_study import OVERLAY, ROOT, complete_everything, environment, planned_jobs, snakemake

pytestmark = pytest.mark.slow

RESULTS = {
    "measure_latency": 1,
    "score_runs": 1,
    "compare_runs": 1,
    "measure_fidelity": 1,
    "map_attention": 1,
    "plot_figures": 1,
    "render_report": 1,
    "publish_runs": 1,
    "all": 1,
}
FRESH = RESULTS | {
    "fetch_task": 1,
    "fetch_encoder": 1,
    "tokenize_task": 1,
    "train_teacher": 2,
    "record_teacher": 1,
    "initialize_student": 1,
    "train_student": 6,
}
# Names no server: an attempt to reach one fails at once instead of hanging.
OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def dry_run(*arguments: str, overlay: str | Path = OVERLAY) -> dict[str, int]:
    return planned_jobs(snakemake("--dry-run", *arguments, overlay=overlay).stdout)


def scramble_times(folder: Path) -> None:
    """Give files times as random as those of a fresh clone."""
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        moment = 1_700_000_000 + (number * 7919) % 10_007
        os.utime(path, (moment, moment))


def test_a_fresh_project_plans_every_step_once(study: Study) -> None:
    assert dry_run() == FRESH
    assert dry_run("data") == {"fetch_task": 1, "fetch_encoder": 1, "data": 1}


def test_a_study_that_gc_could_not_know_is_remembered_and_a_dry_run_forgets_none(study: Study) -> None:
    kept, own = Path("work/studies") / f"{study.name}.yaml", Path("config/tiny.yaml")
    own.parent.mkdir()
    Path(OVERLAY).rename(own)
    dry_run(overlay=own)
    assert not kept.exists()
    elsewhere = own.rename("another.yaml")
    dry_run(overlay=elsewhere)
    assert read_yaml(kept)["study"]["name"] == study.name
    kept.unlink()
    dry_run("--config", "analysis={distillation_alpha: 0.4}", overlay=elsewhere)
    assert float(read_yaml(kept)["analysis"]["distillation_alpha"]) == 0.4
    dry_run("--config", "analysis={distillation_alpha: 0.3}", overlay=elsewhere)
    dry_run(overlay=elsewhere.rename(own))
    assert float(read_yaml(kept)["analysis"]["distillation_alpha"]) == 0.4


def test_a_complete_study_plans_nothing_whatever_its_times_and_without_scratch(study: Study) -> None:
    complete_everything(study)
    shutil.rmtree("work")
    scramble_times(Path("results"))
    done = snakemake("--dry-run")
    assert planned_jobs(done.stdout) == {} and "Nothing to be done" in done.stdout
    # Nor without the default profile, nor for a run asked for by name.
    assert dry_run("--workflow-profile", "none") == {}
    assert dry_run(str(study.students[0].marker)) == {}


def test_a_deleted_run_file_is_made_again_with_only_what_it_lacks(study: Study) -> None:
    complete_everything(study)
    scramble_times(Path("results"))
    study.students[0].marker.unlink()
    assert dry_run() == RESULTS | {"train_student": 1}


def test_a_broken_run_is_named_and_made_again_and_a_dry_run_changes_nothing(study: Study) -> None:
    complete_everything(study)
    run = study.students[0]
    (run.folder / "predictions.parquet").write_text("cut")
    done = snakemake("--dry-run")
    assert planned_jobs(done.stdout) == RESULTS | {"train_student": 1}
    assert f"broken, will be trained again: {run.folder}" in done.stdout
    assert run.marker.is_file()


def test_one_more_seed_plans_only_the_new_runs(study: Study) -> None:
    complete_everything(study)
    assert dry_run("--config", "study={seeds: [1, 2, 3]}") == RESULTS | {"train_student": 3}


def test_a_missing_table_renews_the_results_and_trains_nothing(study: Study) -> None:
    complete_everything(study)
    (study.folder / "tables/main.md").unlink()
    assert dry_run() == RESULTS


def test_unlocking_forgets_who_worked_from_another_machine_and_nothing_else_does(study: Study) -> None:
    record = record_of("elsewhere", 1)
    write_json(record, asdict(Owner("elsewhere", 1, "long ago", "2026-01-01 12:00:00", "params.yaml")))
    dry_run()
    assert record.exists()
    snakemake("--unlock")
    assert not record.exists()


def test_a_mistake_in_the_parameters_is_told_in_one_line(study: Study) -> None:
    done = snakemake("--dry-run", "--config", "study={sede: 1}", check=False)
    assert done.returncode != 0
    assert "unknown parameter 'sede'" in done.stdout and "Traceback" not in done.stdout


def test_null_on_the_command_line_is_no_word(study: Study) -> None:
    done = snakemake("--dry-run", "--config", "data={root: null}", "student={epochs: null}", check=False)
    assert done.returncode != 0
    assert "student.epochs: should be a valid integer (given: null)" in done.stdout


TEMPLATE = "__use_yte__: true\n__definitions__: ['import pathlib; pathlib.Path(\"pwned\").touch()']\n"


def test_python_in_the_parameters_is_refused_before_it_runs(study: Study) -> None:
    params = Path("params.yaml")
    params.write_text(TEMPLATE + params.read_text())
    done = snakemake("--dry-run", check=False)
    assert done.returncode != 0 and "params.yaml: unknown parameter '__use_yte__'" in done.stdout
    assert not Path("pwned").exists() and "Traceback" not in done.stdout


def test_python_in_an_overlay_is_refused_even_though_snakemake_has_read_it(study: Study) -> None:
    overlay = Path(OVERLAY)
    overlay.write_text("__use_yte__: true\n" + overlay.read_text())
    done = snakemake("--dry-run", check=False)
    assert done.returncode != 0 and "tiny.yaml: unknown parameter '__use_yte__'" in done.stdout


def test_the_pipeline_is_clean_to_the_linter(study: Study) -> None:
    assert "Congratulations" in snakemake("--lint").stdout


@pytest.mark.parametrize(
    ("overlay", "students", "teachers"),
    [([], 180, 20), (["--configfile", str(ROOT / "config/demo.yaml")], 20, 2)],
    ids=["paper", "demo"],
)
def test_the_projects_own_studies_are_planned_without_a_network(
    project: Path, overlay: list[str], students: int, teachers: int
) -> None:
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "8", "--resources", "gpu=2", *overlay]
    done = subprocess.run(command, capture_output=True, text=True, env=environment() | OFFLINE)
    jobs = planned_jobs(done.stdout + done.stderr)
    assert (jobs["train_student"], jobs["train_teacher"]) == (students, teachers), done.stderr

"""What Snakemake itself plans: nothing that is complete, everything that a missing run needs."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import pytest
from dry_runs import dry_run, snakemake

from completed import complete_everything
from forked import forked
from internal_kd.files import read_json, write_json
from internal_kd.params import read_yaml
from internal_kd.plan.study import Study
from tiny_study import OVERLAY, ROOT, environment, planned_jobs, run_of

RESULTS = dict.fromkeys(("measure_latency", "map_attention", "evaluate", "plot", "report", "publish_runs", "all"), 1)
FRESH = RESULTS | {
    "fetch_task": 1,
    "fetch_encoder": 1,
    "encode_task": 1,
    "train_teacher": 2,
    "record_answers": 1,
    "initialize_student": 1,
    "distill_labels": 4,
    "distill_internals": 2,
}
# Names no server: an attempt to reach one fails at once instead of hanging.
OFFLINE = {"HF_ENDPOINT": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}


def scramble_times(folder: Path) -> None:
    """Give files times as random as those of a fresh clone."""
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        moment = 1_700_000_000 + (number * 7919) % 10_007
        os.utime(path, (moment, moment))


def test_a_fresh_project_plans_every_step_once_and_parts_of_it_by_name(study: Study) -> None:
    assert dry_run() == FRESH
    assert dry_run("data") == {"fetch_task": 1, "fetch_encoder": 1, "data": 1}
    assert dry_run("teachers") == {
        "fetch_task": 1,
        "fetch_encoder": 1,
        "encode_task": 1,
        "train_teacher": 1,
        "teachers": 1,
    }
    runs = {rule: number for rule, number in FRESH.items() if rule not in RESULTS}
    assert dry_run("runs") == runs | {"runs": 1}


def test_teachers_assistants_ensembles_and_generations_are_made_in_their_order(project: Path) -> None:
    shutil.copytree(ROOT / "config", project / "config")
    overlays = ["--configfile", "config/demo.yaml", "config/roles.yaml"]
    done = snakemake("--dry-run", *overlays, overlay=None)
    assert done.code == 0, done.output
    jobs = planned_jobs(done.output)
    assert jobs["train_teacher"] == 6 and jobs["distill_internals"] == 4 and jobs["record_answers"] > 2 * 3


def test_a_complete_study_plans_nothing_whatever_its_times_and_without_scratch(study: Study) -> None:
    complete_everything(study)
    shutil.rmtree("work")
    scramble_times(Path("results"))
    done = snakemake("--dry-run")
    assert planned_jobs(done.output) == {} and "Nothing to be done" in done.output
    # Nor without the default profile, nor for a run that is asked for by name.
    assert dry_run("--workflow-profile", "none") == {}
    assert dry_run(str(study.runs[-1].marker)) == {}


@pytest.mark.parametrize("shift", [-20 * 365 * 86400, 20 * 365 * 86400], ids=["past", "future"])
def test_a_clock_that_jumps_trains_nothing(study: Study, shift: int) -> None:
    complete_everything(study)
    for path in (path for path in Path().rglob("*") if path.is_file() and ".snakemake" not in path.parts):
        os.utime(path, (time.time() + shift, time.time() + shift))
    assert dry_run() == {}
    run_of(study, "stacked").marker.unlink()
    assert dry_run() == RESULTS | {"distill_internals": 1}


def test_a_deleted_run_file_is_made_again_with_only_what_it_needs(study: Study) -> None:
    complete_everything(study)
    scramble_times(Path("results"))
    run_of(study, "soft").marker.unlink()
    assert dry_run() == RESULTS | {"distill_labels": 1}


def test_a_broken_run_is_named_and_made_again_and_a_dry_run_changes_nothing(study: Study) -> None:
    complete_everything(study)
    run = run_of(study, "stacked")
    (run.folder / "predictions.parquet").write_text("cut")
    done = snakemake("--dry-run")
    assert planned_jobs(done.output) == RESULTS | {"distill_internals": 1}
    assert str(run.folder) in done.output and run.marker.is_file()


def test_a_teacher_whose_weights_are_needed_and_gone_is_trained_again(study: Study) -> None:
    complete_everything(study)
    student = run_of(study, "stacked")
    (run_of(study, "teacher").folder / "model/model.safetensors").unlink()
    assert dry_run() == {}
    student.marker.unlink()
    shutil.rmtree("work/answers")
    assert dry_run() == RESULTS | {"train_teacher": 1, "record_answers": 1, "distill_internals": 1}


def test_one_more_seed_plans_only_the_new_runs(study: Study) -> None:
    complete_everything(study)
    more = {"train_teacher": 1, "distill_labels": 2, "distill_internals": 1}
    assert dry_run("--config", "study={seeds: [1, 2, 3]}") == RESULTS | more


def test_a_missing_table_renews_the_results_and_trains_nothing(study: Study) -> None:
    complete_everything(study)
    (study.folder / "tables/main.csv").unlink()
    assert dry_run() == RESULTS


def test_an_export_is_asked_for_by_name_and_not_planned_otherwise(study: Study) -> None:
    complete_everything(study)
    assert dry_run("export") == {"export": 1}
    run_of(study, "stacked").marker.unlink()
    assert dry_run("export") == {"distill_internals": 1, "export": 1}


def test_results_that_mlflow_was_not_shown_are_published(study: Study) -> None:
    complete_everything(study)
    shown = Path("work/published/tiny.txt")
    shown.parent.mkdir(parents=True)
    shown.write_text("not shown\n")
    assert dry_run() == {"publish_runs": 1, "all": 1}


def test_a_mistake_in_the_parameters_is_one_line(study: Study) -> None:
    for arguments, word in (
        (["--config", "study={sede: 1}"], "'sede'"),
        (["--config", "data={root: null}", "defaults={epochs: null}"], "defaults.epochs"),
    ):
        done = snakemake("--dry-run", *arguments)
        assert done.code != 0 and word in done.output and "Traceback" not in done.output


def test_python_in_the_parameters_never_runs(study: Study) -> None:
    params = Path("params.yaml")
    template = "__use_yte__: true\n__definitions__: ['import pathlib; pathlib.Path(\"pwned\").touch()']\n"
    params.write_text(template + params.read_text())
    done = snakemake("--dry-run")
    assert done.code != 0 and "__use_yte__" in done.output
    assert not Path("pwned").exists() and "Traceback" not in done.output


def test_a_study_that_gc_could_not_know_is_remembered_and_a_dry_run_forgets_none(study: Study) -> None:
    kept, own = Path("work/studies/tiny.yaml"), Path("config/tiny.yaml")
    own.parent.mkdir()
    Path(OVERLAY).rename(own)
    dry_run(overlay=own)
    assert not kept.exists()
    elsewhere = own.rename("another.yaml")
    dry_run(overlay=elsewhere)
    assert read_yaml(kept)["study"]["name"] == "tiny"
    dry_run("--config", "analysis={margin: 0.3}", overlay=elsewhere)
    assert "margin" not in read_yaml(kept).get("analysis", {}) or read_yaml(kept)["analysis"]["margin"] != 0.3


def test_the_pipeline_is_clean_to_the_linter(study: Study) -> None:
    assert "Congratulations" in snakemake("--lint").output


def test_the_rules_have_the_names_of_the_paper_and_resources_of_their_own() -> None:
    rules = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    bodies = dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n(?=    ))+)", rules, re.MULTILINE))
    assert bodies.keys() == {
        "fetch_task", "fetch_encoder", "encode_task", "train_teacher", "record_answers", "initialize_student",
        "distill_labels", "distill_internals", "map_attention", "measure_latency", "evaluate", "plot", "report",
        "publish_runs", "export",
    }  # fmt: skip
    for name, body in bodies.items():
        for part in ("message:", "input:", "output:", "log:", "threads: PLAN.threads(", "**PLAN.resources("):
            assert part in body, (name, part)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overlay", "jobs"),
    [
        ([], {"train_teacher": 20, "distill_labels": 40, "distill_internals": 140}),
        (["--configfile", "config/demo.yaml"], {"train_teacher": 2, "distill_labels": 8, "distill_internals": 12}),
    ],
    ids=["paper", "demo"],
)
def test_the_projects_own_studies_are_planned_without_a_network(
    project: Path, overlay: list[str], jobs: dict[str, int]
) -> None:
    shutil.copytree(ROOT / "config", project / "config")
    done = forked("snakemake", "-n", "--cores", "8", "--resources", "gpu=2", *overlay, env=environment() | OFFLINE)
    planned = planned_jobs(done.output)
    assert {rule: planned.get(rule) for rule in jobs} == jobs, done.output


def test_what_a_run_records_of_its_time_is_no_part_of_the_plan(study: Study) -> None:
    complete_everything(study)
    run = study.runs[0]
    write_json(run.marker, read_json(run.marker) | {"seconds": 1})
    assert dry_run() == RESULTS, "the report shows it; nothing is trained"

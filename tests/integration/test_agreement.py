"""Snakemake and DVC agree about every run in every clone: what is trained is what changed, whichever of them is asked.

An interruption leaves nothing half-written and loses nothing; the next start goes on. One study is really trained (a
teacher and two students); every test works on a clone or a copy of it.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dvc_project import Project, change_package, make_project

from internal_kd.running.leases import lease_gpu
from tiny_study import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

METHOD = "stacked_soft_hard"
TEACHER, FINETUNED, STACKED = "judge teacher all s1", "judge finetuned L2 s1", f"judge {METHOD} L2 s1"
NOTHING = "Nothing to be done"


@pytest.fixture(scope="module", autouse=True)
def _no_gpu() -> Iterator[None]:
    """Bytes are compared: everything is trained on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The study, trained by ``dvc repro``, committed and pushed."""
    project = make_project(tmp_path_factory.mktemp("shared") / "project")
    project.dvc("repro")
    assert {label for label, _ in project.trainings()} == {TEACHER, FINETUNED, STACKED}
    assert project.is_in_the_table()
    project.commit("trained")
    project.dvc("push")
    return project


def test_what_dvc_did_snakemake_leaves_alone_and_dvc_too(trained: Project) -> None:
    project = trained.copy("after-dvc")
    before = project.trainings()
    assert NOTHING in project.snakemake()
    assert project.changed_stages() == []
    project.dvc("repro")
    assert project.trained_since(before) == set()
    assert project.git("status", "--porcelain") == ""


def test_what_snakemake_did_dvc_takes_over(trained: Project) -> None:
    project = trained.copy("after-snakemake")
    before, lock = project.trainings(), (project.folder / "dvc.lock").read_bytes()
    project.run("rm", "-r", "dvc.lock", ".dvc/cache", ".dvc/tmp", ".snakemake", "work")
    project.dvc("repro")
    assert project.trained_since(before) == set()
    assert (project.folder / "dvc.lock").read_bytes() == lock


def test_a_fresh_clone_trains_nothing_and_a_look_at_another_study_leaves_alone_what_dvc_keeps(trained: Project) -> None:
    clone = trained.clone("clone")
    assert not (clone.folder / "encoder").exists() and not (clone.folder / ".snakemake").exists()
    assert NOTHING in clone.snakemake()
    assert clone.changed_stages() == []
    clone.snakemake("--dry-run", "--config", "study={seeds: [1, 7]}")
    clone.dvc("pull")
    assert clone.changed_stages() == []
    assert clone.trainings() == trained.trainings()


def test_exactly_what_was_edited_added_or_broken_is_trained_and_nothing_on_the_way_back(trained: Project) -> None:
    clone = trained.clone("edited")
    # A clone is without the encoder's source; what is trained here reads it from data/.
    before, params = clone.trainings(), (clone.folder / "params.yaml").read_text()
    runs = {run.label: clone.folder / run.folder for run in clone.study().runs}
    (runs[TEACHER] / "history.jsonl").unlink()
    predictions = runs[FINETUNED] / "predictions.parquet"
    predictions.write_bytes(predictions.read_bytes()[:-100])

    # What is truncated is a gap with a name, never a figure.
    clone.run("internal-kd", "evaluate")
    assert clone.study().by_fingerprint.keys() > clone.shown()
    assert "predictions.parquet" in (clone.folder / "results/tiny/tables/missing.csv").read_text()

    # One method's weights are edited, and a depth is added.
    weights = {"soft": 1, "hard": 0.1, "attention_kl": 1, "cls_cosine": 9.0}
    clone.edit(study={"vary": {"learner.layers": [2, 1]}}, methods={METHOD: {"weights": weights}})
    assert clone.changed_stages() == ["runs", "report"]
    clone.dvc("repro")
    new = {"judge finetuned L1 s1", f"judge {METHOD} L1 s1"}
    assert clone.trained_since(before) == {TEACHER, FINETUNED, STACKED} | new
    assert clone.is_in_the_table() and clone.tables() != trained.tables()
    clone.commit("edited")
    edited = clone.trainings(), clone.tables()

    # Back and forth between the commits.
    clone.git("checkout", "--quiet", "HEAD~1")
    clone.dvc("checkout")
    assert (clone.trainings(), clone.tables()) == (trained.trainings(), trained.tables())
    assert clone.planned() == {}
    clone.git("checkout", "--quiet", "main")
    clone.dvc("checkout")
    assert clone.planned() == {} and clone.changed_stages() == []
    assert (clone.trainings(), clone.tables()) == edited

    # Edited back by hand: the earlier runs are still here, and the table shows them alone.
    (clone.folder / "params.yaml").write_text(params)
    clone.dvc("repro")
    assert clone.trained_since(edited[0]) == set() and clone.is_in_the_table()


def test_an_experiment_trains_its_method_and_shows_what_it_changed(trained: Project) -> None:
    project = trained.copy("experiment")
    before = project.trainings()
    project.dvc("exp", "run", "--name", "heavier", "--set-param", f"methods.{METHOD}.weights.hard=3")
    assert project.trained_since(before) == {STACKED}
    assert project.is_in_the_table()
    changes = json.loads(project.dvc("metrics", "diff", "--json"))["results/tiny/tables/metrics.json"]
    assert changes and all(f".{METHOD}" in name for name in changes)
    rows = csv.DictReader(project.dvc("exp", "show", "--csv").splitlines())
    shown = {row["Experiment"] or row["rev"]: row for row in rows}
    weight = f"methods.{METHOD}.weights.hard"
    assert (shown["main"][weight], shown["heavier"][weight]) == ("0.1", "3")
    # Kept apart from commits: the parameters are git's to take back, the runs DVC's.
    project.git("restore", ".")
    project.dvc("checkout")
    assert project.planned() == {}


INTERNALS = {"distill_internals": 1}
RECORDS = {"record_answers": 1, **INTERNALS}
TEACHES = {"train_teacher": 1, **RECORDS}
EVERYTHING = TEACHES | {"distill_labels": 1}
NEW_TASK = EVERYTHING | {"fetch_task": 1, "encode_task": 1}
OTHER = {"other": {"source": "generator", "grammar": "acceptability", "train": 64, "dev": 48, "seed": 5}}
BOTH = ["runs", "report"]


@pytest.mark.parametrize(
    ("changes", "jobs", "stages"),
    [
        ({"study": {"seeds": [1, 2]}}, {"distill_labels": 1, **INTERNALS}, BOTH),
        ({"study": {"tasks": ["judge", "other"]}, "tasks": OTHER}, NEW_TASK, BOTH),
        ({"study": {"methods": ["teacher", METHOD]}}, {}, BOTH),
        ({"methods": {"teacher": {"learning_rate": 0.02}}}, TEACHES, BOTH),
        ({"defaults": {"temperature": 2.0}}, INTERNALS, BOTH),
        ({"methods": {METHOD: {"title": "Other words"}}}, {}, BOTH),
        ({"analysis": {"margin": 2.0}}, {}, ["report"]),
        ({"machine": {"keep_models": "none", "student": {"threads": 2}}}, {}, []),
    ],
)
def test_both_know_what_an_edit_asks_for(
    trained: Project, changes: dict[str, Any], jobs: dict[str, int], stages: list[str]
) -> None:
    params = trained.folder / "params.yaml"
    before = params.read_text()
    try:
        trained.edit(**changes)
        assert trained.planned() == jobs
        assert trained.changed_stages() == stages
    finally:
        params.write_text(before)


@pytest.mark.parametrize(
    ("file", "old", "new", "jobs", "stages"),
    [
        ("plan/recipes.py", '"train": ', '"train": 9', EVERYTHING, BOTH),
        ("plan/recipes.py", '"record_answers": ', '"record_answers": 9', RECORDS, BOTH),
        ("distillation/attention_losses.py", "return ", "return 2 * ", INTERNALS, BOTH),
        ("report/words.py", "from __future__", "# Other words.\nfrom __future__", {}, ["report"]),
    ],
    ids=["training", "recording", "loss", "report"],
)
def test_an_edited_step_or_loss_asks_for_its_runs_and_what_follows_and_an_edited_report_for_itself(
    trained: Project, tmp_path: Path, file: str, old: str, new: str, jobs: dict[str, int], stages: list[str]
) -> None:
    project = trained.copy(f"changed-{tmp_path.name}", change_package(tmp_path / "src", file, old, new))
    assert project.planned() == jobs
    project.dvc("repro", "data")
    assert project.changed_stages() == stages


def test_a_comment_asks_for_nothing(trained: Project) -> None:
    project = trained.copy("comment")
    params = project.folder / "params.yaml"
    params.write_text(f"# A word more.\n{params.read_text()}")
    assert (project.planned(), project.changed_stages()) == ({}, [])


def test_weights_left_out_are_no_reason_to_train(trained: Project) -> None:
    project = trained.copy("without-weights")
    for model in (project.folder / "results/runs").rglob("model"):
        shutil.rmtree(model)
    assert NOTHING in project.snakemake()


def test_a_dvc_that_was_killed_leaves_nothing_that_blocks(trained: Project) -> None:
    project = trained.copy("killed")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    lock = {"write": {str(project.folder / "results/runs"): {"pid": dead.pid, "cmd": "dvc repro"}}, "read": {}}
    (project.folder / ".dvc/tmp/rwlock").write_text(json.dumps(lock))
    project.dvc("commit", "--force", "runs")


# How a study is started, the exit code after Ctrl-C or a refusal, and what a second start at the same time is told.
COMMANDS = {
    "snakemake": ([sys.executable, "-m", "snakemake", "--cores", "2", "runs"], 1, "is at work in this folder"),
    "internal-kd": (["internal-kd", "run", "runs", "--no-wait"], 1, "is at work in this folder"),
    "dvc": ([sys.executable, "-m", "dvc", "repro", "--single-item", "runs"], 255, "is busy"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_loses_nothing_and_a_second_start_at_the_same_time_changes_nothing(
    trained: Project, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One GPU that does not exist: whoever leases it holds trainings up.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "no-such-gpu")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command, code, refusal = COMMANDS[name]
    project = trained.copy(f"interrupted-{name}")
    run = next(run for run in project.study().runs if run.label == STACKED)
    shutil.rmtree(project.folder / run.folder)

    first = project.start(*command)
    wait_until((project.folder / f"work/progress/{run.fingerprint}.json").is_file)
    os.killpg(first.pid, signal.SIGINT)
    output, _ = first.communicate()
    assert first.returncode == code and "Traceback" not in output, output
    assert "stopped by SIGINT at step" in project.log(run)
    assert [path for path in (project.folder / run.folder).rglob("*") if path.is_file()] == []
    assert len(list((project.folder / run.checkpoints).glob("step-*/*"))) > 0
    assert [*project.folder.glob("work/*.lock"), *project.folder.glob(".snakemake/locks/*")] == []

    # The next start waits for the GPU; one more meanwhile is refused.
    with lease_gpu(1):
        again = project.start(*command)
        wait_until(lambda: "waiting for a free GPU" in project.log(run))
        before = project.state()
        other = project.start(*command)
        output, _ = other.communicate()
        assert other.returncode == code and refusal in output and "Traceback" not in output, output
        assert project.state() == before
    output, _ = again.communicate()
    assert again.returncode == 0, output
    assert f"going on from {run.checkpoints}/step-" in project.log(run)
    assert project.result(run) == trained.result(run) and not (project.folder / run.checkpoints).exists()

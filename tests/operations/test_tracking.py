"""Publishing a study in MLflow: all of it, once, however often and by however many it is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import time
from pathlib import Path

import pytest

import tiny_study
import tracking_store
from internal_kd.analysis.built import outputs_of
from internal_kd.errors import UserError
from internal_kd.operations.tracking.publishing import DIGEST, FILES, Published, publish_runs
from internal_kd.study import Study
from tracking_store import client_of, fake_runs, ids, runs_of, small_study

pytestmark = pytest.mark.slow

NAMES = {
    "entailment | teacher", "entailment | teacher | s1",
    "entailment | L3 | soft", "entailment | L3 | soft | s1", "entailment | L3 | soft | s2",
    "entailment | L3 | stacked", "entailment | L3 | stacked | s1", "entailment | L3 | stacked | s2",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    uri = tracking_store.empty_store(tmp_path, tmp_path_factory.getbasetemp())
    tracking_store.isolate(monkeypatch, uri)


def test_every_run_is_there_under_its_method_with_parameters_scores_and_origin() -> None:
    study = small_study()
    done = publish_runs(study)
    runs = runs_of()
    assert set(runs) == NAMES and (done.written, done.removed, done.unfinished) == (8, 0, 0)
    parent, seed = runs["entailment | L3 | stacked"], runs["entailment | L3 | stacked | s2"]
    assert seed.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    wanted = next(run for run in study.students if run.label == seed.info.run_name)
    record = json.loads(wanted.marker.read_text())
    assert seed.data.tags["fingerprint"] == wanted.fingerprint
    assert seed.data.tags["git_commit"] == record["git_commit"] and seed.data.tags["git_dirty"] == "false"
    assert seed.data.tags["data_sha256"] == record["data_sha256"] and seed.data.tags["device"] == "cpu"
    assert seed.data.tags["dvc.folder"] == str(wanted.folder)
    assert seed.data.params["weights.attention_kl"] == "1.0" and seed.data.params["curriculum"] == "stacked"
    assert seed.info.start_time == 1767225600000 and seed.info.end_time == 1767225612000
    assert seed.info.status == parent.info.status == "FINISHED"


def test_a_seed_and_its_method_use_the_same_names_and_agree() -> None:
    publish_runs(small_study())
    runs = runs_of()
    parent = runs["entailment | L3 | soft"]
    seeds = [runs[f"entailment | L3 | soft | s{k}"] for k in (1, 2)]
    for metric in ("accuracy", "f1", "encoder_parameters", "seconds"):
        mean = sum(seed.data.metrics[metric] for seed in seeds) / 2
        assert parent.data.metrics[metric] == pytest.approx(mean)
    assert parent.data.metrics["seeds"] == 2 and parent.data.metrics["accuracy_std"] > 0
    teacher = runs["entailment | teacher"].data.metrics["accuracy"]
    assert parent.data.metrics["accuracy_teacher_share"] == pytest.approx(parent.data.metrics["accuracy"] / teacher)
    assert parent.data.metrics["accuracy_teacher_share_std"] == pytest.approx(
        parent.data.metrics["accuracy_std"] / teacher
    )
    for key in ("task", "method", "depth", "examples", "encoder", "id", "study"):
        assert parent.data.tags[key] == seeds[0].data.tags[key]
    assert parent.data.params.items() <= seeds[0].data.params.items() and "seed" not in parent.data.params


def test_epochs_become_curves_and_what_is_null_or_not_finite_is_left_out() -> None:
    study = small_study()
    run = next(run for run in study.students if run.label == "entailment | L3 | stacked | s1")
    lines = fake_runs.make_history(run)
    lines[0] |= {"attention_kl_by_layer": {"1": 0.5, "3": 0.25}, "learning_rate": float("inf")}
    (run.folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fake_runs.write_record(run, ["history.jsonl", "predictions.parquet"])
    publish_runs(study)
    client, run_id = client_of(), ids(runs_of())[run.label]

    def curve(metric: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(run_id, metric)}

    assert curve("train/loss") == {line["epoch"]: line["loss"] for line in lines}
    assert set(curve("dev/accuracy")) == {4, 5, 6}, "the head is not trained before the last stage"
    assert curve("attention_kl/layer_01") == {1: 0.5} and curve("attention_kl/layer_03") == {1: 0.25}
    assert set(curve("train/learning_rate")) == {2, 3, 4, 5, 6}, "infinity would be stored as 1.8e308"
    times = [point.timestamp for point in client.get_metric_history(run_id, "train/loss")]
    assert times == sorted(times) and times[0] > 1767225600000 and times[-1] <= 1767225612000


def test_publishing_again_changes_nothing() -> None:
    study = small_study()
    publish_runs(study)
    before = runs_of()
    done = publish_runs(study)
    after = runs_of()
    assert (done.written, done.unchanged, done.removed) == (0, 8, 0)
    assert ids(after) == ids(before)
    assert {n: r.data.to_dictionary() for n, r in after.items()} == {
        n: r.data.to_dictionary() for n, r in before.items()
    }


def test_a_grown_study_adds_what_is_new_and_replaces_only_the_methods_it_touches() -> None:
    publish_runs(small_study(study={"methods": ["soft"]}))
    before = ids(runs_of())
    publish_runs(small_study(study={"methods": ["soft", "stacked"]}))
    between = ids(runs_of())
    assert set(between) == NAMES and before.items() <= between.items()
    done = publish_runs(small_study(study={"seeds": [1, 2, 3]}))
    after = runs_of()
    assert (done.written, done.removed) == (4, 2), "two new seeds, two methods with new aggregates"
    kept = {name for name in between if ids(after)[name] == between[name]}
    assert kept == NAMES - {"entailment | L3 | soft", "entailment | L3 | stacked"}
    for name, run in after.items():
        if run.data.tags["level"] == "run":
            above = after[name.rpartition(" | ")[0]].info.run_id
            assert run.data.tags["mlflow.parentRunId"] == above, "no seed may hang under a deleted run"


def test_what_is_no_longer_wanted_goes_and_what_is_only_away_stays() -> None:
    study = small_study()
    publish_runs(study)
    before = ids(runs_of())
    gone = next(run for run in study.students if run.label == "entailment | L3 | soft | s2")
    shutil.rmtree(gone.folder)
    done = publish_runs(study)
    after = runs_of()
    assert done.unfinished == 1 and ids(after)[gone.label] == before[gone.label]
    above = ids(after)["entailment | L3 | soft"]
    assert above != before["entailment | L3 | soft"] and after[gone.label].data.tags["mlflow.parentRunId"] == above
    publish_runs(fake_runs.plan(**fake_runs.merge(tracking_store.SMALL, {"study": {"methods": ["stacked"]}})))
    assert set(runs_of()) == {name for name in NAMES if "soft" not in name}


def test_a_task_the_study_no_longer_has_goes_and_another_study_of_that_task_stays() -> None:
    tasks = ["entailment", "acceptability"]
    publish_runs(small_study(study={"tasks": tasks}))
    publish_runs(small_study(study={"tasks": tasks, "name": "smaller"}))
    assert runs_of("small/acceptability")
    done = publish_runs(small_study())
    assert done.removed == 8 and not runs_of("small/acceptability")
    assert set(runs_of()) == NAMES and runs_of("smaller/acceptability")


def test_another_study_has_its_own_experiment_and_disturbs_nothing() -> None:
    publish_runs(small_study())
    before = ids(runs_of())
    publish_runs(small_study(study={"name": "sweep", "methods": ["soft"]}))
    assert ids(runs_of()) == before
    assert "entailment | L3 | soft | s1" in runs_of("sweep/entailment")


def test_a_publication_cut_short_is_made_whole() -> None:
    study = small_study()
    publish_runs(study)
    client, before = client_of(), ids(runs_of())
    cut = before["entailment | L3 | soft | s1"]
    client.delete_tag(cut, DIGEST)  # the last thing written
    done = publish_runs(study)
    after = ids(runs_of())
    assert (done.written, done.removed) == (1, 1) and after["entailment | L3 | soft | s1"] != cut
    assert set(after) == NAMES


def test_an_experiment_deleted_by_hand_comes_back() -> None:
    study = small_study()
    client_of().delete_experiment(publish_runs(study).experiments["small/entailment"])
    publish_runs(study)
    assert set(runs_of()) == NAMES


def test_tables_and_figures_follow_the_files_and_stale_ones_are_not_shown() -> None:
    study = small_study()
    assert not publish_runs(study).files_are_current
    parent = ids(runs_of())["entailment | L3 | soft"]
    assert client_of().list_artifacts(parent) == []
    tiny_study.complete_results(study)
    done = publish_runs(study)
    assert done.files_are_current and done.written == 0
    assert {part.path for part in client_of().list_artifacts(parent)} == {"tables", "figures"}
    shown = {part.path for part in client_of().list_artifacts(parent, "figures")}
    assert shown == {
        f"figures/{p.name}"
        for verb, paths in outputs_of(study).items()
        if verb.startswith("plot")
        for p in paths
        if p.suffix == ".png"
    }
    (study.folder / "tables" / "main.md").write_text("| another table |")
    publish_runs(study)
    assert Path(client_of().download_artifacts(parent, "tables/main.md")).read_text() == "| another table |"
    assert ids(runs_of())["entailment | L3 | soft"] == parent
    client_of().set_tag(
        parent, FILES, "figures/no_longer_drawn.png:0 " + runs_of()["entailment | L3 | soft"].data.tags[FILES]
    )
    publish_runs(study)
    assert ids(runs_of())["entailment | L3 | soft"] != parent, "a single file cannot be deleted there"


def test_a_score_that_is_not_defined_is_not_shown() -> None:
    study = small_study(
        study={"tasks": ["similarity"]},
        tasks={"similarity": {"source": "generator", "grammar": "entailment", "train": 400, "dev": 200}},
    )
    run = next(run for run in study.students if run.label == "similarity | L3 | soft | s1")
    fake_runs.write_run(run, constant=True)
    publish_runs(study)
    runs = runs_of("small/similarity")
    assert "pearson" not in runs[run.label].data.metrics and "mse" in runs[run.label].data.metrics
    assert "pearson" not in runs["similarity | L3 | soft"].data.metrics
    assert runs["similarity | L3 | soft"].data.metrics["mse"] > 0


def test_a_server_that_is_away_is_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{port}")
    study = small_study()
    started = time.monotonic()
    with pytest.raises(UserError, match="does not take the results") as caught:
        publish_runs(study)
    assert time.monotonic() - started < 60, "the client's default is 4 minutes a call"
    line = str(caught.value)
    assert "\n" not in line and "internal-kd publish-runs" in line and "secret" not in line


def _publish_at_once(folder: str, barrier: object) -> tuple[int, int]:
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI")  # what `mlflow ui` opens in the project root
    study: Study = fake_runs.plan(**tracking_store.SMALL)
    barrier.wait()  # type: ignore[attr-defined]
    done: Published = publish_runs(study)
    return done.written, done.unchanged


def test_eight_first_users_of_a_missing_database_lose_nothing(tmp_path: Path) -> None:
    small_study()
    Path("mlflow.db").unlink()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "tracking_store", "internal_kd.operations.tracking.content"])
    with context.Manager() as manager, context.Pool(8) as pool:
        barrier = manager.Barrier(8)
        results = pool.starmap(_publish_at_once, [(str(tmp_path), barrier)] * 8, chunksize=1)
    assert sorted(results) == [(0, 8)] * 7 + [(8, 0)], "one publishes, the others find it done"
    assert set(runs_of()) == NAMES

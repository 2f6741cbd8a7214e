"""Publishing a study in MLflow: all of it, once, however often and by however many it is done."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tracking_store import EXPERIMENT, client_of, ids, plan_small, runs_of

from hub_server import hanging_up
from internal_kd.errors import UserError
from internal_kd.files import write_json
from internal_kd.plan.store import read_record
from internal_kd.plan.study import Study
from internal_kd.report.make import outputs
from internal_kd.running.results import made_from_path, what_decides
from internal_kd.tracking import publishing
from internal_kd.tracking.names import announcement, is_announced, links_of, remember_links
from internal_kd.tracking.publishing import Published, publish_runs
from internal_kd.tracking.shelf import DIGEST, FILES
from trained_study import Trained

pytestmark = pytest.mark.slow

TEACHER, SOFT, STACKED = "1.0 Teacher", "3.0 Soft labels (standard KD)", "3.5 Stacked (SID)"
NAMES = {name + seed for name in (TEACHER, SOFT, STACKED) for seed in ("", ", seed 1", ", seed 2")}


def test_every_run_is_there_under_its_method_with_parameters_scores_and_origin(store: Trained) -> None:
    done = publish_runs(plan_small())
    runs = runs_of()
    assert set(runs) == NAMES and (done.written, done.removed, done.missing, done.live) == (9, 0, 0, 0)
    parent, seed = runs[STACKED], runs[f"{STACKED}, seed 2"]
    assert seed.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert "mlflow.parentRunId" not in parent.data.tags
    run = store.run("judge", "stacked", 2)
    record = read_record(run)
    assert seed.data.tags["fingerprint"] == run.fingerprint and seed.data.tags["dvc.folder"] == str(run.folder)
    assert seed.data.tags["data_sha256.train.parquet"] == record["data_sha256"]["train.parquet"]
    assert seed.data.tags["device"] == record["device"]
    assert seed.data.params["weights.attention_kl"] == "1.0" and seed.data.params["curriculum"] == "stacked"
    assert seed.data.params["learner.layers"] == "2" and seed.data.params["learning_rate"] == "0.0003"
    assert seed.info.status == parent.info.status == "FINISHED"


def test_tags_name_those_that_a_run_listens_to(store: Trained) -> None:
    publish_runs(plan_small(study={"methods": ["teacher", "soft", "ensemble"]}))
    teachers = [store.run("judge", "teacher", seed).fingerprint for seed in (1, 2)]
    runs = runs_of()
    assert runs[f"{SOFT}, seed 1"].data.tags["teachers"] == teachers[0]
    assert runs["4.2 Taught by two teachers, seed 1"].data.tags["teachers"] == " ".join(teachers)
    assert "teachers" not in runs[f"{TEACHER}, seed 1"].data.tags


def test_scores_have_four_digits_and_one_tag_for_people(store: Trained) -> None:
    run = store.run("judge", "soft", 1)
    record = read_record(run)
    del record["record_sha256"]  # as of a run that has these scores
    write_json(run.marker, record | {"scores": {"matthews_correlation": 0.123456789, "accuracy": 0.8958333333}})
    publish_runs(plan_small())
    seed, parent = runs_of()[f"{SOFT}, seed 1"], runs_of()[SOFT]
    assert seed.data.metrics["matthews_correlation"] == 0.1235 and seed.data.metrics["accuracy"] == 0.8958
    assert seed.data.tags["score"] == "12.3"
    other = read_record(store.run("judge", "soft", 2))["scores"]["matthews_correlation"]
    mean, std = (0.123456789 + other) / 2, abs(0.123456789 - other) / 2**0.5
    assert parent.data.metrics["matthews_correlation"] == round(mean, 4)
    assert parent.data.metrics["matthews_correlation_std"] == round(std, 4)
    assert parent.data.tags["score"] == f"{100 * mean:.1f} ± {100 * std:.1f}".replace("-", "−")


def test_a_seed_and_its_method_use_the_same_names(store: Trained) -> None:
    publish_runs(plan_small())
    runs = runs_of()
    parent, seeds = runs[SOFT], [runs[f"{SOFT}, seed {k}"] for k in (1, 2)]
    for metric in ("accuracy", "encoder_parameters", "seconds", "majority"):
        mean = sum(seed.data.metrics[metric] for seed in seeds) / 2
        assert parent.data.metrics[metric] == pytest.approx(mean, abs=1e-4)
    assert parent.data.metrics["seeds"] == 2
    for key in ("task", "method", "depth", "examples", "encoder", "id", "study", "title"):
        assert parent.data.tags[key] == seeds[0].data.tags[key]
    assert parent.data.params.items() <= seeds[0].data.params.items() and "seed" not in parent.data.params


def test_epochs_become_curves_and_what_is_null_or_not_finite_is_left_out(store: Trained) -> None:
    run = store.run("judge", "stacked", 1)
    history = [json.loads(line) for line in (run.folder / "history.jsonl").read_text().splitlines()]
    publish_runs(plan_small())
    client, run_id = client_of(), ids(runs_of())[f"{STACKED}, seed 1"]

    def curve(metric: str) -> dict[int, float]:
        return {point.step: point.value for point in client.get_metric_history(run_id, metric)}

    assert curve("train/loss") == {line["epoch"]: line["loss"] for line in history}
    scored = {line["epoch"]: round(line["dev_accuracy"], 4) for line in history if line["dev_accuracy"] is not None}
    assert curve("dev/accuracy") == scored and set(scored) < set(curve("train/loss"))
    by_layer = {
        line["epoch"]: line["attention_kl_by_layer"]["1"] for line in history if "attention_kl_by_layer" in line
    }
    assert curve("attention_kl/layer_01") == by_layer
    times = [point.timestamp for point in client.get_metric_history(run_id, "train/loss")]
    assert times == sorted(times)


def test_publishing_again_changes_nothing(store: Trained) -> None:
    publish_runs(plan_small())
    before = runs_of()
    done = publish_runs(plan_small())
    after = runs_of()
    assert (done.written, done.unchanged, done.removed) == (0, 9, 0) and ids(after) == ids(before)
    assert {n: r.data.to_dictionary() for n, r in after.items()} == {
        n: r.data.to_dictionary() for n, r in before.items()
    }


def test_a_grown_study_adds_what_is_new_and_replaces_only_the_methods_it_touches(store: Trained) -> None:
    publish_runs(plan_small(study={"methods": ["teacher", "soft"]}))
    before = ids(runs_of())
    publish_runs(plan_small())
    between = ids(runs_of())
    assert set(between) == NAMES and before.items() <= between.items()
    # Fewer seeds of one method: its mean is another, the runs of the others stay.
    done = publish_runs(plan_small(methods={"soft": {"seeds": [1]}}))
    after = runs_of()
    assert (done.written, done.removed) == (1, 2), "a new mean; the old one and the seed go"
    assert set(after) == NAMES - {f"{SOFT}, seed 2"}
    for name, run in after.items():
        if run.data.tags["level"] == "run":
            above = after[name.rpartition(", seed")[0]].info.run_id
            assert run.data.tags["mlflow.parentRunId"] == above, "no seed may lie under a deleted run"


def test_what_is_no_longer_planned_goes_and_what_is_only_elsewhere_stays(store: Trained) -> None:
    publish_runs(plan_small())
    before = ids(runs_of())
    gone = store.run("judge", "soft", 2)
    shutil.rmtree(gone.folder)
    done = publish_runs(plan_small())
    after = runs_of()
    assert done.missing == 1 and ids(after)[f"{SOFT}, seed 2"] == before[f"{SOFT}, seed 2"]
    assert ids(after)[SOFT] != before[SOFT]
    assert after[f"{SOFT}, seed 2"].data.tags["mlflow.parentRunId"] == ids(after)[SOFT]
    publish_runs(plan_small(study={"methods": ["teacher", "stacked"]}))
    assert set(runs_of()) == {name for name in NAMES if not name.startswith("3.0")}


def test_a_task_the_study_no_longer_has_goes_and_another_study_of_it_stays(store: Trained) -> None:
    publish_runs(plan_small(study={"tasks": ["judge", "rte"]}))
    publish_runs(plan_small(study={"tasks": ["judge", "rte"], "name": "trained_"}))
    assert runs_of("trained/rte")
    done = publish_runs(plan_small())
    assert done.removed == 9 and not runs_of("trained/rte")
    assert set(runs_of()) == NAMES and set(runs_of("trained_/rte")) == NAMES


def test_a_publication_cut_short_is_completed(store: Trained) -> None:
    publish_runs(plan_small())
    client, before = client_of(), ids(runs_of())
    cut = before[f"{SOFT}, seed 1"]
    client.delete_tag(cut, DIGEST)  # the last thing written
    done = publish_runs(plan_small())
    after = ids(runs_of())
    assert (done.written, done.removed) == (1, 1) and after[f"{SOFT}, seed 1"] != cut and set(after) == NAMES


def test_an_experiment_deleted_by_hand_comes_back(store: Trained) -> None:
    client_of().delete_experiment(publish_runs(plan_small()).experiments[EXPERIMENT])
    publish_runs(plan_small())
    assert set(runs_of()) == NAMES


def make_results(folder: Path | None = None) -> None:
    """Write every table, figure and page of the study, as if its report had been made now."""
    study = plan_small()
    for paths in outputs(study).values():
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(path.name)
    write_json(made_from_path(study), what_decides(study))
    # The page is no true one: it is not to be written again because it does not name where it is shown.
    remember_links(study, Published(publishing.tracking_uri(), experiments={EXPERIMENT: "1"}).links_for_report())


def test_the_report_names_where_it_is_shown_and_is_shown_with_that(
    store: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_results()
    study = plan_small()
    remember_links(study, {EXPERIMENT: "where it was shown before"})
    written: list[dict[str, str]] = []

    def render(study: Study, links: dict[str, str]) -> None:
        written.append(links)
        (study.folder / "report.html").write_text(json.dumps(links))

    monkeypatch.setattr(publishing, "render", render)
    publish_runs(study)
    (links,) = written
    assert links == links_of(study) and links[EXPERIMENT].startswith("http://127.0.0.1:5000/#/experiments/1/")
    shown = client_of().download_artifacts(ids(runs_of())[SOFT], "report.html")
    assert json.loads(Path(shown).read_text()) == links
    publish_runs(study)
    assert len(written) == 1


def test_tables_figures_and_report_follow_the_files_and_stale_ones_are_not_shown(store: Trained) -> None:
    assert not publish_runs(plan_small()).files_are_current
    parent = ids(runs_of())[SOFT]
    assert client_of().list_artifacts(parent) == []
    make_results()
    done = publish_runs(plan_small())
    assert done.files_are_current and done.written == 0
    assert {part.path for part in client_of().list_artifacts(parent)} == {"tables", "figures", "report.html"}
    page = plan_small().folder / "report.html"
    page.write_text("another page")
    publish_runs(plan_small())
    assert Path(client_of().download_artifacts(parent, "report.html")).read_text() == "another page"
    assert ids(runs_of())[SOFT] == parent
    client_of().set_tag(parent, FILES, "figures/no_longer_drawn.png:0 " + runs_of()[SOFT].data.tags[FILES])
    publish_runs(plan_small())
    assert ids(runs_of())[SOFT] != parent, "a single file cannot be deleted there"


def test_artefacts_follow_a_project_that_was_moved_and_come_back_where_they_were_deleted(
    store: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_results()
    in_a_process("publish_runs(plan_small())")
    folder = store.folder
    for place in ("moved", "without"):
        folder = folder.rename(tmp_path / place)
        monkeypatch.chdir(folder)
        if place == "without":
            shutil.rmtree("mlruns")
        assert "0 written, 9 unchanged, 0 removed" in in_a_process("print(publish_runs(plan_small()).lines()[0])")
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        experiment = client_of(uri).get_experiment_by_name(EXPERIMENT)
        assert experiment is not None and Path(experiment.artifact_location).parent == folder / "mlruns"
        run = runs_of(uri=uri)[SOFT]
        assert run.info.artifact_uri.startswith(str(folder))
        assert (Path(run.info.artifact_uri) / "report.html").read_text() == "report.html"
    assert not store.folder.exists()


def in_a_process(code: str) -> str:
    """Run code in the current directory with a process, and so with an MLflow, of its own, on ``mlflow.db`` there."""
    start = "import os\nfrom tracking_store import plan_small\nfrom internal_kd.tracking import publishing\n"
    start += "from internal_kd.tracking.publishing import publish_runs\n"
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    tests = Path(__file__).parent
    paths = [str(tests), str(tests.parent), *filter(None, [environment.get("PYTHONPATH")])]
    environment |= {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", start + code], env=environment, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout


def test_a_killed_publication_is_remembered_and_completed(store: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_process(
        "count = iter(range(9))\n"
        "put = publishing.Shelf.put\n"
        "def dying(*given):\n"
        "    if next(count) == 4: os.kill(os.getpid(), 9)\n"
        "    return put(*given)\n"
        "publishing.Shelf.put = dying\n"
        "publish_runs(plan_small())"
    )
    assert is_announced(plan_small()) and announcement(plan_small()).parent == Path("work/publishing")
    assert len(runs_of()) == 4
    publish_runs(plan_small())
    assert set(runs_of()) == NAMES and not is_announced(plan_small())


def test_a_server_that_is_down_is_asked_twice_and_is_one_line_with_the_way_out(
    store: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hanging_up() as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.endpoint)
        with pytest.raises(UserError, match="does not take the results"):
            publish_runs(plan_small())
    assert len(server.asked) == 2, "the client's default is seven times more, for four minutes"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server.endpoint.replace('//', '//somebody:se/cr@et@')}?token=key1234")
    with pytest.raises(UserError, match="does not take the results") as caught:
        publish_runs(plan_small())
    line = str(caught.value)
    assert "\n" not in line and "internal-kd publish-runs" in line
    for secret in ("se/cr", "cr@et", "key1234", "somebody"):
        assert secret not in line, line


def test_an_out_of_date_database_is_reported_with_mlflows_own_way_out(store: Trained) -> None:
    import sqlite3

    with sqlite3.connect("mlflow.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0123456789ab'")
    with pytest.raises(UserError, match="does not take the results") as caught:
        publish_runs(plan_small())
    assert "out-of-date" in str(caught.value) or "upgrade" in str(caught.value) or "revision" in str(caught.value)


def test_links_and_the_command_that_serves_them_name_the_same_port(
    store: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = publish_runs(plan_small())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr("internal_kd.tracking.publishing.FIRST_PORT", port)
        lines = done.lines()
    command, *links = lines[-3:]
    assert "mlflow ui --workers 1 --port" in command and f"--port {port} " not in command
    chosen = command.split("--port ")[1].split()[0]
    assert all(f"http://127.0.0.1:{chosen}/#/experiments/" in link for link in links)
    assert "viewStateShareKey=results" in links[0] and "viewStateShareKey=curves&compareRunsMode=CHART" in links[1]
    monkeypatch.setenv("MLFLOW_PORT", "6001")
    assert "--port 6001 " in done.lines()[-3]
    served = Published("https://host/mlflow", experiments={EXPERIMENT: "7"})
    assert served.lines()[-1].startswith(f"  {EXPERIMENT}, curves: https://host/mlflow/#/experiments/7/runs?")


def test_every_experiment_has_its_views(store: Trained) -> None:
    publish_runs(plan_small())
    experiment = client_of().get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    views = {
        name.rpartition(".")[2]: json.loads(value) for name, value in experiment.tags.items() if "ViewState" in name
    }
    assert {view["name"] for view in views.values()} == {"Results", "Seeds", "Curves"}
    results, curves = json.loads(views["results"]["state"]), json.loads(views["curves"]["state"])
    assert results["columnOrder"][:2] == ["attributes.`Run Name`", "tags.`score`"]
    assert results["orderByKey"] == "metrics.`matthews_correlation`" and results["orderByAsc"] is False
    drawn = [chart["metricKey"] for chart in curves["compareRunCharts"]]
    assert drawn[:2] == ["dev/matthews_correlation", "train/loss"] and "train/attention_kl" in drawn
    metrics = runs_of()[f"{STACKED}, seed 1"].data.metrics
    assert set(drawn) <= set(metrics), "a chart of what nobody logs stays empty"


def _publish_at_once(folder: str, barrier: object) -> tuple[int, int]:
    os.chdir(folder)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # what `mlflow ui` opens in the project root
    study = plan_small()
    barrier.wait()  # type: ignore[attr-defined]
    done: Published = publish_runs(study)
    return done.written, done.unchanged


def test_first_users_of_a_missing_database_lose_nothing(store: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mlflow.db").unlink()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow", "tracking_store", "internal_kd.tracking.content"])
    with context.Manager() as manager, context.Pool(4) as pool:
        barrier = manager.Barrier(4)
        results = pool.starmap(_publish_at_once, [(str(store.folder), barrier)] * 4, chunksize=1)
    assert sorted(results) == [(0, 9)] * 3 + [(9, 0)], "one publishes, the others find it done"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert set(runs_of()) == NAMES

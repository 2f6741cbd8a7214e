"""What runs models: attention and latency of a really trained tiny study."""

import pandas as pd
import pytest

from internal_kd.plan.store import FOUND_DAMAGED, WEIGHTS, problem_with
from internal_kd.report.make import make_report, map_attention, measure_latency, outputs
from trained_study import trained, trained_copy, trained_project  # noqa: F401

pytestmark = pytest.mark.slow


def test_attention_of_every_row_is_compared_with_its_teacher(trained_copy):  # noqa: F811
    study = trained_copy.study
    map_attention(study)
    means = pd.read_csv(study.folder / "tables/attention_means.csv", dtype={"id": str})
    own = means[means["task"] == "judge"].set_index("method")
    assert {"before_training", "finetuned", "soft", "stacked", "ensemble", "narrow"} == set(own.index)
    # It was trained to come near, and started from the same weights.
    assert own.loc["stacked", "kl"] < own.loc["before_training", "kl"]
    assert own.loc["soft", "ratio"] == pytest.approx(1) and own.loc["stacked", "ratio_high"] < 1
    assert "heads" in own.loc["narrow", "problem"]
    heads = pd.read_csv(study.folder / "tables/attention.csv")
    stacked = heads[(heads["task"] == "judge") & (heads["method"] == "stacked")]
    assert stacked[["student_layer", "teacher_layer"]].drop_duplicates().values.tolist() == [[1, 2], [2, 4]]
    assert stacked["kl"].mean() == pytest.approx(own.loc["stacked", "kl"])
    maps = pd.read_parquet(study.folder / "frames/attention_maps.parquet")
    for line in maps.to_dict("records"):
        rows = line["probabilities"].reshape(len(line["tokens"]), -1)
        assert rows.sum(1) == pytest.approx(1, abs=1e-4)
        assert line["tokens"][0] == "[CLS]"


def test_without_weights_nothing_fails_and_the_reason_is_named(trained_copy):  # noqa: F811
    study = trained_copy.study
    for run in study.runs:
        if run.method.name == "soft" or (run.method.name, run.task) == ("teacher", "rte"):
            (run.folder / WEIGHTS).unlink()
    map_attention(study)
    means = pd.read_csv(study.folder / "tables/attention_means.csv").set_index(["task", "method"])
    assert means.loc[("judge", "soft"), "problem"] == "its weights are not here"
    assert means.loc[("rte", "stacked"), "problem"] == "its teacher's weights are not here"
    assert means.loc[("judge", "stacked"), "kl"] > 0


@pytest.mark.parametrize(
    ("damaged", "part"),
    [("soft", "model/model.safetensors"), ("teacher", "model/model.safetensors"), ("inputs", "dev.ids.npy")],
)
def test_what_has_rotted_is_named_and_not_used(trained_copy, damaged, part):  # noqa: F811
    study = trained_copy.study
    artefact = study.tasks["judge"] if damaged == "inputs" else trained_copy.run("judge", damaged)
    flip(artefact.folder / part)
    map_attention(study)
    measure_latency(study)
    means = pd.read_csv(study.folder / "tables/attention_means.csv").set_index(["task", "method"])
    lost = means["problem"].astype(str).str.contains(str(artefact.folder)) & means["kl"].isna()
    assert lost[("judge", "soft")] and lost[("judge", "stacked")] == (damaged != "soft")
    assert means.loc[("rte", "stacked"), "kl"] > 0
    assert problem_with(artefact) == FOUND_DAMAGED


def flip(path):
    """Change a bit of a file that may be linked to another project's."""
    content = bytearray(path.read_bytes())
    content[len(content) * 9 // 10] ^= 64
    path.unlink()
    path.write_bytes(content)


def test_every_learner_is_timed_against_the_teacher_and_everything_declared_is_made(trained_copy):  # noqa: F811
    study = trained_copy.study
    measure_latency(study)
    lines = pd.read_csv(study.folder / "tables/latency.csv")
    assert set(lines["layers"]) == {4, 2} and set(lines["batch"]) == {1, 32} and lines["learner"].nunique() == 3
    teachers = lines[lines["method"] == "teacher"]
    assert (teachers["speed_up"] == 1).all() and (lines["median_ms"] > 0).all()
    # What this machine has measured already is not measured again.
    before = (study.folder / "tables/latency.csv").read_text()
    measure_latency(study)
    assert (study.folder / "tables/latency.csv").read_text() == before
    map_attention(study)
    make_report(study)
    assert "ms, 1 example" in (study.folder / "tables/efficiency.md").read_text()
    assert [path for paths in outputs(study).values() for path in paths if not path.is_file()] == []
    page = (study.folder / "report.html").read_text()
    assert "Attention, head by head" in page and "attention_maps_judge.svg" in page

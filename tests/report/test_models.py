"""What runs models: attention and latency of a really trained tiny study."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import t as student_t
from transformers import AutoModelForSequenceClassification

from internal_kd.data.inputs import EncodedTask
from internal_kd.plan.store import FOUND_DAMAGED, WEIGHTS, problem_with
from internal_kd.report.make import make_report, map_attention, measure_latency, outputs
from trained_study import trained, trained_copy, trained_project  # noqa: F401

pytestmark = pytest.mark.slow


def attention_of(artefact, batches) -> list[np.ndarray]:
    """Attention probabilities of a model as transformers computes them: of every example (layers, heads, n, n)."""
    model = AutoModelForSequenceClassification.from_pretrained(artefact.folder / "model", attn_implementation="eager")
    with torch.inference_mode():
        found = [model.eval()(**batch, output_attentions=True).attentions for batch in batches]
    return [torch.cat(layers).double().numpy() for layers in found]


def interval(values: np.ndarray) -> tuple[float, float]:
    """A 95 % interval over examples."""
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half


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
    # Every number again, example by example, without padding.
    dev = EncodedTask.of(study.tasks["judge"]).split("dev")
    batches = [dev.batch([place]) for place in range(len(dev))]
    batches = [{name: batch[name] for name in batch if name not in ("labels", "idx")} for batch in batches]
    taught = attention_of(trained_copy.run("judge", "teacher"), batches)
    heads = pd.read_csv(study.folder / "tables/attention.csv").query("task == 'judge'").set_index("method")
    maps = pd.read_parquet(study.folder / "frames/attention_maps.parquet").query("task == 'judge'")
    pairs, baseline = [(1, 2), (2, 4)], None
    for method in ("soft", "stacked", "before_training"):
        run = trained_copy.run("judge", "stacked").first if method == "before_training" else None
        given = attention_of(run or trained_copy.run("judge", method), batches)
        kl = np.array(
            [
                [(q[t - 1] * np.log(q[t - 1] / p[s - 1])).sum(-1).mean(-1) for s, t in pairs]
                for p, q in zip(given, taught, strict=True)
            ]
        )  # (examples, pairs, heads)
        lines, mean = heads.loc[method], own.loc[method]
        assert list(zip(lines["student_layer"], lines["teacher_layer"], strict=True))[:: kl.shape[2]] == pairs
        assert lines["kl"].to_numpy() == pytest.approx(kl.mean(0).ravel(), rel=1e-3)
        assert lines["kl_std"].to_numpy() == pytest.approx(kl.std(0, ddof=1).ravel(), rel=1e-3)
        values = kl.mean((1, 2))
        baseline = values if baseline is None else baseline
        ratio = values.mean() / baseline.mean()
        spread = ratio + (values - ratio * baseline) / baseline.mean()
        expected = [values.mean(), *interval(values), ratio, *interval(spread)]
        found = mean[["kl", "low", "high", "ratio", "ratio_low", "ratio_high"]].astype(float)
        assert found.tolist() == pytest.approx(expected, rel=1e-3) and mean["dev_examples"] == len(batches)
        for line in maps[maps["fingerprint"] == mean["student_run"]].to_dict("records"):
            place = dev.idx.tolist().index(line["idx"])
            of_head = given[place][line["layer"] - 1, line["head"] - 1]
            assert line["probabilities"] == pytest.approx(of_head.ravel(), abs=1e-4)
            assert line["kl"] == pytest.approx(kl[place, -1, line["head"] - 1], rel=1e-3)
            assert len(line["tokens"]) == len(of_head) and line["tokens"][0] == "[CLS]"
    assert set(maps["model"]) == {"teacher", "student"}


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
    of_task = lines[lines["task"] == "judge"].groupby("method")["multiply_adds"].first()
    assert 0 < of_task["narrow"] < of_task["finetuned"] < of_task["teacher"]
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

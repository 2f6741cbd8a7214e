"""map_attention on a tiny study that is trained for real, by the command people use."""

from __future__ import annotations

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from internal_kd.analysis.attention_figures import plot_attention_maps
from internal_kd.analysis.built import attention_maps_path, tables_folder
from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.fidelity_tables import measure_fidelity
from internal_kd.analysis.scoring import score_runs
from internal_kd.operations import results
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.making import make
from internal_kd.params import merge
from internal_kd.study import Study
from tiny_study import OVERLAY, ROOT, VALUES, make_encoder, plan_here

METHODS = ["finetuned", "soft", "soft_kl_cos"]
OPTIONS = Namespace(params="params.yaml", overlay=[OVERLAY])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Study]:
    """A study of one teacher and three students of one seed, trained and scored, in the current directory."""
    folder, before = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    make_encoder(folder / "encoder")
    changes = {"study": {"methods": METHODS, "seeds": [1]}, "teacher": {"seeds": [1], "learning_rate": 1e-3}}
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / OVERLAY).write_text(yaml.safe_dump(merge(merge(VALUES, changes), {"student": {"learning_rate": 1e-3}})))
    study = plan_here()
    catalogue = Catalogue(study)
    tokens = study.tasks["judge"]
    for artefact in (tokens.data, tokens.encoder, tokens, study.teachers[0], catalogue.outputs("judge")):
        make(artefact, catalogue)
    for run in study.students:
        make(run.initial, catalogue)
        make(run, catalogue)
    for step in (score_runs, compare_runs, measure_fidelity):
        step(study)
    yield study
    os.chdir(before)


def table(study: Study) -> pd.DataFrame:
    return pd.read_csv(tables_folder(study) / "attention.csv", dtype={"id": str}, keep_default_na=False)


def test_every_student_every_layer_every_head(trained: Study) -> None:
    results.map_attention(OPTIONS)
    found = table(trained)
    assert list(dict.fromkeys(found.method)) == ["before training", *METHODS]
    assert len(found) == 4 * 2 * 4
    assert set(zip(found.student_layer, found.teacher_layer, strict=True)) == {(1, 2), (2, 4)}
    assert set(found.dev_examples) == {48} and set(found.problem) == {""}
    assert set(found.teacher) == {trained.teachers[0].fingerprint}
    assert {run.fingerprint for run in trained.students} < set(found.student)
    means = found.astype({"kl": float}).groupby("method").kl.mean()
    assert means["soft_kl_cos"] < means["soft"]
    said = json.loads((tables_folder(trained) / "attention.json").read_text())["sentences"]
    assert len(said) == 1 and "; 3.3: " in said[0] and "times that of 3.0" in said[0]


def test_maps_shown_are_probabilities_of_the_heads_where_standard_distillation_is_furthest_off(trained: Study) -> None:
    results.map_attention(OPTIONS)
    shown = json.loads(attention_maps_path(trained).read_text())["tasks"]["judge"]
    found = table(trained).query("method == 'soft' and student_layer == 2").astype({"kl": float})
    assert shown["heads"] == found.sort_values("kl", ascending=False)["head"].astype(int).tolist()[:2]
    assert [student["id"] for student in shown["students"]] == ["3.0", "3.3"]
    assert (shown["student_layer"], shown["teacher_layer"]) == (2, 4)
    for example in shown["examples"]:
        assert example["tokens"][0] == "[CLS]" and example["tokens"][-1] == "[SEP]" and len(example["tokens"]) >= 8
        for maps in (example["teacher"], *example["students"]):
            assert np.sum(maps, axis=-1) == pytest.approx(np.ones((2, len(example["tokens"]))), abs=1e-3)


def test_it_writes_the_same_bytes_again_and_makes_the_tokens_it_lacks(trained: Study) -> None:
    files = [*(tables_folder(trained) / f"attention.{kind}" for kind in ("csv", "md", "tex", "json"))]
    files += [tables_folder(trained) / "attention_means.csv", attention_maps_path(trained)]
    results.map_attention(OPTIONS)
    first = [file.read_bytes() for file in files]
    shutil.rmtree(trained.tasks["judge"].folder)
    results.map_attention(OPTIONS)
    assert [file.read_bytes() for file in files] == first


def test_the_report_shows_its_tasks_and_figures_of_tasks_that_are_no_more_are_taken_away(trained: Study) -> None:
    results.map_attention(OPTIONS)
    old = trained.folder / "figures/attention_kl_gone.png"
    old.write_bytes(b"")
    results.plot_figures(OPTIONS)
    assert not old.exists() and attention_maps_path(trained).is_file()
    results.render_report(OPTIONS)
    page = (trained.folder / "report.html").read_text()
    assert "<h2>Attention</h2>" in page and "Made by <code>internal-kd map-attention" in page
    assert 'id="figure-attention_kl_judge"' in page and 'id="figure-attention_maps_judge"' in page


def test_weights_that_were_not_kept_are_named_and_the_next_method_is_shown(trained: Study) -> None:
    soft = next(run for run in trained.students if run.method.name == "soft")
    (soft.folder / "model").rename("aside")
    try:
        results.map_attention(OPTIONS)
        found = table(trained)
        assert found[found.method == "soft"].problem.tolist() == ["its weights are not here"]
        assert (found[found.method == "soft_kl_cos"].problem == "").all()
        shown = json.loads(attention_maps_path(trained).read_text())["tasks"]["judge"]
        assert [student["id"] for student in shown["students"]] == ["3.3"]
        assert plot_attention_maps(trained, "judge").is_file()
    finally:
        Path("aside").rename(soft.folder / "model")


def test_a_teacher_without_weights_leaves_only_its_name(trained: Study) -> None:
    model = trained.teachers[0].folder / "model"
    model.rename("aside")
    try:
        results.map_attention(OPTIONS)
        assert set(table(trained).problem) == {"the teacher's weights are not here"}
    finally:
        Path("aside").rename(model)

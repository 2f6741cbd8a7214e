"""The planner: which runs a study wants, and what their fingerprints depend on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from internal_kd.errors import UserError
from internal_kd.params import load_params, merge, parse_params, read_yaml
from internal_kd.study import Study, plan_study
from tiny_study import ROOT, VALUES


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder/config.json").write_text('{"num_hidden_layers": 4}')
    (tmp_path / "encoder/model.safetensors").write_bytes(b"weights")
    return tmp_path


def plan(**changes: Any) -> Study:
    return plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), merge(VALUES, changes))))


def fingerprints(study: Study) -> dict[str, str]:
    return {run.label: run.fingerprint for run in study.runs}


def moved(**changes: Any) -> set[str]:
    """The labels of the runs whose fingerprint a change moves."""
    before, after = fingerprints(plan()), fingerprints(plan(**changes))
    return {label for label in before if before[label] != after.get(label)}


def students(*methods: str) -> set[str]:
    return {f"judge | L2 | {method} | s{seed}" for method in methods for seed in (1, 2)}


def test_the_papers_study_is_ten_rows_over_four_tasks_and_five_seeds():
    study = plan_study(parse_params(read_yaml(ROOT / "params.yaml")))
    assert list(study.tasks) == ["cola", "qqp", "mrpc", "rte"]
    assert len(study.teachers) == 4 * 5 and len(study.students) == 4 * 9 * 5
    assert [m.id for m in study.methods.values()] == ["2.0", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"]


def test_a_study_that_names_no_tasks_has_all_of_them():
    more = {"second": {**VALUES["tasks"]["judge"], "seed": 1}}
    assert list(plan(study={"tasks": None}, tasks=more).tasks) == ["cola", "qqp", "mrpc", "rte", "judge", "second"]


def test_one_methods_weight_moves_that_methods_runs_only():
    assert moved(methods={"stacked": {"weights": {"cls_cosine": 2.0}}}) == students("stacked")


def test_a_learning_rate_of_the_teacher_moves_teachers_and_the_students_they_teach():
    teachers = {"judge | teacher | s1", "judge | teacher | s2"}
    assert moved(teacher={"learning_rate": 3e-5}) == teachers | students("soft", "stacked")


@pytest.mark.parametrize(
    "changes",
    [
        {"study": {"name": "other"}},
        {"methods": {"soft": {"title": "another title", "id": "9.9"}}},
        {"methods": {"soft": {"compare_with": []}, "stacked": {"compare_with": ["soft", "soft_kl"]}}},
        {"machine": {"disk_budget_gb": 1, "keep_models": "none", "student": {"threads": 7}}},
        {"student": {"layer_map": "last"}, "methods": {"stacked": {"layer_map": "uniform"}}},
        {"student": {"temperature": 1.0}},
        {"encoder": {"licence": "another"}},
    ],
)  # fmt: skip
def test_what_changes_no_result_moves_no_fingerprint(changes):
    assert moved(**changes) == set()


def test_a_study_written_out_names_no_baseline_that_it_has_not():
    study = plan(methods={"stacked": {"compare_with": ["soft_kl", "soft"]}})
    own = parse_params(yaml.safe_load(study.as_yaml()))
    assert own.methods["stacked"].compare_with == ("soft",)
    assert plan_study(own).by_fingerprint == study.by_fingerprint


def test_curriculum_settings_move_the_methods_that_climb():
    assert moved(student={"cosine_threshold": 0.5}) == students("stacked")


def test_a_run_is_what_it_is_wherever_its_encoder_lies(project):
    before = fingerprints(plan())
    shutil.copytree(project / "encoder", project / "elsewhere")
    assert fingerprints(plan(encoder={"path": "elsewhere"})) == before


def test_an_encoder_with_other_weights_moves_everything(project):
    before = fingerprints(plan())
    (project / "encoder/model.safetensors").write_bytes(b"others")
    after = fingerprints(plan())
    assert all(before[label] != after[label] for label in before)


def test_a_seed_more_adds_its_runs_only():
    before, after = fingerprints(plan()), fingerprints(plan(study={"seeds": [1, 2, 3]}))
    assert before.items() <= after.items() and len(after) == len(before) + 3


def test_a_recipe_raised_moves_its_step_and_what_follows(monkeypatch):
    before = fingerprints(plan())
    monkeypatch.setattr("internal_kd.steps.record_teacher.RECIPE", 99)
    after = fingerprints(plan())
    assert {label for label in before if before[label] != after[label]} == students("soft", "stacked")


def test_paths_say_what_a_run_is():
    run = plan(study={"examples": [32]}).students[0]
    assert str(run.folder) == f"results/runs/students/judge/tiny/L2/finetuned/n32/seed1-{run.fingerprint}"


EVERY_OTHER = {"layers": "every_other"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"study": {"depths": [5]}}, "study.depths: 5 layers are more than the teacher's 4; take at most 4"),
        ({"study": {"depths": [3]}}, "student.layer_map: 'uniform' needs a depth that divides the teacher's 4 layers"),
        ({"student": {"epochs": 2}}, "methods.stacked: 2 stages of up to 1 epochs leave none of 2 epochs"),
        ({"encoder": {"layers": 12}}, "encoder.layers: 12 was given, but tiny has 4"),
        ({"encoder": {"path": "nowhere"}}, "encoder.path: nowhere is no folder"),
        ({"encoder": {"source": "package", "package": "no_such_package"}}, "'no_such_package' is not installed"),
        ({"student": {"layer_map": [1, 2, 3]}}, "student.layer_map: layers [1, 2, 3] name 3 layers for a student of 2"),
        ({"methods": {"stacked": {"layer_map": [4, 2]}}}, "methods.stacked.layer_map: layers [4, 2] descend"),
        ({"student": {"initialization": {"layers": [1, 9]}}}, "student.initialization.layers: layers [1, 9] leave"),
        (
            {"study": {"depths": [3], "methods": ["soft"]}, "methods": {"soft": {"initialization": EVERY_OTHER}}},
            "methods.soft.initialization.layers: 'every_other' needs a depth that divides the teacher's 4 layers",
        ),
        ({"tasks": {"judge": {"phenomena": []}}}, "tasks.judge.phenomena: should have at least 1 entry"),
        ({"tasks": {"judge": {"phenomena": ["foo"]}}}, "tasks.judge.phenomena: unknown phenomenon 'foo' of accept"),
        ({"tasks": {"judge": {"train": 10**9}}}, "tasks.judge: train 1000000000 + dev 48 are more examples than the"),
        ({"study": {"examples": [10, 65, "full"]}}, "study.examples: 65 are more than the 64 of judge; say 'full'"),
        ({"tokens": {"max_length": 513}}, "tokens.max_length: 513 is more than the 512 positions of encoder tiny"),
        ({"tasks": {"judge": {"max_length": 600}}}, "tasks.judge.max_length: 600 is more than the 512 positions"),
        ({"tasks": {"own": {"source": "files", "train": "a.csv", "dev": "b.csv", "text": ["t"]}}}, "a.csv does"),
        ({"data": {"root": "glue"}, "study": {"tasks": ["rte"]}}, "data.root: glue holds no folder RTE"),
        (
            {"tasks": {"rte": {"folder": "RTE-small"}}, "study": {"tasks": ["rte"]}},
            "tasks.rte.folder: 'RTE-small' is a folder inside data.root, which is null (the hub); give data.root, or",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_clear_line(changes, said):
    if "own" in changes.get("tasks", {}):
        changes = {**changes, "study": {"tasks": ["own"]}}
    with pytest.raises(UserError) as refused:
        plan(**changes)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_a_subset_of_what_is_fetched_is_no_larger_than_it(project):
    glue = {"study": {"tasks": ["rte"], "examples": [100]}}
    manifest = plan(**glue).tasks["rte"].data.marker
    manifest.parent.mkdir(parents=True)
    for splits, refused in [({"train": {"rows": 99}}, True), ({"train": {"rows": 100}}, False), ({"train": 1}, False)]:
        manifest.write_text(json.dumps({"splits": splits}))
        if refused:
            with pytest.raises(UserError, match="100 are more than the 99 of rte"):
                plan(**glue)
        else:
            assert plan(**glue).students
    assert plan(study={"examples": [64]}).students


def test_an_encoders_own_positions_count(project):
    config = {"num_hidden_layers": 4, "max_position_embeddings": 26, "model_type": "roberta", "pad_token_id": 1}
    (project / "encoder/config.json").write_text(json.dumps(config))
    assert plan().students
    with pytest.raises(UserError, match="25 is more than the 24 positions of encoder tiny"):
        plan(tokens={"max_length": 25})


SOFT = {"id": "9.1", "weights": {"soft": 1.0, "cls_cosine": 0}}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("soft", SOFT),
        ("soft", SOFT | {"layer_map": "last", "epochs": 3}),
        ("finetuned", {"id": "9.1", "weights": {"hard": 1}, "temperature": 4.0}),
    ],
)
def test_two_names_for_one_training_are_one_clear_line(first, second):
    with pytest.raises(UserError) as refused:
        plan(study={"methods": [first, "again"]}, methods={"again": second})
    assert f"study.methods: {first!r} and 'again' differ in nothing that counts on judge" in str(refused.value)
    assert plan(study={"methods": [first, "again"]}, methods={"again": second | {"batch_size": 8}}).students


def test_methods_that_only_one_task_makes_equal_are_named_with_it():
    again = SOFT | {"epochs": 3}
    other = {**VALUES["tasks"]["judge"], "seed": 1}
    tasks = {"judge": {"student_epochs": 5}, "other": other}
    with pytest.raises(UserError, match="'soft' and 'again' differ in nothing that counts on other"):
        plan(study={"tasks": list(tasks), "methods": ["soft", "again"]}, methods={"again": again}, tasks=tasks)


@pytest.mark.parametrize("settings", [{}, {"max_length": 16}, {"student_epochs": 4}])
def test_two_names_for_the_same_examples_are_one_clear_line(settings):
    tasks = {"twin": VALUES["tasks"]["judge"] | settings}
    with pytest.raises(UserError, match=r"study\.tasks: 'judge' and 'twin' hold the same examples: leave one of them"):
        plan(study={"tasks": ["judge", "twin"]}, tasks=tasks)
    assert plan(study={"tasks": ["twin"]}, tasks=tasks).students


def test_half_an_initialization_leaves_the_other_half_to_the_students():
    common = {"source": "teacher", "layers": "every_other"}
    own = {"top": {"id": "9.1", "weights": {"soft": 1}, "initialization": {"layers": "last"}}}
    own["raw"] = {"id": "9.2", "weights": {"soft": 1}, "initialization": {"source": "pretrained"}}
    study = plan(student={"initialization": common}, study={"methods": ["soft", *own]}, methods=own)
    found = {name: method.settings.initialization.model_dump() for name, method in study.methods.items()}
    assert found == {"soft": common, "top": common | {"layers": "last"}, "raw": common | {"source": "pretrained"}}
    # Written out in one piece the study is the same.
    assert plan_study(parse_params(yaml.safe_load(study.as_yaml()))).by_fingerprint == study.by_fingerprint


@pytest.mark.parametrize(
    ("config", "changes", "said"),
    [
        ({"num_hidden_layers": 2}, {"study": {"depths": [3]}}, "study.depths: 3 layers are more than the teacher's 2"),
        ({"max_position_embeddings": 16}, {}, "tokens.max_length: 24 is more than the 16 positions"),
    ],
)
def test_a_hub_encoder_that_is_here_is_looked_at(config, changes, said):
    hub = {"source": "hub", "id": "example/tiny", "revision": "0" * 40, "layers": None}
    changes = merge(changes, {"encoder": hub, "study": {"methods": ["soft"]}})
    copy = next(iter(plan(**changes).tasks.values())).encoder.folder / "config.json"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        plan(**changes)
    copy.write_text('{"num_hid')  # a copy cut short is fetched again
    assert plan(**changes).students


def test_every_encoder_needs_weights_that_are_no_pickle(project):
    (project / "encoder/model.safetensors").rename(project / "encoder/pytorch_model.bin")
    with pytest.raises(UserError, match=r"holds no \.safetensors weights"):
        plan()


@pytest.mark.parametrize("overlay", sorted((ROOT / "config/experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_an_experiment_finds_the_papers_runs_trained_and_asks_for_others_once(overlay):
    paper = {run.fingerprint for run in plan_study(load_params(ROOT / "params.yaml")).runs}
    runs = [run.fingerprint for run in plan_study(load_params(ROOT / "params.yaml", [overlay])).runs]
    assert len(set(runs)) == len(runs)  # no two methods are the same under two names
    assert set(runs) & paper and set(runs) - paper


ALONE = [path for path in sorted((ROOT / "config").rglob("*.yaml")) if path.stem != "glue-local"]  # needs two folders


@pytest.mark.parametrize("overlay", ALONE, ids=lambda path: path.stem)
def test_an_overlay_can_be_planned_by_itself_as_gc_does(overlay):
    assert plan_study(load_params(ROOT / "params.yaml", [overlay])).runs

"""The planner: which runs a study needs, who listens to whom, and what fingerprints depend on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter

import tiny_study
from internal_kd.errors import UserError
from internal_kd.fields import Name
from internal_kd.files import write_json
from internal_kd.params import load_params, merge, parse_params, read_yaml
from internal_kd.params.data import OWN
from internal_kd.plan import recipes
from internal_kd.plan.runs import Ensemble
from internal_kd.plan.study import Study, plan_study
from tiny_study import ROOT, VALUES


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tiny_study.make_project(tmp_path)


def plan(**changes: Any) -> Study:
    return tiny_study.planned(**merge(VALUES, changes))


def fingerprints(study: Study) -> dict[str, str]:
    return {run.label: run.fingerprint for run in study.runs}


def moved(**changes: Any) -> set[str]:
    """The labels of the runs whose fingerprint a change moves."""
    before, after = fingerprints(plan()), fingerprints(plan(**changes))
    return {label for label in before if before[label] != after.get(label)}


def students(*methods: str) -> set[str]:
    return {f"judge {method} L2 s{seed}" for method in methods for seed in (1, 2)}


TEACHERS = {"judge teacher all s1", "judge teacher all s2"}


def test_the_papers_study_is_ten_rows_over_four_tasks_and_five_seeds():
    study = tiny_study.planned()
    assert list(study.tasks) == ["cola", "qqp", "mrpc", "rte"]
    assert len(study.runs) == 4 * 10 * 5
    rows = ["1.0", "2.0", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5", "3.6", "3.7"]
    assert [method.id for method in study.methods.values()] == rows


def test_a_study_that_names_no_tasks_has_all_of_them():
    more = {"second": {**VALUES["tasks"]["judge"], "seed": 1}}
    assert list(plan(study={"tasks": None}, tasks=more).tasks) == ["cola", "qqp", "mrpc", "rte", "judge", "second"]


def test_one_methods_weight_moves_that_methods_runs_only():
    assert moved(methods={"stacked": {"weights": {"soft": 1, "cls_cosine": 2.0}}}) == students("stacked")


def test_a_learning_rate_of_the_teacher_moves_teachers_and_the_students_they_teach():
    assert moved(methods={"teacher": {"learning_rate": 3e-5}}) == TEACHERS | students("soft", "stacked")


@pytest.mark.parametrize(
    "changes",
    [
        {"study": {"name": "other"}},
        {"methods": {"soft": {"title": "another title", "id": "9.9"}}},
        {"methods": {"soft": {"compare_with": []}, "stacked": {"compare_with": ["soft", "soft_kl"]}}},
        {"machine": {"disk_budget_gb": 1, "keep_models": "none", "student": {"threads": 7}}},
        {"defaults": {"layer_map": "last"}, "methods": {"stacked": {"layer_map": "uniform"}}},
        {"defaults": {"temperature": 1.0}},
        {"defaults": {"momentum": 0.5}},
        {"encoder": {"licence": "another"}},
        {"analysis": {"alpha": 0.01}},
    ],
)  # fmt: skip
def test_what_changes_no_result_moves_no_fingerprint(changes):
    assert moved(**changes) == set()


def test_a_task_may_train_differently_than_the_rest():
    study = plan(tasks={"judge": {"defaults": {"epochs": 5}, "methods": {"teacher": {"epochs": 7}}}})
    assert {run.method.name: run.method.settings.epochs for run in study.runs} == {
        "teacher": 7, "finetuned": 5, "soft": 5, "stacked": 5,
    }  # fmt: skip


def test_a_study_written_out_means_the_same_runs():
    study = plan(methods={"stacked": {"compare_with": ["soft_kl", "soft"]}}, study={"vary": {"learner.layers": [1, 2]}})
    own = parse_params(yaml.safe_load(study.as_yaml()))
    assert own.methods["stacked"].compare_with == ("soft",)
    assert list(plan_study(own).by_fingerprint) == list(study.by_fingerprint)


def test_curriculum_settings_move_the_methods_that_climb():
    assert moved(defaults={"cosine_threshold": 0.5}) == students("stacked")


def test_a_run_is_what_it_is_wherever_its_encoder_lies(project):
    before = fingerprints(plan())
    shutil.copytree(project / "encoder", project / "elsewhere")
    assert fingerprints(plan(encoder={"path": "elsewhere"})) == before


def test_an_encoder_with_other_weights_moves_everything(project):
    before = fingerprints(plan())
    (project / "encoder/model.safetensors").write_bytes(b"others!")
    after = fingerprints(plan())
    assert all(before[label] != after[label] for label in before)


def test_a_seed_more_adds_its_runs_only():
    before, after = fingerprints(plan()), fingerprints(plan(study={"seeds": [1, 2, 3]}))
    assert before.items() <= after.items() and len(after) == len(before) + 4


def test_a_recipe_raised_moves_its_step_and_what_follows(monkeypatch):
    before = fingerprints(plan())
    monkeypatch.setitem(recipes.RECIPES, "record_answers", 99)
    after = fingerprints(plan())
    assert {label for label in before if before[label] != after[label]} == students("soft", "stacked")


def test_paths_show_what_a_run_is():
    run = plan(defaults={"select": {"keep": 32}}, methods={"teacher": {"select": {"keep": "full"}}}).runs[2]
    assert str(run.folder) == f"results/runs/judge/finetuned/L2-n32/seed1-{run.fingerprint}"


def test_values_vary_for_the_methods_that_teach_nobody():
    study = plan(study={"vary": {"learner.layers": [1, 2], "select.keep": [32, "full"]}, "seeds": [1]})
    points = {(run.method.name, run.depth, run.examples) for run in study.runs}
    many = {(m, d, k) for m in ("finetuned", "soft", "stacked") for d in (1, 2) for k in ("32", "full")}
    assert points == many | {("teacher", 4, "full")}


def test_a_teacher_of_one_task_has_runs_on_that_task_alone(project):
    shutil.copytree(project / "encoder", project / "ours")
    two = {"study": {"tasks": ["judge", "second"]}, "tasks": {"second": {**VALUES["tasks"]["judge"], "seed": 1}}}
    for teacher in ({"of": "soft_kl", "weak": "accept"}, {"folder": "ours", "labels": ["acceptable", "unacceptable"]}):
        study = plan(**merge(two, {"tasks": {"second": {"methods": {"soft": {"teacher": teacher}}}}}))
        named = teacher.get("of", "ours")
        assert {run.task for run in study.runs if run.method.name == named} == {"second"}
        order = list(study.methods)
        assert order.index("teacher") < order.index(named) < order.index("soft")


def test_methods_may_teach_each_other_on_different_tasks():
    taught = {"finetuned": {"weights": {"soft": 1}, "teacher": "soft"}}
    two = {
        "judge": {"methods": {"soft": {"teacher": "finetuned"}}},
        "second": {**VALUES["tasks"]["judge"], "seed": 1, "methods": taught},
    }
    study = plan(study={"tasks": ["judge", "second"], "methods": ["finetuned", "soft"]}, tasks=two)
    taught = {(run.task, run.method.name): {t.method.name for t in run.teachers} for run in study.runs}
    assert taught["judge", "soft"] == {"finetuned"} and taught["second", "finetuned"] == {"soft"}


@pytest.mark.parametrize(
    "vary",
    [
        {"teacher.of": ["teacher", "soft_kl"]},
        {"teacher": [{"of": "teacher", "weak": "accept"}, {"of": "soft_kl", "weak": "accept"}]},
    ],
)
def test_teachers_may_vary(vary):
    study = plan(study={"methods": ["teacher", "soft"], "vary": vary})
    of = {run.method.name: set() for run in study.runs}
    for run in study.runs:
        of[run.method.name] |= {teacher.method.name for teacher in run.teachers}
    assert of == {"teacher": set(), "soft_kl": {"teacher"}, "soft": {"teacher", "soft_kl"}}
    assert len(study.runs) == 2 + 2 + 4


def test_the_seed_of_a_teacher_may_vary():
    study = plan(study={"methods": ["soft"], "vary": {"teacher.seed": [1, 2]}})
    seeds = [(run.teachers[0].seed, run.seed) for run in study.runs if run.method.name == "soft"]
    assert sorted(seeds) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_a_method_that_gives_the_key_itself_does_not_vary():
    study = plan(study={"vary": {"temperature": [1.0, 2.0]}}, methods={"soft": {"temperature": 4.0}})
    assert {run.method.settings.temperature for run in study.runs if run.method.name == "soft"} == {4.0}
    assert {run.method.settings.temperature for run in study.runs if run.method.name == "stacked"} == {1.0, 2.0}


def test_an_assistant_is_made_before_those_it_teaches_and_moves_them_alone():
    assistant = {"id": "4.0", "learner": {"layers": 3, "start": {"layers": "spread"}}, "weights": {"soft": 1}}
    via = {
        "id": "4.1",
        "weights": {"soft": 1},
        "teacher": {"of": "assistant", "seed": "same"},
        "learner": {"layers": 1},
    }
    changes = {"study": {"methods": ["teacher", "soft", "via"]}, "methods": {"assistant": assistant, "via": via}}
    study = plan(**changes)
    assert [run.method.name for run in study.runs] == ["teacher"] * 2 + ["soft"] * 2 + ["assistant"] * 2 + ["via"] * 2
    assert [run.teachers[0].seed for run in study.runs if run.method.name == "via"] == [1, 2]
    before = fingerprints(study)
    after = fingerprints(plan(**merge(changes, {"methods": {"assistant": {"learning_rate": 1e-3}}})))
    expected = {"judge assistant L3 s1", "judge assistant L3 s2", "judge via L1 s1", "judge via L1 s2"}
    assert {label for label in before if before[label] != after[label]} == expected


def test_a_few_words_make_a_row():
    rows = {
        "assistant": {"learner": {"layers": 3, "start": {"layers": "spread"}}, "weights": {"soft": 1}},
        "via": {"learner": {"layers": 1}, "teacher": {"of": "assistant"}},
        "alone": {"teacher": "none"},
    }
    methods = plan(study={"methods": list(rows)}, methods=rows).methods
    assert [methods[name].weights for name in rows] == [{"soft": 1.0}, {"soft": 1.0}, {"hard": 1.0}]
    assert [(methods[name].id, methods[name].title, methods[name].label) for name in rows] == [(n, n, n) for n in rows]
    assert methods["teacher"].label == "1.0 Teacher"


def test_several_teachers_answer_as_one_and_each_is_recorded_once():
    study = plan(methods={"soft": {"teacher": {"of": "teacher", "seeds": [1, 2], "weak": "accept"}}})
    taught = [run for run in study.runs if run.method.name == "soft"]
    assert all(isinstance(run.answers, Ensemble) for run in taught)
    recorded = {part.fingerprint for run in study.runs for part in run.parts}
    assert len(recorded) == 2
    assert {run.seed for run in taught[0].teachers} == {1, 2}


def test_the_best_teacher_is_one_of_all_of_them():
    study = plan(methods={"soft": {"teacher": {"of": "teacher", "seed": "best", "weak": "accept"}},
                          "teacher": {"select": {"hold_out": 0.1}}})  # fmt: skip
    run = next(run for run in study.runs if run.method.name == "soft")
    assert [teacher.seed for teacher in run.teachers] == [1, 2] and len(run.parts) == 1


def test_generations_follow_each_other():
    born = {"learner": {"layers": "all"}, "weights": {"soft": 0.5, "hard": 0.5}}
    study = plan(
        study={"methods": ["gen2"]},
        methods={
            "gen1": {"id": "5.1", **born, "teacher": {"of": "teacher", "seed": "same"}},
            "gen2": {"id": "5.2", **born, "teacher": {"of": "gen1", "seed": "same"}},
        },
    )
    assert [run.method.name for run in study.runs] == ["teacher"] * 2 + ["gen1"] * 2 + ["gen2"] * 2
    last = study.runs[-1]
    assert last.teachers[0].teachers[0].method.name == "teacher" and last.teachers[0].seed == last.seed == 2


def test_answers_in_a_file_count_by_their_content(project):
    (project / "llm.csv").write_text("text,label\nsome text,acceptable\n")
    changes = {"methods": {"soft": {"teacher": {"answers": "llm.csv"}}}}
    before = fingerprints(plan(**changes))
    (project / "llm.csv").write_text("text,label\nother text,acceptable\n")
    after = fingerprints(plan(**changes))
    assert {label for label in before if before[label] != after[label]} == students("soft")


def test_a_model_folder_has_a_row_of_its_own(project):
    shutil.copytree(project / "encoder", project / "ours")
    study = plan(
        study={"methods": ["finetuned", "soft"]},
        methods={"soft": {"teacher": {"folder": "ours", "labels": ["unacceptable", "acceptable"]}}},
    )
    model = study.methods["ours"]
    assert model.learner.kind == "finished" and model.id == "1.1"
    run = next(run for run in study.runs if run.method.name == "soft")
    assert [teacher.method.name for teacher in run.teachers] == ["ours"]
    assert len([run for run in study.runs if run.method.name == "ours"]) == 1


@pytest.mark.parametrize("folder", ["модель", "Ünï", "_m", "-x", "2e5", "x" * 100, "a b/model", "ours-2.1"])
def test_a_model_folder_may_have_any_name(project, folder):
    shutil.copytree(project / "encoder", project / folder)
    teacher = {"folder": folder, "labels": ["unacceptable", "acceptable"]}
    study = plan(study={"methods": ["finetuned", "soft"]}, methods={"soft": {"teacher": teacher}})
    (name,) = {teacher.method.name for run in study.runs if run.method.name == "soft" for teacher in run.teachers}
    assert TypeAdapter(Name).validate_python(name) == name and name in study.methods
    if folder == "ours-2.1":
        assert name == folder


def test_two_model_folders_that_would_have_one_name_are_refused(project):
    for folder in ("модель", "учитель"):
        shutil.copytree(project / "encoder", project / folder)
    teachers = {name: {"teacher": {"folder": folder}} for name, folder in (("soft", "модель"), ("stacked", "учитель"))}
    with pytest.raises(UserError, match=r"methods\.stacked\.teacher.*'model'.*rename"):
        plan(methods=teachers)


def images(**methods: Any) -> dict[str, Any]:
    """Values of a study of images with these rows; the files are empty."""
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        Path(name).write_bytes(b"")
    digits = {"source": "images", "train": "train-images-idx3-ubyte", "test": "train-images-idx3-ubyte"}
    defaults = {"learner": {"kind": "mlp"}, "teacher": None}
    study = {"name": "images", "tasks": ["digits"], "methods": list(methods), "seeds": [1]}
    rows = {name: {"id": f"9.{place}", **entry} for place, (name, entry) in enumerate(methods.items())}
    return {"study": study, "tasks": {"digits": digits}, "defaults": defaults, "methods": rows}


def refused(values: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), values)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_is_not_there_is_named_by_its_entry() -> None:
    for key, given in (("teacher", {}), ("learner", {"kind": "finished"})):
        entry = {key: {"folder": "nope", **given}}
        with pytest.raises(UserError, match=f"^methods.soft.{key}: nope is not a folder"):
            plan(methods={"soft": entry})
    with pytest.raises(UserError) as refused:
        plan(methods={"soft": {"learner": {"start": {"from": "nobody"}}}})
    assert str(refused.value).count("teacher") == 1


def test_a_model_of_texts_does_not_teach_about_images() -> None:
    line = refused(images(mine={"teacher": {"folder": "nope"}, "weights": {"soft": 1}}))
    assert line.startswith("methods.mine.teacher: nope reads texts")


@pytest.mark.parametrize(
    ("learner", "more", "named"),
    [
        ({"kind": "cnn", "channels": [2] * 5}, {}, "learner.channels"),
        ({"kind": "pair", "of": [{"kind": "cnn", "channels": [2] * n} for n in (1, 5)]}, {}, "learner.channels"),
        ({"kind": "distilled_set", "network": {"kind": "cnn", "channels": [2] * 5}}, {}, "learner.channels"),
        ({"kind": "mlp"}, {"augment": {"shift": 28}}, "augment.shift"),
    ],
)
def test_what_images_are_too_small_for_is_refused_once_they_are_known(
    learner: dict[str, Any], more: dict[str, Any], named: str
) -> None:
    weights = {"hard": 1, "mutual": 1} if learner["kind"] == "pair" else {"hard": 1}
    values = images(mine={"learner": learner, "weights": weights, **more})
    (run,) = plan_study(parse_params(merge(read_yaml(ROOT / "params.yaml"), values))).runs
    write_json(run.inputs.marker, {"size": [28, 28, 1]})
    assert refused(values).startswith(f"methods.mine: {named}")


@pytest.mark.parametrize(
    ("select", "named"),
    [
        ({"hold_out": 0.5, "keep": 200}, "select.keep: 200 is more than the 150"),
        ({"drop_classes": ["acceptable", "unacceptable"]}, "select: leaves no training example"),
        ({"hold_out": 0.999}, "select: leaves no training example"),
    ],
)
def test_a_selection_that_leaves_too_few_examples_is_refused(select: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=named):
        plan(tasks={"judge": {"train": 300}}, methods={"soft": {"select": select}})
    assert plan(tasks={"judge": {"train": 300}}, methods={"soft": {"select": {"hold_out": 0.5, "keep": 150}}}).runs


def test_a_plugin_that_is_edited_moves_the_methods_that_weigh_it(project):
    source = """
from internal_kd.distillation.objectives import objective

@objective("moved_{n}", reads=("cls",), per="pair")
def moved(student, teacher):
    return {factor} * (student - teacher).square().mean()
"""
    (project / "mine.py").write_text(source.format(n=1, factor=1))
    changes = {"plugins": ["mine.py"], "methods": {"stacked": {"weights": {"soft": 1, "moved_1": 1}}}}
    before = fingerprints(plan(**changes))
    (project / "mine.py").write_text(source.format(n=1, factor=10))
    after = fingerprints(plan(**changes))
    assert {label for label in before if before[label] != after[label]} == students("stacked")


def test_each_recording_has_what_its_students_read(project):
    study = plan()
    needs = {need for run in study.runs for part in run.parts for need in part.needs}
    assert {need.terms for need in needs} == {("soft",), ("attention_kl", "cls_cosine", "soft")}


@pytest.mark.parametrize(
    ("config", "keywords"),
    [
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, ["stacked.teacher: ", "a, b, c", "unacceptable, acceptable"]),
        ({"id2label": {"0": "good", "1": "bad"}}, ["good, bad", "unacceptable, acceptable", "labels"]),
        ({"architectures": ["BertForMaskedLM"]}, ["BertForMaskedLM"]),
        ({"id2label": {"0": "acceptable", "1": "unacceptable"}, "num_hidden_layers": 1}, ["layer_map", "2", "1"]),
    ],
)
def test_a_model_that_does_not_suit_the_task_is_refused_while_planning(project, config, keywords):
    for folder in ("encoder", "ours"):
        (project / folder).mkdir(exist_ok=True)
        (project / folder / "vocab.txt").write_text("[CLS]\n")
        (project / folder / "model.safetensors").write_bytes(b"weights")
    (project / "ours/config.json").write_text(json.dumps({**tiny_study.CONFIG, **config}))
    with pytest.raises(UserError) as refused:
        plan(methods={"stacked": {"teacher": {"folder": "ours"}, "max_length": 32}})
    for keyword in ["methods.stacked", *keywords]:
        assert keyword in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "meant"),
    [
        ({"methods": {"soft": {"select": {"by": "randm"}}}}, "random"),
        ({"methods": {"soft": {"teacher": {"of": "teacher", "combine": "mean_logit"}}}}, "mean_logits"),
        ({"methods": {"soft": {"teacher": {"of": "teacher", "seed": "bst"}}}}, "best"),
        ({"methods": {"soft": {"optimizer": "adam"}}}, "adamw"),
        ({"methods": {"soft": {"learner": {"layers": "al"}}}}, "all"),
        ({"methods": {"soft": {"learner": {"start": {"from": "encodr"}}}}}, "encoder"),
        ({"methods": {"soft": {"learner": {"start": {"layers": "every_othr"}}}}}, "every_other"),
        ({"methods": {"stacked": {"layer_map": "unifrm"}}}, "uniform"),
        ({"methods": {"stacked": {"classification": "allways"}}}, "always"),
        ({"methods": {"stacked": {"options": {"cls_cosine": {"layers": "lst"}}}}}, "last"),
        ({"methods": {"stacked": {"options": {"cls_cosine": {"projection": "shard"}}}}}, "shared"),
        ({"methods": {"stacked": {"curriculum": {"phases": [{"epochs": 1, "terms": ["sotf"]}]}}}}, "soft"),
        ({"tasks": {"judge": {"source": "genrator"}}}, "generator"),
        ({"analysis": {"primary": {"rows": ["sotf"]}}}, "soft"),
    ],
)
def test_a_word_that_is_not_known_is_refused_with_the_nearest(changes, meant):
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        plan(**changes)


FILES = {"source": "files", "train": "train.csv", "dev": "dev.csv"}
EVERY_OTHER = {"start": {"layers": "every_other"}}


@pytest.mark.parametrize(
    ("changes", "keywords"),
    [
        ({"defaults": {"learner": {"layers": 5}}}, ["methods.finetuned", "5 layers", "4"]),
        ({"defaults": {"learner": {"layers": 3}}}, ["methods.stacked", "layer_map", "'uniform'", "divides"]),
        ({"defaults": {"epochs": 2}}, ["methods.stacked", "epochs", "2"]),
        ({"encoder": {"layers": 12}}, ["encoder.layers", "12", "4"]),
        ({"encoder": {"path": "nowhere"}}, ["encoder", "nowhere is not a folder"]),
        ({"encoder": {"source": "package", "package": "no_such_package"}}, ["'no_such_package' is not installed"]),
        ({"methods": {"stacked": {"layer_map": [4, 2]}}}, ["methods.stacked", "layer_map", "[4, 2]"]),
        ({"methods": {"soft": {"learner": {"start": {"layers": [1, 9]}}}}}, ["methods.soft", "start.layers", "9"]),
        ({"methods": {"soft": {"learner": {"width": 30}}}}, ["methods.soft", "width 30", "4 heads"]),
        ({"methods": {"soft": {"teacher": "nobody"}}}, ["methods.soft.teacher", "'nobody' is not a method"]),
        ({"methods": {"soft": {"teacher": "stacked"}, "stacked": {"teacher": "soft"}}}, ["circle", "soft -> stacked"]),
        ({"study": {"vary": {"teacher.of": ["teacher", "nobody"]}}}, ["teacher", "'nobody' is not a method"]),
        ({"methods": {"soft": {"teacher": {"of": "teacher", "seed": "best"}}}}, ["methods.teacher", "hold_out"]),
        ({"study": {"vary": {"seeds": [[1], [2]]}}}, ["study.vary", "'seeds'", "study.seeds"]),
        ({"methods": {"soft": {"learner": {"start": {"from": "nobody"}}}}},
         ["methods.soft.learner.start.from", "'nobody' is not a method"]),
        ({"methods": {"soft": {"teacher": {"of": "teacher", "seed": 7}}}}, ["methods.soft.teacher", "seed 7", "1, 2"]),
        ({"methods": {"stacked": {"teacher": {"of": "teacher", "seeds": [1, 2]}}}}, ["internals: first"]),
        ({"methods": {"stacked": {"teacher": {"answers": "a.csv"}}}}, ["a.csv does not exist"]),
        ({"tasks": {"judge": FILES | {"metrics": ["f1", "acuracy"]}}}, ["tasks.judge.metrics", "mean 'accuracy'?"]),
        ({"tasks": {"judge": FILES | {"metrics": ["mse"]}}}, ["tasks.judge.metrics", "'mse'", "classes"]),
        ({"methods": {"soft": {"teacher": "encoder"}}}, ["methods.soft", "no classes"]),
        ({"methods": {"soft": {"teacher": "none"}}}, ["methods.soft.teacher", "soft"]),
        ({"methods": {"soft": {"weights": {"sotf": 1}}}}, ["methods.soft", "'sotf'", "did you mean 'soft'?"]),
        ({"methods": {"soft": {"options": {"soft": {"heat": 1}}}}}, ["methods.soft.options.soft", "'heat'"]),
        ({"methods": {"soft": {"curriculum": "staked"}}}, ["curriculum", "did you mean 'stacked'?"]),
        ({"methods": {"soft": {"learner": {"kind": "encodr"}}}}, ["methods.soft.learner.kind", "'encodr'"]),
        ({"tasks": {"judge": {"phenomena": ["foo"]}}}, ["tasks.judge.phenomena", "'foo'"]),
        ({"tasks": {"judge": {"train": 10**9}}}, ["tasks.judge", "1000000000"]),
        ({"defaults": {"select": {"keep": 65}}}, ["select.keep", "65", "64"]),
        ({"defaults": {"max_length": 33}}, ["max_length", "33", "32 positions"]),
        ({"tasks": {"own": {"source": "files", "train": "a.csv", "dev": "b.csv", "text": ["t"]}},
          "study": {"tasks": ["own"]}}, ["tasks.own", "a.csv does not exist"]),
        ({"data": {"root": "glue"}, "study": {"tasks": ["rte"]}}, ["data.root", "RTE"]),
        ({"methods": {"twin": {"id": "9.0", "weights": {"soft": 1}}}, "study": {"methods": ["soft", "twin"]}},
         ["'soft' and 'twin' would train the same model"]),
        ({"plugins": ["absent.py"]}, ["plugins", "absent.py"]),
        ({"methods": {"soft": {"max_length": 20}, "stacked": {"max_length": 20}}}, ["methods.stacked", "max_length"]),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_in_one_line(changes, keywords):
    with pytest.raises(UserError) as refused:
        plan(**changes)
    for keyword in keywords:
        assert keyword in str(refused.value)
    assert "\n" not in str(refused.value)


ADAPTIVE: dict[str, Any] = {
    "wide": {
        "id": "5.0",
        "learner": {"kind": "adaptive", "widths": [1, 0.5], "depths": [1, 0.5]},
        "weights": {"soft": 1},
    },
    "part": {"id": "5.1", "learner": {"kind": "subnetwork", "of": "wide", "width": 0.5, "depth": 0.5}},
}


def test_a_sub_network_is_a_row_of_its_run_and_moves_with_it() -> None:
    changes = {"study": {"methods": ["wide", "part"]}, "defaults": {"weights": {"hard": 1}}}
    study = plan(methods=ADAPTIVE, **changes)
    whole, parts = ([run for run in study.runs if run.method.name == name] for name in ("wide", "part"))
    assert [run.first for run in parts] == whole and [run.seed for run in parts] == [1, 2]
    assert all(run.answers is None and run.inputs == whole[0].inputs for run in parts)
    assert [(run.shape.layers, run.shape.inner) for run in (whole[0], parts[0])] == [(4, 64), (2, 32)]
    assert whole[0].teaches and not parts[0].method.weights
    slower = plan(methods=merge(ADAPTIVE, {"wide": {"learning_rate": 1e-4, "seeds": [2]}}), **changes)
    moved = [run for run in slower.runs if run.method.name == "part"]
    assert [run.seed for run in moved] == [2] and moved[0].fingerprint != parts[1].fingerprint


def test_what_starts_from_a_sub_network_has_its_depth() -> None:
    tuned = {"id": "5.2", "learner": {"layers": "all", "kept_heads": 2, "start": "part"}, "layer_map": [2, 4],
             "weights": {"soft": 1, "hidden_mse": 1}}  # fmt: skip
    study = plan(methods={**ADAPTIVE, "tuned": tuned}, study={"methods": ["tuned"]})
    run = next(run for run in study.runs if run.method.name == "tuned")
    assert run.depth == 2 and 2 in {need.layers for need in run.parts[0].needs}


def part(**learner: Any) -> dict[str, Any]:
    return {"part": {"learner": {"kind": "subnetwork", **learner}}}


def wide(**learner: Any) -> dict[str, Any]:
    return {"wide": {"learner": {"kind": "adaptive", **learner}}}


@pytest.mark.parametrize(
    ("changes", "keywords"),
    [
        (part(width=0.75), ["methods.part.learner.width", "0.75", "1, 0.5"]),
        (part(depth=0.75), ["methods.part.learner.depth", "0.75", "1, 0.5"]),
        (part(width=1, depth=1), ["methods.part.learner", "'wide'"]),
        (part(of="soft"), ["methods.part.learner.of", "'soft'", "'encoder'", "adaptive"]),
        (part(of="encoder"), ["methods.part.learner.of", "'encoder'"]),
        (part(of="wie"), ["methods.part", "'wie'", "did you mean 'wide'"]),
        (wide(widths=[1, 0.1]), ["methods.wide.learner", "width 0.1", "4 heads"]),
        (wide(depths=[1, 0.5, 0.55]), ["methods.wide.learner", "depths", "0.55", "0.5"]),
        ({"wide": {"weights": {"soft": 1, "attention_kl": 1}}}, ["methods.wide", "attention_kl", "adaptive"]),
        ({"twin": {**ADAPTIVE["part"], "id": "5.2"}}, ["'part' and 'twin' would train the same model"]),
    ],
)
def test_sub_networks_that_cannot_be_are_refused_in_one_line(changes: dict[str, Any], keywords: list[str]) -> None:
    methods = merge(ADAPTIVE, changes)
    with pytest.raises(UserError) as refused:
        plan(methods=methods, study={"methods": ["teacher", "soft", *methods]})
    for keyword in keywords:
        assert keyword in str(refused.value)
    assert "\n" not in str(refused.value)


def test_real_examples_of_a_class_are_refused_where_there_are_values(project):
    for name in ("a", "b"):
        Path(f"{name}.csv").write_text("t,score\nA text.,0.5\nAnother one.,1.5\n")
    own = {"source": "files", "kind": "values", "train": "a.csv", "dev": "b.csv", "text": ["t"], "label": "score"}
    row = {"id": "9.0", "learner": {"kind": "distilled_set", "network": {"kind": "mlp"}, "source": "mean"}}
    with pytest.raises(UserError, match=r"methods\.odd.*learner\.source.*values"):
        plan(
            tasks={"own": own},
            study={"tasks": ["own"], "methods": ["odd"]},
            methods={"odd": {**row, "teacher": "none", "weights": {"hard": 1}}},
        )


SCOUT = {"id": "8.0", "title": "Scout", "weights": {"hard": 1}, "teacher": "none"}


def test_a_scout_is_planned_before_those_it_scores_for_and_does_not_vary():
    pruned = {"id": "8.1", "title": "Pruned", "weights": {"soft": 1}, "select": {"by": "el2n", "of": "scout"}}
    study = plan(
        study={"methods": ["pruned"], "vary": {"select.keep": [8, 16]}}, methods={"scout": SCOUT, "pruned": pruned}
    )
    runs = {name: [run for run in study.runs if run.method.name == name] for name in ("teacher", "scout", "pruned")}
    assert len(runs["scout"]) == 2 and len(runs["pruned"]) == 4
    assert all(run.scouts and not run.teaches and run.examples == "full" for run in runs["scout"])
    assert all(run.scouting_runs == tuple(runs["scout"]) for run in runs["pruned"])
    assert study.runs.index(runs["scout"][-1]) < study.runs.index(runs["pruned"][0])


@pytest.mark.parametrize(
    ("select", "line"),
    [
        ({"by": "el2n"}, r"select\.of: el2n"),
        ({"by": "el2m"}, "el2n"),
        ({"by": "random", "of": "scout"}, r"select\.of: random"),
        ({"by": "random", "order": "low"}, r"select\.order"),
        ({"by": "el2n", "of": "skout"}, "scout"),
        ({"by": "el2n", "of": {"of": "scout", "seeds": [9]}}, "no seed 9"),
        ({"by": "el2n", "of": {"of": "scout", "epoch": 9}}, "no epoch 9"),
        ({"by": "scores.csv"}, "does not exist"),
        ({"by": "el2n", "of": "finetuned"}, "circle"),
    ],
)
def test_scores_that_cannot_be_had_are_refused(select: dict[str, Any], line: str):
    with pytest.raises(UserError, match=line) as refused:
        plan(methods={"scout": SCOUT, "finetuned": {"select": select}})
    assert "\n" not in str(refused.value)


def test_scores_are_counted_by_what_they_are_and_not_by_their_names(project: Path):
    def of(scout: dict[str, Any], name: str = "scout", **select: Any) -> str:
        chosen = {"by": "el2n", "of": {"of": name}, "keep": 8, **select}
        study = plan(study={"methods": ["finetuned"]}, methods={name: scout, "finetuned": {"select": chosen}})
        return next(run.fingerprint for run in study.runs if run.method.name == "finetuned")

    assert of(SCOUT) == of(SCOUT, "other") == of(SCOUT, empty_classes="accept")
    others = [of({**SCOUT, "epochs": 2}), of(SCOUT, order="low"), of(SCOUT, of={"of": "scout", "epoch": 1})]
    assert len({of(SCOUT), *others}) == 4


@pytest.mark.parametrize(
    ("teacher", "weights", "line"),
    [
        ({"average": 0.999, "of": "teacher"}, {"soft": 1}, "`of` and `average`"),
        ({"average": 0.9, "control": "uniform"}, {"soft": 1}, "control"),
        ({"average": 0.9}, {"soft": 1, "cls_cosine": 1}, "cls_cosine"),
        ({"of": "teacher", "control": "shuffled"}, {"soft": 1, "attention_kl": 1}, "attention_kl"),
        ({"of": "teacher", "control": "mixed"}, {"soft": 1}, "shuffled"),
    ],
)
def test_averages_and_controls_that_cannot_work_are_refused(teacher: Any, weights: Any, line: str):
    with pytest.raises(UserError, match=line) as refused:
        plan(methods={"soft": {"teacher": teacher, "weights": weights}})
    assert "\n" not in str(refused.value)


def test_averages_and_controls_are_other_runs_with_the_teachers_that_they_name():
    def of(**teacher: Any):
        named = {} if "average" in teacher else {"of": "teacher", "weak": "accept"}
        study = plan(study={"methods": ["soft"]}, methods={"soft": {"teacher": {**named, **teacher}}})
        return next(run for run in study.runs if run.method.name == "soft")

    runs = [of(), of(control="shuffled"), of(control="uniform"), of(average=0.9), of(average=0.99)]
    assert len({run.fingerprint for run in runs}) == 5
    assert [len(run.teachers) for run in runs] == [1, 1, 1, 0, 0]


def test_two_papers_of_one_project_share_the_perceptron_that_teaches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    papers = [load_params("params.yaml", [f"config/papers/{name}.yaml"]) for name in ("hinton2015", "frosst2017")]
    teachers = [next(run for run in plan_study(params).runs if run.method.name == "teacher") for params in papers]
    assert teachers[0].folder == teachers[1].folder


def test_every_quick_variant_is_laid_over_a_paper_of_its_name_and_plans() -> None:
    for name in ("config", "papers"):
        Path(name).symlink_to(ROOT / name)
    for quick in sorted(Path("config/papers/quick").glob("*.yaml")):
        # As `make papers-quick` lays them.
        params = load_params(ROOT / "params.yaml", [quick.parents[1] / quick.name, quick])
        for entry in params.tasks.values():
            for path in entry.sources.values() if isinstance(entry, OWN) and not entry.repository else ():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                Path(path).write_text("")
        assert plan_study(params).runs, quick.name

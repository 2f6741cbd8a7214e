"""An export counts as made while it lies there whole and is what would be made now."""

import json
import zipfile

import pytest
from made_study import folder_of, needs_onnx, plan, told

from internal_kd.analysis.built import export_path, recorded_key
from internal_kd.analysis.scoring import score_runs
from internal_kd.deployment import exported
from internal_kd.deployment.exported import Wish, is_best
from internal_kd.deployment.students import export_students
from internal_kd.errors import UserError
from internal_kd.study import Study


@needs_onnx
def test_what_is_exported_already_is_left_alone_until_the_scores_change(copy: Study) -> None:
    said: list[str] = []
    assert all(is_best(export_path(copy, task), recorded_key(copy)) for task in copy.tasks)
    # To ask for the shown depth and size is to ask for what is taken anyway.
    export_students(copy, Wish(depth=2, examples="full"), tell=said.append)
    assert [line.split(" is ")[1] for line in said] == ["complete already: nothing to do"] * 2
    changed = plan(methods={"soft": {"title": "Another title"}})
    with pytest.raises(UserError, match="are behind its runs or parameters"):
        export_students(changed, Wish(), ["rte"])
    score_runs(changed)
    assert not is_best(export_path(changed, "rte"), recorded_key(changed))
    export_students(changed, Wish(), ["rte"], said.append)
    assert " is complete: rte | L2 |" in said[2]
    assert is_best(export_path(changed, "rte"), recorded_key(changed))


@needs_onnx
def test_a_method_asked_for_by_name_is_not_the_best_student(copy: Study) -> None:
    best = told(copy, "rte")["choice"]["method"]
    # Not even where it is the best: its card says that it was asked for.
    export_students(copy, Wish(method=best), ["rte"])
    assert told(copy, "rte")["choice"]["method_given"] and not is_best(export_path(copy, "rte"), recorded_key(copy))
    said: list[str] = []
    export_students(copy, Wish(), tell=said.append)
    assert ["complete already" in line for line in said] == [True, False]
    assert is_best(export_path(copy, "rte"), recorded_key(copy))


@needs_onnx
@pytest.mark.parametrize(
    "lost", ["model/model.safetensors", "onnx/model-int8.onnx", "submission/RTE.tsv", "params.yaml"]
)
def test_an_export_that_lost_a_file_is_made_again(copy: Study, lost: str) -> None:
    file = folder_of(copy, "rte") / lost
    before = file.stat().st_size
    file.write_bytes(b"cut short")
    assert not is_best(export_path(copy, "rte"), recorded_key(copy))
    file.unlink()
    assert not is_best(export_path(copy, "rte"), recorded_key(copy))
    said: list[str] = []
    export_students(copy, Wish(), ["rte"], said.append)
    assert "is complete: rte" in said[0] and file.stat().st_size == before


@needs_onnx
def test_a_card_may_be_written_into_but_not_be_gone(copy: Study) -> None:
    card = folder_of(copy, "rte") / exported.CARD
    card.write_text(card.read_text() + "\nContact: the authors.\n")
    export_students(copy, Wish(), ["rte"])
    assert "Contact: the authors." in card.read_text()
    card.unlink()
    assert not is_best(export_path(copy, "rte"), recorded_key(copy))


@needs_onnx
@pytest.mark.parametrize(("name", "other"), [("RECIPE", 999), ("version", lambda package: "0.0")])
def test_another_recipe_or_version_makes_an_export_stale(
    study: Study, monkeypatch: pytest.MonkeyPatch, name: str, other: object
) -> None:
    assert is_best(export_path(study, "rte"), recorded_key(study))
    monkeypatch.setattr(exported, name, other)
    assert not is_best(export_path(study, "rte"), recorded_key(study))


@needs_onnx
def test_what_is_no_whole_export_is_not_believed(copy: Study) -> None:
    path, key = export_path(copy, "rte"), recorded_key(copy)
    whole = told(copy, "rte")
    for broken in ("", "[]", "{}", json.dumps(whole | {"files": [1]}), json.dumps(whole | {"made_from": key})):
        path.write_text(broken)
        assert not is_best(path, key), broken
    path.write_text(json.dumps(whole))
    assert is_best(path, key)


def packed(study: Study) -> list[str]:
    with zipfile.ZipFile(study.folder / "export/submission.zip") as archive:
        return archive.namelist()


def test_predictions_that_are_not_the_best_students_stay_out_of_the_archive(copy: Study) -> None:
    said: list[str] = []
    export_students(copy, Wish(method="soft"), ["rte"], said.append)
    assert packed(copy) == ["RTE.tsv"] and not any("leaves out" in line for line in said)
    export_students(copy, Wish(), ["judge"], said.append)
    assert "submission.zip leaves out rte: exported by hand or from other scores" in said[-1]
    assert (folder_of(copy, "rte") / "submission/RTE.tsv").is_file()
    assert not (copy.folder / "export/submission.zip").exists()
    export_students(copy, Wish(), ["rte"])
    export_students(copy, Wish(), ["judge"], said.append)
    assert packed(copy) == ["RTE.tsv"] and "leaves out" not in said[-1]

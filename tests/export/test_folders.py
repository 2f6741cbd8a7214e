"""An export counts as made while it is complete and what would be made now."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from exported_study import Exported

from internal_kd.errors import UserError
from internal_kd.export import folders
from internal_kd.export.export import export_students
from internal_kd.export.folders import CARD, check_place, export_path, is_current
from internal_kd.export.onnx import missing_packages
from internal_kd.files import read_mapping, write_json
from internal_kd.plan.study import Study
from trained_study import plan_trained

pytestmark = pytest.mark.skipif(bool(missing_packages()), reason="pip install '.[export]'")


def test_an_export_is_not_put_where_its_publishing_would_remove_other_files(project: Path) -> None:
    Path("note.txt").write_text("mine")
    for place, words in ((Path("note.txt/ours"), "note.txt is not a folder"), (Path(), "such as note.txt")):
        with pytest.raises(UserError, match=words):
            check_place(place)
    for name in ("export.json", "params.yaml", CARD):
        Path("ours", name).parent.mkdir(parents=True, exist_ok=True)
        Path("ours", name).write_text(json.dumps({"files": {"params.yaml": {}, CARD: {}}}))
    check_place(Path("ours"))
    check_place(Path("new/deep"))
    Path("ours/.gitattributes").write_text("")
    with pytest.raises(UserError, match=r"\.gitattributes"):
        check_place(Path("ours"))


def lines_of(study: Study, **request: object) -> list[str]:
    lines: list[str] = []
    export_students(study, say=lines.append, **request)  # type: ignore[arg-type]
    return lines


def test_what_is_exported_is_left_alone_until_the_scores_change(exported_copy: Exported) -> None:
    study = exported_copy.study
    assert all(is_current(study, task) for task in study.tasks)
    assert [line.split(" is ")[1] for line in lines_of(study)] == ["complete already: nothing to do"] * 2
    chosen = exported_copy.run("rte")
    record = read_mapping(chosen.marker)
    del record["record_sha256"]  # as of a run that has the other score
    write_json(chosen.marker, record | {"scores": {"accuracy": 0.01}})
    assert not is_current(study, "rte") and is_current(study, "judge")
    assert exported_copy.run("rte") == chosen, "nothing is written by looking"
    (line,) = lines_of(study, task="rte")
    assert "is complete: rte" in line and exported_copy.run("rte") != chosen and is_current(study, "rte")


def test_a_licence_or_a_title_that_changed_makes_the_card_again(exported_copy: Exported) -> None:
    assert not is_current(plan_trained(encoder={"licence": "apache-2.0"}), "rte")
    assert not is_current(plan_trained(methods={"soft": {"title": "Another title"}}), "rte")


def test_a_method_asked_for_by_name_is_not_the_best_student(exported_copy: Exported) -> None:
    # Not even if it is the best: its card states that it was asked for.
    lines_of(exported_copy.study, task="rte", method=exported_copy.run("rte").method.name)
    assert exported_copy.record("rte")["choice"]["method_given"] and not is_current(exported_copy.study, "rte")
    assert ["complete already" in line for line in lines_of(exported_copy.study)] == [True, False]
    assert is_current(exported_copy.study, "rte")


def test_an_export_that_lost_a_file_is_made_again(exported_copy: Exported) -> None:
    names = ["model/model.safetensors", "onnx/model-int8.onnx", "submission/RTE.tsv", "params.yaml"]
    files = {file: file.read_bytes() for file in (exported_copy.path("rte", name) for name in names)}
    for file, content in files.items():
        file.unlink()
        assert not is_current(exported_copy.study, "rte"), file
        file.write_bytes(b"cut short")
        assert not is_current(exported_copy.study, "rte"), file
        file.write_bytes(content)
        assert is_current(exported_copy.study, "rte"), file
    for file in files:
        file.write_bytes(b"cut short")
    assert "is complete: rte" in lines_of(exported_copy.study, task="rte")[0]
    assert {file: file.stat().st_size for file in files} == {file: len(content) for file, content in files.items()}


def test_a_card_may_be_edited_but_not_be_gone(exported_copy: Exported) -> None:
    card = exported_copy.path("rte", CARD)
    card.write_text(card.read_text() + "\nContact: the authors.\n")
    lines_of(exported_copy.study, task="rte")
    assert "Contact: the authors." in card.read_text()
    card.unlink()
    assert not is_current(exported_copy.study, "rte")


@pytest.mark.parametrize(("name", "other"), [("RECIPE", 999), ("version", lambda package: "0.0")])
def test_another_recipe_or_version_makes_an_export_stale(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, name: str, other: object
) -> None:
    assert is_current(exported.study, "rte")
    monkeypatch.setattr(folders, name, other)
    assert not is_current(exported.study, "rte")


def test_what_is_not_a_complete_export_is_not_believed(exported_copy: Exported) -> None:
    path = export_path(exported_copy.study, "rte")
    complete = exported_copy.record("rte")
    for broken in ("", "[]", "{}", json.dumps(complete | {"files": [1]}), json.dumps(complete | {"made_from": "key"})):
        path.write_text(broken)
        assert not is_current(exported_copy.study, "rte"), broken
    path.write_text(json.dumps(complete))
    assert is_current(exported_copy.study, "rte")


def test_predictions_that_are_not_the_best_students_stay_out_of_the_archive(exported_copy: Exported) -> None:
    def packed() -> list[str]:
        with zipfile.ZipFile(exported_copy.study.folder / "export/submission.zip") as archive:
            return archive.namelist()

    study = exported_copy.study
    lines = lines_of(study, task="rte", method="finetuned")
    assert packed() == ["RTE.tsv"] and not any("leaves out" in line for line in lines), "just made"
    assert "submission.zip leaves out rte" in lines_of(study, task="judge")[-1]
    assert exported_copy.path("rte", "submission/RTE.tsv").is_file()
    assert not (study.folder / "export/submission.zip").exists()
    lines_of(study, task="rte")
    assert "leaves out" not in lines_of(study, task="judge")[-1] and packed() == ["RTE.tsv"]

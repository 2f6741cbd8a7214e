"""What no study needs is listed, and deleted only on request and only if nobody can need it."""

import os
import shutil
from pathlib import Path

import pytest

from completed import complete_everything
from internal_kd.command_line import main
from internal_kd.held import held
from internal_kd.plan.study import Study
from internal_kd.running.dvc import remember_study
from internal_kd.running.make import lock_of
from tiny_study import OVERLAY, complete, write_overlay


@pytest.fixture
def overlay(study: Study) -> Path:
    """The tiny study's overlay, in config/, where gc looks."""
    Path("config").mkdir()
    return Path(OVERLAY).rename("config/tiny.yaml")


def gc(*arguments: str) -> int:
    return main(["gc", *arguments])


def everything(study: Study) -> set[Path]:
    return {artefact.folder for artefact in study.artefacts.values()}


def test_what_a_study_needs_is_never_listed(study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete_everything(study)
    assert gc("--delete") == 0
    assert capsys.readouterr().out == "everything here is needed by a study\n"
    assert all(folder.is_dir() for folder in everything(study))


def test_a_study_that_is_named_is_needed_wherever_its_overlay_lies(study: Study, overlay: Path) -> None:
    complete(*study.runs)
    elsewhere = overlay.rename("elsewhere.yaml")
    assert gc("--delete", "--configfile", str(elsewhere)) == 0
    assert all(run.folder.exists() for run in study.runs)
    assert gc("--delete") == 0
    assert not any(run.folder.exists() for run in study.runs)


def test_what_no_study_needs_is_listed_and_deleted_only_on_request(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_everything(study)
    unneeded = {run.folder for run in study.runs if run.seed == 2}
    overlay.unlink()
    write_overlay(Path(), study={"seeds": [1]})
    Path(OVERLAY).rename(overlay)
    assert gc("--delete") == 0
    shown = capsys.readouterr().out
    assert f"{study.folder} was made from {len(unneeded)} runs" in shown
    assert all(folder.is_dir() for folder in unneeded)
    shutil.rmtree(study.folder)
    assert gc() == 0
    listed = capsys.readouterr().out
    assert all(str(folder) in listed for folder in unneeded) and "`internal-kd gc --delete`" in listed
    assert all(folder.is_dir() for folder in everything(study))
    assert gc("--delete") == 0
    assert {folder for folder in everything(study) if not folder.is_dir()} == unneeded
    assert "removed" in capsys.readouterr().out


def test_answers_recorded_for_other_needs_are_not_needed(study: Study, overlay: Path) -> None:
    complete_everything(study)
    (answers,) = {part.folder for run in study.runs for part in run.parts}
    other = answers.with_name("01234567")
    shutil.copytree(answers, other)
    assert gc("--delete") == 0
    assert answers.is_dir() and not other.exists()


def test_folders_left_empty_go_too(study: Study, overlay: Path) -> None:
    complete(*study.runs)
    overlay.write_text("{}")
    assert gc("--delete") == 0
    assert Path("results/runs").is_dir() and not Path("results/runs/judge").exists()


def test_checkpoints_progress_and_locks_serve_only_what_is_not_complete(study: Study, overlay: Path) -> None:
    done, left = study.runs[-2:]
    complete(done)
    places = []
    for run in (done, left):
        progress = Path(f"work/progress/{run.fingerprint}.json")
        places.append([run.checkpoints / "state", progress, progress.with_suffix(".jsonl"), lock_of(run)])
        for path in places[-1]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
    assert gc("--delete") == 0
    assert not any(path.exists() for path in places[0]) and all(path.exists() for path in places[1])


def test_half_written_folders_go_once_nobody_makes_them(study: Study, overlay: Path) -> None:
    needed, unneeded = study.runs[:2]
    answers = next(part for run in study.runs for part in run.parts)
    left = []
    for artefact in (needed, unneeded, answers):
        left.append(artefact.folder.with_name(f".{artefact.folder.name}.{os.getpid()}.aaaaaa.tmp"))
        left[-1].mkdir(parents=True)
        (left[-1] / "part").write_text("x")
    with held(lock_of(needed)), held(lock_of(answers)):
        assert gc("--delete") == 0
    assert [path.exists() for path in left] == [True, False, True]
    assert gc("--delete") == 0
    assert not any(path.exists() for path in left)


def test_a_study_composed_on_the_command_line_is_needed_until_its_file_goes(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_everything(study)
    snapshot = Path("snapshot.yaml")
    assert main(["params", "--overlay", str(overlay)]) == 0
    snapshot.write_text(capsys.readouterr().out)
    overlay.unlink()
    remember_study(study, snapshot, described=False, started=True)
    assert gc("--delete") == 0
    shown = capsys.readouterr().out
    assert f"work/studies/{study.name}.yaml" in shown and "everything here is needed" in shown
    Path(f"work/studies/{study.name}.yaml").unlink()
    shutil.rmtree(study.folder)
    assert gc("--delete") == 0
    assert not any(folder.exists() for folder in everything(study))


def test_nothing_is_removed_while_an_overlay_cannot_be_planned(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(*study.runs)
    overlay.write_text("encoder: {name: a, source: folder, path: nowhere}\n")
    assert gc() == 0
    assert "config/tiny.yaml" in capsys.readouterr().out
    Path("config/other.yaml").write_text("defaults: {max_length: 0}\n")
    assert gc("--delete") == 1
    assert "--ignore config/other.yaml --ignore config/tiny.yaml" in capsys.readouterr().err
    assert gc("--delete", "--ignore", "config/otter.yaml", "config/tiny.yaml") == 1
    assert "--ignore: config/otter.yaml" in (line := capsys.readouterr().err) and "'config/other.yaml'?" in line
    assert study.runs[0].folder.is_dir()
    assert gc("--delete", "--ignore", "config/other.yaml", "config/tiny.yaml") == 0
    assert not study.runs[0].folder.exists()


def test_nothing_is_removed_while_something_unknown_is_being_made(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(*study.runs)
    overlay.write_text("{}")
    run = study.runs[0]
    with held(lock_of(run), {"what": run.label}):
        assert gc("--delete") == 1
    assert f"{run.label} ({run.fingerprint})" in capsys.readouterr().err
    assert study.runs[1].folder.is_dir()

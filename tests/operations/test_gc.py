import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_progress import report

from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.cli import main
from internal_kd.operations.gc import readable
from internal_kd.operations.wanted import remember_study
from internal_kd.study import Study
from tiny_study import OVERLAY, complete, complete_everything, write_overlay


@pytest.fixture
def overlay(study: Study) -> Path:
    """The tiny study as one of the project's overlays."""
    Path("config").mkdir()
    return Path(OVERLAY).rename("config/tiny.yaml")


def collect(*arguments: str) -> int:
    return main(["gc", *arguments])


def everything(study: Study) -> set[Path]:
    return {artefact.folder for artefact in Catalogue(study).by_fingerprint.values()}


def test_what_a_study_wants_is_never_listed(study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete_everything(study)
    assert collect("--delete") == 0
    assert capsys.readouterr().out == "nothing lies here that no study wants\n"
    assert all(folder.is_dir() for folder in everything(study))


def test_what_no_study_wants_is_listed_and_deleted_only_on_request(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_everything(study)
    unwanted = {run.folder for run in study.students if run.seed == 2}
    overlay.unlink()
    write_overlay(Path(), study={"seeds": [1]})
    Path(OVERLAY).rename(overlay)
    assert collect("--delete") == 0
    kept = f"{study.folder} was made from {len(unwanted)} runs that no study here wants: they are kept while it is"
    assert kept in capsys.readouterr().out and all(folder.is_dir() for folder in unwanted)
    shutil.rmtree(study.folder)
    assert collect() == 0
    listed = capsys.readouterr().out
    assert all(str(folder) in listed for folder in unwanted) and "`internal-kd gc --delete` removes them" in listed
    assert all(folder.is_dir() for folder in everything(study))
    assert collect("--delete") == 0
    assert {folder for folder in everything(study) if not folder.is_dir()} == unwanted
    assert "removed" in capsys.readouterr().out


def test_folders_left_empty_go_too(study: Study, overlay: Path) -> None:
    complete(*study.students)
    overlay.write_text("{}")
    assert collect("--delete") == 0
    assert Path("results/runs").is_dir() and not Path("results/runs/students/judge").exists()


def test_checkpoints_serve_only_what_is_not_complete(study: Study, overlay: Path) -> None:
    done, left = study.students[:2]
    complete(done)
    for run in (done, left):
        run.checkpoints.mkdir(parents=True)
        (run.checkpoints / "state").write_text("x")
    assert collect("--delete") == 0
    assert not done.checkpoints.exists() and left.checkpoints.is_dir()


def test_half_written_folders_go_when_their_writer_is_gone_for_a_day(study: Study, overlay: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = study.students[0].folder
    fresh, old, alive = (
        folder.with_name(f".{folder.name}.{pid}.{tag}.tmp")
        for pid, tag in ((ended.pid, "aaaaaa"), (ended.pid, "bbbbbb"), (os.getpid(), "cccccc"))
    )
    for path in (fresh, old, alive):
        path.mkdir(parents=True)
        (path / "part").write_text("x")
    yesterday = time.time() - 25 * 3600
    for path in (old, alive):
        os.utime(path / "part", (yesterday, yesterday))
    assert collect("--delete") == 0
    assert fresh.is_dir() and alive.is_dir() and not old.exists()


def test_a_study_composed_on_the_command_line_is_wanted_until_it_is_let_go(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete_everything(study)
    snapshot = Path("snapshot.yaml")
    assert main(["params", "--overlay", str(overlay)]) == 0
    snapshot.write_text(capsys.readouterr().out)
    overlay.unlink()
    remember_study(study, snapshot, described=False, started=True)
    assert collect("--delete") == 0
    said = capsys.readouterr().out
    assert f"work/studies/{study.name}.yaml" in said and "nothing lies here that no study wants" in said
    remember_study(study, snapshot, described=True, started=False)
    assert Path(f"work/studies/{study.name}.yaml").is_file(), "another study of that name was only planned"
    remember_study(study, snapshot, described=True, started=True)
    shutil.rmtree(study.folder)
    assert collect("--delete") == 0
    assert not any(folder.exists() for folder in everything(study))


def test_nothing_is_removed_while_an_overlay_cannot_be_planned(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(*study.students)
    overlay.write_text("encoder: {source: folder, path: nowhere}\n")
    assert collect() == 0
    assert "what config/tiny.yaml wants is not known here" in capsys.readouterr().out
    Path("config/other.yaml").write_text("tokens: {max_length: 0}\n")
    assert collect("--delete") == 1
    assert "--ignore config/other.yaml --ignore config/tiny.yaml" in capsys.readouterr().err
    assert study.students[0].folder.is_dir()
    assert collect("--delete", "--ignore", "config/other.yaml", "--ignore", "config/tiny.yaml") == 0
    assert not study.students[0].folder.exists()


def test_nothing_is_removed_while_an_unknown_study_is_being_trained(
    study: Study, overlay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(*study.students)
    overlay.write_text("{}")
    report(study.students[0], pid=os.getpid())
    assert collect("--delete") == 1
    assert f"{study.students[0].label} ({study.students[0].fingerprint}) is being trained" in capsys.readouterr().err
    assert study.students[1].folder.is_dir()


@pytest.mark.parametrize(("size", "shown"), [(12, "12 B"), (1500, "1.5 kB"), (2_500_000_000, "2.5 GB")])
def test_sizes_are_said_as_people_do(size: int, shown: str) -> None:
    assert readable(size) == shown

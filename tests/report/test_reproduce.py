"""The command in the report makes the study that the report is about."""

import shlex
from itertools import pairwise
from pathlib import Path

import made_runs
import pytest

from internal_kd.params import load_params
from internal_kd.plan.study import plan_study
from internal_kd.report.frames import tables_folder
from internal_kd.report.reproduce import command, overlays_of

CASES = [
    (),
    ("config/demo.yaml",),
    ("config/experiments/depth.yaml",),
    ("config/glue-local.yaml", "config/two-cores/main.yaml"),
    ("config/glue-local.yaml", "config/two-cores/main.yaml", "config/two-cores/depth.yaml"),
]


class Planned:
    """A study by its parameters alone, as nothing of it is needed on disk."""

    def __init__(self, overlays):
        self.params = load_params("params.yaml", overlays)
        self.name = self.params.study.name
        self.folder = Path("results") / self.name


@pytest.mark.parametrize("overlays", CASES, ids=lambda overlays: overlays[-1] if overlays else "params.yaml")
def test_the_overlays_of_a_study_are_found(overlays, monkeypatch):
    monkeypatch.chdir(made_runs.ROOT)
    study = Planned(overlays)
    assert overlays_of(study) == tuple(map(Path, overlays))
    arguments = shlex.split(command(study))
    named = [value for flag, value in pairwise(arguments) if flag == "--overlay"]
    assert load_params("params.yaml", named) == study.params


def test_what_no_overlay_means_is_made_from_its_own_copy(project):
    study = made_runs.plan()
    (project / "params.yaml").write_text((made_runs.ROOT / "params.yaml").read_text())
    assert overlays_of(study) is None
    copy = tables_folder(study) / "params.yaml"
    assert command(study).endswith(f"--overlay {copy.as_posix()}")
    copy.parent.mkdir(parents=True)
    copy.write_text(study.as_yaml())
    again = plan_study(load_params("params.yaml", [copy]))
    assert [run.fingerprint for run in again.runs] == [run.fingerprint for run in study.runs]

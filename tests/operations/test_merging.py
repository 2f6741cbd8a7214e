from pathlib import Path

import pytest

from internal_kd.operations.cli import main
from internal_kd.params import load_params
from internal_kd.study import Study
from tiny_study import OVERLAY


def test_a_study_in_one_piece_is_the_study_of_its_parts(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    parts = load_params("params.yaml", [OVERLAY])
    assert main(["params", "--overlay", OVERLAY]) == 0
    Path("whole.yaml").write_text(capsys.readouterr().out)
    assert load_params("whole.yaml") == parts
    assert main(["params", "--overlay", OVERLAY, "--write"]) == 0
    assert load_params("params.yaml") == parts


def test_what_is_no_study_is_not_written(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("params.yaml").read_bytes()
    Path("wrong.yaml").write_text("study: {sede: 1}")
    assert main(["params", "--overlay", "wrong.yaml", "--write"]) == 1
    assert "unknown parameter 'sede'" in capsys.readouterr().err
    assert Path("params.yaml").read_bytes() == before

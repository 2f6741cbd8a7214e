"""Every depth of a study is measured beside the teacher's, on this machine, and remembered."""

from pathlib import Path

import pytest
from made_study import plan

from internal_kd.analysis.built import built_from_path
from internal_kd.analysis.latency import BATCH, ONE, latency_path, read_latencies
from internal_kd.analysis.scoring import score_runs
from internal_kd.deployment import measure_latency as measuring
from internal_kd.deployment.measure_latency import measure_latency
from internal_kd.deployment.timing import LEAST_ROUNDS, machine_name
from internal_kd.errors import UserError
from internal_kd.operations.catalogue import Catalogue
from internal_kd.operations.making import make
from internal_kd.study import Study
from tiny_study import make_encoder


@pytest.fixture
def study(project: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study with data and encoder, and not one run."""
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    make_encoder(Path("encoder"))
    study = plan(study={"tasks": ["judge"], "depths": [1, 2, 4]}, student={"epochs": 5})
    tokens = study.tasks["judge"]
    make(tokens.data, Catalogue(study))
    make(tokens.encoder, Catalogue(study))
    return study


def test_every_depth_has_a_row_for_one_example_and_for_a_batch(study: Study) -> None:
    measure_latency(study)
    rows = read_latencies(study)
    assert set(rows) == {("judge", depth, batch) for depth in (4, 2, 1) for batch in (ONE, BATCH)}
    teacher, smallest = rows["judge", 4, ONE], rows["judge", 1, ONE]
    assert teacher.speed_up == 1 and smallest.speed_up > 1
    for row in rows.values():
        assert 0 < row.low_ms <= row.median_ms <= row.high_ms and row.rounds == LEAST_ROUNDS
        assert (row.threads, row.precision, row.machine) == (1, "fp32", machine_name())
        assert 4 <= row.tokens <= 24 and "torch" in row.versions


def test_what_was_measured_here_is_not_measured_again_unless_asked(study: Study) -> None:
    first = measure_latency(study).read_text()
    assert measure_latency(study).read_text() == first
    assert measure_latency(study, again=True).read_text() != first


def test_tables_beside_it_are_told_to_be_made_anew(study: Study) -> None:
    score_runs(study)
    assert built_from_path(study).is_file()
    measure_latency(study)
    assert not built_from_path(study).is_file()


def test_without_an_encoder_there_are_no_rows_and_no_error(study: Study) -> None:
    make_away = study.tasks["judge"].encoder.folder
    make_away.rename("elsewhere")
    assert measure_latency(study).read_text().count("\n") == 1
    assert read_latencies(study) == {}


def test_a_table_cut_short_is_named(study: Study) -> None:
    path = measure_latency(study)
    path.write_text(path.read_text().replace("fp32", "fp32,more", 1).replace("rounds", "laps"))
    with pytest.raises(UserError, match=r"latency\.csv is not whole"):
        read_latencies(study)
    latency_path(study).unlink()
    assert read_latencies(study) == {}

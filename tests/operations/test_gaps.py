"""What is said of a study whose runs are not all there; tests/workflow makes the results of one."""

from pathlib import Path

from internal_kd.operations.gaps import way_on
from internal_kd.study import Study
from tiny_study import complete


def test_the_way_on_is_told_where_some_runs_are_there_and_others_not(study: Study) -> None:
    params = Path("work/params/0.yaml")
    assert way_on(study, params) is None
    complete(*study.runs[:3])
    line = str(way_on(study, params))
    assert line.startswith("5 of 8 runs are missing.")
    assert line.endswith("internal-kd results --params work/params/0.yaml")
    complete(*study.runs)
    assert way_on(study, params) is None

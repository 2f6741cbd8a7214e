"""Score against size and against measured latency."""

import pytest
from fake_runs import SMALL, plan, write_study
from matplotlib import rc_context
from matplotlib.image import imread

from internal_kd.analysis.comparisons import compare_runs
from internal_kd.analysis.latency import LatencyRow, write_latencies
from internal_kd.analysis.scoring import score_runs
from internal_kd.analysis.sweeps import pareto_front, plot_depth
from internal_kd.params import merge


def test_the_front_is_what_nothing_beats_without_being_slower():
    points = [(1.0, 50.0), (2.0, 45.0), (2.0, 60.0), (3.0, 60.0), (4.0, 90.0), (5.0, 89.0)]
    assert pareto_front(points) == [(1.0, 50.0), (2.0, 60.0), (4.0, 90.0)]
    assert pareto_front([(3.0, 1.0)]) == [(3.0, 1.0)]
    assert pareto_front([]) == []


def rows(tokens=12):
    for layers, ms in ((6, 8.0), (3, 4.2), (1, 1.5)):
        for batch in (1, 32):
            common = (8.0 / ms, 1, "fp32", "a machine, 2 logical cores", "torch 2")
            yield LatencyRow(
                "entailment", tokens, layers, batch, 9, ms * batch, ms * batch * 0.9, ms * batch * 1.2, *common
            )


@pytest.mark.parametrize("measured", [True, False])
def test_the_depth_figure_has_a_panel_for_parameters_and_one_for_latency(project, measured):
    study = write_study(plan(**merge(SMALL, {"study": {"depths": [1, 3]}})))
    if measured:
        write_latencies(study, rows())
    score_runs(study)
    compare_runs(study)
    svg = plot_depth(study).with_suffix(".svg").read_bytes()
    height, width = imread(plot_depth(study)).shape[:2]
    assert width > 1.8 * height
    assert plot_depth(study).with_suffix(".svg").read_bytes() == svg
    with rc_context({"svg.fonttype": "none"}):
        said = plot_depth(study).with_suffix(".svg").read_text()
    assert said.count("Students: 400 examples") == 2
    assert ("not measured" in said) is not measured

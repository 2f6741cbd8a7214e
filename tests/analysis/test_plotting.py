"""What all figures share."""

import pytest
from matplotlib.lines import Line2D

from internal_kd.analysis.plotting import legend_below, panels


@pytest.mark.parametrize(("wide", "columns"), [(1, 2), (3, 3)])
def test_a_legend_is_never_wider_than_its_figure(wide, columns):
    figure, _ = panels(1, wide, 4.6, 3.0)
    titles = ("2.0 Fine-tuned without a teacher", "3.0 Soft labels (standard KD)", "3.3 + KL + cosine, all layers")
    legend_below(figure, [Line2D([], [], marker="o", label=title) for title in titles])
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
    assert legend._ncols == columns

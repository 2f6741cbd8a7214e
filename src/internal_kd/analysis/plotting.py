"""How every figure looks and is saved: markers and line styles beside colour, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from internal_kd.analysis.built import figure_paths
from internal_kd.files import replacing
from internal_kd.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, safe for colour-blind readers, in an order whose greys alternate between dark and light.
COLOURS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#7F7F7F")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (4, 2, 1, 2)))


def style_of(position: int) -> dict[str, Any]:
    """Return colour, marker and line style of the method at a position of the study's list."""
    return {
        "color": COLOURS[position % len(COLOURS)],
        "marker": MARKERS[position % len(MARKERS)],
        "linestyle": LINES[position % len(LINES)],
    }


def panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure of rows x columns panels, each of ``width`` x ``height`` inches."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    matplotlib.rcParams.update(
        {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "internal-kd"}
    )
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained"
    )
    return figure, [list(line) for line in axes]


def plain_ticks(axis: Axis) -> None:
    """Write the ticks of a logarithmic axis as plain numbers, few enough to be read."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())


def say_empty(axis: Axes, why: str = "not run yet") -> None:
    """Say in a panel why there is nothing to draw, instead of showing an empty scale."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", style="italic")
    axis.set_xticks([])
    axis.set_yticks([])


def legend_below(figure: Figure, handles: Sequence[Any], columns: int = 3) -> None:
    """Put one legend under all panels, in as many columns, up to ``columns``, as the figure is wide enough for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    for number in range(columns, 0, -1):
        legend = figure.legend(
            handles=list(handles), loc="outside lower center", ncols=number, frameon=False, fontsize=8
        )
        if number == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def save(figure: Figure, study: Study, name: str, key: str) -> None:
    """Write ``figures/<name>.png`` and ``.svg``, stamped with the scores' key and without dates."""
    import matplotlib.pyplot as plt
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    # The canvases themselves: savefig draws everything twice, to the same bytes.
    figure.set_dpi(160)
    png, svg = figure_paths(study, name)
    with replacing(png) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None, "Description": key})
    with replacing(svg) as temporary:
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None, "Description": key})
    plt.close(figure)

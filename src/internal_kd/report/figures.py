"""What every figure needs: panels, files, legends. How they look is in matplotlibrc."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any, Literal

from internal_kd.files import replacing
from internal_kd.plan.study import Study
from internal_kd.report.study_frames import StudyFrames

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MATPLOTLIBRC = Path(__file__).with_name("matplotlibrc")
TYPES = ("svg", "png")
ALL_TASKS = "All tasks"
SOFT = "#707070"
# Tasks with a panel each; of more, figures show the mean.
MOST_PANELS = 4


def figure_paths(study: Study, name: str) -> tuple[Path, ...]:
    """``results/<study>/figures/<name>.svg`` and ``.png``."""
    return tuple(study.folder / "figures" / f"{name}.{kind}" for kind in TYPES)


def look() -> AbstractContextManager[None]:
    """Draw with the settings of matplotlibrc inside the block."""
    import matplotlib

    return matplotlib.rc_context(fname=MATPLOTLIBRC)


def panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of rows x columns panels of ``width`` x ``height`` inches each, and the panels in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows))
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def grid(number: int, most: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure of a number of panels, at most so many side by side, likewise."""
    columns = min(most, number)
    figure, axes = panels(-(-number // columns), columns, width, height, **options)
    for axis in axes[number:]:
        axis.axis("off")
    return figure, axes[:number]


def save(study: Study, name: str, figure: Figure) -> None:
    """Write a figure as SVG and PNG, without dates."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    svg, png = figure_paths(study, name)
    # The canvases themselves, with one layout for both: savefig would draw everything twice, to the same bytes.
    with replacing(png) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    figure.set_layout_engine("none")
    with replacing(svg) as temporary:
        FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})


def nothing_to_draw(why: str = "not run yet") -> Figure:
    """Return a figure that says why it is empty."""
    figure, axes = panels(1, 1, 6.4, 1.0)
    say_empty(axes[0], why)
    return figure


def say_empty(axis: Axes, why: str = "not run yet") -> None:
    """Write into a panel why there is nothing to draw."""
    axis.text(0.5, 0.5, why, transform=axis.transAxes, ha="center", va="center", style="italic", color=SOFT)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(False)


def logarithmic(panel: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with plain numbers: the usual labels are formulas, which are not drawn."""
    from matplotlib.ticker import LogLocator, NullFormatter

    panel.set(**{f"{which}scale": "log"})
    axis = panel.xaxis if which == "x" else panel.yaxis
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 20 * low else (1.0,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_below(figure: Figure, frames: StudyFrames, ids: Iterable[str], more: Sequence[Any] = ()) -> None:
    """Put a legend of rows under a figure."""
    from matplotlib.lines import Line2D

    methods, shown = frames.study.methods.values(), set(ids)
    handles = [
        Line2D([], [], **frames.styles[m.id].line, label=shorten(m.label, 44, placeholder=" …"))
        for m in methods
        if m.id in shown
    ]
    columns = max(1, int(figure.get_figwidth() / 2.6))
    figure.set_figheight(figure.get_figheight() + 0.19 * max(0, -(-len(handles) // columns) - 3))
    figure.legend(handles=[*handles, *more], loc="outside lower center", ncols=columns, fontsize=8, frameon=False)

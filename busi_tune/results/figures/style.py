"""One look for all figures: a two-column page wide, readable in grey and without red and green."""

import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from busi_tune.run_directory import write_atomic

PAGE_WIDTH = 7.1
"""Inches; 180 mm, the text of a two-column journal page."""

INK, GREY, LIGHT = "#222222", "#767676", "#D0D0D0"
SCORE_LIMITS = (-0.02, 1.02)
"""The whole range of a score, with room for a line at either end."""

TRAIN, VALIDATION = "#E69F00", "#0072B2"
TRUTH, PREDICTION = "#56B4E9", "#E69F00"

_CAPTION_WIDTH = 140  # characters of 7 points on a page

# Okabe and Ito's colours, ordered so that neighbours also differ in lightness.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#222222")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_SETTINGS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LIGHT,
    "grid.linewidth": 0.4,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "figure.titlesize": 9,
    "figure.titleweight": "bold",
    "savefig.facecolor": "white",
    # The same figure gives the same file.
    "svg.hashsalt": "busi_tune",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw and save in the project's look; matplotlib's own settings come back at the end."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def new_figure(height: float, width: float = PAGE_WIDTH) -> Figure:
    """Make a figure of a size in inches, outside pyplot's global state."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_panels(
    number: int, across: str, *, base: float, row_height: float
) -> tuple[Figure, list[Axes]]:
    """Make a figure of Dice panels that share their axes, at most three to a row.

    Args:
        number: of panels; what is left of the last row stays empty.
        across: label below the last row.
        base: height in inches of what is not panels.
        row_height: of a row of panels.
    """
    columns = min(3, number)
    rows = -(-number // columns)
    figure = new_figure(height=base + row_height * rows)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels[-1]:
        axes.set_xlabel(across)
    for axes in panels[:, 0]:
        axes.set_ylabel("Dice")
        axes.set_ylim(*SCORE_LIMITS)
    for axes in panels.flat[number:]:
        axes.set_visible(False)
    return figure, list(panels.flat[:number])


def set_title(figure: Figure, title: str, details: str) -> None:
    """Put a bold title above a figure and what a reader must know below it."""
    figure.suptitle(title, x=0.01, ha="left")
    figure.supxlabel(textwrap.fill(details, _CAPTION_WIDTH), x=0.01, ha="left", fontsize=7)


def frame_image(axes: Axes) -> None:
    """Leave nothing of the axes but a thin line, which parts a white image from the page."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=GREY, linewidth=0.4)


def save_figure(figure: Figure, folder: Path, name: str, *, vector: bool = True) -> None:
    """Write a figure as PNG at 200 dpi, and as SVG where it is not made of images."""
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine("none")  # once is enough for both files
    for ending, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        if ending == "png" or vector:
            content = io.BytesIO()
            figure.savefig(content, format=ending, dpi=200, metadata=metadata)
            write_atomic(folder / f"{name}.{ending}", content.getvalue())

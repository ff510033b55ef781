"""What all figures share: one style, colors, sizes, legends, and saving whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.textpath import TextPath
from matplotlib.transforms import ScaledTranslation

from mimic.schema import TRAIN, VALIDATION

__all__ = [
    "COLORS",
    "MARKERS",
    "MAX_LEGEND",
    "NULL_COLOR",
    "RUNNING_COLOR",
    "SPLIT_LINES",
    "WIDTH_CM",
    "legend_below",
    "legend_columns",
    "legend_outside",
    "model_colors",
    "new_figure",
    "root_figure",
    "save_figure",
    "set_wrapped_title",
    "style",
]

# Okabe and Ito's colors without black (text) and yellow (too pale for lines), then darker ones of Paul Tol's.
COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#999933",
    "#332288",
    "#8C564B",
    "#44AA99",
    "#5F5F5F",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
RUNNING_COLOR = "0.6"
NULL_COLOR = "0.25"
SPLIT_LINES: dict[str, Any] = {TRAIN: "-", VALIDATION: (0, (3.2, 1.4))}
MAX_LEGEND = 12
WIDTH_CM = 10.0


@contextmanager
def style() -> Iterator[None]:
    """Within it, figures get the look of mimic; every function here enters it by itself.

    Nothing global changes: matplotlib's settings are as before when the block ends.
    """
    settings: dict[Any, Any] = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 8.0,
        "axes.labelsize": 8.0,
        "axes.titlesize": 8.0,
        "xtick.labelsize": 7.0,
        "ytick.labelsize": 7.0,
        "legend.fontsize": 7.0,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "axes.linewidth": 0.6,
        "axes.edgecolor": "0.15",
        "axes.titlelocation": "left",
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 2.5,
        "ytick.major.size": 2.5,
        "lines.linewidth": 1.2,
        "axes.prop_cycle": cycler(color=COLORS),
        "savefig.dpi": 200,
        "pdf.fonttype": 42,
        "svg.fonttype": "none",
    }
    with sns.axes_style("ticks"), mpl.rc_context(settings):
        yield


def model_colors(models: Sequence[str]) -> dict[str, str]:
    """The color of each model, by the order given: hand the same order to every figure of a study."""
    return {model: COLORS[i % len(COLORS)] for i, model in enumerate(dict.fromkeys(models))}


def save_figure(figure: Figure | Axes, path: str | Path) -> Path:
    """The path of the figure, saved (PNG at 200 dpi, or by suffix PDF, SVG) whole or not at all, and closed.

    The folder is made where it does not exist; a file of that name is replaced.

    Raises
    ------
    ValueError
        If the suffix is no format of matplotlib.
    """
    path = Path(path)
    whole = root_figure(figure) if isinstance(figure, Axes) else figure
    known = whole.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"expected a file name that ends in .png, .pdf or .svg; got {path.name}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with style():
            whole.savefig(temporary, dpi=200)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
        plt.close(whole)
    return path


def new_figure(
    width_cm: float = WIDTH_CM, height_cm: float = 7.0, *, layout: Literal["constrained", "compressed"] = "constrained"
) -> Figure:
    """An empty figure of a size in cm whose layout keeps labels from being cut off or lying on each other.

    "compressed" is the layout for panels of fixed shape: maps.
    """
    return plt.figure(figsize=(width_cm / 2.54, height_cm / 2.54), layout=layout)


def root_figure(ax: Axes) -> Figure:
    """The whole figure that the axes are in, also from within a subfigure."""
    figure = ax.get_figure()
    figure = figure.figure if isinstance(figure, SubFigure) else figure
    if not isinstance(figure, Figure):
        raise ValueError("expected axes that belong to a figure; these were removed from theirs.")
    return figure


def set_wrapped_title(ax: Axes, title: str, *, n_panels: int = 1, **look: Any) -> None:
    """A title in as many lines as the width of the axes, or of several panels side by side, asks for."""
    # The layout, when it comes, gives axes a little more than the default margins leave now.
    width_pt = 1.08 * n_panels * ax.get_position(original=True).width * root_figure(ax).get_figwidth() * 72
    lines = [""]
    for word in title.split():
        longer = f"{lines[-1]} {word}".strip()
        fits = not lines[-1] or _width_pt(longer, mpl.rcParams["axes.titlesize"], look.get("fontweight")) <= width_pt
        lines = [*lines[:-1], longer] if fits else [*lines, word]
    ax.set_title("\n".join(lines), **look)


def legend_below(ax: Axes, handles: Sequence[Artist], *, gap_pt: float = 20.0) -> Legend | None:
    """A legend under the axes and their tick labels (`gap_pt` high), in as many columns as fit; None without handles."""
    if not handles:
        return None
    figure = root_figure(ax)
    width_pt = ax.get_position(original=True).width * figure.get_figwidth() * 72
    return ax.legend(
        handles=list(handles),
        ncols=legend_columns(handles, width_pt),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -gap_pt / 72, figure.dpi_scale_trans),
        borderaxespad=0,
        columnspacing=1.2,
    )


def _width_pt(text: str, size: float, weight: str | None = None) -> float:
    """Width of a line of text, points."""
    return float(TextPath((0, 0), text or "-", size=size, prop=FontProperties(weight=weight)).get_extents().width)


def legend_columns(handles: Sequence[Artist], width_pt: float) -> int:
    """How many columns of a legend fit into a width."""
    size = mpl.rcParams["legend.fontsize"]
    longest = max(_width_pt(str(h.get_label()), size) for h in handles)
    return int(np.clip(width_pt / (longest + 4.5 * size), 1, len(handles)))


def legend_outside(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for all panels, below them."""
    columns = legend_columns(handles, figure.get_figwidth() * 72)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, columnspacing=1.2)

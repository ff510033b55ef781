"""What all figures share: one style, colors, sizes, legends, and saving whole or not at all."""

from __future__ import annotations

import os
import re
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

from mimic.palette import COLORS, COLUMN_CM, MARKERS, NULL_COLOR, PAGE_CM, RUNNING_COLOR, SPLIT_LINES, model_colors

__all__ = [
    "COLORS",
    "COLUMN_CM",
    "MARKERS",
    "MAX_LEGEND",
    "NULL_COLOR",
    "PAGE_CM",
    "RUNNING_COLOR",
    "SPLIT_LINES",
    "WIDTH_CM",
    "grow_by_legend",
    "labels_apart",
    "legend_below",
    "legend_columns",
    "legend_outside",
    "model_colors",
    "new_figure",
    "root_figure",
    "save_figure",
    "save_formats",
    "set_wrapped_title",
    "style",
    "text_width_pt",
    "wrap_labels",
    "wrapped",
]

MAX_LEGEND = 12
WIDTH_CM = 10.0

# Nothing in a file says when it was made: the same figure is the same bytes.
_TIMELESS: dict[str, dict[str, Any]] = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}


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
        "svg.fonttype": "path",  # SVG embeds no fonts: elsewhere another one, of other widths, would be taken
        "svg.hashsalt": "mimic",
    }
    with sns.axes_style("ticks"), mpl.rc_context(settings):
        yield


def save_figure(figure: Figure | Axes, path: str | Path) -> Path:
    """The path of the figure, saved (PNG at 200 dpi, or by suffix PDF, SVG) whole or not at all, and closed.

    The folder is made where it does not exist; a file of that name is replaced. PNG, PDF and SVG of the same figure
    are the same bytes each time.

    Raises
    ------
    ValueError
        If the suffix is no format of matplotlib.
    """
    path = Path(path)
    whole = root_figure(figure) if isinstance(figure, Axes) else figure
    if path.suffix[1:].lower() not in whole.canvas.get_supported_filetypes():
        raise ValueError(f"expected a file name that ends in .png, .pdf or .svg; got {path.name}.")
    _save_all(whole, [path], dpi=200)
    return path


def save_formats(
    figure: Figure | Axes, stem: str | Path, formats: Sequence[str] = ("pdf", "svg", "png")
) -> tuple[Path, ...]:
    """The paths of the figure, saved as `stem` with each format as its suffix, all of them or none, and closed.

    PNG has 300 dpi. Fonts are in the files: in PDF as TrueType (type 42), in SVG as outlines. The folder is made where
    it does not exist; files of these names are replaced. The same figure is the same bytes each time.

    Raises
    ------
    ValueError
        If there is no format, one is none of matplotlib's, or the stem ends in one already.

    Example
    -------
    >>> import tempfile
    >>> figure = new_figure(COLUMN_CM)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     [path.name for path in save_formats(figure, f"{folder}/groups", ["pdf", "png"])]
    ['groups.pdf', 'groups.png']
    """
    stem = Path(stem)
    whole = root_figure(figure) if isinstance(figure, Axes) else figure
    known = whole.canvas.get_supported_filetypes()
    unknown = [kind for kind in formats if kind not in known]
    if unknown or not formats:
        raise ValueError(f"expected formats such as pdf, svg and png; got {', '.join(unknown) or 'none'}.")
    if stem.suffix[1:].lower() in known:
        raise ValueError(f"expected a name without a suffix, as each format gives it one; got {stem.name}.")
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in dict.fromkeys(formats)]
    _save_all(whole, paths, dpi=300)
    return tuple(paths)


def _save_all(figure: Figure, paths: Sequence[Path], *, dpi: int) -> None:
    """All files under temporary names first: a failure leaves what was there. The figure is closed in any case."""
    temporaries = [path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}") for path in paths]
    try:
        for path, temporary in zip(paths, temporaries, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            with style():
                figure.savefig(temporary, dpi=dpi, metadata=_TIMELESS.get(path.suffix[1:].lower()))
            if len(paths) > 1:  # most of the time goes into the layout, and all formats shall have the same
                figure.set_layout_engine("none")
        for path, temporary in zip(paths, temporaries, strict=True):
            os.replace(temporary, path)
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)
        plt.close(figure)


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
    """A title in as many lines as the width of the axes, or of several panels side by side, asks for.

    Give axes their labels first: wide ones leave less room.
    """
    size, weight = mpl.rcParams["axes.titlesize"], look.get("fontweight")
    ax.set_title(wrapped(title, _room_pt(ax, n_panels), size=size, weight=weight), **look)


def wrap_labels(ax: Axes) -> None:
    """The labels of both axes in as many lines as its width and height ask for, units in one piece if they can be."""
    size = mpl.rcParams["axes.labelsize"]
    height_pt = ax.get_position(original=True).height * root_figure(ax).get_figheight() * 72
    if ax.get_ylabel():  # first, as more lines here leave less room there
        ax.set_ylabel(wrapped(ax.get_ylabel(), height_pt, size=size))
    if ax.get_xlabel():
        ax.set_xlabel(wrapped(ax.get_xlabel(), _room_pt(ax), size=size))


def wrapped(text: str, width_pt: float, *, size: float, weight: str | None = None) -> str:
    """A text in lines of at most some width, a unit at its end (", m s-1") in one piece if it can be.

    Words that are wider by themselves break after an underscore.
    """
    name, _, unit = text.rpartition(", ")
    lines = _lines(text, width_pt, size, weight)
    if name and not any(unit in line for line in lines) and text_width_pt(unit, size, weight) <= width_pt:
        lines = _lines(f"{name},\n{unit}", width_pt, size, weight)
    return "\n".join(lines)


def _lines(text: str, width_pt: float, size: float, weight: str | None) -> list[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        lines.append("")
        for word in line.split():
            parts = [word] if text_width_pt(word, size, weight) <= width_pt else re.findall(r"[^_]*_*", word)[:-1]
            for k, part in enumerate(parts):
                longer = f"{lines[-1]}{' ' if lines[-1] and k == 0 else ''}{part}"
                fits = not lines[-1] or text_width_pt(longer, size, weight) <= width_pt
                lines = [*lines[:-1], longer] if fits else [*lines, part]
    return lines


def text_width_pt(text: str, size: float, weight: str | None = None) -> float:
    """Width of a line of text, points."""
    return float(TextPath((0, 0), text or "-", size=size, prop=FontProperties(weight=weight)).get_extents().width)


def labels_apart(places_pt: Sequence[float], labels: Sequence[str], *, size: float | None = None) -> list[int]:
    """Which labels, centered at places along an axis, can be written without touching, from the first one on.

    Example
    -------
    >>> labels_apart([0.0, 5.0, 40.0], ["1,024", "2,048", "4,096"])
    [0, 2]
    """
    size = FontProperties(size=mpl.rcParams["xtick.labelsize"]).get_size_in_points() if size is None else size
    kept, end = [], -np.inf
    for k in np.argsort(places_pt, kind="stable").tolist():
        half = text_width_pt(labels[k], size) / 2
        if places_pt[k] - half >= end:
            kept.append(k)
            end = places_pt[k] + half + 0.4 * size
    return sorted(kept)


def legend_below(ax: Axes, handles: Sequence[Artist], *, gap_pt: float = 20.0) -> Legend | None:
    """A legend under the axes and their labels (`gap_pt` high, or as high as they are), in as many columns as fit.

    Long names are in several lines. None without handles. Give axes their labels first.
    """
    if not handles:
        return None
    figure = root_figure(ax)
    room_pt = min(ax.get_position(original=True).width * figure.get_figwidth() * 72, _room_pt(ax))
    written = ax.xaxis.get_tightbbox()
    if written is not None:
        gap_pt = max(gap_pt, (ax.bbox.y0 - written.y0) * 72 / figure.dpi + 2)
    return ax.legend(
        handles=list(handles),
        labels=_legend_labels(handles, room_pt),
        ncols=legend_columns(handles, room_pt),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -gap_pt / 72, figure.dpi_scale_trans),
        borderaxespad=0,
        columnspacing=1.2,
    )


def grow_by_legend(ax: Axes, *, usual_pt: float = 34.0) -> None:
    """Make the figure of the axes higher by what their legend is higher than usual: three lines."""
    legend, figure = ax.get_legend(), root_figure(ax)
    if legend is not None:
        height_pt = legend.get_window_extent().height * 72 / figure.dpi
        figure.set_figheight(figure.get_figheight() + max(0.0, height_pt - usual_pt) / 72)


def legend_outside(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for all panels, below them."""
    width_pt = figure.get_figwidth() * 72
    columns, labels = legend_columns(handles, width_pt), _legend_labels(handles, width_pt)
    look: dict[str, Any] = {"loc": "outside lower center", "ncols": columns, "columnspacing": 1.2}
    figure.legend(handles=list(handles), labels=labels, **look)


def legend_columns(handles: Sequence[Artist], width_pt: float) -> int:
    """How many columns of a legend fit into a width."""
    size = mpl.rcParams["legend.fontsize"]
    longest = max(text_width_pt(str(h.get_label()), size) for h in handles)
    return int(np.clip(width_pt / (longest + 4.5 * size), 1, len(handles)))


def _legend_labels(handles: Sequence[Artist], width_pt: float) -> list[str]:
    """The names of a legend, each in as many lines as a column of that width asks for."""
    size = mpl.rcParams["legend.fontsize"]
    return [wrapped(str(h.get_label()), width_pt - 4.0 * size, size=size) for h in handles]


def _room_pt(ax: Axes, n_panels: int = 1) -> float:
    """Width that the layout will leave axes, or panels side by side that begin with them, points."""
    figure_pt = root_figure(ax).get_figwidth() * 72
    # The layout, when it comes, gives axes a little more than the default margins leave now,
    usual_pt = 1.08 * n_panels * ax.get_position(original=True).width * figure_pt
    written = ax.yaxis.get_tightbbox()
    spec = ax.get_subplotspec()
    if written is None or spec is None or spec.get_gridspec().ncols > n_panels:
        return usual_pt
    # or less, where wide labels stand at their left.
    return min(usual_pt, figure_pt - (ax.bbox.x0 - written.x0) * 72 / root_figure(ax).dpi - 10.0)

"""Tidy tables into figures, in one style: training curves, groups; maps.py has the maps. Only draws what it is given."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from cycler import cycler
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from mimic.schema import TRAIN, VALIDATION, require_columns

__all__ = [
    "COLORS",
    "MAX_LEGEND",
    "SPLIT_LINES",
    "WIDTH_CM",
    "draw_groups",
    "draw_training_curves",
    "legend_below",
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

Loss = Literal["contrast", "decision"]


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
        ncols=_legend_columns(handles, width_pt),
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -gap_pt / 72, figure.dpi_scale_trans),
        borderaxespad=0,
        columnspacing=1.2,
    )


@style()
def draw_training_curves(
    history: pd.DataFrame,
    ax: Axes | None = None,
    *,
    running: Loss | Mapping[str, Loss] = "contrast",
    best_epoch: int | Mapping[str, int] | None = None,
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Axes | Figure:
    """Losses by epoch: the running loss that Keras prints (gray) beside the true loss of the frozen weights.

    Parameters
    ----------
    history
        epoch, loss, true_contrast_loss and, where known, val_true_contrast_loss, true_decision_loss,
        val_true_decision_loss, nats; with a column `model`, several models; with a column `fold`, the network of
        an ensemble that an epoch belongs to, NaN for other models. What is not finite is not drawn.
    ax
        Axes to draw one model in: the loss that it was trained on. By default a new figure of `width_cm` with a row
        for each model, and a column for the contrast loss and one for the decision loss where there is one.
    running
        The loss that all models were trained on, or model -> loss ("contrast" where it is not said): the running
        loss is drawn beside that one.
    best_epoch
        Epoch whose weights were kept, or model -> epoch. By default the first with the lowest true loss, in
        validation where there is one, of the kind that the model was trained on. Each network of an ensemble has
        one of its own, always this.
    colors
        model -> color; by default `model_colors` of the models in order.

    Returns
    -------
    The axes if they were given, otherwise the figure.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, an epoch of a network is there twice, a running loss is
        unknown, or axes are given for several models.

    Notes
    -----
    The networks of an ensemble are thin lines in one row. The steep fall of the first epochs may leave the panel at
    its top, so that the end can be told apart.
    """
    require_columns(list(history.columns), ["epoch", "loss", "true_contrast_loss"], where="history")
    if history.empty:
        raise ValueError("expected a history of at least one epoch; got an empty table.")
    several = "model" in history.columns
    tables = {str(m): h for m, h in history.groupby("model", sort=False)} if several else {"": history}
    parts = [_curves(name, table, _of(running, name, "contrast"), best_epoch) for name, table in tables.items()]
    colors = model_colors(list(tables)) | dict(colors or {})
    handles = _curve_handles(parts, colors)
    if ax is not None:
        if len(parts) > 1:
            raise ValueError(f"axes hold one model; got {len(parts)} ({', '.join(tables)}). Leave out ax for a figure.")
        _draw_curves(ax, parts[0], parts[0].trained_on, colors[parts[0].model])
        ax.set_xlabel("epoch")
        legend_below(ax, handles, gap_pt=32)
        return ax
    with_decision = _has(history, "true_decision_loss") or any(part.trained_on == "decision" for part in parts)
    losses: list[Loss] = ["contrast", "decision"] if with_decision else ["contrast"]
    figure = new_figure(width_cm, 4.5 * len(parts) + 1.5)
    panels = figure.subplots(len(parts), len(losses), squeeze=False, sharex=True)
    for row, part in zip(panels, parts, strict=True):
        for panel, loss in zip(row, losses, strict=True):
            _draw_curves(panel, part, loss, colors[part.model])
        if several:
            set_wrapped_title(row[0], part.title, n_panels=len(losses))
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    _legend_outside(figure, handles)
    return figure


@style()
def draw_groups(
    evaluation: pd.DataFrame,
    *,
    split: str = VALIDATION,
    weighting: str = "individual",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """A figure of GMP (with that of no model) and lift, by choice group, behavior group and model.

    Parameters
    ----------
    evaluation
        One row a model x split x choice_group x behavior_group x weighting, with n_decisions, gmp, null_gmp and
        lift; and gmp_low, gmp_high, lift_low and lift_high where intervals shall be drawn, as pale bars.
    split, weighting
        The rows to draw.
    colors
        model -> color; by default `model_colors` of the models in order.

    Raises
    ------
    ValueError
        If a column is missing or no row is of that split and weighting.

    Notes
    -----
    A line leads from what no model would score (every choice of a decision alike) to what the model scores.
    Groups without decisions stay in the figure and say so.
    """
    keys = ["model", "split", "choice_group", "behavior_group", "weighting"]
    require_columns(list(evaluation.columns), [*keys, "n_decisions", "gmp", "null_gmp", "lift"], where="evaluation")
    rows = evaluation[(evaluation["split"] == split) & (evaluation["weighting"] == weighting)]
    if rows.empty:
        there = evaluation[["split", "weighting"]].drop_duplicates().astype(str).agg(" by ".join, axis=1)
        raise ValueError(f"no row of the evaluation is {split} by {weighting}; there are {', '.join(there) or 'none'}.")
    models = [str(m) for m in dict.fromkeys(rows["model"])]
    colors = model_colors(models) | dict(colors or {})
    choice_groups = list(dict.fromkeys(rows["choice_group"]))
    behavior_groups = list(dict.fromkeys(rows["behavior_group"]))
    panel_cm = len(behavior_groups) * max(0.85, 0.4 + 0.27 * len(models)) + 1.2
    figure = new_figure(width_cm, len(choice_groups) * panel_cm + 2.2)
    panels = figure.subplots(len(choice_groups), 2, squeeze=False, sharey="row")
    for row, name in zip(panels, choice_groups, strict=True):
        _draw_choice_group(row, rows[rows["choice_group"] == name], behavior_groups, models, colors)
        set_wrapped_title(row[0], f"choices: {name}, {split}", n_panels=2, fontweight="bold")
    panels[-1, 0].set_xlabel("geometric-mean\nprobability, %")
    panels[-1, 1].set_xlabel("lift, times better\nthan random")
    handles = [
        Line2D([], [], color=colors[m], marker=MARKERS[i % len(MARKERS)], markersize=4, label=m)
        for i, m in enumerate(models)
    ]
    null = Line2D([], [], color=NULL_COLOR, marker="|", markersize=9, linestyle="none", label="no model")
    _legend_outside(figure, [*handles, null])
    return figure


@dataclass(frozen=True, eq=False)
class _Curves:
    """What is drawn of one model: the histories of its networks by epoch, one or one a fold, and their best epochs."""

    model: str
    trained_on: Loss
    networks: tuple[pd.DataFrame, ...]
    best: tuple[int | None, ...]
    is_ensemble: bool

    @property
    def title(self) -> str:
        if self.is_ensemble:
            return f"{self.model} ({len(self.networks)} folds)"
        return self.model if self.best[0] is None else f"{self.model}, best epoch {self.best[0]}"


def _curves(model: str, history: pd.DataFrame, trained_on: Loss, best: int | Mapping[str, int] | None) -> _Curves:
    if trained_on not in get_args(Loss):
        raise ValueError(f"running must be one of {', '.join(get_args(Loss))}; got {trained_on!r}.")
    is_ensemble = _has(history, "fold")
    folds = [h for _, h in history.groupby("fold", dropna=False)] if is_ensemble else [history]
    if any(h["epoch"].duplicated().any() for h in folds):
        raise ValueError(
            f"expected each epoch of a network once; got some of {model or 'the model'} several times. Keep one member "
            "of a grid; number the networks of an ensemble in the column fold."
        )
    networks = tuple(h.sort_values("epoch") for h in folds)
    known = None if is_ensemble else _of(best, model, None)
    found = tuple(_best_epoch(h, trained_on) if known is None else int(known) for h in networks)
    return _Curves(model, trained_on, networks, found, is_ensemble)


def _of(given: Any, model: str, otherwise: Any) -> Any:
    """What is given for one model, or for all."""
    return given.get(model, otherwise) if isinstance(given, Mapping) else given


def _best_epoch(history: pd.DataFrame, loss: Loss) -> int | None:
    """The first epoch with the lowest true loss, in validation where there is one; None where it is not known."""
    column = f"val_true_{loss}_loss" if _has(history, f"val_true_{loss}_loss") else f"true_{loss}_loss"
    if not _has(history, column):
        return None
    return int(history["epoch"].to_numpy()[np.nanargmin(history[column].to_numpy(dtype=float))])


def _has(table: pd.DataFrame, column: str) -> bool:
    return column in table.columns and bool(table[column].notna().any())


def _draw_curves(ax: Axes, curves: _Curves, loss: Loss, color: str) -> None:
    """Running loss, true losses and the best epochs of one model and one kind of loss."""
    true = {"color": color, "linewidth": 0.7 if curves.is_ensemble else 1.2}
    looks: dict[str, dict[str, Any]] = {
        f"{prefix}true_{loss}_loss": {**true, "label": part, "linestyle": SPLIT_LINES[part]}
        for part, prefix in ((TRAIN, ""), (VALIDATION, "val_"))
    }
    if curves.trained_on == loss:
        gray = {"color": RUNNING_COLOR, "linewidth": 0.5 if curves.is_ensemble else 1.0, "label": "running"}
        looks = {"loss": gray, **looks}
    seen: list[float] = []  # losses that the panel must show
    for table, best in zip(curves.networks, curves.best, strict=True):
        for column, look in looks.items():
            shown = table[np.isfinite(table[column])] if column in table else table[:0]
            if shown.empty:
                continue
            ax.plot(shown["epoch"], shown[column], **look)
            seen += [*shown[column].quantile([0, 0.8]), shown[column].iloc[-1]]
            if column != "loss":
                marked = shown[shown["epoch"] == best]
                size = 2.5 if curves.is_ensemble else 3.5
                ax.plot(marked["epoch"], marked[column], color=color, marker="o", markersize=size, linestyle="none")
                seen += marked[column].tolist()
        if best is not None and not curves.is_ensemble:
            ax.axvline(best, color="0.25", linewidth=0.6, linestyle=":", zorder=0.5)
    if seen:
        low, high = min(seen), max(seen)
        ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low) if high > low else low + 1.0)
    ax.set_ylabel(f"{loss} loss, nats")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    sns.despine(ax=ax)


def _curve_handles(parts: Sequence[_Curves], colors: Mapping[str, str]) -> list[Line2D]:
    """What the lines of training curves mean."""
    one = parts[0] if len(parts) == 1 else None
    color = "0.15" if one is None else colors[one.model]
    validated = any(_has(h, f"val_true_{loss}_loss") for p in parts for h in p.networks for loss in get_args(Loss))
    splits = [TRAIN, VALIDATION] if validated else [TRAIN]
    handles = [
        Line2D([], [], color=RUNNING_COLOR, linewidth=1.0, label="running loss"),
        *(Line2D([], [], color=color, linestyle=SPLIT_LINES[p], label=f"true loss, {p}") for p in splits),
    ]
    if any(best is not None for part in parts for best in part.best):
        which = "" if one is None else " of each fold" if one.is_ensemble else f" ({one.best[0]})"
        dotted = "none" if all(part.is_ensemble for part in parts) else ":"
        look: dict[str, Any] = {"color": "0.25", "linewidth": 0.8, "linestyle": dotted, "marker": "o", "markersize": 3}
        handles.append(Line2D([], [], **look, label=f"best epoch{which}"))
    return handles


def _draw_choice_group(
    panels: Sequence[Axes],
    rows: pd.DataFrame,
    behavior_groups: Sequence[str],
    models: Sequence[str],
    colors: Mapping[str, str],
) -> None:
    """GMP and lift of one choice group: a line of the panels for each behavior group, within it one for each model."""
    left, right = panels
    step = 0.62 / len(models)
    names = []
    for y, group in enumerate(behavior_groups):
        table = rows[(rows["behavior_group"] == group) & (rows["n_decisions"] > 0) & rows["gmp"].notna()]
        name = textwrap.fill(str(group), 18)
        names.append(name if table.empty else f"{name}\n{int(table['n_decisions'].max()):,} decisions")
        numbers = table[["gmp", "null_gmp", "lift"]].to_numpy(dtype=float)
        ends = table.reindex(columns=["gmp_low", "gmp_high", "lift_low", "lift_high"]).to_numpy(dtype=float)
        for model, (gmp, null, lift), end in zip(table["model"].astype(str), numbers, ends, strict=True):
            m = models.index(model)
            at = y + step * (m - (len(models) - 1) / 2)
            look = {"color": colors[model], "marker": MARKERS[m % len(MARKERS)]}
            _draw_score(left, at, 100 * gmp, 100 * null, step / 2, look, 100 * end[:2])
            _draw_score(right, at, lift, 1.0, step / 2, look, end[2:])
        if table.empty:
            for panel in panels:
                where = panel.get_yaxis_transform()
                panel.text(0.04, y, "no decisions", transform=where, va="center", color="0.35", fontsize="small")
    left.set_yticks(range(len(names)), names)
    left.set_ylim(len(names) - 0.5, -0.5)
    for panel in panels:
        panel.tick_params(axis="y", length=0)
        panel.margins(x=0.08)
        if not panel.has_data():
            panel.set_xticks([])
        sns.despine(ax=panel, left=True)


def _draw_score(
    ax: Axes, y: float, value: float, null: float, half: float, look: Mapping[str, Any], interval: np.ndarray
) -> None:
    """A score as a marker over its interval, that of no model as a bar, and a line between them."""
    if np.isfinite(interval).all() and interval[0] < interval[1]:
        ax.plot(interval, [y, y], color=look["color"], linewidth=3.6, alpha=0.35, solid_capstyle="butt", zorder=1.5)
        ax.lines[-1].set_label("_interval")
    ax.plot([null, value], [y, y], color=look["color"], linewidth=0.9, zorder=2)
    ax.plot([null, null], [y - half, y + half], color=NULL_COLOR, linewidth=1.3, zorder=2.5, label="_null")
    ax.plot([value], [y], markersize=4, zorder=3, linestyle="none", **look)


def _width_pt(text: str, size: float, weight: str | None = None) -> float:
    """Width of a line of text, points."""
    return float(TextPath((0, 0), text or "-", size=size, prop=FontProperties(weight=weight)).get_extents().width)


def _legend_columns(handles: Sequence[Artist], width_pt: float) -> int:
    """How many columns of a legend fit into a width."""
    size = mpl.rcParams["legend.fontsize"]
    longest = max(_width_pt(str(h.get_label()), size) for h in handles)
    return int(np.clip(width_pt / (longest + 4.5 * size), 1, len(handles)))


def _legend_outside(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for all panels, below them."""
    columns = _legend_columns(handles, figure.get_figwidth() * 72)
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, columnspacing=1.2)

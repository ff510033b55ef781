"""Histories of trainings into curves: running and true losses by epoch, with the best epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from mimic.figures import (
    RUNNING_COLOR,
    SPLIT_LINES,
    WIDTH_CM,
    legend_below,
    legend_outside,
    model_colors,
    new_figure,
    set_wrapped_title,
    style,
)
from mimic.schema import TRAIN, VALIDATION, require_columns

__all__ = ["Loss", "best_epoch_of", "draw_training_curves", "has_values", "set_loss_axes", "true_columns"]

Loss = Literal["contrast", "decision"]


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
    with_decision = has_values(history, "true_decision_loss") or any(part.trained_on == "decision" for part in parts)
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
    legend_outside(figure, handles)
    return figure


def true_columns(loss: Loss) -> dict[str, str]:
    """Split -> the column of a history with its true loss."""
    return {TRAIN: f"true_{loss}_loss", VALIDATION: f"val_true_{loss}_loss"}


def has_values(table: pd.DataFrame, column: str) -> bool:
    """Whether a table has a column, and a value in it."""
    return column in table.columns and bool(table[column].notna().any())


def best_epoch_of(history: pd.DataFrame, loss: Loss) -> int | None:
    """The first epoch with the lowest true loss, in validation where there is one; None where it is not known."""
    columns = true_columns(loss)
    column = columns[VALIDATION] if has_values(history, columns[VALIDATION]) else columns[TRAIN]
    if not has_values(history, column):
        return None
    return int(history["epoch"].to_numpy()[np.nanargmin(history[column].to_numpy(dtype=float))])


def set_loss_axes(ax: Axes, loss: Loss, shown: Sequence[float]) -> None:
    """The axes of losses by epoch, with the losses that must be seen in view."""
    if len(shown):
        low, high = min(shown), max(shown)
        ax.set_ylim(low - 0.06 * (high - low), high + 0.06 * (high - low) if high > low else low + 1.0)
    ax.set_ylabel(f"{loss} loss, nats")
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    sns.despine(ax=ax)


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
    is_ensemble = has_values(history, "fold")
    folds = [h for _, h in history.groupby("fold", dropna=False)] if is_ensemble else [history]
    if any(h["epoch"].duplicated().any() for h in folds):
        raise ValueError(
            f"expected each epoch of a network once; got some of {model or 'the model'} several times. Keep one member "
            "of a grid; number the networks of an ensemble in the column fold."
        )
    networks = tuple(h.sort_values("epoch") for h in folds)
    known = None if is_ensemble else _of(best, model, None)
    found = tuple(best_epoch_of(h, trained_on) if known is None else int(known) for h in networks)
    return _Curves(model, trained_on, networks, found, is_ensemble)


def _of(given: Any, model: str, otherwise: Any) -> Any:
    """What is given for one model, or for all."""
    return given.get(model, otherwise) if isinstance(given, Mapping) else given


def _draw_curves(ax: Axes, curves: _Curves, loss: Loss, color: str) -> None:
    """Running loss, true losses and the best epochs of one model and one kind of loss."""
    true = {"color": color, "linewidth": 0.7 if curves.is_ensemble else 1.2}
    looks: dict[str, dict[str, Any]] = {
        column: {**true, "label": part, "linestyle": SPLIT_LINES[part]} for part, column in true_columns(loss).items()
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
    set_loss_axes(ax, loss, seen)


def _curve_handles(parts: Sequence[_Curves], colors: Mapping[str, str]) -> list[Line2D]:
    """What the lines of training curves mean."""
    one = parts[0] if len(parts) == 1 else None
    color = "0.15" if one is None else colors[one.model]
    validated = any(
        has_values(h, true_columns(loss)[VALIDATION]) for p in parts for h in p.networks for loss in get_args(Loss)
    )
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

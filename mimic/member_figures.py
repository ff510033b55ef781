"""Histories of the members of a grid into learning curves: all of them, the chosen one strong among the pale others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mimic.figures import (
    RUNNING_COLOR,
    SPLIT_LINES,
    WIDTH_CM,
    legend_outside,
    model_colors,
    new_figure,
    set_wrapped_title,
    style,
)
from mimic.schema import require_columns
from mimic.training_figures import Loss, best_epoch_of, has_values, set_loss_axes, true_columns

__all__ = ["draw_member_curves"]

_PALE = {"linewidth": 0.5, "alpha": 0.35, "zorder": 2.0}
_STRONG = {"linewidth": 1.3, "alpha": 1.0, "zorder": 3.0}
_CHOSEN_RUNNING_COLOR = "0.35"
_DIVERGED = "x"
_PAPER = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.0}  # under text over lines


@style()
def draw_member_curves(
    history: pd.DataFrame,
    *,
    chosen: Mapping[str, str] | None = None,
    running: Loss | Mapping[str, Loss] = "contrast",
    colors: Mapping[str, str] | None = None,
    width_cm: float = WIDTH_CM,
) -> Figure:
    """Learning curves of all members of a grid: a row a model, a column for each loss, the chosen member strong.

    Parameters
    ----------
    history
        model, member, epoch, loss, true_contrast_loss and, where known, val_true_contrast_loss, true_decision_loss,
        val_true_decision_loss, nats: `history.csv` of a run. With a column `fold`, a member is several networks.
    chosen
        Model -> the member whose weights were kept, see `mimic.grid_tables.chosen_members`. None is strong without.
    running
        The loss that all members were trained on, or model -> loss ("contrast" where it is not said): the running
        loss (gray) is drawn beside that one.
    colors
        model -> color; by default `model_colors` of the models in order.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, a running loss is unknown, or a chosen member has no history.

    Notes
    -----
    What is not finite is not drawn: a cross ends a member that diverged. A panel shows its chosen member and the
    ends of three quarters of the others; how many members are above it at all times is written in its corner.
    """
    require_columns(list(history.columns), ["model", "member", "epoch", "loss", "true_contrast_loss"], where="history")
    if history.empty:
        raise ValueError("expected a history of at least one epoch; got an empty table.")
    tables = {str(model): own for model, own in history.groupby("model", sort=False)}
    members = {model: _members(model, own, (chosen or {}).get(model)) for model, own in tables.items()}
    trained_on = {m: running.get(m, "contrast") if isinstance(running, Mapping) else running for m in tables}
    unknown = [loss for loss in trained_on.values() if loss not in get_args(Loss)]
    if unknown:
        raise ValueError(f"running must be one of {', '.join(get_args(Loss))}; got {unknown[0]!r}.")
    colors = model_colors(list(tables)) | dict(colors or {})
    with_decision = has_values(history, "true_decision_loss") or "decision" in trained_on.values()
    losses: list[Loss] = ["contrast", "decision"] if with_decision else ["contrast"]
    figure = new_figure(width_cm, 4.5 * len(tables) + 2.0)
    panels = figure.subplots(len(tables), len(losses), squeeze=False, sharex=True)
    for row, (model, own) in zip(panels, members.items(), strict=True):
        for panel, loss in zip(row, losses, strict=True):
            _draw_members(panel, own, loss, trained_on[model], colors[model])
        set_wrapped_title(row[0], _members_title(model, own), n_panels=len(losses))
    for panel in panels[-1]:
        panel.set_xlabel("epoch")
    legend_outside(figure, _member_handles(members, colors))
    return figure


@dataclass(frozen=True, eq=False)
class _Member:
    """The histories of the networks of a member, one or one a fold, by epoch."""

    name: str
    networks: tuple[pd.DataFrame, ...]
    is_chosen: bool | None  # None where no member of the model is said to be

    @property
    def has_diverged(self) -> bool:
        # Epoch 0, before training, has no running loss.
        return any(not np.isfinite(h.loc[h["epoch"] > 0, "loss"]).all() for h in self.networks)


def _members(model: str, history: pd.DataFrame, chosen: str | None) -> list[_Member]:
    """The members of a model, the chosen one last, so that it is drawn over the others."""
    found = []
    for name, own in history.groupby("member", sort=False):
        folds = [h for _, h in own.groupby("fold", dropna=False)] if has_values(own, "fold") else [own]
        networks = tuple(h.sort_values("epoch") for h in folds)
        found.append(_Member(str(name), networks, None if chosen is None else str(name) == chosen))
    if chosen is not None and not any(member.is_chosen for member in found):
        raise ValueError(f"the chosen member of {model} has no history: {chosen} is none of its {len(found)} members.")
    return sorted(found, key=lambda member: bool(member.is_chosen))


def _draw_members(ax: Axes, members: Sequence[_Member], loss: Loss, trained_on: Loss, color: str) -> None:
    shown: list[float] = []  # losses that the panel must show
    lowest, ends = [], []  # of the true losses of each member
    for member in members:
        look: dict[str, Any] = _STRONG if member.is_chosen or len(members) == 1 else _PALE
        gray = _CHOSEN_RUNNING_COLOR if member.is_chosen else RUNNING_COLOR
        running = {"loss": {"color": gray, "label": "running"}}
        columns: dict[str, dict[str, Any]] = running if trained_on == loss else {}
        columns |= {c: {"color": color, "linestyle": SPLIT_LINES[s], "label": s} for s, c in true_columns(loss).items()}
        own: list[float] = []
        for network in member.networks:
            for column, kind in columns.items():
                finite = network[np.isfinite(network[column])] if column in network else network[:0]
                if finite.empty:
                    continue
                ax.plot(finite["epoch"], finite[column], **kind, **look)
                if column == "loss":
                    continue
                own += finite[column].tolist()
                ends.append(float(finite[column].iloc[-1]))
                if member.is_chosen:
                    shown += [*finite[column].quantile([0, 0.8]), ends[-1]]
                    _mark(ax, finite, best_epoch_of(network, trained_on), column, color, "o")
                if member.has_diverged:
                    _mark(ax, finite, finite["epoch"].iloc[-1], column, color, _DIVERGED)
        lowest += [min(own)] if own else []
    if ends:
        shown += [min(lowest), float(np.quantile(ends, 0.75))]
    set_loss_axes(ax, loss, shown)
    above = sum(one > ax.get_ylim()[1] for one in lowest)
    if above:
        told = f"{above} member{'s' if above > 1 else ''} above"
        ax.text(0.98, 0.97, told, transform=ax.transAxes, ha="right", va="top", fontsize=6, color="0.25", bbox=_PAPER)


def _mark(ax: Axes, history: pd.DataFrame, epoch: int | None, column: str, color: str, marker: str) -> None:
    """A marker on a curve at an epoch."""
    at = history[history["epoch"] == epoch]
    label = "best" if marker == "o" else "diverged"
    ax.plot(
        at["epoch"], at[column], color=color, marker=marker, markersize=3.5, linestyle="none", zorder=4, label=label
    )


def _members_title(model: str, members: Sequence[_Member]) -> str:
    n, n_diverged = len(members), sum(member.has_diverged for member in members)
    parts = [f"{model}: {n} member{'s' if n > 1 else ''}"]
    parts += [f"{n_diverged} diverged"] if n_diverged else []
    strong = [member.name.removeprefix(model).removeprefix("/") for member in members if member.is_chosen and n > 1]
    parts += [f"strong: {name}" for name in strong if name]
    return ", ".join(parts).replace(",", ", ").replace(",  ", ", ")


def _member_handles(members: Mapping[str, Sequence[_Member]], colors: Mapping[str, str]) -> list[Line2D]:
    every = [member for own in members.values() for member in own]
    color = colors[next(iter(members))] if len(members) == 1 else "0.15"
    handles = [
        Line2D([], [], color=RUNNING_COLOR, linewidth=1.0, label="running loss"),
        *(Line2D([], [], color=color, linestyle=line, label=f"true loss, {s}") for s, line in SPLIT_LINES.items()),
    ]
    if any(member.is_chosen for member in every):
        look: dict[str, Any] = {"color": color, "marker": "o", "markersize": 3.5}
        handles.append(Line2D([], [], linewidth=1.6, **look, label="chosen member, best epoch"))
    if any(member.has_diverged for member in every):
        handles.append(Line2D([], [], color=color, marker=_DIVERGED, markersize=4, linestyle="none", label="diverged"))
    return handles

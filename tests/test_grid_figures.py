"""Figures of a grid: every member is drawn, the chosen one strong, and what diverged or lies beyond is marked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mimic.figures import COLORS
from mimic.grid_figures import draw_hyperparameters, draw_random_starts
from mimic.grid_tables import MONITOR, hyperparameter_table, random_starts_table
from mimic.member_figures import draw_member_curves

UNITS, RATES, SEEDS = ("24-24-24-24", "8"), (0.001, 0.01), range(4)
LONG = "distance, heading and net primary production"


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def make_history(model: str = "depth", n_members: int = 3, n_epochs: int = 10) -> pd.DataFrame:
    """Member k ends k hundredths higher; contrast losses near 0.2, decision losses near 1.4."""
    parts = []
    for k in range(n_members):
        epoch = np.arange(1, n_epochs + 1)
        loss = 0.2 + 0.01 * k + 0.5 / epoch**2
        columns = {"loss": loss + 0.005, "true_contrast_loss": loss, "val_true_contrast_loss": loss + 0.002 * epoch}
        more = {"true_decision_loss": loss + 1.2, "val_true_decision_loss": loss + 1.25}
        parts.append(pd.DataFrame({"model": model, "member": f"{model}/seed={k}", "epoch": epoch, **columns, **more}))
    return pd.concat(parts, ignore_index=True)


def make_members(models: tuple[str, ...] = ("depth", LONG), n_diverged: int = 0, far: float = 0.0) -> pd.DataFrame:
    """A full grid; the first members diverged, and the last one ends `far` above the others."""
    rows = []
    for m, model in enumerate(models):
        for u, units in enumerate(UNITS):
            for rate in RATES:
                rows += [
                    {
                        "member": f"{model}/units={units},learning_rate={rate},seed={seed}",
                        "model": model,
                        "configuration": f"{model}/units={units},learning_rate={rate}",
                        "units": units,
                        "learning_rate": rate,
                        "seed": seed,
                        "status": "finished",
                        MONITOR: 0.2 - 0.02 * m + 0.004 * u + 0.1 * rate + 0.001 * seed,
                    }
                    for seed in SEEDS
                ]
    table = pd.DataFrame(rows)
    table.loc[: n_diverged - 1, "status"] = "diverged"
    table.loc[len(table) - 1, MONITOR] += far
    return table


def lines_of(ax: Axes, label: str) -> list[Line2D]:
    return [line for line in ax.lines if line.get_label() == label]


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


# --- learning curves of members


def test_each_member_is_three_lines_of_its_losses() -> None:
    history = make_history()
    contrast, decision = draw_member_curves(history).axes
    for label, column in (
        ("running", "loss"),
        ("train", "true_contrast_loss"),
        ("validation", "val_true_contrast_loss"),
    ):
        lines = lines_of(contrast, label)
        assert len(lines) == 3
        for line, (_, own) in zip(lines, history.groupby("member", sort=False), strict=True):
            np.testing.assert_array_equal(line.get_xdata(), own["epoch"])
            np.testing.assert_array_equal(line.get_ydata(), own[column])
    assert [len(lines_of(decision, label)) for label in ("running", "train", "validation")] == [0, 3, 3]
    np.testing.assert_array_equal(lines_of(decision, "train")[2].get_ydata(), history["true_decision_loss"][20:])
    assert lines_of(contrast, "train")[0].get_linestyle() == "-"
    assert lines_of(contrast, "validation")[0].get_linestyle() == "--"
    assert (contrast.get_ylabel(), decision.get_ylabel()) == ("contrast loss, nats", "decision loss, nats")


def test_chosen_member_is_strong_and_on_top_and_the_others_are_pale() -> None:
    figure = draw_member_curves(make_history(), chosen={"depth": "depth/seed=1"}, colors={"depth": "#882255"})
    contrast, decision = figure.axes
    *pale, strong = lines_of(contrast, "train")
    np.testing.assert_allclose(strong.get_ydata()[-1], 0.215)
    assert strong.get_linewidth() > 2 * max(line.get_linewidth() for line in pale)
    assert strong.get_zorder() > max(line.get_zorder() for line in pale)
    assert {line.get_alpha() for line in pale} == {0.35}
    assert strong.get_alpha() == 1
    assert {to_hex(line.get_color()) for line in contrast.lines if line.get_label() == "train"} == {"#882255"}
    # validation falls as 0.5 / epoch^2 and rises as 0.002 epoch: 0.0313 + 0.016 at 4 ... least at epoch 8
    values = 0.5 / np.arange(1, 11) ** 2 + 0.002 * np.arange(1, 11)
    best = 1 + int(values.argmin())
    for ax in (contrast, decision):
        assert [line.get_xdata().tolist() for line in lines_of(ax, "best")] == [[best], [best]]
    assert contrast.get_title(loc="left") == "depth: 3 members, strong: seed=1"
    assert "chosen member, best epoch" in legend_of(figure)


def test_no_member_is_strong_unless_one_was_chosen() -> None:
    figure = draw_member_curves(make_history())
    assert {line.get_alpha() for line in figure.axes[0].lines} == {0.35}
    assert legend_of(figure) == ["running loss", "true loss, train", "true loss, validation"]
    assert figure.axes[0].get_title(loc="left") == "depth: 3 members"


def test_running_loss_is_gray_and_beside_the_loss_that_was_trained_on() -> None:
    contrast, decision = draw_member_curves(make_history(), running={"depth": "decision"}).axes
    assert not lines_of(contrast, "running")
    assert {to_hex(line.get_color()) for line in lines_of(decision, "running")} == {"#999999"}


def test_models_are_rows_in_their_colors() -> None:
    figure = draw_member_curves(pd.concat([make_history("a"), make_history("b", 2)]))
    assert [len(lines_of(ax, "train")) for ax in figure.axes] == [3, 3, 2, 2]
    drawn = [{line.get_color() for line in lines_of(ax, "train")} for ax in figure.axes]
    assert drawn == [{COLORS[0]}, {COLORS[0]}, {COLORS[1]}, {COLORS[1]}]


def test_member_that_diverged_ends_in_a_cross_and_is_counted() -> None:
    history = make_history()
    numbers = [name for name in history if name not in ("model", "member", "epoch")]
    history.loc[history["member"].eq("depth/seed=2") & (history["epoch"] > 6), numbers] = np.nan
    figure = draw_member_curves(history)
    crosses = lines_of(figure.axes[0], "diverged")
    assert [line.get_xdata().tolist() for line in crosses] == [[6], [6]]
    assert {line.get_marker() for line in crosses} == {"x"}
    assert lines_of(figure.axes[0], "train")[2].get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    assert figure.axes[0].get_title(loc="left") == "depth: 3 members, 1 diverged"
    assert legend_of(figure)[-1] == "diverged"


def test_epoch_0_without_a_running_loss_is_no_divergence() -> None:
    history = make_history(n_members=2)
    start = history[history["epoch"] == 1].assign(epoch=0, loss=np.nan)
    figure = draw_member_curves(pd.concat([start, history]))
    assert not lines_of(figure.axes[0], "diverged")
    assert lines_of(figure.axes[0], "train")[0].get_xdata()[0] == 0


def test_members_above_the_panel_are_counted_in_its_corner() -> None:
    history = make_history(n_members=10)
    history.loc[history["member"] == "depth/seed=9", "true_contrast_loss"] += 5
    history.loc[history["member"] == "depth/seed=9", "val_true_contrast_loss"] += 5
    contrast, decision = draw_member_curves(history).axes
    assert contrast.get_ylim()[1] < 1
    assert [text.get_text() for text in contrast.texts] == ["1 member above"]
    assert not decision.texts


def test_folds_of_a_member_are_lines_of_their_own() -> None:
    fold = make_history(n_members=1)
    history = pd.concat([fold.assign(fold=k) for k in (1.0, 2.0)])
    assert len(lines_of(draw_member_curves(history).axes[0], "train")) == 2


def test_histories_that_cannot_be_drawn_are_refused() -> None:
    history = make_history()
    with pytest.raises(ValueError, match="history: expected the columns model, member; got epoch"):
        draw_member_curves(history.drop(columns=["model", "member"]))
    with pytest.raises(ValueError, match="expected a history of at least one epoch"):
        draw_member_curves(history.iloc[:0])
    with pytest.raises(ValueError, match="the chosen member of depth has no history: depth/seed=7 is none of its 3"):
        draw_member_curves(history, chosen={"depth": "depth/seed=7"})
    with pytest.raises(ValueError, match="running must be one of contrast, decision; got 'softmax'"):
        draw_member_curves(history, running="softmax")  # type: ignore[arg-type]


# --- hyper-parameters


def points_of(ax: Axes, label: str) -> np.ndarray:
    lines = [line for line in lines_of(ax, label) if line.get_transform() == ax.transData]
    return np.concatenate([line.get_xydata() for line in lines])


def test_points_are_the_losses_at_their_values_and_bars_the_medians() -> None:
    members = make_members(("depth",))
    table = hyperparameter_table(members)
    units, rates = draw_hyperparameters(table).axes
    for ax, name in ((units, "units"), (rates, "learning_rate")):
        own = table[table["parameter"] == name]
        points = points_of(ax, "depth")
        assert sorted(points[:, 1]) == pytest.approx(sorted(own["loss"]))
        for order in (0, 1):
            here = points[np.abs(points[:, 0] - order) < 0.5]
            assert sorted(here[:, 1]) == pytest.approx(sorted(own.loc[own["order"] == order, "loss"]))
            assert len(set(here[:, 0])) == 8  # beside each other
        medians = {round(float(line.get_xdata().mean())): line.get_ydata()[0] for line in lines_of(ax, "_median")}
        assert medians == pytest.approx(own.groupby("order")["loss"].median().to_dict())
        assert ax.get_xlabel() == name
    assert [label.get_text() for label in units.get_xticklabels()] == ["8", "24-24-24-24"]
    assert [label.get_text() for label in rates.get_xticklabels()] == ["0.001", "0.01"]
    assert units.get_ylabel() == "validation\ncontrast loss, nats"


def test_the_same_table_gives_the_same_points() -> None:
    table = hyperparameter_table(make_members())
    one, other = (draw_hyperparameters(table).axes[0] for _ in range(2))
    np.testing.assert_array_equal(points_of(one, "depth"), points_of(other, "depth"))


def test_models_lie_beside_each_other_in_their_colors_and_markers() -> None:
    figure = draw_hyperparameters(hyperparameter_table(make_members()), colors={"depth": "#332288"})
    ax = figure.axes[0]
    depth, other = points_of(ax, "depth"), points_of(ax, LONG)
    assert depth[depth[:, 0] < 0.5][:, 0].max() < other[other[:, 0] < 0.5][:, 0].min()
    looks = [{(line.get_color(), line.get_marker()) for line in lines_of(ax, m)} for m in ("depth", LONG)]
    assert looks == [{("#332288", "o")}, {(COLORS[1], "s")}]
    assert legend_of(figure) == ["depth", LONG, "median of a value"]


def test_members_that_diverged_and_losses_above_the_top_are_marked_at_the_edge() -> None:
    figure = draw_hyperparameters(hyperparameter_table(make_members(n_diverged=2, far=3.0)))
    ax = figure.axes[1]
    marks = [line for line in ax.lines if line.get_transform() != ax.transData]
    counts = {str(line.get_marker()): len(line.get_xdata()) for line in marks}
    assert counts == {"x": 2, "^": 1}
    assert {tuple(line.get_ydata()) for line in marks} == {(0.965, 0.965), (0.965,)}
    assert len(points_of(ax, "depth")) + len(points_of(ax, LONG)) == 32 - 3
    # twice as far above the third quartile as the smallest loss is below it
    finite = hyperparameter_table(make_members(n_diverged=2, far=3.0))["loss"]
    finite = finite[np.isfinite(finite)]
    low, quartile = finite.min(), np.quantile(finite, 0.75)
    assert legend_of(figure)[-2:] == [f"above {quartile + 2 * (quartile - low):.3g}", "diverged"]
    drawn = points_of(draw_hyperparameters(hyperparameter_table(make_members(far=3.0)), top=4.0).axes[1], LONG)
    assert drawn[:, 1].max() > 3


def test_all_members_may_have_diverged() -> None:
    figure = draw_hyperparameters(hyperparameter_table(make_members(("depth",), n_diverged=16)))
    assert {str(line.get_marker()) for line in figure.axes[0].lines} == {"x"}
    assert_legible(figure)


def test_hyperparameters_that_do_not_vary_are_refused() -> None:
    with pytest.raises(ValueError, match="expected a hyper-parameter that varies; got an empty table"):
        draw_hyperparameters(hyperparameter_table(make_members(("depth",)).iloc[:4]))
    with pytest.raises(ValueError, match="hyperparameters: expected the columns value, order; got model"):
        draw_hyperparameters(hyperparameter_table(make_members()).drop(columns=["value", "order"]))


# --- random starts


def test_starts_are_drawn_with_their_median_and_spread() -> None:
    table = random_starts_table(make_members())
    depth, other = draw_random_starts(table).axes
    for ax, model, color in ((depth, "depth", COLORS[0]), (other, LONG, COLORS[1])):
        own = table[table["model"] == model]
        seeds = lines_of(ax, "seeds")
        assert [line.get_xdata().tolist() for line in seeds] == [
            part["loss"].tolist() for _, part in own.groupby("configuration", sort=False)
        ]
        assert all((np.diff(line.get_ydata()) < 0).all() for line in seeds)  # the axis points down: they climb
        assert {line.get_color() for line in seeds} == {color}
        first = own.drop_duplicates("configuration")
        assert [line.get_xdata()[0] for line in lines_of(ax, "_median")] == first["median"].tolist()
        bars = [line.get_xdata() for line in lines_of(ax, "_spread")]
        np.testing.assert_allclose(bars, first[["min", "p90"]])
        spreads = [text.get_text() for text in ax.texts if text.get_text() != "spread,\nnats"]
        assert spreads == [f"{spread:.2g}" for spread in first["spread"]]
        assert "units=24-24-24-24\nlearning_rate=0.001" in [label.get_text() for label in ax.get_yticklabels()]
    assert depth.get_title(loc="left") == "depth"
    assert depth.get_xlim() == other.get_xlim()
    assert other.get_xlabel() == "validation contrast loss, nats"


def test_starts_that_diverged_are_counted_and_marked_and_one_seed_has_no_spread() -> None:
    lone = make_members(("lone",)).iloc[:1].assign(configuration="lone")
    figure = draw_random_starts(random_starts_table(pd.concat([make_members(("depth",), n_diverged=2), lone])))
    depth, other = figure.axes
    told = [text.get_text() for text in depth.texts]
    assert told[0] == "2 of 4\ndiverged"
    (crosses,) = [line for line in depth.lines if line.get_marker() == "x"]
    assert crosses.get_xdata().tolist() == [0.965, 0.965]
    assert [text.get_text() for text in other.texts] == ["one seed"]
    assert legend_of(figure)[-1] == "diverged"
    with pytest.raises(ValueError, match="expected the losses of at least one member"):
        draw_random_starts(random_starts_table(lone).iloc[:0])
    with pytest.raises(ValueError, match="random starts: expected the column spread; got model"):
        draw_random_starts(random_starts_table(lone).drop(columns="spread"))


# --- legible


FIGURES: dict[str, Callable[..., Any]] = {
    "curves": lambda **size: draw_member_curves(
        pd.concat([make_history(LONG, 12), make_history("depth")]), chosen={LONG: f"{LONG}/seed=4"}, **size
    ),
    "hyper-parameters": lambda **size: draw_hyperparameters(
        hyperparameter_table(make_members(n_diverged=3, far=1.0)), **size
    ),
    "many values": lambda **size: draw_hyperparameters(
        pd.DataFrame(
            {
                "model": "depth",
                "parameter": np.repeat(["units", "activation", "dropout"], 8),
                "value": [f"{8 * k}-{8 * k}-{8 * k}" for k in range(1, 9)] + ["relu", "swish"] * 4 + list("01234567"),
                "order": [*range(8), *[0, 1] * 4, *range(8)],
                "seed": 0,
                "loss": np.linspace(0.1, 0.2, 24),
            }
        ),
        **size,
    ),
    "starts": lambda **size: draw_random_starts(random_starts_table(make_members(n_diverged=3, far=1.0)), **size),
}


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
@pytest.mark.parametrize("name", FIGURES)
def test_figures_of_grids_can_be_read(name: str, width_cm: float) -> None:
    figure = FIGURES[name](width_cm=width_cm)
    assert figure.get_figwidth() == pytest.approx(width_cm / 2.54)
    assert_legible(figure)

"""Figures: what is drawn is what the table says, and every label can be read at 8 cm width."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.quiver import Quiver
from matplotlib.text import Text
from tiny import fit

from mimic import hexgrid
from mimic.assessment import assess
from mimic.configuration import load_configuration
from mimic.figures import (
    COLORS,
    MAX_LEGEND,
    model_colors,
    new_figure,
    save_figure,
    style,
)
from mimic.group_figures import draw_groups
from mimic.maps import draw_choice_set, draw_difference_map, draw_tracks
from mimic.report import draw_run
from mimic.training_figures import draw_training_curves

NARROW_CM = 8.0


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def make_tracks(longitude: Any, latitude: Any, individual: Any = "a", **columns: Any) -> pd.DataFrame:
    n = len(longitude)
    times = pd.date_range("2020-01-01", periods=n, freq="D").astype("datetime64[ns]")
    lon = (np.asarray(longitude, dtype=float) + 180) % 360 - 180
    return pd.DataFrame(
        {"individual": individual, "time_utc": times, "longitude": lon, "latitude": latitude, **columns}
    )


def many_tracks(n: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = [
        make_tracks(-40 + np.cumsum(rng.normal(size=30)), 40 + np.cumsum(rng.normal(size=30)) / 2, f"fish {i}")
        for i in range(n)
    ]
    return pd.concat(parts, ignore_index=True)


def make_history(n: int = 40, model: str | None = None) -> pd.DataFrame:
    epoch = np.arange(1, n + 1)
    true = 0.15 + 0.5 * np.exp(-epoch / 5)
    validation = true + 0.0001 * (epoch - 12) ** 2  # a lowest point of its own, later found by argmin
    table = pd.DataFrame(
        {
            "epoch": epoch,
            "loss": true + 0.02,
            "true_contrast_loss": true,
            "val_true_contrast_loss": validation,
            "true_decision_loss": 7 * true,
            "val_true_decision_loss": 7 * validation,
        }
    )
    return table if model is None else table.assign(model=model)


def make_softmax_history(decision_best: int = 25, contrast_best: int = 12, n: int = 40) -> pd.DataFrame:
    """The two validation losses have their lowest points at different epochs."""
    table = make_history(n)
    table["val_true_contrast_loss"] = 0.2 + 0.001 * (table["epoch"] - contrast_best) ** 2
    table["val_true_decision_loss"] = 1.4 + 0.001 * (table["epoch"] - decision_best) ** 2
    return table.assign(loss=table["true_decision_loss"] + 0.02)


def make_ensemble_history(model: str, best: tuple[int, ...] = (10, 20, 30)) -> pd.DataFrame:
    """Folds stop ten epochs after their best; all of one member of the grid, as in the history of a run."""
    parts = [make_softmax_history(b, n=b + 10).assign(fold=float(k)) for k, b in enumerate(best, start=1)]
    return pd.concat(parts, ignore_index=True).assign(model=model, member=f"{model}/seed=0")


def lines_of(ax: Axes, label: str) -> list[Line2D]:
    return [line for line in ax.lines if line.get_label() == label]


def marks_of(ax: Axes) -> list[tuple[int, float]]:
    """Epoch and loss of every best epoch that is marked."""
    marks = [line for line in ax.lines if line.get_marker() == "o"]
    return [(int(x), float(y)) for m in marks for x, y in zip(m.get_xdata(), m.get_ydata(), strict=True)]


def make_evaluation(models: tuple[str, ...] = ("distance", "distance + heading")) -> pd.DataFrame:
    rows = []
    for (m, model), split, (choice_group, null), (behavior_group, n) in itertools.product(
        enumerate(models),
        ("train", "validation"),
        (("all", 0.05), ("distance > 0", 0.0625)),
        (("all", 7312), ("mixed layer thickness > 50 m", 0), ("summer", 812)),
    ):
        lift = 4.0 + m if choice_group == "all" else 1.1 + 0.1 * m
        score = (null * lift, null, lift) if n else (np.nan,) * 3
        rows.append((model, split, choice_group, behavior_group, "individual", n, *score))
    names = ["model", "split", "choice_group", "behavior_group", "weighting", "n_decisions", "gmp", "null_gmp", "lift"]
    return pd.DataFrame(rows, columns=names)


def make_differences() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "longitude": [179.0, -179.5, -178.0, -178.0],
            "latitude": [60.0, 60.5, 61.0, 61.0],
            "longitude_selected": [-179.5, -178.0, -178.0, np.nan],
            "latitude_selected": [60.5, 61.0, 61.0, np.nan],
            "difference": [0.5, -2.0, 0.25, 1.0],
        }
    )


def make_choice_set(longitude: float, latitude: float) -> dict[str, Any]:
    origin = hexgrid.cell_at(np.array([longitude]), np.array([latitude]), 4)
    table = hexgrid.neighbor_table(origin, 100.0)
    weight = np.exp(-table.distance_km / 25)
    return {
        "cells": table.cell,
        "probability": weight / weight.sum(),
        "origin": int(origin[0]),
        "selected": int(table.cell[3]),
    }


def track_lines(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_gid() is not None]


def drawn_texts(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Every text that really appears, with its box in pixels."""
    seen: dict[int, Text] = {}
    draw = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            seen[id(self)] = self
        draw(self, renderer, *args, **kwargs)

    figure.set_dpi(200)
    figure.canvas.draw()  # the layout first
    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        figure.canvas.draw()
    return [(t.get_text(), t.get_window_extent()) for t in seen.values()]


def assert_readable(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = drawn_texts(figure, monkeypatch)
    assert texts
    width, height = figure.canvas.get_width_height()  # type: ignore[attr-defined]
    for text, box in texts:
        assert box.x0 >= -1, f"cut off at the left: {text}"
        assert box.x1 <= width + 1, f"cut off at the right: {text}"
        assert box.y0 >= -1, f"cut off at the bottom: {text}"
        assert box.y1 <= height + 1, f"cut off at the top: {text}"
    for (text, box), (other, other_box) in itertools.combinations(texts, 2):
        apart = (
            box.x1 <= other_box.x0 + 1
            or other_box.x1 <= box.x0 + 1
            or box.y1 <= other_box.y0 + 2
            or other_box.y1 <= box.y0 + 2
        )
        assert apart, f"{text!r} lies on {other!r}"


# --- tracks


def test_a_track_over_180_degrees_is_one_line_without_a_jump() -> None:
    ax = draw_tracks(make_tracks([176.0, 179.0, -178.0, -175.0], [60.0, 61.0, 62.0, 63.0]))
    (line,) = track_lines(ax)
    assert np.diff(line.get_xdata()).tolist() == [3.0, 3.0, 3.0]
    assert (line.get_xdata() % 360).tolist() == [176.0, 179.0, 182.0, 185.0]
    assert line.get_ydata().tolist() == [60.0, 61.0, 62.0, 63.0]
    low, high = ax.get_xlim()
    assert high - low < 30


def test_lines_break_between_bursts_and_individuals_and_a_lone_fix_is_a_dot() -> None:
    tracks = make_tracks([0.0, 1.0, 2.0, 3.0, 4.0], np.zeros(5), ["a", "a", "a", "a", "b"], burst=[0, 0, 1, 1, 2])
    ax = draw_tracks(tracks)
    first, second, dot = track_lines(ax)
    np.testing.assert_array_equal(first.get_xdata(), [0.0, 1.0, np.nan, 2.0, 3.0])
    assert second.get_xdata().tolist() == [4.0]
    assert (dot.get_marker(), dot.get_xdata().tolist()) == (".", [4.0])


def test_an_animal_around_the_world_leaves_the_map_at_one_side_and_comes_back_at_the_other() -> None:
    ax = draw_tracks(make_tracks(np.arange(0.0, 720.0, 5.0), np.full(144, -50.0)))
    line = track_lines(ax)[0]
    assert np.nanmax(np.abs(np.diff(line.get_xdata()))) == 5.0
    assert np.isfinite(line.get_xdata()).sum() == 144
    assert np.isnan(line.get_xdata()).sum() == 2  # from 0 to 5 degrees east, twice


def test_tracks_near_the_pole_are_drawn_from_above_in_km() -> None:
    ax = draw_tracks(make_tracks(np.arange(0.0, 360.0, 30.0), np.full(12, 80.0)))
    (line,) = track_lines(ax)
    radius = np.hypot(line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(radius, 10 * 111.195, rtol=1e-4)
    assert ax.get_aspect() == 1.0


def test_individuals_have_the_colors_in_order_and_a_legend_up_to_twelve() -> None:
    ax = draw_tracks(many_tracks(MAX_LEGEND))
    assert [line.get_color() for line in track_lines(ax)] == list(COLORS)
    legend = ax.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == sorted(f"fish {i}" for i in range(12))


def test_beyond_twelve_individuals_are_counted_instead_of_named() -> None:
    ax = draw_tracks(many_tracks(13))
    assert ax.get_legend() is None
    assert ax.get_xlabel() == "13 individuals, 390 fixes"


def test_train_is_solid_and_validation_dashed() -> None:
    tracks = many_tracks(2)
    tracks["split"] = np.where(tracks["individual"] == "fish 0", "train", "validation")
    ax = draw_tracks(tracks, split="split")
    solid, dashed = track_lines(ax)
    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
    assert solid.get_color() != dashed.get_color()


def test_a_step_has_the_color_of_its_first_fix() -> None:
    tracks = make_tracks([0.0, 1.0, 2.0, 3.0], np.zeros(4), state=["rest", "rest", "move", "move"])
    rest, move = track_lines(draw_tracks(tracks, color_by="state"))
    assert rest.get_xdata().tolist() == [0.0, 1.0, 2.0]
    assert move.get_xdata().tolist() == [2.0, 3.0]


def test_numbers_and_times_get_a_color_bar() -> None:
    tracks = make_tracks([0.0, 1.0, 2.0], [40.0, 41.0, 42.0], temperature_c=[10.0, np.nan, 30.0])
    for column in ("temperature_c", "time_utc"):
        ax = draw_tracks(tracks, color_by=column)
        (lines,) = [c for c in ax.collections if isinstance(c, LineCollection)]
        assert len(lines.get_segments()) == 2
        assert ax.get_figure().axes[1].get_xlabel() == column  # type: ignore[union-attr]


def test_land_lies_under_the_tracks_also_inland() -> None:
    ax = draw_tracks(make_tracks([31.6, 31.9, 32.2], [-24.9, -24.5, -24.1]))
    (land,) = [c for c in ax.collections if c.get_label() == "_land"]
    assert land.get_paths()[0].contains_point((31.9, -24.5))
    assert land.get_zorder() < track_lines(ax)[0].get_zorder()


def test_missing_columns_are_named_all_at_once() -> None:
    with pytest.raises(ValueError, match="tracks: expected the columns longitude, latitude, region; got"):
        draw_tracks(pd.DataFrame({"individual": ["a"], "time_utc": [pd.Timestamp(0)]}), color_by="region")


# --- training curves


def test_running_and_true_losses_are_drawn_as_they_are() -> None:
    history = make_history()
    figure = draw_training_curves(history)
    assert isinstance(figure, Figure)
    contrast, decision = figure.axes
    lines = {str(line.get_label()): line for line in contrast.lines}
    np.testing.assert_array_equal(lines["running"].get_ydata(), history["loss"])
    np.testing.assert_array_equal(lines["train"].get_ydata(), history["true_contrast_loss"])
    np.testing.assert_array_equal(lines["validation"].get_ydata(), history["val_true_contrast_loss"])
    assert to_rgb(lines["running"].get_color()) == to_rgb("0.6")
    assert (lines["train"].get_linestyle(), lines["validation"].get_linestyle()) == ("-", "--")
    assert lines["train"].get_color() == lines["validation"].get_color() == COLORS[0]
    assert "running" not in {line.get_label() for line in decision.lines}
    assert (contrast.get_ylabel(), decision.get_ylabel()) == ("contrast loss, nats", "decision loss, nats")


def test_the_running_loss_of_a_softmax_training_stands_beside_the_decision_loss() -> None:
    contrast, decision = draw_training_curves(make_history(), running="decision").axes  # type: ignore[union-attr]
    assert not lines_of(contrast, "running")
    assert len(lines_of(decision, "running")) == 1


def test_the_running_loss_of_each_model_stands_beside_the_loss_it_was_trained_on() -> None:
    softmax, exact = make_softmax_history().assign(model="softmax"), make_history(30, "exact")
    figure = draw_training_curves(pd.concat([softmax, exact]), running={"softmax": "decision"})
    panels = figure.axes  # type: ignore[union-attr]  # contrast and decision of softmax, then of exact
    drawn = [[line.get_ydata().tolist() for line in lines_of(ax, "running")] for ax in panels]
    assert drawn == [[], [softmax["loss"].tolist()], [exact["loss"].tolist()], []]


def test_a_softmax_history_without_true_decision_losses_still_has_its_running_loss_in_a_panel() -> None:
    history = make_softmax_history()[["epoch", "loss", "true_contrast_loss"]].assign(model="a")
    figure = draw_training_curves(history, running="decision")
    contrast, decision = figure.axes  # type: ignore[union-attr]
    assert len(lines_of(decision, "running")) == 1
    assert marks_of(contrast) == marks_of(decision) == []  # the monitored loss is not known
    assert contrast.get_title(loc="left") == "a"
    assert "best epoch" not in "".join(t.get_text() for t in figure.legends[0].get_texts())  # type: ignore[union-attr]


def test_the_best_epoch_is_the_lowest_validation_loss_unless_given() -> None:
    history = make_history()
    lowest = int(history.loc[history["val_true_contrast_loss"].idxmin(), "epoch"])
    for known, expected in ((None, lowest), (7, 7)):
        figure = draw_training_curves(history, best_epoch=known)
        assert [epoch for epoch, _ in marks_of(figure.axes[0])] == [expected] * 2
        assert f"best epoch ({expected})" in [t.get_text() for t in figure.legends[0].get_texts()]  # type: ignore[union-attr]


def test_the_best_epoch_of_a_softmax_training_has_the_lowest_decision_loss() -> None:
    history = make_softmax_history(decision_best=25, contrast_best=12)
    for running, expected in (("contrast", 12), ("decision", 25)):
        for ax in draw_training_curves(history, running=running).axes:  # type: ignore[arg-type, union-attr]
            assert [epoch for epoch, _ in marks_of(ax)] == [expected] * 2
    unvalidated = history.drop(columns=["val_true_contrast_loss", "val_true_decision_loss"])
    ax = draw_training_curves(unvalidated, running="decision").axes[1]  # type: ignore[union-attr]
    assert marks_of(ax) == [(40, history["true_decision_loss"].iloc[-1])]


def test_a_late_rise_of_the_validation_loss_is_within_the_panel_to_its_end() -> None:
    for ax in draw_training_curves(make_softmax_history(5, 5)).axes:  # type: ignore[union-attr]
        end = lines_of(ax, "validation")[0].get_ydata()[-1]
        assert end > 1.2
        assert end < ax.get_ylim()[1]


def test_marks_of_best_epochs_are_within_the_panel_also_in_the_steep_fall() -> None:
    for ax in draw_training_curves(make_history(), best_epoch=1).axes:  # type: ignore[union-attr]
        low, high = ax.get_ylim()
        losses = [loss for _, loss in marks_of(ax)]
        assert len(losses) == 2
        assert low < min(losses) <= max(losses) < high


def test_an_ensemble_is_one_row_of_thin_lines_in_the_color_of_its_model() -> None:
    single, ensemble = make_softmax_history().assign(model="network"), make_ensemble_history("ensemble")
    history = pd.concat([single, ensemble], ignore_index=True)  # fold is NaN for the network
    figure = draw_training_curves(history, running="decision", colors={"ensemble": "#882255"})
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 4
    assert figure.get_figheight() == pytest.approx((2 * 4.5 + 1.5) / 2.54)
    thick = lines_of(figure.axes[0], "train")[0].get_linewidth()
    for ax, loss in zip(figure.axes[2:], ("contrast", "decision"), strict=True):
        for label, column in (("train", f"true_{loss}_loss"), ("validation", f"val_true_{loss}_loss")):
            lines = lines_of(ax, label)
            of_folds = [h for _, h in ensemble.groupby("fold")]
            assert [line.get_xdata().tolist() for line in lines] == [h["epoch"].tolist() for h in of_folds]
            assert [line.get_ydata().tolist() for line in lines] == [h[column].tolist() for h in of_folds]
            assert {line.get_color() for line in lines} == {"#882255"}
            assert max(line.get_linewidth() for line in lines) < thick
    assert [len(lines_of(ax, "running")) for ax in figure.axes] == [0, 1, 0, 3]


def test_each_fold_has_the_mark_of_its_own_lowest_monitored_loss_and_no_epoch_is_in_the_title() -> None:
    history = make_ensemble_history("ensemble", best=(10, 20, 30))
    # An epoch for the ensemble would be wrong for all networks but one.
    figure = draw_training_curves(history, running="decision", best_epoch={"ensemble": 3})
    contrast, decision = figure.axes  # type: ignore[union-attr]
    assert contrast.get_title(loc="left") == "ensemble (3 folds)"
    for ax, loss in ((contrast, "contrast"), (decision, "decision")):
        of_folds = [h.set_index("epoch") for _, h in history.groupby("fold")]
        columns = (f"true_{loss}_loss", f"val_true_{loss}_loss")
        expected = [(b, h[c][b]) for b, h in zip((10, 20, 30), of_folds, strict=True) for c in columns]
        assert marks_of(ax) == expected
    assert "best epoch of each fold" in [t.get_text() for t in figure.legends[0].get_texts()]  # type: ignore[union-attr]


def test_losses_between_evaluations_are_bridged_and_infinite_ones_are_not_drawn() -> None:
    history = make_history(20)
    history.loc[history["epoch"] % 5 != 0, ["true_contrast_loss", "val_true_contrast_loss"]] = np.nan
    history.loc[19, "loss"] = np.inf
    ax = draw_training_curves(history).axes[0]  # type: ignore[union-attr]
    assert lines_of(ax, "validation")[0].get_xdata().tolist() == [5, 10, 15, 20]
    assert lines_of(ax, "running")[0].get_xdata().tolist() == list(range(1, 20))
    assert np.isfinite(ax.get_ylim()).all()


def test_two_members_of_a_grid_are_not_drawn_as_one_line() -> None:
    history = pd.concat([make_history(5, "a"), make_history(5, "a")])
    with pytest.raises(ValueError, match="each epoch of a network once; got some of a several times. Keep one member"):
        draw_training_curves(history)


def test_the_name_of_a_training_loss_is_no_running_loss() -> None:
    with pytest.raises(ValueError, match="running must be one of contrast, decision; got 'softmax'"):
        draw_training_curves(make_history(), running={"": "softmax"})  # type: ignore[dict-item]


def test_each_model_has_its_row_and_its_color_and_may_stop_early() -> None:
    history = pd.concat([make_history(40, "distance"), make_history(20, "heading")])
    figure = draw_training_curves(history, best_epoch={"distance": 9, "heading": 5})
    first, _, second, _ = figure.axes  # type: ignore[union-attr]
    assert first.get_title(loc="left") == "distance, best epoch 9"
    assert second.get_title(loc="left") == "heading, best epoch 5"
    colors = [next(ln for ln in ax.lines if ln.get_label() == "train").get_color() for ax in (first, second)]
    assert colors == list(COLORS[:2])


def test_a_history_without_validation_or_decision_loss_has_one_panel_and_no_dashed_line() -> None:
    figure = draw_training_curves(make_history()[["epoch", "loss", "true_contrast_loss"]])
    assert isinstance(figure, Figure)
    (ax,) = figure.axes
    assert {str(line.get_label()) for line in ax.lines} >= {"running", "train"}
    assert "validation" not in {line.get_label() for line in ax.lines}


def test_axes_that_are_given_are_drawn_in_and_returned() -> None:
    ax = new_figure().subplots()
    assert draw_training_curves(make_history(), ax) is ax
    assert ax.get_ylabel() == "contrast loss, nats"
    other = new_figure().subplots()
    draw_training_curves(make_softmax_history(), other, running="decision")
    assert (other.get_ylabel(), len(lines_of(other, "running"))) == ("decision loss, nats", 1)
    with pytest.raises(ValueError, match=r"axes hold one model; got 2 \(a, b\)"):
        draw_training_curves(pd.concat([make_history(3, "a"), make_history(3, "b")]), ax)


def test_a_run_draws_each_model_by_the_loss_its_chosen_member_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = """
training: {epochs: 4, units: [3], batch_decisions: 32, learning_rate: 0.05}
models:
  clogit: {kind: conditional_logit, features: [depth]}
  exact: {features: [depth], grid: {seed: [0, 1]}}
  softmax: {features: [depth], grid: {loss: [softmax]}}
  folds: {features: [depth], training: {loss: softmax}, ensemble: {members: 2, combine: mean_log_odds}}
"""
    prepared, found = fit(tmp_path, text)
    found = replace(found, best_epochs={"exact": 1, "softmax": 2})  # what the run says counts
    configuration = load_configuration(tmp_path / "tiny.yaml")
    tables = assess(configuration, prepared.choice_sets, found.log_odds)
    kept: dict[str, Figure] = {}
    monkeypatch.setattr("mimic.figures.save_figure", lambda figure, path: kept.update({path.name: figure}))
    names = draw_run(configuration, prepared, found, tables, tmp_path / "figures", lambda *_: None)
    assert names == list(kept) == ["training.png", "groups.png", "chain.png"]
    panels = kept["training.png"].axes
    assert [ax.get_title(loc="left") for ax in panels[::2]] == [
        "exact, best epoch 1",
        "softmax, best epoch 2",
        "folds (2 folds)",
    ]
    assert [len(lines_of(ax, "running")) for ax in panels] == [1, 0, 0, 1, 0, 2]
    own = found.history[found.history["member"] == found.chosen["exact"]]
    assert lines_of(panels[0], "running")[0].get_ydata().tolist() == own["loss"].tolist()
    colors = model_colors(list(found.log_odds))
    drawn = {line.get_color() for ax in panels[4:] for line in lines_of(ax, "train")}
    assert drawn == {colors["folds"]}
    of_folds = [h.set_index("epoch") for _, h in found.history.dropna(subset="fold").groupby("fold")]
    best = [int(h["val_true_decision_loss"].idxmin()) for h in of_folds]
    assert [epoch for epoch, _ in marks_of(panels[5])[::2]] == best


# --- groups


def test_gmp_null_and_lift_stand_where_the_table_says() -> None:
    figure = draw_groups(make_evaluation())
    left, right = figure.axes[:2]
    points = [line.get_xdata()[0] for line in left.lines if line.get_marker() in "os"]
    # all and summer, each by two models: .05 x 4 and .05 x 5, in percent
    assert points == pytest.approx([20.0, 25.0, 20.0, 25.0])
    nulls = {float(line.get_xdata()[0]) for line in left.lines if line.get_label() == "_null"}
    assert nulls == {5.0}
    lifts = [line.get_xdata()[0] for line in right.lines if line.get_marker() in "os"]
    assert lifts == pytest.approx([4.0, 5.0, 4.0, 5.0])


def test_models_differ_by_color_and_marker_the_same_in_all_panels() -> None:
    figure = draw_groups(make_evaluation())
    looks = {
        (line.get_color(), line.get_marker()) for ax in figure.axes for line in ax.lines if line.get_marker() in "os"
    }
    assert looks == {(COLORS[0], "o"), (COLORS[1], "s")}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["distance", "distance + heading", "no model"]


def test_intervals_are_drawn_where_the_table_has_them() -> None:
    table = make_evaluation()
    assert [line for ax in draw_groups(table).axes for line in ax.lines if line.get_label() == "_interval"] == []
    ends = {"gmp_low": 0.9 * table["gmp"], "gmp_high": 1.2 * table["gmp"], "lift_low": 0.5, "lift_high": 0.5}
    figure = draw_groups(table.assign(**ends))
    left, right = (
        [tuple(line.get_xdata()) for line in ax.lines if line.get_label() == "_interval"] for ax in figure.axes[:2]
    )
    shown = table.query("split == 'validation' and weighting == 'individual' and n_decisions > 0")
    shown = shown[shown["choice_group"] == shown["choice_group"].iloc[0]]
    np.testing.assert_allclose(sorted(left), sorted((90 * g, 120 * g) for g in shown["gmp"]))
    assert right == []  # an interval of no width has nothing to show


def test_groups_without_decisions_say_so() -> None:
    figure = draw_groups(make_evaluation())
    for ax in figure.axes:
        assert [t.get_text() for t in ax.texts] == ["no decisions"]
    missing = make_evaluation()
    missing = missing[~((missing["choice_group"] == "all") & (missing["behavior_group"] == "summer"))]
    assert [t.get_text() for t in draw_groups(missing).axes[0].texts] == ["no decisions"] * 2


def test_choice_groups_have_panels_of_their_own() -> None:
    figure = draw_groups(make_evaluation())
    assert [ax.get_title(loc="left") for ax in figure.axes[::2]] == [
        "choices: all, validation",
        "choices: distance > 0, validation",
    ]
    assert figure.axes[3].get_xlim()[1] < 2 < figure.axes[1].get_xlim()[1]


def test_an_unknown_split_or_weighting_names_what_there_is() -> None:
    with pytest.raises(ValueError, match="no row of the evaluation is test by decision; there are train by individual"):
        draw_groups(make_evaluation(), split="test", weighting="decision")


# --- difference map


def test_arrows_lead_from_origin_to_selected_over_180_degrees_and_stays_are_dots() -> None:
    ax = draw_difference_map(make_differences())
    (arrows,) = [c for c in ax.collections if isinstance(c, Quiver)]
    by_value = {d: (x, u, v) for (x, _), u, v, d in zip(arrows.XY, arrows.U, arrows.V, arrows.get_array(), strict=True)}
    assert by_value[0.5] == pytest.approx((-181.0, 1.5, 0.5))
    assert by_value[-2.0] == pytest.approx((-179.5, 1.5, 0.5))
    (stays,) = [c for c in ax.collections if c.get_label() == "stay"]
    assert stays.get_offsets().tolist() == [[-178.0, 61.0]]
    assert stays.get_array().tolist() == [0.25]


def test_colors_of_differences_are_symmetric_around_zero() -> None:
    ax = draw_difference_map(make_differences(), title="seal 7: temperature (A), distance (B)")
    drawn = [c for c in ax.collections if isinstance(c, Quiver) or c.get_label() == "stay"]
    for part in drawn:
        assert part.norm.vmin == -part.norm.vmax  # type: ignore[operator]
        assert part.norm(0.0) == pytest.approx(0.5)
    low, middle, high = (drawn[0].cmap(v)[:3] for v in (0.0, 0.5, 1.0))
    assert low[0] > low[2]  # B better: red
    assert high[2] > high[0]  # A better: blue
    assert min(middle) > 0.9
    bar = ax.get_figure().axes[1]  # type: ignore[union-attr]
    assert bar.get_xlabel() == "ln p(A) - ln p(B), nats"
    assert ax.get_title(loc="left") == "seal 7: temperature (A), distance (B)"


def test_a_limit_of_the_difference_may_be_given_and_equal_models_draw_too() -> None:
    ax = draw_difference_map(make_differences(), limit=0.1)
    assert next(c for c in ax.collections if isinstance(c, Quiver)).norm.vmax == pytest.approx(0.1)
    draw_difference_map(make_differences().assign(difference=0.0))


# --- choice set


def test_cells_at_180_degrees_are_in_one_piece_and_have_their_probabilities() -> None:
    given = make_choice_set(-179.9, 66.0)
    ax = draw_choice_set(**given)
    (cells,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    np.testing.assert_allclose(cells.get_array(), given["probability"])
    widths = [np.ptp(path.vertices[:, 0]) for path in cells.get_paths()]
    assert max(widths) < 3
    low, high = ax.get_xlim()
    assert high - low < 15


def test_cells_at_the_pole_are_hexagons_too() -> None:
    ax = draw_choice_set(**make_choice_set(0.0, 89.9))
    (cells,) = [c for c in ax.collections if isinstance(c, PolyCollection)]
    assert max(np.ptp(path.vertices, axis=0).max() for path in cells.get_paths()) < 80  # km


def test_origin_is_a_ring_and_selected_a_cross_at_the_centroids() -> None:
    given = make_choice_set(10.0, 60.0)
    ring, cross = draw_choice_set(**given).lines
    lon, lat = hexgrid.centroids(np.array([given["origin"], given["selected"]]))
    assert (ring.get_marker(), cross.get_marker()) == ("o", "x")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((lon[0], lat[0]))
    assert (cross.get_xdata()[0], cross.get_ydata()[0]) == pytest.approx((lon[1], lat[1]))


def test_an_unknown_selection_is_not_drawn_and_equal_probabilities_are_fine() -> None:
    given = make_choice_set(10.0, 60.0) | {"selected": None}
    given["probability"] = np.full(len(given["cells"]), 1 / len(given["cells"]))
    ax = draw_choice_set(**given)
    assert len(ax.lines) == 1
    save_nothing = ax.get_figure()
    save_nothing.canvas.draw()  # type: ignore[union-attr]


def test_log_odds_instead_of_probabilities_are_refused() -> None:
    given = make_choice_set(10.0, 60.0)
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\]; got -?\d"):
        draw_choice_set(**(given | {"probability": np.log(given["probability"])}))
    with pytest.raises(ValueError, match="of one shape"):
        draw_choice_set(**(given | {"probability": given["probability"][:-1]}))


# --- style and saving


def test_a_color_means_the_same_model_in_every_figure_of_that_order() -> None:
    assert model_colors(["distance", "heading", "distance"]) == {"distance": COLORS[0], "heading": COLORS[1]}
    assert len(set(COLORS)) == len(COLORS) == MAX_LEGEND


def test_neither_import_nor_drawing_changes_the_global_settings() -> None:
    before = dict(mpl.rcParams)
    with style():
        assert mpl.rcParams["font.size"] == 8
    draw_training_curves(make_history(3))
    assert dict(mpl.rcParams) == before
    code = (
        "import warnings, matplotlib as m; a = dict(m.rcParams);"
        "import mimic.maps; b = dict(m.rcParams); assert {k: v for k, v in a.items() if k != 'backend'} == "
        "{k: v for k, v in b.items() if k != 'backend'}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_saved_figure_is_closed_and_has_200_dots_an_inch(tmp_path: Path) -> None:
    figure = new_figure(NARROW_CM, 5.0)
    figure.subplots().plot([0, 1])
    path = save_figure(figure, tmp_path / "new" / "figure.png")
    height, width, _ = plt.imread(path).shape
    assert (width, height) == (int(8 / 2.54 * 200), int(5 / 2.54 * 200))
    assert not plt.fignum_exists(figure.number)
    assert [p.name for p in path.parent.iterdir()] == ["figure.png"]


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")
    figure = new_figure()

    def half(name: Path, **_: Any) -> None:
        Path(name).write_bytes(b"half a fig")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in .png, .pdf or .svg; got figure.doc"):
        save_figure(new_figure(), tmp_path / "figure.doc")


# --- legible at 8 cm


def _bear() -> pd.DataFrame:
    turn = np.linspace(0, 330, 100)
    return make_tracks(turn, 80 + 5 * np.sin(np.radians(3 * turn)), "a polar bear")


READABLE: dict[str, Any] = {
    "tracks, 13": lambda: draw_tracks(many_tracks(13), width_cm=NARROW_CM),
    "tracks, 12 and split": lambda: draw_tracks(many_tracks(12).assign(part="train"), split="part", width_cm=NARROW_CM),
    "tracks over 180": lambda: draw_tracks(make_tracks([170.0, -150.0], [55.0, 72.0]), width_cm=NARROW_CM),
    "tracks, polar": lambda: draw_tracks(_bear(), width_cm=NARROW_CM),
    "tracks, high south": lambda: draw_tracks(make_tracks([0, 70, 145], [-65, -48, -66]), width_cm=NARROW_CM),
    "tracks, inland": lambda: draw_tracks(make_tracks([31.6, 32.4], [-25.1, -24.1]), width_cm=NARROW_CM),
    "tracks, a farm": lambda: draw_tracks(make_tracks([9.123, 9.145], [47.12, 47.13]), width_cm=NARROW_CM),
    "tracks, world": lambda: draw_tracks(make_tracks(np.arange(0, 350, 10), np.full(35, -40.0)), width_cm=NARROW_CM),
    "tracks by time": lambda: draw_tracks(many_tracks(2), color_by="time_utc", width_cm=NARROW_CM),
    "curves": lambda: draw_training_curves(make_history(), width_cm=NARROW_CM),
    "curves, models": lambda: draw_training_curves(
        pd.concat([make_history(40, "distance + heading + net primary production"), make_history(20, "none")]),
        width_cm=NARROW_CM,
    ),
    "curves, an ensemble": lambda: draw_training_curves(
        pd.concat([make_history(40, "distance"), make_ensemble_history("an_ensemble_with_a_linear_skip_of_distance")]),
        running={"an_ensemble_with_a_linear_skip_of_distance": "decision"},
        width_cm=NARROW_CM,
    ),
    "curves, folds only": lambda: draw_training_curves(make_ensemble_history("folds"), width_cm=NARROW_CM),
    "groups": lambda: draw_groups(make_evaluation(), width_cm=NARROW_CM),
    "groups, 5 models": lambda: draw_groups(
        make_evaluation(tuple(f"distance + heading + covariate {i}" for i in range(5))), width_cm=NARROW_CM
    ),
    "difference": lambda: draw_difference_map(
        make_differences(), title="EB2011_3001: distance + temperature (A), distance (B)", width_cm=NARROW_CM
    ),
    "choice set": lambda: draw_choice_set(**make_choice_set(-52.7, 47.5), width_cm=NARROW_CM),
    "choice set, linear": lambda: draw_choice_set(**make_choice_set(-179.9, 66.0), scale="linear", width_cm=NARROW_CM),
    "choice set, pole": lambda: draw_choice_set(**make_choice_set(0.0, 89.5), width_cm=NARROW_CM),
}


@pytest.mark.parametrize("name", READABLE)
def test_no_text_overlaps_or_is_cut_off_at_8_cm(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = READABLE[name]()
    figure = drawn.get_figure() if isinstance(drawn, Axes) else drawn
    assert figure.get_figwidth() == pytest.approx(NARROW_CM / 2.54)
    assert_readable(figure, monkeypatch)


def test_maps_in_panels_of_one_figure_do_not_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = new_figure(16.0, 14.0)
    panels = figure.subplots(2, 2)
    draw_tracks(many_tracks(3), panels[0, 0])
    draw_tracks(_bear(), panels[0, 1])
    draw_difference_map(make_differences(), panels[1, 0], title="a seal")
    assert draw_choice_set(**make_choice_set(0.0, 40.0), ax=panels[1, 1]) is panels[1, 1]
    assert_readable(figure, monkeypatch)

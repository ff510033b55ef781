"""Figures of the chain rule and of calibration: what is drawn is what the tables say, and no text is cut off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from mimic.calibration import reliability
from mimic.chain import chain_rule
from mimic.evaluation_figures import draw_chain, draw_feature_shares, draw_rank_histogram, draw_reliability
from mimic.figures import model_colors, new_figure, root_figure, save_figure
from mimic.ranks import rank_histogram
from mimic.schema import ChoiceSets
from mimic.used_habitat import feature_shares

STAGES = {
    "stay or move": {"stay": "distance_km == 0", "move": "distance_km > 0"},
    "band of distance to the next cell": {"near": "0 < distance_km <= 30", "far": "distance_km > 30"},
}


def study() -> tuple[dict[str, np.ndarray], ChoiceSets]:
    """300 decisions of 15 animals among 6 choices, no model, the truth, and a model with a long name."""
    rng = np.random.default_rng(0)
    n, size = 300, 6
    deep = rng.normal(size=(n, size))
    distance = np.tile([0.0, 10, 20, 40, 60, 80], (n, 1))
    true = 0.8 * deep - 0.05 * distance + np.where(distance == 0, 0.5, 0)
    individual = np.arange(n) % 15
    split = np.where(individual < 5, "validation", "train")
    decisions = pd.DataFrame({"individual": individual.astype(str), "decision": np.arange(n), "split": split})
    selected = np.arange(n) * size + (true + rng.gumbel(size=true.shape)).argmax(axis=1)
    features = {"distance_km": distance.ravel(), "deep": deep.ravel()}
    cs = ChoiceSets(decisions, np.arange(n + 1) * size, np.tile(np.arange(size), n), selected, features)
    models = {"none": np.zeros(n * size), "truth": true.ravel(), "distance and the depth of it": true.ravel() / 2}
    return models, cs


MODELS, CS = study()
CHAIN = chain_rule(MODELS, CS, STAGES)
RELIABILITY = reliability(MODELS, CS, bins=6)
RANKS = rank_histogram(MODELS, CS, bins=8)
SHARES = feature_shares(MODELS, CS, ["deep", "distance_km"], bins=5, n_simulations=50)
ALL: list[tuple[Callable[..., Axes], pd.DataFrame]] = [
    (draw_chain, CHAIN),
    (draw_reliability, RELIABILITY),
    (draw_rank_histogram, RANKS),
    (draw_feature_shares, SHARES),
]


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def rows_of(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    for name, value in {"split": "validation", "weighting": "individual", **where}.items():
        table = table[table[name] == value]
    return table


def points(ax: Axes, label: str) -> list[tuple[float, float]]:
    lines = [line for line in ax.lines if line.get_label() == label]
    return [(float(x), float(y)) for line in lines for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def test_bars_of_the_chain_are_the_gains_with_their_lifts() -> None:
    ax = draw_chain(CHAIN)
    rows = rows_of(CHAIN)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(rows["gain"].tolist())
    assert [text.get_text() for text in ax.texts] == [f"×{lift:.3g}" for lift in rows["lift"]]
    colors = model_colors(list(MODELS))
    assert [to_hex(bar.get_facecolor()) for bar in ax.patches] == [colors[m].lower() for m in rows["model"]]
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "stay or move",
        "band of distance\nto the next cell",
        "choice",
        "all",
    ]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(MODELS)


def test_gains_that_are_no_number_are_told() -> None:
    worst = CHAIN.assign(gain=np.where(CHAIN["model"] == "truth", -np.inf, np.nan))
    texts = {text.get_text().strip() for text in draw_chain(worst).texts}
    assert texts == {"impossible", "no decisions"}


def test_reliability_is_drawn_with_its_intervals_and_the_diagonal() -> None:
    ax = draw_reliability(RELIABILITY, split="train")
    for model in MODELS:
        rows = rows_of(RELIABILITY, split="train", model=model)
        np.testing.assert_allclose(points(ax, model), rows[["predicted", "observed"]].to_numpy())
    ends = [y for _, y in points(ax, "_interval")]
    rows = rows_of(RELIABILITY, split="train")
    assert sorted(ends) == pytest.approx(sorted([*rows["observed_low"], *rows["observed_high"]]))
    diagonal = points(ax, "_calibrated")
    assert all(x == y for x, y in diagonal)
    assert diagonal[-1][0] >= rows["observed_high"].max() * 0.999


def test_ranks_are_drawn_in_percent_beside_the_level_of_a_calibrated_model() -> None:
    ax = draw_rank_histogram(RANKS)
    for model in MODELS:
        rows = rows_of(RANKS, model=model)
        assert [y for _, y in points(ax, model)] == pytest.approx((100 * rows["observed"]).tolist())
        assert all(
            low <= x <= high
            for (x, _), low, high in zip(points(ax, model), rows["rank_low"], rows["rank_high"], strict=True)
        )
    assert ax.lines[0].get_ydata() == pytest.approx([12.5, 12.5])


def test_shares_show_prediction_observation_and_what_was_there() -> None:
    ax = draw_feature_shares(SHARES, feature="deep", unit="m")
    rows = rows_of(SHARES, feature="deep")
    assert sorted(x for x, _ in points(ax, "_predicted")) == pytest.approx(sorted(100 * rows["predicted"]))
    assert sorted(x for x, _ in points(ax, "_observed")) == pytest.approx(sorted(100 * rows["observed"]))
    one = rows[rows["model"] == "none"]
    assert sorted({x for x, _ in points(ax, "_available")}) == pytest.approx(sorted(100 * one["available"]))
    assert len(ax.get_yticklabels()) == 5
    assert ax.get_title(loc="left") == "deep, m: validation"


def test_values_and_unknown_values_are_named() -> None:
    assert [t.get_text() for t in draw_feature_shares(SHARES, feature="distance_km").get_yticklabels()] == [
        "0",
        "10",
        "20",
        "40",
        "60",
        "80",
    ]
    last = SHARES["bin"] == 5
    unknown = SHARES.assign(
        feature_low=SHARES["feature_low"].where(~last), feature_high=SHARES["feature_high"].where(~last)
    )
    assert draw_feature_shares(unknown, feature="deep").get_yticklabels()[-1].get_text() == "unknown"


@pytest.mark.parametrize(("draw", "table"), ALL)
def test_text_lies_within_the_figure_and_axes_can_be_given(
    draw: Callable[..., Axes], table: pd.DataFrame, tmp_path: Path
) -> None:
    ax = draw(table, width_cm=9.0)
    figure = root_figure(ax)
    figure.canvas.draw()
    drawn = figure.get_tightbbox()  # in inches, of all that is shown
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0, width - drawn.x1, height - drawn.y1) >= -0.01
    assert save_figure(ax, tmp_path / "figure.png").stat().st_size > 5000
    mine = new_figure().subplots()
    assert draw(table, mine) is mine


@pytest.mark.parametrize(("draw", "table"), ALL)
def test_rows_that_are_not_there_are_told(draw: Callable[..., Axes], table: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no row of the table is test by individual"):
        draw(table, split="test")
    with pytest.raises(ValueError, match="expected the column model"):
        draw(table.drop(columns="model"))
    with pytest.raises(ValueError, match="no row of the table is"):
        draw(table[:0])


def test_unknown_feature_is_told() -> None:
    with pytest.raises(ValueError, match="the table has no feature sst; it has deep, distance_km"):
        draw_feature_shares(SHARES, feature="sst")

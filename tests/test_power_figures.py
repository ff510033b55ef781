"""Power curves: shares with Wilson's intervals, the wanted power, and the animals that reach it."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from scipy import stats

from mimic.figures import COLORS
from mimic.power import POWER_COLUMNS, power_table
from mimic.power_figures import draw_power, wilson_interval

NUMBERS = [5, 10, 20, 40, 80]


def make_power(curves: dict[int, list[float]], **columns: object) -> pd.DataFrame:
    """A table of days -> power at 5, 10, 20, 40 and 80 animals, of 50 studies."""
    rows = [
        dict.fromkeys(POWER_COLUMNS, 0.0)
        | {"effect": "heading", "size": 0.03, "alpha": 0.05, "n_studies": 50, "truth": 0.1, "mean_se": 0.05}
        | {"n_days": days, "n_individuals": n, "power": p}
        for days, powers in curves.items()
        for n, p in zip(NUMBERS, powers, strict=True)
    ]
    return pd.DataFrame(rows).assign(**columns)


TABLE = make_power({30: [0.06, 0.08, 0.16, 0.3, 0.6], 60: [0.1, 0.2, 0.5, 0.7, 0.9]})


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def lines_of(ax: Axes, label: str) -> list[np.ndarray]:
    return [np.asarray(line.get_xydata()) for line in ax.lines if line.get_label() == label]


def intervals_of(ax: Axes) -> list[np.ndarray]:
    """(individuals, 2) lower and upper ends, one array a curve."""
    bars = [c for c in ax.collections if isinstance(c, LineCollection)]
    return [np.array([segment[:, 1] for segment in bar.get_segments()]) for bar in bars]


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [t.get_text() for t in legend.get_texts()]


def panels_of(table: pd.DataFrame, **options: float) -> list[Axes]:
    return [ax for ax in draw_power(table, **options).axes if ax.axison]


def test_intervals_are_those_of_wilson_and_have_a_width_at_0_and_1() -> None:
    for n_found, n in ((0, 50), (3, 50), (50, 50), (17, 20)):
        low, high = wilson_interval(np.array(n_found / n), np.array(n))
        known = stats.binomtest(n_found, n).proportion_ci(method="wilson")
        assert (float(low), float(high)) == pytest.approx((known.low, known.high), abs=1e-6)
    low, high = wilson_interval(np.array([0.0, 1.0]), np.array([50, 50]))
    assert (low[0], high[1]) == pytest.approx((0.0, 1.0), abs=1e-12)
    assert high[0] == pytest.approx(1 - low[1]) == pytest.approx(0.0714, abs=1e-4)


def test_curves_are_the_power_of_the_table_with_intervals() -> None:
    (ax,) = panels_of(TABLE.sample(frac=1, random_state=0))
    for days, own, interval in zip((30, 60), (lines_of(ax, "30"), lines_of(ax, "60")), intervals_of(ax), strict=True):
        rows = TABLE[TABLE["n_days"] == days]
        np.testing.assert_allclose(own[0], rows[["n_individuals", "power"]])
        low, high = wilson_interval(rows["power"].to_numpy(), rows["n_studies"].to_numpy())
        np.testing.assert_allclose(interval, np.column_stack([low, high]))
    looks = [
        (to_hex(line.get_color()), line.get_marker(), line.get_linestyle())
        for line in ax.lines[2:]
        if len(line.get_xdata()) == 5
    ]
    assert [look[0] for look in looks] == [c.lower() for c in COLORS[:2]]
    assert len({look[1:] for look in looks}) == 2  # told apart in gray
    assert ax.get_xticks().tolist() == NUMBERS


def test_the_animals_needed_are_marked_by_hand_and_named() -> None:
    # 60 days: .7 at 40 animals and .9 at 80: .8 at 60. 30 days do not reach it: by the standard error of 80 animals,
    # 80 * ((1.96 + .8416) * .05 / .1) ** 2 = 157 animals.
    (ax,) = panels_of(TABLE)
    (mark,) = lines_of(ax, "_needed")
    np.testing.assert_allclose(mark, [(60, 0), (60, 0.8)])
    assert legend_of(ax) == ["30 days: about 157 animals", "60 days: 60 animals", "wanted: 80 %", "alpha: 5 %"]
    (wanted,), (alpha,) = lines_of(ax, "_wanted"), lines_of(ax, "_alpha")
    assert wanted[:, 1].tolist() == [0.8, 0.8]
    assert alpha[:, 1].tolist() == [0.05, 0.05]
    assert [line.get_linestyle() for line in ax.lines if line.get_label() == "_alpha"] == [":"]
    (ax,) = panels_of(TABLE, wanted=0.1)
    assert legend_of(ax)[:3] == ["30 days: 13 animals", "60 days: at most 5 animals", "wanted: 10 %"]
    assert [mark[0, 0] for mark in lines_of(ax, "_needed")] == pytest.approx([12.5])


def test_effects_and_sizes_have_panels_and_days_the_same_color_in_all() -> None:
    more = make_power({60: [0.5, 0.6, 0.7, 0.8, 0.9]}, effect="covariate", size=0.2, sd=0.3)
    none = make_power({30: [0.04] * 5, 60: [0.06] * 5}, effect="irrelevant", size=0.0)
    panels = panels_of(pd.concat([TABLE, more, none]), width_cm=17.0)
    assert [ax.get_title(loc="left").replace("\n", " ") for ax in panels] == [
        "heading, tilt 3 %",
        "covariate, 0.2 nats per sd, sd between animals 0.3 nats",
        "irrelevant, share of false positives",
    ]
    of_60 = [to_hex(line.get_color()) for ax in panels for line in ax.lines if line.get_label() == "60"]
    assert of_60 == [COLORS[1].lower()] * 3
    assert legend_of(panels[2]) == ["30 days", "60 days", "alpha: 5 %"]
    assert lines_of(panels[2], "_wanted") == []


def test_sizes_are_the_lines_where_there_is_one_number_of_days() -> None:
    large = make_power({30: [0.3, 0.5, 0.8, 0.9, 1.0]}, size=0.06)
    (ax,) = panels_of(pd.concat([make_power({30: [0.0] * 5}, mean_se=np.nan), large]))
    assert ax.get_title(loc="left") == "heading, 30 days"
    assert legend_of(ax)[:2] == ["tilt 3 %: cannot be told", "tilt 6 %: 20 animals"]
    (ax,) = panels_of(large.assign(effect="perimeter", size=0.01))
    assert ax.get_title(loc="left") == "perimeter, p up to 0.01"


def test_a_simulated_table_is_drawn() -> None:
    table = power_table("heading", size=0.3, individuals=[3, 6], days=[5], n_studies=4)
    (ax,) = panels_of(table)
    assert lines_of(ax, "5")[0][:, 1].tolist() == table["power"].tolist()


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
def test_every_label_can_be_read(width_cm: float) -> None:
    close = make_power({30: [0.3, 0.5, 0.8, 0.9, 1.0], 60: [0.4, 0.6, 0.9, 1.0, 1.0]}, effect="covariate", sd=0.3)
    close = close.assign(n_individuals=close["n_individuals"].replace({40: 78, 10: 6}))
    none = make_power({30: [0.04] * 5, 60: [0.06] * 5}, effect="irrelevant", size=0.0)
    assert_legible(draw_power(pd.concat([TABLE, close, none]), width_cm=width_cm))


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="power table: expected the columns alpha, power"):
        draw_power(TABLE.drop(columns=["power", "alpha"]))
    with pytest.raises(ValueError, match="at least one row of a power table; got none"):
        draw_power(TABLE[:0])
    with pytest.raises(ValueError, match="each number of animals and days once for an effect; got some several times"):
        draw_power(pd.concat([TABLE, TABLE]))
    with pytest.raises(ValueError, match="power must lie between 0 and 1, such as 0.8; got 1"):
        draw_power(TABLE, wanted=1.0)

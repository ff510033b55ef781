"""Figures by individual and month: what is drawn is what the tables say, for 6 and for 111 individuals, legibly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from mimic.figures import COLORS, MARKERS, model_colors, new_figure
from mimic.individual_figures import (
    draw_individual_differences,
    draw_months,
    draw_stay_against_score,
    draw_stay_distribution,
)
from mimic.individual_tables import MONTH_COLUMNS
from mimic.looks import looks_of
from mimic.stay_shares import stay_distribution

WIDTHS = (8.0, 17.0)
SITES = ["Dutch Harbor", "Chignik", "Kodiak", "Yakutat"]


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def differences(n: int = 6, n_validation: int = 2, pairs: tuple[tuple[str, str], ...] = (("b", "a"),)) -> pd.DataFrame:
    """Differences of so many individuals, the first ones validating, the best of them in the middle."""
    rng = np.random.default_rng(n)
    parts = []
    for model, other in pairs:
        d = rng.normal(0.1, 0.1, size=n)
        split = np.where(np.arange(n) < n_validation, "validation", "train")
        names = [f"fish {k:03d}" for k in range(n)]
        table = pd.DataFrame({"model": model, "other": other, "split": split, "individual": names, "difference": d})
        table = table.assign(site=[SITES[k % 4] for k in range(n)], length_cm=150.0 + np.arange(n))
        parts.append(table.assign(difference_low=d - 0.05, difference_high=d + 0.1))
    return pd.concat(parts, ignore_index=True)


def panels_of(figure: Figure, n_columns: int) -> list[list[Axes]]:
    axes = [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]
    return [axes[k : k + n_columns] for k in range(0, len(axes), n_columns)]


def drawn(ax: Axes, label: str) -> list[list[float]]:
    return [[float(x) for x in np.asarray(line.get_xdata())] for line in ax.lines if line.get_label() == label]


def legend_texts(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_differences_are_drawn_from_the_largest_with_intervals_and_names() -> None:
    table = differences()
    validation, train = panels_of(draw_individual_differences(table, color_by="site"), 2)[0]
    own = table[table["split"] == "train"].sort_values("difference", ascending=False)
    assert drawn(train, "_difference") == [[d] for d in own["difference"]]
    assert drawn(train, "_stem") == [[0, d] for d in own["difference"]]
    assert drawn(train, "_interval") == own[["difference_low", "difference_high"]].values.tolist()
    assert [label.get_text() for label in train.get_yticklabels()] == own["individual"].tolist()
    heights = [float(np.asarray(line.get_ydata())[0]) for line in train.lines if line.get_label() == "_difference"]
    assert heights == [0, 1, 2, 3]
    assert train.get_ylim()[0] > train.get_ylim()[1]  # the first at the top
    assert len(drawn(validation, "_difference")) == 2
    assert validation.get_xlim() == train.get_xlim()


def test_share_improved_stands_above_each_panel_with_ties_half() -> None:
    table = differences(8, 3)
    table.loc[table["split"] == "train", "difference"] = [0.2, 0.0, -0.1, 0.3, 0.4]
    table.loc[table["split"] == "validation", "difference"] = [np.inf, -0.1, np.nan]
    validation, train = panels_of(draw_individual_differences(table, width_cm=17), 2)[0]
    assert [t.get_text() for t in train.texts] == ["train\n70 % of 5 improved"]
    assert [t.get_text() for t in validation.texts] == ["validation\n50 % of 2 improved"]
    assert len(drawn(validation, "_difference")) == 1  # what is not finite has no place
    assert validation.get_title(loc="left") == "b against a"  # of the first panel of the row


def test_pairs_are_rows_and_a_pair_may_miss_a_split() -> None:
    table = differences(6, 2, (("b", "a"), ("c", "b")))
    table = table[(table["model"] == "b") | (table["split"] == "train")]
    rows = panels_of(draw_individual_differences(table), 2)
    assert [row[0].get_title(loc="left") for row in rows] == ["b against a", "c against b"]
    assert [t.get_text() for t in rows[1][0].texts] == ["validation\nno individuals"]
    assert rows[0][0].get_xlim() != rows[1][0].get_xlim()


def test_color_and_marker_are_those_of_the_column_in_all_panels() -> None:
    table = differences(12, 4)
    figure = draw_individual_differences(table, color_by="site", colors={"Kodiak": "#123456"})
    assert legend_texts(figure) == SITES
    expected = {"Dutch Harbor": COLORS[0], "Chignik": COLORS[1], "Kodiak": "#123456", "Yakutat": COLORS[3]}
    for panel, split in zip(panels_of(figure, 2)[0], ("validation", "train"), strict=True):
        own = table[table["split"] == split].sort_values("difference", ascending=False)
        lines = [line for line in panel.lines if line.get_label() == "_difference"]
        assert [to_hex(line.get_color()) for line in lines] == [expected[s].lower() for s in own["site"]]
        assert [line.get_marker() for line in lines] == [MARKERS[SITES.index(s)] for s in own["site"]]


def test_many_numbers_are_shades_with_a_color_bar() -> None:
    figure = draw_individual_differences(differences(20, 5), color_by="length_cm")
    bars = [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]
    assert [bar.get_xlabel() for bar in bars] == ["length_cm"]
    assert not figure.legends


def test_beyond_forty_individuals_have_no_names() -> None:
    for n_train, named in ((40, True), (41, False)):
        _, train = panels_of(draw_individual_differences(differences(n_train + 1, 1)), 2)[0]
        assert len(drawn(train, "_difference")) == n_train
        assert bool(train.get_yticklabels()) is named
        assert bool(drawn(train, "_stem")) is named


def test_long_names_keep_their_ends() -> None:
    table = differences(2, 0).assign(individual=["EB2009_3000_06A1346", "EB2009_3000_09S0188"])
    panel = panels_of(draw_individual_differences(table), 1)[0][0]
    assert {label.get_text() for label in panel.get_yticklabels()} == {"EB2009…06A1346", "EB2009…09S0188"}


LONG = (("a network with a rather long name", "the conditional logit of it all"), ("short", "other"))


@pytest.mark.parametrize("width_cm", WIDTHS)
@pytest.mark.parametrize(("n", "color_by"), [(6, None), (32, "length_cm"), (111, "site")])
def test_differences_are_legible(n: int, color_by: str | None, width_cm: float) -> None:
    table = differences(n, max(2, n // 4), LONG)
    assert_legible(draw_individual_differences(table, color_by=color_by, width_cm=width_cm))


def test_three_splits_are_legible_in_a_column() -> None:
    table = differences(12, 4)
    table.loc[table.index[-3:], "split"] = "test"
    assert_legible(draw_individual_differences(table, color_by="site", width_cm=8.0))


def scores(n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    share, n_decisions = rng.uniform(0.1, 0.9, size=n), rng.integers(20, 400, size=n)
    parts = [
        pd.DataFrame(
            {
                "individual": [f"a{k}" for k in range(n)],
                "split": np.where(np.arange(n) < n // 3, "validation", "train"),
                "model": model,
                "n_decisions": n_decisions,
                "log_probability": -3 + gain * share,
                "stay_share": share,
            }
        )
        for model, gain in (("none", 0.0), ("distance", 1.0), ("conditional_logit", 2.0))
    ]
    return pd.concat(parts, ignore_index=True)


def test_markers_are_shares_and_scores_with_areas_of_decisions() -> None:
    table = scores()
    ax = draw_stay_against_score(table)
    clouds = {c.get_label(): c for c in ax.collections}
    assert len(clouds) == 6
    own = table[(table["model"] == "distance") & (table["split"] == "train")]
    cloud = clouds["_distance, train"]
    np.testing.assert_allclose(cloud.get_offsets(), np.column_stack([100 * own["stay_share"], own["log_probability"]]))
    areas = np.asarray(cloud.get_sizes())
    large = own["n_decisions"].to_numpy() > 40
    ratio = areas[large] / own["n_decisions"].to_numpy()[large]
    assert ratio == pytest.approx(44 / table["n_decisions"].max())
    colors = model_colors(["none", "distance", "conditional_logit"])
    assert to_hex(cloud.get_edgecolor()[0]) == colors["distance"].lower()
    assert len(cloud.get_facecolor()) == 0  # training individuals are open
    assert to_hex(clouds["_distance, validation"].get_facecolor()[0]) == colors["distance"].lower()
    joined = [line for line in ax.lines if line.get_label() == "_individual"]
    assert len(joined) == 12


def test_chosen_models_and_splits_alone_are_drawn_with_their_color_and_marker() -> None:
    ax = draw_stay_against_score(scores(), models=["conditional_logit"], splits=["validation"])
    assert [c.get_label() for c in ax.collections] == ["_conditional_logit, validation"]
    assert to_hex(ax.collections[0].get_facecolor()[0]) == COLORS[2].lower()
    legend = ax.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()][:2] == ["conditional_logit", "validation"]
    assert legend.legend_handles[0].get_marker() == MARKERS[2]  # type: ignore[union-attr]


def test_individuals_without_a_share_or_a_finite_score_are_left_out() -> None:
    table = scores()
    table.loc[0, "log_probability"] = -np.inf
    table.loc[5, "stay_share"] = np.nan
    ax = draw_stay_against_score(table, models=["none"])
    assert sum(len(c.get_offsets()) for c in ax.collections) == 10
    with pytest.raises(ValueError, match="no individual has both a stay share and a finite log_probability"):
        draw_stay_against_score(table.assign(stay_share=np.nan))


@pytest.mark.parametrize("width_cm", WIDTHS)
def test_stays_against_scores_are_legible(width_cm: float) -> None:
    assert_legible(draw_stay_against_score(scores(), width_cm=width_cm))
    assert_legible(draw_stay_against_score(scores(), models=["distance"], width_cm=width_cm))


def distribution(n_stay: tuple[int, ...] = (2, 10, 12, 25), n: int = 40, **options: int) -> pd.DataFrame:
    shares = pd.DataFrame({"split": "all", "individual": list("abcd")[: len(n_stay)], "n_decisions": n})
    return stay_distribution(shares.assign(n_stay=list(n_stay), share=0.0), **options)


def test_histogram_and_expectation_are_those_of_the_table() -> None:
    table = distribution()
    ax = draw_stay_distribution(table)
    assert [bar.get_height() for bar in ax.patches[:20]] == table["observed"].tolist()
    assert [bar.get_x() for bar in ax.patches[:20]] == pytest.approx((100 * table["share_low"]).tolist())
    steps = [p for p in ax.patches if hasattr(p, "get_data")]
    assert len(steps) == 1
    values, edges, _ = steps[0].get_data()  # type: ignore[attr-defined]
    assert values == pytest.approx(table["expected"].to_numpy())
    assert edges == pytest.approx(np.arange(0, 101, 5))
    low, high = ax.get_xlim()
    assert low < 5  # 2 of 40 stay
    assert 65 < high < 75


def test_overdispersion_and_p_are_written() -> None:
    assert " ".join(draw_stay_distribution(distribution()).get_title(loc="left").split()) == (
        f"4 individuals, overdispersion {distribution()['overdispersion'][0]:.3g}, p < 0.001"
    )
    alike = distribution((10, 11, 12, 9)).iloc[0]
    title = draw_stay_distribution(distribution((10, 11, 12, 9))).get_title(loc="left")
    assert f"p = {alike['p_homogeneity']:.2g}" in title
    few = draw_stay_distribution(distribution((1, 2), n=20)).get_title(loc="left")
    assert "(few expected stays)" in " ".join(few.split())
    assert "no test of a common share" in draw_stay_distribution(distribution((5,))).get_title(loc="left")


@pytest.mark.parametrize("width_cm", WIDTHS)
def test_distributions_are_legible(width_cm: float) -> None:
    for n_stay, n in (((1, 2), 20), ((5,), 40)):
        assert_legible(draw_stay_distribution(distribution(n_stay, n), width_cm=width_cm))


def months(gaps: tuple[int, ...] = (3, 4, 6)) -> pd.DataFrame:
    month = np.arange(1, 13)
    there = ~np.isin(month, gaps)
    parts = []
    for split in ("train", "validation"):
        for model, gain in (("none", 0.0), ("distance", 1.0), ("environment", 1.5)):
            value = np.where(there, gain + 0.1 * month, np.nan)
            table = pd.DataFrame({"model": model, "split": split, "choice_group": "all", "month": month})
            table = table.assign(n_individuals=3 * there, n_decisions=100 * there * month, note="")
            for name, y in (("gain", value), ("log_probability", value - 3), ("null", np.where(there, -3.0, np.nan))):
                table = table.assign(**{name: y, f"{name}_low": y - 0.2, f"{name}_high": y + 0.3})
            parts.append(table[MONTH_COLUMNS])
    return pd.concat(parts, ignore_index=True)


def line_of(ax: Axes, label: str) -> np.ndarray:
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return np.asarray(line.get_ydata(), dtype=float)


def test_months_are_lines_with_gaps_above_bars_of_decisions() -> None:
    table = months()
    figure = draw_months(table)
    top, below = panels_of(figure, 2)
    own = table[(table["model"] == "environment") & (table["split"] == "validation")]
    np.testing.assert_array_equal(line_of(top[1], "environment"), own["gain"])
    np.testing.assert_array_equal(line_of(top[1], "_null"), np.zeros(12))
    assert [bar.get_height() for bar in below[1].patches] == own["n_decisions"].tolist()
    assert [t.get_text() for t in below[0].get_xticklabels()] == list("JFMAMJJASOND")
    assert top[0].get_ylabel() == "gain over no model,\nnats per decision"
    assert [ax.get_title(loc="left") for ax in top] == ["train", "validation"]
    assert legend_texts(figure) == ["none", "distance", "environment", "no model"]


def test_bands_are_intervals_and_a_month_alone_has_a_bar() -> None:
    table = months()
    ((top,), _) = panels_of(draw_months(table, models=["distance"], splits=["train"]), 1)
    own = table[(table["model"] == "distance") & (table["split"] == "train")].set_index("month")
    (band,) = (c for c in top.collections if c.get_label() == "_band distance")
    ends = np.concatenate([path.vertices for path in band.get_paths()])
    for month in (1, 2, 7, 12):
        y = ends[ends[:, 0] == month, 1]
        assert y.min() == pytest.approx(own.loc[month, "gain_low"])
        assert y.max() == pytest.approx(own.loc[month, "gain_high"])
    assert not set(ends[:, 0]) & {3, 4, 6}
    (alone,) = (c for c in top.collections if c.get_label() == "_alone")
    assert [s.tolist() for s in alone.get_segments()] == [
        [[5, pytest.approx(own.loc[5, "gain_low"])], [5, pytest.approx(own.loc[5, "gain_high"])]]
    ]


def test_log_probability_stands_beside_that_of_no_model() -> None:
    table = months()
    ((top,), _) = panels_of(draw_months(table, value="log_probability", models=["distance"], splits=["train"]), 1)
    own = table[(table["model"] == "distance") & (table["split"] == "train")]
    np.testing.assert_array_equal(line_of(top, "distance"), own["log_probability"])
    np.testing.assert_array_equal(line_of(top, "_null"), own["null"])
    (line,) = (line for line in top.lines if line.get_label() == "distance")
    assert (to_hex(line.get_color()), line.get_marker()) == (COLORS[1].lower(), MARKERS[1])


def test_scale_is_that_of_the_lines_and_not_of_the_widest_band() -> None:
    table = months()
    wide = table.assign(gain_low=table["gain"] - 500, gain_high=table["gain"] + 500)
    ((top, _), _) = panels_of(draw_months(wide), 2)
    low, high = top.get_ylim()
    assert low == pytest.approx(-0.5 * 2.7)  # the lines reach from 0 to 1.5 + 1.2
    assert high == pytest.approx(2.7 + 0.5 * 2.7)


@pytest.mark.parametrize("width_cm", WIDTHS)
@pytest.mark.parametrize("value", ["gain", "log_probability"])
def test_months_are_legible(value: Any, width_cm: float) -> None:
    assert_legible(draw_months(months(), value=value, width_cm=width_cm))
    assert_legible(draw_months(months(tuple(range(2, 13))), value=value, models=["distance"], width_cm=width_cm))


def test_rare_values_are_other_and_missing_ones_unknown() -> None:
    values = [f"v{k}" for k in range(14) for _ in range(20 - k)] + [None]
    looks = looks_of(pd.DataFrame({"site": values}), "site")
    labels = [str(handle.get_label()) for handle in looks.handles]
    assert labels == [*(f"v{k}" for k in range(11)), "other", "unknown"]
    assert looks.of("v0") == (COLORS[0], MARKERS[0])
    assert looks.of("v11") == looks.of("v13") != looks.of("v10")
    assert looks.of(None)[0] == looks.of(np.nan)[0] != looks.of("v13")[0]


def test_twelve_numbers_are_values_and_thirteen_are_shades() -> None:
    few = looks_of(pd.DataFrame({"length": np.arange(12.0)}), "length")
    assert few.shades is None
    assert [str(handle.get_label()) for handle in few.handles] == [str(k) for k in range(12)]
    many = looks_of(pd.DataFrame({"length": [*np.arange(13.0), np.nan]}), "length")
    assert many.shades is not None
    assert many.shades.get_clim() == (0, 12)
    assert to_rgba(many.of(0.0)[0]) != to_rgba(many.of(12.0)[0])
    assert many.of(np.nan) == ("0.62", "o")
    assert looks_of(pd.DataFrame({"length": [1.0]}), None).of(5) == (COLORS[0], MARKERS[0])


def test_axes_can_be_given() -> None:
    for draw, table in ((draw_stay_against_score, scores()), (draw_stay_distribution, distribution())):
        mine = new_figure().subplots()
        assert draw(table, mine) is mine  # type: ignore[operator]


def test_what_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="individual differences: expected the columns difference, site"):
        draw_individual_differences(differences().drop(columns=["difference", "site"]), color_by="site")
    with pytest.raises(ValueError, match="the table of individual differences has no rows"):
        draw_individual_differences(differences()[:0])
    with pytest.raises(ValueError, match="unknown model truth; known are none, distance, conditional_logit"):
        draw_stay_against_score(scores(), models=["truth"])
    with pytest.raises(ValueError, match=r"unknown model \(none\)"):
        draw_stay_against_score(scores(), models=[])
    with pytest.raises(ValueError, match="unknown split test; known are all"):
        draw_stay_distribution(distribution(), split="test")
    with pytest.raises(ValueError, match="the table of stay distribution has no rows"):
        draw_stay_distribution(distribution()[:0])
    with pytest.raises(ValueError, match="value must be gain or log_probability; got 'gmp'"):
        draw_months(months(), value="gmp")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the table of months has no rows"):
        draw_months(months()[:0])
    with pytest.raises(ValueError, match="month table: expected the column gain_low"):
        draw_months(months().drop(columns="gain_low"))

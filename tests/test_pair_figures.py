"""Errors by pair of bins: squares of the right place, area and color, and names that tell bins apart."""

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
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba_array

from mimic.figures import new_figure, root_figure
from mimic.maps import DIFFERENCES
from mimic.pair_figures import draw_bin_pairs, short_names
from mimic.schema import ChoiceSets
from mimic.win_rates import win_rates

# Three bins, numbered in another order than that of their distances: bin 0 lies farthest.
NAMES = {0: "km 50 to 90", 1: "km = 0", 2: "km 10 to 40"}


def make_table(rows: list[tuple[int, int, float, float]], **columns: object) -> pd.DataFrame:
    """Rows of (bin a, bin b, weight, predicted - observed)."""
    table = pd.DataFrame(rows, columns=["bin_a", "bin_b", "weight", "difference"])
    table = table.assign(model="m", split="validation", **columns)
    return table.assign(a=table["bin_a"].map(NAMES), b=table["bin_b"].map(NAMES))


TABLE = make_table([(0, 1, 0.64, 0.10), (0, 2, 0.16, -0.04), (1, 2, 0.04, 0.02), (2, 2, 0.16, 0.0)])


def many_bins(n: int = 16, name: str = "distance_km {:g} to {:g}, stay = 0") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    pairs = [(a, b) for a in range(n) for b in range(a, n)]
    weight = rng.gamma(0.5, size=len(pairs))
    table = pd.DataFrame(pairs, columns=["bin_a", "bin_b"]).assign(weight=weight / weight.sum())
    table["difference"] = np.where(table["bin_a"] == table["bin_b"], 0.0, rng.normal(0, 0.08, len(pairs)))
    names = {k: name.format(12.5 * k, 12.5 * (k + 1)) for k in range(n)}
    return table.assign(model="m", split="validation", a=table["bin_a"].map(names), b=table["bin_b"].map(names))


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def squares_of(ax: Axes) -> tuple[dict[tuple[int, int], tuple[float, float]], PatchCollection]:
    """(row, column) from 1 -> area of the square and its error in percent; and the collection."""
    (found,) = [c for c in ax.collections if isinstance(c, PatchCollection)]
    boxes = [path.get_extents() for path in found.get_paths()]
    places = [(round((b.y0 + b.y1) / 2) + 1, round((b.x0 + b.x1) / 2) + 1) for b in boxes]
    values = zip((b.width * b.height for b in boxes), found.get_array().tolist(), strict=True)
    return dict(zip(places, values, strict=True)), found


def listed(ax: Axes) -> list[str]:
    legend = root_figure(ax).axes[1].get_legend()
    return [] if legend is None else [t.get_text() for t in legend.get_texts()]


def test_squares_by_hand_have_the_area_of_the_weight_and_the_error_seen_from_the_nearer_bin() -> None:
    # By distance: bin 1 (0 km) is the first, bin 2 the second, bin 0 the third.
    # Bin 0 wins 10 % too often against bin 1: seen from bin 1, the row, 10 % too seldom.
    squares, _ = squares_of(draw_bin_pairs(TABLE))
    errors = {place: error for place, (_, error) in squares.items()}
    assert errors == pytest.approx({(1, 3): -10.0, (2, 3): 4.0, (1, 2): 2.0, (2, 2): 0.0})
    areas = {place: area for place, (area, _) in squares.items()}
    largest = 0.96**2
    assert areas == pytest.approx(
        {(1, 3): largest, (2, 3): largest / 4, (1, 2): largest / 16, (2, 2): largest / 4}, rel=1e-6
    )


def test_colors_are_symmetric_and_those_of_differences() -> None:
    _, squares = squares_of(draw_bin_pairs(TABLE, limit=0.05))
    assert squares.get_clim() == (-5.0, 5.0)
    squares.update_scalarmappable()
    expected = [DIFFERENCES((np.clip(e, -5, 5) + 5) / 10) for e in squares.get_array()]
    np.testing.assert_allclose(squares.get_facecolor(), to_rgba_array(expected), atol=0.01)
    assert squares.colorbar.extend == "both"


def test_rare_pairs_do_not_set_the_limit_of_the_colors() -> None:
    rare = make_table([(0, 1, 0.60, 0.03), (0, 2, 0.39, -0.05), (1, 2, 0.01, 0.60)])
    assert squares_of(draw_bin_pairs(rare))[1].get_clim() == pytest.approx((-5.0, 5.0))
    alone = make_table([(2, 2, 1.0, 0.0)])
    assert squares_of(draw_bin_pairs(alone))[1].get_clim() == (-1.0, 1.0)


def test_numbers_are_written_where_they_have_room_with_their_sign() -> None:
    texts = {tuple(round(v) + 1 for v in t.get_position()[::-1]): t.get_text() for t in draw_bin_pairs(TABLE).texts}
    assert texts == {(1, 3): "−10", (2, 3): "+4", (1, 2): "+2"}  # nothing for a bin with itself
    narrow = draw_bin_pairs(many_bins(), width_cm=8.0)
    squares, _ = squares_of(narrow)
    written = [squares[tuple(round(v) + 1 for v in t.get_position()[::-1])] for t in narrow.texts]
    assert 0 < len(written) < len(squares) / 2
    unwritten = [square for square in squares.values() if square not in written and abs(square[1]) > 0.5]
    assert np.mean([area for area, _ in written]) > np.mean([area for area, _ in unwritten])


def test_bins_are_named_in_order_beside_their_rows_or_below() -> None:
    wide = draw_bin_pairs(TABLE, width_cm=17.0)
    assert [t.get_text() for t in wide.get_yticklabels()] == ["km = 0   1", "km 10 to 40   2", "km 50 to 90   3"]
    assert [t.get_text() for t in wide.get_xticklabels()] == ["1", "2", "3"]
    assert listed(wide) == []
    table = many_bins(4)
    narrow = draw_bin_pairs(table, width_cm=8.0)
    assert [t.get_text() for t in narrow.get_yticklabels()] == ["1", "2", "3", "4"]
    assert [text[:24] for text in listed(narrow)] == [
        "1: distance_km 0 to 12.5",
        "2: distance_km 12.5 to 2",
        "3: distance_km 25 to 37.",
        "4: distance_km 37.5 to 5",
    ]


def test_features_that_are_everywhere_are_not_named() -> None:
    names = [
        "km = 0, stay = 1, sin = 0, sst 2 to 9",
        "km 10 to 20, stay = 0, sin -1 to 1, sst 3 to 9",
        "km 20 to 30, stay = 0, sin -0.9 to 1, sst 2 to 8",
    ]
    assert short_names(names) == ["km = 0, stay = 1", "km 10 to 20, stay = 0", "km 20 to 30, stay = 0"]
    halves = ["sin -1 to 0, sst 2 to 9", "sin 0 to 1, sst 2 to 9"]  # wide ranges that only touch
    assert short_names(halves) == ["sin -1 to 0", "sin 0 to 1"]
    assert short_names(["all choices"]) == ["all choices"]
    same = ["a = 0, b 1 to 3", "a = 0, b 1 to 4", "a = 1, b 1 to 4"]
    assert short_names(same) == same  # without b, two would be the same


def test_a_real_table_is_drawn_whole() -> None:
    rng = np.random.default_rng(0)
    n = 200
    x = np.tile([0.0, 1.0, 2.0, 3.0], n)
    decisions = pd.DataFrame({"individual": np.arange(n) % 5, "decision": np.arange(n), "split": "train"})
    selected = 4 * np.arange(n) + rng.integers(0, 4, n)
    cs = ChoiceSets(decisions.astype({"individual": str}), 4 * np.arange(n + 1), x.astype(int), selected, {"x": x})
    table = win_rates({"none": 0 * x, "line": -x}, cs, ["x"])
    ax = draw_bin_pairs(table, model="line")
    squares, _ = squares_of(ax)
    line = table[table["model"] == "line"]
    assert len(squares) == len(line) == 6
    assert sum(area for area, _ in squares.values()) == pytest.approx(0.96**2 / line["weight"].max())
    assert squares[1, 4][1] == pytest.approx(100 * line.set_index(["a", "b"]).loc[("x = 0", "x = 3"), "difference"])
    assert ax.get_title(loc="left") == "line, train"


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
@pytest.mark.parametrize(
    "table",
    [many_bins(), many_bins(16, "sea surface temperature {:g} to {:g}, far from the coast of the mainland = 0"), TABLE],
    ids=["16 bins", "long names", "3 bins"],
)
def test_every_label_can_be_read(table: pd.DataFrame, width_cm: float) -> None:
    assert_legible(draw_bin_pairs(table, width_cm=width_cm))


def test_axes_can_be_given() -> None:
    mine = new_figure().subplots()
    assert draw_bin_pairs(TABLE, mine) is mine


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="win rates: expected the columns weight, difference"):
        draw_bin_pairs(TABLE.drop(columns=["weight", "difference"]))
    with pytest.raises(ValueError, match="at least one pair of bins; got none: no decision has a contrast"):
        draw_bin_pairs(TABLE[:0])
    with pytest.raises(ValueError, match="is of n and test; there are the models m and the splits validation"):
        draw_bin_pairs(TABLE, model="n", split="test")
    with pytest.raises(ValueError, match=r"limit must be a share above 0, such as 0.1; got 0"):
        draw_bin_pairs(TABLE, limit=0.0)

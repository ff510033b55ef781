"""The chain rule as stacked bars: segments are the gains, end at the whole, and can be told apart in gray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.patches import Rectangle

from mimic.chain import chain_rule
from mimic.chain_figures import draw_stacked_chain, ink_on, tint
from mimic.figures import model_colors, new_figure, root_figure
from mimic.schema import ChoiceSets

STAGES = ["stay or move", "how far", "choice"]


def make_chain(gains: dict[str, Sequence[float]], stages: Sequence[str] = STAGES, **columns: object) -> pd.DataFrame:
    """The rows of models with these gains, and their sum."""
    rows = []
    for model, parts in gains.items():
        for stage, gain in zip([*stages, "all"], [*parts, sum(parts)], strict=True):
            rows.append({"model": model, "stage": stage, "gain": gain, "gain_low": gain - 0.1, "gain_high": gain + 0.1})
    table = pd.DataFrame(rows).assign(split="validation", behavior_group="all", weighting="individual")
    return table.assign(lift=np.exp(table["gain"].astype(float)), **columns)


CHAIN = make_chain({"none": (0.0, 0.0, 0.0), "distance": (0.5, 0.25, 0.01), "heading": (-0.2, 0.3, 0.4)})


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def segments(ax: Axes, y: int) -> list[Rectangle]:
    return [p for p in ax.patches if isinstance(p, Rectangle) and round(p.get_y() + p.get_height() / 2) == y]


def spans(ax: Axes, y: int) -> list[tuple[float, float]]:
    return [(p.get_x(), p.get_x() + p.get_width()) for p in segments(ax, y)]


def shown(ax: Axes) -> list[str]:
    return [t.get_text() for t in ax.texts if t.get_visible()]


def test_segments_by_hand_are_stacked_and_end_at_the_whole() -> None:
    ax = draw_stacked_chain(CHAIN)
    assert segments(ax, 0) == []
    # .5, then .25 and .01 to the right of it: .76 in all
    assert np.array(spans(ax, 1)) == pytest.approx(np.array([(0, 0.5), (0.5, 0.75), (0.75, 0.76)]))
    # a loss of .2 to the left of 0; .3 and .4 to the right: .5 in all
    assert np.array(spans(ax, 2)) == pytest.approx(np.array([(0, -0.2), (0, 0.3), (0.3, 0.7)]))
    wholes = [float(line.get_xdata()[0]) for line in ax.lines if line.get_label() == "_whole"]
    assert wholes == pytest.approx([0.0, 0.76, 0.5])
    intervals = [list(line.get_xdata()) for line in ax.lines if line.get_label() == "_interval"]
    assert np.array(intervals) == pytest.approx(np.array([(-0.1, 0.1), (0.66, 0.86), (0.4, 0.6)]))


def test_segments_of_a_real_chain_add_up_to_the_gain_of_all() -> None:
    rng = np.random.default_rng(0)
    n, distance = 200, np.tile([0.0, 10.0, 20.0, 40.0, 60.0], 200)
    deep = rng.normal(size=5 * n)
    utility = 0.8 * deep - 0.05 * distance
    selected = 5 * np.arange(n) + (utility + rng.gumbel(size=5 * n)).reshape(n, 5).argmax(axis=1)
    decisions = pd.DataFrame({"individual": (np.arange(n) % 8).astype(str), "decision": np.arange(n)})
    cs = ChoiceSets(decisions, 5 * np.arange(n + 1), np.tile(np.arange(5), n), selected, {"distance_km": distance})
    stages = {"stay or move": {"stay": "distance_km == 0", "move": "distance_km > 0"}}
    models = {"bad": -utility, "good": utility}
    table = chain_rule(models, cs, stages, splits=["all"], weightings=["individual"], n_resamples=50)
    ax = draw_stacked_chain(table)
    for y, model in enumerate(models):
        gains = table[table["model"] == model].set_index("stage")["gain"]
        widths = [p.get_width() for p in segments(ax, y)]
        assert widths == pytest.approx(gains.drop("all").tolist())
        assert sum(widths) == pytest.approx(gains["all"])


def test_numbers_stand_inside_where_they_fit_and_the_whole_with_its_lift_at_the_end() -> None:
    ax = draw_stacked_chain(CHAIN, width_cm=17.0)
    wholes = ["0.00 (×1)", "0.76 (×2.14)", "0.50 (×1.65)"]
    assert sorted(shown(ax)) == sorted([*wholes, "0.50", "0.25", "−0.20", "0.30", "0.40"])  # not .01
    hidden = [t.get_text() for t in ax.texts if not t.get_visible()]
    assert hidden == ["0.01"]
    small = make_chain({"a": (0.011, 0.02, 0.03)})
    assert {"0.011", "0.061 (×1.06)"} <= set(shown(draw_stacked_chain(small, width_cm=17.0)))


def test_models_have_their_colors_and_stages_tints_and_hatches_as_in_the_legend() -> None:
    ax = draw_stacked_chain(CHAIN, colors={"heading": "#882255"})
    base = {1: model_colors(["none", "distance"])["distance"], 2: "#882255"}
    for y, color in base.items():
        assert [to_hex(p.get_facecolor()) for p in segments(ax, y)] == [tint(color, k, 3) for k in range(3)]
        assert to_hex(segments(ax, y)[0].get_facecolor()) == color.lower()
    legend = ax.get_legend()
    assert legend is not None
    assert [t.get_text() for t in legend.get_texts()] == [*STAGES, "all, with interval (× lift)"]
    hatches = [patch.get_hatch() for patch in legend.get_patches()]
    assert hatches == [p.get_hatch() for p in segments(ax, 1)]
    assert len(set(hatches)) == 3
    grays = [float(np.mean(to_rgb(patch.get_facecolor()))) for patch in legend.get_patches()]
    assert np.diff(grays).min() > 0.2


def test_ink_can_be_read_on_every_color_of_a_model() -> None:
    def luminance(color: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    for color in model_colors([str(k) for k in range(12)]).values():
        for face in (tint(color, k, 3) for k in range(3)):
            pair = sorted([luminance(face), luminance(ink_on(face))])
            assert (pair[1] + 0.05) / (pair[0] + 0.05) > 4.0


def test_gains_that_are_no_number_are_told() -> None:
    table = make_chain({"a": (0.1, 0.2, 0.3), "b": (-np.inf, 0.0, 0.0), "c": (np.nan, np.nan, np.nan)})
    ax = draw_stacked_chain(table)
    assert {"impossible", "no decisions"} <= set(shown(ax))
    assert segments(ax, 1) == segments(ax, 2) == []
    assert len(segments(ax, 0)) == 3


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.01])
def test_every_label_can_be_read(width_cm: float, factor: float) -> None:
    gains = {
        "none": (0.0, 0.0, 0.0),
        "distance and the depth of the sea": (1.23, 0.245, 0.01),
        "heading": (-0.9, 0.3, 0.4),
    }
    scaled = {model: tuple(factor * g for g in parts) for model, parts in gains.items()}
    chain = make_chain(scaled, ["stay or move", "band of distance to the next cell", "choice"])
    ax = draw_stacked_chain(chain, width_cm=width_cm)
    assert_legible(ax)
    root_figure(ax).draw_without_rendering()
    right = ax.get_window_extent().x1
    ends = [t for t in ax.texts if "×" in t.get_text()]
    assert len(ends) == 3
    assert all(t.get_window_extent().x1 <= right + 1 for t in ends)


def test_axes_and_groups_can_be_given() -> None:
    mine = new_figure().subplots()
    groups = pd.concat([CHAIN, make_chain({"a": (0.1, 0.2, 0.3)}, behavior_group="summer")])
    assert draw_stacked_chain(groups, mine, behavior_group="summer") is mine
    assert [t.get_text() for t in mine.get_yticklabels()] == ["a"]
    assert mine.get_title(loc="left") == "validation, summer"


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="no row of the table is test by individual by all"):
        draw_stacked_chain(CHAIN, split="test")
    with pytest.raises(ValueError, match="expected the columns? gain, lift"):
        draw_stacked_chain(CHAIN.drop(columns=["gain", "lift"]))
    with pytest.raises(ValueError, match="no row of the table is"):
        draw_stacked_chain(CHAIN[:0])
    with pytest.raises(ValueError, match=r"each stage of a model once; got stay or move, how far, choice, all several"):
        draw_stacked_chain(pd.concat([CHAIN, CHAIN]))
    with pytest.raises(ValueError, match="and not all of every model"):
        draw_stacked_chain(CHAIN[CHAIN["stage"] != "all"])
    with pytest.raises(ValueError, match="and not all of every model"):
        draw_stacked_chain(CHAIN[:-2])
    wrong = CHAIN.assign(gain=CHAIN["gain"].where(CHAIN.index != 5, 0.3))
    with pytest.raises(ValueError, match="must add up to that of all; they do not for distance"):
        draw_stacked_chain(wrong)


def test_long_names_of_models_break_after_underscores_and_have_room() -> None:
    name = "a_very_long_model_name_that_nobody_would_type_twice"
    rows = [
        (f"{name}_{k}", stage, gain) for k in range(3) for stage, gain in (("stay", 0.2), ("choice", 0.1), ("all", 0.3))
    ]
    chain = pd.DataFrame(rows, columns=["model", "stage", "gain"]).assign(
        gain_low=np.nan, gain_high=np.nan, lift=1.2, split="validation", behavior_group="all", weighting="individual"
    )
    ax = draw_stacked_chain(chain, width_cm=8.0)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert [label.replace("\n", "") for label in labels] == [f"{name}_{k}" for k in range(3)]
    assert all(line.endswith("_") for label in labels for line in label.split("\n")[:-1])
    assert_legible(ax.figure)

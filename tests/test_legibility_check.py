"""The check of legibility: it finds texts that overlap, are cut off, mean nothing or are too small, and no others."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from legibility import assert_legible, drawn_texts, overlap_pt
from matplotlib.figure import Figure

SQUARE = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0], [0.0, 10.0]])


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def figure() -> Figure:
    """8 cm wide and clean: labels, a title, a legend, a color bar, a slanted text, a heading of all."""
    figure = plt.figure(figsize=(8 / 2.54, 7 / 2.54), layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], label="distance")
    ax.set(xlabel="distance, km", ylabel="share, %", title="a fish")
    ax.legend(loc="upper left")
    ax.text(0.6, 0.2, "slanted", rotation=30)
    figure.colorbar(ax.scatter([0, 1], [0, 1], c=[0.0, 1.0]), ax=ax, label="nats")
    figure.suptitle("all")
    return figure


def test_a_clean_figure_passes_and_all_its_texts_are_seen(figure: Figure) -> None:
    assert_legible(figure)
    assert_legible(figure.axes[0])
    written = {t.text for t in drawn_texts(figure)}
    assert {"distance", "distance, km", "share, %", "a fish", "slanted", "nats", "all", "0.0", "1.0"} <= written


def test_the_check_leaves_the_figure_as_it_was(figure: Figure) -> None:
    before = (figure.dpi, figure.canvas, figure.get_size_inches().tolist(), figure.axes[0].texts[0].get_rotation())
    assert_legible(figure)
    assert before == (
        figure.dpi,
        figure.canvas,
        figure.get_size_inches().tolist(),
        figure.axes[0].texts[0].get_rotation(),
    )


def test_boxes_overlap_by_the_smallest_move_that_frees_them() -> None:
    assert overlap_pt(SQUARE, SQUARE + [7.0, 2.0]) == pytest.approx(3.0)
    assert overlap_pt(SQUARE, SQUARE + [12.0, 0.0]) == pytest.approx(-2.0)
    # A square on its corner, half a diagonal of 5 high; its upright hull would reach 5 into the corner at (10, 10).
    diamond = np.array([[5.0, 0.0], [0.0, 5.0], [-5.0, 0.0], [0.0, -5.0]]) + [14.0, 14.0]
    assert overlap_pt(SQUARE, diamond) == pytest.approx(np.hypot(4, 4) * -1 + 5 / np.sqrt(2))  # -2.1: apart
    hull = SQUARE + [9.0, 9.0]
    assert overlap_pt(SQUARE, hull) == pytest.approx(1.0)


def test_two_texts_over_each_other_are_named_with_the_points(figure: Figure) -> None:
    ax = figure.axes[0]
    ax.text(0.4, 0.6, "one text")
    ax.text(0.42, 0.6, "another")
    with pytest.raises(AssertionError, match=r"at 8.0 cm, 1 fault: 'one text' and 'another' overlap by \d+\.\d pt"):
        assert_legible(figure)


def test_crowded_ticks_fail(figure: Figure) -> None:
    figure.axes[0].set_xticks([0.0, 0.05, 1.0], ["a long name", "another long name", "1"])
    with pytest.raises(AssertionError, match="'a long name' and 'another long name' overlap by"):
        assert_legible(figure)


def test_slanted_texts_side_by_side_pass_though_their_upright_boxes_overlap() -> None:
    figure = plt.figure(figsize=(8 / 2.54, 7 / 2.54))
    for x in (0.3, 0.36):
        figure.text(x, 0.3, "a slanted month", rotation=60, fontsize=7)
    one, other = (t.artist.get_window_extent() for t in drawn_texts(figure))
    assert one.x1 > other.x0 + 5
    assert_legible(figure)
    figure.texts[1].set_x(0.31)
    with pytest.raises(AssertionError, match="overlap by"):
        assert_legible(figure)


def test_a_text_beyond_the_edge_fails(figure: Figure) -> None:
    text = figure.axes[0].text(0.9, 0.5, "a text far too long for the right side of it", clip_on=False)
    text.set_in_layout(False)
    with pytest.raises(AssertionError, match=r"right side of it' is cut off by the edge of the figure by \d+"):
        assert_legible(figure)


def test_a_label_cut_off_without_a_layout_fails() -> None:
    figure = plt.figure(figsize=(8 / 2.54, 4 / 2.54))
    figure.add_axes((0.05, 0.1, 0.9, 0.8)).set_ylabel("nats")
    with pytest.raises(AssertionError, match="'nats' is cut off by the edge"):
        assert_legible(figure)


def test_a_text_that_its_axes_cut_fails_and_one_outside_of_them_is_not_there(figure: Figure) -> None:
    ax = figure.axes[0]
    ax.text(5.0, 0.5, "far away", clip_on=True)
    assert_legible(figure)
    ax.text(1.0, 0.4, "half of it", clip_on=True)
    with pytest.raises(AssertionError, match="'half of it' is cut off by its axes"):
        assert_legible(figure)


@pytest.mark.parametrize(
    "text", ["None", "nan", "seal nan, 3 km", "_child0", "NaT", "p = np.float64(0.5)", "-inf nats"]
)
def test_what_means_nothing_fails(figure: Figure, text: str) -> None:
    figure.axes[0].set_title(text)
    with pytest.raises(AssertionError, match="means nothing"):
        assert_legible(figure)


@pytest.mark.parametrize("text", ["none", "No model", "banana", "information", "infrared"])
def test_words_that_only_contain_such_letters_pass(figure: Figure, text: str) -> None:
    figure.axes[0].set_title(text)
    assert_legible(figure)


def test_small_print_fails(figure: Figure) -> None:
    figure.axes[0].texts[0].set_fontsize(4.5)
    with pytest.raises(AssertionError, match=r"'slanted' is 4\.5 pt small"):
        assert_legible(figure)


def test_a_legend_over_a_text_or_beyond_the_edge_or_over_another_fails(figure: Figure) -> None:
    ax = figure.axes[0]
    ax.text(0.05, 0.94, "i", fontsize=6)  # under the line of the entry, not its text
    with pytest.raises(AssertionError, match="1 fault: the legend of distance covers 'i' by"):
        assert_legible(figure)
    ax.texts[-1].remove()
    ax.legend(loc="center left", bbox_to_anchor=(1.6, 0.5)).set_in_layout(False)
    with pytest.raises(AssertionError, match="the legend of distance is cut off by the edge"):
        assert_legible(figure)
    first = ax.legend(handles=[ax.lines[0]], labels=["one"], loc="upper left")
    ax.add_artist(first)
    ax.legend(handles=[ax.lines[0]], labels=[" "], loc="upper left")
    with pytest.raises(AssertionError, match="the legends of"):
        assert_legible(figure)


def test_what_is_not_drawn_is_not_judged(figure: Figure) -> None:
    ax = figure.axes[0]
    for look in ({"visible": False}, {"alpha": 0}):
        ax.text(0.6, 0.2, "nan", **look)
    ax.text(0.6, 0.2, " ")
    hidden = figure.add_axes((0, 0, 1, 1))
    hidden.set_title("None")
    hidden.set_visible(False)
    assert_legible(figure)


def test_a_figure_without_any_text_fails() -> None:
    with pytest.raises(AssertionError, match="nothing is written"):
        assert_legible(plt.figure())

"""Figures of contrasts: what is drawn is what the table says."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_contrast_error import stays

from mimic.contrast_error import contrast_curve, contrast_spread
from mimic.contrast_figures import draw_contrast_curve, draw_contrast_spread


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def test_curve_is_drawn_for_each_number_of_alternatives_and_marks_are_told() -> None:
    table = contrast_curve([1, 19])
    ax = draw_contrast_curve(table, marks=[0.65, 0.55])
    curves = [line for line in ax.get_lines() if len(line.get_xdata()) == 101]
    assert [np.asarray(line.get_ydata())[55] for line in curves] == pytest.approx([0.55, 0.959], abs=1e-3)
    assert [text.get_text() for text in ax.texts] == ["p = 0.55: $p_c$ = 0.959", "p = 0.65: $p_c$ = 0.972"]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["M = 1", "M = 19"]


def test_spread_is_a_line_and_the_points_of_batches_drawn() -> None:
    table = contrast_spread(stays(130, 70), batch_decisions=[10, 50, 200], n_draws=50)
    ax = draw_contrast_spread(table)
    line, points = ax.get_lines()
    assert np.asarray(line.get_ydata()).tolist() == table["error"].tolist()[:2]  # all 200 have no error
    assert np.asarray(points.get_ydata()).tolist() == table["error_drawn"].tolist()[:2]
    assert all(label.get_text().endswith(" %") for label in ax.get_yticklabels())
    one = draw_contrast_spread(table.iloc[:1])
    low, high = one.get_ylim()
    assert low < table["error"].iloc[0] < high
    assert one.get_yticklabels()


def test_spread_without_an_error_is_refused() -> None:
    with pytest.raises(ValueError, match="batches smaller than all decisions"):
        draw_contrast_spread(contrast_spread(stays(3, 2), batch_decisions=[5]))

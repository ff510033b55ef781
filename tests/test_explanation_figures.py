"""Figures of explanation: what is drawn is what the table says."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from explained import Known, linear, world
from matplotlib.collections import LineCollection, PolyCollection, QuadMesh
from matplotlib.figure import Figure
from test_exemplars import spatial

from mimic.exemplars import choice_set_table, difference_map_table, exemplars
from mimic.explanation_figures import (
    draw_exemplar_decision,
    draw_exemplar_map,
    draw_exemplars,
    draw_importance,
    draw_response,
    draw_surface,
)
from mimic.importance import ACROSS, WITHIN, permutation_importance
from mimic.responses import response
from mimic.selection_strength import log_rss_curve
from mimic.surfaces import odds_surface


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def labels(ax: plt.Axes) -> list[str]:
    legend = ax.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_response_draws_each_model_and_kind_with_its_band() -> None:
    cs = world(n_individuals=12)
    model = Known(("a", "b"), lambda f: f["a"] * f["b"])
    parts = [
        response(model, cs, "a").assign(model="m"),
        response(model, cs, "a", kind="partial_dependence").assign(model="m"),
    ]
    ax = draw_response(pd.concat(parts), rug=cs.features["a"])
    curves = [line for line in ax.get_lines() if len(line.get_xdata()) == len(parts[0])]
    for line, part in zip(curves, parts, strict=True):
        assert np.asarray(line.get_ydata()) == pytest.approx(part["log_odds"].to_numpy())
    bands = [c for c in ax.collections if not isinstance(c, LineCollection)]
    assert bands[0].get_paths()[0].vertices[:, 1].max() == pytest.approx(parts[0]["log_odds_high"].max())
    rug = [c for c in ax.collections if c.get_label() == "_rug"]
    assert 100 < len(rug[0].get_segments()) <= 700  # type: ignore[attr-defined]
    assert labels(ax) == [
        "m, accumulated local effects",
        "m, partial dependence",
        "interval over: averaging population",
    ]
    assert ax.get_xlabel() == "a"
    assert ax.get_ylabel() == "log-odds, nats"


def test_response_of_few_values_has_points_and_log_rss_names_its_reference() -> None:
    cs = world(n_individuals=2)
    cs = cs.with_features({"stay": np.tile([1.0, 0, 0, 0, 0], cs.n_decisions)})
    ax = draw_response(response(linear(stay=1.0), cs, "stay"))
    assert ax.get_ylabel() == "accumulated local effects,\nlog-odds, nats"
    assert ax.get_lines()[0].get_marker() == "o"
    assert ax.get_xticks().tolist() == [0, 1]
    ax = draw_response(log_rss_curve(linear(a=1.0), cs, "a", reference=2.0))
    assert ax.get_ylabel() == "log-RSS against 2, nats"
    assert labels(ax) == ["log-RSS"]


def test_response_of_two_features_is_refused() -> None:
    cs = world(n_individuals=2)
    model = linear(a=1.0, b=1.0)
    with pytest.raises(ValueError, match="curves of one feature; got a, b"):
        draw_response(pd.concat([response(model, cs, "a"), response(model, cs, "b")]))


def test_surface_hides_what_has_no_data() -> None:
    cs = world(n_individuals=2, n_decisions=4)
    table = odds_surface(linear(a=1.0, b=1.0), cs, "a", "b", n_grid=10)
    assert not table["has_data"].all()
    ax = draw_surface(table)
    (mesh,) = (c for c in ax.collections if isinstance(c, QuadMesh))
    drawn = np.ma.asarray(mesh.get_array()).reshape(10, 10)  # (y, x)
    wide = table.pivot(index="y", columns="x", values="has_data").to_numpy()
    assert (drawn.mask == ~wide).all()
    assert drawn.compressed().max() == pytest.approx(table.loc[table["has_data"], "log_odds"].max())
    assert labels(ax) == ["no data"]
    assert ax.get_xlim()[0] == pytest.approx(table["x"].min())  # no color beyond what was evaluated


def test_importance_is_ordered_and_marks_what_was_permuted_otherwise() -> None:
    cs = world(n_individuals=12, night=True)
    model = Known(("a", "b", "night"), lambda f: 2 * f["a"] * (1 + f["night"]) + 0.1 * f["b"])
    table = permutation_importance({"m": model, "n": linear(a=1.0)}, cs, n_repeats=2)
    ax = draw_importance(table)
    of_first = table[table["model"] == "m"].sort_values("drop", ascending=False)["feature"].tolist()
    assert [text.get_text() for text in ax.get_yticklabels()] == of_first
    markers = [line for line in ax.get_lines() if line.get_marker() not in ("None", None, "")]
    drawn = sorted(float(np.asarray(line.get_xdata())[0]) for line in markers)
    assert drawn == pytest.approx(sorted(table["drop"]))
    assert sum(line.get_markerfacecolor() == "white" for line in markers) == 1
    assert labels(ax) == ["m", "n", WITHIN, ACROSS]


def test_importance_of_several_groups_is_refused() -> None:
    cs = world(n_individuals=2)
    groups = {"all": "all", "some": "a > 0"}
    table = permutation_importance({"m": linear(a=1.0)}, cs, choice_groups=groups, n_repeats=1)
    with pytest.raises(ValueError, match="importance in one group; got 2 combinations"):
        draw_importance(table)


def test_exemplars_are_bars_in_order_with_a_gap_where_the_middle_is_left_out() -> None:
    cs = world(n_individuals=20)
    phi = {"m": linear(a=1.0).log_odds(cs), "other": np.zeros(cs.n_rows)}
    table = exemplars(phi, cs, "m", "other", n=3)
    colored = table.assign(site=["x", "x", "y", "y", "x", "x"])
    ax = draw_exemplars(colored, color_by="site")
    bars = list(ax.patches)
    assert [bar.get_width() for bar in bars] == pytest.approx(table["difference"].tolist())  # type: ignore[attr-defined]
    y = [bar.get_y() + bar.get_height() / 2 for bar in bars]  # type: ignore[attr-defined]
    assert y == pytest.approx([0, 1, 2, 4, 5, 6])
    assert [text.get_text() for text in ax.get_yticklabels()] == table["value"].tolist()
    assert len({tuple(bar.get_facecolor()) for bar in bars}) == 2
    assert labels(ax) == ["x", "y"]
    assert ax.get_xlabel() == "mean ln p(m) - ln p(other), nats"


def test_many_exemplars_are_drawn_without_names_and_two_splits_refused() -> None:
    cs = world(n_individuals=45, n_decisions=2)
    phi = {"m": linear(a=1.0).log_odds(cs), "other": np.zeros(cs.n_rows)}
    table = exemplars(phi, cs, "m", "other", n=None)
    ax = draw_exemplars(table)
    assert len(ax.patches) == 45
    assert ax.get_ylabel() == "individual, by rank"
    with pytest.raises(ValueError, match="exemplars of one split; got x, y"):
        draw_exemplars(pd.concat([table.assign(split="x"), table.assign(split="y")]))


def test_choice_set_of_an_exemplar_has_one_color_scale_for_all_models() -> None:
    cs = spatial()
    phi = {"near": linear(distance_km=-0.1).log_odds(cs), "flat": np.zeros(cs.n_rows)}
    figure = draw_exemplar_decision(choice_set_table(phi, cs, "a", 1), title="a, 1")
    assert isinstance(figure, Figure)
    maps = [ax for ax in figure.axes if ax.get_title(loc="left") in phi]
    cells = [c for ax in maps for c in ax.collections if isinstance(c, PolyCollection) and c.get_array() is not None]
    assert [ax.get_title(loc="left") for ax in maps] == ["near", "flat"]
    assert len(cells) == 2
    assert cells[0].get_clim() == cells[1].get_clim()
    with pytest.raises(ValueError, match="columns 'p <model>'"):
        draw_exemplar_decision(choice_set_table({}, cs, "a", 1))


def test_map_of_an_exemplar_is_named_after_it() -> None:
    cs = spatial()
    phi = {"m": linear(distance_km=-0.01).log_odds(cs), "null": np.zeros(cs.n_rows)}
    ax = draw_exemplar_map(difference_map_table(phi, cs, "m", "null", individual="b"))
    assert ax.get_title(loc="left") == "individual b"


def test_long_model_names_are_told_in_the_title_of_exemplars() -> None:
    cs = world(n_individuals=4)
    long = "a_network_with_everything_that_is_known"
    table = exemplars({long: linear(a=1.0).log_odds(cs), "other": np.zeros(cs.n_rows)}, cs, long, "other", n=2)
    ax = draw_exemplars(table)
    assert ax.get_xlabel() == "mean ln p(A) - ln p(B), nats"
    assert f"A = {long}, B = other" in " ".join(ax.get_title(loc="left").split())


def test_labels_of_a_coarse_surface_do_not_overlap() -> None:
    cs = world(n_individuals=4)
    table = odds_surface(linear(a=1.0, b=1.0), cs, "a", "b", n_grid=5)
    close = table.assign(x=table["x"].rank(method="dense").map({1: -3.2, 2: 0.0, 3: 0.1, 4: 0.2, 5: 2.9}))
    ax = draw_surface(close)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["-3.2", "0", "2.9"]

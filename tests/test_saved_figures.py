"""Saved figures: the same bytes each time, in several formats or not at all; and models told apart in gray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
import realistic as real
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mimic.bin_figures import draw_bins
from mimic.evaluation_figures import draw_chain, draw_feature_shares, draw_rank_histogram, draw_reliability
from mimic.explanation_figures import draw_exemplars, draw_importance, draw_response
from mimic.figures import (
    COLUMN_CM,
    PAGE_CM,
    labels_apart,
    model_colors,
    new_figure,
    save_figure,
    save_formats,
    style,
    text_width_pt,
    wrap_labels,
    wrapped,
)
from mimic.group_figures import draw_groups

FORMATS = ("pdf", "svg", "png")


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def figure_of_a_map() -> Figure:
    from mimic.maps import draw_tracks

    return draw_tracks(real.many_tracks(2), width_cm=COLUMN_CM).figure  # type: ignore[return-value]


# --- saving


def test_widths_of_a_column_and_of_a_page() -> None:
    assert (COLUMN_CM, PAGE_CM) == (8.0, 17.0)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_figure_drawn_again_is_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    one, other = (save_figure(figure_of_a_map(), tmp_path / name / f"map.{suffix}") for name in "ab")
    assert one.read_bytes() == other.read_bytes()


def test_bytes_hold_no_date_and_do_not_hang_on_the_process(tmp_path: Path) -> None:
    code = (
        "import sys; from mimic.figures import new_figure, save_formats;"
        "f = new_figure(8.0, 5.0); ax = f.subplots(); ax.plot([0, 1], label='a'); ax.fill_between([0, 1], [0, 1]);"
        "ax.legend(); ax.set_xlabel('km'); save_formats(f, sys.argv[1])"
    )
    for seed in "01":
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed / "f")],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
    for suffix in FORMATS:
        raw = (tmp_path / "0" / f"f.{suffix}").read_bytes()
        assert raw == (tmp_path / "1" / f"f.{suffix}").read_bytes()
        assert not re.search(rb"CreationDate|ModDate|<dc:date|tIME", raw)


def test_formats_are_saved_side_by_side_png_with_300_dots_an_inch_and_the_figure_is_closed(tmp_path: Path) -> None:
    figure = new_figure(COLUMN_CM, 5.0)
    figure.subplots().plot([0, 1])
    paths = save_formats(figure, tmp_path / "new" / "all.groups")
    assert [p.name for p in paths] == ["all.groups.pdf", "all.groups.svg", "all.groups.png"]
    assert sorted(tmp_path.glob("new/*")) == sorted(paths)
    height, width, _ = plt.imread(paths[2]).shape
    assert (width, height) == (int(8 / 2.54 * 300), int(5 / 2.54 * 300))
    assert not plt.fignum_exists(figure.number)


def test_fonts_are_in_the_files(tmp_path: Path) -> None:
    figure = new_figure(COLUMN_CM, 5.0)
    figure.subplots().set_title("a fish")
    pdf, svg = (p.read_bytes() for p in save_formats(figure, tmp_path / "f", ["pdf", "svg"]))
    assert b"/FontFile2" in pdf  # TrueType, type 42
    assert b"/Type3" not in pdf
    assert b"<text" not in svg  # outlines: the reader needs no font


def test_a_format_that_fails_leaves_all_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in FORMATS:
        (tmp_path / f"f.{suffix}").write_bytes(b"old")
    figure = new_figure()
    save = figure.savefig

    def broken(name: Path, **options: Any) -> None:
        if str(name).endswith("png"):
            Path(name).write_bytes(b"half")
            raise OSError("disk full")
        save(name, **options)

    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        save_formats(figure, tmp_path / "f")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {f"f.{s}": b"old" for s in FORMATS}
    assert not plt.fignum_exists(figure.number)


def test_unknown_formats_and_a_stem_with_a_format_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected formats such as pdf, svg and png; got doc"):
        save_formats(new_figure(), tmp_path / "f", ["pdf", "doc"])
    with pytest.raises(ValueError, match="got none"):
        save_formats(new_figure(), tmp_path / "f", [])
    with pytest.raises(ValueError, match=r"a name without a suffix.*got f\.png"):
        save_formats(new_figure(), tmp_path / "f.png")
    assert not list(tmp_path.iterdir())


# --- wrapping


def test_lines_are_as_wide_as_they_may_be_and_long_words_break_after_underscores() -> None:
    room = text_width_pt("a word too", 8.0)
    assert wrapped("a word too many", room, size=8.0) == "a word too\nmany"
    assert wrapped("one\ntwo", room, size=8.0) == "one\ntwo"
    assert wrapped("a sea_surface_temperature", text_width_pt("sea_surface_", 8.0), size=8.0) == (
        "a sea_\nsurface_\ntemperature"
    )
    assert wrapped("indivisible", 1.0, size=8.0) == "indivisible"
    assert wrapped("", room, size=8.0) == ""


def test_a_label_that_is_too_long_keeps_its_unit_in_one_piece() -> None:
    with style():
        ax = new_figure(COLUMN_CM).subplots()
        ax.set(xlabel="net primary production of the mixed layer, mg C m-2 d-1", ylabel="depth, m")
        wrap_labels(ax)
    assert ax.get_xlabel() == "net primary production of the mixed layer,\nmg C m-2 d-1"
    assert ax.get_ylabel() == "depth, m"


def test_labels_are_kept_from_the_first_on_where_they_do_not_touch() -> None:
    with style():
        width = text_width_pt("1,024", 7.0)
        assert labels_apart([0.0, 0.9 * width, 1.8 * width], ["1,024"] * 3) == [0, 2]
        assert labels_apart([100.0, 0.0], ["a", "b"]) == [0, 1]
        assert labels_apart([], []) == []


# --- gray


def looks_of(ax: Axes, colors: dict[str, str]) -> dict[str, set[tuple[str, str]]]:
    """Marker and line style of everything that is drawn in the color of a model."""
    found: dict[str, set[tuple[str, str]]] = {model: set() for model in colors}
    for line in ax.findobj(Line2D):
        for model, color in colors.items():
            if to_rgb(line.get_color()) == to_rgb(color) and line.get_marker() not in ("None", "", "|"):
                found[model].add((str(line.get_marker()), str(line.get_linestyle())))
    return found


def gray(color: str) -> float:
    return float(
        np.dot(
            [0.2126, 0.7152, 0.0722],
            np.where((c := np.array(to_rgb(color))) <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4),
        )
    )


def test_colors_alone_would_not_do_in_gray() -> None:
    # why the tests below are needed: two of the first six colors are nearly the same gray
    values = sorted(gray(color) for color in model_colors(list("abcdef")).values())
    assert np.diff(values).min() < 0.03


SEVERAL: dict[str, Callable[[], Any]] = {
    "response": lambda: draw_response(real.response()),
    "response of few values": lambda: draw_response(real.response(n=4)),
    "reliability": lambda: draw_reliability(real.reliability()),
    "ranks": lambda: draw_rank_histogram(real.ranks()),
    "feature shares": lambda: draw_feature_shares(real.feature_shares()),
    "importance": lambda: draw_importance(real.importance()),
    "bins": lambda: draw_bins(real.bins()),
    "groups": lambda: draw_groups(real.evaluation(groups=["all"])).axes[0],
}


@pytest.mark.parametrize("name", SEVERAL)
def test_models_differ_by_marker_too(name: str) -> None:
    looks = looks_of(SEVERAL[name](), model_colors(real.MODELS))
    markers = [{marker for marker, _ in look} for look in looks.values()]
    assert all(len(marker) == 1 for marker in markers), looks
    assert len(set.union(*markers)) == len(real.MODELS)


def test_kinds_of_response_differ_by_their_lines() -> None:
    ax = draw_response(real.response(["a"], kinds=["accumulated", "partial_dependence"]).drop(columns="model"))
    solid, dashed = ax.lines[:2]
    assert solid.get_linestyle() != dashed.get_linestyle()


def test_bars_of_the_chain_stand_in_the_order_of_the_legend() -> None:
    chain = real.chain()[lambda t: t["stage"] == "all"]
    ax = draw_chain(chain)
    heights = [bar.get_y() for bar in ax.patches]  # type: ignore[attr-defined]
    assert heights == sorted(heights)  # the y axis points down
    assert [t.get_text() for t in ax.get_legend().get_texts()] == list(real.MODELS)  # type: ignore[union-attr]


def test_bars_colored_by_a_column_are_hatched_too() -> None:
    ax = draw_exemplars(real.exemplars(6, place=list("aabbcc")), color_by="place")
    hatches = [bar.get_hatch() for bar in ax.patches]
    assert hatches[::2] == hatches[1::2]
    assert len(set(hatches)) == 3
    assert [h.get_hatch() for h in ax.get_legend().get_patches()] == hatches[::2]  # type: ignore[union-attr]

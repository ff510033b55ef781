"""Maps of cells: each cell where it lies and in its color, across 180 degrees and around a pole too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba

from mimic.cell_figures import VALUES, draw_cells
from mimic.coastline import MapView, view_of
from mimic.figures import new_figure, root_figure, save_figure
from mimic.hexgrid import boundaries, cell_at, centroids
from mimic.maps import DIFFERENCES

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def make_cells(longitude: np.ndarray, latitude: np.ndarray, resolution: int, **columns: object) -> pd.DataFrame:
    """The cells under some points; the value is the latitude of each."""
    cells = np.unique(cell_at(longitude, latitude, resolution))
    return pd.DataFrame({"cell": cells, "value": centroids(cells)[1], **columns})


def box(west: float, east: float, south: float, north: float, resolution: int, **columns: object) -> pd.DataFrame:
    """The cells of a box."""
    longitude, latitude = np.meshgrid(np.linspace(west, east, 80), np.linspace(south, north, 80))
    return make_cells(longitude.ravel(), latitude.ravel(), resolution, **columns)


FIJI = box(177.0, 183.0, -20.0, -15.0, 4, covariate="sst", unit="degC", period="2020-05")
ARCTIC = make_cells(360 * RNG.random(4000), 90 - 12 * np.sqrt(RNG.random(4000)), 3, covariate="depth", unit="m")


def patches_of(ax: Axes) -> PolyCollection:
    (found,) = [c for c in ax.collections if isinstance(c, PolyCollection) and c.get_array() is not None]
    return found


def drawn(table: pd.DataFrame, **options: Any) -> Axes:
    """The map in axes that are there: a new figure would also be given its height, twice laid out."""
    return draw_cells(table, new_figure().subplots(), **options)


def bar_of(ax: Axes) -> Axes:
    return root_figure(ax).axes[1]


def area(shape: np.ndarray) -> float:
    x, y = shape.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def test_each_cell_has_its_corners_and_the_color_of_its_value() -> None:
    table = box(-150.0, -149.0, 55.0, 56.0, 5)
    patches = patches_of(draw_cells(table))
    for shape, cell in zip(patches.get_paths(), table["cell"], strict=True):
        np.testing.assert_allclose(shape.vertices[:-1], boundaries(np.array([cell]))[0])
    low, high = table["value"].min(), table["value"].max()
    expected = mpl.colormaps[VALUES]((table["value"] - low) / (high - low))
    patches.update_scalarmappable()
    np.testing.assert_allclose(patches.get_facecolor(), expected)


def test_cells_across_180_degrees_are_in_one_piece_each_on_a_small_map() -> None:
    ax = draw_cells(FIJI)
    shapes = [path.vertices for path in patches_of(ax).get_paths()]
    assert max(np.ptp(shape[:, 0]) for shape in shapes) < 1.0
    assert 6.0 < np.ptp(ax.get_xlim()) < 8.0
    x, date_line = np.concatenate(shapes)[:, 0], float(np.copysign(180.0, np.mean(ax.get_xlim())))
    assert x.min() < date_line - 2.5 < date_line + 2.5 < x.max()
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert "180°" in labels


def test_cells_around_the_pole_are_seen_from_above_and_of_nearly_one_size() -> None:
    ax = draw_cells(ARCTIC)
    shapes = [path.vertices[:-1] for path in patches_of(ax).get_paths()]
    pole = int(cell_at(np.array([0.0]), np.array([90.0]), 3)[0])
    assert pole in set(ARCTIC["cell"])
    middle = shapes[ARCTIC["cell"].tolist().index(pole)]
    assert np.hypot(*middle.T).max() < 150.0  # km from the pole, which it holds
    assert middle[:, 0].min() < 0 < middle[:, 0].max()
    sizes = [area(shape) for shape in shapes]
    assert max(sizes) < 1.5 * min(sizes)
    assert ax.get_xticks().size == 0  # names of meridians stand around the map


def test_a_cell_that_holds_a_pole_is_a_cap_on_a_map_of_the_whole_earth() -> None:
    world = MapView("equirectangular", 10.0, (-170.0, 190.0), (-90.0, 90.0))
    cells = cell_at(np.array([0.0, 0.0, 179.9]), np.array([90.0, -90.0, 0.0]), 2)
    north, south, east = world.outlines(boundaries(cells))
    for cap, pole in ((north, 90.0), (south, -90.0)):
        assert (cap[:, 0].min(), cap[:, 0].max()) == (-170.0, 190.0)
        assert cap[-2:, 1].tolist() == [pole, pole]
        edge = np.abs(cap[:-2, 1])
        assert area(cap) == pytest.approx(360 * (90 - edge.mean()), rel=0.2)
        assert np.diff(cap[1:-3, 0]).min() > 0  # in order around the pole: no line crosses another
    assert np.ptp(east[:, 0]) < 5
    assert world.outlines([]) == []


def test_outlines_of_many_shapes_are_those_of_each_alone() -> None:
    corners = boundaries(np.concatenate([FIJI["cell"], ARCTIC["cell"][:50]]))
    for view in (view_of(*np.concatenate(corners).T), MapView("north polar", 0.0, (-1.0, 1.0), (-1.0, 1.0))):
        together = view.outlines(corners)
        assert [len(shape) for shape in together] == [len(c) for c in corners] or not view.is_polar
        for shape, own in zip(together, corners, strict=True):
            np.testing.assert_array_equal(shape, view.outlines([own])[0])


def test_the_color_bar_names_covariate_and_unit_and_the_title_the_period() -> None:
    ax = drawn(FIJI)
    assert bar_of(ax).get_xlabel() == "sst, degC"
    assert ax.get_title(loc="left") == "2020-05"
    ax = drawn(FIJI.assign(unit="1", period="all times"), label="temperature")
    assert bar_of(ax).get_xlabel() == "temperature"
    assert ax.get_title(loc="left") == ""
    assert drawn(FIJI, title="").get_title(loc="left") == ""
    assert bar_of(drawn(FIJI[["cell", "value"]])).get_xlabel() == "value"


def test_diverging_colors_are_symmetric_only_when_asked_for() -> None:
    table = FIJI.assign(value=np.linspace(-1.0, 4.0, len(FIJI)))
    plain, diverging = (patches_of(drawn(table, diverging=d)) for d in (False, True))
    assert plain.get_clim() == (-1.0, 4.0)
    assert diverging.get_clim() == (-4.0, 4.0)
    diverging.update_scalarmappable()
    np.testing.assert_allclose(diverging.get_facecolor()[-1], to_rgba("#0b3c6f"), atol=1e-6)  # blue above 0
    assert diverging.get_cmap()(0.2) == DIFFERENCES(0.2)


@pytest.mark.parametrize(
    ("limits", "extend"),
    [((-1.0, 4.0), "neither"), ((0.0, 4.0), "min"), ((-1.0, 2.0), "max"), ((0.0, 1.0), "both")],
)
def test_values_beyond_the_limits_give_the_color_bar_a_tip(limits: tuple[float, float], extend: str) -> None:
    table = FIJI.assign(value=np.linspace(-1.0, 4.0, len(FIJI)))
    patches = patches_of(drawn(table, limits=limits))
    assert patches.get_clim() == limits
    assert patches.colorbar.extend == extend


def test_cells_without_a_value_are_gray_and_one_value_has_a_color_bar() -> None:
    table = FIJI.assign(value=[np.nan, *[3.0] * (len(FIJI) - 1)])
    patches = patches_of(drawn(table))
    patches.update_scalarmappable()
    assert patches.get_facecolor()[0].tolist() == list(to_rgba("0.8"))
    assert patches.get_clim() == (1.5, 4.5)
    assert patches_of(drawn(table.assign(value=np.nan))).get_clim() == (0.0, 1.0)


def test_the_coast_lies_over_the_cells() -> None:
    ax = draw_cells(FIJI)
    order = sorted(c.get_zorder() for c in ax.collections)
    assert order[-1] > patches_of(ax).get_zorder() > order[0]


def test_several_thousand_cells_are_drawn_in_under_a_second() -> None:
    many = box(-150.0, -140.0, 40.0, 50.0, 5)
    assert len(many) > 3000
    draw_cells(many[:5])  # what is only read once: the coast
    start = time.process_time()
    ax = draw_cells(many)
    root_figure(ax).canvas.draw()
    assert time.process_time() - start < 1.0
    assert patches_of(ax).get_rasterized()
    assert not patches_of(draw_cells(many[:100])).get_rasterized()


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
@pytest.mark.parametrize("table", [FIJI, ARCTIC], ids=["180 degrees", "pole"])
def test_every_label_can_be_read(table: pd.DataFrame, width_cm: float, tmp_path: Path) -> None:
    ax = draw_cells(
        table, label="temperature less that of the mean year", title="May of 2010 to 2020", width_cm=width_cm
    )
    assert_legible(ax)
    assert save_figure(ax, tmp_path / "map.png").stat().st_size > 5000


def test_axes_can_be_given() -> None:
    mine = new_figure().subplots()
    assert draw_cells(FIJI, mine) is mine


def test_what_cannot_be_drawn_is_told() -> None:
    with pytest.raises(ValueError, match="cells: expected the columns cell, value; got a"):
        draw_cells(pd.DataFrame({"a": [1]}))
    with pytest.raises(ValueError, match="at least one cell to draw a map of; got none"):
        draw_cells(FIJI[:0])
    with pytest.raises(ValueError, match="expected each cell once; 2 rows are of cells that came before"):
        draw_cells(pd.concat([FIJI, FIJI[:2]]))
    with pytest.raises(ValueError, match="limits must be a lower and a higher value; got 3 and 3"):
        draw_cells(FIJI, limits=(3, 3))
    with pytest.raises(ValueError, match="limits of diverging colors must be -x and x; got -1 and 3"):
        draw_cells(FIJI, limits=(-1, 3), diverging=True)

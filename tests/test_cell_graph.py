"""Graphs of cells: neighbors, steps in km at the date line, the poles and around pentagons."""

from __future__ import annotations

import numpy as np
import pytest

from mimic.cell_graph import CellGraph
from mimic.hexgrid import cell_at, disks, distance_km, parents, resolution_of

PENTAGON = 594615896891195391  # of resolution 4
PLACES = {"equator": (20.0, 0.0), "date line": (179.99, -16.0), "north": (0.0, 89.99), "south": (100.0, -89.99)}


def around(longitude: float, latitude: float, k: int, resolution: int = 4) -> CellGraph:
    return CellGraph.of(disks(cell_at(np.array([longitude]), np.array([latitude]), resolution), k)[0])


def test_cell_with_all_around_it_has_six_neighbors_and_the_rim_has_three() -> None:
    graph = around(20, 10, 1)
    n = (graph.neighbors >= 0).sum(axis=1)
    assert sorted(n.tolist()) == [3, 3, 3, 3, 3, 3, 6]


def test_pentagon_has_five_neighbors() -> None:
    graph = CellGraph.of(disks(np.array([PENTAGON]), 2)[0])
    row = graph.neighbors[graph.positions(np.array([PENTAGON]))[0]]
    assert (row >= 0).sum() == 5
    assert row[-1] == -1
    assert np.isnan(graph.east_km[graph.positions(np.array([PENTAGON]))[0], -1])


@pytest.mark.parametrize("place", PLACES)
def test_neighbors_are_mutual_and_the_length_of_a_step_is_the_great_circle(place: str) -> None:
    graph = around(*PLACES[place], 4)
    for cell in range(len(graph)):
        for slot, other in enumerate(graph.neighbors[cell]):
            if other < 0:
                continue
            assert cell in graph.neighbors[other]
            length = distance_km(*(v[i] for i in (cell, other) for v in (graph.longitude, graph.latitude)))
            assert np.hypot(graph.east_km[cell, slot], graph.north_km[cell, slot]) == pytest.approx(length)
            assert 15 < length < 60


@pytest.mark.parametrize("place", PLACES)
def test_steps_around_a_cell_add_up_to_nearly_nothing(place: str) -> None:
    # six neighbors lie on all sides: also where longitudes jump from 180 to -180
    graph = around(*PLACES[place], 3)
    whole = (graph.neighbors >= 0).sum(axis=1) == 6
    assert whole.sum() >= 19
    sums = np.abs([graph.east_km[whole].sum(axis=1), graph.north_km[whole].sum(axis=1)])
    assert sums.max() < 0.4 * np.hypot(graph.east_km, graph.north_km)[whole].mean()


def test_disk_counts_rings_on_the_whole_grid_and_keeps_what_is_in_the_set() -> None:
    center = cell_at(np.array([20.0]), np.array([10.0]), 4)
    two, _ = disks(center, 2)
    ring = np.setdiff1d(two, disks(center, 1)[0])
    graph = CellGraph.of(np.concatenate([center, ring]))  # without the first ring
    here = graph.positions(center)[0]
    position, offsets = graph.disk(1)
    assert graph.cells[position[offsets[here] : offsets[here + 1]]].tolist() == center.tolist()
    position, offsets = graph.disk(2)
    assert offsets[here + 1] - offsets[here] == 13
    assert graph.disk_size(2)[here] == 19


def test_order_and_repeats_of_cells_change_nothing() -> None:
    graph = around(20, 10, 2)
    other = CellGraph.of(np.concatenate([graph.cells[::-1], graph.cells[:4]]))
    assert (other.neighbors == graph.neighbors).all()
    np.testing.assert_array_equal(other.east_km, graph.east_km)


def test_a_graph_of_nothing_and_of_one_cell() -> None:
    assert len(CellGraph.of(np.zeros(0, dtype=np.int64))) == 0
    assert (around(0, 0, 0).neighbors == -1).all()


def test_strange_cells_are_named() -> None:
    graph = around(20, 10, 1)
    mixed = np.concatenate([graph.cells, cell_at(np.array([0.0]), np.array([0.0]), 5)])
    with pytest.raises(ValueError, match="cells must be of one H3 resolution; got 4, 5"):
        CellGraph.of(mixed)
    with pytest.raises(ValueError, match=f"1 cells are not in the graph .e.g. {mixed[-1]}"):
        graph.positions(mixed[-1:])
    with pytest.raises(ValueError, match="expected H3 cells as integers"):
        CellGraph.of(np.array([7]))


def test_disks_and_parents_of_hexgrid() -> None:
    cells = disks(np.array([PENTAGON]), 1)[0]
    assert len(cells) == 6
    assert {resolution_of(c) for c in parents(cells, 2)} == {2}
    assert (parents(cells, 4) == cells).all()
    with pytest.raises(ValueError, match="between 0 and that of the cells; got 5"):
        parents(cells, 5)
    with pytest.raises(ValueError, match="0 or more rings; got k = -1"):
        disks(cells, -1)

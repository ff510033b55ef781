"""Derived covariates: every kind by hand, recovery of known fields on the sphere, and no look into the future."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mimic.cell_graph import CellGraph
from mimic.derived import KINDS, derive
from mimic.hexgrid import EARTH_RADIUS_KM, cell_at, disks

PLACES = {"equator": (20.0, 0.0), "date line": (179.99, -60.0), "north": (0.0, 89.99), "south": (100.0, -89.99)}
DAYS = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]").astype("datetime64[ns]")
OPTIONS: dict[str, dict[str, Any]] = {"lag": {"days": 3}, "trailing_mean": {"days": 7}}


def around(longitude: float, latitude: float, k: int, resolution: int = 5) -> CellGraph:
    return CellGraph.of(disks(cell_at(np.array([longitude]), np.array([latitude]), resolution), k)[0])


def middle_of(graph: CellGraph, longitude: float, latitude: float) -> int:
    return int(graph.positions(cell_at(np.array([longitude]), np.array([latitude]), graph.resolution))[0])


def km_from(graph: CellGraph, axis: np.ndarray) -> np.ndarray:
    """Great-circle distance of each cell from a unit vector, km: its slope is 1 km a km."""
    lon, lat = np.radians(graph.longitude), np.radians(graph.latitude)
    point = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)
    return EARTH_RADIUS_KM * np.arccos(np.clip(point @ axis, -1, 1))


# ---------------------------------------------------------------- gradients


def test_gradient_by_hand_is_the_rise_over_the_run() -> None:
    # values are 2 x the km to the east of the middle cell: a plane of slope 2 east, 0 north
    graph = around(20, 10, 1)
    here = middle_of(graph, 20, 10)
    values = np.zeros(len(graph))
    values[graph.neighbors[here]] = 2.0 * graph.east_km[here] + 5.0 * graph.north_km[here]
    east, north, size = (
        derive(k, [values[None]], graph=graph)[0, here] for k in ("gradient_east", "gradient_north", "gradient")
    )
    assert (east, north, size) == pytest.approx((2.0, 5.0, np.sqrt(29.0)), rel=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("turn", [0.0, 1.0, 2.5])
def test_linear_field_on_the_sphere_recovers_its_slope_however_it_is_turned(place: str, turn: float) -> None:
    # distance from a far pole rises by 1 km a km everywhere, in any direction: date line and poles are no exception
    graph = around(*PLACES[place], 4)
    axis = np.array([np.cos(turn) * 0.8, np.sin(turn) * 0.8, 0.6])
    size = derive("gradient", [km_from(graph, axis)[None]], graph=graph)[0]
    whole = (graph.neighbors >= 0).sum(axis=1) == 6
    np.testing.assert_allclose(size[whole], 1.0, atol=2e-3)


def test_gradient_north_of_latitude_is_a_degree_for_111_km() -> None:
    graph = around(30, 45, 3)
    north = derive("gradient_north", [graph.latitude[None]], graph=graph)[0]
    east = derive("gradient_east", [graph.latitude[None]], graph=graph)[0]
    whole = (graph.neighbors >= 0).sum(axis=1) == 6
    np.testing.assert_allclose(north[whole], 180 / (np.pi * EARTH_RADIUS_KM), rtol=1e-3)
    assert np.abs(east[whole]).max() < 1e-4


def test_gradient_needs_the_cell_and_three_neighbors() -> None:
    graph = around(20, 10, 1)
    here = middle_of(graph, 20, 10)
    values = np.tile(3.0 * graph.latitude, (3, 1))
    values[0, graph.neighbors[here, :3]] = np.nan
    values[1, graph.neighbors[here, :4]] = np.nan
    values[2, here] = np.nan
    size = derive("gradient", [values], graph=graph)[:, here]
    assert np.isfinite(size).tolist() == [True, False, False]
    assert size[0] == pytest.approx(3.0 * 180 / (np.pi * EARTH_RADIUS_KM), rel=0.01)


def test_front_is_the_gradient_and_steepness_its_angle() -> None:
    graph = around(20, 10, 1)
    here = middle_of(graph, 20, 10)
    values = np.zeros(len(graph))
    values[graph.neighbors[here]] = 1000.0 * graph.east_km[here]  # 1000 m a km: 45 degrees
    front, gradient = (derive(k, [values[None]], graph=graph) for k in ("front", "gradient"))
    np.testing.assert_array_equal(front, gradient)
    assert derive("steepness", [values[None]], graph=graph)[0, here] == pytest.approx(45.0, rel=1e-5)


# ---------------------------------------------------------------- rings


def test_ring_statistics_by_hand() -> None:
    graph = around(20, 10, 1)
    here = middle_of(graph, 20, 10)
    values = np.zeros((1, 7))
    values[0, here], values[0, graph.neighbors[here, 0]] = 7.0, 14.0  # 0 0 0 0 0 7 14: mean 3
    found = {k: derive(f"ring_{k}", [values], graph=graph)[0, here] for k in ("mean", "max", "min", "sd")}
    assert found == pytest.approx({"mean": 3.0, "max": 14.0, "min": 0.0, "sd": np.sqrt((5 * 9 + 16 + 121) / 7)})


def test_ring_leaves_out_what_is_missing_down_to_a_share() -> None:
    graph = around(20, 10, 1)
    here = middle_of(graph, 20, 10)
    values = np.full((1, 7), np.nan)
    values[0, graph.neighbors[here, :4]] = [1, 2, 3, 6]  # 4 of 7
    assert derive("ring_mean", [values], graph=graph, options={"min_share": 0.57})[0, here] == 3.0
    assert np.isnan(derive("ring_mean", [values], graph=graph, options={"min_share": 0.58})[0, here])


def test_cells_outside_the_set_count_as_missing_in_a_ring() -> None:
    graph = around(20, 10, 1)
    rim = graph.neighbors[middle_of(graph, 20, 10), 0]  # 4 of its 7 are in the set
    ones = np.ones((1, 7))
    assert derive("ring_mean", [ones], graph=graph, options={"min_share": 0.5})[0, rim] == 1.0
    assert np.isnan(derive("ring_mean", [ones], graph=graph, options={"min_share": 0.6})[0, rim])


def test_two_rings_hold_nineteen_cells() -> None:
    graph = around(20, 10, 3)
    here = middle_of(graph, 20, 10)
    values = np.random.default_rng(0).normal(size=(2, len(graph)))
    position, offsets = graph.disk(2)
    mine = values[:, position[offsets[here] : offsets[here + 1]]]
    assert mine.shape == (2, 19)
    known = {"mean": mine.mean(axis=1), "max": mine.max(axis=1), "min": mine.min(axis=1), "sd": mine.std(axis=1)}
    for name, expected in known.items():
        found = derive(f"ring_{name}", [values], graph=graph, options={"rings": 2})[:, here]
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_spread_of_large_values_does_not_cancel() -> None:
    graph = around(20, 10, 1)
    values = 1e6 + np.arange(7.0)[None]
    assert derive("ring_sd", [values], graph=graph)[0, middle_of(graph, 20, 10)] == pytest.approx(2.0)


# ---------------------------------------------------------------- time


def one_cell(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=float)[:, None]


GRAPH = around(20, 10, 0)


def test_lag_by_hand_and_across_a_hole() -> None:
    times = DAYS[[0, 1, 2, 6, 7]]
    lagged = derive("lag", [one_cell([1, 2, 3, 4, 5])], graph=GRAPH, times=times, options={"days": 1})
    # 1.5 days after the third day is as far as its value reaches: the fourth finds nothing
    np.testing.assert_array_equal(lagged.ravel(), np.array([np.nan, 1, 2, np.nan, 4], dtype=np.float32))


def test_trailing_mean_by_hand_with_missing_steps() -> None:
    values = one_cell([2, 4, np.nan, 8, np.nan, np.nan])
    found = derive("trailing_mean", [values], graph=GRAPH, times=DAYS[:6], options={"days": 2})
    np.testing.assert_array_equal(found.ravel(), np.array([2, 3, 4, 8, 8, np.nan], dtype=np.float32))
    strict = derive("trailing_mean", [values], graph=GRAPH, times=DAYS[:6], options={"days": 2, "min_share": 1.0})
    np.testing.assert_array_equal(strict.ravel(), np.array([np.nan, 3, np.nan, np.nan, np.nan, np.nan]))


def test_anomaly_against_a_given_and_a_computed_climatology() -> None:
    times = np.array(["2019-01-10", "2019-02-10", "2020-01-10", "2020-02-10"], dtype="datetime64[ns]")
    values = one_cell([1, 10, 4, 20])
    given = np.arange(1.0, 13.0)[:, None]
    run: dict[str, Any] = {"graph": GRAPH, "times": times}
    assert derive("anomaly", [values, given], **run).ravel().tolist() == [0, 8, 3, 18]
    assert derive("anomaly", [values], **run).ravel().tolist() == [-1.5, -5, 1.5, 5]
    base = {"base": ("2019-01-01", "2019-12-31")}
    assert derive("anomaly", [values], **run, options=base).ravel().tolist() == [0, 0, 3, 10]


@pytest.mark.parametrize("kind", ["lag", "trailing_mean"])
def test_changing_the_future_changes_nothing(kind: str) -> None:
    rng = np.random.default_rng(1)
    graph = around(20, 10, 1)
    values = np.where(rng.random((len(DAYS), 7)) < 0.2, np.nan, rng.normal(size=(len(DAYS), 7)))
    now = 30
    changed = values.copy()
    changed[now + 1 :] = rng.normal(size=changed[now + 1 :].shape) * 1e6
    before, after = (derive(kind, [v], graph=graph, times=DAYS, options=OPTIONS[kind]) for v in (values, changed))
    np.testing.assert_array_equal(before[: now + 1], after[: now + 1])
    assert not np.array_equal(before, after, equal_nan=True)


@pytest.mark.parametrize("kind", ["lag", "trailing_mean"])
def test_a_block_with_its_halo_gives_the_bytes_of_the_whole(kind: str) -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(len(DAYS), 1)) * 10.0 ** rng.integers(-6, 6, size=(len(DAYS), 1))
    whole = derive(kind, [values], graph=GRAPH, times=DAYS, options=OPTIONS[kind])
    first = 40
    start = first - KINDS[kind].steps_before(OPTIONS[kind])
    part = derive(kind, [values[start:]], graph=GRAPH, times=DAYS[start:], options=OPTIONS[kind])
    assert part[first - start :].tobytes() == whole[first:].tobytes()


def test_cells_with_their_halo_give_the_bytes_of_the_whole() -> None:
    big, rng = around(20, 10, 6), np.random.default_rng(3)
    values = np.where(rng.random((3, len(big))) < 0.2, np.nan, rng.normal(size=(3, len(big))))
    for kind in [k for k in KINDS if KINDS[k].is_spatial]:
        small = around(20, 10, 2 + KINDS[kind].rings({}))
        inner = around(20, 10, 2).cells
        whole = derive(kind, [values], graph=big)[:, big.positions(inner)]
        part = derive(kind, [values[:, big.positions(small.cells)]], graph=small)[:, small.positions(inner)]
        assert part.tobytes() == whole.tobytes(), kind


# ---------------------------------------------------------------- of two inputs


def test_speed_and_heading_of_a_current_by_hand() -> None:
    east, north = one_cell([3, 0, 0, -1]), one_cell([4, 2, 0, 0])
    assert derive("speed", [east, north], graph=GRAPH).ravel().tolist() == [5, 2, 0, 1]
    heading = derive("heading", [east, north], graph=GRAPH).ravel()
    np.testing.assert_allclose(heading, [np.arctan2(3, 4), 0, np.nan, -np.pi / 2], rtol=1e-6)


def test_difference_and_ratio_and_a_static_second_input() -> None:
    a, b = one_cell([6, 1]), one_cell([2])
    assert derive("difference", [a, b], graph=GRAPH).ravel().tolist() == [4, -1]
    assert derive("ratio", [a, b], graph=GRAPH).ravel().tolist() == [3, 0.5]
    assert np.isnan(derive("ratio", [a, b * 0], graph=GRAPH)).all()


# ---------------------------------------------------------------- all kinds


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_its_inputs_and_gives_the_same_bytes_twice(kind: str) -> None:
    rng, graph, known = np.random.default_rng(4), around(20, 10, 1), KINDS[kind]
    inputs = [
        np.where(rng.random((len(DAYS), 7)) < 0.1, np.nan, rng.normal(size=(len(DAYS), 7)))
        for _ in range(known.n_inputs)
    ]
    copies = [a.copy() for a in inputs]
    found = [derive(kind, inputs, graph=graph, times=DAYS, options=OPTIONS.get(kind)) for _ in range(2)]
    assert found[0].tobytes() == found[1].tobytes()
    assert found[0].shape == inputs[0].shape
    assert found[0].dtype == np.float32
    assert np.isfinite(found[0]).any()
    for given, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(given, copy)
    assert known.doc
    assert known.steps_after(OPTIONS.get(kind, {})) == 0


def test_units_follow_from_those_of_the_inputs() -> None:
    units = {k: KINDS[k].unit(["degC", "m"]) for k in ("gradient", "lag", "steepness", "heading", "ratio")}
    assert units == {
        "gradient": "degC km-1",
        "lag": "degC",
        "steepness": "degrees",
        "heading": "rad",
        "ratio": "degC / (m)",
    }
    assert KINDS["gradient"].unit(["1"]) == "km-1"
    assert KINDS["ratio"].unit(["m", "m"]) == "1"


def test_halo_and_steps_before_follow_from_the_options() -> None:
    assert KINDS["ring_sd"].rings({"rings": 3}) == 3
    assert (KINDS["gradient"].rings({}), KINDS["speed"].rings({})) == (1, 0)
    assert KINDS["trailing_mean"].steps_before({"days": 7}) == 7
    assert KINDS["lag"].steps_before({"days": 2}, step_days=0.25) == 10  # 8 and the gap of 1.5, rounded up
    assert KINDS["anomaly"].needs_all_steps(1)
    assert not KINDS["anomaly"].needs_all_steps(2)


@pytest.mark.parametrize(
    ("kind", "inputs", "more", "message"),
    [
        ("curl", 1, {}, "must be one of gradient, front"),
        ("speed", 1, {}, "speed takes 2 inputs; got 1"),
        ("lag", 1, {"options": {"days": 1}}, "lag needs the times of its 3 steps; got none"),
        ("lag", 1, {"times": DAYS[:3]}, "lag: give days, a number above 0; got None"),
        ("lag", 1, {"times": DAYS[[0, 2, 1]], "options": {"days": 1}}, "times must ascend"),
        ("gradient", 1, {"options": {"rings": 2}}, "gradient has no option rings; it has none"),
        ("ring_mean", 1, {"options": {"rings": 0}}, "rings must be a whole number of at least 1; got 0"),
        ("ring_mean", 1, {"options": {"min_share": 0}}, r"min_share must lie in \(0, 1\]; got 0"),
        ("anomaly", 2, {"times": DAYS[:3]}, "must have 12 steps, January first; got 3"),
        (
            "anomaly",
            1,
            {"times": DAYS[:3], "options": {"base": ("1999-01-01", "1999-12-31")}},
            "no step lies in the base",
        ),
    ],
)
def test_faults_are_explained(kind: str, inputs: int, more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        derive(kind, [np.ones((3, 1))] * inputs, graph=GRAPH, **more)


def test_wrong_shapes_are_explained() -> None:
    with pytest.raises(ValueError, match=r"inputs must be \(step, 1 cells\); got \(3, 2\)"):
        derive("gradient", [np.ones((3, 2))], graph=GRAPH)
    with pytest.raises(ValueError, match="inputs must have the same steps, or one; got"):
        derive("difference", [np.ones((3, 1)), np.ones((2, 1))], graph=GRAPH)

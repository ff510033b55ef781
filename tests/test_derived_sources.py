"""Covariates derived from others within an experiment: their values, their halo, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mimic.cell_graph import CellGraph
from mimic.choices import Source
from mimic.derived import derive
from mimic.derived_sources import check_derived, derived_source
from mimic.hexgrid import cell_at, centroids, disks
from mimic.joins import JoinedField
from mimic.vector_layers import distance_to_shore

CENTER = cell_at(np.array([-150.0]), np.array([55.0]), 4)
TIMES = np.array(["2020-01-01", "2020-02-01"], dtype="datetime64[ns]")


def eastward(per_degree: float = 1.0, n_steps: int = 2) -> Source:
    """A field that rises to the east, twice as fast in the second step."""

    def join(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        longitude, _ = centroids(cells)
        values = np.stack([longitude * per_degree * (k + 1) for k in range(n_steps)]).astype(np.float32)
        step = np.arange(len(times)) % n_steps
        return JoinedField(values, step, step, np.zeros(len(times)), np.ones(len(times), dtype=bool))

    return Source("warmth", lambda cells, times: np.zeros(len(cells)), "degC", join=join)


def test_a_front_is_the_gradient_and_does_not_depend_on_what_else_is_asked_for() -> None:
    front = derived_source("front", "front", [eastward()])
    assert front.unit == "degC km-1"
    assert front.join is not None
    alone = front.join(CENTER, TIMES).at(np.zeros(2, int), np.arange(2))
    # a degree of longitude at 55 N is 63.8 km
    _, latitude = centroids(CENTER)
    per_km = 1 / (111.195 * np.cos(np.radians(latitude[0])))
    np.testing.assert_allclose(alone, [per_km, 2 * per_km], rtol=0.01)
    many = np.unique(disks(CENTER, 4)[0])
    among = front.join(many, TIMES).at(np.repeat(np.searchsorted(many, CENTER), 2), np.arange(2))
    assert np.array_equal(alone, among)


def test_rows_are_sampled_as_the_joined_field_has_them() -> None:
    front = derived_source("front", "front", [eastward()])
    cells = np.concatenate([disks(CENTER, 1)[0], CENTER])
    times = np.resize(TIMES, len(cells))
    values = front.sample(cells, times)
    graph = CellGraph.of(disks(cells, 1)[0])
    longitude, _ = centroids(graph.cells)
    expected = derive("front", [np.stack([longitude, 2 * longitude])], graph=graph)
    np.testing.assert_allclose(values, expected[np.arange(len(cells)) % 2, graph.positions(cells)], rtol=1e-4)


def test_distance_to_shore_takes_no_covariate() -> None:
    shore = derived_source("shore_km", "distance_to_shore", [])
    assert shore.unit == "km"
    assert np.array_equal(shore.sample(CENTER, TIMES[:1]), distance_to_shore(CENTER))


def test_two_inputs_must_have_the_same_steps() -> None:
    speed = derived_source("speed", "speed", [eastward(), eastward(n_steps=3)])
    assert speed.join is not None
    with pytest.raises(ValueError, match="other steps in time than the other covariate"):
        speed.join(CENTER, np.resize(TIMES, 3))


def steps(values: list[float], weight: list[float], valid: list[bool]) -> Source:
    """A field that is the same everywhere, of these steps; times take the first, or lie between it and the next."""

    def join(cells: np.ndarray, times: np.ndarray) -> JoinedField:
        field = np.repeat(np.array(values, dtype=np.float32)[:, None], len(cells), axis=1)
        low = np.zeros(len(times), dtype=np.int64)
        return JoinedField(field, low, low + (len(values) > 1), np.array(weight), np.array(valid))

    return Source("part", lambda cells, times: np.zeros(len(cells)), "m s-1", join=join)


def test_where_one_input_has_no_value_nothing_is_derived() -> None:
    # a current whose eastward file ends before the second time, and whose northward one does not
    still, short = steps([4.0], [0, 0], [True, True]), steps([3.0], [0, 0], [True, False])
    for inputs in ([still, short], [short, still]):
        speed = derived_source("speed", "speed", inputs)
        assert speed.sample(np.repeat(CENTER, 2), TIMES).tolist() == [5.0, pytest.approx(np.nan, nan_ok=True)]
    never = steps([], [0, 0], [False, False])
    assert np.isnan(derived_source("speed", "speed", [still, never]).sample(np.repeat(CENTER, 2), TIMES)).all()


def test_inputs_that_lie_otherwise_between_their_steps_are_refused() -> None:
    daily, shifted = steps([1.0, 2.0], [0.5, 0.0], [True, True]), steps([1.0, 2.0], [0.25, 0.0], [True, True])
    with pytest.raises(ValueError, match="other steps in time than the other covariate"):
        derived_source("speed", "speed", [daily, shifted]).sample(np.repeat(CENTER, 2), TIMES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("lag", 1, {"days": 3}), "looks at other times; build a cube"),
        (("slopes", 1, {}), "derive must be one of gradient"),
        (("front", 0, {}), "front is derived of 1 covariates; got 0"),
        (("ring_mean", 1, {"rings": 0}), "rings must be a whole number"),
        (("distance_to_shore", 1, {}), "takes no covariate"),
        (("distance_to_layer", 0, {}), "needs the option file"),
        (("distance_to_shore", 0, {"rings": 1}), "has no option rings"),
    ],
)
def test_what_cannot_be_derived_is_refused_by_name(given: tuple[str, int, dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_derived(*given)

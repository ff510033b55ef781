"""Shares of classes in cells: counted by hand, sums of 1, missing points, and several steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from mimic.class_shares import class_shares
from mimic.hexgrid import cell_at, centroids, disks

CELLS = np.sort(disks(cell_at(np.array([20.0]), np.array([10.0]), 4), 1)[0])
NAMES = ["class_1", "class_2", "class_3"]


def raster(codes: np.ndarray, spacing: float) -> xr.DataArray:
    """Codes on a grid around the cells, (latitude, longitude) or (time, latitude, longitude)."""
    n, m = codes.shape[-2:]
    latitude = 10.0 + spacing * (np.arange(n) - (n - 1) / 2)
    longitude = 20.0 + spacing * (np.arange(m) - (m - 1) / 2)
    steps = {"time": np.arange("2020-01", "2020-03", dtype="datetime64[M]").astype("datetime64[ns]")[: len(codes)]}
    coords = {**(steps if codes.ndim == 3 else {}), "latitude": latitude, "longitude": longitude}
    return xr.DataArray(codes.astype(np.float32), coords, tuple(coords), attrs={})


def grid(seed: int = 0, n: int = 100, spacing: float = 0.02) -> xr.DataArray:
    return raster(np.random.default_rng(seed).integers(1, 4, size=(n, n)), spacing)


def counted(field: xr.DataArray, code: float) -> np.ndarray:
    """Share of a code among the points whose cell this is, one by one."""
    lat, lon = (a.ravel() for a in np.meshgrid(field["latitude"], field["longitude"], indexing="ij"))
    owner, values = cell_at(lon, lat, 4), field.to_numpy().ravel()
    known = np.isfinite(values)
    return np.array([(values[(owner == c) & known] == code).mean() for c in CELLS])


@pytest.mark.parametrize("method", ["auto", "mean"])
def test_shares_are_those_of_the_points_counted_one_by_one(method: Any) -> None:
    field = grid()
    shares = class_shares(field, CELLS, method=method)
    assert list(shares) == NAMES
    for code, name in enumerate(NAMES, start=1):
        np.testing.assert_allclose(shares[name], counted(field, code), atol=1e-6)


def test_a_border_through_a_cell_divides_it_by_area() -> None:
    # west of the cell's centroid class 1, east of it class 2: half and half
    longitude = float(centroids(CELLS)[0][3])
    field = grid()
    field = field.copy(data=np.broadcast_to(np.where(field["longitude"] < longitude, 1.0, 2.0), field.shape))
    shares = class_shares(field, CELLS[3:4], method="area")
    assert float(shares["class_1"][0]) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("method", ["auto", "mean", "area", "nearest"])
def test_shares_of_all_classes_sum_to_one(method: Any) -> None:
    shares = class_shares(grid(1), CELLS, method=method).to_array().to_numpy()
    np.testing.assert_allclose(shares.sum(axis=0), 1.0, atol=1e-6)
    assert shares.min() >= 0


def test_auto_takes_samples_where_a_cell_holds_few_points() -> None:
    coarse = grid(2, n=20, spacing=0.5)
    assert np.isnan(class_shares(coarse, CELLS, method="mean")["class_2"]).any()
    np.testing.assert_allclose(class_shares(coarse, CELLS).to_array().sum("variable"), 1.0, atol=1e-6)


def test_named_groups_of_codes_and_the_others() -> None:
    field = grid()
    shares = class_shares(field, CELLS, classes={"forest": [1, 2]}, other="rest")
    assert list(shares) == ["forest", "rest"]
    np.testing.assert_allclose(shares["forest"], counted(field, 1) + counted(field, 2), atol=1e-6)
    np.testing.assert_allclose(shares["forest"] + shares["rest"], 1.0, atol=1e-6)
    assert (class_shares(field, CELLS, classes=[9])["class_9"] == 0).all()


def test_points_without_a_class_do_not_count_and_too_many_make_the_cell_unknown() -> None:
    field = grid()
    codes = field.to_numpy().copy()
    codes[:, ::3] = np.nan
    codes[:, 1::3] = 0
    holes = field.copy(data=codes)
    third: dict[str, Any] = {"no_class": [0], "min_known": 0.3}
    np.testing.assert_allclose(
        class_shares(holes, CELLS, **third)["class_1"], counted(holes.where(holes != 0), 1), atol=1e-6
    )
    assert np.isnan(class_shares(holes, CELLS, no_class=[0])["class_1"]).all()
    assert "class_0" in class_shares(holes, CELLS)


def test_steps_of_time_are_kept_and_cells_may_repeat() -> None:
    both = raster(np.stack([grid(0).to_numpy(), grid(1).to_numpy()]), 0.02)
    cells = np.concatenate([CELLS[::-1], CELLS[:2]])
    shares = class_shares(both, cells)
    assert shares["class_1"].dims == ("time", "cell")
    assert shares["cell"].attrs == {"grid_name": "h3", "level": 4}
    for step, seed in enumerate((0, 1)):
        alone = class_shares(grid(seed), CELLS)["class_2"].to_numpy()
        np.testing.assert_allclose(shares["class_2"][step], [*alone[::-1], *alone[:2]], atol=1e-7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "bilinear"}, "method must be one of auto, mean, area, nearest; got bilinear"),
        ({"min_known": 2}, r"min_known must lie in \[0, 1\]; got 2"),
        ({"classes": {"a": [1, 2], "b": [2]}}, "a code belongs to one class; these are in several: 2"),
        ({"classes": [1, 1]}, "classes names a code twice: 1, 1"),
        ({"classes": {"a": [1]}, "other": "a"}, "the class a is there already"),
    ],
)
def test_faults_are_explained(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_shares(grid(), CELLS, **options)


def test_quantities_are_no_classes() -> None:
    with pytest.raises(ValueError, match="classes must be whole numbers; got"):
        class_shares(grid() + 0.5, CELLS)
    many = raster(np.arange(10_000).reshape(100, 100), 0.02)
    with pytest.raises(ValueError, match="codes lie around the cells; name the classes"):
        class_shares(many, CELLS)

"""The file of a cube: all faults in one message, paths from its folder, names of what it makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimic.cube_axis import time_axis
from mimic.cube_cells import cells_of
from mimic.cube_sections import CellsConfig, CubeConfig, TimeConfig, load_cube_config
from mimic.hexgrid import cell_at

BOX = {"resolution": 3, "box": [170, -2, 182, 2]}


def cube(**changes: Any) -> CubeConfig:
    sections = {"name": "c", "cells": BOX, "variables": {"sst": {"files": "a.nc"}}}
    return CubeConfig.model_validate(sections | changes)


def test_all_faults_are_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: c\ncells: {resolution: 3}\nchunk_steps: 0\nvariables: {sst: {file: a.nc, methods: mean}}\n"
    )
    with pytest.raises(ValueError, match="is not a valid cube") as error:
        load_cube_config(tmp_path / "c.yaml")
    text = str(error.value)
    assert "cells: expected one of box, tracks and file; got none." in text
    assert "chunk_steps: Input should be greater than or equal to 1; got 0" in text
    assert "variables.sst: unknown key file; did you mean files?" in text


def test_paths_are_those_of_the_file_and_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCEAN", "/ocean")
    (tmp_path / "c.yaml").write_text(
        "name: c\ncells: {file: cells.csv}\nvariables: {sst: {files: [days/*.nc, '${OCEAN:-x}/b.nc']}}\n"
        "derived: {shore: {kind: distance_to_shore, options: {file: land.gpkg}}}\n"
    )
    loaded = load_cube_config(tmp_path / "c.yaml")
    assert loaded.variables["sst"].files == [str(tmp_path / "days" / "*.nc"), "/ocean/b.nc"]
    assert loaded.cells.file == tmp_path / "cells.csv"
    assert loaded.derived["shore"].options == {"file": str(tmp_path / "land.gpkg")}


def test_levels_and_classes_make_a_variable_each() -> None:
    variables = {
        "t": {"files": "a.nc", "levels": {"depth": [0.5, 100]}},
        "cover": {"files": "b.tif", "classes": {"forest": [1, 2], "water": [5]}},
    }
    outputs = cube(variables=variables).outputs
    assert outputs == {"t": ["t_0_5", "t_100"], "cover": ["cover_forest", "cover_water"]}


def test_derived_variables_come_after_those_they_are_made_of() -> None:
    derived = {"c": {"kind": "front", "of": "b"}, "b": {"kind": "ring_mean", "of": "sst"}}
    assert cube(derived=derived).derived_in_order == ["b", "c"]
    derived["b"]["of"] = "c"
    with pytest.raises(ValueError, match="derived: c, b are made of each other in a circle"):
        cube(derived=derived)


@pytest.mark.parametrize(
    ("derived", "message"),
    [
        ({"kind": "fronts", "of": "sst"}, "unknown kind fronts; known are gradient, front"),
        ({"kind": "front", "of": "sss"}, "derived.x: unknown variable sss; known are sst"),
        ({"kind": "speed", "of": "sst"}, "speed is made of 2 variables; of names 1"),
        ({"kind": "lag", "of": "sst", "options": {"day": 1}}, "lag has no option day"),
        (
            {"kind": "anomaly", "of": "sst"},
            "anomaly in a cube needs a climatology as second variable, or the option base",
        ),
        ({"kind": "distance_to_shore", "of": "sst"}, "distance_to_shore is made of shapes: leave `of` out"),
        ({"kind": "distance_to_layer"}, "distance_to_layer needs the option file"),
    ],
)
def test_impossible_derived_variables_are_refused(derived: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cube(derived={"x": derived})


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({**BOX, "file": "a.csv"}, "expected one of box, tracks and file; got box and file"),
        ({"box": BOX["box"]}, "box and tracks need a resolution"),
        ({"resolution": 3, "tracks": {"file": "a.csv"}}, "tracks and reach_km go together"),
    ],
)
def test_cells_are_given_in_one_way(cells: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CellsConfig.model_validate(cells)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": {"time": {"files": "a.nc"}}}, "are none of cell, time"),
        ({"derived": {"sst": {"kind": "front", "of": "sst"}}}, "the name sst is given twice"),
        ({"variables": {"t": {"files": "a.nc", "level": {"depth": [50, 0]}}}}, r"low < high; got \[50.0, 0.0\]"),
        ({"time": {"start": "yesterdays"}}, "expected a date such as"),
    ],
)
def test_other_faults(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cube(**changes)


# ---------------------------------------------------------------- cells and times


def test_cells_around_tracks_and_cells_of_a_file_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "id,timestamp,lon,lat\na,2020-01-01,179.9,0\na,2020-01-02,-179.9,0\nb,2020-01-01,10,45\n"
    )
    tracks = {"file": tmp_path / "t.csv", "columns": {"individual": "id"}}
    found = cells_of(CellsConfig.model_validate({"resolution": 3, "tracks": tracks, "reach_km": 0}))
    expected = np.unique(cell_at(np.array([179.9, -179.9, 10]), np.array([0, 0, 45]), 3))
    assert found.tolist() == expected.tolist()
    (tmp_path / "cells.csv").write_text("cell\n" + "\n".join(map(str, found[::-1])) + "\n")
    listed = cells_of(CellsConfig.model_validate({"file": tmp_path / "cells.csv"}))
    assert listed.tolist() == expected.tolist()


def hours(*numbers: int) -> np.ndarray:
    return np.datetime64("2020-01-01", "ns") + np.array(numbers).astype("timedelta64[h]")


def test_end_as_a_date_holds_its_whole_day() -> None:
    axis = time_axis({"sst": hours(12, 36, 60)}, TimeConfig(end="2020-01-02"))
    assert axis.stamps.tolist() == hours(12, 36).tolist()
    assert time_axis({"sst": hours(12, 36)}, TimeConfig(end="2020-01-02T00:00")).stamps.tolist() == hours(12).tolist()


def test_steps_before_the_start_are_history() -> None:
    axis = time_axis({"sst": hours(0, 24, 48)}, TimeConfig(start="2020-01-02"))
    assert (axis.n_before, axis.stamps.tolist()) == (1, hours(24, 48).tolist())


def test_different_clocks_are_refused_unless_a_step_brings_them_together() -> None:
    dated = {"sst": hours(12, 36, 60), "wind": hours(0, 24, 48)}
    with pytest.raises(ValueError, match=r"sst and wind have different times .* Give time.step"):
        time_axis(dated, TimeConfig())
    axis = time_axis(dated, TimeConfig(step="24h"))
    assert axis.stamps.tolist() == hours(0, 24, 48).tolist()
    assert axis.row_of(dated["sst"]).tolist() == [0, 1, 2]


def test_no_step_between_start_and_end_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no step lies from 2021-01-01 to the last; the files run from 2020-01-01"):
        time_axis({"sst": hours(0, 24)}, TimeConfig(start="2021-01-01"))


@pytest.mark.parametrize("box", [[-9, 41, -1], "west", [-9, 41, -1, "north"]])
def test_box_is_four_numbers_and_says_so_once(box: Any) -> None:
    with pytest.raises(ValueError, match=r"expected \[west, south, east, north\], degrees; got") as caught:
        CellsConfig(resolution=4, box=box)
    assert "1 validation error" in str(caught.value)

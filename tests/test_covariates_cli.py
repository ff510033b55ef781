"""`mimic covariates build` and `show`: what they print, and the cube of the shipped example."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mimic.covariates_cli import covariates_app
from mimic.cube import open_cube

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "experiments" / "north_pacific_cube.yaml"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("cube") / "np.zarr"
    done = CliRunner().invoke(covariates_app, ["build", str(EXAMPLE), "--out", str(folder), "--json"])
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout)


def test_example_builds_and_tells_what_it_made(built: tuple[Path, dict[str, object]]) -> None:
    folder, told = built
    assert told["n_cells"] == 4033
    assert list(told["variables"]) == ["sst", "elevation", "front", "slope", "distance_to_shore"]  # type: ignore[call-overload]
    with open_cube(folder) as cube:
        assert cube["sst"].dims == ("month", "cell")
        assert 2 < float(cube["sst"].mean()) < 12
        at_sea = cube["elevation"] < -1000
        assert float(cube["distance_to_shore"].where(at_sea).min()) > -10  # km; the coasts of two sources
        assert 0.001 < float(cube["front"].median()) < 0.02  # degC per km, of a field of 2 degrees


def test_show_names_variables_units_and_extent(built: tuple[Path, dict[str, object]]) -> None:
    done = CliRunner().invoke(covariates_app, ["show", str(built[0])])
    assert done.exit_code == 0
    assert "4,033 cells of resolution 4" in done.output
    assert "front              month   degC km-1" in done.output
    told = json.loads(CliRunner().invoke(covariates_app, ["show", str(built[0]), "--json"]).stdout)
    assert told["extent"] == pytest.approx([-174.949, 46.0016, -125.041, 61.9986], abs=1e-3)


def test_faults_are_told_as_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no cube"):
        CliRunner().invoke(covariates_app, ["show", str(tmp_path / "c")], catch_exceptions=False)
    with pytest.raises(ValueError, match="expected either --workers or --cluster"):
        CliRunner().invoke(
            covariates_app, ["build", str(EXAMPLE), "--workers", "2", "--cluster", "tcp://x:1"], catch_exceptions=False
        )


def test_bluefin_depth_levels_and_ranges_of_real_data(shared: Path, tmp_path: Path) -> None:
    data = shared / "data" / "bluefin_psat"
    if not (data / "woa_temp_depth_monthly.nc").is_file():
        pytest.skip("needs the reference data")
    (tmp_path / "c.yaml").write_text(f"""
name: bluefin
cells:
  resolution: 4
  reach_km: 60
  tracks:
    file: {data}/tracks.csv
    columns: {{individual: individual_id, time: timestamp, longitude: lon, latitude: lat}}
variables:
  temp: {{files: {data}/woa_temp_depth_monthly.nc, levels: {{depth: [0, 100]}}, unit: degC}}
  upper: {{files: {data}/woa_temp_depth_monthly.nc, level: {{depth: [0, 100]}}, unit: degC}}
  sst: {{files: {data}/coads_monthly_climatology.nc, variable: SST}}
derived:
  front: {{kind: front, of: sst}}
""")
    done = CliRunner().invoke(
        covariates_app, ["build", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "c.zarr"), "--json"]
    )
    assert done.exit_code == 0, done.output
    with open_cube(tmp_path / "c.zarr") as cube:
        summer = cube.sel(month=8)
        assert float(summer["temp_0"].mean()) > float(summer["upper"].mean()) > float(summer["temp_100"].mean())
        assert float(abs(cube["sst"] - cube["temp_0"]).mean()) < 2.0  # two climatologies of one ocean


@pytest.mark.parametrize(
    ("change", "message"),
    [
        # latitude first: a box off Tanzania
        (
            ("[-175, 46, -125, 62]", "[41, -9, 47, -1]"),
            r"sst: the grid of ocean_climatology.nc \(longitude .* reaches none",
        ),
        (("variable: sst", "variable: sss2"), "has no variable sss2"),
    ],
)
def test_refused_cube_leaves_no_folder(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    text = EXAMPLE.read_text().replace("../data", str(ROOT / "data"))
    assert change[0] in text
    (tmp_path / "c.yaml").write_text(text.replace(*change))
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(
            covariates_app,
            ["build", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "c.zarr")],
            catch_exceptions=False,
        )
    assert not (tmp_path / "c.zarr").exists()

"""Fixtures shared by all tests."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

# As the command line does, and before anything imports TensorFlow: threads and kernels decide on the last bits.
os.environ |= {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("MIMIC_SHARED", ROOT.parent / "shared"))
    if not (folder / "reference").is_dir():
        pytest.skip(f"reference data not found at {folder}; set MIMIC_SHARED to the folder that holds it")
    return folder


def reference_table(shared: Path, key: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """An entry of reference.json and its choice table, with the columns derived as its recipe says."""
    known = json.loads((shared / "reference" / "reference.json").read_text())[key]
    table = pd.read_csv(shared / "reference" / known["file"])
    if "wildboar" in key:
        table["sl_km"] = table["step_length_m"] / 1000
        table["log_sl"] = np.log(table["step_length_m"])
        table["cos_ta"] = np.cos(table["turn_angle_rad"])
    return known, table


@dataclass(frozen=True)
class Study:
    """A small study on disk: 6 animals, 25 days, an elevation grid and a monthly temperature, and its experiment."""

    folder: Path
    experiment: Path

    def edit(self, old: str, new: str) -> None:
        """Replace a piece of the experiment file, which must be there."""
        text = self.experiment.read_text()
        assert old in text, old
        self.experiment.write_text(text.replace(old, new))


EXPERIMENT = """
name: small
tracks:
  file: tracks.csv
  columns: {individual: fish, time: when, longitude: lon, latitude: lat}
  resample: {step: 24h, tolerance: 1h}
covariates:
  elevation: {file: elevation.nc, variable: elevation, unit: m}
  sst: {file: sst.nc, variable: sst, unit: degC}
choices: {resolution: 4, max_distance_km: 100, domain: elevation < 0}
features:
  depth: {source: elevation, multiply: -1}
split: {validation_share: 0.34, seed: 1}
training: {epochs: 3, units: [4], batch_decisions: 64}
models:
  none: {features: []}
  distance: {features: [distance_km, stay]}
  environment: {features: [distance_km, stay, sst, depth]}
groups:
  choices: {all: all, move: distance_km > 0}
  behaviors: {all: all, stay: selected_stay == 1, june: month == 6}
  shares: {stay: stay == 1}
"""


def write_tracks(path: Path, seed: int = 0) -> pd.DataFrame:
    """Lazy random walks in the Gulf of Alaska."""
    rng = np.random.default_rng(seed)
    parts = []
    for fish in range(6):
        moves = rng.uniform(size=25) < 0.5
        parts.append(
            pd.DataFrame(
                {
                    "fish": f"{fish:02d}",
                    "when": pd.date_range("2019-05-20 12:00", periods=25).strftime("%Y-%m-%d %H:%M:%S"),
                    "lon": -150 + np.cumsum(np.where(moves, rng.normal(0, 0.35, 25), 0)),
                    "lat": 56 + np.cumsum(np.where(moves, rng.normal(0, 0.15, 25), 0)),
                }
            )
        )
    table = pd.concat(parts, ignore_index=True)
    table.to_csv(path, index=False)
    return table


def write_grids(folder: Path) -> None:
    """A sloping sea floor and twelve months of a temperature that falls to the north."""
    longitude, latitude = np.arange(205.0, 216.0, 0.25), np.arange(52.0, 60.0, 0.25)
    depth = 500 + 50 * (longitude[None, :] - 210) + 80 * (latitude[:, None] - 56)
    xr.Dataset(
        {"elevation": (("latitude", "longitude"), -depth)}, coords={"latitude": latitude, "longitude": longitude}
    ).to_netcdf(folder / "elevation.nc", engine="h5netcdf")
    month = np.arange(1, 13)
    sst = 8 + 3 * np.cos((month - 8) / 6 * np.pi)[:, None, None] - 0.5 * (latitude[None, :, None] - 56)
    sst = sst + 0.2 * np.sin(longitude)[None, None, :]
    xr.Dataset(
        {"sst": (("month", "latitude", "longitude"), sst)},
        coords={"month": month, "latitude": latitude, "longitude": longitude},
    ).to_netcdf(folder / "sst.nc", engine="h5netcdf")


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A fresh copy of the small study."""
    write_tracks(tmp_path / "tracks.csv")
    write_grids(tmp_path)
    (tmp_path / "small.yaml").write_text(EXPERIMENT)
    return Study(tmp_path, tmp_path / "small.yaml")


@pytest.fixture
def mimic(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: mimic("run", ...) -> exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from mimic.cli import main

        monkeypatch.setattr(sys, "argv", ["mimic", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    return call

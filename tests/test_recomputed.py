"""The whole line against a second, slow computation: plain loops, h3, pyproj, xarray and pandas, on real data.

Nothing below uses a function of mimic to find an expected value. `prepare` and the trained models are what is judged.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h3.api.basic_int as h3
import numpy as np
import pandas as pd
import pyproj
import pytest
import xarray as xr
from conftest import Study

from mimic.callbacks import TrueLoss
from mimic.configuration import load_configuration
from mimic.contrasts import exact_contrasts
from mimic.evaluation import GROUP_COLUMNS, evaluate, mean_choice_probability
from mimic.model import save_model
from mimic.preparation import Prepared, prepare
from mimic.schema import ChoiceSets
from mimic.tables import to_table
from mimic.training import TrainingOptions, train

SPHERE = pyproj.Geod(a=6371007.180918475, b=6371007.180918475)


@pytest.fixture(scope="module")
def demo(root: Path) -> Prepared:
    return prepare(load_configuration(root / "experiments" / "demo.yaml"))


@pytest.fixture(scope="module")
def on_shared(root: Path, shared: Path) -> Callable[[str], Prepared]:
    """An experiment on the shared data, prepared."""

    def prepared(name: str) -> Prepared:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIMIC_SHARED", str(shared))
            return prepare(load_configuration(root / "experiments" / f"{name}.yaml"))

    return prepared


# ------------------------------------------------- choice sets, geometry and covariates


@dataclass(frozen=True)
class SlowGrid:
    """A field by the cells that its grid points lie in: dims (step, latitude, longitude), or (step, y, x) and a crs."""

    field: xr.DataArray
    points: dict[int, list[tuple[int, int]]]

    @staticmethod
    def of(path: Path, variable: str, resolution: int, *, crs: str | None = None) -> SlowGrid:
        with xr.open_dataset(path, decode_times=False, engine="h5netcdf") as file:
            field = file[variable].load()
        field = field if field.ndim == 3 else field.expand_dims("step")
        rows, columns = (field[d].to_numpy() for d in field.dims[1:])
        column, row = np.meshgrid(columns, rows)
        if crs is not None:
            column, row = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(column, row)
        points: dict[int, list[tuple[int, int]]] = {}
        for (i, j), latitude in np.ndenumerate(row):
            cell = h3.latlng_to_cell(latitude, (column[i, j] + 180) % 360 - 180, resolution)
            points.setdefault(cell, []).append((i, j))
        return SlowGrid(field, points)

    def mean(self, cell: int, step: int = 0) -> float:
        """The mean of the finite grid points inside a cell."""
        values = self.field.to_numpy()[step]
        found = [float(values[p]) for p in self.points[cell] if math.isfinite(values[p])]
        return math.fsum(found) / len(found) if found else math.nan

    def between(self, cell: int, step: int) -> float:
        """Between the four points around the centroid, those without a value left out."""
        latitude, longitude = h3.cell_to_latlng(cell)
        field = self.field[step]
        y, x = (field[d].to_numpy() for d in field.dims)
        longitude = longitude if x[0] <= longitude <= x[-1] else longitude % 360
        i, j = int(np.searchsorted(y, latitude)) - 1, int(np.searchsorted(x, longitude)) - 1
        up, right = (latitude - y[i]) / (y[i + 1] - y[i]), (longitude - x[j]) / (x[j + 1] - x[j])
        total = weight = 0.0
        for k, m in itertools.product((0, 1), (0, 1)):
            value = float(field[i + k, j + m])
            if math.isfinite(value):
                share = (up if k else 1 - up) * (right if m else 1 - right)
                total, weight = total + share * value, weight + share
        return total / weight if weight > 1e-9 else math.nan


def some(choice_sets: ChoiceSets, n: int) -> list[int]:
    """A few decisions spread over all."""
    return np.linspace(0, choice_sets.n_decisions - 1, n).astype(int).tolist()


def step_of(prepared: Prepared, decision: int, step: pd.Timedelta, tolerance: pd.Timedelta) -> tuple[pd.Series, int]:
    """The fix of a decision and the cell of the fix one step later, both from the tracks."""
    key = prepared.choice_sets.decisions.loc[decision]
    assert prepared.tracks is not None
    own = prepared.tracks[prepared.tracks["individual"] == key["individual"]]
    fix = own[own["time_utc"] == key["time_utc"]].iloc[0]
    late = own["time_utc"] - fix["time_utc"] - step
    after = own[late.abs() <= tolerance]
    assert len(after) == 1
    resolution = h3.get_resolution(int(key["origin"]))
    return fix, h3.latlng_to_cell(after["latitude"].iloc[0], after["longitude"].iloc[0], resolution)


def check_geometry(prepared: Prepared, decision: int, reach_km: float, *, step: str, tolerance: str) -> list[int]:
    """Distances, stay, headings and the selection of a decision; the cells within reach by h3 alone."""
    cs = prepared.choice_sets
    fix, went = step_of(prepared, decision, pd.Timedelta(step), pd.Timedelta(tolerance))
    start, end = cs.offsets[decision], cs.offsets[decision + 1]
    origin = int(cs.decisions.loc[decision, "origin"])
    assert h3.latlng_to_cell(fix["latitude"], fix["longitude"], h3.get_resolution(origin)) == origin
    assert cs.choice[cs.selected[decision]] == went
    here = h3.cell_to_latlng(origin)
    for row in range(start, end):
        cell = int(cs.choice[row])
        there = h3.cell_to_latlng(cell)
        assert cs.features["distance_km"][row] == pytest.approx(h3.great_circle_distance(here, there), rel=1e-6)
        assert (cs.features["stay"][row] == 1) == (cell == origin)
        turn = math.radians(SPHERE.inv(here[1], here[0], there[1], there[0])[0])
        expected = (0.0, 0.0) if cell == origin else (math.sin(turn), math.cos(turn))
        found = cs.features["heading_sin"][row], cs.features["heading_cos"][row]
        assert found == pytest.approx(expected, abs=2e-7)
    return [c for c in h3.grid_disk(origin, 12) if h3.great_circle_distance(here, h3.cell_to_latlng(c)) <= reach_km]


def check_ocean(
    prepared: Prepared, elevation: SlowGrid, sst: SlowGrid, reach_km: float, n: int, tolerance: str
) -> None:
    """A study of daily steps over the sea: all its choices, depths and temperatures."""
    cs = prepared.choice_sets
    for decision in some(cs, n):
        reach = check_geometry(prepared, decision, reach_km, step="24h", tolerance=tolerance)
        time = cs.decisions.loc[decision, "time_utc"]
        truth = {c: (elevation.mean(c), sst.between(c, time.month - 1)) for c in reach}
        sea = {c: v for c, v in truth.items() if v[0] < 0 and math.isfinite(v[1])}
        rows = range(cs.offsets[decision], cs.offsets[decision + 1])
        assert {int(cs.choice[r]) for r in rows} == set(sea)
        origin = int(cs.decisions.loc[decision, "origin"])
        for r in rows:
            height, temperature = sea[int(cs.choice[r])]
            assert cs.features["log_depth"][r] == pytest.approx(math.log(max(1.0, -height)), rel=1e-6)
            assert cs.features["sst"][r] == pytest.approx(temperature, rel=1e-6)
            if "sst_change" in cs.features:
                assert cs.features["sst_change"][r] == pytest.approx(temperature - truth[origin][1], abs=1e-5)
        year = pd.Timestamp(time.year, 1, 1), pd.Timestamp(time.year + 1, 1, 1)
        angle = 2 * math.pi * ((time - year[0]) / (year[1] - year[0]))
        season = cs.features["season_sin"][rows[0]], cs.features["season_cos"][rows[0]]
        assert season == pytest.approx((math.sin(angle), math.cos(angle)), abs=1e-6)


def test_demo_choice_sets_are_those_found_cell_by_cell(root: Path, demo: Prepared) -> None:
    folder = root / "data" / "north_pacific"
    elevation = SlowGrid.of(folder / "elevation_5min.nc", "elevation", 4)
    check_ocean(demo, elevation, SlowGrid.of(folder / "ocean_climatology.nc", "sst", 4), 100.0, 60, "2h")


def test_demo_decisions_are_the_daily_pairs_of_its_file(root: Path, demo: Prepared) -> None:
    rows = pd.read_csv(root / "data" / "demo" / "chinook.csv.gz")
    assert demo.n_read == len(rows)
    rows = rows[rows["visible"].astype(str).str.lower() == "true"]
    rows["time"] = pd.to_datetime(rows["timestamp"])
    # the planted outliers are 12 degrees off and 2 hours late; the repeats are exact
    rows = rows[rows["time"].dt.hour == 20].drop_duplicates(["individual-local-identifier", "time"])
    at = set(zip(rows["individual-local-identifier"], rows["time"], strict=True))
    expected = {(i, t) for i, t in at if (i, t + pd.Timedelta("1D")) in at}
    found = demo.choice_sets.decisions
    assert set(zip(found["individual"], found["time_utc"], strict=True)) == expected
    assert len(found) == len(expected)


def test_bluefin_choice_sets_are_those_found_cell_by_cell(shared: Path, on_shared: Callable[[str], Prepared]) -> None:
    folder = shared / "data" / "bluefin_psat"
    elevation = SlowGrid.of(folder / "bathymetry_etopo5.nc", "elevation", 4)
    sst = SlowGrid.of(folder / "coads_monthly_climatology.nc", "SST", 4)
    check_ocean(on_shared("bluefin"), elevation, sst, 160.0, 40, "1h")


def test_kruger_rasters_in_meters_are_the_mean_of_the_points_in_each_cell(
    shared: Path, on_shared: Callable[[str], Prepared]
) -> None:
    prepared = on_shared("kruger")
    path = shared / "data" / "kruger_buffalo" / "covariates_utm36s_200m.nc"
    river = SlowGrid.of(path, "dist_river_m", 8, crs="EPSG:32736")
    cs = prepared.choice_sets
    for decision in some(cs, 40):
        reach = check_geometry(prepared, decision, 2.5, step="1h", tolerance="10min")
        rows = range(cs.offsets[decision], cs.offsets[decision + 1])
        assert {int(cs.choice[r]) for r in rows} == set(reach)  # these lie inside the rasters
        origin = river.mean(int(cs.decisions.loc[decision, "origin"]))
        for r in rows:
            away = river.mean(int(cs.choice[r]))
            assert cs.features["log_river"][r] == pytest.approx(math.log1p(away), rel=1e-6)
            assert cs.features["river_change"][r] == pytest.approx(away - origin, abs=2e-3)


def test_kotz_depths_on_a_grid_from_0_to_360_are_means_of_three_points_or_lie_between_points(
    shared: Path, on_shared: Callable[[str], Prepared]
) -> None:
    prepared = on_shared("kotz")
    path = shared / "data" / "kotz_bearded_seals" / "bathymetry_etopo5_0_360.nc"
    elevation = SlowGrid.of(path, "elevation", 6)
    cs = prepared.choice_sets
    n_means = n_between = 0
    for decision in some(cs, 12):
        reach = check_geometry(prepared, decision, 30.0, step="6h", tolerance="1h")
        full = {c for c in reach if len(elevation.points.get(c, [])) >= 3}
        height = {c: elevation.mean(c) if c in full else elevation.between(c, 0) for c in reach}
        n_means, n_between = n_means + len(full), n_between + len(reach) - len(full)
        rows = range(cs.offsets[decision], cs.offsets[decision + 1])
        assert {int(cs.choice[r]) for r in rows} == {c for c in reach if height[c] < 0}
        for r in rows:
            depth = math.log(max(1.0, -height[int(cs.choice[r])]))
            assert cs.features["log_depth"][r] == pytest.approx(depth, rel=1e-6, abs=1e-6)
    assert min(n_means, n_between) > 10


# ------------------------------------------------- evaluation

CHOICES = {"all": "all", "move": "distance_km > 0", "near": "distance_km < 60 and not perimeter == 1"}
BEHAVIORS = {"all": "all", "stay": "selected_stay == 1", "june": "month == 6", "site": 'study_site == "Yakutat"'}


def by_pandas(table: pd.DataFrame, choices: str, behavior: str, split: str, weighting: str) -> list[float]:
    """The numbers of one row of the group table from the long table with the column phi, by pandas alone."""
    inside = {
        "all": table["distance_km"] >= 0,
        "move": table["distance_km"] > 0,
        "near": (table["distance_km"] < 60) & (table["perimeter"] != 1),
    }[choices]
    selected = table[table["selected"] == 1].set_index("key")
    keep = {
        "all": selected["stay"] >= 0,
        "stay": selected["stay"] == 1,
        "june": selected["time_utc"].dt.month == 6,
        "site": selected["study_site"] == "Yakutat",
    }[behavior] & (selected["split"] == split)
    rows = table[inside & table["key"].isin(keep.index[keep])]
    rows = rows[rows.groupby("key")["selected"].transform("sum") == 1]
    if rows.empty:
        return [0, 0, *[math.nan] * 6]
    chosen = rows[rows["selected"] == 1].set_index("key")
    # odds against the selected choice: 1 / sum of exp(phi_m - phi_selected)
    relative = np.exp(rows["phi"] - rows["key"].map(chosen["phi"]))
    decisions = pd.DataFrame(
        {
            "ln_p": -np.log(relative.groupby(rows["key"]).sum()),
            "null": -np.log(rows.groupby("key").size()),
            "contrast": np.log1p(relative[rows["selected"] == 0]).groupby(rows["key"]).mean(),
            "individual": chosen["individual"],
        }
    ).assign(p=lambda d: np.exp(d["ln_p"]))
    numbers = decisions[["ln_p", "null", "contrast", "p"]]
    means = (numbers.groupby(decisions["individual"]).mean() if weighting == "individual" else numbers).mean()
    ln_p, null = means["ln_p"], means["null"]
    counts = [decisions["individual"].nunique(), len(decisions)]
    return [*counts, means["contrast"], ln_p, math.exp(ln_p), math.exp(null), math.exp(ln_p - null), means["p"]]


def odd_log_odds(choice_sets: ChoiceSets) -> np.ndarray:
    """Log-odds of no meaning that differ in every row."""
    rng = np.random.default_rng(5)
    distance = choice_sets.features["distance_km"].astype(np.float64)
    return 1.5 * choice_sets.features["stay"] - distance / 20 + rng.normal(0, 1.5, choice_sets.n_rows)


def test_groups_of_the_demo_score_as_pandas_finds(demo: Prepared) -> None:
    cs = demo.choice_sets
    phi = odd_log_odds(cs)
    found = evaluate({"m": phi}, cs, choice_groups=CHOICES, behavior_groups=BEHAVIORS)
    table = to_table(cs).assign(phi=phi, key=cs.decision_of_row)
    assert len(found) == 2 * 3 * 4 * 2
    empty = 0
    for _, row in found.iterrows():
        keys = [str(row[c]) for c in ("choice_group", "behavior_group", "split", "weighting")]
        expected = by_pandas(table, *keys)
        empty += expected[1] == 0
        np.testing.assert_allclose(row[GROUP_COLUMNS[5:]].astype(float), expected, rtol=1e-12, err_msg="/".join(keys))
    assert empty == 4  # who stays does not move


def test_share_of_staying_in_the_demo_is_the_mean_probability_on_the_origin(demo: Prepared) -> None:
    cs = demo.choice_sets
    phi = odd_log_odds(cs)
    table = to_table(cs).assign(odds=np.exp(phi), key=cs.decision_of_row)
    table["p"] = table["odds"] / table.groupby("key")["odds"].transform("sum")
    origin = table[table["stay"] == 1]  # at sea with probability 1 in this world: every decision has it
    assert len(origin) == cs.n_decisions
    found = mean_choice_probability({"m": phi}, cs, "stay == 1").set_index(["split", "weighting"])
    for split, part in origin.groupby("split"):
        by_animal = part.groupby("individual")[["p", "selected"]].mean().mean()
        expected = [*by_animal, *part[["p", "selected"]].mean()]
        rows = found.loc[[(split, "individual"), (split, "decision")], ["predicted", "observed"]]
        np.testing.assert_allclose(rows.to_numpy().ravel(), expected, rtol=1e-12)


# ------------------------------------------------- weights, losses, models


def test_exact_contrast_weights_are_those_of_a_triple_loop(demo: Prepared) -> None:
    animals = sorted(set(demo.choice_sets.individuals))[::20]
    cs = demo.choice_sets.filter(np.isin(demo.choice_sets.individuals, animals))
    expected = np.zeros(cs.n_rows)
    for animal in animals:
        own = [d for d in range(cs.n_decisions) if cs.individuals[d] == animal]
        for d in own:
            unselected = [r for r in range(cs.offsets[d], cs.offsets[d + 1]) if r != cs.selected[d]]
            for r in unselected:
                expected[r] += 1 / len(animals) / len(own) / len(unselected)
    np.testing.assert_allclose(exact_contrasts(cs), expected, rtol=1e-12)
    assert expected.sum() == pytest.approx(1.0, rel=1e-12)


def true_losses(cs: ChoiceSets, phi: np.ndarray) -> tuple[float, float]:
    """Contrast loss and decision loss, individuals weighing the same, by pandas."""
    table = pd.DataFrame({"key": cs.decision_of_row, "phi": phi, "individual": cs.individuals[cs.decision_of_row]})
    relative = table["phi"] - np.repeat(phi[cs.selected], cs.n_choices)
    other = ~cs.is_selected
    contrast = np.log1p(np.exp(relative[other])).groupby(table["key"]).mean()
    decision = np.log(np.exp(relative).groupby(table["key"]).sum())
    found = (v.groupby(cs.individuals[v.index]).mean().mean() for v in (contrast, decision))
    return next(found), next(found)


def network_by_hand(network: Any, x: np.ndarray) -> np.ndarray:
    """The saved layers in float64: (x - mean) / sd, ReLU layers, a last layer without bias."""
    value = x.astype(np.float64)
    for layer in network.layers[1:]:
        if layer.name.startswith("scaling"):
            value = (value - np.ravel(layer.mean)) / np.sqrt(np.ravel(layer.variance).astype(np.float64))
        elif layer.name == "log_odds":
            value = value @ np.asarray(layer.kernel, np.float64)
        else:
            value = np.maximum(value @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias, np.float64), 0)
    return value[:, 0]


NAMES = ["distance_km", "stay", "sst", "log_depth"]


def some_animals(demo: Prepared) -> tuple[ChoiceSets, ChoiceSets]:
    parts = (demo.choice_sets.split(name) for name in ("train", "validation"))
    training, validation = (p.filter(np.isin(p.individuals, sorted(set(p.individuals))[:8])) for p in parts)
    return training, validation


def test_history_is_the_loss_of_the_weights_it_belongs_to(demo: Prepared) -> None:
    import keras

    training, validation = some_animals(demo)
    kept: list[list[np.ndarray]] = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.append(keep.model.network.get_weights())
    )
    # one minibatch holds everything, so the running loss is that of the weights before the step of the epoch
    options = TrainingOptions(units=(8, 4), epochs=4, learning_rate=0.01, batch_decisions=training.n_decisions)
    result = train(training, validation, NAMES, options, callbacks=[keep])
    network = result.model.network
    assert network is not None
    before = None
    for weights, (_, row) in zip(kept, result.history.iterrows(), strict=True):
        network.set_weights(weights)
        for prefix, cs in (("", training), ("val_", validation)):
            phi = network_by_hand(network, cs.matrix(NAMES))
            contrast, decision = true_losses(cs, phi)
            assert row[f"{prefix}true_contrast_loss"] == pytest.approx(contrast, rel=2e-6)
            assert row[f"{prefix}true_decision_loss"] == pytest.approx(decision, rel=2e-6)
        if before is not None:
            assert row["loss"] == pytest.approx(before, rel=1e-5)
        before = row["true_contrast_loss"]
    assert result.history["loss"].diff().abs().min() > 1e-4  # the epochs differ


def test_running_loss_with_dropout_is_not_reported_as_the_true_loss(demo: Prepared) -> None:
    training, _ = some_animals(demo)
    options = TrainingOptions(units=(16, 16), epochs=2, dropout=0.5, batch_decisions=64, learning_rate=0.01)
    history = train(training, None, NAMES, options).history
    again = TrueLoss(training, None, NAMES)
    again.set_model(train(training, None, NAMES, options).model.network)
    best = history.loc[history["true_contrast_loss"].idxmin()]
    assert best["true_contrast_loss"] == pytest.approx(again.losses()["true_contrast_loss"], rel=1e-12)
    assert (history["loss"] / history["true_contrast_loss"] > 1.05).all()


PLAIN_KERAS = """
import sys, numpy, keras
network = keras.saving.load_model(sys.argv[1], safe_mode=True)
rows = numpy.load(sys.argv[2])
numpy.save(sys.argv[3], network.predict(rows, batch_size=1000, verbose=0))
assert "mimic" not in sys.modules
"""


def test_saved_file_gives_the_same_log_odds_in_plain_keras_and_by_hand(demo: Prepared, tmp_path: Path) -> None:
    training, validation = some_animals(demo)
    model = train(training, validation, NAMES, TrainingOptions(units=(8, 4), epochs=3, learning_rate=0.01)).model
    save_model(model, tmp_path / "m.keras")
    rows = validation.matrix(NAMES)
    np.save(tmp_path / "rows.npy", rows)
    arguments = [str(tmp_path / name) for name in ("m.keras", "rows.npy", "found.npy")]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "PYTHONPATH": ""}
    subprocess.run([sys.executable, "-c", PLAIN_KERAS, *arguments], check=True, cwd=tmp_path, env=environment)
    plain = np.load(tmp_path / "found.npy")[:, 0]
    own = model.log_odds(validation)
    assert np.ptp(own) > 1
    np.testing.assert_allclose(plain, own, rtol=0, atol=1e-5)
    np.testing.assert_allclose(network_by_hand(model.network, rows), own, rtol=0, atol=1e-5)


def test_a_run_in_a_fresh_process_gives_the_same_bytes(study: Study) -> None:
    study.edit("epochs: 3, units: [4]", "epochs: 3, units: [8, 4], dropout: 0.2, loss: contrast_sampled")
    tables = []
    for name, hash_seed in (("one", "1"), ("two", "2")):
        command = [sys.executable, "-m", "mimic.cli", "run", str(study.experiment), "--out", str(study.folder / name)]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([*command, "--json"], check=True, env=environment, capture_output=True, text=True)
        assert json.loads(done.stdout)
        files = ("evaluation.csv", "history.csv", "log_odds.parquet", "shares.csv", "ledger.csv")
        tables.append({file: (study.folder / name / file).read_bytes() for file in files})
    assert tables[0] == tables[1]

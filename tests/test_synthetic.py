"""The synthetic chinook: written-down truth, same bytes every time, and recovery of what was put in."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mimic.configuration import load_configuration
from mimic.hexgrid import cell_at
from mimic.polygons import inside
from mimic.preparation import prepare
from mimic.probability import grouped_log_softmax, selected_log_probability
from mimic.schema import ChoiceSets
from mimic.synthetic import ChinookTruth, Site, read_truth, simulate_chinook, true_log_odds, write_chinook


def small_sets(features: dict[str, list[float]]) -> ChoiceSets:
    return ChoiceSets(
        pd.DataFrame({"individual": ["a"], "decision": [0]}), np.array([0, 3]), np.arange(3), np.array([0]),
        {k: np.array(v) for k, v in features.items()},
    )  # fmt: skip


def test_true_log_odds_worked_out_by_hand() -> None:
    choice_sets = small_sets(
        {
            "stay": [1, 0, 0], "distance_km": [0, 26, 26], "heading_sin": [0, 1, 1], "heading_cos": [0, 0, 0],
            "season_cos": [-1, -1, -1], "sst": [9, 11, 9], "log_depth": [np.log(300)] * 3, "perimeter": [0, 0, 1],
        }
    )  # fmt: skip
    truth = ChinookTruth(stay=-0.5, distance_scale_km=13, heading=0.8, heading_deg=90, sst_preferred=9, sst_tolerance=2)
    # stay: -0.5;  east at midsummer, 2 degrees too warm: -26/13 + 0.8 - 2^2 / (2 * 2^2);  inside the perimeter: never
    assert true_log_odds(truth, choice_sets).tolist() == pytest.approx([-0.5, -1.7, -np.inf], abs=1e-6)
    with_effect = true_log_odds(truth, choice_sets, individual_effects={"a": 0.7})
    assert with_effect.tolist() == pytest.approx([0.2, -1.7, -np.inf], abs=1e-6)


def test_truth_needs_its_features() -> None:
    with pytest.raises(ValueError, match="heading_sin"):
        true_log_odds(ChinookTruth(), small_sets({"stay": [1, 0, 0], "distance_km": [0, 1, 2]}))


@pytest.fixture
def grids(root: Path) -> dict[str, Path]:
    folder = root / "data" / "north_pacific"
    return {"elevation": folder / "elevation_5min.nc", "climatology": folder / "ocean_climatology.nc"}


def test_committed_tracks_come_from_the_command_byte_for_byte(
    root: Path, tmp_path: Path, grids: dict[str, Path]
) -> None:
    write_chinook(tmp_path, ChinookTruth(), **grids)
    for name in ("chinook.csv.gz", "perimeter.geojson", "truth.json"):
        made, committed = (tmp_path / name).read_bytes(), (root / "data" / "demo" / name).read_bytes()
        if name.endswith(".gz"):  # another build of zlib may pack the same bytes differently
            made, committed = gzip.decompress(made), gzip.decompress(committed)
        assert made == committed, name


def test_written_truth_reads_back(root: Path, tmp_path: Path) -> None:
    truth, effects = read_truth(root / "data" / "demo" / "truth.json")
    assert truth == ChinookTruth()
    assert len(effects) == 100
    assert np.std(list(effects.values())) == pytest.approx(truth.individual_sd, rel=0.25)
    (tmp_path / "no.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="no written-down truth"):
        read_truth(tmp_path / "no.json")


def test_animals_stay_at_sea_out_of_the_perimeter_and_within_reach(root: Path, grids: dict[str, Path]) -> None:
    truth = dataclasses.replace(ChinookTruth(), mean_days=45, sites=(Site("Kodiak", -151.0, 59.2, "2019-05-20", 6),))
    perimeter = root / "data" / "demo" / "perimeter.geojson"
    positions, _ = simulate_chinook(truth, **grids, perimeter=perimeter)
    cells = cell_at(positions["longitude"].to_numpy(), positions["latitude"].to_numpy(), 4)
    assert inside(perimeter, np.unique(cells)).sum() == 0
    again, _ = simulate_chinook(truth, **grids, perimeter=perimeter)
    pd.testing.assert_frame_equal(positions, again)
    other, _ = simulate_chinook(dataclasses.replace(truth, seed=21), **grids, perimeter=perimeter)
    assert len(other) != len(positions) or (other["longitude"] != positions["longitude"]).any()


def test_choices_of_the_demo_are_draws_from_the_truth(root: Path) -> None:
    """If the selections are draws from p, then -ln p(selected) has the mean and variance that p itself says."""
    choice_sets = prepare(load_configuration(root / "experiments" / "demo.yaml")).choice_sets
    truth, effects = read_truth(root / "data" / "demo" / "truth.json")
    phi = true_log_odds(truth, choice_sets, individual_effects=effects)
    log_p = grouped_log_softmax(phi, choice_sets.offsets)
    p = np.exp(log_p)
    finite = np.where(p > 0, log_p, 0.0)
    entropy = np.add.reduceat(-p * finite, choice_sets.offsets[:-1])
    variance = np.add.reduceat(p * finite**2, choice_sets.offsets[:-1]) - entropy**2
    seen = -selected_log_probability(phi, choice_sets.offsets, choice_sets.selected)
    z = (seen - entropy).sum() / np.sqrt(variance.sum())
    assert abs(z) < 3
    # The same for the stays: what is expected under the truth is what happened.
    stay = choice_sets.features["stay"] == 1
    expected = np.add.reduceat(np.where(stay, p, 0.0), choice_sets.offsets[:-1])
    stayed = stay[choice_sets.selected]
    z = (stayed - expected).sum() / np.sqrt((expected * (1 - expected)).sum())
    assert abs(z) < 3

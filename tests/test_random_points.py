"""Random steps to points: geometry by hand, an account of every step, and a known selection found again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from mimic.covariates import Covariate
from mimic.hexgrid import bearing_rad, distance_km
from mimic.movement_kernels import GammaSteps, VonMisesTurns
from mimic.random_points import (
    STEP,
    TURN,
    destination,
    draw_random_points,
    fit_steps_and_turns,
    random_points_study,
    used_steps,
)
from mimic.step_selection import integrated_step_selection


def tracks(points: list[tuple[float, float]], *, burst: list[int] | None = None, who: str = "a") -> pd.DataFrame:
    """Fixes an hour apart."""
    return pd.DataFrame(
        {
            "individual": who,
            "time_utc": pd.date_range("2020-01-01", periods=len(points), freq="1h"),
            "longitude": [p[0] for p in points],
            "latitude": [p[1] for p in points],
            "burst": burst or [0] * len(points),
        }
    )


def wave(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
    return np.sin(4 * np.asarray(longitude)) + np.cos(3 * np.asarray(latitude))


def wave_file(path: Path, *, north: float = 15.0) -> Covariate:
    """The wave every 0.05 degrees around (0, 0); nothing north of `north`."""
    axis = np.arange(-15.0, 15.01, 0.05)
    values = wave(axis[None, :], axis[:, None])
    values[axis > north] = np.nan
    xr.Dataset({"wave": (("latitude", "longitude"), values)}, {"latitude": axis, "longitude": axis}).to_netcdf(
        path, engine="h5netcdf"
    )
    return Covariate("wave", path, "wave", "1")


def walk(n_steps: int, selection: float, seed: int, who: str) -> pd.DataFrame:
    """Steps of gamma length and von Mises turn, each the one of 100 that the wave weighs."""
    rng = np.random.default_rng(seed)
    longitude, latitude, heading = [0.0], [0.0], 0.0
    for _ in range(n_steps):
        length, turn = rng.gamma(2.0, 5.0, 100), rng.vonmises(0.0, 1.0, 100)
        to = destination(np.full(100, longitude[-1]), np.full(100, latitude[-1]), heading + turn, length)
        taken = int(np.argmax(selection * wave(*to) + rng.gumbel(size=100)))
        back = bearing_rad(to[0][taken], to[1][taken], longitude[-1], latitude[-1])
        longitude.append(float(to[0][taken]))
        latitude.append(float(to[1][taken]))
        heading = float(back) + np.pi
    return tracks(list(zip(longitude, latitude, strict=True)), who=who)


def test_steps_and_turns_by_hand() -> None:
    # One degree of the equator east, then north (a left turn), then nowhere, then one east again in a new burst.
    fixes = tracks([(0, 0), (1, 0), (1, 1), (1, 1), (2, 1)], burst=[0, 0, 0, 0, 1])
    steps, ledger = used_steps(fixes)
    assert steps[STEP].to_numpy() == pytest.approx([111.195, 111.195], abs=0.001)
    assert np.isnan(steps[TURN][0])
    assert steps[TURN][1] == pytest.approx(-np.pi / 2)
    assert steps["decision"].tolist() == [0, 1]
    ledger.check(len(fixes), len(steps), "fix")
    assert {e.reason: e.n for e in ledger.entries} == {"no next fix one step later": 2, "step of length 0": 1}


def test_random_steps_end_as_far_and_as_much_turned_as_they_say() -> None:
    fixes = tracks([(10, 60), (10.1, 60), (10.2, 60.05), (10.2, 60.2)])
    steps, _ = used_steps(fixes)
    lengths, turns = GammaSteps(2.0, 0.1), VonMisesTurns(1.0)
    cs, ledger = draw_random_points(steps, lengths, turns, k=50, seed=3)
    assert ledger.entries == ()
    assert (cs.n_choices == 51).all()
    np.testing.assert_array_equal(cs.choice[cs.selected], 0)
    assert cs.features[STEP][cs.selected] == pytest.approx(steps[STEP].to_numpy(), rel=1e-6)
    assert np.isnan(cs.features[TURN][:51]).all()  # the first of a burst
    assert np.isfinite(cs.features[TURN][51:]).all()
    to = destination(10.0, 60.0, 1.0, 25.0)
    assert float(distance_km(10.0, 60.0, *to)) == pytest.approx(25.0)
    assert float(bearing_rad(10.0, 60.0, *to)) == pytest.approx(1.0)
    again, _ = draw_random_points(steps, lengths, turns, k=50, seed=3)
    np.testing.assert_array_equal(again.features[STEP], cs.features[STEP])


def test_random_steps_are_drawn_from_the_fitted_distributions() -> None:
    steps, _ = used_steps(walk(300, 0.0, 1, "a"))
    lengths, turns = fit_steps_and_turns(steps)
    cs, _ = draw_random_points(steps, lengths, turns, k=40, seed=0)
    drawn = ~cs.is_selected
    assert GammaSteps.fit(cs.features[STEP][drawn]).mean == pytest.approx(lengths.mean, rel=0.03)
    turned = cs.features[TURN][drawn]
    assert VonMisesTurns.fit(turned[np.isfinite(turned)]).kappa == pytest.approx(turns.kappa, abs=0.05)


def test_covariate_is_taken_where_the_step_ends_and_its_gaps_are_accounted_for(tmp_path: Path) -> None:
    covariate = wave_file(tmp_path / "wave.nc", north=0.1)
    fixes = tracks([(0, -0.2), (0.1, 0), (0.2, 0.05), (0.2, 0.4), (0.2, 0.01)])
    steps, _ = used_steps(fixes)
    cs, ledger = draw_random_points(steps, GammaSteps(2.0, 0.2), VonMisesTurns(0.5), [covariate], k=30)
    # The third step ends beyond the field, and the fourth begins so far beyond that no random one comes back.
    expected = wave(steps["next_longitude"], steps["next_latitude"])[:2]
    assert cs.features["wave"][cs.selected] == pytest.approx(expected, abs=0.02)  # between points 5 km apart
    dropped = {e.reason: e.n for e in ledger.entries if e.unit == "decision"}
    assert dropped == {"no covariate where the used step ends": 1, "no random step left": 1}
    assert ledger.n_dropped("choice") == 4 * 31 - cs.n_rows > 31
    assert "no covariate where it ends" in set(ledger.to_frame()["reason"])
    assert cs.info["wave"].unit == "1"


def test_known_selection_and_movement_are_found_again(tmp_path: Path) -> None:
    covariate = wave_file(tmp_path / "wave.nc")
    parts = [used_steps(walk(250, 1.0, seed, f"a{seed}"))[0] for seed in range(4)]
    steps = pd.concat(parts, ignore_index=True)
    lengths, turns = fit_steps_and_turns(steps)
    cs, _ = draw_random_points(steps, lengths, turns, [covariate], k=30, seed=1)
    found = integrated_step_selection(
        cs, ["wave"], step_length=STEP, turn_angle=TURN, tentative=lengths, tentative_turn=turns
    )
    table = found.summary().set_index(["part", "name"])
    for name, truth in {
        ("habitat", "wave"): 1.0,
        ("step_length", "shape"): 2.0,
        ("step_length", "rate"): 0.2,
        ("turn_angle", "kappa"): 1.0,
    }.items():
        assert abs(table.loc[name, "estimate"] - truth) < 3 * table.loc[name, "se"], name
    assert table.loc[("habitat", "wave"), "se"] < 0.2


def test_study_is_that_of_its_seed_and_errors_fall_with_k(tmp_path: Path) -> None:
    covariate = wave_file(tmp_path / "wave.nc")
    fixes = pd.concat([walk(80, 1.0, seed, f"a{seed}") for seed in range(3)], ignore_index=True)
    table, ledger = random_points_study(fixes, [covariate], k=[1, 19], repeats=2)
    pd.testing.assert_frame_equal(table, random_points_study(fixes, [covariate], k=[1, 19], repeats=2)[0])
    of = table.set_index(["part", "name", "k"])
    assert of.loc[("habitat", "wave", 19), "estimate_sd"] < of.loc[("habitat", "wave", 1), "estimate_sd"]
    assert of.loc[("habitat", "wave", 19), "n_decisions"] == 240
    assert set(table["part"]) == {"habitat", "movement", "step_length", "turn_angle"}
    assert ledger.n_dropped("fix") == 3


def test_errors_say_what_was_expected() -> None:
    steps, _ = used_steps(tracks([(0, 0), (1, 0), (1, 1)]))
    with pytest.raises(ValueError, match="k must be 1 or more random steps; got 0"):
        draw_random_points(steps, GammaSteps(1.0, 1.0), VonMisesTurns(0.0), k=0)
    with pytest.raises(ValueError, match="tracks: expected the column burst"):
        used_steps(tracks([(0, 0), (1, 0)]).drop(columns="burst"))

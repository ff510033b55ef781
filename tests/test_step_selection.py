"""Integrated step selection: simulated movement and habitat are found again, on random steps and on cells."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Study, reference_table

from mimic.choices import build_choices, make_decisions
from mimic.configuration import load_configuration
from mimic.features import FeatureSpec
from mimic.hexgrid import EARTH_RADIUS_KM
from mimic.movement_kernels import ExponentialSteps, GammaSteps, HalfNormalSteps, Kernel, LognormalSteps, VonMisesTurns
from mimic.preparation import prepare
from mimic.probability import selected_log_probability
from mimic.schema import ChoiceSets, concatenate
from mimic.step_selection import StepSelection, cell_step_selection, integrated_step_selection, step_columns
from mimic.tables import from_table

HABITAT = 0.8


def food(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A smooth landscape with patches about as wide as a few steps."""
    return 1.4 * np.sin(x / 3.0) * np.cos(y / 4.0 + 1.0)


def random_steps(
    lengths: Kernel, turns: Kernel, tentative: Kernel, tentative_turns: Kernel, *, n: int = 1500, seed: int = 0
) -> ChoiceSets:
    """Decisions of 10 animals that move by the first two and select food, among 20 steps drawn from the last two.

    The used step is drawn from the movement times exp(HABITAT food): one of 200 draws from the movement, with these
    odds.
    """
    rng = np.random.default_rng(seed)
    n_animals, n_steps = 10, n // 10
    x, y, heading = np.zeros(n_animals), np.zeros(n_animals), rng.uniform(-np.pi, np.pi, n_animals)
    parts = []
    for step in range(n_steps):

        def ends(lengths: Kernel, turns: Kernel, k: int) -> dict[str, np.ndarray]:
            length = lengths.sample(n_animals * k, rng).reshape(n_animals, k)
            turn = turns.sample(n_animals * k, rng).reshape(n_animals, k)
            to = heading[:, None] + turn  # noqa: B023
            east, north = x[:, None] + length * np.sin(to), y[:, None] + length * np.cos(to)  # noqa: B023
            return {"x": east, "y": north, "length": length, "turn": turn, "to": to}

        possible = ends(lengths, turns, 200)
        noisy = HABITAT * food(possible["x"], possible["y"]) + rng.gumbel(size=(n_animals, 200))
        best = noisy.argmax(axis=1)
        used = {k: v[np.arange(n_animals), best] for k, v in possible.items()}
        drawn = ends(tentative, tentative_turns, 20)
        both = {k: np.column_stack([used[k], drawn[k]]).ravel() for k in ("x", "y", "length", "turn")}
        decisions = pd.DataFrame({"individual": [f"{a}" for a in range(n_animals)], "decision": step})
        parts.append(
            ChoiceSets(
                decisions,
                np.arange(n_animals + 1) * 21,
                np.tile(np.arange(21), n_animals),
                np.arange(n_animals) * 21,
                {"food": food(both["x"], both["y"]), "length": both["length"], "turn": both["turn"]},
            )
        )
        x, y, heading = used["x"], used["y"], used["to"]
    return concatenate(parts)


def z_scores(found: StepSelection, **truth: float) -> dict[str, float]:
    """How many standard errors estimates are off."""
    table = found.summary().set_index("name")
    return {name: (table["estimate"][name] - value) / table["se"][name] for name, value in truth.items()}


TRUE_TURNS, DRAWN_TURNS = VonMisesTurns(1.0), VonMisesTurns(0.3)


@pytest.fixture(scope="module")
def gamma_study() -> ChoiceSets:
    return random_steps(GammaSteps(1.8, 0.6), TRUE_TURNS, GammaSteps(1.2, 0.35), DRAWN_TURNS)


def run(cs: ChoiceSets, **options: Any) -> StepSelection:
    return integrated_step_selection(cs, ["food"], step_length="length", turn_angle="turn", **options)


# ------------------------------------------------------------------------------------------------- random steps


def test_movement_and_habitat_of_simulated_tracks_are_found_again(gamma_study: ChoiceSets) -> None:
    found = run(gamma_study, tentative=GammaSteps(1.2, 0.35), tentative_turn=DRAWN_TURNS)
    off = z_scores(found, food=HABITAT, shape=1.8, rate=0.6, mean=3.0, kappa=1.0)
    assert max(map(abs, off.values())) < 3, off
    # and closely: it is no claim if errors are large
    assert found.summary().set_index("name")["se"][["food", "shape", "rate", "kappa"]].max() < 0.1


def test_a_tentative_distribution_fitted_to_the_alternatives_does_as_well_as_the_true_one(
    gamma_study: ChoiceSets,
) -> None:
    found = run(gamma_study)
    off = z_scores(found, shape=1.8, rate=0.6, kappa=1.0)
    assert max(map(abs, off.values())) < 3, off
    assert found.tentative_step_length is not None
    assert found.tentative_step_length.parameters == pytest.approx({"shape": 1.2, "rate": 0.35}, rel=0.03)


def test_a_tentative_distribution_of_the_used_steps_is_wrong_where_alternatives_were_drawn_otherwise(
    gamma_study: ChoiceSets,
) -> None:
    found = run(gamma_study, tentative="used", tentative_turn="used")
    off = z_scores(found, shape=1.8, rate=0.6, kappa=1.0)
    assert min(map(abs, off.values())) > 5, off


@pytest.mark.parametrize(
    ("family", "true", "tentative"),
    [
        ("exponential", ExponentialSteps(0.5), ExponentialSteps(0.3)),
        ("half_normal", HalfNormalSteps(3.0), HalfNormalSteps(4.0)),
        ("lognormal", LognormalSteps(0.8, 0.6), LognormalSteps(1.0, 0.8)),
        ("gamma", GammaSteps(1.6, 0.6), ExponentialSteps(0.3)),
    ],
)
def test_every_family_is_updated_to_the_truth(family: Any, true: Kernel, tentative: Kernel) -> None:
    off = []
    for seed in range(5, 9):
        cs = random_steps(true, TRUE_TURNS, tentative, DRAWN_TURNS, n=800, seed=seed)
        found = run(cs, family=family, tentative=tentative)
        assert type(found.step_length.kernel) is type(true)
        off.append(z_scores(found, food=HABITAT, kappa=1.0, **true.parameters))
    # the mean of four has a standard error of 1 / 2
    assert pd.DataFrame(off).mean().abs().max() < 1.5, off


def test_animals_that_turn_back_have_a_mean_turn_of_pi() -> None:
    cs = random_steps(GammaSteps(1.8, 0.6), VonMisesTurns(0.7, np.pi), GammaSteps(1.8, 0.6), DRAWN_TURNS, n=800)
    found = run(cs)
    assert found.turn_angle is not None
    assert found.turn_angle.kernel.parameters["mean_rad"] == np.pi
    assert abs(z_scores(found, kappa=0.7)["kappa"]) < 3


def test_step_selection_is_the_conditional_logit_of_its_columns(gamma_study: ChoiceSets) -> None:
    found = run(gamma_study)
    assert found.fit.features == ("food", "step", "log_step", "cos_turn")
    assert found.features == ("food", "length", "turn")
    log_p = selected_log_probability(found.log_odds(gamma_study), gamma_study.offsets, gamma_study.selected)
    assert log_p.sum() == pytest.approx(found.fit.log_likelihood, rel=1e-12)


def test_the_unit_of_length_scales_the_rate_and_nothing_else(gamma_study: ChoiceSets) -> None:
    meters = gamma_study.with_features({"length": 1000 * gamma_study.features["length"]})
    one, other = (run(cs).summary().set_index("name")["estimate"] for cs in (gamma_study, meters))
    same = ["food", "log_step", "cos_turn", "shape", "kappa"]
    assert other[same].to_numpy() == pytest.approx(one[same].to_numpy(), rel=1e-4)
    assert other["rate"] == pytest.approx(one["rate"] / 1000, rel=1e-4)
    assert other["mean"] == pytest.approx(one["mean"] * 1000, rel=1e-4)


def test_decisions_without_a_previous_heading_keep_their_lengths(gamma_study: ChoiceSets) -> None:
    first = (gamma_study.decisions["decision"] == 0).to_numpy()[gamma_study.decision_of_row]
    unknown = gamma_study.with_features({"turn": np.where(first, np.nan, gamma_study.features["turn"])})
    assert run(unknown).fit.n_decisions == gamma_study.n_decisions
    one, other = (run(cs).summary().set_index("name")["estimate"] for cs in (gamma_study, unknown))
    assert other["kappa"] == pytest.approx(one["kappa"], abs=0.05)
    partly = np.where(first & gamma_study.is_selected, np.nan, gamma_study.features["turn"])
    with pytest.raises(ValueError, match="turn is missing for some choices, but not all, of 10 decisions"):
        run(gamma_study.with_features({"turn": partly}))


def test_errors_by_individual_are_those_of_the_fit_with_the_factor_for_few(gamma_study: ChoiceSets) -> None:
    table = run(gamma_study, errors="cluster").summary().set_index("name")
    found = run(gamma_study).fit
    assert found.cluster_se is not None
    clustered = dict(zip(found.features, found.cluster_se * np.sqrt(10 / 9), strict=True))
    assert table["se"]["food"] == pytest.approx(clustered["food"], rel=1e-12)
    assert table["se"]["kappa"] == pytest.approx(clustered["cos_turn"], rel=1e-12)
    # Student's t of 9 degrees of freedom
    assert (table["high"] - table["estimate"])["food"] == pytest.approx(2.262157 * table["se"]["food"], rel=1e-6)


def test_summary_has_every_part_and_the_tentative_parameters(gamma_study: ChoiceSets) -> None:
    table = run(gamma_study, tentative=GammaSteps(1.2, 0.35), tentative_turn=DRAWN_TURNS).summary()
    parts = table.groupby("part", sort=False)["name"].agg(list).to_dict()
    assert parts == {
        "habitat": ["food"],
        "movement": ["step", "log_step", "cos_turn"],
        "step_length": ["shape", "rate", "mean"],
        "turn_angle": ["kappa", "mean_rad"],
    }
    assert table.set_index("name")["tentative"][["shape", "rate", "kappa"]].tolist() == [1.2, 0.35, 0.3]


def test_wild_boar_coefficients_are_those_of_the_reference_in_under_a_second(shared: Path) -> None:
    known, table = reference_table(shared, "wildboar_habitat_movement")
    cs = from_table(table, features=["sl_km", "turn_angle_rad", "dtw", "imp", "hab"])
    columns = {name: table[name].to_numpy() for name in cs.features}
    start = time.perf_counter()
    found = integrated_step_selection(
        cs, ["dtw", "imp", "hab"], step_length="sl_km", turn_angle="turn_angle_rad", columns=columns
    )
    assert time.perf_counter() - start < 1
    assert found.fit.features == ("dtw", "imp", "hab", "step", "log_step", "cos_turn")
    # sl_km is in km and log_sl of meters: the logarithm differs by a constant, which cancels
    assert found.fit.coef == pytest.approx(list(known["coef"].values()), rel=1e-6)
    assert found.fit.se == pytest.approx(list(known["se"].values()), rel=1e-5)
    assert found.fit.log_likelihood == pytest.approx(known["log_likelihood"], rel=1e-9)
    # the random turns were drawn about 0 with a concentration of about 1, while the boars turn back
    assert found.tentative_turn_angle is not None
    assert found.tentative_turn_angle.parameters == pytest.approx({"kappa": 1.033, "mean_rad": 0.0}, abs=1e-3)
    assert found.turn_angle is not None
    assert found.turn_angle.kernel.parameters == pytest.approx({"kappa": 0.940, "mean_rad": np.pi}, abs=1e-3)


# -------------------------------------------------------------------------------------------------------- cells


def lattice(reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Centers of hexagons at a distance of 1 within reach of the one at the origin, which comes first."""
    a, b = np.meshgrid(
        np.arange(-2 * int(reach) - 2, 2 * int(reach) + 3), np.arange(-2 * int(reach) - 2, 2 * int(reach) + 3)
    )
    x, y = (a + b / 2).ravel(), (b * np.sqrt(0.75)).ravel()
    order = np.argsort(np.hypot(x, y), kind="stable")
    order = order[np.hypot(x, y)[order] <= reach]
    return x[order], y[order]


def steps_over_cells(lengths: Kernel, turns: Kernel, *, n: int, reach: float, seed: int) -> ChoiceSets:
    """Continuous steps from the center of a cell, seen as the cell in which they end; previous heading north."""
    rng = np.random.default_rng(seed)
    x, y = lattice(reach)
    length, turn = lengths.sample(2 * n, rng), turns.sample(2 * n, rng)
    to_x, to_y = length * np.sin(turn), length * np.cos(turn)
    nearest = np.array([np.argmin((x - a) ** 2 + (y - b) ** 2) for a, b in zip(to_x, to_y, strict=True)])
    inside = np.flatnonzero(np.hypot(to_x, to_y) < reach - 1)[:n]
    size, distance, bearing = len(x), np.hypot(x, y), np.arctan2(x, y)
    moved = distance > 0
    one = {
        "distance_km": distance,
        "log_distance": np.log(np.where(moved, distance, 1.0)),
        "stay": (~moved).astype(float),
        "turn_cos": np.where(moved, np.cos(bearing), 0.0),
    }
    keep = distance < reach - 1
    offsets = np.arange(len(inside) + 1) * size
    cs = ChoiceSets(
        pd.DataFrame({"individual": "a", "decision": np.arange(len(inside))}),
        offsets,
        np.tile(np.arange(size), len(inside)),
        offsets[:-1] + nearest[inside],
        {name: np.tile(values, len(inside)) for name, values in one.items()},
    )
    return cs.restrict(np.tile(keep, len(inside)))


def test_cells_give_the_step_lengths_and_turns_of_continuous_movement() -> None:
    # the selection function over cells is proportional to the kernel in the plane, f(l) / l: it is the ring's growing
    # area that leads back to f
    cs = steps_over_cells(GammaSteps(2.4, 0.6), VonMisesTurns(0.8), n=1500, reach=11, seed=1)
    found = cell_step_selection(cs)
    off = z_scores(found, shape=2.4, rate=0.6, kappa=0.8)
    assert max(map(abs, off.values())) < 3, off
    assert found.fit.features == ("stay", "distance_km", "log_distance", "turn_cos")
    assert found.habitat == ("stay",)
    # read as if there were no rings, the shape would be 1 + beta: it is off by just 1
    beta = dict(zip(found.fit.features, found.fit.coef, strict=True))["log_distance"]
    assert found.step_length.kernel.parameters["shape"] == pytest.approx(2 + beta)
    assert beta == pytest.approx(0.4, abs=0.25)


def test_cells_without_the_logarithm_have_a_shape_of_two() -> None:
    cs = steps_over_cells(GammaSteps(2.0, 0.6), VonMisesTurns(0.8), n=600, reach=10, seed=2)
    found = cell_step_selection(cs, logarithm=False, turn=False)
    assert found.step_length.kernel.parameters["shape"] == 2.0
    assert abs(z_scores(found, rate=0.6)["rate"]) < 3
    assert found.turn_angle is None
    assert found.log_odds(cs).shape == (cs.n_rows,)


def correlated_walks(n_animals: int, n_days: int, lengths: Kernel, turns: Kernel, seed: int) -> pd.DataFrame:
    """Continuous walks on the sphere, each step a great circle that begins with a turn from the end of the last."""
    rng = np.random.default_rng(seed)
    lon, lat = np.radians(rng.uniform(-180, 180, n_animals)), np.radians(rng.uniform(-20, 20, n_animals))
    heading = rng.uniform(-np.pi, np.pi, n_animals)
    parts = []
    for day in range(n_days):
        parts.append(
            pd.DataFrame(
                {
                    "individual": [f"{a:02d}" for a in range(n_animals)],
                    "time_utc": np.datetime64("2020-05-01", "ns") + day * np.timedelta64(1, "D"),
                    "longitude": (np.degrees(lon) + 180) % 360 - 180,
                    "latitude": np.degrees(lat),
                    "burst": np.arange(n_animals),
                }
            )
        )
        d, to = lengths.sample(n_animals, rng) / EARTH_RADIUS_KM, heading + turns.sample(n_animals, rng)
        end = np.arcsin(np.sin(lat) * np.cos(d) + np.cos(lat) * np.sin(d) * np.cos(to))
        lon = lon + np.arctan2(np.sin(to) * np.sin(d) * np.cos(lat), np.cos(d) - np.sin(lat) * np.sin(end))
        heading = np.arctan2(np.sin(to) * np.cos(lat), np.cos(lat) * np.cos(d) * np.cos(to) - np.sin(lat) * np.sin(d))
        lat = end
    return pd.concat(parts).sort_values(["individual", "time_utc"], ignore_index=True)


def test_movement_is_found_again_through_tracks_and_h3_cells() -> None:
    tracks = correlated_walks(12, 60, GammaSteps(2.5, 0.05), VonMisesTurns(1.5), seed=4)
    decisions, _ = make_decisions(tracks, resolution=5)
    specs = [FeatureSpec(name) for name in ("log_distance", "turn_cos", "turn_known")]
    cs, _ = build_choices(decisions, max_distance_km=200.0, features=specs)
    found = cell_step_selection(cs)
    # cells blur both ends of a step of 50 km by a cell's radius of 9 km, so that headings scatter a little more
    parameters = {**found.step_length.kernel.parameters, **found.turn_angle.kernel.parameters}  # type: ignore[union-attr]
    assert parameters["kappa"] == pytest.approx(1.5, abs=0.3)
    assert parameters["rate"] == pytest.approx(0.05, abs=0.012)
    assert parameters["shape"] == pytest.approx(2.5, abs=0.5)
    assert parameters["mean_rad"] == 0.0


def test_models_of_an_experiment_may_use_turns_and_the_logarithm_of_distance(study: Study) -> None:
    study.edit("[distance_km, stay]}", "[distance_km, stay, log_distance, turn_cos, turn_sin, turn_known]}")
    cs = prepare(load_configuration(study.experiment)).choice_sets
    assert {"log_distance", "turn_cos", "turn_sin", "turn_known"} <= set(cs.features)
    known = cs.features["turn_known"][cs.offsets[:-1]] == 1
    assert known.tolist() == cs.decisions["previous_heading_rad"].notna().tolist()
    assert 0 < known.mean() < 1
    assert cell_step_selection(cs, logarithm=False).fit.converged


# ------------------------------------------------------------------------------------------------------- border


def test_wrong_columns_are_refused_before_anything_is_fitted(gamma_study: ChoiceSets) -> None:
    cs = gamma_study.filter(np.arange(gamma_study.n_decisions) < 50)
    length = cs.features["length"]
    with pytest.raises(ValueError, match="turns must be radians in .* Convert from degrees first"):
        run(cs.with_features({"turn": np.degrees(cs.features["turn"])}))
    zero = cs.with_features({"length": np.where(np.arange(len(length)) < 3, 0.0, length)})
    with pytest.raises(ValueError, match="3 of 1,050 step lengths are 0 and have no logarithm"):
        run(zero)
    assert run(zero, family="exponential").fit.converged
    with pytest.raises(ValueError, match="step lengths must be 0 or more; 1,050 of 1,050 are negative"):
        run(cs.with_features({"length": -length}))
    with pytest.raises(ValueError, match="features: expected the column steplength; got food, length, turn"):
        integrated_step_selection(cs, [], step_length="steplength")
    with pytest.raises(ValueError, match="family must be one of gamma, exponential, half_normal, lognormal"):
        run(cs, family="weibull")
    with pytest.raises(ValueError, match='must be "alternatives", "used" or one of ours'):
        run(cs, tentative="all")
    with pytest.raises(ValueError, match="expected the columns distance_km, log_distance, turn_cos"):
        cell_step_selection(cs)
    with pytest.raises(ValueError, match=r"column length must have shape \(row,\)"):
        step_columns(cs, "length", columns={"length": np.ones(3)})

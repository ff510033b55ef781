"""Population averages: nobody disappears, hand-worked variances, recovery and coverage on simulated animals."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import reference_table
from scipy import optimize

from mimic.conditional_logit import fit_conditional_logit
from mimic.population import FITTED, compare_population, fit_individuals, two_step
from mimic.random_effects import moments_mean, restricted_means
from mimic.schema import ChoiceSets, concatenate
from mimic.tables import from_table

# 97.5 % quantiles of Student's t
T_1, T_2, T_7 = 12.706204736, 4.302652730, 2.364624252


def table(coef: Sequence[float], se: Sequence[float] | float, feature: str = "x") -> pd.DataFrame:
    """A table of fitted individuals, as `fit_individuals` gives."""
    names = [f"{k:02d}" for k in range(len(coef))]
    fits = pd.DataFrame({"individual": names, "feature": feature, "coef": coef, "se": se, "status": FITTED})
    return fits.assign(**{f"covariance_{feature}": fits["se"] ** 2})


def animals(
    coefs: np.ndarray,
    n_decisions: int = 150,
    n_choices: int = 6,
    seed: int = 0,
    names: Sequence[str] = ("food", "cover"),
) -> ChoiceSets:
    """Choices of animals whose coefficients are given: (individual, feature)."""
    rng = np.random.default_rng(seed)
    n = len(coefs) * n_decisions
    x = rng.normal(size=(n, n_choices, coefs.shape[1]))
    phi = np.einsum("dcf,df->dc", x, np.repeat(coefs, n_decisions, axis=0))
    best = (phi + rng.gumbel(size=phi.shape)).argmax(axis=1)
    keys = {"individual": np.repeat([f"{k:02d}" for k in range(len(coefs))], n_decisions), "decision": np.arange(n)}
    offsets = np.arange(n + 1) * n_choices
    features = {name: x[:, :, j].ravel() for j, name in enumerate(names)}
    return ChoiceSets(pd.DataFrame(keys), offsets, np.tile(np.arange(n_choices), n), offsets[:-1] + best, features)


# -------------------------------------------------------------------------------------------------- individuals


def test_each_individual_is_fitted_by_itself() -> None:
    cs = animals(np.array([[1.0, 0.0], [-0.5, 0.3]]))
    fits = fit_individuals(cs, ["food", "cover"])
    assert fits[["individual", "feature"]].to_numpy().tolist() == [
        ["00", "food"],
        ["00", "cover"],
        ["01", "food"],
        ["01", "cover"],
    ]
    alone = fit_conditional_logit(cs.filter(cs.individuals == "01"), ["food", "cover"])
    own = fits[fits["individual"] == "01"]
    assert own["coef"].tolist() == alone.coef.tolist()
    assert own["se"].tolist() == alone.se.tolist()
    assert own[["covariance_food", "covariance_cover"]].to_numpy().tolist() == alone.covariance.tolist()
    assert set(own["log_likelihood"]) == {alone.log_likelihood}
    assert set(own["n_decisions"]) == {150}


def test_nobody_disappears_and_everyone_without_a_coefficient_has_a_reason() -> None:
    cs = animals(np.zeros((6, 2)), n_decisions=40)
    rows = cs.individuals[cs.decision_of_row]
    food, cover = cs.features["food"].copy(), cs.features["cover"].copy()
    food[rows == "01"] = np.where(cs.is_selected, 10.0, food)[rows == "01"]
    cover[rows == "02"] = 2 * food[rows == "02"]
    cover[rows == "03"] = 7.0
    food[rows == "04"] = cover[rows == "04"] = 1.0
    cs = cs.with_features({"food": food, "cover": cover})
    cs = cs.filter((cs.individuals != "05") | (cs.decisions["decision"] >= 221).to_numpy())
    fits = fit_individuals(cs, ["food", "cover"])
    status = fits.set_index(["individual", "feature"])["status"].unstack(sort=False)
    assert status["food"].tolist() == [
        "fitted",
        "separated: food",
        "collinear: " + status["food"]["02"].removeprefix("collinear: "),
        "fitted",
        "constant: food",
        "too few decisions (19 of 20)",
    ]
    assert status["food"]["02"] in ("collinear: food", "collinear: cover")
    assert status["cover"]["03"] == "constant: cover"
    assert status["cover"]["04"] == "constant: cover"
    assert (fits["coef"].notna() == (fits["status"] == FITTED)).all()
    assert (fits["se"].notna() == (fits["status"] == FITTED)).all()
    population = two_step(fits[fits["feature"] == "food"]).iloc[0]
    assert population[["n_individuals", "n_left_out"]].tolist() == [2, 4]
    with pytest.raises(ValueError, match="a population mean of cover needs .* got 1 of 6. left out 5: collinear"):
        two_step(fits[fits["feature"] == "cover"])


def test_a_feature_that_is_constant_for_an_animal_leaves_its_other_coefficients_as_they_are() -> None:
    cs = animals(np.zeros((1, 2)), n_decisions=60)
    cs = cs.with_features({"cover": np.ones(cs.n_rows)})
    fits = fit_individuals(cs, ["cover", "food"]).set_index("feature")
    assert fits.loc["food", "coef"] == fit_conditional_logit(cs, ["food"]).coef[0]
    assert np.isnan(fits.loc["food", "covariance_cover"])


def test_columns_in_float64_are_read_by_individual() -> None:
    cs = animals(np.array([[1.0, 0.0], [-0.5, 0.3]]))
    doubled = {"food": 2.0 * cs.features["food"].astype(np.float64)}
    one, other = fit_individuals(cs, ["food"]), fit_individuals(cs, ["food"], columns=doubled)
    assert other["coef"].to_numpy() == pytest.approx(one["coef"].to_numpy() / 2, rel=1e-9)


def test_a_fit_that_does_not_converge_is_no_coefficient(monkeypatch: pytest.MonkeyPatch) -> None:
    def impatient(*arguments: object, **options: object) -> object:
        return fit_conditional_logit(*arguments, max_iterations=1, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("mimic.population.fit_conditional_logit", impatient)
    logging.disable(logging.WARNING)
    try:
        fits = fit_individuals(animals(np.ones((1, 2))), ["food", "cover"])
    finally:
        logging.disable(logging.NOTSET)
    assert fits["status"].tolist() == ["not converged"] * 2
    assert fits["coef"].isna().all()


def test_faults_of_the_whole_are_raised() -> None:
    cs = animals(np.zeros((2, 2)), n_decisions=30)
    with pytest.raises(ValueError, match="features: expected the column fod; got food, cover"):
        fit_individuals(cs, ["fod"])
    with pytest.raises(ValueError, match="min_decisions must be 1 or more; got 0"):
        fit_individuals(cs, ["food"], min_decisions=0)
    with pytest.raises(ValueError, match="features must be finite"):
        fit_individuals(cs.with_features({"food": np.full(cs.n_rows, np.nan)}), ["food"])


# ----------------------------------------------------------------------------------------------------- two steps


def test_dersimonian_laird_by_hand() -> None:
    # v = 1 / se^2 = 1, 1, 4: sum 6, sum of squares 18, mean (0 + 3 + 4 * 3) / 6 = 2.5
    # Q = 1 * 2.5^2 + 1 * 0.5^2 + 4 * 0.5^2 = 7.5; C = 6 - 18 / 6 = 3; tau^2 = (7.5 - 2) / 3 = 11 / 6
    # w = 1 / (1 + 11/6) = 6/17 twice and 1 / (1/4 + 11/6) = 12/25
    # mean = (3 * 6/17 + 3 * 12/25) / (12/17 + 12/25) = 3 * (150 + 204) / (300 + 204) = 3 * 59/84
    row = two_step(table([0.0, 3.0, 3.0], [1.0, 1.0, 0.5]), method="dl").iloc[0]
    assert row["q"] == pytest.approx(7.5)
    assert row["tau"] ** 2 == pytest.approx(11 / 6)
    assert row["estimate"] == pytest.approx(3 * 59 / 84)
    assert row["i2"] == pytest.approx((7.5 - 2) / 7.5)
    # Hartung-Knapp: q = sum w (b - mean)^2 / 2, about 0.99, is below 1 and counts as 1
    w, b = np.array([6 / 17, 6 / 17, 12 / 25]), np.array([0.0, 3.0, 3.0])
    q = np.sum(w * (b - 3 * 59 / 84) ** 2) / 2
    se = np.sqrt(max(1.0, q) / w.sum())
    assert row["se"] == pytest.approx(se)
    assert row["high"] - row["estimate"] == pytest.approx(T_2 * se)
    # a new individual: t of n - 2 = 1 degree of freedom
    assert row["prediction_high"] - row["estimate"] == pytest.approx(T_1 * np.sqrt(11 / 6 + se**2))


@pytest.mark.parametrize("method", ["dl", "reml", "joint"])
def test_equal_individuals_have_no_variance_between_them(method: str) -> None:
    row = two_step(table([0.7] * 8, 0.2), method=method).iloc[0]  # type: ignore[arg-type]
    assert row["tau"] == 0
    assert row["i2"] == 0
    assert row["estimate"] == pytest.approx(0.7)
    # the error is that of the mean of eight known coefficients, and does not shrink to nothing with their spread
    assert row["se"] == pytest.approx(0.2 / np.sqrt(8))
    assert row["high"] == pytest.approx(0.7 + T_7 * 0.2 / np.sqrt(8))


def test_reml_of_equal_errors_is_the_sample_variance_less_the_error() -> None:
    # with equal s^2 the restricted likelihood is that of a normal sample: tau^2 + s^2 = sum (b - mean)^2 / (n - 1)
    coef = np.array([0.0, 1.0, 2.0, 5.0])
    row = two_step(table(list(coef), 0.5)).iloc[0]
    assert row["tau"] ** 2 == pytest.approx(coef.var(ddof=1) - 0.25, rel=1e-6)
    assert row["estimate"] == pytest.approx(2.0)
    assert row["se"] == pytest.approx(coef.std(ddof=1) / 2)  # and the interval is Student's of the plain mean


def test_reml_is_the_highest_point_of_the_restricted_likelihood() -> None:
    rng = np.random.default_rng(3)
    se = rng.uniform(0.1, 1.0, 12)
    coef = rng.normal(1.0, np.hypot(0.5, se))

    def loss(tau2: float) -> float:
        w = 1 / (se**2 + tau2)
        mean = np.sum(w * coef) / np.sum(w)
        return float(np.sum(np.log(1 / w)) + np.log(np.sum(w)) + np.sum(w * (coef - mean) ** 2))

    best = optimize.minimize_scalar(loss, bounds=(0, 4), method="bounded", options={"xatol": 1e-10})
    assert restricted_means(coef[:, None], (se**2)[:, None, None])[0].tau2 == pytest.approx(best.x, rel=1e-4)


def test_joint_estimate_without_covariances_is_that_of_each_feature_by_itself() -> None:
    rng = np.random.default_rng(4)
    fits = pd.concat([table(list(rng.normal(0, 1, 9)), 0.3 + 0.1 * k, f"x{k}") for k in range(2)], ignore_index=True)
    fits[["covariance_x0", "covariance_x1"]] = fits[["covariance_x0", "covariance_x1"]].fillna(0.0)
    one, joint = two_step(fits), two_step(fits, method="joint")
    assert joint["estimate"].to_numpy() == pytest.approx(one["estimate"].to_numpy(), abs=1e-5)
    assert joint["tau"].to_numpy() == pytest.approx(one["tau"].to_numpy(), rel=1e-4)


def test_joint_estimate_learns_from_the_feature_that_moves_with_it() -> None:
    # y is known only where x is far off, and both errors go together: the x of those animals says how far off y is
    s = np.array([[0.04, 0.19], [0.19, 1.0]])
    coef = np.array([[0.0, 0.0], [0.2, 1.0], [-0.2, -1.0], [0.1, np.nan]])
    x, y = restricted_means(coef, np.stack([s] * 4))
    assert x.tau2 == y.tau2 == 0
    # y = mean + 4.75 (x - mean of x) in errors: with x off by -0.025 in those that have y
    assert y.mean == pytest.approx(0.19 / 0.04 * 0.025, abs=1e-6)
    assert x.mean == pytest.approx(0.025)


@pytest.mark.parametrize("method", ["dl", "reml"])
def test_order_and_unit_do_not_matter(method: str) -> None:
    rng = np.random.default_rng(5)
    fits = table(list(rng.normal(1, 1, 10)), rng.uniform(0.2, 0.8, 10))  # type: ignore[arg-type]
    one = two_step(fits, method=method).iloc[0]  # type: ignore[arg-type]
    other = two_step(fits.iloc[::-1], method=method).iloc[0]  # type: ignore[arg-type]
    meters = fits.assign(coef=fits["coef"] / 1000, se=fits["se"] / 1000)
    small = two_step(meters, method=method).iloc[0]  # type: ignore[arg-type]
    for name in ("estimate", "se", "tau", "low", "prediction_high"):
        assert other[name] == pytest.approx(one[name], rel=1e-6)
        assert small[name] == pytest.approx(one[name] / 1000, rel=1e-5)
    assert small["i2"] == pytest.approx(one["i2"], rel=1e-5)


def test_one_individual_is_no_population() -> None:
    with pytest.raises(ValueError, match="x needs coefficients of two or more individuals; got 1 of 1. There is only"):
        two_step(table([1.0], 0.5))
    with pytest.raises(ValueError, match="needs coefficients of two or more individuals"):
        compare_population(animals(np.zeros((1, 2))), ["food"])


def test_two_individuals_have_no_prediction() -> None:
    row = two_step(table([0.0, 2.0], 1.0), method="dl").iloc[0]
    assert np.isnan(row["prediction_low"])
    assert row["high"] == pytest.approx(1.0 + T_1)


def test_wrong_tables_and_options_are_refused() -> None:
    with pytest.raises(ValueError, match='method must be "reml", "dl" or "joint"; got \'ml\''):
        two_step(table([0.0, 1.0], 1.0), method="ml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="level must lie between 0 and 1; got 95"):
        two_step(table([0.0, 1.0], 1.0), level=95)
    with pytest.raises(ValueError, match="standard errors above 0; those of 00 are not"):
        two_step(table([0.0, 1.0, 2.0], [0.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="individual fits: expected the column se"):
        two_step(table([0.0, 1.0], 1.0).drop(columns="se"))
    with pytest.raises(ValueError, match="individual fits: expected the column covariance_x"):
        two_step(table([0.0, 1.0], 1.0).drop(columns="covariance_x"), method="joint")


# ------------------------------------------------------------------------------------------------------ recovery


@pytest.fixture(scope="module")
def forty() -> ChoiceSets:
    rng = np.random.default_rng(8)
    return animals(rng.normal([0.8, -0.4], [0.5, 0.2], size=(40, 2)), seed=9)


@pytest.mark.parametrize("method", ["dl", "reml", "joint"])
def test_mean_and_spread_of_forty_simulated_animals_are_found_again(forty: ChoiceSets, method: str) -> None:
    fits = fit_individuals(forty, ["food", "cover"])
    found = two_step(fits, method=method).set_index("feature")  # type: ignore[arg-type]
    for name, mean, tau in (("food", 0.8, 0.5), ("cover", -0.4, 0.2)):
        row = found.loc[name]
        assert abs(row["estimate"] - mean) < 3 * row["se"]
        assert row["se"] < 0.1
        assert row["tau"] == pytest.approx(tau, rel=0.3)


def test_three_averages_side_by_side(forty: ChoiceSets) -> None:
    found = compare_population(forty, ["food", "cover"])
    assert found["average"].tolist() == ["pooled", "individuals", "two-step"] * 2
    by = found.set_index(["feature", "average"])
    pooled = fit_conditional_logit(forty, ["food", "cover"])
    interval = pooled.intervals(kind="cluster").loc["food"]
    assert by.loc[("food", "pooled"), ["low", "high"]].tolist() == pytest.approx(interval.tolist(), rel=1e-12)
    assert np.isnan(by.loc[("food", "pooled"), "tau"])
    # animals that differ much: the odds of a decision drawn from all are less steep than the mean animal's
    assert by.loc[("food", "pooled"), "estimate"] < by.loc[("food", "two-step"), "estimate"] - 0.02
    fits = fit_individuals(forty, ["food"])["coef"]
    plain = compare_population(forty, ["food"]).set_index("average").loc["individuals"]
    assert plain["estimate"] == pytest.approx(fits.mean())
    assert plain["se"] == pytest.approx(fits.std() / np.sqrt(40))
    assert set(found["n_individuals"]) == {40}
    assert set(found["note"]) == {""}


def test_the_note_says_who_is_in_the_pooled_row_only(forty: ChoiceSets) -> None:
    few = forty.filter((forty.individuals < "05") & ((forty.individuals != "03") | (forty.decisions.index < 460)))
    found = compare_population(few, ["food"]).set_index("average")
    assert found["n_individuals"].tolist() == [5, 4, 4]
    assert found["note"].tolist() == ["", *["left out 1: too few decisions (10 of 20) (03)"] * 2]


def test_intervals_of_the_mean_and_of_a_new_animal_cover_as_promised() -> None:
    # 120 studies of 8 animals, each a feature of one table: a share of 95 % has a standard error of 2 %
    rng = np.random.default_rng(10)
    se = rng.uniform(0.1, 0.4, (120, 8))
    coef, new = rng.normal(0.5, np.hypot(0.4, se)), rng.normal(0.5, 0.4, 120)
    studies = pd.concat(
        [table(list(b), list(s), f"{k}").iloc[:, :5] for k, (b, s) in enumerate(zip(coef, se, strict=True))]
    )
    for method in ("reml", "dl"):
        found = two_step(studies, method=method)  # type: ignore[arg-type]
        assert 0.90 <= found["estimate"].sub(0.5).abs().le(found["high"] - found["estimate"]).mean() <= 0.99, method
        # of so few animals the spread is known badly, and the interval of a new one is a little narrow
        assert 0.88 <= np.mean((found["prediction_low"] <= new) & (new <= found["prediction_high"])) <= 0.99, method


def test_intervals_of_the_whole_procedure_cover_as_promised() -> None:
    covered = []
    for study in range(12):
        rng = np.random.default_rng(100 + study)
        cs = animals(rng.normal([0.5, 0.0], [0.4, 0.0], size=(8, 2)), n_decisions=60, seed=200 + study)
        found = two_step(fit_individuals(cs, ["food", "cover"])).set_index("feature")
        covered += [
            found.loc[n, "low"] <= truth <= found.loc[n, "high"] for n, truth in (("food", 0.5), ("cover", 0.0))
        ]
    assert sum(covered) >= 20  # of 24 intervals of 95 %, fewer than 20 cover once in two hundred times


def test_moments_are_zero_where_individuals_agree_better_than_their_errors() -> None:
    found = moments_mean(np.array([1.0, 1.1, 0.9]), np.array([1.0, 1.0, 1.0]))
    assert found.tau2 == 0
    assert found.se == pytest.approx(1 / np.sqrt(3))


def test_wild_boars_differ_in_how_they_turn_and_hardly_in_how_far_they_go(shared: Path) -> None:
    _, data = reference_table(shared, "wildboar_habitat_movement")
    names = ["dtw", "imp", "hab", "sl_km", "log_sl", "cos_ta"]
    cs = from_table(data, features=names)
    fits = fit_individuals(cs, names)
    assert fits["status"].tolist() == [FITTED] * 48
    assert fits.groupby("individual")["n_decisions"].first().sum() == 3265
    found = two_step(fits).set_index("feature")
    # measured with this estimator; the pooled coefficient is that of reference.json
    assert found.loc["cos_ta", ["estimate", "tau"]].tolist() == pytest.approx([-2.106, 0.897], abs=2e-3)
    assert found.loc["sl_km", "tau"] < 0.05
    pooled = compare_population(cs, names).query("average == 'pooled'").set_index("feature")
    assert pooled.loc["cos_ta", "estimate"] == pytest.approx(-1.97268, abs=1e-5)
    assert pooled.loc["cos_ta", "se"] == pytest.approx(0.25238621 * np.sqrt(8 / 7), rel=1e-5)


def test_individuals_of_concatenated_studies_keep_their_fits(forty: ChoiceSets) -> None:
    parts = [forty.filter(forty.individuals == name) for name in ("07", "03")]
    whole = fit_individuals(concatenate(parts), ["food"])
    apart = pd.concat([fit_individuals(part, ["food"]) for part in parts], ignore_index=True)
    pd.testing.assert_frame_equal(whole, apart)

"""Response curves: exact on linear models, recovered where features go together, and honest about their intervals."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from explained import Known, choose, linear, world

from mimic.conditional_logit import fit_conditional_logit
from mimic.ensemble import combine
from mimic.model import LogOddsModel
from mimic.network import Scaling, build_network
from mimic.refits import bootstrap_fits
from mimic.responses import CURVE_COLUMNS, Kind, response
from mimic.schema import ChoiceSets

KINDS: Any = get_args(Kind)


@pytest.fixture(scope="module")
def cs() -> ChoiceSets:
    plain = world()
    return choose(plain, linear(a=1.0, b=-0.5).log_odds(plain))


@pytest.mark.parametrize("kind", KINDS)
def test_slope_of_a_linear_model_is_its_coefficient(cs: ChoiceSets, kind: Any) -> None:
    fit = fit_conditional_logit(cs, ["a", "b"])
    table = response(fit, cs, "a", kind=kind)
    slopes = np.diff(table["log_odds"]) / np.diff(table["value"])
    assert slopes == pytest.approx(fit.coef[0], rel=1e-9)
    assert list(table) == CURVE_COLUMNS
    assert table["n_rows"].sum() == cs.n_rows


@pytest.mark.parametrize("kind", KINDS)
def test_curve_is_zero_on_average_over_the_rows(cs: ChoiceSets, kind: Any) -> None:
    table = response(linear(a=2.0), cs, "a", kind=kind, n_decisions=cs.n_decisions)
    of_rows = np.interp(cs.features["a"], table["value"], table["log_odds"])
    assert of_rows.mean() == pytest.approx(0, abs=1e-12)  # all individuals have as many rows


def test_accumulated_effects_recover_a_curve_where_partial_dependence_leaves_the_data() -> None:
    # b goes with a, never more than 0.2 off. Where it would be farther off the model is wild, and nobody knows.
    plain = world(n_individuals=20)
    rng = np.random.default_rng(5)
    a = rng.uniform(-1, 1, plain.n_rows)
    together = plain.with_features({"a": a, "b": a + rng.uniform(-0.2, 0.2, plain.n_rows)})
    model = Known(("a", "b"), lambda f: f["a"] ** 2 + 50 * np.maximum(0, np.abs(f["a"] - f["b"]) - 0.4))

    def worst(kind: Any) -> float:
        table = response(model, together, "a", kind=kind, n_grid=41, n_decisions=400)
        truth = table["value"] ** 2
        error = (table["log_odds"] - truth).to_numpy()
        return float(np.abs(error - error.mean()).max())

    assert worst("accumulated") < 0.03
    assert worst("partial_dependence") > 10


@pytest.mark.parametrize("kind", KINDS)
def test_indicator_has_a_value_at_zero_and_one(kind: Any) -> None:
    plain = world(n_individuals=3)
    cs = plain.with_features({"stay": np.tile([1.0, 0, 0, 0, 0], plain.n_decisions)})
    table = response(linear(stay=3.0), cs, "stay", kind=kind)
    assert table["value"].tolist() == [0, 1]
    assert table["log_odds"].tolist() == pytest.approx([-0.6, 2.4])  # a fifth of the choices are to stay
    assert table["n_rows"].tolist() == [4 * cs.n_decisions, cs.n_decisions]


@pytest.mark.parametrize("kind", KINDS)
def test_interval_over_the_averaging_population_is_none_for_a_linear_model_and_some_for_an_interaction(
    cs: ChoiceSets, kind: Any
) -> None:
    straight = response(linear(a=1.0, b=1.0), cs, "a", kind=kind)
    assert set(straight["interval"]) == {"averaging population"}
    assert (straight["log_odds_high"] - straight["log_odds_low"]).max() < 0.3  # of the centering alone
    bent = response(Known(("a", "b"), lambda f: 5 * f["a"] * f["b"]), cs, "a", kind=kind)
    width = (bent["log_odds_high"] - bent["log_odds_low"]).to_numpy()
    assert width[0] > 0.5
    inside = (bent["log_odds_low"] <= bent["log_odds"]) & (bent["log_odds"] <= bent["log_odds_high"])
    assert inside.mean() > 0.9


def test_interval_over_seeds_is_of_the_models_given(cs: ChoiceSets) -> None:
    models = [linear(a=b) for b in (1.0, 2.0, 3.0)]
    table = response(models, cs, "a", level=0.999)
    slope = table["value"] - np.average(table["value"])
    assert (set(table["interval"]), set(table["n_draws"])) == ({"members"}, {3})
    two = response(linear(a=2.0), cs, "a")
    assert table["log_odds"].to_numpy() == pytest.approx(two["log_odds"].to_numpy())
    assert np.sign(table["log_odds_high"].iloc[-1] - table["log_odds"].iloc[-1]) == np.sign(slope.iloc[-1])


def test_ensemble_of_probabilities_shows_the_mean_and_the_spread_of_its_members(cs: ChoiceSets) -> None:
    scaling = Scaling(("a", "b"), np.zeros(2), np.ones(2))
    members = [LogOddsModel(build_network(scaling, units=(4,), seed=s), ("a", "b")) for s in (1, 2, 3)]
    whole = response(combine(members, "mean_probability"), cs, "a")
    each = response(members, cs, "a")
    for column in ("log_odds", "log_odds_low", "log_odds_high"):
        assert whole[column].to_numpy() == pytest.approx(each[column].to_numpy(), abs=1e-5)
    assert set(whole["interval"]) == {"members"}


def test_interval_over_refits_holds_the_truth_and_is_wider_than_none(cs: ChoiceSets) -> None:
    refits = bootstrap_fits(lambda drawn: fit_conditional_logit(drawn, ["a", "b"]), cs, n=40)
    table = response(fit_conditional_logit(cs, ["a", "b"]), cs, "a", refits=refits, grid=[-1, 0, 1])
    low, high = table["log_odds_low"].to_numpy(), table["log_odds_high"].to_numpy()
    assert set(table["interval"]) == {"refits"}
    assert low[2] - high[0] < 2 < high[2] - low[0]  # from -1 to 1 the truth rises by 2


def test_same_seed_gives_the_same_table_and_order_of_individuals_does_not_matter_to_a_full_sample(
    cs: ChoiceSets,
) -> None:
    model = Known(("a", "b"), lambda f: f["a"] * f["b"])
    first = response(model, cs, "a", n_decisions=50, seed=1)
    assert first.equals(response(model, cs, "a", n_decisions=50, seed=1))
    assert not first.equals(response(model, cs, "a", n_decisions=50, seed=2))


def test_what_cancels_and_what_is_unknown_is_refused() -> None:
    cs = world(n_individuals=2, night=True)
    with pytest.raises(ValueError, match="night is the same for all choices"):
        response(linear(a=1.0, night=1.0), cs, "night")
    with pytest.raises(ValueError, match="it has no b"):
        response(linear(a=1.0), cs, "b")
    with pytest.raises(ValueError, match="kind must be partial_dependence or accumulated"):
        response(linear(a=1.0), cs, "a", kind="ale")  # type: ignore[arg-type]


def test_few_individuals_are_noted(cs: ChoiceSets) -> None:
    few = cs.filter(np.isin(cs.individual_codes, [0, 1]))
    assert set(response(linear(a=1.0), few, "a")["note"]) == {"few individuals"}
    assert set(response(linear(a=1.0), cs, "a")["note"]) == {""}

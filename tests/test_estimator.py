"""The estimator: the same as the fit behind it, from choice sets and from tables, and a citizen of scikit-learn."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.conditional_logit import fit_conditional_logit
from mimic.estimator import ConditionalLogitEstimator
from mimic.probability import grouped_sum, selected_log_probability
from mimic.schema import ChoiceSets
from mimic.tables import from_table, to_table

NAMES = ["depth_km", "sst"]


def simulated(n_decisions: int = 300, seed: int = 0) -> ChoiceSets:
    """Ragged decisions of four animals in two regions."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(2, 7, n_decisions))])
    features = {"depth_km": rng.gamma(2.0, 1.0, offsets[-1]), "sst": rng.normal(15, 2, offsets[-1])}
    utility = -0.8 * features["depth_km"] + 0.4 * features["sst"] + rng.gumbel(size=offsets[-1])
    decisions = pd.DataFrame(
        {
            "individual": rng.choice(["a", "b", "c", "d"], n_decisions, p=[0.5, 0.3, 0.15, 0.05]),
            "decision": np.arange(n_decisions),
            "region": rng.choice(["north", "south"], n_decisions),
            "colony": rng.integers(0, 12, n_decisions),
            "times": rng.integers(1, 4, n_decisions),
        }
    )
    selected = np.array([a + utility[a:b].argmax() for a, b in pairwise(offsets)])
    return ChoiceSets(decisions, offsets, np.arange(offsets[-1]) % 40, selected, features)


def test_probabilities_of_three_to_one_by_hand() -> None:
    # the deep cell was selected in 3 of 4 decisions; D = (3 ln .75 + ln .25) / 4
    decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    model = ConditionalLogitEstimator(["deep"]).fit(cs)
    assert model.coef_ == pytest.approx([np.log(3)])
    assert model.features_ == ("deep",)
    assert model.predict_proba(cs) == pytest.approx([0.75, 0.25] * 4)
    assert model.predict_log_proba(cs) == pytest.approx(np.log([0.75, 0.25] * 4))
    assert model.score(cs) == pytest.approx((3 * np.log(0.75) + np.log(0.25)) / 4)


def test_every_option_is_that_of_the_fit() -> None:
    cs = simulated()
    cs = cs.with_features({"ln_q": np.random.default_rng(1).normal(size=cs.n_rows)})
    options: dict[str, Any] = {"weighting": "individual", "cluster": "colony", "weights": "times", "offset": "ln_q"}
    model = ConditionalLogitEstimator(NAMES, **options).fit(cs)
    fit = fit_conditional_logit(
        cs,
        NAMES,
        weighting="individual",
        cluster=cs.decisions["colony"].to_numpy(),
        weights=cs.decisions["times"].to_numpy(),
        offset=cs.features["ln_q"],
    )
    assert model.coef_.tolist() == fit.coef.tolist()
    assert model.result_.cluster_covariance == pytest.approx(fit.cluster_covariance, rel=1e-12)
    assert model.result_.n_clusters == 12
    # the score is D under the same weights, with the offset
    assert model.score(cs) == pytest.approx(fit.log_likelihood / fit.total_weight, rel=1e-12)


def test_score_weighs_individuals_or_decisions_the_same() -> None:
    cs = simulated()
    model = ConditionalLogitEstimator(NAMES).fit(cs)
    log_p = pd.Series(selected_log_probability(model.result_.log_odds(cs), cs.offsets, cs.selected))
    assert model.score(cs) == pytest.approx(log_p.mean())
    balanced = log_p.groupby(cs.individuals).mean().mean()
    assert model.score(cs, weighting="individual") == pytest.approx(balanced)
    assert model.set_params(weighting="individual").score(cs) == pytest.approx(balanced)
    some = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.where(np.arange(300) < 9, -1, cs.selected), cs.features)
    assert model.score(some, weighting="decision") == pytest.approx(log_p[9:].mean())
    nothing = ChoiceSets(cs.decisions, cs.offsets, cs.choice, np.full(300, -1), cs.features)
    assert np.isnan(model.score(nothing))


def test_probabilities_of_a_choice_set_add_up_to_one_also_for_new_data() -> None:
    model = ConditionalLogitEstimator(formula="depth_km*sst + sst:C(region)").fit(simulated())
    new = simulated(50, seed=9)
    np.testing.assert_allclose(grouped_sum(model.predict_proba(new), new.offsets), 1, rtol=1e-12)


def test_formula_is_its_columns() -> None:
    cs = simulated()
    depth = cs.features["depth_km"].astype(float)
    columns = {"a": depth, "b": np.log1p(depth), "c": depth * cs.features["sst"]}
    fit = fit_conditional_logit(cs, list(columns), columns=columns)
    model = ConditionalLogitEstimator(formula="depth_km + log1p(depth_km) + depth_km:sst").fit(cs)
    assert model.features_ == ("depth_km", "log1p(depth_km)", "depth_km:sst")
    assert model.coef_ == pytest.approx(fit.coef, rel=1e-10)


def test_categories_are_coded_as_in_the_fit() -> None:
    cs = simulated()
    model = ConditionalLogitEstimator(formula="depth_km + sst:C(region)").fit(cs)
    south = cs.filter((cs.decisions["region"] == "south").to_numpy())
    of_south = np.repeat((cs.decisions["region"] == "south").to_numpy(), cs.n_choices)
    assert model.predict_proba(south) == pytest.approx(model.predict_proba(cs)[of_south])
    with pytest.raises(ValueError, match="has east here, which the fit did not"):
        model.predict_proba(south.with_context(region="east"))


# ------------------------------------------------------------------------------------------------ tables


def test_table_gives_the_same_as_its_choice_sets_and_answers_in_its_own_order() -> None:
    cs = simulated()
    table = to_table(cs)
    shuffled = table.sample(frac=1, random_state=0)
    model = ConditionalLogitEstimator(NAMES).fit(cs)
    for rows in (table, shuffled):
        again = ConditionalLogitEstimator(NAMES).fit(rows)
        assert again.coef_ == pytest.approx(model.coef_, rel=1e-9)
        assert again.score(rows) == pytest.approx(model.score(cs), rel=1e-9)
    p = pd.Series(model.predict_proba(shuffled), index=shuffled.index)
    assert p.sort_index().to_numpy() == pytest.approx(model.predict_proba(cs))


def test_numbers_of_a_table_are_used_in_double_precision() -> None:
    # temperatures that differ in the ninth digit only: in float32 they would all be the same
    table = to_table(simulated())
    table = table.assign(fine=15 + 1e-8 * (table["sst"].astype(float) - 15))
    coarse = ConditionalLogitEstimator(["sst"]).fit(table).coef_
    assert ConditionalLogitEstimator(["fine"]).fit(table).coef_ * 1e-8 == pytest.approx(coarse, rel=1e-6)
    assert ConditionalLogitEstimator(formula="I(fine - 15)").fit(table).coef_ * 1e-8 == pytest.approx(coarse, rel=1e-6)


def test_table_may_have_other_names_text_categories_and_many_rows() -> None:
    cs = simulated(3000)  # more rows than one part of a row number holds
    table = to_table(cs).rename(columns={"individual": "fish", "sst": "temperature"})
    bottoms = np.array(["mud", "rock", "sand"])
    table["bottom"] = bottoms[np.random.default_rng(0).integers(0, 3, len(table))]
    columns = {"individual": "fish", "sst": "temperature"}
    model = ConditionalLogitEstimator(formula="depth_km + sst + C(bottom) + sst:C(region)", columns=columns).fit(table)
    assert model.features_ == ("depth_km", "sst", "C(bottom)[rock]", "C(bottom)[sand]", "sst:C(region)[south]")
    assert np.abs((model.coef_ - [-0.8, 0.4, 0, 0, 0]) / model.result_.se).max() < 3.5
    assert model.result_.n_clusters == 4
    shuffled = table.sample(frac=1, random_state=1)
    p = pd.Series(model.predict_proba(shuffled), index=shuffled.index).sort_index()
    assert p.to_numpy() == pytest.approx(model.predict_proba(table))


def test_table_without_selections_is_predicted() -> None:
    table = to_table(simulated())
    model = ConditionalLogitEstimator(NAMES).fit(table)
    assert model.predict_proba(table.drop(columns="selected")) == pytest.approx(model.predict_proba(table))


def test_offset_is_part_of_the_prediction_and_may_be_zero() -> None:
    table = to_table(simulated()).assign(minus_ln_q=lambda t: np.linspace(0, 2, len(t)))
    model = ConditionalLogitEstimator(NAMES, offset="minus_ln_q").fit(table)
    plain = model.predict_proba(table.assign(minus_ln_q=0.0))
    assert plain != pytest.approx(model.predict_proba(table))
    cs = from_table(table, features=NAMES)
    phi = model.result_.log_odds(cs)
    expected = np.exp(phi) / np.repeat(grouped_sum(np.exp(phi), cs.offsets), cs.n_choices)
    assert plain == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="expected the column minus_ln_q"):
        model.predict_proba(table.drop(columns="minus_ln_q"))


def test_several_selected_choices_are_refused() -> None:
    table = to_table(simulated(20)).assign(selected=1)
    with pytest.raises(ValueError, match="20 of 20 decisions have several selected choices"):
        ConditionalLogitEstimator(NAMES).fit(table)


# ------------------------------------------------------------------------------------------ scikit-learn


def test_options_are_got_set_and_cloned() -> None:
    sklearn_base = pytest.importorskip("sklearn.base")
    model = ConditionalLogitEstimator(NAMES, cluster="colony").fit(simulated())
    copy = sklearn_base.clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "coef_")
    assert copy.set_params(cluster=None, weighting="individual").get_params()["weighting"] == "individual"
    assert model.get_params()["cluster"] == "colony"
    with pytest.raises(ValueError, match="unknown option penalty; known are features, formula, weighting"):
        model.set_params(penalty=1)
    assert repr(copy) == f"ConditionalLogitEstimator(features={NAMES!r}, weighting='individual')"


def test_cross_validation_by_individual_is_that_of_hand() -> None:
    selection = pytest.importorskip("sklearn.model_selection")
    cs = simulated()
    table = to_table(cs)
    model = ConditionalLogitEstimator(NAMES)
    folds = selection.LeaveOneGroupOut()
    scores = selection.cross_val_score(model, table, groups=table["individual"], cv=folds)
    by_hand = []
    for animal in np.unique(cs.individuals):
        out = cs.individuals == animal
        by_hand.append(ConditionalLogitEstimator(NAMES).fit(cs.filter(~out)).score(cs.filter(out)))
    assert scores == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "expected either features or a formula; got neither"),
        ({"features": NAMES, "formula": "sst"}, "expected either features or a formula; got both"),
        ({"features": "sst"}, "features must be a list of names; got the text 'sst'"),
        ({"features": ["salt"]}, "unknown feature salt; known are depth_km, sst"),
        ({"formula": "salt"}, "unknown name salt"),
        (
            {"features": ["sst"], "cluster": "herd"},
            "unknown cluster column herd; expected one that is the same for all",
        ),
        ({"features": ["sst"], "weights": "herd"}, "unknown weights column herd"),
        ({"features": ["sst"], "weights": "depth_km"}, "weights column depth_km differs between the choices of a dec"),
        ({"features": ["sst"], "offset": "q"}, "unknown offset q"),
        ({"features": ["sst"], "weighting": "animal"}, '"individual" or "decision"; got \'animal\''),
    ],
)
def test_wrong_options_are_one_clear_error_when_fitted(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConditionalLogitEstimator(**options).fit(simulated(30))


def test_use_before_the_fit_and_other_data_are_one_clear_error() -> None:
    cs = simulated(30)
    model = ConditionalLogitEstimator(NAMES)
    for use in (model.predict_proba, model.predict_log_proba, model.score):
        with pytest.raises(ValueError, match="ConditionalLogitEstimator is not fitted yet; call fit"):
            use(cs)
    with pytest.raises(TypeError, match=r"expected ChoiceSets or a long table \(DataFrame\); got ndarray"):
        model.fit(np.zeros((3, 2)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected no y: which choice was selected is in the choice sets"):
        model.fit(cs, np.zeros(30))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="choice table: expected the columns salt, depth; got individual"):
        ConditionalLogitEstimator(["sst", "salt", "depth"]).fit(to_table(cs))

"""Formulas: what they mean by hand, how categories are coded, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.conditional_logit import CollinearityError, ConstantFeatureError, fit_conditional_logit
from mimic.formula import formula_columns, parse_formula
from mimic.schema import ChoiceSets

SST = np.array([3.0, 4.0, 5.0, 6.0, 7.0])


def sets() -> ChoiceSets:
    """Two decisions, of two and of three choices."""
    decisions = pd.DataFrame(
        {
            "individual": ["a", "b"],
            "decision": [1, 1],
            "night": [False, True],
            "region": ["north", "south"],
            "length_cm": [80, 95],
            "time_utc": pd.to_datetime(["2020-01-01", "2020-07-01"]),
        }
    )
    features = {"sst": SST, "distance_km": [0.0, 10.0, 20.0, 0.0, 5.0], "habitat": [1, 2, 3, 1, 2]}
    return ChoiceSets(decisions, [0, 2, 5], [7, 8, 7, 8, 9], [0, 3], features)


def world(n_decisions: int = 400) -> ChoiceSets:
    """Four choices each; the animals of the south like warm water more, and habitats differ."""
    rng = np.random.default_rng(3)
    region = rng.choice(["north", "south", "west"], n_decisions)
    sst = rng.normal(15, 3, (n_decisions, 4))
    habitat = rng.integers(1, 4, (n_decisions, 4))
    slope = np.select([region == "north", region == "south"], [0.1, 0.5], -0.2)
    utility = slope[:, None] * sst + np.array([0.0, 0.0, 0.8, -0.5])[habitat] + rng.gumbel(size=sst.shape)
    offsets = np.arange(n_decisions + 1) * 4
    decisions = pd.DataFrame({"individual": "a", "decision": np.arange(n_decisions), "region": region})
    features = {"sst": sst.ravel(), "habitat": habitat.ravel()}
    selected = offsets[:-1] + utility.argmax(axis=1)
    return ChoiceSets(decisions, offsets, np.tile(np.arange(4), n_decisions), selected, features)


# ----------------------------------------------------------------------------------------------- meaning


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a", ["a"]),
        ("a + b - a", ["b"]),
        ("a:b", ["a:b"]),
        ("a*b", ["a", "b", "a:b"]),
        ("a*b:c", ["a", "b:c", "a:b:c"]),
        ("a*b*c - a:b:c", ["a", "b", "a:b", "c", "a:c", "b:c"]),
        ("(a + b):c", ["a:c", "b:c"]),
        ("(a + b)*c", ["a", "b", "c", "a:c", "b:c"]),
        ("a + a + b:a + a:b", ["a", "b:a"]),
        ("a + (b + c) - (a + b)", ["c"]),
        ("a:a", ["a"]),
        ("~ a + b", ["a", "b"]),
        ("+ a\n + b", ["a", "b"]),
        ("log( a ) + I(a ^ 2) + a**2 + a/1000", ["log(a)", "I(a**2)", "a**2", "a/1000"]),
        ("I(a*b - 2*c):d", ["I(a*b-2*c):d"]),
        ("a/1e-3 + b/1.5E+2", ["a/1e-3", "b/1.5E+2"]),
        ("C(a):log1p(b)", ["C(a):log1p(b)"]),
        ("cos(-a) + a**-1", ["cos(-a)", "a**-1"]),
    ],
)
def test_terms_of_a_formula(text: str, terms: list[str]) -> None:
    assert [":".join(term) for term in parse_formula(text).terms] == terms


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sst", SST),
        ("sst^2", SST**2),
        ("I(sst**2)", SST**2),
        ("log1p(distance_km)", np.log1p([0, 10, 20, 0, 5])),
        ("sqrt(sst):exp(-sst)", np.sqrt(SST) * np.exp(-SST)),
        ("I(sst - 2*habitat)", SST - [2, 4, 6, 2, 4]),
        ("abs(sst - 5) ", [2, 1, 0, 1, 2]),
        ("sin(sst)", np.sin(SST)),
        ("cos(sst/10)", np.cos(SST / 10)),
        ("-sst", -SST),
        ("sst:night", [0, 0, 5, 6, 7]),
        ("length_cm:sst", [240, 320, 475, 570, 665]),
        ("choice", [7, 8, 7, 8, 9]),
        ("I(2**-1*sst)", SST / 2),
    ],
)
def test_values_of_a_term(text: str, values: np.ndarray) -> None:
    (column,) = formula_columns(text, sets()).values()
    assert column.dtype == np.float64
    np.testing.assert_allclose(column, values, rtol=1e-15)


def test_numbers_keep_the_precision_in_which_they_are_given() -> None:
    exact = SST + 1e-12
    columns = formula_columns("sst + log(sst)", sets(), columns={"sst": exact})
    assert (columns["sst"] == exact).all()
    assert (columns["log(sst)"] == np.log(exact)).all()


def test_terms_are_columns_of_a_fit() -> None:
    cs = world()
    columns = formula_columns("sst + I(sst^2)", cs)
    fit = fit_conditional_logit(cs, list(columns), columns=columns)
    assert fit.features == ("sst", "I(sst**2)")
    by_hand = cs.features["sst"].astype(float)
    same = fit_conditional_logit(cs, ["sst", "square"], columns={"sst": by_hand, "square": by_hand**2})
    assert fit.coef == pytest.approx(same.coef, rel=1e-12)


def test_decision_column_alone_has_no_coefficient_and_is_named() -> None:
    cs = world()
    columns = formula_columns("sst*night", cs, columns={"night": np.repeat(np.arange(400) % 2, 4)})
    with pytest.raises(ConstantFeatureError, match="must vary within decisions; night does not") as error:
        fit_conditional_logit(cs, list(columns), columns=columns)
    assert error.value.features == ("night",)


# -------------------------------------------------------------------------------------------- categories


def test_category_has_a_column_for_each_level_but_the_first() -> None:
    columns = formula_columns("C(habitat)", sets())
    assert {name: values.tolist() for name, values in columns.items()} == {
        "C(habitat)[2]": [0, 1, 0, 0, 1],
        "C(habitat)[3]": [0, 0, 1, 0, 0],
    }


def test_slope_of_the_reference_is_the_term_itself_or_else_has_a_column() -> None:
    beside = formula_columns("sst + sst:C(region)", sets())
    assert list(beside) == ["sst", "sst:C(region)[south]"]
    alone = formula_columns("sst:C(region)", sets())
    assert {name: values.tolist() for name, values in alone.items()} == {
        "sst:C(region)[north]": [3, 4, 0, 0, 0],
        "sst:C(region)[south]": [0, 0, 5, 6, 7],
    }
    # night alone cancels, as it is the same for all choices of a decision: the reference needs no column
    assert list(formula_columns("night:C(habitat)", sets())) == ["night:C(habitat)[2]", "night:C(habitat)[3]"]
    # nor is there one for a habitat in each region: within a decision they would add up to 1
    assert list(formula_columns("C(region):C(habitat)", sets())) == [
        *("C(region)[north]:C(habitat)[2]", "C(region)[north]:C(habitat)[3]"),
        *("C(region)[south]:C(habitat)[2]", "C(region)[south]:C(habitat)[3]"),
    ]


def test_both_ways_of_coding_are_one_model() -> None:
    cs = world()
    fits = []
    for text in ("sst + sst:C(region)", "sst:C(region)", "sst*C(region) - C(region)"):
        columns = formula_columns(text, cs)
        fits.append(fit_conditional_logit(cs, list(columns), columns=columns))
    assert [f.log_likelihood for f in fits] == pytest.approx([fits[0].log_likelihood] * 3, rel=1e-12)
    slopes = dict(zip(fits[1].features, fits[1].coef, strict=True))
    assert fits[0].coef[1] == pytest.approx(slopes["sst:C(region)[south]"] - slopes["sst:C(region)[north]"], rel=1e-6)


def test_slopes_and_levels_of_a_simulated_world_are_found() -> None:
    cs = world(3000)
    columns = formula_columns("sst:C(region) + C(habitat)", cs)
    fit = fit_conditional_logit(cs, list(columns), columns=columns)
    assert np.abs((fit.coef - [0.1, 0.5, -0.2, 0.8, -0.5]) / fit.se).max() < 3


def test_coding_of_the_fit_holds_for_data_that_lack_a_level() -> None:
    cs, formula = world(), parse_formula("sst:C(region) + C(habitat)")
    coding = formula.coding(cs)
    assert coding.levels == {"region": ("north", "south", "west"), "habitat": (1.0, 2.0, 3.0)}
    south = cs.filter((cs.decisions["region"] == "south").to_numpy())
    columns = formula.columns(south, coding=coding)
    assert list(columns) == list(formula.columns(cs))
    assert not columns["sst:C(region)[north]"].any()
    moved = south.with_context(region="east")
    with pytest.raises(
        ValueError, match=r"C\(region\) has east here, which the fit did not; it knows north, south, west"
    ):
        formula.columns(moved, coding=coding)


def test_text_of_choices_is_a_category_when_it_is_given() -> None:
    cs = sets()
    columns = formula_columns("C(bottom)", cs, columns={"bottom": np.array(["mud", "sand", "mud", "rock", "sand"])})
    assert list(columns) == ["C(bottom)[rock]", "C(bottom)[sand]"]


def test_collinear_terms_are_named_by_the_fit() -> None:
    cs = world()
    columns = formula_columns("sst + I(2*sst + 1)", cs)
    with pytest.raises(CollinearityError, match=r"sst"):
        fit_conditional_logit(cs, list(columns), columns=columns)


# ----------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("sst +", r"a term is missing after \+"),
        ("sst * ", r"a term is missing after \*"),
        ("sst - sst", "no term is left"),
        ("sst - depth", "- takes depth away, which was not there"),
        ("sst + 1", "there is no intercept to add or take away"),
        ("0 + sst", "there is no intercept"),
        ("2*sst", r"2 is no feature; arithmetic with numbers goes into I\(..\)"),
        ("selected ~ sst", "only the right side of ~ is given"),
        ("sst depth", "'sst depth' is no arithmetic"),
        ("(sst + depth", "a parenthesis is not closed"),
        ("sst)", "a parenthesis closes that was not opened"),
        ("sst[0]", r"'\[0\]' is not allowed"),
        ("sst.mean()", "is not allowed"),
        ("log(sst, 2)", "is not allowed"),
        ("__import__('os')", "is not allowed"),
        ("eval(sst)", r"eval\(sst\) is not allowed"),
        ("log", "log is not allowed"),
        ("log(C(habitat))", r"C\(habitat\) stands alone or in a product with : only"),
        ("C(sst + 1)", r"C\(sst \+ 1\) is not allowed"),
        ("sst // 2", "'sst / / 2' is no arithmetic"),
        ("not sst", "not sst is not allowed"),
        ("sst if depth else 1", "not allowed"),
        ("(" * 40 + "sst" + ")" * 40, "nested 30 deep or deeper"),
        ("sst + " * 300 + "sst", "it has 1803 characters, more than 1000"),
        ("*".join("abcdefghijkl"), "it has more than 500 terms"),
        ("sst**" + "9" * 400, "not allowed"),
    ],
)
def test_what_is_no_formula_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_formula(text)
    assert "Allowed are" in str(error.value)


def test_formula_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="a formula must be text such as"):
        parse_formula(["sst"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sst + salt", "unknown name salt; known are sst, distance_km, habitat, individual, decision, night"),
        ("sst:region", r"region holds no numbers; write C\(region\)"),
        ("sst:time_utc", "time_utc holds no numbers; make a number of it first"),
        ("log(distance_km)", r"not finite in 2 of 5 rows, first where distance_km is 0.0; log1p\(x\) takes zeros"),
        ("sst/distance_km", "sst/distance_km is not finite in 2 of 5 rows, first where sst is 3.0, distance_km is 0.0"),
        ("sqrt(sst - 5)", "is not finite in 2 of 5 rows, first where sst is 3.0"),
        ("9**9**9**9*sst", "9 is no feature"),
        ("I(9**9**9**9*sst)", "is not finite in 5 of 5 rows"),
    ],
)
def test_data_that_do_not_fit_the_formula_are_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        formula_columns(text, sets())


def test_categories_with_gaps_or_too_many_values_are_refused() -> None:
    cs = world()
    with pytest.raises(ValueError, match=r"C\(region\) has no value in 4 of 1600 rows"):
        formula_columns("sst:C(region)", cs.with_context(region=[None, *cs.decisions["region"][1:]]))
    with pytest.raises(ValueError, match=r"C\(sst\) has 1600 values, more than 500; use it as a number"):
        formula_columns("C(sst)", cs)
    with pytest.raises(ValueError, match=r"sst must have shape \(row,\) = \(1600,\); got \(3,\)"):
        formula_columns("sst", cs, columns={"sst": np.ones(3)})

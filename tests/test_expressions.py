"""Group expressions: what they mean, what a missing value does, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from mimic.expressions import ALLOWED, MAX_LENGTH, check_names, parse, quantity

NAN = np.nan

COLUMNS = {
    "distance_km": np.array([0.0, 23.0, 50.0, 51.0, NAN], dtype=np.float32),
    "stay": np.array([1, 0, 0, 0, 0]),
    "month": np.array([5, 6, 7, 8, 12], dtype=np.int8),
    "region": pd.Series(["Sitka", "Kodiak", "Sitka", None, "Kodiak"]),
    "night": np.array([True, False, True, False, True]),
    "time_utc": np.array(["2020-05-01", "2020-06-01T12", "2020-07-01", "NaT", "2021-01-01"], dtype="datetime64[ns]"),
    "cell": np.array([599686042433355775 + k for k in range(5)]),
}


def holds(text: str) -> list[int]:
    """The rows of COLUMNS for which an expression holds."""
    result = parse(text).evaluate(COLUMNS)
    assert result.dtype == bool
    assert result.shape == (5,)
    return np.flatnonzero(result).tolist()


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("distance_km > 0", [1, 2, 3]),
        ("0 < distance_km <= 50", [1, 2]),
        ("distance_km == 23", [1]),
        ("month in (6, 7, 8)", [1, 2, 3]),
        ("month in [6]", [1]),
        ("month not in {6, 7, 8}", [0, 4]),
        ('region == "Sitka"', [0, 2]),
        ("region in ('Sitka', 'Kodiak')", [0, 1, 2, 4]),
        ('month in (6, 7, 8) and region == "Sitka"', [2]),
        ("stay", [0]),
        ("not stay", [1, 2, 3, 4]),
        ("stay == True", [0]),
        ("night", [0, 2, 4]),
        ("not night or month == 5", [0, 1, 3]),
        ("night == stay", [0, 1, 3]),
        ("not (stay or night)", [1, 3]),
        ("-month < -7", [3, 4]),
        ("month in (-5, +6)", [1]),
        ("month % 2 == 0", [1, 3, 4]),
        ("month * 100 > 700", [3, 4]),  # int8 would wrap at 127
        ("(month + 1) / 2 - 3 == 0", [0]),
        ("abs(month - 7) <= 1", [1, 2, 3]),
        ("floor(distance_km / 50) == 1", [2, 3]),
        ("sqrt(distance_km * distance_km) == distance_km", [0, 1, 2, 3]),
        ("log(distance_km) > 3.9", [2, 3]),
        ("min(month, 7, distance_km) == 7", [2, 3]),
        ("max(month, 7) == 7", [0, 1, 2]),
        ("cell == 599686042433355777", [2]),  # beyond 2^53: floats would call neighbors equal
        ("cell in (599686042433355775, 599686042433355778)", [0, 3]),
        ('time_utc >= "2020-06-01 12:00"', [1, 2, 4]),
        ('time_utc < "2020-06-01T14:00+02:00"', [0]),
        ("True", [0, 1, 2, 3, 4]),
        ("all", [0, 1, 2, 3, 4]),
        (" all ", [0, 1, 2, 3, 4]),
        ("False", []),
        ("1 < 2", [0, 1, 2, 3, 4]),
        ("distance_km > 0 and True", [1, 2, 3]),
        ("month >= 6\n  and month <= 7", [1, 2]),
    ],
)
def test_an_expression_picks_the_rows_that_its_words_say(text: str, rows: list[int]) -> None:
    assert holds(text) == rows


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("distance_km != 23", [0, 2, 3]),
        ("not distance_km == 23", [0, 2, 3]),
        ("not (distance_km > 0)", [0]),
        ("not not (distance_km > 0)", [1, 2, 3]),
        ("distance_km not in (0, 23)", [2, 3]),
        ('region != "Sitka"', [1, 4]),
        ('not region == "Sitka"', [1, 4]),
        ('region not in ("Sitka", "Kodiak")', []),
        ('time_utc != "2020-05-01"', [1, 2, 4]),
        ("distance_km + 1 > 0", [0, 1, 2, 3]),
        ("min(distance_km, 10) != 10", [0]),
        ("log(distance_km - 30) != 0", [2, 3]),  # the log of a negative number is missing too
        ("month / stay != 3", [0, 1, 2, 3, 4]),  # 5 / 0 is infinite, not missing
        ("month % stay != 3", [0]),  # 5 % 0 is missing
        ("isnan(distance_km)", [4]),
        ("missing(region)", [3]),
        ("not missing(region) and not missing(time_utc)", [0, 1, 2, 4]),
        ("missing(distance_km > 0)", [4]),
        ("distance_km > 0 or month > 0", [0, 1, 2, 3, 4]),  # one side suffices
        ("not (distance_km > 0 and month > 20)", [0, 1, 2, 3, 4]),  # one side suffices to fail
        ("(distance_km > 0) + 1 == 2", [1, 2, 3]),
    ],
)
def test_a_missing_value_is_in_no_group_and_not_does_not_sneak_it_in(text: str, rows: list[int]) -> None:
    assert holds(text) == rows


def test_a_column_without_any_value_compares_with_everything_and_matches_nothing() -> None:
    columns = {"region": pd.Series([None, None], dtype=object), "sst": np.array([NAN, NAN])}
    for text in ('region == "Sitka"', "region == 3", 'sst == "cold"', "not sst > 1"):
        assert not parse(text).evaluate(columns).any()


def test_numbers_take_the_precision_of_the_column() -> None:
    third = np.array([0.1, 0.2], dtype=np.float32)
    assert parse("x == 0.1").evaluate({"x": third}).tolist() == [True, False]
    assert parse("x in (0.1, 0.3)").evaluate({"x": third}).tolist() == [True, False]
    assert parse("x == 0.3 - 0.2 + 0.0").evaluate({"x": third}).tolist() == [True, False]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Series([1, 2, None], dtype=object),
        pd.Series([1.0, 2.0, NAN], dtype="Float32"),
        pd.Series(pd.Categorical([1, 2, None])),
    ],
)
def test_pandas_columns_of_any_number_type_compare_as_numbers(column: pd.Series) -> None:
    assert parse("x != 2").evaluate({"x": column}).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(["a", "b", None], dtype="str"),
        pd.Series(["a", "b", None], dtype=object),
        pd.Series(["a", "b", None], dtype="category"),
        pd.array(["a", "b", None], dtype="string"),
        np.array(["a", "b", "b"]),
    ],
)
def test_pandas_columns_of_any_text_type_compare_as_text(column: object) -> None:
    assert parse('x == "a"').evaluate({"x": column}).tolist() == [True, False, False]


def test_booleans_with_gaps_are_conditions_with_gaps() -> None:
    for column in (pd.Series([True, False, None], dtype="boolean"), pd.Series([True, False, None], dtype=object)):
        assert parse("x").evaluate({"x": column}).tolist() == [True, False, False]
        assert parse("not x").evaluate({"x": column}).tolist() == [False, True, False]


def test_times_with_a_zone_compare_in_utc() -> None:
    column = pd.Series(pd.to_datetime(["2020-06-01 01:00+02:00", "2020-06-01 03:00+02:00"]))
    assert parse('t >= "2020-06-01"').evaluate({"t": column}).tolist() == [False, True]


def test_a_function_may_look_columns_up_and_is_asked_once_for_each_name_in_use() -> None:
    asked = []

    def look(name: str) -> np.ndarray:
        asked.append(name)
        return np.array([1.0, 5.0])

    assert parse("a > 2 and a < 9 or b > 9").evaluate(look).tolist() == [False, True]
    assert asked == ["a", "b"]
    assert parse("all").evaluate(look, n_rows=3).tolist() == [True] * 3
    assert parse("all").evaluate(look).shape == ()


def test_a_data_frame_is_a_set_of_columns_and_no_rows_give_no_rows() -> None:
    frame = pd.DataFrame({"x": [1, 2], "region": ["a", "b"]}, index=[7, 9])
    assert parse("x == 2").evaluate(frame).tolist() == [False, True]
    assert parse("all").evaluate(frame).tolist() == [True, True]
    for text in ("x == 2", 'region == "a"', "all", "x"):
        assert parse(text).evaluate(frame.iloc[:0]).shape == (0,)


def test_evaluating_changes_no_column_and_the_answer_is_no_view_of_one() -> None:
    night = np.array([True, False])
    answer = parse("night").evaluate({"night": night})
    answer[:] = False
    assert night.tolist() == [True, False]


def test_names_are_the_columns_and_not_the_calls() -> None:
    assert parse("abs(abs) > log(x) and month in (1, 2)").names == {"abs", "x", "month"}
    assert parse("all").names == frozenset()
    assert parse("x > 0") == parse("x > 0")
    assert pickle.loads(pickle.dumps(parse("x > 0"))).evaluate({"x": [1]}).tolist() == [True]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("   ", "it is empty"),
        ("distance_km >", "invalid syntax"),
        ("month = 6", "write == to compare"),
        ("a && b", "write and, or, not"),
        ("!a", "write and, or, not"),
        ("a; b", "invalid syntax at character 2"),
        ("month ** 2 > 4", "write x * x"),
        ("month // 2 > 4", "write floor"),
        ("(a > 0) & (b > 0)", "write and"),
        ("(a > 0) | (b > 0)", "write or"),
        ("~stay", "write not"),
        ("region is None", "missing(x)"),
        ("region == None", "missing(x)"),
        ("a is not b", "write !="),
        ("cs.features", "a dot after a name"),
        ("x.__class__ == 1", "a dot after a name"),
        ("x[0] > 1", "square brackets"),
        ("lambda: 1", "is not allowed"),
        ("[x for x in y] == 1", "is not allowed"),
        ("max(x for x in y) > 1", "two or more values"),
        ("x > 1 if y else z", "is not allowed"),
        ("(x := 3) > 1", "is not allowed"),
        ('f"{x}" == "a"', "is not allowed"),
        ("b'a' == x", "neither a number nor text"),
        ("1j == x", "neither a number nor text"),
        ("... == x", "neither a number nor text"),
        ("x == 99999999999999999999", "64 bits"),
        ("open('x') > 1", "open is none of the calls"),
        ("__import__('os') == 1", "__import__ is none of the calls"),
        ("x.abs() > 1", "x.abs is none of the calls"),
        ("abs(x, 2) > 1", "one value"),
        ("min(x) > 1", "two or more values"),
        ("min(*x) > 1", "two or more values"),
        ("log(x=1) > 1", "one value"),
        ("month in 6", "in needs a list"),
        ('region in "Sitka"', "in needs a list"),
        ("month in ()", "in needs a list"),
        ("month in (x, 3)", "numbers and quoted text only"),
        ("month in (*x,)", "numbers and quoted text only"),
        ("month in (1, 2) in (3, 4)", "nothing may follow a list"),
        ("(1, 2) == month", "only after in"),
        ("distance_km + 1", "no condition"),
        ("-distance_km", "no condition"),
        ("log(distance_km)", "no condition"),
        ("3", "no condition"),
        ('"Sitka"', "no condition"),
        ("stay and month + 1", "no condition"),
        ('region == "a" or "b"', "no condition"),
        ("not 1", "no condition"),
        ("x > 0\0", "is no expression"),
        ("not " * 200 + "x", "nested"),
        ("-" * 900 + "x > 1", "nested"),
        ("1" + "+1" * 400 + " > x", "nested"),
        ("[y for y in " + "-" * 900 + "x] == 1", "nested"),
        ("(" * 400 + "x" + ")" * 400, "is no expression"),
        ("x > 1 or " * 200 + "x", f"more than {MAX_LENGTH}"),
    ],
)
def test_what_the_grammar_does_not_allow_is_refused_with_the_reason_and_what_is_allowed(text: str, why: str) -> None:
    with pytest.raises(ValueError, match="is no expression") as caught:
        parse(text)
    message = str(caught.value)
    assert message.startswith("group expression ")
    assert why in message
    assert ALLOWED in message
    assert len(message) < 700


def test_an_expression_that_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="must be text"):
        parse(True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("region == 3", r"region \(text\) cannot be compared with 3 \(number\); text goes in quotes"),
        ('distance_km > "0"', r"distance_km \(number\) cannot be compared with '0' \(text\)"),
        ('"a" == 1', "cannot be compared"),
        ("time_utc > 2020", "cannot be compared"),
        ('time_utc > "June"', "is no date"),
        ('time_utc > "now"', "is no date"),
        ("time_utc == region", "quoted date"),
        ("region + 1 > 0", "region is a text; arithmetic is for numbers only"),
        ("-time_utc > 0", "time_utc is a time; arithmetic"),
        ("abs(region) > 0", "arithmetic is for numbers only"),
        ("distance_km", "distance_km is a number with values other than 0 and 1, no condition"),
        ("not month", "month is a number"),
        ("stay and region", "region is a text, no condition"),
        ("time_utc", "time_utc is a time, no condition"),
        ('month in (6, "7")', "cannot be compared"),
    ],
)
def test_a_kind_of_value_in_the_wrong_place_is_refused_with_the_expression(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parse(text).evaluate(COLUMNS)
    assert str(caught.value).startswith(f"group expression {text!r}: ")


@pytest.mark.parametrize("column", [np.array(["a", 1], dtype=object), np.array([1, 2], dtype="timedelta64[s]")])
def test_a_column_of_no_single_kind_is_refused(column: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"column x .*expected"):
        parse("x == 1").evaluate({"x": column})


def test_unknown_columns_are_all_named_with_the_nearest_and_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown") as caught:
        check_names(parse("distnce_km > 0 and zzz == 1"), ["distance_km", "stay"])
    assert str(caught.value) == (
        "group expression 'distnce_km > 0 and zzz == 1' uses unknown columns distnce_km (did you mean distance_km?), "
        "zzz; known are distance_km, stay."
    )
    with pytest.raises(ValueError, match="unknown column x; known are none"):
        parse("x > 0").evaluate({})


def test_known_columns_pass() -> None:
    check_names(parse("stay and distance_km > 0"), {"distance_km": 1, "stay": 2, "other": 3})


def test_formulas_give_numbers_and_conditions_one_and_zero() -> None:
    table = pd.DataFrame({"step_m": [100, 1000], "turn": [0.0, np.pi], "name": ["a", "b"]})
    assert quantity("log(step_m) - log(100)", table).tolist() == pytest.approx([0, np.log(10)])
    assert quantity("cos(turn)", table).tolist() == pytest.approx([1, -1])
    assert quantity("exp(0) * 3", table).tolist() == [3, 3]
    assert quantity("step_m > 500", table).tolist() == [0, 1]
    assert np.isneginf(quantity("log(turn)", table)[0])  # the caller looks at it


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("log(step)", "unknown column step .did you mean step_m"),
        ("name + 1", "formula 'name . 1': name is a text; arithmetic is for numbers only"),
        ("tan(turn)", "formula 'tan.turn.' is no expression: tan is none of the calls"),
        ("step_m ** 2", r"\*\* is not allowed"),
        ("", "formula '' is no expression: it is empty"),
    ],
)
def test_bad_formulas_are_told(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantity(text, pd.DataFrame({"step_m": [1.0], "turn": [0.0], "name": ["a"]}))
    with pytest.raises(TypeError, match="a formula must be text"):
        quantity(3, pd.DataFrame({"x": [1.0]}))  # type: ignore[arg-type]

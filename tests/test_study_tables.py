"""Printed tables and numbers of a study: intervals, unknown values, names."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from mimic.paper_items import are_words
from mimic.study_tables import shown_with_interval
from mimic.written import FORMS, MINUS, count, nats, percent, plain_number


def test_an_interval_stands_in_brackets_and_per_cent_once() -> None:
    table = pd.DataFrame({"gmp": [0.26123, 0.3], "gmp_low": [0.2251, np.nan], "gmp_high": [0.30561, np.nan]})
    assert shown_with_interval(table, "gmp", "percent") == ["26.1 % (22.5 to 30.6)", "30.0 %"]


def test_negative_ends_have_a_true_minus() -> None:
    table = pd.DataFrame({"d": [0.01], "d_low": [-0.0034], "d_high": [0.023]})
    assert shown_with_interval(table, "d", "nats") == [f"0.010 ({MINUS}0.003 to 0.023)"]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_what_is_not_known_is_a_dash_in_every_form(form: str) -> None:
    assert FORMS[form](math.nan) == "\N{EN DASH}"


def test_no_minus_stands_before_zero() -> None:
    assert nats(-0.0001) == "0.000"
    assert percent(-0.0) == "0 %"
    assert plain_number(-0.5) == f"{MINUS}0.500"


def test_infinities_are_written_as_such() -> None:
    assert nats(-math.inf) == f"{MINUS}\N{INFINITY}"
    assert count(math.inf) == "\N{INFINITY}"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.99996, "100.0 %"), (0.0999, "9.99 %"), (0.09996, "10.0 %"), (0.001, "0.10 %"), (1.0, "100 %")],
)
def test_percent_has_three_digits_at_its_rounding_edges(value: float, text: str) -> None:
    assert percent(value) == text


def test_a_column_of_numbers_with_dashes_is_no_column_of_words() -> None:
    assert not are_words(["26.1 % (22.5 to 30.6)", "\N{EN DASH}", f"{MINUS}1.3", "< 0.001", ""])
    assert are_words(["distance", "1"])

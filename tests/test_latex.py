"""LaTeX tables: escaped, aligned, with caption and label."""

from __future__ import annotations

import pandas as pd
import pytest

from mimic.latex import escape_latex, latex_table


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b & c", r"a\_b \& c"),
        ("50 % of $x$ #1", r"50 \% of \$x\$ \#1"),
        ("\\{~^}", r"\textbackslash{}\{\textasciitilde{}\textasciicircum{}\}"),
        ("\N{MINUS SIGN}1.3", r"\ensuremath{-}1.3"),
        ("< 0.001", r"\ensuremath{<} 0.001"),
        ("distance", "distance"),
    ],
)
def test_characters_that_latex_takes_for_commands_are_escaped(text: str, latex: str) -> None:
    assert escape_latex(text) == latex


def test_numbers_stand_to_the_right_words_to_the_left_and_long_words_wrap() -> None:
    shown = pd.DataFrame({"model": ["a"], "GMP": ["26.1 %"], "features": ["distance_km, " * 5]})
    assert r"\begin{tabular}{lrp{5cm}}" in latex_table(shown, caption="c", label="l")


def test_labels_have_only_letters_digits_and_dashes() -> None:
    assert r"\label{tab:demo-grid-groups}" in latex_table(
        pd.DataFrame({"a": ["1"]}), caption="c", label="demo_grid/groups"
    )


def test_long_tables_break_over_pages() -> None:
    long = latex_table(pd.DataFrame({"a": ["x"] * 41}), caption="c", label="l")
    assert r"\begin{longtable}{l}" in long
    assert r"\begin{table}" not in long
    assert long.count("x \\\\") == 41


def test_long_names_may_break_within_themselves_where_their_column_wraps() -> None:
    name = "environment/learning_rate=0.01,units=16-8"
    wrapping = latex_table(pd.DataFrame({"a": [name]}), caption="c", label="l")
    assert r"environment/\allowbreak{}learning\_\allowbreak{}rate=0.01,\allowbreak{}units=16-8" in wrapping
    assert "allowbreak" not in latex_table(pd.DataFrame({"a": ["sea_ice"]}), caption="c", label="l")

"""The command `mimic synthetic power`: the table it prints, JSON, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner, Result

from mimic.power import POWER_COLUMNS, animals_needed
from mimic.power_cli import format_power, power_command

app = typer.Typer()
app.command()(power_command)


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def table(effect: str, *rows: dict[str, float]) -> pd.DataFrame:
    shared = dict.fromkeys(POWER_COLUMNS, np.nan) | {
        "effect": effect, "size": 0.01, "sd": 0.3, "alpha": 0.05, "n_days": 30, "n_studies": 50, "truth": 0.0314,
    }  # fmt: skip
    return pd.DataFrame([shared | row for row in rows])


def test_table_as_text() -> None:
    found = table(
        "heading",
        {"n_individuals": 10, "power": 0.5, "power_se": 0.07, "mean_estimate": 0.03, "rmse": 0.02, "mean_se": 0.015},
        {"n_individuals": 20, "power": 0.9, "power_se": 0.04, "rmse": 0.01, "mean_se": 0.01, "coverage": 0.96},
    )
    assert format_power(found, animals_needed(found)).splitlines() == [
        "The share of moves within 90 degrees of east is 0.51: is a tilt found?",
        "Individuals differ by 0.3 nats; 50 simulated studies a row.",
        "",
        "individuals  days  found %  +-   truth    mean    rmse  mean_se  coverage %",
        "         10    30       50   7  0.0314  0.0300  0.0200   0.0150           -",
        "         20    30       90   4  0.0314       -  0.0100   0.0100          96",
        "",
        "30 days, found in 80 % of studies: about 18 individuals",
    ]


def test_every_answer_has_its_sentence() -> None:
    row = {"n_individuals": 10, "power": 0.9, "power_se": 0.1}
    for effect, change, sentence in (
        ("heading", {}, "30 days, found in 80 % of studies: 10 individuals or fewer"),
        ("heading", {"power": 0.1, "mean_se": 0.0314}, "about 79 individuals, by the standard error of the largest study"),
        ("heading", {"power": 0.1, "mean_se": 3.14}, "more than 10,000 individuals, by the standard error"),
        ("perimeter", {"power": 0.1, "truth": 0.0}, "30 days, found in 80 % of studies: more individuals than these"),
        ("irrelevant", {"power": 0.1}, "30 days: nothing to find; 5 % are expected to be found by chance"),
    ):  # fmt: skip
        found = table(effect, row | change)
        assert sentence in format_power(found, animals_needed(found))


def test_json_is_one_object_and_the_same_for_the_same_seed() -> None:
    arguments = ("--individuals", "5,3", "--days", 8, "--studies", 4, "--size", 0.2, "--sd", 0, "--seed", 7, "--json")
    first, again = call(*arguments), call(*arguments)
    assert first.exit_code == 0, first.output
    assert first.stdout == again.stdout
    told = json.loads(first.stdout)
    assert [row["n_individuals"] for row in told["power"]] == [3, 5]
    assert list(told["power"][0]) == POWER_COLUMNS
    assert told["power"][0]["size"] == 0.2
    assert told["needed"][0]["n_days"] == 8
    other = json.loads(call(*arguments[:-2], 8, "--json").stdout)
    assert other["power"][0]["mean_estimate"] != told["power"][0]["mean_estimate"]


@pytest.mark.parametrize("effect", ["covariate", "irrelevant", "perimeter"])
def test_every_effect_has_a_size_of_its_own(effect: str) -> None:
    done = call("--effect", effect, "--individuals", 3, "--days", 6, "--studies", 2)
    assert done.exit_code == 0, done.output
    assert "2 simulated studies a row" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--individuals", "five"), "--individuals expects whole numbers with commas, such as 5,10,20; got 'five'"),
        (("--days", "30;60"), "--days expects whole numbers"),
        (("--effect", "season"), "effect must be heading, covariate, irrelevant, perimeter; got 'season'"),
        (("--power", 80), "--power must lie between 0 and 1"),
        (("--individuals", 1), "individuals >= 2"),
        (("--size", 2), "size of a heading is a tilt between -0.48 and 0.48, such as 0.01; got 2"),
        (("--effect", "covariate", "--size", "nan"), "size of a covariate is in nats a standard deviation"),
    ],
)
def test_what_it_cannot_answer_is_refused(arguments: tuple[object, ...], message: str) -> None:
    done = call(*arguments, "--studies", 1)
    assert isinstance(done.exception, ValueError)  # the command line makes it a message and exit code 2
    assert message in str(done.exception)

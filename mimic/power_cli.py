"""The command `mimic synthetic power`: what a study could find, as a table of numbers of animals and days."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mimic.answers import answer
from mimic.bars import progress_bars

if TYPE_CHECKING:
    import pandas as pd

    from mimic.power import Effect

__all__ = ["format_power", "power_command"]

_DEFAULT_SIZES = {"heading": 0.01, "covariate": 0.2, "irrelevant": 0.0, "perimeter": 0.01}
_LONGEST = 10_000
_ASKED = {
    "heading": "the share of moves within 90 degrees of east is {share:.4g}: is a tilt found?",
    "covariate": "a covariate counts {size:g} nats a standard deviation: is it found?",
    "irrelevant": "a covariate counts nothing for anyone: is it found all the same?",
    "perimeter": "nobody enters a perimeter: are its cells shown to have a probability of at most {size:g}?",
}


def power_command(
    individuals: Annotated[str, typer.Option(help="Numbers of individuals, with commas.")] = "5,10,20,40",
    days: Annotated[str, typer.Option(help="Numbers of days, one decision a day.")] = "30,60",
    effect: Annotated[str, typer.Option(help="heading, covariate, irrelevant or perimeter.")] = "heading",
    size: Annotated[
        float | None,
        typer.Option(
            help="Of a heading, the tilt: 0.01 sends 51 % of moves to one side. Of a covariate, nats a standard "
            "deviation. Of a perimeter, the probability to stay below.",
            show_default="0.01; covariate 0.2",
        ),
    ] = None,
    sd: Annotated[
        float,
        typer.Option(
            min=0, help="How much individuals differ, nats: standard deviation of the coefficient, and of staying."
        ),
    ] = 0.3,
    studies: Annotated[int, typer.Option(min=1, help="Simulated studies for each row.")] = 100,
    power: Annotated[float, typer.Option(help="The power wanted of a study.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Level of the two-sided test.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated studies.")] = 0,
    record: Annotated[
        str | None, typer.Option(help="Record the table in this registry, for the papers made from it.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Simulate studies of N individuals and T days with a known truth, and tell how often an effect is found."""
    grid = [_counts(option, text) for option, text in (("--individuals", individuals), ("--days", days))]
    if not 0 < power < 1:
        raise ValueError(f"--power must lie between 0 and 1, such as 0.8; got {power}.")
    from mimic.power import animals_needed, power_table

    with progress_bars() as progress:
        table = power_table(
            cast("Effect", effect),
            size=_DEFAULT_SIZES.get(effect, 0.0) if size is None else size,
            individuals=grid[0],
            days=grid[1],
            sd=sd,
            n_studies=studies,
            seed=seed,
            alpha=alpha,
            progress=progress,
        )
    needed = animals_needed(table, power=power)
    if record is not None:
        from mimic.registry import Registry
        from mimic.subjects import record_power

        record_power(table, Registry(record))
    result = {"effect": effect, "seed": seed, "power": table.to_dict("records"), "needed": needed.to_dict("records")}
    answer(result, as_json, lambda: format_power(table, needed))


def format_power(table: pd.DataFrame, needed: pd.DataFrame) -> str:
    """What the command prints: the question, a row a number of individuals x days, and how many animals it takes."""
    first = table.iloc[0]
    asked = _ASKED[first["effect"]].format(share=0.5 + first["size"], size=first["size"])
    lines = [
        f"{asked[0].upper()}{asked[1:]}",
        f"Individuals differ by {first['sd']:g} nats; {first['n_studies']} simulated studies a row.",
        "",
        "individuals  days  found %  +-   truth    mean    rmse  mean_se  coverage %",
    ]
    for row in table.to_dict(orient="records"):
        numbers = "  ".join(f"{_number(row[name]):>6}" for name in ("truth", "mean_estimate", "rmse"))
        lines.append(
            f"{row['n_individuals']:>11}  {row['n_days']:>4}  {100 * row['power']:>7.0f}  {100 * row['power_se']:>2.0f}  "
            f"{numbers}  {_number(row['mean_se']):>7}  {_percent(row['coverage']):>10}"
        )
    return "\n".join([*lines, "", *(_sentence(row) for row in needed.to_dict(orient="records"))])


def _sentence(row: Mapping[Any, Any]) -> str:
    """How many animals one number of days takes."""
    start = f"{row['n_days']} days, found in {100 * row['power']:g} % of studies: "
    n, basis = row["n_individuals"], row["basis"]
    if basis == "nothing to find":
        return f"{row['n_days']} days: nothing to find; {100 * row['alpha']:g} % are expected to be found by chance"
    if n != n:
        return start + "more individuals than these"
    count = f"{n:,.0f}" if n <= _LONGEST else f"more than {_LONGEST:,}"
    named = {"at most": f"{count} individuals or fewer", "between": f"about {count} individuals"}
    return start + named.get(str(basis), f"about {count} individuals, by the standard error of the largest study here")


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.4f}"


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.0f}"


def _counts(option: str, text: str) -> list[int]:
    """Whole numbers with commas between them."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} expects whole numbers with commas, such as 5,10,20; got {text!r}.") from None

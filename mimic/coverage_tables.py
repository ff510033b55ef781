"""A coverage report into tables of text and CSV files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mimic.hexgrid import centroids
from mimic.textable import align

if TYPE_CHECKING:
    from mimic.coverage import Coverage

__all__ = ["coverage_tables", "format_coverage", "lost_by", "percent", "write_tables"]

_WORST = 5


def coverage_tables(found: Coverage) -> dict[str, pd.DataFrame]:
    """Every table of a report, by the name of its file.

    Returns
    -------
    dict
        shares, shares_by_month, shares_by_region, shares_by_month_and_region; losses, losses_by_month,
        losses_by_region, losses_by_individual; costs. Regions that are H3 cells bring the longitude and latitude of
        their centers, degrees.
    """
    tables = {"shares": found.shares()}
    for by in (["month"], ["region"], ["month", "region"]):
        tables[f"shares_by_{'_and_'.join(by)}"] = found.shares(by)
    tables["losses"] = found.losses()
    for by in (["month"], ["region"], ["individual"]):
        tables[f"losses_by_{by[0]}"] = found.losses(by)
    tables["costs"] = found.costs()
    return {name: _with_places(table) for name, table in tables.items()}


def lost_by(found: Coverage, by: str) -> pd.DataFrame:
    """Decisions that are lost, one row a group: the group, n_decisions, n_lost, share_lost."""
    lost = (found.decisions["first_reason"] > 0).groupby(found.decisions[by], sort=True)
    table = pd.DataFrame({"n_decisions": lost.size(), "n_lost": lost.sum()}).reset_index()
    return table.assign(share_lost=table["n_lost"] / table["n_decisions"])


def format_coverage(found: Coverage) -> str:
    """The report as text: what has a value, why decisions are lost, where most are, and what each covariate costs."""
    n, choices = len(found.decisions), int(found.decisions["n_choices"].sum())
    usable = int(found.decisions["n_usable"].sum())
    parts = [
        f"{n:,} decisions, {choices:,} choices within reach, of which {usable:,} ({percent(usable / choices)}) "
        "have all covariates and lie in the domain",
        _format_shares(found),
        _format_losses(found),
        *(_format_where(found, by) for by in ("month", "region", "individual")),
        _format_costs(found),
    ]
    return "\n\n".join(part for part in parts if part)


def write_tables(tables: Mapping[str, pd.DataFrame], folder: str | Path) -> list[Path]:
    """The CSV files that the tables are now in, each written whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, table in tables.items():
        path = folder / f"{name}.csv"
        temporary = folder / f".{name}.{os.getpid()}.csv"
        try:
            table.to_csv(temporary, index=False, lineterminator="\n")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written


def percent(share: float) -> str:
    """A share in percent that says 100 % and 0 % only of all and of nothing.

    Example
    -------
    >>> percent(1.0), percent(0.99999), percent(0.5), percent(0.00001), percent(0.0)
    ('100 %', '>99.9 %', '50.0 %', '<0.1 %', '0 %')
    """
    if np.isnan(share):
        return "-"
    if share in (0.0, 1.0):
        return f"{100 * share:.0f} %"
    return "<0.1 %" if share < 0.001 else ">99.9 %" if share > 0.999 else f"{100 * share:.1f} %"


# ---------------------------------------------------------------- text


def _format_shares(found: Coverage) -> str:
    table = found.shares()
    lines = [["covariate", "choices", "selected", "origins", "worst month", ""]]
    by_month = found.shares(["month"])
    for row in table.to_dict(orient="records"):
        mine = by_month[by_month["covariate"] == row["covariate"]]
        worst = mine.iloc[int(np.argmin(mine["share_choices"].to_numpy()))]
        name = f"{row['covariate']} (filled)" if row["covariate"] in found.filled else str(row["covariate"])
        shares = [percent(float(row[f"share_{of}"])) for of in ("choices", "selected", "origins")]
        month = [str(worst["month"]), percent(float(worst["share_choices"]))] if row["share_choices"] < 1 else ["", ""]
        lines.append([name, *shares, *month])
    return "\n".join(["share with a value", *align(lines, {0})])


def _format_losses(found: Coverage) -> str:
    table = found.losses()
    lines = [["decisions lost", "first reason", "any reason"]]
    lines += [
        [str(row["reason"]), f"{row['n_first']:,}", f"{row['n_any']:,}"]
        for row in table.to_dict(orient="records")
        if row["n_any"] or row["n_first"]
    ]
    n = len(found.decisions)
    lines.append(["in all", f"{found.n_lost:,} of {n:,}", ""])
    return "\n".join(align(lines, {0}))


def _format_where(found: Coverage, by: str) -> str:
    """The groups that lose most, or nothing where none loses any."""
    table = lost_by(found, by)
    table = table[table["n_lost"] > 0].sort_values(["n_lost", by], ascending=[False, True], kind="stable")
    if len(table) == 0:
        return ""
    lines = [[f"most lost by {by}", "lost", "of", "share"]]
    lines += [
        [_name(row[by]), f"{row['n_lost']:,}", f"{row['n_decisions']:,}", percent(float(row["share_lost"]))]
        for row in table.head(_WORST).to_dict(orient="records")
    ]
    more = [f"... and {len(table) - _WORST} more"] if len(table) > _WORST else []
    return "\n".join([*align(lines, {0}), *more])


def _format_costs(found: Coverage) -> str:
    lines = [["decisions left with", "left", "lost"]]
    lines += [
        [str(row["scenario"]), f"{row['n_left']:,}", f"{row['n_lost']:,}"]
        for row in found.costs().to_dict(orient="records")
    ]
    return "\n".join(align(lines, {0}))


def _with_places(table: pd.DataFrame) -> pd.DataFrame:
    if "region" not in table or not pd.api.types.is_integer_dtype(table["region"]):
        return table
    longitude, latitude = centroids(table["region"].to_numpy(dtype=np.int64))
    at = list(table.columns).index("region") + 1
    table.insert(at, "longitude", longitude.round(4))
    table.insert(at + 1, "latitude", latitude.round(4))
    return table


def _name(value: object) -> str:
    """A group as people read it: a cell by its center."""
    if not isinstance(value, int | np.integer):
        return str(value)
    longitude, latitude = centroids(np.array([value]))
    return f"{value} ({longitude[0]:.1f}, {latitude[0]:.1f})"

"""Studies and recorded simulations into the subjects of a paper."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from mimic.drawn import figure_of
from mimic.identity import table_id
from mimic.palette import COLUMN_CM
from mimic.paper_items import NUMBER_COLUMNS, PaperFigure, PaperTable, Subject
from mimic.power import animals_needed
from mimic.registry import Registry
from mimic.study import Study
from mimic.study_facts import study_facts
from mimic.study_figures import study_figures
from mimic.study_learning import learning_figures
from mimic.study_maps import study_maps
from mimic.study_numbers import study_numbers
from mimic.study_tables import study_tables
from mimic.written import FORMS, count, percent, plain_number

__all__ = ["POWER", "power_subject", "record_power", "recorded_power", "study_subject"]

POWER = "power"
"""The name of the power simulation in a paper."""


def study_subject(study: Study) -> Subject:
    """A study as the subject of a paper."""
    return Subject(
        name=study.name,
        run_ids=study.run_ids,
        sources=study.sources,
        facts=study_facts(study),
        numbers=lambda: study_numbers(study),
        tables=study_tables(study),
        figures=[*study_maps(study), *study_figures(study), *learning_figures(study)],
    )


def record_power(table: pd.DataFrame, registry: Registry) -> str:
    """Record the table of a power simulation as the one that papers tell of; the id of its record."""
    return registry.record_evaluation({"simulation": POWER}, table, replace=True)


def recorded_power(registry: Registry) -> pd.DataFrame | None:
    """The power simulation that was recorded last, or None."""
    return registry.find_evaluation({"simulation": POWER})


def power_subject(table: pd.DataFrame) -> Subject:
    """A power simulation, the table of `mimic.power.power_table`, as the subject of a paper."""
    facts = {
        "title": "power of a study",
        "kind": "simulation",
        "record": table_id(table),
        "effect": str(table["effect"].iloc[0]),
    }
    makers: list[Callable[[], PaperTable | None]] = [lambda: _power_table(table)]
    figures: list[Callable[[], PaperFigure | list[PaperFigure] | None]] = [lambda: _power_figure(table)]
    return Subject(
        name=POWER,
        run_ids=[],
        sources={POWER: table_id(table)},
        facts=facts,
        numbers=lambda: _power_numbers(table),
        tables=makers,
        figures=figures,
    )


def _power_numbers(table: pd.DataFrame) -> pd.DataFrame:
    rows = [(name, float(value), FORMS[form](float(value))) for name, value, form in _power_values(table)]
    return pd.DataFrame(rows, columns=NUMBER_COLUMNS).astype({"name": "str", "value": np.float64, "text": "str"})


def _power_values(table: pd.DataFrame) -> Iterator[tuple[str, float, str]]:
    first = table.iloc[0]
    yield "n_studies", first["n_studies"], "count"
    yield "size", first["size"], "number"
    yield "share", 0.5 + first["size"], "percent"
    yield "sd", first["sd"], "number"
    yield "alpha", first["alpha"], "percent"
    for row in table.to_dict(orient="records"):
        place = f"{row['n_individuals']}/{row['n_days']}"
        yield f"{place}/power", row["power"], "percent"
        yield f"{place}/mean_estimate", row["mean_estimate"], "number"
        yield f"{place}/coverage", row["coverage"], "percent"
    for row in animals_needed(table).to_dict(orient="records"):
        yield f"needed/{row['n_days']}", row["n_individuals"], "count"


def _power_table(table: pd.DataFrame) -> PaperTable:
    shown = pd.DataFrame(
        {
            "animals": table["n_individuals"].map(count),
            "days": table["n_days"].map(count),
            "found": table["power"].map(percent),
            "truth": table["truth"].map(plain_number),
            "mean estimate": table["mean_estimate"].map(plain_number),
            "rmse": table["rmse"].map(plain_number),
            "coverage": table["coverage"].map(percent),
        }
    )
    n = int(table["n_studies"].iloc[0])
    caption = (
        f"Power: share of {n} simulated studies in which the effect ({table['effect'].iloc[0]}) was found, by number of "
        "animals and of days; coverage is that of the 95 % interval"
    )
    return PaperTable("power", caption, table, shown, (POWER,))


def _power_figure(table: pd.DataFrame) -> PaperFigure:
    def draw() -> Any:
        from mimic.power_figures import draw_power

        return figure_of(lambda: draw_power(table, width_cm=COLUMN_CM))

    caption = "Share of simulated studies in which the effect was found, by number of animals and of days"
    return PaperFigure("power", caption, (POWER,), {"": table}, draw, COLUMN_CM)

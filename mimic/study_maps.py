"""A study into the maps of its paper: tracks, covariates, one choice set, where one model beats another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mimic.cell_values import covariate_cells
from mimic.drawn import COMPARED, pair_of_study, to_draw
from mimic.exemplars import choice_set_table, difference_map_table, exemplar_decisions
from mimic.palette import COLUMN_CM, PAGE_CM
from mimic.paper_items import PaperFigure
from mimic.points import differs_within
from mimic.schema import INDIVIDUAL, TIME, VALIDATION
from mimic.study import Study

__all__ = ["study_maps"]


def study_maps(study: Study) -> list[Callable[[], PaperFigure | list[PaperFigure] | None]]:
    """Makers of these figures; None where there are no cells, or nothing to show."""
    makers = [_tracks, _covariate, _choice_set, _difference]
    return [partial(make, study) for make in makers]


def _tracks(study: Study) -> PaperFigure | None:
    if study.tracks is None:
        return None
    tracks, by = study.tracks, study.configuration.figures.color_by
    if by not in tracks:
        by = INDIVIDUAL
    caption = f"Tracks of {tracks[INDIVIDUAL].nunique()} animals, {len(tracks):,} fixes after cleaning and resampling"
    caption += "" if by == INDIVIDUAL else f", colored by {by.replace('_', ' ')}"

    def draw() -> Any:
        from mimic.maps import draw_tracks

        return draw_tracks(tracks, color_by=by, width_cm=COLUMN_CM)

    return to_draw("tracks", caption, ("tracks", "configuration"), {"": tracks}, draw)


def _covariate(study: Study) -> list[PaperFigure] | None:
    """One map for each covariate, or feature made of it, that a model takes; the last one under the plain name."""
    if not study.is_spatial:
        return None
    cs = study.choice_sets
    used = {feature for model in study.configuration.models.values() for feature in model.features}
    names = [
        name for name in cs.features if name in used and cs.info[name].role == "choice" and differs_within(cs, name)
    ]
    names = [name for name in names if len(np.unique(cs.features[name][:20_000])) > 2]
    if not names:
        return None
    found = []
    for name in names:
        table = covariate_cells(study.choice_sets, name)
        caption = f"{name.replace('_', ' ')} on the H3 cells of all choice sets{_period(table)}"

        def draw(table: pd.DataFrame = table, name: str = name) -> Any:
            from mimic.cell_figures import draw_cells

            return draw_cells(table, label=name.replace("_", " "), width_cm=COLUMN_CM)

        shown = "covariate" if name == names[-1] else f"covariate_{name}"
        found.append(to_draw(shown, caption, ("choices",), {"": table}, draw))
    return found


def _period(table: pd.DataFrame) -> str:
    """When the values of a map are from, as its table says it."""
    for column in ("period", "time_utc"):
        if column in table and table[column].notna().any():
            return f", {table[column].iloc[0]}"
    return ""


def _choice_set(study: Study) -> PaperFigure | None:
    pair = pair_of_study(study)
    if not study.is_spatial or pair is None:
        return None
    model, other = pair
    found = exemplar_decisions(
        study.log_odds, study.choice_sets, model, other, n=1, splits=[VALIDATION], choice_group=_moves(study)
    )
    if found.empty:
        return None
    one = found.iloc[0]
    both = {name: study.log_odds[name] for name in (other, model)}
    table = choice_set_table(both, study.choice_sets, one[INDIVIDUAL], one["decision"])
    when = f" on {one[TIME]:%Y-%m-%d %H:%M} UTC" if TIME in one and pd.notna(one[TIME]) else ""
    caption = (
        f"The choice set of one decision, of {one[INDIVIDUAL]}{when}, with the probability that {other} and {model} gave "
        f"to each cell: of all moves of validation animals the one that {model} explains best against {other}"
    )

    def draw() -> Any:
        from mimic.explanation_figures import draw_exemplar_decision

        return draw_exemplar_decision(table, width_cm=PAGE_CM)

    return to_draw("choice_set", caption, COMPARED, {"": table}, draw, PAGE_CM)


def _moves(study: Study) -> str:
    return "distance_km > 0" if "distance_km" in study.choice_sets.features else "all"


def _difference(study: Study) -> PaperFigure | None:
    pair = pair_of_study(study)
    if not study.is_spatial or pair is None:
        return None
    model, other = pair
    table = difference_map_table(study.log_odds, study.choice_sets, model, other, splits=[VALIDATION])
    individual = study.configuration.figures.individual
    individual = individual or str(table.groupby(INDIVIDUAL)["difference"].sum().idxmax())
    own = table[table[INDIVIDUAL] == individual]
    if own.empty:
        own = difference_map_table(study.log_odds, study.choice_sets, model, other, individual=individual)
    caption = (
        f"Decisions of {individual}, the validation animal with the largest gain: arrows from origin to selected cell, blue "
        f"where {model} (A) gave more probability than {other} (B), orange where less"
    )
    if study.configuration.figures.individual:
        caption = caption.replace(", the validation animal with the largest gain", "")

    def draw() -> Any:
        from mimic.maps import draw_difference_map

        return draw_difference_map(own, width_cm=COLUMN_CM)

    return to_draw("difference", caption, COMPARED, {"": own}, draw)

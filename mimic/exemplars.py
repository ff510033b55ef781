"""Log-odds of two models into exemplars: the individuals and decisions that one helps and harms most, and their maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import few_note, mean_intervals
from mimic.coastline import degrees_east, degrees_north
from mimic.contrasts import Weighting
from mimic.evaluation import decision_table
from mimic.expressions import EVERYTHING
from mimic.groups import choice_mask, split_masks
from mimic.hexgrid import cell_at, centroids, check_cells, resolution_of
from mimic.probability import grouped_log_softmax
from mimic.schema import DECISION, INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, SPLIT, TIME, ChoiceSets, require_columns

__all__ = [
    "EXEMPLAR_COLUMNS",
    "choice_set_table",
    "difference_map_table",
    "exemplar_decisions",
    "exemplars",
]

EXEMPLAR_COLUMNS = [
    "model",
    "other",
    "by",
    "value",
    "split",
    "choice_group",
    "n_individuals",
    "n_decisions",
    "difference",
    "difference_low",
    "difference_high",
    "total",
    "share_improved",
    "rank",
    "side",
    "note",
]

HELPED, HARMED = "helped", "harmed"
_CALENDAR = ("month", "hour", "year", "day_of_year")
_COARSER = 2  # resolutions: a region holds about 49 cells


def exemplars(
    log_odds: Mapping[str, np.ndarray],
    cs: ChoiceSets,
    model: str,
    other: str,
    *,
    by: str = INDIVIDUAL,
    n: int | None = 5,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
    weighting: Weighting = "individual",
    min_decisions: int = 1,
    region_resolution: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Which individuals, months or regions one model explains better, and which worse, than another.

    Parameters
    ----------
    log_odds
        Model -> (row,), nats.
    model, other
        Names of the two. A positive difference favors `model`.
    by
        A decision column such as "individual"; "month", "hour", "year" or "day_of_year" of the time; or "region": the
        column of that name where there is one, else the coarse H3 cell that holds the origin, named by its center.
    n
        So many from the top and so many from the bottom of each split; None for all.
    choice_group
        Condition on choices, see `mimic.evaluation.evaluate`; "distance_km > 0" compares moves.
    splits
        By default those that occur. Ranks are within a split.
    weighting
        Of the mean over the decisions of a month or a region.
    min_decisions
        Values with fewer decisions are left out: their means are mostly noise, and would be at both ends.
    region_resolution
        H3 resolution of regions; by default two coarser than the choices.

    Returns
    -------
    Columns `EXEMPLAR_COLUMNS`, from the most helped (rank 1) to the most harmed. difference: mean of ln p(selected)
    by model less that by other, nats, with an interval from a bootstrap over individuals (NaN where there is only one,
    as for every individual itself); total: the sum over decisions, whatever the weighting; share_improved: of decisions with a positive
    difference. side is "helped" or "harmed" by the sign, "" at 0. Values are text; missing ones make no row.

    Raises
    ------
    ValueError
        If a model or column is unknown, `n` is less than 1, or regions are asked of choices that are no cells.

    Example
    -------
    Model m gives 1/2 to what fish a selected and 1/4 to what fish b did; the other 1/3 to both.

    >>> decisions = pd.DataFrame({"individual": ["a", "b"], "decision": [1, 1]})
    >>> cs = ChoiceSets(decisions, [0, 3, 6], [1, 2, 3] * 2, [0, 3])
    >>> phi = {"m": np.log([2, 1, 1, 1, 1, 2.0]), "null": np.zeros(6)}
    >>> table = exemplars(phi, cs, "m", "null")
    >>> np.exp(table["difference"]).round(3).tolist(), table["side"].tolist()  # 3/2 and 3/4 times as likely
    ([1.5, 0.75], ['helped', 'harmed'])
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be 1 or more, or None for all; got {n}.")
    table, index = _differences(log_odds, cs, model, other, choice_group)
    values = _values(cs, by, region_resolution)[index]
    parts = []
    for split, mask in split_masks(cs, splits).items():
        rows = []
        inside = mask[index] & pd.notna(values)
        for value, group in table[inside].groupby(values[inside], sort=True):
            if len(group) < min_decisions:
                continue
            codes = pd.factorize(group[INDIVIDUAL])[0]
            d = group["difference"].to_numpy()
            found = mean_intervals(d, codes, weighting=weighting, level=level, seed=seed)
            mean, low, high = (float(x[0]) for x in (found.estimate, found.low, found.high))
            note = "" if by == INDIVIDUAL else few_note(found.n_individuals)
            rows.append(
                [str(value), found.n_individuals, len(d), mean, low, high, float(d.sum()), float(np.mean(d > 0)), note]
            )
        names = ["value", "n_individuals", "n_decisions", "difference", "difference_low", "difference_high"]
        found_rows = pd.DataFrame(rows, columns=[*names, "total", "share_improved", "note"])
        parts.append(_ends(found_rows, n).assign(split=split))
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(model=model, other=other, by=by, choice_group=choice_group)[EXEMPLAR_COLUMNS]


def exemplar_decisions(
    log_odds: Mapping[str, np.ndarray],
    cs: ChoiceSets,
    model: str,
    other: str,
    *,
    n: int | None = 5,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The single decisions that one model explains best and worst against another.

    Parameters
    ----------
    log_odds, model, other, n, choice_group, splits
        As in `exemplars`.

    Returns
    -------
    One row a decision, from the most helped: model, other, rank, side, split, individual, decision, time_utc and
    origin where known, selected (the choice), n_choices (in the group), p_model and p_other (of the selected),
    rank_model and rank_other (place of the selected among the choices by probability, 1 is the most likely; ties share
    the mean place), distance_km of the selected where known, and difference, nats.

    Raises
    ------
    ValueError
        As `exemplars`.
    """
    if n is not None and n < 1:
        raise ValueError(f"n must be 1 or more, or None for all; got {n}.")
    table, index = _differences(log_odds, cs, model, other, choice_group)
    inside = choice_mask(cs, choice_group)
    parts = []
    for split, mask in split_masks(cs, splits).items():
        kept = mask[index]
        parts.append(_ends(table[kept].assign(_index=index[kept]), n).assign(**{SPLIT: split}))
    found = pd.concat(parts, ignore_index=True)
    taken = found["_index"].to_numpy(dtype=np.int64)
    selected = cs.selected[taken]
    columns: dict[str, Any] = {
        "model": model,
        "other": other,
        "selected": cs.choice[selected],
        "p_model": np.exp(found[f"ln p {model}"].to_numpy()),
        "p_other": np.exp(found[f"ln p {other}"].to_numpy()),
        "rank_model": [_place(log_odds[model], cs, d, inside) for d in taken],
        "rank_other": [_place(log_odds[other], cs, d, inside) for d in taken],
    }
    if "distance_km" in cs.features:
        columns["distance_km"] = cs.features["distance_km"][selected].astype(np.float64)
    found = found.assign(**columns)
    order = ["model", "other", "rank", "side", SPLIT, INDIVIDUAL, DECISION, TIME, ORIGIN, "selected", "n_choices"]
    order += ["p_model", "p_other", "rank_model", "rank_other", "distance_km", "difference"]
    return found[[name for name in order if name in found]]


def difference_map_table(
    log_odds: Mapping[str, np.ndarray],
    cs: ChoiceSets,
    model: str,
    other: str,
    *,
    individual: str | None = None,
    by: str | None = None,
    value: str | None = None,
    choice_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Where one model explains decisions better than another: the table that `mimic.maps.draw_difference_map` draws.

    Parameters
    ----------
    individual
        Only its decisions; by default all.
    by, value
        Only decisions of this value of a column, month or region, as `exemplars` names it.

    Returns
    -------
    One row a decision: individual, decision, longitude, latitude, longitude_selected, latitude_selected (degrees) and
    difference, nats.

    Raises
    ------
    ValueError
        If the choices are no H3 cells or have no origin: then there is no map. If no decision is left.
    """
    _check_spatial(cs)
    table, index = _differences(log_odds, cs, model, other, choice_group)
    wanted = np.logical_or.reduce(list(split_masks(cs, splits).values()))[index]
    if individual is not None:
        wanted &= (table[INDIVIDUAL] == individual).to_numpy()
    if by is not None:
        wanted &= np.array([str(one) == value for one in _values(cs, by, None)[index]], dtype=bool)
    if not wanted.any():
        whose = individual or (f"{by} {value}" if by else "any individual")
        raise ValueError(f"no decision of {whose} with a known selection in these splits.")
    table, index = table[wanted].reset_index(drop=True), index[wanted]
    longitude, latitude = centroids(cs.decisions[ORIGIN].to_numpy()[index])
    to_longitude, to_latitude = centroids(cs.choice[cs.selected[index]])
    places = {
        LONGITUDE: longitude,
        LATITUDE: latitude,
        "longitude_selected": to_longitude,
        "latitude_selected": to_latitude,
    }
    return table[[INDIVIDUAL, DECISION, "difference"]].assign(**places)


def choice_set_table(
    log_odds: Mapping[str, np.ndarray], cs: ChoiceSets, individual: str, decision: int, *, spatial: bool = True
) -> pd.DataFrame:
    """The choices of one decision with their probability by each model.

    Parameters
    ----------
    spatial
        Whether choices must be cells, so that the table can be drawn as a map.

    Returns
    -------
    One row a choice: individual, decision, choice, is_selected, is_origin (False where unknown), and for each model a
    column `p <model>`.

    Raises
    ------
    ValueError
        If there is no such decision, or it has no map.
    """
    if spatial:
        _check_spatial(cs)
    found = np.flatnonzero((cs.individuals == individual) & (cs.decisions[DECISION] == decision).to_numpy())
    if len(found) == 0:
        raise ValueError(f"no decision {decision} of individual {individual} in these choice sets.")
    d = int(found[0])
    rows = slice(cs.offsets[d], cs.offsets[d + 1])
    choice = cs.choice[rows]
    own = np.array([0, len(choice)])
    origin = choice == cs.decisions[ORIGIN].iloc[d] if ORIGIN in cs.decisions else np.zeros(len(choice), dtype=bool)
    table = pd.DataFrame({INDIVIDUAL: individual, DECISION: decision, "choice": choice})
    table = table.assign(is_selected=cs.is_selected[rows], is_origin=origin)
    return table.assign(**{f"p {m}": np.exp(grouped_log_softmax(phi[rows], own)) for m, phi in log_odds.items()})


def _differences(
    log_odds: Mapping[str, np.ndarray], cs: ChoiceSets, model: str, other: str, choice_group: str
) -> tuple[pd.DataFrame, np.ndarray]:
    """The decision table of two models with their difference, and which decisions (of all) its rows are."""
    unknown = [name for name in (model, other) if name not in log_odds]
    if unknown or model == other:
        raise ValueError(
            f"expected two different models of {', '.join(log_odds)}; got {model} and {other}."
            + (f" There is no {', '.join(unknown)}." if unknown else "")
        )
    # names that no column has, as a model may well be called null
    named = {f"ln p {m}": log_odds[m] for m in (model, other)}
    table = decision_table(named, cs, choice_group=choice_group)
    mask = choice_mask(cs, choice_group)
    index = np.flatnonzero((cs.selected >= 0) & mask[np.maximum(cs.selected, 0)])
    with np.errstate(invalid="ignore"):  # impossible by both
        return table.assign(difference=table[f"ln p {model}"] - table[f"ln p {other}"]), index


def _values(cs: ChoiceSets, by: str, region_resolution: int | None) -> np.ndarray:
    """What each decision belongs to: (decision,), numbers or text."""
    if by in cs.decisions and not (by == "region" and region_resolution is not None):
        return cs.decisions[by].to_numpy()
    if by in _CALENDAR and TIME in cs.decisions:
        return np.asarray(getattr(pd.DatetimeIndex(cs.decisions[TIME]), by))
    if by != "region":
        raise ValueError(
            f"cannot group decisions by {by}; known are region, {', '.join(_CALENDAR)} (with {TIME}) and the columns "
            f"{', '.join(map(str, cs.decisions.columns))}."
        )
    _check_spatial(cs)
    origin = cs.decisions[ORIGIN].to_numpy()
    own = resolution_of(origin[0])
    coarse = max(0, own - _COARSER) if region_resolution is None else region_resolution
    if not 0 <= coarse < own:
        raise ValueError(f"regions must be coarser than the choices, of resolution {own}; got {coarse}.")
    cells, place = np.unique(cell_at(*centroids(origin), coarse), return_inverse=True)
    names = [f"{degrees_north(lat, 1)} {degrees_east(lon, 1)}" for lon, lat in zip(*centroids(cells), strict=True)]
    # cells finer than a tenth of a degree share such names
    labels = names if len(set(names)) == len(names) else [str(cell) for cell in cells]
    return np.array(labels, dtype=object)[place]


def _check_spatial(cs: ChoiceSets) -> None:
    if ORIGIN not in cs.decisions or cs.choice.dtype.kind not in "iu":
        raise ValueError(
            "there is no map: these choices are no H3 cells with an origin, as a table of choices has none. "
            "The tables of exemplars need no map."
        )
    require_columns(list(cs.decisions.columns), [ORIGIN], where="decisions")
    try:
        check_cells(np.concatenate([cs.decisions[ORIGIN].to_numpy(dtype=np.int64), cs.choice]))
    except ValueError as error:
        raise ValueError(f"there is no map: {error}") from None


def _ends(table: pd.DataFrame, n: int | None) -> pd.DataFrame:
    """The rows ordered by their difference and ranked, without the middle."""
    ordered = table.sort_values("difference", ascending=False, kind="stable", ignore_index=True)
    side = np.where(ordered["difference"] > 0, HELPED, np.where(ordered["difference"] < 0, HARMED, ""))
    ordered = ordered.assign(rank=np.arange(1, len(ordered) + 1), side=side)
    if n is None or len(ordered) <= 2 * n:
        return ordered
    return pd.concat([ordered.head(n), ordered.tail(n)], ignore_index=True)


def _place(log_odds: np.ndarray, cs: ChoiceSets, decision: int, inside: np.ndarray) -> float:
    """Place of the selected choice among those of the group by log-odds, the largest first."""
    rows = slice(cs.offsets[decision], cs.offsets[decision + 1])
    phi = np.asarray(log_odds)[rows][inside[rows]]
    own = np.asarray(log_odds)[cs.selected[decision]]
    return float(np.count_nonzero(phi > own) + (np.count_nonzero(phi == own) + 1) / 2)

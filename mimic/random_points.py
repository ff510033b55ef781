"""Tracks into used steps and random steps to points anywhere, no cells: the choice sets of the field's own habit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from mimic.covariates import Covariate, sample
from mimic.hexgrid import EARTH_RADIUS_KM, bearing_rad, cell_at, distance_km
from mimic.ledger import Ledger
from mimic.movement_kernels import GammaSteps, VonMisesTurns
from mimic.schema import (
    BURST,
    DECISION,
    INDIVIDUAL,
    LATITUDE,
    LONGITUDE,
    TIME,
    ChoiceSets,
    FeatureInfo,
    require_columns,
)
from mimic.step_selection import integrated_step_selection

__all__ = [
    "STEP",
    "TURN",
    "destination",
    "draw_random_points",
    "fit_steps_and_turns",
    "random_points_study",
    "used_steps",
]

STEP, TURN = "step_km", "turn_rad"
"""Features of random points: length of a step, km, and its turn, radians, NaN where the previous heading is unknown."""

_HEADING = "previous_heading_rad"
_NEXT_LONGITUDE, _NEXT_LATITUDE = "next_longitude", "next_latitude"
_FINEST = 15  # cells half a meter wide stand for points


def used_steps(tracks: pd.DataFrame) -> tuple[pd.DataFrame, Ledger]:
    """Every fix whose next fix, one step later, is elsewhere.

    Parameters
    ----------
    tracks
        Resampled, as `mimic.choices.make_decisions` takes them.

    Returns
    -------
    steps
        The columns of the tracks, `decision` (from 0 within each individual), where the step ends (`next_longitude`,
        `next_latitude`), `step_km`, `turn_rad` and `previous_heading_rad`; the last two NaN in the first step of a burst
        and after a step without length.
    ledger
        Fixes without a next one, and steps of length 0, which have no direction and no logarithm.
    """
    require_columns(list(tracks.columns), [INDIVIDUAL, TIME, LONGITUDE, LATITUDE, BURST], where="tracks")
    longitude, latitude = tracks[LONGITUDE].to_numpy(float), tracks[LATITUDE].to_numpy(float)
    who, burst = tracks[INDIVIDUAL].to_numpy(), tracks[BURST].to_numpy()
    follows = np.zeros(len(tracks), dtype=bool)
    follows[1:] = (burst[1:] == burst[:-1]) & (who[1:] == who[:-1])
    has_next = np.append(follows[1:], False)
    here, there = np.flatnonzero(has_next), np.flatnonzero(has_next) + 1
    start, end = (longitude[here], latitude[here]), (longitude[there], latitude[there])
    arrival = np.full(len(tracks), np.nan)
    arrival[there] = _wrapped(bearing_rad(*end, *start) + np.pi)  # at the end of the great circle
    steps = tracks.iloc[here].reset_index(drop=True)
    steps[_NEXT_LONGITUDE], steps[_NEXT_LATITUDE] = end
    steps[STEP] = distance_km(*start, *end)
    steps[_HEADING] = arrival[here]
    steps[TURN] = _wrapped(bearing_rad(*start, *end) - arrival[here])
    moved = steps[STEP].to_numpy() > 0
    ledger = Ledger().dropped("random points", "no next fix one step later", who[~has_next], unit="fix")
    ledger = ledger.dropped("random points", "step of length 0", steps.loc[~moved, INDIVIDUAL], unit="fix")
    steps = steps[moved].reset_index(drop=True)
    steps[DECISION] = steps.groupby(INDIVIDUAL, sort=False).cumcount().astype("int64")
    return steps, ledger


def fit_steps_and_turns(steps: pd.DataFrame) -> tuple[GammaSteps, VonMisesTurns]:
    """The gamma of the lengths and the von Mises of the known turns of used steps. Give it training individuals only.

    Raises ValueError if there are none, or all are the same.
    """
    turns = steps[TURN].to_numpy()
    return GammaSteps.fit(steps[STEP].to_numpy()), VonMisesTurns.fit(turns[~np.isnan(turns)])


def draw_random_points(
    steps: pd.DataFrame,
    lengths: GammaSteps,
    turns: VonMisesTurns,
    covariates: Sequence[Covariate] = (),
    *,
    k: int,
    seed: int = 0,
) -> tuple[ChoiceSets, Ledger]:
    """Each used step beside `k` steps of random length and turn from the same position.

    Parameters
    ----------
    steps
        From `used_steps`.
    lengths, turns
        From `fit_steps_and_turns`. Where the previous heading is unknown all directions are equally likely.
    covariates
        Taken where each step ends, at the time when it starts: between the four points of the grid around it
        ("bilinear"), or at the nearest one where the covariate says so.
    seed
        Equal seeds give equal steps.

    Returns
    -------
    choice_sets
        Choice 0 is the used step, 1 to k the random ones. Features `step_km`, `turn_rad` and the covariates, for
        `mimic.step_selection.integrated_step_selection`. Decision columns as in `steps`.
    ledger
        Random points and used steps where a covariate has no value, and steps without a random point left.

    Raises
    ------
    ValueError
        If `k` is below 1, a column is missing, or a covariate has no value anywhere.

    Notes
    -----
    Random points that a covariate has no value for are left out, as is usual, which makes the lengths that are there
    differ from those drawn: give `integrated_step_selection` the distributions as `tentative`. There is no choice of
    staying among points, so that these coefficients of movement are not those of cells.

    References
    ----------
    Avgar, Potts, Lewis & Boyce 2016, doi:10.1111/2041-210X.12528.
    """
    if k < 1:
        raise ValueError(f"k must be 1 or more random steps; got {k}.")
    require_columns(list(steps.columns), [DECISION, STEP, TURN, _HEADING, _NEXT_LONGITUDE], where="steps")
    rng = np.random.default_rng(seed)
    n = len(steps)
    heading = steps[_HEADING].to_numpy()
    unknown = np.isnan(heading)[:, None]
    length = lengths.sample(n * k, rng).reshape(n, k)  # (decision, draw)
    turn = turns.sample(n * k, rng).reshape(n, k)
    anywhere = rng.uniform(-np.pi, np.pi, (n, k))
    bearing = np.where(unknown, anywhere, np.where(unknown, 0.0, heading[:, None]) + turn)
    longitude, latitude = destination(
        steps[LONGITUDE].to_numpy()[:, None], steps[LATITUDE].to_numpy()[:, None], bearing, length
    )
    features = {
        STEP: np.column_stack([steps[STEP], length]).ravel(),
        TURN: np.column_stack([steps[TURN], np.where(unknown, np.nan, turn)]).ravel(),
    }
    ends = cell_at(
        np.column_stack([steps[_NEXT_LONGITUDE], longitude]).ravel(),
        np.column_stack([steps[_NEXT_LATITUDE], latitude]).ravel(),
        _FINEST,
    )
    times = np.repeat(steps[TIME].to_numpy(dtype="datetime64[ns]"), k + 1)
    for covariate in covariates:
        at_points = covariate if covariate.method == "nearest" else replace(covariate, method="bilinear")
        features[covariate.name] = sample(at_points, ends, times)
    info = {STEP: FeatureInfo("pair", "km", "length of the step"), TURN: FeatureInfo("pair", "rad", "turn of the step")}
    info |= {c.name: FeatureInfo("choice", c.unit or "1", f"{c.name} where the step ends") for c in covariates}
    offsets = np.arange(n + 1) * (k + 1)
    everything = ChoiceSets(steps, offsets, np.tile(np.arange(k + 1), n), offsets[:-1], features, info)
    return _with_values(everything, [covariate.name for covariate in covariates])


def random_points_study(
    tracks: pd.DataFrame,
    covariates: Sequence[Covariate],
    *,
    k: Sequence[int] = (1, 4, 9, 19),
    repeats: int = 5,
    seed: int = 0,
) -> tuple[pd.DataFrame, Ledger]:
    """Integrated step selection on random points, for several k and again and again.

    Parameters
    ----------
    tracks
        Resampled fixes of the training individuals.
    covariates
        The habitat, where each step ends.
    k, repeats, seed
        Numbers of random steps, draws of each, and what their seeds are drawn from.

    Returns
    -------
    table
        One row a k and parameter: part ("habitat", "movement", "step_length", "turn_angle"), name, k, n_repeats,
        estimate (mean over repeats), estimate_sd, se (mean; cluster-robust by individual) and n_decisions. The parts
        "step_length" and "turn_angle" are the updated distributions, in km and radians.
    ledger
        Of the used steps, and of the first draw of the largest k.

    Raises
    ------
    ValueError
        As the functions it calls.
    """
    steps, ledger = used_steps(tracks)
    lengths, turns = fit_steps_and_turns(steps)
    parts = []
    for number, draw in enumerate(np.random.SeedSequence(seed).generate_state(repeats).tolist()):
        for count in k:
            cs, more = draw_random_points(steps, lengths, turns, covariates, k=count, seed=draw)
            if number == 0 and count == max(k):
                ledger += more
            fit = integrated_step_selection(
                cs,
                [covariate.name for covariate in covariates],
                step_length=STEP,
                turn_angle=TURN,
                tentative=lengths,
                tentative_turn=turns,
                errors="cluster",
            )
            parts.append(fit.summary().assign(k=count, n_decisions=cs.n_decisions))
    grouped = pd.concat(parts, ignore_index=True).groupby(["part", "name", "k"], sort=False)
    table = grouped.agg(
        n_repeats=("estimate", "size"),
        estimate_mean=("estimate", "mean"),
        estimate_sd=("estimate", "std"),
        se=("se", "mean"),
        n_decisions=("n_decisions", "mean"),
    )
    return table.reset_index().rename(columns={"estimate_mean": "estimate"}), ledger


def destination(
    longitude: np.ndarray, latitude: np.ndarray, bearing: np.ndarray, length_km: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where a great circle of a length, km, and a true bearing at its start, radians, ends: longitude, latitude.

    Example
    -------
    A quarter of the way around, to the east along the equator:

    >>> east = destination(0.0, 0.0, np.pi / 2, EARTH_RADIUS_KM * np.pi / 2)
    >>> [round(float(degrees), 6) for degrees in east]
    [90.0, 0.0]
    """
    lat, angle = np.radians(latitude), np.asarray(length_km) / EARTH_RADIUS_KM
    sine = np.sin(lat) * np.cos(angle) + np.cos(lat) * np.sin(angle) * np.cos(bearing)
    east = np.sin(bearing) * np.sin(angle) * np.cos(lat)
    degrees = longitude + np.degrees(np.arctan2(east, np.cos(angle) - np.sin(lat) * sine))
    return (degrees + 180) % 360 - 180, np.degrees(np.arcsin(np.clip(sine, -1, 1)))


def _with_values(cs: ChoiceSets, covariates: Sequence[str]) -> tuple[ChoiceSets, Ledger]:
    """Only steps that end where every covariate has a value, with an account of the others."""
    has = np.ones(cs.n_rows, dtype=bool)
    for name in covariates:
        has &= np.isfinite(cs.features[name])
    used = has[cs.selected]
    enough = used & (np.add.reduceat(has, cs.offsets[:-1], dtype=np.int64) > 1)
    kept = cs.restrict(has & np.repeat(enough, cs.n_choices))
    stage, who = "random points", cs.individuals
    ledger = Ledger().dropped(stage, "no covariate where the used step ends", who[~used], unit="decision")
    ledger = ledger.dropped(stage, "no random step left", who[used & ~enough], unit="decision")
    gone = np.repeat(~enough, cs.n_choices)
    ledger = ledger.dropped(stage, "of a dropped decision", [], unit="choice", n=int(gone.sum()))
    ledger = ledger.dropped(stage, "no covariate where it ends", [], unit="choice", n=int((~has & ~gone).sum()))
    ledger.check(cs.n_decisions, kept.n_decisions, "decision")
    ledger.check(cs.n_rows, kept.n_rows, "choice")
    return kept, ledger


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """Angles, radians, in [-pi, pi); NaN stays."""
    return (angle + np.pi) % (2 * np.pi) - np.pi

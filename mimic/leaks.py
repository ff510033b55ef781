"""Features into how well they alone tell the individual or the place: what a model could learn by heart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mimic.hexgrid import centroids, check_cells
from mimic.importance import feature_groups
from mimic.movement_features import BEARING
from mimic.schema import INDIVIDUAL, LATITUDE, LONGITUDE, ORIGIN, TIME, ChoiceSets

__all__ = ["LEAK_COLUMNS", "TELLS_INDIVIDUAL", "TELLS_PLACE", "leak_table"]

LEAK_COLUMNS = [
    "feature",
    "features",
    "target",
    "score",
    "chance",
    "above_chance",
    "ratio",
    "verdict",
    "n_individuals",
    "n_decisions",
    "note",
]

TELLS_INDIVIDUAL = 0.2
"""A feature tells the individual from this far on the way from guessing (0) to knowing (1)."""

TELLS_PLACE = 0.8
"""A feature tells the place from this share of the variance of places on."""

ALL = "all together"
_N_FOLDS = 5
_N_TREES = 30
_SMALLEST_LEAF = 10
_PLACE_LEAF_SHARE = 0.02  # smaller leaves learn the depth of single cells by heart, to the meter, which networks do not


def leak_table(
    cs: ChoiceSets,
    features: Sequence[str] | None = None,
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
    max_decisions: int = 7000,
    seed: int = 0,
) -> pd.DataFrame:
    """How well each feature alone, and all together, tell the individual and the place.

    Parameters
    ----------
    cs
        In general all decisions of a study. What is looked at is the selected choice of each; decisions without a
        known selection are left out.
    features, groups
        By default all features but a bearing, sine and cosine of an angle as one; `groups` (name -> features) takes
        their place.
    max_decisions
        More are sampled down, with individuals as evenly there as they can be.
    seed
        Of the sample, the folds and the trees.

    Returns
    -------
    Columns `LEAK_COLUMNS`, two rows a feature. target "individual": score is the balanced accuracy (mean over
    individuals of the share of their decisions that are told right), chance 1 / individuals; ratio = score / chance.
    target "place": score is R^2, the share of the variance of the origin (as a point in space, so that no longitude is
    an edge) that is predicted, chance 0; ratio: how many times nearer than the mean place the prediction is (root mean
    square). A negative score is worse than the mean. above_chance = (score - chance) / (1 - chance) is what the verdict
    is by: "tells the individual" from `TELLS_INDIVIDUAL` on, "tells the place" from `TELLS_PLACE`, with the figure.
    Where there are no places, or fewer than two individuals, the score is NaN and `note` says why.

    Raises
    ------
    ValueError
        If a feature is unknown or not finite, or no selection is known.

    Notes
    -----
    Forests of 30 trees. For individuals, five blocks of time within each individual are left out in turn. Not
    decisions at random: neighbors in time are nearly equal, and any feature would know the decision between the two
    that it has seen. A balanced score needs no permutations to know its chance. Individuals with fewer than five
    decisions are left out. For places whole individuals are left out, five parts of them in turn, and the trees' leaves
    hold at least 2 % of the decisions.

    The thresholds lie between what was measured on 6,589 decisions of 100 synthetic salmon and 4,396 of 31 tuna
    without leaks (a single feature at most .15 above chance for the individual, R^2 at most .72) and with planted
    ones (body length in whole cm .28 and .60; longitude and latitude R^2 .97 and .90). Ordinary covariates all together
    reached R^2 .85 on the salmon, whose four stocks keep apart: such a model may know the place.
    A leak need not harm: what counts is how the model does on individuals never seen. Nor is a table without one a
    proof.
    """
    known = cs.selected >= 0
    if not known.any():
        raise ValueError("expected decisions with a known selection; got none.")
    every = [name for name in cs.features if name != BEARING] if features is None else features
    wanted = feature_groups(every) if groups is None else dict(groups)
    names = list(dict.fromkeys(name for together in wanted.values() for name in together))
    values = _selected_values(cs, names, known)
    fold, is_used = _time_folds(cs, known)
    place = _places(cs, known)
    codes = cs.individual_codes[known]
    rng = np.random.default_rng(seed)
    taken = _sampled(codes, max_decisions, rng)
    by_individual = rng.permutation(codes.max() + 1)[codes] % _N_FOLDS
    if len(wanted) > 1:
        wanted = {**wanted, ALL: names}
    rows = []
    for feature, together in wanted.items():
        x = values[:, [names.index(name) for name in together]]
        used = taken & is_used
        row = {"feature": feature, "features": ", ".join(together)}
        rows.append(row | _individual_score(x[used], codes[used], fold[used], seed))
        at = None if place is None else place[taken]
        rows.append(row | _place_score(x[taken], at, codes[taken], by_individual[taken], seed))
    return pd.DataFrame(rows)[LEAK_COLUMNS]


def _selected_values(cs: ChoiceSets, names: Sequence[str], known: np.ndarray) -> np.ndarray:
    """Features of the selected choice: (known decision, feature)."""
    values = cs.matrix(names)[cs.selected[known]]
    bad = [name for name, column in zip(names, values.T, strict=True) if not np.isfinite(column).all()]
    if bad:
        raise ValueError(f"features must be finite; got NaN or infinity in {', '.join(bad)}. Drop these choices first.")
    return values


def _time_folds(cs: ChoiceSets, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The block of time of each decision within its individual, and whether the individual has enough: (decision,)."""
    codes = cs.individual_codes[known]
    time = cs.decisions[TIME].to_numpy()[known] if TIME in cs.decisions else np.arange(len(codes))
    n = np.bincount(codes)
    order = np.lexsort((time, codes))
    position = np.empty(len(codes), dtype=np.int64)
    position[order] = np.arange(len(codes)) - (np.cumsum(n) - n)[codes[order]]
    return position * _N_FOLDS // n[codes], n[codes] >= _N_FOLDS


def _places(cs: ChoiceSets, known: np.ndarray) -> np.ndarray | None:
    """Origins as points on the unit sphere: (known decision, 3); None where they are not known."""
    decisions = cs.decisions.loc[known]
    if ORIGIN in decisions and decisions[ORIGIN].dtype.kind in "iu":
        try:
            check_cells(decisions[ORIGIN].to_numpy())
        except ValueError:
            return None
        longitude, latitude = centroids(decisions[ORIGIN].to_numpy())
    elif LONGITUDE in decisions and LATITUDE in decisions:
        longitude, latitude = (decisions[name].to_numpy(dtype=np.float64) for name in (LONGITUDE, LATITUDE))
        if not np.isfinite(longitude + latitude).all():
            return None
    else:
        return None
    east, north = np.radians(longitude), np.radians(latitude)
    return np.column_stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)])


def _sampled(codes: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Which decisions are used: (decision,), bool, at most n, individuals as even as can be."""
    if len(codes) <= n:
        return np.ones(len(codes), dtype=bool)
    shuffled = rng.permutation(len(codes))
    turn = pd.Series(codes[shuffled]).groupby(codes[shuffled]).cumcount().to_numpy()
    taken = np.zeros(len(codes), dtype=bool)
    taken[shuffled[np.argsort(turn, kind="stable")[:n]]] = True
    return taken


def _individual_score(x: np.ndarray, codes: np.ndarray, fold: np.ndarray, seed: int) -> dict[str, object]:
    """The row of the table for the target individual, without the names of the features."""
    n = len(np.unique(codes))
    if n < 2:
        return _row(INDIVIDUAL, np.nan, np.nan, n, len(codes), "fewer than two individuals with five decisions")
    from sklearn.ensemble import RandomForestClassifier

    right = np.zeros(len(codes), dtype=bool)
    for k in range(_N_FOLDS):
        held = fold == k
        forest = RandomForestClassifier(
            _N_TREES, min_samples_leaf=_SMALLEST_LEAF, class_weight="balanced", random_state=seed, n_jobs=1
        )
        right[held] = forest.fit(x[~held], codes[~held]).predict(x[held]) == codes[held]
    counts = np.bincount(codes)
    score = float(np.mean(np.bincount(codes, right)[counts > 0] / counts[counts > 0]))
    return _row(INDIVIDUAL, score, 1 / n, n, len(codes), "")


def _place_score(
    x: np.ndarray, place: np.ndarray | None, codes: np.ndarray, fold: np.ndarray, seed: int
) -> dict[str, object]:
    """The row of the table for the target place, without the names of the features."""
    n = len(np.unique(codes))
    if place is None or n < 2:
        why = "no places: decisions have neither an H3 origin nor longitude and latitude"
        return _row("place", np.nan, 0.0, n, len(codes), why if place is None else "fewer than two individuals")
    from sklearn.ensemble import RandomForestRegressor

    leaf = max(_SMALLEST_LEAF, round(_PLACE_LEAF_SHARE * len(codes)))
    missed = total = 0.0
    for k in np.unique(fold):
        held = fold == k
        forest = RandomForestRegressor(_N_TREES, min_samples_leaf=leaf, random_state=seed, n_jobs=1)
        missed += float(np.sum((forest.fit(x[~held], place[~held]).predict(x[held]) - place[held]) ** 2))
        total += float(np.sum((place[~held].mean(axis=0) - place[held]) ** 2))
    score = 1 - missed / total if total > 0 else np.nan
    return _row("place", score, 0.0, n, len(codes), "" if total > 0 else "all decisions are at one place")


def _row(target: str, score: float, chance: float, n: int, n_decisions: int, note: str) -> dict[str, object]:
    above = (score - chance) / (1 - chance)
    verdict = ""
    if target == INDIVIDUAL:
        ratio = score / chance
        if above >= TELLS_INDIVIDUAL:
            verdict = f"tells the individual ({score:.0%} right, by chance {chance:.1%})"
    else:
        ratio = 1 / np.sqrt(1 - score) if score < 1 else np.inf if score == 1 else np.nan
        if above >= TELLS_PLACE:
            verdict = f"tells the place (R^2 {score:.2f})"
    return {
        "target": target,
        "score": score,
        "chance": chance,
        "above_chance": above,
        "ratio": float(ratio),
        "verdict": verdict,
        "n_individuals": n,
        "n_decisions": n_decisions,
        "note": note,
    }

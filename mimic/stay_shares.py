"""`ChoiceSets` into shares of staying by individual, and whether they differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import special

from mimic.expressions import EVERYTHING
from mimic.groups import split_masks
from mimic.probability import grouped_sum
from mimic.schema import INDIVIDUAL, ORIGIN, SPLIT, ChoiceSets, require_columns
from mimic.stay import find_stay

__all__ = [
    "DISTRIBUTION_COLUMNS",
    "HOMOGENEITY_COLUMNS",
    "STAY_COLUMNS",
    "stay_distribution",
    "stay_homogeneity",
    "stay_shares",
    "stays_and_stayed",
]

STAY_COLUMNS = ["split", "individual", "n_decisions", "n_stay", "share"]
HOMOGENEITY_COLUMNS = [
    *("split", "n_individuals", "n_decisions", "pooled_share"),
    *("chi_square", "degrees_of_freedom", "overdispersion", "p_homogeneity", "note"),
]
DISTRIBUTION_COLUMNS = [*HOMOGENEITY_COLUMNS, "share_low", "share_high", "observed", "expected"]


def stay_shares(choice_sets: ChoiceSets, *, splits: Sequence[str] | None = (EVERYTHING,)) -> pd.DataFrame:
    """How often each individual stays: one row a split x individual.

    Parameters
    ----------
    choice_sets
        The decisions. Those count that know their selection and have a stay among their choices.
    splits
        Names; by default all decisions together, as nothing is fitted here. None for those that occur.

    Returns
    -------
    Columns `STAY_COLUMNS`; a share of no decisions is NaN.

    Raises
    ------
    ValueError
        If the choice sets do not say which choice is to stay, or a split is unknown.
    """
    cs = choice_sets
    if find_stay(cs) is None:
        raise ValueError(
            "the choice sets do not say which choice is to stay: expected a feature stay or distance_km, or the "
            f"decision column {ORIGIN}."
        )
    stayed = stays_and_stayed(cs)[1]
    parts = []
    for split, in_split in split_masks(cs, splits).items():
        groups = pd.Series(stayed[in_split]).groupby(cs.individuals[in_split], sort=False)
        table = groups.agg(n_decisions="count", n_stay="sum", share="mean").rename_axis(INDIVIDUAL).reset_index()
        parts.append(table.assign(split=split).astype({"n_decisions": np.int64, "n_stay": np.int64})[STAY_COLUMNS])
    return pd.concat(parts, ignore_index=True)


def stay_homogeneity(shares: pd.DataFrame) -> pd.DataFrame:
    """Whether individuals could all stay with the same probability: one row a split.

    Parameters
    ----------
    shares
        split, individual, n_decisions and n_stay, as from `stay_shares`. Individuals without decisions do not count.

    Returns
    -------
    Columns `HOMOGENEITY_COLUMNS`. overdispersion: how many times the variance between individuals is that of one
    common probability; near 1 if they are alike. NaN for fewer than two individuals, or if all decisions or none stay.
    note: "few expected stays" (or moves) where the chi-square distribution is not to be trusted.

    Raises
    ------
    ValueError
        If a column is missing.

    Notes
    -----
    With k_i stays of n_i decisions of m individuals and the pooled share p = sum k_i / sum n_i,
    X^2 = sum (k_i - n_i p)^2 / (n_i p (1 - p)) is chi-square with m - 1 degrees of freedom if decisions are
    independent and p is common; overdispersion = X^2 / (m - 1). The decisions of an individual follow each other and
    are not independent: more than 1 may also come from spells of staying. The note follows the rule of thumb that no
    expected number be below 1 and at most a fifth of them below 5.

    References
    ----------
    Cochran 1954, Some methods for strengthening the common chi-square tests, Biometrics 10, 417-451,
    doi:10.2307/3001616 (the variance test for homogeneity of the binomial distribution).

    Example
    -------
    Of two fish with 10 decisions each one stays in 2 and the other in 8: p = 1/2, X^2 = 9 / 2.5 + 9 / 2.5.

    >>> shares = pd.DataFrame({"split": "all", "individual": ["a", "b"], "n_decisions": 10, "n_stay": [2, 8]})
    >>> stay_homogeneity(shares)[["pooled_share", "chi_square", "overdispersion", "p_homogeneity"]].round(4)
       pooled_share  chi_square  overdispersion  p_homogeneity
    0           0.5         7.2             7.2         0.0073
    """
    require_columns(list(shares.columns), STAY_COLUMNS[:4], where="stay shares")
    rows = []
    for split, table in shares[shares["n_decisions"] > 0].groupby(SPLIT, sort=False):
        n, k = table["n_decisions"].to_numpy(dtype=float), table["n_stay"].to_numpy(dtype=float)
        p, df = k.sum() / n.sum(), len(n) - 1
        chi_square = over = tail = np.nan
        if df > 0 and 0 < p < 1:
            chi_square = float(np.sum((k - n * p) ** 2 / (n * p * (1 - p))))
            over, tail = chi_square / df, float(special.chdtrc(df, chi_square))
        less, kind = min((p, "stays"), (1 - p, "moves"))
        few = df > 0 and less > 0 and (np.min(n * less) < 1 or np.mean(n * less < 5) > 0.2)
        note = f"few expected {kind}" if few else ""
        rows.append([split, len(n), int(n.sum()), p, chi_square, df, over, tail, note])
    return pd.DataFrame(rows, columns=HOMOGENEITY_COLUMNS)


def stay_distribution(shares: pd.DataFrame, *, n_bins: int = 20) -> pd.DataFrame:
    """How many individuals stay how often, and how many would by chance alone: one row a split x bin of the share.

    Parameters
    ----------
    shares
        Of `stay_shares`.
    n_bins
        Equal bins of the share from 0 to 1; the lower edge belongs to a bin, to the last also the upper.

    Returns
    -------
    Columns `DISTRIBUTION_COLUMNS`: those of `stay_homogeneity`, the same in all rows of a split, and by bin observed,
    the number of individuals, and expected, what it would be on average if all stayed with the pooled share.

    Raises
    ------
    ValueError
        If a column is missing or `n_bins` is less than 1.

    Notes
    -----
    Expected is exact: the sum over individuals of the binomial probability that k of their own n_i decisions stay, over
    all k with k / n_i within the bin.

    Example
    -------
    Two fish with two decisions each and p = 1/2: each stays 0, 1 or 2 times with probability 1/4, 1/2, 1/4.

    >>> shares = pd.DataFrame({"split": "all", "individual": ["a", "b"], "n_decisions": 2, "n_stay": [0, 2]})
    >>> stay_distribution(shares, n_bins=3)[["observed", "expected"]].round(6).values.tolist()
    [[1.0, 0.5], [0.0, 1.0], [1.0, 0.5]]
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be 1 or more; got {n_bins}.")
    edges = np.arange(n_bins + 1) / n_bins
    bins = pd.DataFrame({"share_low": edges[:-1], "share_high": edges[1:]})
    parts = []
    for row in stay_homogeneity(shares).to_dict(orient="records"):
        table = shares[(shares[SPLIT] == row[SPLIT]) & (shares["n_decisions"] > 0)]
        n, k = table["n_decisions"].to_numpy(np.int64), table["n_stay"].to_numpy(np.int64)
        expected = np.zeros(n_bins)
        for own in n:
            every = np.arange(own + 1)
            expected += np.bincount(_bin_of(every, own, n_bins), _binomial(every, own, row["pooled_share"]), n_bins)
        observed = np.bincount(_bin_of(k, n, n_bins), minlength=n_bins)
        parts.append(
            bins.assign(**{str(name): value for name, value in row.items()}, observed=observed, expected=expected)
        )
    return pd.concat(parts, ignore_index=True)[DISTRIBUTION_COLUMNS] if parts else _empty(DISTRIBUTION_COLUMNS)


def stays_and_stayed(cs: ChoiceSets, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Which choices are to stay, and which decisions selected one.

    Parameters
    ----------
    cs
        The choice sets; where they do not say, nothing is to stay (see `mimic.stay.find_stay`).
    mask
        (row,), bool: the choices that count; by default all.

    Returns
    -------
    (row,), bool, and (decision,): 1 for a stay, 0 for a move, NaN of unknown selection or without a stay to select.
    """
    found = find_stay(cs)
    stays = np.zeros(cs.n_rows, dtype=bool) if found is None else np.asarray(found, dtype=bool)
    stays = stays if mask is None else stays & mask
    counts = (cs.selected >= 0) & (grouped_sum(stays.astype(np.int64), cs.offsets) > 0)
    selected = np.maximum(cs.selected, 0)
    stayed = stays[selected] if cs.n_rows else np.zeros(0, dtype=bool)
    return stays, np.where(counts, stayed.astype(np.float64), np.nan)


def _bin_of(k: np.ndarray, n: np.ndarray | int, n_bins: int) -> np.ndarray:
    """The bin of k / n, in whole numbers: 3 / 10 lies in [0.3, 0.35), whatever its rounding."""
    return np.asarray(np.minimum(k * n_bins // n, n_bins - 1))


def _binomial(k: np.ndarray, n: int, p: float) -> np.ndarray:
    """Probability of k of n: (k,)."""
    ways = special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1)
    return np.asarray(np.exp(ways + special.xlogy(k, p) + special.xlog1py(n - k, -p)))


def _empty(columns: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=list(columns))

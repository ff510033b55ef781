"""Choice sets, bins of features and log-odds into win rates: how often choices of one bin beat those of another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import special

from mimic.bin_tables import contrast_parts, contrast_wins, fit_table
from mimic.contrasts import exact_contrasts
from mimic.expressions import EVERYTHING
from mimic.groups import behavior_mask, split_masks
from mimic.ideal import bin_features
from mimic.probability import softplus
from mimic.schema import ChoiceSets, require_columns
from mimic.scores import check_log_odds
from mimic.textable import align

__all__ = ["WIN_COLUMNS", "describe_bins", "format_win_rates", "win_rates"]

WIN_COLUMNS = [
    "model",
    "split",
    "bin_a",
    "bin_b",
    "a",
    "b",
    "n_contrasts",
    "weight",
    "observed",
    "predicted",
    "ideal",
    "penalized",
    "difference",
    "loss",
    "loss_ideal",
    "loss_left",
]


def win_rates(
    log_odds: Mapping[str, np.ndarray],
    choice_sets: ChoiceSets,
    features: Sequence[str],
    *,
    max_bins: int = 16,
    penalty: float = 0.1,
    behavior_group: str = EVERYTHING,
    splits: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Which contrasts a model leaves loss in: one row a model x split x pair of feature bins, most loss first.

    Parameters
    ----------
    log_odds
        Model -> (row,) log-odds, nats, finite.
    choice_sets
        The decisions; those without a known selection or an alternative have no contrast.
    features
        To bin, see `mimic.ideal.bin_features`: those of the model, or others that it should know.
    max_bins
        Bins at most; of all decisions with a known selection together, so that splits and models compare.
    penalty
        Of the penalized table, see `mimic.ideal.ideal_losses`.
    behavior_group
        Condition on decisions.
    splits
        Values of the decision column `split`, or "all"; by default those that occur.

    Returns
    -------
    Columns `WIN_COLUMNS`. n_contrasts counts the contrasts between a choice in bin a and one in bin b, weight is
    their share of the contrast loss (individuals weighing the same). observed is the share of them in which the
    choice in a was selected, predicted the mean of sigmoid(phi_a - phi_b), ideal that of the best table of one
    log-odds a bin, penalized that of the table with the ridge; the tables are those of the split itself. Within a bin
    (a = b) all are .5. difference = predicted - observed. loss (nats) is what the pair adds to the contrast loss of the
    model, loss_ideal to that of the ideal table, loss_left their difference: negative where the model knows more
    than the bins. Over a model and split weight sums to 1, loss to its contrast loss.

    Raises
    ------
    ValueError
        If log-odds have another shape or are not finite, a feature is unknown or not finite, a split or column is
        unknown, or there is less than one bin.

    Notes
    -----
    Pairs that meet seldom have observed shares of chance; sort by loss_left, which weighs by how often they meet.

    Example
    -------
    The deep one of two cells was selected in three decisions of four, a model says 1 : 1:

    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2, 3, 4]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4, 6, 8], [1, 2] * 4, [0, 2, 4, 7], {"deep": [1.0, 0.0] * 4})
    >>> table = win_rates({"m": np.zeros(8)}, cs, ["deep"])
    >>> table[["a", "b", "n_contrasts", "observed", "predicted", "ideal", "loss_left"]].round(3)
              a         b  n_contrasts  observed  predicted  ideal  loss_left
    0  deep = 0  deep = 1            4      0.25        0.5   0.25      0.131
    """
    check_log_odds(log_odds, choice_sets)
    _check(log_odds, choice_sets, features, max_bins)
    inside = behavior_mask(choice_sets, behavior_group)  # of known selection
    rows = np.repeat(inside, choice_sets.n_choices)
    cs = choice_sets.filter(inside)
    if cs.n_decisions == 0:
        return pd.DataFrame(columns=WIN_COLUMNS)
    bin_of_row, _, _ = bin_features(cs, features, max_bins=max_bins)
    n_bins = int(bin_of_row.max()) + 1
    names = describe_bins(cs, features, bin_of_row)
    parts = []
    for split, in_split in split_masks(cs, splits).items():
        part, own = cs.filter(in_split), np.repeat(in_split, cs.n_choices)
        if (exact_contrasts(part) > 0).any():
            shared = _pairs(part, bin_of_row[own], n_bins, penalty)
            for model, phi in log_odds.items():
                scored = _scored(shared, np.asarray(phi, np.float64)[rows][own], part, bin_of_row[own], n_bins)
                parts.append(
                    scored.assign(model=model, split=split, a=names[scored["bin_a"]], b=names[scored["bin_b"]])
                )
    if not parts:
        return pd.DataFrame(columns=WIN_COLUMNS)
    order = {model: k for k, model in enumerate(log_odds)}
    table = pd.concat([p for model in order for p in parts if p["model"].iloc[0] == model], ignore_index=True)
    return table[WIN_COLUMNS]


def describe_bins(choice_sets: ChoiceSets, features: Sequence[str], bin_of_row: np.ndarray) -> np.ndarray:
    """What each bin holds, as text: (bin,), such as "stay = 0, distance_km 23 to 46".

    Features that have the same range in all bins are left out.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": ["a"], "decision": [1]})
    >>> cs = ChoiceSets(decisions, [0, 3], [0, 1, 2], [1], {"stay": [1.0, 0.0, 0.0], "km": [0.0, 23.0, 46.0]})
    >>> describe_bins(cs, ["stay", "km"], np.array([1, 0, 0])).tolist()
    ['stay = 0, km 23 to 46', 'stay = 1, km = 0']
    """
    n_bins = int(bin_of_row.max(initial=-1)) + 1
    texts: list[list[str]] = [[] for _ in range(n_bins)]
    for name in features:
        grouped = pd.Series(choice_sets.features[name]).groupby(bin_of_row)
        low, high = grouped.min().to_numpy(), grouped.max().to_numpy()
        if len(set(zip(low.tolist(), high.tolist(), strict=True))) > 1:
            for text, a, b in zip(texts, low, high, strict=True):
                text.append(f"{name} = {a:.4g}" if a == b else f"{name} {a:.4g} to {b:.4g}")
    return np.array([", ".join(text) or "all choices" for text in texts], dtype=object)


def format_win_rates(table: pd.DataFrame, *, n_rows: int = 10) -> str:
    """The first rows of each model and split as aligned text: rates in percent, loss in nats."""
    header = ["model", "split", "choices a", "against b", "contrasts", "won %", "predicted %", "ideal %", "loss left"]
    lines = [header]
    for _, part in table.groupby(["model", "split"], sort=False):
        for row in part.head(n_rows).to_dict(orient="records"):
            rates = (f"{100 * row[name]:.3g}" for name in ("observed", "predicted", "ideal"))
            names = (str(row[name]) for name in ("model", "split", "a", "b"))
            lines.append([*names, f"{row['n_contrasts']:,}", *rates, f"{row['loss_left']:+.5f}"])
    return "\n".join(align(lines, range(4)))


def _check(log_odds: Mapping[str, np.ndarray], cs: ChoiceSets, features: Sequence[str], max_bins: int) -> None:
    impossible = [model for model, phi in log_odds.items() if np.isneginf(np.asarray(phi)).any()]
    if impossible:
        raise ValueError(
            f"log-odds of model {impossible[0]} must be finite here; some are -inf, and a contrast of two impossible "
            "choices has no rate. Restrict the choice sets to the possible choices."
        )
    require_columns(list(cs.features), list(features), where="features")
    bad = [name for name in features if not np.isfinite(cs.features[name]).all()]
    if bad:
        raise ValueError(f"features must be finite; got NaN or infinity in {', '.join(bad)}. Drop these choices first.")
    if max_bins < 1:
        raise ValueError(f"max_bins must be 1 or more; got {max_bins}.")


def _pairs(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int, penalty: float) -> pd.DataFrame:
    """What does not depend on a model: one row a pair of bins a <= b that meet."""
    wins = contrast_wins(cs, bin_of_row, n_bins)
    pair = _pair_of_row(cs, bin_of_row, n_bins)
    n_contrasts = np.bincount(pair[exact_contrasts(cs) > 0], minlength=n_bins**2)
    parts = contrast_parts(cs, bin_of_row, n_bins)
    free, held = (fit_table(parts, n_bins, p) for p in (0.0, penalty))
    a, b = np.nonzero(n_contrasts.reshape(n_bins, n_bins))
    won, lost = wins[a, b], wins[b, a]
    ideal, same = special.expit(free[a] - free[b]), a == b
    weight = np.where(same, won, won + lost)
    loss_ideal = won * softplus(free[b] - free[a]) + np.where(same, 0.0, lost * softplus(free[a] - free[b]))
    return pd.DataFrame(
        {
            "bin_a": a,
            "bin_b": b,
            "n_contrasts": n_contrasts[a * n_bins + b],
            "weight": weight,
            "observed": np.where(same, 0.5, won / weight),
            "ideal": ideal,
            "penalized": special.expit(held[a] - held[b]),
            "loss_ideal": loss_ideal,
        }
    )


def _pair_of_row(cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int) -> np.ndarray:
    """The pair of bins, lower first, of the contrast of each row with the selected one: (row,)."""
    selected = np.repeat(bin_of_row[cs.selected], cs.n_choices)
    return np.minimum(selected, bin_of_row) * n_bins + np.maximum(selected, bin_of_row)


def _scored(pairs: pd.DataFrame, phi: np.ndarray, cs: ChoiceSets, bin_of_row: np.ndarray, n_bins: int) -> pd.DataFrame:
    """The pairs with what a model predicts of them, most loss left first."""
    weight = exact_contrasts(cs)
    lead = np.repeat(phi[cs.selected], cs.n_choices) - phi  # of the selected choice over the other
    selected = np.repeat(bin_of_row[cs.selected], cs.n_choices)
    pair = _pair_of_row(cs, bin_of_row, n_bins)
    of_a = np.where(selected <= bin_of_row, lead, -lead)
    where = (pairs["bin_a"] * n_bins + pairs["bin_b"]).to_numpy()
    predicted = np.bincount(pair, weight * special.expit(of_a), n_bins**2)[where] / pairs["weight"].to_numpy()
    loss = np.bincount(pair, weight * softplus(-lead), n_bins**2)[where]
    predicted = np.where(pairs["bin_a"] == pairs["bin_b"], 0.5, predicted)
    scored = pairs.assign(
        predicted=predicted,
        difference=predicted - pairs["observed"],
        loss=loss,
        loss_left=loss - pairs["loss_ideal"],
    )
    return scored.sort_values(["loss_left", "bin_a", "bin_b"], ascending=[False, True, True], ignore_index=True)

"""Simulated studies into power curves: how many animals find an effect, and how often one is found that is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd
from scipy import optimize, special

from mimic.bootstrap import mean_intervals
from mimic.conditional_logit import FeatureError, SeparationError, fit_conditional_logit
from mimic.probability import grouped_log_softmax, selected_log_probability
from mimic.schema import ChoiceSets, require_columns
from mimic.worlds import World, simulate, tilt_coefficient, true_log_odds

if TYPE_CHECKING:
    from mimic.training import TrainingOptions

__all__ = [
    *("POWER_COLUMNS", "Effect", "Finding", "animals_needed", "closed_bound", "find_effect"),
    *("network_findings", "power_table"),
]

Effect = Literal["heading", "covariate", "irrelevant", "perimeter"]

POWER_COLUMNS = [
    *("effect", "size", "sd", "alpha", "n_individuals", "n_days", "n_studies", "power", "power_se"),
    *("truth", "mean_estimate", "bias", "rmse", "mean_se", "coverage", "share_separated"),
]
_FEATURES = ("stay", "distance_km", "heading_sin", "heading_cos", "covariate", "irrelevant")
_TESTED = {"heading": "heading_sin", "covariate": "covariate", "irrelevant": "irrelevant"}
_LARGEST_TILT = 0.48  # of mimic.worlds: a heading beyond it is nearly certain
_PERIMETER = (-147.5, 54.0, 100.0)  # a disk some 160 km east of where the animals of the default world start


@dataclass(frozen=True)
class Finding:
    """What one study says of an effect.

    Parameters
    ----------
    estimate, se, low, high
        The coefficient, nats, with standard error and interval clustered by individual. Of a perimeter, `closed_bound`
        and 0 to that, without standard error. NaN where the study cannot tell.
    is_found, is_separated
        See `find_effect`; whether no selected choice contradicts the effect, so that its likelihood has no maximum.
    """

    estimate: float
    se: float
    low: float
    high: float
    is_found: bool
    is_separated: bool


def power_table(
    effect: Effect,
    *,
    size: float,
    individuals: Sequence[int],
    days: Sequence[int],
    sd: float = 0.0,
    n_studies: int = 100,
    seed: int = 0,
    alpha: float = 0.05,
    world: World | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> pd.DataFrame:
    """How often an effect is found: one row a number of individuals x days, from so many simulated studies.

    Parameters
    ----------
    effect
        "heading": animals tilt to the east. "covariate": they like a smooth field. "irrelevant": they do not care
        for one, and the power is the share of false positives. "perimeter": nobody enters a disk.
    size
        Of a tilt of 1 %, .01: so many moves more than half go within 90 degrees of east. Of the covariate, nats a
        standard deviation. Of the perimeter, what the probability of closed cells is to be shown to be at most. Of
        the irrelevant field 0, whatever is given.
    individuals, days
        The grid. Smaller studies are parts of larger ones, so that curves are smoother than their Monte-Carlo error.
    sd
        Standard deviation between individuals, nats: of the coefficient in question (of the covariate's, where it is
        the irrelevant one) and of that of staying. It matters: where animals differ, days are no substitute for them.
    n_studies, seed, alpha
        Simulated studies, the same for the same seed; level of the two-sided test.
    world
        All else of the world; its coefficient in question, sd of staying and perimeter are replaced.
    progress
        Called as `progress("studies", done, n_studies)`.

    Returns
    -------
    Columns `POWER_COLUMNS`: power and its Monte-Carlo standard error, that of (found + 1) of (n_studies + 2), never 0;
    the true mean coefficient; mean, bias and root mean square error of the estimates; their mean standard error; the
    share of intervals that hold the truth; that of studies in which the effect separates. NaN: no study can tell.

    Raises
    ------
    ValueError
        If the effect is unknown, the grid is empty or has a study of one individual, or a number is out of range.

    Notes
    -----
    Each study is fitted by a conditional logit of all features of the world. Where individuals differ, what it tends
    to is not quite their mean coefficient (.45 for a covariate's .5 with sd .3), and `bias` stays with more animals.
    """
    _check(effect, size, individuals, days, sd, n_studies, alpha)
    large = _with_effect(world or World(), effect, size, sd)
    large = replace(large, n_individuals=max(individuals), n_days=max(days), min_days=None)
    grid = [(n, t) for n in sorted(set(individuals)) for t in sorted(set(days))]
    found: dict[tuple[int, int], list[Finding]] = {cell: [] for cell in grid}
    for study in range(n_studies):
        cs = simulate(large, seed=(seed, study))
        individual, day = cs.individual_codes, cs.decisions["decision"].to_numpy()
        for n, t in grid:
            part = cs.filter((individual < n) & (day < t))
            found[n, t].append(find_effect(part, effect, size=size, alpha=alpha))
        if progress is not None:
            progress("studies", study + 1, n_studies)
    truth = {"heading": large.heading, "covariate": large.covariate}.get(effect, 0.0)
    head = [effect, 0.0 if effect == "irrelevant" else size, sd, alpha]
    rows = [[*head, *cell, n_studies, *_summary(findings, truth)] for cell, findings in found.items()]
    return pd.DataFrame(rows, columns=POWER_COLUMNS)


def find_effect(cs: ChoiceSets, effect: Effect, *, size: float = 0.01, alpha: float = 0.05) -> Finding:
    """What a study of `mimic.worlds` says of an effect.

    A coefficient is found if its interval of level 1 - alpha, clustered by individual, is without 0. A perimeter is
    found if the probability of closed cells is at most `size` and less than that of open ones, by `closed_bound`.
    """
    is_open = cs.features["perimeter"] == 0
    among_open = cs if is_open.all() else cs.restrict(is_open)
    try:
        fit = fit_conditional_logit(among_open, _FEATURES)
    except FeatureError as error:  # few animals and days: all moves went the same way
        return Finding(np.nan, np.nan, np.nan, np.nan, False, _is_separation(error, _TESTED.get(effect, "")))
    if effect == "perimeter":
        bound, is_avoided = closed_bound(cs, fit.log_odds(cs), alpha=alpha)
        return Finding(bound, np.nan, 0.0, bound, is_avoided and bound <= size, _separates(cs))
    k = _FEATURES.index(_TESTED[effect])
    low, high = fit.intervals(level=1 - alpha, kind="cluster").to_numpy(dtype=np.float64)[k].tolist()
    se = np.sqrt(fit.covariance_of("cluster", small_sample=True)[k, k])
    return Finding(float(fit.coef[k]), float(se), low, high, low > 0 or high < 0, False)


def closed_bound(cs: ChoiceSets, log_odds: np.ndarray, *, alpha: float = 0.05) -> tuple[float, bool]:
    """The largest mean probability of closed cells within reach that never entering them does not refute.

    Parameters
    ----------
    cs, log_odds
        With the feature perimeter, above 0 for closed choices; (row,) of a model that does not know of it.

    Returns
    -------
    bound, is_avoided
        Mean over the decisions with closed and open choices; NaN without any, 1 if a closed choice was selected.
        Whether it lies below what the model gives closed cells.

    Notes
    -----
    A coefficient b of the perimeter makes q_d = Q e^b / (1 - Q + Q e^b) of the probability Q that the model gives to
    the closed choices of decision d. The bound has the b at which never entering has the probability
    prod_d (1 - q_d) = alpha. With n decisions it is close to -ln(alpha) / n, 3 / n for alpha = .05: the rule of three.

    Example
    -------
    Two cells, one of them closed, and 100 decisions for the open one: 1 - q = .05 ** (1 / 100).

    >>> decisions = pd.DataFrame({"individual": "a", "decision": range(100)})
    >>> cs = ChoiceSets(decisions, np.arange(101) * 2, [1, 2] * 100, np.arange(100) * 2, {"perimeter": [0, 1] * 100})
    >>> bound, is_avoided = closed_bound(cs, np.zeros(200))
    >>> round(bound, 4), is_avoided
    (0.0295, True)
    """
    near, inside, outside = _closed_and_open(cs, log_odds)
    if (cs.features["perimeter"][cs.selected[near]] > 0).any():
        return 1.0, False
    if not near.any():
        return np.nan, False
    log_ratio = np.log(inside) - np.log(outside)

    def excess(b: float) -> float:
        return float(np.logaddexp(0.0, log_ratio + b).sum() + np.log(alpha))

    largest = float(np.abs(log_ratio).max()) + 50.0
    b = optimize.brentq(excess, -largest, largest, xtol=1e-12)
    return float(special.expit(log_ratio + b).mean()), bool(b < 0)


def animals_needed(table: pd.DataFrame, *, power: float = 0.8) -> pd.DataFrame:
    """How many animals find an effect with a wanted power: one row an effect, size, sd and number of days.

    Parameters
    ----------
    table
        From `power_table`, or several of them together.

    Returns
    -------
    effect, size, sd, alpha, n_days, power (the wanted one), n_individuals (rounded up) and basis: "between" two rows
    of the table, by a straight line; "at most", where the smallest study has the power already; "beyond" the table, by
    the standard error of its largest study, which shrinks as 1 / sqrt(n_individuals); or "nothing to find" and NaN.
    Raises ValueError if the power does not lie between 0 and 1, or columns are missing.

    Example
    -------
    >>> row = dict.fromkeys(POWER_COLUMNS, 0.0) | {"effect": "heading", "truth": 0.1, "n_days": 30, "alpha": 0.05}
    >>> curve = [row | {"n_individuals": n, "power": p} for n, p in ((10, 0.5), (20, 0.75), (30, 0.85))]
    >>> animals_needed(pd.DataFrame(curve))[["n_individuals", "basis"]].values.tolist()
    [[25.0, 'between']]
    """
    if not 0 < power < 1:
        raise ValueError(f"power must lie between 0 and 1, such as 0.8; got {power}.")
    require_columns(list(table.columns), POWER_COLUMNS, where="power table")
    keys = ["effect", "size", "sd", "alpha", "n_days"]
    rows = []
    for key, curve in table.groupby(keys, sort=False):
        needed, basis = _needed(curve.sort_values("n_individuals"), power)
        rows.append([*key, power, np.ceil(needed - 1e-9), basis])
    return pd.DataFrame(rows, columns=[*keys, "power", "n_individuals", "basis"])


def network_findings(world: World, *, seed: int = 0, options: TrainingOptions | None = None) -> dict[str, float]:
    """What a network makes of a world: trained on a study, stopped early on a second, judged on a third.

    Returns
    -------
    closed_probability, open_probability
        Mean probability of closed cells within reach, and the same by the truth with the disk open; NaN without any.
    irrelevant_importance, irrelevant_gain, each also with _low and _high
        Nats of D, 95 % intervals over the individuals judged: lost when the irrelevant feature is permuted within
        choice sets; won over a network without it.
    tilt, true_tilt
        Half of the mean difference in log-odds of a move to the east and of the same to the west.
    """
    from mimic.training import TrainingOptions, train

    fitting, stopping, cs = (simulate(world, seed=(seed, part)) for part in range(3))
    options = options or TrainingOptions(loss="softmax", units=(16, 16), learning_rate=3e-3, patience=10, seed=seed)
    features = [*_FEATURES, *(["perimeter"] if world.perimeter else [])]
    full = train(fitting, stopping, features, options).model
    fewer = train(fitting, stopping, [name for name in features if name != "irrelevant"], options).model

    drawn = np.random.default_rng(seed).uniform(size=cs.n_rows)
    permuted = cs.with_features({"irrelevant": cs.features["irrelevant"][np.lexsort((drawn, cs.decision_of_row))]})
    scored = (full.log_odds(cs), full.log_odds(permuted), fewer.log_odds(cs))
    own, *others = (selected_log_probability(log_odds, cs.offsets, cs.selected) for log_odds in scored)
    lost = np.column_stack([own - other for other in others])
    found = mean_intervals(lost, cs.individual_codes)
    moves = (cs.features["stay"] == 0) & (cs.features["perimeter"] == 0)
    zero = np.zeros(cs.n_rows)
    without = cs.with_features({"perimeter": zero})
    east, west = (full.log_odds(cs.with_features({"heading_sin": zero + x, "heading_cos": zero})) for x in (1, -1))
    result = {
        "closed_probability": pd.Series(_closed_and_open(cs, full.log_odds(cs))[1]).mean(),
        "open_probability": pd.Series(_closed_and_open(cs, true_log_odds(world, without))[1]).mean(),
        "tilt": float((east - west)[moves].mean() / 2),
        "true_tilt": world.heading * float(np.sin(np.radians(world.heading_deg))),
    }
    for k, name in enumerate(("irrelevant_importance", "irrelevant_gain")):
        result |= {name: found.estimate[k], f"{name}_low": found.low[k], f"{name}_high": found.high[k]}
    return {name: float(value) for name, value in result.items()}


def _closed_and_open(cs: ChoiceSets, log_odds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decisions with closed and open choices: (decision,), bool; the probability of either: (such decision,) each."""
    require_columns(list(cs.features), ["perimeter"], where="features")
    closed = cs.features["perimeter"] > 0
    n_closed = np.add.reduceat(closed.astype(np.int64), cs.offsets[:-1])
    near = (n_closed > 0) & (n_closed < cs.n_choices) & (cs.selected >= 0)
    p = np.exp(grouped_log_softmax(log_odds, cs.offsets))
    inside, outside = (np.add.reduceat(np.where(which, p, 0.0), cs.offsets[:-1]) for which in (closed, ~closed))
    return near, inside[near], outside[near]


def _needed(curve: pd.DataFrame, power: float) -> tuple[float, str]:
    n, reached = curve["n_individuals"].to_numpy(np.float64), curve["power"].to_numpy(np.float64)
    last = curve.iloc[-1]
    if last["effect"] == "irrelevant":
        return np.nan, "nothing to find"
    if (reached >= power).any():
        k = int(np.argmax(reached >= power))
        return (
            (float(np.interp(power, reached[k - 1 : k + 1], n[k - 1 : k + 1])), "between") if k else (n[0], "at most")
        )
    if not (last["mean_se"] > 0 and last["truth"] != 0):
        return np.nan, "beyond"
    wanted = special.ndtri(1 - last["alpha"] / 2) + special.ndtri(power)  # estimate over standard error
    return float(n[-1] * (wanted * last["mean_se"] / last["truth"]) ** 2), "beyond"


def _with_effect(world: World, effect: Effect, size: float, sd: float) -> World:
    """The world with the effect in question; the preferred heading is east, so that it is the sine that is tested."""
    changed = replace(world, heading_deg=90.0, stay_sd=sd, perimeter=None)
    if effect == "heading":
        return replace(changed, heading=tilt_coefficient(0.5 + size), heading_sd=sd)
    if effect == "covariate":
        return replace(changed, covariate=size, covariate_sd=sd)
    if effect == "irrelevant":
        # nobody cares: where animals differ about a mean of 0, those who like it gather, and the pooled mean is not 0
        return replace(changed, irrelevant_sd=0.0, covariate_sd=sd)
    return replace(changed, perimeter=world.perimeter or _PERIMETER)


def _separates(cs: ChoiceSets) -> bool:
    """Whether a fit says that the perimeter has no maximum-likelihood coefficient."""
    try:
        fit_conditional_logit(cs, [*_FEATURES, "perimeter"])
    except FeatureError as error:  # it is constant where nobody came near
        return _is_separation(error, "perimeter")
    return False


def _is_separation(error: FeatureError, name: str) -> bool:
    return isinstance(error, SeparationError) and name in error.features


def _summary(findings: Sequence[Finding], truth: float) -> list[float]:
    """The values of `POWER_COLUMNS` from power on."""
    n, n_found = len(findings), sum(f.is_found for f in findings)
    shrunk = (n_found + 1) / (n + 2)
    estimate, se, low, high = np.array([(f.estimate, f.se, f.low, f.high) for f in findings]).T
    error = estimate - truth
    covered = np.where(np.isnan(se), np.nan, (low <= truth) & (truth <= high))
    means = [float(pd.Series(values).mean()) for values in (estimate, error, error**2, se, covered)]  # of what is known
    means[2] = float(np.sqrt(means[2]))
    separated = sum(f.is_separated for f in findings) / n
    return [n_found / n, float(np.sqrt(shrunk * (1 - shrunk) / n)), truth, *means, separated]


def _check(
    effect: str, size: float, individuals: Sequence[int], days: Sequence[int], sd: float, n_studies: int, alpha: float
) -> None:
    if effect not in get_args(Effect):
        raise ValueError(f"effect must be {', '.join(get_args(Effect))}; got {effect!r}.")
    if min(individuals, default=0) < 2 or min(days, default=0) < 1:
        got = " and ".join(", ".join(map(str, numbers)) or "none" for numbers in (individuals, days))
        raise ValueError(f"expected numbers of individuals >= 2, the clusters, and numbers of days >= 1; got {got}.")
    if sd < 0 or n_studies < 1 or not 0 < alpha < 1:
        raise ValueError(f"expected sd >= 0, n_studies >= 1 and 0 < alpha < 1; got {sd}, {n_studies} and {alpha}.")
    if effect == "heading" and not abs(size) <= _LARGEST_TILT:
        raise ValueError(
            f"size of a heading is a tilt between -{_LARGEST_TILT} and {_LARGEST_TILT}, such as 0.01; got {size}."
        )
    if effect == "covariate" and not np.isfinite(size):
        raise ValueError(f"size of a covariate is in nats a standard deviation, such as 0.2; got {size}.")
    if effect == "perimeter" and not 0 < size < 1:
        raise ValueError(f"size of a perimeter is a probability between 0 and 1, such as 0.01; got {size}.")

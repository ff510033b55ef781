"""A grid of training options into its members, and their losses into an honest choice among them."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mimic.schema import examples, require_columns

__all__ = [
    "SEED",
    "EpochCount",
    "Member",
    "Rung",
    "Selection",
    "epochs_spent",
    "expand",
    "halving_rungs",
    "members_table",
    "select",
    "survivors",
]

SEED = "seed"
_FINISHED = "finished"


@dataclass(frozen=True)
class Member:
    """One training of a grid: one combination of its values, one of them the seed.

    Parameters
    ----------
    name
        Readable and unique within the grid, such as "environment/units=24-24-24,seed=3".
    model
        Name of the model in the experiment.
    parameters
        What the grid sets, in its order, the seed included where the grid has one. Lists are tuples.
    seed
        From the grid, else from `training`, else 0.
    training
        All training options of this member: those of the model, overwritten by `parameters` and `seed`.
    """

    name: str
    model: str
    parameters: Mapping[str, Any]
    seed: int
    training: Mapping[str, Any]

    @property
    def configuration(self) -> str:
        """The name without the seed: what the seeds of one configuration share."""
        return _name(self.model, {k: v for k, v in self.parameters.items() if k != SEED})


def expand(
    model: str,
    training: Mapping[str, Any],
    grid: Mapping[str, Sequence[Any]],
    *,
    known: Collection[str] | None = None,
) -> list[Member]:
    """Every combination of the grid's values as a member; the last key varies fastest. Without keys, one member.

    Parameters
    ----------
    training
        Options that all members share, unless the grid sets them.
    grid
        option -> its values; a value may itself be a list (units: [[24, 24], [32, 32]]) or a mapping.
        The key "seed" holds the seeds.
    known
        Names of the options that exist; None leaves them unchecked. "seed" always exists.

    Raises
    ------
    ValueError
        If an option is unknown, its values are no list or none, a value is listed twice, or a seed is no whole
        number of 0 or more.

    Example
    -------
    >>> for member in expand("near", {"epochs": 5}, {"units": [[8], [8, 8]], "seed": [0, 1]}):
    ...     print(member.name, member.training["units"], member.training["epochs"])
    near/units=8,seed=0 (8,) 5
    near/units=8,seed=1 (8,) 5
    near/units=8-8,seed=0 (8, 8) 5
    near/units=8-8,seed=1 (8, 8) 5
    """
    _check_keys(model, grid, known)
    values = {key: _check_values(f"the grid of {model}: {key}", key, grid[key]) for key in grid}
    members = []
    for combination in itertools.product(*values.values()):
        parameters = dict(zip(values, combination, strict=True))
        seed = _check_seed(f"model {model}", parameters.get(SEED, training.get(SEED, 0)))
        resolved = {**{k: _frozen(v) for k, v in training.items()}, **parameters, SEED: seed}
        members.append(Member(_name(model, parameters), model, parameters, seed, resolved))
    return members


def members_table(members: Sequence[Member], outcomes: Mapping[str, Mapping[str, Any]] | None = None) -> pd.DataFrame:
    """One row a member: member, model, configuration, every option that a grid sets, seed, and what came out.

    Options that only the grids of other models set show the value the member has anyway. Lists are text (24-24).

    Parameters
    ----------
    outcomes
        member -> columns, such as its losses and `status`. Members without an outcome get none (NaN).
    """
    keys = [k for k in dict.fromkeys(k for m in members for k in m.parameters) if k != SEED]
    rows = [
        {
            "member": m.name,
            "model": m.model,
            "configuration": m.configuration,
            **{k: _cell(m.training.get(k)) for k in keys},
            SEED: m.seed,
            **(outcomes or {}).get(m.name, {}),
        }
        for m in members
    ]
    return pd.DataFrame(rows, columns=None if rows else ["member", "model", "configuration", SEED])


@dataclass(frozen=True, eq=False)
class Selection:
    """Which configuration and which of its members is best, and how much seeds matter.

    Parameters
    ----------
    configuration, member
        The configuration with the lowest median loss over its seeds, and its member with the lowest loss.
    table
        One row a configuration, in the order of the grid: configuration, n_seeds, n_diverged, min, median, p90,
        spread (p90 - min), all in the unit of the loss (nats). Members that diverged count as infinite; where
        all of a configuration did, the spread is NaN.
    monitor
        The column the choice was made on.
    """

    configuration: str
    member: str
    table: pd.DataFrame
    monitor: str


def select(table: pd.DataFrame, *, monitor: str) -> Selection:
    """The best configuration by the median over its seeds, and the best member in it.

    Parameters
    ----------
    table
        Finished members, as `members_table` gives them. Where it has a column `status`, any other status than
        "finished" counts as diverged; so does a loss that is NaN or infinite.
    monitor
        The column with the loss to choose by: one on validation, smaller is better.

    Raises
    ------
    ValueError
        If a column is missing, there are no members, or all of them diverged.

    Notes
    -----
    Percentiles are interpolated linearly. Ties go to what comes first; among medians that are infinite, because
    half of the seeds diverged, to the lowest loss.
    """
    spread = _spread_over_seeds(table, monitor)
    best = _ranked(spread)[0]
    losses = _losses(table, monitor)[(table["configuration"] == best).to_numpy()]
    member = table.loc[table["configuration"] == best, "member"].iloc[int(losses.argmin())]
    return Selection(best, str(member), spread, monitor)


@dataclass(frozen=True)
class Rung:
    """A step of successive halving.

    Parameters
    ----------
    n_configurations
        Configurations that train in this rung.
    epochs
        Epochs that each of them has behind it when the rung ends, all rungs together.
    more_epochs
        Epochs of this rung alone, when members go on from where the rung before left them.
    n_kept
        Configurations that enter the next rung; 1 in the last, the winner.
    """

    n_configurations: int
    epochs: int
    more_epochs: int
    n_kept: int


def halving_rungs(n_configurations: int, epochs: int, *, factor: int = 3, min_epochs: int) -> list[Rung]:
    """The rungs of successive halving: from rung to rung `factor` times fewer configurations and more epochs.

    The last rung ends at `epochs`. There are as many rungs as it takes to leave one configuration, or fewer where
    the first would otherwise end before `min_epochs`; several configurations then reach the last rung.

    Raises
    ------
    ValueError
        If a number is out of range.

    References
    ----------
    Jamieson and Talwalkar (2016), Non-stochastic best arm identification and hyperparameter optimization,
    AISTATS, arXiv:1502.07943.

    Example
    -------
    Nine configurations of 90 epochs: 9 x 10 + 3 x 20 + 1 x 60 = 210 epochs instead of 9 x 90 = 810.

    >>> for rung in halving_rungs(9, 90, min_epochs=10):
    ...     print(rung.n_configurations, rung.epochs, rung.more_epochs, rung.n_kept)
    9 10 10 3
    3 30 20 1
    1 90 60 1
    """
    if n_configurations < 1 or factor < 2 or not 1 <= min_epochs <= epochs:
        raise ValueError(
            "halving needs one configuration or more, a factor of 2 or more and min_epochs from 1 to epochs; got "
            f"n_configurations={n_configurations}, factor={factor}, min_epochs={min_epochs}, epochs={epochs}."
        )
    counts = [n_configurations]
    while counts[-1] > 1 and epochs // factor ** len(counts) >= min_epochs:
        counts.append(-(-counts[-1] // factor))
    ends = [epochs // factor**step for step in reversed(range(len(counts)))]
    return [
        Rung(n, end, end - before, kept)
        for n, end, before, kept in zip(counts, ends, [0, *ends], [*counts[1:], 1], strict=False)
    ]


def survivors(table: pd.DataFrame, n_kept: int, *, monitor: str) -> list[str]:
    """The configurations with the lowest median loss over their seeds, best first: at most `n_kept` of them.

    A configuration whose members all diverged is never kept. Columns, ties and errors are those of `select`.
    """
    if n_kept < 1:
        raise ValueError(f"n_kept must be 1 or more; got {n_kept}.")
    spread = _spread_over_seeds(table, monitor)
    alive = set(spread.loc[spread["n_diverged"] < spread["n_seeds"], "configuration"])
    return [name for name in _ranked(spread) if name in alive][:n_kept]


@dataclass(frozen=True)
class EpochCount:
    """Epochs that a search trains, all members together, and those of the full grid."""

    spent: int
    full: int

    @property
    def fraction(self) -> float:
        return self.spent / self.full


def epochs_spent(rungs: Sequence[Rung], *, n_seeds: int = 1, continued: bool = True) -> EpochCount:
    """The most epochs that the rungs train, beside those of the full grid; early stopping may save more of both.

    Parameters
    ----------
    n_seeds
        Members of each configuration; all of them train in every rung.
    continued
        Whether members go on from the rung before; otherwise each rung begins anew.

    Example
    -------
    >>> count = epochs_spent(halving_rungs(9, 90, min_epochs=10), n_seeds=5)
    >>> count.spent, count.full, round(count.fraction, 3)
    (1050, 4050, 0.259)
    """
    if not rungs or n_seeds < 1:
        raise ValueError(f"expected at least one rung and one seed; got {len(rungs)} and {n_seeds}.")
    spent = sum(r.n_configurations * (r.more_epochs if continued else r.epochs) for r in rungs)
    return EpochCount(n_seeds * spent, n_seeds * rungs[0].n_configurations * rungs[-1].epochs)


def _check_keys(model: str, grid: Mapping[str, Any], known: Collection[str] | None) -> None:
    unknown = [key for key in grid if known is not None and key not in {*known, SEED}]
    if unknown:
        near = [n for key in unknown for n in difflib.get_close_matches(str(key), list(known or []), n=1)]
        hint = f"Did you mean {', '.join(near)}?" if near else f"Known are {', '.join(sorted(known or []))}."
        raise ValueError(
            f"the grid of {model}: unknown training option{'s' if len(unknown) > 1 else ''} "
            f"{', '.join(map(str, unknown))}. {hint}"
        )


def _check_values(place: str, key: str, values: Any) -> list[Any]:
    if not isinstance(values, list | tuple):
        raise ValueError(f"{place}: expected a list of values, such as [{_text(values)}]; got {values!r}.")
    if not values:
        raise ValueError(f"{place}: expected at least one value; got an empty list. Leave the key out instead.")
    frozen = [_check_seed(place, v) if key == SEED else _frozen(v) for v in values]
    # By their text: 1 and "1" would make two members of one name.
    texts = [_text(v) for v in frozen]
    twice = [text for n, text in enumerate(texts) if text in texts[:n] or frozen[n] in frozen[:n]]
    if twice:
        raise ValueError(f"{place}: {examples(twice)} is listed twice; every combination may occur once.")
    return frozen


def _check_seed(place: str, seed: Any) -> int:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"{place}: a seed must be a whole number of 0 or more; got {seed!r}.")
    return int(seed)


def _frozen(value: Any) -> Any:
    """Lists as tuples, at any depth, so that a member can be compared and never shares a list with another."""
    if isinstance(value, Mapping):
        return {k: _frozen(v) for k, v in value.items()}
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def _name(model: str, parameters: Mapping[str, Any]) -> str:
    return model + ("/" if parameters else "") + ",".join(f"{k}={_text(v)}" for k, v in parameters.items())


def _text(value: Any) -> str:
    """A value as it stands in a name: 24-24-24, 0.001, none, true, a mapping as rate:0.5;steps:10."""
    if isinstance(value, Mapping):
        return ";".join(f"{k}:{_text(v)}" for k, v in value.items()) or "{}"
    if isinstance(value, list | tuple):
        return "-".join(map(_text, value)) or "[]"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _cell(value: Any) -> Any:
    return _text(value) if isinstance(value, Mapping | list | tuple) else value


def _losses(table: pd.DataFrame, monitor: str) -> np.ndarray:
    """(member,), float64: infinite where the member diverged."""
    losses = table[monitor].to_numpy(dtype=np.float64)
    ended_well = (table["status"] == _FINISHED).to_numpy() if "status" in table else np.ones(len(table), dtype=bool)
    return np.where(np.isfinite(losses) & ended_well, losses, np.inf)


def _spread_over_seeds(table: pd.DataFrame, monitor: str) -> pd.DataFrame:
    require_columns(list(table.columns), ["member", "configuration", monitor], where="the table of members")
    losses = _losses(table, monitor)
    if not np.isfinite(losses).any():
        raise ValueError(
            f"expected a member with a finite {monitor} to choose; got {len(table)} members, of which all diverged. "
            "Try a lower learning_rate or a gradient_clip_norm."
        )
    rows = []
    for name in dict.fromkeys(table["configuration"]):
        own = np.sort(losses[(table["configuration"] == name).to_numpy()])
        p90 = _percentile(own, 90)
        rows.append(
            {
                "configuration": name,
                "n_seeds": len(own),
                "n_diverged": int(np.isinf(own).sum()),
                "min": own[0],
                "median": _percentile(own, 50),
                "p90": p90,
                "spread": p90 - own[0] if np.isfinite(own[0]) else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _percentile(ordered: np.ndarray, percent: int) -> float:
    """NumPy's linear percentile, infinite (and not NaN) as soon as an infinite value takes part."""
    position, between = divmod(percent * (len(ordered) - 1), 100)
    if np.isinf(ordered[position + (between > 0)]):
        return math.inf
    largest = ordered[np.isfinite(ordered)][-1]
    return float(np.percentile(np.minimum(ordered, largest), percent))  # what was infinite takes no part


def _ranked(spread: pd.DataFrame) -> list[str]:
    """Configurations from the best to the worst; the sort is stable, so ties keep their order."""
    tie = np.where(np.isinf(spread["median"]), spread["min"], 0.0)
    order = np.lexsort([tie, spread["median"].to_numpy()])
    return [str(name) for name in spread["configuration"].iloc[order]]

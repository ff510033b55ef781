"""Members of a grid into tidy tables: losses by hyper-parameter, random starts of a configuration, chosen members."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.grid import SEED, select
from mimic.schema import examples, require_columns

__all__ = ["MONITOR", "chosen_members", "hyperparameter_table", "random_starts_table"]

MONITOR = "val_true_contrast_loss"

# What the registry lists among the parameters of a run, but no option that anybody tunes.
_NO_OPTIONS = {"model", "data", "code", SEED, f"parameter_{SEED}"}
_UNITS = re.compile(r"\d+(-\d+)+")
_FINISHED = "finished"


def hyperparameter_table(
    runs: pd.DataFrame, *, monitor: str = MONITOR, parameters: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a member and hyper-parameter that varies: model, parameter, value, order, seed, loss.

    Parameters
    ----------
    runs
        Members as `mimic.grid.members_table` gives them (`members.csv` of a run), or runs as
        `mimic.registry.Registry.runs` does. Where there is a column `status`, any other than "finished" has no loss.
    monitor
        The column with the loss, nats.
    parameters
        The columns that may be hyper-parameters. By default those that the registry or the grid says are some; the
        seed is none.

    Returns
    -------
    A parameter has rows of the models within which it varies. `value` is text; `order` counts the values of a
    parameter over all models: "none", numbers, layers ("24-24"; fewer before more), other text. The `loss` of a
    member that diverged is infinite. Without a parameter that varies, no rows.

    Raises
    ------
    ValueError
        If a column is missing, the table is empty, it is not known which columns are parameters, runs of a model
        were trained on different data, or two runs have the same parameters and seed.

    Example
    -------
    >>> members = pd.DataFrame(
    ...     {
    ...         "model": "near",
    ...         "configuration": ["near/units=24-24", "near/units=8"],
    ...         "units": ["24-24", "8"],
    ...         "seed": 0,
    ...         "val_true_contrast_loss": [0.4, float("nan")],
    ...     }
    ... )
    >>> hyperparameter_table(members)
      model parameter  value  order  seed  loss
    0  near     units  24-24      1     0   0.4
    1  near     units      8      0     0   inf
    """
    varying = _varying(_checked(runs, monitor), _parameters(runs, parameters))
    _check_distinct(runs, varying)
    losses = _losses(runs, monitor)
    columns = ["model", "parameter", "value", "order", SEED, "loss"]
    parts = []
    for name in dict.fromkeys(name for own in varying.values() for name in own):
        inside = runs["model"].isin([model for model, own in varying.items() if name in own]).to_numpy()
        values = [_text(value) for value in runs.loc[inside, name]]
        ordered = sorted(set(values), key=_sort_key)
        part = pd.DataFrame({"model": runs.loc[inside, "model"].astype(str).tolist(), "parameter": name})
        order = [ordered.index(value) for value in values]
        part = part.assign(value=values, order=order, **{SEED: runs.loc[inside, SEED].tolist()}, loss=losses[inside])
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def random_starts_table(
    runs: pd.DataFrame, *, monitor: str = MONITOR, parameters: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row a member, sorted by loss within its configuration, with the spread over the seeds of that.

    Parameters
    ----------
    runs, monitor, parameters
        As in `hyperparameter_table`, with its errors.

    Returns
    -------
    model; configuration, what is set besides the seed ("units=8-8,learning_rate=0.001"), empty where nothing is;
    seed; rank of the loss, from 1; loss, infinite where the member diverged; and, the same for all of a
    configuration, n_seeds, n_diverged, min, median, p90 and spread = p90 - min as `mimic.grid.select` has them.
    Models and configurations are in the order of the grid.

    Raises
    ------
    ValueError
        Also if all members diverged.
    """
    _checked(runs, monitor)
    if "configuration" in runs:
        models, full = runs["model"].astype(str), runs["configuration"].astype(str)
        settings = [name.removeprefix(model).removeprefix("/") for name, model in zip(full, models, strict=True)]
    else:
        varying = _varying(runs, _parameters(runs, parameters))
        _check_distinct(runs, varying)
        records = runs.to_dict(orient="records")
        settings = [",".join(f"{name}={_text(row[name])}" for name in varying[str(row["model"])]) for row in records]
    table = pd.DataFrame({"model": runs["model"].astype(str).tolist(), "settings": settings})
    table = table.assign(**{SEED: runs[SEED].tolist()}, loss=_losses(runs, monitor), member=range(len(runs)))
    table["configuration"] = table["model"] + "/" + table["settings"]  # one name for one row of the selection
    spread = select(table, monitor="loss").table
    table = table.merge(spread, on="configuration", validate="many_to_one")
    table["rank"] = table.groupby("configuration")["loss"].rank(method="first").astype(int)
    places = [pd.factorize(table[name])[0] for name in ("configuration", "model")]
    table = table.iloc[np.lexsort((table["rank"].to_numpy(), *places))].reset_index(drop=True)
    numbers = ["n_seeds", "n_diverged", "min", "median", "p90", "spread"]
    table = table.drop(columns="configuration").rename(columns={"settings": "configuration"})
    return table[["model", "configuration", SEED, "rank", "loss", *numbers]]


def chosen_members(members: pd.DataFrame, runs: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Model -> the member whose weights it has.

    Parameters
    ----------
    members
        With the columns model, member and run: `members.csv` of a run.
    runs
        Model -> ids of the runs behind it, as in `summary.json` of a run. Models of several runs (the mean over
        seeds) and of none are left out.

    Raises
    ------
    ValueError
        If a column is missing, or a run is not among the members.
    """
    require_columns(list(members.columns), ["model", "member", "run"], where="members")
    names = dict(zip(members["run"].astype(str), members["member"].astype(str), strict=True))
    own = {model: ids[0] for model, ids in runs.items() if len(ids) == 1 and model in set(members["model"])}
    unknown = [run for run in own.values() if run not in names]
    if unknown:
        raise ValueError(f"expected the runs of these {len(members)} members; {examples(unknown)} is none of them.")
    return {model: names[run] for model, run in own.items()}


def _checked(runs: pd.DataFrame, monitor: str) -> pd.DataFrame:
    require_columns([str(name) for name in runs], ["model", SEED, monitor], where="the table of members")
    if runs.empty:
        raise ValueError("expected at least one member of a grid; got an empty table.")
    if "data" in runs:
        several = runs.groupby("model", sort=False)["data"].nunique().loc[lambda n: n > 1]
        if len(several):
            raise ValueError(
                f"losses can be compared on the same data; runs of {examples(several.index.tolist())} were trained on "
                f"{several.iloc[0]} data sets. Take the runs of one experiment: Registry.runs(experiment=NAME)."
            )
    return runs


def _parameters(runs: pd.DataFrame, given: Sequence[str] | None) -> list[str]:
    """The columns that may be hyper-parameters."""
    columns = [str(name) for name in runs]
    if given is not None:
        require_columns(columns, given, where="the table of members")
        return list(given)
    if "parameters" in runs.attrs:
        return [name for name in runs.attrs["parameters"] if name in columns and name not in _NO_OPTIONS]
    if "configuration" in columns and columns.index("configuration") < columns.index(SEED):
        return columns[columns.index("configuration") + 1 : columns.index(SEED)]
    raise ValueError(
        "it is not known which columns are hyper-parameters: expected the table of members, with the parameters "
        f"between configuration and {SEED}, or that of Registry.runs(). Name them: parameters=[...]."
    )


def _varying(runs: pd.DataFrame, parameters: Sequence[str]) -> dict[str, list[str]]:
    """Model -> the parameters with more than one value among its members."""
    return {
        str(model): [name for name in parameters if len({_text(value) for value in own[name]}) > 1]
        for model, own in runs.groupby("model", sort=False)
    }


def _check_distinct(runs: pd.DataFrame, varying: Mapping[str, Sequence[str]]) -> None:
    """Two runs of equal parameters and seed would count a random start twice."""
    for model, own in runs.groupby("model", sort=False):
        keys = own[[*varying[str(model)], SEED]].map(_text).agg(", ".join, axis=1)
        if keys.duplicated().any():
            raise ValueError(
                f"model {model} has several runs of the same parameters and seed ({examples(keys[keys.duplicated()])}). "
                "Take those of one experiment and code version, or name what tells them apart: parameters=[...]."
            )


def _losses(runs: pd.DataFrame, monitor: str) -> np.ndarray:
    """(member,), float64, nats: infinite where training did not end well."""
    losses = runs[monitor].to_numpy(dtype=np.float64)
    ended_well = (runs["status"] == _FINISHED).to_numpy() if "status" in runs else np.ones(len(runs), dtype=bool)
    return np.where(np.isfinite(losses) & ended_well, losses, np.inf)


def _text(value: Any) -> str:
    """A value of a parameter as figures show it; what is missing is "none"."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, int | float | np.number) else str(value)


def _sort_key(text: str) -> tuple[int, float, tuple[int, ...], str]:
    """Nothing, numbers, hidden layers, other text."""
    if text == "none":
        return 0, 0.0, (), ""
    if _UNITS.fullmatch(text):
        layers = tuple(int(n) for n in text.split("-"))
        return 2, float(len(layers)), layers, ""
    try:
        return 1, float(text), (), ""
    except ValueError:
        return 3, 0.0, (), text

"""A configuration into a finished run folder with its figures, and a run into the text the command line prints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.bin_shares import format_bins
from mimic.chain import format_chain
from mimic.comparison import format_comparison
from mimic.configuration import Configuration
from mimic.evaluation import decision_table, format_groups
from mimic.experiment import Fit, fit_models
from mimic.hexgrid import centroids
from mimic.ledger import Entry, Ledger
from mimic.preparation import Prepared, Progress, prepare
from mimic.recorded import assess_once, record_figures
from mimic.runs import REGISTRY, output_folder, summarize, write_run
from mimic.schema import INDIVIDUAL, SPLIT, VALIDATION

__all__ = ["Training", "difference_table", "format_run", "run_to_folder"]

# Of each model, so many configurations of its grid are printed.
_MOST_CONFIGURATIONS = 10


@dataclass(frozen=True)
class Training:
    """How the members of an experiment are trained and where they are recorded; see `mimic.experiment.fit_models`.

    Parameters
    ----------
    registry, files
        By default the folder `registry` beside the run. At a URL, it needs a folder for files.
    before_training
        Called when the data are ready and before anything imports TensorFlow, which a program may want to set up.
    """

    registry: str | Path | None = None
    files: str | Path | None = None
    n_workers: int | None = None
    cluster: str | None = None
    retrain: bool = False
    before_training: Callable[[], None] = lambda: None


def run_to_folder(
    configuration: Configuration,
    out: Path,
    *,
    overwrite: bool,
    progress: Progress,
    training: Training | None = None,
) -> dict[str, Any]:
    """Run an experiment and write its folder, whole or not at all.

    Returns
    -------
    The summary, the tables as records and the figures' paths, all as plain values.
    """
    training = training or Training()
    where = training.registry or out.parent / REGISTRY
    if "://" not in str(where) and Path(where).resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f"the registry {where} would lie in the run folder {out}, which is written whole or not at all; choose "
            "another --out or another --registry."
        )
    with output_folder(out, overwrite=overwrite) as folder:
        prepared = prepare(configuration, progress=progress)
        fit = fit_models(
            configuration,
            prepared,
            registry=where,
            files=training.files,
            n_workers=training.n_workers,
            cluster=training.cluster,
            retrain=training.retrain,
            before_training=training.before_training,
            progress=progress,
        )
        tables = assess_once(configuration, prepared.choice_sets, fit, where)
        write_run(folder, configuration, prepared, fit, tables, registry=where)
        figures = draw_run(configuration, prepared, fit, tables, folder / "figures", progress)
        record_figures(where, configuration, fit, [folder / "figures" / name for name in figures], files=training.files)
    return {
        **summarize(configuration, prepared, fit, registry=where),
        "out": str(out),
        "n_trained": fit.n_trained,
        "chosen": fit.chosen,
        "figures": [str(out / "figures" / name) for name in figures],
        "ledger": prepared.ledger.to_frame().to_dict(orient="records"),
        **{name: table.to_dict(orient="records") for name, table in tables.items()},
        "left_out": fit.baseline.left_out if fit.baseline is not None else {},
        "members": fit.members.to_dict(orient="records"),
        "selection": fit.selection.to_dict(orient="records"),
        "search": fit.search.to_dict(orient="records"),
    }


def difference_table(configuration: Configuration, prepared: Prepared, fit: Fit) -> tuple[pd.DataFrame, str, str, str]:
    """Where one model explains an individual's decisions better than another; for two models or more.

    Returns
    -------
    table
        One row a decision: longitude, latitude, longitude_selected, latitude_selected (degrees) and
        difference, ln p of `model` minus that of `other`, nats.
    individual, model, other
        By default the last model against the one before, for the validation individual with the largest gain.
    """
    names = list(configuration.models)
    model, other = configuration.figures.difference or (names[-1], names[-2])
    choice_sets = prepared.choice_sets
    table = decision_table({m: fit.log_odds[m] for m in (model, other)}, choice_sets)
    selected = choice_sets.choice[np.maximum(choice_sets.selected, 0)]
    table["longitude"], table["latitude"] = centroids(choice_sets.decisions["origin"].to_numpy())
    # a bin is selected where the animal is: no arrow
    reached = choice_sets.decisions["origin"].to_numpy() if configuration.bins is not None else selected
    table["longitude_selected"], table["latitude_selected"] = centroids(reached)
    table["difference"] = table[model] - table[other]
    individual = configuration.figures.individual
    if individual is None:
        candidates = table[table[SPLIT] == VALIDATION]
        individual = str(candidates.groupby(INDIVIDUAL)["difference"].sum().idxmax())
    return table[table[INDIVIDUAL] == individual].reset_index(drop=True), individual, model, other


def draw_run(
    configuration: Configuration,
    prepared: Prepared,
    fit: Fit,
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    progress: Progress,
) -> list[str]:
    """Draw the figures of a run into a folder; the names of the files."""
    from mimic import bin_figures, evaluation_figures, figures, group_figures, maps, training_figures

    folder.mkdir()
    drawn: list[str] = []

    def keep(figure: Any, name: str) -> None:
        figures.save_figure(figure, folder / name)
        drawn.append(name)
        progress("drawing figures", len(drawn), 5)

    colors = figures.model_colors(list(fit.log_odds))
    with figures.style():
        if prepared.tracks is not None:
            keep(maps.draw_tracks(prepared.tracks, color_by=configuration.figures.color_by).figure, "tracks.png")
        if len(fit.history):
            shown = fit.history[fit.history["member"].isin(set(fit.chosen.values()))]
            running = _trained_on(configuration, fit)
            curves = training_figures.draw_training_curves(
                shown, running=running, best_epoch=fit.best_epochs, colors=colors
            )
            keep(curves, "training.png")
        keep(group_figures.draw_groups(tables["evaluation"], colors=colors), "groups.png")
        keep(evaluation_figures.draw_chain(tables["chain"], colors=colors).figure, "chain.png")
        if configuration.bins is not None:
            bins = bin_figures.draw_bins(tables["bins"], label=configuration.bins.label, colors=colors)
            keep(bins.figure, "bins.png")
        if prepared.tracks is not None and len(configuration.models) > 1:
            table, individual, model, other = difference_table(configuration, prepared, fit)
            axes = maps.draw_difference_map(table, title=f"individual {individual}: A = {model}, B = {other}")
            keep(axes.figure, "difference.png")
    return drawn


def _trained_on(configuration: Configuration, fit: Fit) -> dict[str, Literal["contrast", "decision"]]:
    """Model -> the loss that its chosen member was trained on; a grid may hold both."""
    members = {m.name: m for model in fit.chosen for m in configuration.members_of(model)}
    return {
        model: "decision" if members[name].training["loss"] == "softmax" else "contrast"
        for model, name in fit.chosen.items()
    }


def format_run(result: dict[str, Any], out: Path) -> str:
    """What the command line prints at the end of a run."""
    table = _validation(result["evaluation"])
    groups = table.groupby(["choice_group", "behavior_group"], sort=False).ngroup()
    table = table.iloc[np.argsort(groups, kind="stable")]  # the models of a group below each other
    ledger = Ledger(tuple(Entry(**entry) for entry in result["ledger"]))
    lines = [
        f"{result['rows_read']:,} rows read = {result['n_decisions']:,} decisions + {result['rows_dropped']:,} dropped:",
        ledger.explain(with_examples=False),
        "",
        "Validation, individuals weighing the same, with 95 % intervals over individuals (evaluation.csv has the rest):",
        format_groups(table, leave_out=["split", "weighting", "mean_probability"]),
        *_format_left_out(result["left_out"]),
        *_format_differences(_validation(result["differences"])),
        *_format_chain(_validation(result["chain"])),
    ]
    lines += _format_training(result)
    lines += _format_bins(_validation(result["bins"]))
    if result["shares"]:
        shares = _validation(result["shares"])
        lines += ["", "Share of selections, validation, predicted against observed:", _format_shares(shares)]
    lines += ["", f"Models, choice sets and all tables are in {out}; the pictures are"]
    lines += [f"  {path}" for path in result["figures"]]
    return "\n".join(lines)


def _validation(records: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of a table on validation with individuals weighing the same."""
    table = pd.DataFrame(records)
    if table.empty:
        return table
    return table[(table["split"] == VALIDATION) & (table["weighting"] == "individual")]


def _format_left_out(left_out: dict[str, str]) -> list[str]:
    """The features that the conditional logit does without, and why."""
    reasons: dict[str, list[str]] = {}
    for name, reason in left_out.items():
        reasons.setdefault(reason, []).append(name)
    told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
    return [f"The {BASELINE} does without {told}."] if told else []


def _format_differences(table: pd.DataFrame) -> list[str]:
    """Pairs of models on all decisions, or on the first group."""
    if table.empty:
        return []
    first = table[["choice_group", "behavior_group"]].iloc[0]
    shown = table[(table[["choice_group", "behavior_group"]] == first).all(axis=1)]
    text = format_comparison(shown, leave_out=["split", "weighting", "choice_group", "behavior_group"])
    return ["", f"Paired by decision ({_group_name(first)}; differences.csv has the rest):", text]


def _format_chain(table: pd.DataFrame) -> list[str]:
    """Where each model gains, on all decisions or the first group."""
    if table.empty:
        return []
    shown = table[table["behavior_group"] == table["behavior_group"].iloc[0]]
    models = [name for name, rows in shown.groupby("model", sort=False) if rows["gain"].any()]  # the null gains nothing
    shown = shown[shown["model"].isin(models)]
    if shown.empty:
        return []
    return [
        "",
        "Where the gain over chance is made; stages add up to the whole (chain.csv has the rest):",
        format_chain(shown),
    ]


def _format_bins(table: pd.DataFrame) -> list[str]:
    """The bins of the last model of the experiment; nothing where choices are no bins."""
    own = table[~table["model"].isin([BASELINE])] if len(table) else table
    if own.empty:
        return []
    shown = own[own["model"] == own["model"].iloc[-1]]
    return ["", "By bin, validation (bins.csv has the rest):", format_bins(shown)]


def _group_name(group: pd.Series) -> str:
    return f"choices {group['choice_group']}, behavior {group['behavior_group']}"


def _format_training(result: dict[str, Any]) -> list[str]:
    """What the grid, the search and the doctor have to say; nothing where there is nothing."""
    chosen = [m for m in result["members"] if m["member"] in set(result["chosen"].values())]
    lines = []
    if result["selection"]:
        lines += ["", "Validation loss over the seeds of a configuration, nats (spread = p90 - min; * is chosen):"]
        lines += [_format_selection(pd.DataFrame(result["selection"]), {m["configuration"] for m in chosen})]
    if result["search"]:
        lines += ["", *_format_search(pd.DataFrame(result["search"]))]
    verdicts = [f"  {m['member']}: {m['verdicts']}" for m in chosen if m["verdicts"]]
    if verdicts:
        lines += ["", f"The training doctor has seen (mimic doctor {result['out']} explains):", *verdicts]
    return lines


def _format_selection(selection: pd.DataFrame, chosen: set[str]) -> str:
    """The configurations of each model with the lowest medians, and how many more there are."""
    columns = ["configuration", "n_seeds", "n_diverged", "min", "median", "p90", "spread"]
    if not selection["n_diverged"].any():
        columns.remove("n_diverged")
    best = selection.sort_values("median", kind="stable").groupby("model", sort=False).head(_MOST_CONFIGURATIONS)
    shown = selection.loc[best.index.sort_values()]
    marks = ["*" if name in chosen else " " for name in shown["configuration"]]
    shown = shown[columns].assign(
        configuration=[f"{m} {n}" for m, n in zip(marks, shown["configuration"], strict=True)]
    )
    width = shown["configuration"].str.len().max()
    text = shown.assign(configuration=shown["configuration"].str.ljust(width)).to_string(
        index=False, float_format="{:.4f}".format, justify="right"
    )
    n_more = len(selection) - len(shown)
    return text + (f"\n  and {n_more} more with higher medians in selection.csv" if n_more else "")


def _format_search(search: pd.DataFrame) -> list[str]:
    """One line a model that was halved."""
    lines = []
    for model, rungs in search.groupby("model", sort=False):
        spent, full = int(rungs["epochs_spent"].sum()), int(rungs["epochs_of_full_grid"].iloc[0])
        steps = ", ".join(f"{n} to epoch {e}" for n, e in zip(rungs["n_members"], rungs["epochs"], strict=True))
        lines.append(f"Halving of {model}: members {steps}; {spent:,} of {full:,} epochs ({spent / full:.0%}).")
    return lines


def _format_shares(shares: pd.DataFrame) -> str:
    columns = ["condition", "model", "n_individuals", "n_decisions", "predicted", "observed"]
    return shares[columns].to_string(index=False, float_format="{:.4f}".format)

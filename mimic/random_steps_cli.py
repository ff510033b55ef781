"""The command `mimic choices random-steps`: an experiment into the coefficients and D of random steps beside all cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer
from mimic.bars import progress_bars

if TYPE_CHECKING:
    import pandas as pd

    from mimic.configuration import Configuration
    from mimic.random_steps import Proposal
    from mimic.schema import ChoiceSets

__all__ = ["random_steps_command"]

_MODEL = "random steps"


def random_steps_command(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (.yaml).")],
    features: Annotated[
        str | None,
        typer.Option(
            help="Of the conditional logit, with commas.",
            show_default="distance_km, log_distance, turn_cos, stay and all that differ between choices",
        ),
    ] = None,
    k: Annotated[str, typer.Option("--k", help="Numbers of random steps, with commas.")] = "1,4,9,19",
    repeats: Annotated[int, typer.Option(min=1, help="Draws of each number.")] = 5,
    uniform: Annotated[
        float, typer.Option(min=0, max=0.99, help="Share of uniform draws in the design mixed; 0 leaves it out.")
    ] = 0.1,
    points: Annotated[
        bool,
        typer.Option(
            "--points", help="Also draw random points, no cells: integrated step selection on the gridded covariates."
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Also write every fit to this file (.csv).")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Compare random steps, drawn from the animals' own lengths and turns, with choice sets of all cells."""
    counts = _counts(k)
    if out is not None and out.suffix != ".csv":
        raise ValueError(f"--out expects a file that ends in .csv; got {out}.")
    if out is not None and not out.resolve().parent.is_dir():
        raise FileNotFoundError(f"expected a folder to write {out.name} into; {out.parent} does not exist.")
    from mimic.configuration import load_configuration
    from mimic.preparation import prepare
    from mimic.random_steps_study import random_steps_study, summarize
    from mimic.schema import TRAIN, VALIDATION

    asked = None if features is None else [name.strip() for name in features.split(",") if name.strip()]
    configuration = load_configuration(experiment)
    if configuration.bins is not None:
        raise ValueError(f"{experiment}: random steps need choices that are cells; those of this experiment are bins.")
    if points and configuration.tracks is None:
        raise ValueError("--points needs tracks; the choices of this experiment are a ready table.")
    with progress_bars() as progress:
        prepared = prepare(_with_movement(configuration, asked), progress=progress)
        cs = prepared.choice_sets
        train, validation = cs.split(TRAIN), cs.split(VALIDATION)
        names, left_out = (asked, {}) if asked is not None else _linear_features(train)
        table, proposal = random_steps_study(
            train, validation, names, k=counts, repeats=repeats, uniform=uniform, seed=seed, progress=progress
        )
        free = _points(configuration, prepared.tracks, counts, repeats, seed) if points else None
    summary = summarize(table)
    if out is not None:
        _write(table, out)
    report = {
        "features": names,
        "left_out": left_out,
        "seed": seed,
        "repeats": repeats,
        "proposal": {"steps": proposal.steps.parameters, "turns": proposal.turns.parameters, "stay": proposal.stay},
        "summary": summary.to_dict("records"),
        "points": None if free is None else free.to_dict("records"),
        "out": None if out is None else str(out),
    }
    answer(report, as_json, lambda: _format(summary, proposal, repeats, left_out) + _format_points(free))


def _with_movement(configuration: Configuration, asked: list[str] | None) -> Configuration:
    """The experiment with the features of movement among those that are built."""
    from mimic.random_steps import MOVEMENT
    from mimic.sections import ModelConfig

    if configuration.table is not None:
        return configuration
    needed = list(dict.fromkeys([*MOVEMENT, *(asked or [])]))
    models: dict[str, Any] = {**configuration.models, _MODEL: ModelConfig(features=needed)}
    return configuration.model_copy(update={"models": models})


def _linear_features(cs_train: ChoiceSets) -> tuple[list[str], dict[str, str]]:
    """Movement first, then every feature with a coefficient of its own; and why others have none."""
    from mimic.baseline import fit_baseline
    from mimic.random_steps import MOVEMENT

    movement = [name for name in MOVEMENT if name in cs_train.features]
    other = [n for n in cs_train.features if cs_train.info[n].role != "decision" and n not in movement]
    baseline = fit_baseline(cs_train, [*movement, *other], weighting="decision")
    if baseline.fit is None:
        raise ValueError("no feature of the choices has a coefficient of its own; name some by --features.")
    return list(baseline.fit.features), dict(baseline.left_out)


def _points(
    configuration: Configuration, tracks: pd.DataFrame | None, k: list[int], repeats: int, seed: int
) -> pd.DataFrame:
    """Random points of the training individuals, with the covariates of the experiment."""
    from dataclasses import fields

    from mimic.covariates import Covariate
    from mimic.random_points import random_points_study
    from mimic.schema import SPLIT, TRAIN

    assert tracks is not None
    own = [field.name for field in fields(Covariate) if field.name not in ("name", "path")]
    covariates = [
        Covariate(name, section.file, **{one: getattr(section, one) for one in own})
        for name, section in configuration.covariates.items()
        if section.file is not None  # what is derived on cells has no value at a point
    ]
    training = tracks[tracks[SPLIT] == TRAIN].reset_index(drop=True)
    return random_points_study(training, covariates, k=k, repeats=repeats, seed=seed)[0]


def _format_points(table: pd.DataFrame | None) -> str:
    """One line a coefficient or parameter, one column a k; empty without random points."""
    if table is None:
        return ""
    from mimic.textable import align, number

    ks = list(dict.fromkeys(table["k"]))
    lines = [["part", "name", *(f"k = {k}" for k in ks)]]
    for (part, name), rows in table.groupby(["part", "name"], sort=False):
        cells = [
            f"{row['estimate']:.4g} ({number(row['estimate_sd'], '{:.2g}')}; {number(row['se'], '{:.2g}')})"
            for row in rows.to_dict("records")
        ]
        lines.append([str(part), str(name), *cells])
    title = "Random points in place of cells, integrated step selection: mean (standard deviation; standard error)."
    return "\n".join(["", "", title, "", *align(lines, {0, 1})])


def _counts(text: str) -> list[int]:
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) < 1:
        raise ValueError(f"--k expects whole numbers of 1 or more with commas, such as 1,4,9,19; got {text!r}.")
    return list(dict.fromkeys(counts))


def _write(table: pd.DataFrame, path: Path) -> None:
    """Write the table; the file appears under its name only when it is whole."""
    import os

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        table.to_csv(temporary, index=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _format(summary: pd.DataFrame, proposal: Proposal, repeats: int, left_out: dict[str, str]) -> str:
    from mimic.random_steps_study import format_random_steps

    steps, turns = proposal.steps, proposal.turns
    lines = [
        f"Random steps drawn from a gamma of lengths (shape {steps.shape:.4g}, mean {steps.mean:.4g} km), a von Mises of "
        f"turns (kappa {turns.kappa:.3g}, mean {turns.mean_rad:.3g}) and a probability to stay of {proposal.stay:.3g}, "
        "all of the training individuals.",
        f"D: mean ln p of the validation individuals on their full choice sets, nats. Coefficients: mean over {repeats} "
        "draws (standard deviation over draws; cluster-robust standard error).",
        "offset: with ln(n / q). mixed: so, and a share of the draws uniform. none: without. updated: none, with the "
        "proposal added again.",
        *(f"left out: {name} ({why})" for name, why in left_out.items()),
    ]
    return "\n".join([*lines, "", format_random_steps(summary)])

"""The command `mimic clogit`: a long table, or a folder of choice sets, into the classical model on the terminal or as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from mimic.answers import answer

if TYPE_CHECKING:
    import pandas as pd

    from mimic.coefficients import ConditionalLogit
    from mimic.schema import ChoiceSets

__all__ = ["clogit_command"]


def clogit_command(
    table: Annotated[
        Path,
        typer.Argument(help="Long table (.csv, .csv.gz, .parquet), or the folder of a run or of built choice sets."),
    ],
    features: Annotated[str | None, typer.Option(help="Names of the features, separated by commas.")] = None,
    formula: Annotated[
        str | None, typer.Option(help='In place of --features, such as "sst + log(step_length_m) + sst:night".')
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Column of decisions that go together; by default the individual.")
    ] = None,
    offset: Annotated[
        str | None, typer.Option(help="Column with a known part of the log-odds, such as -ln q of sampled choices.")
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Column with how often each decision counts.")] = None,
    weighting: Annotated[str, typer.Option(help="What weighs the same: decision or individual.")] = "decision",
    column: Annotated[
        list[str] | None, typer.Option(help='Our name for a column of the table, "individual=fish"; may be repeated.')
    ] = None,
    average: Annotated[
        bool, typer.Option("--average", help="Also fit each individual, and average over them in two steps.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Fit a conditional logit and print its coefficients, with standard errors of three kinds."""
    from mimic.estimator import ConditionalLogitEstimator
    from mimic.population import compare_population, fit_individuals

    columns = _columns(column)
    data = _read(table, columns)
    names = None if features is None else [name.strip() for name in features.split(",") if name.strip()]
    if not names and formula is None:
        raise ValueError(f"expected --features or --formula; {table} has {_names(data)}.")
    model = ConditionalLogitEstimator(
        names,
        formula=formula,
        cluster=cluster,
        offset=offset,
        weights=weights,
        weighting=cast("Literal['decision', 'individual']", weighting),
        columns=columns or None,
    )
    if average and (weights or offset or cluster):
        raise ValueError("--average fits individuals one by one; it goes without --weights, --offset and --cluster.")
    fit = model.fit(data).result_
    if not average:
        answer(_report(fit), as_json, fit.format)
        return
    cs, values = model.design(data)
    individuals = fit_individuals(cs, fit.features, columns=values)
    averages = compare_population(cs, fit.features, columns=values)
    own = individuals.drop(columns=[name for name in individuals if str(name).startswith("covariance_")])
    report = {"individuals": own.to_dict(orient="records"), "averages": averages.to_dict(orient="records")}
    answer({**_report(fit), **report}, as_json, lambda: f"{fit.format()}\n\n{_format_averages(averages)}")


def _format_averages(averages: pd.DataFrame) -> str:
    """The population's coefficients by three ways of averaging."""
    title = "Coefficients of the population: pooled, mean of the individuals' own, and two-step (REML):"
    text = averages.to_string(index=False, float_format="{:.4g}".format, na_rep="-")
    return "\n".join([title, *(line.rstrip() for line in text.splitlines())])


def _read(path: Path, columns: dict[str, str]) -> pd.DataFrame | ChoiceSets:
    if not path.is_dir():
        from mimic.longtable import read_long_table

        return read_long_table(path, columns=columns)
    from mimic.store import load_choice_sets

    if columns:
        raise ValueError("--column is for tables; the columns of choice sets in a folder have their names already.")
    return load_choice_sets(path / "choices" if (path / "choices").is_dir() else path)


def _columns(texts: list[str] | None) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts or []]
    bad = ["".join(pair) for pair in pairs if not all(pair)]
    if bad:
        raise ValueError(f"--column expects OURS=THEIRS, such as individual=fish_id; got {', '.join(bad)}.")
    return {ours: theirs for ours, _, theirs in pairs}


def _names(data: pd.DataFrame | ChoiceSets) -> str:
    import pandas as pd

    return ", ".join(map(str, data.columns if isinstance(data, pd.DataFrame) else data.features))


def _report(fit: ConditionalLogit) -> dict[str, Any]:
    """The fit as plain values; mappings are by feature."""
    table = fit.summary()
    by_feature = {
        name: dict(zip(fit.features, table[name].tolist(), strict=True))
        for name in ("coef", "se", "robust_se", "cluster_robust_se", "z", "p", "low", "high")
    }
    return {
        **by_feature,
        "interval_kind": fit.default_kind,
        **{
            name: getattr(fit, name)
            for name in (
                *("log_likelihood", "null_log_likelihood", "gmp", "null_gmp", "balanced_gmp", "null_balanced_gmp"),
                *("n_decisions", "n_rows", "n_clusters", "total_weight", "weighting"),
                *("aic", "bic", "mcfadden", "adjusted_mcfadden", "iterations", "converged"),
            )
        },
    }

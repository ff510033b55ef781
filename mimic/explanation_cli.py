"""The commands `mimic explain ...`: a run into what its models have learned, as text, JSON, CSV files and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer

if TYPE_CHECKING:
    import pandas as pd

    from mimic.conditional_logit import ConditionalLogit

__all__ = ["explain_app"]

explain_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Explain the models of a run: who, where, by what, and how sure."
)


def _writable(out: Path | None) -> Path | None:
    """The folder, or an error before any work is done."""
    if out is not None:
        from mimic.explanation_runs import check_folder

        check_folder(out)
    return out


RunArgument = Annotated[Path, typer.Argument(help="The folder of a run.")]
ModelOption = Annotated[
    list[str] | None, typer.Option("--model", help="Only this model; may be repeated. By default the last of the run.")
]
SplitOption = Annotated[
    str | None, typer.Option("--split", help="Decisions of this split: train, validation or all; by default all.")
]
ValidationOption = Annotated[str, typer.Option("--split", help="Decisions of this split: train, validation or all.")]
ChoicesOption = Annotated[str, typer.Option("--choices", help='Only these choices, "distance_km > 0".')]
OutOption = Annotated[
    Path | None, typer.Option(callback=_writable, help="Folder for CSV files and figures; made where it is not.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of whatever is drawn.")]
RefitsOption = Annotated[
    int,
    typer.Option(
        "--clogit",
        min=0,
        help="Also the conditional logit of the same features, with an interval from so many refits to individuals "
        "drawn anew; 0 is without.",
    ),
]


class ResponseKind(StrEnum):
    """What a response curve is."""

    accumulated = "accumulated"
    partial_dependence = "partial_dependence"
    log_rss = "log_rss"


@explain_app.command("exemplars")
def exemplars_command(
    run: RunArgument,
    model: Annotated[str | None, typer.Option(help="The model; by default that of the run's difference map.")] = None,
    other: Annotated[str | None, typer.Option(help="The model it is compared with; may be `truth`.")] = None,
    by: Annotated[str, typer.Option(help="individual, month, region, or a column of the decisions.")] = "individual",
    n: Annotated[int, typer.Option("-n", min=1, help="So many of the best and of the worst.")] = 5,
    min_decisions: Annotated[int, typer.Option(min=1, help="Leave out values with fewer decisions.")] = 5,
    choices: ChoicesOption = "all",
    split: ValidationOption = "validation",
    color_by: Annotated[str | None, typer.Option(help="Decision column that colors the bars of individuals.")] = None,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show whom and what one model explains better, and worse, than another; with maps where choices are cells."""
    from mimic import exemplars as ex
    from mimic.explanation_runs import drawn, exemplar_figures, pair_of, write_files
    from mimic.runs import load_run

    cs, log_odds = load_run(run)
    first, second = pair_of(run, model, other, log_odds)
    table = ex.exemplars(
        log_odds, cs, first, second, by=by, n=n, min_decisions=min_decisions, choice_group=choices, splits=[split]
    )
    decisions = ex.exemplar_decisions(log_odds, cs, first, second, n=n, choice_group=choices, splits=[split])
    if table.empty or decisions.empty:
        raise ValueError(f"no {by} has {min_decisions} decisions of split {split} among these choices; ask for fewer.")
    if color_by is not None:
        if by != "individual" or color_by not in cs.decisions:
            raise ValueError(f"--color-by is a decision column, and for --by individual; got {color_by} by {by}.")
        table = table.assign(**{color_by: table["value"].map(cs.decisions.groupby("individual")[color_by].first())})
    figures: dict[str, Callable[[], Any]] = {f"exemplars_{by}": drawn("draw_exemplars", table, color_by=color_by)}
    why = exemplar_figures(cs, log_odds, first, second, choices, split, table, decisions, figures)
    tables = {f"exemplars_{by}": table, "exemplar_decisions": decisions}
    files = write_files(out, tables, figures, overwrite=overwrite)
    result = {"run": str(run), "model": first, "other": second, "exemplars": _records(table)}
    result |= {"decisions": _records(decisions), "no_map": why, "files": files}
    shown = ["rank", "side", "value", "n_individuals", "n_decisions", "difference", "difference_low", "difference_high"]
    best = ["rank", "side", "individual", "decision", "n_choices", "p_model", "p_other", "rank_model", "rank_other"]

    def text() -> str:
        lines = [f"mean ln p({first}) - ln p({second}) by {by}, {split}, nats:"]
        lines += [_text(table[[*shown, "total", "share_improved", "note"]]), "", "single decisions:"]
        lines += [_text(decisions[[*best, *(["distance_km"] if "distance_km" in decisions else []), "difference"]])]
        return "\n".join(lines + ([f"no map: {why}"] if why else []) + _wrote(files))

    answer(result, as_json, text)


@explain_app.command("response")
def response_command(
    run: RunArgument,
    features: Annotated[list[str] | None, typer.Argument(help="Features; by default all that have a response.")] = None,
    model: ModelOption = None,
    kind: Annotated[ResponseKind, typer.Option(help="What is drawn.")] = ResponseKind.accumulated,
    reference: Annotated[float | None, typer.Option(help="Of log_rss: the value it is against.")] = None,
    clogit: RefitsOption = 0,
    n_grid: Annotated[int, typer.Option(min=2, help="Values of a curve.")] = 20,
    n_decisions: Annotated[int, typer.Option(min=1, help="Decisions to average over.")] = 500,
    split: SplitOption = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show how log-odds respond to each feature: accumulated local effects, partial dependence or log-RSS."""
    import pandas as pd

    from mimic.explanation_runs import anchor_refits, drawn, fit_anchor, load_models, write_files

    if reference is not None and kind is not ResponseKind.log_rss:
        raise ValueError("--reference is that of --kind log_rss; give both, such as --kind log_rss --reference 8.")
    cs, models = load_models(run, model, split)
    from mimic.points import differs_within
    from mimic.responses import response
    from mimic.selection_strength import log_rss_curve

    known = list(dict.fromkeys(f for one in models.values() for f in one.features))
    wanted = features or [f for f in known if differs_within(cs, f)]
    every: dict[str, tuple[Any, Any]] = {name: (one, ()) for name, one in models.items()}
    left_out: list[str] = []
    if clogit:
        anchor = fit_anchor(run, known)
        left_out = [f for f in wanted if f in known and f not in anchor.features]
        every["conditional logit"] = (anchor, anchor_refits(run, anchor.features, clogit, seed))
    tables = {}
    for feature in wanted:
        parts = []
        for name, (one, refits) in every.items():
            if feature not in one.features and feature in known:
                continue  # another of the models has it
            if kind is ResponseKind.log_rss:
                curve = log_rss_curve(one, cs, feature, reference=reference, refits=refits, n_grid=n_grid)
            else:
                options = {"n_grid": n_grid, "n_decisions": n_decisions, "seed": seed}
                curve = response(one, cs, feature, kind=kind.value, refits=refits, **options)  # type: ignore[arg-type]
            parts.append(curve.assign(model=name))
        tables[f"response_{feature}"] = pd.concat(parts, ignore_index=True)
    figures = {
        name: drawn("draw_response", table, rug=cs.features[str(table["feature"].iloc[0])])
        for name, table in tables.items()
    }
    whole = pd.concat(tables.values(), ignore_index=True)
    files = write_files(out, tables, figures, overwrite=overwrite)
    shown = ["model", "feature", "value", "log_odds", "log_odds_low", "log_odds_high", "n_rows", "interval"]
    answer(
        {"run": str(run), "response": _records(whole), "clogit_without": left_out, "files": files},
        as_json,
        lambda: "\n".join(
            [
                _text(whole[shown]),
                *([f"the conditional logit has no coefficient for {', '.join(left_out)}"] if left_out else []),
                *_wrote(files),
            ]
        ),
    )


@explain_app.command("surface")
def surface_command(
    run: RunArgument,
    feature_x: Annotated[str, typer.Argument(help="A feature.")],
    feature_y: Annotated[str, typer.Argument(help="Another.")],
    model: Annotated[str | None, typer.Option(help="The model; by default the last of the run.")] = None,
    n_grid: Annotated[int, typer.Option(min=2, help="Values of each feature.")] = 20,
    n_decisions: Annotated[int, typer.Option(min=1, help="Decisions to average over.")] = 60,
    split: SplitOption = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the odds of a choice by two of its features."""
    from mimic.explanation_runs import drawn, load_models, write_files

    cs, models = load_models(run, None if model is None else [model], split)
    from mimic.surfaces import odds_surface

    name, one = list(models.items())[-1]
    options = {"n_grid": n_grid, "n_decisions": n_decisions, "seed": seed}
    table = odds_surface(one, cs, feature_x, feature_y, **options).assign(model=name)  # type: ignore[arg-type]
    key = f"surface_{feature_x}_{feature_y}"
    files = write_files(out, {key: table}, {key: drawn("draw_surface", table)}, overwrite=overwrite)

    def text() -> str:
        from mimic.textable import align

        wide = table.assign(log_odds=table["log_odds"].where(table["has_data"]))
        wide = wide.pivot(index="y", columns="x", values="log_odds").iloc[::-1]
        head = f"log-odds of {name}, nats, {feature_y} down and {feature_x} across; - where there are no data:"
        cells = [["", *map("{:.4g}".format, wide.columns)]]
        cells += [
            [f"{y:.4g}", *("-" if v != v else f"{v:.2f}" for v in row)]
            for y, row in zip(wide.index, wide.to_numpy(), strict=True)
        ]
        return "\n".join([head, *align(cells, ()), *_wrote(files)])

    answer({"run": str(run), "model": name, "surface": _records(table), "files": files}, as_json, text)


@explain_app.command("interactions")
def interactions_command(
    run: RunArgument,
    model: Annotated[str | None, typer.Option(help="The model; by default the last of the run.")] = None,
    n_points: Annotated[int, typer.Option(min=2, help="Choices that are looked at; the cost is their square.")] = 100,
    split: SplitOption = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Rank the pairs of features by how strongly they interact (Friedman's H)."""
    from mimic.explanation_runs import load_models, write_files

    cs, models = load_models(run, None if model is None else [model], split)
    from mimic.surfaces import interactions

    name, one = list(models.items())[-1]
    table = interactions(one, cs, n_points=n_points, seed=seed).assign(model=name)
    files = write_files(out, {"interactions": table}, {}, overwrite=overwrite)
    answer(
        {"run": str(run), "model": name, "interactions": _records(table), "files": files},
        as_json,
        lambda: "\n".join([_text(table.drop(columns=["model", "n_points"])), *_wrote(files)]),
    )


@explain_app.command("importance")
def importance_command(
    run: RunArgument,
    model: ModelOption = None,
    choices: ChoicesOption = "all",
    behaviors: Annotated[str, typer.Option(help='Only these decisions, "month in (6, 7)".')] = "all",
    n_repeats: Annotated[int, typer.Option(min=1, help="Permutations.")] = 5,
    drop_one: Annotated[
        bool, typer.Option("--drop-one", help="Instead, refit the conditional logit of the features without each.")
    ] = False,
    split: ValidationOption = "validation",
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show what each feature is worth: permuted within choice sets, or left out of a conditional logit."""
    from mimic.explanation_runs import anchor_weighting, decisions_of, drawn, fit_anchor, load_models, write_files

    cs, models = load_models(run, model, split)
    from mimic import importance
    from mimic.runs import load_run

    groups: dict[str, Any] = {"choice_groups": {choices: choices}, "behavior_groups": {behaviors: behaviors}}
    groups["splits"] = ["all"]
    if drop_one:
        from mimic.conditional_logit import fit_conditional_logit

        train, weighting = decisions_of(load_run(run)[0], "train"), anchor_weighting(run)

        def fit(features: Sequence[str]) -> ConditionalLogit:
            return fit_conditional_logit(train, features, weighting=weighting)

        anchor = fit_anchor(run, list(models.values())[-1].features)
        table = importance.drop_one(fit, cs, anchor.features, name="conditional logit", **groups)
    else:
        table = importance.permutation_importance(models, cs, n_repeats=n_repeats, seed=seed, **groups)
    if not table["n_decisions"].any():
        raise ValueError(f"no decisions of split {split} are in behaviors {behaviors!r} and choices {choices!r}.")
    table = table.assign(split=split)
    key = "importance_drop_one" if drop_one else "importance"
    files = write_files(out, {key: table}, {key: drawn("draw_importance", table)}, overwrite=overwrite)
    shown = ["model", "rank", "feature", "how", "n_individuals", "n_decisions", "drop", "drop_low", "drop_high", "note"]
    answer(
        {"run": str(run), "importance": _records(table), "files": files},
        as_json,
        lambda: "\n".join([f"drop in D, nats, {split}:", _text(table[shown]), *_wrote(files)]),
    )


@explain_app.command("leaks")
def leaks_command(
    run: RunArgument,
    features: Annotated[list[str] | None, typer.Argument(help="Features; by default all of the choice sets.")] = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Tell which features give the individual or the place away."""
    from mimic.explanation_runs import write_files
    from mimic.leaks import leak_table
    from mimic.runs import load_summary
    from mimic.store import load_choice_sets

    load_summary(run)
    table = leak_table(load_choice_sets(run / "choices"), features or None, seed=seed)
    files = write_files(out, {"leaks": table}, {}, overwrite=overwrite)
    shown = ["feature", "target", "score", "chance", "ratio", "verdict"]
    notes = "\n".join(dict.fromkeys(f"note: {note}" for note in table["note"] if note))
    answer(
        {"run": str(run), "leaks": _records(table), "files": files},
        as_json,
        lambda: "\n".join([_text(table[shown]), *([notes] if notes else []), *_wrote(files)]),
    )


@explain_app.command("contrasts")
def contrasts_command(
    run: RunArgument,
    batch: Annotated[list[int] | None, typer.Option(help="Decisions in a batch; may be repeated.")] = None,
    error: Annotated[
        list[float] | None, typer.Option(help="A wanted error of p, such as 0.01; may be repeated.")
    ] = None,
    seed: SeedOption = 0,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show how an error of the contrasts becomes an error of the probability to stay, and the batch it takes."""
    from mimic.contrast_error import contrast_curve, contrast_spread, decisions_for_error
    from mimic.explanation_runs import decisions_of, drawn, write_files
    from mimic.runs import load_summary
    from mimic.store import load_choice_sets

    load_summary(run)
    cs = load_choice_sets(run / "choices")
    cs = decisions_of(cs, "train") if "split" in cs.decisions else cs
    spread = contrast_spread(cs, seed=seed, **({"batch_decisions": batch} if batch else {}))  # type: ignore[arg-type]
    needed = decisions_for_error(cs, error) if error else decisions_for_error(cs)
    m = round(spread["n_alternatives"].iloc[0]) if len(spread) else 19
    marks = [float(spread["probability"].iloc[0])] if len(spread) else []
    curve = contrast_curve([1, 4, m] if m > 4 else [m])
    tables = {"contrast_curve": curve, "contrast_spread": spread, "contrast_batches": needed}
    figures: dict[str, Callable[[], Any]] = {"contrast_curve": drawn("draw_contrast_curve", curve, marks=marks)}
    if (spread["error"] > 0).any():
        figures["contrast_spread"] = drawn("draw_contrast_spread", spread)
    files = write_files(out, tables, figures, overwrite=overwrite)

    def text() -> str:
        if spread.empty:
            return "\n".join(["no choice is to stay here, or it is always or never selected", *_wrote(files)])
        lines = ["share of contrasts and error of the probability to stay, by batch (train):", _text(spread), ""]
        return "\n".join([*lines, "batch for a wanted error:", _text(needed), *_wrote(files)])

    result = {"run": str(run), "spread": _records(spread), "batches": _records(needed), "files": files}
    answer(result | {"curve": _records(curve)}, as_json, text)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.4g}".format, na_rep="-")


def _wrote(files: Sequence[str]) -> list[str]:
    return ["", *(f"wrote {path}" for path in files)] if files else []

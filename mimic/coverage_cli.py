"""The command `mimic covariates coverage`: what covariates an experiment would have, and lack, before it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic.answers import answer
from mimic.bars import progress_bars

__all__ = ["coverage_command"]


def coverage_command(
    experiment: Annotated[Path, typer.Argument(help="The YAML file of an experiment with tracks.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables (CSV) and the picture (coverage.png); none by default.")
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(help="H3 resolution of the regions, or a column of the tracks.", show_default="at most 24 cells"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Before anything is built: which choices have which covariates, and where selections are lost and why."""
    from mimic.configuration import load_configuration
    from mimic.coverage import assess_coverage
    from mimic.coverage_tables import coverage_tables, format_coverage, lost_by, write_tables
    from mimic.preparation import read_decisions, sources_and_features

    configuration = load_configuration(experiment)
    rules = configuration.choices
    if configuration.tracks is None or rules is None:
        raise ValueError(f"{experiment}: coverage needs tracks and choices over cells (sections tracks and choices).")
    if out is not None and out.exists() and not out.is_dir():
        raise ValueError(f"--out expects a folder; {out} is a file.")
    level = int(region) if region is not None and region.isdecimal() else None
    if level is not None and level > rules.resolution:
        raise ValueError(
            f"--region expects an H3 resolution up to that of the choices, 0 to {rules.resolution}, or a column of the "
            f"tracks; got {region}."
        )
    with progress_bars() as progress:
        decisions, _, ledger, n_read = read_decisions(configuration, progress=progress)
        sources, features = sources_and_features(configuration)
        found = assess_coverage(
            decisions,
            max_distance_km=rules.max_distance_km,
            sources=sources,
            features=features,
            domain=rules.domain,
            region=region if level is None else level,
            progress=progress,
        )
    tables = coverage_tables(found)
    result = {
        "experiment": str(experiment),
        "n_read": n_read,
        "n_decisions": len(found.decisions),
        "n_lost": found.n_lost,
        "n_choices": int(found.decisions["n_choices"].sum()),
        "n_usable": int(found.decisions["n_usable"].sum()),
        **{name: tables[name].to_dict(orient="records") for name in ("shares", "losses", "costs")},
    }
    if out is not None:
        from mimic.coverage_figures import draw_report
        from mimic.figures import save_figure

        figure = draw_report(
            tables["shares_by_month"], tables["shares_by_region"], lost_by(found, "region"), title=configuration.name
        )
        written = [*write_tables(tables, out), save_figure(figure, out / "coverage.png")]
        result["written"] = [str(path) for path in written]
    before = f"{n_read:,} rows read; before decisions:\n{ledger.explain(with_examples=False)}"
    after = "" if out is None else f"\n\ntables and coverage.png are in {out}"
    answer(result, as_json, lambda: f"{before}\n\n{format_coverage(found)}{after}")

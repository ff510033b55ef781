"""The commands `mimic covariates ...`: cubes of covariates on cells, built and shown."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mimic.answers import answer
from mimic.bars import progress_bars

__all__ = ["covariates_app"]

covariates_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Covariates on cells: build cubes and look at them."
)
_JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]


@covariates_app.command("build")
def build_command(
    config: Annotated[Path, typer.Argument(help="The YAML file of the cube.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the Zarr store; by default NAME.zarr in the current folder.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    cluster: Annotated[
        str | None, typer.Option(help="Address of a dask scheduler whose workers see the same folders.")
    ] = None,
    as_json: _JsonOption = False,
) -> None:
    """Put gridded files on cells, chunk by chunk. Killed: run it again, and it goes on. New dates: it grows."""
    from mimic.cube_build import build_cube
    from mimic.cube_sections import load_cube_config

    if cluster is not None and workers != 1:
        raise ValueError("expected either --workers or --cluster; got both.")
    loaded = load_cube_config(config)
    with progress_bars() as progress:
        folder = Path(f"{loaded.name}.zarr") if out is None else out
        result = build_cube(loaded, folder, n_workers=workers, cluster=cluster, progress=progress)
    answer(result, as_json, lambda: _format_build(result))


@covariates_app.command("show")
def show_command(
    cube: Annotated[Path, typer.Argument(help="The folder of a cube.")], as_json: _JsonOption = False
) -> None:
    """What is in a cube: variables, units, extent, dates and the share of missing values."""
    from mimic.cube import describe_cube

    result = describe_cube(cube)
    answer(result, as_json, lambda: _format_cube(result))


def _format_build(result: dict[str, Any]) -> str:
    lines = [
        f"{result['cube']}: {result['n_cells']:,} cells of resolution {result['level']}{_dates(result)}",
        f"{result['n_written']} of {result['n_chunks']} chunks written in {result['seconds']:.1f} s",
        "",
        *_variable_lines(result["variables"]),
    ]
    for name, told in result["variables"].items():
        if told.get("n_gaps"):
            first, last = told["gaps"][0]
            lines.append(f"{name}: {told['n_gaps']} gaps in its times, such as {first} to {last}")
        if told.get("n_overlaps"):
            lines.append(f"{name}: {told['n_overlaps']} steps left out that an earlier file has")
    return "\n".join(lines)


def _format_cube(result: dict[str, Any]) -> str:
    west, south, east, north = result["extent"]
    lines = [
        f"{result['cube']}: {result['n_cells']:,} cells of resolution {result['level']}{_dates(result)}",
        f"longitude {west:g} to {east:g}, latitude {south:g} to {north:g}",
        "",
        *_variable_lines(result["variables"]),
    ]
    return "\n".join(lines)


def _dates(result: dict[str, Any]) -> str:
    return f", {result['n_times']:,} times from {result['first']} to {result['last']}" if result["n_times"] else ""


def _variable_lines(variables: dict[str, Any]) -> list[str]:
    from mimic.textable import align

    lines = [["variable", "steps", "units", "missing"]]
    for name, told in variables.items():
        share = told["share_missing"]
        lines.append([name, told["steps"], told["units"] or "", "-" if share is None else f"{share:.1%}"])
    return align(lines, {0, 1, 2})

"""Command lines into calls: parse, call, print. Everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer, plain
from mimic.bars import progress_bars
from mimic.chain_cli import calibration_command, chain_command
from mimic.clogit_cli import clogit_command
from mimic.covariates_cli import covariates_app
from mimic.coverage_cli import coverage_command
from mimic.crossval_cli import crossval_command
from mimic.evaluation_cli import compare_command, evaluate_command
from mimic.explanation_cli import explain_app
from mimic.features_cli import features_command
from mimic.page_cli import report_command
from mimic.power_cli import power_command
from mimic.predict_cli import predict_command
from mimic.random_steps_cli import random_steps_command
from mimic.registry_cli import runs_app
from mimic.tensorflow_start import start_tensorflow
from mimic.whitepaper_cli import whitepaper_command

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fit discrete-choice models of animal movement over H3 cells, and see what they have learned.",
)
tracks_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at tracks.")
choices_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Build choice sets.")
synthetic_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Synthetic worlds with a known truth.")
app.add_typer(tracks_app, name="tracks")
app.add_typer(covariates_app, name="covariates")
app.add_typer(choices_app, name="choices")
app.add_typer(synthetic_app, name="synthetic")
app.add_typer(explain_app, name="explain")
app.add_typer(runs_app, name="runs")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        envvar="MIMIC_REGISTRY",
        help="Where runs are recorded: a folder, or the URL of a PostgreSQL database; by default the folder "
        "registry beside the run.",
    ),
]
FilesOption = Annotated[
    Path | None,
    typer.Option(envvar="MIMIC_REGISTRY_FILES", help="Folder of the files, where the registry is a URL."),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of mimic at this place.")]

# What typer and shells make of Ctrl-C, and of a plain kill.
_INTERRUPTED, _TERMINATED = 130, 143


def main() -> None:
    """The `mimic` command: bad input gives one message on standard error and exit code 2."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        if os.environ.get("MIMIC_DEBUG"):
            raise
        sys.stderr.write(f"mimic: {_worded(error)}\n")
        sys.exit(2)
    except SystemExit as end:
        if end.code in (_INTERRUPTED, _TERMINATED):
            sys.stderr.write(f"mimic: stopped; {_left_behind(sys.argv[1:])}.\n")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _worded(error: Exception) -> str:
    """What an error says; of one of the operating system, which path it is about and what to look at."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        said = str(error.strerror).lower()
        return f"{error.filename}: {said}. Check the path, the rights to it and the space that is left."
    if isinstance(error, MemoryError):
        said = str(error).rstrip(".")
        return f"the memory of this machine is not enough{': ' + said if said else ''}. Ask for less at once."
    return str(error)


def _left_behind(arguments: list[str]) -> str:
    """What a stopped command has written."""
    if arguments[:1] in (["run"], ["crossval"]):
        return "no folder was written. Trainings that had ended are recorded: run it again, and it goes on"
    if arguments[:2] == ["covariates", "build"]:
        return "finished chunks of the cube are kept: run it again, and it goes on"
    return "nothing was written"


@app.command("run")
def run_command(
    experiment: Annotated[Path, typer.Argument(help="The experiment, a YAML file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME-OF-THE-FILE.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train side by side; by default one a processor.")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Train on a dask cluster: the address of its scheduler, tcp://HOST:8786.")
    ] = None,
    registry: RegistryOption = None,
    files: FilesOption = None,
    retrain: Annotated[bool, typer.Option("--retrain", help="Train again what the registry has.")] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment: choice sets, models, evaluation and figures in one folder.

    Every training is recorded in the registry as it ends. Interrupted, or killed: run it again, and it goes on.
    """
    from mimic.configuration import load_configuration
    from mimic.runs import check_output

    if cluster is not None and workers is not None:
        raise ValueError("--workers are processes of this machine, and --cluster trains elsewhere; give one of them.")
    configuration = load_configuration(experiment)
    folder = out or Path("runs") / experiment.stem
    check_output(folder, overwrite=overwrite)
    from mimic.report import Training, format_run, run_to_folder

    training = Training(
        registry=registry,
        files=files,
        n_workers=workers,
        cluster=cluster,
        retrain=retrain,
        before_training=start_tensorflow,
    )
    with progress_bars() as progress:
        result = run_to_folder(configuration, folder, overwrite=overwrite, progress=progress, training=training)
    answer(result, as_json, lambda: format_run(result, folder))


@app.command("doctor")
def doctor_command(
    run: Annotated[str, typer.Argument(help="The folder of a run, or the id of a run (or its beginning).")],
    registry: RegistryOption = None,
    files: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what is wrong with a training, with its evidence and what to change; nothing where it is healthy."""
    from mimic.consultation import consult, format_consultations

    found = consult(run, registry=registry, files=files)
    answer({"run": run, "members": found}, as_json, lambda: format_consultations(found))


@tracks_app.command("check")
def tracks_check_command(
    file: Annotated[Path, typer.Argument(help="Track file: Movebank CSV, plain CSV or Parquet, may be gzipped.")],
    column: Annotated[
        list[str] | None, typer.Option(help='Our name for a column of the file, "individual=fish"; may be repeated.')
    ] = None,
    individual: Annotated[str | None, typer.Option(help="Name of the animal where the file holds only one.")] = None,
    crs: Annotated[str | None, typer.Option(help="Coordinate system of x and y, such as EPSG:32736.")] = None,
    timezone: Annotated[str | None, typer.Option(help="Time zone of times without an offset (UTC).")] = None,
    max_speed_km_h: Annotated[float | None, typer.Option(help="Greatest plausible speed, km/h.")] = None,
    step: Annotated[str | None, typer.Option(help='Also resample to this step, such as "24h".')] = None,
    tolerance: Annotated[str | None, typer.Option(help="Tolerance of the step (0min).")] = None,
    as_json: JsonOption = False,
) -> None:
    """Read and clean a track file and tell what is in it, what was dropped and why."""
    from mimic.tracks import check_report, clean_tracks, read_tracks, resample_tracks

    if tolerance is not None and step is None:
        raise ValueError("--tolerance is that of --step; give both, such as --step 24h --tolerance 1h.")
    tracks, ledger = read_tracks(file, columns=_columns(column), individual=individual, crs=crs, timezone=timezone)
    tracks, more = clean_tracks(tracks, max_speed_km_h=max_speed_km_h)
    ledger += more
    if step is not None:
        tracks, more = resample_tracks(tracks, step=step, tolerance=tolerance or "0min")
        ledger += more
    report = {"file": str(file), **check_report(tracks, ledger)}
    answer(report, as_json, lambda: _format_report(report) + f"\nledger:\n{ledger.explain()}")


@choices_app.command("build")
def choices_build_command(
    experiment: Annotated[Path, typer.Argument(help="The experiment, a YAML file.")],
    out: Annotated[Path, typer.Option(help="Folder for the choice sets and the ledger.")],
    factored: Annotated[
        bool | None,
        typer.Option(
            "--factored/--columns",
            help="Store decisions, neighbors and covariates on cells, and gather features when they are asked for; or "
            "store features as columns. By default columns of up to 50 million values.",
        ),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Build on a dask cluster: the address of its scheduler, tcp://HOST:8786.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Build the choice sets of an experiment without training anything."""
    from mimic.configuration import load_configuration
    from mimic.runs import check_output

    configuration = load_configuration(experiment)
    check_output(out, overwrite=overwrite)
    from mimic.preparation import prepare
    from mimic.runs import output_folder, write_choices

    judge_all = None
    if cluster is not None:
        from mimic.judges import judge_on_cluster

        judge_all = judge_on_cluster(cluster)
    with progress_bars() as progress:
        prepared = prepare(configuration, progress=progress, lazy=factored, judge_all=judge_all)
        with output_folder(out, overwrite=overwrite) as folder:
            summary = write_choices(folder, configuration, prepared)
    answer(
        {"out": str(out), **summary},
        as_json,
        lambda: _format_mapping(summary) + f"\nledger:\n{prepared.ledger.explain()}\nwritten to {out}",
    )


@synthetic_app.command("chinook")
def synthetic_chinook_command(
    out: Annotated[Path, typer.Option(help="Folder for chinook.csv.gz, perimeter.geojson and truth.json.")],
    elevation: Annotated[Path, typer.Option(help="Elevation grid, m.")] = Path("data/north_pacific/elevation_5min.nc"),
    climatology: Annotated[Path, typer.Option(help="Monthly sea surface temperature.")] = Path(
        "data/north_pacific/ocean_climatology.nc"
    ),
    seed: Annotated[int | None, typer.Option(help="Seed of the simulation; by default that of the demo.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate the demo's 100 synthetic chinook from their written-down truth; the same bytes every time."""
    from mimic.synthetic import ChinookTruth, write_chinook

    truth = ChinookTruth() if seed is None else ChinookTruth(seed=seed)
    paths = write_chinook(out, truth, elevation=elevation, climatology=climatology)
    answer({"files": [str(p) for p in paths]}, as_json, lambda: "\n".join(f"wrote {p}" for p in paths))


# In the order of a study, and of `mimic --help`.
app.command("features")(features_command)
covariates_app.command("coverage")(coverage_command)
choices_app.command("random-steps")(random_steps_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("chain")(chain_command)
app.command("calibration")(calibration_command)
app.command("predict")(predict_command)
app.command("report")(report_command)
app.command("whitepaper")(whitepaper_command)
app.command("crossval")(crossval_command)
app.command("clogit")(clogit_command)
synthetic_app.command("power")(power_command)


def _terminate(number: int, frame: FrameType | None) -> None:
    """End as after Ctrl-C, so that temporary folders are removed: batch systems and `timeout` send SIGTERM."""
    sys.exit(_TERMINATED)


def _format_report(report: dict[str, Any]) -> str:
    rows = report["individuals"]
    width = max((len(row["individual"]) for row in rows), default=0)
    lines = [
        f"  {row['individual']:<{width}}  {row['n_fixes']:>8,} fixes  {row['first_time_utc']} to {row['last_time_utc']}"
        for row in rows
    ]
    return "\n".join([_format_mapping({**report, "individuals": ""}), *lines])


def _format_mapping(values: dict[str, Any]) -> str:
    shown = {k: v for k, v in values.items() if k != "ledger"}
    width = max((len(k) for k in shown), default=0)
    return "\n".join(f"{k:<{width}}  {plain(v)}" for k, v in shown.items())


def _columns(texts: list[str] | None) -> dict[str, str | list[str]] | None:
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    bad = [text for text, (ours, sign, theirs) in zip(texts, pairs, strict=True) if not (ours and sign and theirs)]
    if bad:
        raise ValueError(f"--column expects OURS=THEIRS, such as individual=fish_id; got {', '.join(bad)}.")
    return {ours: theirs.split("+") if "+" in theirs else theirs for ours, _, theirs in pairs}


if __name__ == "__main__":
    main()

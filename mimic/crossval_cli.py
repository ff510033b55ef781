"""The command `mimic crossval`: an experiment, or a file that compares several, into figures on animals never seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer
from mimic.bars import progress_bars
from mimic.tensorflow_start import start_tensorflow

if TYPE_CHECKING:
    import pandas as pd

    from mimic.configuration import Configuration
    from mimic.crossval_sections import SchemeConfig
    from mimic.crossval_tables import CrossValidation
    from mimic.preparation import Prepared, Progress

__all__ = ["crossval_command"]

_SUMMARY = "summary.json"
_DECISIONS = "decisions"


def crossval_command(
    file: Annotated[Path, typer.Argument(help="An experiment, or a comparison of several (with studies), YAML.")],
    folds: Annotated[int | None, typer.Option(help="Deal the individuals into so many folds (5).")] = None,
    leave_out: Annotated[
        str | None, typer.Option(help="Leave out each value of this column in turn; individual: each individual.")
    ] = None,
    time_blocks: Annotated[
        int | None, typer.Option(help="Test blocks of time instead of animals; earlier blocks train.")
    ] = None,
    order: Annotated[
        str | None, typer.Option(help="Of blocks of time: forward (the past predicts), or around.")
    ] = None,
    gap: Annotated[str | None, typer.Option(help='Left out beside a tested block of time, such as "24h".')] = None,
    repeats: Annotated[int | None, typer.Option(help="How often all of it is done, with other draws (1).")] = None,
    validation_share: Annotated[
        float | None, typer.Option(help="Share of the others that stop training and choose (0.2).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the draws of individuals (0).")] = None,
    models: Annotated[list[str] | None, typer.Option(help="Only these models; may be repeated.")] = None,
    studies: Annotated[list[str] | None, typer.Option(help="Only these studies; may be repeated.")] = None,
    reference: Annotated[str | None, typer.Option(help="Compare with this model only, not every pair.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the tables; by default runs/NAME_crossval.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that fit side by side; by default one a processor.")
    ] = None,
    registry: Annotated[
        str | None,
        typer.Option(envvar="MIMIC_REGISTRY", help="Where runs are recorded; by default beside the output."),
    ] = None,
    files: Annotated[
        Path | None,
        typer.Option(envvar="MIMIC_REGISTRY_FILES", help="Folder of the files, where the registry is a URL."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier output of mimic at this place.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")
    ] = False,
) -> None:
    """Fit models again and again without some of the animals, and score them on those.

    Epochs, seeds and configurations are chosen on other animals than the tested ones. Every training is recorded in
    the registry as it ends. Interrupted, or killed: run it again, and it goes on.
    """
    from mimic.runs import REGISTRY, check_output

    given: dict[str, Any] = {
        "folds": folds,
        "leave_out": leave_out,
        "time_blocks": time_blocks,
        "order": order,
        "gap": gap,
        "repeats": repeats,
        "validation_share": validation_share,
        "seed": seed,
    }
    plan, references = _plan(file, {k: v for k, v in given.items() if v is not None}, models, studies)
    folder = out or Path("runs") / f"{file.stem}_crossval"
    check_output(folder, overwrite=overwrite)
    where = registry or str(folder.parent / REGISTRY)
    from mimic.crossval import check_models, cross_validate
    from mimic.crossval_tables import format_crossval
    from mimic.preparation import prepare

    present, skipped = _present(plan)
    found: dict[str, CrossValidation] = {}
    with progress_bars() as progress:
        prepared, splits = {}, {}
        for name, (configuration, scheme) in present.items():  # all that can be wrong before anything is trained
            with _named(name):
                check_models(configuration, reference or references[name])
                prepared[name] = prepare(configuration, progress=_of_study(progress, name))
                splits[name] = scheme.splits(prepared[name].choice_sets.decisions)
        for name, (configuration, _) in present.items():
            with _named(name):
                found[name] = cross_validate(
                    configuration,
                    prepared[name],
                    splits[name],
                    registry=where,
                    files=files,
                    n_workers=workers,
                    reference=reference or references[name],
                    before_training=start_tensorflow,
                    progress=_of_study(progress, name),
                )
    tables = _stacked(found)
    result = {
        "comparison": file.stem,
        "out": str(folder),
        "registry": where,
        "studies": [_told(name, *present[name], prepared[name], found[name]) for name in found],
        "skipped": [{"study": name, "absent": list(map(str, paths))} for name, paths in skipped.items()],
    }
    text = format_crossval(tables["summary"], tables["differences"])
    text = "\n".join([_format_schemes(result), "", text])
    _write(folder, present, tables, result, text, overwrite=overwrite)
    records = {k: table.to_dict(orient="records") for k, table in tables.items() if k != _DECISIONS}
    answer({**result, **records}, as_json, lambda: f"{text}\n\nAll tables are in {folder}.")


def _plan(
    file: Path, options: dict[str, Any], models: list[str] | None, studies: list[str] | None
) -> tuple[dict[str, tuple[Configuration, SchemeConfig]], dict[str, str | None]]:
    """Study -> its experiment and its splits, and study -> the model that others are compared with."""
    from pydantic import ValidationError

    from mimic.configuration import load_configuration, read_yaml
    from mimic.crossval_sections import SchemeConfig, load_comparison, study_configuration

    if "studies" in read_yaml(file):
        if options:
            raise ValueError(
                f"{file} says how each study is split; leave out --{', --'.join(options).replace('_', '-')}, or give "
                "an experiment file."
            )
        sections = load_comparison(file).studies
        unknown = [name for name in studies or () if name not in sections]
        if unknown:
            raise ValueError(f"{file} has no study {', '.join(unknown)}; it has {', '.join(sections)}.")
        kept = {name: section for name, section in sections.items() if studies is None or name in studies}
        plan = {name: (_only(study_configuration(name, study), models), study.scheme) for name, study in kept.items()}
        return plan, {name: study.reference for name, study in kept.items()}
    if studies:
        raise ValueError(f"--studies are those of a comparison file, and {file} is an experiment.")
    try:
        scheme = SchemeConfig.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"--{part}: ".replace("_", "-") for part in first["loc"])
        came = f"; got {first['input']}" if first["loc"] else ""
        raise ValueError(f"{place}{first['msg'].removeprefix('Value error, ').rstrip('.')}{came}.") from None
    configuration = load_configuration(file)
    return {configuration.name: (_only(configuration, models), scheme)}, {configuration.name: None}


def _only(configuration: Configuration, models: list[str] | None) -> Configuration:
    """The experiment with these models only, in its own order."""
    from mimic.baseline import BASELINE

    known = [*configuration.models, *([BASELINE] if configuration.has_baseline else [])]
    unknown = [name for name in models or () if name not in known]
    if unknown:
        raise ValueError(f"{configuration.name} has no model {', '.join(unknown)}; it has {', '.join(known)}.")
    if not models:
        return configuration
    kept = {name: section for name, section in configuration.models.items() if name in models}
    # the features of the baseline are those of all models, also where few of them are asked for
    rules = configuration.baseline
    if rules is not None and configuration.has_baseline and BASELINE in models:
        rules = rules.model_copy(update={"features": configuration.baseline_features})
    else:
        rules = None
    return configuration.model_copy(update={"models": kept, "baseline": rules})


def _present(
    plan: dict[str, tuple[Configuration, SchemeConfig]],
) -> tuple[dict[str, tuple[Configuration, SchemeConfig]], dict[str, list[Path]]]:
    """The studies whose files are all there, and study -> files that are not."""
    from mimic.crossval_sections import absent_files

    absent = {name: absent_files(configuration) for name, (configuration, _) in plan.items()}
    skipped = {name: paths for name, paths in absent.items() if paths}
    lines = [
        f"study {name} is skipped, as {', '.join(map(str, paths))} is not there" for name, paths in skipped.items()
    ]
    if len(skipped) == len(plan):
        raise FileNotFoundError(f"no study can be run: {'; '.join(lines)}. Set MIMIC_SHARED or mend the paths.")
    for line in lines:
        sys.stderr.write(f"mimic: {line}.\n")
    present = {name: one for name, one in plan.items() if name not in skipped}
    return {name: (one, _gapped(one, scheme)) for name, (one, scheme) in present.items()}, skipped


def _gapped(configuration: Configuration, scheme: SchemeConfig) -> SchemeConfig:
    """The scheme, with one step between blocks of time where the step is known."""
    return scheme if configuration.tracks is None else scheme.for_tracks(configuration.tracks.resample.step)


@contextmanager
def _named(study: str) -> Iterator[None]:
    """Say of which study a fault is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"study {study}: {error}") from error


def _of_study(progress: Progress, study: str) -> Progress:
    def show(what: str, done: int, total: int, note: str = "") -> None:
        progress(f"{study}: {what}", done, total, note)

    return show


def _told(
    name: str, configuration: Configuration, scheme: SchemeConfig, prepared: Prepared, found: CrossValidation
) -> dict[str, Any]:
    return {
        "study": name,
        "scheme": scheme.words,
        "validation_share": scheme.validation_share,
        "models": list(configuration.models),
        "n_splits": len(found.splits.drop_duplicates(["repeat", "split"])),
        "n_individuals": int(found.individuals["individual"].nunique()),
        "n_decisions": prepared.choice_sets.n_decisions,
        "n_choices": prepared.choice_sets.n_rows,
        "n_trained": found.n_trained,
    }


def _stacked(found: dict[str, CrossValidation]) -> dict[str, pd.DataFrame]:
    """The tables of all studies below each other, with the column `study` first."""
    import pandas as pd

    tables: dict[str, list[pd.DataFrame]] = {}
    for study, one in found.items():
        for name, table in one.tables.items():
            named = table.copy()
            named.insert(0, "study", study)
            tables.setdefault(name, []).append(named)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _format_schemes(result: dict[str, Any]) -> str:
    lines = [f"{one['study']}: {one['scheme']}, {one['n_trained']} trainings now" for one in result["studies"]]
    return "\n".join(["Tested on decisions that played no part in training, stopping or choosing:", *lines])


def _write(
    out: Path,
    studies: dict[str, tuple[Configuration, SchemeConfig]],
    tables: dict[str, pd.DataFrame],
    result: dict[str, Any],
    text: str,
    *,
    overwrite: bool,
) -> None:
    """Write the folder, whole or not at all."""
    from mimic import __version__
    from mimic.runs import output_folder

    with output_folder(out, overwrite=overwrite) as folder:
        for name, (configuration, _) in studies.items():
            (folder / f"configuration_{name}.yaml").write_text(configuration.to_yaml(), encoding="utf-8")
        for name, table in tables.items():
            if name == _DECISIONS:
                table.to_parquet(folder / f"{name}.parquet", index=False)
            else:
                table.to_csv(folder / f"{name}.csv", index=False)
        (folder / "comparison.txt").write_text(text + "\n", encoding="utf-8")
        summary = json.dumps({"mimic": __version__, **result}, indent=1)
        (folder / _SUMMARY).write_text(summary + "\n", encoding="utf-8")

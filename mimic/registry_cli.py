"""The commands `mimic runs ...`: a registry into tables on the terminal, JSON, or CSV files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic.answers import answer, plain

if TYPE_CHECKING:
    import pandas as pd

    from mimic.registry import Registry

__all__ = ["runs_app"]

runs_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, compare, export and annotate the runs of a registry."
)

RegistryOption = Annotated[
    str, typer.Option("--registry", envvar="MIMIC_REGISTRY", help="Folder of the registry, or postgresql://... .")
]
FilesOption = Annotated[
    Path | None,
    typer.Option("--files", envvar="MIMIC_REGISTRY_FILES", help="Folder of the files, where the registry is a URL."),
]
WhereOption = Annotated[
    str | None,
    typer.Option("--where", help='Condition on the columns, "learning_rate < 0.01 and status == \\"finished\\"".'),
]
ExperimentOption = Annotated[str | None, typer.Option(help="Only the runs of this experiment, by name or id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]

_REGISTRY = "runs/registry"
_SHORT = 8
# More columns than these make lines that no terminal holds.
_MOST_VARYING = 6
_LONG = 24


@runs_app.command("list")
def list_command(
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    where: WhereOption = None,
    experiment: ExperimentOption = None,
    model: Annotated[str | None, typer.Option(help="Only the runs of the models of this name.")] = None,
    sort: Annotated[str | None, typer.Option(help="Column to sort by, such as val_true_contrast_loss.")] = None,
    descending: Annotated[bool, typer.Option("--descending", help="Sort from large to small.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many runs.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List runs: what varies between them, their best epoch, validation losses and verdicts."""
    opened = _open(registry, files)
    table = opened.runs(where, experiment=experiment, model=model)
    n_found = len(table)
    if sort is not None and n_found:
        from mimic.schema import require_columns

        require_columns([str(c) for c in table], [sort], where="--sort")
        table = table.sort_values(sort, ascending=not descending, kind="stable", ignore_index=True)
    table = table.head(limit) if limit else table
    # A parameter that only some kinds of run have tells little of what varies between the others.
    found = opened.varying(table) if len(table) else None
    varying = (
        []
        if found is None
        else [
            name
            for name, values in zip(found["parameter"], found["values"], strict=True)
            if sum(value is not None for value in values) > 1
        ]
    )
    result = {"registry": opened.name, "n_found": n_found, "varying": varying, "runs": _records(table)}
    answer(result, as_json, lambda: _format_runs(table, varying, n_found))


@runs_app.command("show")
def show_command(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of a run or a figure; its beginning will do.")],
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of one run, with its epochs, or of one figure, with the runs behind it."""
    opened = _open(registry, files)
    whole = opened.resolve(identity, kinds=("run", "figure"))
    record = opened.find_run(whole)
    if record is None:
        figures = opened.figures()
        found = _records(figures[figures["id"] == whole])[0]
        answer(found, as_json, lambda: _format_mapping(found))
        return
    table = opened.runs()
    listed = table[table["id"] == whole].iloc[0]
    result = {
        "id": record.id,
        **{name: listed[name] for name in ("experiment", "model", "status", "seed", "best_epoch", "notes")},
        **{name: getattr(record, name) for name in ("message", "seconds", "data", "code", "verdicts")},
        "recorded_utc": listed["recorded_utc"],
        **{name: dict(getattr(record, name)) for name in ("configuration", "metrics", "facts", "files")},
        "history": _records(record.history),
    }
    answer(result, as_json, lambda: _format_run(result, record.history))


@runs_app.command("compare")
def compare_command(
    identities: Annotated[list[str], typer.Argument(metavar="ID ID...", help="Ids of runs; their beginnings will do.")],
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put runs side by side and show what differs."""
    opened = _open(registry, files)
    table = opened.compare(identities)
    runs = [str(c) for c in table if c not in ("name", "differ")]
    if len(runs) < 2:
        raise ValueError(f"expected the ids of two or more different runs; got {', '.join(identities)}.")

    def text() -> str:
        differing = table[table["differ"]].drop(columns="differ")
        differing = differing.rename(columns=dict(zip(runs, _short_ids(runs), strict=True)))
        same = table.loc[~table["differ"], "name"].tolist()
        return f"{_format_table(differing)}\nthe same in all: {', '.join(same)}"

    answer({"runs": runs, "compared": _records(table)}, as_json, text)


@runs_app.command("varying")
def varying_command(
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    where: WhereOption = None,
    experiment: ExperimentOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell which parameters vary within a selection of runs, and their values."""
    table = _open(registry, files).varying(where, experiment=experiment)

    def text() -> str:
        if not len(table):
            return "nothing varies within the selection"
        lists: list[Any] = list(table["values"])
        values = [", ".join("none" if v is None else str(v) for v in one) for one in lists]
        return _format_table(table.assign(values=values), longest=100)

    answer({"varying": _records(table)}, as_json, text)


@runs_app.command("export")
def export_command(
    folder: Annotated[Path, typer.Argument(help="Folder for the CSV files; made where it is not.")],
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    figures: Annotated[bool, typer.Option("--figures", help="Also copy the figures, under their names.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all tables of the registry as CSV files, as a backup."""
    paths = [str(path) for path in _open(registry, files).export(folder, figures=figures, overwrite=overwrite)]
    answer({"files": paths}, as_json, lambda: "\n".join(f"wrote {path}" for path in paths))


@runs_app.command("archive")
def archive_command(
    registry: RegistryOption = _REGISTRY, files: FilesOption = None, as_json: JsonOption = False
) -> None:
    """Move files whose record is gone into the archive (nothing is deleted), and name records whose file is gone."""
    report = _open(registry, files).archive()
    moved, missing = [str(path) for path in report.moved], _records(report.missing)

    def text() -> str:
        lines = [f"{len(moved)} files without a record moved", *(f"  {path}" for path in moved)]
        lines.append(f"{len(missing)} records without their file")
        return "\n".join(lines + [f"  {m['kind']} {m['record']}: {m['role']} {m['sha256']}" for m in missing])

    answer({"moved": moved, "missing": missing}, as_json, text)


@runs_app.command("annotate")
def annotate_command(
    identity: Annotated[str, typer.Argument(metavar="ID", help="Id of a run, a figure or an experiment.")],
    text: Annotated[str, typer.Argument(help="The note.")],
    registry: RegistryOption = _REGISTRY,
    files: FilesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a note to a run, a figure or an experiment."""
    whole = _open(registry, files).annotate(identity, text)
    answer({"id": whole, "note": text}, as_json, lambda: f"noted at {whole}")


def _open(registry: str, files: Path | None) -> Registry:
    from mimic.registry import Registry

    return Registry(registry, files=files, create=False)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table.to_dict(orient="records")]


def _format_runs(table: pd.DataFrame, varying: list[str], n_found: int) -> str:
    if not len(table):
        return "no runs"
    fixed = ["id", "experiment", "model"]
    shown = [name for name in varying if name not in (*fixed, "data", "code")]
    losses = [str(name) for name in table if str(name).startswith("val_")]
    status = ["status"] if (table["status"] != "finished").any() else []
    columns = [*fixed, *shown[:_MOST_VARYING], *status, "best_epoch", *losses, "verdicts"]
    lines = [_format_table(table[columns].assign(id=_short_ids(table["id"].tolist())))]
    rest = [*shown[_MOST_VARYING:], *(name for name in ("data", "code") if name in varying)]
    if rest:
        lines.append(f"also varying: {', '.join(rest)}")
    count = f"{len(table)} of {n_found} runs" if len(table) < n_found else f"{n_found} run{'s' * (n_found > 1)}"
    return "\n".join([*lines, count])


def _format_run(result: dict[str, Any], history: pd.DataFrame) -> str:
    from mimic.runrecords import flat_parameters

    shown = {k: v for k, v in result.items() if k not in ("configuration", "metrics", "facts", "files", "history")}
    parts = [_format_mapping(shown), "", "configuration:", _format_mapping(flat_parameters(result["configuration"]), 2)]
    for name in ("metrics", "facts", "files"):
        if result[name]:
            parts += ["", f"{name}:", _format_mapping(result[name], 2)]
    if len(history):
        parts += ["", "epochs:", _format_table(history)]
    return "\n".join(parts)


def _format_mapping(values: dict[str, Any], indent: int = 0) -> str:
    width = max((len(k) for k in values), default=0)
    shown = {k: ", ".join(map(str, v)) if isinstance(v, (list, tuple)) else _shown(v) for k, v in values.items()}
    return "\n".join(f"{' ' * indent}{k:<{width}}  {v}".rstrip() for k, v in shown.items())


def _format_table(table: pd.DataFrame, *, longest: int = _LONG) -> str:
    """Columns under their names, numbers to the right; a long text is cut in the middle."""
    columns = []
    for name in table:
        cells = [_shown(v) for v in table[name]]
        cells = [c if len(c) <= longest else c[: longest // 2 - 1] + "…" + c[-(longest // 2) :] for c in cells]
        width = max(len(str(name)), *(len(c) for c in cells)) if cells else len(str(name))
        is_number = table[name].dtype.kind in "iuf"
        columns.append([f"{c:>{width}}" if is_number else f"{c:<{width}}" for c in [str(name), *cells]])
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*columns, strict=True))


def _shown(value: Any) -> str:
    value = plain(value)
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _short_ids(ids: list[str]) -> list[str]:
    """The beginnings of ids, as long as it takes to tell them apart."""
    length = _SHORT
    while len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return [one[:length] for one in ids]

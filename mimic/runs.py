"""A run folder: everything one run of an experiment gives, written whole or not at all, and read back."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mimic import __version__
from mimic.baseline import BASELINE, baseline_table
from mimic.configuration import Configuration, load_configuration
from mimic.experiment import Fit
from mimic.preparation import Prepared
from mimic.schema import ChoiceSets
from mimic.sections import GroupsConfig
from mimic.store import load_choice_sets, save_choice_sets

__all__ = [
    "REGISTRY",
    "check_output",
    "load_groups",
    "load_run",
    "load_summary",
    "output_folder",
    "summarize",
    "write_choices",
    "write_run",
]

REGISTRY = "registry"
_SUMMARY = "summary.json"


def check_output(out: Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder that exists or cannot be written, before any work is done.

    With `overwrite` an earlier run folder may be replaced, and nothing else.

    Raises
    ------
    FileExistsError, PermissionError, NotADirectoryError
    """
    if out.exists() or out.is_symlink():
        is_run = (out / _SUMMARY).is_file()
        if not overwrite:
            raise FileExistsError(f"{out} exists; choose another --out" + (" or add --overwrite." if is_run else "."))
        if not is_run:
            raise FileExistsError(f"{out} exists and is no run folder of mimic; it will not be replaced.")
    parent = next(p for p in out.resolve().parents if p.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"{out} cannot be made: {parent} is a file.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{out} cannot be made: no permission to write in {parent}.")


@contextmanager
def output_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside `out` that takes its name when the block ends well, and vanishes when it does not."""
    check_output(out, overwrite=overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(out)
    temporary = out.parent / f".{out.name}.{os.getpid()}.partial"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        if out.exists():
            check_output(out, overwrite=overwrite)
            old = out.parent / f".{out.name}.{os.getpid()}.old"
            out.rename(old)
            temporary.rename(out)
            shutil.rmtree(old)
        else:
            temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clear_leftovers(out: Path) -> None:
    """Remove what a process that was killed (kill -9) left of this output."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*"):
        match = re.fullmatch(r"(\d+)\.(partial|old)", path.name.removeprefix(f".{out.name}."))
        if match and not _is_alive(int(match[1])) and not (match[2] == "old" and not out.exists()):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is alive, and somebody else's
        return True
    else:
        return True


def summarize(
    configuration: Configuration, prepared: Prepared, fit: Fit | None = None, *, registry: str | Path | None = None
) -> dict[str, Any]:
    """The counts of a run as plain values: what came in, what is left, what each model reached."""
    choice_sets = prepared.choice_sets
    return {
        "mimic": __version__,
        "experiment": configuration.name,
        "rows_read": prepared.n_read,
        "rows_dropped": prepared.ledger.n_dropped("fix", "decision"),
        "n_decisions": choice_sets.n_decisions,
        "n_choices": choice_sets.n_rows,
        "n_individuals": {
            str(split): int(group["individual"].nunique()) for split, group in choice_sets.decisions.groupby("split")
        },
        "best_epoch": fit.best_epochs if fit is not None else {},
        "runs": fit.runs if fit is not None else {},
        # From wherever it is asked for later; the password of a URL stays out of files.
        "registry": None if registry is None else _place(registry),
    }


def _place(registry: str | Path) -> str:
    text = str(registry)
    return re.sub(r"(://[^/@:]*):[^@]*@", r"\1@", text) if "://" in text else os.path.abspath(text)


def write_choices(folder: Path, configuration: Configuration, prepared: Prepared) -> dict[str, Any]:
    """Write the part of a run that needs no training; its summary."""
    (folder / "configuration.yaml").write_text(configuration.to_yaml(), encoding="utf-8")
    prepared.ledger.to_frame().to_csv(folder / "ledger.csv", index=False)
    save_choice_sets(prepared.choice_sets, folder / "choices")
    if prepared.tracks is not None:
        prepared.tracks.to_parquet(folder / "tracks.parquet", index=False)
    return _write_summary(folder, summarize(configuration, prepared))


def _write_summary(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    (folder / _SUMMARY).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return summary


def write_run(
    folder: Path,
    configuration: Configuration,
    prepared: Prepared,
    fit: Fit,
    tables: Mapping[str, pd.DataFrame],
    *,
    registry: str | Path | None = None,
) -> None:
    """Write everything but the figures into a folder that nobody else sees yet (see `output_folder`)."""
    from mimic.model import save_model

    write_choices(folder, configuration, prepared)
    (folder / "models").mkdir()
    for name, model in fit.models.items():
        if model.network is not None:
            save_model(model, folder / "models" / f"{name}.keras")
    fit.history.to_csv(folder / "history.csv", index=False)
    pd.DataFrame(fit.log_odds).to_parquet(folder / "log_odds.parquet", index=False)
    own = {"members": fit.members, "selection": fit.selection, "search": fit.search}
    if fit.baseline is not None:
        own[BASELINE] = baseline_table(fit.baseline)
    for name, table in {**tables, **own}.items():
        if len(table):
            table.to_csv(folder / f"{name}.csv", index=False)
    _write_summary(folder, summarize(configuration, prepared, fit, registry=registry))


def load_summary(folder: Path) -> dict[str, Any]:
    """The counts of a run, the ids of the runs behind its models, and where these are recorded.

    Raises
    ------
    FileNotFoundError
        If the folder is no run folder.
    """
    if not (folder / _SUMMARY).is_file():
        raise FileNotFoundError(f"{folder} is no run folder (no {_SUMMARY} in it); give the --out of a mimic run.")
    try:
        summary: dict[str, Any] = json.loads((folder / _SUMMARY).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / _SUMMARY} is damaged; run the experiment again ({error}).") from error
    return summary


def load_groups(folder: Path) -> GroupsConfig:
    """The choice groups and behavior groups that the run itself was evaluated for."""
    return load_configuration(folder / "configuration.yaml").groups


def load_run(folder: Path) -> tuple[ChoiceSets, dict[str, np.ndarray]]:
    """The choice sets of a run and the log-odds of its models.

    Raises
    ------
    FileNotFoundError
        If the folder is no run folder, or one of choice sets alone.
    ValueError
        If its log-odds are damaged.
    """
    load_summary(folder)
    if not (folder / "log_odds.parquet").is_file():
        raise FileNotFoundError(f"{folder} holds choice sets without models; give the --out of a mimic run.")
    choice_sets = load_choice_sets(folder / "choices")
    try:
        table = pd.read_parquet(folder / "log_odds.parquet")
    except (ValueError, OSError) as error:
        raise ValueError(f"{folder / 'log_odds.parquet'} is damaged; run the experiment again ({error}).") from error
    return choice_sets, {str(name): table[name].to_numpy(dtype=np.float64) for name in table}

"""Choice sets of a large study into a folder of their pieces - decisions, neighbors, covariates on cells - and back.

A million decisions over 19 to 32 cells each with eight covariates are 22 million rows, but 2,500 cells and 365 days.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mimic import __version__
from mimic.archive import load_choices, new_folder, save_choices
from mimic.factored import Factored, OnCells
from mimic.features import FeatureSpec
from mimic.gathered import GatheredFeatures
from mimic.hexgrid import NeighborTable
from mimic.joins import JoinedField
from mimic.memory import History
from mimic.schema import ORIGIN, ChoiceSets, FeatureInfo

__all__ = ["load_choice_sets", "save_choice_sets"]

MANIFEST = "store.json"
_FORMAT = 1
_SELECTED_INDEX = "_selected_index"
_N_SAMPLED = 100  # decisions whose features are kept, to tell whether they are still computed in the same way
_TABLE = ("origin", "offsets", "cell", "distance_km", "bearing_rad")
_JOIN = ("low", "high", "weight", "valid")


def save_choice_sets(choice_sets: ChoiceSets, path: str | Path) -> Path:
    """The folder in which the choice sets now lie: in pieces where their features are gathered, else as Parquet.

    The folder is written under a temporary name and renamed, so it is there as a whole or not at all. In pieces it
    holds `decisions.parquet`, `neighbors.npz` (the cells around every origin), `kept.npy` (which of them are choices,
    a bit each), `covariate_NAME.npy` (step, cell), `joins.npz` (which steps a time takes), `history.npz` where a
    feature asks for the past, `feature_NAME.npy` for features that only their experiment can compute, `sample.npz`
    and, last, `store.json`.

    Raises
    ------
    FileExistsError
        If the target exists.
    ValueError
        If a column holds values that Parquet has no type for, or a covariate is no table of cells and steps.
    """
    features = choice_sets.features
    if not isinstance(features, GatheredFeatures):
        return save_choices(choice_sets, path)
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists already and is not overwritten; give another folder or remove it first.")
    pieces = features.pieces
    tables = [name for name, covariate in pieces.covariates.items() if covariate.field is None]
    if tables:
        raise ValueError(
            f"{', '.join(tables)}: expected covariates on cells and steps to store; got a function of rows. "
            "Hold the features as columns (lazy=False)."
        )
    held = [name for name, spec in features.specs.items() if _is_of_experiment(spec) and name not in features.more]
    more = {**features.more, **features.gather(held)}
    with new_folder(path) as folder:
        _write_pieces(folder, choice_sets, pieces)
        for name, values in more.items():
            np.save(folder / f"feature_{name}.npy", values)
        _write_sample(folder, choice_sets)
        manifest = {
            "format": _FORMAT,
            "mimic": __version__,
            "n_decisions": choice_sets.n_decisions,
            "n_rows": choice_sets.n_rows,
            "covariates": {n: {"unit": c.unit, "fill": c.fill} for n, c in pieces.covariates.items()},
            "features": [_recipe(spec) for name, spec in features.specs.items() if name not in more],
            "held": list(more),
            "order": list(features),
            "info": {name: asdict(info) for name, info in choice_sets.info.items()},
        }
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return path


def load_choice_sets(path: str | Path) -> ChoiceSets:
    """The choice sets that `save_choice_sets` wrote; covariates and held features stay on disk until they are used.

    Raises
    ------
    FileNotFoundError
        If there are no choice sets in the folder.
    ValueError
        If a file is missing or corrupt, or a feature is computed otherwise today than when it was stored.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        return load_choices(path)
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} was not written by this version of mimic (format {manifest.get('format')}, expected {_FORMAT}); "
            "build the choice sets again."
        )
    try:
        choice_sets = _read(path, manifest)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged: {error}. Build the choice sets again.") from error
    _check_sample(path, choice_sets, manifest["mimic"])
    return choice_sets


# ---------------------------------------------------------------- writing


def _write_pieces(folder: Path, choice_sets: ChoiceSets, pieces: Factored) -> None:
    starts = choice_sets.offsets[:-1]
    within = np.where(choice_sets.selected >= 0, choice_sets.selected - starts, -1)
    decisions = choice_sets.decisions.assign(**{_SELECTED_INDEX: within.astype(np.int32)})
    try:
        table = pa.Table.from_pandas(decisions, preserve_index=False)
    except (pa.ArrowException, TypeError) as error:
        raise ValueError(f"cannot save these choice sets: {error}. Let each column hold one kind of value.") from None
    pq.write_table(table, folder / "decisions.parquet", compression="zstd")
    table_arrays: dict[str, Any] = {name: getattr(pieces.table, name) for name in _TABLE}
    np.savez_compressed(folder / "neighbors.npz", **table_arrays)
    np.save(folder / "kept.npy", np.packbits(_kept(pieces)))
    np.savez_compressed(folder / "axes.npz", cells=pieces.cells, times=pieces.times.astype("datetime64[ns]").view("i8"))
    joins: dict[str, Any] = {}
    for name, covariate in pieces.covariates.items():
        assert covariate.field is not None
        np.save(folder / f"covariate_{name}.npy", covariate.field.values)
        joins |= {f"{name}.{part}": getattr(covariate.field, part) for part in _JOIN}
    np.savez_compressed(folder / "joins.npz", **joins)
    if pieces.history is not None:
        np.savez_compressed(folder / "history.npz", **_packed_history(pieces.history))


def _kept(pieces: Factored) -> np.ndarray:
    """Which of the cells around each decision's origin are choices: (row before any was dropped,), bool."""
    everything, offsets = pieces.table.rows_of(pieces.decisions[ORIGIN].to_numpy(dtype=np.int64))
    # a choice's place among the rows of its decision: choices keep the order of the neighbor table
    first = everything[offsets[:-1]] if len(everything) else everything
    counts = np.diff(pieces.offsets)
    place = pieces.table_row - np.repeat(first - offsets[:-1], counts)
    kept = np.zeros(len(everything), dtype=bool)
    kept[place] = True
    return kept


def _packed_history(history: History) -> dict[str, Any]:
    return {
        "individuals": np.asarray(history.individuals, dtype=str),
        "offsets": history.offsets,
        "time_utc": history.time_utc.astype("datetime64[ns]").view("i8"),
        "longitude": history.longitude,
        "latitude": history.latitude,
        "cell": history.cell,
        "resolution": np.array(history.resolution),
        "max_gap_hours": np.array(history.max_gap_hours),
    }


def _is_of_experiment(spec: FeatureSpec) -> bool:
    """Whether something of the experiment makes the feature, which a recipe cannot tell."""
    return spec.definition is not None or (spec.times is not None and _is_of_experiment(spec.times))


def _recipe(spec: FeatureSpec) -> dict[str, Any]:
    times = None if spec.times is None else _recipe(spec.times)
    own = {name: getattr(spec, name) for name in ("name", "source", "minus_origin", "multiply", "clip", "transform")}
    return {**own, "times": times}


def _write_sample(folder: Path, choice_sets: ChoiceSets) -> None:
    few = choice_sets.block(0, min(_N_SAMPLED, choice_sets.n_decisions))
    sample: dict[str, Any] = dict(few.features)
    np.savez_compressed(folder / "sample.npz", **sample)


# ---------------------------------------------------------------- reading


def _read(path: Path, manifest: Mapping[str, Any]) -> ChoiceSets:
    decisions = pd.read_parquet(path / "decisions.parquet")
    within = decisions.pop(_SELECTED_INDEX).to_numpy()
    with np.load(path / "neighbors.npz") as arrays:
        table = NeighborTable(*(arrays[name] for name in _TABLE))
    everything, offsets = table.rows_of(decisions[ORIGIN].to_numpy(dtype=np.int64))
    kept = np.unpackbits(np.load(path / "kept.npy"), count=len(everything)).astype(bool)
    counts = np.add.reduceat(kept, offsets[:-1], dtype=np.int64) if len(decisions) else offsets[:0]
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    with np.load(path / "axes.npz") as axes, np.load(path / "joins.npz") as joins:
        covariates = {
            name: OnCells(
                JoinedField(
                    np.load(path / f"covariate_{name}.npy", mmap_mode="r"),
                    *(joins[f"{name}.{part}"] for part in _JOIN),
                ),
                None,
                about["unit"],
                about["fill"],
            )
            for name, about in manifest["covariates"].items()
        }
        pieces = Factored(
            decisions,
            starts,
            everything[kept].astype(np.int32),
            table,
            axes["cells"],
            axes["times"].view("datetime64[ns]"),
            covariates,
            _unpacked_history(path / "history.npz"),
        )
    held = {name: np.load(path / f"feature_{name}.npy", mmap_mode="r") for name in manifest["held"]}
    return ChoiceSets(
        decisions=decisions,
        offsets=starts,
        choice=pieces.choice(),
        selected=np.where(within >= 0, starts[:-1] + within, -1),
        features=GatheredFeatures(
            pieces, [_spec(recipe) for recipe in manifest["features"]], held, order=manifest["order"]
        ),
        info={name: FeatureInfo(**info) for name, info in manifest["info"].items()},
    )


def _unpacked_history(path: Path) -> History | None:
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return History(
            individuals=arrays["individuals"].astype(object),
            offsets=arrays["offsets"],
            time_utc=arrays["time_utc"].view("datetime64[ns]"),
            longitude=arrays["longitude"],
            latitude=arrays["latitude"],
            cell=arrays["cell"],
            resolution=int(arrays["resolution"]),
            max_gap_hours=float(arrays["max_gap_hours"]),
        )


def _spec(recipe: Mapping[str, Any]) -> FeatureSpec:
    times = None if recipe["times"] is None else _spec(recipe["times"])
    clip = None if recipe["clip"] is None else tuple(recipe["clip"])
    return FeatureSpec(**{**recipe, "times": times, "clip": clip})


def _check_sample(path: Path, choice_sets: ChoiceSets, version: str) -> None:
    """Raise ValueError where features come out otherwise than when the choice sets were stored."""
    few = choice_sets.block(0, min(_N_SAMPLED, choice_sets.n_decisions))
    with np.load(path / "sample.npz") as stored:
        changed = [
            name
            for name, values in few.features.items()
            # a bearing is NaN for stay, today as then
            if not np.allclose(values, stored[name], rtol=1e-5, atol=1e-6, equal_nan=True)
        ]
    if changed:
        raise ValueError(
            f"{path}: {', '.join(changed)} come out otherwise today than when mimic {version} stored these choice "
            "sets. Build them again."
        )

"""A study of seconds: a ready choice table of a few animals and experiments upon it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mimic.configuration import load_configuration
from mimic.experiment import Fit, fit_models
from mimic.preparation import Prepared, prepare

__all__ = ["HEAD", "fit", "write_experiment", "write_table"]

HEAD = """
name: tiny
table: {file: table.csv, features: [depth, noise, use]}
split: {validation_share: 0.34, seed: 1}
"""


def write_table(folder: Path, *, n_individuals: int = 6, n_decisions: int = 20, seed: int = 0) -> pd.DataFrame:
    """Four choices a decision; deep ones are liked, the column `noise` is noise, `use` is 0.7 where selected."""
    rng = np.random.default_rng(seed)
    keys = [(f"a{i}", d, c) for i in range(n_individuals) for d in range(n_decisions) for c in range(4)]
    rows = pd.DataFrame(keys, columns=["individual", "decision", "choice"])
    rows["depth"], rows["noise"] = rng.normal(size=len(rows)), rng.normal(size=len(rows))
    liked = 1.5 * rows["depth"] + rng.gumbel(size=len(rows))
    best = liked.groupby([rows["individual"], rows["decision"]]).idxmax()
    rows["selected"] = rows.index.isin(best).astype(int)
    rows["use"] = np.where(rows["selected"] == 1, 0.7, 0.1)
    rows.to_csv(folder / "table.csv", index=False)
    return rows


def write_experiment(folder: Path, text: str, *, name: str = "tiny") -> Path:
    """The experiment file of the sections `text` on the table."""
    if not (folder / "table.csv").exists():
        write_table(folder)
    path = folder / f"{name}.yaml"
    path.write_text(HEAD + text)
    return path


def fit(folder: Path, text: str, *, registry: Path | None = None, **options: object) -> tuple[Prepared, Fit]:
    """The experiment, trained in this process unless told otherwise."""
    configuration = load_configuration(write_experiment(folder, text))
    prepared = prepare(configuration)
    where = folder / "registry" if registry is None else registry
    return prepared, fit_models(configuration, prepared, registry=where, **{"n_workers": 1, **options})  # type: ignore[arg-type]

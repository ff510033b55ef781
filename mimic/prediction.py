"""A finished run, one of its models and new decisions into the probability of every choice."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.bin_decisions import BIN_VALUE, make_bin_decisions
from mimic.choices import DESTINATION, make_decisions
from mimic.configuration import Configuration, load_configuration
from mimic.hexgrid import check_cells
from mimic.ledger import Ledger
from mimic.longtable import read_long_table
from mimic.preparation import build_from_decisions, read_resampled, read_table
from mimic.probability import grouped_log_softmax
from mimic.runs import load_summary
from mimic.schema import CHOICE, DECISION, INDIVIDUAL, TIME, ChoiceSets, FeatureInfo
from mimic.tables import from_table

if TYPE_CHECKING:
    from mimic.model import LogOddsModel

__all__ = [
    "Predictor",
    "check_suffix",
    "last_decisions",
    "load_predictor",
    "predict_last",
    "predict_table",
    "write_predictions",
]


@dataclass(frozen=True, eq=False)
class Predictor:
    """A model of a run, and the configuration that it was trained with.

    Parameters
    ----------
    features
        What it needs of every choice; empty for the model without any.
    coefficients
        Of a conditional logit, else empty: feature -> per unit.
    model
        The network, None for others.
    """

    configuration: Configuration
    name: str
    features: Mapping[str, FeatureInfo]
    coefficients: Mapping[str, float]
    model: LogOddsModel | None = None

    def log_odds(self, cs: ChoiceSets) -> np.ndarray:
        """Log-odds of every choice: (row,), nats."""
        if self.model is not None:
            return self.model.log_odds(cs)
        total = np.zeros(cs.n_rows)
        for name, coefficient in self.coefficients.items():
            total += coefficient * cs.features[name].astype(np.float64)
        return total

    def table(self, cs: ChoiceSets) -> pd.DataFrame:
        """The probability of every choice: one row a choice, in the order of the choice sets.

        Returns
        -------
        individual, decision, time_utc (where known), choice, cell (the choice as hexadecimal H3 text) or label (the
        text of the bin) where choices are cells or bins, probability (adding up to 1 in each decision), and rank: 1
        for the most likely; equal ones share the smallest rank.
        """
        probability = np.exp(grouped_log_softmax(self.log_odds(cs), cs.offsets))
        row = cs.decision_of_row
        keys = [name for name in (INDIVIDUAL, DECISION, "decision_id", TIME) if name in cs.decisions]
        made = cs.decisions[keys].iloc[row].reset_index(drop=True)
        made[CHOICE] = cs.choice
        bins = self.configuration.bins
        if bins is not None:
            made["label"] = np.array(bins.bins.labels, dtype=object)[cs.choice]
        elif _are_cells(cs.choice):
            made["cell"] = [f"{cell:x}" for cell in cs.choice.tolist()]
        made["probability"] = probability
        order = made.groupby(row, sort=False)["probability"].rank(method="min", ascending=False)
        return made.assign(rank=order.astype(np.int64))


def load_predictor(run: Path, model: str) -> Predictor:
    """A model of a run folder: a network or ensemble, a conditional logit, or the model without features.

    Raises
    ------
    FileNotFoundError
        If the folder is no run folder with models.
    ValueError
        If it has no such model, or its file is damaged.
    """
    load_summary(run)
    configuration = load_configuration(run / "configuration.yaml")
    path = run / "models" / f"{model}.keras"
    if not (run / "models").is_dir():
        raise FileNotFoundError(f"{run} holds choice sets without models; give the --out of a mimic run.")
    if path.is_file():
        from mimic.model import load_model

        loaded = load_model(path)
        told: Mapping[str, Mapping[str, str]] = loaded.metadata.get("info") or {}
        features = {name: _info(told.get(name)) for name in loaded.features}
        return Predictor(configuration, model, features, {}, loaded)
    coefficients = _coefficients(run / f"{BASELINE}.csv") if model == BASELINE else {}
    if coefficients:
        return Predictor(configuration, model, dict.fromkeys(coefficients, FeatureInfo("choice")), coefficients)
    if model in configuration.models and not configuration.models[model].features:
        return Predictor(configuration, model, {}, {})
    known = [name for name, section in configuration.models.items() if not section.features]
    known += sorted(p.stem for p in (run / "models").glob("*.keras"))
    known += [BASELINE] if _coefficients(run / f"{BASELINE}.csv") and BASELINE not in known else []
    raise ValueError(f"{run} has no model {model}; it has {', '.join(known)}.")


def predict_table(predictor: Predictor, file: Path) -> tuple[pd.DataFrame, Ledger]:
    """Probabilities of the choices in a long table; `selected` may be missing, in the table or in some decisions.

    The table needs individual, decision, choice and the features of the model, by the names of the experiment's own
    table where that is one.

    Raises
    ------
    FileNotFoundError, ValueError
        As `mimic.tables.read_choice_table`.
    """
    table = predictor.configuration.table
    if table is not None:
        roles = {name: info.role for name, info in predictor.features.items()}
        needed = {name: formula for name, formula in table.derive.items() if name in roles}
        section = table.model_copy(update={"features": roles, "derive": needed, "context": []})
        return predictor.table(read_table(section, file=file, allow_unknown=True)), Ledger()
    long = read_long_table(file)
    return predictor.table(from_table(long, features=dict(predictor.features), allow_unknown=True)), Ledger()


def predict_last(predictor: Predictor, tracks: Path) -> tuple[pd.DataFrame, Ledger]:
    """Probabilities of the next choice from each individual's last regular fix, by the rules of the experiment.

    Parameters
    ----------
    tracks
        A track file in the form of the experiment's, or the `tracks.parquet` of a run folder, whose fixes are
        regular already.

    Raises
    ------
    FileNotFoundError, ValueError
        If the experiment has no tracks, and as reading tracks and building choice sets.
    """
    configuration = predictor.configuration
    if configuration.tracks is None:
        raise ValueError("--last needs an experiment with tracks; this run is of a ready table: give one of choices.")
    if tracks.name == "tracks.parquet":
        resampled, ledger = pd.read_parquet(tracks), Ledger()
    else:
        section = configuration.tracks.model_copy(update={"file": tracks})
        resampled, ledger, _ = read_resampled(configuration.model_copy(update={"tracks": section}))
    choice_sets, more = build_from_decisions(configuration, last_decisions(configuration, resampled), fixes=resampled)
    if not choice_sets.n_decisions:
        raise ValueError(f"no last fix has a choice set:\n{(ledger + more).explain()}")
    return predictor.table(choice_sets), ledger + more


def last_decisions(configuration: Configuration, resampled: pd.DataFrame) -> pd.DataFrame:
    """The decision of each individual at its last fix, with an unknown selection.

    It is made as any other, with a fix one step later that is then forgotten: arrival headings and previous bins
    come from the fixes before. Of bins with `value_of: own` it is the time that begins with the last fix.
    """
    assert configuration.tracks is not None
    rules, bins = configuration.choices, configuration.bins
    resampled = resampled.sort_values([INDIVIDUAL, TIME], kind="stable").reset_index(drop=True)
    last = ~resampled.duplicated(INDIVIDUAL, keep="last").to_numpy()
    after = resampled[last].copy()
    after[TIME] = after[TIME] + pd.Timedelta(configuration.tracks.resample.step)
    if bins is not None:
        after[bins.value] = bins.edges[0]
    if bins is not None and bins.value_of == "own":
        column = resampled[bins.value].mask(pd.Series(last), bins.edges[0])
        longer = resampled.assign(**{bins.value: column})
    else:
        order = np.argsort(np.concatenate([np.arange(len(resampled)), np.flatnonzero(last) + 0.5]))
        longer = pd.concat([resampled, after], ignore_index=True).iloc[order].reset_index(drop=True)
    if bins is not None:
        made, _ = make_bin_decisions(longer, value=bins.value, value_of=bins.value_of, resolution=bins.resolution)
        made = made.assign(**{BIN_VALUE: np.nan})
    else:
        assert rules is not None
        made = make_decisions(longer, resolution=rules.resolution)[0].drop(columns=DESTINATION)
    return made[~made.duplicated(INDIVIDUAL, keep="last")].reset_index(drop=True)


def check_suffix(path: Path) -> None:
    """Raise ValueError for a file that is neither CSV nor Parquet by its name, or a folder."""
    if path.is_dir():
        raise ValueError(f"--out must be a .csv, .csv.gz or .parquet file; {path} is a folder.")
    if not path.name.endswith((".csv", ".csv.gz", ".parquet")):
        raise ValueError(f"--out must be a .csv, .csv.gz or .parquet file; got {path.name}.")


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Write a table as .csv, .csv.gz or .parquet, whole or not at all; an earlier file of that name is replaced.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        if path.name.endswith(".parquet"):
            table.to_parquet(temporary, index=False)
        else:
            text = table.to_csv(index=False).encode()
            # neither name nor time in its header: equal tables are equal bytes
            temporary.write_bytes(gzip.compress(text, mtime=0) if path.name.endswith(".gz") else text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _coefficients(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    table = pd.read_csv(path)
    if "coef" not in table:
        return {}
    known = table[table["coef"].notna()]
    return dict(zip(known["feature"].astype(str), known["coef"].astype(float), strict=True))


def _info(told: Mapping[str, str] | None) -> FeatureInfo:
    if told is None:
        return FeatureInfo("choice")
    return FeatureInfo(told["role"], told.get("unit", "1"), told.get("description", ""))  # type: ignore[arg-type]


def _are_cells(choice: np.ndarray | Sequence[object]) -> bool:
    choice = np.asarray(choice)
    if choice.dtype.kind not in "iu":
        return False
    try:
        check_cells(choice)
    except ValueError:
        return False
    return True

"""A study into its numbers: each with a name that a text can ask for, its value and how it is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mimic.paper_items import NUMBER_COLUMNS
from mimic.schema import INDIVIDUAL, SPLIT, TRAIN, VALIDATION
from mimic.stay import measure_stay
from mimic.study import Study
from mimic.written import FORMS

__all__ = ["study_numbers"]

Number = tuple[str, float, str]
"""Name below the study, value, and name of its form."""

_SCORES = {
    "log_probability": ("D", "nats"),
    "gmp": ("gmp", "percent"),
    "null_gmp": ("null_gmp", "percent"),
    "lift": ("lift", "times"),
    "contrast_loss": ("contrast_loss", "nats"),
    "mean_probability": ("mean_probability", "percent"),
}
_LOSSES = {
    "true_contrast_loss": "contrast_loss",
    "val_true_contrast_loss": "val_contrast_loss",
    "true_decision_loss": "decision_loss",
    "val_true_decision_loss": "val_decision_loss",
}
_ENDS = ("", "_low", "_high")


def study_numbers(study: Study) -> pd.DataFrame:
    """All numbers of a study, individuals weighing the same.

    Returns
    -------
    One row a number: name (without that of the study), value, and text, as a paper prints it.

    - count/rows_read, rows_dropped, decisions, choices, individuals, choices_min, choices_median, choices_max, and
      individuals, decisions and their splits as in individuals_train;
    - score/SPLIT/MODEL/CHOICES/BEHAVIORS/QUANTITY with D, gmp, null_gmp, lift, contrast_loss, mean_probability, each also
      with _low and _high, n_decisions and n_individuals;
    - difference/SPLIT/MODEL/OTHER/CHOICES/BEHAVIORS/QUANTITY with difference and gmp_ratio (and their intervals),
      share_improved and p;
    - chain/SPLIT/MODEL/STAGE/BEHAVIORS/QUANTITY with gain (and its interval), lift, gmp and n_open;
    - share/SPLIT/CONDITION/MODEL/QUANTITY with predicted and observed (and their intervals);
    - stay/probability, n_alternatives, contrast_share, batch_decisions, error;
    - training/MODEL/best_epoch, n_parameters, seconds, running_loss and the losses of the chosen member;
    - spread/MODEL/n_seeds, min, median, p90, spread of its best configuration;
    - coefficient/FEATURE/coef, se, p of the conditional logit, clustered where its table is.

    Raises
    ------
    ValueError
        If two numbers have one name, as those of groups with a slash in their names can.
    """
    found: list[Number] = [
        *_counts(study),
        *_scores(study.tables["evaluation"]),
        *_differences(study.tables["differences"]),
        *_chain(study.tables["chain"]),
        *_shares(study.tables["shares"]),
        *_stay(study),
        *_training(study),
        *_spreads(study),
        *_coefficients(study.tables["conditional_logit"]),
    ]
    names = [name for name, _, _ in found]
    double = next((name for name, n in Counter(names).items() if n > 1), None)
    if double is not None:
        raise ValueError(f"two numbers of {study.name} are both called {double}; take the slash out of a group's name.")
    rows = [(name, float(value), FORMS[form](float(value))) for name, value, form in found]
    return pd.DataFrame(rows, columns=NUMBER_COLUMNS).astype({"name": "str", "value": np.float64, "text": "str"})


def _counts(study: Study) -> Iterator[Number]:
    cs, decisions = study.choice_sets, study.choice_sets.decisions
    yield "count/rows_read", study.summary["rows_read"], "count"
    yield "count/rows_dropped", study.summary["rows_dropped"], "count"
    yield "count/decisions", cs.n_decisions, "count"
    yield "count/choices", cs.n_rows, "count"
    yield "count/individuals", decisions[INDIVIDUAL].nunique(), "count"
    for split in (TRAIN, VALIDATION):
        part = decisions[decisions[SPLIT] == split]
        yield f"count/decisions_{split}", len(part), "count"
        yield f"count/individuals_{split}", part[INDIVIDUAL].nunique(), "count"
    sizes = cs.n_choices
    yield "count/choices_min", sizes.min(), "count"
    yield "count/choices_median", float(np.median(sizes)), "count"
    yield "count/choices_max", sizes.max(), "count"
    yield "count/models", len(study.models), "count"


def _scores(table: pd.DataFrame) -> Iterator[Number]:
    for row in _individuals(table):
        place = "/".join(["score", *(str(row[k]) for k in ("split", "model", "choice_group", "behavior_group"))])
        for column, (name, form) in _SCORES.items():
            for end in _ENDS:
                if f"{column}{end}" in row:
                    yield f"{place}/{name}{end}", row[f"{column}{end}"], form
        for name in ("n_decisions", "n_individuals"):
            yield f"{place}/{name}", row[name], "count"


def _differences(table: pd.DataFrame) -> Iterator[Number]:
    keys = ("split", "model", "other", "choice_group", "behavior_group")
    for row in _individuals(table):
        place = "/".join(["difference", *(str(row[k]) for k in keys)])
        for end in _ENDS:
            yield f"{place}/difference{end}", row[f"difference{end}"], "nats"
            yield f"{place}/gmp_ratio{end}", row[f"gmp_ratio{end}"], "ratio"
        yield f"{place}/share_improved", row["share_improved"], "percent"
        yield f"{place}/p", row["p_sign_flip"], "p"


def _chain(table: pd.DataFrame) -> Iterator[Number]:
    for row in _individuals(table):
        place = "/".join(["chain", *(str(row[k]) for k in ("split", "model", "stage", "behavior_group"))])
        for end in _ENDS:
            yield f"{place}/gain{end}", row[f"gain{end}"], "nats"
        yield f"{place}/lift", row["lift"], "times"
        yield f"{place}/gmp", row["gmp"], "percent"
        yield f"{place}/n_open", row["n_open"], "count"


def _shares(table: pd.DataFrame) -> Iterator[Number]:
    for row in _individuals(table):
        place = "/".join(["share", *(str(row[k]) for k in ("split", "condition", "model"))])
        for name in ("predicted", "observed"):
            for end in _ENDS:
                yield f"{place}/{name}{end}", row[f"{name}{end}"], "percent"


def _stay(study: Study) -> Iterator[Number]:
    cs = study.choice_sets
    training = cs.filter((cs.decisions[SPLIT] == TRAIN).to_numpy())
    facts = measure_stay(training, batch_decisions=study.configuration.training.batch_decisions)
    if facts is not None:
        yield "stay/probability", facts.probability, "percent"
        yield "stay/n_alternatives", facts.n_alternatives, "number"
        yield "stay/contrast_share", facts.contrast_share, "percent"
        yield "stay/batch_decisions", facts.batch_decisions, "count"
        yield "stay/error", facts.error, "percent"
        yield "stay/decisions_for_one_point", facts.decisions_for_one_point, "count"


def _training(study: Study) -> Iterator[Number]:
    for model, ids in study.summary["runs"].items():
        if len(ids) != 1 or ids[0] not in study.records:
            continue  # of several networks none is the one
        record = study.records[ids[0]]
        place = f"training/{model}"
        for column, name in _LOSSES.items():
            if column in record.metrics:
                yield f"{place}/{name}", record.metrics[column], "nats"
        if record.best_epoch is not None:
            yield f"{place}/best_epoch", record.best_epoch, "count"
            running = record.history.loc[record.history["epoch"] == record.best_epoch]
            if "loss" in running and len(running) == 1:
                yield f"{place}/running_loss", running["loss"].iloc[0], "nats"
        yield f"{place}/epochs", len(record.history), "count"
        if "n_parameters" in record.facts:
            yield f"{place}/n_parameters", record.facts["n_parameters"], "count"
        yield f"{place}/seconds", record.seconds, "number"


def _spreads(study: Study) -> Iterator[Number]:
    table = study.tables["selection"]
    if table.empty:
        return
    best = table.sort_values("median", kind="stable").drop_duplicates("model")
    for row in best.to_dict(orient="records"):
        place = f"spread/{row['model']}"
        yield f"{place}/n_seeds", row["n_seeds"], "count"
        for name in ("min", "median", "p90"):
            yield f"{place}/{name}", row[name], "nats"
        yield f"{place}/spread", row["spread"], "number"


def _coefficients(table: pd.DataFrame) -> Iterator[Number]:
    se = "cluster_robust_se" if "cluster_robust_se" in table else "se"  # as in the table of the paper
    for row in _rows(table, ["feature", "coef", se, "p"]):
        if row["coef"] == row["coef"]:
            for name, column, form in (("coef", "coef", "number"), ("se", se, "number"), ("p", "p", "p")):
                yield f"coefficient/{row['feature']}/{name}", row[column], form


def _individuals(table: pd.DataFrame) -> list[dict[Any, Any]]:
    """The rows of a table in which individuals weigh the same."""
    return [] if table.empty else table[table["weighting"] == "individual"].to_dict(orient="records")


def _rows(table: pd.DataFrame, columns: Sequence[str]) -> list[dict[Any, Any]]:
    return table[list(columns)].to_dict(orient="records") if set(columns) <= set(table.columns) else []

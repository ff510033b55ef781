"""Tested decisions of repeated splits into tables: by split, by individual, over all, and differences between models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from mimic.bootstrap import few_note, mean_intervals
from mimic.comparison import format_comparison, summarize_differences
from mimic.schema import DECISION, INDIVIDUAL, SPLIT, require_columns
from mimic.textable import with_interval

__all__ = [
    "NULL",
    "CrossValidation",
    "difference_table",
    "format_crossval",
    "individual_table",
    "score_table",
    "summary_table",
]

NULL = "null"
_KEYS = ["repeat", SPLIT]
_EMPTY = {"split": "all", "choice_group": "all", "behavior_group": "all", "weighting": "individual"}


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What repeated splits gave: tidy tables, log-probabilities in nats.

    Parameters
    ----------
    decisions
        One row a tested decision and repeat: repeat, split, individual, decision, n_choices, null (-ln n_choices), and
        ln p(selected) by each model that was fitted without it.
    splits
        Who was in which role, see `mimic.partitions.audit_splits`.
    scores, individuals, summary, differences
        See the functions of this module.
    n_trained
        Runs that were trained now, and not found in the registry.
    """

    decisions: pd.DataFrame
    splits: pd.DataFrame
    scores: pd.DataFrame
    individuals: pd.DataFrame
    summary: pd.DataFrame
    differences: pd.DataFrame
    n_trained: int

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name, `decisions`, the long one, last."""
        names = ("summary", "differences", "scores", "individuals", "splits", "decisions")
        return {name: getattr(self, name) for name in names}


def score_table(decisions: pd.DataFrame, models: Sequence[str], chosen: pd.DataFrame) -> pd.DataFrame:
    """One row a split x model: the tested D, and D where the model was chosen.

    Parameters
    ----------
    decisions
        Of `CrossValidation`.
    chosen
        Columns repeat, split, model, validation_log_probability, chosen: for the models that were chosen on
        validation, D of the validating individuals and the member.

    Returns
    -------
    Columns repeat, split, model, n_individuals, n_decisions, log_probability (D, individuals weighing the same), gmp,
    null_gmp, lift, validation_log_probability, optimism (that less the tested D; NaN where nothing was chosen) and
    chosen.
    """
    rows = []
    for (repeat, split), part in decisions.groupby(_KEYS, sort=False):
        means = part.groupby(INDIVIDUAL)[[NULL, *models]].mean().mean()
        counts = {"n_individuals": part[INDIVIDUAL].nunique(), "n_decisions": len(part)}
        for model in models:
            head = {"repeat": repeat, SPLIT: split, "model": model}
            rows.append({**head, **counts, **_probabilities(means[model], means[NULL])})
    table = pd.DataFrame(rows).merge(chosen, on=[*_KEYS, "model"], how="left", validate="one_to_one")
    table["optimism"] = table["validation_log_probability"] - table["log_probability"]
    table["chosen"] = table.pop("chosen").fillna("")  # last
    return table


def individual_table(decisions: pd.DataFrame, models: Sequence[str]) -> pd.DataFrame:
    """One row a model x individual: D over its tested decisions, all repeats together, with GMP, null and lift."""
    groups = decisions.groupby(INDIVIDUAL, sort=True)
    means = groups[[NULL, *models]].mean()
    parts = [
        pd.DataFrame(
            {
                "model": model,
                INDIVIDUAL: means.index,
                "n_decisions": groups[DECISION].nunique().to_numpy(),
                **{k: v.to_numpy() for k, v in _probabilities(means[model], means[NULL]).items()},
            }
        )
        for model in models
    ]
    return pd.concat(parts, ignore_index=True)


def summary_table(
    decisions: pd.DataFrame, scores: pd.DataFrame, models: Sequence[str], *, level: float = 0.95, note: str = ""
) -> pd.DataFrame:
    """One row a model, over all tested individuals, who weigh the same.

    Returns
    -------
    Columns model, n_individuals, n_decisions, n_splits (all repeats), null_gmp; log_probability (D), gmp and lift, each
    with `_low` and `_high` from drawing individuals anew; split_min, split_median, split_max and split_sd of D over
    the splits; validation_log_probability, optimism and optimism_sd, means and standard deviation over the splits; and
    a note where individuals are few, after `note`.
    """
    codes = pd.factorize(decisions[INDIVIDUAL], sort=True)[0]
    counts = {"n_individuals": int(codes.max()) + 1, "n_decisions": _n_decisions(decisions)}
    rows = []
    for model in models:
        log_p, null = decisions[model].to_numpy(), decisions[NULL].to_numpy()
        found = mean_intervals(np.column_stack([log_p, log_p - null]), codes, level=level)
        found = found.within(-np.inf, np.array([0.0, np.inf]))
        ends = {"": found.estimate, "_low": found.low, "_high": found.high}
        own = scores[scores["model"] == model]
        of_split = own["log_probability"]
        rows.append(
            {
                "model": model,
                **counts,
                "n_splits": len(own),
                "null_gmp": float(np.exp(found.estimate[0] - found.estimate[1])),
                **{f"log_probability{end}": float(values[0]) for end, values in ends.items()},
                **{f"gmp{end}": float(np.exp(values[0])) for end, values in ends.items()},
                **{f"lift{end}": float(np.exp(values[1])) for end, values in ends.items()},
                **{f"split_{name}": getattr(of_split, how)() for name, how in _SPREAD.items()},
                "validation_log_probability": own["validation_log_probability"].mean(),
                "optimism": own["optimism"].mean(),
                "optimism_sd": own["optimism"].std(),
                "note": _joined(note, few_note(counts["n_individuals"])),
            }
        )
    return pd.DataFrame(rows)


_SPREAD = {"min": "min", "median": "median", "max": "max", "sd": "std"}


def difference_table(
    decisions: pd.DataFrame,
    models: Sequence[str],
    *,
    reference: str | None = None,
    level: float = 0.95,
    note: str = "",
) -> pd.DataFrame:
    """One row a pair of models, paired by decision: each against `reference`, or every later model against every earlier.

    Returns
    -------
    Columns model, other, n_individuals, n_decisions, difference (D of the model less that of the other, nats) and
    gmp_ratio with intervals, share_improved, p_sign_flip and note; see `mimic.comparison.compare`.
    """
    pairs = [(later, earlier) for earlier, later in combinations(models, 2)]
    if reference is not None:
        pairs = [(model, reference) for model in models if model != reference]
    codes = pd.factorize(decisions[INDIVIDUAL], sort=True)[0]
    rows = []
    for model, other in pairs:
        gain = (decisions[model] - decisions[other]).to_numpy()
        found = summarize_differences(gain, codes, level=level)
        found |= {"n_decisions": _n_decisions(decisions), "note": _joined(note, str(found["note"]))}
        rows.append({"model": model, "other": other, **found})
    return pd.DataFrame(rows)


def format_crossval(summary: pd.DataFrame, differences: pd.DataFrame) -> str:
    """Both tables as aligned text: D, GMP and lift with intervals, the spread over splits, optimism; then differences.

    Where the tables have a column `study`, each study has a part of its own.
    """
    require_columns(list(summary.columns), ["model", "log_probability", "optimism"], where="summary")
    studies = list(dict.fromkeys(summary["study"])) if "study" in summary else [""]
    parts = []
    for study in studies:
        own = summary[summary["study"] == study] if study else summary
        pairs = differences[differences["study"] == study] if study and len(differences) else differences
        parts.append(_format_study(study, own, pairs))
    return "\n\n".join(parts)


def _format_study(study: str, summary: pd.DataFrame, differences: pd.DataFrame) -> str:
    first = summary.iloc[0]
    title = (
        f"{f'{study}: ' if study else ''}{first['n_individuals']} individuals, {first['n_decisions']:,} decisions, "
        f"{first['n_splits']} splits, null GMP {100 * first['null_gmp']:.2f} %"
        + (f" ({first['note']})" if first["note"] else "")
    )
    shown = pd.DataFrame(
        {
            "model": _left(summary["model"]),
            "D": with_interval(summary, "log_probability", "{:.4f}"),
            "GMP %": (100 * summary["gmp"]).map("{:.2f}".format),
            "lift": with_interval(summary, "lift", "{:.3f}"),
            "D by split: min": summary["split_min"].map("{:.3f}".format),
            "median": summary["split_median"].map("{:.3f}".format),
            "max": summary["split_max"].map("{:.3f}".format),
            "optimism": ["-" if np.isnan(x) else f"{x:+.4f}" for x in summary["optimism"]],
        }
    )
    shown.iloc[:, 1:] = " " + shown.iloc[:, 1:]
    shown.columns = [name if name == "model" else f" {name}" for name in shown]
    lines = [title, shown.to_string(index=False)]
    if len(differences):
        table = differences.assign(**_EMPTY)
        table = table.assign(note="")  # that of the title
        lines += ["", format_comparison(table, leave_out=[*_EMPTY])]
    return "\n".join(lines)


def _probabilities(d: Any, null: Any) -> dict[str, Any]:
    return {"log_probability": d, "gmp": np.exp(d), "null_gmp": np.exp(null), "lift": np.exp(d - null)}


def _n_decisions(decisions: pd.DataFrame) -> int:
    """Different decisions: repeats test the same ones."""
    return len(decisions[[INDIVIDUAL, DECISION]].drop_duplicates())


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _left(names: pd.Series) -> list[str]:
    width = names.str.len().max()
    return [name.ljust(width) for name in names]

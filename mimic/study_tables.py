"""A study into the tables of its paper: values as they are, and as they are printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.configuration import TRUTH
from mimic.exemplars import exemplar_decisions
from mimic.paper_items import PaperTable
from mimic.schema import INDIVIDUAL, SPLIT, TIME, VALIDATION
from mimic.study import Study
from mimic.written import FORMS, count, nats, p_value, percent, plain_number, times

__all__ = ["shown_with_interval", "study_tables"]

_SHARE_FORM = {"predicted": "percent", "observed": "percent"}
_N_EXEMPLARS = 10


def study_tables(study: Study) -> list[Callable[[], PaperTable | None]]:
    """Makers of the tables of a study: validation animals, each weighing the same; None where there is nothing."""
    makers: list[Callable[[Study], PaperTable | None]] = [
        _groups,
        _differences,
        _chain,
        _shares,
        _models,
        _coefficients,
        _training,
        _selection,
        _exemplars,
        _ledger,
    ]
    return [partial(make, study) for make in makers]


def shown_with_interval(table: pd.DataFrame, name: str, form: str) -> list[str]:
    """A column with its interval in brackets where there is one; the sign of per cent stands once."""
    write = FORMS[form]
    texts = []
    for x, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True):
        if np.isnan(low) or np.isnan(x):
            texts.append(write(x))
        else:
            ends = [write(end).removesuffix(" %") for end in (low, high)]
            texts.append(f"{write(x)} ({ends[0]} to {ends[1]})")
    return texts


def _groups(study: Study) -> PaperTable | None:
    rows = _validation(study.tables["evaluation"])
    rows = rows[rows["n_decisions"] > 0]
    if rows.empty:
        return None
    rows = _grouped(rows, ["choice_group", "behavior_group"])
    shown = pd.DataFrame(
        {
            "choices": rows["choice_group"],
            "behavior": rows["behavior_group"],
            "model": _named(rows["model"]),
            "animals": rows["n_individuals"].map(count),
            "decisions": rows["n_decisions"].map(count),
            "D, nats": rows["log_probability"].map(nats),
            "GMP": shown_with_interval(rows, "gmp", "percent"),
            "null GMP": rows["null_gmp"].map(percent),
            "lift": rows["lift"].map(times),
        }
    )
    caption = (
        "GMP, the geometric-mean probability of the selected choice, by choice group, behavior group and model; "
        "validation animals, each weighing the same. D is the mean log-probability, null GMP that of equally likely "
        "choices, lift their ratio. In brackets 95 % intervals over animals"
    )
    return PaperTable("groups", caption, rows, shown, ("evaluation",))


def _differences(study: Study) -> PaperTable | None:
    rows = _validation(study.tables["differences"])
    if rows.empty:
        return None
    first = rows[["choice_group", "behavior_group"]].iloc[0]
    rows = rows[(rows[["choice_group", "behavior_group"]] == first).all(axis=1)]
    shown = pd.DataFrame(
        {
            "model": _named(rows["model"]),
            "against": _named(rows["other"]),
            "D difference, nats": shown_with_interval(rows, "difference", "nats"),
            "GMP ratio": shown_with_interval(rows, "gmp_ratio", "ratio"),
            "animals improved": rows["share_improved"].map(percent),
            "p": rows["p_sign_flip"].map(p_value),
        }
    )
    caption = (
        f"Models in pairs on the same decisions of validation animals ({_group(first)}), animals weighing the same, "
        "with 95 % intervals over animals; p is of the sign-flip test"
    )
    return PaperTable("differences", caption, rows, shown, ("differences",))


def _chain(study: Study) -> PaperTable | None:
    rows = _validation(study.tables["chain"])
    if rows.empty:
        return None
    rows = rows[rows["behavior_group"] == rows["behavior_group"].iloc[0]]
    models = list(dict.fromkeys(rows["model"]))
    rows = rows[~rows["model"].isin([m for m in models if not rows.loc[rows["model"] == m, "gain"].any()])]
    if rows.empty:
        return None
    texts = pd.Series(shown_with_interval(rows, "gain", "nats"), index=rows.index)
    wide = rows.assign(text=texts).pivot(index="model", columns="stage", values="text")
    wide = wide.loc[list(dict.fromkeys(rows["model"])), list(dict.fromkeys(rows["stage"]))]
    shown = pd.DataFrame({"model": _named(pd.Series(wide.index)), **{str(s): wide[s].to_numpy() for s in wide}})
    caption = (
        "Where the gain over chance is made, nats per decision of validation animals: the stages add up to the whole. "
        "In brackets 95 % intervals over animals"
    )
    return PaperTable("chain", caption, rows, shown, ("chain",))


def _shares(study: Study) -> PaperTable | None:
    rows = _validation(study.tables["shares"])
    if rows.empty:
        return None
    rows = _grouped(rows, ["condition"])
    shown = pd.DataFrame({"choices": rows["condition"], "model": _named(rows["model"])})
    for name, form in _SHARE_FORM.items():
        shown[name] = shown_with_interval(rows, name, form)
    caption = (
        "Share of the selections, predicted and observed, over validation decisions with such a choice in the choice "
        "set, animals weighing the same, with 95 % intervals over animals"
    )
    return PaperTable("shares", caption, rows, shown, ("shares",))


def _models(study: Study) -> PaperTable | None:
    models = study.configuration.models
    values = pd.DataFrame(
        {
            "model": list(models),
            "kind": [model.kind if model.features else "null" for model in models.values()],
            "features": [", ".join(model.features) for model in models.values()],
        }
    )
    shown = pd.DataFrame(
        {
            "model": _named(values["model"]),
            "kind": values["kind"].str.replace("_", " "),
            "features": values["features"].where(values["features"] != "", "none: every choice equally likely"),
        }
    )
    return PaperTable("models", "The models and what they take", values, shown, ("configuration",))


def _coefficients(study: Study) -> PaperTable | None:
    table = study.tables[BASELINE]
    if table.empty:
        return None
    rows = table[table["coef"].notna()] if "coef" in table else table[:0]
    if rows.empty:
        return None
    se = "cluster_robust_se" if "cluster_robust_se" in rows else "se"
    shown = pd.DataFrame(
        {
            "feature": rows["feature"],
            "coefficient": rows["coef"].map(plain_number),
            "standard error": rows[se].map(plain_number),
            "95 % interval": [
                f"{plain_number(low)} to {plain_number(high)}"
                for low, high in zip(rows["low"], rows["high"], strict=True)
            ],
            "p": rows["p"].map(p_value),
        }
    )
    left_out = table.loc[table["coef"].isna(), "feature"].astype(str).tolist()
    caption = (
        "The conditional logit of the training animals: coefficients per unit of the feature; errors, intervals and p "
        "clustered by animal" + (f". It has no coefficient for {', '.join(left_out)}" if left_out else "")
    )
    return PaperTable("coefficients", caption, rows, shown, (BASELINE,))


def _training(study: Study) -> PaperTable | None:
    members = study.tables["members"]
    if members.empty:
        return None
    chosen = {one for ids in study.summary["runs"].values() for one in ids}
    rows = members[members["run"].isin(chosen)].copy()
    rows["n_parameters"] = [study.records[one].facts.get("n_parameters", np.nan) for one in rows["run"]]
    rows["best_epoch"] = rows["best_epoch"].astype(float)
    shown = pd.DataFrame(
        {
            "member": _named(rows["member"]),
            "run": rows["run"].str[:8],
            "parameters": rows["n_parameters"].map(count),
            "best epoch": rows["best_epoch"].map(count),
            "contrast loss, train": rows["true_contrast_loss"].map(nats),
            "validation": rows["val_true_contrast_loss"].map(nats),
            "decision loss, train": rows["true_decision_loss"].map(nats),
            "validation ": rows["val_true_decision_loss"].map(nats),
        }
    )
    caption = (
        "The trainings behind the models. Losses are true losses, of frozen weights over whole choice sets, nats; the "
        "best epoch was chosen on the validation animals"
    )
    return PaperTable("training", caption, rows, shown, ("runs",))


def _selection(study: Study) -> PaperTable | None:
    table = study.tables["selection"]
    if table.empty:
        return None
    rows = table.sort_values("median", kind="stable").groupby("model", sort=False).head(_N_EXEMPLARS)
    rows = rows.sort_index()
    shown = pd.DataFrame(
        {
            "configuration": rows["configuration"],
            "seeds": rows["n_seeds"].map(count),
            **{
                {"p90": "90th percentile"}.get(name, name): rows[name].map(nats)
                for name in ("min", "median", "p90", "spread")
            },
        }
    )
    caption = (
        "Validation loss over the random starts of each configuration, nats; spread is the 90th percentile less the "
        f"minimum. At most {_N_EXEMPLARS} configurations of a model, those with the lowest medians"
    )
    return PaperTable("selection", caption, rows, shown, ("selection",))


def _exemplars(study: Study) -> PaperTable | None:
    if len(study.models) < 2:
        return None
    model, other = study.configuration.figures.difference or (study.models[-1], study.models[-2])
    if not (study.choice_sets.decisions[SPLIT] == VALIDATION).any():
        return None
    rows = exemplar_decisions(study.log_odds, study.choice_sets, model, other, n=4, splits=[VALIDATION])
    shown = pd.DataFrame({"individual": rows[INDIVIDUAL].astype(str)})
    if TIME in rows:
        shown["time, UTC"] = rows[TIME].dt.strftime("%Y-%m-%d %H:%M")
    if "distance_km" in rows:
        shown["distance, km"] = rows["distance_km"].map(plain_number)
    shown["choices"] = rows["n_choices"].map(count)
    shown[f"p, {model}"] = rows["p_model"].map(percent)
    shown[f"p, {other}"] = rows["p_other"].map(percent)
    shown["difference, nats"] = rows["difference"].map(nats)
    caption = f"Single decisions of validation animals that {model} explains better, and worse, than {other}"
    return PaperTable("exemplars", caption, rows, shown, ("log_odds", "choices", "configuration"))


def _ledger(study: Study) -> PaperTable | None:
    rows = study.tables["ledger"]
    if rows.empty:
        return None
    shown = pd.DataFrame(
        {
            "stage": rows["stage"].astype(str),
            "reason": rows["reason"].astype(str),
            "rows": rows["n"].map(count),
            "of": rows["unit"].astype(str),
            "what was done": rows["action"].astype(str),
        }
    )
    return PaperTable("ledger", "Every row that was dropped or changed on the way", rows, shown, ("ledger",))


def _validation(table: pd.DataFrame) -> pd.DataFrame:
    """The rows on validation animals with individuals weighing the same."""
    if table.empty:
        return table
    return table[(table["split"] == VALIDATION) & (table["weighting"] == "individual")]


def _grouped(rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """The models of a group below each other, groups in the order of the table."""
    order = rows.groupby(list(keys), sort=False).ngroup().to_numpy()
    return rows.iloc[np.argsort(order, kind="stable")]


def _named(models: pd.Series) -> list[str]:
    """Names as a paper prints them."""
    own = {BASELINE: "conditional logit", TRUTH: "the truth"}
    return [own.get(str(name), str(name)) for name in models]


def _group(group: pd.Series) -> str:
    return f"choices: {group['choice_group']}, behavior: {group['behavior_group']}"

"""A study into the figures of its paper about models: their training, what they have learned, and their contrasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mimic.architecture import architecture_table
from mimic.contrast_error import contrast_curve, contrast_spread
from mimic.coverage import assess_coverage
from mimic.coverage_tables import coverage_tables, lost_by
from mimic.drawn import colors_of, to_draw
from mimic.explanation_runs import load_models
from mimic.grid_tables import chosen_members, hyperparameter_table, random_starts_table
from mimic.importance import permutation_importance
from mimic.palette import COLUMN_CM, PAGE_CM
from mimic.paper_items import PaperFigure
from mimic.points import differs_within
from mimic.preparation import read_decisions, sources_and_features
from mimic.responses import response
from mimic.schema import SPLIT, TRAIN, VALIDATION
from mimic.stay import measure_stay
from mimic.study import Study
from mimic.surfaces import odds_surface
from mimic.win_rates import win_rates

__all__ = ["learning_figures"]

_N_RESPONSES = 4
_ALTERNATIVES = (1, 4, 19, 49)
_CIRCULAR = ("_sin", "_cos")


def learning_figures(study: Study) -> list[Callable[[], PaperFigure | list[PaperFigure] | None]]:
    """Makers of these figures; None where there is nothing to show."""
    learned = _Learned(study)
    own = [
        _coverage,
        _curves,
        _members,
        _hyperparameters,
        _random_starts,
        _contrast_curve,
        _contrast_spread,
        _bin_pairs,
    ]
    return [
        *(partial(make, study) for make in own),
        learned.architecture,
        learned.importance,
        learned.responses,
        learned.surface,
    ]


def _coverage(study: Study) -> PaperFigure | None:
    """From the sources of the experiment, which must be where and what they were; else there is no figure."""
    configuration = study.configuration
    rules = configuration.choices
    if configuration.tracks is None or rules is None or not configuration.covariates:
        return None
    try:
        decisions, _, _, _ = read_decisions(configuration)
        sources, features = sources_and_features(configuration)
    except (OSError, ValueError):  # moved away, or no longer what the experiment says
        return None
    found = assess_coverage(
        decisions,
        max_distance_km=rules.max_distance_km,
        sources=sources,
        features=features,
        domain=rules.domain,
    )
    if len(found.decisions) - found.n_lost != study.choice_sets.n_decisions:
        return None  # the sources are not those of the run any more
    tables = coverage_tables(found)
    wanted = {
        "months": tables["shares_by_month"],
        "regions": tables["shares_by_region"],
        "lost": lost_by(found, "region"),
    }

    def draw() -> Any:
        from mimic.coverage_figures import draw_report

        return draw_report(wanted["months"], wanted["regions"], wanted["lost"], width_cm=PAGE_CM)

    lost = f" and where the {found.n_lost:,} decisions were that could not be built" if found.n_lost else ""
    caption = f"Coverage of the choices within reach by the covariates, by month and by region{lost}"
    return to_draw("coverage", caption, ("choices", "configuration"), wanted, draw, PAGE_CM)


def _curves(study: Study) -> PaperFigure | None:
    history, members = study.history, study.tables["members"]
    if history.empty:
        return None
    chosen = chosen_members(members, study.summary["runs"])
    shown = history[history["member"].isin(chosen.values())]
    if shown.empty:
        return None
    colors, best = colors_of(study), dict(study.summary["best_epoch"])
    losses = {model: _trained_on(study, model, member) for model, member in chosen.items()}

    def draw() -> Any:
        from mimic.training_figures import draw_training_curves

        return draw_training_curves(shown, running=losses, best_epoch=best, colors=colors, width_cm=PAGE_CM)  # type: ignore[arg-type]

    caption = (
        "Learning curves: the running loss that an epoch prints, and the true losses of frozen weights over whole choice "
        "sets, train and validation; dots are the epoch whose weights were kept"
    )
    return to_draw("training", caption, ("epochs",), {"": shown}, draw, PAGE_CM)


def _trained_on(study: Study, model: str, member: str) -> str:
    options = {m.name: m.training for m in study.configuration.members_of(model)}
    return "decision" if options[member]["loss"] == "softmax" else "contrast"


def _members(study: Study) -> PaperFigure | None:
    history, members = study.history, study.tables["members"]
    if history.empty or not (members.groupby("model").size() > 1).any():
        return None
    colors, chosen = colors_of(study), chosen_members(members, study.summary["runs"])

    def draw() -> Any:
        from mimic.grid_figures import draw_member_curves

        return draw_member_curves(history, chosen=chosen, colors=colors, width_cm=PAGE_CM)

    caption = "Learning curves of all members of the grid, one line each; the chosen one is strong"
    return to_draw("members", caption, ("epochs", "runs"), {"": history}, draw, PAGE_CM)


def _hyperparameters(study: Study) -> PaperFigure | None:
    members = study.tables["members"]
    if members.empty:
        return None
    table, colors = hyperparameter_table(members), colors_of(study)
    if table.empty:
        return None

    def draw() -> Any:
        from mimic.grid_figures import draw_hyperparameters

        return draw_hyperparameters(table, colors=colors, width_cm=PAGE_CM)

    caption = "Validation loss against each hyper-parameter; points are random starts, bars medians"
    return to_draw("hyperparameters", caption, ("runs",), {"": table}, draw, PAGE_CM)


def _random_starts(study: Study) -> PaperFigure | None:
    members = study.tables["members"]
    if members.empty or "seed" not in members or members["seed"].nunique() < 2:
        return None
    table, colors = random_starts_table(members), colors_of(study)

    def draw() -> Any:
        from mimic.grid_figures import draw_random_starts

        return draw_random_starts(table, colors=colors, width_cm=COLUMN_CM)

    caption = "Spread of random starts: validation losses of the seeds of each configuration"
    return to_draw("random_starts", caption, ("runs",), {"": table}, draw)


def _contrast_curve(study: Study) -> PaperFigure | None:
    facts = measure_stay(_training_sets(study), batch_decisions=study.configuration.training.batch_decisions)
    if facts is None:
        return None
    own = max(1, round(facts.n_alternatives))
    table = contrast_curve(sorted({*_ALTERNATIVES, own}))
    marks = [facts.probability]

    def draw() -> Any:
        from mimic.contrast_figures import draw_contrast_curve

        return draw_contrast_curve(table, marks=marks, mark_alternatives=own, width_cm=COLUMN_CM)

    caption = (
        "Share of the contrasts with stay on one side that select it, against the probability to stay, by the number of "
        "alternatives M; marked is the training animals' probability"
    )
    return to_draw("contrast_curve", caption, ("choices",), {"": table}, draw)


def _contrast_spread(study: Study) -> PaperFigure | None:
    table = contrast_spread(_training_sets(study))
    if not (table["error"] > 0).any():  # also where all sizes are more than all decisions
        return None

    def draw() -> Any:
        from mimic.contrast_figures import draw_contrast_spread

        return draw_contrast_spread(table, width_cm=COLUMN_CM)

    caption = "How far apart minibatches see the share of contrasts and the probability to stay, by their size"
    return to_draw("contrast_spread", caption, ("choices",), {"": table}, draw)


def _training_sets(study: Study) -> Any:
    return study.choice_sets.filter((study.choice_sets.decisions[SPLIT] == TRAIN).to_numpy())


def _bin_pairs(study: Study) -> PaperFigure | None:
    features = [name for name in ("distance_km",) if name in study.choice_sets.features]
    model = study.models[-1] if study.models else None
    if not features or model is None:
        return None
    table = win_rates({model: study.log_odds[model]}, study.choice_sets, features, max_bins=8, splits=[VALIDATION])

    def draw() -> Any:
        from mimic.pair_figures import draw_bin_pairs

        return draw_bin_pairs(table, width_cm=COLUMN_CM)

    caption = (
        f"Error of {model} by pair of distance bins: predicted less observed share of contrasts that the choice in the "
        "row's bin wins, validation animals"
    )
    return to_draw("bin_pairs", caption, ("log_odds", "choices"), {"": table}, draw)


class _Learned:
    """The figures that need the models themselves, which are loaded when the first of them is made."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._models: Mapping[str, Any] | None = None
        self._ranked: list[str] = []

    def _own(self) -> Mapping[str, Any]:
        if self._models is None:
            wanted = [name for name in self._study.models if self._study.configuration.models[name].features] or None
            self._models = load_models(self._study.folder, wanted, VALIDATION)[1] if wanted else {}
        return self._models

    def architecture(self) -> PaperFigure | None:
        """Of the last model that is a network."""
        networks = [model for model in self._own().values() if getattr(model, "network", None) is not None]
        if not networks:
            return None
        table = architecture_table(networks[-1])

        def draw() -> Any:
            from mimic.architecture_figures import draw_architecture

            return draw_architecture(table, width_cm=COLUMN_CM)

        name = list(self._own())[-1]
        return to_draw("architecture", f"The log-odds network of {name}", ("runs",), {"": table}, draw)

    def importance(self) -> PaperFigure | None:
        models = dict(list(self._own().items())[-1:])
        if not models:
            return None
        table = permutation_importance(models, self._study.choice_sets, splits=[VALIDATION])
        ranked = table.sort_values("rank")["feature"].astype(str).tolist()
        self._ranked = [name for group in ranked for name in _members_of(group, next(iter(models.values())).features)]
        colors = colors_of(self._study)

        def draw() -> Any:
            from mimic.explanation_figures import draw_importance

            return draw_importance(table, colors=colors, width_cm=COLUMN_CM)

        caption = (
            f"What each feature is worth to {next(iter(models))}: the drop in D when its values are permuted, validation "
            "animals, with 95 % intervals over animals"
        )
        return to_draw("importance", caption, ("runs", "choices"), {"": table}, draw)

    def responses(self) -> list[PaperFigure] | None:
        """The most important features whose values differ between the choices of a decision."""
        models, cs = self._own(), self._study.choice_sets
        wanted = [name for name in self._ranked if differs_within(cs, name) and _is_scale(cs.features[name])]
        colors, figures = colors_of(self._study), []
        for number, feature in enumerate(wanted[:_N_RESPONSES], start=1):
            parts = [response(m, cs, feature).assign(model=name) for name, m in models.items() if feature in m.features]
            table, rug = pd.concat(parts, ignore_index=True), cs.features[feature]

            def draw(table: pd.DataFrame = table, rug: np.ndarray = rug) -> Any:
                from mimic.explanation_figures import draw_response

                return draw_response(table, rug=rug, colors=colors, width_cm=COLUMN_CM)

            caption = (
                f"Response of the log-odds to {feature.replace('_', ' ')}: accumulated local effects; bands are intervals "
                f"{_bands(set(table['interval']))}"
            )
            figures.append(to_draw(f"response_{number}", caption, ("runs", "choices"), {"": table}, draw))
        return figures or None

    def surface(self) -> PaperFigure | None:
        models, cs = self._own(), self._study.choice_sets
        wanted = [name for name in self._ranked if differs_within(cs, name) and _is_scale(cs.features[name])]
        wanted = [name for name in wanted if not name.endswith(_CIRCULAR)]  # half of an angle says nothing alone
        if not models or len(wanted) < 2:
            return None
        name, model = list(models.items())[-1]
        table = odds_surface(model, cs, wanted[0], wanted[1])

        def draw() -> Any:
            from mimic.explanation_figures import draw_surface

            return draw_surface(table, width_cm=COLUMN_CM)

        caption = f"Log-odds of a choice by {wanted[0].replace('_', ' ')} and {wanted[1].replace('_', ' ')}, by {name}"
        return to_draw("surface", caption, ("runs", "choices"), {"": table}, draw)


def _bands(over: set[str]) -> str:
    """What the intervals of a response vary, as a caption says it."""
    animals = "over the animals averaged over, not of the model"
    if "members" not in over:
        return animals
    return "over the members of an ensemble" + (f", else {animals}" if len(over) > 1 else "")


def _members_of(group: str, features: tuple[str, ...]) -> list[str]:
    """The features of a group of features, such as the sine and cosine of "heading"."""
    if group in features:
        return [group]
    return [name for name in features if name.startswith(group)]


def _is_scale(values: np.ndarray) -> bool:
    """Whether a feature is more than an indicator of 0 and 1."""
    return len(np.unique(values[:: max(1, len(values) // 20_000)])) > 2

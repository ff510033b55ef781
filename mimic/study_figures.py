"""A study into the figures of its paper about results and individuals: tidy tables and what draws them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mimic.baseline import BASELINE
from mimic.calibration import reliability
from mimic.drawn import COMPARED, colors_of, pair_of_study, to_draw
from mimic.exemplars import exemplars
from mimic.individual_tables import individual_differences, individual_table, month_table
from mimic.palette import COLUMN_CM, PAGE_CM
from mimic.paper_items import PaperFigure
from mimic.points import differs_within
from mimic.ranks import rank_histogram
from mimic.schema import INDIVIDUAL, TIME, VALIDATION
from mimic.stay import find_stay
from mimic.stay_shares import stay_distribution, stay_homogeneity, stay_shares
from mimic.study import Study
from mimic.used_habitat import feature_shares

__all__ = ["study_figures"]


def study_figures(study: Study) -> list[Callable[[], PaperFigure | list[PaperFigure] | None]]:
    """Makers of these figures; None where there is nothing to show."""
    makers = [
        _groups,
        _chain,
        _chain_stacked,
        _individuals,
        _exemplars,
        _months,
        _stay,
        _reliability,
        _ranks,
        _used_habitat,
        _bins,
    ]
    return [partial(make, study) for make in makers]


def _groups(study: Study) -> PaperFigure:
    table, colors = study.tables["evaluation"], colors_of(study)
    caption = (
        "GMP and lift by choice group, behavior group and model, validation animals weighing the same; pale bars are "
        "95 % intervals over animals"
    )

    def draw() -> Any:
        from mimic.group_figures import draw_groups

        return draw_groups(table, colors=colors, width_cm=PAGE_CM)

    return to_draw("groups", caption, ("evaluation",), {"": table}, draw, PAGE_CM)


def _chain(study: Study) -> PaperFigure | None:
    table, colors = study.tables["chain"], colors_of(study)
    if table.empty:
        return None
    caption = (
        "Gain over chance by stage of the chain rule, with 95 % intervals over animals and lifts, validation animals"
    )

    def draw() -> Any:
        from mimic.evaluation_figures import draw_chain

        return draw_chain(_without_null(table), colors=colors, width_cm=COLUMN_CM)

    return to_draw("chain", caption, ("chain",), {"": table}, draw)


def _chain_stacked(study: Study) -> PaperFigure | None:
    table, colors = study.tables["chain"], colors_of(study)
    if table.empty:
        return None

    def draw() -> Any:
        from mimic.chain_figures import draw_stacked_chain

        return draw_stacked_chain(_without_null(table), colors=colors, width_cm=COLUMN_CM)

    return to_draw(
        "chain_stacked",
        "The stages of the chain rule, stacked: their gains in nats add up to the whole, validation animals",
        ("chain",),
        {},
        draw,
    )


def _without_null(chain: pd.DataFrame) -> pd.DataFrame:
    """The rows of the models that gain anything anywhere."""
    gains = chain.groupby("model", sort=False)["gain"].agg(lambda gain: bool(gain.fillna(0.0).any()))
    kept = chain[chain["model"].isin(gains.index[gains])]
    return kept if len(kept) else chain


def _individuals(study: Study) -> PaperFigure | None:
    pairs = [p for p in _model_pairs(study) if p[0] in study.log_odds and p[1] in study.log_odds]
    if not pairs:
        return None
    table = individual_differences(study.log_odds, study.choice_sets, pairs)
    by = study.configuration.figures.color_by
    color_by = by if by in table and by != INDIVIDUAL else None
    caption = "Difference in D between two models, animal by animal, sorted; each row is a pair of models, each column a split"
    caption += f"; colored by {by.replace('_', ' ')}" if color_by else ""

    def draw() -> Any:
        from mimic.individual_figures import draw_individual_differences

        return draw_individual_differences(table, color_by=color_by, width_cm=PAGE_CM)

    return to_draw("individuals", caption, COMPARED, {"": table}, draw, PAGE_CM)


def _model_pairs(study: Study) -> list[tuple[str, str]]:
    """The last model against the one before it, and against the conditional logit."""
    pair = pair_of_study(study)
    pairs = [] if pair is None else [pair]
    if study.models[-1:] not in ([], [BASELINE]) and BASELINE in study.log_odds:
        pairs.append((study.models[-1], BASELINE))
    return list(dict.fromkeys(pairs))


def _exemplars(study: Study) -> PaperFigure | None:
    pair = pair_of_study(study)
    if pair is None:
        return None
    model, other = pair
    table = exemplars(study.log_odds, study.choice_sets, model, other, n=8, splits=[VALIDATION])
    if len(table) < 3:
        return None
    by, color_by = study.configuration.figures.color_by, None
    if by in study.choice_sets.decisions and by != INDIVIDUAL:
        about = study.choice_sets.decisions.drop_duplicates(INDIVIDUAL).set_index(INDIVIDUAL)[by].astype(str)
        table, color_by = table.assign(**{by: table["value"].map(about)}), by

    def draw() -> Any:
        from mimic.explanation_figures import draw_exemplars

        return draw_exemplars(table, color_by=color_by, width_cm=COLUMN_CM)

    caption = f"The validation animals that {model} helps most, and least or harms, against {other}"
    caption += f"; colored by {by.replace('_', ' ')}" if color_by else ""
    return to_draw("exemplars", caption, COMPARED, {"": table}, draw)


def _months(study: Study) -> PaperFigure | None:
    if TIME not in study.choice_sets.decisions:
        return None
    table, colors = month_table(study.log_odds, study.choice_sets, splits=[VALIDATION]), colors_of(study)
    if table.loc[table["n_decisions"] > 0, "month"].nunique() < 2:
        return None
    shown = list(dict.fromkeys([*(pair_of_study(study) or ()), *study.models[-1:]]))  # more lie on each other

    def draw() -> Any:
        from mimic.individual_figures import draw_months

        return draw_months(table, models=shown, colors=colors, width_cm=COLUMN_CM)

    caption = (
        "Gain over chance by month of the decision, validation animals weighing the same, with 95 % intervals over "
        "animals; below, the number of decisions"
    )
    return to_draw("months", caption, COMPARED, {"": table}, draw)


def _stay(study: Study) -> list[PaperFigure] | None:
    """Stay share against score, and the distribution of stay shares; nothing where nobody can, or does, stay."""
    if find_stay(study.choice_sets) is None:
        return None
    shares = stay_shares(study.choice_sets)
    if shares.empty or not 0 < shares["n_stay"].sum() < shares["n_decisions"].sum():
        return None
    table, colors = individual_table(study.log_odds, study.choice_sets), colors_of(study)
    last, distribution = study.models[-1:], stay_distribution(shares)

    def draw_score() -> Any:
        from mimic.individual_figures import draw_stay_against_score

        return draw_stay_against_score(table[table["model"].isin(last)], colors=colors, width_cm=COLUMN_CM)

    def draw_distribution() -> Any:
        from mimic.individual_figures import draw_stay_distribution

        return draw_stay_distribution(distribution, width_cm=COLUMN_CM)

    return [
        to_draw(
            "stay_score",
            f"D of each animal by {last[0]} against the share of its decisions in which it stayed",
            ("log_odds", "choices"),
            {"": table},
            draw_score,
        ),
        to_draw(
            "stay_distribution",
            "Share of decisions in which an animal stayed: number of animals, and what a binomial with one probability for "
            "all would give",
            ("choices",),
            {"": shares, "distribution": distribution, "homogeneity": stay_homogeneity(shares)},
            draw_distribution,
        ),
    ]


def _reliability(study: Study) -> PaperFigure:
    shown = _calibrated(study)
    table, colors = reliability(shown, study.choice_sets, splits=[VALIDATION]), colors_of(study)

    def draw() -> Any:
        from mimic.evaluation_figures import draw_reliability

        return draw_reliability(table, colors=colors, width_cm=COLUMN_CM)

    caption = "Observed share of selections against predicted probability, validation animals, with 95 % intervals over animals"
    return to_draw("reliability", caption, ("log_odds", "choices"), {"": table}, draw)


def _ranks(study: Study) -> PaperFigure:
    table, colors = rank_histogram(_calibrated(study), study.choice_sets, splits=[VALIDATION]), colors_of(study)

    def draw() -> Any:
        from mimic.evaluation_figures import draw_rank_histogram

        return draw_rank_histogram(table, colors=colors, width_cm=COLUMN_CM)

    caption = "Rank histogram of the selected choice, validation animals: level where a model is calibrated"
    return to_draw("ranks", caption, ("log_odds", "choices"), {"": table}, draw)


def _used_habitat(study: Study) -> PaperFigure | None:
    """Of the last covariate, or feature of the choices, that the last model takes."""
    cs = study.choice_sets
    features = study.configuration.models[study.models[-1]].features if study.models else []
    wanted = [name for name in features if name in study.configuration.covariates and differs_within(cs, name)]
    if not wanted:
        wanted = [name for name in features if name in cs.info and cs.info[name].role == "choice"]
    wanted = [name for name in wanted if len(np.unique(cs.features[name][:20_000])) > 2]
    if not wanted:
        return None
    name, colors = wanted[-1], colors_of(study)
    unit = cs.info[name].unit if name in cs.info else ""
    table = feature_shares(_calibrated(study), cs, [name], bins=6, splits=[VALIDATION])

    def draw() -> Any:
        from mimic.evaluation_figures import draw_feature_shares

        return draw_feature_shares(table, unit=unit, colors=colors, width_cm=COLUMN_CM)

    caption = (
        f"Selections by {name.replace('_', ' ')}: observed and predicted shares of validation animals; pale bars are the "
        "envelope of selections drawn from the model"
    )
    return to_draw("used_habitat", caption, ("log_odds", "choices"), {"": table}, draw)


def _calibrated(study: Study) -> dict[str, np.ndarray]:
    """The models whose calibration is shown: the last one, and the conditional logit."""
    wanted = [*study.models[-1:], BASELINE]
    return {name: phi for name, phi in study.log_odds.items() if name in wanted}


def _bins(study: Study) -> PaperFigure | None:
    table, bins, colors = study.tables["bins"], study.configuration.bins, colors_of(study)
    if bins is None or table.empty:
        return None

    def draw() -> Any:
        from mimic.bin_figures import draw_bins

        return draw_bins(table, label=bins.label, colors=colors, width_cm=COLUMN_CM)

    caption = "Observed shares of the bins with their intervals, and what each model predicts, validation animals"
    return to_draw("bins", caption, ("bins", "configuration"), {"": table}, draw)

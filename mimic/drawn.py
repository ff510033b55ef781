"""Drawing functions into figures of a paper, with the colors and the pair of models of their study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pandas as pd

from mimic.palette import COLUMN_CM, model_colors
from mimic.paper_items import PaperFigure
from mimic.study import Study

__all__ = ["COMPARED", "colors_of", "figure_of", "pair_of_study", "to_draw"]

COMPARED = ("log_odds", "choices", "configuration")
"""Sources of what compares two models: the configuration says which, and the colors."""


def figure_of(draw: Callable[[], Any]) -> Any:
    """What a drawing function gives, axes or a figure, as the figure."""
    from mimic.figures import root_figure

    drawn = draw()
    return drawn if hasattr(drawn, "savefig") else root_figure(drawn)


def to_draw(
    name: str,
    caption: str,
    sources: tuple[str, ...],
    tables: Mapping[str, pd.DataFrame],
    draw: Callable[[], Any],
    width_cm: float = COLUMN_CM,
) -> PaperFigure:
    """A figure that is drawn when it is wanted; `draw` gives axes or a figure."""
    return PaperFigure(name, caption, sources, tables, partial(figure_of, draw), width_cm)


def colors_of(study: Study) -> dict[str, str]:
    """The color of each model, the same in all figures of the study."""
    return model_colors(list(study.log_odds))


def pair_of_study(study: Study) -> tuple[str, str] | None:
    """The model and the other one that maps and exemplars compare; None for a study of one model."""
    if study.configuration.figures.difference is not None:
        return study.configuration.figures.difference
    return (study.models[-1], study.models[-2]) if len(study.models) > 1 else None

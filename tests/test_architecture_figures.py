"""Drawings of architectures: units, features and parameters are those of the table, and can be read at any width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from legibility import assert_legible
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from mimic.architecture import COLUMNS, INDIVIDUAL_NUMBER
from mimic.architecture_figures import draw_architecture
from mimic.figures import new_figure

FIFTEEN = (
    *("distance_km", "stay", "heading_sin", "heading_cos", "season_sin", "season_cos", "sst", "log_depth"),
    *("perimeter", "current_along", "current_across", "front_gradient_magnitude", "chlorophyll"),
    *("eddy_kinetic_energy", "mixed_layer_depth"),
)
UNITS_OF_MEASUREMENT = {"distance_km": "km", "sst": "degC", "stay": "1", "chlorophyll": "mg m-3"}


@pytest.fixture(autouse=True)
def _no_figure_stays_open() -> Iterator[None]:
    yield
    plt.close("all")


def make_table(
    features: tuple[str, ...] = FIFTEEN[:4],
    units: tuple[int, ...] = (24, 24),
    *,
    skip: bool = False,
    embedding: int = 0,
    rate: float = np.nan,
    n_members: int = 0,
    last: str = "Concatenate",
    scaled: bool = True,
) -> pd.DataFrame:
    """What `architecture_table` gives, by hand: a drawing needs no Keras."""
    rows: list[dict[str, Any]] = [
        {"name": f, "role": "feature", "kind": "feature", "unit": UNITS_OF_MEASUREMENT.get(f, ""), "scaling": "zscore"}
        for f in features
    ]
    rows += [{"name": INDIVIDUAL_NUMBER, "role": "feature", "kind": "feature"}] if embedding else []
    for member in [f"member_{k}" for k in range(1, n_members + 1)] or [""]:
        layers = [{"name": "features", "role": "input", "kind": "InputLayer"}]
        layers += [{"name": "scaling", "role": "scaling", "kind": "Normalization"}] if scaled else []
        n = len(features) + embedding
        if embedding:
            layers.append(_layer("embedding", "embedding", "Embedding", embedding, 10 * embedding))
        for k, size in enumerate(units, start=1):
            layers.append(_layer(f"hidden_{k}", "hidden", "Dense", size, (n + 1) * size, activation="relu"))
            layers += [] if np.isnan(rate) else [_layer(f"dropout_{k}", "hidden", "Dropout", size, 0, rate=rate)]
            n = size
        layers += [_layer("linear", "skip", "Dense", 1, len(features))] if skip else []
        layers.append(_layer("log_odds", "output", "Dense", 1, n))
        rows += [{**layer, "member": member} for layer in layers]
    rows += [_layer("mean", "output", last, n_members, 0)] if n_members else []
    empty: dict[str, Any] = {"member": "", "activation": "", "fed_by": "", "unit": "", "scaling": ""}
    empty |= {"n_inputs": 0, "n_units": 1, "n_parameters": 0}
    return pd.DataFrame([{**empty, "rate": np.nan, **row} for row in rows], columns=list(COLUMNS))


def _layer(name: str, role: str, kind: str, n_units: int, n_parameters: int, **more: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "kind": kind, "n_units": n_units, "n_parameters": n_parameters, **more}


def texts_of(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_text()]


def circles_of(ax: Axes) -> list[np.ndarray]:
    return [np.asarray(c.get_offsets()) for c in ax.collections if isinstance(c, EllipseCollection)]


def test_each_unit_of_a_hidden_layer_is_a_circle_and_widths_are_proportional() -> None:
    ax = draw_architecture(make_table(units=(24, 12, 6)), color="#882255")
    layers = circles_of(ax)
    assert [len(layer) for layer in layers] == [24, 12, 6]
    pitches = [np.diff(layer[:, 0]) for layer in layers]
    assert np.allclose(np.concatenate(pitches), pitches[0][0])
    assert len({round(layer[:, 0].mean(), 6) for layer in layers}) == 1  # one above the other
    assert layers[0][0, 1] < layers[1][0, 1] < layers[2][0, 1]  # downwards
    colors = {to_hex(c.get_facecolor()[0]) for c in ax.collections if isinstance(c, EllipseCollection)}
    assert colors == {"#882255"}


def test_many_units_are_bars_of_proportional_width() -> None:
    ax = draw_architecture(make_table(units=(200, 50)), width_cm=8)
    assert not circles_of(ax)
    wide, narrow = [p.get_width() for p in ax.patches if isinstance(p, Rectangle)]
    assert wide == pytest.approx(4 * narrow)
    assert {"hidden 1\n200 relu", "hidden 2\n50 relu"} <= set(texts_of(ax))


def test_features_are_named_with_their_units_of_measurement() -> None:
    texts = texts_of(draw_architecture(make_table()))
    assert {"4 features of one choice", "distance_km [km]", "stay", "heading_sin", "heading_cos"} <= set(texts)
    assert "4 scaled features" in texts
    assert "scaling\nzscore" in texts


def test_features_that_find_no_place_are_counted() -> None:
    names = tuple(f"covariate_{k}" for k in range(90))
    texts = texts_of(draw_architecture(make_table(names), width_cm=8))
    shown = [name for name in names if name in texts]
    assert shown == list(names[: len(shown)])
    assert f"and {90 - len(shown)} more" in texts
    assert "90 features of one choice" in texts
    assert set(FIFTEEN) - {"distance_km", "sst", "chlorophyll"} <= set(
        texts_of(draw_architecture(make_table(FIFTEEN), width_cm=8))
    )


def test_parameters_of_the_rows_and_their_sum_are_written() -> None:
    texts = texts_of(draw_architecture(make_table(units=(24, 24), skip=True)))
    # 5 x 24, 25 x 24, a linear term of 4 and a last layer of 24
    assert [text for text in texts if text.replace(",", "").isdigit()] == ["120", "600", "4", "24"]
    assert "parameters\n0" in texts  # of the scaling
    assert texts.count("= 748") == 1


def test_linear_skip_leads_from_the_scaled_features_past_the_hidden_layers_to_the_log_odds() -> None:
    ax = draw_architecture(make_table(skip=True))
    (lane,) = [line for line in ax.lines if line.get_label() == "_skip"]
    x, y = np.asarray(lane.get_xdata()), np.asarray(lane.get_ydata())
    hidden = circles_of(ax)
    assert x[0] == x[1] > max(layer[:, 0].max() for layer in hidden)
    assert y[0] < hidden[0][0, 1] < hidden[1][0, 1] < y[1] == y[2]
    phi = next(text for text in ax.texts if text.get_text() == r"$\varphi$")
    assert phi.get_position()[1] == pytest.approx(y[2])
    assert phi.get_position()[0] < x[2] < x[1]
    assert "linear skip" in texts_of(ax)
    plain = draw_architecture(make_table())
    assert not [line for line in plain.lines if line.get_label() == "_skip"]
    assert "linear skip" not in texts_of(plain)


def test_the_choices_of_one_decision_go_into_the_softmax() -> None:
    ax = draw_architecture(make_table())
    texts = texts_of(ax)
    assert [t for t in texts if "varphi" in t] == [
        *(r"$\varphi$", r"$\varphi_1$", r"$\varphi_2$", r"$\varphi_n$", r"$\varphi_m$"),
        r"$p_m = \exp(\varphi_m)\, /\, \sum_k \exp(\varphi_k)$",
    ]
    filled = [p for p in ax.patches if isinstance(p, Circle) and to_hex(p.get_facecolor()) != "#ffffff"]
    assert len(filled) == 2  # the log-odds of the choice, alone and among the others
    assert "softmax:\nprobability" in texts


def test_embedding_and_dropout_are_told() -> None:
    texts = texts_of(draw_architecture(make_table(embedding=2, rate=0.1)))
    assert "individual:\n2 numbers" in texts
    assert INDIVIDUAL_NUMBER not in texts
    assert "hidden 1\n24 relu\ndropout 0.1" in texts
    assert "parameters\n20" in texts


def test_an_ensemble_is_one_of_its_members_and_their_mean() -> None:
    of_probabilities = texts_of(draw_architecture(make_table(n_members=4)))
    assert "mean of probabilities" in of_probabilities
    assert "mean over\n4 members" in of_probabilities
    # (5 x 24 + 25 x 24 + 24) for each of four members
    assert of_probabilities.count("× 4\n= 2,976") == 1
    assert [text for text in of_probabilities if text in ("120", "600", "24")] == ["120", "600", "24"]
    of_log_odds = texts_of(draw_architecture(make_table(n_members=4, last="Average")))
    assert of_log_odds.index("mean of log-odds") < of_log_odds.index("softmax:\nprobability")
    assert of_probabilities.index("mean of probabilities") > of_probabilities.index("softmax:\nprobability")


def test_given_axes_are_drawn_in() -> None:
    ax = new_figure(12.0, 12.0).subplots()
    assert draw_architecture(make_table(FIFTEEN, skip=True), ax) is ax
    assert not ax.axison
    assert len(circles_of(ax)) == 2
    assert_legible(ax)


def test_a_network_without_scaling_or_hidden_layers_is_drawn() -> None:
    ax = draw_architecture(make_table(units=(), scaled=False, skip=True))
    assert not circles_of(ax)
    assert len([p for p in ax.patches if isinstance(p, FancyBboxPatch)]) == 2  # features and softmax
    assert "parameters\n4" in texts_of(ax)
    assert_legible(ax)


DRAWINGS: dict[str, pd.DataFrame] = {
    "4 features": make_table(),
    "15 features": make_table(FIFTEEN, (32, 32, 32), skip=True, rate=0.1),
    "90 features": make_table(tuple(f"a_long_name_of_covariate_{k}" for k in range(90)), (512, 64)),
    "a very long name": make_table(("distance_to_the_nearest_coast_of_an_island_with_a_colony_within_reach",) * 2),
    "embedding": make_table(FIFTEEN[:9], (64, 32), embedding=2, skip=True),
    "ensemble": make_table(n_members=5),
    "linear": make_table(units=()),
    "one unit": make_table(FIFTEEN[:1], (1, 128, 1)),
}


@pytest.mark.parametrize("width_cm", [8.0, 17.0])
@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_can_be_read(name: str, width_cm: float) -> None:
    ax = draw_architecture(DRAWINGS[name], width_cm=width_cm)
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    assert figure.get_figwidth() == pytest.approx(width_cm / 2.54)
    assert_legible(figure)
    low, high = ax.get_xlim()
    for box in (p for p in ax.patches if isinstance(p, FancyBboxPatch)):
        assert low <= box.get_x() < box.get_x() + box.get_width() <= high
    for layer in circles_of(ax):
        assert low < layer[:, 0].min() <= layer[:, 0].max() < high

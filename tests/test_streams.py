"""Rows that are never all in memory: training and predictions on them are those on held rows, to the last bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_judges import build, decisions  # noqa: F401

from mimic import engine, model, spans, streams
from mimic.augmentation import Augmentation
from mimic.inputs import network_inputs
from mimic.network import fit_scaling
from mimic.options import TrainingOptions
from mimic.rows import row_order
from mimic.schema import ChoiceSets
from mimic.streams import RowStream, ahead
from mimic.training import train

FEATURES = ["distance_km", "stay", "depth", "warmth", "deeper"]


@pytest.fixture(scope="module")
def both(decisions: pd.DataFrame) -> tuple[ChoiceSets, ChoiceSets]:  # noqa: F811
    """The same choice sets with features that are gathered, and held."""
    return build(decisions, lazy=True)[0], build(decisions, lazy=False)[0]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a stream so small that there are several."""
    monkeypatch.setattr(streams, "HELD_BYTES", 0)
    monkeypatch.setattr(streams, "blocks", lambda n: spans.blocks(n, 70))
    monkeypatch.setattr(engine, "PART_DECISIONS", 90)


def test_rows_of_a_stream_are_the_held_rows_selected_first(both: tuple[ChoiceSets, ChoiceSets]) -> None:
    lazy, held = both
    scaling = fit_scaling(held, FEATURES)
    stream = RowStream.of(lazy, FEATURES, (), scaling)
    matrix = network_inputs(held, FEATURES, ())[row_order(held)]
    assert stream.shape == matrix.shape
    which = np.array([5, 0, 33])
    ends = np.cumsum(stream.sizes)
    rows = np.concatenate([np.arange(ends[d] - stream.sizes[d], ends[d]) for d in which])
    expected = scaling.scaled(matrix[rows].astype(np.float64))
    np.testing.assert_allclose(np.asarray(stream.of_decisions(which)), expected, rtol=1e-5, atol=1e-6)


def test_blocks_of_a_stream_are_all_rows_in_order_and_of_the_usual_size(
    both: tuple[ChoiceSets, ChoiceSets], small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "BLOCK_ROWS", 256)
    lazy, held = both
    stream = RowStream.of(lazy, FEATURES, (), fit_scaling(held, FEATURES))
    blocks = [np.asarray(block) for block in stream]
    assert {len(block) for block in blocks[:-1]} == {256}
    everything = np.asarray(stream.of_decisions(np.arange(len(stream.decisions))))
    assert np.array_equal(np.concatenate(blocks), everything)


def test_the_next_is_made_while_one_is_used_and_all_come_in_order() -> None:
    assert list(ahead(lambda n: n * n, [3, 1, 2])) == [9, 1, 4]
    assert list(ahead(lambda n: n, [])) == []


@pytest.mark.parametrize(
    "options",
    [
        {"batch_decisions": 64},
        {"loss": "softmax", "batch_decisions": 50, "dropout": 0.2},
        {
            "loss": "contrast_sampled",
            "decisions_per_individual": 5,
            "alternatives_per_decision": 3,
            "embedding_size": 2,
        },
        {"linear_skip": ("distance_km", "depth"), "schedule": {"name": "CosineDecay", "decay_epochs": 3}},
    ],
    ids=["contrasts", "softmax", "sampled_and_embedded", "linear_and_scheduled"],
)
def test_out_of_core_training_is_training_in_memory_to_the_last_bit(
    both: tuple[ChoiceSets, ChoiceSets], small_parts: None, options: dict[str, Any]
) -> None:
    results = []
    for cs in both:
        validates = np.isin(cs.individuals, ["a", "b"])
        given = TrainingOptions(epochs=3, units=(8,), **options)
        results.append(train(cs.filter(~validates), cs.filter(validates), FEATURES, given))
    streamed, held = results
    pd.testing.assert_frame_equal(streamed.history, held.history, check_exact=True)
    assert all(np.array_equal(a, b) for a, b in zip(streamed.last_weights, held.last_weights, strict=True))
    assert streamed.facts == held.facts


def with_unknown(cs: ChoiceSets) -> ChoiceSets:
    """Every fourth selection is unknown."""
    return replace(cs, selected=np.where(np.arange(cs.n_decisions) % 4 == 1, -1, cs.selected))


def of_one_size(cs: ChoiceSets) -> ChoiceSets:
    """The selected choice and the first three others of the first 40 decisions."""
    few = cs.filter(np.arange(cs.n_decisions) < 40)
    rank = np.arange(few.n_rows) - np.repeat(few.offsets[:-1], few.n_choices)
    after = np.arange(few.n_rows) > np.repeat(few.selected, few.n_choices)
    return few.restrict(few.is_selected | (rank - after < 3))


def with_use(cs: ChoiceSets) -> ChoiceSets:
    """A column of use beside the selections."""
    return cs.with_features({"use": cs.is_selected + (np.arange(cs.n_rows) % 7 == 0).astype(np.float32)})


@pytest.mark.parametrize(
    ("change", "validates", "options"),
    [
        (with_unknown, True, {"loss": "softmax", "batch_decisions": 50}),
        (
            with_unknown,
            True,
            {
                "loss": "contrast_sampled",
                "redraw": True,
                "decisions_per_individual": 5,
                "alternatives_per_decision": 3,
            },
        ),
        (of_one_size, False, {"batch_contrasts": 5}),
        (with_use, True, {"labels": "use"}),
        (with_unknown, True, {"augmentation": Augmentation(2, {"distance_km": 0.1}, {"depth": 3.0})}),
    ],
    ids=["unknown", "redrawn", "one_size_small_batches", "labels", "augmented"],
)
def test_odd_choice_sets_train_out_of_core_as_in_memory(
    both: tuple[ChoiceSets, ChoiceSets],
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[ChoiceSets], ChoiceSets],
    validates: bool,
    options: dict[str, Any],
) -> None:
    if change is of_one_size:
        monkeypatch.setattr(engine, "PART_DECISIONS", 2)  # one minibatch a part
    results = []
    for whole in both:
        cs = change(whole)
        out = np.isin(cs.individuals, ["a", "b"])
        given = TrainingOptions(epochs=3, units=(8,), **options)
        results.append(train(cs.filter(~out), cs.filter(out) if validates else None, FEATURES, given))
    streamed, held = results
    pd.testing.assert_frame_equal(streamed.history, held.history, check_exact=True)
    assert all(np.array_equal(a, b) for a, b in zip(streamed.last_weights, held.last_weights, strict=True))
    assert streamed.facts == held.facts


def test_validation_rows_that_are_not_finite_are_named_out_of_core_as_in_memory(
    both: tuple[ChoiceSets, ChoiceSets], small_parts: None
) -> None:
    for whole in both:
        out = np.isin(whole.individuals, ["a", "b"])
        broken = whole.features["warmth"].copy()
        broken[np.flatnonzero(np.repeat(out, whole.n_choices))[5]] = np.nan
        cs = whole.with_features({"warmth": broken})
        with pytest.raises(ValueError, match="got NaN or infinity in warmth"):
            train(cs.filter(~out), cs.filter(out), FEATURES, TrainingOptions(epochs=1, units=(2,)))


def test_predictions_of_gathered_features_are_those_of_held_ones(
    both: tuple[ChoiceSets, ChoiceSets], monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy, held = both
    fitted = train(held, None, FEATURES, TrainingOptions(epochs=1, units=(8,))).model
    gathered: list[int] = []

    def small_blocks(n_decisions: int) -> list[tuple[int, int]]:
        found = spans.blocks(n_decisions, 100)
        gathered.append(len(found))
        return found

    monkeypatch.setattr(model, "blocks", small_blocks)
    np.testing.assert_allclose(fitted.log_odds(lazy), fitted.log_odds(held), rtol=0, atol=1e-5)
    assert gathered == [-(-lazy.n_decisions // 100)]  # block by block, and only where features are gathered

"""Training: the engine's loss and gradient by hand, recovery of known log-odds, Keras callbacks, and equal bits."""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import itertools
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from mimic import training
from mimic.callbacks import HISTORY_COLUMNS, BestEpoch, TrueLoss
from mimic.contrasts import contrast_loss, decision_weights, exact_contrasts
from mimic.core import scale_rows
from mimic.counted import count
from mimic.engine import Minibatches
from mimic.model import build_network, fit_scaling, load_model, save_model
from mimic.prepared import prepare_training
from mimic.probability import grouped_log_softmax, selected_log_probability
from mimic.schema import ChoiceSets
from mimic.training import DivergenceError, TrainingOptions, TrainingResult, train

FEATURES = ("x", "y")
TRUTH = np.array([1.5, -0.8])
LOSSES = ("contrast_exact", "contrast_sampled", "softmax")

# Keras copies TensorFlow variables by a call that NumPy has deprecated.
by_keras = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def simulate(n_individuals: int, n_decisions: int, seed: int, *, faults: bool = False) -> ChoiceSets:
    """Ragged choice sets of 2 to 7 choices, selected by the log-odds 1.5 x - 0.8 y; y has mean 100.

    With faults, every tenth decision has a single choice and every eleventh an unknown selection.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 8, size=n_decisions)
    if faults:
        sizes[::10] = 1
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x = rng.normal(size=(offsets[-1], 2))
    utility = x @ TRUTH + rng.gumbel(size=len(x))
    selected = np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(offsets)])
    if faults:
        selected[::11] = -1
    # Individuals of unequal numbers of decisions, so that weighting them the same makes a difference.
    individual = np.sort(rng.integers(0, n_individuals, size=n_decisions) * rng.integers(0, 2, size=n_decisions))
    return ChoiceSets(
        decisions=pd.DataFrame({"individual": [f"animal {i}" for i in individual], "decision": np.arange(n_decisions)}),
        offsets=offsets,
        choice=np.concatenate([np.arange(n) for n in sizes]),
        selected=selected,
        features={"x": x[:, 0], "y": x[:, 1] + 100},
    )


def linear(**options: Any) -> TrainingOptions:
    """Options of a linear model that hardly moves: its running loss is that of its initial weights."""
    return TrainingOptions(**{"units": (), "optimizer": "sgd", "learning_rate": 1e-12, "epochs": 1, **options})


def coefficients(result: TrainingResult) -> np.ndarray:
    """Slopes of a linear model by physical unit of each feature."""
    zero = simulate(1, 1, 0)
    rows = np.vstack([np.zeros(2), np.eye(2)]).astype(np.float32)
    probe = ChoiceSets(zero.decisions, [0, 3], [0, 1, 2], [0], dict(zip(FEATURES, rows.T, strict=True)))
    values = result.model.log_odds(probe)
    return values[1:] - values[0]


def weights_of(result: TrainingResult) -> np.ndarray:
    return np.concatenate([w.ravel() for w in result.model.network.get_weights()])


def true_losses(result: TrainingResult, cs: ChoiceSets) -> tuple[float, float]:
    """Contrast loss and decision loss of a model, the long way."""
    phi = result.model.log_odds(cs)
    log_p = selected_log_probability(phi, cs.offsets, cs.selected)
    known = cs.selected >= 0
    decision = -pd.Series(log_p[known]).groupby(cs.individuals[known]).mean().mean()
    return contrast_loss(phi, cs, exact_contrasts(cs)), decision


# ----------------------------------------------------------------------------- the engine's loss and gradient


@pytest.mark.parametrize("batch_decisions", [1000, 70, 7])
@pytest.mark.parametrize("faults", [False, True])
def test_running_loss_of_frozen_weights_is_the_true_loss_in_batches_of_any_size(
    batch_decisions: int, faults: bool
) -> None:
    # Padded batches against flat NumPy arrays, single choices and unknown selections included.
    cs = simulate(4, 100, 0, faults=faults)
    options = linear(batch_decisions=batch_decisions)
    exact = train(cs, None, FEATURES, options).history.iloc[0]
    assert exact["loss"] == pytest.approx(exact["true_contrast_loss"], rel=2e-6)
    softmax = train(cs, None, FEATURES, dataclasses.replace(options, loss="softmax")).history.iloc[0]
    assert softmax["loss"] == pytest.approx(softmax["true_decision_loss"], rel=2e-6)
    by_decision = dataclasses.replace(options, loss="softmax", weighting="decision")
    other = train(cs, None, FEATURES, by_decision).history.iloc[0]
    assert other["loss"] == pytest.approx(other["true_decision_loss"], rel=2e-6)
    assert other["loss"] != pytest.approx(softmax["loss"], rel=1e-3)


def test_true_losses_in_the_history_are_those_of_the_model() -> None:
    cs, validation = simulate(4, 100, 0, faults=True), simulate(3, 60, 1, faults=True)
    result = train(cs, validation, FEATURES, TrainingOptions(units=(4,), epochs=1, dropout=0.3))
    row = result.history.iloc[0]
    np.testing.assert_allclose(row[["true_contrast_loss", "true_decision_loss"]], true_losses(result, cs), rtol=1e-6)
    np.testing.assert_allclose(
        row[["val_true_contrast_loss", "val_true_decision_loss"]], true_losses(result, validation), rtol=1e-6
    )


def numpy_gradient(cs: ChoiceSets, kernel: np.ndarray, loss: str) -> np.ndarray:
    """Gradient of a loss by the kernel of the scaled features, written out in float64."""
    rows = cs.matrix(FEATURES).astype(np.float64)
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    phi = rows @ kernel
    if loss == "softmax":
        weights = np.repeat(decision_weights(cs), cs.n_choices)
        slope = weights * (np.exp(grouped_log_softmax(phi, cs.offsets)) - cs.is_selected)
        return rows.T @ slope
    difference = rows - rows[np.repeat(cs.selected, cs.n_choices)]
    slope = exact_contrasts(cs) / (1 + np.exp(-(difference @ kernel)))
    return difference.T @ slope


@pytest.mark.parametrize("loss", ["contrast_exact", "softmax"])
@pytest.mark.parametrize(("batch_decisions", "n_batches"), [(100, 1), (30, 4)])
def test_mean_gradient_of_the_minibatches_is_the_gradient_of_the_loss(
    loss: Any, batch_decisions: int, n_batches: int
) -> None:
    # 97 decisions in 4 batches of 25 leave three padded: they must not bias the gradient.
    cs = simulate(4, 97, 3)
    start: list[np.ndarray] = []
    remember = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: start.append(trained[0].get_weights()[0]))
    trained: list[keras.Model] = []
    remember.set_model = lambda model: trained.append(model.network)  # type: ignore[method-assign]
    options = linear(loss=loss, batch_decisions=batch_decisions, learning_rate=1e-3)
    result = train(cs, None, FEATURES, options, callbacks=[remember])
    moved = (result.model.network.get_weights()[0] - start[0])[:, 0]
    expected = -1e-3 * n_batches * numpy_gradient(cs, start[0][:, 0].astype(np.float64), loss)
    np.testing.assert_allclose(moved, expected, rtol=3e-3, atol=1e-7)


def test_clipped_gradient_moves_the_weights_no_further() -> None:
    cs = simulate(4, 97, 3)
    steps = []
    for norm in (None, 1e-3):
        options = linear(learning_rate=1.0, gradient_clip_norm=norm, batch_decisions=97)
        start = train(cs, None, FEATURES, linear(batch_decisions=97))
        steps.append(np.linalg.norm(weights_of(train(cs, None, FEATURES, options)) - weights_of(start)))
    assert steps[0] > 0.01
    assert steps[1] == pytest.approx(1e-3, rel=1e-3)


def seen_batches(seed: int) -> np.ndarray:
    """(epoch, batch, decision): the decisions of each minibatch in three epochs of 10 decisions, batches of 4."""
    seen: list[np.ndarray] = []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(found[0].minibatches.order(epoch).numpy())
    )
    found: list[Any] = []
    look.set_model = found.append  # type: ignore[method-assign]
    train(simulate(2, 10, 0), None, FEATURES, linear(epochs=3, batch_decisions=4, seed=seed), callbacks=[look])
    return np.reshape(seen, (3, 3, 4))


def test_every_decision_is_in_one_minibatch_of_an_epoch_and_epochs_are_shuffled_anew() -> None:
    batches = seen_batches(seed=1)
    # 10 is the padded decision without weight, and fills the last batch only.
    np.testing.assert_array_equal(np.sort(batches.reshape(3, -1), axis=1), [[*range(10), 10, 10]] * 3)
    assert (batches[:, -1, -2:] == 10).all()
    assert len({tuple(epoch.ravel()) for epoch in batches}) == 3
    np.testing.assert_array_equal(batches, seen_batches(seed=1))
    assert (batches != seen_batches(seed=2)).any()


def minibatches(cs: ChoiceSets, options: TrainingOptions) -> Minibatches:
    """What the engine runs over."""
    data = prepare_training(cs, None, FEATURES, options)
    return count(data, options, [0, 1, 2, 3]).minibatches(options, 0)


def test_sampled_contrasts_are_weights_on_the_drawn_rows_only() -> None:
    cs = simulate(3, 40, 5, faults=True)
    options = TrainingOptions(loss="contrast_sampled", decisions_per_individual=3, alternatives_per_decision=2)
    packed = minibatches(cs, options)
    weights, rows, starts = packed.row_weights.numpy(), packed.rows.numpy(), packed.starts.numpy()
    counts = weights * len(set(cs.individuals)) * 3 * 2
    np.testing.assert_allclose(counts, np.round(counts), atol=1e-5)
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    # Selected rows come first and have no weight; every other row was drawn.
    first = starts[:-1]
    assert (weights[first] == 0).all()
    assert (np.delete(weights, first) > 0).all()
    assert len(rows) < cs.n_rows
    np.testing.assert_array_equal(packed.sizes.numpy(), [*np.diff([*first, len(rows)]), 0])
    scaled = scale_rows(build_network(fit_scaling(cs, FEATURES), units=()), cs.matrix(FEATURES)).numpy()
    selected = scaled[cs.selected[cs.selected >= 0]]
    assert {tuple(row) for row in rows[first]} <= {tuple(row) for row in selected}


# ----------------------------------------------------------------------------- recovery


@pytest.mark.parametrize("loss", LOSSES)
def test_known_log_odds_are_recovered(loss: Any) -> None:
    cs = simulate(5, 1500, 7)
    options = TrainingOptions(loss=loss, units=(), epochs=40, learning_rate=0.05, batch_decisions=250)
    # 1,500 decisions of which a few animals weigh more: standard errors of about 0.1.
    np.testing.assert_allclose(coefficients(train(cs, None, FEATURES, options)), TRUTH, atol=0.25)


def test_network_learns_what_is_not_linear() -> None:
    rng = np.random.default_rng(0)
    base = simulate(5, 600, 8)
    x = rng.normal(size=base.n_rows)
    utility = 3 * np.abs(x) + rng.gumbel(size=base.n_rows)
    selected = np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(base.offsets)])
    cs = ChoiceSets(base.decisions, base.offsets, base.choice, selected, {"x": x})
    curved = train(cs, None, ["x"], TrainingOptions(units=(8,), epochs=40, learning_rate=0.02, batch_decisions=100))
    straight = train(cs, None, ["x"], TrainingOptions(units=(), epochs=40, learning_rate=0.02, batch_decisions=100))
    assert straight.history["true_contrast_loss"].min() > 0.65
    assert curved.history["true_contrast_loss"].min() < 0.40


def test_wildboar_reaches_the_published_log_likelihood(shared: Path) -> None:
    # Independent float64 Newton: log-likelihood -9741.778757, GMP .050605 (null .047619).
    table = pd.read_csv(shared / "reference" / "wildboar.csv.gz")
    names = ["dtw", "imp", "hab"]
    keys = table.groupby(["individual", "decision"], sort=False)["selected"]
    assert (keys.sum() == 1).all()
    sizes = keys.size()
    cs = ChoiceSets(
        decisions=sizes.index.to_frame(index=False).astype({"individual": str}),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        choice=table["choice"].to_numpy(),
        selected=np.flatnonzero(table["selected"]),
        features={name: table[name].to_numpy() for name in names},
    )
    assert (cs.n_decisions, set(cs.n_choices)) == (3265, {21})
    options = TrainingOptions(
        loss="softmax", weighting="decision", units=(), epochs=30, learning_rate=0.05, batch_decisions=512
    )
    result = train(cs, None, names, options)
    log_p = selected_log_probability(result.model.log_odds(cs), cs.offsets, cs.selected)
    assert log_p.sum() == pytest.approx(-9741.778757, abs=0.5)
    assert log_p.sum() <= -9741.778756  # nothing lies above the maximum
    assert np.exp(log_p.mean()) == pytest.approx(0.050605, abs=1e-5)
    null = selected_log_probability(np.zeros(cs.n_rows), cs.offsets, cs.selected)
    assert np.exp(null.mean()) == pytest.approx(0.047619, abs=1e-6)


# ----------------------------------------------------------------------------- best epoch, stopping, divergence


def overfitted(**options: Any) -> TrainingResult:
    """A large network on 30 decisions, whose validation loss soon rises."""
    defaults = {"units": (32, 32), "epochs": 25, "learning_rate": 0.02, "batch_decisions": 10}
    return train(simulate(2, 30, 0), simulate(2, 60, 1), FEATURES, TrainingOptions(**{**defaults, **options}))


def test_model_is_that_of_the_epoch_with_the_lowest_validation_loss() -> None:
    result = overfitted()
    history = result.history
    assert 1 <= result.best_epoch < 25
    assert history["val_true_contrast_loss"].idxmin() + 1 == result.best_epoch
    contrast, _ = true_losses(result, simulate(2, 60, 1))
    assert contrast == pytest.approx(history["val_true_contrast_loss"].min(), rel=1e-6)
    assert result.model.metadata["best_epoch"] == result.best_epoch


def test_softmax_monitors_the_decision_loss_of_validation() -> None:
    result = overfitted(loss="softmax")
    assert result.history["val_true_decision_loss"].idxmin() + 1 == result.best_epoch


def test_without_validation_the_training_loss_decides() -> None:
    result = train(simulate(2, 60, 1), None, FEATURES, TrainingOptions(units=(), epochs=4))
    assert result.best_epoch == result.history["true_contrast_loss"].idxmin() + 1
    assert result.history[["val_true_contrast_loss", "val_true_decision_loss"]].isna().all(axis=None)


def test_training_stops_when_patience_is_over() -> None:
    whole, stopped = overfitted(), overfitted(patience=3)
    assert len(whole.history) == 25
    assert len(stopped.history) == stopped.best_epoch + 3 < 25
    pd.testing.assert_frame_equal(stopped.history, whole.history.iloc[: len(stopped.history)])


def test_history_has_its_columns_and_counts_epochs_from_one() -> None:
    history = overfitted(epochs=3).history
    assert list(history) == HISTORY_COLUMNS
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history.notna().all(axis=None)
    np.testing.assert_allclose(history["learning_rate"], 0.02)


def test_losses_are_evaluated_every_so_many_epochs_and_after_the_last() -> None:
    result = overfitted(epochs=7, evaluate_every=3, patience=1)
    evaluated = result.history["val_true_contrast_loss"].notna()
    assert result.history.loc[evaluated, "epoch"].tolist() in ([3, 6, 7], [3, 6])
    assert result.history["loss"].notna().all()
    assert result.best_epoch in {3, 6, 7}
    last = train(simulate(2, 30, 0), None, FEATURES, linear(epochs=4, evaluate_every=3)).history
    assert last.loc[last["true_contrast_loss"].notna(), "epoch"].tolist() == [3, 4]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_divergence_in_the_first_epoch_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"not finite in epoch 1, minibatch \d \(where [xy] runs .* below 1e\+30"
    ) as error:
        train(
            simulate(2, 30, 0), None, FEATURES,
            TrainingOptions(units=(8,), optimizer="sgd", learning_rate=1e30, epochs=3, batch_decisions=5),
        )  # fmt: skip
    assert isinstance(error.value, DivergenceError)
    assert error.value.history["epoch"].tolist() == [1]


def test_divergence_names_the_minibatch_and_the_feature_that_lies_farthest_in_it() -> None:
    cs = simulate(2, 40, 1)
    y = cs.features["y"].copy()
    y[0] = 1e4  # 13 standard deviations from the mean
    options = TrainingOptions(units=(8,), epochs=2, batch_decisions=10, optimizer="sgd", learning_rate=1e30)
    found: list[Any] = []
    spy = keras.callbacks.LambdaCallback()
    spy.set_model = found.append  # type: ignore[method-assign]
    with pytest.raises(DivergenceError) as error:
        train(cs.with_features({"y": y}), None, FEATURES, options, callbacks=[spy])
    divergence = error.value.divergence
    batches = found[0].minibatches
    decisions = batches.order(divergence.epoch - 1).numpy()[divergence.minibatch - 1]
    rows = np.concatenate(
        [batches.rows.numpy()[s : s + n] for s, n in zip(*(a.numpy()[decisions] for a in (batches.starts, batches.sizes)), strict=True)]
    )  # fmt: skip
    feature = FEATURES.index(divergence.feature)
    assert feature == np.abs(rows).max(axis=0).argmax()
    scaling = fit_scaling(cs.with_features({"y": y}), FEATURES)
    ends = np.array([rows[:, feature].min(), rows[:, feature].max()])
    expected = scaling.mean[feature] + scaling.scale[feature] * ends
    np.testing.assert_allclose([divergence.low, divergence.high], expected, rtol=1e-5)


class Spoil(keras.callbacks.Callback):
    """Makes the weights NaN before an epoch."""

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if epoch == 3:
            self.model.set_weights([np.full_like(w, np.nan) for w in self.model.get_weights()])


def test_later_divergence_warns_and_keeps_the_best_epoch() -> None:
    cs = simulate(2, 60, 1)
    with pytest.warns(
        RuntimeWarning, match=r"not finite in epoch 4, minibatch 1 .*; the weights of epoch [123] are kept"
    ):
        result = train(cs, None, FEATURES, TrainingOptions(units=(), epochs=9), callbacks=[Spoil()])
    assert len(result.history) == 4
    assert np.isnan(result.history["true_contrast_loss"].iloc[-1])
    assert true_losses(result, cs)[0] == pytest.approx(result.history["true_contrast_loss"].min(), rel=1e-6)


# ----------------------------------------------------------------------------- Keras callbacks


@by_keras
def test_callbacks_of_keras_see_the_true_losses(tmp_path: Path) -> None:
    stopping = keras.callbacks.EarlyStopping(monitor="val_true_contrast_loss", mode="min", patience=2)
    slower = keras.callbacks.ReduceLROnPlateau(monitor="val_true_contrast_loss", mode="min", patience=1, factor=0.5)
    calls: list[tuple[int, int, dict[str, float]]] = []
    result = train(
        simulate(2, 30, 0),
        simulate(2, 60, 1),
        FEATURES,
        TrainingOptions(units=(32, 32), epochs=25, learning_rate=0.02, batch_decisions=10),
        callbacks=[slower, stopping, keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))],
        progress=lambda epoch, n_epochs, logs: calls.append((epoch, n_epochs, logs)),
    )
    n_epochs = len(result.history)
    assert stopping.stopped_epoch + 1 == n_epochs == result.best_epoch + 2 < 25
    assert result.history["learning_rate"].iloc[-1] == pytest.approx(0.01)
    logged = pd.read_csv(tmp_path / "log.csv")
    for name in HISTORY_COLUMNS[1:6]:
        np.testing.assert_allclose(logged[name], result.history[name], rtol=1e-9)
    assert [call[:2] for call in calls] == [(epoch, 25) for epoch in range(1, n_epochs + 1)]
    assert calls[0][2]["val_true_contrast_loss"] == result.history["val_true_contrast_loss"][0]


@by_keras
def test_checkpoint_of_keras_saves_the_log_odds_network(tmp_path: Path) -> None:
    path = tmp_path / "epoch.keras"
    cs = simulate(2, 30, 0)
    checkpoint = keras.callbacks.ModelCheckpoint(
        str(path), monitor="true_contrast_loss", mode="min", save_best_only=True
    )
    result = train(cs, None, FEATURES, TrainingOptions(units=(4,), epochs=2), callbacks=[checkpoint])
    network = keras.saving.load_model(path)
    np.testing.assert_allclose(
        network.predict(cs.matrix(FEATURES), verbose=0)[:, 0], result.model.log_odds(cs), rtol=1e-5
    )


class Plain(keras.Model):
    """A subclassed model of somebody else, whose call knows no `training`."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


@pytest.mark.parametrize(
    "make",
    [Plain, lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.9, seed=0), keras.layers.Dense(1)])],
    ids=["subclass", "sequential with dropout"],
)
def test_true_loss_serves_any_keras_model_with_its_own_fit(make: Callable[[], keras.Model]) -> None:
    cs, validation = simulate(2, 30, 0), simulate(2, 20, 1)
    model = make()
    model.compile("sgd", "mse")
    rows = cs.matrix(FEATURES)
    stopping = keras.callbacks.EarlyStopping(monitor="val_true_decision_loss", mode="min", patience=50)
    logs = model.fit(
        rows, np.zeros(len(rows)), epochs=2, verbose=0, callbacks=[TrueLoss(cs, validation, FEATURES), stopping]
    ).history
    assert stopping.best == pytest.approx(min(logs["val_true_decision_loss"]))
    phi = model.predict(rows, verbose=0)[:, 0]
    assert logs["true_contrast_loss"][-1] == pytest.approx(contrast_loss(phi, cs, exact_contrasts(cs)), rel=1e-5)
    log_p = selected_log_probability(phi, cs.offsets, cs.selected)
    assert logs["true_decision_loss"][-1] == pytest.approx(-np.dot(decision_weights(cs), log_p), rel=1e-5)


def test_true_loss_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    cs = simulate(2, 30, 0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    found = []
    for rows in (10_000, 7):
        monkeypatch.setattr("mimic.callbacks.BLOCK_ROWS", rows)
        callback = TrueLoss(cs, None, FEATURES)
        callback.set_model(model)
        found.append(callback.losses())
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_true_loss_of_weights_that_are_not_finite_is_nan() -> None:
    callback = TrueLoss(simulate(2, 30, 0), None, FEATURES)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.set_weights([np.full((2, 1), np.nan), np.zeros(1)])
    callback.set_model(model)
    assert all(np.isnan(value) for value in callback.losses().values())


def test_errors_of_true_loss_say_what_was_expected() -> None:
    cs = simulate(2, 30, 0)
    with pytest.raises(ValueError, match="expected the names of the features"):
        TrueLoss(cs)
    with pytest.raises(ValueError, match="every must be 1 epoch or more; got 0"):
        TrueLoss(cs, None, FEATURES, every=0)
    with pytest.raises(ValueError, match="unknown feature z"):
        TrueLoss(cs, None, ["z"])
    callback = TrueLoss(cs, None, FEATURES)
    callback.set_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]))
    with pytest.raises(ValueError, match=r"to log-odds \(\d+, 1\); it gave \(\d+, 3\)"):
        callback.losses()


def test_best_epoch_before_any_epoch_restores_nothing() -> None:
    best = BestEpoch("loss")
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    best.set_model(model)
    before = model.get_weights()
    best.restore()
    assert best.best_epoch is None
    assert best.history.empty
    np.testing.assert_array_equal(before[0], model.get_weights()[0])


# ----------------------------------------------------------------------------- equal bits


def fingerprint(options: TrainingOptions) -> str:
    """Of all weights and of the history of a small training, to the bit."""
    result = train(simulate(4, 90, 0), simulate(3, 40, 1), FEATURES, options)
    numbers = [weights_of(result).astype(np.float64), result.history.to_numpy(dtype=np.float64).ravel()]
    return hashlib.sha256(np.concatenate(numbers).tobytes()).hexdigest()


SMALL = TrainingOptions(
    loss="contrast_sampled",
    units=(8, 8),
    dropout=0.2,
    epochs=3,
    batch_decisions=20,
    decisions_per_individual=20,
    seed=3,
)


def test_equal_seeds_give_equal_bits_here_and_in_a_fresh_process(root: Path) -> None:
    first = fingerprint(SMALL)
    keras.utils.set_random_seed(1)
    assert fingerprint(dataclasses.replace(SMALL, seed=4)) != first
    assert fingerprint(SMALL) == first
    done = subprocess.run(
        [sys.executable, "-c", "from test_training import *; print(fingerprint(SMALL))"],
        cwd=root / "tests",
        env={**os.environ, "PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == first


def test_every_use_of_randomness_reads_the_seed() -> None:
    cs = simulate(2, 30, 0)
    options = linear(loss="contrast_sampled", decisions_per_individual=20, alternatives_per_decision=1)
    drawn: list[np.ndarray] = []

    def look(model: Any) -> None:
        drawn.append(model.minibatches.row_weights.numpy())

    start = []
    for seed in (1, 1, 2):
        spy = keras.callbacks.LambdaCallback()
        spy.set_model = look  # type: ignore[method-assign]
        start.append(weights_of(train(cs, None, FEATURES, dataclasses.replace(options, seed=seed), callbacks=[spy])))
    np.testing.assert_array_equal(start[0], start[1])
    assert (np.round(start[0], 3) != np.round(start[2], 3)).any()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert drawn[0].shape != drawn[2].shape or (drawn[0] != drawn[2]).any()


def test_training_leaves_no_graph_behind() -> None:
    # Thousands of models are trained in one process; a graph kept by each would fill the memory.
    def n_graphs() -> int:
        gc.collect()
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    counts = []
    for _ in range(3):
        train(simulate(2, 30, 0), None, FEATURES, dataclasses.replace(SMALL, epochs=1, gradient_clip_norm=1.0))
        counts.append(n_graphs())
    assert counts[2] <= counts[1] <= counts[0]


def test_training_leaves_global_random_states_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    keras.utils.set_random_seed(5)
    expected = float(keras.random.uniform(()))
    keras.utils.set_random_seed(5)
    np.random.seed(0)  # noqa: NPY002
    train(simulate(2, 30, 0), None, FEATURES, dataclasses.replace(SMALL, epochs=1))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert float(keras.random.uniform(())) == expected


# ----------------------------------------------------------------------------- options and errors


def test_trained_model_is_saved_with_its_options_and_loaded(tmp_path: Path) -> None:
    cs = simulate(2, 30, 0)
    options = TrainingOptions(units=(4,), epochs=1, optimizer="adamw", optimizer_arguments={"weight_decay": 0.01})
    result = train(cs, None, FEATURES, options)
    save_model(result.model, tmp_path / "m.keras")
    again = load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.log_odds(cs), result.model.log_odds(cs))
    assert again.features == FEATURES
    assert TrainingOptions(**again.metadata["options"]) == options
    assert again.metadata["info"]["x"]["role"] == "choice"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "hinge"}, "loss must be one of contrast_exact, contrast_sampled, softmax; got 'hinge'"),
        ({"weighting": "animal"}, "weighting must be one of individual, decision; got 'animal'"),
        ({"weighting": "decision"}, 'weighting="decision" goes with loss="softmax"'),
        ({"epochs": 0}, "epochs must be 1 or more; got 0"),
        ({"patience": 0}, "patience must be 1 or more; got 0"),
        ({"units": (24, 0)}, r"units must be 1 or more; got \(24, 0\)"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\); got 1.0"),
        ({"learning_rate": np.nan}, "learning_rate must be a positive number; got nan"),
        ({"gradient_clip_norm": 0.0}, "gradient_clip_norm must be a positive number; got 0.0"),
        ({"seed": -1}, "seed must be 0 or more; got -1"),
    ],
)
def test_option_out_of_range_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


@pytest.mark.parametrize(
    "options", [{"optimizer": "adan"}, {"optimizer_arguments": {"moment": 0.9}}], ids=["name", "argument"]
)
def test_optimizer_unknown_to_keras_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected an optimizer of Keras, such as adam, adamw or sgd"):
        train(simulate(2, 30, 0), None, FEATURES, TrainingOptions(**options))


def test_data_that_cannot_be_trained_on_is_an_error() -> None:
    cs = simulate(2, 30, 0)
    nothing = cs.filter(np.zeros(cs.n_decisions, dtype=bool))
    with pytest.raises(ValueError, match=r"expected training decisions with a known selection .* none among 0"):
        train(nothing, None, FEATURES)
    with pytest.raises(ValueError, match=r"expected validation decisions .* Pass None to train without validation"):
        train(cs, nothing, FEATURES)
    with pytest.raises(ValueError, match=r"without features is zero_model\(\)"):
        train(cs, None, [])
    with pytest.raises(ValueError, match="unknown feature z; known are x, y"):
        train(cs, None, ["x", "z"])
    holes = cs.with_features({"x": np.where(np.arange(cs.n_rows) < 2, np.nan, 0)})
    with pytest.raises(ValueError, match=r"NaN or infinity in x \(2 of"):
        train(cs, holes, FEATURES)


def test_training_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(simulate(2, 30, 0), simulate(2, 30, 1), FEATURES, dataclasses.replace(SMALL, epochs=1))


def test_threads_are_configured_before_tensorflow_computes_and_not_after(root: Path) -> None:
    code = (
        "import os\n"
        "from mimic.training import configure_threads\n"
        "import tensorflow as tf\n"
        "configure_threads(1)\n"
        "assert tf.config.threading.get_intra_op_parallelism_threads() == 1\n"
        "assert os.environ['TF_NUM_INTRAOP_THREADS'] == '1'\n"
        "tf.constant(1) + 1\n"
        "try:\n    configure_threads(2)\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "before TensorFlow computes anything" in done.stdout
    with pytest.raises(ValueError, match="n_threads must be 1 or more; got 0"):
        training.configure_threads(0)

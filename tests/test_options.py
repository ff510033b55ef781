"""Training options: what each changes, checked by hand, by equivalence, or by what was really trained."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from mimic.augmentation import Augmentation, augment
from mimic.contrasts import decision_weights, exact_contrasts
from mimic.labels import soft_selections
from mimic.linear import linear_model
from mimic.options import Plateau, TrainingOptions, learning_rates
from mimic.probability import grouped_log_softmax, selected_log_probability
from mimic.schema import ChoiceSets, FeatureInfo, concatenate
from mimic.training import TrainingResult, train

FEATURES = ("x", "y")


def simulate(n_individuals: int, n_decisions: int, seed: int, *, prefix: str = "animal") -> ChoiceSets:
    """Ragged choice sets of 2 to 7 choices, selected by the log-odds 1.5 x - 0.8 y."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 8, size=n_decisions)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    x = rng.normal(size=(offsets[-1], 2))
    utility = x @ [1.5, -0.8] + rng.gumbel(size=len(x))
    selected = np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(offsets)])
    who = np.sort(rng.integers(0, n_individuals, size=n_decisions))
    return ChoiceSets(
        pd.DataFrame({"individual": [f"{prefix} {i}" for i in who], "decision": np.arange(n_decisions)}),
        offsets,
        np.concatenate([np.arange(n) for n in sizes]),
        selected,
        {"x": x[:, 0], "y": x[:, 1]},
    )


def still(**options: Any) -> TrainingOptions:
    """A linear model that hardly moves: its running loss is that of its initial weights."""
    return TrainingOptions(**{"units": (), "optimizer": "sgd", "learning_rate": 1e-12, "epochs": 1, **options})


def small(**options: Any) -> TrainingOptions:
    return TrainingOptions(
        **{"units": (8,), "epochs": 6, "learning_rate": 0.01, "batch_decisions": 40, "seed": 3, **options}
    )


def weights_of(result: TrainingResult) -> np.ndarray:
    return np.concatenate([w.ravel() for w in result.model.network.get_weights()])


# ----------------------------------------------------------------------------- minibatches


@pytest.mark.parametrize(
    ("options", "n_batches"),
    [
        ({"batch_decisions": 40}, 3),  # ceil(100 / 40)
        ({"batch_contrasts": 10_000}, 1),
        (
            {"loss": "contrast_sampled", "decisions_per_individual": 50, "batch_contrasts": 1000},
            4,
        ),  # 4 x 50 x 19 / 1000
        ({"batch_contrasts": 1}, 100),  # a decision is not cut in two
    ],
)
def test_minibatches_are_counted_in_decisions_or_in_contrasts(options: dict[str, Any], n_batches: int) -> None:
    result = train(simulate(4, 100, 0), None, FEATURES, still(**options))
    assert result.facts["n_batches"] == n_batches
    n_decisions = result.facts["n_train_decisions"]  # of sampled contrasts, those that were drawn
    assert n_decisions == 100 if options.get("loss") is None else 60 < n_decisions < 100
    assert result.facts["batch_decisions"] == -(-n_decisions // n_batches)


def test_no_minibatch_is_without_decisions() -> None:
    # 100 decisions in 67 minibatches are two each: 50 hold them all, and 17 more would be steps without data
    cs = simulate(4, 100, 0)
    n_contrasts = int((cs.n_choices - 1).sum())
    result = train(cs, None, FEATURES, still(batch_contrasts=-(-n_contrasts // 67)))
    assert (result.facts["n_batches"], result.facts["batch_decisions"]) == (50, 2)


def test_choice_sets_of_very_different_sizes_train_like_any_others() -> None:
    # One decision of 3,000 choices among decisions of 2 to 7: no padding to the largest, and the same loss.
    cs = simulate(3, 60, 0)
    rng = np.random.default_rng(1)
    large = ChoiceSets(
        pd.DataFrame({"individual": ["animal 0"], "decision": [60]}),
        [0, 3000],
        np.arange(3000),
        [1234],
        {"x": rng.normal(size=3000), "y": rng.normal(size=3000)},
    )
    both = concatenate([cs, large])
    for loss in ("contrast_exact", "softmax"):
        row = train(both, None, FEATURES, still(loss=loss, batch_decisions=7)).history.iloc[0]
        true = row["true_decision_loss" if loss == "softmax" else "true_contrast_loss"]
        assert row["loss"] == pytest.approx(true, rel=2e-6)


# ----------------------------------------------------------------------------- learning rates


def test_cosine_decay_over_four_epochs_of_two_steps() -> None:
    options = TrainingOptions(learning_rate=1.0, schedule={"name": "CosineDecay", "decay_epochs": 4})
    rates = learning_rates(options, n_epochs=4, steps_per_epoch=2)
    np.testing.assert_allclose(rates, 0.5 * (1 + np.cos(np.pi * np.arange(8) / 8)), rtol=1e-5)


def test_piecewise_constant_boundaries_are_epochs() -> None:
    schedule = {"name": "PiecewiseConstantDecay", "boundaries": [1, 2], "values": [0.3, 0.2, 0.1]}
    rates = learning_rates(TrainingOptions(schedule=schedule), n_epochs=3, steps_per_epoch=3)
    np.testing.assert_allclose(rates, [0.3] * 4 + [0.2] * 3 + [0.1] * 2)  # Keras' boundaries are inclusive


def test_schedule_moves_the_rate_of_every_step_that_training_takes() -> None:
    schedule = {"name": "ExponentialDecay", "decay_epochs": 1, "decay_rate": 0.5}
    history = train(simulate(3, 100, 0), None, FEATURES, small(schedule=schedule, epochs=3)).history
    # Three steps an epoch: after the last step of epoch e the rate is 0.01 x 0.5 ** (e - 1 / 3).
    np.testing.assert_allclose(history["learning_rate"], 0.01 * 0.5 ** (np.array([1, 2, 3]) - 1 / 3), rtol=1e-5)


def test_schedule_of_zero_rates_leaves_the_weights_alone() -> None:
    cs = simulate(3, 100, 0)
    schedule = {"name": "PiecewiseConstantDecay", "boundaries": [3], "values": [0.0, 0.0]}
    frozen = train(cs, None, FEATURES, small(schedule=schedule)).history
    assert frozen["true_contrast_loss"].nunique() == 1
    assert train(cs, None, FEATURES, small()).history["true_contrast_loss"].nunique() > 1


def test_plateau_halves_the_rate_where_the_loss_no_longer_falls() -> None:
    cs, validation = simulate(2, 30, 0), simulate(2, 60, 1)
    options = small(units=(32, 32), epochs=25, learning_rate=0.02, plateau={"patience": 2, "factor": 0.5})
    history = train(cs, validation, FEATURES, options).history
    rates = history["learning_rate"].to_numpy()
    assert rates[0] == pytest.approx(0.02)
    best, waited, expected = np.inf, 0, []
    rate = 0.02
    for loss in history["val_true_contrast_loss"]:
        expected.append(rate)  # what the epoch was trained with
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= 2:
            rate, waited = rate / 2, 0
    np.testing.assert_allclose(rates, expected, rtol=1e-5)
    assert rates[-1] < 0.02


# ----------------------------------------------------------------------------- penalties and noise


def test_l2_and_weight_decay_shrink_the_weights() -> None:
    cs = simulate(3, 100, 0)
    sizes = [
        np.abs(weights_of(train(cs, None, FEATURES, small(epochs=15, **options)))).sum()
        for options in ({}, {"l2": 0.05}, {"weight_decay": 0.5})
    ]
    assert sizes[1] < sizes[0]
    assert sizes[2] < sizes[0]


def test_running_loss_leaves_the_penalty_out() -> None:
    cs = simulate(3, 100, 0)
    row = train(cs, None, FEATURES, still(l2=10.0)).history.iloc[0]
    assert row["loss"] == pytest.approx(row["true_contrast_loss"], rel=1e-5)


def test_noisy_copies_keep_selections_and_the_originals_and_share_noise_within_decisions() -> None:
    cs = simulate(2, 50, 0)
    season = np.repeat(np.random.default_rng(0).normal(size=50), cs.n_choices)
    cs = cs.with_features({"season": season}, {"season": FeatureInfo("decision")})
    noise = Augmentation(2, multiplicative={"x": 0.1}, additive={"season": 0.5})
    more = augment(cs, noise, np.random.default_rng(0))
    assert more.n_decisions == 150
    np.testing.assert_array_equal(more.features["x"][: cs.n_rows], cs.features["x"])
    np.testing.assert_array_equal(more.features["y"], np.tile(cs.features["y"], 3))
    ratio = more.features["x"][cs.n_rows :] / np.tile(cs.features["x"], 2)
    assert ratio.std() == pytest.approx(0.1, rel=0.2)
    added = (more.features["season"][cs.n_rows :] - np.tile(season, 2)).reshape(2, -1)
    per_decision = np.array([[part[s:e].std() for s, e in itertools.pairwise(cs.offsets)] for part in added])
    np.testing.assert_allclose(per_decision, 0, atol=1e-6)
    assert added.std() == pytest.approx(0.5, rel=0.3)
    np.testing.assert_array_equal(more.selected[:50], cs.selected)
    np.testing.assert_array_equal(more.selected[50:100], cs.selected + cs.n_rows)


def test_tiny_noise_trains_like_none_and_large_noise_does_not() -> None:
    cs = simulate(3, 80, 0)
    losses = {}
    for sd in (1e-7, 3.0):
        options = still(augmentation={"copies": 3, "additive": {"x": sd}}, batch_decisions=1000)
        losses[sd] = train(cs, None, FEATURES, options).history.iloc[0]
    assert losses[1e-7]["loss"] == pytest.approx(losses[1e-7]["true_contrast_loss"], rel=1e-5)
    assert losses[3.0]["loss"] != pytest.approx(losses[3.0]["true_contrast_loss"], rel=1e-2)
    # The true loss is that of the data as they are, and the scaling too.
    assert losses[3.0]["true_contrast_loss"] == pytest.approx(losses[1e-7]["true_contrast_loss"], rel=1e-6)


# ----------------------------------------------------------------------------- weights and labels


def test_individual_of_weight_two_counts_as_two_individuals() -> None:
    cs = simulate(3, 90, 0)
    twin = cs.filter(cs.individuals == "animal 1")
    twin = dataclasses.replace(twin, decisions=twin.decisions.assign(individual="twin"))
    for loss in ("contrast_exact", "softmax"):
        weighted = still(loss=loss, weights={'individual == "animal 1"': 2.0}, batch_decisions=1000)
        row = train(cs, None, FEATURES, weighted).history.iloc[0]
        # Initial weights depend on the seed only, but the scaling on the rows: it is given by equal features.
        both = train(concatenate([cs, twin]), None, FEATURES, still(loss=loss, batch_decisions=1000))
        name = "true_decision_loss" if loss == "softmax" else "true_contrast_loss"
        model = train(cs, None, FEATURES, still(loss=loss, batch_decisions=1000)).model
        phi = model.log_odds(concatenate([cs, twin]))
        expected = weighted_loss(concatenate([cs, twin]), phi, loss)
        assert row["loss"] == pytest.approx(expected, rel=1e-5)
        assert row["loss"] != pytest.approx(row[name], rel=1e-4)
        assert both.history.iloc[0]["loss"] == pytest.approx(both.history.iloc[0][name], rel=1e-5)


def weighted_loss(cs: ChoiceSets, phi: np.ndarray, loss: str) -> float:
    if loss == "softmax":
        return float(-np.sum(decision_weights(cs) * selected_log_probability(phi, cs.offsets, cs.selected)))
    difference = phi - phi[np.repeat(cs.selected, cs.n_choices)]
    return float(np.sum(exact_contrasts(cs) * np.logaddexp(0, difference)))


def test_class_weights_count_decisions_by_what_was_selected() -> None:
    cs = simulate(3, 90, 0)
    options = still(weights={"selected_x > 0": 0.0}, batch_decisions=1000)
    row = train(cs, None, FEATURES, options).history.iloc[0]
    phi = train(cs, None, FEATURES, still(batch_decisions=1000)).model.log_odds(cs)
    kept = cs.features["x"][cs.selected] <= 0
    weights = exact_contrasts(cs) * np.repeat(kept, cs.n_choices)
    difference = phi - phi[np.repeat(cs.selected, cs.n_choices)]
    expected = np.sum(weights * np.logaddexp(0, difference)) / weights.sum()
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_may_speak_of_features_that_the_model_does_not_have() -> None:
    cs = simulate(3, 90, 0)
    options = still(weights={"selected_y > 0": 3.0}, batch_decisions=1000)
    row = train(cs, None, ["x"], options).history.iloc[0]
    assert row["loss"] != pytest.approx(row["true_contrast_loss"], rel=1e-3)


def test_weights_of_zero_everywhere_are_an_error() -> None:
    with pytest.raises(ValueError, match="weights leave no training decision"):
        train(simulate(2, 30, 0), None, FEATURES, still(weights={"all": 0.0}))


def test_labels_of_one_choice_each_are_the_selections() -> None:
    cs = simulate(3, 90, 0)
    labeled = cs.with_features({"use": cs.is_selected * 5.0})
    for loss in ("contrast_exact", "softmax"):
        plain = train(cs, cs, FEATURES, small(loss=loss))
        soft = train(labeled, labeled, FEATURES, small(loss=loss, labels="use"))
        pd.testing.assert_frame_equal(plain.history, soft.history, rtol=1e-5)


def test_soft_labels_have_the_cross_entropy_of_the_shares() -> None:
    cs = simulate(3, 60, 0)
    rng = np.random.default_rng(2)
    use = rng.gamma(0.5, size=cs.n_rows) * (rng.random(cs.n_rows) < 0.7)
    use[cs.selected] += 0.1
    labeled = dataclasses.replace(cs, selected=np.full(cs.n_decisions, -1)).with_features({"use": use})
    result = train(labeled, None, FEATURES, still(loss="softmax", labels="use", batch_decisions=13))
    row = result.history.iloc[0]
    log_p = grouped_log_softmax(result.model.log_odds(cs), cs.offsets)
    share = use / np.repeat(np.add.reduceat(use, cs.offsets[:-1]), cs.n_choices)
    cross_entropy = -np.add.reduceat(share * log_p, cs.offsets[:-1])
    expected = np.sum(decision_weights(cs) * cross_entropy)
    assert row["true_decision_loss"] == pytest.approx(expected, rel=1e-5)
    assert row["loss"] == pytest.approx(expected, rel=1e-5)


def test_labels_that_are_negative_or_unknown_are_an_error() -> None:
    cs = simulate(2, 30, 0)
    with pytest.raises(ValueError, match="labels: unknown feature use; known are x, y"):
        soft_selections(cs, "use")
    with pytest.raises(ValueError, match="labels: x is the use of each choice and must be finite and 0 or more"):
        soft_selections(cs, "x")


# ----------------------------------------------------------------------------- sampled contrasts


def test_contrasts_drawn_anew_differ_between_epochs_and_repeat_with_the_seed() -> None:
    cs = simulate(3, 60, 0)
    options = still(
        loss="contrast_sampled", decisions_per_individual=5, alternatives_per_decision=2, epochs=4, redraw=True
    )
    losses = train(cs, None, FEATURES, options).history["loss"]
    assert losses.round(4).nunique() == 4  # the weights stand still: only the draws differ
    np.testing.assert_array_equal(losses, train(cs, None, FEATURES, options).history["loss"])
    once = train(cs, None, FEATURES, dataclasses.replace(options, redraw=False)).history["loss"]
    assert once.round(4).nunique() == 1


# ----------------------------------------------------------------------------- linear skip and embedding


def test_linear_skip_starts_at_the_conditional_logit_and_never_validates_worse() -> None:
    cs, validation = simulate(4, 150, 0), simulate(3, 90, 1, prefix="other")
    classical = linear_model(cs, FEATURES)
    loss = weighted_loss(validation, classical.log_odds(validation), "contrast_exact")
    for seed in range(3):
        result = train(cs, validation, FEATURES, small(linear_skip=True, learning_rate=0.2, seed=seed))
        start = result.history.iloc[0]
        assert start["epoch"] == 0
        assert start["val_true_contrast_loss"] == pytest.approx(loss, rel=1e-5)
        assert result.history["val_true_contrast_loss"].min() <= start["val_true_contrast_loss"]
        kept = weighted_loss(validation, result.model.log_odds(validation), "contrast_exact")
        assert kept == pytest.approx(result.history["val_true_contrast_loss"].min(), rel=1e-5)


def test_epoch_zero_is_kept_where_training_only_makes_it_worse() -> None:
    cs, validation = simulate(2, 20, 0), simulate(3, 90, 1, prefix="other")
    result = train(cs, validation, FEATURES, small(linear_skip=True, optimizer="sgd", learning_rate=50.0))
    assert result.best_epoch == 0
    classical = linear_model(cs, FEATURES).log_odds(validation)
    ours = result.model.log_odds(validation)
    np.testing.assert_allclose(
        grouped_log_softmax(ours, validation.offsets), grouped_log_softmax(classical, validation.offsets), atol=1e-5
    )


def test_linear_skip_names_its_features_or_says_which_are_unknown() -> None:
    cs = simulate(3, 60, 0)
    result = train(cs, None, FEATURES, small(linear_skip=["x"], epochs=1))
    only = linear_model(cs, ["x"])
    start = result.history.iloc[0]["true_contrast_loss"]
    assert start == pytest.approx(weighted_loss(cs, only.log_odds(cs), "contrast_exact"), rel=1e-5)
    with pytest.raises(ValueError, match="linear_skip: z is no feature of the model; these are x, y"):
        train(cs, None, FEATURES, small(linear_skip=["z"]))


def test_embedding_learns_individuals_and_leaves_the_unseen_to_the_population() -> None:
    # Two animals with opposite taste: a model without their names cannot tell, one with an embedding can.
    cs = simulate(2, 400, 0)
    sign = np.where(np.repeat(cs.individuals, cs.n_choices) == "animal 0", 1.0, -1.0)
    utility = 3 * sign * cs.features["x"] + np.random.default_rng(5).gumbel(size=cs.n_rows)
    selected = np.array([s + utility[s:e].argmax() for s, e in itertools.pairwise(cs.offsets)])
    cs = dataclasses.replace(cs, selected=selected)
    options = small(epochs=60, units=(16,), learning_rate=0.02, embedding_size=2, embedding_l2=1e-4)
    blind = train(cs, None, FEATURES, dataclasses.replace(options, embedding_size=0))
    known = train(cs, None, FEATURES, options)
    assert blind.history["true_contrast_loss"].min() > 0.55
    assert known.history["true_contrast_loss"].min() < 0.30
    stranger = dataclasses.replace(cs, decisions=cs.decisions.assign(individual="stranger"))
    between = known.model.log_odds(stranger)
    assert np.abs(np.corrcoef(between, known.model.log_odds(cs))[0, 1]) < 0.9
    shrunk = train(cs, None, FEATURES, dataclasses.replace(options, embedding_l2=100.0))
    table = next(w for w in shrunk.model.network.get_weights() if w.shape == (3, 2))
    assert np.abs(table).max() < 0.05
    assert (table[0] == 0).all()


# ----------------------------------------------------------------------------- going on, and one trace


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"dropout": 0.3},
        {"patience": 2, "learning_rate": 0.3},
        {"plateau": {"patience": 1, "factor": 0.5}, "learning_rate": 0.2},
        {"loss": "contrast_sampled", "redraw": True},
        {"schedule": {"name": "CosineDecay", "decay_epochs": 9}},
        {"linear_skip": True},
    ],
    ids=lambda more: ",".join(more) or "plain",
)
def test_training_taken_up_again_is_as_if_it_had_never_stopped(more: dict[str, Any]) -> None:
    cs, validation = simulate(3, 60, 0), simulate(2, 40, 1, prefix="other")
    options = small(epochs=9, **more)
    whole = train(cs, validation, FEATURES, options)
    state = train(cs, validation, FEATURES, options, until=2).state
    state = train(cs, validation, FEATURES, options, until=5, state=state).state
    parts = train(cs, validation, FEATURES, options, until=9, state=state)
    pd.testing.assert_frame_equal(whole.history, parts.history)
    np.testing.assert_array_equal(weights_of(whole), weights_of(parts))
    for one, other in zip(whole.last_weights, parts.last_weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_members_of_one_architecture_share_a_trace_and_other_members_change_nothing() -> None:
    from mimic import training

    cs, validation = simulate(3, 60, 0), simulate(2, 40, 1, prefix="other")
    training._trainers.clear()
    fresh = train(cs, validation, FEATURES, small(seed=7, dropout=0.2))
    training._trainers.clear()
    for seed in range(3):
        train(cs, validation, FEATURES, small(seed=seed, learning_rate=0.5 / (1 + seed), dropout=0.2))
    (trainer,) = training._trainers.values()
    assert trainer._epoch.experimental_get_tracing_count() == 1
    again = train(cs, validation, FEATURES, small(seed=7, dropout=0.2))
    np.testing.assert_array_equal(weights_of(fresh), weights_of(again))
    pd.testing.assert_frame_equal(fresh.history, again.history)
    assert trainer._epoch.experimental_get_tracing_count() == 1


def test_last_weights_are_those_after_the_last_epoch() -> None:
    cs, validation = simulate(2, 30, 0), simulate(2, 60, 1, prefix="other")
    seen: list[list[np.ndarray]] = []
    spy = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(found[0].network.get_weights()))
    found: list[Any] = []
    spy.set_model = found.append  # type: ignore[method-assign]
    result = train(cs, validation, FEATURES, small(learning_rate=0.1, epochs=8), callbacks=[spy])
    for one, other in zip(result.last_weights, seen[-1], strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(result.model.network.get_weights(), seen[result.best_epoch - 1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradient_norm_of_a_single_batch_is_that_of_the_loss() -> None:
    # One weight matrix and sgd with rate 1: the step is the gradient.
    cs = simulate(3, 60, 0)
    options = still(batch_decisions=1000, learning_rate=1.0)
    before = weights_of(train(cs, None, FEATURES, still(batch_decisions=1000)))
    result = train(cs, None, FEATURES, options)
    row = result.history.iloc[0]
    assert row["gradient_norm"] == pytest.approx(np.linalg.norm(weights_of(result) - before), rel=1e-4)
    assert row["gradient_norm_max"] == pytest.approx(row["gradient_norm"], rel=1e-6)


# ----------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": {"name": "CosinDecay"}}, "expected a learning rate schedule of Keras"),
        ({"schedule": {"decay_epochs": 3}}, "expected a learning rate schedule of Keras"),
        ({"schedule": {"name": "CosineDecay", "decay_epochs": 3}, "plateau": {}}, "either a schedule or plateau"),
        ({"redraw": True}, 'redraw goes with loss="contrast_sampled"'),
        ({"plateau": {"wait": 3}}, "plateau: unknown key wait; known are patience, factor, min_learning_rate"),
        ({"plateau": {"factor": 2.0}}, r"a factor in \(0, 1\)"),
        ({"augmentation": {"copies": 2}}, "noise on a feature"),
        ({"augmentation": {"copies": 0, "additive": {"x": 1.0}}}, "copies of 1 or more"),
        ({"augmentation": {"additive": {"x": 1.0}}}, "augmentation expects copies, multiplicative, additive"),
        ({"augmentation": {"copies": 1, "additive": {"x": 0.0}}}, "a standard deviation must be above 0"),
        ({"weights": {"x >": 1.0}}, "x >"),
        ({"weights": {"all": -1.0}}, "weights must be finite and 0 or more"),
        ({"l2": -1.0}, "l2 must be 0 or more; got -1.0"),
        ({"batch_contrasts": 0}, "batch_contrasts must be 1 or more; got 0"),
    ],
)
def test_options_out_of_range_are_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


def test_options_survive_as_plain_values() -> None:
    options = small(
        plateau=Plateau(3), augmentation=Augmentation(2, {"x": 0.1}), weights={"all": 2.0}, linear_skip=("x",)
    )
    assert TrainingOptions(**options.as_mapping()) == options


# ----------------------------------------------------------------------------- choice sets of one size


def uniform(n_decisions: int, seed: int) -> ChoiceSets:
    """Five choices in every decision."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5 * n_decisions, 2))
    picked = (x @ [1.5, -0.8] + rng.gumbel(size=len(x))).reshape(-1, 5).argmax(axis=1)
    who = np.sort(rng.integers(0, 3, size=n_decisions))
    return ChoiceSets(
        pd.DataFrame({"individual": [f"animal {i}" for i in who], "decision": np.arange(n_decisions)}),
        np.arange(n_decisions + 1) * 5,
        np.tile(np.arange(5), n_decisions),
        np.arange(n_decisions) * 5 + picked,
        {"x": x[:, 0], "y": x[:, 1]},
    )


@pytest.mark.parametrize("loss", ["contrast_exact", "softmax"])
@pytest.mark.parametrize("batch_decisions", [7, 30, 1000])
def test_choice_sets_of_one_size_take_the_short_way_to_the_same_losses(
    loss: Any, batch_decisions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mimic import training
    from mimic.engine import Minibatches

    cs = uniform(67, 0)  # the last minibatch is filled up
    options = small(loss=loss, batch_decisions=batch_decisions, epochs=3)
    short = train(cs, cs, FEATURES, options)
    assert {trainer._n_choices for trainer in training._trainers.values()} >= {5}
    monkeypatch.setattr(Minibatches, "n_choices", property(lambda self: None))
    ragged = train(cs, cs, FEATURES, options)
    pd.testing.assert_frame_equal(short.history, ragged.history, rtol=1e-4)
    frozen = train(cs, None, FEATURES, still(loss=loss, batch_decisions=batch_decisions)).history.iloc[0]
    true = frozen["true_decision_loss" if loss == "softmax" else "true_contrast_loss"]
    assert frozen["loss"] == pytest.approx(true, rel=2e-6)

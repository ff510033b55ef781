"""Curves of a training: noise, slope and end by hand, and what a history is read into."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mimic.curves import Curves, drop, end, noise, read_curves, share_of_rises, smooth
from mimic.ideal import IdealLoss

IDEAL = IdealLoss(0.2, 1.5, 0.22, 1.6, float(np.log(2)), 2.9, 4, 100)


def history(train: list[float], **columns: list[float]) -> pd.DataFrame:
    n = len(train)
    return pd.DataFrame({"epoch": np.arange(1, n + 1), "loss": train, "true_contrast_loss": train, **columns})


def curves(table: pd.DataFrame, ideal: IdealLoss | None = None, **options: object) -> Curves:
    return read_curves(table, options=options, facts={}, ideal=ideal)


def test_noise_of_a_straight_line_is_zero_and_of_noise_its_standard_deviation() -> None:
    assert noise(np.linspace(1, 0, 50)) == pytest.approx(0, abs=1e-12)
    assert noise(np.array([1.0, 0.0])) == 0
    white = np.random.default_rng(0).normal(0, 0.01, 20_000)
    assert noise(white) == pytest.approx(0.01, rel=0.03)
    assert noise(white + np.linspace(100, 0, 20_000)) == pytest.approx(0.01, rel=0.03)


def test_drop_is_the_fall_of_a_line_and_ignores_a_single_spike() -> None:
    epoch = np.arange(11)
    line = 1 - 0.02 * epoch
    assert drop(epoch, line) == pytest.approx(0.2)
    line[5] = 30
    assert drop(epoch, line) == pytest.approx(0.2, rel=0.2)
    assert drop(epoch[:1], line[:1]) == 0


def test_end_rises_and_smooth_by_hand() -> None:
    curve = np.array([5.0, 1.0, 2.0, 9.0, 3.0])
    assert end(curve) == 3.0  # of 2, 9, 3
    assert share_of_rises(curve) == 0.5  # down, up, up, down
    assert smooth(curve).tolist() == [3.0, 2.0, 2.0, 3.0, 6.0]


def test_what_there_was_to_learn() -> None:
    null = np.log(2)
    assert curves(history([0.6, 0.3])).scale == pytest.approx(null - 0.3)
    assert curves(history([0.6, 0.3]), IDEAL).scale == pytest.approx(null - 0.22)
    assert curves(history([0.9, 0.3])).scale == pytest.approx(0.6)  # random weights were worse than no model
    assert curves(history([50.0, 0.3])).scale == pytest.approx(null)  # but no more than the loss of no model
    assert curves(history([0.69, 0.69])).scale == pytest.approx(0.05 * null)


def test_softmax_is_judged_by_decision_losses() -> None:
    table = history([0.6, 0.3], true_decision_loss=[2.0, 1.7], val_true_decision_loss=[2.1, 1.8])
    found = curves(table, IDEAL, loss="softmax")
    assert found.train.tolist() == [2.0, 1.7]
    assert found.judged.tolist() == [2.1, 1.8]
    assert (found.null, found.ideal) == (2.9, 1.6)
    assert np.isnan(curves(table, loss="softmax").null)


def test_epochs_that_were_not_evaluated_are_passed_over() -> None:
    table = history([0.6, 0.5, 0.4, 0.3])
    table.loc[[0, 2], "true_contrast_loss"] = np.nan
    found = curves(table, evaluate_every=2)
    assert found.epoch.tolist() == [2, 4]
    assert (found.diverged_epoch, found.last_epoch) == (None, 4)
    assert curves(table).diverged_epoch == 1  # evaluated every epoch, a missing loss is not finite


def test_epoch_of_divergence_is_the_first_loss_that_is_not_finite_and_is_left_out() -> None:
    table = history([np.nan, 0.5, 0.4, np.inf])
    table["epoch"] = np.arange(4)
    table.loc[0, "true_contrast_loss"] = 0.6  # epoch 0 is the start: it has a true loss, and no running one
    found = curves(table)
    assert found.diverged_epoch == 3
    assert found.train.tolist() == [0.6, 0.5, 0.4]


def test_gradient_norms_and_rate_are_read_where_they_are() -> None:
    table = history([0.6, 0.5, 0.4], gradient_norm=[np.nan, 1.0, 3.0], gradient_norm_max=[np.nan, 2.0, 9.0])
    found = curves(table.assign(learning_rate=[0.1, 0.1, 0.01]))
    assert (found.gradient_norm, found.gradient_norm_max, found.learning_rate) == (2.0, 9.0, 0.1)
    assert curves(table, learning_rate=0.3).learning_rate == 0.3
    assert np.isnan(curves(history([0.6])).learning_rate)


def test_empty_history_has_no_curves() -> None:
    found = curves(history([]))
    assert (len(found.train), found.last_epoch, found.validation) == (0, 0, None)

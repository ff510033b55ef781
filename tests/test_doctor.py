"""The training doctor: every verdict on a training that really went that way, none on healthy ones, and words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mimic.doctor import VERDICTS, Verdict, diagnose, explain
from mimic.ideal import IdealLoss, ideal_losses
from mimic.schema import ChoiceSets
from mimic.stay import StayFacts, measure_stay
from mimic.training import DivergenceError, TrainingOptions, train

N_CHOICES = 19


def simulate(n_individuals: int, n_decisions: int, seed: int) -> ChoiceSets:
    """Decisions among 19 choices that prefer to stay or go near, to go east, and to a middle depth."""
    rng = np.random.default_rng(seed)
    stay = np.zeros((n_decisions, N_CHOICES))
    stay[:, 0] = 1
    distance = np.where(stay == 1, 0.0, rng.uniform(20, 100, stay.shape))
    east, depth = rng.uniform(-1, 1, stay.shape) * (1 - stay), rng.normal(size=stay.shape)
    utility = -distance / 18 + 0.8 * east - 1.0 * depth**2 + rng.gumbel(size=stay.shape)
    offsets = np.arange(n_decisions + 1) * N_CHOICES
    who = np.arange(n_decisions) % n_individuals
    columns = {"distance_km": distance, "east": east, "depth": depth}
    return ChoiceSets(
        pd.DataFrame({"individual": [f"fish {i}" for i in who], "decision": np.arange(n_decisions)}),
        offsets,
        choice=np.tile(np.arange(N_CHOICES), n_decisions),
        selected=offsets[:-1] + np.argmax(utility, axis=1),
        features={name: values.ravel() for name, values in columns.items()},
    )


@dataclass(frozen=True, eq=False)
class Run:
    """What the doctor is given of one training."""

    history: pd.DataFrame
    options: Mapping[str, Any]
    ideal: IdealLoss
    stay: StayFacts | None

    def verdicts(self, **instead: Any) -> list[Verdict]:
        given = {"options": self.options, "ideal": self.ideal, "stay": self.stay, **instead}
        return diagnose(given.pop("history", self.history), **given)

    def names(self, **instead: Any) -> list[str]:
        return [verdict.name for verdict in self.verdicts(**instead)]


class Clinic:
    """Trainings, each done once."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sets = {n: (simulate(20, n, 1), simulate(10, 300, 2)) for n in (800, 100)}
        self.ideals: dict[tuple[int, tuple[str, ...]], IdealLoss] = {}

    def train(
        self, *, n: int = 800, features: tuple[str, ...] = ("distance_km", "east", "depth"), **options: Any
    ) -> Run:
        """A training on n decisions of 20 individuals; by default small, and with a rate that suits it."""
        key = repr((n, features, options))
        if key not in self.runs:
            cs_train, cs_validation = self.sets[n]
            small = {"epochs": 60, "units": (16, 16), "batch_decisions": 128, "learning_rate": 3e-3}
            chosen = TrainingOptions(**small | options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # some diverge, on purpose
                try:
                    history = train(cs_train, cs_validation, features, chosen).history
                except DivergenceError as error:
                    history = error.history
            ideal = self.ideals.setdefault((n, features), ideal_losses(cs_train, features))
            stay = measure_stay(cs_train, batch_decisions=chosen.batch_decisions)
            self.runs[key] = Run(history, asdict(chosen), ideal, stay)
        return self.runs[key]


@pytest.fixture(scope="module")
def clinic() -> Clinic:
    return Clinic()


def only(run: Run, name: str, **instead: Any) -> Verdict:
    """The one verdict of a run, which must have this name."""
    found = run.verdicts(**instead)
    assert [verdict.name for verdict in found] == [name]
    return found[0]


# ---------------------------------------------------------------- healthy runs


@pytest.mark.parametrize("seed", range(3))
def test_healthy_run_gets_no_verdict(clinic: Clinic, seed: int) -> None:
    run = clinic.train(seed=seed, epochs=150, patience=20)
    assert run.history["epoch"].max() < 150  # early stopping ended it, past its best epoch
    assert run.names() == []
    assert run.names(ideal=None, stay=None) == []


def test_healthy_softmax_without_early_stopping_gets_no_verdict(clinic: Clinic) -> None:
    run = clinic.train(loss="softmax", epochs=80)
    assert run.names() == []
    assert run.names(ideal=None, stay=None) == []


def test_healthy_run_stays_healthy_without_validation_and_with_losses_of_every_third_epoch(clinic: Clinic) -> None:
    history = clinic.train(seed=0, epochs=150, patience=20).history
    losses = [c for c in history if "true" in c]
    blind = history.drop(columns=[c for c in history if c.startswith(("val_", "gradient", "learning_rate"))])
    assert clinic.train(seed=0, epochs=150, patience=20).names(history=blind) == []
    sparse = history.copy()
    sparse.loc[(sparse["epoch"] % 3 != 0) & (sparse["epoch"] < sparse["epoch"].max()), losses] = np.nan
    run = clinic.train(seed=0, epochs=150, patience=20)
    assert run.names(history=sparse, options={**run.options, "evaluate_every": 3}) == []


def test_random_weights_worse_than_no_model_are_not_divergence(clinic: Clinic) -> None:
    run = clinic.train(seed=0, epochs=150, patience=20)
    high = run.history.copy()
    # falls from 4 nats, six times no model, in three epochs: the running loss lies above the true one
    high.loc[:2, "true_contrast_loss"], high.loc[:2, "loss"] = [4.0, 1.5, 0.6], [6.0, 2.5, 1.0]
    assert run.names(history=high) == []


# ---------------------------------------------------------------- faults


def test_rate_100_times_too_high_oscillates_and_the_advice_is_a_lower_rate(clinic: Clinic) -> None:
    run = clinic.train(learning_rate=0.3, epochs=40)
    verdict = only(run, "oscillating")
    assert verdict.since_epoch == 21
    tried = verdict.numbers["learning_rate"]
    assert 1e-4 < tried <= 0.03
    assert f"learning_rate: {tried:.2g} in place of 0.3" in verdict.advice
    # the advice helps: a run with the rate it names is healthy
    assert "oscillating" not in clinic.train(learning_rate=tried, epochs=40).names()


def test_rate_1000_times_too_high_diverges_with_finite_losses(clinic: Clinic) -> None:
    run = clinic.train(learning_rate=3.0, epochs=40)
    assert np.isfinite(run.history["true_contrast_loss"]).all()
    verdict = only(run, "diverging")
    highest = run.history["true_contrast_loss"].max()
    assert verdict.numbers["highest"] == highest > 2
    assert verdict.numbers["learning_rate"] == pytest.approx(0.3)
    assert "times that of no model" in verdict.evidence


@pytest.mark.parametrize("rate", [8.0, 4.0])
def test_loss_that_stops_being_finite_diverges(clinic: Clinic, rate: float) -> None:
    run = clinic.train(learning_rate=rate, optimizer="sgd", epochs=30)
    last = run.history.iloc[-1]
    assert not np.isfinite(last["true_contrast_loss"])
    verdict = only(run, "diverging")
    assert verdict.since_epoch == last["epoch"]
    assert f"the loss of epoch {last['epoch']:.0f} is not finite" in verdict.evidence
    assert verdict.numbers["learning_rate"] == pytest.approx(rate / 10)


def test_divergence_is_taken_from_the_facts_too() -> None:
    history = pd.DataFrame({"epoch": [], "loss": [], "true_contrast_loss": []})
    verdict = diagnose(history, facts={"diverged_epoch": 1})[0]
    assert (verdict.name, verdict.since_epoch) == ("diverging", 1)
    assert "learning_rate divided by 10" in verdict.advice


def test_rate_1000_times_too_low_plateaus_far_from_the_ideal(clinic: Clinic) -> None:
    run = clinic.train(learning_rate=1e-6)
    verdict = only(run, "plateaued")
    assert verdict.numbers["learning_rate"] >= 1e-5
    assert f"the ideal of these features is {run.ideal.contrast_unseen:.4f}" in verdict.evidence
    # without an ideal nothing says that more is to be had than what a falling curve shows
    assert run.names(ideal=None) == ["still_learning"]


def test_five_epochs_at_a_small_rate_are_still_learning(clinic: Clinic) -> None:
    run = clinic.train(epochs=5, learning_rate=3e-4)
    verdict = only(run, "still_learning")
    assert verdict.numbers["learning_rate"] >= 9e-4
    assert "in place of 5" in verdict.advice
    assert verdict.numbers["end"] == run.history["val_true_contrast_loss"].iloc[-1]
    # early stopping, which ends a run before its last epoch, has seen the end of learning
    assert run.names(options={**run.options, "epochs": 6}) == []


def test_big_network_on_a_tiny_set_overfits_since_the_lowest_validation_loss(clinic: Clinic) -> None:
    run = clinic.train(n=100, units=(64, 64), epochs=60, batch_decisions=64, learning_rate=1e-3)
    verdict = next(v for v in run.verdicts(stay=None) if v.name == "overfitting")
    losses = run.history.set_index("epoch")["val_true_contrast_loss"]
    assert abs(verdict.since_epoch - losses.idxmin()) <= 2
    assert verdict.numbers["cost"] == pytest.approx(losses.iloc[-1] - losses.min(), rel=0.1)
    assert "units: [32, 32] in place of [64, 64]" in verdict.advice
    # stopped soon after its best epoch, as it would be by design, it is not overfitting
    patient = run.history[run.history["epoch"] <= verdict.since_epoch + 8]
    assert run.names(history=patient, stay=None) == []


def test_missing_hidden_layer_underfits_where_the_ideal_is_known(clinic: Clinic) -> None:
    run = clinic.train(units=(), features=("depth",), learning_rate=1e-2)
    verdict = only(run, "underfitting")
    assert "units: [16, 16] in place of []" in verdict.advice
    assert verdict.numbers["above"] == pytest.approx(
        np.median(run.history["true_contrast_loss"][-3:]) - run.ideal.contrast_unseen
    )
    assert run.names(ideal=None) == []
    # with the hidden layers that the advice names it is healthy
    assert clinic.train(units=(16, 16), features=("depth",), learning_rate=1e-2, patience=20).names() == []


@pytest.mark.parametrize("batch", [50, 16])
def test_small_batches_are_told_with_the_batch_that_is_large_enough(clinic: Clinic, batch: int) -> None:
    run = clinic.train(batch_decisions=batch, learning_rate=1e-3, epochs=60)
    verdict = only(run, "batch_too_small")
    assert run.stay is not None
    assert verdict.numbers["error"] == run.stay.error > 0.05
    enough = measure_stay(clinic.sets[800][0], batch_decisions=int(verdict.numbers["batch_decisions"]))
    assert enough is not None
    assert enough.error == pytest.approx(0.01, rel=0.01)
    assert run.names(stay=None) == []


def test_dropout_makes_the_running_loss_mislead(clinic: Clinic) -> None:
    run = clinic.train(dropout=0.5)
    verdict = next(v for v in run.verdicts() if v.name == "running_loss_misleads")
    tail = run.history.iloc[-15:]
    assert verdict.numbers["gap"] == pytest.approx((tail["loss"] - tail["true_contrast_loss"]).median())
    assert "(dropout acts on it)" in verdict.evidence
    assert "dropout: 0.17" in verdict.advice


# ---------------------------------------------------------------- by hand


def curve(train: np.ndarray, validation: np.ndarray | None = None) -> pd.DataFrame:
    """A history of these true contrast losses, with a running loss that tells the truth."""
    history = pd.DataFrame({"epoch": np.arange(1, len(train) + 1), "loss": train, "true_contrast_loss": train})
    return history if validation is None else history.assign(val_true_contrast_loss=validation)


def test_falling_curve_is_never_oscillating_however_steep() -> None:
    epoch = np.arange(40)
    assert diagnose(curve(0.2 + 0.5 * np.exp(-epoch / 3)), options={"epochs": 40}) == []
    assert "oscillating" not in [v.name for v in diagnose(curve(0.2 + 2.0 * 0.5 ** epoch[:7]))]


def test_training_loss_that_rises_for_good_is_diverging_since_its_minimum() -> None:
    train = np.concatenate([np.linspace(0.6, 0.3, 10), np.linspace(0.32, 0.5, 10)])
    verdict = diagnose(curve(train))[0]
    assert (verdict.name, verdict.since_epoch) == ("diverging", 10)
    # the end is the median of .46, .48 and .5
    assert verdict.numbers["rise"] == pytest.approx(0.18)


def test_cost_of_overfitting_is_the_rise_of_the_validation_loss() -> None:
    epoch = np.arange(1, 41)
    validation = np.where(epoch <= 20, 0.7 - 0.02 * epoch, 0.3 + 0.002 * (epoch - 20))
    verdict = diagnose(curve(0.7 - 0.01 * epoch, validation), options={"epochs": 100, "patience": 30})[0]
    assert (verdict.name, verdict.since_epoch) == ("overfitting", 20)
    # from about .30 to the median of .336, .338 and .340
    assert verdict.numbers["cost"] == pytest.approx(0.038, abs=0.003)
    assert verdict.numbers["patience"] == 10


def test_loss_at_rest_no_better_than_no_model_is_dead_units() -> None:
    train = np.concatenate([[0.9, 0.75], np.full(20, np.log(2))])
    options = {"units": (16,), "learning_rate": 1.0, "epochs": 22}
    verdict = diagnose(curve(train), options=options)[0]
    assert (verdict.name, verdict.since_epoch) == ("plateaued", 3)
    assert "learning_rate: 0.1 in place of 1" in verdict.advice
    assert "tanh" in verdict.advice
    assert diagnose(curve(train), options={**options, "units": ()}) == []  # a line has no units that can die


def test_gradient_norms_are_evidence_where_the_history_has_them() -> None:
    history = curve(np.concatenate([np.linspace(0.6, 0.3, 10), np.full(9, 9.0)]))
    plain = diagnose(history)[0]
    with_norms = diagnose(history.assign(gradient_norm=0.5, gradient_norm_max=np.linspace(1, 40, 19)))[0]
    assert "gradient" not in plain.evidence + plain.advice
    assert "usually 0.5 and at most 40" in with_norms.evidence
    assert "gradient_clip_norm: 0.5" in with_norms.advice


def test_epoch_zero_has_no_running_loss_and_that_is_no_divergence() -> None:
    train = np.concatenate([[0.25], np.full(20, 0.24)])
    history = curve(train).assign(epoch=np.arange(21))
    history.loc[0, "loss"] = np.nan
    assert diagnose(history) == []


def test_verdicts_come_in_order_and_are_explained_with_evidence_and_advice(clinic: Clinic) -> None:
    run = clinic.train(learning_rate=0.3, epochs=40, batch_decisions=16, dropout=0.5)
    found = run.verdicts()
    names = [verdict.name for verdict in found]
    assert len(names) >= 2
    assert names == sorted(names, key=VERDICTS.index)
    text = explain(found)
    for verdict in found:
        assert f"{verdict.name.replace('_', ' ')}" in text
        assert verdict.evidence in text
        assert f"try: {verdict.advice}" in text
    assert "healthy" in explain([])


def test_missing_loss_column_is_named() -> None:
    with pytest.raises(ValueError, match="history: expected the column true_decision_loss; got epoch, loss"):
        diagnose(curve(np.ones(3)), options={"loss": "softmax"})

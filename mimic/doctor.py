"""The history of a training into verdicts: what is wrong with it, the evidence in numbers, and what to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mimic.curves import Curves, drop, end, noise, read_curves, share_of_rises, smooth
from mimic.ideal import IdealLoss
from mimic.stay import StayFacts, measure_stay

__all__ = ["VERDICTS", "StayFacts", "Verdict", "diagnose", "explain", "measure_stay"]

VERDICTS = (
    *("diverging", "oscillating", "plateaued", "still_learning"),
    *("overfitting", "underfitting", "batch_too_small", "running_loss_misleads"),
)

# Shares of what there was to learn, `Curves.scale`, where nothing else is said. How often each verdict was given to
# healthy trainings and to faulty ones is measured by benchmarks/doctor.py.
_BLOW_UP, _SURE_BLOW_UP = 3.0, 10.0  # times the loss of no model; the first where the loss has risen to it
_WILD = 100.0  # the same of the running loss, which penalties and dropout raise
_RISE_OF_TRAINING = 0.10
_NOISE = 0.0007  # of the training loss from epoch to epoch, a share of the loss of no model
_RISES = 0.15  # of the steps; a curve that falls smoothly has none, however steep
_STILL_FALLING = 0.02  # over the last quarter of the epochs
_FAR_FROM_IDEAL = 0.20
_RISE_OF_VALIDATION = 0.02
_ABOVE_IDEAL = 0.01
_RUNNING_GAP = 0.05
_STAY_ERROR = 0.05  # a probability
_STEPS = np.array([3.0, 10.0, 30.0, 100.0, 300.0, 1000.0])  # factors to change a learning rate by
_FEWEST_EPOCHS = 5
_NO_BETTER = 0.003  # of the loss of no model, or ten times this of what the ideal gains: as if without features
_AS_FAST = 0.5  # times the usual fall: not slowing down
_MARGIN = 3.0  # times the noise by which a curve must move


@dataclass(frozen=True)
class Verdict:
    """One fault of a training run.

    Parameters
    ----------
    name
        One of `VERDICTS`.
    evidence
        What the curves show, in numbers.
    advice
        What to change, to which value, and why.
    since_epoch
        The epoch from which on it shows, or None.
    numbers
        The numbers of the evidence and of the advice by name; losses in nats.
    """

    name: str
    evidence: str
    advice: str
    since_epoch: int | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


def diagnose(
    history: pd.DataFrame,
    *,
    options: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    ideal: IdealLoss | None = None,
    stay: StayFacts | None = None,
) -> list[Verdict]:
    """What is wrong with a training run, in the order of `VERDICTS`; empty for a healthy one.

    Parameters
    ----------
    history
        One row an epoch, as `mimic.training.train` gives it. It needs `epoch`, `loss` and the true training loss
        of the kind that was trained on (contrast, or decision for the softmax); all else is used where it is there.
    options
        Of the training, by name: `loss`, `epochs`, `learning_rate`, `units`, `dropout`, ...; missing ones are
        taken as unknown.
    facts
        Of the run, by name: `diverged_epoch` where it ended with a loss that is not finite.
    ideal
        Of the training decisions. Without it there is no "underfitting", and "plateaued" is told only of runs that
        end no better than no model.
    stay
        For "batch_too_small", see `mimic.stay.measure_stay`.

    Raises
    ------
    ValueError
        If the history lacks a column that is needed.

    Notes
    -----
    Losses are judged relative to what there was to learn: the loss of no model (ln 2 for contrasts) or of the first
    epoch, whichever is higher, less the lowest known, reached or ideal, see `mimic.curves.Curves.scale`. Noise is the robust spread (1.48 x the median
    absolute value) of second differences, of which a smooth curve has none.

    - diverging: a loss was not finite, or risen to 3 times that of no model, or the training loss ends 10 % above its minimum.
    - oscillating: over the second half of the run the true training loss has a noise of 0.07 % of the loss of no
      model, and 15 % of its steps go up.
    - plateaued: 20 % above the ideal, and falling steadily but by less than 2 % over the last quarter; or at rest with
      hidden units that are no better than no model.
    - still_learning: all epochs were run, and over the last quarter the validation loss falls by 2 %, or as fast as
      ever.
    - overfitting: the validation loss ends 2 % above its minimum while the training loss falls. A run that early
      stopping ended soon after its best epoch is not overfitting: it stopped by design.
    - underfitting: the training loss has stopped 1 % above what a table of feature bins has on unseen individuals.
    - batch_too_small: between minibatches the stay probability has a standard deviation of 5 percentage points. It is
      told from the decisions and the batch alone; how much of it stays in the weights depends on the learning rate.
    - running_loss_misleads: the running loss lies 5 % off the true loss, beyond what the weights moved in an epoch.

    A run that diverges or oscillates is not judged on where it has arrived.
    """
    options, facts = dict(options or {}), dict(facts or {})
    run = read_curves(history, options=options, facts=facts, ideal=ideal)
    found = [_diverging(run)]
    if found[0] is None and len(run.train) >= 3:
        found += [_oscillating(run)]
        found += _arrival(run, options) if found[-1] is None else []
    found += [None if stay is None else _batch_too_small(stay)]
    if found[0] is None:
        found += [_running_loss_misleads(run, options)]
    return sorted([v for v in found if v is not None], key=lambda verdict: VERDICTS.index(verdict.name))


def explain(verdicts: Sequence[Verdict]) -> str:
    """Verdicts as text: for each what it is, the evidence, and what to try."""
    if not verdicts:
        return "healthy: nothing in the curves of this run asks for a change."
    parts = []
    for verdict in verdicts:
        since = "" if verdict.since_epoch is None else f" since epoch {verdict.since_epoch}"
        parts.append(f"{verdict.name.replace('_', ' ')}{since}: {verdict.evidence}\n  try: {verdict.advice}")
    return "\n".join(parts)


# ---------------------------------------------------------------- the verdicts


def _diverging(run: Curves) -> Verdict | None:
    told: list[str] = []
    since, numbers = run.diverged_epoch, {}
    if since is not None:
        told.append(f"the loss of epoch {since} is not finite")
    if len(run.train):
        top, last = float(run.train.max()), end(run.train)
        lowest = int(run.train.argmin())
        rise = last - float(run.train[lowest])
        if top > _SURE_BLOW_UP * run.null or (top > _BLOW_UP * run.null and _has_risen(run)):
            since = int(run.epoch[run.train.argmax()]) if since is None else since
            told.append(f"the true training loss reached {top:.3g} nats, {top / run.null:.2g} times that of no model")
            numbers["highest"] = top
        wildest = int(np.nanargmax(run.running)) if np.isfinite(run.running).any() else 0
        if run.running[wildest] > _WILD * run.null:
            since = int(run.epoch[wildest]) if since is None else since
            told.append(f"the running loss of epoch {run.epoch[wildest]} was {run.running[wildest]:.3g} nats")
            numbers["highest_running"] = float(run.running[wildest])
        if lowest < len(run.train) - 3 and rise > _RISE_OF_TRAINING * run.scale:
            since = int(run.epoch[lowest]) if since is None else since
            told.append(f"the true training loss rose from {run.train[lowest]:.4f} to {last:.4f} nats")
            numbers["rise"] = rise
    if not told:
        return None
    rate, change = _rate(run, 0.1)
    clip = ""
    if np.isfinite(run.gradient_norm) and np.isfinite(run.gradient_norm_max):
        told.append(f"gradient norms are usually {run.gradient_norm:.2g} and at most {run.gradient_norm_max:.2g}")
        clip = f", with gradient_clip_norm: {min(run.gradient_norm, 1.0):.1g}"
    return Verdict(
        "diverging",
        "; ".join(told) + ".",
        f"{change}{clip}: steps this long leap over the minimum. Look for extreme values in the features too.",
        since,
        {**numbers, "learning_rate": rate},
    )


def _has_risen(run: Curves) -> bool:
    """Whether the training loss has risen to its maximum, within that epoch or from an earlier one.

    Random weights can be far worse than no model; from them the loss falls.
    """
    top = int(run.train.argmax())
    return bool(run.running[top] < run.train[top] or run.train[:top].min(initial=np.inf) < 0.5 * run.train[top])


def _oscillating(run: Curves) -> Verdict | None:
    half = run.train[len(run.train) // 2 :] if len(run.train) >= 2 * _FEWEST_EPOCHS else run.train[1:]
    jump, null = noise(half), run.train[0] if np.isnan(run.null) else run.null
    share = jump / null
    if len(half) < _FEWEST_EPOCHS or share <= _NOISE or share_of_rises(half) < _RISES:
        return None
    factor = _step(_MARGIN * share / _NOISE)
    rate, change = _rate(run, 1 / factor)
    return Verdict(
        "oscillating",
        f"over the last {len(half)} evaluated epochs the true training loss jumps by {jump:.2g} nats from one to the "
        f"next, {_percent(share)} of the {null:.3f} nats of no model; healthy runs stay below {_percent(_NOISE)}.",
        f"{change}: the jumps shrink with the rate. A schedule that lowers it towards the end does the same.",
        int(run.epoch[-len(half)]),
        {"jump": jump, "share": share, "factor": factor, "learning_rate": rate},
    )


def _arrival(run: Curves, options: Mapping[str, Any]) -> list[Verdict | None]:
    """Where a run has come to whose curve is smooth."""
    slow = _plateaued(run, options) or _still_learning(run, options)
    overfitting = _overfitting(run, options)
    return [slow, overfitting, None if slow or overfitting else _underfitting(run, options)]


def _plateaued(run: Curves, options: Mapping[str, Any]) -> Verdict | None:
    tail = slice(-run.window, None)
    fall, last = drop(run.epoch[tail], run.train[tail]), end(run.train)
    no_better = run.null - _NO_BETTER * (run.null if np.isnan(run.ideal) else 10 * (run.null - run.ideal))
    # without an ideal only what is no better than no model is known to be far from it
    target = no_better if np.isnan(run.ideal) else run.ideal + _FAR_FROM_IDEAL * run.scale
    if len(run.train) < _FEWEST_EPOCHS or fall >= _STILL_FALLING * run.scale or not last > target:
        return None
    gained, left = float(run.train[0]) - last, last - run.ideal
    is_steady = _is_steady(run, run.train)
    is_dead = last > no_better and len(options.get("units", "?")) > 0
    if not (is_steady or is_dead):
        return None  # it has learned what it can, which may be too little: underfitting
    factor = 0.1 if not is_steady else 10.0 if np.isnan(left) else _step(left / max(gained, left / 1000))
    rate, change = _rate(run, factor)
    why = (
        f"the loss does fall steadily, but by only {gained:.2g} nats in {run.last_epoch} epochs"
        if is_steady
        else "too long a step early on leaves units that are zero for all choices; another activation, such as tanh or "
        "elu, does not have such units"
    )
    goal = f"no model has {run.null:.4f}" if np.isnan(left) else f"the ideal of these features is {run.ideal:.4f}"
    return Verdict(
        "plateaued",
        f"the true training loss rests at {last:.4f} nats, and {goal}; over the last {run.window} evaluated epochs it "
        f"fell by {fall:.2g}.",
        f"{change}: {why}.",
        _flat_since(run, last),
        {"end": last, "left": left, "fall": fall, "factor": factor, "learning_rate": rate},
    )


def _is_steady(run: Curves, curve: np.ndarray) -> bool:
    """Whether a curve falls over the last quarter about as fast as before."""
    fall = drop(run.epoch[-run.window :], curve[-run.window :])
    usual = (curve[0] - end(curve)) * (run.window - 1) / max(len(curve) - 1, 1)
    return fall > _MARGIN * noise(curve[-run.window :]) and fall > _AS_FAST * usual


def _flat_since(run: Curves, last: float) -> int:
    """The first epoch from which on the training loss stays near its end."""
    away = np.flatnonzero(np.abs(run.train - last) > _STILL_FALLING * run.scale)
    return int(run.epoch[away[-1] + 1]) if len(away) and away[-1] + 1 < len(run.epoch) else int(run.epoch[0])


def _still_learning(run: Curves, options: Mapping[str, Any]) -> Verdict | None:
    curve, tail = run.judged, slice(-run.window, None)
    if options.get("epochs") is not None and run.last_epoch < options["epochs"]:
        return None  # early stopping has seen the end of it
    fall = drop(run.epoch[tail], curve[tail])
    is_fast = fall >= _STILL_FALLING * run.scale and fall > _MARGIN * noise(curve[tail])
    is_steady = fall > _NOISE * run.train[0] and _is_steady(run, curve)
    if not (is_fast or is_steady) or curve.argmin() < len(curve) - run.window:
        return None
    n_epochs = int(run.epoch[-1] - run.epoch[-run.window])
    as_far_again = fall / max(n_epochs, 1) * run.last_epoch  # at the present speed
    left = float(curve[-1]) - run.ideal
    factor = _step(left / as_far_again) if left > _MARGIN * as_far_again else 3.0
    rate, change = _rate(run, factor)
    which = "training" if run.validation is None else "validation"
    return Verdict(
        "still_learning",
        f"the true {which} loss still falls: by {fall:.2g} nats over the last {n_epochs} epochs, "
        f"{_percent(fall / run.scale)} of the {run.scale:.3f} nats there are to learn, to {curve[-1]:.4f}.",
        f"{change}, or epochs: {int(factor * run.last_epoch)} in place of {run.last_epoch}: with steps {factor:g} times "
        "as long, as many epochs get that much further.",
        None,
        {"fall": fall, "end": float(curve[-1]), "epochs": factor * run.last_epoch, "learning_rate": rate},
    )


def _overfitting(run: Curves, options: Mapping[str, Any]) -> Verdict | None:
    if run.validation is None or len(run.validation) < _FEWEST_EPOCHS:
        return None
    course = smooth(run.validation)
    best = int(course.argmin())
    last, lowest = end(run.validation), float(course[best])
    cost, gained = last - lowest, float(run.train[best]) - end(run.train)
    is_rising = cost > _RISE_OF_VALIDATION * run.scale and cost > _MARGIN * noise(run.validation[best:])
    if best >= len(course) - 3 or not is_rising or gained <= 0:
        return None
    since = int(run.epoch[best])
    patience = max(_FEWEST_EPOCHS, since // 2)
    return Verdict(
        "overfitting",
        f"the true validation loss rose by {cost:.4f} nats to {last:.4f}, "
        f"{_percent(cost / run.scale)} of what there was to learn, while the training loss fell by {gained:.4f} to "
        f"{end(run.train):.4f}.",
        f"patience: {patience}, which stops soon after epoch {since}; the weights of the last epoch cost {cost:.3f} nats. "
        f"To lower the minimum itself: {_stiffer(options)}.",
        since,
        {"cost": cost, "gained": gained, "lowest": lowest, "patience": patience},
    )


def _stiffer(options: Mapping[str, Any]) -> str:
    """What makes a network that overfits smaller or less pliable."""
    units = [int(n) for n in options.get("units") or ()]
    fewer = [f"units: {[max(1, n // 2) for n in units]} in place of {units}"] if units else []
    dropout, l2 = float(options.get("dropout") or 0.0), float(options.get("l2") or 0.0)
    more = f"dropout: {min(0.5, dropout + 0.1):.2g} in place of {dropout:.2g}"
    return ", or ".join([*fewer, more, f"l2: {10 * l2 if l2 else 1e-4:g}"])


def _underfitting(run: Curves, options: Mapping[str, Any]) -> Verdict | None:
    last = end(run.train)
    above = last - run.ideal  # NaN without an ideal
    fall = drop(run.epoch[-run.window :], run.train[-run.window :])
    if not above > _ABOVE_IDEAL * run.scale or fall >= _STILL_FALLING * run.scale:
        return None
    units = [int(n) for n in options.get("units") or ()]
    more = [2 * n for n in units] if units else [16, 16]
    soften = "".join(f", or {name}: 0 in place of {options[name]}" for name in ("dropout", "l2") if options.get(name))
    return Verdict(
        "underfitting",
        f"the true training loss has come to rest at {last:.4f} nats, {above:.4f} above the {run.ideal:.4f} that "
        "log-odds looked up in a table of these features have on individuals the table was not fitted to.",
        f"units: {more} in place of {units}{soften}: the model is too stiff for what even a table learns.",
        None,
        {"end": last, "ideal": run.ideal, "above": above},
    )


def _batch_too_small(stay: StayFacts) -> Verdict | None:
    if not stay.error > _STAY_ERROR:
        return None
    return Verdict(
        "batch_too_small",
        f"between minibatches of {stay.batch_decisions} decisions the share of contrasts that select to stay, "
        f"{stay.contrast_share:.3f}, has a standard deviation of {stay.contrast_share_sd:.4f}: one minibatch "
        f"sees the stay probability, {100 * stay.probability:.1f} %, with an error of {100 * stay.error:.1f} percentage "
        "points.",
        f"batch_decisions: {stay.decisions_for_one_point}, where that is 1 percentage point. Or let the learning rate "
        "fall to a tenth towards the end: a slower walk averages over more minibatches.",
        None,
        {
            "error": stay.error,
            "contrast_share_sd": stay.contrast_share_sd,
            "batch_decisions": float(stay.decisions_for_one_point),
        },
    )


def _running_loss_misleads(run: Curves, options: Mapping[str, Any]) -> Verdict | None:
    gap = (run.running - run.train)[1:]
    excess = np.abs(gap) - np.abs(np.diff(run.train))  # the mean runs while the weights move: that much is no fault
    if len(gap) == 0 or not np.median(excess[-run.window :]) > _RUNNING_GAP * run.scale:
        return None
    typical = float(np.median(gap[-run.window :]))
    causes = [name for name in ("dropout", "l2", "augmentation", "weights") if options.get(name)]
    told = f" ({' and '.join(causes)} {'act' if len(causes) > 1 else 'acts'} on it)" if causes else ""
    dropout = f" dropout: {float(options['dropout']) / 3:.2g} brings them closer." if "dropout" in causes else ""
    return Verdict(
        "running_loss_misleads",
        f"at the end the running loss lies {abs(typical):.4f} nats {'above' if typical > 0 else 'below'} the true loss "
        f"of the same decisions, {_percent(abs(typical) / run.scale)} of what there was to learn{told}.",
        f"judge and compare this run by its true losses, never by its running loss.{dropout}",
        None,
        {"gap": typical},
    )


# ---------------------------------------------------------------- words


def _rate(run: Curves, factor: float) -> tuple[float, str]:
    """The learning rate times a factor, as a number (NaN where the rate is unknown) and in words."""
    if np.isnan(run.learning_rate):
        return np.nan, f"learning_rate {'times' if factor > 1 else 'divided by'} {max(factor, 1 / factor):g}"
    rate = run.learning_rate * factor
    return rate, f"learning_rate: {rate:.2g} in place of {run.learning_rate:.2g}"


def _step(factor: float) -> float:
    """The one of 3, 10, 30, ... 1000 that is nearest in ratio."""
    return float(_STEPS[np.argmin(np.abs(np.log(_STEPS / factor)))])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"

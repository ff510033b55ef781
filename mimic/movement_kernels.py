"""Step lengths and turns into the distributions of step-selection analysis: fitted, sampled, written in natural terms.

Parameters of step lengths are in the unit of the lengths that were given (km, m); turns are radians.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
from scipy import optimize, special

from mimic.schema import examples

__all__ = [
    "ExponentialSteps",
    "GammaSteps",
    "HalfNormalSteps",
    "Kernel",
    "LognormalSteps",
    "VonMisesTurns",
    "check_steps",
    "check_turns",
]

_LARGEST_KAPPA = 1e6


class Kernel(ABC):
    """A distribution of step lengths or turns whose log-density is linear in a few terms of them.

    ln f(x) = sum_t eta_t t(x) + constant, with the terms t `step` (l), `log_step` (ln l), `step_squared` (l^2),
    `log_step_squared` ((ln l)^2), `cos_turn` and `sin_turn`.
    """

    @abstractmethod
    def natural(self) -> dict[str, float]:
        """The eta of every term that the family has."""

    @abstractmethod
    def logpdf(self, x: np.ndarray) -> np.ndarray:
        """Log-density of each step length or turn: (step,) -> (step,), nats."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Independent draws: (n,)."""

    @property
    @abstractmethod
    def mean(self) -> float:
        """Mean of the distribution; of turns, the mean direction (NaN if there is none)."""

    @abstractmethod
    def gradients(self) -> dict[str, dict[str, float]]:
        """Parameter (and "mean" of a step length) -> term -> derivative of the one by the eta of the other."""

    @classmethod
    @abstractmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        """The distribution with an eta for every term of the family.

        Raises ValueError if it would be improper, with the parameter that makes it so and what that means.
        """

    @property
    def parameters(self) -> dict[str, float]:
        """Name -> value."""
        return asdict(self)  # type: ignore[call-overload]


@dataclass(frozen=True)
class GammaSteps(Kernel):
    """Gamma: f(l) proportional to l^(shape - 1) exp(-rate l)."""

    shape: float
    rate: float

    def __post_init__(self) -> None:
        _require_positive(self)

    @classmethod
    def fit(cls, lengths: np.ndarray) -> Self:
        """The most likely gamma of positive lengths (step,).

        Raises ValueError if lengths are zero, negative or not finite, or all the same.

        Notes
        -----
        The shape a solves ln a - digamma(a) = ln(mean l) - mean(ln l); the rate is a / mean l.
        """
        lengths = check_steps(lengths, logarithm=True)
        gap = float(np.log(lengths.mean()) - np.log(lengths).mean())
        if gap <= 1e-12:
            raise ValueError("step lengths must differ to fit a gamma distribution; all are the same.")
        # bounds: 1 / (2 a) < ln a - digamma(a) < 1 / a
        shape = optimize.brentq(lambda a: np.log(a) - special.digamma(a) - gap, 0.49 / gap, 1.01 / gap, xtol=1e-14)
        return cls(float(shape), float(shape / lengths.mean()))

    @classmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        _require("shape", 1 + eta["log_step"], _SHORT)
        _require("rate", -eta["step"], _LONG)
        return cls(1 + eta["log_step"], -eta["step"])

    def natural(self) -> dict[str, float]:
        return {"step": -self.rate, "log_step": self.shape - 1}

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        a, b = self.shape, self.rate
        return np.asarray(a * np.log(b) - special.gammaln(a) + special.xlogy(a - 1, x) - b * np.asarray(x))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.gamma(self.shape, 1 / self.rate, n)

    @property
    def mean(self) -> float:
        return self.shape / self.rate

    def gradients(self) -> dict[str, dict[str, float]]:
        mean = {"log_step": 1 / self.rate, "step": self.shape / self.rate**2}
        return {"shape": {"log_step": 1.0}, "rate": {"step": -1.0}, "mean": mean}


@dataclass(frozen=True)
class ExponentialSteps(Kernel):
    """Exponential: f(l) = rate exp(-rate l), the gamma of shape 1."""

    rate: float

    def __post_init__(self) -> None:
        _require_positive(self)

    @classmethod
    def fit(cls, lengths: np.ndarray) -> Self:
        """The most likely exponential of lengths (step,), 1 / mean. ValueError as `check_steps`, or if all are 0."""
        return cls(1 / _positive_mean(check_steps(lengths)))

    @classmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        _require("rate", -eta["step"], _LONG)
        return cls(-eta["step"])

    def natural(self) -> dict[str, float]:
        return {"step": -self.rate}

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return np.log(self.rate) - self.rate * np.asarray(x, dtype=np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.exponential(1 / self.rate, n)

    @property
    def mean(self) -> float:
        return 1 / self.rate

    def gradients(self) -> dict[str, dict[str, float]]:
        return {"rate": {"step": -1.0}, "mean": {"step": 1 / self.rate**2}}


@dataclass(frozen=True)
class HalfNormalSteps(Kernel):
    """Half-normal: f(l) proportional to exp(-l^2 / (2 sd^2)), `sd` that of the whole normal."""

    sd: float

    def __post_init__(self) -> None:
        _require_positive(self)

    @classmethod
    def fit(cls, lengths: np.ndarray) -> Self:
        """The most likely half-normal of lengths (step,): sd^2 = mean l^2. ValueError as `ExponentialSteps.fit`."""
        return cls(float(np.sqrt(_positive_mean(check_steps(lengths) ** 2))))

    @classmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        _require("-1 / (2 sd^2)", eta["step_squared"], _LONG, positive=False)
        return cls((-2 * eta["step_squared"]) ** -0.5)

    def natural(self) -> dict[str, float]:
        return {"step_squared": -0.5 / self.sd**2}

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return 0.5 * np.log(2 / np.pi) - np.log(self.sd) - 0.5 * (np.asarray(x) / self.sd) ** 2

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return np.abs(rng.normal(0.0, self.sd, n))

    @property
    def mean(self) -> float:
        return float(self.sd * np.sqrt(2 / np.pi))

    def gradients(self) -> dict[str, dict[str, float]]:
        return {"sd": {"step_squared": self.sd**3}, "mean": {"step_squared": self.sd**2 * self.mean}}


@dataclass(frozen=True)
class LognormalSteps(Kernel):
    """Lognormal: ln l is normal with mean `log_mean` and standard deviation `log_sd`."""

    log_mean: float
    log_sd: float

    def __post_init__(self) -> None:
        _require_positive(self, "log_sd")

    @classmethod
    def fit(cls, lengths: np.ndarray) -> Self:
        """The most likely lognormal of positive lengths (step,). ValueError as `GammaSteps.fit`."""
        logs = np.log(check_steps(lengths, logarithm=True))
        if logs.std() <= 1e-12 * max(1.0, abs(logs[0])):
            raise ValueError("step lengths must differ to fit a lognormal distribution; all are the same.")
        return cls(float(logs.mean()), float(logs.std()))

    @classmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        _require("-1 / (2 log_sd^2)", eta["log_step_squared"], _BOTH, positive=False)
        variance = -0.5 / eta["log_step_squared"]
        return cls((1 + eta["log_step"]) * variance, variance**0.5)

    def natural(self) -> dict[str, float]:
        variance = self.log_sd**2
        return {"log_step": self.log_mean / variance - 1, "log_step_squared": -0.5 / variance}

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        z = (np.log(x) - self.log_mean) / self.log_sd
        return -np.log(x) - np.log(self.log_sd) - 0.5 * np.log(2 * np.pi) - 0.5 * z**2

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.lognormal(self.log_mean, self.log_sd, n)

    @property
    def mean(self) -> float:
        return float(np.exp(self.log_mean + self.log_sd**2 / 2))

    def gradients(self) -> dict[str, dict[str, float]]:
        s = self.log_sd
        log_mean = {"log_step": s**2, "log_step_squared": 2 * self.log_mean * s**2}
        mean = {t: self.mean * v for t, v in log_mean.items()}
        mean["log_step_squared"] += self.mean * s**4
        return {"log_mean": log_mean, "log_sd": {"log_step_squared": s**3}, "mean": mean}


@dataclass(frozen=True)
class VonMisesTurns(Kernel):
    """Von Mises: f(turn) proportional to exp(kappa cos(turn - mean_rad)).

    With kappa 0 all turns are equally likely; a mean of pi is turning back.
    """

    kappa: float
    mean_rad: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.kappa < np.inf:
            raise ValueError(f"kappa must be finite and at least 0; got {self.kappa:g}. Turning back is mean_rad = pi.")
        check_turns(np.array([self.mean_rad]))

    @classmethod
    def fit(cls, turns: np.ndarray) -> Self:
        """The most likely von Mises of turns (turn,), radians, whose mean is 0 or, where most turn back, pi.

        Raises ValueError if turns are not finite, lie outside [-pi, pi], or are all the same.

        Notes
        -----
        I_1(kappa) / I_0(kappa) = |mean cos(turn)|.
        """
        mean_cos = float(np.cos(check_turns(turns)).mean())
        excess = _mean_cosine(_LARGEST_KAPPA) - abs(mean_cos)
        if excess <= 0:
            raise ValueError("turns must differ to fit a von Mises distribution; all go straight on, or straight back.")
        kappa = optimize.brentq(lambda k: _mean_cosine(k) - abs(mean_cos), 0.0, _LARGEST_KAPPA, xtol=1e-14)
        return cls(float(kappa), 0.0 if mean_cos >= 0 else float(np.pi))

    @classmethod
    def from_natural(cls, eta: Mapping[str, float]) -> Self:
        return cls(
            float(np.hypot(eta["cos_turn"], eta["sin_turn"])), float(np.arctan2(eta["sin_turn"], eta["cos_turn"]))
        )

    def natural(self) -> dict[str, float]:
        # the sine of the float nearest to pi is not quite 0
        sine = 0.0 if abs(self.mean_rad) in (0.0, np.pi) else np.sin(self.mean_rad)
        return {"cos_turn": float(self.kappa * np.cos(self.mean_rad)), "sin_turn": float(self.kappa * sine)}

    def logpdf(self, x: np.ndarray) -> np.ndarray:
        return self.kappa * (np.cos(np.asarray(x) - self.mean_rad) - 1) - np.log(2 * np.pi * special.i0e(self.kappa))

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.vonmises(self.mean_rad, self.kappa, n)

    @property
    def mean(self) -> float:
        return self.mean_rad if self.kappa > 0 else np.nan

    def gradients(self) -> dict[str, dict[str, float]]:
        if self.kappa == 0:
            return {"kappa": {"cos_turn": np.nan}}
        eta = self.natural()
        c, s = eta["cos_turn"] / self.kappa, eta["sin_turn"] / self.kappa
        return {
            "kappa": {"cos_turn": c, "sin_turn": s},
            "mean_rad": {"cos_turn": -s / self.kappa, "sin_turn": c / self.kappa},
        }


_SHORT = "short steps are so much favored that their density has no finite integral; leave the logarithm out"
_LONG = "long steps are favored without end, so the alternatives reach less far than the animals; draw longer ones"
_BOTH = "very short and very long steps are favored without end; leave the squared logarithm out"


def _require(name: str, value: float, meaning: str, *, positive: bool = True) -> None:
    if not (value > 0 if positive else value < 0):
        raise ValueError(
            f"the updated distribution is improper: {name} = {value:.4g}, where {'more' if positive else 'less'} than "
            f"0 was expected. It means that {meaning}."
        )


def _require_positive(kernel: Kernel, *names: str) -> None:
    wrong = {k: v for k, v in kernel.parameters.items() if (k in names or not names) and not 0 < v < np.inf}
    if wrong or not np.isfinite(list(kernel.parameters.values())).all():
        told = ", ".join(f"{k} = {v:g}" for k, v in kernel.parameters.items())
        raise ValueError(f"{', '.join(names or kernel.parameters)} must be finite and above 0; got {told}.")


def check_steps(lengths: np.ndarray, *, logarithm: bool = False) -> np.ndarray:
    """Step lengths (step,) as float64, checked.

    Raises
    ------
    ValueError
        If there are none, one is not finite or negative, or a logarithm is to be taken of a length of 0.
    """
    x = np.asarray(lengths, dtype=np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(
            f"step lengths must be finite, and one or more; got {np.sum(~np.isfinite(x))} of {x.size} not."
        )
    if (x < 0).any():
        raise ValueError(
            f"step lengths must be 0 or more; {np.sum(x < 0):,} of {x.size:,} are negative "
            f"({examples(x[x < 0])}). Is it a column of something else, or a fill value?"
        )
    if logarithm and (x == 0).any():
        raise ValueError(
            f"{np.sum(x == 0):,} of {x.size:,} step lengths are 0 and have no logarithm. Set them to half of the "
            "smallest distance that the positions resolve, leave those decisions out, or choose an exponential or "
            "half-normal distribution, which need none. On a grid of cells staying is a choice with its own feature."
        )
    return x


def check_turns(turns: np.ndarray) -> np.ndarray:
    """Turns (turn,), radians, as float64, checked.

    Raises
    ------
    ValueError
        If there are none, one is not finite, or one lies outside [-pi, pi].
    """
    x = np.asarray(turns, dtype=np.float64)
    if x.size == 0 or not np.isfinite(x).all():
        raise ValueError(f"turns must be finite, and one or more; got {np.sum(~np.isfinite(x))} of {x.size} not.")
    if (np.abs(x) > np.pi + 1e-6).any():
        raise ValueError(
            f"turns must be radians in [-pi, pi]; got {x[np.argmax(np.abs(x))]:.6g}. Convert from degrees first, and "
            "angles of 0 to 2 pi by subtracting 2 pi from those above pi."
        )
    return x


def _mean_cosine(kappa: float) -> float:
    return float(special.i1e(kappa) / special.i0e(kappa))


def _positive_mean(x: np.ndarray) -> float:
    mean = float(x.mean())
    if mean <= 0:
        raise ValueError("expected step lengths above 0; all are 0.")
    return mean

"""Distributions of steps and turns: densities, fits and moments by hand, and how coefficients update them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from scipy import integrate

from mimic.kernel_updates import updated_step_length, updated_turn_angle
from mimic.movement_kernels import (
    ExponentialSteps,
    GammaSteps,
    HalfNormalSteps,
    Kernel,
    LognormalSteps,
    VonMisesTurns,
    check_steps,
    check_turns,
)

STEPS = [GammaSteps(1.7, 0.4), ExponentialSteps(0.3), HalfNormalSteps(2.5), LognormalSteps(0.4, 0.8)]
TURNS = [VonMisesTurns(0.0), VonMisesTurns(0.8), VonMisesTurns(2.5, np.pi), VonMisesTurns(1.2, -0.7)]
ALL = [*STEPS, *TURNS]


def name(kernel: object) -> str:
    return str(kernel)


def integral(kernel: Kernel, of: str = "one") -> float:
    """The integral of the density, or of x times the density."""
    ends = (-np.pi, np.pi) if isinstance(kernel, VonMisesTurns) else (0.0, np.inf)

    def integrand(x: float) -> float:
        return float(np.exp(kernel.logpdf(np.float64(x)))) * (x if of == "mean" else 1.0)

    return float(integrate.quad(integrand, *ends, limit=200)[0])


def term(what: str, x: np.ndarray) -> np.ndarray:
    if what == "cos_turn":
        return np.cos(x)
    if what == "sin_turn":
        return np.sin(x)
    base = np.log(x) if what.startswith("log") else x
    return base**2 if what.endswith("squared") else base


# ------------------------------------------------------------------------------------------- densities and fits


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_density_integrates_to_one(kernel: Kernel) -> None:
    assert integral(kernel) == pytest.approx(1.0, abs=1e-7)


@pytest.mark.parametrize("kernel", STEPS, ids=name)
def test_mean_is_the_integral_of_length_times_density(kernel: Kernel) -> None:
    assert kernel.mean == pytest.approx(integral(kernel, "mean"), rel=1e-6)


def test_mean_direction_is_nan_where_all_turns_are_equally_likely() -> None:
    assert np.isnan(VonMisesTurns(0.0).mean)
    assert VonMisesTurns(1.0, np.pi).mean == np.pi


@pytest.mark.parametrize("kernel", [*STEPS, *TURNS[1:3]], ids=name)
def test_fit_to_its_own_sample_finds_the_parameters(kernel: Kernel) -> None:
    drawn = kernel.sample(40_000, np.random.default_rng(1))
    fitted = type(kernel).fit(drawn)  # type: ignore[attr-defined]
    for key, value in kernel.parameters.items():
        assert fitted.parameters[key] == pytest.approx(value, rel=0.03, abs=1e-12)


@pytest.mark.parametrize("kernel", [*STEPS, TURNS[1]], ids=name)
def test_fit_is_more_likely_than_any_neighbor(kernel: Kernel) -> None:
    drawn = kernel.sample(500, np.random.default_rng(2))
    fitted = type(kernel).fit(drawn)  # type: ignore[attr-defined]
    best = fitted.logpdf(drawn).sum()
    for key, value in fitted.parameters.items():
        for factor in (0.99, 1.01):
            assert type(kernel)(**{**fitted.parameters, key: value * factor}).logpdf(drawn).sum() <= best


def test_fits_by_hand() -> None:
    assert ExponentialSteps.fit(np.array([1.0, 3.0])).rate == 0.5
    assert HalfNormalSteps.fit(np.array([1.0, 7.0])).sd == 5.0  # mean of 1 and 49 is 25
    fitted = LognormalSteps.fit(np.exp([0.0, 2.0]))
    assert (fitted.log_mean, fitted.log_sd) == (1.0, 1.0)
    assert VonMisesTurns.fit(np.array([0.0, np.pi])).kappa == pytest.approx(0.0, abs=1e-12)
    assert VonMisesTurns.fit(np.array([np.pi, 3.0])).mean_rad == np.pi


@pytest.mark.parametrize("kernel", ALL, ids=name)
def test_log_density_is_linear_in_its_terms(kernel: Kernel) -> None:
    x = np.linspace(0.1, 3.0, 7)
    linear = sum(value * term(what, x) for what, value in kernel.natural().items())
    rest = kernel.logpdf(x) - linear
    assert rest == pytest.approx(np.full(7, rest[0]), abs=1e-12)


@pytest.mark.parametrize("kernel", [*STEPS, *TURNS[1:]], ids=name)
def test_natural_terms_lead_back_to_the_parameters(kernel: Kernel) -> None:
    back = type(kernel).from_natural(kernel.natural())
    assert list(back.parameters.values()) == pytest.approx(list(kernel.parameters.values()), rel=1e-12)


@pytest.mark.parametrize("kernel", [*STEPS, TURNS[1], TURNS[3]], ids=name)
def test_gradients_are_the_differences_of_parameters_and_mean(kernel: Kernel) -> None:
    def values(eta: Mapping[str, float]) -> dict[str, float]:
        moved = type(kernel).from_natural(eta)
        return moved.parameters if isinstance(moved, VonMisesTurns) else {**moved.parameters, "mean": moved.mean}

    eta, h = kernel.natural(), 1e-6
    for key, gradient in kernel.gradients().items():
        for what in eta:
            slope = (values({**eta, what: eta[what] + h})[key] - values({**eta, what: eta[what] - h})[key]) / (2 * h)
            assert gradient.get(what, 0.0) == pytest.approx(slope, rel=1e-6, abs=1e-7)


# ------------------------------------------------------------------------------------------------------ updates

UPDATES = [
    (GammaSteps(2.0, 0.5), {"step": 0.1, "log_step": -0.5}),
    (GammaSteps(2.0, 0.5), {"step": -0.2}),
    (ExponentialSteps(0.3), {"step": 0.1}),
    (ExponentialSteps(0.3), {"log_step": 0.6, "step": -0.1}),
    (HalfNormalSteps(2.0), {"step_squared": 0.05}),
    (LognormalSteps(0.5, 1.0), {"log_step": -0.4, "log_step_squared": 0.1}),
]


@pytest.mark.parametrize(("tentative", "coef"), UPDATES, ids=name)
def test_updated_density_is_the_tentative_one_times_the_odds(tentative: Kernel, coef: dict[str, float]) -> None:
    x = np.linspace(0.2, 9.0, 12)
    odds = sum(beta * term(what, x) for what, beta in coef.items())
    rest = updated_step_length(tentative, coef).kernel.logpdf(x) - tentative.logpdf(x) - odds
    assert rest == pytest.approx(np.full(12, rest[0]), abs=1e-12)


@pytest.mark.parametrize(("coef", "expected"), [(1.5, (2.0, 0.0)), (-0.2, (0.3, 0.0)), (-2.0, (1.5, np.pi))])
def test_updated_concentration_is_the_sum_and_turning_back_where_that_is_negative(
    coef: float, expected: tuple[float, float]
) -> None:
    updated = updated_turn_angle(VonMisesTurns(0.5), {"cos_turn": coef}, np.array([[0.04]]))
    assert (updated.kernel.parameters["kappa"], updated.kernel.parameters["mean_rad"]) == pytest.approx(expected)
    assert updated.se["kappa"] == pytest.approx(0.2)
    assert np.isnan(updated.se["mean_rad"])  # without a sine the direction is not estimated


def test_cosine_and_sine_turn_the_mean_direction() -> None:
    # tentative uniform: kappa (cos mu, sin mu) = (0.3, 0.4)
    kernel = updated_turn_angle(None, {"sin_turn": 0.4, "cos_turn": 0.3}).kernel
    assert kernel.parameters == pytest.approx({"kappa": 0.5, "mean_rad": np.arctan2(0.4, 0.3)})


def test_cells_of_a_grid_add_one_to_the_shape_for_the_area_of_the_ring() -> None:
    # odds l^-0.5 exp(-0.2 l) of a cell, times l dl cells: l^0.5 exp(-0.2 l) is a gamma of shape 1.5
    assert updated_step_length(None, {"step": -0.2, "log_step": -0.5}).kernel == GammaSteps(1.5, 0.2)
    # and ln f = (1 - 1) ln l - (ln l)^2 / 2 is a lognormal: m / s^2 - 1 = 0 with s = 1
    assert updated_step_length(None, {"log_step": -1.0, "log_step_squared": -0.5}).kernel == LognormalSteps(1.0, 1.0)


def test_order_of_the_coefficients_does_not_matter() -> None:
    c = np.array([[0.04, 0.01], [0.01, 0.09]])
    one = updated_step_length(GammaSteps(2.0, 0.5), {"step": 0.1, "log_step": -0.5}, c)
    other = updated_step_length(GammaSteps(2.0, 0.5), {"log_step": -0.5, "step": 0.1}, c[::-1, ::-1])
    assert one.kernel == other.kernel
    assert one.se == pytest.approx(other.se)
    assert (one.se["rate"], one.se["shape"]) == pytest.approx((0.2, 0.3))


def test_delta_method_agrees_with_the_spread_of_drawn_coefficients() -> None:
    c = np.array([[1e-4, 4e-5], [4e-5, 2e-4]])
    tentative, coef = LognormalSteps(0.5, 1.0), {"log_step": -0.4, "log_step_squared": 0.1}
    drawn = np.random.default_rng(3).multivariate_normal([-0.4, 0.1], c, size=4000)
    kernels = [updated_step_length(tentative, dict(zip(coef, b, strict=True))).kernel for b in drawn]
    se = updated_step_length(tentative, coef, c).se
    for key in ("log_mean", "log_sd"):
        assert se[key] == pytest.approx(np.std([k.parameters[key] for k in kernels]), rel=0.06)
    assert se["mean"] == pytest.approx(np.std([k.mean for k in kernels]), rel=0.06)


def test_without_a_covariance_there_are_no_standard_errors() -> None:
    se = updated_step_length(GammaSteps(2.0, 0.5), {"step": 0.1}).se
    assert set(se) == {"shape", "rate", "mean"}
    assert np.isnan(list(se.values())).all()
    with pytest.raises(ValueError, match=r"covariance must have shape \(term, term\) = \(1, 1\); got \(2, 2\)"):
        updated_step_length(GammaSteps(2.0, 0.5), {"step": 0.1}, np.eye(2))


@pytest.mark.parametrize(
    ("tentative", "coef", "message"),
    [
        (GammaSteps(0.9, 1.0), {"step": 0.0, "log_step": -1.2}, "shape = -0.3, .* short steps are so much favored"),
        (GammaSteps(0.9, 1.0), {"step": 1.5, "log_step": 0.0}, "rate = -0.5, .* reach less far than the animals"),
        (None, {"step": 0.01}, "rate = -0.01"),
        (HalfNormalSteps(1.0), {"step_squared": 0.6}, "long steps are favored without end"),
        (LognormalSteps(0.0, 1.0), {"log_step_squared": 0.5}, "very short and very long steps"),
    ],
)
def test_improper_updates_are_refused_and_explained(
    tentative: Kernel | None, coef: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=f"the updated distribution is improper: .*{message}"):
        updated_step_length(tentative, coef)


def test_terms_that_lead_out_of_the_family_are_refused() -> None:
    with pytest.raises(ValueError, match="from GammaSteps cannot be updated by step_squared.*Fit the coefficients of"):
        updated_step_length(GammaSteps(2.0, 0.5), {"step_squared": -0.1})
    with pytest.raises(ValueError, match="from all cells of a grid cannot be updated by step_squared"):
        updated_step_length(None, {"step_squared": -0.1})
    with pytest.raises(ValueError, match="step, alone or with log_step"):
        updated_step_length(ExponentialSteps(1.0), {"log_step": -0.1})
    with pytest.raises(ValueError, match="expected a distribution of step lengths; got one of turns"):
        updated_step_length(VonMisesTurns(1.0), {"step": -0.1})
    with pytest.raises(ValueError, match="turns are updated by .*; got step"):
        updated_turn_angle(VonMisesTurns(1.0), {"step": -0.1})
    with pytest.raises(ValueError, match="got the step lengths of GammaSteps"):
        updated_turn_angle(GammaSteps(1.0, 1.0), {"cos_turn": -0.1})


# ------------------------------------------------------------------------------------------------------- border


def test_lengths_and_turns_are_checked() -> None:
    with pytest.raises(ValueError, match=r"2 of 3 are negative \(-1.0, -2.0\)"):
        check_steps(np.array([-1.0, 3.0, -2.0]))
    with pytest.raises(ValueError, match="1 of 3 step lengths are 0 and have no logarithm. Set them to half"):
        check_steps(np.array([0.0, 3.0, 2.0]), logarithm=True)
    assert check_steps(np.array([0.0, 3.0])).tolist() == [0.0, 3.0]
    with pytest.raises(ValueError, match="step lengths must be finite"):
        check_steps(np.array([np.nan]))
    with pytest.raises(ValueError, match=r"radians in \[-pi, pi\]; got -182. Convert from degrees first"):
        check_turns(np.array([90.0, -182.0]))
    with pytest.raises(ValueError, match="turns must be finite"):
        check_turns(np.array([np.inf]))


def test_samples_without_spread_have_no_fit() -> None:
    for kind in (GammaSteps, LognormalSteps):
        with pytest.raises(ValueError, match="step lengths must differ"):
            kind.fit(np.full(3, 2.0))
    for kind in (ExponentialSteps, HalfNormalSteps):
        with pytest.raises(ValueError, match="all are 0"):
            kind.fit(np.zeros(3))
    with pytest.raises(ValueError, match="all go straight on"):
        VonMisesTurns.fit(np.zeros(3))


def test_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="shape, rate must be finite and above 0; got shape = -1, rate = 2"):
        GammaSteps(-1.0, 2.0)
    with pytest.raises(ValueError, match="log_sd must be finite and above 0"):
        LognormalSteps(-1.0, 0.0)
    with pytest.raises(ValueError, match="kappa must be finite and at least 0; got -1. Turning back is mean_rad = pi"):
        VonMisesTurns(-1.0)

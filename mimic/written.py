"""Numbers into the text that a paper prints: signs, digits, per cent, and what is not known."""

from __future__ import annotations

import math
from collections.abc import Callable

__all__ = ["FORMS", "MINUS", "count", "nats", "p_value", "percent", "plain_number", "ratio", "times"]

MINUS = "\N{MINUS SIGN}"
_UNKNOWN = "\N{EN DASH}"


def count(value: float) -> str:
    """A number of things, with commas.

    Example
    -------
    >>> count(121633.0)
    '121,633'
    """
    return _written(value, f"{value:,.0f}")


def percent(value: float) -> str:
    """A share or probability in per cent, three digits below 10 %.

    Example
    -------
    >>> percent(0.26123), percent(0.05564), percent(0.00004), percent(1.0)
    ('26.1 %', '5.56 %', '0.0040 %', '100 %')
    """
    shown = 100 * value
    if not math.isfinite(shown):
        return _UNKNOWN
    digits = 0 if shown in (0.0, 100.0) else 1 if shown >= 9.995 else 2 if shown >= 0.1 else 4
    return _written(value, f"{shown:.{digits}f} %")


def nats(value: float) -> str:
    """Log-probabilities, losses and their differences, with three decimals.

    Example
    -------
    >>> nats(-1.34149)
    '\N{MINUS SIGN}1.341'
    """
    return _written(value, f"{value:.3f}")


def times(value: float) -> str:
    """A lift: "times better than random", with two decimals."""
    return _written(value, f"{value:.2f}")


def ratio(value: float) -> str:
    """A ratio of two GMP near 1, with three decimals."""
    return _written(value, f"{value:.3f}")


def plain_number(value: float) -> str:
    """A number with three digits that matter, and all of those before the point.

    Example
    -------
    >>> plain_number(77.104), plain_number(0.34), plain_number(1844.3)
    ('77.1', '0.340', '1,844')
    """
    is_large = abs(value) >= 1000 and math.isfinite(value)
    return _written(value, f"{value:,.0f}" if is_large else f"{value:#.3g}".removesuffix("."))


def p_value(value: float) -> str:
    """A probability under a null hypothesis: three decimals, and no more than that it is small below.

    Example
    -------
    >>> p_value(0.0332), p_value(1e-40)
    ('0.033', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else _written(value, f"{value:.3f}")


FORMS: dict[str, Callable[[float], str]] = {
    "count": count,
    "percent": percent,
    "nats": nats,
    "times": times,
    "ratio": ratio,
    "number": plain_number,
    "p": p_value,
}
"""Name of a form -> what writes a number in it."""


def _written(value: float, text: str) -> str:
    if math.isnan(value):
        return _UNKNOWN
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}"
    is_zero = text.startswith("-") and not any(c in "123456789" for c in text)  # no minus before 0.000
    return text[1:] if is_zero else text.replace("-", MINUS)

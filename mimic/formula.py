"""A formula such as `sst + log(distance_km) + sst:C(region)` into columns of numbers, by a small and safe grammar."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from mimic.schema import CHOICE, ChoiceSets, examples
from mimic.terms import Term, arithmetic, parse_terms

__all__ = ["Coding", "Formula", "formula_columns", "parse_formula"]

_CALLS: dict[str, Callable[[Any], Any]] = {
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "abs": np.abs,
    "sin": np.sin,
    "cos": np.cos,
    "I": np.asarray,
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Pow: np.power,
}
_CATEGORY = re.compile(r"C\((\w+)\)")
_MAX_LEVELS = 500


@dataclass(frozen=True)
class Coding:
    """How a formula's categories become numbers, found on the data of a fit and kept for prediction.

    Parameters
    ----------
    levels
        Column of a C(..) -> its values, sorted. The first is the reference.
    full
        Pairs (term, C(..)) in which the reference has a column too.
    """

    levels: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    full: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Formula:
    """A checked formula: its text, its terms as factors, and the names that it uses. Made by `parse_formula`."""

    text: str
    terms: tuple[Term, ...]
    names: tuple[str, ...]

    def coding(self, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None) -> Coding:
        """Levels of the categories in these data, and where the reference level has a column.

        A category is coded by treatment: one 0/1 column a level, none for the first (the reference). The
        reference gets one too where nothing else stands for it: in `sst:C(region)` without `sst`. What the term
        is without the category stands for it if it is a term itself or the same for all choices of a decision.
        """
        data = _Data(cs, columns or {}, self.text)
        levels = {
            match[1]: data.levels(match[1]) for factor in self._factors() if (match := _CATEGORY.fullmatch(factor))
        }
        full = set()
        known = {frozenset(term) for term in self.terms}
        for term in self.terms:
            for factor in term:
                rest = [other for other in term if other != factor]
                if _CATEGORY.fullmatch(factor) and frozenset(rest) not in known and data.any_varies(rest):
                    full.add((":".join(term), factor))
        return Coding(levels, frozenset(full))

    def columns(
        self, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None, coding: Coding | None = None
    ) -> dict[str, np.ndarray]:
        """The columns of the terms: name -> (row,), float64, in the order of the formula.

        Parameters
        ----------
        columns
            Name -> (row,): values in place of the float32 features, or beside them; text where C(..) takes it.
        coding
            From `coding` on the data of the fit; by default these data's own.

        Raises
        ------
        ValueError
            If a name is unknown, holds text or times outside C(..), a term is not finite in some row, or a
            category has a missing value or one that the coding does not know.
        """
        coding = coding or self.coding(cs, columns=columns)
        data = _Data(cs, columns or {}, self.text)
        found: dict[str, np.ndarray] = {}
        for term in self.terms:
            parts = [data.factor(factor, coding, (":".join(term), factor) in coding.full) for factor in term]
            for combination in product(*(part.items() for part in parts)):
                values = np.ones(cs.n_rows)
                for _, column in combination:
                    values = values * column
                found[":".join(name for name, _ in combination)] = values
        return found

    def _factors(self) -> list[str]:
        return list(dict.fromkeys(factor for term in self.terms for factor in term))


def parse_formula(text: str) -> Formula:
    """The formula that a text describes.

    Parameters
    ----------
    text
        Terms joined by `+`; `-` takes a term away again. `a:b` is the product, `a*b` means a + b + a:b, and
        parentheses group: `(sst + depth):night`. Anything else is arithmetic: `log(distance_km)`,
        `step_length_m/1000`, `sst^2` (a square, also outside of I, unlike in R), `I(sst - 2*depth)`.
        `C(region)` takes a column for categories. `choice` is the label of the choice.

    Raises
    ------
    TypeError
        If it is no text.
    ValueError
        If it is empty, too long, nested too deeply or holds anything else.

    Notes
    -----
    There is no intercept: what is the same for all choices of a decision cancels. For the same reason `sst*night`
    with a decision column `night` is refused by the fit; write `sst + sst:night` or `sst*night - night`.

    Example
    -------
    >>> parse_formula("sst*depth + log(distance_km) - depth").terms
    (('sst',), ('sst', 'depth'), ('log(distance_km)',))
    """
    if not isinstance(text, str):
        raise TypeError(f'a formula must be text such as "sst + log(distance_km)"; got {text!r}.')
    terms = parse_terms(text)
    trees = [arithmetic(factor) for term in terms for factor in term]
    calls = {id(node.func) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = [
        node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in calls
    ]
    return Formula(text, terms, tuple(dict.fromkeys(names)))


def formula_columns(
    text: str, cs: ChoiceSets, *, columns: Mapping[str, np.ndarray] | None = None
) -> dict[str, np.ndarray]:
    """The columns of a formula's terms: name -> (row,), float64; features and `columns` for `fit_conditional_logit`.

    Errors as in `parse_formula` and `Formula.columns`.

    Example
    -------
    >>> decisions = pd.DataFrame({"individual": "a", "decision": [1, 2], "night": [False, True]})
    >>> cs = ChoiceSets(decisions, [0, 2, 4], [1, 2, 1, 2], [0, 3], {"sst": [3.0, 4.0, 5.0, 6.0]})
    >>> formula_columns("sst^2 + sst:night", cs)
    {'sst**2': array([ 9., 16., 25., 36.]), 'sst:night': array([0., 0., 5., 6.])}
    """
    return parse_formula(text).columns(cs, columns=columns)


class _Data:
    """Values of names and factors on some choice sets."""

    def __init__(self, cs: ChoiceSets, columns: Mapping[str, np.ndarray], text: str) -> None:
        self._cs, self._columns, self._text = cs, columns, text
        self._known: dict[str, np.ndarray] = {}

    def any_varies(self, factors: Sequence[str]) -> bool:
        """Whether the product of these factors differs between the choices of a decision."""
        values = np.ones(self._cs.n_rows)
        for factor in factors:
            match = _CATEGORY.fullmatch(factor)
            # any one-to-one numbering of the levels varies where the levels do
            values = values * (pd.factorize(self._raw(match[1]))[0] + 1.0 if match else self._numbers(factor))
        return bool((values != np.repeat(values[self._cs.offsets[:-1]], self._cs.n_choices)).any())

    def levels(self, name: str) -> tuple[Any, ...]:
        """The distinct values of a column, sorted."""
        values = self._raw(name)
        missing = np.asarray(pd.isna(values))
        if missing.any():
            raise self._error(f"C({name}) has no value in {missing.sum()} of {len(values)} rows; fill or drop them")
        distinct = pd.unique(values)
        if len(distinct) > _MAX_LEVELS:
            raise self._error(f"C({name}) has {len(distinct)} values, more than {_MAX_LEVELS}; use it as a number")
        return tuple(sorted(distinct.tolist()))

    def factor(self, factor: str, coding: Coding, full: bool) -> dict[str, np.ndarray]:
        """The columns of a factor: name -> (row,)."""
        match = _CATEGORY.fullmatch(factor)
        if not match:
            return {factor: self._numbers(factor)}
        values, levels = self._raw(match[1]), coding.levels[match[1]]
        strange = [value for value in self.levels(match[1]) if value not in levels]
        if strange:
            raise self._error(
                f"C({match[1]}) has {examples(strange)} here, which the fit did not; it knows {examples(levels)}"
            )
        return {f"{factor}[{_spelled(level)}]": (values == level) * 1.0 for level in levels[0 if full else 1 :]}

    def _numbers(self, factor: str) -> np.ndarray:
        """A piece of arithmetic in every row: (row,), float64, finite."""
        tree = arithmetic(factor)
        with np.errstate(all="ignore"):
            values = np.broadcast_to(self._value(tree), (self._cs.n_rows,))
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id not in _CALLS]
            where = ", ".join(f"{name} is {self._raw(name)[bad[0]]}" for name in dict.fromkeys(names))
            raise self._error(
                f"{factor} is not finite in {len(bad)} of {len(values)} rows, first where {where}; log1p(x) takes "
                "zeros, otherwise fill these values or drop these choices"
            )
        return values

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Name(id=name):
                return self._number_column(name)
            case ast.Constant(value=int() | float() as value):
                return np.float64(value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self._value(operand)
            case ast.UnaryOp(operand=operand):
                return self._value(operand)
            case ast.BinOp(left=left, op=operator, right=right):
                return _OPERATORS[type(operator)](self._value(left), self._value(right))
            case ast.Call(func=ast.Name(id=name), args=[argument]):
                return _CALLS[name](self._value(argument))
        raise self._error(f"{ast.unparse(node)} is not allowed")

    def _number_column(self, name: str) -> np.ndarray:
        values = self._raw(name)
        if values.dtype.kind not in "biuf":
            advice = f"write C({name})" if values.dtype.kind == "O" else "make a number of it first"
            raise self._error(f"{name} holds no numbers; {advice}")
        return values.astype(np.float64)

    def _raw(self, name: str) -> np.ndarray:
        """A column in every row: (row,). What was given comes before features, and these before decision columns."""
        if name not in self._known:
            self._known[name] = self._look(name)
        return self._known[name]

    def _look(self, name: str) -> np.ndarray:
        cs = self._cs
        if name in self._columns:
            values = np.asarray(self._columns[name])
            if values.shape != (cs.n_rows,):
                raise self._error(f"{name} must have shape (row,) = ({cs.n_rows},); got {values.shape}")
            return values.astype(object) if values.dtype.kind == "U" else values
        if name in cs.features:
            return cs.features[name]
        if name == CHOICE:
            return cs.choice.astype(object) if cs.choice.dtype.kind == "U" else cs.choice
        if name not in cs.decisions:
            known = dict.fromkeys([*self._columns, *cs.features, *map(str, cs.decisions.columns), CHOICE])
            raise self._error(f"unknown name {name}; known are {', '.join(known)}")
        column = cs.decisions[name]
        plain = column.to_numpy() if column.dtype.kind in "biufM" else column.to_numpy(dtype=object)
        return np.repeat(plain, cs.n_choices)

    def _error(self, fault: str) -> ValueError:
        return ValueError(f"formula {self._text!r}: {fault}.")


def _spelled(level: Any) -> str:
    return f"{level:g}" if isinstance(level, float) else str(level)

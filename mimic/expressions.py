"""Text such as `0 < distance_km <= 50` into a condition on columns: a mask of rows, by a small and safe grammar."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from mimic.grammar import ALLOWED, EVERYTHING, MAX_LENGTH, column_names, syntax_tree

__all__ = ["ALLOWED", "EVERYTHING", "MAX_LENGTH", "Expression", "check_names", "parse", "quantity"]

_OPERATORS: dict[type[ast.AST], Any] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
}
_CALLS: dict[str, Any] = {
    "abs": np.abs,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "floor": np.floor,
    "min": np.minimum,
    "max": np.maximum,
}


@dataclass(frozen=True)
class Expression:
    """A checked group expression: its text and the names of the columns it uses. Made by `parse`."""

    text: str
    names: frozenset[str]
    tree: ast.expr = field(repr=False, compare=False)

    def evaluate(
        self,
        columns: Mapping[str, Any] | pd.DataFrame | Callable[[str], Any],
        *,
        n_rows: int | None = None,
    ) -> np.ndarray:
        """Which rows fulfil the condition.

        Parameters
        ----------
        columns
            name -> (row,) array or Series of numbers, text, booleans or times; or a function that
            returns such a column for a name, called once for each name in use.
        n_rows
            How many rows there are, for conditions without columns, such as `True`. By default the
            length of the first column; unknown, and the answer of shape (), where `columns` is a function.

        Returns
        -------
        (row,), bool.

        Raises
        ------
        ValueError
            If a column is unknown, text is compared with a number, arithmetic is done on text, a column
            used as a condition is not 0/1, or a column mixes text and numbers.

        Notes
        -----
        A missing value (NaN, None, NaT) is in no group: a comparison with it neither holds nor fails, and
        `not` does not turn it around, as in SQL. So `sst != 5` and `not sst == 5` both leave out rows
        without sst; `missing(sst)`, or `isnan(sst)`, asks for them. Times compare with quoted dates:
        `time_utc >= "2020-06-01"`. Numbers in the text take the precision of the column: `x == 0.1` is
        true where a float32 column holds 0.1.

        Example
        -------
        >>> parse("0 < distance_km <= 50").evaluate({"distance_km": np.array([0.0, 23.0, np.nan])})
        array([False,  True, False])
        """
        if callable(columns):
            fetch = columns
        else:
            check_names(self, columns.keys())
            fetch = columns.__getitem__
            n_rows = _length(columns) if n_rows is None else n_rows
        fetched: dict[str, Any] = {}

        def look(name: str) -> Any:
            if name not in fetched:
                fetched[name] = _column(name, fetch(name))
            return fetched[name]

        try:
            with np.errstate(all="ignore"):
                holds = _truth(_value(self.tree, look), self.tree).true
        except _Fault as fault:
            raise ValueError(f"group expression {self.text!r}: {fault}.") from None
        return holds.copy() if holds.shape or n_rows is None else np.full(n_rows, holds)


def parse(text: str) -> Expression:
    """The condition that a text describes; "all" is another way to write `True`.

    Raises
    ------
    TypeError
        If `text` is not a text.
    ValueError
        If it is empty, too long, nested too deeply, holds anything but what `ALLOWED` says, or is
        a number rather than a condition.

    Example
    -------
    >>> sorted(parse('month in (6, 7, 8) and region == "Sitka"').names)
    ['month', 'region']
    """
    if not isinstance(text, str):
        raise TypeError(f'a group expression must be text such as "distance_km > 0" or "all"; got {text!r}.')
    tree = syntax_tree(text)
    return Expression(text, column_names(tree), tree)


def quantity(text: str, table: pd.DataFrame) -> np.ndarray:
    """The numbers that a formula such as `log(step_length_m)` gives on the columns of a table: (row,), float64.

    The grammar is that of group expressions; a condition gives 1 and 0. Where the formula has no value, as the
    logarithm of a negative number, it is NaN or infinite, for the caller to look at.

    Raises
    ------
    ValueError
        If the text is no formula, a column is unknown, or arithmetic is done on text.

    Example
    -------
    >>> quantity("step_m / 1000", pd.DataFrame({"step_m": [500, 2000]}))
    array([0.5, 2. ])
    """
    if not isinstance(text, str):
        raise TypeError(f'a formula must be text such as "step_m / 1000"; got {text!r}.')
    tree = syntax_tree(text, condition=False)
    check_names(Expression(text, column_names(tree), tree), table.columns)
    try:
        with np.errstate(all="ignore"):
            values = _number(_value(tree, lambda name: _column(name, table[name])), tree)
    except _Fault as fault:
        raise ValueError(f"formula {text!r}: {fault}.") from None
    return np.array(np.broadcast_to(np.asarray(values, dtype=np.float64), (len(table),)))


def check_names(expression: Expression, known: Iterable[str]) -> None:
    """Raise ValueError that says which columns of an expression are unknown, the nearest known ones and all of them."""
    names = [str(name) for name in known]
    unknown = sorted(expression.names - set(names))
    if not unknown:
        return
    said = []
    for name in unknown:
        near = difflib.get_close_matches(name, names, n=3)
        said.append(name + (f" (did you mean {' or '.join(near)}?)" if near else ""))
    raise ValueError(
        f"group expression {expression.text!r} uses unknown column{'s' if len(unknown) > 1 else ''} "
        f"{', '.join(said)}; known are {', '.join(names) or 'none'}."
    )


class _Fault(Exception):
    """What is wrong with a value; `Expression.evaluate` adds the expression."""


@dataclass(frozen=True)
class _Truth:
    """A condition in three-valued logic: where it surely holds and where it surely does not. Missing is neither."""

    true: np.ndarray
    false: np.ndarray

    def __invert__(self) -> _Truth:
        return _Truth(self.false, self.true)

    def __and__(self, other: _Truth) -> _Truth:
        return _Truth(self.true & other.true, self.false | other.false)

    def __or__(self, other: _Truth) -> _Truth:
        return _Truth(self.true | other.true, self.false & other.false)


def _value(node: ast.expr, look: Callable[[str], Any]) -> Any:
    """The number, text, column or _Truth of a tree that lies within the grammar."""
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            return look(name)
        case ast.BoolOp(op=operator, values=parts):
            truths = [_truth(_value(part, look), part) for part in parts]
            result = truths[0]
            for other in truths[1:]:
                result = result & other if isinstance(operator, ast.And) else result | other
            return result
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            return ~_truth(_value(inner, look), inner)
        case ast.UnaryOp(op=operator, operand=inner):
            number = _number(_value(inner, look), inner)
            return _bare(np.negative(number)) if isinstance(operator, ast.USub) else number
        case ast.BinOp():
            return _arithmetic(node, look)
        case ast.Compare():
            return _comparison(node, look)
        case ast.Call(func=ast.Name(id=name), args=arguments):
            return _call(name, arguments, look)
    raise _Fault(f"{ast.unparse(node)} is not allowed")


def _arithmetic(node: ast.BinOp, look: Callable[[str], Any]) -> Any:
    left, right = _number(_value(node.left, look), node.left), _number(_value(node.right, look), node.right)
    if isinstance(node.op, ast.Mod) and np.any(np.equal(right, 0)):
        left = np.asarray(left, dtype=np.float64)  # integers have no NaN: x % 0 would be 0
    return _bare(_OPERATORS[type(node.op)](left, right))


def _comparison(node: ast.Compare, look: Callable[[str], Any]) -> _Truth:
    truths = []
    left_node, left = node.left, _value(node.left, look)
    for operator, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(right_node, ast.Tuple | ast.List | ast.Set):
            members = [_compare(left, _value(m, look), np.equal, left_node, m) for m in right_node.elts]
            is_member = members[0]
            for other in members[1:]:
                is_member = is_member | other
            truths.append(~is_member if isinstance(operator, ast.NotIn) else is_member)
        else:
            right = _value(right_node, look)
            truths.append(_compare(left, right, _OPERATORS[type(operator)], left_node, right_node))
            left_node, left = right_node, right
    result = truths[0]
    for other in truths[1:]:
        result = result & other
    return result


def _compare(left: Any, right: Any, operator: Any, left_node: ast.expr, right_node: ast.expr) -> _Truth:
    left, right = _plain(left), _plain(right)
    kinds = {_kind(left), _kind(right)}
    missing = _is_missing(left) | _is_missing(right)
    if len(kinds) > 1 and np.all(missing):  # a column without any value is of no kind
        return _Truth(np.zeros_like(missing), np.zeros_like(missing))
    if kinds == {"time", "text"}:
        left, right = _as_time(left), _as_time(right)
    elif len(kinds) > 1:
        raise _Fault(
            f"{ast.unparse(left_node)} ({_kind(left)}) cannot be compared with {ast.unparse(right_node)} "
            f"({_kind(right)}); text goes in quotes, numbers do not"
        )
    elif kinds == {"text"}:
        left, right = _filled(left), _filled(right)
    holds = np.asarray(operator(left, right), dtype=bool)
    return _Truth(holds & ~missing, ~holds & ~missing)


def _call(name: str, arguments: list[ast.expr], look: Callable[[str], Any]) -> Any:
    values = [_value(argument, look) for argument in arguments]
    if name not in _CALLS:
        missing = _is_missing(_plain(values[0]))
        return _Truth(missing, ~missing)
    numbers = [_number(value, argument) for value, argument in zip(values, arguments, strict=True)]
    result = _CALLS[name](*numbers[:2])
    for number in numbers[2:]:
        result = _CALLS[name](result, number)
    return _bare(result)


def _truth(value: Any, node: ast.expr) -> _Truth:
    if isinstance(value, _Truth):
        return value
    if _kind(value) == "number":
        missing, holds = _is_missing(value), np.asarray(value) == 1
        if np.all(holds | (np.asarray(value) == 0) | missing):
            return _Truth(holds, ~holds & ~missing)
    what = "number with values other than 0 and 1" if _kind(value) == "number" else _kind(value)
    raise _Fault(f"{ast.unparse(node)} is a {what}, no condition; compare it with something, as in distance_km > 0")


def _number(value: Any, node: ast.expr) -> Any:
    value = _plain(value)
    if _kind(value) != "number":
        raise _Fault(f"{ast.unparse(node)} is a {_kind(value)}; arithmetic is for numbers only")
    return value


def _plain(value: Any) -> Any:
    """A condition as the numbers 0 and 1, NaN where it is missing; anything else as it came."""
    if isinstance(value, _Truth):
        return np.where(value.true, 1.0, np.where(value.false, 0.0, np.nan))
    return int(value) if isinstance(value, bool) else value


def _bare(value: Any) -> Any:
    """A Python number where a NumPy scalar would impose its precision on the column it meets."""
    return value.item() if np.ndim(value) == 0 else value


def _kind(value: Any) -> str:
    if isinstance(value, str):
        return "text"
    return {"O": "text", "M": "time"}.get(np.asarray(value).dtype.kind, "number")


def _is_missing(value: Any) -> np.ndarray:
    values = np.asarray(value)
    return np.asarray(pd.isna(values)) if values.dtype.kind in "OMf" else np.zeros(values.shape, dtype=bool)


def _filled(value: Any) -> Any:
    return value if isinstance(value, str) else np.where(pd.isna(value), "", value)


def _as_time(value: Any) -> Any:
    if not isinstance(value, str):
        if _kind(value) == "text":
            raise _Fault("a time can be compared with a quoted date, not with a column of text")
        return value
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        raise _Fault(f'"{value}" is no date; write it as "2020-06-01" or "2020-06-01 12:00"') from None
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time)


def _length(columns: Mapping[str, Any] | pd.DataFrame) -> int | None:
    if isinstance(columns, pd.DataFrame):
        return len(columns)
    return next((len(values) for values in columns.values()), None)


def _column(name: str, values: Any) -> Any:
    """A column as an integer, float, datetime64 or object (text) array, or as a condition."""
    if isinstance(values, pd.Series | pd.Index | pd.api.extensions.ExtensionArray):
        values = _unpacked(pd.Series(values))
    values = np.asarray(values)
    if values.dtype.kind == "O":
        values = _unboxed(name, values)
    match values.dtype.kind:
        case "b":
            return _Truth(values, ~values)
        case "i" | "u" if values.dtype.itemsize < 8:
            return values.astype(np.int64)  # small integers would wrap in arithmetic
        case "U":
            return values.astype(object)
        case "i" | "u" | "f" | "O" | "M":
            return values
    raise _Fault(f"column {name} holds {values.dtype}; expected numbers, text, booleans or times")


def _unpacked(series: pd.Series) -> np.ndarray:
    """The NumPy array of a pandas column, whichever of pandas' own types it has."""
    if isinstance(series.dtype, pd.DatetimeTZDtype):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    if pd.api.types.is_extension_array_dtype(series.dtype):
        # categories, nullable numbers, text: as objects, whose kind _unboxed then tells
        return series.to_numpy(dtype=object)
    return series.to_numpy()


def _unboxed(name: str, values: np.ndarray) -> np.ndarray:
    """Python objects as one kind of array: text stays; numbers, booleans and times become arrays of their own."""
    kind = pd.api.types.infer_dtype(values, skipna=True)
    if kind == "string":
        return values
    missing = pd.isna(values)
    if kind in ("boolean", "integer") and not missing.any():
        return values.astype(bool if kind == "boolean" else np.int64)
    if kind in ("boolean", "integer", "floating", "mixed-integer-float", "empty"):
        return np.where(missing, np.nan, values).astype(np.float64)
    if kind in ("datetime", "datetime64"):
        return pd.to_datetime(values, utc=True).tz_localize(None).to_numpy()
    raise _Fault(f"column {name} mixes kinds of values ({kind}); expected only numbers, only text or only times")

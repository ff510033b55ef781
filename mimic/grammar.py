"""The text of a group expression into a syntax tree that holds nothing but what the grammar allows."""

from __future__ import annotations

import ast
import re
import warnings

__all__ = ["ALLOWED", "EVERYTHING", "MAX_DEPTH", "MAX_LENGTH", "GrammarError", "column_names", "syntax_tree"]

EVERYTHING = "all"
MAX_LENGTH = 1000
MAX_DEPTH = 30
ALLOWED = (
    'column names, numbers, "quoted text", True and False, < <= > >= == !=, in (..) and not in (..), and, or, not, '
    "+ - * / %, and the calls abs, log, exp, sqrt, sin, cos, floor, min, max, isnan, missing"
)

_COMPARE = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Mod)
_NUMBER_CALLS = ("abs", "log", "exp", "sqrt", "sin", "cos", "floor", "min", "max")
_TRUTH_CALLS = ("isnan", "missing")
_INSTEAD: dict[type[ast.AST], str] = {
    ast.Pow: "** is not allowed (write x * x)",
    ast.FloorDiv: "// is not allowed (write floor(x / y))",
    ast.BitAnd: "& is not allowed (write and)",
    ast.BitOr: "| is not allowed (write or)",
    ast.Invert: "~ is not allowed (write not)",
    ast.Is: "is is not allowed (write ==, or missing(x))",
    ast.IsNot: "is not is not allowed (write !=, or not missing(x))",
    ast.Attribute: "a dot after a name is not allowed",
    ast.Subscript: "square brackets after a name are not allowed",
    ast.Tuple: "a list is allowed only after in",
    ast.List: "a list is allowed only after in",
    ast.Set: "a list is allowed only after in",
}


class GrammarError(ValueError):
    """A text that is no group expression; the message says why and what is allowed."""


def syntax_tree(text: str, *, condition: bool = True) -> ast.expr:
    """The checked syntax tree of a group expression; "all" is another way to write `True`.

    With `condition=False` of a formula such as `log(step_length_m)`, which may be a number.

    Raises
    ------
    GrammarError
        If the text is empty, longer than `MAX_LENGTH`, nested deeper than `MAX_DEPTH`, holds anything but
        what `ALLOWED` says, or is by its syntax a number rather than a condition.
    """
    try:
        tree = _read(text)
        _check_depth(tree)
        if condition:
            _check_condition(tree)
        _check(tree)
    except _Fault as fault:
        shown = text if len(text) <= 100 else text[:100] + "..."
        what = "group expression" if condition else "formula"
        raise GrammarError(f"{what} {shown!r} is no expression: {fault}. Allowed are {ALLOWED}.") from None
    return tree


def column_names(tree: ast.expr) -> frozenset[str]:
    """The names of the columns that a syntax tree uses."""
    calls = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in calls)


class _Fault(Exception):
    """What is wrong; `syntax_tree` adds the expression and what is allowed."""


def _read(text: str) -> ast.expr:
    body = " ".join(text.splitlines()).strip()  # a condition in YAML may run over several lines
    if not body:
        raise _Fault(f'it is empty (write "{EVERYTHING}" for everything)')
    if len(text) > MAX_LENGTH:
        raise _Fault(f"it has {len(text)} characters, more than {MAX_LENGTH}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python warns of odd spellings such as `1in (2,)`
            return ast.parse("True" if body == EVERYTHING else body, mode="eval").body
    except SyntaxError as error:
        where = f" at character {error.offset}" if error.offset else ""
        raise _Fault(f"{error.msg.split('. ')[0]}{where}{_hint(body)}") from None
    except (ValueError, RecursionError, MemoryError):
        raise _Fault("it is nested too deeply, or holds characters that are no text") from None


def _hint(body: str) -> str:
    """What to write instead of the signs of other languages."""
    if re.search(r"(?<![=<>!])=(?!=)", body):
        return " (write == to compare)"
    return " (write and, or, not)" if re.search(r"&&|\|\||!(?!=)", body) else ""


def _check_depth(tree: ast.expr) -> None:
    # level by level: recursion on a hostile text would run into Python's own limit
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
    raise _Fault(f"it is nested {MAX_DEPTH} deep or deeper")


def _check(node: ast.AST) -> None:
    """Raise _Fault at the first thing outside the grammar."""
    inner: list[ast.expr] = []
    match node:
        case ast.Constant():
            _check_constant(node)
        case ast.Name():
            pass
        case ast.BoolOp():
            inner = node.values
            for value in inner:
                _check_condition(value)
        case ast.UnaryOp(op=ast.Not()):
            inner = [node.operand]
            _check_condition(node.operand)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            inner = [node.operand]
        case ast.BinOp() if isinstance(node.op, _ARITHMETIC):
            inner = [node.left, node.right]
        case ast.Compare():
            inner = _compared(node)
        case ast.Call():
            inner = _arguments(node)
        case _:
            raise _Fault(_not_allowed(node))
    for child in inner:
        _check(child)


def _not_allowed(node: ast.AST) -> str:
    what = node.op if isinstance(node, ast.UnaryOp | ast.BinOp) else node
    return _INSTEAD.get(type(what), f"{ast.unparse(node)} is not allowed")


def _check_constant(node: ast.Constant) -> None:
    if node.value is None:
        raise _Fault("None is not allowed (write missing(x))")
    if not isinstance(node.value, bool | int | float | str):
        raise _Fault(f"{ast.unparse(node)} is neither a number nor text")
    if isinstance(node.value, int) and node.value >= 2**63:
        raise _Fault(f"{node.value} does not fit into 64 bits")


def _check_condition(node: ast.expr) -> None:
    """Raise _Fault where a condition is wanted and the syntax alone tells that a number or text came."""
    match node:
        case ast.BinOp(op=operator):
            is_number = isinstance(operator, _ARITHMETIC)
        case ast.UnaryOp(op=operator):
            is_number = isinstance(operator, ast.USub | ast.UAdd)
        case ast.Call(func=ast.Name(id=name)):
            is_number = name in _NUMBER_CALLS
        case ast.Constant(value=value):
            is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
        case _:
            is_number = False
    if is_number:
        raise _Fault(f"{ast.unparse(node)} is no condition (compare it with something, as in distance_km > 0)")


def _compared(node: ast.Compare) -> list[ast.expr]:
    """The values that a comparison compares, the members of lists one by one."""
    values = [node.left]
    for operator, right in zip(node.ops, node.comparators, strict=True):
        if isinstance(operator, ast.In | ast.NotIn):
            values += _members(right)
        elif isinstance(operator, _COMPARE):
            values.append(right)
        else:
            raise _Fault(_INSTEAD.get(type(operator), f"{type(operator).__name__} is not allowed"))
    if any(isinstance(operator, ast.In | ast.NotIn) for operator in node.ops[:-1]):
        raise _Fault("nothing may follow a list (join two conditions with and)")
    return values


def _members(node: ast.expr) -> list[ast.expr]:
    if not isinstance(node, ast.Tuple | ast.List | ast.Set) or not node.elts:
        raise _Fault(f"in needs a list such as (6, 7, 8) or (6,); got {ast.unparse(node)}")
    for member in node.elts:
        bare = member.operand if isinstance(member, ast.UnaryOp) else member
        if not isinstance(bare, ast.Constant):
            raise _Fault(f"a list may hold numbers and quoted text only; got {ast.unparse(member)}")
    return node.elts


def _arguments(node: ast.Call) -> list[ast.expr]:
    name = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if name not in _NUMBER_CALLS + _TRUTH_CALLS:
        raise _Fault(f"{name} is none of the calls that are allowed")
    several = name in ("min", "max")
    plain = not node.keywords and not any(isinstance(argument, ast.Starred) for argument in node.args)
    if not plain or (len(node.args) < 2 if several else len(node.args) != 1):
        raise _Fault(f"{name}() takes {'two or more values' if several else 'one value'}; got {ast.unparse(node)}")
    return node.args

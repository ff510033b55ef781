"""The text of a formula into its terms, each a product of factors that hold nothing but what the grammar allows."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from itertools import product

from mimic.grammar import MAX_DEPTH, MAX_LENGTH

__all__ = ["CALLS", "FormulaError", "Term", "arithmetic", "parse_terms"]

CALLS = ("log", "log1p", "sqrt", "exp", "abs", "sin", "cos", "I")
_ALLOWED = (
    "names of features and decision columns, numbers, + - : * and parentheses between terms, + - * / and powers "
    "(^ or **) within I(..), and the calls log, log1p, sqrt, exp, abs, sin, cos, I and C"
)
_TOKEN = re.compile(r"\s*(\*\*|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[^\W\d]\w*|[-+*/^:()])")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow)
_MAX_TERMS = 500

Term = tuple[str, ...]


class FormulaError(ValueError):
    """A text that is no formula; the message says why and what is allowed."""


def parse_terms(text: str) -> tuple[Term, ...]:
    """The terms of a formula, each once, in order; factors as they are written, without spaces and with ** for ^.

    Raises
    ------
    FormulaError
        If the text is empty, too long, nested too deeply, or holds anything but what is allowed.

    Example
    -------
    >>> parse_terms("sst*depth + log(distance_km) - depth")
    (('sst',), ('sst', 'depth'), ('log(distance_km)',))
    """
    try:
        terms = _terms(_tokens(text))
        if not terms:
            raise _Fault("no term is left")
    except _Fault as fault:
        shown = text if len(text) <= 100 else text[:100] + "..."
        raise FormulaError(f"formula {shown!r}: {fault}. Allowed are {_ALLOWED}.") from None
    return tuple(terms)


def arithmetic(factor: str) -> ast.expr:
    """The syntax tree of a factor from `parse_terms`."""
    return ast.parse(factor, mode="eval").body


class _Fault(Exception):
    """What is wrong; `parse_terms` adds the formula and what is allowed."""


def _tokens(text: str) -> list[str]:
    body = " ".join(text.split())
    if len(body) > MAX_LENGTH:
        raise _Fault(f"it has {len(body)} characters, more than {MAX_LENGTH}")
    body = body.removeprefix("~")
    if "~" in body:
        raise _Fault("only the right side of ~ is given: the selected choice is known")
    if not body.strip():
        raise _Fault("it is empty")
    tokens, place, depth = [], 0, 0
    while place < len(body.rstrip()):
        match = _TOKEN.match(body, place)
        if match is None:
            raise _Fault(f"{body[place:].strip()[:10]!r} is not allowed")
        tokens.append(match[1].replace("^", "**"))
        place = match.end()
        depth += (tokens[-1] == "(") - (tokens[-1] == ")")
        if depth < 0 or depth > MAX_DEPTH:
            raise _Fault(
                "a parenthesis closes that was not opened" if depth < 0 else f"nested {MAX_DEPTH} deep or deeper"
            )
    if depth:
        raise _Fault("a parenthesis is not closed")
    return tokens


def _terms(tokens: Sequence[str]) -> list[Term]:
    """The terms of a formula or of one in parentheses, each once, in order."""
    found: list[Term] = []
    for sign, part in _split(tokens, ("+", "-")):
        crossed: list[Term] = []
        for _, factors in _split(part, ("*",)):
            product_terms: list[Term] = [()]
            for _, factor in _split(factors, (":",)):
                product_terms = _products(product_terms, _factor_terms(factor))
            crossed = _once([*crossed, *product_terms, *_products(crossed, product_terms)])
        if sign == "-":
            for term in crossed:
                if not any(set(term) == set(other) for other in found):
                    raise _Fault(f"- takes {':'.join(term)} away, which was not there")
                found = [other for other in found if set(other) != set(term)]
        else:
            found = _once([*found, *crossed])
    return found


def _split(tokens: Sequence[str], signs: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """The parts between these signs outside of parentheses, each with the sign before it (that of the first is +)."""
    parts: list[tuple[str, list[str]]] = [("+", [])]
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        after_operand = i > 0 and tokens[i - 1] not in ("+", "-", "*", "/", "**", ":", "(")
        if depth == 0 and token in signs and after_operand:
            parts.append((token, []))
        elif depth == 0 and i == 0 and token == "+" and "+" in signs:
            continue
        else:
            parts[-1][1].append(token)
    for sign, part in parts:
        if not part:
            raise _Fault(f"a term is missing after {sign}" if len(parts) > 1 else "it is empty")
    return parts


def _products(left: Sequence[Term], right: Sequence[Term]) -> list[Term]:
    if len(left) * len(right) > _MAX_TERMS:
        raise _Fault(f"it has more than {_MAX_TERMS} terms")
    return [tuple(dict.fromkeys([*a, *b])) for a, b in product(left, right)]


def _once(terms: Sequence[Term]) -> list[Term]:
    """a:b and b:a are one term."""
    return list({frozenset(term): term for term in reversed(terms)}.values())[::-1]


def _factor_terms(tokens: Sequence[str]) -> list[Term]:
    """A formula in parentheses, or one piece of arithmetic as a term of its own."""
    if tokens[0] == "(" and _closes(tokens) == len(tokens) - 1:
        return _terms(tokens[1:-1])
    text = "".join(tokens)
    tree = _tree(" ".join(tokens))  # with spaces, so that two names side by side do not become one
    _check(tree, whole=True)
    if not any(isinstance(node, ast.Name) for node in ast.walk(tree)):
        if text in ("1", "0", "-1"):
            raise _Fault("there is no intercept to add or take away: it cancels in the choice between alternatives")
        raise _Fault(f"{text} is no feature; arithmetic with numbers goes into I(..), as in I(2*sst)")
    return [(text,)]


def _closes(tokens: Sequence[str]) -> int:
    """Where the parenthesis closes that the first token opens."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += (token == "(") - (token == ")")
        if depth == 0:
            return i
    return -1


def _tree(text: str) -> ast.expr:
    try:
        return arithmetic(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _Fault(f"{text!r} is no arithmetic") from None


def _check(node: ast.AST, *, whole: bool = False) -> None:
    """Raise _Fault at the first thing outside the grammar; `whole` for a factor as it stands in a term."""
    match node:
        case ast.Name() if node.id not in (*CALLS, "C"):
            inner: list[ast.expr] = []
        case ast.Constant() if isinstance(node.value, int | float) and abs(node.value) < 1e300:
            inner = []
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            inner = [node.operand]
        case ast.BinOp() if isinstance(node.op, _ARITHMETIC):
            inner = [node.left, node.right]
        case ast.Call(func=ast.Name(id="C"), args=[ast.Name()], keywords=[]):
            if not whole:
                raise _Fault(f"{ast.unparse(node)} stands alone or in a product with : only")
            inner = []
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in CALLS:
            inner = [argument]
        case ast.Call():
            raise _Fault(f"{ast.unparse(node)} is not allowed")
        case _:
            raise _Fault(f"{ast.unparse(node)} is not allowed here")
    for child in inner:
        _check(child)

"""Computes expressions: `ceil_to(a.width * 2, 64)`, or several lines that name what they compute.

Python's own parser reads the text, and what it gives is walked here: what is not on the list of this file
cannot be written. There are no loops, so the time is bounded by the length of the text and the size of the
values; see docs/adr/0012-expressions-are-walked.md.
"""

from __future__ import annotations

import ast
import difflib
import operator
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from ..seeded_draw import SeededDraw
from .errors import BadValueError, ExpressionError
from .functions import CONSTANTS, functions, power
from .values import (
    SIZE_NAMES,
    Sizes,
    Value,
    check_length,
    checked,
    kind_of,
    number,
    whole,
)

MAX_SOURCE = 10_000  # characters
MAX_DEPTH = 100

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_WRONG_SIGNS = {
    ast.BitXor: "Write ** for a power.",
    ast.BitAnd: "Write 'and'.",
    ast.BitOr: "Write 'or'.",
}


def evaluate(source: str, values: Mapping[str, Value], seed: int = 0) -> dict[str, Value]:
    """Compute an expression, or lines of `name = expression`.

    Args:
        source: What is to be computed.
        values: What the names stand for.
        seed: Decides what rand, randint and pick draw.

    Returns:
        What was named, and under "" the value of the last line.

    Raises:
        ExpressionError: It cannot be computed; the message shows the place.
    """
    source = textwrap.dedent(source.replace("\r\n", "\n")).strip("\n")
    tree = _parsed(source)
    run = _Run(source, values, seed)
    named: dict[str, Value] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Expr):
            named[""] = run.value(statement.value, 0)
        elif isinstance(statement, ast.Assign):
            name = run.target(statement)
            named[name] = named[""] = run.names[name] = run.value(statement.value, 0)
        else:
            run.refuse(statement, "this is no expression", "Write 'name = expression' lines, or one expression.")  # fmt: skip
    return named


def _parsed(source: str) -> ast.Module:
    if not source.strip():
        raise ExpressionError("there is none", "Write one, such as a + b.", source, (1, 0, 1))
    if len(source) > MAX_SOURCE:
        raise ExpressionError(
            f"it has {len(source)} characters", f"At most {MAX_SOURCE} are read.", source, (1, 0, 1)
        )
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line, start = error.lineno or 1, max(0, (error.offset or 1) - 1)
        hint = "Python's signs count: == compares, ** is a power, and / or / not join conditions."
        raise ExpressionError(
            f"it cannot be read ({error.msg})", hint, source, (line, start, start + 1)
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            "it is nested too deeply, or holds null bytes", "Split it.", source, (1, 0, 1)
        ) from error


class _Run:
    """One computation."""

    def __init__(self, source: str, values: Mapping[str, Value], seed: int) -> None:
        self.source = source
        self.names: dict[str, Value] = {**CONSTANTS, **values}
        self._functions = functions(SeededDraw(seed, "expression"))

    def target(self, statement: ast.Assign) -> str:
        (target, *more) = statement.targets
        if more or not isinstance(target, ast.Name):
            self.refuse(target, "only a name can stand before '='", "Write == to compare.")
        return target.id

    def value(self, node: ast.expr, depth: int) -> Value:
        """Return what a part of the expression is worth."""
        if depth > MAX_DEPTH:
            self.refuse(
                node, "it is nested too deeply", "Split it into lines of name = expression."
            )
        method = _METHODS.get(type(node))
        if method is None:
            self.refuse(node, "this cannot be used in an expression", "")
        try:
            return checked(method(self, node, depth + 1))
        except BadValueError as error:
            self.refuse(node, error.why, error.hint)
        except ZeroDivisionError:
            self.refuse(node, "this divides by zero", "")
        except OverflowError:
            self.refuse(node, "the number is too large", "")

    def refuse(self, node: Any, why: str, hint: str) -> NoReturn:
        line = getattr(node, "lineno", 1)
        start, end = getattr(node, "col_offset", 0), getattr(node, "end_col_offset", 0)
        written = self.source.split("\n")[line - 1].encode()
        if getattr(node, "end_lineno", line) != line:
            end = len(written)
        # Python counts bytes, people count letters.
        first = len(written[:start].decode("utf-8", "replace"))
        last = len(written[:end].decode("utf-8", "replace"))
        raise ExpressionError(why, hint, self.source, (line, first, last))

    def constant(self, node: ast.Constant, _: int) -> Value:
        if isinstance(node.value, (bool, int, float, str)) or node.value is None:
            return node.value
        raise BadValueError("this kind of value cannot be used in an expression")

    def name(self, node: ast.Name, _: int) -> Value:
        if node.id in self.names:
            return self.names[node.id]
        hint = f"{node.id} is a function: write {node.id}(…)." if node.id in self._functions else ""
        raise BadValueError(f"there is no value '{node.id}'", hint or _similar(node.id, self.names))

    def attribute(self, node: ast.Attribute, depth: int) -> Value:
        of = self.value(node.value, depth)
        if not isinstance(of, Sizes):
            raise BadValueError(
                f"{kind_of(of)} has no '{node.attr}'",
                "Only pictures, masks and latents have sizes.",
            )
        if node.attr not in SIZE_NAMES:
            raise BadValueError(f"there is no size '{node.attr}'", _similar(node.attr, SIZE_NAMES))
        found: Value = getattr(of, node.attr)
        return found

    def items(self, node: ast.Tuple | ast.List, depth: int) -> Value:
        return tuple(self.value(item, depth) for item in node.elts)

    def unary(self, node: ast.UnaryOp, depth: int) -> Value:
        operand = self.value(node.operand, depth)
        if isinstance(node.op, ast.Not):
            return not operand
        if isinstance(node.op, ast.Invert):
            raise BadValueError("'~' cannot be used", "Write 'not'.")
        return -number(operand) if isinstance(node.op, ast.USub) else +number(operand)

    def binary(self, node: ast.BinOp, depth: int) -> Value:
        left, right = self.value(node.left, depth), self.value(node.right, depth)
        if type(node.op) in _WRONG_SIGNS:
            raise BadValueError("this sign cannot be used", _WRONG_SIGNS[type(node.op)])
        if isinstance(node.op, ast.Add):
            return _sum(left, right)
        if isinstance(node.op, ast.Mult):
            return _product(left, right)
        if isinstance(node.op, ast.Pow):
            return power(left, right)
        compute = _ARITHMETIC.get(type(node.op))
        if compute is None:
            raise BadValueError("this sign cannot be used")
        return compute(number(left), number(right))

    def logic(self, node: ast.BoolOp, depth: int) -> Value:
        stop_at = isinstance(node.op, ast.Or)
        found: Value = None
        for part in node.values:
            found = self.value(part, depth)
            if bool(found) == stop_at:
                break
        return found

    def comparison(self, node: ast.Compare, depth: int) -> Value:
        left = self.value(node.left, depth)
        for sign, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part, depth)
            if not _compared(sign, left, right):
                return False
            left = right
        return True

    def condition(self, node: ast.IfExp, depth: int) -> Value:
        return self.value(node.body if self.value(node.test, depth) else node.orelse, depth)

    def item(self, node: ast.Subscript, depth: int) -> Value:
        of = self.value(node.value, depth)
        if not isinstance(of, (str, tuple)):
            raise BadValueError(f"{kind_of(of)} has no parts")
        if isinstance(node.slice, ast.Slice):
            bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            places = [None if b is None else whole(self.value(b, depth)) for b in bounds]
            if places[2] == 0:
                raise BadValueError("a step of 0 leads nowhere")
            return of[slice(*places)]
        place = whole(self.value(node.slice, depth))
        if not -len(of) <= place < len(of):
            raise BadValueError(f"there is no part {place}: it has {len(of)}, counted from 0")
        return of[place]

    def call(self, node: ast.Call, depth: int) -> Value:
        if not isinstance(node.func, ast.Name):
            raise BadValueError("only functions of the list can be called", "Write upper(a), not a.upper().")  # fmt: skip
        function = self._functions.get(node.func.id)
        if function is None:
            raise BadValueError(
                f"there is no function '{node.func.id}'", _similar(node.func.id, self._functions)
            )
        if node.keywords or any(isinstance(given, ast.Starred) for given in node.args):
            raise BadValueError("arguments stand one after the other, without names or stars")
        arguments = [self.value(given, depth) for given in node.args]
        try:
            return function(*arguments)
        except TypeError:
            raise BadValueError(
                f"{node.func.id} does not take {len(arguments)} arguments"
            ) from None
        except ValueError:
            raise BadValueError(f"{node.func.id} cannot work with this value") from None


def _sum(left: Value, right: Value) -> Value:
    if isinstance(left, str) and isinstance(right, str):
        check_length(len(left) + len(right))
        return left + right
    if isinstance(left, tuple) and isinstance(right, tuple):
        return left + right
    if isinstance(left, str) or isinstance(right, str):
        raise BadValueError(
            f"{kind_of(left)} and {kind_of(right)} cannot be added",
            "Write str(…) around the number to join texts, or float(…) around the text to add numbers.",
        )
    return number(left) + number(right)


def _product(left: Value, right: Value) -> Value:
    for value, times in ((left, right), (right, left)):
        if isinstance(value, str):
            check_length(len(value) * max(0, whole(times)))
            return value * whole(times)
    return number(left) * number(right)


def _compared(sign: ast.cmpop, left: Any, right: Any) -> bool:
    if isinstance(sign, (ast.In, ast.NotIn)):
        if isinstance(right, str) and not isinstance(left, str):
            raise BadValueError(f"{kind_of(left)} cannot be in a text", "Write str(…) around it.")
        if not isinstance(right, (str, tuple)):
            raise BadValueError(f"nothing can be in {kind_of(right)}")
        return (left in right) == isinstance(sign, ast.In)
    compare = _COMPARED.get(type(sign))
    if compare is None:
        raise BadValueError("this comparison cannot be used", "Write == or !=.")
    if isinstance(sign, (ast.Eq, ast.NotEq)):
        return bool(compare(left, right))
    if isinstance(left, str) != isinstance(right, str):
        raise BadValueError(f"{kind_of(left)} and {kind_of(right)} have no order")
    if isinstance(left, str):
        return bool(compare(left, right))
    return bool(compare(number(left), number(right)))


def _similar(name: str, known: Iterable[str]) -> str:
    known = sorted(name for name in known if name)
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."


_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Value]] = {
    ast.Sub: operator.sub,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_METHODS: dict[type[ast.expr], Callable[[_Run, Any, int], Value]] = {
    ast.Constant: _Run.constant,
    ast.Name: _Run.name,
    ast.Attribute: _Run.attribute,
    ast.Tuple: _Run.items,
    ast.List: _Run.items,
    ast.UnaryOp: _Run.unary,
    ast.BinOp: _Run.binary,
    ast.BoolOp: _Run.logic,
    ast.Compare: _Run.comparison,
    ast.IfExp: _Run.condition,
    ast.Subscript: _Run.item,
    ast.Call: _Run.call,
}

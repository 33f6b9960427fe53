"""Computes expressions: `ceil_to(a.width * 2, 64)`, or several lines that name what they compute.

The package simpleeval does it, with our functions and signs only. There are no loops, so the time is bounded by
the length of the text and the size of the values. Its own limits are settings of the whole process, which other
packs may change; ours are in `values.py` and hold for each value that comes up on the way.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from simpleeval import (
    FeatureNotAvailable,
    FunctionNotDefined,
    InvalidExpression,
    NameNotDefined,
    OperatorNotDefined,
    SimpleEval,
)

from ..seeded_draw import SeededDraw
from .errors import BadValueError, ExpressionError
from .functions import CONSTANTS, functions
from .operators import INSTEAD, OPERATORS, part
from .values import INPUTS, SIZE_NAMES, Sizes, Value, checked, kind_of

MAX_SOURCE = 10_000  # characters
MAX_DEPTH = 100

# Of what simpleeval can read. Names of arguments, texts with braces and imports are not among them.
_ALLOWED = {
    *(ast.Expr, ast.Assign, ast.Constant, ast.Name, ast.Attribute, ast.Subscript, ast.Slice),
    *(ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare, ast.IfExp, ast.Call),
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
    evaluator = _Evaluator(source, values, seed)
    for statement in _parsed(source):
        evaluator.named[""] = evaluator.eval(source, statement)
    return evaluator.named


def _parsed(source: str) -> list[ast.stmt]:
    whole = (1, 0, 1)
    if len(source) > MAX_SOURCE:
        raise ExpressionError(
            f"it has {len(source)} characters", f"At most {MAX_SOURCE} are read.", source, whole
        )
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        line, start = error.lineno or 1, max(0, (error.offset or 1) - 1)
        hint = "Python's signs count: == compares, ** is a power, and / or / not join conditions."
        raise ExpressionError(
            f"it cannot be read ({error.msg})", hint, source, (line, start, start + 1)
        ) from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError(
            "it is nested too deeply, or holds null bytes", "Split it.", source, whole
        ) from error
    if not statements:
        raise ExpressionError("there is none", "Write one, such as a + b.", source, whole)
    return statements


class _Evaluator(SimpleEval):  # type: ignore[misc]  # the package has no types
    """One computation. What fails is refused at the innermost part that fails."""

    def __init__(self, source: str, values: Mapping[str, Value], seed: int) -> None:
        names = {**CONSTANTS, **values}
        super().__init__(OPERATORS, functions(SeededDraw(seed, "expression")), names)
        for kind in set(self.nodes) - _ALLOWED:
            del self.nodes[kind]
        self.nodes[ast.Tuple] = self.nodes[ast.List] = self._eval_items
        self.named: dict[str, Value] = {}
        self._source = source
        self._depth = 0

    def _eval(self, node: Any) -> Any:
        self._depth += 1
        try:
            if self._depth > MAX_DEPTH:
                raise BadValueError("it is nested too deeply", "Split it into lines of name = expression.")  # fmt: skip
            value = super()._eval(node)
            if callable(value):
                raise BadValueError(f"{node.id} is a function", f"Write {node.id}(…).")
            value = value if isinstance(value, slice) else checked(value)
        except (BadValueError, InvalidExpression, ZeroDivisionError, OverflowError) as error:
            self._refuse(node, *self._said(node, error))
        self._depth -= 1
        return value

    def _eval_assign(self, node: ast.Assign) -> Value:
        (target, *more) = node.targets
        if more or not isinstance(target, ast.Name):
            self._refuse(target, "only a name can stand before '='", "Write == to compare.")
        value: Value = self._eval(node.value)
        self.named[target.id] = self.names[target.id] = value
        return value

    def _eval_items(self, node: ast.Tuple | ast.List) -> Value:
        return tuple(self._eval(item) for item in node.elts)

    def _eval_attribute(self, node: ast.Attribute) -> Value:
        of = self._eval(node.value)
        if not isinstance(of, Sizes):
            raise BadValueError(f"{kind_of(of)} has no '{node.attr}'", "Only pictures, masks and latents have sizes.")  # fmt: skip
        if node.attr not in SIZE_NAMES:
            raise BadValueError(f"there is no size '{node.attr}'", _similar(node.attr, SIZE_NAMES))
        found: Value = getattr(of, node.attr)
        return found

    def _eval_subscript(self, node: ast.Subscript) -> Value:
        return part(self._eval(node.value), self._eval(node.slice))

    def _eval_call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name):
            raise BadValueError("only functions of the list can be called", "Write upper(a), not a.upper().")  # fmt: skip
        try:
            return super()._eval_call(node)
        except TypeError:
            raise BadValueError(
                f"{node.func.id} does not take {len(node.args)} arguments"
            ) from None
        except ValueError:
            raise BadValueError(f"{node.func.id} cannot work with this value") from None

    def _said(self, node: ast.AST, error: Exception) -> tuple[str, str]:
        """Return why, and what to do."""
        if isinstance(error, BadValueError):
            return error.why, error.hint
        if isinstance(error, ZeroDivisionError):
            return "this divides by zero", ""
        if isinstance(error, OverflowError):
            return "the number is too large", ""
        if isinstance(error, NameNotDefined):
            if error.name in INPUTS:
                return f"nothing is connected with the input '{error.name}'", "Connect a value."
            return f"there is no value '{error.name}'", _similar(error.name, self.names)
        if isinstance(error, FunctionNotDefined):
            name = error.func_name
            return f"there is no function '{name}'", _similar(name, self.functions)
        if isinstance(error, OperatorNotDefined):
            return "this sign cannot be used", INSTEAD.get(type(error.attr), "")
        if isinstance(node, ast.stmt) and isinstance(error, FeatureNotAvailable):
            return "this is no expression", "Write 'name = expression' lines, or one expression."
        return "this cannot be used in an expression", INSTEAD.get(type(node), "")

    def _refuse(self, node: Any, why: str, hint: str) -> NoReturn:
        line: int = node.lineno
        written = self._source.split("\n")[line - 1].encode()
        end: int = node.end_col_offset if node.end_lineno == line else len(written)
        # Python counts bytes, people count letters.
        first = len(written[: node.col_offset].decode("utf-8", "replace"))
        last = len(written[:end].decode("utf-8", "replace"))
        raise ExpressionError(why, hint, self._source, (line, first, last))


def _similar(name: str, known: Iterable[str]) -> str:
    known = sorted(name for name in known if name)
    close = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(known)}."

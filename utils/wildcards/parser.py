"""Text → tree: the grammar of docs/wildcards.md, in one pass and without backtracking.

Whatever is not well-formed stays in the text as it is.
"""

from __future__ import annotations

import itertools
import re
from functools import cache, lru_cache

from .dialects import Dialect, Trim
from .errors import Remark
from .numbers import read_range, split_weight
from .scanning import Scan
from .tree import (
    Assignment,
    Choice,
    FilePick,
    Method,
    Node,
    Reference,
    Slot,
    Template,
    Variable,
    Wrap,
    sequence_of,
)

MAX_NAME = 500  # characters of a name, with the choices in it
MAX_TAG = 1000  # characters of <lora:…>
MAX_DRAWS = 10_000
MAX_SOURCE = 300  # characters of a choice that are told when something is drawn from it
MAX_REMEMBERED = 50_000  # characters of a text

Key = str | int | tuple[int, int]  # what makes an option different from another

_MARKS = "".join(method.value for method in Method)
_COUNT = r"(?:([0-9]{1,9})?(-)?([0-9]{1,9})?\$\$)?"
_BOUND = re.compile(rf"\s*([~@!]?)\s*{_COUNT}")
_BOUND_WITHOUT_MARK = re.compile(rf"\s*()\s*{_COUNT}")
_NAME_STOP = re.compile(r"__|[{}(|,;<>\"\n]")
_VARIABLE = re.compile(r"\s*([A-Za-z_-][A-Za-z0-9_-]*)\s*(\?=!?|=!?|:|(?=\}))")
_FILE = re.compile(r"\s*([^{}|:$\[\]<>()\"\n#,;]{1,200})(:|$)")
_SLOT = re.compile(r"\[([^\[\]{}|<>:\n]{1,200})\]")
_MANY = re.compile(r"\s*([0-9]{1,3})#(?=__)")
_ARGUMENT = re.compile(r"\s*([A-Za-z_-][A-Za-z0-9_-]*)\s*=")


def parse_again(text: str, dialect: Dialect) -> Template:
    """Return the tree of a text that will probably be parsed again: it is remembered.

    Raises:
        WildcardError: It is too long or nested too deeply.
    """
    return _remembered(text, dialect) if len(text) <= MAX_REMEMBERED else parse(text, dialect)


@lru_cache(maxsize=512)
def _remembered(text: str, dialect: Dialect) -> Template:
    return parse(text, dialect)


def parse(text: str, dialect: Dialect, slots: bool = False) -> Template:
    """Return the tree of a text.

    Args:
        text: With or without anything to expand.
        dialect: Which forms there are.
        slots: The text is a template of a file: `[path]` is one of its leaves.

    Raises:
        WildcardError: It is too long or nested too deeply.
    """
    if not is_dynamic(text, dialect, slots):
        return Template(text)
    scan = Scan(text, dialect)
    parser = _Parser(scan, dialect, slots)
    root = parser.sequence(0, len(scan.text))
    return Template(root, tuple(scan.remarks))


def is_dynamic(text: str, dialect: Dialect, slots: bool = False) -> bool:
    """Can there be anything in the text that does not stay as it is?"""
    for character in ("{", "__", "<", "#", "\\", "[" if slots else "{"):
        if character in text:  # far quicker than the pattern, and most texts have none of them
            return "#" in text or _specials(dialect, slots).search(text) is not None
    return False


@cache
def _specials(dialect: Dialect, slots: bool) -> re.Pattern[str]:
    """Return what the parser stops at. Each alternative is bounded."""
    forms = [r"\{", r"[0-9]{1,3}#__", "__", r"<[A-Za-z]{1,20}:"]
    if dialect.variables:
        forms.insert(0, r"\$\{")
    if dialect.wraps:
        forms.insert(0, r"%\{")
    if dialect.escapes:
        forms.insert(0, rf"\\[{re.escape(dialect.escapes)}]")
    if slots:
        forms.append(r"\[")
    return re.compile("|".join(forms))


class _Parser:
    def __init__(self, scan: Scan, dialect: Dialect, slots: bool) -> None:
        self.scan = scan
        self.text = scan.text
        self.dialect = dialect
        self.slots = slots
        self.tag_end = 0  # of the <…> that the parser is in

    def sequence(self, start: int, end: int) -> Node:
        parts: list[Node] = []
        literal: list[str] = []
        search = _specials(self.dialect, self.slots).search
        while match := search(self.text, start, end):
            literal.append(self.text[start : match.start()])
            node, start = self._special(match.group(), match.start(), end)
            if isinstance(node, str):
                literal.append(node)
                continue
            parts += _joined(literal)
            literal = []
            parts.append(node)
        literal.append(self.text[start:end])
        parts += _joined(literal)
        if self.dialect.sets_first:  # a stable order: what is set stays in the order of the text
            parts.sort(key=lambda part: not isinstance(part, Assignment))
        return sequence_of(parts)

    def _special(self, form: str, at: int, end: int) -> tuple[Node, int]:
        """Return what stands at a place, and where it ends."""
        if form == "{":
            return self._braces(at)
        if form == "${":
            return self._variable(at)
        if form == "__":
            return self._reference(at, end)
        if form.endswith("#__"):
            return self._quantity(form, at, end)
        if form == "%{":
            return self._wrap(at)
        if form == "[":
            return self._slot(at)
        if form.startswith("\\"):
            return form[1], at + 2
        return self._tag(form, at, end)

    def _trimmed(self, start: int, end: int, trim: Trim | None = None) -> Node:
        trim = trim or self.dialect.trim
        text = self.text
        while trim is not Trim.NONE and start < end and text[start].isspace():
            start += 1
        bare = end
        while start < bare and text[bare - 1].isspace():
            bare -= 1
        if trim is Trim.BOTH or (trim is Trim.LINES and "\n" in text[bare:end]):
            end = bare
        return self.sequence(start, end)

    # Braces

    def _braces(self, at: int) -> tuple[Node, int]:
        close = self.scan.close.get(at)
        if close is None:
            return "{", at + 1
        content = self.text[at + 1 : close]
        pattern = _BOUND if self.dialect.samplers else _BOUND_WITHOUT_MARK
        bound = pattern.match(self.text, at + 1, close)
        bars = self.scan.bars[at]
        marked = bound is not None and ("$$" in bound.group() or bool(bound.group(1)))
        if bars or marked or split_weight(content, bare=self.dialect.bare_weights):
            return self._choice(at, close, bound if marked else None), close + 1
        if self.dialect.files:
            node = read_range(content) or self._file_pick(at, close)
            if node is not None:
                return node, close + 1
        return self._trimmed(at + 1, close), close + 1

    def _choice(self, at: int, close: int, bound: re.Match[str] | None) -> Node:
        start, low, high = at + 1, 1, 1
        method, separator = Method.RANDOM, self.dialect.separator
        if bound is not None:
            start, (low, high) = bound.end(), _bounds(bound)
            if bound.group(1):
                method = Method(bound.group(1))
            if "$$" in bound.group():
                start, separator = self._separator(start, close)
        options, weights, written = self._options(at, start, close)
        if not options:
            message = "all options of this choice weigh 0, so nothing can come up."
            self.scan.remarks.append(Remark(message, "", self.scan.line(at)))
            return ""
        if bound is None and len(options) == 1:
            return options[0]
        source = self.text[at : min(close + 1, at + MAX_SOURCE)]
        return Choice(options, weights, low, high, separator, method, source, written)

    def _separator(self, start: int, close: int) -> tuple[int, str]:
        """Return where the options begin, and what stands between those that are drawn."""
        end = self.text.find("$$", start, close)
        separator = self.text[start:end]
        if end < 0 or any(character in separator for character in "{}$"):
            return start, self.dialect.separator
        return end + 2, separator

    def _options(
        self, at: int, start: int, close: int
    ) -> tuple[tuple[Node, ...], tuple[float, ...], tuple[str, ...]]:
        edges = [start - 1, *(bar for bar in self.scan.bars[at] if bar >= start), close]
        weights_of: dict[Key, float] = {}
        nodes: dict[Key, Node] = {}
        written: dict[Key, str] = {}
        for number, (before, end) in enumerate(itertools.pairwise(edges)):
            weight, begin, trim = 1.0, before + 1, self.dialect.trim
            weighted = split_weight(self.text[begin:end], bare=self.dialect.bare_weights)
            if weighted is not None:
                weight, begin = weighted[0], end - len(weighted[1])
                trim = Trim.NONE if self.dialect.bare_weights else trim
            if weight == 0:
                continue
            key: Key = self.text[begin:end].strip() if self.dialect.distinct else number
            for copy, node in enumerate(self._repeated(begin, end, trim)):
                key = key if copy == 0 else (number, copy)
                weights_of[key] = weights_of.get(key, 0.0) + weight
                nodes.setdefault(key, node)
                written.setdefault(key, self.text[begin:end].strip())
        return tuple(nodes.values()), tuple(weights_of.values()), tuple(written.values())

    def _repeated(self, begin: int, end: int, trim: Trim) -> list[Node]:
        """Return an option; `3#__name__` is three of them."""
        many = _MANY.match(self.text, begin, end)
        if many is not None:
            node, after = self._reference(many.end(), end)
            if isinstance(node, Reference) and not self.text[after:end].strip():
                return [node] * int(many.group(1))
        return [self._trimmed(begin, end, trim)]

    def _file_pick(self, at: int, close: int) -> Node | None:
        """Read `{file}`, `{file:path}` or `{file: text [path]}`; None when it can be neither."""
        head = _FILE.match(self.text, at + 1, close)
        if head is None:
            return None
        name = head.group(1).strip()
        if not name or name.count("__") > 1:  # {__name__} and {a __name__} are texts
            return None
        path = body = None
        if head.group(2):
            inner = self.text[head.end() : close]
            if "[" in inner and "]" in inner:
                body = self._template_body(head.end(), close)
            else:
                path = self._trimmed(head.end(), close, Trim.BOTH)
        otherwise = None
        if any(character.isspace() for character in name):
            begin = head.start(1)
            rest = [part for part in (path, body) if part]
            otherwise = sequence_of([self.sequence(begin, head.end()), *rest])
        source = self.text[at : close + 1]
        return FilePick(name, path, body, otherwise, source, self.scan.line(at))

    def _template_body(self, start: int, end: int) -> Node:
        before, self.slots = self.slots, True
        body = self._trimmed(start, end, Trim.BOTH)
        self.slots = before
        return body

    def _slot(self, at: int) -> tuple[Node, int]:
        match = _SLOT.match(self.text, at)
        if match is None:
            return "[", at + 1
        return Slot(match.group(1).strip(), match.group(), self.scan.line(at)), match.end()

    def _wrap(self, at: int) -> tuple[Node, int]:
        close = self.scan.close.get(at + 1)
        middle = -1 if close is None else self._outside(at + 2, close, "$$")
        if close is None or middle < 0:
            return "%", at + 1
        wrapper = self._trimmed(at + 2, middle, Trim.LEFT)
        return Wrap(wrapper, self._trimmed(middle + 2, close)), close + 1

    def _outside(self, start: int, end: int, mark: str) -> int:
        """Return where a mark stands outside inner braces, or -1."""
        while True:
            found = self.text.find(mark, start, end)
            brace = self.text.find("{", start, found)
            if found < 0 or brace < 0:
                return found
            start = self.scan.close.get(brace, brace) + 1

    # Names

    def _quantity(self, form: str, at: int, end: int) -> tuple[Node, int]:
        """Read `3#__name__`."""
        name_at = at + len(form) - 2
        before = self.text[at - 1 : at]
        inside_word = before.isalnum() and self.dialect.quantity is None
        if inside_word or before.isdigit() or before == "#":
            return form[:-2], name_at
        node, after = self._reference(name_at, end)
        if not isinstance(node, Reference):
            return form[:-2], name_at
        count = min(int(form[:-3]), MAX_DRAWS)
        joint = self.dialect.quantity
        if joint is None:
            separator, source = self.dialect.separator, self.text[at:after]
            several = (node,), (1.0,), count, count, separator, Method.RANDOM, source, (source,)
            return Choice(*several), after
        return sequence_of([node, *(joint, node) * (count - 1)]) if count else "", after

    def _reference(self, at: int, end: int) -> tuple[Node, int]:
        """Read `__name__`, `__~name__` or `__name(variable=value)__`."""
        start, method = at + 2, Method.RANDOM
        if self.dialect.samplers and self.text[start : start + 1] in _MARKS and start < end:
            method, start = Method(self.text[start]), start + 1
        close, brackets = self._name_end(start, end)
        if close < 0:
            return "__", at + 2
        arguments: tuple[tuple[str, Node], ...] = ()
        name_end = close
        if brackets is not None:
            found = self._arguments(brackets, close - 1)
            if found is not None:
                arguments, name_end = found, brackets
        name = self.text[start:name_end]
        in_tag = at < self.tag_end
        if not name.strip() or (name != name.strip() and brackets is None):
            return "__", at + 2
        if in_tag and not self._fills_field(at, close + 2):
            return "__", at + 2
        source = self.text[at : close + 2]
        node = self._trimmed(start, name_end, Trim.BOTH) if "{" in name else name.strip()
        return Reference(node, method, arguments, source, self.scan.line(at), in_tag), close + 2

    def _name_end(self, start: int, end: int) -> tuple[int, int | None]:
        """Return where the closing `__` stands, or -1; and where a `(` that ends just before it."""
        at, brackets, limit = start, None, min(end, start + MAX_NAME)
        otherwise: tuple[int, int | None] = (-1, None)  # when names in brackets turn out to be none
        while match := _NAME_STOP.search(self.text, at, limit):
            stop, at = match.group(), match.end()
            if stop == "__":
                here = match.start()
                closes = self._closes(brackets, here)
                if closes or brackets is None or not _ARGUMENT.match(self.text, brackets + 1):
                    return here, brackets if closes else None
                otherwise = (here, None) if otherwise[0] < 0 else otherwise
            elif stop == "{":
                close = self.scan.close.get(match.start(), limit)
                if close >= limit:
                    break
                at = close + 1
            elif stop == "(" or (brackets is not None and stop != "\n"):
                brackets = match.start() if brackets is None else brackets
            else:
                break
        return otherwise

    def _closes(self, brackets: int | None, end: int) -> bool:
        """Do brackets that were opened end just before a place?"""
        if brackets is None or self.text[end - 1] != ")":
            return False
        return self.text.count("(", brackets, end) <= self.text.count(")", brackets, end)

    def _arguments(self, brackets: int, end: int) -> tuple[tuple[str, Node], ...] | None:
        """Read `(name=value, …)`; None when it is something else."""
        if not self.dialect.variables:
            return None
        found = []
        start = brackets + 1
        while start <= end:  # nothing is parsed before all of it has been seen to be well-formed
            comma = self._outside(start, end, ",")
            stop = comma if comma >= 0 else end
            match = _ARGUMENT.match(self.text, start, stop)
            if match is None:
                return None
            found.append((match.group(1), match.end(), stop))
            start = stop + 1
        return tuple((name, self._trimmed(start, stop, Trim.BOTH)) for name, start, stop in found)

    def _variable(self, at: int) -> tuple[Node, int]:
        close = self.scan.close.get(at + 1)
        match = _VARIABLE.match(self.text, at + 2, close + 1) if close is not None else None
        if close is None or match is None:
            return "$", at + 1
        name, sign = match.groups()
        if "=" in sign:
            value = self._trimmed(match.end(), close)
            return Assignment(name, value, sign.endswith("!"), sign.startswith("?")), close + 1
        default = self._trimmed(match.end(), close) if sign == ":" else None
        source = self.text[at : close + 1]
        return Variable(name, default, source, self.scan.line(at)), close + 1

    # Tags

    def _tag(self, form: str, at: int, end: int) -> tuple[Node, int]:
        """Enter `<lora:…>`, where a name must fill a whole field: file names may hold anything."""
        close = self.text.find(">", at, min(end, at + MAX_TAG))
        if close >= 0 and "\n" not in self.text[at:close]:
            self.tag_end = max(self.tag_end, close)
        return form, at + len(form)

    def _fills_field(self, at: int, after: int) -> bool:
        return self.text[at - 1] in ":/\\<" and self.text[after : after + 1] in (":", ">")


def _joined(literal: list[str]) -> list[Node]:
    text = "".join(literal)
    return [text] if text else []


def _bounds(bound: re.Match[str]) -> tuple[int, int]:
    """Return the least and the greatest number of options of `1-3$$`, `-3$$`, `1-$$` or `2$$`."""
    _, first, dash, last = bound.groups()
    if "$$" not in bound.group() or not (first or dash or last):
        return 1, 1
    low = int(first) if first else (1 if dash else int(last))
    high = int(last) if last else (MAX_DRAWS if dash else low)
    low, high = min(low, MAX_DRAWS), min(high, MAX_DRAWS)
    return (low, high) if low <= high else (high, low)

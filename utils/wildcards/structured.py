"""What the values of YAML and JSON files have in common: weights, and what is no value."""

from __future__ import annotations

from collections.abc import Mapping

from .errors import Remark, WildcardError
from .numbers import split_weight
from .values import Branch, Origin, Part, Values

TEXT_KEYS = ("value", "text", "content")  # of an item that is a mapping
WEIGHT_KEY = "weight"
MAX_DEPTH = 60


class Scalars:
    """Collects the values of one file.

    Attributes:
        file: What the file is called in remarks.
        rules: Value → weight, from wildcard_rules.yaml.
        remarks: What was noticed.
    """

    def __init__(self, file: str, rules: Mapping[str, float]) -> None:
        self.file = file
        self.rules = rules
        self.remarks: list[Remark] = []

    def remark(self, message: str, line: int) -> None:
        """Say something about a line."""
        self.remarks.append(Remark(message, self.file, line))

    def check_depth(self, depth: int) -> None:
        """Raise when a file is nested too deeply."""
        if depth > MAX_DEPTH:
            raise WildcardError(f"it is nested more than {MAX_DEPTH} deep")

    def weighted(self, text: str) -> tuple[str, float]:
        """Return a value and its weight: `3::value`."""
        if "::" in text and (found := split_weight(text)) is not None:
            weight, text = found
            text = text.strip()
        else:
            weight = 1.0
        return text, weight * self.rules.get(text, 1.0)

    def item(self, fields: Mapping[str, str], line: int) -> tuple[str, float] | None:
        """Return what `{value: x, weight: 2}` is; None when there is no value in it."""
        key = next((key for key in TEXT_KEYS if key in fields), None)
        if key is None:
            return None
        text, weight = self.weighted(fields[key])
        if WEIGHT_KEY in fields:
            number = split_weight(f"{fields[WEIGHT_KEY]}::")
            if number is None:
                self.remark(
                    f"the weight '{fields[WEIGHT_KEY]}' is no number of 0 or more; it counts as 1.",
                    line,
                )
            else:
                weight *= number[0]
        return text, weight

    def values(self, found: list[tuple[str, float, int]], path: str, line: int = 0) -> Values:
        """Return a list of values from texts, weights and lines; `line` is that of an empty list."""
        weights = [weight for _, weight, _ in found]
        origins = [Origin(self.file, line) for _, _, line in found] or Origin(self.file, line)
        return Values([text for text, _, _ in found], weights, origins, path)


def below(path: str, key: str) -> str:
    """Return the path of a key below a path."""
    return f"{path}.{key}" if path else key


def rules_from(document: Part) -> dict[str, float]:
    """Return value → weight from the document of a wildcard_rules.yaml.

    `weights: {any_name: {items: [...], weight: w}}`; a value in several groups gets the product.
    """
    rules: dict[str, float] = {}
    groups = document.child("weights") if isinstance(document, Branch) else None
    for group in groups.children.values() if isinstance(groups, Branch) else ():
        items = group.child("items") if isinstance(group, Branch) else None
        weight = group.child(WEIGHT_KEY) if isinstance(group, Branch) else None
        if not isinstance(items, Values) or not isinstance(weight, Values) or not weight.texts:
            continue
        number = split_weight(f"{weight.texts[0]}::")
        for text in items.texts if number else ():
            rules[text] = rules.get(text, 1.0) * (number[0] if number else 1.0)
    return rules

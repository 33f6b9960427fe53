"""Results as a picture: one bar for each goal, an SVG written by hand.

A bar shows how much of what the goal allows is used, so that shorter is better and the line at 1 is the
goal, whichever direction is better for the number itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDTH_PX = 860
NAME_PX = 380  # for the names, left of the bars
VALUE_PX = 150  # for the numbers, right of them
ROW_PX = 26
TOP_PX = 52
BOTTOM_PX = 14
SHOWN_MOST = 2.0  # longer bars are cut off, and marked
MET, MISSED, INK, FAINT = "#2f7d5b", "#b3452c", "#1f2328", "#8b949e"


def share_of_goal(record: Mapping[str, Any]) -> float:
    """Return how much of what the goal allows is used: up to 1 it is met."""
    value, goal = float(record["value"]), float(record["goal"])
    return value / goal if record["better"] == "lower" else goal / max(value, 1e-9)


def draw(records: Sequence[Mapping[str, Any]]) -> str:
    """Return an SVG with a bar for each record that has a goal."""
    rows = [record for record in records if record["goal"] is not None]
    height = TOP_PX + ROW_PX * len(rows) + BOTTOM_PX
    scale = (WIDTH_PX - NAME_PX - VALUE_PX) / SHOWN_MOST
    goal_x = NAME_PX + scale
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH_PX}" height="{height}" '
        f'viewBox="0 0 {WIDTH_PX} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH_PX}" height="{height}" fill="#ffffff"/>',
        _text(NAME_PX, 20, "How much of each goal is used: shorter is better", INK),
        _text(goal_x, 42, "goal", FAINT, anchor="middle"),
    ]
    for number, record in enumerate(rows):
        parts += _row(record, TOP_PX + ROW_PX * number, scale)
    bottom = height - BOTTOM_PX
    parts.append(
        f'<line x1="{goal_x:g}" y1="{TOP_PX - 4}" x2="{goal_x:g}" y2="{bottom}" '
        f'stroke="{INK}" stroke-dasharray="4 3"/>'
    )
    return "\n".join([*parts, "</svg>", ""])


def _row(record: Mapping[str, Any], top: int, scale: float) -> list[str]:
    share = max(share_of_goal(record), 0.0)
    length = max(min(share, SHOWN_MOST) * scale, 1.0)
    middle = top + ROW_PX / 2 + 4
    sign = "≤" if record["better"] == "lower" else "≥"
    cut = [_text(NAME_PX + length - 6, middle, "»", "#ffffff", anchor="end")]
    unit = "" if record["unit"] == "x" else f" {record['unit']}"
    number = f"{record['value']:.3g}{unit} ({sign} {record['goal']:g})"
    return [
        _text(NAME_PX - 10, middle, str(record["name"]), INK, anchor="end"),
        f'<rect x="{NAME_PX}" y="{top + 5}" width="{length:.1f}" height="{ROW_PX - 10}" rx="2" '
        f'fill="{MET if record["met"] else MISSED}"/>',
        *(cut if share > SHOWN_MOST else []),
        _text(WIDTH_PX - VALUE_PX + 10, middle, number, INK),
    ]


def _text(x: float, y: float, text: str, color: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" fill="{color}" text-anchor="{anchor}">{escape(text)}</text>'

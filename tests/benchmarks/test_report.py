from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from luna_collection.benchmarks.chart import MET, MISSED, draw, share_of_goal
from luna_collection.benchmarks.earlier_page import read_page
from luna_collection.benchmarks.page import Machine, this_machine, with_earlier, write_page

MACHINE = Machine("Some Processor", 2, 23.6, "Linux 6", {"Python": "3.11.7"}, "a shared machine")
DATE = datetime.date(2026, 3, 4)
SVG = "{http://www.w3.org/2000/svg}"


def record(name: str, value: float, goal: float | None = 1.0, better: str = "lower") -> dict:
    met = None if goal is None else (value <= goal if better == "lower" else value >= goal)
    return {
        "area": "daemon",
        "name": name,
        "value": value,
        "unit": "x",
        "goal": goal,
        "better": better,
        "met": met,
        "n": 15,
        "spread": [value, value],
        "how": f"How {name} was measured.",
    }


def bars(svg: str) -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [rect for rect in root.iter(f"{SVG}rect") if rect.get("rx")]


RECORDS = [
    record("short", 0.5),
    record("long", 1.25),
    record("high", 2.0, 1.6, "higher"),
    record("only reported", 7.0, None),
]


@pytest.mark.parametrize(
    ("value", "goal", "better", "share"),
    [(1.5, 3.0, "lower", 0.5), (0.9, 0.45, "higher", 0.5), (4.0, 2.0, "lower", 2.0)],
)
def test_a_bar_shows_how_much_of_the_goal_is_used(value, goal, better, share):
    assert share_of_goal(record("x", value, goal, better)) == pytest.approx(share)


def test_bars_are_as_long_as_their_shares_and_colored_by_whether_they_are_met():
    short, long, high = bars(draw(RECORDS))
    assert float(long.get("width")) == pytest.approx(2.5 * float(short.get("width")), abs=0.3)
    assert [bar.get("fill") for bar in (short, long, high)] == [MET, MISSED, MET]


def test_a_bar_that_is_far_off_stays_in_the_picture():
    (bar,) = bars(draw([record("far", 50.0)]))
    picture = ElementTree.fromstring(draw([record("far", 50.0)]))
    assert float(bar.get("x")) + float(bar.get("width")) < float(picture.get("width"))


def test_a_value_below_zero_still_has_a_bar():
    (bar,) = bars(draw([record("noise", -0.1, 2.0)]))
    assert float(bar.get("width")) > 0


def test_names_are_escaped():
    assert "a &lt; b &amp; c" in draw([record("a < b & c", 1.0)])


def test_the_page_says_what_was_measured_where_when_and_how():
    page = write_page(RECORDS, MACHINE, DATE)
    assert "2026-03-04 on a shared machine with 2 cores" in page
    assert "2 of 3 goals are met; not met: long." in page
    assert "| long | 1.25 × | ≤ 1 | **no** | 1.25 to 1.25 | 15 |" in page
    assert "| high | 2 × | ≥ 1.6 | yes | 2 to 2 | 15 |" in page
    assert "| only reported | 7 × |  |  | 7 to 7 | 15 |" in page
    assert "* **short**: How short was measured." in page
    assert "| processor | Some Processor, 2 cores |" in page
    assert "luna.py bench daemon --json results.json" in page


def test_the_page_has_a_part_for_each_area():
    other = {**record("proxies", 0.9), "area": "comfyui"}
    page = write_page([*RECORDS, other], MACHINE, DATE)
    daemon, comfyui = page.index("## Daemon"), page.index("## ComfyUI")
    assert daemon < page.index("| short |") < comfyui < page.index("| proxies |")
    assert "luna.py bench daemon comfyui --json results.json" in page
    assert len(bars(draw([*RECORDS, other]))) == 4


def test_the_page_says_so_when_all_goals_are_met():
    assert "All 1 goals are met." in write_page([record("short", 0.5)], MACHINE, DATE)


def test_this_machine_is_described():
    machine = this_machine("a machine")
    assert machine.cores == os.cpu_count()
    assert machine.processor
    assert set(machine.versions) >= {"Python", "torch"}


def test_the_script_writes_page_and_picture(root: Path, tmp_path: Path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps(RECORDS), "utf-8")
    script = [sys.executable, str(root / "benchmarks" / "report.py"), str(results)]
    done = subprocess.run(
        [*script, "--out", str(tmp_path / "docs")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "# Performance" in (tmp_path / "docs" / "performance.md").read_text("utf-8")
    assert len(bars((tmp_path / "docs" / "performance.svg").read_text("utf-8"))) == 3


def test_a_page_can_be_read_again(root: Path):
    records = [{**r, "date": "2026-03-04"} for r in RECORDS]
    page = read_page(write_page(RECORDS, MACHINE, DATE))
    assert page.records == records
    assert page.machine["processor"] == "Some Processor, 2 cores"
    text = (root / "docs" / "performance.md").read_text("utf-8")
    assert (
        len(read_page(text).records) == len(re.findall(r"^\|.*\| \d+ \|$", text, re.MULTILINE)) > 50
    )
    with pytest.raises(ValueError, match="when it was measured"):
        read_page("# Another page")


def test_what_was_measured_alike_is_explained_once():
    same = [{**record(name, 1.0), "how": "By weighing."} for name in ("one: size", "two: size")]
    page = write_page([*same, record("other", 1.0)], MACHINE, DATE)
    assert "* **one: size**, **two: size**: By weighing." in page
    assert [r["how"] for r in read_page(page).records] == [
        "By weighing.",
        "By weighing.",
        "How other was measured.",
    ]


def test_areas_that_were_not_measured_anew_stay_as_they_were():
    proxies = {**record("proxies", 0.9), "area": "comfyui"}
    first = write_page([*RECORDS, proxies], MACHINE, DATE)
    anew = [record("short", 0.25)]
    later = datetime.date(2026, 5, 6)
    second = write_page(with_earlier(anew, read_page(first), MACHINE), MACHINE, later)
    daemon, comfyui = second.split("## ComfyUI")
    assert "Measured on 2026-05-06" in daemon
    assert "| short | 0.25 ×" in daemon
    assert "| long |" not in daemon
    assert "Measured on 2026-03-04." in comfyui
    assert "| proxies | 0.9 ×" in comfyui
    third = write_page(with_earlier([proxies], read_page(second), MACHINE), MACHINE, later)
    assert "2026-03-04" not in third


def test_numbers_of_two_machines_are_not_mixed():
    page = read_page(write_page(RECORDS, MACHINE, DATE))
    other = Machine("Another Processor", 8, 64, "Linux 6", {}, "a machine")
    proxies = {**record("proxies", 0.9), "area": "comfyui"}
    with pytest.raises(ValueError, match=r"on another machine\. Measure all areas"):
        with_earlier([proxies], page, other)
    assert with_earlier(RECORDS, page, other) == RECORDS


def test_the_picture_in_the_docs_belongs_to_the_page_in_the_docs(root: Path):
    page = (root / "docs" / "performance.md").read_text("utf-8")
    goals = [line for line in page.splitlines() if "| ≤ " in line or "| ≥ " in line]
    assert len(bars((root / "docs" / "performance.svg").read_text("utf-8"))) == len(goals) > 0

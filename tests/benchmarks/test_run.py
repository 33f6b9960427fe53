from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from luna_collection.benchmarks import command
from luna_collection.benchmarks.entries import Bench, Entry, Measurement, record_of
from rich.console import Console


def entry(value: float, goal: float | None = 2.0, better: str = "lower", name: str = "x") -> Entry:
    return Entry(
        name=name,
        value=value,
        unit="x",
        goal=goal,
        better=better,
        n=15,
        spread=(value - 0.1, value + 0.1),
        how="One thing was compared with another.",
    )


@pytest.fixture
def area(monkeypatch):
    """An area of which one measurement works and one fails."""
    package = ModuleType("luna_collection.benchmarks.pretended")
    package.MEASUREMENTS = (
        Measurement("bad one", "things", "fail"),
        Measurement("good one", "things", "succeed"),
    )
    things = ModuleType("luna_collection.benchmarks.pretended.things")

    def fail(bench: Bench) -> Iterator[Entry]:
        yield entry(1.0, name="before the fault")
        raise OSError("the disk is full")

    def succeed(bench: Bench) -> Iterator[Entry]:
        bench.tell("working")
        yield entry(3.0, name="quick" if bench.quick else "thorough")

    things.fail, things.succeed = fail, succeed
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, things.__name__, things)
    monkeypatch.setitem(command.AREAS, "pretended", "pretended")
    for name in ("OMP_NUM_THREADS", "LUNA_CONFIG"):
        monkeypatch.setenv(name, "")  # the command sets them; this puts them back
    return "pretended"


def names(path: Path) -> list[str]:
    return [record["name"] for record in json.loads(path.read_text("utf-8"))]


def run_script(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, str(root / "benchmarks" / "run.py"), *arguments]
    return subprocess.run(script, capture_output=True, text=True, check=False)


def test_the_script_lists_what_can_be_measured(root):
    done = run_script(root, "--list")
    assert done.returncode == 0, done.stderr
    assert "daemon: control round trip" in done.stdout.splitlines()


def test_an_unknown_area_is_answered_with_those_that_there_are(root):
    done = run_script(root, "deamon")
    assert done.returncode == command.USAGE_ERROR
    told = "There is no area 'deamon'. There are: daemon, comfyui, lora, wildcards, precision."
    assert " ".join(done.stdout.split()) == told


def test_a_title_that_nothing_has_is_said(capsys):
    assert command.main(["daemon", "--only", "no such thing"]) == command.USAGE_ERROR
    assert "Nothing is called 'no such thing'" in capsys.readouterr().out


def test_every_measurement_is_where_the_table_says(root):
    for area, package in command.AREAS.items():
        for _, measurement in command.choose([area], ""):
            file = root / "benchmarks" / package / f"{measurement.module}.py"
            tree = ast.parse(file.read_text("utf-8"))
            functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
            assert measurement.function in functions, f"{area}: {measurement.title}"


def test_a_failure_does_not_end_the_run_and_makes_the_exit_code_1(area, tmp_path, capsys):
    results = tmp_path / "sub" / "results.json"
    assert command.main([area, "--json", str(results)]) == 1
    assert names(results) == ["before the fault", "thorough"]
    shown = capsys.readouterr().out
    assert "the disk is full" in shown
    assert "Not measured: pretended: bad one." in shown


def test_what_was_measured_before_an_interruption_is_kept(area, tmp_path, monkeypatch):
    def interrupt(bench: Bench) -> Iterator[Entry]:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules[f"{command.__package__}.{area}.things"], "succeed", interrupt)
    results = tmp_path / "results.json"
    with pytest.raises(KeyboardInterrupt):
        command.main([area, "--json", str(results)])
    assert names(results) == ["before the fault"]


def test_goals_that_are_not_met_do_not_change_the_exit_code(area, tmp_path):
    results = tmp_path / "results.json"
    assert command.main([area, "--only", "good", "--quick", "--json", str(results)]) == 0
    (record,) = json.loads(results.read_text("utf-8"))
    assert record == {
        "area": "pretended",
        "name": "quick",
        "value": 3.0,
        "unit": "x",
        "goal": 2.0,
        "better": "lower",
        "met": False,
        "n": 15,
        "spread": [2.9, 3.1],
        "how": "One thing was compared with another.",
    }


def test_a_part_measured_anew_replaces_its_results_in_their_places(area, tmp_path):
    results = tmp_path / "results.json"
    old = [record_of("pretended", entry(9.0, name=name)) for name in ("thorough", "other")]
    results.write_text(json.dumps(old), "utf-8")
    assert command.main([area, "--only", "good", "--json", str(results)]) == 0
    values = {r["name"]: r["value"] for r in json.loads(results.read_text("utf-8"))}
    assert values == {"thorough": 3.0, "other": 9.0}


def test_a_whole_run_replaces_the_file(area, tmp_path):
    results = tmp_path / "results.json"
    results.write_text(json.dumps([record_of("pretended", entry(9.0, name="old"))]), "utf-8")
    command.main([area, "--json", str(results)])
    assert "old" not in names(results)


@pytest.mark.parametrize("content", ['{"precious": 1}', "no JSON at all"])
def test_a_file_of_another_kind_is_left_alone_and_said_before_anything_is_measured(
    area, tmp_path, capsys, content
):
    results = tmp_path / "results.json"
    results.write_text(content, "utf-8")
    assert command.main([area, "--only", "good", "--json", str(results)]) == command.USAGE_ERROR
    assert results.read_text("utf-8") == content
    shown = capsys.readouterr().out
    assert "is not a results file" in shown
    assert "thorough" not in shown


@pytest.mark.parametrize(
    ("value", "goal", "better", "met"),
    [
        (2.0, 2.0, "lower", True),
        (2.1, 2.0, "lower", False),
        (2.0, 2.0, "higher", True),
        (1.9, 2.0, "higher", False),
        (1.9, None, "lower", None),
    ],
)
def test_an_entry_knows_whether_its_goal_is_met(value, goal, better, met):
    assert entry(value, goal, better).met is met


def test_the_table_shows_value_goal_and_spread():
    outcome = command.Outcome([("daemon", entry(2.5, 2.0)), ("daemon", entry(1234.5, None))])
    console = Console(file=io.StringIO(), width=120)
    console.print(command.table_of(outcome))
    first, second = console.file.getvalue().splitlines()[3:5]
    assert [cell.strip() for cell in first.split("│")[1:-1]] == [
        *("daemon", "x", "2.5 x", "<= 2", "no", "2.4 to 2.6", "15"),
    ]
    assert "1234 x" in second


def test_the_environment_has_one_thread_and_no_settings_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setenv("LUNA_PORT", "1")
    monkeypatch.setenv("LUNA_CONFIG", "mine.yaml")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    command.set_environment(tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "LUNA_PORT" not in os.environ
    assert Path(os.environ["LUNA_CONFIG"]).read_text("utf-8") == ""


def test_an_area_that_lacks_something_says_so_and_the_others_are_measured(
    area, tmp_path, capsys, monkeypatch
):
    lacking = ModuleType("luna_collection.benchmarks.lacking")
    lacking.MEASUREMENTS = (Measurement("good for nothing", "things", "succeed"),)
    lacking.why_not = lambda: "There is no engine. Buy one."
    monkeypatch.setitem(sys.modules, lacking.__name__, lacking)
    monkeypatch.setitem(command.AREAS, "lacking", "lacking")
    results = tmp_path / "results.json"
    assert command.main(["lacking", area, "--only", "good", "--json", str(results)]) == 0
    assert "lacking: nothing is measured. There is no engine. Buy one." in capsys.readouterr().out
    assert [record["area"] for record in json.loads(results.read_text("utf-8"))] == [area]
    before = results.read_bytes()
    assert command.main(["lacking", "--json", str(results)]) == 0
    assert results.read_bytes() == before


def test_a_whole_run_leaves_the_results_of_other_areas(area, tmp_path):
    results = tmp_path / "results.json"
    old = [record_of(where, entry(9.0, name="old")) for where in ("daemon", area)]
    results.write_text(json.dumps(old), "utf-8")
    command.main([area, "--json", str(results)])
    found = [(r["area"], r["name"]) for r in json.loads(results.read_text("utf-8"))]
    assert ("daemon", "old") in found
    assert (area, "old") not in found

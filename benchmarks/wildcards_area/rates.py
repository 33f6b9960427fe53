"""Prompts per CPU-second: one call for each, as a node makes them, and in batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator

from dynamicprompts.generators import RandomPromptGenerator
from dynamicprompts.wildcards import WildcardManager

from ...utils.wildcards import Library, batch, expand
from ..entries import HIGHER, Bench, Entry, ratio_entry
from ..pairs import Side, compare, summarize
from .libraries import TEXTS, make_library

BATCH = 200
SAMPLE_CPU_S = 0.05
SAMPLES, SAMPLES_QUICK = 15, 5
GOAL_SINGLE, GOAL_BATCH = 10.0, 2.0
GOAL_RATES = {"one flat list": 3000.0, "four flat lists": 3000.0, "a nested list": 1000.0}


def measure_single_calls(bench: Bench) -> Iterator[Entry]:
    """Compare calls for one prompt with a seed of its own."""
    folder = make_library(bench.folder)
    library, manager = Library([folder]), WildcardManager(folder)
    for name, (text, has_goal) in TEXTS.items():
        seeds = itertools.count()

        def theirs(text: str = text, seeds: Iterator[int] = seeds) -> object:
            return RandomPromptGenerator(manager, seed=next(seeds)).generate(text, 1)

        def ours(text: str = text, seeds: Iterator[int] = seeds) -> object:
            return expand(text, next(seeds), library)

        result = compare(cost_of(theirs), cost_of(ours), bench.plan, bench.tell_pair)
        yield ratio_entry(
            f"single calls, {name}: rate / dynamicprompts",
            result,
            GOAL_SINGLE if has_goal else None,
            HIGHER,
            f"Prompts per CPU-second of '{text}', one call with its own seed for each, files looked at each "
            "time, over those of dynamicprompts 0.31.0 with a generator for each and one manager for all.",
        )


def measure_batches(bench: Bench) -> Iterator[Entry]:
    """Compare calls for many prompts at once."""
    folder = make_library(bench.folder)
    library, manager = Library([folder]), WildcardManager(folder)
    for name, (text, has_goal) in TEXTS.items():
        seeds = itertools.count()

        def theirs(text: str = text, seeds: Iterator[int] = seeds) -> object:
            return RandomPromptGenerator(manager, seed=next(seeds)).generate(text, BATCH)

        def ours(text: str = text, seeds: Iterator[int] = seeds) -> object:
            return batch(text, next(seeds), BATCH, library)

        result = compare(cost_of(theirs), cost_of(ours), bench.plan, bench.tell_pair)
        yield ratio_entry(
            f"batches, {name}: rate / dynamicprompts",
            result,
            GOAL_BATCH if has_goal else None,
            HIGHER,
            f"Prompts per CPU-second of '{text}' in batches of {BATCH}, in which each of ours has a seed of "
            "its own, over those of dynamicprompts 0.31.0.",
        )


def measure_rates(bench: Bench) -> Iterator[Entry]:
    """Count prompts per CPU-second of single calls."""
    library = Library([make_library(bench.folder)])
    for name, goal in GOAL_RATES.items():
        text = TEXTS[name][0]
        seeds = itertools.count()
        cost = cost_of(lambda text=text, seeds=seeds: expand(text, next(seeds), library))  # type: ignore[misc]
        cost()
        rates = [1 / cost() for _ in range(SAMPLES_QUICK if bench.quick else SAMPLES)]
        result = summarize(rates)
        yield Entry(
            name=f"single calls, {name}",
            value=result.value,
            unit="1/s",
            goal=goal,
            better=HIGHER,
            n=result.n,
            spread=result.spread,
            how=f"Prompts per CPU-second of '{text}', one call with its own seed for each.",
        )


def cost_of(call: Callable[[], object]) -> Side:
    """Return what runs a call for a while, and gives the CPU seconds of one."""

    def side() -> float:
        calls, started = 0, time.process_time()
        while True:
            call()
            calls += 1
            took = time.process_time() - started
            if took >= SAMPLE_CPU_S:
                return took / calls

    return side

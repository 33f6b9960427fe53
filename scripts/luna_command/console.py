"""How the command talks to the person at the terminal: a line for each step, a sentence for an error."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot go on. Its text is shown as it is, without a traceback."""


def say(text: str) -> None:
    """Print a line at once, also when the output is a pipe that child processes write to."""
    print(text, flush=True)

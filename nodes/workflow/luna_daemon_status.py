"""Luna Daemon Status: what the daemon holds and does, at this moment."""

from __future__ import annotations

from comfy_api.latest import io

from ...luna_daemon.errors import AuthError, ConnectionLostError, IncompatibleError
from ...luna_daemon.monitoring.status_text import status_lines
from ..daemon_access import client
from ..daemon_models import notes_of_runs
from ..schema import node_schema


class LunaDaemonStatus(io.ComfyNode):
    """Asks the daemon; never starts it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="LunaDaemonStatus",
            display_name="Luna Daemon Status",
            category="Luna/Workflow",
            description="What the Luna daemon holds and does: devices and their memory, models, the "
            "workflows that use them, queue, caches and how tensors travel; and what was done otherwise "
            "than asked with models of this ComfyUI. It is asked anew in every run and not started.",
            search_aliases=["luna daemon", "vram", "memory", "shared models"],
            inputs=[],
            outputs=[
                io.String.Output("status", tooltip="Several lines of text."),
                io.Boolean.Output("is_running", tooltip="Does the daemon answer?"),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls) -> float:
        return float("nan")  # equal to nothing, so the answer is never taken from ComfyUI's cache

    @classmethod
    def execute(cls) -> io.NodeOutput:
        lines, is_running = _ask()
        notes = [f"In this ComfyUI: {note}" for note in notes_of_runs()]
        return io.NodeOutput("\n".join([*lines, *notes]), is_running)


def _ask() -> tuple[list[str], bool]:
    """Return what is to be said of the daemon, and whether it answers."""
    try:
        snapshot = client().status()
    except ConnectionLostError as error:
        return [f"The daemon does not run. {error}"], False
    except (AuthError, IncompatibleError) as error:
        return [f"A daemon runs, but not for us. {error}"], False
    return status_lines(snapshot), True


NODES = [LunaDaemonStatus]

"""Which models each workflow holds: the registry of leases.

A lease is one session's claim for one workflow. While it lives, and for a grace period after its
session ended, its models are not given up. Two sessions may hold the same workflow; two workflows that
name the same weights (the same model key) share them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from ..errors import NotFoundError
from ..protocol.worker_messages import ModelSpec


@dataclass(frozen=True, slots=True)
class Lease:
    """What one session registered for one workflow. `ends_at`: None while the session lives."""

    session: int
    workflow_id: str
    model_type: str
    models: Mapping[str, ModelSpec]  # role → what to load
    ends_at: float | None = None


class WorkflowRegistry:
    """All leases."""

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self._leases: dict[tuple[int, str], Lease] = {}

    def register(self, lease: Lease) -> list[Lease]:
        """Take a lease, and return those that it replaces.

        The session's earlier one for the same workflow ends, and so do those of lost sessions: their
        owner has come back.
        """
        mine = (lease.session, lease.workflow_id)
        replaced = [
            old
            for key, old in self._leases.items()
            if key == mine or (old.workflow_id == lease.workflow_id and old.ends_at is not None)
        ]
        for old in replaced:
            del self._leases[old.session, old.workflow_id]
        self._leases[mine] = lease
        return replaced

    def withdraw(self, lease: Lease, replaced: Iterable[Lease]) -> None:
        """Undo `register`: a workflow whose models cannot be had claims what it claimed before."""
        now = self._leases.get((lease.session, lease.workflow_id))
        if now is None or now.models is not lease.models:  # released or registered anew meanwhile
            return
        del self._leases[lease.session, lease.workflow_id]
        for old in replaced:
            # If the session has ended meanwhile, what it held before runs out too.
            ends_at = now.ends_at if old.ends_at is None else old.ends_at
            self._leases[old.session, old.workflow_id] = replace(old, ends_at=ends_at)

    def lease(self, session: int, workflow_id: str) -> Lease:
        """Return the session's lease for the workflow.

        Raises:
            NotFoundError: The session has not registered it.
        """
        lease = self.find(session, workflow_id)
        if lease is None:
            raise NotFoundError(
                f"The workflow '{workflow_id}' has not registered its models with the daemon.",
                "Call get_model_proxies for it first.",
            )
        return lease

    def find(self, session: int, workflow_id: str) -> Lease | None:
        """Return the session's lease for the workflow, or None."""
        return self._leases.get((session, workflow_id))

    def release(self, session: int, workflow_id: str) -> bool:
        """End a lease at once; False when there is none."""
        return self._leases.pop((session, workflow_id), None) is not None

    def session_ended(self, session: int, now: float) -> None:
        """Let the session's leases run out after the grace period."""
        for key, lease in list(self._leases.items()):
            if lease.session == session and lease.ends_at is None:
                self._leases[key] = replace(lease, ends_at=now + self.grace_s)

    def expire(self, now: float) -> list[Lease]:
        """End the leases whose grace period is over, and return them."""
        over = [
            lease
            for lease in self._leases.values()
            if lease.ends_at is not None and lease.ends_at <= now
        ]
        for lease in over:
            del self._leases[lease.session, lease.workflow_id]
        return over

    def leases(self) -> list[Lease]:
        """Return all leases."""
        return list(self._leases.values())

    def users(self, model_key: str) -> list[str]:
        """Return the workflows that hold this model, each once, sorted."""
        return sorted(
            {
                lease.workflow_id
                for lease in self._leases.values()
                if any(spec.key == model_key for spec in lease.models.values())
            }
        )

    def is_leased(self, model_key: str) -> bool:
        """Does any workflow hold this model?"""
        return any(
            spec.key == model_key
            for lease in self._leases.values()
            for spec in lease.models.values()
        )

"""Fairness between tenants: virtual token counters, one each.

A tenant's counter grows with each token that is read or written for it, and the lowest goes first:
who waits all the time gets the same as anybody else who does. A tenant that comes back is lifted to
the lowest of those that wait, so it is owed nothing for the time in which it asked for nothing.
What running tickets may still take counts as taken, or one tenant would get the whole of an empty
machine before the first token is counted.

Virtual Token Counter: Sheng et al., Fairness in Serving Large Language Models, 2401.00588.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpt2onnx.runtime.engine.ticket import Ticket


@dataclass
class Tenant:
    """A tenant's counter, what its running tickets may still take, and its tickets."""

    used: int = 0
    held: int = 0
    waiting: int = 0
    live: int = 0


class Tenants:
    """The counters of those who have tickets, or had more than their share."""

    def __init__(self) -> None:
        self._tenants: dict[str | None, Tenant] = {}
        self._last = Tenant()  # whose ticket was the last to leave the queue

    def __len__(self) -> int:
        return len(self._tenants)

    def share(self, ticket: Ticket) -> int:
        """What the ticket's tenant has had, and what it holds: the lowest goes first."""
        tenant = self._tenants[ticket.tenant]
        return tenant.used + tenant.held

    def arrive(self, ticket: Ticket) -> None:
        """A ticket joins the queue."""
        tenant = self._tenants.setdefault(ticket.tenant, Tenant())
        if not tenant.waiting:
            tenant.used = max(tenant.used, self._floor())
        tenant.waiting += 1
        tenant.live += 1

    def leave_queue(self, ticket: Ticket) -> None:
        """A ticket that waited is admitted, or given up."""
        self._last = self._tenants[ticket.tenant]
        self._last.waiting -= 1

    def start(self, ticket: Ticket) -> None:
        """A ticket runs, or runs again."""
        self._tenants[ticket.tenant].held += ticket.unspent

    def stop(self, ticket: Ticket) -> None:
        """A ticket that ran is frozen, or over."""
        self._tenants[ticket.tenant].held -= ticket.unspent

    def charge(self, ticket: Ticket, tokens: int) -> None:
        """Count tokens that were read or written for a running ticket."""
        tenant = self._tenants[ticket.tenant]
        tenant.held -= ticket.unspent
        ticket.charged += tokens
        tenant.held += ticket.unspent
        tenant.used += tokens

    def forget(self, ticket: Ticket) -> None:
        """A ticket is gone. Counters that its tenant's return would lift anyway go, too."""
        self._tenants[ticket.tenant].live -= 1
        if not any(tenant.live for tenant in self._tenants.values()):
            self._tenants.clear()
            self._last = Tenant()
            return
        floor = self._floor()
        for name in [n for n, t in self._tenants.items() if not t.live and t.used <= floor]:
            del self._tenants[name]

    def _floor(self) -> int:
        """The lowest counter of those that wait, or that of the last that did."""
        return min(self._waiting(), default=self._last.used)

    def _waiting(self) -> Iterator[int]:
        return (tenant.used for tenant in self._tenants.values() if tenant.waiting)

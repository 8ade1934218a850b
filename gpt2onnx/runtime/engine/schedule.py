"""The scheduler: whose turn it is, as a function of state. Time is an argument.

`decide` says what is to be done, in order: who is given up, who is admitted, who is frozen for that
and who goes on. The rules:

- **Order.** The highest level first; of equals those that were frozen, then the tenant that had
  least (tenants.py), then arrival. A level is the priority, and one more for each `aging` seconds
  without running, but no higher than the highest priority that waits. So after 2 * HIGHEST * aging
  seconds at most a ticket is behind nobody's priority, and a tenant that floods gains nothing over
  its equals by having waited long.
- **Room.** A ticket runs when its rows and its tokens are free, all of them. Those behind one that
  doesn't fit may go ahead of it OVERTAKES times; then none does until it fits. LOOKAHEAD tickets
  that don't fit are looked at before the rest is left for the next time.
- **Preemption.** Where that makes room for a ticket, running ones of strictly lower rank than its
  priority are frozen, lowest first, then the last admitted. A rank is the level at admission: so
  what aging let in can't be frozen by those it was let in before, and no two freeze each other in
  turn. What is frozen has `max_tokens` at most, too.

Knows tickets; knows nothing of clocks, threads, decoders or what a ticket is for.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace
from itertools import islice

from gpt2onnx.errors import Given, OutOfMemoryError, ParameterError, QueueFullError
from gpt2onnx.runtime.engine.decisions import Admit, Decision, Expire, Freeze, Resume
from gpt2onnx.runtime.engine.tenants import Tenants
from gpt2onnx.runtime.engine.ticket import HIGHEST, State, Ticket

AGING = 10.0  # seconds that are worth one step of priority
OVERTAKES = 32
LOOKAHEAD = 16


# Those of one tenant and one priority, in the order of arrival: a dict is an ordered set.
Line = dict[Ticket, None]


class Scheduler:
    """Tickets on `max_rows` rows and `max_tokens` positions; `max_waiting` of them may wait."""

    def __init__(
        self, max_rows: int, max_tokens: int, max_waiting: int, aging: float = AGING
    ) -> None:
        self.max_rows, self.max_tokens, self.max_waiting = max_rows, max_tokens, max_waiting
        self.aging = aging
        self.waiting = 0
        self.running: dict[Ticket, None] = {}
        self.frozen: dict[Ticket, None] = {}
        self.rows = self.tokens = 0  # what the running ones claim
        self._lines: dict[tuple[str | None, int], Line] = {}
        self._tenants = Tenants()
        self._next_deadline = math.inf  # or earlier: that of one that waits no more
        self._numbers = self._admissions = 0
        self._changed = False

    def add(self, ticket: Ticket, now: float) -> None:
        """Let a new ticket wait.

        Raises QueueFullError where `max_waiting` do already; ParameterError or OutOfMemoryError for
        what can never fit, with more rows or more tokens than there are.
        """
        self.require_possible(ticket)
        self.require_place()
        self._numbers += 1
        ticket.state, ticket.number = State.WAITING, self._numbers
        ticket.arrival = ticket.idle_since = now
        self._lines.setdefault((ticket.tenant, ticket.priority), {})[ticket] = None
        self.waiting += 1
        self._tenants.arrive(ticket)
        self._next_deadline = min(self._next_deadline, ticket.deadline)
        self._changed = True

    def decide(self, now: float) -> list[Decision]:
        """What is to be done now, in this order; it counts as done. Time never goes back."""
        decisions: list[Decision] = []
        if now >= self._next_deadline:
            decisions += self._expire(now)
        if self._changed:
            self._changed = False
            decisions += self._fill(now)
        return decisions

    def charge(self, ticket: Ticket, tokens: int) -> None:
        """Count tokens that were read or written for a running ticket."""
        _require(ticket, State.RUNNING)
        self._tenants.charge(ticket, tokens)

    def retire(self, ticket: Ticket) -> None:
        """A ticket is over, wherever it stands: finished, failed or cancelled."""
        _require(ticket, State.WAITING, State.RUNNING, State.FROZEN)
        if ticket.state is State.WAITING:
            self._leave_queue(ticket)
        elif ticket.state is State.RUNNING:
            self._stop(ticket)
        else:
            del self.frozen[ticket]
        ticket.state = State.GONE
        self._tenants.forget(ticket)
        self._changed = True

    def require_place(self) -> None:
        """Raises QueueFullError where `max_waiting` wait already."""
        if self.waiting >= self.max_waiting:
            raise QueueFullError(
                f"{self.waiting:,} requests are waiting, as many as may: try again later",
                found=self.waiting,
                expected=self.max_waiting,
            )

    def require_possible(self, ticket: Ticket) -> None:
        """Raises ParameterError or OutOfMemoryError for a new ticket that can never fit."""
        _require(ticket, State.NEW)
        if ticket.rows > self.max_rows:
            raise ParameterError(
                f"a request of {ticket.rows:,} sequences at once: expected at most ",
                Given("max_rows", self.max_rows),
            )
        if ticket.tokens > self.max_tokens:
            raise OutOfMemoryError(
                f"a request of {ticket.rows:,} sequences and {ticket.tokens:,} tokens: there is "
                f"room for {self.max_tokens:,} tokens in all; ask for fewer sequences or shorter "
                "ones",
                found=ticket.tokens,
                expected=self.max_tokens,
            )

    def _expire(self, now: float) -> Iterable[Expire]:
        """Give up those whose deadline has come, the earliest first."""
        waiting = [ticket for line in self._lines.values() for ticket in line]
        over = sorted((t for t in waiting if t.deadline <= now), key=lambda t: t.deadline)
        for ticket in over:
            self.retire(ticket)
            yield Expire(ticket)
        left = (ticket.deadline for ticket in waiting if ticket.deadline > now)
        self._next_deadline = min(left, default=math.inf)

    def _fill(self, now: float) -> Iterator[Decision]:
        """Let those run that can, in their order."""
        priorities = [p for _, p in self._lines] + [ticket.priority for ticket in self.frozen]
        ceiling = max(priorities, default=-HIGHEST)
        order, passed = self._in_order(now, ceiling), list[Ticket]()
        while len(passed) < LOOKAHEAD and not any(t.overtaken >= OVERTAKES for t in passed):
            level, ticket = next(order, (0, None))
            if ticket is None or not self._has_room(ceiling):
                return
            victims = [] if self._fits(ticket) else self._victims(ticket)
            if not victims and not self._fits(ticket):
                passed.append(ticket)
                continue
            for victim in victims:
                self._freeze(victim, now)
                yield Freeze(victim)
            yield self._start(ticket, level, now)
            for each in passed:
                each.overtaken += 1
            if victims:  # their room may be more than was needed, and enough for one passed
                order, passed = self._in_order(now, ceiling), []

    def _has_room(self, priority: int) -> bool:
        """Whether there is a row that one of such a priority could have."""
        return self.rows < self.max_rows or any(each.rank < priority for each in self.running)

    def _in_order(self, now: float, ceiling: int) -> Iterator[tuple[int, Ticket]]:
        """Those that wait or are frozen, each with its level, the first first.

        Each is found when it is asked for: who is admitted makes its tenant's share grow. Within a
        line no later one goes before an earlier one.
        """
        lines = [iter([ticket]) for ticket in self.frozen]
        lines += [iter(list(line)) for line in self._lines.values()]

        def key(ticket: Ticket) -> tuple[int, bool, int, int]:
            level = ticket.level(now, self.aging, ceiling)
            waits = ticket.state is State.WAITING
            return -level, waits, self._tenants.share(ticket), ticket.number

        heads = [(key(ticket), ticket, line) for line in lines for ticket in [next(line)]]
        heapify(heads)
        while heads:
            known, ticket, line = heads[0]
            if (grown := key(ticket)) != known:
                heapreplace(heads, (grown, ticket, line))
                continue
            heappop(heads)
            for following in islice(line, 1):
                heappush(heads, (key(following), following, line))
            yield -known[0], ticket

    def _fits(self, ticket: Ticket, without: Iterable[Ticket] = ()) -> bool:
        """Whether there is room for a ticket, where those `without` which are gone."""
        rows = self.rows + ticket.rows - sum(each.rows for each in without)
        tokens = self.tokens + ticket.tokens - sum(each.tokens for each in without)
        return rows <= self.max_rows and tokens <= self.max_tokens

    def _victims(self, ticket: Ticket) -> list[Ticket]:
        """Who must be frozen to make room for a ticket; none where nobody's freezing does."""
        lower = [each for each in self.running if each.rank < ticket.priority]
        chosen = sorted(lower, key=lambda each: (each.rank, -each.admission))
        if not self._fits(ticket, chosen):
            return []
        for each in reversed(chosen.copy()):  # the last to be chosen is the first to be spared
            others = [other for other in chosen if other is not each]
            if self._fits(ticket, others):
                chosen = others
        kept = sum(each.tokens for each in (*self.frozen, *chosen))
        if ticket.state is State.FROZEN:
            kept -= ticket.tokens
        return chosen if kept <= self.max_tokens else []

    def _start(self, ticket: Ticket, level: int, now: float) -> Admit | Resume:
        """Let a ticket run that waits or is frozen."""
        frozen = ticket.state is State.FROZEN
        if frozen:
            del self.frozen[ticket]
        else:
            self._leave_queue(ticket)
        self._admissions += 1
        ticket.state, ticket.admission, ticket.overtaken = State.RUNNING, self._admissions, 0
        ticket.idled += now - ticket.idle_since
        ticket.rank = max(ticket.rank, level)
        self.running[ticket] = None
        self.rows += ticket.rows
        self.tokens += ticket.tokens
        self._tenants.start(ticket)
        return Resume(ticket) if frozen else Admit(ticket)

    def _freeze(self, ticket: Ticket, now: float) -> None:
        self._stop(ticket)
        ticket.state, ticket.idle_since = State.FROZEN, now
        self.frozen[ticket] = None

    def _stop(self, ticket: Ticket) -> None:
        del self.running[ticket]
        self.rows -= ticket.rows
        self.tokens -= ticket.tokens
        self._tenants.stop(ticket)

    def _leave_queue(self, ticket: Ticket) -> None:
        line = self._lines[ticket.tenant, ticket.priority]
        del line[ticket]
        if not line:
            del self._lines[ticket.tenant, ticket.priority]
        self.waiting -= 1
        self._tenants.leave_queue(ticket)


def _require(ticket: Ticket, *states: State) -> None:
    """Who drives a scheduler tells it everything once."""
    if ticket.state not in states:
        expected = " or ".join(state.value for state in states)
        raise ValueError(f"a ticket that is {ticket.state.value}: expected one that is {expected}")

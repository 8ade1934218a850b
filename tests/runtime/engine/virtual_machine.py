"""A machine on a virtual clock that does what a scheduler decides, and checks each decision.

It keeps its own books: what a decision claims to free or take is taken from the tickets' claims
alone, as they were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gpt2onnx.runtime.engine.decisions import Admit, Decision, Expire, Freeze, Resume
from gpt2onnx.runtime.engine.schedule import LOOKAHEAD, OVERTAKES, Scheduler
from gpt2onnx.runtime.engine.ticket import State, Ticket


class VirtualMachine:
    """Each turn takes `turn` seconds, and reads or writes a token in each running row."""

    def __init__(self, scheduler: Scheduler, turn: float = 1.0) -> None:
        self.scheduler = scheduler
        self.turn = turn
        self.now = 0.0
        self.waiting: dict[Ticket, None] = {}
        self.running: dict[Ticket, None] = {}
        self.frozen: dict[Ticket, None] = {}
        self.work: dict[Ticket, int] = {}  # tokens of its claim that it will take
        self.done: dict[Ticket, float] = {}
        self.started: dict[Ticket, float] = {}
        self.freezes: Counter[Ticket] = Counter()
        self.served: Counter[str | None] = Counter()
        self.expired: list[Ticket] = []

    def add(self, ticket: Ticket, work: int | None = None) -> Ticket:
        self.scheduler.add(ticket, self.now)
        self.waiting[ticket] = None
        self.work[ticket] = ticket.tokens if work is None else work
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        self.scheduler.retire(ticket)
        for place in (self.waiting, self.running, self.frozen):
            place.pop(ticket, None)

    def decide(self) -> list[Decision]:
        decisions = self.scheduler.decide(self.now)
        for number, decision in enumerate(decisions):
            if isinstance(decision, Freeze):
                gains = (d for d in decisions[number:] if isinstance(d, Admit | Resume))
                self._freeze(decision.ticket, next(gains).ticket)
            elif isinstance(decision, Expire):
                assert decision.ticket.deadline <= self.now
                del self.waiting[decision.ticket]
                self.expired.append(decision.ticket)
            else:
                self._start(decision)
        self._check()
        return decisions

    def step(self) -> list[Decision]:
        """A turn: decide, then a token in each running row."""
        decisions = self.decide()
        self.now += self.turn
        for ticket in list(self.running):
            tokens = min(ticket.rows, self.work[ticket])
            self.scheduler.charge(ticket, tokens)
            self.served[ticket.tenant] += tokens
            self.work[ticket] -= tokens
            if not self.work[ticket]:
                self.scheduler.retire(ticket)
                del self.running[ticket]
                self.done[ticket] = self.now
        return decisions

    def run(self, turns: int, before: Callable[[], object] = lambda: None) -> None:
        for _ in range(turns):
            before()
            self.step()

    def drain(self) -> None:
        """Turns until nothing is left to do."""
        while self.waiting or self.running or self.frozen:
            before = (len(self.waiting), len(self.frozen), len(self.running))
            self.step()
            assert self.running or before != (len(self.waiting), len(self.frozen), 0)

    @property
    def free_rows(self) -> int:
        return self.scheduler.max_rows - sum(ticket.rows for ticket in self.running)

    @property
    def free_tokens(self) -> int:
        return self.scheduler.max_tokens - sum(ticket.tokens for ticket in self.running)

    def fits(self, ticket: Ticket) -> bool:
        return ticket.rows <= self.free_rows and ticket.tokens <= self.free_tokens

    def _freeze(self, ticket: Ticket, gains: Ticket) -> None:
        assert ticket.priority < gains.priority
        assert not self.fits(gains), "nobody need have been frozen"
        del self.running[ticket]
        self.frozen[ticket] = None
        self.freezes[ticket] += 1

    def _start(self, decision: Admit | Resume) -> None:
        ticket = decision.ticket
        assert self.fits(ticket)
        place = self.waiting if isinstance(decision, Admit) else self.frozen
        del place[ticket]
        self.running[ticket] = None
        self.started.setdefault(ticket, self.now)

    def _check(self) -> None:
        """What holds after each decision."""
        for place, state in (
            (self.waiting, State.WAITING),
            (self.running, State.RUNNING),
            (self.frozen, State.FROZEN),
        ):
            assert all(ticket.state is state for ticket in place)
        scheduler = self.scheduler
        assert scheduler.waiting == len(self.waiting) <= scheduler.max_waiting
        assert min(self.free_rows, self.free_tokens) >= 0
        assert sum(ticket.tokens for ticket in self.frozen) <= scheduler.max_tokens
        assert all(ticket.deadline > self.now for ticket in self.waiting)
        left = [*self.waiting, *self.frozen]
        if len(left) <= LOOKAHEAD and all(ticket.overtaken < OVERTAKES for ticket in left):
            assert not any(map(self.fits, left)), "a ticket that fits was left waiting"

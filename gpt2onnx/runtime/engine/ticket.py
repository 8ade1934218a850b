"""A ticket: one request's claim on the machine, and where it stands."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from gpt2onnx.errors import Given, ParameterError

# Priorities are -10 to 10, so that what one is worth against waiting has a bound.
HIGHEST = 10


class State(Enum):
    """Where a ticket stands. A new one has no place yet, a gone one none any more."""

    NEW = "new"
    WAITING = "waiting"
    RUNNING = "running"
    FROZEN = "frozen"
    GONE = "gone"


@dataclass(eq=False)
class Ticket:
    """What a request asks for, and what its scheduler notes of it. Raises ParameterError.

    `tokens` are the positions that its rows may take at most: rows times length. Of higher
    priorities it is the turn first. At `deadline` it is given up where it was never admitted.
    """

    rows: int
    tokens: int
    priority: int = 0
    tenant: str | None = None
    deadline: float = math.inf

    # What the scheduler notes.
    state: State = field(default=State.NEW, init=False)
    number: int = field(default=0, init=False)  # in the order of arrival
    arrival: float = field(default=0.0, init=False)
    idle_since: float = field(default=0.0, init=False)  # waiting or frozen
    idled: float = field(default=0.0, init=False)  # before that
    charged: int = field(default=0, init=False)  # tokens read and written so far
    overtaken: int = field(default=0, init=False)  # by those behind it, because it didn't fit
    rank: int = field(default=-HIGHEST, init=False)  # what it takes more than, to be frozen
    admission: int = field(default=0, init=False)  # in the order of admissions

    def __post_init__(self) -> None:
        for name in ("rows", "tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ParameterError(Given(name, value), ": expected a number, 1 or more")
        if type(self.priority) is not int or abs(self.priority) > HIGHEST:
            expected = f": expected a whole number from {-HIGHEST} to {HIGHEST}"
            raise ParameterError(Given("priority", self.priority), expected)
        if not isinstance(self.deadline, int | float) or math.isnan(self.deadline):
            raise ParameterError(Given("deadline", self.deadline), ": expected a time in seconds")

    @property
    def unspent(self) -> int:
        """Tokens of its claim that were not read or written yet."""
        return max(0, self.tokens - self.charged)

    def level(self, now: float, aging: float, ceiling: int) -> int:
        """Its priority, and one more for each `aging` seconds not running, `ceiling` at most."""
        idle = self.idled + now - self.idle_since
        return max(self.priority, min(self.priority + int(idle / aging), ceiling))

"""The scheduler on a virtual clock: each rule by itself, then thousands of requests at random."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from gpt2onnx.errors import OutOfMemoryError, ParameterError, QueueFullError
from gpt2onnx.runtime.engine.decisions import Admit, Expire, Freeze, Resume
from gpt2onnx.runtime.engine.schedule import AGING, OVERTAKES, Scheduler
from gpt2onnx.runtime.engine.ticket import HIGHEST, State, Ticket
from tests.raising import raises
from tests.runtime.engine.virtual_machine import VirtualMachine


def machine(
    rows: int = 4, tokens: int = 1000, waiting: int = 10_000, turn: float = 1.0
) -> VirtualMachine:
    return VirtualMachine(Scheduler(rows, tokens, waiting), turn)


def flood(
    machine: VirtualMachine,
    tenant: str,
    rows: int = 1,
    tokens: int = 10,
    work: int | None = None,
    **options: Any,
) -> Callable[[], None]:
    """Keeps a tenant's queue from running dry."""

    def fill() -> None:
        waiting = sum(ticket.tenant == tenant for ticket in machine.waiting)
        for _ in range(20 - waiting):
            machine.add(Ticket(rows, tokens, tenant=tenant, **options), work)

    return fill


# Claims.


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ({"rows": 0}, "rows=0: expected a number, 1 or more"),
        ({"priority": 11}, "priority=11: expected a whole number from -10 to 10"),
        ({"deadline": math.nan}, "deadline=nan: expected a time in seconds"),
    ],
)
def test_says_what_was_expected(claim: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Ticket(**{"rows": 1, "tokens": 1, **claim})


@pytest.mark.parametrize(
    "claim", [{"rows": 1.5}, {"tokens": True}, {"priority": "high"}, {"deadline": "soon"}]
)
def test_claims_that_are_none(claim: dict[str, Any]) -> None:
    with raises(ParameterError, parameters=claim):
        Ticket(**{"rows": 1, "tokens": 1, **claim})


def test_what_can_never_fit_is_refused_at_once() -> None:
    scheduler = Scheduler(max_rows=4, max_tokens=100, max_waiting=1)
    with pytest.raises(ParameterError, match="5 sequences at once: expected at most max_rows=4"):
        scheduler.add(Ticket(5, 5), 0)
    with pytest.raises(OutOfMemoryError, match="101 tokens: there is room for 100 tokens in all"):
        scheduler.add(Ticket(1, 101), 0)
    assert scheduler.waiting == 0
    scheduler.add(Ticket(4, 100), 0)


def test_a_full_queue_says_so_at_once() -> None:
    scheduler = Scheduler(max_rows=1, max_tokens=10, max_waiting=2)
    first, *waiting = (Ticket(1, 1) for _ in range(3))
    scheduler.add(first, 0)
    scheduler.decide(0)  # what runs doesn't wait
    for ticket in waiting:
        scheduler.add(ticket, 0)
    late = Ticket(1, 1)
    with pytest.raises(QueueFullError, match="2 requests are waiting, as many as may"):
        scheduler.add(late, 0)
    assert late.state is State.NEW
    scheduler.retire(waiting[0])
    scheduler.add(late, 0)


def test_a_ticket_is_used_once() -> None:
    scheduler = Scheduler(1, 10, 10)
    ticket = Ticket(1, 1)
    with pytest.raises(ValueError, match="a ticket that is new: expected one that is waiting or"):
        scheduler.retire(ticket)
    scheduler.add(ticket, 0)
    with pytest.raises(ValueError, match="is waiting: expected one that is new"):
        scheduler.add(ticket, 0)
    with pytest.raises(ValueError, match="is waiting: expected one that is running"):
        scheduler.charge(ticket, 1)
    scheduler.retire(ticket)
    with pytest.raises(ValueError, match="a ticket that is gone"):
        scheduler.retire(ticket)


# Order.


def test_priority_then_arrival() -> None:
    one = machine(rows=1)
    low, first, second = (one.add(Ticket(1, 2, priority)) for priority in (0, 3, 3))
    one.drain()
    assert list(one.done) == [first, second, low]


def test_nothing_is_decided_twice() -> None:
    scheduler = Scheduler(1, 10, 10)
    first, second = Ticket(1, 1), Ticket(1, 1)
    scheduler.add(first, 0)
    scheduler.add(second, 0)
    assert scheduler.decide(0) == [Admit(first)]
    assert scheduler.decide(1) == []
    scheduler.retire(first)
    assert scheduler.decide(2) == [Admit(second)]


def test_who_waits_is_behind_no_priority_in_the_end() -> None:
    one = machine(rows=1)
    low = one.add(Ticket(1, 5, -HIGHEST))
    fill = flood(one, "important", tokens=5, priority=HIGHEST)
    one.run(int(2 * HIGHEST * AGING) + 10, before=fill)
    assert 2 * HIGHEST * AGING - 10 <= one.started[low] <= 2 * HIGHEST * AGING + 5
    assert one.freezes[low] == 0  # what aging let in, those that came later can't freeze
    assert low in one.done


def test_aging_stops_at_the_highest_priority_that_waits() -> None:
    one = machine(rows=1)
    fill = flood(one, "old", tokens=5)
    one.run(int(20 * AGING), before=fill)
    one.step()
    new = one.add(Ticket(1, 5, 1, tenant="new"))
    one.run(6)
    assert new in one.started  # the old ones have waited long, but a level is 1 at most


# Room.


def test_small_ones_pass_a_large_one_so_many_times() -> None:
    four = machine(rows=4)
    random = np.random.default_rng(0)

    def fill() -> None:
        while len(four.waiting) < 20:
            four.add(Ticket(1, int(random.integers(5, 12)), tenant="small"))

    four.run(50, before=fill)
    before = len(four.started) + len(four.waiting)
    large = four.add(Ticket(4, 40, tenant="small"))
    while large not in four.started:
        fill()
        four.step()
        assert len(four.started) <= before + OVERTAKES + 1
    assert len(four.started) == before + OVERTAKES + 1
    assert large.overtaken == 0  # it starts anew where it is frozen


def test_a_large_one_isnt_starved_by_another_tenants_small_ones() -> None:
    four = machine(rows=4)
    fill = flood(four, "small", tokens=8)
    four.run(50, before=fill)
    large = four.add(Ticket(4, 40, tenant="large"))
    four.run(200, before=fill)
    assert large in four.done


def test_small_ones_use_the_room_that_a_large_one_cant() -> None:
    four = machine(rows=4)
    running = four.add(Ticket(2, 20))
    four.step()
    large, small = four.add(Ticket(3, 30)), four.add(Ticket(2, 10))
    assert four.step() == [Admit(small)]
    four.drain()
    assert list(four.done) == [small, running, large]


def test_memory_is_a_bound_as_rows_are() -> None:
    four = machine(rows=4, tokens=100)
    first, second, small = (four.add(Ticket(1, tokens)) for tokens in (60, 60, 40))
    assert four.step() == [Admit(first), Admit(small)]
    four.cancel(first)
    assert four.step() == [Admit(second)]


# Preemption.


def test_the_last_admitted_of_lower_priority_gives_way() -> None:
    two = machine(rows=2)
    first, second = two.add(Ticket(1, 10)), two.add(Ticket(1, 10))
    two.step()
    high = two.add(Ticket(1, 10, priority=1))
    assert two.step() == [Freeze(second), Admit(high)]
    two.cancel(high)
    assert two.step() == [Resume(second)]
    two.drain()
    assert list(two.done) == [first, second]


def test_the_lowest_give_way_first() -> None:
    two = machine(rows=2)
    low = two.add(Ticket(1, 10, 0))
    two.step()
    middle = two.add(Ticket(1, 10, 1))
    two.step()
    two.add(Ticket(1, 10, 2))
    assert two.step()[0] == Freeze(low)
    assert middle in two.running


def test_nobody_is_frozen_whose_room_isnt_needed() -> None:
    four = machine(rows=4)
    large, small = four.add(Ticket(3, 30)), four.add(Ticket(1, 10))
    four.step()
    high = four.add(Ticket(2, 10, 1))
    assert four.step() == [Freeze(large), Admit(high)]
    assert small in four.running


def test_nobody_is_frozen_where_it_doesnt_help() -> None:
    four = machine(rows=4)
    equal, low = four.add(Ticket(2, 20, 1)), four.add(Ticket(2, 20, 0))
    four.step()
    four.add(Ticket(3, 30, 1))  # the low one's room isn't enough, and an equal one keeps its own
    assert four.step() == []
    assert list(four.running) == [equal, low]


def test_room_that_wasnt_needed_goes_to_one_that_was_passed() -> None:
    six = machine(rows=6)
    large = six.add(Ticket(6, 600))
    six.step()
    aged = six.add(Ticket(3, 10))
    six.run(int(AGING))
    high = six.add(Ticket(3, 10, 1))  # which the aged one, its equal now, is before
    assert six.step() == [Freeze(large), Admit(high), Admit(aged)]


def test_the_frozen_go_first_among_their_equals() -> None:
    one = machine(rows=1)
    frozen = one.add(Ticket(1, 5, tenant="had something"))
    other = one.add(Ticket(1, 5, tenant="had nothing"))
    one.run(2)
    high = one.add(Ticket(1, 3, 1))
    one.drain()
    assert list(one.done) == [high, frozen, other]


def test_what_is_frozen_takes_no_more_memory_than_what_runs() -> None:
    one = machine(rows=1, tokens=100)
    one.add(Ticket(1, 60, 0))
    one.step()
    one.add(Ticket(1, 60, 1))
    one.step()
    highest = one.add(Ticket(1, 10, 2))
    assert one.step() == []  # 120 would be frozen
    one.drain()
    assert highest in one.done


def test_who_goes_on_makes_room_for_who_gives_way() -> None:
    two = machine(rows=2, tokens=100)
    large = two.add(Ticket(2, 60, 1))
    two.step()
    high, low = two.add(Ticket(1, 10, 2)), two.add(Ticket(1, 60, 0))
    assert two.step() == [Freeze(large), Admit(high), Admit(low)]
    two.cancel(high)
    assert two.step() == [Freeze(low), Resume(large)]


def test_all_the_time_without_running_counts() -> None:
    one = machine(rows=1)
    first = one.add(Ticket(1, 20))
    ticket = one.add(Ticket(1, 10))
    one.run(21)
    assert ticket in one.running
    high = one.add(Ticket(1, 15, HIGHEST))
    one.run(15)
    assert (first in one.done, high in one.done, ticket in one.frozen) == (True, True, True)
    assert ticket.level(one.now, aging=5, ceiling=HIGHEST) == (20 + 15) // 5
    assert ticket.level(one.now, aging=5, ceiling=3) == 3
    assert ticket.level(one.now, aging=5, ceiling=-1) == 0  # its own priority it keeps


def test_no_two_freeze_each_other_in_turn() -> None:
    """A stream of high ones, short, that leaves a low one no room for itself."""
    one = machine(rows=1, turn=0.5)
    low = one.add(Ticket(1, 100, -1))
    fill = flood(one, "high", tokens=2, priority=HIGHEST)
    one.step()
    one.run(2000, before=fill)
    assert one.freezes[low] == 1
    assert low in one.done


# Deadlines.


def test_a_deadline_ends_the_waiting_at_the_next_decision() -> None:
    one = machine(rows=1)
    runs = one.add(Ticket(1, 10, deadline=5))
    one.step()
    late, later = one.add(Ticket(1, 10, deadline=4)), one.add(Ticket(1, 10, deadline=2))
    one.run(1)
    assert one.expired == []
    one.run(1)
    assert one.expired == [later]
    one.run(3)
    assert one.expired == [later, late]
    one.drain()
    assert runs in one.done  # who was admitted isn't given up
    assert late.state is State.GONE


def test_the_earliest_deadline_is_told_first() -> None:
    one = machine(rows=1)
    later, earlier = one.add(Ticket(1, 5, deadline=2)), one.add(Ticket(1, 5, deadline=1))
    one.now = 3
    assert one.decide() == [Expire(earlier), Expire(later)]


def test_an_expired_one_is_never_admitted() -> None:
    one = machine(rows=1)
    late, other = one.add(Ticket(1, 5, 9, deadline=1)), one.add(Ticket(1, 5))
    one.now = 1
    assert one.step() == [Expire(late), Admit(other)]


# Fairness.


def test_two_that_flood_get_equal_shares() -> None:
    eight = machine(rows=8)
    fills = [flood(eight, "short", tokens=5), flood(eight, "wide", rows=3, tokens=120)]
    eight.run(3000, before=lambda: [fill() for fill in fills])
    assert eight.served["short"] == pytest.approx(eight.served["wide"], rel=0.1)


def test_who_claims_much_and_takes_little_pays_for_what_it_takes() -> None:
    """But for once, at the beginning: what it holds counts as taken."""
    eight = machine(rows=8, tokens=4000)
    fills = [flood(eight, "claims", tokens=500, work=10), flood(eight, "modest")]
    eight.run(300, before=lambda: [fill() for fill in fills])
    eight.served.clear()
    eight.run(2000, before=lambda: [fill() for fill in fills])
    assert eight.served["claims"] == pytest.approx(eight.served["modest"], rel=0.1)


def test_an_empty_machine_is_shared_from_the_first_decision_on() -> None:
    eight = machine(rows=8)
    for tenant in ("first", "second"):
        flood(eight, tenant)()
    eight.decide()
    assert Counter(ticket.tenant for ticket in eight.running) == {"first": 4, "second": 4}


def test_a_long_queue_is_worth_nothing() -> None:
    four = machine(rows=4)
    for _ in range(2000):
        four.add(Ticket(1, 10, tenant="early"))
    four.run(1000)
    before = four.served["early"]
    four.run(1000, before=flood(four, "late"))
    assert four.served["early"] - before == pytest.approx(four.served["late"], rel=0.1)


@pytest.mark.parametrize("idle", ["busy", "quiet"])
def test_nobody_is_owed_the_time_in_which_it_asked_for_nothing(idle: str) -> None:
    """`back` has had a little, then nothing for long, while `busy` had all or nobody asked."""
    four = machine(rows=4)
    fills = {name: flood(four, name) for name in ("back", "busy")}
    four.run(20, before=lambda: [fill() for fill in fills.values()])
    if idle == "busy":
        for ticket in [ticket for ticket in four.waiting if ticket.tenant == "back"]:
            four.cancel(ticket)
        four.run(2000, before=fills["busy"])
    else:
        four.drain()
        four.now += 2000
    before = four.served.copy()
    four.run(400, before=lambda: [fill() for fill in fills.values()])
    gained = four.served - before
    assert gained["back"] == pytest.approx(gained["busy"], rel=0.1)


def test_nor_while_there_was_room_for_all() -> None:
    """`busy` has taken much, but nobody had to wait for that."""
    four = machine(rows=4)
    for _ in range(200):
        while len(four.running) + len(four.waiting) < 4:
            length = 10 + len(four.work) % 3  # so that never all end at once
            four.add(Ticket(1, length, tenant="busy"))
        four.step()
    fills = [flood(four, "back"), flood(four, "busy")]
    before = four.served["busy"]
    four.run(400, before=lambda: [fill() for fill in fills])
    assert four.served["busy"] - before == pytest.approx(four.served["back"], rel=0.1)


def test_what_a_tenant_was_just_given_counts_for_all_its_tickets() -> None:
    """One of each of its priorities, which are one level by now, would be before another's."""
    four = machine(rows=4, turn=AGING)
    first = four.add(Ticket(4, 10, HIGHEST, tenant="first"), work=4)
    four.decide()
    for priority in (0, 1):
        for _ in range(4):
            four.add(Ticket(1, 10, priority, tenant="two lines"))
    for _ in range(4):
        four.add(Ticket(1, 10, 1, tenant="one line"))
    four.step()
    assert first in four.done
    four.decide()
    assert Counter(ticket.tenant for ticket in four.running) == {"two lines": 2, "one line": 2}


def test_counters_of_those_who_are_gone_are_forgotten() -> None:
    four = machine(rows=4)
    fill = flood(four, "stays")
    for number in range(500):
        fill()
        four.add(Ticket(1, 10, tenant=f"once {number}"))
        four.run(5)
    assert len(four.scheduler._tenants) < 50
    for ticket in list(four.waiting):
        four.cancel(ticket)
    four.drain()
    assert len(four.scheduler._tenants) == 0


# All together.


class ScheduleMachine(RuleBasedStateMachine):
    """Any calls in any order; the virtual machine checks each decision."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = VirtualMachine(Scheduler(4, 60, 12))

    @rule(
        rows=st.integers(1, 4),
        tokens=st.integers(1, 60),
        priority=st.integers(-2, 2),
        tenant=st.sampled_from("abc"),
        wait=st.one_of(st.just(math.inf), st.integers(0, 40)),
        share=st.floats(0, 1),
    )
    def add(
        self, rows: int, tokens: int, priority: int, tenant: str, wait: float, share: float
    ) -> None:
        ticket = Ticket(rows, tokens, priority, tenant, self.machine.now + wait)
        if len(self.machine.waiting) == 12:
            with raises(QueueFullError, found=12, expected=12):
                self.machine.add(ticket)
            return
        self.machine.add(ticket, work=max(1, round(share * tokens)))

    @rule(turns=st.integers(1, 30))
    def run(self, turns: int) -> None:
        self.machine.run(turns)

    @rule()
    def decide(self) -> None:
        self.machine.decide()

    @precondition(lambda self: self.live())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.machine.cancel(data.draw(st.sampled_from(self.live())))

    def live(self) -> list[Ticket]:
        return [*self.machine.waiting, *self.machine.running, *self.machine.frozen]

    def teardown(self) -> None:
        self.machine.drain()
        assert self.machine.scheduler.rows == self.machine.scheduler.tokens == 0
        assert len(self.machine.scheduler._tenants) == 0


ScheduleMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=50, deadline=None)
TestSchedule = ScheduleMachine.TestCase


@pytest.mark.parametrize("load", [0.9, 1.5])
def test_thousands_at_random(load: float) -> None:
    """Nobody is lost, nothing is left, and those that weren't cancelled or late are done."""
    random = np.random.default_rng(round(10 * load))  # half a request a turn fills it
    busy = machine(rows=16, tokens=800, waiting=200, turn=0.1)
    asked, refused, cancelled = 0, 0, []
    for _ in range(4000):
        for _ in range(random.poisson(load / 2)):
            asked += 1
            rows = int(random.choice([1, 1, 1, 2, 4]))
            ticket = Ticket(
                rows,
                tokens=rows * int(random.integers(10, 60)),
                priority=int(random.choice([-1, 0, 0, 0, 3])),
                tenant=str(random.integers(5)),
                deadline=busy.now + float(random.choice([5, 60, math.inf])),
            )
            try:
                busy.add(ticket, work=int(random.integers(1, ticket.tokens + 1)))
            except QueueFullError:
                refused += 1
        live = [*busy.waiting, *busy.running, *busy.frozen]
        if live and random.random() < 0.1:
            cancelled.append(live[random.integers(len(live))])
            busy.cancel(cancelled[-1])
        busy.step()
    busy.drain()
    assert asked == refused + len(cancelled) + len(busy.expired) + len(busy.done)
    assert len(busy.done) > 1000
    assert busy.freezes
    assert max(busy.freezes.values()) <= 20
    assert (busy.scheduler.rows, busy.scheduler.tokens, busy.scheduler.waiting) == (0, 0, 0)

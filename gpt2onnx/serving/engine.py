"""Engine: requests of many callers share a model's steps, and leave and join between them.

One thread runs the decoder. Who runs, the scheduler decides; what is read together, the loop. Knows
requests and threads; knows nothing of strategies, graphs or text.
"""

from __future__ import annotations

import atexit
import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from threading import Condition, Thread, current_thread
from typing import Any, Literal

from gpt2onnx.errors import (
    EngineClosedError,
    Given,
    ParameterError,
    RequestCancelledError,
    RequestExpiredError,
)
from gpt2onnx.models import load
from gpt2onnx.runtime.call import Call, ScoreCall
from gpt2onnx.runtime.decoding.task import Task
from gpt2onnx.runtime.engine.decisions import Admit, Decision, Expire, Freeze, Resume
from gpt2onnx.runtime.engine.loop import Loop, Told
from gpt2onnx.runtime.engine.prompt_turns import next_chunk
from gpt2onnx.runtime.engine.run import Run
from gpt2onnx.runtime.engine.schedule import Scheduler
from gpt2onnx.runtime.engine.ticket import State, Ticket
from gpt2onnx.runtime.model import Model
from gpt2onnx.runtime.text.prompts import Prompt
from gpt2onnx.serving.capacity import capacity_of
from gpt2onnx.serving.embedding import EmbeddingCall, Pooling, embedding_call
from gpt2onnx.serving.handle import Handle
from gpt2onnx.serving.stats import EngineStats

MAX_WAITING = 1024
MOST_TOKENS = 1024
Outcome = Literal["finished", "cancelled", "expired", "failed"]


class _Request:
    """A call that was taken: a ticket and a task for each of its prompts."""

    def __init__(self, call: Call | ScoreCall | EmbeddingCall, handle: Handle) -> None:
        self.call, self.handle = call, handle
        self.parts: dict[Ticket, _Part] = {}  # that aren't over
        self.has_begun = False

    @property
    def state(self) -> str:
        """What it counts as: waiting, running or frozen."""
        if not self.has_begun:
            return "waiting"
        begun = [part for part in self.parts.values() if part.run]
        return "frozen" if begun and all(part.frozen is not None for part in begun) else "running"


class _Part:
    """One prompt of a request: its task, its run once it was let in, its rows while it's frozen."""

    def __init__(self, request: _Request, task: Task[Any]) -> None:
        self.request, self.task = request, task
        self.run: Run[Any] | None = None
        self.frozen: list[Any] | None = None


class Engine:
    """Runs requests on a model, as many at once as it has rows for.

    Each gives what it gives alone, whatever runs beside it. `model` is open, or what `load` takes;
    `load_options` are load's. Any thread may submit.

    `max_rows` are the sequences that run at once (32 where none is given), `max_tokens` the
    positions that they may take in the cache (what half of the free memory holds, or less where
    the rows can't take so much), `max_waiting` how many prompts may wait. `prefix_cache` is the
    memory for prompts' beginnings, such as "512M"; 0 keeps none.

    Raises ParameterError, and for a folder what `load` raises.
    """

    def __init__(
        self,
        model: Model | str | Path,
        *,
        max_rows: int | None = None,
        max_tokens: int | None = None,
        max_waiting: int = MAX_WAITING,
        prefix_cache: str | int = 0,
        **load_options: Any,
    ) -> None:
        is_open = hasattr(model, "call")
        if is_open and load_options:
            raise ParameterError(
                Given(*load_options), " has no effect on an open model: give it to load"
            )
        self.model: Model = model if is_open else load(model, **load_options)  # type: ignore
        self._capacity = capacity_of(self.model, max_rows, max_tokens, max_waiting)
        self._scheduler = Scheduler(*self._capacity)
        self._prefixes = self.model.prefixes.cache(prefix_cache)
        self._loop: Loop[Any] = Loop(
            self.model.decoder, self._next_chunk, time.monotonic, self._prefixes
        )
        # Of prompts, between two steps. Some graphs take a prompt as a whole.
        self._most_tokens = min(self.model.decoder.chunk, MOST_TOKENS)
        self._changed = Condition()
        self._requests: dict[Handle, _Request] = {}
        self._parts: dict[Ticket, _Part] = {}
        self._tickets: dict[Run[Any], Ticket] = {}  # of those that were let in
        self._to_cancel: list[_Request] = []
        self._counts: Counter[str] = Counter()
        self._busy = 0.0
        self._is_closing = False
        self._thread = Thread(target=self._work, name="gpt2onnx engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def submit(
        self,
        prompt: Any,
        *,
        priority: int = 0,
        tenant: str | None = None,
        deadline: float | None = None,
        **parameters: Any,
    ) -> Handle:
        """Take a request; `parameters` are Model.generate's, and so are the results.

        Of a higher `priority` (-10 to 10) it is the turn first; of equals each `tenant` gets the
        same share of the machine. A request that still waits after `deadline` seconds expires.

        Raises what generate raises of parameters and prompts; QueueFullError; EngineClosedError.
        """
        call = self.model.call(prompt, room=self._require_room, **parameters)
        return self._submit(call, priority, tenant, deadline)

    def submit_score(
        self,
        texts: Sequence[Prompt],
        *,
        add_bos: bool = True,
        top_logprobs: int = 0,
        priority: int = 0,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> Handle:
        """Take texts, or token ids, to score: the result lists what Model.score gives of each."""
        call = self.model.score_call(texts, add_bos=add_bos, top_logprobs=top_logprobs)
        return self._submit(call, priority, tenant, deadline)

    def submit_embedding(
        self,
        texts: Sequence[Prompt],
        *,
        pooling: Pooling = "mean",
        priority: int = 0,
        tenant: str | None = None,
        deadline: float | None = None,
    ) -> Handle:
        """Take texts, or token ids: the result lists a vector of each, of the last hidden states.

        That is the states' mean or, with `pooling` "last", the last token's. Raises ParameterError
        for a model that was exported without hidden states, PromptError and its kinds.
        """
        call = embedding_call(self.model, texts, pooling)
        return self._submit(call, priority, tenant, deadline)

    def _submit(
        self,
        call: Call | ScoreCall | EmbeddingCall,
        priority: int,
        tenant: str | None,
        deadline: float | None,
    ) -> Handle:
        handle = Handle(self._cancel, has_tokens=call.has_tokens)
        request = _Request(call, handle)
        with self._changed:
            self._require_open()
            now = time.monotonic()
            until = math.inf if deadline is None else now + _seconds(deadline)
            for task in (*call.tasks, *call.scoring_tasks):
                length = min(task.length, self.model.decoder.n_positions)
                tokens = max(1, task.rows_needed * length)
                ticket = Ticket(task.rows_needed, tokens, priority, tenant, until)
                request.parts[ticket] = _Part(request, task)
            self._enqueue(request, now)
            self._changed.notify_all()
        return handle

    @property
    def room(self) -> int:
        """How many more prompts it would take now: nobody need prepare a request where it's 0.

        Places in the queue, and free rows where nobody waits for them.
        """
        scheduler = self._scheduler
        places = max(0, scheduler.max_waiting - scheduler.waiting)
        is_idle = places and not scheduler.waiting
        return places + (scheduler.max_rows - scheduler.rows if is_idle else 0)

    def load_prefix(self, path: str | Path) -> int:
        """Let every prompt that begins like one which Model.save_prefix kept go on from there.

        Gives how many tokens it has. Raises ParameterError where there is no prefix cache, and
        PrefixFileError for a file that is none, is damaged or another model's.
        """
        if self._prefixes is None:
            raise ParameterError(
                "load_prefix needs a prefix cache: give the engine ", Given("prefix_cache")
            )
        with self._changed:
            return self._prefixes.load(path)

    def stats(self) -> EngineStats:
        """What the engine does and has done."""
        with self._changed:
            states = Counter(request.state for request in self._requests.values())
            return EngineStats(
                accepted=self._counts["accepted"],
                waiting=states["waiting"],
                running=states["running"],
                frozen=states["frozen"],
                finished=self._counts["finished"],
                cancelled=self._counts["cancelled"],
                expired=self._counts["expired"],
                failed=self._counts["failed"],
                rows=self._scheduler.rows,
                tokens_read=self._counts["read"],
                tokens_written=self._counts["written"],
                turns=self._counts["turns"],
                busy=self._busy,
                prefixes=self._prefixes.stats if self._prefixes else None,
            )

    def close(self) -> None:
        """Cancel what still waits or runs, and end the thread. Closing again does nothing."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        if current_thread() is not self._thread:  # as a caller's own function may be
            self._thread.join()
        atexit.unregister(self.close)

    def _enqueue(self, request: _Request, now: float) -> None:
        """Let all parts of a request wait, or none."""
        added: list[Ticket] = []
        try:
            for ticket in request.parts:
                self._scheduler.add(ticket, now)
                added.append(ticket)
        except Exception:
            for ticket in added:
                self._scheduler.retire(ticket)
            raise
        self._counts["accepted"] += 1
        self._requests[request.handle] = request
        self._parts.update(request.parts)
        if not request.parts:  # of no prompt
            self._end(request, "finished", request.call.results())

    def _cancel(self, handle: Handle) -> None:
        """What Handle.cancel asks for."""
        with self._changed:
            if request := self._requests.get(handle):
                self._to_cancel.append(request)
                self._changed.notify_all()

    # What follows runs on the engine's thread, but for the checks.

    def _work(self) -> None:
        try:
            self._take_turns()
        finally:  # whatever happened, nobody waits for ever
            with self._changed:
                self._is_closing = True
                self._end_all()

    def _take_turns(self) -> None:
        while self._prepare():
            began = time.monotonic()
            told = self._loop.turn(self._most_tokens, contain=True)
            with self._changed:
                for each in told:
                    self._deliver(each)
                self._counts["turns"] += 1
                self._busy += time.monotonic() - began

    def _prepare(self) -> bool:
        """Wait until there is something to run, and let in who may; false where all is over."""
        with self._changed:
            while True:
                self._end_cancelled()
                if self._is_closing:
                    return False
                for decision in self._scheduler.decide(time.monotonic()):
                    self._try(decision)
                if self._loop.runs:
                    return True
                self._changed.wait()

    def _try(self, decision: Decision) -> None:
        part = self._parts.get(decision.ticket)
        if part is None:  # a sibling of one that was just ended
            return
        try:
            self._obey(decision, part)
        except Exception as error:  # no memory, for example
            self._end(part.request, "failed", error=error)

    def _obey(self, decision: Decision, part: _Part) -> None:
        if isinstance(decision, Expire):
            error = RequestExpiredError(
                "the request's deadline came before its turn: nothing was written; give it more "
                "time, or try again when less is asked for"
            )
            self._end(part.request, "expired", error=error)
        elif isinstance(decision, Admit):
            self._admit(part, decision.ticket)
        elif isinstance(decision, Freeze) and part.run:
            self._loop.pause(part.run)
            part.frozen = [self.model.decoder.take_out(row) for row in part.task.rows]
        elif isinstance(decision, Resume) and part.run:
            for row in part.frozen or []:
                self.model.decoder.put_back(row)
            part.frozen = None
            self._loop.resume(part.run)

    def _admit(self, part: _Part, ticket: Ticket) -> None:
        if not self._loop.runs:
            n_positions = self.model.decoder.n_positions
            rows = max(ticket.rows, self._capacity.max_tokens // n_positions)
            self.model.decoder.reserve(min(rows, self._capacity.max_rows), n_positions)
        max_time = part.request.call.max_time
        until = math.inf if max_time is None else time.monotonic() + max_time
        part.run = self._loop.add(part.task, until, ticket.tenant)
        self._tickets[part.run] = ticket
        part.request.has_begun = True

    def _deliver(self, told: Told[Any]) -> None:
        """Give a task's tokens to whom they belong."""
        ticket = self._tickets.get(told.run)
        if ticket is None:  # its request was ended by a sibling's fault
            return
        part = self._parts[ticket]
        request = part.request
        read = told.run.tokens_read - ticket.charged
        try:
            if told.error:
                raise told.error
            tokens = [request.call.take(event) for event in told.events]
            request.handle.put(tokens)
            self._scheduler.charge(ticket, read)
            self._counts.update(read=read, written=len(tokens))
            if part.task.done:
                self._leave(ticket)
                if not request.parts:
                    self._counts["written"] += request.call.untold
                    self._end(request, "finished", request.call.results())
        except Exception as error:
            self._end(request, "failed", error=error)

    def _end_cancelled(self) -> None:
        for request in self._to_cancel:
            if request.handle in self._requests:
                self._end(request, "cancelled", error=RequestCancelledError("it was cancelled"))
        self._to_cancel.clear()

    def _end_all(self) -> None:
        for request in list(self._requests.values()):
            error = EngineClosedError("the engine was closed before the request was done")
            self._end(request, "cancelled", error=error)

    def _end(
        self,
        request: _Request,
        outcome: Outcome,
        results: Any = None,
        error: Exception | None = None,
    ) -> None:
        """A request is over, wherever its parts stand."""
        for ticket in list(request.parts):
            self._leave(ticket)
        del self._requests[request.handle]
        self._counts[outcome] += 1
        request.handle.finish(results, error)

    def _leave(self, ticket: Ticket) -> None:
        """Let go of one part's rows and place."""
        part = self._parts.pop(ticket)
        del part.request.parts[ticket]
        if part.run:
            del self._tickets[part.run]
            self._loop.remove(part.run)
        if ticket.state is not State.GONE:  # as one is that expired
            self._scheduler.retire(ticket)

    def _next_chunk(self, runs: Any) -> Run[Any]:
        run: Run[Any] = next_chunk(runs, self._counts["turns"])
        return run

    def _require_room(self, rows: int, prompts: int, length: int) -> None:
        """Refuse what can never fit, before anything is made of it."""
        tokens = rows * min(length, self.model.decoder.n_positions)
        if prompts:
            self._scheduler.require_possible(Ticket(rows, max(1, tokens)))

    def _require_open(self) -> None:
        if self._is_closing:
            raise EngineClosedError("the engine is closed: expected an open one")


def _seconds(deadline: object) -> float:
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline >= 0:
        raise ParameterError(
            Given("deadline", deadline), ": expected the seconds that it may wait, 0 or more"
        )
    return float(deadline)

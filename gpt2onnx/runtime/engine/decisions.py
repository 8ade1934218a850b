"""What a scheduler decides, one ticket each: to be done in the order in which it is given."""

from __future__ import annotations

from dataclasses import dataclass

from gpt2onnx.runtime.engine.ticket import Ticket


@dataclass(frozen=True)
class Freeze:
    """Copy a running ticket's rows out; its room is free."""

    ticket: Ticket


@dataclass(frozen=True)
class Admit:
    """Let a waiting ticket take its rows."""

    ticket: Ticket


@dataclass(frozen=True)
class Resume:
    """Copy a frozen ticket's rows back; it goes on."""

    ticket: Ticket


@dataclass(frozen=True)
class Expire:
    """Give up a waiting ticket whose deadline has come."""

    ticket: Ticket


Decision = Freeze | Admit | Resume | Expire

"""The numbers of a JSON schema as llguidance reads them: doubles, written with few digits.

An integer beyond 2^53, or a decimal of more than 15 digits, may become another number there. Knows
numbers alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Final

# Bounds beyond these, in llguidance's 64 bits, can't be written.
_LARGEST_INTEGER: Final = 2**63 - 1024
_LARGEST: Final = 9 * 10**18
# It follows the remainders, so many take a second; a day's seconds should be possible.
LARGEST_FACTOR: Final = 86_400
# What an exclusive bound is moved by, away from 0: llguidance lets 0 through above 0 and up to 0.1.
_STEP: Final = Decimal("1e-12")


def exact(value: int | Decimal) -> bool:
    """Whether a number of const or enum is written as what it is."""
    if isinstance(value, int):
        return abs(value) <= _LARGEST_INTEGER and int(float(value)) == value
    return abs(value) <= _LARGEST and _readings(float(value)) == {value}


def inclusive(value: int | Decimal, lower: bool, integer: bool) -> int | Decimal | None:
    """A bound that is no part of what it bounds, as one that is; None where it can stay."""
    if abs(Decimal(value)) > _LARGEST_INTEGER:
        return None
    if integer:
        return math.floor(value) + 1 if lower else math.ceil(value) - 1
    large = abs(Decimal(value)) >= 2**53
    away = value >= 0 if lower else value <= 0
    if not large and not (away and value % 1 == 0):
        return None
    step = Decimal("0.5") if large else _STEP
    return Decimal(value) + (step if lower else -step)


def common_factor(values: Iterable[int | Decimal]) -> int:
    """The least common multiple, in units of its last decimal: what must fit."""
    fractions = [Fraction(value) for value in values]
    unit = math.lcm(*(each.denominator for each in fractions))
    return math.lcm(*(int(each * unit) for each in fractions))


def bound(value: int | Decimal, lower: bool, integer: bool) -> int | float | None:
    """The bound nearest to `value` that is written as what it is, and lets nothing else through.

    A lower bound isn't below it, an upper one not above. None where that would let nothing through.
    """
    largest = _LARGEST_INTEGER if integer else _LARGEST
    if (value > largest) if lower else (value < -largest):
        return None
    near = float(max(Decimal(-largest), min(Decimal(largest), Decimal(value))))
    clipped = abs(Decimal(value)) > largest
    while not clipped and _lets_through(near, value, lower):
        near = math.nextafter(near, math.inf if lower else -math.inf)
    return int(near) if near == int(near) else near


def _lets_through(near: float, value: int | Decimal, lower: bool) -> bool:
    """Whether a double as a bound may let more through than `value` does."""
    return any((each < value) if lower else (each > value) for each in _readings(near))


def _readings(number: float) -> set[Decimal]:
    """What llguidance may write for a double: its digits, or for an integer all of them."""
    shortest = Decimal(repr(number))
    return {shortest, Decimal(int(number))} if number == int(number) else {shortest}


def factor(value: int | Decimal) -> int | float | None:
    """A multipleOf that llguidance reads as what it is; None where it doesn't."""
    if value <= 0 or not exact(value):
        return None
    near, places = float(value), 0
    while near != int(near) and places < 20:  # as it does
        near, places = near * 10, places + 1
    if near > LARGEST_FACTOR or Fraction(int(near), 10**places) != Fraction(value):
        return None
    return int(value) if value == int(value) else float(value)

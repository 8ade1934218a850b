"""String formats and property-name patterns of a JSON schema."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

# The formats that llguidance holds a text to; it has dates and times too, 29 February each year.
FORMATS: Final = frozenset(["duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"])

_YEAR: Final = "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"  # Python's have no year 0
_LEAP: Final = "[0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00"
_DATE: Final = (
    f"({_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|02-(0[1-9]|1[0-9]|2[0-8]))|({_LEAP})-02-29)"
)
_SECOND: Final = "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_REST: Final = r"(\.[0-9]+)?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
# Seconds leap before midnight UTC, at the end of June or December.
_LEAP_SECOND: Final = r"23:59:60(\.[0-9]+)?[zZ]"

# RFC 3339, which the specification names.
MOMENTS: Final = {
    "date": f"^{_DATE}$",
    "time": f"^({_SECOND}{_REST}|{_LEAP_SECOND})$",
    "date-time": f"^({_DATE}[tT]{_SECOND}{_REST}|{_YEAR}-(06-30|12-31)[tT]{_LEAP_SECOND})$",
}

# Names, and bytes on the way to them, that are looked at.
_FEW: Final = 64
_STEPS: Final = 1000


@lru_cache(maxsize=256)
def names(pattern: str) -> tuple[str, ...] | None:
    """All names that a pattern of patternProperties matches; None where they are many.

    llguidance itself is asked, byte by byte, so its reading of the pattern counts. None as well for
    a pattern that it can't read, which it says by itself.
    """
    import llguidance

    matcher = llguidance.LLMatcher
    source = matcher.grammar_from_json_schema(json.dumps({"type": "string", "pattern": pattern}))
    start = matcher(_bytes(), source, log_level=0)
    if start.is_error():
        return () if "Unsatisfiable" in start.get_error() else None
    found: set[str] = set()
    begun = [(start, b"")]
    for _ in range(_STEPS):
        if not begun:
            return tuple(sorted(found))
        state, text = begun.pop()
        if state.is_accepting():
            found.add(json.loads(text))
        following = [] if state.is_stopped() else _following(state)
        # Whatever has begun leads to a name of its own.
        if len(found) + len(begun) + len(following) > _FEW:
            return None
        for byte in following:
            longer = state.deep_copy()
            longer.consume_token(byte)
            begun.append((longer, text + bytes([byte])))
    return None


def _following(state: Any) -> list[int]:
    """The bytes that may come next."""
    bits = int.from_bytes(state.compute_bitmask(), "little")
    return [byte for byte in range(256) if bits >> byte & 1]


@lru_cache(maxsize=1)
def _bytes() -> Any:
    """A tokenizer whose tokens are the bytes."""
    import llguidance

    return llguidance.LLTokenizer("byte")

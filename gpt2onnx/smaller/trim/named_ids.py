"""The token ids that config.json and generation_config.json name, read or put into other words.

Knows the settings' names and forms, transformers' and ours; nothing of what they do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

IDS = frozenset(
    {
        *("bad_words_ids", "force_words_ids", "suppress_tokens", "begin_suppress_tokens"),
        *("dry_sequence_breakers", "logit_bias"),
    }
)
"""Settings with ids in them, beside those whose name ends in SUFFIXES."""
SUFFIXES = ("_token_id", "_token_ids")
# What a list of pairs has at the ids' place: [ids, bias] and [position, id].
PAIRS: Mapping[str, int] = {"sequence_bias": 0, "forced_decoder_ids": 1}
NUMBER = re.compile("[0-9]+", re.ASCII)

NewId = Callable[[int], int]


def with_new_ids(settings: Mapping[str, Any], new_id: NewId) -> dict[str, Any]:
    """The same settings, with `new_id` of each id. Settings may hold others, by task."""
    return {name: _setting(name, value, new_id) for name, value in settings.items()}


def ids_in(settings: Mapping[str, Any]) -> set[int]:
    """All ids that the settings name."""
    found: set[int] = set()

    def noted(index: int) -> int:
        found.add(index)
        return index

    with_new_ids(settings, noted)
    return found


def _setting(name: str, value: Any, new_id: NewId) -> Any:
    if name in IDS or name.endswith(SUFFIXES):
        return _ids(value, new_id)
    if name in PAIRS and isinstance(value, list):
        return [_pair(each, PAIRS[name], new_id) for each in value]
    if name in PAIRS:
        return _ids(value, new_id)
    return with_new_ids(value, new_id) if isinstance(value, dict) else value


def _pair(pair: Any, place: int, new_id: NewId) -> Any:
    if not isinstance(pair, list):
        return pair
    return [_ids(each, new_id) if at == place else each for at, each in enumerate(pair)]


def _ids(value: Any, new_id: NewId) -> Any:
    """An id, lists of them, or an object whose keys they are: "5", or "(5, 7)" as a sequence."""
    if isinstance(value, list):
        return [_ids(each, new_id) for each in value]
    if isinstance(value, dict):
        return {
            NUMBER.sub(lambda match: str(new_id(int(match[0]))), key): each
            for key, each in value.items()
        }
    return new_id(value) if type(value) is int else value

"""A progress bar on standard error, for what takes longer than a second."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class Track(Protocol):
    """Passes an iterable on, and shows how far it is."""

    def __call__(self, items: Iterable[Item], label: str) -> Iterable[Item]: ...


def bar(items: Iterable[Item], label: str) -> Iterable[Item]:
    """Show a bar once a second has passed, and take it away at the end."""
    shown: Iterable[Item] = tqdm(items, desc=label, delay=1, leave=False)
    return shown


def silent(items: Iterable[Item], label: str) -> Iterable[Item]:
    """Show nothing."""
    return items

"""What a fork must not break: half a transaction, a lock whose holder is gone, SQLite's own bookkeeping.

SQLite counts its locks in memory, which a fork copies, while the locks themselves stay with the
parent. So no fork happens inside a transaction, and a child opens everything again.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["ForkAware", "register_for_fork"]

_PATIENCE_S = 10.0


class ForkAware(Protocol):
    """Something that takes part in forks."""

    @property
    def change_lock(self) -> threading.Lock:
        """Held during each change; a fork waits for it."""

    def reset_after_fork(self) -> None:
        """Called in the child: give up every lock, thread and connection of the parent's."""


_watched: weakref.WeakSet[ForkAware] = weakref.WeakSet()
_held: list[threading.Lock] = []


def register_for_fork(one: ForkAware) -> None:
    """Register *one* to take part in every fork from now on, for as long as it lives."""
    _watched.add(one)


def _before() -> None:
    for one in list(_watched):
        lock = one.change_lock
        if lock.acquire(timeout=_PATIENCE_S):
            _held.append(lock)


def _after_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_in_child() -> None:
    _held.clear()
    for one in list(_watched):
        one.reset_after_fork()


os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)

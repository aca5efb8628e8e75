"""What belongs to the process and not to one run, in one place, with one hook for forks and one for the exit.

A module that needs something of the process declares a `Slot` for it, so that this module imports nothing:

    _QUIRKS: Slot[dict[str, Quirks]] = Slot("quirks", dict)
    _QUIRKS.value["gpt-6"]

The value is made on first use; `RUNTIME` knows all slots, closes their values and forgets them. What must not go
through a fork as it is, such as a lock, a thread or a connection, registers itself with `RUNTIME.register_fork_aware`
when it is made.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable, Hashable
from enum import IntEnum
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

__all__ = ["RUNTIME", "ExitStage", "ForkAware", "ForkGuarded", "Locked", "Runtime", "Slot", "is_first_time"]

T = TypeVar("T")

# A fork waits this long for each change in progress; a lock that is held for longer belongs to something stuck.
_PATIENCE_S = 10.0


class ExitStage(IntEnum):
    """The order in which the parts of a process are closed: each may use those of a later stage until then."""

    RUNS = 0
    """Runs end, and what has arrived is stored."""
    RECORDS = 1
    """What is known of the runs is given to the writers."""
    WRITERS = 2
    """What was given to them is written."""
    STORES = 3
    """Databases are closed."""
    SERVERS = 4
    """Processes that this one started end."""


class ForkAware(Protocol):
    """Something that a forked child must not use as the parent left it."""

    def reset_after_fork(self) -> None:
        """Drop every lock, thread and connection of the parent's. Called in the child."""


@runtime_checkable
class ForkGuarded(Protocol):
    """Something that must not be forked in the middle of a change, such as a transaction."""

    @property
    def change_lock(self) -> threading.Lock:
        """Held during each change; a fork waits for it."""


class Runtime:
    """All slots, and all that takes part in forks."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # making a value may take another slot's
        self._slots: dict[str, Slot[Any]] = {}
        self._fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        self._held: list[threading.Lock] = []  # during a fork
        self._closes_at_exit = False
        self.is_exiting = False
        """Whether this process exits, and its runs end for that reason."""

    def __repr__(self) -> str:
        return f"Runtime({', '.join(sorted(slot.name for slot in self._slots.values() if slot.is_filled)) or 'unused'})"

    def declare(self, slot: Slot[Any]) -> None:
        """Make a slot known. A module that is loaded again declares its slots again, and finds their values."""
        before = self._slots.get(slot.name)
        if before is not None and before.is_filled:
            slot.value = before.value
        self._slots[slot.name] = slot

    def fill(self, slot: Slot[T]) -> T:
        """Make the value of a slot, unless another thread has done so."""
        with self._lock:
            if not slot.is_filled:
                if slot.close is not None and not self._closes_at_exit:
                    # Now, and not on import: exit hooks run last in, first out, and what the caller made before the
                    # first use, such as a temporary directory, must outlive what we write into it.
                    self._closes_at_exit = True
                    atexit.register(self._exit)
                slot.value = slot.make()
            return slot.value

    def close(self, *stages: ExitStage) -> None:
        """Close what is open, stage by stage; the values stay, and can be used again.

        Args:
            *stages: Only the values of these; none for all.

        Raises:
            ExceptionGroup: Of what closing raised; everything else is closed all the same.
        """
        self._close([slot for slot in self._slots.values() if not stages or slot.stage in stages])

    def _close(self, slots: list[Slot[Any]]) -> None:
        closing = [slot for slot in slots if slot.close is not None and slot.is_filled]
        errors: list[Exception] = []
        for slot in sorted(closing, key=lambda slot: slot.stage):
            try:
                slot.close(slot.value)  # type: ignore[misc]
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("Not everything could be closed", errors)

    def reset(self, *names: str) -> None:
        """Close and forget everything that is not kept, as a new process knows nothing.

        Args:
            *names: Of the slots to reset; none for all.
        """
        slots = [self._slots[name] for name in names if name in self._slots] if names else list(self._slots.values())
        forgotten = [slot for slot in slots if not slot.is_kept]
        try:
            self._close(forgotten)
        finally:
            for slot in forgotten:
                slot.clear()

    def _exit(self) -> None:
        self.is_exiting = True
        self.close()

    def register_fork_aware(self, one: ForkAware) -> None:
        """Include *one* in every fork from now on, for as long as it lives; see also `ForkGuarded`."""
        self._fork_aware.add(one)

    def before_fork(self) -> None:
        """Wait until no change is in progress, and let none begin."""
        for one in list(self._fork_aware):
            if isinstance(one, ForkGuarded):
                lock = one.change_lock
                if lock.acquire(timeout=_PATIENCE_S):
                    self._held.append(lock)

    def after_fork_in_parent(self) -> None:
        """Let changes go on."""
        while self._held:
            self._held.pop().release()

    def after_fork_in_child(self) -> None:
        """Reset everything that uses what is the parent's."""
        self._held.clear()
        self._lock = threading.RLock()
        self.is_exiting = False
        for one in list(self._fork_aware):
            one.reset_after_fork()


RUNTIME = Runtime()
os.register_at_fork(
    before=RUNTIME.before_fork,
    after_in_parent=RUNTIME.after_fork_in_parent,
    after_in_child=RUNTIME.after_fork_in_child,
)


class Slot(Generic[T]):
    """The place of one value of the process, declared once by the module that it belongs to.

    Args:
        name: Unique in the process.
        make: Makes the value on first use.
        close: Closes it at exit and in `Runtime.reset`, where it was made.
        stage: When it is closed.
        is_kept: Whether `Runtime.reset` leaves it alone: what modules register when they are loaded, numbers that
            stored keys may hold.
        runtime: Closes and forgets the value.

    Attributes:
        value: An attribute like any other once it is made, since reading it must cost nothing. Setting it closes
            nothing.
    """

    value: T

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        *,
        close: Callable[[T], object] | None = None,
        stage: ExitStage = ExitStage.RUNS,
        is_kept: bool = False,
        runtime: Runtime = RUNTIME,
    ) -> None:
        self.name = name
        self.make = make
        self.close = close
        self.stage = stage
        self.is_kept = is_kept
        self._runtime = runtime
        runtime.declare(self)

    def __repr__(self) -> str:
        return f"Slot({self.name!r})"

    def __getattr__(self, name: str) -> T:
        if name != "value":
            raise AttributeError(name)
        return self._runtime.fill(self)

    @property
    def is_filled(self) -> bool:
        """Whether the value was made, or set."""
        return "value" in self.__dict__

    def clear(self) -> None:
        """Forget the value; the next use makes another."""
        self.__dict__.pop("value", None)


class Locked:
    """Base of a value that threads share: its lock is a new one in a forked child, where its holder may not exist."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Replace the lock."""
        self.lock = threading.Lock()


_WARNED: Slot[set[tuple[Hashable, ...]]] = Slot("warned", set)


def is_first_time(*about: Hashable) -> bool:
    """Return whether this process asks this for the first time, so that a warning is given once."""
    warned = _WARNED.value
    is_first = about not in warned
    warned.add(about)
    return is_first

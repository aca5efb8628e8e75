"""The state of the process, shared by all runs, with one hook for forks and one for the exit.

A module that needs process-wide state declares a `Slot` for it, so that this module imports nothing:

    _QUIRKS: Slot[dict[str, Quirks]] = Slot("quirks", dict)
    _QUIRKS.value["gpt-6"]

The value is created on first use. `RUNTIME` knows all slots, closes their values and forgets them. An object that must
not be used unchanged after a fork, such as a lock, a thread or a connection, registers itself with
`RUNTIME.register_fork_aware` when it is created.
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

# A fork waits this long for each change in progress. A lock that is held for longer belongs to a stuck thread.
_PATIENCE_S = 10.0


class ExitStage(IntEnum):
    """The order in which the parts of a process are closed. Each may use parts of a later stage until it is closed."""

    RUNS = 0
    """Runs end, and the replies that have arrived are stored."""
    RECORDS = 1
    """Records of the runs are passed to the writers."""
    WRITERS = 2
    """Queued records are written."""
    STORES = 3
    """Databases are closed."""
    SERVERS = 4
    """Child processes end."""


class ForkAware(Protocol):
    """An object that a forked child must not use in the parent's state."""

    def reset_after_fork(self) -> None:
        """Drop every lock, thread and connection of the parent. Called in the child."""


@runtime_checkable
class ForkGuarded(Protocol):
    """An object whose changes, such as transactions, must not be interrupted by a fork."""

    @property
    def change_lock(self) -> threading.Lock:
        """Held during each change; a fork waits for it."""


class Runtime:
    """All slots, and all fork-aware objects."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # reentrant, because creating a value may fill another slot
        self._slots: dict[str, Slot[Any]] = {}
        self._fork_aware: weakref.WeakSet[ForkAware] = weakref.WeakSet()
        self._held: list[threading.Lock] = []  # during a fork
        self._closes_at_exit = False
        self.is_exiting = False
        """Whether this process is exiting and its runs end for that reason."""

    def __repr__(self) -> str:
        return f"Runtime({', '.join(sorted(slot.name for slot in self._slots.values() if slot.is_filled)) or 'unused'})"

    def declare(self, slot: Slot[Any]) -> None:
        """Register a slot. A reloaded module declares its slots again and keeps their values."""
        before = self._slots.get(slot.name)
        if before is not None and before.is_filled:
            slot.value = before.value
        self._slots[slot.name] = slot

    def fill(self, slot: Slot[T]) -> T:
        """Create the value of a slot unless another thread has done so; return it."""
        with self._lock:
            if not slot.is_filled:
                if slot.close is not None and not self._closes_at_exit:
                    # Register now, not on import: exit hooks run last in, first out, and objects that the caller made
                    # before the first use, such as a temporary directory, must outlive our writes to them.
                    self._closes_at_exit = True
                    atexit.register(self._exit)
                slot.value = slot.make()
            return slot.value

    def close(self, *stages: ExitStage) -> None:
        """Close the open values, stage by stage. The values stay and can be used again.

        Args:
            *stages: Close only the values of these stages; all if empty.

        Raises:
            ExceptionGroup: The exceptions raised while closing. All other values are closed.
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
        """Close and forget every value that is not kept, as in a new process.

        Args:
            *names: Names of the slots to reset; all if empty.
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
        """Reset *one* in the child of every fork while it lives. If it is `ForkGuarded`, forks also wait for it."""
        self._fork_aware.add(one)

    def before_fork(self) -> None:
        """Wait until no change is in progress, and prevent new ones."""
        for one in list(self._fork_aware):
            if isinstance(one, ForkGuarded):
                lock = one.change_lock
                if lock.acquire(timeout=_PATIENCE_S):
                    self._held.append(lock)

    def after_fork_in_parent(self) -> None:
        """Allow changes again."""
        while self._held:
            self._held.pop().release()

    def after_fork_in_child(self) -> None:
        """Reset every object that uses the parent's resources."""
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
    """One process-wide value, declared once by the module that owns it.

    Args:
        name: Name, unique in the process.
        make: Creates the value on first use.
        close: Closes the value at exit and in `Runtime.reset`, if it was created.
        stage: Stage in which the value is closed.
        is_kept: Whether `Runtime.reset` leaves the value alone: registrations made when modules are loaded, and
            numbers that stored keys may contain.
        runtime: The runtime that closes and forgets the value.

    Attributes:
        value: The value. A plain attribute once created, so that reading it is free. Setting it does not close the
            old value.
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
        """Whether the value was created or set."""
        return "value" in self.__dict__

    def clear(self) -> None:
        """Forget the value; the next use creates a new one."""
        self.__dict__.pop("value", None)


class Locked:
    """Base of a value shared by threads. A forked child gets a new lock, since its holder may not exist there."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Replace the lock."""
        self.lock = threading.Lock()


_WARNED: Slot[set[tuple[Hashable, ...]]] = Slot("warned", set)


def is_first_time(*about: Hashable) -> bool:
    """Return whether this is the first call with these arguments in this process, so that a warning is shown once."""
    warned = _WARNED.value
    is_first = about not in warned
    warned.add(about)
    return is_first

"""Warm first: the call that writes a long prefix to the provider's cache goes alone, the rest read it.

A prefix can be read only after a reply to it has begun. A run that sends sixty calls at once pays sixty
times for the prefix; one that waits for its first reply pays once, for the time of one call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

from pllm_notebook.providers import LIFETIME_S
from pllm_notebook.runtime import Slot

__all__ = ["MAX_WAIT_S", "Warmup"]

# A first call that takes longer (slow, refused and queued again) costs the run more time than it saves money.
MAX_WAIT_S = 10.0
# Calls to send, from which on waiting for one of them can pay.
_MIN_CALLS = 3

# Prefixes that were read or written, and when. Process-wide, as the provider's cache outlives a run.
_WARM: Slot[dict[Hashable, float]] = Slot("warm prefixes", dict)


class Warmup:
    """One run's wait for its first call. Used on the engine's loop alone; sends and schedules nothing.

    Args:
        prefix: Gives what tells the run's shared prefix from others', the account included; None where there is
            nothing to wait for. Asked once, when the first call is taken: the prompts are known by then.
    """

    def __init__(self, prefix: Callable[[], Hashable | None]) -> None:
        self._find = prefix
        self._prefix: Hashable | None = None
        # When the first call was taken, None before it.
        self._began: float | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"Warmup(prefix={self._prefix!r}, began={self._began}, over={self._over})"

    def holds(self, now: float, left: int) -> bool:
        """Return whether the run's next call should wait.

        Args:
            now: Seconds on the loop's clock.
            left: Calls that are known and not yet taken.
        """
        if self._over or self._began is None or left < _MIN_CALLS - 1:
            return False
        if now - self._began >= MAX_WAIT_S:
            self._over = True
        return not self._over

    def call_taken(self, now: float) -> bool:
        """Note that a call was taken; True for a first one, which the others may wait for at most `MAX_WAIT_S`."""
        if self._over or self._began is not None:
            return False
        self._began, self._prefix = now, self._find()
        self._over = self._prefix is None or now - _WARM.value.get(self._prefix, float("-inf")) < LIFETIME_S
        return not self._over

    def ended(self, now: float, *, replied: bool) -> None:
        """Note how a call ended. Whatever it was, the others need not wait for it any longer."""
        self._over = True
        if replied and self._prefix is not None:
            warm = _WARM.value
            if self._prefix not in warm:
                for prefix in [prefix for prefix, at in warm.items() if now - at >= LIFETIME_S]:
                    del warm[prefix]
            warm[self._prefix] = now

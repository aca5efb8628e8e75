"""Prompt-cache warmup: the first call writes a long prefix to the provider's cache, and the others wait to read it.

A prefix can be read only after the reply to the call that wrote it has begun. A run that sends sixty calls at once
pays sixty times for the prefix. A run that waits for its first reply pays once, and loses the time of one call.
"""

from __future__ import annotations

from collections.abc import Hashable

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.providers import LIFETIME_S
from pllm_notebook.runtime import Slot

__all__ = ["MAX_WAIT_S", "Warmup", "shared_prefix"]

# Waiting longer for a first call (slow, or refused and queued again) costs more time than the saved money is worth.
MAX_WAIT_S = 10.0
# Minimum number of calls for which waiting for the first one can pay.
_MIN_CALLS = 3

# Prefixes that were read or written, and when. Process-wide, since the provider's cache outlives a run.
_WARM: Slot[dict[Hashable, float]] = Slot("warm prefixes", dict)


def shared_prefix(spec: CallSpec) -> Hashable | None:
    """Return what identifies the prefix of a spec's calls, None if the provider's prompt cache does not keep it."""
    prefix = (spec.packed or spec).prefix()
    return None if prefix is None else (*spec.target.dispatcher_key, prefix)


class Warmup:
    """One run's wait for its first call. Used on the engine's loop alone; sends and schedules nothing.

    Attributes:
        begun: Whether a call has been taken.
        waits: Whether the other calls may have to wait for a first call that is in flight.
        prefix: The run's prefix (see `shared_prefix`), None if there is nothing to wait for.
    """

    def __init__(self) -> None:
        self.prefix: Hashable | None = None
        self._began = 0.0
        self.begun = self.waits = False

    def __repr__(self) -> str:
        return f"Warmup(prefix={self.prefix!r}, begun={self.begun}, waits={self.waits})"

    def holds(self, now: float, left: int) -> bool:
        """Return whether the run's next call should wait.

        Args:
            now: Seconds on the loop's clock.
            left: Number of known calls that are not yet taken.
        """
        if not self.waits or left < _MIN_CALLS - 1:
            return False
        if now - self._began >= MAX_WAIT_S:
            self.waits = False
        return self.waits

    def begin(self, now: float, prefix: Hashable | None) -> bool:
        """Note that the first call was taken; return whether the others may wait for it, for at most `MAX_WAIT_S`.

        Args:
            now: Seconds on the loop's clock.
            prefix: The run's prefix (see `shared_prefix`).
        """
        self.begun, self._began, self.prefix = True, now, prefix
        self.waits = prefix is not None and now - _WARM.value.get(prefix, float("-inf")) >= LIFETIME_S
        return self.waits

    def ended(self, now: float, *, replied: bool) -> None:
        """Note how a call ended; the others no longer wait for it."""
        self.waits = False
        if replied and self.prefix is not None:
            warm = _WARM.value
            if self.prefix not in warm:
                for prefix in [prefix for prefix, at in warm.items() if now - at >= LIFETIME_S]:
                    del warm[prefix]
            warm[self.prefix] = now

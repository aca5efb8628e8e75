"""How many calls a run claims at a time: what leaves soon, since another process could send the rest meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pytest

from pllm_notebook.claim_types import ClaimKind, ClaimResult, ReleaseCounts
from pllm_notebook.execution.run_claims import RunClaims


class Everything:
    """Claims that grant all keys, and count the transactions."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.released: list[set[str]] = []

    def take(self, kind: ClaimKind, keys: Sequence[str]) -> ClaimResult:
        self.taken.append(len(keys))
        return ClaimResult(frozenset(keys), ReleaseCounts())

    def release(self, kind: ClaimKind, keys: Iterable[str]) -> None:
        self.released.append(set(keys))

    def mark(self, kind: ClaimKind) -> ReleaseCounts:
        return ReleaseCounts()


class Run:
    """A run that sends whatever it has claimed, at a steady rate."""

    def __init__(self) -> None:
        self.store = Everything()
        self.now = 0.0
        self.later: list[Callable[[], None]] = []
        self.claims = RunClaims(self.store, "live", None, waits=False, soon=self.later.append, now=lambda: self.now)
        self.sent = 0

    def send(self, calls: int, per_s: float) -> None:
        """Send *calls* calls, each of which ends at once."""
        until = self.sent + calls
        while self.sent < until:
            keys = [f"{self.sent + n}" for n in range(self.claims.ahead)]
            self.claims.take(keys)
            self.now += len(keys) / per_s
            self.sent += len(keys)
            for key in keys:
                self.claims.release_soon([key])
        while self.later:
            self.later.pop()()


def test_a_fast_run_claims_more_at_a_time_up_to_a_limit() -> None:
    run = Run()

    run.send(2000, per_s=1000)

    assert run.store.taken[:4] == [8, 8, 16, 32]
    assert set(run.store.taken[4:]) == {64}


@pytest.mark.parametrize("per_s", [1, 10, 32])
def test_a_slow_run_claims_few_at_a_time(per_s: float) -> None:
    run = Run()

    run.send(200, per_s)

    assert set(run.store.taken) == {8}


def test_a_run_that_becomes_slow_claims_fewer_again() -> None:
    run = Run()
    run.send(2000, per_s=1000)

    run.send(300, per_s=10)

    assert run.store.taken[-1] == 8


def test_the_first_calls_of_a_run_are_shared_however_quickly_they_leave() -> None:
    run = Run()

    for _ in range(10):
        run.claims.take([f"{run.sent + n}" for n in range(run.claims.ahead)])
        run.sent += run.claims.ahead

    assert set(run.store.taken) == {8}


def test_calls_that_end_together_are_given_back_together() -> None:
    run = Run()

    run.send(64, per_s=1000)

    assert run.store.released == [{f"{n}" for n in range(64)}]

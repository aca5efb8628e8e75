"""The caller's own limits: of one run, whatever models it asks, and of an account, whichever runs ask it."""

from __future__ import annotations

from collections.abc import Callable

from pllm_notebook.engine.limits.token_bucket import TokenBucket

__all__ = ["AccountRateLimit", "UserRateLimit"]


class UserRateLimit:
    """A caller's own limit of requests in flight, and of requests and tokens a minute.

    All queues that keep it count together. Each rate is a bucket that holds a second's worth. Used on the engine's
    loop alone; it may be made anywhere, and outlive the loop.

    Args:
        requests_per_min: None for no limit.
        tokens_per_min: Likewise; of input and output together, as they are estimated before a call is sent.
        concurrency: Requests on the wire at once, second requests for stragglers among them; None for no limit.

    Attributes:
        requests: What is left of the one; an unknown rate is no limit.
        tokens: Of the other.
        concurrency: As given.
        in_flight: Requests on the wire.
    """

    def __init__(
        self,
        requests_per_min: float | None = None,
        tokens_per_min: float | None = None,
        concurrency: int | None = None,
    ) -> None:
        self.requests = _full(requests_per_min)
        self.tokens = _full(tokens_per_min)
        self.concurrency = concurrency
        self.in_flight = 0
        self._waiting: dict[Callable[[], None], None] = {}  # in the order they came

    def __repr__(self) -> str:
        rates = f"requests={_per_min(self.requests)}, tokens={_per_min(self.tokens)}"
        return f"UserRateLimit({rates}, in_flight={self.in_flight}, concurrency={self.concurrency})"

    @property
    def full(self) -> bool:
        """Whether as many requests are on the wire as may be."""
        return self.concurrency is not None and self.in_flight >= self.concurrency

    @property
    def _free(self) -> bool:
        """Whether it limits no rate: nothing is to be counted then, and every call asks."""
        return self.requests.rate is None and self.tokens.rate is None

    def wait_s(self, now: float, tokens: float) -> float:
        """Return the seconds until the rates allow a request of *tokens*."""
        if self._free:
            return 0.0
        return max(self.requests.wait_s(now, 1.0), self.tokens.wait_s(now, tokens))

    def charge(self, now: float, tokens: float) -> None:
        """Count a request against the rates."""
        if not self._free:
            self.requests.charge(now, 1.0)
            self.tokens.charge(now, tokens)

    def take(self, now: float, tokens: float) -> None:
        """Count a request that leaves now; `release` follows."""
        self.charge(now, tokens)
        self.in_flight += 1

    def release(self) -> None:
        """Count a request as over, and call whoever waits for that."""
        self.in_flight -= 1
        if self._waiting and not self.full:
            waiting, self._waiting = self._waiting, {}
            for call in waiting:
                call()

    def when_free(self, call: Callable[[], None]) -> None:
        """Call *call*, once, when a request is over."""
        self._waiting[call] = None


class AccountRateLimit(UserRateLimit):
    """What the runs that state a user_limit keep together at one account: the tightest that any of them states."""

    def __init__(self) -> None:
        super().__init__()
        self._stated: dict[object, tuple[UserRateLimit, ...]] = {}

    def register(self, now: float, member: object, stated: tuple[UserRateLimit, ...]) -> None:
        """Keep what *member* states, from now on."""
        self._stated[member] = stated
        self._tighten(now)

    def unregister(self, now: float, member: object) -> None:
        """Keep it no longer. What was taken from the rates is remembered for those that come."""
        if self._stated.pop(member, None) is not None:
            self._tighten(now)
            waiting, self._waiting = self._waiting, {}
            for call in waiting:
                call()

    def _tighten(self, now: float) -> None:
        stated = [each for several in self._stated.values() for each in several]
        self.concurrency = min((each.concurrency for each in stated if each.concurrency is not None), default=None)
        for mine, theirs in (
            (self.requests, [each.requests.rate for each in stated]),
            (self.tokens, [each.tokens.rate for each in stated]),
        ):
            _limit(mine, now, min((rate for rate in theirs if rate is not None), default=None))


def _full(per_min: float | None) -> TokenBucket:
    bucket = TokenBucket()
    if per_min is not None:
        # At the beginning of time: a full bucket cannot become fuller until the first call takes from it.
        bucket.restore(0.0, per_min / 60, max(1.0, per_min / 60))
    return bucket


def _limit(bucket: TokenBucket, now: float, rate: float | None) -> None:
    """Set the rate of *bucket*, None for none: it holds a second's worth, less what was taken a moment ago."""
    if rate == bucket.rate:
        return
    if rate is not None:
        capacity = max(1.0, rate)
        if bucket.rate is not None:
            bucket.wait_s(now, 0.0)  # brings its level up to date
            level = bucket.level
        elif bucket.capacity:  # it was limited before
            level = bucket.level + (now - bucket.at) * rate
        else:
            level = capacity
        bucket.restore(now, rate, capacity)
        bucket.level = min(capacity, level)
    else:
        bucket.wait_s(now, 0.0)
        bucket.rate = None


def _per_min(bucket: TokenBucket) -> str:
    return "none" if bucket.rate is None else f"{bucket.rate * 60:g} a minute"

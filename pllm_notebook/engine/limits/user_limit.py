"""The user's own limits: for one run across models, and for one account across runs."""

from __future__ import annotations

from collections.abc import Callable

from pllm_notebook.engine.limits.token_bucket import TokenBucket

__all__ = ["AccountRateLimit", "UserRateLimit"]


class UserRateLimit:
    """A user's own limit on requests in flight, and on requests and tokens a minute.

    All queues that share it count together. Each rate is a bucket that holds one second's worth. Used only on the
    engine's loop; it may be created anywhere and may outlive the loop.

    Args:
        requests_per_min: None for no limit.
        tokens_per_min: Input and output together, as estimated before a call is sent; None for no limit.
        concurrency: Maximum number of requests on the wire, including second requests; None for no limit.

    Attributes:
        requests: Bucket of requests. Without a rate there is no limit.
        tokens: Bucket of tokens.
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
        self._waiting: dict[Callable[[], None], None] = {}  # in order of arrival

    def __repr__(self) -> str:
        rates = f"requests={_per_min(self.requests)}, tokens={_per_min(self.tokens)}"
        return f"UserRateLimit({rates}, in_flight={self.in_flight}, concurrency={self.concurrency})"

    @property
    def full(self) -> bool:
        """Whether the maximum number of requests is on the wire."""
        return self.concurrency is not None and self.in_flight >= self.concurrency

    @property
    def _free(self) -> bool:
        """Whether neither rate is limited. Checked for every call, to skip the counting."""
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
        """Count a request that is sent now. `release` must follow."""
        self.charge(now, tokens)
        self.in_flight += 1

    def release(self) -> None:
        """Count a request as done, and call the dispatchers that wait for room."""
        self.in_flight -= 1
        if self._waiting and not self.full:
            waiting, self._waiting = self._waiting, {}
            for callback in waiting:
                callback()

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call *callback* once, when a request is done."""
        self._waiting[callback] = None


class AccountRateLimit(UserRateLimit):
    """The limit that the runs of one account share: the tightest that any of them sets."""

    def __init__(self) -> None:
        super().__init__()
        self._stated: dict[object, tuple[UserRateLimit, ...]] = {}

    def register(self, now: float, member: object, stated: tuple[UserRateLimit, ...]) -> None:
        """Apply the limits that *member* sets, from now on."""
        self._stated[member] = stated
        self._tighten(now)

    def unregister(self, now: float, member: object) -> None:
        """Stop applying the limits of *member*. What was taken from the rates still counts for later runs."""
        if self._stated.pop(member, None) is not None:
            self._tighten(now)
            waiting, self._waiting = self._waiting, {}
            for callback in waiting:
                callback()

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
        # Time 0 is right for any clock: a full bucket does not change until the first call takes from it.
        bucket.fill(0.0, per_min / 60, max(1.0, per_min / 60))
    return bucket


def _limit(bucket: TokenBucket, now: float, rate: float | None) -> None:
    """Set the rate of *bucket*, None for no limit. It then holds one second's worth, less what was just taken."""
    if rate == bucket.rate:
        return
    if rate is not None:
        capacity = max(1.0, rate)
        if bucket.rate is not None:
            bucket.wait_s(now, 0.0)  # updates its level
            level = bucket.level
        elif bucket.capacity:  # it was limited before
            level = bucket.level + (now - bucket.at) * rate
        else:
            level = capacity
        bucket.fill(now, rate, capacity)
        bucket.level = min(capacity, level)
    else:
        bucket.wait_s(now, 0.0)
        bucket.rate = None


def _per_min(bucket: TokenBucket) -> str:
    return "none" if bucket.rate is None else f"{bucket.rate * 60:g} a minute"

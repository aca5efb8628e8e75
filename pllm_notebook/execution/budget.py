"""A hard limit on the cost of one run.

Before a request is sent, its maximum cost is reserved; when it ends, the reservation is replaced by the actual cost. A
request whose reservation would exceed the limit is not admitted. A request that was cancelled, got lost or does not
report its usage keeps its whole reservation as possibly paid, since the provider may have charged for it, and the
next request of its call needs a new one. So the paid, possibly paid and reserved amounts together never exceed the
limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.follow_ups import FollowUp
from pllm_notebook.execution.next_call import NextCall, Tag
from pllm_notebook.execution.token_bounds import TokenBounds, rounded_down
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.prices import Rate
from pllm_notebook.types import Reply, Spent, Usage

__all__ = ["NOTHING", "ModelBudget", "Need", "Reservation", "RunBudget"]

# Tokens that a provider adds around a message: roles, separators, the text of a schema.
_OVERHEAD_TOKENS = 512
# At a price of zero, any number of tokens is affordable.
_UNLIMITED_TOKENS = 1 << 40


class Need(NamedTuple):
    """The tokens of one request, for which money is reserved.

    Attributes:
        input_tokens: An upper bound of the input tokens.
        usual_limit: The normal output limit.
        smallest_limit: The output limit below which sending is not worthwhile when the budget is nearly used up.
        most: The maximum output limit.
    """

    input_tokens: int
    usual_limit: int
    smallest_limit: int
    most: int

    @classmethod
    def of(cls, token_bounds: TokenBounds, size: int, own: int | None, wire_version: int, *, above: int = 0) -> Need:
        """Compute the need of a request.

        Args:
            token_bounds: The token bounds of the spec.
            size: Size of the request in bytes.
            own: Bytes of these that belong to the row (see `TokenBounds.input_bound`).
            wire_version: See `TokenBounds.counted`.
            above: The output limit at which its answer was cut off before, 0 for none.
        """
        most = token_bounds.most or 0
        tokens = token_bounds.input_bound(size, own, wire_version)
        if not above:
            return cls(tokens, token_bounds.usual_limit, token_bounds.smallest_limit, most)
        return cls(
            tokens, max(token_bounds.usual_limit, token_bounds.wider(above)), min(most, above + above // 4 + 1), most
        )


class Reservation(NamedTuple):
    """The reservation of one request.

    Attributes:
        usd: Reserved US dollars for each time that it is sent.
        output_limit: The output limit in tokens; None for that of its spec.
    """

    usd: float
    output_limit: int | None


NOTHING = Reservation(0.0, None)
"""The reservation of a request in a run without a cost limit."""


class RunBudget:
    """One run's budget, for all its models.

    Attributes:
        ceiling_usd: The cost limit; None for no limit, and then nothing is reserved.
        paid_usd: Amount paid for answers with known usage.
        perhaps_usd: Amount reserved for requests that the provider may have charged for.
        reserved_usd: Amount reserved for requests in flight.
        requests: Number of requests with a reservation.
    """

    def __init__(self, ceiling_usd: float | None) -> None:
        self.ceiling_usd = ceiling_usd
        self.paid_usd = 0.0
        self.perhaps_usd = 0.0
        self.reserved_usd = 0.0
        self.requests = 0
        self._waiting: list[Callable[[], None]] = []
        self._expected: dict[object, Callable[[], int]] = {}

    def __repr__(self) -> str:
        return (
            f"RunBudget(paid={self.paid_usd:.6f}, perhaps={self.perhaps_usd:.6f}, reserved={self.reserved_usd:.6f}, "
            f"ceiling={self.ceiling_usd})"
        )

    @property
    def spent_usd(self) -> float:
        """Amount paid or possibly paid."""
        return self.paid_usd + self.perhaps_usd

    @property
    def left(self) -> int:
        """Number of requests known to be still unanswered; at least 1."""
        return max(1, sum(count() for count in self._expected.values()))

    def expect(self, owner: object, count: Callable[[], int]) -> None:
        """Register *count*, which returns the number of unanswered requests of *owner*."""
        self._expected[owner] = count

    def forget(self, owner: object) -> None:
        """Expect no more requests of *owner*."""
        self._expected.pop(owner, None)

    def held_by(self) -> str:
        """Describe the reservations for which the next call waits; "" if there are none."""
        if not self.requests:
            return ""
        calls = counted(self.requests, "call")
        return f"held by max_cost_usd: {format_usd(self.reserved_usd)} reserved for {calls}"

    def exhausted(self, max_cost_usd: float | None, *, cut_at: int | None) -> Failure:
        """Build the failure of a call that the budget has no room for.

        Args:
            max_cost_usd: The cost limit set by the caller.
            cut_at: The output limit at which its answer was cut off before, None for a call that was not sent.
        """
        perhaps = f" and up to {format_usd(self.perhaps_usd)} perhaps paid" if self.perhaps_usd else ""
        paid, most = f"{format_usd(self.paid_usd)} paid{perhaps}", f"max_cost_usd={max_cost_usd:g}"
        message = f"Not sent: with {paid}, one more call could have passed {most}. Raise it."
        if cut_at is not None:
            message = (
                f"Not sent again: the answer was cut off at {cut_at:,} tokens, and with {paid} asking for a longer one "
                f"could have passed {most}. Raise it."
            )
        return Failure(FailureKind.BUDGET, message)

    def fits(self, usd: float) -> bool:
        """Return whether *usd* more can be reserved."""
        return self.ceiling_usd is None or self.spent_usd + self.reserved_usd + usd <= self.ceiling_usd

    def when_freed(self, look: Callable[[], None]) -> None:
        """Call *look* once, when the next reservation has been settled."""
        self._waiting.append(look)

    def freed(self) -> None:
        """Run the callbacks that wait for a settled reservation."""
        waiting, self._waiting = self._waiting, []
        for look in waiting:
            look()


class ModelBudget:
    """The use of a run's budget by one model's calls.

    Args:
        run_budget: The run's budget.
        rate: The model's price.
        output_limit: Maximum output tokens of one reply.
        label: The model's name, for the error.

    Attributes:
        run_budget: The run's budget.
        is_over: Whether the budget had no room for the next call.
        unfunded: Tag of that call; None once it is sent or given up.

    Raises:
        UsageError: If there is a cost limit and the model's price is unknown. Nothing was sent.
    """

    def __init__(self, run_budget: RunBudget, rate: Rate | None, output_limit: int | None, label: str) -> None:
        if run_budget.ceiling_usd is not None and rate is None:
            raise UsageError(
                f"max_cost_usd={run_budget.ceiling_usd:g} cannot be enforced: the price of {label} is unknown. "
                f"Leave the ceiling out, or name a model with a known price. Nothing was sent."
            )
        self.run_budget = run_budget
        self.is_over = False
        self.unfunded: Tag | None = None
        self._rate = rate
        self._output_limit = output_limit or 0

    def reserve_for(self, spec: CallSpec, next_: NextCall) -> Reservation | None:
        """Reserve the maximum cost of a request; None if the budget has no room. Used only with a cost limit.

        Args:
            spec: The request's spec: that of the queue, or that of its packs.
            next_: The next call.
        """
        reserved = self._reserve_for(spec, next_)
        self.is_over = reserved is None
        self.unfunded = next_.tag if reserved is None else None
        return reserved

    def held_by(self) -> str:
        """Describe the reservations for which a call waits; "" if none waits."""
        return self.run_budget.held_by() if self.is_over else ""

    def _reserve_for(self, spec: CallSpec, next_: NextCall) -> Reservation | None:
        if next_.full_limit or spec.output_limit is None:
            bound = self.bound_usd(next_.size)
            return Reservation(bound, None) if self.admit(bound) else None
        above = next_.tag.above if isinstance(next_.tag, FollowUp) else 0
        row_bytes, version = spec.row_bytes(next_.size), spec.target.quirks.version
        return self.reserve(Need.of(spec.token_bounds, next_.size, row_bytes, version, above=above))

    def bound_usd(self, content_bytes: int) -> float:
        """Return an upper bound of the cost of one request: no token is shorter than a byte."""
        if self.run_budget.ceiling_usd is None or self._rate is None:
            return 0.0
        return self._rate.ceiling_usd(content_bytes + _OVERHEAD_TOKENS, self._output_limit)

    def reserve(self, need: Need) -> Reservation | None:
        """Reserve the maximum cost of one request; None if the budget has no room for it now.

        The output limit is as high as the request's share of the budget allows, so that few answers are cut off
        while there is plenty of budget, and never lower than needed.
        """
        run_budget, rate = self.run_budget, self._rate
        if run_budget.ceiling_usd is None or rate is None:
            return NOTHING
        free = run_budget.ceiling_usd - run_budget.spent_usd - run_budget.reserved_usd
        share = rounded_down(_affordable_tokens(rate, free / run_budget.left, need.input_tokens))
        limit = min(max(share, need.usual_limit), need.most)
        if not run_budget.fits(rate.ceiling_usd(need.input_tokens, limit)):
            limit = min(_affordable_tokens(rate, free, need.input_tokens), limit)
            # The rest of the budget goes to one request at a time, so that its unused part is left for the next.
            if run_budget.requests or limit < need.smallest_limit:
                return None
        usd = rate.ceiling_usd(need.input_tokens, limit)
        return Reservation(usd, limit) if self.admit(usd) else None

    def admit(self, bound_usd: float) -> bool:
        """Reserve *bound_usd* if the budget allows it."""
        if self.run_budget.ceiling_usd is None:
            return True
        if not self.run_budget.fits(bound_usd):
            return False
        self.run_budget.reserved_usd += bound_usd
        self.run_budget.requests += 1
        return True

    def settle(self, bound_usd: float, requests: int, cost_usd: float | None, maybe_paid: int) -> float:
        """Replace the reservation of an ended call by its cost.

        Args:
            bound_usd: Amount reserved for each request.
            requests: Number of requests with a reservation.
            cost_usd: Cost of the answered request; None if unknown, which counts as its whole reservation; 0.0 if
                none was answered.
            maybe_paid: Number of other requests of the call that the provider may have charged for.

        Returns:
            US dollars possibly paid; 0.0 without a cost limit, since nothing was reserved.
        """
        if self.run_budget.ceiling_usd is None:
            return 0.0
        perhaps = (maybe_paid + (cost_usd is None)) * bound_usd
        self.run_budget.requests -= requests
        # Leave no rounding error if no request is in flight.
        self.run_budget.reserved_usd = (
            self.run_budget.reserved_usd - requests * bound_usd if self.run_budget.requests else 0.0
        )
        self.run_budget.paid_usd += cost_usd or 0.0
        self.run_budget.perhaps_usd += perhaps
        self.run_budget.freed()
        return perhaps

    def settle_call(
        self, call: PendingCall, bound_usd: float, result: CallResult, *, is_counted: bool = False
    ) -> tuple[float | None, Spent]:
        """Settle an ended call (see `settle`).

        Args:
            call: The call.
            bound_usd: Amount reserved for each of its requests.
            result: The reply or failure, with its attempts and charges.
            is_counted: Whether the call joined a request of another queue with this budget, which has counted it as
                paid.

        Returns:
            The cost in US dollars of the reply, None for unknown, or of the call's failed requests; and what the
            call has used.
        """
        reply, rate = result.result, self._rate
        failed = self._pay_failed(result.failed_usage) if result.failed_usage else None
        if not isinstance(reply, Reply):
            perhaps = self.settle(bound_usd, call.funded, 0.0, result.maybe_paid)
            unanswered = Spent(perhaps_requests=result.maybe_paid, perhaps_usd=perhaps)
            return (0.0, unanswered) if failed is None else (failed.cost_usd, failed + unanswered)
        usage = reply.usage
        cost = None if rate is None or usage is None else rate.cost_usd(usage)
        perhaps = self.settle(bound_usd, call.funded, 0.0 if is_counted else cost, result.maybe_paid)
        if usage is None:
            # The cost of a reply without usage counts as possibly paid; the amount paid is then a known 0.
            answered = Spent(0, 0, 0, None if rate is None else 0.0, result.maybe_paid + (not is_counted), perhaps)
        else:
            used = usage.input_tokens, usage.output_tokens, usage.cache_read_tokens
            joined = 0.0 if result.joined is None else cost or 0.0
            answered = Spent(*used, cost, result.maybe_paid, perhaps, joined)
        return cost, answered if failed is None else failed + answered

    def _pay_failed(self, usages: Sequence[Usage]) -> Spent:
        """Return the usage and cost of failed requests that were charged, and count it as paid."""
        spent = Spent()
        for usage in usages:
            cost = None if self._rate is None else self._rate.cost_usd(usage)
            spent += Spent(usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, cost)
        if self.run_budget.ceiling_usd is not None:
            self.run_budget.paid_usd += spent.cost_usd or 0.0
        return spent


def _affordable_tokens(rate: Rate, usd: float, input_tokens: int) -> int:
    """Return the number of output tokens that *usd* buys in addition to *input_tokens*; 0 if none."""
    left = usd - rate.ceiling_usd(input_tokens, 0)
    if left <= 0:
        return 0
    tokens = int(left / rate.output_usd) if rate.output_usd else _UNLIMITED_TOKENS
    while tokens and rate.ceiling_usd(input_tokens, tokens) > usd:  # a more expensive tier, or rounding
        tokens = tokens * 15 // 16
    return tokens

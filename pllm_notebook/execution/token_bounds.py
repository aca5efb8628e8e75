"""Upper bounds on the tokens of a request under a cost ceiling, learned from earlier answers to the same spec.

A ceiling is hard only if each request reserves the most that it can be charged. Two bounds keep the reservation small.
The output limit on the wire is a few times what earlier answers took, and higher if there is money for it; an answer
that is cut off at the limit is requested again with a higher one. The input is bounded by the counted tokens of
requests with the same instruction, type and tools, plus one token per byte of the row's own text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

from pllm_notebook.types import Finish, Reply

__all__ = [
    "BYTES_PER_TOKEN",
    "DEFAULT_OUTPUT_TOKENS",
    "TokenBounds",
    "rounded_down",
    "rounded_up",
    "set_output_limit",
    "thinking_tokens",
]

OUTPUT_LIMIT = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens", "maxOutputTokens"})
"""The providers' names for the output limit."""

_THINKING = frozenset({"budget_tokens", "thinkingBudget", "thinking_budget"})

# Assumed tokens of a reply before any reply was seen; the limiter and the estimate correct it with the first replies.
DEFAULT_OUTPUT_TOKENS = 150
# English text has about four bytes per token. Used for estimates only, never for what is charged.
BYTES_PER_TOKEN = 4
# Number of answers and requests to remember: enough for a maximum, few enough to follow a change.
_WINDOW = 128
# Token limit of a first answer. Reasoning counts, so it is generous for most answers, yet small next to 16,384.
FIRST_TOKENS = 1024
# The limit is this many times what 90 % of the answers took, and a little more, since the next may be longer.
# A quantile, since one answer that is far longer than the others must not make every later request too expensive.
_USUAL_FACTOR = 2
_USUAL_QUANTILE = 0.9
_MARGIN_TOKENS = 64
# Factor of the limit for an answer that was cut off.
_RETRY_FACTOR = 4
# Tokens that a provider adds around a message: roles, separators, a schema's own wording.
_OVERHEAD_TOKENS = 512
# Joined texts are split into tokens a little differently than each text alone.
_BOUNDARY_TOKENS = 64


class TokenBounds:
    """Learn how many tokens the requests of one spec take. Used on the engine's loop alone.

    Args:
        most: Maximum output tokens of an answer, as set by the caller or the provider; None for no limit.
        longest: Bytes of the longest answer that the type allows, None if it sets no bound.
        reasons: Whether the model may spend tokens on reasoning that is not in the answer.
        sharing: Number of rows in each request.
        thinking: Reasoning tokens that the request asks for; a limit must leave room for them.
    """

    def __init__(
        self,
        most: int | None,
        *,
        longest: int | None = None,
        reasons: bool = True,
        sharing: int = 1,
        thinking: int = 0,
    ) -> None:
        self.most = most
        self._expected = DEFAULT_OUTPUT_TOKENS if longest is None else -(-longest // BYTES_PER_TOKEN)
        self._first = max(FIRST_TOKENS, DEFAULT_OUTPUT_TOKENS * sharing)
        if longest is not None and sharing == 1 and not reasons:
            # No token is shorter than a byte; white space may be added.
            self._first = longest + DEFAULT_OUTPUT_TOKENS
        self._thinking = thinking
        self._outputs: deque[int] = deque(maxlen=_WINDOW)
        # Tokens that 90 % of the answers stayed within; None if it must be computed again.
        self._longest: int | None = None
        self._inputs: deque[int] = deque(maxlen=_WINDOW)
        self._wire_version = 0

    def __repr__(self) -> str:
        return f"TokenBounds(most={self.most}, least={self.usual_limit}, answers={len(self._outputs)})"

    @property
    def expected(self) -> float:
        """Expected output tokens of one answer, for estimates: the mean so far, what the type allows, or a guess."""
        if self._outputs:
            return sum(self._outputs) / len(self._outputs)
        return self._within(self._expected)

    @property
    def usual_limit(self) -> int:
        """The smallest output limit that cuts off almost no answer."""
        usual = self._usual()
        expected = self._first if usual is None else _USUAL_FACTOR * usual + _MARGIN_TOKENS
        return self._within(rounded_up(expected + self._thinking))

    @property
    def smallest_limit(self) -> int:
        """The smallest output limit worth a request when the budget is nearly spent."""
        expected = self._usual() or 0
        return self._within(expected + expected // 4 + _MARGIN_TOKENS // 4 + self._thinking)

    def _usual(self) -> int | None:
        if self._longest is None and self._outputs:
            self._longest = sorted(self._outputs)[int(_USUAL_QUANTILE * (len(self._outputs) - 1) + 0.5)]
        return self._longest

    def wider(self, limit: int) -> int:
        """Return the output limit for requesting again an answer that was cut off at *limit*."""
        return self._within(rounded_up(_RETRY_FACTOR * limit))

    def answered(self, output_tokens: int) -> None:
        """Note the output tokens of an answer, including reasoning. An answer that was cut off counts as its limit."""
        if output_tokens > 0:
            self._outputs.append(output_tokens)
            self._longest = None

    def counted(self, input_tokens: int, wire_version: int) -> None:
        """Note the input tokens of a request.

        Args:
            input_tokens: As reported by the provider, including cached tokens.
            wire_version: Version of the body besides the row's own text; a new version discards the earlier counts.
        """
        if wire_version != self._wire_version:
            self._wire_version = wire_version
            self._inputs.clear()
        self._inputs.append(input_tokens)

    def learn(self, reply: Reply, limit: int | None, wire_version: int) -> None:
        """Learn from a reply how many tokens others will take.

        Args:
            reply: The reply.
            limit: Its output limit, None for none. It counts as the output of a cut-off reply without usage.
            wire_version: As for `counted`.
        """
        if reply.usage is not None:
            self.answered(reply.usage.output_tokens)
            self.counted(reply.usage.input_tokens, wire_version)
        elif reply.finish is Finish.TRUNCATED and limit is not None:
            self.answered(limit)

    def input_bound(self, size: int, own: int | None, wire_version: int) -> int:
        """Return an upper bound on the input tokens of a request.

        Args:
            size: Bytes of the request.
            own: Bytes of these that belong to the row; None if unknown.
            wire_version: As for `counted`.
        """
        # No token is shorter than a byte.
        bound = size + _OVERHEAD_TOKENS
        if own is None or wire_version != self._wire_version or len(self._inputs) < 3:
            return bound
        # The shared part has no more tokens than any whole request was counted as. Use the median, since a provider
        # may once report nonsense.
        return min(bound, int(median(self._inputs)) + own + _BOUNDARY_TOKENS)

    def _within(self, tokens: int) -> int:
        return max(1, tokens if self.most is None else min(tokens, self.most))


def rounded_up(tokens: int) -> int:
    """Round up on a coarse scale (1, 2, 3, 4, 6, 8, 12, …), so that few different limits are sent."""
    down = rounded_down(tokens)
    return down if down == tokens else rounded_down(down * 3 // 2 if down & (down - 1) == 0 else down * 4 // 3)


def rounded_down(tokens: int) -> int:
    """Round down on the same scale, to 1 at least."""
    power = 1 << max(0, tokens.bit_length() - 1)
    return power * 3 // 2 if power > 1 and tokens >= power * 3 // 2 else power


def set_output_limit(body: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return *body* with its output limit set to *limit*. A body without a limit stays without one."""
    made = {name: limit if name in OUTPUT_LIMIT else value for name, value in body.items()}
    config = made.get("generationConfig")  # Google keeps its limit one level down
    if isinstance(config, Mapping):
        made["generationConfig"] = {name: limit if name in OUTPUT_LIMIT else value for name, value in config.items()}
    return made


def thinking_tokens(fields: Any) -> int:
    """Return how many reasoning tokens a caller's own fields ask for, 0 for none.

    Args:
        fields: The fields as they go into the body; the number may be at any depth.
    """
    if not isinstance(fields, Mapping):
        return 0
    own = [value for name, value in fields.items() if name in _THINKING and isinstance(value, int) and value > 0]
    return max([*own, *map(thinking_tokens, fields.values())], default=0)

"""How many tokens a request under a ceiling may take: learned from the answers to the same question.

A ceiling is hard only if each request reserves what it can be charged. Two bounds make that small. The output
limit that goes on the wire is a few times what answers have taken, and wider where there is money for it; an answer
that is cut off at it is asked for again with a wider one. The input is bounded by what requests with the same
instruction, type and tools were counted as, and a byte for a token for the text that is the row's own.
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
"""What the providers call the limit."""

_THINKING = frozenset({"budget_tokens", "thinkingBudget", "thinking_budget"})

# A reply's tokens before any has been seen; the limiter and the estimate correct it with the first replies.
DEFAULT_OUTPUT_TOKENS = 150
# English text runs to about four bytes a token; estimates only, never what is charged.
BYTES_PER_TOKEN = 4
# Answers and requests that are remembered: enough for a maximum, few enough to follow a change.
_WINDOW = 128
# Tokens of a first answer. Reasoning counts, so this is generous for most answers and still small beside 16,384.
FIRST_TOKENS = 1024
# A limit is this many times what all but a tenth of the answers took, and a little more, since the next may be longer.
# One answer that is far longer than the others must not make every request after it too dear to send.
_USUAL_FACTOR = 2
_USUAL_QUANTILE = 0.9
_MARGIN_TOKENS = 64
# How much wider an answer that was cut off is asked for.
_RETRY_FACTOR = 4
# Tokens that a provider adds around a message: roles, separators, a schema's own wording.
_OVERHEAD_TOKENS = 512
# Texts that meet are cut into tokens a little differently than each alone.
_BOUNDARY_TOKENS = 64


class TokenBounds:
    """Learn what requests of one question to one model take. Used on the engine's loop alone.

    Args:
        most: Tokens that an answer may have at all, as the caller or the provider limits it; None for no limit.
        longest: Bytes of the longest answer that the type allows, None where it sets no bound.
        reasons: Whether the model may take tokens that are in no answer.
        sharing: Rows that share each request.
        thinking: Tokens that the request itself asks to be spent on reasoning, which a limit must leave room for.
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
        # What all but a few answers took, None where it is to be computed again.
        self._longest: int | None = None
        self._inputs: deque[int] = deque(maxlen=_WINDOW)
        self._wire_version = 0

    def __repr__(self) -> str:
        return f"TokenBounds(most={self.most}, least={self.usual_limit}, answers={len(self._outputs)})"

    @property
    def expected(self) -> float:
        """Output tokens of one answer: as seen, as the type allows, or a guess; for estimates."""
        if self._outputs:
            return sum(self._outputs) / len(self._outputs)
        return self._within(self._expected)

    @property
    def usual_limit(self) -> int:
        """The smallest output limit that leaves nearly all answers whole."""
        usual = self._usual()
        expected = self._first if usual is None else _USUAL_FACTOR * usual + _MARGIN_TOKENS
        return self._within(rounded_up(expected + self._thinking))

    @property
    def smallest_limit(self) -> int:
        """The smallest output limit worth a request where the money is nearly gone."""
        expected = self._usual() or 0
        return self._within(expected + expected // 4 + _MARGIN_TOKENS // 4 + self._thinking)

    def _usual(self) -> int | None:
        if self._longest is None and self._outputs:
            self._longest = sorted(self._outputs)[int(_USUAL_QUANTILE * (len(self._outputs) - 1) + 0.5)]
        return self._longest

    def wider(self, limit: int) -> int:
        """Return the limit with which an answer that was cut off at *limit* is asked for again."""
        return self._within(rounded_up(_RETRY_FACTOR * limit))

    def answered(self, output_tokens: int) -> None:
        """Note what an answer took, reasoning included; a cut one counts with its limit."""
        if output_tokens > 0:
            self._outputs.append(output_tokens)
            self._longest = None

    def counted(self, input_tokens: int, wire_version: int) -> None:
        """Note what a request was counted as.

        Args:
            input_tokens: As the provider reported, what it had cached included.
            wire_version: Version of what goes on the wire besides the row's own text; another version is counted again.
        """
        if wire_version != self._wire_version:
            self._wire_version = wire_version
            self._inputs.clear()
        self._inputs.append(input_tokens)

    def learn(self, reply: Reply, limit: int | None, wire_version: int) -> None:
        """Learn from a reply how many tokens others will take.

        Args:
            reply: The reply.
            limit: Its output limit, None for none; what it counts as where it was cut off and has no usage.
            wire_version: As for `counted`.
        """
        if reply.usage is not None:
            self.answered(reply.usage.output_tokens)
            self.counted(reply.usage.input_tokens, wire_version)
        elif reply.finish is Finish.TRUNCATED and limit is not None:
            self.answered(limit)

    def input_bound(self, size: int, own: int | None, wire_version: int) -> int:
        """Bound the input tokens of a request from above.

        Args:
            size: Its bytes.
            own: Of these, what is the row's own; None where it is unknown.
            wire_version: As for `counted`.
        """
        # No token is shorter than a byte.
        bound = size + _OVERHEAD_TOKENS
        if own is None or wire_version != self._wire_version or len(self._inputs) < 3:
            return bound
        # What all requests share is no more than any one of them was counted as. The median, since a provider may
        # once tell nonsense.
        return min(bound, int(median(self._inputs)) + own + _BOUNDARY_TOKENS)

    def _within(self, tokens: int) -> int:
        return max(1, tokens if self.most is None else min(tokens, self.most))


def rounded_up(tokens: int) -> int:
    """Return the next limit in a coarse scale (1, 1.5, 2, 3, 4, 6, 8, …), so that few different ones go out."""
    down = rounded_down(tokens)
    return down if down == tokens else rounded_down(down * 3 // 2 if down & (down - 1) == 0 else down * 4 // 3)


def rounded_down(tokens: int) -> int:
    """Return the limit below in the same scale; 1 for less than that."""
    power = 1 << max(0, tokens.bit_length() - 1)
    return power * 3 // 2 if power > 1 and tokens >= power * 3 // 2 else power


def set_output_limit(body: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return *body* with its output limit set to *limit*; one that has none is left without."""
    made = {name: limit if name in OUTPUT_LIMIT else value for name, value in body.items()}
    config = made.get("generationConfig")  # Google keeps its limit one level down
    if isinstance(config, Mapping):
        made["generationConfig"] = {name: limit if name in OUTPUT_LIMIT else value for name, value in config.items()}
    return made


def thinking_tokens(fields: Any) -> int:
    """Return how many tokens a caller's own fields ask to be spent on reasoning, 0 for no number.

    Args:
        fields: As they go into the body; the number may be at any depth of it.
    """
    if not isinstance(fields, Mapping):
        return 0
    own = [value for name, value in fields.items() if name in _THINKING and isinstance(value, int) and value > 0]
    return max([*own, *map(thinking_tokens, fields.values())], default=0)

"""Token counts (one per four bytes of input or characters of output, a fixed number per file) and the output limit."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from pllm_notebook.sim.simulator_options import SimOptions
from pllm_notebook.sim.wire_types import GeneratedAnswer, ParsedRequest, Tokens

__all__ = ["BYTES_PER_TOKEN", "MEDIA_TOKENS", "count_input", "settle"]

BYTES_PER_TOKEN = 4
# Tokens of an image or document of any size. Providers count from a few hundred to a few thousand.
MEDIA_TOKENS = 1000


def count_input(ask: ParsedRequest, schema_json: bytes) -> int:
    """Return the number of tokens of a request: texts in UTF-8, schema, tools, their calls, and files."""
    size = len(ask.system.encode("utf-8", "replace"))
    size += sum(len(text.encode("utf-8", "replace")) for _, text in ask.messages)
    # A schema in the prompt is already counted as text.
    size += len(schema_json) if ask.schema is not None else 0
    size += sum(len(tool.name) + len(orjson.dumps(tool.parameters)) for tool in ask.tools)
    size += sum(len(call.encode("utf-8", "replace")) for call in ask.said.called)
    return max(1, -(-size // BYTES_PER_TOKEN)) + MEDIA_TOKENS * len(ask.said.media)


def settle(
    ask: ParsedRequest, made: GeneratedAnswer, input_tokens: int, given: Mapping[str, int], options: SimOptions
) -> Tokens:
    """Return the tokens of an answer, and cut *made* at the request's output limit.

    Reasoning comes first and counts towards the limit, so a small limit may leave no room for text. *given*
    values (from a scripted answer) replace the counted ones.
    """
    reasoning = given.get("reasoning_tokens", options.reasoning_tokens)
    spoken = len(made.text) + sum(len(name) + len(orjson.dumps(args)) for name, args in made.calls)
    output = max(1, -(-spoken // BYTES_PER_TOKEN)) + reasoning
    if ask.questions:  # a decision endpoint generates no text
        output = reasoning = 0
    limit = ask.output_limit
    if limit is not None and output > limit:
        reasoning, output = min(reasoning, limit), limit
        if made.finish in ("stop", "length"):
            made.text = made.text[: (limit - reasoning) * BYTES_PER_TOKEN]
            made.finish = "length"
    total = given.get("input_tokens", input_tokens)
    return Tokens(
        total,
        given.get("output_tokens", output),
        min(given.get("cached_tokens", options.cached_prefix_tokens), total),
        reasoning,
    )

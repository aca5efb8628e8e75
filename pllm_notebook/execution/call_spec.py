"""The spec of a call: model, type, instruction and options, prepared once for all rows of a run."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import orjson

from pllm_notebook.engine import RetryBounds, UserRateLimit
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.asked_model import effort_in_words, extra_fields, model_in_words, price_of
from pllm_notebook.execution.cache_key import PLACEHOLDER, BodyTemplate, CacheKey, key_of, simulated_salt
from pllm_notebook.execution.common_prefix import CommonPrefix
from pllm_notebook.execution.request_encoder import RequestEncoder
from pllm_notebook.execution.row_source import Contexts, EvidenceOfRows
from pllm_notebook.execution.token_bounds import (
    BYTES_PER_TOKEN,
    DEFAULT_OUTPUT_TOKENS,
    TokenBounds,
    set_output_limit,
    thinking_tokens,
)
from pllm_notebook.execution.token_question import TokenQuestion
from pllm_notebook.execution.tool_options import toolbox_for
from pllm_notebook.execution.wire_body import (
    MediaBody,
    WireBody,
    half_surrogate,
    uncounted_bytes,
)
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue, Example, Prompt, RawRequest, Turn
from pllm_notebook.prices import Rate
from pllm_notebook.providers import ResolvedModel, SchemaLevel
from pllm_notebook.runtime import Slot
from pllm_notebook.schema import FittedSchema, OutputType, longest_json, packed
from pllm_notebook.settings import Options

__all__ = ["BYTES_PER_TOKEN", "DEFAULT_OUTPUT_TOKENS", "CallSpec", "EncodedPrompt"]

EncodedPrompt = bytes | RawRequest
"""A row's prompt, encoded: a JSON string that replaces the placeholder of the body, or a whole intended body."""

# Tokens of a pack's reply for each answer, besides the answer: its index, two names, brackets.
_PACK_ITEM_TOKENS = 24

# Only white space, as a JSON string: providers reject a text block that has nothing else.
_BLANK = re.compile(rb'"(?: |\\[nrt])*"')


# Each spec of this process has its own number.
_SERIAL_NUMBERS: Slot[itertools.count[int]] = Slot("spec numbers", itertools.count)


class CallSpec:
    """Model, type, instruction and options of a call, for any number of rows.

    Args:
        target: The model.
        options: As resolved.
        output: The type to parse, None for plain text.
        system: The instruction, None for none.
        sample: Index among the answers that each row gets from this model; 0 is the plain call.
        history: Turns of a conversation that come before the row's prompt.
        examples: Shown to the model before the row's prompt, unless the prompt has its own.
        json_object: Whether to request JSON of any shape; only without a type.
        marks: Whether requests mark what the provider's prompt cache should keep, if it takes marks.
        alone: Whether no two of its prompts begin alike; nothing is then marked as shared.
        calls: Whether the answer to a row is the model's tool calls (`tools.Called`), which are not run.
        sharing: Rows in each call, if this is the spec of whole packs; None for one row per call.

    Attributes:
        model_in_words: The model as displays show it.
        price: The price of its calls, None for unknown.
        pack: Maximum number of rows in one call; None for one row per call.
        packed: The spec of a whole pack, whose prompt `prompts.packed` builds; None for one row per call.
        calls: As given.
        encoder: Encodes its conversations.
        takes_empty: Whether a reply without text can be an answer.
        empty_json: The JSON that replaces a reply without text, if there is a type.
        toolbox: The tools that it offers, None for none.
        is_prefix_cached: Whether the provider's prompt cache may keep the beginning of its requests.
        shared: Whether more than one call begins with the text that all rows share. If False, the body has no cache
            mark, which would pay for a write that is never read.
        tokens: How it requests token probabilities, None if it does not.
        shown: Whether its requests are only shown, not sent. Set before the first one is built.
        contexts: The validation context of each row of the run, None for no contexts.
        evidence: Verifies the quotes in answers, if a row without evidence is asked once more; otherwise None.
        longest_answer: Bytes of the longest answer that the type allows, None if it sets no bound.
        token_bounds: How many tokens its requests take, learned from its answers. If the run has a cost ceiling, the
            output limit on the wire is derived from them.
        ceiling: Rate limits that its calls share with the calls of other specs, instead of the rates in its options;
            None for those in its options. Set before the first call is sent.
        retry_bounds: The caller's retry bounds for each call, None for the engine's. Set before the first call is sent.

    Raises:
        UnsupportedSchemaError: If the provider does not support the type. Nothing was sent.
        UsageError: If the tools cannot be offered, or not with these options. Nothing was sent.
    """

    def __init__(
        self,
        target: ResolvedModel,
        options: Options,
        output: OutputType | None,
        system: str | None,
        *,
        sample: int = 0,
        history: tuple[Turn, ...] = (),
        examples: tuple[Example, ...] = (),
        json_object: bool = False,
        marks: bool = True,
        alone: bool = False,
        calls: bool = False,
        sharing: int | None = None,
    ) -> None:
        self.target = target
        self.calls = calls
        self.toolbox = toolbox_for(options, calls=calls) if options.tools else None
        self._marks = marks
        self.alone = alone
        self._serial_number = next(_SERIAL_NUMBERS.value)
        self.sample = sample
        self.examples = examples
        self.options = options
        self._extra = extra_fields(target, options)
        self.model_in_words = model_in_words(target, options)
        self.price = price_of(target, options, self._extra, batch=options.mode == "batch")
        self._salt = options.salt + (simulated_salt() if target.simulated else "")
        self.output = output
        self.system = system
        self.fitted: FittedSchema | None = None if output is None else output.fit(target.dialect)
        beside = None if self.fitted is None else self.fitted.schema
        self.takes_empty = options.allow_empty or (output is not None and output.takes_null)
        self.empty_json = b"null" if output is not None and output.takes_null else b'""'
        self.encoder = RequestEncoder(
            target,
            options,
            output,
            system,
            history,
            examples,
            json_object,
            extra=self._extra,
            fitted=self.fitted,
            toolbox=self.toolbox,
            tools=() if self.toolbox is None else self.toolbox.fit(target.dialect, beside),
        )
        self._canonical_body = self.encoder.body(self.encoder.dialogue(PLACEHOLDER))
        self.output_limit = target.wire.output_limit(self._canonical_body)
        self.longest_answer = None if self.fitted is None else longest_json(self.fitted.schema)
        self.is_prefix_cached = marks and target.cached_from_bytes is not None
        reasons = target.may_reason(self._canonical_body)
        self._keys = CacheKey(target.identity, target.path, self._canonical_body, self._salt, sample, sharing)
        self.token_bounds = TokenBounds(
            self.output_limit,
            longest=self.longest_answer,
            reasons=reasons,
            sharing=sharing or 1,
            thinking=thinking_tokens(self._extra),
        )
        self.tokens: TokenQuestion | None = None
        if options.probabilities in (True, "logprobs"):
            self.tokens = TokenQuestion.of(target, output, self.fitted, self._canonical_body)
        self.pack: int | None = None
        self.packed: CallSpec | None = None
        self._shared_keys = self._keys
        if sharing is None and options.pack is not None and options.pack > 1:
            self._share_calls(options.pack)
        self.shared = True
        self.shown = False
        self.contexts: Contexts | None = None
        self.evidence: EvidenceOfRows | None = None
        self.ceiling: UserRateLimit | None = None
        self.retry_bounds: RetryBounds | None = None
        # Keyed by the output limit that is sent. There are few of them: see `token_bounds.rounded_up`.
        self._wire_bodies: dict[int | None, WireBody] = {}
        self._bodies = False
        # The common beginning of the prompts seen so far; None if no prompt cache would keep it.
        self._common_prefix = CommonPrefix() if self.is_prefix_cached else None
        self._lock = threading.Lock()

    @cached_property
    def schema_level(self) -> SchemaLevel:
        """How the server has been seen to treat the schema."""
        return self.target.quirks.schemas.of(self._canonical_body)

    def _share_calls(self, count: int) -> None:
        """Put up to *count* rows in one call."""
        target, options, history = self.target, self.options, self.encoder.history
        if options.images:
            raise UsageError(
                "Rows that share a call (pack=) cannot each show images. Leave one of them out. Nothing was sent."
            )
        limit = options.max_output_tokens
        longer = replace(options, max_output_tokens=None if limit is None else count * (limit + _PACK_ITEM_TOKENS))
        self.pack = count
        self.packed = CallSpec(
            target, longer, packed(self.output), self.system, sample=self.sample, history=history, sharing=count
        )
        self._shared_keys = CacheKey(target.identity, target.path, self._canonical_body, self._salt, self.sample, count)

    def whole(self, prompt: Prompt) -> Mapping[str, Any]:
        """Return the intended request body for a row's prompt."""
        return prompt.fields if isinstance(prompt, RawRequest) else self.encoder.body(self.encoder.dialogue(prompt))

    def encoded(self, prompt: Prompt, *, again: bool = False) -> EncodedPrompt | Failure:
        """Encode a row's prompt, or return why it cannot be sent.

        Args:
            prompt: The row's prompt.
            again: Whether the prompt has been encoded before, to compute its key.
        """
        if not isinstance(prompt, str):
            self._bodies = self._bodies or isinstance(prompt, RawRequest)
            return self.encoder.request(prompt)
        try:
            text_json = orjson.dumps(prompt)
        except TypeError:
            return half_surrogate(prompt)
        if self._common_prefix is not None and self._common_prefix.open and not again:
            self.expect(prompt)
        return text_json

    def expect(self, prompt: str) -> None:
        """Learn the common beginning of this run's prompts from *prompt*, which need not be sent."""
        if self._common_prefix is not None:
            with self._lock:
                self._common_prefix.observe(prompt)

    @property
    def lead(self) -> str:
        """The common beginning of the prompts seen so far; "" if the provider's prompt cache could not keep it."""
        return "" if self._common_prefix is None else self._common_prefix.text

    def key(self, encoded: EncodedPrompt) -> str:
        """Return the cache key of a row's prompt as this run sends it: in a pack, if the run packs rows."""
        return self._key(encoded.fields) if isinstance(encoded, RawRequest) else self._shared_keys.key(encoded)

    def plain_key(self, encoded: EncodedPrompt) -> str:
        """Return the cache key of a row's prompt in its own call."""
        return self._key(encoded.fields) if isinstance(encoded, RawRequest) else self._keys.key(encoded)

    def key_of(self, dialogue: Dialogue) -> str:
        """Return the cache key of a whole conversation (a further turn)."""
        return self._key(self.encoder.body(dialogue))

    def content(self, encoded: EncodedPrompt, limit: int | None = None) -> bytes:
        """Return the request body of a row as bytes, adapted to what the provider is now known to accept.

        Args:
            encoded: The row's prompt.
            limit: Output limit to send instead of the spec's own, None for the spec's own.
        """
        if isinstance(encoded, RawRequest):
            # A conversation that already has answers will probably continue, so its turns are marked for the provider's
            # prompt cache. The turns of a caller's own body are not marked.
            turns = not self._bodies and (encoded.has_gone_on or self._runs_tools)
            return self._to_wire(encoded.fields, limit, turns=turns)
        parts, text_json = self._template_for(encoded, limit)
        return parts.before + text_json + parts.after

    def size(self, encoded: EncodedPrompt) -> int:
        """Return the size of `content` in bytes, without the bytes of media that are not counted as tokens."""
        if isinstance(encoded, RawRequest):
            return len(self.content(encoded)) - (encoded.uncounted if isinstance(encoded, MediaBody) else 0)
        parts, text_json = self._template_for(encoded)
        return len(parts.before) + len(text_json) + len(parts.after)

    def prefix(self) -> str | None:
        """Return a name for the beginning that all rows' bodies share; None if no prompt cache keeps it."""
        if not self.is_prefix_cached:
            return None
        return self.target.prefix_name(self._canonical_body, self.lead, 2 * len(self.examples))

    def row_bytes(self, size: int) -> int | None:
        """Return how many of a request's bytes belong to its row; None if no part is known to be shared.

        Args:
            size: Bytes of the whole request.
        """
        if self._bodies:
            return None
        without_prefix = self._wire_body(None).without_prefix
        return max(0, size - len(without_prefix.before) - len(without_prefix.after))

    def _template_for(self, text_json: bytes, limit: int | None = None) -> tuple[BodyTemplate, bytes]:
        """Return the body template for a row, and the part of its text that replaces the placeholder."""
        wire = self._wire_body(limit)
        if wire.with_prefix is not None and text_json.startswith(wire.prefix_json):
            # A slice is enough: the JSON of a string that begins with the prefix begins with the prefix's JSON.
            rest = b'"' + text_json[len(wire.prefix_json) :]
            if not _BLANK.fullmatch(rest):
                return wire.with_prefix, rest
        return wire.without_prefix, text_json

    def _wire_body(self, limit: int | None) -> WireBody:
        target = self.target
        with self._lock:
            common_prefix, shared, wire_body = (
                self.lead,
                self.shared and self._marks,
                self._wire_bodies.get(limit),
            )
            if (
                wire_body is None
                or wire_body.version != target.quirks.version
                or wire_body.shared is not shared
                or wire_body.common_prefix != common_prefix
            ):
                to_wire = partial(
                    target.to_wire, lead=common_prefix,
                    turns=self._marks and (self._runs_tools or bool(self.encoder.history)),
                    examples=2 * len(self.examples), shared=shared, asker=self._serial_number if self._marks else None,
                    shown=self.shown,
                )  # fmt: skip
                without_prefix = to_wire(self._canonical_body)
                with_prefix = None
                if common_prefix:
                    begun = self.encoder.body(self.encoder.dialogue(common_prefix + PLACEHOLDER))
                    with_prefix = BodyTemplate.alone(self._as_sent(to_wire(begun), limit))
                # Read the version only now: `to_wire` itself may have learned of a rejected parameter.
                wire_body = WireBody(
                    target.quirks.version,
                    shared,
                    common_prefix,
                    BodyTemplate(self._as_sent(without_prefix, limit)),
                    with_prefix,
                    orjson.dumps(common_prefix)[:-1],
                )
                self._wire_bodies[limit] = wire_body
            return wire_body

    def content_of(self, dialogue: Dialogue, limit: int | None = None) -> bytes:
        """Return the request body of a whole conversation (a further turn) as bytes; *limit* as for `content`."""
        # A single answer is the one being repaired, and most conversations end with a repair.
        answers = sum(turn.role == "assistant" for turn in dialogue.turns[dialogue.shown :])
        return self._to_wire(self.encoder.body(dialogue), limit, turns=answers > 1 or self._runs_tools)

    @property
    def _runs_tools(self) -> bool:
        return self.options.run_tools and self.toolbox is not None

    def size_of(self, dialogue: Dialogue) -> int:
        """Return the size of a whole conversation's body, counted as in `size`."""
        return len(self.content_of(dialogue)) - uncounted_bytes(dialogue.turns)

    def _key(self, body: Mapping[str, Any]) -> str:
        target = self.target
        return key_of(target.identity, target.path, body, self._salt, self.sample)

    def _to_wire(self, body: Mapping[str, Any], limit: int | None = None, *, turns: bool = False) -> bytes:
        marks = self._marks
        wire_body = self.target.to_wire(
            body,
            self.lead,
            shared=self.shared and marks,
            turns=turns and marks,
            asker=self._serial_number if marks else None,
            shown=self.shown,
        )
        return orjson.dumps(self._as_sent(wire_body, limit))

    def _as_sent(self, body: Mapping[str, Any], limit: int | None) -> Mapping[str, Any]:
        body = body if limit is None else set_output_limit(body, limit)
        return body if self.tokens is None else self.tokens.ask(body)

    @property
    def effort(self) -> str:
        """The effort in words; "" for a decision endpoint, which does not reason."""
        return effort_in_words(self.target, self.options, self._canonical_body)

    def rate(self, *, batch: bool = False) -> Rate | None:
        """Return the model's price for live calls or batch jobs, None for unknown."""
        return price_of(self.target, self.options, self._extra, batch=batch)

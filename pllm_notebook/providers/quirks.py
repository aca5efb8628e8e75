"""What a model has rejected or not followed, remembered for the life of the process.

A 400 that names a part of the request may show:

- that a parameter must be dropped or renamed;
- that the model accepts no cache marks, or cannot be forced to call a tool;
- which level of structured output the server supports;
- that the model gives no token probabilities at an effort.

Replies also show the level of structured output, and whether the model gives token probabilities. What is learned may
change the wire body but never the cache key.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import Wire
from pllm_notebook.providers.bodies import object_at, objects_at
from pllm_notebook.providers.prompt_cache import OUR_KEYS
from pllm_notebook.providers.schema_levels import LAST_LEVEL, SchemaLevel, SchemaLevels, asks_any_object, schema_in
from pllm_notebook.runtime import Slot

__all__ = ["Quirks", "effort_in", "quirks_of"]

logger = logging.getLogger("pllm_notebook")

# If this many replies have no token probabilities and none has any, the model gives none.
_TOKENLESS = 3

# May be left out of a request without changing the question.
_OPTIONAL = (
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "frequency_penalty",
    "presence_penalty",
    "store",
)
_RENAMED = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_STRUCTURE = re.compile(
    r"response_format|json_schema|json_object|output_config|responseJsonSchema|response_json_schema"
)
# Does not match if the tool to be called was not offered: the caller has to fix that.
_UNFORCED = re.compile(r"(?<![\w.])tool_choice\b(?!.*not found)", re.DOTALL)
_TOO_COMPLEX = re.compile(r"schema is too complex|grammar is too large|too many states", re.IGNORECASE)


def effort_in(body: Mapping[str, Any]) -> str | None:
    """Return the effort that a body requests, None if the model chooses it."""
    effort = body.get("reasoning_effort") or object_at(body, "reasoning").get("effort")
    return None if effort is None else str(effort)


class Quirks:
    """One model's peculiarities at one server.

    Attributes:
        version: Increases with every change to wire bodies, so that prepared bodies are rebuilt.
        forced: Whether it can be forced to call a tool; otherwise it chooses.
        marks: Whether it accepts marks for its prompt cache.
        gives_tokens: Whether its replies have token probabilities, None while unknown.
        refuses_tokens: The efforts at which it has rejected a request for token probabilities; None among them means
            a request that set no effort.
        schemas: The levels of structured output that the server supports.
    """

    def __init__(self) -> None:
        self.version = 0
        self.forced = True
        self.marks = True
        self.gives_tokens: bool | None = None
        self.refuses_tokens: set[str | None] = set()
        self.schemas = SchemaLevels()
        self._tokenless = 0
        self._dropped: set[str] = set()
        self._logged: set[str] = set()
        self._renamed: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Quirks({self.schemas}, dropped={sorted(self._dropped)}, renamed={self._renamed})"

    def note_tokens(self, *, has_any: bool) -> None:
        """Count a reply with or without token probabilities. One with them, or several without, settle the question."""
        # Several, because a call that requested none may have been in flight and served a call that requested them.
        self._tokenless += not has_any
        if has_any:
            self.gives_tokens = True
        elif self._tokenless >= _TOKENLESS and self.gives_tokens is None:
            self.gives_tokens = False

    def drop(self, name: str, model: str) -> None:
        """Leave *name* out from now on, and log it once."""
        if name not in self._dropped:
            self._dropped.add(name)
            self.version += 1
            self.tell(name, model)

    def tell(self, name: str, model: str) -> None:
        """Log once that *name* is left out of a request."""
        if name not in self._logged:
            self._logged.add(name)
            logger.warning("%s does not take %r; it is left out of requests", model, name)

    def to_wire(self, body: Mapping[str, Any], wire: Wire) -> dict[str, Any]:
        """Return the wire body for a canonical body."""
        schema_level = self.schemas.level_for(body)
        body_sent = wire.relax_schema(body, schema_level) if schema_level else dict(body)
        if not self.forced and _forces(body_sent):
            body_sent["tool_choice"] = _free(body_sent["tool_choice"])
        if self._dropped or self._renamed:
            body_sent = {
                self._renamed.get(name, name): value for name, value in body_sent.items() if name not in self._dropped
            }
            if config := object_at(body_sent, "generationConfig"):  # Google keeps its parameters one level down
                kept = {n: v for n, v in config.items() if n not in self._dropped}
                body_sent["generationConfig"] = kept
        return body_sent

    def adapt(self, failure: Failure, body: Mapping[str, Any], model: str, *, unenforced_schema: bool) -> bool:
        """Learn from a rejected request; return True if it may pass in another form.

        The form need not differ from *body*, which may be a caller's own: a call is sent again only if it does.

        Args:
            failure: The provider's error.
            body: The body as it was sent.
            model: The model's label, for the log.
            unenforced_schema: Whether the server does not guarantee structured output.
        """
        if failure.kind is not FailureKind.BAD_REQUEST:
            return False
        said = f"{failure.field} {failure.message}"
        if "ogprobs" in said:
            self.refuses_tokens.add(effort_in(body))
            return False
        mark = _mark_of(body)
        if mark and mark in said:
            if self.marks:
                self.marks = False
                self.version += 1
                logger.warning("%s does not take %r; it is no longer added to requests", model, mark)
            return True
        if _forces(body) and _UNFORCED.search(said):
            if self.forced:
                self.forced = False
                self.version += 1
                logger.warning("%s cannot be forced to call a tool; it is left to choose", model)
            return True
        sent = {*body, *object_at(body, "generationConfig")}
        for old, new in _RENAMED.items():
            if old in sent and (failure.field == old or _names(old, said)):
                if old not in self._renamed:
                    self._renamed[old] = new
                    self.version += 1
                    logger.warning("%s does not take %r; %r is sent in its place", model, old, new)
                return True
        for name in _OPTIONAL:
            if name in sent and (failure.field == name or _names(name, said)):
                self.drop(name, model)
                return True
        if _TOO_COMPLEX.search(said) or (unenforced_schema and _STRUCTURE.search(said)):
            if asks_any_object(body):
                self._note_step(model, LAST_LEVEL, is_new=self.schemas.refuse_any_object())
                return True
            if schema_in(body) is None:  # nothing to relax, at the last level or in a request for text
                return False
            return self._step_down(
                self.schemas.of(body), model, 0, is_too_complex=_TOO_COMPLEX.search(said) is not None
            )
        return False

    def note_odd_reply(self, schema: SchemaLevel, model: str, sent_level: int) -> None:
        """Count a reply that does not have the form of its schema; step down if there are too many of them."""
        if sent_level == schema.level:
            schema.odd += 1
            if schema.is_mostly_odd:
                self._step_down(schema, model, sent_level)

    def _step_down(self, schema: SchemaLevel, model: str, sent_level: int, *, is_too_complex: bool = False) -> bool:
        """Request a schema with less enforcement from now on; return False at the last level."""
        done = self.schemas.step_down(schema, sent_level, is_too_complex=is_too_complex)
        self._note_step(model, schema.level, is_new=done is True)
        return done is not False

    def _note_step(self, model: str, level: int, *, is_new: bool) -> None:
        if is_new:
            self.version += 1
            how = ("", "any JSON object, with the schema in the instruction", "the schema in the instruction alone")
            logger.warning("%s does not follow the JSON schema it was sent; asking for %s", model, how[level])


def _mark_of(sent: Mapping[str, Any]) -> str:
    """Return the name of the field that marks the prompt cache in a body, "" if there is no mark.

    A caller's own `prompt_cache_key` does not count. A caller's `cache_control` cannot be distinguished from ours.
    """
    if str(sent.get("prompt_cache_key", "")).startswith(OUR_KEYS):
        return "prompt_cache_key"
    contents = [objects_at(message, "content") for message in objects_at(sent, "messages")]
    ours = any("cache_control" in block for blocks in (objects_at(sent, "system"), *contents) for block in blocks)
    return "cache_control" if ours else ""


def _forces(sent: Mapping[str, Any]) -> bool:
    choice = sent.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, Mapping) else choice
    return isinstance(kind, str) and kind in ("required", "function", "any", "tool")


def _free(choice: Any) -> Any:
    """Return a tool choice that lets the model choose, in the format of *choice*; a word may be a caller's own."""
    if isinstance(choice, str) or choice.get("type") == "function":
        return "auto"
    return {"type": "auto"} | {name: said for name, said in choice.items() if name == "disable_parallel_tool_use"}


def _names(parameter: str, said: str) -> bool:
    return re.search(rf"(?<![\w.]){re.escape(parameter)}(?![\w])", said) is not None


_KNOWN: Slot[dict[tuple[str, str, str], Quirks]] = Slot("quirks", dict)


def quirks_of(provider: str, address: str, model: str) -> Quirks:
    """Return the one `Quirks` of this model at this address."""
    return _KNOWN.value.setdefault((provider, address, model), Quirks())

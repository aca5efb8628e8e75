"""One call of a program as a value: everything that determines the answer, and the agent that made it."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import orjson

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.execution import CallSpec, build_spec, options_for, resolve_model
from pllm_notebook.messages_types import Prompt
from pllm_notebook.options import CallOptions, Options, taken_by
from pllm_notebook.providers import CARRIED, NOT_CARRIED, OpenAIKeywords, check_keywords, provider_fields
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import StructuredTool, Toolbox

__all__ = ["PARAMETERS", "Call", "CallParameters", "check_params", "salt_for", "spec_of", "tools_of"]

PARAMETERS = frozenset(taken_by(Options, "ask_llm"))
"""Options of a single call; all others belong to the session."""


class CallParameters(CallOptions, OpenAIKeywords, total=False):
    """Keywords of `agent.ask_llm`: options, and keywords of OpenAI's client."""

    max_tokens: int | None
    max_completion_tokens: int | None
    reasoning: Mapping[str, Any] | None


# All of these except "seq" are always in the key.
_HASHED = ("llm", "seq", "tools", "tool_names", "structured_output", "response_format", "kwargs", "all")
# Names of OpenAI's client for options of a call.
_RENAMED = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
# Options of dataframes for which a program's call has an argument with another name.
_MEANT = {"model": "llm", "system": "instructions"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a program.

    The fields above `agent` determine the key.

    Attributes:
        model: `provider:name`.
        prompt: A string, or a conversation.
        instructions: System prompt, None for none.
        text_format: The type of the answer, None for text.
        tools: Tools that the model may call.
        params: Options, of `PARAMETERS`.
        salt: Any string. Change it to request a fresh answer instead of the stored one.
        replicate: Index among several answers to the same call; 0 is the plain call.
        agent: Name of the agent.
        number: Position among the agent's calls, counted from 0.
        tag: The caller's label, "" for none.
        identity: The caller's name for the model, "" for none.
        documents: Content hashes of the documents, in order.
        sources: The functions, types or definitions that the tools were made from.
    """

    model: str
    prompt: Prompt
    instructions: str | None = None
    text_format: Any = None
    tools: tuple[StructuredTool, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    salt: str = ""
    replicate: int = 0
    agent: str = ""
    number: int = 0
    tag: str = ""
    identity: str = ""
    documents: tuple[str, ...] = ()
    sources: tuple[Any, ...] = ()

    def __reduce__(self) -> tuple[Any, tuple[dict[str, Any]]]:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        sources = self.sources or self.tools
        packed = [_packed(tool, source) for tool, source in zip(self.tools, sources, strict=True)]
        return _unpacked, (given | {"params": dict(self.params), "tools": packed, "sources": ()},)

    @property
    def how(self) -> Hashable:
        """All that determines the answer, except the prompt. Calls with the same value share one `CallSpec`."""
        output = None if self.text_format is None else OutputType.of(self.text_format)
        params = orjson.dumps(dict(self.params), option=orjson.OPT_SORT_KEYS, default=repr)
        # The functions are included, because two may have the same signature.
        behind = [source if _is_kept(source) else None for source in self.sources]
        tools = tuple(tool.model_dump_json() for tool in self.tools), tuple(behind)
        return self.model, self.instructions, output, tools, params, self.salt, self.replicate


def spec_of(call: Call, **session_options: Any) -> CallSpec:
    """Build the spec of a call.

    Args:
        call: The call.
        **session_options: Options of the session: mode, cache, wait, max_cost_usd.

    Raises:
        UsageError: If the call is invalid. Nothing was sent.
    """
    given: dict[str, Any] = {
        "model": call.model,
        "system": call.instructions,
        "mode": "async",
        # Options that a notebook configures for its dataframes do not apply to programs.
        "cache": "use",
        "errors": "coerce",
        "pack": 1,
        "progress": False,
        "confirm": False,
        **call.params,
        **session_options,
    }
    if call.salt:
        given["salt"] = call.salt
    if call.tools:
        given["tools"] = list(call.tools)
    output = None if call.text_format is None else OutputType.of(call.text_format)
    options = options_for({name: value for name, value in given.items() if value is not None})
    calls = bool(call.tools) and not options.run_tools
    return build_spec(options, output, instruct=False, sample=call.replicate, calls=calls)


def tools_of(sources: Sequence[Any]) -> tuple[StructuredTool, ...]:
    """Build tools, each function and type once.

    Raises:
        UsageError: For a value that cannot be a tool, two tools of one name, or an empty list. Nothing was sent.
    """
    if not isinstance(sources, (list, tuple)):
        raise UsageError(f"tools is a list of functions, models or definitions, not {sources!r}. Nothing was sent.")
    return Toolbox.of([_tool(source) if _is_kept(source) else source for source in sources]).tools


def check_params(params: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Check and translate the options of a call, leaving out those that are None.

    Args:
        params: Options of `PARAMETERS`, and keywords of OpenAI's client (`top_p`, `reasoning_effort`, …), which are
            translated into `extra_body` for the provider. `reasoning={"effort": …}` means `reasoning_effort`.
        model: `provider:name`.

    Raises:
        UnknownOptionError: For any other name. Nothing was sent.
        UsageError: For a keyword or value without an equivalent at the provider. Nothing was sent.
    """
    own: dict[str, Any] = {}
    keywords: dict[str, Any] = {}
    for name, value in params.items():
        if value is None:
            continue
        option = _RENAMED.get(name, name)
        if option in own:
            raise UsageError(f"{name}= and another keyword are both {option}: pass only one. Nothing was sent.")
        (own if option in PARAMETERS else keywords)[option] = value
    if own.get("extra_body"):
        own["extra_body"] = _with_text_keys(own["extra_body"])
    if not keywords:
        return own
    if isinstance(keywords.get("reasoning"), Mapping) and set(keywords["reasoning"]) == {"effort"}:
        keywords["reasoning_effort"] = keywords.pop("reasoning")["effort"]
    for name in keywords:
        if name in _MEANT:
            raise UsageError(f"A program's call takes {_MEANT[name]}= instead of {name}=. Nothing was sent.")
        if name not in CARRIED and name not in NOT_CARRIED:
            raise UnknownOptionError(name, PARAMETERS | CARRIED | _MEANT.keys() | set(_MEANT.values()))
    target = resolve_model(options_for({"model": model}))
    body = provider_fields(target, check_keywords(keywords), own.get("extra_body") or {})
    return own | {"extra_body": _with_text_keys(body)}


def _with_text_keys(value: Any) -> Any:
    """Return fields of a request with integer keys as text, as JSON has them: `logit_bias={50256: -100}`.

    Raises:
        UsageError: For a key, integer or text that JSON cannot hold. Nothing was sent.
    """
    if isinstance(value, Mapping):
        names = [str(key) if isinstance(key, int) and not isinstance(key, bool) else key for key in value]
        for name in names:
            if not isinstance(name, str):
                raise _unsendable("a key", name, "text or integers as keys")
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise _unsendable("the same key as a text and an integer,", twice, "each key once")
        return {name: _with_text_keys(each) for name, each in zip(names, value.values(), strict=True)}
    if isinstance(value, (list, tuple)):
        return [_with_text_keys(each) for each in value]
    if isinstance(value, (int, str)):
        try:
            orjson.dumps(value)
        except TypeError as error:
            raise _unsendable("the value", value, "integers of at most 64 bits and valid Unicode") from error
    return value


def _unsendable(what: str, value: Any, wanted: str) -> UsageError:
    return UsageError(f"A field of the request has {what} {value!r:.60}. Pass {wanted}. Nothing was sent.")


def salt_for(salt: str | int | None, hash_by: Sequence[str] | None, agent: str, number: int) -> str:
    """Return the salt of a call.

    Args:
        salt: The caller's salt. None for none.
        hash_by: "seq" makes the agent's counter part of the key; the other names are always part of it.
        agent: Name of the agent.
        number: Position among the agent's calls.

    Raises:
        UsageError: For an unknown name. Nothing was sent.
    """
    if salt is not None and (isinstance(salt, bool) or not isinstance(salt, str | int)):
        raise UsageError(f"salt is a string or an integer, not {salt!r}. Nothing was sent.")
    salt = "" if salt is None else str(salt)
    names = (hash_by,) if isinstance(hash_by, str) else hash_by or ()
    if not isinstance(names, Collection) or any(name not in _HASHED for name in names):
        known = ", ".join(map(repr, _HASHED))
        raise UsageError(f"hash_by is a list of {known}, not {hash_by!r}. Nothing was sent.")
    if "seq" not in names:
        return salt
    # JSON, so that no agent name can collide with another agent's name and number.
    return orjson.dumps([salt, agent, number]).decode()


@lru_cache(maxsize=256)
def _tool(source: Any) -> StructuredTool:
    return StructuredTool.of(source)


def _is_kept(source: Any) -> bool:
    """Return whether a tool's source is a function or a type, which is compared by identity."""
    return callable(source) and isinstance(source, Hashable)


def _packed(tool: StructuredTool, source: Any) -> tuple[str, Any]:
    """Return the picklable form of a tool: its source, or otherwise its fields without the function."""
    try:
        pickle.dumps(source)
    except Exception:  # a nested function, a type defined in a cell, an unpicklable attribute
        return "fields", tool.model_dump()
    return "source", source


def _unpacked(given: dict[str, Any]) -> Call:
    tools = tuple(StructuredTool(**one) if how == "fields" else StructuredTool.of(one) for how, one in given["tools"])
    sources = tuple(tool if how == "fields" else one for tool, (how, one) in zip(tools, given["tools"], strict=True))
    return Call(**(given | {"tools": tools, "sources": sources}))

"""What a program asks, as a value: everything that determines a call, and who asked it."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

import orjson

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.execution import CallSpec, build_spec, options_for
from pllm_notebook.execution.call_spec import resolve_model
from pllm_notebook.messages_types import Prompt
from pllm_notebook.option_fields import taken_by
from pllm_notebook.option_types import CallOptions
from pllm_notebook.options import Options
from pllm_notebook.providers.keywords import CARRIED, NOT_CARRIED, OpenAIKeywords, check_keywords, provider_fields
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import StructuredTool, Toolbox

__all__ = ["PARAMETERS", "Call", "CallParameters", "ask_of", "checked", "salt_for", "tools_of"]

PARAMETERS = frozenset(taken_by(Options, "ask_llm"))
"""The options that one call of a program may have; the rest is of the session."""


class CallParameters(CallOptions, OpenAIKeywords, total=False):
    """Keywords of `agent.ask_llm`: options, and keywords of OpenAI's client."""

    max_tokens: int | None
    max_completion_tokens: int | None
    reasoning: Mapping[str, Any] | None


# Besides "seq" all of these are always in the key.
_HASHED = ("llm", "seq", "tools", "tool_names", "structured_output", "response_format", "kwargs", "all")
# Names of OpenAI's client for options of a call.
_RENAMED = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a program.

    What is above `agent` determines the key; what is below says who asked.

    Attributes:
        model: `provider:name`.
        prompt: A text alone, or a conversation.
        instructions: The system's words, None for none of the call's own.
        text_format: A type that the answer must fit, None for text.
        tools: What the model may call.
        params: Of `PARAMETERS`, those that were given.
        salt: Another word is another draw.
        replicate: Index among several answers to the same; 0 is the plain call.
        agent: Name of who asked.
        number: Which of the agent's calls it was, counted from 0.
        tag: A word of the caller's own, "" for none.
        identity: The caller's name for the model, "" for none.
        documents: Content hashes of what was asked about, in order.
        sources: What the tools were made of.
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
        """What it is asked with besides its prompt: calls with the same are one question, put several times."""
        output = None if self.text_format is None else OutputType.of(self.text_format)
        params = orjson.dumps(dict(self.params), option=orjson.OPT_SORT_KEYS, default=repr)
        # With what is behind them: two functions may have one signature.
        behind = [source if _is_kept(source) else None for source in self.sources]
        tools = tuple(tool.model_dump_json() for tool in self.tools), tuple(behind)
        return self.model, self.instructions, output, tools, params, self.salt, self.replicate


def ask_of(call: Call, **of_the_session: Any) -> CallSpec:
    """Make the question of a call ready.

    Args:
        call: The call.
        **of_the_session: Options that are not the call's own: mode, cache, wait.

    Raises:
        UsageError: When it cannot be asked as written. Nothing was sent.
    """
    given: dict[str, Any] = {
        "model": call.model,
        "system": call.instructions,
        "mode": "async",
        # What a notebook has configured for its frames is no part of a program.
        "cache": "use",
        "errors": "coerce",
        "pack": 1,
        "progress": False,
        "confirm": False,
        **call.params,
        **of_the_session,
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
    """Make tools ready, each function and type once.

    Raises:
        UsageError: For what can be no tool, two of one name, none at all. Nothing was sent.
    """
    if not isinstance(sources, (list, tuple)):
        raise UsageError(f"tools is a list of functions, models or definitions, not {sources!r}. Nothing was sent.")
    return Toolbox.of([_tool(source) if _is_kept(source) else source for source in sources]).tools


def checked(params: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Return the options of one call, without those that were given as None.

    Args:
        params: Of `PARAMETERS`, and keywords of OpenAI's client (`top_p`, `reasoning_effort`, …), which become
            `extra_body` in the provider's own words. `reasoning={"effort": …}` is `reasoning_effort`.
        model: `provider:name`.

    Raises:
        UnknownOptionError: For a name that is neither. Nothing was sent.
        UsageError: For a keyword, or a value of one, that the provider has no equal of. Nothing was sent.
    """
    own: dict[str, Any] = {}
    words: dict[str, Any] = {}
    for name, value in params.items():
        if value is None:
            continue
        option = _RENAMED.get(name, name)
        if option in own:
            raise UsageError(f"{name}= and another keyword are both {option}: give one of them. Nothing was sent.")
        (own if option in PARAMETERS else words)[option] = value
    if not words:
        return own
    if isinstance(words.get("reasoning"), Mapping) and set(words["reasoning"]) == {"effort"}:
        words["reasoning_effort"] = words.pop("reasoning")["effort"]
    for name in words:
        if name not in CARRIED and name not in NOT_CARRIED:
            raise UnknownOptionError(name, PARAMETERS | CARRIED)
    target = resolve_model(options_for({"model": model}))
    return own | {"extra_body": provider_fields(target, check_keywords(words), own.get("extra_body") or {})}


def salt_for(salt: str | int | None, hash_by: Sequence[str] | None, agent: str, number: int) -> str:
    """Return the salt of a call.

    Args:
        salt: The caller's own, None for none.
        hash_by: "seq" makes the agent's counter part of the key; the others change nothing, since they always are.
        agent: Name of who asks.
        number: Which of the agent's calls this is.

    Raises:
        UsageError: For another word. Nothing was sent.
    """
    if salt is not None and (isinstance(salt, bool) or not isinstance(salt, str | int)):
        raise UsageError(f"salt is text or a whole number, not {salt!r}. Nothing was sent.")
    salt = "" if salt is None else str(salt)
    words = (hash_by,) if isinstance(hash_by, str) else hash_by or ()
    if not isinstance(words, Collection) or any(word not in _HASHED for word in words):
        known = ", ".join(map(repr, _HASHED))
        raise UsageError(f"hash_by is a list of {known}, not {hash_by!r}. Nothing was sent.")
    if "seq" not in words:
        return salt
    # JSON, so that no agent's name can be mistaken for another's with a number.
    return orjson.dumps([salt, agent, number]).decode()


@lru_cache(maxsize=256)
def _tool(source: Any) -> StructuredTool:
    return StructuredTool.of(source)


def _is_kept(source: Any) -> bool:
    """Return whether a tool's source is a function or a type, which is itself and nothing else."""
    return callable(source) and isinstance(source, Hashable)


def _packed(tool: StructuredTool, source: Any) -> tuple[str, Any]:
    """Return what a tool can be pickled as: what it was made of, else its fields, without what is behind it."""
    try:
        pickle.dumps(source)
    except Exception:  # a function inside a function, a type of a cell's own, whatever a source holds
        return "fields", tool.model_dump()
    return "source", source


def _unpacked(given: dict[str, Any]) -> Call:
    tools = tuple(StructuredTool(**one) if how == "fields" else StructuredTool.of(one) for how, one in given["tools"])
    sources = tuple(tool if how == "fields" else one for tool, (how, one) in zip(tools, given["tools"], strict=True))
    return Call(**(given | {"tools": tools, "sources": sources}))

"""What OpenAI's client calls things, in each provider's own words.

A keyword that a provider has no equal of is refused before anything is sent: leaving it out would answer another
question than was asked. (One that a model of the provider turns out to refuse is adapted to as for every other call.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.providers import ResolvedModel

__all__ = ["CARRIED", "NOT_CARRIED", "check_keywords", "is_given", "provider_fields"]

# Of `AsyncCompletions.parse` (openai/resources/chat/completions/completions.py): what goes into the body as it is.
CARRIED = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "metadata",
        "presence_penalty",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_effort",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
    }
)
# Of the same, with the reason why it is not carried.
NOT_CARRIED = {
    "n": "several answers are samples, each a call of its own (num_processors=, replicate=)",
    "stream": "a reply is stored and checked whole",
    "stream_options": "a reply is stored and checked whole",
    "functions": "nobody would run them",
    "function_call": "nobody would run the functions",
    "audio": "answers are text",
    "modalities": "answers are text",
    "prediction": "no part of the answer is known",
    "moderation": "its result would be lost",
    "web_search_options": "what it finds is not stored with the answer",
}
# What says the default in so many words.
_HARMLESS: Mapping[str, tuple[Any, ...]] = {"n": (1,), "stream": (False,), "logprobs": (False,)}

Into = Callable[[Any], dict[str, Any]]
"""Puts a value into a provider's body; raises `ValueError` where the provider has no equal of it."""


def _as(*path: str) -> Into:
    def put(value: Any) -> dict[str, Any]:
        for name in reversed(path):
            value = {name: value}
        return dict(value)

    return put


def _one_of(words: Mapping[Any, Any], *path: str) -> Into:
    def put(value: Any) -> dict[str, Any]:
        if value not in words:
            raise ValueError(f"one of {', '.join(map(repr, words))}")
        return _as(*path)(words[value])

    return put


def _listed(*path: str) -> Into:
    return lambda value: _as(*path)([value] if isinstance(value, str) else list(value))


_EFFORTS = {word: word for word in ("low", "medium", "high", "xhigh", "max")}
_LEVELS = {word: word.upper() for word in ("minimal", "low", "medium", "high", "xhigh")}
# Responses have none of these, or inside a field that this package fills (openai/types/responses/
# response_create_params.py).
_CHAT_ALONE = {
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "presence_penalty",
    "seed",
    "stop",
    "top_logprobs",
    "verbosity",
}
_RESPONSES: Mapping[str, Into] = {
    **{name: _as(name) for name in CARRIED - _CHAT_ALONE},
    "reasoning_effort": _as("reasoning", "effort"),
}
# (anthropic/types/message_create_params.py)
_ANTHROPIC: Mapping[str, Into] = {
    "top_p": _as("top_p"),
    "stop": _listed("stop_sequences"),
    "user": _as("metadata", "user_id"),
    "reasoning_effort": _one_of(_EFFORTS, "output_config", "effort"),
    "service_tier": _one_of({"auto": "auto", "default": "standard_only"}, "service_tier"),
}
# (google/genai/types.py, GenerationConfig and ThinkingConfig)
_GOOGLE: Mapping[str, Into] = {
    "top_p": _as("generationConfig", "topP"),
    "stop": _listed("generationConfig", "stopSequences"),
    "seed": _as("generationConfig", "seed"),
    "frequency_penalty": _as("generationConfig", "frequencyPenalty"),
    "presence_penalty": _as("generationConfig", "presencePenalty"),
    "reasoning_effort": _one_of(_LEVELS, "generationConfig", "thinkingConfig", "thinkingLevel"),
}


def is_given(value: Any) -> bool:
    """Return whether a keyword was given: OpenAI's client has two objects besides None that mean "not given"."""
    return value is not None and type(value).__name__ not in ("NotGiven", "Omit")


def check_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that say something, in the order they were given.

    Raises:
        UnknownOptionError: For one that OpenAI's client does not take either. Nothing was sent.
        UsageError: For one that no answer of several samples can carry out. Nothing was sent.
    """
    said = {}
    for name, value in given.items():
        if not is_given(value) or value in _HARMLESS.get(name, ()):
            continue
        if name in NOT_CARRIED:
            raise UsageError(f"{name}= is not carried out here: {NOT_CARRIED[name]}. Nothing was sent.")
        if name not in CARRIED:
            raise UnknownOptionError(name, CARRIED)
        said[name] = value
    return said


def provider_fields(target: ResolvedModel, keywords: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes into the body of *target* besides what this package fills itself.

    Args:
        target: Who is asked.
        keywords: As `check_keywords` gives them.
        extra: `extra_body`, in the provider's own words; it stands where both say something.

    Raises:
        UsageError: For a keyword, or a value of one, that the provider has no equal of. Nothing was sent.
    """
    words = _words(target)
    fields: dict[str, Any] = {}
    for name, value in keywords.items():
        if words is not None and name not in words:
            raise UsageError(
                f"{name}= has no equal at {target.label}, which takes {', '.join(sorted(words))}. What the provider "
                f"calls by a name of its own goes into extra_body. Nothing was sent."
            )
        try:
            fields = _merged(fields, {name: value} if words is None else words[name](value))
        except ValueError as error:
            raise UsageError(f"{name}= is {error} at {target.label}, not {value!r}. Nothing was sent.") from None
    return _merged(fields, extra)


def _words(target: ResolvedModel) -> Mapping[str, Into] | None:
    """Return a provider's words, None for one that speaks OpenAI's."""
    if target.path == "/responses":
        return _RESPONSES
    return {"anthropic": _ANTHROPIC, "google": _GOOGLE}.get(target.dialect.name)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(one)
    for name, value in other.items():
        mine = both.get(name)
        both[name] = _merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both

"""Translation of the keywords of OpenAI's client into each provider's own fields.

A keyword without an equivalent is rejected before anything is sent: without it, the answer would be to a different
request. (A sampling parameter that the model itself rejects is left out later, as in every other call.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.providers.openai.keywords import CARRIED, DEFAULTS, NOT_CARRIED, OpenAIKeywords
from pllm_notebook.providers.resolved_model import ResolvedModel

__all__ = ["CARRIED", "NOT_CARRIED", "OpenAIKeywords", "check_keywords", "is_given", "merged", "provider_fields"]


def is_given(value: Any) -> bool:
    """Return whether a keyword was given: OpenAI's client has two objects besides None that mean "not given"."""
    return value is not None and type(value).__name__ not in ("NotGiven", "Omit")


def check_keywords(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that were given and are not defaults, in order.

    Raises:
        UnknownOptionError: If OpenAI's client does not have a keyword. Nothing was sent.
        UsageError: If a keyword is not supported here. Nothing was sent.
    """
    said = {}
    for name, value in given.items():
        if not is_given(value) or value in DEFAULTS.get(name, ()):
            continue
        if name in NOT_CARRIED:
            raise UsageError(f"{name}= is not supported here: {NOT_CARRIED[name]}. Nothing was sent.")
        if name not in CARRIED:
            raise UnknownOptionError(name, CARRIED)
        said[name] = value
    return said


def provider_fields(target: ResolvedModel, keywords: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields for the body of *target* that this package does not fill itself.

    Args:
        target: The model.
        keywords: The keywords that `check_keywords` returned.
        extra: `extra_body`, in the provider's own fields; it takes precedence.

    Raises:
        UsageError: For a keyword or value without an equivalent at the provider. Nothing was sent.
    """
    words = target.wire.keywords
    fields: dict[str, Any] = {}
    for name, value in keywords.items():
        if words is not None and name not in words:
            others = f", which takes {', '.join(sorted(words))}" if words else ""
            raise UsageError(
                f"{name}= has no equal at {target.label}{others}. What the provider calls by a name of its own goes "
                f"into extra_body. Nothing was sent."
            )
        try:
            fields = merged(fields, {name: value} if words is None else words[name](value))
        except ValueError as error:
            raise UsageError(f"{name}= is {error} at {target.label}, not {value!r}. Nothing was sent.") from None
    return merged(fields, extra)


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two objects recursively; the values of *other* take precedence."""
    both = dict(one)
    for name, value in other.items():
        mine = both.get(name)
        both[name] = merged(mine, value) if isinstance(mine, Mapping) and isinstance(value, Mapping) else value
    return both

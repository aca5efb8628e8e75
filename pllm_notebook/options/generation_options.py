"""Options for how a provider generates an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pllm_notebook.options.option_fields import is_number, option
from pllm_notebook.options.option_values import CALLS, FRAMES, LISTS, ROWS, Effort, ServiceTier, is_stop

__all__ = ["GenerationOptions"]


@dataclass(frozen=True)
class GenerationOptions:
    """Options for how a model writes its answer."""

    temperature: float | None = option(
        None,
        "Sampling temperature. None: not sent.",
        more="It is left out for models that reject it, which is logged.",
        at_least=0,
        takes=FRAMES | {"ask_llm"},
        keyed=True,
    )
    effort: Effort | None = option(
        None,
        'How much the model [reasons](effort.md) before it answers: `"none"`, `"minimal"`, `"low"`, `"medium"`, '
        '`"high"` or `"max"`, mapped to the provider\'s values. None: the provider\'s default for the model.',
        more="A value that the model does not accept is an error that names the accepted ones.",
        choices=get_args(Effort),
        takes=LISTS | {"ask_llm"},
        keyed=True,
    )
    judge_effort: Effort | None = option(
        None,
        "`effort` of the judge, or of the stronger model. None: the provider's default for a judge, `effort` for a "
        "stronger model.",
        choices=get_args(Effort),
        takes=ROWS,
    )
    service_tier: ServiceTier | None = option(
        None,
        'The provider\'s [service tier](effort.md#service-tier): `"flex"` is cheaper and slower, `"priority"` faster '
        "and more expensive. None: not sent.",
        more="It changes the price, not the question, so it is not part of the cache key.",
        choices=get_args(ServiceTier),
        takes=LISTS,
    )
    top_p: float | None = option(
        None,
        "Nucleus sampling: the probability mass that tokens are sampled from. None: not sent.",
        more="A model known to reject it is an error.",
        expects=("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1),
        takes=LISTS,
        keyed=True,
    )
    seed: int | None = option(
        None,
        "Seed of the provider's sampling. None: not sent.",
        more="It is an error for a provider without one.",
        takes=LISTS,
        keyed=True,
    )
    stop: tuple[str, ...] | None = option(
        None,
        "Strings at which the answer ends. None: not sent.",
        accepts="str | Sequence[str] | None",
        expects=("a text, or a list of texts", is_stop),
        takes=LISTS,
        keyed=True,
    )
    max_output_tokens: int | None = option(
        None,
        "Maximum length of an answer, in tokens. None: sent only if the provider requires a limit.",
        more="An answer that is cut off is a failure, [`truncated`](errors.md), and its text is in `errors`.",
        at_least=1,
        takes=FRAMES | {"ask_llm"},
    )
    extra_body: Mapping[str, Any] = option(
        {},
        "Provider-specific fields, added to the request unchanged.",
        expects=("a mapping of fields for the provider", lambda value: isinstance(value, Mapping)),
        takes=CALLS,
        keyed=True,
    )

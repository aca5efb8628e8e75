"""Build an ensemble's spec and its only row from the keywords of one request."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from pllm_notebook.callers import Caller
from pllm_notebook.credentials import Key
from pllm_notebook.engine import RetryBounds
from pllm_notebook.ensemble.completion import SingleRequestRows
from pllm_notebook.ensemble.decisions import EnsembleSpec
from pllm_notebook.ensemble.framework_config import FrameworkConfig
from pllm_notebook.ensemble.openai_messages import read_messages
from pllm_notebook.ensemble.spec import ensemble_spec_for
from pllm_notebook.exceptions import UnknownOptionError, UsageError
from pllm_notebook.execution import CallSpec, options_for, resolve_model, store_for
from pllm_notebook.options import Options, RequestOptions, taken_by
from pllm_notebook.providers import (
    NOT_CARRIED,
    OpenAIKeywords,
    ResolvedModel,
    cheap_model_of,
    check_keywords,
    digest_of,
    is_given,
    provider_fields,
)
from pllm_notebook.request_errors import DecisionMakerError
from pllm_notebook.schema import OutputType

__all__ = ["RequestKeywords", "request_for"]


class RequestKeywords(RequestOptions, OpenAIKeywords, total=False):
    """Keywords of `ParallelLLM.parse`: those of OpenAI's client, `models`, and some options."""

    models: Sequence[str] | None
    temperature: float | None
    max_tokens: int | None
    max_completion_tokens: int | None
    timeout: float | None
    n: Literal[1] | None
    stream: Literal[False] | None
    tools: Iterable[Any] | None
    tool_choice: str | Mapping[str, Any] | None
    parallel_tool_calls: bool | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, object] | None


_KNOWN = {*RequestKeywords.__annotations__, *NOT_CARRIED, "messages", "model", "pass_reasoning", "response_format"}
# Keywords of OpenAI's client that are options of this package, for every provider.
_RENAMED = {
    "temperature": "temperature",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
}


def request_for(
    config: FrameworkConfig,
    api_key: Key | None,
    *,
    messages: Iterable[Any] | None,
    response_format: Any,
    model: str | None,
    models: Sequence[str] | None,
    pass_reasoning: bool,
    timeout: float | None,
    extra_body: Mapping[str, Any] | None,
    keywords: Mapping[str, Any],
    caller: Caller | None = None,
) -> tuple[EnsembleSpec, SingleRequestRows]:
    """Prepare one request (see `ParallelLLM.parse` for the keywords). Sends nothing.

    Raises:
        UsageError: If the request is invalid.
    """
    if model is not None and (not isinstance(model, str) or not model):
        raise UsageError(f"model is a model's name ('openai:gpt-6-luna'), not {model!r}. Nothing was sent.")
    unknown = next((name for name in keywords if name not in _KNOWN), None)
    if unknown is not None:
        raise UnknownOptionError(unknown, _KNOWN)
    asked = read_messages(messages)
    response_format = response_format if is_given(response_format) else None
    timeout = timeout if is_given(timeout) else None
    output = None if response_format is None else OutputType.of(response_format)
    said = {name: value for name, value in keywords.items() if is_given(value)}
    own = {name: said.pop(name) for name in taken_by(Options, "request") if name in said}
    own |= _renamed(said)
    tools = _tools(said)
    extras = {name: dict(said.pop(name)) for name in ("extra_headers", "extra_query") if said.get(name)}
    sent = check_keywords({name: value for name, value in said.items() if name not in _RENAMED})
    if models is not None:
        own["models"] = models
    first = options_for({"model": model} | own)
    target = resolve_model(replace(first, model=model or (first.models[0] if first.models else first.model)))
    keys = {} if api_key is None else {target.provider: api_key}
    processors = _assign_models(first.models if models is not None and first.models else (target.label,), config)
    fixed = _fixed_options(config, processors) | {"system": asked.system} | tools
    fixed["timeout_s"] = config.timeout if timeout is None else timeout
    options = options_for(own | fixed | ({} if extra_body is None else {"extra_body": extra_body}))
    headers, query = extras.get("extra_headers", {}), extras.get("extra_query", {})

    def member(options: Options) -> Options:
        fields = provider_fields(resolve_model(options, keys), sent, options.extra_body)
        # Extra headers may change the answer, so they are part of its key. The headers themselves are not stored.
        salt = f"{options.salt}+{digest_of(headers, query)}" if extras else options.salt
        return replace(options, extra_body=fields, salt=salt)

    def extended(spec: CallSpec) -> None:
        if extras:
            spec.target = spec.target.with_extras(headers, query)

    plan = ensemble_spec_for(
        options,
        output,
        history=asked.history,
        keys=keys,
        judging=_judge_options(config, options, keys) if len(processors) > 1 else None,
        own=member,
        reasoning=pass_reasoning,
        tolerant=True,
        calls=bool(tools),
        extended=extended,
        called_by=caller,
    )
    store = None if options.cache == "off" else store_for(options)
    # A single interactive request keeps its own time limit and retries: the engine's long waits are for long runs.
    retry_bounds = RetryBounds(total_s=options.timeout_s * (options.max_retries + 1))
    for spec in (*(member.spec for member in plan.members), *(() if plan.further is None else (plan.further,))):
        spec.retry_bounds = retry_bounds
    return plan, SingleRequestRows(asked.prompt, "text" if output is None else output.name, keys.values(), store)


def _fixed_options(config: FrameworkConfig, processors: Sequence[str]) -> dict[str, Any]:
    """Return the options that the keywords of a request do not decide, overriding the configured ones."""
    return {
        "model": processors[0],
        "models": processors,
        "samples": 1,
        "decide": "judge" if len(processors) > 1 else "vote",
        "judge": None,
        "agreement_column": None,
        "probabilities": None,
        "confidence_column": None,
        "mode": "async",
        "errors": "coerce",
        "pack": None,
        "images": None,
        "tools": None,
        "tool_choice": None,
        "parallel_tool_calls": None,
        "run_tools": False,
        "max_retries": config.max_retries,
        "progress": False,
    }


def _tools(said: dict[str, Any]) -> dict[str, Any]:
    """Remove the tool keywords from *said* and return them as options of this package."""
    tools, choice = said.pop("tools", None), said.pop("tool_choice", None)
    parallel = said.pop("parallel_tool_calls", None)
    if not tools:
        return {}
    if isinstance(choice, Mapping):  # {"type": "function", "function": {"name": …}}
        function = choice.get("function")
        choice = function.get("name") if isinstance(function, Mapping) else choice.get("name")
    given = {"tools": list(tools), "tool_choice": choice, "parallel_tool_calls": parallel}
    return {name: value for name, value in given.items() if value is not None}


def _renamed(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keywords that are options of this package under another name."""
    limits = {keywords[name] for name in ("max_tokens", "max_completion_tokens") if name in keywords}
    if len(limits) > 1:
        raise UsageError("max_tokens and max_completion_tokens are the same limit: pass only one. Nothing was sent.")
    return {ours: keywords[name] for name, ours in _RENAMED.items() if name in keywords}


def _assign_models(models: Sequence[str], config: FrameworkConfig) -> tuple[str, ...]:
    """Assign the models to the processors in turn, each model at least once."""
    return tuple(itertools.islice(itertools.cycle(models), max(config.num_processors, len(models))))


def _judge_options(config: FrameworkConfig, options: Options, keys: Mapping[str, Key]) -> dict[str, Any]:
    """Return the options of the decision maker's call."""
    model = config.decision_maker_model or _cheap(resolve_model(options, keys))
    try:
        target = resolve_model(replace(options, model=model), keys)
    except UsageError as error:
        raise DecisionMakerError(f"The decision maker cannot be asked: {error}") from error
    fixed = target.refuses_sampling({})
    return {
        "model": model,
        "system": config.decision_maker_prompt,
        "temperature": None if fixed else config.decision_maker_temperature,
    }


def _cheap(target: ResolvedModel) -> str:
    """Return the provider's current low-cost model. For a caller's own server or client, return the same model."""
    maker = target.provider.removeprefix("sim:")
    cheap = cheap_model_of(maker)
    if not cheap:
        return target.label
    return target.provider if target.simulated else f"{maker}:{cheap}"

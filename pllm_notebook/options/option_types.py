"""The types of `**options`, for type checkers. Made from the fields of `Options` by `make options`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypedDict

from pllm_notebook.events import Event
from pllm_notebook.options.run_options import CacheUse, Effort, Mode, ServiceTier, Voting

__all__ = [
    "CallOptions",
    "CallToolsOptions",
    "CompleteOptions",
    "ConfigureOptions",
    "DecideOptions",
    "FrameworkOptions",
    "ImproveOptions",
    "ParseOptions",
    "PromptListOptions",
    "RaceOptions",
    "RecheckOptions",
    "RequestOptions",
]


class RowOptions(TypedDict, total=False):
    """Options of every question about rows."""

    model: str | None
    system: str | None
    confirm: bool
    prefix: str
    replace: bool
    error_column: str | None
    na: Literal["skip", "send", "raise"]
    max_retries: int
    max_repairs: int
    max_cost_usd: float | None
    prices: Mapping[str, Any]
    concurrency: int | None
    requests_per_min: float | None
    tokens_per_min: float | None
    allow_empty: bool
    hedge: bool
    timeout_s: float
    validator_timeout_s: float
    temperature: float | None
    service_tier: ServiceTier | None
    top_p: float | None
    stop: str | Sequence[str] | None
    max_output_tokens: int | None
    extra_body: Mapping[str, Any]
    images_from: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    tool_choice: str
    parallel_tool_calls: bool | None
    progress: bool | Literal["view", "bar"]
    save_rows: bool


class ParseOptions(RowOptions, total=False):
    """Options of `df.llm.parse` and its kin."""

    mode: Mode
    wait: bool | None
    cache: CacheUse
    salt: str
    errors: Literal["coerce", "raise"]
    columns: Sequence[str] | None
    column: str
    explode: bool | str
    validation_context: str | Sequence[str] | Mapping[str, Any] | Callable[[dict[str, Any]], Any] | None
    nested: Literal["data", "model", "json"]
    flatten: bool
    pack: int | None
    samples: int
    models: Sequence[str] | None
    decide: Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None
    judge: str | None
    agreement_column: str | None
    probabilities: bool | Literal["decisions", "logprobs", "samples"] | None
    decision_model: str | None
    confidence_column: str | None
    calibration: str | Sequence[str] | None
    evidence: bool | Literal["retry"]
    guarantee: float | None
    confidence_level: float
    against: Any
    examples: Any
    example_selection: Literal["first", "diverse", "nearest"]
    max_examples: int | None
    max_example_tokens: int
    shard: tuple[int, int] | None
    tool_timeout_s: float
    effort: Effort | None
    judge_effort: Effort | None
    seed: int | None
    images: str | Sequence[str] | None
    tools: Sequence[Any] | None
    run_tools: bool
    max_turns: int


class CompleteOptions(RowOptions, total=False):
    """Options of `df.llm.complete`."""

    mode: Mode
    wait: bool | None
    cache: CacheUse
    salt: str
    errors: Literal["coerce", "raise"]
    pack: int | None
    samples: int
    models: Sequence[str] | None
    decide: Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None
    judge: str | None
    agreement_column: str | None
    examples: Any
    example_selection: Literal["first", "diverse", "nearest"]
    max_examples: int | None
    max_example_tokens: int
    tool_timeout_s: float
    effort: Effort | None
    judge_effort: Effort | None
    seed: int | None
    images: str | Sequence[str] | None
    tools: Sequence[Any] | None
    run_tools: bool
    max_turns: int


class CallToolsOptions(RowOptions, total=False):
    """Options of `df.llm.call_tools`."""

    mode: Mode
    wait: bool | None
    cache: CacheUse
    salt: str
    errors: Literal["coerce", "raise"]
    columns: Sequence[str] | None
    column: str
    explode: bool | str
    nested: Literal["data", "model", "json"]
    flatten: bool
    effort: Effort | None
    seed: int | None
    images: str | Sequence[str] | None


class DecideOptions(RowOptions, total=False):
    """Options of `df.llm.decide`."""

    mode: Mode
    wait: bool | None
    cache: CacheUse
    salt: str
    errors: Literal["coerce", "raise"]
    columns: Sequence[str] | None
    column: str
    explode: bool | str
    nested: Literal["data", "model", "json"]
    flatten: bool
    judge: str | None
    tool_timeout_s: float
    effort: Effort | None
    seed: int | None
    run_tools: bool
    max_turns: int


class LabOptions(RowOptions, total=False):
    """Options of the methods of the lab."""

    columns: Sequence[str] | None
    column: str
    validation_context: str | Sequence[str] | Mapping[str, Any] | Callable[[dict[str, Any]], Any] | None
    nested: Literal["data", "model", "json"]
    flatten: bool
    pack: int | None
    decide: Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None
    judge: str | None
    agreement_column: str | None
    probabilities: bool | Literal["decisions", "logprobs", "samples"] | None
    decision_model: str | None
    confidence_column: str | None
    calibration: str | Sequence[str] | None
    evidence: bool | Literal["retry"]
    examples: Any
    example_selection: Literal["first", "diverse", "nearest"]
    max_examples: int | None
    max_example_tokens: int
    tool_timeout_s: float
    judge_effort: Effort | None
    images: str | Sequence[str] | None
    tools: Sequence[Any] | None
    run_tools: bool
    max_turns: int


class RaceOptions(LabOptions, total=False):
    """Options of `df.llm.race`, for all arms."""

    salt: str
    samples: int
    seed: int | None


class ImproveOptions(LabOptions, total=False):
    """Options of `df.llm.improve`, in place of those of the run."""

    salt: str
    effort: Effort | None


class RecheckOptions(LabOptions, total=False):
    """Options of `df.llm.recheck`, in place of those of the run."""

    mode: Mode
    cache: CacheUse
    errors: Literal["coerce", "raise"]
    effort: Effort | None
    seed: int | None


class PromptListOptions(TypedDict, total=False):
    """Options of `ParallelAIUtilities`."""

    mode: Mode
    confirm: bool
    cache: CacheUse
    salt: str
    errors: Literal["coerce", "raise"]
    max_retries: int
    max_repairs: int
    max_cost_usd: float | None
    prices: Mapping[str, Any]
    concurrency: int | None
    allow_empty: bool
    hedge: bool
    timeout_s: float
    effort: Effort | None
    service_tier: ServiceTier | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    extra_body: Mapping[str, Any]
    tool_choice: str
    parallel_tool_calls: bool | None
    run_tools: bool
    max_turns: int
    progress: bool | Literal["view", "bar"]
    save_rows: bool


class CallOptions(TypedDict, total=False):
    """Options of one call of a program, `agent.ask_llm`."""

    max_retries: int
    max_repairs: int
    allow_empty: bool
    timeout_s: float
    temperature: float | None
    effort: Effort | None
    max_output_tokens: int | None
    extra_body: Mapping[str, Any]
    tool_choice: str
    parallel_tool_calls: bool | None
    run_tools: bool
    max_turns: int


class RequestOptions(TypedDict, total=False):
    """Options of one request of `ParallelLLM`."""

    cache: CacheUse
    salt: str
    max_cost_usd: float | None


class ConfigureOptions(TypedDict, total=False):
    """Values of `configure`; None removes one."""

    model: str | None
    system: str | None
    mode: Mode | None
    confirm: bool | None
    wait: bool | None
    cache: CacheUse | None
    salt: str | None
    errors: Literal["coerce", "raise"] | None
    prefix: str | None
    replace: bool | None
    error_column: str | None
    na: Literal["skip", "send", "raise"] | None
    columns: Sequence[str] | None
    column: str | None
    explode: bool | str | None
    validation_context: str | Sequence[str] | Mapping[str, Any] | Callable[[dict[str, Any]], Any] | None
    nested: Literal["data", "model", "json"] | None
    flatten: bool | None
    pack: int | None
    samples: int | None
    models: Sequence[str] | None
    decide: Literal["vote", "judge", "escalate"] | Voting | Callable[..., Any] | None
    judge: str | None
    agreement_column: str | None
    probabilities: bool | Literal["decisions", "logprobs", "samples"] | None
    decision_model: str | None
    confidence_column: str | None
    calibration: str | Sequence[str] | None
    evidence: bool | Literal["retry"] | None
    guarantee: float | None
    confidence_level: float | None
    against: Any | None
    examples: Any | None
    example_selection: Literal["first", "diverse", "nearest"] | None
    max_examples: int | None
    max_example_tokens: int | None
    max_retries: int | None
    max_repairs: int | None
    max_cost_usd: float | None
    prices: Mapping[str, Any] | None
    concurrency: int | None
    requests_per_min: float | None
    tokens_per_min: float | None
    shard: tuple[int, int] | None
    allow_empty: bool | None
    hedge: bool | None
    timeout_s: float | None
    validator_timeout_s: float | None
    tool_timeout_s: float | None
    temperature: float | None
    effort: Effort | None
    judge_effort: Effort | None
    service_tier: ServiceTier | None
    top_p: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    max_output_tokens: int | None
    extra_body: Mapping[str, Any] | None
    images: str | Sequence[str] | None
    images_from: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None
    tools: Sequence[Any] | None
    tool_choice: str | None
    parallel_tool_calls: bool | None
    run_tools: bool | None
    max_turns: int | None
    progress: bool | Literal["view", "bar"] | None
    save_rows: bool | None
    cache_dir: str | os.PathLike[str] | None
    cache_share: str | os.PathLike[str] | None
    servers: Mapping[str, str] | None
    clients: Mapping[str, Any] | None
    decision_formats: Mapping[str, str] | None
    sim: Mapping[str, Any] | None
    loop: Literal["private", "notebook"] | None
    poll: bool | None
    on_event: Callable[[Event], object] | Sequence[Callable[[Event], object]] | None


class FrameworkOptions(TypedDict, total=False):
    """Settings of `ParallelLLM`."""

    num_processors: int
    timeout: float
    max_retries: int
    decision_maker_model: str | None
    decision_maker_temperature: float
    decision_maker_prompt: str
    enable_logging: bool
    log_level: str

r"""Ask a language model the same question of every row of a dataframe, from a notebook.

    import pllm_notebook as pllm
    out = df.llm.parse(Review, "Read this review:\n{text}", model="openai:gpt-6-luna")

Importing this package registers `df.llm` and `series.llm` for pandas and Polars without loading either library. The
engine and Pydantic are loaded on first use, a provider's SDK on the first call, and the widget library with the first
display.
`%load_ext pllm_notebook` adds `%%pllm` and `%pllm`.
"""

from __future__ import annotations

import importlib
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from pllm_notebook import display_registry, lab_registry, redaction
from pllm_notebook import frames as _accessors  # importing it registers df.llm
from pllm_notebook.exceptions import PllmError
from pllm_notebook.options import check_with
from pllm_notebook.request_errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    DecisionMakerError,
    FailedProcessor,
    LLMTimeoutError,
    LLMValidationError,
    ModelError,
    ParallelLLMError,
    ProcessingError,
    RateLimitError,
)

if TYPE_CHECKING:
    from pllm_notebook.ensemble import DECISION_MAKER_PROMPT, Vote
    from pllm_notebook.ensemble.completion_types import Choice, ParallelCompletion, ParsedMessage
    from pllm_notebook.ensemble.error_conversion import get_error_info, handle_openai_error, is_retryable_error
    from pllm_notebook.ensemble.framework_config import (
        ConfigurationManager,
        FrameworkConfig,
        create_default_config,
        create_development_config,
        create_performance_config,
        create_robust_config,
    )
    from pllm_notebook.ensemble.parallel_llm import (
        ParallelBeta,
        ParallelChat,
        ParallelCompletionInterface,
        ParallelLLM,
        create_framework,
    )
    from pllm_notebook.execution import Run
    from pllm_notebook.frames.any_frame import aparse, estimate, frame, parse, preview, submit
    from pllm_notebook.frames.example_pool import example_roles
    from pllm_notebook.frames.label_table import labels
    from pllm_notebook.frames.past_work import errors, import_results, jobs, run
    from pllm_notebook.frames.runs import runs
    from pllm_notebook.lab import acompare, compare, open_bundle
    from pllm_notebook.prompt_lists.llm_config import LLMConfig, RequestLimits
    from pllm_notebook.prompt_lists.llm_output import LLMOutput
    from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
    from pllm_notebook.prompt_lists.provider_messages import msg_dict_to_anthropic, msg_dict_to_google, msg_dict_to_oai
    from pllm_notebook.prompt_lists.utilities import ParallelAIUtilities
    from pllm_notebook.request_files.parse_results import parse_results_file
    from pllm_notebook.request_files.prepare_requests import prepare_requests_file
    from pllm_notebook.request_files.process_file import (
        OAIApiFromFileConfig,
        process_api_requests_from_file,
        process_api_requests_from_file_sync,
    )
    from pllm_notebook.sessions import Agent as AgentContext
    from pllm_notebook.sessions import (
        ErrorResponse,
        LLMIdentity,
        LLMResponse,
        MessageState,
        MinorTweaks,
        Throttler,
        resume_directory,
        to_tool_schema,
    )
    from pllm_notebook.sessions import Session as AgentOrchestrator
    from pllm_notebook.settings import configure
    from pllm_notebook.store.cache_api import cache
    from pllm_notebook.streams import aparse_batches, open_dataset, parse_batches, parse_dataset
    from pllm_notebook.tools import CalledTool as FunctionCall
    from pllm_notebook.tools import StructuredTool, ToolCallOutput
    from pllm_notebook.tools import ToolCallOutput as FunctionCallOutput

__all__ = [  # noqa: RUF022  # in plain order: a constant among the classes has no other place
    "APIError",
    "AgentContext",
    "AgentOrchestrator",
    "AuthenticationError",
    "Choice",
    "ConfigurationError",
    "ConfigurationManager",
    "DECISION_MAKER_PROMPT",
    "DecisionMakerError",
    "ErrorResponse",
    "FailedProcessor",
    "FrameworkConfig",
    "FunctionCall",
    "FunctionCallOutput",
    "LLMConfig",
    "LLMIdentity",
    "LLMOutput",
    "LLMPromptContext",
    "LLMResponse",
    "LLMTimeoutError",
    "LLMValidationError",
    "MessageState",
    "MinorTweaks",
    "ModelError",
    "OAIApiFromFileConfig",
    "ParallelAIUtilities",
    "ParallelBeta",
    "ParallelChat",
    "ParallelCompletion",
    "ParallelCompletionInterface",
    "ParallelLLM",
    "ParallelLLMError",
    "ParsedMessage",
    "PllmError",
    "ProcessingError",
    "RateLimitError",
    "RequestLimits",
    "Run",
    "StructuredTool",
    "Throttler",
    "ToolCallOutput",
    "Vote",
    "acompare",
    "aparse",
    "aparse_batches",
    "cache",
    "compare",
    "configure",
    "create_default_config",
    "create_development_config",
    "create_framework",
    "create_performance_config",
    "create_robust_config",
    "errors",
    "estimate",
    "example_roles",
    "frame",
    "get_error_info",
    "handle_openai_error",
    "import_results",
    "is_retryable_error",
    "jobs",
    "labels",
    "load_ipython_extension",
    "msg_dict_to_anthropic",
    "msg_dict_to_google",
    "msg_dict_to_oai",
    "open_bundle",
    "open_dataset",
    "parse",
    "parse_batches",
    "parse_dataset",
    "parse_results_file",
    "prepare_requests_file",
    "preview",
    "process_api_requests_from_file",
    "process_api_requests_from_file_sync",
    "resume_directory",
    "run",
    "runs",
    "submit",
    "to_tool_schema",
    "unload_ipython_extension",
]
__version__ = "0.2.0"

# Aliases, not in `__all__`: a star import must not shadow Python's TimeoutError or Pydantic's ValidationError.
TimeoutError = LLMTimeoutError  # noqa: A001
ValidationError = LLMValidationError

# Public names and the module that each is loaded from on first use; after a colon, its name there if it differs.
_HOMES = {
    "AgentContext": "pllm_notebook.sessions:Agent",
    "AgentOrchestrator": "pllm_notebook.sessions:Session",
    "Choice": "pllm_notebook.ensemble.completion_types",
    "ConfigurationManager": "pllm_notebook.ensemble.framework_config",
    "DECISION_MAKER_PROMPT": "pllm_notebook.ensemble",
    "ErrorResponse": "pllm_notebook.sessions",
    "FrameworkConfig": "pllm_notebook.ensemble.framework_config",
    "FunctionCall": "pllm_notebook.tools:CalledTool",
    "FunctionCallOutput": "pllm_notebook.tools:ToolCallOutput",
    "LLMConfig": "pllm_notebook.prompt_lists.llm_config",
    "LLMIdentity": "pllm_notebook.sessions",
    "LLMOutput": "pllm_notebook.prompt_lists.llm_output",
    "LLMPromptContext": "pllm_notebook.prompt_lists.prompt_context",
    "LLMResponse": "pllm_notebook.sessions",
    "MessageState": "pllm_notebook.sessions",
    "MinorTweaks": "pllm_notebook.sessions",
    "OAIApiFromFileConfig": "pllm_notebook.request_files.process_file",
    "ParallelAIUtilities": "pllm_notebook.prompt_lists.utilities",
    "ParallelBeta": "pllm_notebook.ensemble.parallel_llm",
    "ParallelChat": "pllm_notebook.ensemble.parallel_llm",
    "ParallelCompletion": "pllm_notebook.ensemble.completion_types",
    "ParallelCompletionInterface": "pllm_notebook.ensemble.parallel_llm",
    "ParallelLLM": "pllm_notebook.ensemble.parallel_llm",
    "ParsedMessage": "pllm_notebook.ensemble.completion_types",
    "RequestLimits": "pllm_notebook.prompt_lists.llm_config",
    "Run": "pllm_notebook.execution",
    "StructuredTool": "pllm_notebook.tools",
    "Throttler": "pllm_notebook.sessions",
    "ToolCallOutput": "pllm_notebook.tools",
    "Vote": "pllm_notebook.ensemble",
    "acompare": "pllm_notebook.lab",
    "aparse": "pllm_notebook.frames.any_frame",
    "aparse_batches": "pllm_notebook.streams",
    "cache": "pllm_notebook.store.cache_api",
    "compare": "pllm_notebook.lab",
    "configure": "pllm_notebook.settings",
    "create_default_config": "pllm_notebook.ensemble.framework_config",
    "create_development_config": "pllm_notebook.ensemble.framework_config",
    "create_framework": "pllm_notebook.ensemble.parallel_llm",
    "create_performance_config": "pllm_notebook.ensemble.framework_config",
    "create_robust_config": "pllm_notebook.ensemble.framework_config",
    "errors": "pllm_notebook.frames.past_work",
    "estimate": "pllm_notebook.frames.any_frame",
    "example_roles": "pllm_notebook.frames.example_pool",
    "frame": "pllm_notebook.frames.any_frame",
    "get_error_info": "pllm_notebook.ensemble.error_conversion",
    "handle_openai_error": "pllm_notebook.ensemble.error_conversion",
    "import_results": "pllm_notebook.frames.past_work",
    "is_retryable_error": "pllm_notebook.ensemble.error_conversion",
    "jobs": "pllm_notebook.frames.past_work",
    "labels": "pllm_notebook.frames.label_table",
    "msg_dict_to_anthropic": "pllm_notebook.prompt_lists.provider_messages",
    "msg_dict_to_google": "pllm_notebook.prompt_lists.provider_messages",
    "msg_dict_to_oai": "pllm_notebook.prompt_lists.provider_messages",
    "open_bundle": "pllm_notebook.lab",
    "open_dataset": "pllm_notebook.streams",
    "parse": "pllm_notebook.frames.any_frame",
    "parse_batches": "pllm_notebook.streams",
    "parse_dataset": "pllm_notebook.streams",
    "parse_results_file": "pllm_notebook.request_files.parse_results",
    "prepare_requests_file": "pllm_notebook.request_files.prepare_requests",
    "preview": "pllm_notebook.frames.any_frame",
    "process_api_requests_from_file": "pllm_notebook.request_files.process_file",
    "process_api_requests_from_file_sync": "pllm_notebook.request_files.process_file",
    "resume_directory": "pllm_notebook.sessions",
    "run": "pllm_notebook.frames.past_work",
    "runs": "pllm_notebook.frames.runs",
    "submit": "pllm_notebook.frames.any_frame",
    "to_tool_schema": "pllm_notebook.sessions",
}

if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name == "testing":  # a module, which `import pllm_notebook` alone does not load
            return importlib.import_module("pllm_notebook.testing")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home, _, there = _HOMES[name].partition(":")
        value = globals()[name] = getattr(importlib.import_module(home), there or name)
        return value

    def __dir__() -> list[str]:
        """List the public names, so that Tab does not show submodules that happen to be loaded."""
        return sorted({*__all__, "testing", *(name for name in globals() if name.startswith("__"))})


def load_ipython_extension(shell: Any) -> None:
    """Add the magics (`%load_ext pllm_notebook`)."""
    from pllm_notebook.notebook import magics

    magics.load(shell)
    lost = _accessors.lost_accessors()
    if lost:
        warnings.warn(lost, stacklevel=2)


def unload_ipython_extension(shell: Any) -> None:
    """Remove the magics (`%unload_ext pllm_notebook`)."""
    from pllm_notebook.notebook import magics

    magics.unload(shell)


def _shown(what: str, *args: Any) -> Any:
    """Call a function of `notebook.display_choice`, which is imported on first use."""
    from pllm_notebook.notebook import display_choice

    return getattr(display_choice, what)(*args)


def _check_sim(values: Any) -> None:
    from pllm_notebook.sim.simulator_options import check_options

    check_options(values)


def _check_accounts(name: str, values: Any) -> None:
    from pllm_notebook.providers import check_accounts

    check_accounts(**{name: values})


def _check_place(name: str, value: Any) -> None:
    from pllm_notebook.store import refuse_file, refuse_share

    {"cache_dir": refuse_file, "cache_share": refuse_share}[name](value)


check_with("sim", _check_sim)
for _name in ("servers", "clients", "decision_formats"):
    check_with(_name, partial(_check_accounts, _name))
for _name in ("cache_dir", "cache_share"):
    check_with(_name, partial(_check_place, _name))
display_registry.register_display(partial(_shown, "choose_display"))
display_registry.register_session_display(partial(_shown, "choose_session_display"))
display_registry.register_cell_view(partial(_shown, "show_in_kernel"))
lab_registry.register_lab(partial(importlib.import_module, "pllm_notebook.lab"))
redaction.install_log_filter("pllm_notebook", "pllm_notebook.store")

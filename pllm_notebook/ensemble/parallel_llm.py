"""A drop-in for `parse` of OpenAI's client that asks several processors and decides on one answer.

A request is a run of one row, with the same engine, store, limits and retries as the rows of a frame. Cached answers
are not requested again, and each sample has its own cache entry.
"""

from __future__ import annotations

import logging
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from pllm_notebook.callers import Caller, caller
from pllm_notebook.credentials import Key
from pllm_notebook.ensemble.completion import SingleRequestRows, ensemble_of
from pllm_notebook.ensemble.error_conversion import as_request_errors
from pllm_notebook.ensemble.framework_config import (
    ConfigurationManager,
    FrameworkConfig,
    changed,
    create_default_config,
)
from pllm_notebook.ensemble.framework_log import show_log, write_log
from pllm_notebook.ensemble.openai_request import RequestKeywords, request_for
from pllm_notebook.ensemble.spec import submit
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import LiveRun
from pllm_notebook.options import FrameworkOptions, Options, fields_of, taken_by
from pllm_notebook.request_errors import ConfigurationError, ProcessingError
from pllm_notebook.signatures import shows

if TYPE_CHECKING:
    from pllm_notebook.ensemble.completion_types import ParallelCompletion

__all__ = ["ParallelBeta", "ParallelChat", "ParallelCompletionInterface", "ParallelLLM", "create_framework"]

_DECIDED = {
    "only": "the one answer that came",
    "agreed": "all are equal, no decision maker was asked",
    "judge": "the decision maker",
    "fallback": "the majority, since the decision maker failed",
}


class ParseRequest(NamedTuple):
    """The arguments of one request.

    Attributes:
        caller: The line of code that made the request.
        model: See `ParallelLLM.parse`.
        messages: See `ParallelLLM.parse`.
        response_format: See `ParallelLLM.parse`.
        pass_reasoning: See `ParallelLLM.parse`.
        keywords: See `ParallelLLM.parse`.
    """

    caller: Caller
    model: str | None
    messages: Iterable[Any] | None
    response_format: Any
    pass_reasoning: bool
    keywords: Mapping[str, Any]


class AnsweredRequest(NamedTuple):
    """The answer to a request.

    Attributes:
        value: The answer.
        run: The run of the request, whose result is the completion.
    """

    value: Any
    run: LiveRun


class ParallelLLM:
    """Ask several processors the same question concurrently and return one decided answer.

        framework = ParallelLLM()
        review = await framework.parse(model="openai:gpt-6-luna", messages=[…], response_format=Review)
        completion = await framework.chat.completions.parse(model=…, messages=[…], response_format=Review)

    A processor may fail as long as another one succeeds. If all answers are equal, or only one arrived, it is
    returned. Otherwise a decision maker chooses; it sees the answers in shuffled order and without model names. If the
    decision maker fails, the majority's answer is returned, with a warning.

    Args:
        api_key: API key of the provider of each request's `model`. None to read it from the environment, as the keys
            of other providers are. It never appears in a representation or an error.
        config: The settings. None for the defaults.

    Raises:
        ConfigurationError: If the key is empty or not a string, or the config is not a `FrameworkConfig`. Nothing was
            sent.

    Attributes:
        config_manager: The current settings.
        chat: `chat.completions.parse(…)`, as in OpenAI's client.
        beta: `beta.chat.completions.parse(…)`, its former place in that client.
    """

    def __init__(self, api_key: str | Key | None = None, config: FrameworkConfig | None = None) -> None:
        # The plain string is dropped, because tracebacks with variables would show it.
        api_key = Key(api_key) if isinstance(api_key, str) else api_key
        if api_key is not None and not isinstance(api_key, Key):
            # Only the type is named: the value may be a key.
            raise ConfigurationError(
                f"api_key is a string, not {type(api_key).__name__}; pass settings as config=. Nothing was sent."
            )
        self._api_key = api_key
        if self._api_key is not None and not self._api_key.reveal():
            raise ConfigurationError("api_key is empty: pass a key, or None for the environment's. Nothing was sent.")
        if config is not None and not isinstance(config, FrameworkConfig):
            raise ConfigurationError(
                f"config is a FrameworkConfig, not {type(config).__name__}; use create_framework(…) for single "
                f"settings. Nothing was sent."
            )
        self.config_manager = ConfigurationManager(config)
        self.chat = ParallelChat(self)
        self.beta = ParallelBeta(self.chat)
        self._show_log()

    def __repr__(self) -> str:
        config = self.config
        return f"<ParallelLLM of {config.num_processors} processors, {config.timeout:g} s each>"

    @shows(taken_by(Options, "request"), also=RequestKeywords)
    def parse(
        self,
        model: str | None = None,
        messages: Iterable[Any] | None = None,
        response_format: Any = None,
        pass_reasoning: bool = False,
        **keywords: Unpack[RequestKeywords],
    ) -> Coroutine[Any, Any, Any]:
        """Return a coroutine of the answer itself, an instance of *response_format*.

        Sends the request and pays for it, except for cached answers.

        Args:
            model: `provider:name`, or a bare name that identifies its provider. None for the configured model.
            messages: Messages with the roles system, developer, user, assistant and tool, as mappings or as the
                client's own objects. Content, including images and documents, may be in OpenAI's, Anthropic's or
                Google's format. The last message is the user's or a tool result.
            response_format: A Pydantic model or any type that Pydantic can validate. None for plain text.
            pass_reasoning: Whether each sample writes its reasoning before its answer. The decision maker sees the
                reasoning; the result does not include it.
            **keywords: The keywords of OpenAI's client (temperature, max_tokens, top_p, stop, seed, reasoning_effort,
                timeout in seconds, extra_body, extra_headers, extra_query, logprobs, tools, tool_choice,
                parallel_tool_calls, …), with that client's names for every provider. In addition:

                - models: Several models instead of *model*. The processors take them in turn, each at least once.
                - cache, salt, max_cost_usd: See `df.llm.parse`.

        Returns:
            The answer, or its text without a format. If most processors called *tools*, a `tools.Called` with the
            calls that most of them made, which have not been run.

        Raises:
            ProcessingError: If every processor failed, with the cause of each, or if the request was stopped.
            LLMValidationError: If the request is invalid, for example with a keyword that has no equivalent at the
                provider. It is also a `UsageError`. Nothing was sent.
        """
        return self._value(ParseRequest(caller(), model, messages, response_format, pass_reasoning, keywords))

    @shows(taken_by(Options, "request"), also=RequestKeywords)
    def parse_sync(
        self,
        model: str | None = None,
        messages: Iterable[Any] | None = None,
        response_format: Any = None,
        pass_reasoning: bool = False,
        **keywords: Unpack[RequestKeywords],
    ) -> Any:
        """Run `parse` without await, for a cell or script. An interrupt cancels the request."""
        return self._waited(ParseRequest(caller(), model, messages, response_format, pass_reasoning, keywords)).value

    @shows(fields_of(FrameworkConfig))
    def update_config(self, **values: Unpack[FrameworkOptions]) -> FrameworkConfig:
        """Change settings, starting with the next request.

        Args:
            **values: Settings.

        Raises:
            ConfigurationError: For an unknown setting or a value out of range. Nothing is changed.
        """
        self.config_manager.update_config(**values)
        self._show_log()
        return self.config

    @property
    def config(self) -> FrameworkConfig:
        """The current settings."""
        return self.config_manager.config

    def get_config(self) -> FrameworkConfig:
        """Return the current settings."""
        return self.config

    def get_config_summary(self) -> dict[str, Any]:
        """Return the current settings as plain values, and whether an API key was passed."""
        return self.config.summary() | {"api_key": "environment" if self._api_key is None else "given"}

    def _show_log(self) -> None:
        if self.config.enable_logging:
            show_log()

    async def _value(self, request: ParseRequest) -> Any:
        return (await self._awaited(request)).value

    async def _awaited(self, request: ParseRequest) -> AnsweredRequest:
        with as_request_errors():
            run = self._start(request)
            await run.until_ended()
            return self._answer(run, request.caller)

    def _waited(self, request: ParseRequest) -> AnsweredRequest:
        with as_request_errors():
            run = self._start(request)
            run.wait()
            return self._answer(run, request.caller)

    def _start(self, request: ParseRequest) -> LiveRun:
        rest = dict(request.keywords)
        models: Sequence[str] | None = rest.pop("models", None)
        plan, rows = request_for(
            self.config,
            self._api_key,
            messages=request.messages,
            response_format=request.response_format,
            model=request.model,
            models=models,
            pass_reasoning=bool(request.pass_reasoning),
            timeout=rest.pop("timeout", None),
            extra_body=rest.pop("extra_body", None),
            keywords=rest,
            caller=request.caller,
        )
        return submit(plan, rows)

    def _answer(self, run: LiveRun, caller: Caller) -> AnsweredRequest:
        """Return the answer of a run that has ended, or raise the reason why there is none."""
        ensemble, rows = ensemble_of(run), run.rows
        assert isinstance(rows, SingleRequestRows)
        if run.execution.error is not None or run.state == "cancelled":
            run.result()  # raises
        outcome = run.table.outcome(0)
        if outcome is None:
            unsent = run.table.failure(0)
            raise UsageError("Nothing was sent." if unsent is None else unsent.message)
        failed = rows.errors(run)
        decision = ensemble.decisions[0]
        count = len(ensemble.plan.members)
        write_log(
            self.config,
            logging.INFO,
            "%d of %d processors answered; decided by: %s",
            count - len(failed),
            count,
            _DECIDED.get(decision.how, "nothing"),
        )
        for one in failed:
            write_log(self.config, logging.WARNING, "%s failed: %s", one.model, one.kind)
        if outcome.failure is not None:
            raise ProcessingError.of(failed) from failed[0].cause
        if decision.judge_error:
            failed_judge = "The decision maker failed; the majority's answer is returned"
            write_log(self.config, logging.WARNING, "%s", failed_judge)
            caller.warn(f"{failed_judge}. {rows.hidden(decision.judge_error)}")
        if run.execution.unsaved:
            caller.warn(f"{run.execution.unsaved} answers could not be saved to the cache.")
        return AnsweredRequest(outcome.value, run)


class ParallelCompletionInterface:
    """`parse` as in OpenAI's client, which returns the whole completion."""

    def __init__(self, framework: ParallelLLM) -> None:
        self._framework = framework

    @shows(taken_by(Options, "request"), also=RequestKeywords)
    def parse(
        self,
        model: str | None = None,
        messages: Iterable[Any] | None = None,
        response_format: Any = None,
        pass_reasoning: bool = False,
        **keywords: Unpack[RequestKeywords],
    ) -> Coroutine[Any, Any, ParallelCompletion]:
        """Return a coroutine of the completion: the answer in `choices[0].message.parsed`, its text in `.content`.

        The completion is OpenAI's `ParsedChatCompletion`. `id`, `model` and `created` are those of the chosen reply, or
        of the decision maker's reply if it wrote the answer itself. `logprobs`, if requested, are those of the chosen
        reply, and None if the decision maker wrote the answer. If most processors called tools, the calls are in
        `message.tool_calls`. `usage` is the sum over all replies involved: samples, repairs and decision, whether paid
        for now or cached. It is None if a server counts no tokens.

        Args:
            model: See `ParallelLLM.parse`.
            messages: See `ParallelLLM.parse`.
            response_format: See `ParallelLLM.parse`.
            pass_reasoning: See `ParallelLLM.parse`.
            **keywords: See `ParallelLLM.parse`.

        Raises:
            ProcessingError: If every processor failed or refused, with the cause of each.
            LLMValidationError: If the request is invalid. Nothing was sent.
        """
        return self._completion(ParseRequest(caller(), model, messages, response_format, pass_reasoning, keywords))

    @shows(taken_by(Options, "request"), also=RequestKeywords)
    def parse_sync(
        self,
        model: str | None = None,
        messages: Iterable[Any] | None = None,
        response_format: Any = None,
        pass_reasoning: bool = False,
        **keywords: Unpack[RequestKeywords],
    ) -> ParallelCompletion:
        """Run `parse` without await."""
        request = ParseRequest(caller(), model, messages, response_format, pass_reasoning, keywords)
        completion: ParallelCompletion = self._framework._waited(request).run.to_frame()
        return completion

    async def _completion(self, request: ParseRequest) -> ParallelCompletion:
        completion: ParallelCompletion = (await self._framework._awaited(request)).run.to_frame()
        return completion


class ParallelChat:
    """The namespace `chat` of OpenAI's client."""

    def __init__(self, framework: ParallelLLM) -> None:
        self.completions = ParallelCompletionInterface(framework)


class ParallelBeta:
    """The namespace `beta` of OpenAI's client."""

    def __init__(self, chat: ParallelChat) -> None:
        self.chat = chat


@shows(fields_of(FrameworkConfig))
def create_framework(api_key: str | None = None, **config: Unpack[FrameworkOptions]) -> ParallelLLM:
    """Build a `ParallelLLM` with some settings changed from the defaults.

    Args:
        api_key: See `ParallelLLM`.
        **config: Settings.

    Raises:
        ConfigurationError: For an unknown setting or a value out of range. Nothing was sent.
    """
    # Some tracebacks for a refused setting show this function's variables: none may hold the key by then.
    key, api_key = None if api_key is None else Key(api_key), None
    return ParallelLLM(key, changed(create_default_config(), config))

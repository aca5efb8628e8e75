"""The drop-in for one request: `parse` as OpenAI's client has it, answered several times and decided.

A request is a run of one row, through the same engine, store, limits and retries as the rows of a frame: nothing
is asked again that is in the cache, and each sample is an entry of its own.
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
    """One request as it was made.

    Attributes:
        caller: The line that made it.
        model: As for `ParallelLLM.parse`.
        messages: Likewise.
        response_format: Likewise.
        pass_reasoning: Likewise.
        keywords: Likewise.
    """

    caller: Caller
    model: str | None
    messages: Iterable[Any] | None
    response_format: Any
    pass_reasoning: bool
    keywords: Mapping[str, Any]


class AnsweredRequest(NamedTuple):
    """A request that has an answer.

    Attributes:
        value: The answer.
        run: Its run, which has the completion.
    """

    value: Any
    run: LiveRun


class ParallelLLM:
    """Ask several processors one question at once, and give the one answer that is decided on.

        framework = ParallelLLM()
        review = await framework.parse(model="openai:gpt-6-luna", messages=[…], response_format=Review)
        completion = await framework.chat.completions.parse(model=…, messages=[…], response_format=Review)

    One processor's failure is tolerated while another succeeds. Where the answers that came are equal, or there is
    one, no decision maker is asked; else it is, and sees them in shuffled order and without names. Where
    that fails, the majority's answer is returned, with a warning.

    Args:
        api_key: For the provider of each request's `model`; other providers' keys, and this one where it is None,
            are taken from the environment. It is in no representation and no error.
        config: None for the defaults.

    Raises:
        ConfigurationError: For a key that is empty or no text, or a config that is none. Nothing was sent.

    Attributes:
        config_manager: The settings in force.
        chat: `chat.completions.parse(…)`, as in OpenAI's client.
        beta: `beta.chat.completions.parse(…)`, where that client had it before.
    """

    def __init__(self, api_key: str | Key | None = None, config: FrameworkConfig | None = None) -> None:
        # The argument itself is let go of: tracebacks with variables show it.
        api_key = Key(api_key) if isinstance(api_key, str) else api_key
        if api_key is not None and not isinstance(api_key, Key):
            # Only its type is named: what is given here may be a key.
            raise ConfigurationError(
                f"api_key is a text, not {type(api_key).__name__}; settings go into config=. Nothing was sent."
            )
        self._api_key = api_key
        if self._api_key is not None and not self._api_key.reveal():
            raise ConfigurationError("api_key is empty: give a key, or None for the environment's. Nothing was sent.")
        if config is not None and not isinstance(config, FrameworkConfig):
            raise ConfigurationError(
                f"config is a FrameworkConfig, not {type(config).__name__}; create_framework(…) takes single settings. "
                f"Nothing was sent."
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
        """Return, awaited, the answer itself, as an instance of *response_format*.

        Sends and pays, but for what is in the cache.

        Args:
            model: `provider:name`, or a bare name whose provider shows. None for the configured model.
            messages: Of roles system, developer, user, assistant and tool, as mappings or as the client's own objects,
                in OpenAI's, Anthropic's or Google's words, images and documents among them. The last is the user's,
                or the result of a tool.
            response_format: A Pydantic model or any type that Pydantic can validate. None for plain text.
            pass_reasoning: Whether a sample writes down its reasoning before it answers. The decision maker sees it,
                the result does not have it.
            **keywords: What OpenAI's client takes (temperature, max_tokens, top_p, stop, seed, reasoning_effort,
                timeout in seconds, extra_body, extra_headers, extra_query, logprobs, tools, tool_choice,
                parallel_tool_calls, …), in that client's words for every provider; and

                - models: Several models in place of *model*: the processors take them in turn, each at least once.
                - cache, salt, max_cost_usd: As for `df.llm.parse`.

        Returns:
            The answer, or its text where there is no format. Where *tools* were offered and most processors called
            some, `tools.Called`: the calls that most of them made, which have not been run.

        Raises:
            ProcessingError: When every processor failed, with the cause of each; when the request was stopped.
            LLMValidationError: When it cannot be asked as written, such as for a keyword that the provider has no
                equal of. It is a `UsageError` too. Nothing was sent.
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
        """Return what `parse` does, without await: for a cell or script. An interrupt cancels the request."""
        return self._waited(ParseRequest(caller(), model, messages, response_format, pass_reasoning, keywords)).value

    @shows(fields_of(FrameworkConfig))
    def update_config(self, **values: Unpack[FrameworkOptions]) -> FrameworkConfig:
        """Change settings, from the next request on.

        Args:
            **values: Settings.

        Raises:
            ConfigurationError: For a name that is no setting, or a value outside its range; nothing is changed then.
        """
        self.config_manager.update_config(**values)
        self._show_log()
        return self.config

    @property
    def config(self) -> FrameworkConfig:
        """The settings in force."""
        return self.config_manager.config

    def get_config(self) -> FrameworkConfig:
        """Return the settings in force."""
        return self.config

    def get_config_summary(self) -> dict[str, Any]:
        """Return the settings in force as plain values, and whether there is a key of this framework's own."""
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
        """Return the answer of a run that has ended, or raise what kept it from having one."""
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
            failed_judge = "The decision maker failed, and the majority's answer is returned"
            write_log(self.config, logging.WARNING, "%s", failed_judge)
            caller.warn(f"{failed_judge}. {rows.hidden(decision.judge_error)}")
        if run.execution.unsaved:
            caller.warn(f"{run.execution.unsaved} answers could not be saved to the cache.")
        return AnsweredRequest(outcome.value, run)


class ParallelCompletionInterface:
    """`parse` as OpenAI's client has it, returning the whole completion."""

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
        """Return, awaited, the completion: the answer in `choices[0].message.parsed`, its text in `.content`.

        It is OpenAI's own `ParsedChatCompletion`. `id`, `model` and `created` are of the reply that was chosen, or of
        the decision maker's where it wrote the answer itself; `logprobs`, where they were asked for, of the chosen
        reply, and None where the decision maker wrote the answer. Where most processors called tools, these are
        `message.tool_calls`. `usage` is the sum over all replies that led to it, samples, repairs and decision,
        whether they were paid for now or are from the cache; None where a server counts no tokens.

        Args:
            model: As for `ParallelLLM.parse`.
            messages: Likewise.
            response_format: Likewise.
            pass_reasoning: Likewise.
            **keywords: Likewise.

        Raises:
            ProcessingError: When every processor failed, refusals included, with the cause of each.
            LLMValidationError: When it cannot be asked as written. Nothing was sent.
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
        """Return what `parse` does, without await."""
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
    """Make a `ParallelLLM` with some settings other than the defaults.

    Args:
        api_key: As for `ParallelLLM`.
        **config: Settings.

    Raises:
        ConfigurationError: For a name that is no setting, or a value outside its range. Nothing was sent.
    """
    # A refused setting is shown with this function's variables in some tracebacks: none may hold the key by then.
    key, api_key = None if api_key is None else Key(api_key), None
    return ParallelLLM(key, changed(create_default_config(), config))

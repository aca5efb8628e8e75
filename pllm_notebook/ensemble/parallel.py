"""The drop-in for one request: `parse` as OpenAI's client has it, answered several times and decided.

A request is a run of one row, through the same engine, store, limits and retries as the rows of a frame: nothing
is asked again that is in the cache, and each sample is an entry of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pllm_notebook.credentials import Key
from pllm_notebook.ensemble.asking import request_for
from pllm_notebook.ensemble.completions import OneRequest, course_of
from pllm_notebook.ensemble.config import FrameworkConfig, changed, create_default_config
from pllm_notebook.ensemble.questions import submit
from pllm_notebook.exceptions import ConfigurationError, ProcessingError, UsageError
from pllm_notebook.run import Run

if TYPE_CHECKING:
    from openai.types.chat import ParsedChatCompletion

__all__ = ["ParallelLLM", "create_framework"]

logger = logging.getLogger("pllm_notebook")

_DECIDED = {
    "only": "the one answer that came",
    "agreed": "all are equal, nobody was asked",
    "judge": "the decision maker",
    "fallback": "the majority, since the decision maker failed",
}


class ParallelLLM:
    """Ask several processors one question at once, and give the one answer that is decided on.

        framework = ParallelLLM()
        review = await framework.parse(model="openai:gpt-6-luna", messages=[…], response_format=Review)
        completion = await framework.chat.completions.parse(model=…, messages=[…], response_format=Review)

    One processor's failure is tolerated while another succeeds. Where the answers that came are equal, or there is
    one, nobody else is asked; else the decision maker is, which sees them in shuffled order and without names. Where
    that fails, the majority's answer stands, with a warning.

    Args:
        api_key: For the provider of each request's `model`; other providers' keys, and this one where it is None,
            are taken from the environment. It is in no representation and no error.
        config: None for the defaults.

    Raises:
        ConfigurationError: For an empty key, or a config that is none. Nothing was sent.

    Attributes:
        chat: `chat.completions.parse(…)`, as in OpenAI's client.
        beta: `beta.chat.completions.parse(…)`, where that client had it before.
    """

    def __init__(self, api_key: str | Key | None = None, config: FrameworkConfig | None = None) -> None:
        # The argument itself is let go of: tracebacks with variables show it.
        api_key = Key(api_key) if isinstance(api_key, str) else api_key
        self._api_key = api_key
        if self._api_key is not None and not self._api_key.reveal():
            raise ConfigurationError("api_key is empty: give a key, or None for the environment's. Nothing was sent.")
        if config is not None and not isinstance(config, FrameworkConfig):
            raise ConfigurationError(
                f"config is a FrameworkConfig, not {type(config).__name__}; create_framework(…) takes single settings. "
                f"Nothing was sent."
            )
        self._config = create_default_config() if config is None else config
        self.chat = Chat(self)
        self.beta = Beta(self.chat)
        self._set_level()

    def __repr__(self) -> str:
        config = self._config
        return f"<ParallelLLM of {config.num_processors} processors, {config.timeout:g} s each>"

    async def parse(
        self, *, messages: Iterable[Any], model: str | None = None, response_format: Any = None, **keywords: Any
    ) -> Any:
        """Give the answer itself, as an instance of *response_format*. Sends and pays, but for what is in the cache.

        Args:
            messages: Of roles system, developer, user and assistant, as mappings or as the client's own objects; text
                alone, the last one the user's.
            model: `provider:name`, or a bare name whose provider shows. None for the configured model.
            response_format: A Pydantic model or any type that Pydantic can validate. None for plain text.
            **keywords: What OpenAI's client takes (temperature, max_tokens, top_p, stop, seed, reasoning_effort,
                timeout in seconds, extra_body, …), in that client's words for every provider; and

                - models: Several models in place of *model*: the processors take them in turn, each at least once.
                - pass_reasoning: Whether a sample writes down its reasoning before it answers. The decision maker
                  sees it, the result does not have it.
                - cache, salt, max_cost_usd: As for `df.llm.parse`.

        Returns:
            The answer, or its text where there is no format.

        Raises:
            ProcessingError: When every processor failed, with the cause of each.
            UsageError: When it cannot be asked as written: a keyword that the provider has no equal of, an image.
                Nothing was sent.
        """
        return self._answer(await self._ended(messages, model, response_format, keywords))

    def parse_sync(
        self, *, messages: Iterable[Any], model: str | None = None, response_format: Any = None, **keywords: Any
    ) -> Any:
        """Give what `parse` gives, without await: for a cell or script. An interrupt cancels the request."""
        run = self._start(messages, model, response_format, keywords)
        run.wait()
        return self._answer(run)

    def update_config(self, **values: Any) -> FrameworkConfig:
        """Change settings, from the next request on.

        Raises:
            ConfigurationError: For a name that is no setting, or a value outside its range; nothing is changed then.
        """
        self._config = changed(self._config, values)
        self._set_level()
        return self._config

    def get_config(self) -> FrameworkConfig:
        """Give the settings in force."""
        return self._config

    def get_config_summary(self) -> dict[str, Any]:
        """Give the settings in force as plain values, and whether there is a key of this framework's own."""
        return self._config.summary() | {"api_key": "environment" if self._api_key is None else "given"}

    def _set_level(self) -> None:
        if self._config.enable_logging:
            logger.setLevel(self._config.log_level)

    def _start(
        self, messages: Iterable[Any], model: str | None, response_format: Any, keywords: Mapping[str, Any]
    ) -> Run:
        rest = dict(keywords)
        models: Sequence[str] | None = rest.pop("models", None)
        plan, rows = request_for(
            self._config,
            self._api_key,
            messages=messages,
            response_format=response_format,
            model=model,
            models=models,
            pass_reasoning=bool(rest.pop("pass_reasoning", False)),
            timeout=rest.pop("timeout", None),
            extra_body=rest.pop("extra_body", None),
            keywords=rest,
        )
        return submit(plan, rows)

    async def _ended(
        self, messages: Iterable[Any], model: str | None, response_format: Any, keywords: Mapping[str, Any]
    ) -> Run:
        run = self._start(messages, model, response_format, keywords)
        await run.until_ended()
        return run

    def _answer(self, run: Run) -> Any:
        """Give the answer of a run that has ended, or raise what kept it from having one. Called by who is called."""
        course, rows = course_of(run), run.rows
        assert isinstance(rows, OneRequest)
        if course.error is not None or run.state == "cancelled":
            run.result()  # raises
        outcome = run.ledger.outcome(0)
        if outcome is None:
            unsent = run.ledger.failure(0)
            raise UsageError("Nothing was sent." if unsent is None else unsent.message)
        failed = rows.errors(run)
        decision = course.decisions[0]
        count = len(course.plan.members)
        self._log(
            logging.INFO,
            "%d of %d processors answered; decided by: %s",
            count - len(failed),
            count,
            _DECIDED.get(decision.how, "nobody"),
        )
        for one in failed:
            self._log(logging.DEBUG, "%s failed: %s", one.model, one.kind)
        if outcome.failure is not None:
            raise ProcessingError(failed) from failed[0].cause
        if decision.trouble:
            told = f"The decision maker failed, and the majority's answer stands. {rows.hidden(decision.trouble)}"
            self._log(logging.WARNING, "%s", "The decision maker failed, and the majority's answer stands")
            warnings.warn(told, stacklevel=3)
        if course.unsaved:
            warnings.warn(f"{course.unsaved} answers could not be saved to the cache.", stacklevel=3)
        return outcome.value

    def _log(self, level: int, message: str, *values: Any) -> None:
        if self._config.enable_logging:
            logger.log(level, message, *values)


class Completions:
    """`parse` as OpenAI's client has it, giving the whole completion."""

    def __init__(self, framework: ParallelLLM) -> None:
        self._framework = framework

    async def parse(
        self, *, messages: Iterable[Any], model: str | None = None, response_format: Any = None, **keywords: Any
    ) -> ParsedChatCompletion[Any]:
        """Give the completion: the answer in `choices[0].message.parsed`, its text in `.content`.

        `id`, `model` and `created` are of the reply that was chosen, or of the decision maker's where it wrote the
        answer itself. `usage` is the sum over all replies that led to it, samples, repairs and decision, whether
        they were paid for now or are from the cache; None where a server counts no tokens.

        Args:
            messages: As for `ParallelLLM.parse`.
            model: Likewise.
            response_format: Likewise.
            **keywords: Likewise.

        Raises:
            ProcessingError: When every processor failed, refusals included, with the cause of each.
            UsageError: When it cannot be asked as written. Nothing was sent.
        """
        run = await self._framework._ended(messages, model, response_format, keywords)
        self._framework._answer(run)
        return run.to_frame()  # type: ignore[no-any-return]

    def parse_sync(
        self, *, messages: Iterable[Any], model: str | None = None, response_format: Any = None, **keywords: Any
    ) -> ParsedChatCompletion[Any]:
        """Give what `parse` gives, without await."""
        run = self._framework._start(messages, model, response_format, keywords)
        run.wait()
        self._framework._answer(run)
        return run.to_frame()  # type: ignore[no-any-return]


class Chat:
    """The namespace `chat` of OpenAI's client."""

    def __init__(self, framework: ParallelLLM) -> None:
        self.completions = Completions(framework)


class Beta:
    """The namespace `beta` of OpenAI's client."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat


def create_framework(api_key: str | None = None, **config: Any) -> ParallelLLM:
    """Make a `ParallelLLM` with some settings other than the defaults.

    Raises:
        ConfigurationError: For a name that is no setting, or a value outside its range. Nothing was sent.
    """
    # A refused setting is told with this function's variables in some tracebacks: none may hold the key by then.
    key, api_key = None if api_key is None else Key(api_key), None
    return ParallelLLM(key, changed(create_default_config(), config))

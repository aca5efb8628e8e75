"""One request as a run of one row: its prompt, its answer as an OpenAI completion, and its failures as errors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from pllm_notebook.credentials import Key
from pllm_notebook.ensemble.ensemble_results import EnsembleResults
from pllm_notebook.execution import LiveRun, WholePrompts, decoded_body
from pllm_notebook.failures import Failure
from pllm_notebook.messages_types import Dialogue
from pllm_notebook.protocols import Store
from pllm_notebook.request_errors import (
    APIError,
    FailedProcessor,
    ParallelLLMError,
)
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import Called
from pllm_notebook.types import Usage

if TYPE_CHECKING:
    from openai.types import CompletionUsage

    from pllm_notebook.ensemble.completion_types import ParallelCompletion

__all__ = ["SingleRequestRows", "ensemble_of", "error_of"]


class SingleRequestRows(WholePrompts):
    """A prompt as the only row of a run (see `execution.Rows`). The result is a completion, or None without an answer.

    Args:
        prompt: The last message: text, or a turn with media or tool results.
        label: A short label for the display.
        keys: API keys to remove from messages: a provider may repeat a key when it refuses it.
        store: Where replies are kept. None if they are not kept.
    """

    total = 1

    def __init__(
        self, prompt: str | Dialogue, label: str, keys: Iterable[Key] = (), store: Store | None = None
    ) -> None:
        self.label = label
        self._store = store
        self._prompt = prompt
        self._keys = [key for key in keys if key]

    def prompts(self, rows: range) -> list[str | Dialogue]:
        """Return the prompt."""
        return [self._prompt for _ in rows]

    def assemble(self, run: LiveRun) -> ParallelCompletion | None:
        """Return the completion."""
        ensemble = ensemble_of(run)
        outcome = run.table.outcome(0)
        if outcome is None or outcome.failure is not None:
            return None
        # Imported on use, as every SDK is: only OpenAI's interface needs these types.
        from pllm_notebook.ensemble.completion_types import Choice, ParallelCompletion, ParsedMessage

        about = _reply_metadata(ensemble)
        finish, message = _message_fields(outcome.value, ensemble.plan.output)
        choice = Choice(finish_reason=finish, message=ParsedMessage(**message), logprobs=self._logprobs(ensemble))
        return ParallelCompletion(
            id=about["request_id"] or f"pllm-{run.id}",
            created=int(about["created_at"]),
            model=about["asked"] if about["asked"].startswith("sim:") else about["model"] or about["asked"],
            choices=[choice],
            usage=_usage(outcome.usage),
        )

    def _logprobs(self, ensemble: EnsembleResults) -> Any:
        """Return the chosen reply's log probabilities unchanged, or None if it has none."""
        chosen = ensemble.decisions[0].chosen
        if chosen is None or not ensemble.plan.members[chosen].spec.options.extra_body.get("logprobs"):
            return None
        sample = ensemble.outcomes(0)[chosen]
        assert sample is not None
        key = sample.last or sample.key
        entry = sample.entry or (None if self._store is None else self._store.get_many([key]).get(key))
        body = None if entry is None else decoded_body(entry.raw)
        choices = body.get("choices") if isinstance(body, dict) else None
        return choices[0].get("logprobs") if choices else None

    def errors(self, run: LiveRun) -> list[FailedProcessor]:
        """Return the processors without an answer, in order."""
        ensemble = ensemble_of(run)
        failed = []
        for member, outcome in zip(ensemble.plan.members, ensemble.outcomes(0), strict=True):
            if outcome is not None and outcome.failure is not None:
                cause = error_of(replace(outcome.failure, message=self.hidden(outcome.failure.message)))
                failed.append(FailedProcessor(member.model, cause.kind, cause.message, cause))
        return failed

    def hidden(self, text: str) -> str:
        """Return *text* with the keys removed."""
        for key in self._keys:
            text = text.replace(key.reveal(), "[key]")
        return text


def ensemble_of(run: LiveRun) -> EnsembleResults:
    """Return the ensemble of a run of `SingleRequestRows`."""
    assert isinstance(run.execution.decider, EnsembleResults)
    return run.execution.decider


def error_of(failure: Failure) -> ParallelLLMError:
    """Convert a failure to an exception."""
    error = failure.kind.facts.error
    if issubclass(error, APIError):
        return error(failure.message, failure.status, failure.retry_after_s, kind=str(failure.kind))
    return error(failure.message, kind=str(failure.kind))


def _message_fields(value: Any, output: OutputType | None) -> tuple[str, dict[str, Any]]:
    """Return a reply's finish reason and the fields of its message."""
    if isinstance(value, Called):
        from openai.types.chat.parsed_function_tool_call import ParsedFunction, ParsedFunctionToolCall

        calls = [
            ParsedFunctionToolCall(
                id=call.id,
                type="function",
                function=ParsedFunction(name=call.name, arguments=call.text, parsed_arguments=call.args),
            )
            for call in value.calls
        ]
        return "tool_calls", {"content": value.text or None, "tool_calls": calls}
    if output is None:
        return "stop", {"content": value}
    text = TypeAdapter(output.kind).dump_json(value, by_alias=True, warnings=False).decode()
    return "stop", {"content": text, "parsed": value}


def _reply_metadata(ensemble: EnsembleResults) -> dict[str, Any]:
    """Return the chosen reply's metadata. If no member's answer was chosen: the judge's, or the first sample's."""
    decision = ensemble.decisions[0]
    outcome = ensemble.table.outcomes[0]
    assert outcome is not None
    if decision.chosen is None and decision.how == "judge":
        return outcome.replies()[-1]
    samples = ensemble.outcomes(0)
    at = decision.chosen
    if at is None:
        at = next(at for at, sample in enumerate(samples) if sample is not None and sample.failure is None)
    chosen = samples[at]
    assert chosen is not None
    return chosen.replies()[-1]


def _usage(usage: Usage | None) -> CompletionUsage | None:
    if usage is None:
        return None
    from openai.types import CompletionUsage
    from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails

    return CompletionUsage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=usage.cache_read_tokens),
        completion_tokens_details=CompletionTokensDetails(reasoning_tokens=usage.reasoning_tokens),
    )

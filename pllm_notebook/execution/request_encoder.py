"""Encode a row's prompt, with the conversation around it, as the intended body of its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.example_turns import ExampleTurns
from pllm_notebook.execution.wire_body import MediaBody, uncounted_bytes
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Example, RawRequest, Request, Turn
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.schema import FittedSchema, OutputType
from pllm_notebook.settings import Options
from pllm_notebook.tools import Toolbox

__all__ = ["RequestEncoder"]

# Under a cost ceiling every call needs a bound on its cost, hence on its output.
OUTPUT_LIMIT_UNDER_BUDGET = 16_384


@dataclass(frozen=True)
class RequestEncoder:
    """Encode the conversations of one spec (see `CallSpec`).

    Attributes:
        extra: Fields of the body besides the prompt, the type and the tools.
        fitted: The type in the form that the provider takes, None for plain text.
        toolbox: The tools that are offered, None for none.
        tools: The same tools in the form that the provider takes.
    """

    target: ResolvedModel
    options: Options
    output: OutputType | None
    system: str | None
    history: tuple[Turn, ...]
    examples: tuple[Example, ...]
    json_object: bool
    extra: Mapping[str, Any]
    fitted: FittedSchema | None
    toolbox: Toolbox | None
    tools: tuple[Any, ...]

    @cached_property
    def _example_turns(self) -> ExampleTurns:
        return ExampleTurns(self.target.label, self.fitted)

    def dialogue(self, prompt: str | Dialogue) -> Dialogue:
        """Return the conversation that ends with a row's prompt."""
        own = None if isinstance(prompt, str) else prompt
        said = (Turn("user", prompt),) if isinstance(prompt, str) else prompt.turns
        examples = self.examples if own is None or own.examples is None else own.examples
        shown = self._example_turns.turns(examples) if examples else ()
        system = self.system if own is None or own.system is None else own.system
        return Dialogue((*self.history, *shown, *said), system, shown=len(shown))

    def request(self, prompt: Dialogue | RawRequest) -> RawRequest | Failure:
        """Return the body of a row's conversation, or why it cannot be sent. A caller's own body is left unchanged."""
        try:
            if isinstance(prompt, RawRequest):
                request = prompt
            else:
                fields, uncounted = self.body(self.dialogue(prompt)), uncounted_bytes(prompt.turns)
                gone_on = bool(self.history) or any(turn.role == "assistant" for turn in prompt.turns)
                request = RawRequest(fields, has_gone_on=gone_on)
                request = MediaBody(fields, uncounted, has_gone_on=gone_on) if uncounted else request
            orjson.dumps(request.fields)
        except UsageError as error:
            return Failure(FailureKind.INPUT, str(error))
        except TypeError as error:  # a lone surrogate, or a value that JSON cannot represent
            return Failure(FailureKind.INPUT, f"The prompt is no JSON: {error}. Nothing was sent for this row.")
        return request

    def body(self, dialogue: Dialogue) -> dict[str, Any]:
        """Encode the intended body of a whole conversation.

        Raises:
            UsageError: If the provider or the model does not accept some part of it. Nothing was sent.
        """
        options = self.options
        limit = options.max_output_tokens
        if limit is None and options.max_cost_usd is not None:
            limit = OUTPUT_LIMIT_UNDER_BUDGET
        choice = "auto"
        if self.toolbox is not None and not (options.run_tools and dialogue.turns[-1].role == "tool"):
            # The choice applies only before a tool result: a model forced to call a tool each time never answers.
            choice = self.toolbox.choice
        return self.target.wire.encode(
            Request(
                model=self.target.model,
                turns=dialogue.turns,
                system=dialogue.system,
                schema=None if self.fitted is None else self.fitted.schema,
                schema_name="answer" if self.output is None else self.output.name,
                # 0 and 0.0 are the same temperature, and must give the same key.
                temperature=None if options.temperature is None else float(options.temperature),
                max_output_tokens=limit,
                extra_body=self.extra,
                tools=self.tools,
                tool_choice=choice,
                parallel_tool_calls=None if self.toolbox is None else self.toolbox.parallel,
                json_object=self.json_object,
                questions=() if self.output is None else self.output.questions,
            )
        )

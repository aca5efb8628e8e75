"""From prompts that differ in everything to questions: what can be asked in the same way is one question.

Prompts of one configuration and one instruction are one question, so that they share its prefix and, being plain
text, their answers with `df.llm`. An instruction that only a few prompts have goes with the prompt instead: two
thousand different instructions are not two thousand courses of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pllm_notebook.engine import UserRateLimit
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import Part, build_spec, options_for, parts_of
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.prompt_lists.config_models import model_of, takes_prefill
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.records import Failure, FailureKind
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import StructuredTool

__all__ = ["PreparedPrompts", "as_prompt_list", "output_of", "prepare_prompts"]

# So many prompts make it worth while that their instruction is a question's own.
_OWN_QUESTION = 8


class PreparedPrompts(NamedTuple):
    """A list, ready to be put.

    Attributes:
        parts: The questions, with the places of their prompts among those that can be asked.
        places: Of each prompt that can be asked: where it stands in the list.
        prompts: As many: what is asked.
        beginnings: As many: the beginning of the answer that was put into the model's mouth, "" for none.
        failures: Of those that cannot be asked: where they stand, and why.
    """

    parts: list[Part]
    places: list[int]
    prompts: list[Prompt]
    prefills: list[str]
    failures: dict[int, Failure]


class _SpecKey(NamedTuple):
    """What determines a question."""

    model: str
    system: str | None
    form: str
    max_tokens: int | None
    temperature: float | None
    marks: bool
    alone: bool
    wanted: StructuredTool | None
    tools: tuple[StructuredTool, ...]


def as_prompt_list(prompts: Any) -> list[LLMPromptContext]:
    """Return a list of prompts as one.

    Raises:
        UsageError: For anything that is none, a prompt by itself too. Nothing was sent.
    """
    # A prompt can be gone through itself: its fields are what comes.
    if isinstance(prompts, LLMPromptContext) or not isinstance(prompts, Iterable):
        raise UsageError(
            f"prompts is a list of LLMPromptContext, not {type(prompts).__name__}. Put it into [ ]. Nothing was sent."
        )
    items = list(prompts)
    for at, prompt in enumerate(items):
        if not isinstance(prompt, LLMPromptContext):
            raise UsageError(f"prompts[{at}] is {type(prompt).__name__}, not an LLMPromptContext. Nothing was sent.")
    return items


def prepare_prompts(
    contexts: Sequence[LLMPromptContext],
    given: Mapping[str, Any],
    ceilings: Mapping[str, UserRateLimit],
) -> PreparedPrompts:
    """Make a list ready. Sends nothing.

    Args:
        contexts: The prompts.
        given: Options of the whole run.
        ceilings: Rates by provider.

    Raises:
        UsageError: For an option outside its range. What is wrong with one prompt is that prompt's failure.
    """
    options_for(given)
    # Equal tools of different prompts become one object, since comparing them is comparing their schemas.
    tools: dict[StructuredTool, StructuredTool] = {}
    spec_keys = [(_spec_key(context, tools), context.instruction) for context in contexts]
    shared = Counter(spec_keys)
    prefilled: dict[str, bool] = {}
    asks: dict[_SpecKey, CallSpec | Failure] = {}
    asked: list[tuple[_SpecKey, Prompt]] = []
    places: list[int] = []
    prefills: list[str] = []
    failures: dict[int, Failure] = {}
    for place, (context, (how, system)) in enumerate(zip(contexts, spec_keys, strict=True)):
        count = shared[how, system]
        own = system is not None and count < _OWN_QUESTION
        # An instruction that stands alone is marked for the provider's cache only where another list had it before.
        how = how._replace(alone=own and count == 1, system=None if own else system)
        try:
            if how not in asks:
                asks[how] = _build_spec(how, context, given, ceilings)
            ask = asks[how]
            if isinstance(ask, Failure):
                failures[place] = ask
                continue
            beginning = _prefill_for(context, ask, prefilled)
            dialogue = context.dialogue(prefilled=bool(beginning))
        except PllmError as error:
            failure = Failure(FailureKind.INPUT, str(error))
            asks.setdefault(how, failure)
            failures[place] = failure
            continue
        asked.append((how, _prompt(dialogue, own)))
        places.append(place)
        prefills.append(beginning)
    parts = parts_of(asked, lambda how: _made(asks, how))
    return PreparedPrompts(parts, places, [prompt for _, prompt in asked], prefills, failures)


def output_of(tool: StructuredTool) -> OutputType:
    """Return a tool's arguments as the type of an answer."""
    output = OutputType.of(tool.kind)
    told = {"description": tool.description} if tool.description else {}
    if _without_descriptions(output.json_schema) == _without_descriptions(tool.json_schema):
        return output  # made of a type: the same question as `df.llm.parse` with that type
    output = OutputType(tool.kind)
    output.json_schema = _without_descriptions(tool.json_schema) | told
    output.name, output.doc = tool.name, tool.description
    return output


def _spec_key(context: LLMPromptContext, tools: dict[StructuredTool, StructuredTool]) -> _SpecKey:
    config = context.llm_config
    form = config.response_format
    # The JSON formats validate by it afterwards; their question is the same without.
    wanted = context.structured_output if form in ("structured_output", "tool") else None
    return _SpecKey(
        model=config.name,
        system=None,
        form=form,
        max_tokens=config.max_tokens,
        temperature=config.temperature,
        marks=config.use_cache,
        alone=False,
        wanted=None if wanted is None else tools.setdefault(wanted, wanted),
        tools=tuple(tools.setdefault(tool, tool) for tool in context.tools),
    )


def _build_spec(
    how: _SpecKey, context: LLMPromptContext, given: Mapping[str, Any], ceilings: Mapping[str, UserRateLimit]
) -> CallSpec:
    values = dict(given) | {"model": model_of(context.llm_config), "pack": None}
    for name, value in (
        ("system", how.system),
        ("temperature", how.temperature),
        ("max_output_tokens", how.max_tokens),
    ):
        if value is not None:
            values[name] = value
    tools, output = list(how.tools), None
    if how.form == "structured_output":
        if how.wanted is None:
            raise _without("structured_output", "a structured_output")
        output = output_of(how.wanted)
    elif how.form == "tool":
        if how.wanted is None and not tools:
            raise _without("tool", "a structured_output, or tools")
        if how.wanted is not None:
            tools = [*(tool for tool in tools if tool != how.wanted), how.wanted]
            # The call is the answer.
            values["run_tools"] = False
        values["tool_choice"] = "required" if how.wanted is None else how.wanted.name
    if tools:
        values["tools"] = tools
    options = options_for(values)
    ask = build_spec(
        options,
        output,
        instruct=False,
        # With a beginning in the model's mouth, a JSON mode would begin the object once more.
        json_object=how.form == "json_object",
        calls=bool(tools) and not options.run_tools,
        marks=how.marks,
        alone=how.alone,
    )
    ask.ceiling = ceilings.get(context.llm_config.client.removeprefix("sim:"))
    return ask


def _without(form: str, needed: str) -> UsageError:
    return UsageError(f"response_format={form!r} needs {needed} beside it, and the prompt has none. Nothing was sent.")


def _prefill_for(context: LLMPromptContext, ask: CallSpec, known: dict[str, bool]) -> str:
    """Return the beginning of the answer that is sent: one that was only made up is left out where it is not taken."""
    form = context.llm_config.response_format
    if context.prefill and form in ("structured_output", "tool"):
        raise UsageError(
            f"The prompt has a prefill, and with response_format={form!r} the provider writes the whole object. Leave "
            f"the prefill out, or take 'json_beg'. Nothing was sent."
        )
    if context.prefill or not context.beginning:
        return context.beginning
    name = context.llm_config.name
    if name not in known:
        known[name] = takes_prefill(ask.target)
    return context.beginning if known[name] else ""


def _prompt(dialogue: Dialogue, own: bool) -> Prompt:
    """Return a conversation as the prompt of a row: plain text where it is no more than that."""
    (first, *rest) = dialogue.turns
    if rest or own or first.media or first.role != "user":
        return dialogue if own else Dialogue(dialogue.turns)
    return first.text


def _made(asks: Mapping[_SpecKey, CallSpec | Failure], how: Any) -> CallSpec:
    ask = asks[how]
    assert isinstance(ask, CallSpec)
    return ask


def _without_descriptions(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}

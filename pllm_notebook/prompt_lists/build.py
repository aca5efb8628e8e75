"""Group the prompts of a list by spec.

Prompts with the same configuration and instruction share a spec, and thereby its prompt prefix. If they are plain text,
they also share cache entries with `df.llm`. An instruction that only a few prompts have is sent as part of the prompt
instead, so that two thousand different instructions do not become two thousand specs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pllm_notebook.engine import UserRateLimit
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import CallSpec, Part, build_spec, options_for, parts_of
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Prompt
from pllm_notebook.prompt_lists.config_models import model_of, takes_prefill
from pllm_notebook.prompt_lists.prompt_context import LLMPromptContext
from pllm_notebook.schema import OutputType
from pllm_notebook.tools import StructuredTool

__all__ = ["PreparedPrompts", "as_prompt_list", "output_of", "prepare_prompts"]

# Minimum number of prompts with the same instruction for it to be part of the spec.
_MIN_SHARED = 8


class PreparedPrompts(NamedTuple):
    """A prepared list.

    Attributes:
        parts: The specs with the indices of their prompts among the valid ones.
        places: The place of each valid prompt in the list.
        prompts: The valid prompts, as they are sent.
        prefills: The prefill of each valid prompt, "" for none.
        failures: The failures of invalid prompts, by their place in the list.
    """

    parts: list[Part]
    places: list[int]
    prompts: list[Prompt]
    prefills: list[str]
    failures: dict[int, Failure]


class _SpecKey(NamedTuple):
    """The values that determine a spec."""

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
    """Check that *prompts* is a list of prompts, and return it.

    Raises:
        UsageError: For anything else, including a single prompt. Nothing was sent.
    """
    # A prompt is iterable itself, over its fields.
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
    """Group a list by spec. Sends nothing.

    Args:
        contexts: The prompts.
        given: Options of the whole run.
        ceilings: Rate limits by provider.

    Raises:
        UsageError: For an option outside its range. An invalid prompt fails alone (see `PreparedPrompts.failures`).
    """
    options_for(given)
    # Equal tools of different prompts become one object, because comparing them means comparing their schemas.
    tools: dict[StructuredTool, StructuredTool] = {}
    spec_keys = [(_spec_key(context, tools), context.instruction) for context in contexts]
    shared = Counter(spec_keys)
    prefilled: dict[str, bool] = {}
    specs: dict[_SpecKey, CallSpec | Failure] = {}
    asked: list[tuple[_SpecKey, Prompt]] = []
    places: list[int] = []
    prefills: list[str] = []
    failures: dict[int, Failure] = {}
    for place, (context, (how, system)) in enumerate(zip(contexts, spec_keys, strict=True)):
        count = shared[how, system]
        own = system is not None and count < _MIN_SHARED
        # The instruction of a single prompt is marked for the provider's cache only if another list had it before.
        how = how._replace(alone=own and count == 1, system=None if own else system)
        try:
            if how not in specs:
                specs[how] = _build_spec(how, context, given, ceilings)
            spec = specs[how]
            if isinstance(spec, Failure):
                failures[place] = spec
                continue
            prefill = _prefill_for(context, spec, prefilled)
            dialogue = context.dialogue(prefilled=bool(prefill))
        except PllmError as error:
            failure = Failure(FailureKind.INPUT, str(error))
            specs.setdefault(how, failure)
            failures[place] = failure
            continue
        asked.append((how, _prompt(dialogue, own)))
        places.append(place)
        prefills.append(prefill)
    parts = parts_of(asked, lambda how: _made(specs, how))
    return PreparedPrompts(parts, places, [prompt for _, prompt in asked], prefills, failures)


def output_of(tool: StructuredTool) -> OutputType:
    """Return a tool's arguments as the type of an answer."""
    output = OutputType.of(tool.kind)
    description = {"description": tool.description} if tool.description else {}
    if _without_descriptions(output.json_schema) == _without_descriptions(tool.json_schema):
        return output  # the tool was made from a type: the same spec as `df.llm.parse` with that type
    output = OutputType(tool.kind)
    output.json_schema = _without_descriptions(tool.json_schema) | description
    output.name, output.doc = tool.name, tool.description
    return output


def _spec_key(context: LLMPromptContext, tools: dict[StructuredTool, StructuredTool]) -> _SpecKey:
    config = context.llm_config
    form = config.response_format
    # The JSON formats use the type only to validate the answer afterwards, so their spec does not depend on it.
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
            # The tool call is the answer.
            values["run_tools"] = False
        values["tool_choice"] = "required" if how.wanted is None else how.wanted.name
    if tools:
        values["tools"] = tools
    options = options_for(values)
    spec = build_spec(
        options,
        output,
        instruct=False,
        # "json_beg" is left out: after a prefill, a provider's JSON mode would begin a second object.
        json_object=how.form == "json_object",
        calls=bool(tools) and not options.run_tools,
        marks=how.marks,
        alone=how.alone,
    )
    spec.ceiling = ceilings.get(context.llm_config.client.removeprefix("sim:"))
    return spec


def _without(form: str, needed: str) -> UsageError:
    return UsageError(f"response_format={form!r} needs {needed} beside it, and the prompt has none. Nothing was sent.")


def _prefill_for(context: LLMPromptContext, spec: CallSpec, known: dict[str, bool]) -> str:
    """Return the prefill to send. A model that accepts none gets no implicit prefill from "json_beg"."""
    form = context.llm_config.response_format
    if context.prefill and form in ("structured_output", "tool"):
        raise UsageError(
            f"The prompt has a prefill, and with response_format={form!r} the provider writes the whole object. Remove "
            f"the prefill, or use 'json_beg'. Nothing was sent."
        )
    if context.prefill or not context.beginning:
        return context.beginning
    name = context.llm_config.name
    if name not in known:
        known[name] = takes_prefill(spec.target)
    return context.beginning if known[name] else ""


def _prompt(dialogue: Dialogue, own: bool) -> Prompt:
    """Return a conversation as the prompt of a row: a string if it is a single user text."""
    (first, *rest) = dialogue.turns
    if rest or own or first.media or first.role != "user":
        return dialogue if own else Dialogue(dialogue.turns)
    return first.text


def _made(specs: Mapping[_SpecKey, CallSpec | Failure], how: Any) -> CallSpec:
    spec = specs[how]
    assert isinstance(spec, CallSpec)
    return spec


def _without_descriptions(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}

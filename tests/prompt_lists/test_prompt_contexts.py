"""A prompt holds all that decides what is asked, is plain JSON, and speaks every provider's words."""

from __future__ import annotations

import base64
import inspect
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from pllm_notebook import (
    LLMConfig,
    LLMOutput,
    LLMPromptContext,
    StructuredTool,
    ToolCallOutput,
    msg_dict_to_anthropic,
    msg_dict_to_google,
    msg_dict_to_oai,
)
from pllm_notebook.exceptions import UsageError
from pllm_notebook.messages import dialogue_from_messages, write_messages
from pllm_notebook.messages_types import Media, ProviderMessage, ToolCall, Turn
from pllm_notebook.prompt_lists.build import output_of
from pllm_notebook.prompt_lists.llm_output import LLMToolCall
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import OutputType
from pllm_notebook.types import Usage

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_64 = base64.b64encode(PNG).decode()
PDF = b"%PDF-1.4\n%%EOF"
CALLS = (ToolCall("call_a", "weigh", '{"what":"tea"}'), ToolCall("call_b", "weigh", '{"what":"milk"}'))


class Drink(BaseModel):
    """A drink."""

    name: str
    cups: int


def brew(kind: str, cups: int = 1) -> str:
    """Brew tea.

    Args:
        kind: Of tea.
        cups: How many.
    """
    return f"{cups} of {kind}"


# Messages in the words of each provider: the same conversation three times.

OPENAIS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "Weigh both."},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_64}"}},
    ]},
    {"role": "assistant", "content": "Weighing.", "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "weigh", "arguments": '{"what":"tea"}'}},
        {"id": "call_b", "type": "function", "function": {"name": "weigh", "arguments": '{"what":"milk"}'}},
    ]},
    {"role": "tool", "tool_call_id": "call_a", "content": "2 g"},
    {"role": "tool", "tool_call_id": "call_b", "content": "30 g"},
    {"role": "user", "content": "And together?"},
]  # fmt: skip
ANTHROPICS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_64}},
        {"type": "text", "text": "Weigh both."},
    ]},
    {"role": "assistant", "content": [
        {"type": "text", "text": "Weighing."},
        {"type": "tool_use", "id": "call_a", "name": "weigh", "input": {"what": "tea"}},
        {"type": "tool_use", "id": "call_b", "name": "weigh", "input": {"what": "milk"}},
    ]},
    {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "call_a", "content": "2 g"},
        {"type": "tool_result", "tool_use_id": "call_b", "content": [{"type": "text", "text": "30 g"}]},
        {"type": "text", "text": "And together?"},
    ]},
]  # fmt: skip
GOOGLES = [
    {"role": "system", "parts": [{"text": "Be brief."}]},
    {"role": "user", "parts": [
        {"inlineData": {"mimeType": "image/png", "data": PNG_64}}, {"text": "Weigh both."},
    ]},
    {"role": "model", "parts": [
        {"text": "Weighing."},
        {"functionCall": {"id": "call_a", "name": "weigh", "args": {"what": "tea"}}},
        {"function_call": {"id": "call_b", "name": "weigh", "args": {"what": "milk"}}},
    ]},
    {"role": "user", "parts": [
        {"functionResponse": {"id": "call_a", "name": "weigh", "response": {"result": "2 g"}}},
        {"functionResponse": {"id": "call_b", "name": "weigh", "response": {"output": "30 g"}}},
        {"text": "And together?"},
    ]},
]  # fmt: skip
TURNS = (
    Turn("user", "Weigh both.", (Media("image/png", data=PNG_64),)),
    Turn("assistant", "Weighing.", calls=CALLS),
    Turn("tool", "", results=(ToolCallOutput("call_a", "weigh", "2 g"), ToolCallOutput("call_b", "weigh", "30 g"))),
    Turn("user", "And together?"),
)


@pytest.mark.parametrize("messages", [OPENAIS, ANTHROPICS, GOOGLES], ids=["openai", "anthropic", "google"])
def test_one_conversation_in_three_dialects_is_read_as_the_same_turns(messages: list[dict[str, Any]]) -> None:
    dialogue = dialogue_from_messages(messages)

    assert (dialogue.turns, dialogue.system) == (TURNS, "Be brief.")


def test_turns_that_are_written_as_messages_are_read_back_the_same() -> None:
    turns = (
        *TURNS,
        Turn("user", "", (Media("application/pdf", url="https://host/a.pdf", name="a.pdf"),)),
        Turn("assistant", "", calls=CALLS[:1], echo=ProviderMessage("messages", '[{"type":"thinking"}]')),
        Turn("tool", "", results=(ToolCallOutput("call_a", "weigh", "broken", failed=True),)),
    )

    assert dialogue_from_messages(write_messages(turns)).turns == turns


def test_results_without_ids_go_to_the_calls_of_their_names_in_order() -> None:
    calls = [{"functionCall": {"name": name, "args": {}}} for name in ("one", "two", "one")]
    given = [{"functionResponse": {"name": name, "response": {"result": said}}}
             for name, said in (("two", "b"), ("one", "a"), ("one", "c"))]  # fmt: skip

    turns = dialogue_from_messages([{"role": "model", "parts": calls}, {"role": "user", "parts": given}]).turns

    assert [call.id for call in turns[0].calls] == ["call_0", "call_1", "call_2"]
    assert [(result.id, result.content) for result in turns[1].results] == [
        ("call_1", "b"), ("call_0", "a"), ("call_2", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("message", "form"),
    [
        ({"role": "assistant", "content": [{"type": "thinking", "thinking": "…", "signature": "s"}]}, "messages"),
        ({"role": "model", "parts": [{"text": "…", "thoughtSignature": "s"}]}, "generate"),
    ],
)
def test_a_message_with_a_signature_is_kept_as_its_provider_wrote_it(message: dict[str, Any], form: str) -> None:
    echo = dialogue_from_messages([message]).turns[0].echo

    assert echo is not None
    assert echo.form == form
    assert '"s"' in echo.content


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "robot", "content": "…"}, "messages[0] has the role 'robot'"),
        ({"role": "user", "content": [{"type": "input_audio"}]}, "a part of type 'input_audio'"),
        ({"role": "tool", "tool_call_id": "x", "content": "…"}, "result of the call 'x', which no message before it"),
        ({"role": "system", "content": [{"type": "image", "image": PNG}]}, "contains more than text"),
        ("text", "messages[0] is str without a role"),
    ],
)
def test_what_cannot_be_carried_is_an_error_that_names_the_message(message: Any, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        dialogue_from_messages([message])

    assert told in str(raised.value)
    assert str(raised.value).endswith("Nothing was sent.")


def test_a_conversation_is_given_in_the_words_of_each_provider() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ["What is this?", {"type": "image", "image": PNG}]},
        {"role": "user", "content": "Say it."},
    ]

    assert msg_dict_to_oai(messages) == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG_64}"}},
            {"type": "text", "text": "What is this?"},
        ]},
        {"role": "user", "content": "Say it."},
    ]  # fmt: skip
    blocks, rolled = msg_dict_to_anthropic(messages)
    assert blocks == [{"type": "text", "text": "Be brief."}]
    assert rolled == [
        {"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG_64}},
            {"type": "text", "text": "What is this?"},
            {"type": "text", "text": "Say it."},
        ]},
    ]  # fmt: skip
    system, contents = msg_dict_to_google(messages)
    assert system == {"parts": [{"text": "Be brief."}]}
    assert contents[0]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": PNG_64}}, {"text": "What is this?"},
        {"text": "Say it."},
    ]  # fmt: skip


@pytest.mark.parametrize("convert", [msg_dict_to_oai, msg_dict_to_anthropic, msg_dict_to_google])
def test_many_lists_of_messages_are_converted_each_by_itself(convert: Any) -> None:
    one = [{"role": "user", "content": "one"}]
    two = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "two"}]

    assert convert([one, two]) == [convert(one), convert(two)]


# The prompt.


def test_pictures_bytes_paths_functions_and_models_are_json_once_the_prompt_is_made(tmp_path: Path) -> None:
    path = tmp_path / "tea.png"
    path.write_bytes(PNG)

    prompt = LLMPromptContext(
        history=[
            {"role": "user", "content": [{"type": "image", "image": path}]},
            {"role": "assistant", "content": "-"},
        ],
        new_message=["What is in these?", PNG, {"type": "document", "document": PDF}],
        structured_output=Drink,
        tools=[brew, {"title": "pour", "type": "object", "properties": {"into": {"type": "string"}}}],
    )

    again = LLMPromptContext.model_validate_json(prompt.model_dump_json())
    assert again == prompt
    assert again.oai_messages == prompt.oai_messages
    assert [tool.name for tool in again.tools] == ["brew", "pour"]
    path.unlink()
    assert [media.mime for media in prompt.dialogue(prefilled=False).turns[-1].media] == [
        "image/png",
        "application/pdf",
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "parts": [{"inline_data": {"mime_type": "image/png", "data": PNG}}]},
        {"role": "user", "content": [{"type": "image", "source": {"media_type": "image/png", "data": PNG}}]},
        {"role": "user", "content": PNG},
    ],
    ids=["google", "anthropic", "alone"],
)
def test_bytes_in_a_message_of_the_history_are_json_too(message: dict[str, Any]) -> None:
    prompt = LLMPromptContext(history=[message, {"role": "assistant", "content": "-"}], new_message="What is it?")

    again = LLMPromptContext.model_validate_json(prompt.model_dump_json())

    assert again == prompt
    assert again.dialogue(prefilled=False).turns[0].media[0].data == base64.b64encode(PNG).decode()


def test_a_signature_in_bytes_is_kept_as_base64() -> None:
    part = {"function_call": {"name": "brew", "args": {}}, "thought_signature": b"\xff"}

    dialogue = dialogue_from_messages([{"role": "user", "content": "-"}, {"role": "model", "parts": [part]}])

    assert dialogue.turns[1].echo is not None
    assert '"thought_signature":"/w=="' in dialogue.turns[1].echo.content


def test_a_picture_of_pil_is_one_and_does_not_fill_the_screen() -> None:
    image = pytest.importorskip("PIL.Image")
    noise = image.frombytes("RGB", (64, 64), random.Random(1).randbytes(64 * 64 * 3))

    prompt = LLMPromptContext(new_message=["What is this?", noise])

    assert prompt.dialogue(prefilled=False).turns[0].media[0].mime == "image/png"
    assert len(prompt.model_dump_json()) > 10_000
    assert len(repr(prompt)) < 2_000


def test_messages_are_the_instruction_the_history_and_the_new_message_between_its_ends() -> None:
    prompt = LLMPromptContext(
        system_string="Be brief.",
        history=[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}],
        new_message="Tea?",
        prefill="Yes",
        postfill="\nAnswer politely.",
    )

    assert prompt.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Tea?\nAnswer politely."},
        {"role": "assistant", "content": "Yes"},
    ]


def test_a_beginning_that_the_model_does_not_take_is_refused_in_so_many_words() -> None:
    prompt = LLMPromptContext(new_message="Tea?", prefill="Yes")

    with pytest.raises(UsageError, match="Nothing was sent"):
        _ = prompt.oai_messages


def test_the_beginning_of_an_object_is_left_out_where_it_is_not_taken() -> None:
    prompt = LLMPromptContext(new_message="Tea?", llm_config=LLMConfig(response_format="json_beg"))

    assert prompt.messages[-1] == {"role": "assistant", "content": "{"}
    assert prompt.oai_messages[-1] == {"role": "user", "content": "Tea?"}
    assert prompt.oai_messages[0]["role"] == "system"


def test_the_schemas_words_are_in_the_instruction_where_asked_for() -> None:
    prompt = LLMPromptContext(system_string="Be brief.", new_message="Tea?", structured_output=Drink)
    assert prompt.instruction == "Be brief."

    prompt.use_schema_instruction = True

    assert prompt.instruction is not None
    assert prompt.instruction.startswith("Be brief.\n\nAnswer with one JSON value that matches this JSON schema")
    assert '"cups"' in prompt.instruction


@pytest.mark.parametrize(
    ("client", "where"), [("openai", ("function", "parameters")), ("anthropic", ("input_schema",)), ("google", ())]
)
def test_the_structured_output_is_given_as_a_tool_in_the_providers_words(client: str, where: tuple[str, ...]) -> None:
    prompt = LLMPromptContext(new_message="Tea?", structured_output=Drink, llm_config=LLMConfig(client=client))

    tool: Any = prompt.get_tool()

    assert tool is not None
    for name in where:
        tool = tool[name]
    assert "Drink" in str(prompt.get_tool())
    assert "cups" in str(tool)


def test_without_a_structured_output_there_is_no_tool() -> None:
    assert LLMPromptContext(new_message="Tea?").get_tool() is None


@pytest.mark.parametrize(
    ("client", "model", "name"),
    [
        ("openai", None, "openai:gpt-6-luna"),
        ("openai", "gpt-5-pro", "openai:gpt-5-pro"),
        ("openai", "openai:gpt-5-pro", "openai:gpt-5-pro"),
        ("sim:google", None, "sim:google"),
        ("sim:openai", "gpt-5-pro", "sim:openai/gpt-5-pro"),
        ("vllm", "qwen:7b", "vllm:qwen:7b"),
    ],
)
def test_client_and_model_make_the_name_that_options_take(client: str, model: str | None, name: str) -> None:
    assert LLMConfig(client=client, model=model).name == name


def test_an_updated_config_is_in_force_in_the_copy_alone() -> None:
    prompt = LLMPromptContext(new_message="Tea?", llm_config=LLMConfig(temperature=0.5))

    updated = prompt.update_llm_config(client="anthropic")
    with pytest.raises(UsageError):
        prompt.update_llm_config(tempreature=1)

    assert updated.llm_config == LLMConfig(client="anthropic", temperature=0.5)
    assert prompt.llm_config == LLMConfig(temperature=0.5)
    assert prompt.update_llm_config(LLMConfig(), max_tokens=5).llm_config == LLMConfig(max_tokens=5)


def test_one_prompt_as_a_template_gives_as_many_prompts_as_it_is_updated() -> None:
    template = LLMPromptContext(new_message="Tea?")
    clients = ["openai", "anthropic", "google"]
    answer = LLMOutput(source_id=template.id, str_content="Green.")

    updated = [template.update_llm_config(client=client) for client in clients]
    histories = [template.append_to_history({"role": "user", "content": client}) for client in clients]
    replaced = [template.update_history([{"role": "user", "content": client}]) for client in clients]
    answered = [template.add_chat_turn_history(answer.model_copy(update={"str_content": name})) for name in clients]

    assert [prompt.llm_config.client for prompt in updated] == clients
    for prompts in (histories, replaced):
        assert [[message["content"] for message in prompt.history] for prompt in prompts] == [[it] for it in clients]
    assert [prompt.history[-1]["content"] for prompt in answered] == clients
    assert (template.history, template.new_message, template.llm_config) == ([], "Tea?", LLMConfig())


def test_what_is_added_to_a_copy_is_not_added_to_the_prompt() -> None:
    template = LLMPromptContext(new_message="Tea?", tools=[brew])

    copied = template.update_llm_config(client="google")
    copied.tools.append(StructuredTool.of(Drink))
    copied.history.append({"role": "user", "content": "Hm."})

    assert (len(template.tools), template.history) == (1, [])


def test_no_method_of_a_prompt_changes_it_and_returns_it() -> None:
    template = LLMPromptContext(new_message="Tea?", tools=[brew])
    before = template.model_dump_json()
    arguments: dict[str, tuple[Any, ...]] = {
        "update_llm_config": (LLMConfig(client="google"),),
        "update_history": ([{"role": "user", "content": "Hm."}],),
        "append_to_history": ({"role": "user", "content": "Hm."},),
        "add_chat_turn_history": (LLMOutput(source_id="a", str_content="Green."),),
        "dialogue": (),
        "get_tool": (),
    }
    own = [name for name, value in vars(LLMPromptContext).items() if inspect.isfunction(value) and name[0] != "_"]

    assert sorted(own) == sorted(arguments)
    for name, given in arguments.items():
        kept = {"prefilled": False} if name == "dialogue" else {}
        assert getattr(template, name)(*given, **kept) is not template
        assert template.model_dump_json() == before


def test_an_empty_name_is_no_model() -> None:
    with pytest.raises(UsageError):
        LLMConfig(model="")


def test_a_message_that_cannot_be_carried_does_not_come_into_the_history() -> None:
    prompt = LLMPromptContext(history=[{"role": "user", "content": "Tea?"}])

    with pytest.raises(UsageError):
        prompt.append_to_history({"role": "robot", "content": "No."})
    answered = prompt.append_to_history({"role": "assistant", "content": "Yes."})

    assert [message["role"] for message in answered.history] == ["user", "assistant"]
    assert [message["role"] for message in prompt.history] == ["user"]


# Going on from an answer.


def called(*calls: LLMToolCall) -> LLMOutput:
    return LLMOutput(source_id="a", str_content="", tool_calls=list(calls))


def test_a_turn_is_put_into_the_history_with_the_results_of_its_calls() -> None:
    prompt = LLMPromptContext(id="a", new_message="Two teas.", tools=[brew, Drink])
    output = called(
        LLMToolCall(id="1", name="brew", arguments={"kind": "green"}, text='{"kind":"green"}'),
        LLMToolCall(id="2", name="Drink", arguments={"name": "x", "cups": 1}, text='{"name":"x","cups":1}'),
        LLMToolCall(id="3", name="Drink", arguments="{", text="{"),
    )

    prompt = prompt.add_chat_turn_history(output, [ToolCallOutput(id="1", name="brew", content="1 of green")])

    assert prompt.new_message is None
    dialogue = prompt.dialogue(prefilled=False)
    assert [turn.role for turn in dialogue.turns] == ["user", "assistant", "tool"]
    assert [(result.content, result.failed) for result in dialogue.turns[-1].results] == [
        ("1 of green", False), ("Received.", False), ("The arguments do not fit the tool's schema.", True),
    ]  # fmt: skip


def test_no_function_runs_unasked_so_its_result_must_be_given() -> None:
    prompt = LLMPromptContext(id="a", new_message="Tea.", tools=[brew])
    output = called(LLMToolCall(id="1", name="brew", arguments={"kind": "green"}, text='{"kind":"green"}'))

    with pytest.raises(UsageError, match="call '1' of the function 'brew' has no result"):
        prompt.add_chat_turn_history(output)
    with pytest.raises(UsageError, match="has the id '9'"):
        prompt.add_chat_turn_history(output, [ToolCallOutput(id="9", name="brew", content="-")])

    assert (prompt.history, prompt.new_message) == ([], "Tea.")


def test_a_failure_is_nothing_that_a_conversation_goes_on_from() -> None:
    prompt = LLMPromptContext(id="a", new_message="Tea.")

    with pytest.raises(UsageError, match="rate_limit"):
        prompt.add_chat_turn_history(LLMOutput(source_id="a", error="rate_limit: too many"))


def test_a_prompt_that_asks_nothing_says_so() -> None:
    prompt = LLMPromptContext(
        id="a", history=[{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "-"}]
    )

    with pytest.raises(UsageError, match="The prompt 'a' has no message to answer"):
        prompt.dialogue(prefilled=False)


# The output.


def test_an_output_is_the_same_after_a_round_trip_through_json() -> None:
    output = LLMOutput(
        source_id="a",
        str_content="{}",
        json_object={"a": [1, None]},
        tool_calls=[LLMToolCall(id="1", name="brew", arguments={"kind": "green"}, text="{}")],
        usage=Usage(1, 2, 3, 4, 5),
        cost=0.5,
        result_type="chat",
        time_taken=0.25,
        raw_result={"choices": [{"message": {"content": "…"}}]},
    )

    again = LLMOutput.model_validate_json(output.model_dump_json())

    assert again == output
    assert again.contains_object
    assert not LLMOutput(source_id="a", str_content="Tea.").contains_object


def test_a_tool_of_a_model_is_the_models_own_question_and_one_of_a_schema_keeps_its_words() -> None:
    schema = {
        "title": "Drink",
        "description": "A drink.",
        "type": "object",
        "properties": {"name": {"type": "string", "description": "As on the menu."}},
        "required": ["name"],
    }

    assert output_of(StructuredTool.of(Drink)) is OutputType.of(Drink)
    written = output_of(StructuredTool.of(schema))
    assert written.name == "Drink"
    assert written.fit(OPENAI).schema["properties"]["name"]["description"] == "As on the menu."
    assert written.fit(OPENAI).parse('{"name":"tea"}').value == {"name": "tea"}

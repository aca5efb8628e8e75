"""Tools, files and conversations in each wire format's own words: exact bodies, and what is refused before sending."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Media, ProviderMessage, Request, Tool, ToolCall, ToolCallOutput, Turn
from pllm_notebook.protocols import Wire
from pllm_notebook.providers import resolve
from pllm_notebook.providers.anthropic.messages import Messages
from pllm_notebook.providers.google.generate import Generate
from pllm_notebook.providers.local.llama import LocalChat
from pllm_notebook.providers.openai.chat import Chat
from pllm_notebook.providers.openai.responses import Responses
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.types import Finish

WIRES: dict[str, tuple[Wire, str]] = {
    "chat": (Chat(), "gpt-6-luna"),
    "responses": (Responses(), "gpt-5-pro"),
    "messages": (Messages(), "claude-haiku-4-5"),
    "generate": (Generate(), "gemini-3.5-flash-lite"),
    "compatible": (Chat("max_tokens", strict=False), "small"),
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "Tell the weather.", SCHEMA, strict=True)
LOOSE = Tool("clock", "", SCHEMA)
ASKED = Turn("user", "Which is warmer?")
CALLS = (ToolCall("id_1", "weather", '{"city":"Bern"}'), ToolCall("id_2", "weather", '{"city":"Ulm"}'))
CALLED = Turn("assistant", "Let me look.", calls=CALLS)
RESULTS = Turn(
    "tool", "", results=(ToolCallOutput("id_1", "weather", "12"), ToolCallOutput("id_2", "weather", "no", True))
)
IMAGE = Media("image/png", data="aW1n")
LINKED = Media("image/png", url="https://example.org/a.png")
PDF = Media("application/pdf", data="cGRm", name="a.pdf")


def encoded(name: str, *turns: Turn, **fields: Any) -> dict[str, Any]:
    wire, model = WIRES[name]
    return wire.encode(Request(model, turns or (ASKED,), **fields))


def conversation(body: dict[str, Any]) -> Any:
    return body.get("messages") or body.get("input") or body.get("contents")


# Tools and how they may be called.


def test_each_format_offers_tools_in_its_own_words() -> None:
    function = {"name": "weather", "parameters": SCHEMA, "description": "Tell the weather."}

    bodies = {name: encoded(name, tools=(WEATHER, LOOSE)) for name in WIRES}

    assert bodies["chat"]["tools"] == [
        {"type": "function", "function": function | {"strict": True}},
        {"type": "function", "function": {"name": "clock", "parameters": SCHEMA}},
    ]
    assert bodies["compatible"]["tools"][0] == {"type": "function", "function": function}
    assert bodies["responses"]["tools"] == [
        {"type": "function", **function, "strict": True},
        {"type": "function", "name": "clock", "parameters": SCHEMA, "strict": False},
    ]
    assert bodies["responses"]["include"] == ["reasoning.encrypted_content"]
    assert bodies["messages"]["tools"] == [
        {"name": "weather", "description": "Tell the weather.", "input_schema": SCHEMA, "strict": True},
        {"name": "clock", "input_schema": SCHEMA},
    ]
    assert bodies["generate"]["tools"] == [
        {
            "functionDeclarations": [
                {"name": "weather", "description": "Tell the weather.", "parametersJsonSchema": SCHEMA},
                {"name": "clock", "parametersJsonSchema": SCHEMA},
            ]
        }
    ]
    for body in bodies.values():
        assert not {"tool_choice", "toolConfig", "parallel_tool_calls"} & body.keys()
        assert list(body)[-1] in ("messages", "input", "contents")


@pytest.mark.parametrize(
    ("choice", "chat", "responses", "messages", "generate"),
    [
        ("required", "required", "required", {"type": "any"}, {"mode": "ANY"}),
        ("none", "none", "none", {"type": "none"}, {"mode": "NONE"}),
        (
            "clock",
            {"type": "function", "function": {"name": "clock"}},
            {"type": "function", "name": "clock"},
            {"type": "tool", "name": "clock"},
            {"mode": "ANY", "allowedFunctionNames": ["clock"]},
        ),
    ],
)
def test_each_format_says_how_tools_may_be_called(
    choice: str, chat: Any, responses: Any, messages: Any, generate: Any
) -> None:
    said = {name: encoded(name, tools=(WEATHER, LOOSE), tool_choice=choice) for name in WIRES}

    assert [said[name]["tool_choice"] for name in ("chat", "compatible", "responses", "messages")] == [
        chat,
        chat,
        responses,
        messages,
    ]
    assert said["generate"]["toolConfig"] == {"functionCallingConfig": generate}


def test_one_call_at_a_time_is_asked_for_where_there_is_a_word_for_it() -> None:
    one = {"tools": (WEATHER,), "parallel_tool_calls": False}

    assert encoded("chat", **one)["parallel_tool_calls"] is False
    assert encoded("responses", **one)["parallel_tool_calls"] is False
    assert encoded("messages", **one)["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert encoded("messages", tool_choice="clock", **one)["tool_choice"] == {
        "type": "tool",
        "name": "clock",
        "disable_parallel_tool_use": True,
    }
    with pytest.raises(UsageError, match=r"Gemini has no way to forbid several calls.*Nothing was sent\."):
        encoded("generate", **one)


@pytest.mark.parametrize("name", WIRES)
def test_tools_are_given_in_one_place(name: str) -> None:
    mine = [{"type": "web_search"}]

    assert encoded(name, extra_body={"tools": mine})["tools"] == mine
    with pytest.raises(UsageError, match=r"extra_body sets 'tools', and the question has tools of its own"):
        encoded(name, tools=(WEATHER,), extra_body={"tools": mine})


def test_what_a_caller_includes_in_responses_stays() -> None:
    body = encoded("responses", tools=(WEATHER,), extra_body={"include": ["message.output_text.logprobs"]})

    assert body["include"] == ["message.output_text.logprobs", "reasoning.encrypted_content"]


# Conversations.


def test_calls_and_results_go_back_in_each_formats_words() -> None:
    said = {name: conversation(encoded(name, ASKED, CALLED, RESULTS, Turn("user", "So?"))) for name in WIRES}

    assert (
        said["chat"]
        == said["compatible"]
        == [
            {"role": "user", "content": "Which is warmer?"},
            {
                "role": "assistant",
                "content": "Let me look.",
                "tool_calls": [
                    {"id": "id_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}},
                    {"id": "id_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Ulm"}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "id_1", "content": "12"},
            {"role": "tool", "tool_call_id": "id_2", "content": "no"},
            {"role": "user", "content": "So?"},
        ]
    )
    assert said["responses"] == [
        {"role": "user", "content": "Which is warmer?"},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "id_1", "name": "weather", "arguments": '{"city":"Bern"}'},
        {"type": "function_call", "call_id": "id_2", "name": "weather", "arguments": '{"city":"Ulm"}'},
        {"type": "function_call_output", "call_id": "id_1", "output": "12"},
        {"type": "function_call_output", "call_id": "id_2", "output": "no"},
        {"role": "user", "content": "So?"},
    ]
    # Results stand first, in one message with what the user says next.
    assert said["messages"] == [
        {"role": "user", "content": "Which is warmer?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "id_1", "name": "weather", "input": {"city": "Bern"}},
                {"type": "tool_use", "id": "id_2", "name": "weather", "input": {"city": "Ulm"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "id_1", "content": "12"},
                {"type": "tool_result", "tool_use_id": "id_2", "content": "no", "is_error": True},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    assert said["generate"] == [
        {"role": "user", "parts": [{"text": "Which is warmer?"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Let me look."},
                {
                    "functionCall": {"id": "id_1", "name": "weather", "args": {"city": "Bern"}},
                    "thoughtSignature": "skip_thought_signature_validator",
                },
                {"functionCall": {"id": "id_2", "name": "weather", "args": {"city": "Ulm"}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "id_1", "name": "weather", "response": {"output": "12"}}},
                {"functionResponse": {"id": "id_2", "name": "weather", "response": {"error": "no"}}},
                {"text": "So?"},
            ],
        },
    ]


def test_turns_of_one_role_are_one_message_where_roles_alternate() -> None:
    turns = (Turn("user", "a"), Turn("user", "b"), Turn("assistant", "c"), Turn("user", "d"))

    assert len(conversation(encoded("chat", *turns))) == len(conversation(encoded("responses", *turns))) == 4
    assert conversation(encoded("messages", *turns)) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    assert conversation(encoded("generate", *turns)) == [
        {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}]},
        {"role": "user", "parts": [{"text": "d"}]},
    ]


def test_a_models_own_words_go_back_unchanged() -> None:
    blocks = [{"type": "thinking", "signature": "s"}]
    content = {"parts": [{"thoughtSignature": "s"}], "role": "model"}
    claude = Turn(
        "assistant", "Let me look.", calls=CALLS, echo=ProviderMessage("messages", orjson.dumps(blocks).decode())
    )
    gemini = Turn(
        "assistant", "Let me look.", calls=CALLS, echo=ProviderMessage("generate", orjson.dumps(content).decode())
    )

    said = conversation(encoded("messages", ASKED, claude, RESULTS)), conversation(encoded("generate", ASKED, gemini))

    assert said[0][1] == {"role": "assistant", "content": blocks}
    assert said[1][1] == content


def test_responses_items_go_back_unchanged() -> None:
    items = [{"type": "reasoning", "id": "rs_1", "encrypted_content": "s"}, {"type": "function_call", "id": "fc_1"}]
    turn = Turn("assistant", "", calls=CALLS, echo=ProviderMessage("responses", orjson.dumps(items).decode()))

    assert conversation(encoded("responses", ASKED, turn, RESULTS))[1:3] == items


def test_a_server_gets_back_all_that_it_wrote_and_openai_what_it_takes() -> None:
    written = {"role": "assistant", "content": None, "tool_calls": [{"id": "id_1"}], "reasoning_content": "hm"}
    turn = Turn("assistant", "", calls=CALLS, echo=ProviderMessage("chat", orjson.dumps(written).decode()))

    assert conversation(encoded("compatible", ASKED, turn, RESULTS))[1] == written
    assert conversation(encoded("chat", ASKED, turn, RESULTS))[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "id_1"}],
    }


@pytest.mark.parametrize("name", WIRES)
def test_another_formats_words_are_put_into_ones_own(name: str) -> None:
    foreign = Turn("assistant", "Let me look.", calls=CALLS, echo=ProviderMessage("another", "[]"))

    assert encoded(name, ASKED, foreign, RESULTS) == encoded(name, ASKED, CALLED, RESULTS)


@pytest.mark.parametrize("arguments", ["not JSON", "[1]"])
def test_arguments_that_are_no_object_are_told_in_one(arguments: str) -> None:
    odd = Turn("assistant", "", calls=(ToolCall("id_1", "weather", arguments),))

    block = conversation(encoded("messages", ASKED, odd, RESULTS))[1]["content"][0]

    assert block["input"] == {"arguments": arguments if arguments == "not JSON" else [1]}


# The beginning of an answer.

BEGUN = (ASKED, Turn("assistant", '{"city":'))


@pytest.mark.parametrize(
    ("wire", "model"),
    [
        (WIRES["chat"][0], "gpt-6-luna"),
        (WIRES["responses"][0], "gpt-5-pro"),
        (WIRES["messages"][0], "claude-haiku-5-5"),
        (WIRES["messages"][0], "claude-opus-4-6"),
        (WIRES["messages"][0], "claude-sonnet-4-6"),
    ],
)
def test_a_model_that_begins_every_answer_anew_takes_no_beginning(wire: Wire, model: str) -> None:
    with pytest.raises(UsageError, match=r"the beginning of an answer.*Nothing was sent\."):
        wire.encode(Request(model, BEGUN))


@pytest.mark.parametrize("name", ["messages", "generate", "compatible"])
def test_other_models_go_on_from_the_beginning_of_an_answer(name: str) -> None:
    last = conversation(encoded(name, *BEGUN))[-1]

    assert last["role"] == ("model" if name == "generate" else "assistant")
    assert '{"city":' in (last.get("content") or last["parts"][0]["text"])


# Files.


def test_files_stand_before_the_text_in_each_formats_words() -> None:
    shown = Turn("user", "What is this?", media=(IMAGE, PDF))

    said = {name: conversation(encoded(name, shown))[0] for name in WIRES}

    assert said["chat"]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aW1n"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"}},
        {"type": "text", "text": "What is this?"},
    ]
    assert said["compatible"] == said["chat"]
    assert said["responses"]["content"] == [
        {"type": "input_image", "image_url": "data:image/png;base64,aW1n"},
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,cGRm"},
        {"type": "input_text", "text": "What is this?"},
    ]
    assert said["messages"]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aW1n"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "cGRm"},
            "title": "a.pdf",
        },
        {"type": "text", "text": "What is this?"},
    ]
    assert said["generate"]["parts"] == [
        {"inlineData": {"mimeType": "image/png", "data": "aW1n"}},
        {"inlineData": {"mimeType": "application/pdf", "data": "cGRm"}},
        {"text": "What is this?"},
    ]


def test_files_that_the_provider_fetches_go_by_their_addresses() -> None:
    said = {name: conversation(encoded(name, Turn("user", "", media=(LINKED,))))[0] for name in WIRES}

    assert said["chat"]["content"] == [{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}]
    assert said["compatible"] == said["chat"]
    assert said["responses"]["content"] == [{"type": "input_image", "image_url": "https://example.org/a.png"}]
    assert said["messages"]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    ]
    assert said["generate"]["parts"] == [
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.org/a.png"}}
    ]


@pytest.mark.parametrize("name", WIRES)
def test_an_address_that_does_not_tell_its_kind_is_an_images(name: str) -> None:
    unnamed = Turn("user", "", media=(Media("image/*", url="https://example.org/a"),))

    said = orjson.dumps(encoded(name, unnamed)).decode()

    assert "https://example.org/a" in said
    assert "image/*" not in said


@pytest.mark.parametrize("name", ["chat", "responses", "messages", "compatible"])
def test_a_file_that_a_format_cannot_show_is_refused_before_anything_is_sent(name: str) -> None:
    with pytest.raises(
        UsageError, match=r"The prompt shows audio/wav as a file, and .* takes images.*Nothing was sent"
    ):
        encoded(name, Turn("user", "Listen.", media=(Media("audio/wav", data="YXU="),)))


@pytest.mark.parametrize("name", WIRES)
def test_a_file_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"neither content nor an address\. Nothing was sent\."):
        encoded(name, Turn("user", "Look.", media=(Media("image/png"),)))


def test_chat_shows_no_document_by_its_address() -> None:
    with pytest.raises(UsageError, match=r"application/pdf by its address, and Chat Completions takes .*PDF as files"):
        encoded("chat", Turn("user", "Read.", media=(Media("application/pdf", url="https://example.org/a.pdf"),)))


def test_a_server_of_ones_own_may_know_more_kinds_of_images() -> None:
    tiff = Turn("user", "Look.", media=(Media("image/tiff", data="aW1n"),))

    assert conversation(encoded("compatible", tiff))[0]["content"][0]["type"] == "image_url"
    with pytest.raises(UsageError, match="image/tiff"):
        encoded("chat", tiff)


def test_a_local_model_is_asked_with_text_alone() -> None:
    wire = LocalChat()

    plain = wire.encode(Request("small", BEGUN, json_object=True))

    assert plain == {
        "model": "small",
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "user", "content": "Which is warmer?"},
            {"role": "assistant", "content": '{"city":'},
        ],
    }
    with pytest.raises(UsageError, match=r"it calls no tools\..*Nothing was sent\."):
        wire.encode(Request("small", (ASKED,), tools=(WEATHER,)))
    with pytest.raises(UsageError, match=r"it sees no images and no documents\..*Nothing was sent\."):
        wire.encode(Request("small", (Turn("user", "", media=(IMAGE,)),)))


def test_a_local_models_name_leads_to_that_wire(tmp_path: Path) -> None:
    weights = tmp_path / "small.gguf"
    weights.write_bytes(b"GGUF")

    target = resolve(f"local:{weights}", servers={}, clients={}, keys={}, simulator=str)

    assert isinstance(target.wire, LocalChat)


# JSON of any shape, less help, marks.


def test_json_of_any_shape_is_asked_for_where_there_is_a_word_for_it() -> None:
    bodies = {name: encoded(name, json_object=True) for name in WIRES}

    assert bodies["chat"]["response_format"] == bodies["compatible"]["response_format"] == {"type": "json_object"}
    assert bodies["responses"]["text"] == {"format": {"type": "json_object"}}
    assert bodies["generate"]["generationConfig"] == {"responseMimeType": "application/json"}
    assert bodies["messages"] == encoded("messages")


@pytest.mark.parametrize("name", WIRES)
def test_less_help_keeps_conversations_tools_and_files(name: str) -> None:
    shown = Turn("user", "What is this?", media=(IMAGE,))
    wire, _ = WIRES[name]
    plain = encoded(name, shown, system="Be brief.", tools=(WEATHER,))
    schemed = encoded(name, shown, system="Be brief.", tools=(WEATHER,), schema=SCHEMA)

    for schema_level in (1, 2):
        loose = wire.relax_schema(schemed, schema_level)

        assert loose["tools"] == plain["tools"]
        assert conversation(loose)[-1] == conversation(plain)[-1]
        assert "matches this JSON schema" in orjson.dumps(loose).decode()


@pytest.mark.parametrize("name", ["chat", "compatible", "generate"])
def test_a_server_that_knows_no_json_object_is_asked_in_words_alone(name: str) -> None:
    wire, _ = WIRES[name]
    asked = encoded(name, json_object=True)

    assert wire.relax_schema(asked, 1) == asked
    assert "response_format" not in wire.relax_schema(asked, 2)
    assert wire.relax_schema(asked, 2).get("generationConfig", {}) == {}


def test_an_instruction_in_blocks_stays_in_blocks_with_less_help() -> None:
    body = {
        "model": "small",
        "messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    }

    told = WIRES["compatible"][0].relax_schema(body, 2)["messages"][0]["content"]

    assert [block["text"].partition("\n")[0] for block in told] == [
        "Be brief.",
        "Answer with one JSON value that matches this JSON schema, and with nothing else:",
    ]


def test_anthropics_mark_stands_after_the_tools_and_leaves_files_alone() -> None:
    wire = WIRES["messages"][0]
    shown = Turn("user", "Look at this.", media=(IMAGE,))
    body = encoded("messages", shown, system="Be brief.", tools=(WEATHER,))
    mine = {**body, "messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]}

    marked = wire.mark_prompt_cache(body, "pllm-1", "Look at")

    assert marked["system"] == [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert {**marked, "system": "Be brief."} == body
    assert wire.mark_prompt_cache(mine, "pllm-1", "") == mine
    assert wire.mark_prompt_cache({**body, "system": marked["system"]}, "pllm-1", "") == marked


@pytest.mark.parametrize("name", WIRES)
def test_tools_are_part_of_what_rows_share(name: str) -> None:
    wire, _ = WIRES[name]

    shared = wire.prefix(encoded(name, system="Be brief.", tools=(WEATHER,)))

    assert encoded(name, tools=(WEATHER,))["tools"] in shared
    assert wire.prefix(encoded(name, system="Be brief.")) != shared


FIELDS = [
    "messages",
    "input",
    "contents",
    "system",
    "tools",
    "response_format",
    "text",
    "output_config",
    "generationConfig",
]


@pytest.mark.parametrize("odd", [None, "text", ["text"], [None], [[]], 3, {}, [{}], [{"content": 3}]])
@pytest.mark.parametrize("name", WIRES)
def test_whatever_a_callers_own_body_says_is_left_for_its_provider_to_refuse(name: str, odd: Any) -> None:
    wire, _ = WIRES[name]
    refused = Failure(FailureKind.BAD_REQUEST, "No.")

    for field in FIELDS:
        body = {"model": "m", field: odd}

        assert wire.relax_schema(body, 0) == wire.relax_schema(body, 2) == body
        assert wire.mark_prompt_cache(body, "pllm-1", "lead").keys() - {"prompt_cache_key"} == body.keys()
        assert len(wire.prefix(body)) > 1
        assert wire.output_limit(body) is None
        assert not Quirks().adapt(refused, body, "m", unenforced_schema=True)


# What comes back.


def test_a_call_has_an_id_where_the_provider_gives_none_and_its_result_goes_back_without() -> None:
    call = {"functionCall": {"name": "clock"}}
    reply = WIRES["generate"][0].decode({"candidates": [{"content": {"parts": [call, call]}, "finishReason": "STOP"}]})

    said = conversation(
        encoded(
            "generate",
            ASKED,
            Turn("assistant", "", calls=reply.calls, echo=reply.echo),
            Turn("tool", "", results=(ToolCallOutput("call_0", "clock", "1"), ToolCallOutput("call_1", "clock", "2"))),
        )
    )

    assert reply.calls == (ToolCall("call_0", "clock", "{}"), ToolCall("call_1", "clock", "{}"))
    assert said[1] == {"role": "model", "parts": [call, call]}
    assert said[2]["parts"] == [
        {"functionResponse": {"name": "clock", "response": {"output": "1"}}},
        {"functionResponse": {"name": "clock", "response": {"output": "2"}}},
    ]


def test_a_server_that_writes_arguments_as_an_object_and_no_id_is_understood() -> None:
    message = {"content": "", "tool_calls": [{"function": {"name": "clock", "arguments": {"a": 1}}}]}

    reply = WIRES["compatible"][0].decode({"choices": [{"message": message, "finish_reason": "tool_calls"}]})

    assert (reply.finish, reply.calls, reply.echo) == (Finish.CALLED, (ToolCall("call_0", "clock", '{"a":1}'),), None)


# A whole reply that says something and calls a tool, and the same one cut off or filtered.
ENDS: dict[str, tuple[dict[str, Any], dict[str, dict[str, Any]]]] = {
    "chat": (
        {
            "choices": [
                {
                    "message": {
                        "content": "hm",
                        "tool_calls": [{"id": "a", "function": {"name": "clock", "arguments": "{}"}}],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
        {"truncated": {"finish_reason": "length"}, "filtered": {"finish_reason": "content_filter"}},
    ),
    "messages": (
        {
            "content": [
                {"type": "text", "text": "hm"},
                {"type": "tool_use", "id": "a", "name": "clock", "input": {}},
            ],
            "stop_reason": "tool_use",
        },
        {"truncated": {"stop_reason": "max_tokens"}, "refused": {"stop_reason": "refusal"}},
    ),
    "generate": (
        {
            "candidates": [
                {
                    "content": {"parts": [{"text": "hm"}, {"functionCall": {"id": "a", "name": "clock", "args": {}}}]},
                    "finishReason": "STOP",
                }
            ]
        },
        {"truncated": {"finishReason": "MAX_TOKENS"}, "filtered": {"finishReason": "SAFETY"}},
    ),
    "responses": (
        {
            "status": "completed",
            "output": [
                {"type": "message", "content": [{"type": "output_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "a", "name": "clock", "arguments": "{}"},
            ],
        },
        {
            "truncated": {"status": "incomplete"},
            "filtered": {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        },
    ),
}


@pytest.mark.parametrize("name", ENDS)
def test_a_whole_reply_that_calls_tools_has_calls_and_a_cut_one_has_none(name: str) -> None:
    wire, _ = WIRES[name]
    whole, ends = ENDS[name]

    reply = wire.decode(whole)

    assert (reply.text, reply.finish) == ("hm", Finish.CALLED)
    assert reply.calls == (ToolCall("a", "clock", "{}"),)
    assert reply.echo is not None
    assert reply.echo.form == wire.format_name
    for finish, change in ends.items():
        inner = next((whole[part] for part in ("choices", "candidates") if part in whole), None)
        cut = {**whole, **change} if inner is None else {next(iter(whole)): [{**inner[0], **change}]}
        ended = wire.decode(cut)
        assert (ended.finish, ended.calls, ended.echo) == (Finish(finish), (), None)


# A model that cannot be forced.


@pytest.mark.parametrize(
    ("name", "choice", "freed"),
    [
        ("chat", "required", "auto"),
        ("chat", "weather", "auto"),
        ("responses", "weather", "auto"),
        ("messages", "required", {"type": "auto", "disable_parallel_tool_use": True}),
        ("messages", "weather", {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_a_model_that_cannot_be_forced_is_left_to_choose_from_then_on(name: str, choice: str, freed: Any) -> None:
    quirks, wire = Quirks(), WIRES[name][0]
    body = encoded(name, tools=(WEATHER,), tool_choice=choice, parallel_tool_calls=False)
    refused = Failure(FailureKind.BAD_REQUEST, "tool_choice: type `any` is not supported for this model.")

    healed = quirks.adapt(refused, body, "m", unenforced_schema=False)

    assert healed
    assert quirks.to_wire(body, wire)["tool_choice"] == freed
    assert not quirks.adapt(refused, quirks.to_wire(body, wire), "m", unenforced_schema=False)


@pytest.mark.parametrize("choice", ["any", "tool", "function", "required"])
def test_a_word_of_the_callers_own_that_forces_a_tool_is_left_to_choose_too(choice: str) -> None:
    quirks, body = Quirks(), {"model": "m", "messages": [], "tool_choice": choice}
    refused = Failure(FailureKind.BAD_REQUEST, "tool_choice is not supported.")

    assert quirks.adapt(refused, body, "m", unenforced_schema=False)
    assert quirks.to_wire(body, WIRES["chat"][0])["tool_choice"] == "auto"


def test_a_tool_that_was_not_offered_is_not_put_right_by_leaving_the_choice() -> None:
    body = encoded("chat", tools=(WEATHER,), tool_choice="wether")
    refused = Failure(
        FailureKind.BAD_REQUEST, "Tool choice 'wether' not found in 'tools' parameter.", field="tool_choice"
    )

    assert not Quirks().adapt(refused, body, "m", unenforced_schema=False)

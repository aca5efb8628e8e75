"""The parameters that the simulator knows are the SDKs', no more and no fewer."""

from __future__ import annotations

import re
from importlib import metadata
from inspect import getsource
from typing import get_type_hints

import anthropic
import openai
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from google.genai import errors, models
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from sim_asking import chat, generate, message, respond

from pllm_notebook.sim.wires import anthropic_messages, google_generate, openai_chat, openai_responses

# The releases that the lists were read from. A later one may know more, which is no fault of the simulator's.
READ_FROM = {"openai": "3.52.0", "anthropic": "2.11.0"}


@pytest.mark.parametrize(
    ("sdk", "params", "known"),
    [
        ("openai", CompletionCreateParamsNonStreaming, openai_chat.PARAMETERS),
        ("openai", ResponseCreateParamsNonStreaming, openai_responses.PARAMETERS),
        ("anthropic", MessageCreateParamsNonStreaming, anthropic_messages.PARAMETERS),
    ],
    ids=["chat", "responses", "messages"],
)
def test_the_sdks_parameters_are_known_and_none_is_invented(sdk, params, known):
    theirs = set(get_type_hints(params))

    assert known <= theirs
    if metadata.version(sdk) == READ_FROM[sdk]:
        assert known == theirs


def test_google_knows_what_the_sdk_writes():
    # The SDK has no type for the body; its converter names every field that it writes.
    source = getsource(models._GenerateContentConfig_to_mldev)
    top = set(re.findall(r"setv\(\s*parent_object,\s*\['(\w+)'\]", source))
    config = set(re.findall(r"setv\(\s*to_object,\s*\['(\w+)'\]", source))

    assert top <= google_generate.PARAMETERS
    assert google_generate.PARAMETERS - top == {"model", "contents", "generationConfig"}
    assert config - google_generate.CONFIG == set()
    assert google_generate.CONFIG - config == {"responseFormat"}


def test_an_unknown_parameter_is_named_by_every_provider(gpt, claude, gemini):
    with pytest.raises(openai.BadRequestError) as from_chat:
        chat(gpt, extra_body={"colour": 1})
    with pytest.raises(openai.BadRequestError) as from_responses:
        respond(gpt, extra_body={"colour": 1})
    with pytest.raises(anthropic.BadRequestError) as from_anthropic:
        message(claude, extra_body={"colour": 1})
    with pytest.raises(errors.ClientError) as from_google:
        generate(gemini, http_options={"extra_body": {"colour": 1}})

    for error in (from_chat.value, from_responses.value):
        assert (error.code, error.param) == ("unknown_parameter", "colour")
    assert from_anthropic.value.body["error"]["message"] == "colour: Extra inputs are not permitted"
    assert from_google.value.code == 400
    assert from_google.value.status == "INVALID_ARGUMENT"
    assert 'Unknown name "colour"' in from_google.value.message


def test_a_parameter_can_be_made_unsupported(sim, gpt, claude, gemini, compatible):
    sim.set(unsupported_parameters=("temperature", "top_p"))

    with pytest.raises(openai.BadRequestError) as from_openai:
        chat(gpt, model="gpt-4.1", temperature=0)
    with pytest.raises(openai.BadRequestError) as from_compatible:
        chat(compatible, model="llama", temperature=0)
    with pytest.raises(anthropic.BadRequestError) as from_anthropic:
        message(claude, model="claude-haiku-4-5", extra_body={"temperature": 0})
    with pytest.raises(errors.ClientError) as from_google:
        generate(gemini, temperature=0)

    assert (from_openai.value.code, from_openai.value.param) == ("unsupported_parameter", "temperature")
    assert from_compatible.value.param == "temperature"
    assert "`temperature`" in from_anthropic.value.message
    assert "temperature" in from_google.value.message

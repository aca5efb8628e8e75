"""The same question put to each provider through its SDK, and what came back, in one form."""

from __future__ import annotations

import orjson
from google.genai import types

SCHEMA = {
    "type": "object",
    "properties": {
        "product": {"type": "string"},
        "sentiment": {"type": "string", "enum": ["positive", "negative", "neutral"]},
        "score": {"type": "integer"},
    },
    "required": ["product", "sentiment", "score"],
    "additionalProperties": False,
}
TOOL = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}


def chat(client, prompt="hi", *, schema=None, **more):
    if schema is not None:
        form = {"name": "answer", "schema": schema, "strict": True}
        more["response_format"] = {"type": "json_schema", "json_schema": form}
    more.setdefault("model", "gpt-6-luna")
    return client.chat.completions.create(messages=[{"role": "user", "content": prompt}], **more)


def respond(client, prompt="hi", *, schema=None, **more):
    if schema is not None:
        more["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": schema, "strict": True}}
    more.setdefault("model", "gpt-6-luna")
    return client.responses.create(input=prompt, **more)


def message(client, prompt="hi", *, schema=None, **more):
    if schema is not None:
        more["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    more.setdefault("model", "claude-haiku-5-5")
    more.setdefault("max_tokens", 1000)
    return client.messages.create(messages=[{"role": "user", "content": prompt}], **more)


def generate(client, prompt="hi", *, schema=None, model="gemini-3.8-flash", **config):
    if schema is not None:
        config |= {"response_mime_type": "application/json", "response_json_schema": schema}
    return client.models.generate_content(model=model, contents=prompt, config=types.GenerateContentConfig(**config))


def openai_tool(**more):
    return {"type": "function", "function": {"name": "weather", "parameters": TOOL, "strict": True}, **more}


def parsed(text):
    return orjson.loads(text)

"""What rows share comes first in every body and is marked where a provider wants it; no key knows of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from anthropic.types import TextBlockParam
from pydantic import BaseModel, TypeAdapter

from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.launch import build_spec, options_for
from pllm_notebook.messages_types import Dialogue, Turn
from pllm_notebook.providers import local
from pllm_notebook.providers.prompt_cache import kept_for_an_hour
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.providers.registry import find
from pllm_notebook.schema import OutputType
from pllm_notebook.settings import configure

MODELS = {
    "chat": "openai:gpt-6-luna",
    "responses": "openai:gpt-5-pro",
    "anthropic": "anthropic:claude-haiku-5-5",
    "google": "google:gemini-3.5-flash-lite",
    "compatible": "mine:small",
}
LONG = "Answer from the text alone. " * 800
EXAMPLES = "Text: it is good.\nAnswer: yes\n" * 800
ROWS = ("a first row", 'quite another, "with" signs \\n and\nlines')


class Fact(BaseModel):
    name: str
    score: int


@pytest.fixture(autouse=True)
def server() -> None:
    configure(servers={"mine": "http://127.0.0.1:9/v1"})


def asked(wire: str, kind: Any = Fact, schema_level: int = 0, **options: Any) -> CallSpec:
    output = None if kind is None else OutputType.of(kind)
    spec = build_spec(options_for({"model": MODELS[wire]} | options), output, instruct=False)
    # What another test's calls have taught of the model stays out of this.
    spec.target = replace(spec.target, quirks=Quirks())
    spec.target.quirks.schemas.floor = schema_level
    return spec


def sent(spec: CallSpec, *prompts: str) -> list[bytes]:
    """The bytes that go on the wire, all prompts being known before the first is sent."""
    texts = [spec.encoded(prompt) for prompt in prompts]
    return [spec.content(text) for text in texts if isinstance(text, bytes)]


def bodies(spec: CallSpec, *prompts: str) -> list[Any]:
    return [orjson.loads(content) for content in sent(spec, *prompts)]


@pytest.mark.parametrize("beginning", ["", "Rate it: ", EXAMPLES], ids=["bare", "short", "long"])
@pytest.mark.parametrize("system", [None, "Be brief.", LONG], ids=["plain", "system", "long-system"])
@pytest.mark.parametrize("schema_level", [0, 1, 2])
@pytest.mark.parametrize("wire", MODELS)
def test_what_rows_share_comes_first_and_the_row_last(
    wire: str, schema_level: int, system: str | None, beginning: str
) -> None:
    spec = asked(wire, schema_level=schema_level, system=system, temperature=0.5, extra_body={"seed": 7})

    contents = sent(spec, *(beginning + row for row in ROWS))

    before, after = [], []
    for content, row in zip(contents, ROWS, strict=True):
        text = orjson.dumps(row)[1:-1]
        assert content.count(text) == 1
        head, _, tail = content.partition(text)
        before.append(head)
        after.append(tail)
    assert before[0] == before[1]
    # Nothing but closing signs follows a row: all that could come before it does.
    assert set(after[0]) <= set(b'"}]')
    assert after[0] == after[1]


@pytest.mark.parametrize("wire", MODELS)
def test_a_marked_call_has_the_key_of_an_unmarked_one(wire: str) -> None:
    marked, unmarked = (asked(wire, system=LONG) for _ in range(2))
    unmarked.target.quirks.marks = False
    prompts = [EXAMPLES + row for row in ROWS]

    contents = sent(marked, *prompts), sent(unmarked, *prompts)

    keys = [[spec.key(orjson.dumps(prompt)) for prompt in prompts] for spec in (marked, unmarked)]
    assert keys[0] == keys[1]
    assert (contents[0] != contents[1]) == (wire in ("chat", "responses", "anthropic"))


@pytest.mark.parametrize("wire", MODELS)
def test_a_short_prefix_is_not_marked(wire: str) -> None:
    (content, _) = sent(asked(wire, system="Be brief."), *ROWS)

    assert b"prompt_cache_key" not in content
    assert b"cache_control" not in content


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_openai_is_told_which_calls_share_a_prefix(wire: str) -> None:
    one, other = bodies(asked(wire, system=LONG), *ROWS)
    (elsewhere, _) = bodies(asked(wire, system=LONG + "!"), *ROWS)

    assert one["prompt_cache_key"] == other["prompt_cache_key"]
    assert one["prompt_cache_key"].startswith("pllm-")
    assert one["prompt_cache_key"] != elsewhere["prompt_cache_key"]


def test_a_cache_key_is_that_of_the_prefix_wherever_the_lead_was_found_to_end() -> None:
    one, _ = bodies(asked("chat"), EXAMPLES + "a", EXAMPLES + "b")
    other, _ = bodies(asked("chat"), EXAMPLES + "x\na", EXAMPLES + "x\nb")

    assert one["prompt_cache_key"] == other["prompt_cache_key"]


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_a_cache_key_of_the_callers_own_stays(wire: str) -> None:
    (body, _) = bodies(asked(wire, system=LONG, extra_body={"prompt_cache_key": "mine"}), *ROWS)

    assert body["prompt_cache_key"] == "mine"


def test_a_compatible_server_is_sent_no_field_it_may_not_know() -> None:
    (content, _) = sent(asked("compatible", system=LONG), *ROWS)

    assert b"prompt_cache_key" not in content


def test_anthropics_mark_is_on_the_system_block_and_not_on_the_row() -> None:
    (body, _) = bodies(asked("anthropic", system=LONG), *ROWS)

    assert body["system"] == [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    assert body["messages"] == [{"role": "user", "content": ROWS[0]}]


@pytest.mark.parametrize("system", [None, "Be brief."])
def test_anthropics_mark_is_at_the_end_of_what_prompts_begin_with(system: str | None) -> None:
    for body, row in zip(
        bodies(asked("anthropic", system=system), *(EXAMPLES + row for row in ROWS)), ROWS, strict=True
    ):
        assert body.get("system") == system
        assert body["messages"] == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": EXAMPLES, "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": row},
                ],
            }
        ]


def test_marked_blocks_are_those_of_the_sdks_types() -> None:
    (by_system, _) = bodies(asked("anthropic", system=LONG), *ROWS)
    (by_lead, _) = bodies(asked("anthropic"), *(EXAMPLES + row for row in ROWS))

    (message,) = by_lead["messages"]
    for blocks in (by_system["system"], message["content"]):
        assert TypeAdapter(list[TextBlockParam]).validate_python(blocks) == blocks


@pytest.mark.parametrize("odd", ["", " \n\t", "Another beginning"])
def test_a_row_that_cannot_be_parted_is_sent_whole(odd: str) -> None:
    prompt = EXAMPLES + odd if odd.strip() == "" else odd
    spec = asked("anthropic")
    sent(spec, *(f"{EXAMPLES}{n}" for n in range(40)))

    (body,) = bodies(spec, prompt)

    assert body["messages"] == [{"role": "user", "content": prompt}]


def test_a_repair_turn_shares_the_rows_prefix() -> None:
    spec = asked("anthropic")
    (content, _) = sent(spec, *(EXAMPLES + row for row in ROWS))
    turns = (Turn("user", EXAMPLES + ROWS[0]), Turn("assistant", "{}"), Turn("user", "Again."))

    repair = orjson.loads(spec.content_of(Dialogue(turns)))

    assert repair["messages"][0] == orjson.loads(content)["messages"][0]
    assert repair["messages"][1:] == [{"role": "assistant", "content": "{}"}, {"role": "user", "content": "Again."}]


@pytest.mark.parametrize(
    "own",
    [
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"tools": [{"name": "t", "input_schema": {}, "cache_control": {"type": "ephemeral"}}]},
    ],
    ids=["top", "tool"],
)
def test_who_marks_himself_is_not_marked_again(own: dict[str, Any]) -> None:
    (body, _) = bodies(asked("anthropic", system=LONG, extra_body=own), *ROWS)

    assert body["system"] == LONG
    assert own.items() <= body.items()


@pytest.mark.parametrize("wire", MODELS)
def test_a_call_by_itself_is_not_marked(wire: str) -> None:
    spec = asked(wire, system=LONG)
    unmarked = asked(wire, system=LONG)
    unmarked.target.quirks.marks = False
    prompts = [EXAMPLES + row for row in ROWS]
    spec.shared = False

    alone = sent(spec, *prompts)
    spec.shared = True

    assert alone == sent(unmarked, *prompts)
    assert (alone != sent(spec, *prompts)) == (wire in ("chat", "responses", "anthropic"))


@pytest.mark.parametrize(
    ("fields", "hour"),
    [
        ({}, False),
        ({"cache_control": {"type": "ephemeral"}}, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "5m"}}, False),
        ({"cache_control": {"type": "ephemeral", "ttl": "1h"}}, True),
        ({"tools": [{"name": "t"}, {"name": "u", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, True),
        ({"metadata": {"ttl": "1h"}, "cache_control": None}, False),
    ],
)
def test_a_mark_for_an_hour_is_seen_wherever_it_stands(fields: dict[str, Any], hour: bool) -> None:
    assert kept_for_an_hour(fields) is hour


def test_the_size_of_a_body_is_that_of_its_bytes() -> None:
    for wire in MODELS:
        spec = asked(wire, system=LONG)
        prompts = [EXAMPLES + row for row in ROWS]

        for content, prompt in zip(sent(spec, *prompts), prompts, strict=True):
            assert spec.size(orjson.dumps(prompt)) == len(content)


@pytest.mark.parametrize(
    ("maker", "model", "tokens"),
    [
        ("openai", "gpt-6-luna", 1024),
        ("anthropic", "claude-opus-5", 512),
        ("anthropic", "claude-sonnet-4-5-20250929", 1024),
        ("anthropic", "claude-opus-4-8", 1024),
        ("anthropic", "claude-opus-4-6", 4096),
        ("anthropic", "claude-haiku-4-5", 4096),
        ("anthropic", "claude-nobody-knows", 4096),
        ("google", "gemini-2.5-flash", 2048),
        ("google", "gemini-3.8-flash", 4096),
    ],
)
def test_a_prefix_is_cached_from_the_makers_own_length_on(maker: str, model: str, tokens: int) -> None:
    provider = find(maker)

    assert provider is not None
    assert provider.cached_from_tokens(model) == tokens


def test_where_nobody_knows_of_a_cache_there_is_no_length() -> None:
    assert local.PROVIDER.cached_from_tokens("m") is None

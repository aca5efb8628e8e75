"""The modelled prompt caches: read by who comes after an answer, and only as far as the beginning is the same."""

from __future__ import annotations

import threading

import pytest

from tests.sim.sim_asking import chat, generate, message, respond

LONG = "Answer from the text alone. " * 300  # 2,100 tokens
MARK = {"cache_control": {"type": "ephemeral"}}


def openai_cached(reply) -> int:
    return reply.usage.prompt_tokens_details.cached_tokens


def written_and_read(reply) -> tuple[int, int]:
    usage = reply.usage
    return usage.cache_creation_input_tokens, usage.cache_read_input_tokens


def ask_claude(claude, row: str, *blocks, **more):
    return message(claude, [*blocks, {"type": "text", "text": row}], **more)


def test_a_beginning_is_read_from_the_second_request_on(sim, gpt, gemini) -> None:
    sim.set(prompt_cache=True)

    chats = [openai_cached(chat(gpt, LONG + row)) for row in ("a", "b")]
    responses = [respond(gpt, LONG + row).usage.input_tokens_details.cached_tokens for row in ("c", "d")]
    gemini_replies = [generate(gemini, LONG + row) for row in ("a", "b")]

    assert chats[0] == 0
    # In steps of 128 tokens, of 2,100 that are the same.
    assert chats[1] == 2048
    assert responses == [2048, 2048]
    assert [reply.usage_metadata.cached_content_token_count for reply in gemini_replies] == [None, 2048]


def test_nothing_is_cached_unless_asked_for(sim, gpt) -> None:
    assert [openai_cached(chat(gpt, LONG + row)) for row in ("a", "b")] == [0, 0]


def test_a_short_beginning_is_not_cached(sim, gpt) -> None:
    sim.set(prompt_cache=True)

    assert [openai_cached(chat(gpt, "x" * 3000 + row)) for row in ("a", "b")] == [0, 0]


def test_another_beginning_model_or_schema_reads_nothing(sim, gpt) -> None:
    sim.set(prompt_cache=True)
    chat(gpt, LONG + "a")
    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}

    others = [chat(gpt, "!" + LONG), chat(gpt, LONG, model="gpt-6-sol"), chat(gpt, LONG + "json", schema=schema)]

    assert [openai_cached(reply) for reply in others] == [0, 0, 0]


def test_requests_that_come_before_the_first_answer_read_nothing(sim, gpt) -> None:
    sim.set(prompt_cache=True, latency_s=0.3)
    cached: list[int] = []
    threads = [threading.Thread(target=lambda n=n: cached.append(openai_cached(chat(gpt, f"{LONG}{n}")))) for n in "ab"]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert cached == [0, 0]


def test_anthropic_writes_and_reads_up_to_a_marked_block(sim, claude) -> None:
    sim.set(prompt_cache=True)
    system = [{"type": "text", "text": LONG, **MARK}]

    first, second = (ask_claude(claude, row, system=system) for row in ("one", "two"))

    assert (written_and_read(first), written_and_read(second)) == ((2100, 0), (0, 2100))
    assert first.usage.cache_creation.ephemeral_5m_input_tokens == 2100
    assert first.usage.input_tokens + 2100 == second.usage.input_tokens + 2100 == 2101


def test_anthropic_caches_nothing_that_is_not_marked(sim, claude) -> None:
    sim.set(prompt_cache=True)

    replies = [ask_claude(claude, row, system=LONG) for row in ("one", "two")]

    assert [written_and_read(reply) for reply in replies] == [(0, 0), (0, 0)]


def test_a_mark_on_the_row_is_written_with_every_row_and_reads_nothing(sim, claude) -> None:
    sim.set(prompt_cache=True)

    replies = [message(claude, [{"type": "text", "text": LONG + row, **MARK}]) for row in ("aaaa", "bbbb")]
    at_the_top = [message(claude, LONG + row, cache_control=MARK["cache_control"]) for row in ("cccc", "dddd")]

    assert [written_and_read(reply) for reply in (*replies, *at_the_top)] == [(2101, 0)] * 4


def test_one_text_in_two_blocks_gets_the_answer_of_one(sim, claude) -> None:
    whole, parted = message(claude, LONG + "row"), ask_claude(claude, "row", {"type": "text", "text": LONG, **MARK})

    assert whole.content[0].text == parted.content[0].text


def test_a_reset_forgets_what_was_cached(sim, gpt) -> None:
    sim.set(prompt_cache=True)
    chat(gpt, LONG + "a")

    sim.reset()

    assert openai_cached(chat(gpt, LONG + "b")) == 0


@pytest.mark.parametrize("value", [1, "yes", None])
def test_the_option_is_true_or_false(sim, value) -> None:
    with pytest.raises(Exception, match="prompt_cache is True or False"):
        sim.set(prompt_cache=value)

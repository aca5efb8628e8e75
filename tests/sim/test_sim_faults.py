"""Every fault arrives through the real SDKs as the real one would."""

from __future__ import annotations

import asyncio
import time

import anthropic
import httpx2
import jsonschema
import openai
import orjson
import pytest
from google.genai import errors
from sim_asking import SCHEMA, chat, generate, message, respond

from pllm_notebook.sim import SimAnswer


def test_server_errors_have_their_status(sim, gpt, claude, gemini):
    for fault, status in (("error_500", 500), ("error_503", 503), ("error_529", 529)):
        sim.set(error_500=0, error_503=0, error_529=0)
        sim.set(**{fault: 1.0})

        with pytest.raises(openai.InternalServerError) as from_openai:
            chat(gpt)
        with pytest.raises(anthropic.InternalServerError) as from_anthropic:
            message(claude)
        with pytest.raises(errors.ServerError) as from_google:
            generate(gemini)

        assert from_anthropic.value.status_code == status
        assert from_openai.value.status_code == from_google.value.code == min(status, 503)
    assert sim.stats().faults == {"error_500": 3, "error_503": 3, "error_529": 3}
    assert sim.stats().answered == 0


@pytest.mark.parametrize("fault", ["reset", "truncated_body"])
def test_a_cut_connection_is_a_connection_error(sim, gpt, claude, gemini, fault):
    sim.set(**{fault: 1.0})

    with pytest.raises((openai.APIConnectionError, httpx2.TransportError)):
        chat(gpt)
    with pytest.raises((anthropic.APIConnectionError, httpx2.TransportError)):
        message(claude)
    with pytest.raises(httpx2.TransportError):
        generate(gemini)
    assert sim.stats().answered == 0


def test_a_hanging_request_ends_when_its_client_leaves(sim, gpt):
    sim.set(hang=1.0)

    with pytest.raises(openai.APITimeoutError):
        chat(gpt, timeout=0.2)

    deadline = time.monotonic() + 60
    while sim.stats().in_flight and time.monotonic() < deadline:
        pass
    assert sim.stats().in_flight == 0


def test_a_hanging_request_is_cut_in_the_end(sim, gpt):
    sim.set(hang=1.0, hang_s=0.05)

    with pytest.raises(openai.APIConnectionError):
        chat(gpt)


def test_a_dripping_body_arrives_whole(sim, gpt):
    sim.set(drip=1.0, drip_s=0.1, answers=lambda request: "all of it")

    assert chat(gpt).choices[0].message.content == "all of it"
    assert sim.stats().answered == 1


@pytest.mark.parametrize("fault", ["malformed", "html"])
def test_a_200_without_json_is_no_answer(sim, fault):
    sim.set(**{fault: 1.0})

    reply = httpx2.post(
        sim.base_url("openai") + "/chat/completions",
        json={"model": "gpt-6-luna", "messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": "Bearer k"},
    )

    assert reply.status_code == 200
    assert reply.headers["content-type"] == ("text/html" if fault == "html" else "application/json")
    with pytest.raises(ValueError):  # noqa: PT011 - the JSON parser's own error, of any message
        reply.json()
    assert sim.stats().answered == 0


def test_answers_that_are_no_use_are_paid_all_the_same(sim, gpt, claude):
    for fault, finish in (("refusal", "stop"), ("filtered", "content_filter"), ("truncation", "length")):
        sim.set(refusal=0, filtered=0, truncation=0)
        sim.set(**{fault: 1.0})
        assert chat(gpt, schema=SCHEMA).choices[0].finish_reason == finish
    sim.set(truncation=0, wrong_schema=1.0)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(orjson.loads(respond(gpt, schema=SCHEMA).output_text), SCHEMA)
    sim.set(wrong_schema=0, invalid_json=1.0)
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(message(claude, schema=SCHEMA).content[0].text)

    assert sim.stats().answered == 5
    assert chat(gpt).choices[0].message.content.startswith("SIMULATED answer")


def test_faults_win_over_the_answers_function_only_where_they_strike(sim, gpt):
    sim.set(answers=lambda request: "mine", refusal=1.0)
    assert chat(gpt).choices[0].message.refusal

    sim.set(refusal=0)
    assert chat(gpt).choices[0].message.content == "mine"


@pytest.mark.parametrize("kind", ["malformed", "reset", "hang"])
def test_faults_can_be_scripted(sim, gpt, kind):
    sim.set(hang_s=0.05, answers=lambda request: getattr(SimAnswer, kind)())

    with pytest.raises((openai.APIConnectionError, openai.APIResponseValidationError, ValueError)):
        chat(gpt)


def outcomes(sim, prompts, tries):
    """Ask every prompt *tries* times at once; give for each the statuses of its tries, in order."""

    async def run():
        async with openai.AsyncOpenAI(api_key="k", base_url=sim.base_url("openai"), max_retries=0) as client:

            async def one(prompt):
                seen = []
                for _ in range(tries):
                    try:
                        await client.chat.completions.create(
                            model="gpt-6-luna", messages=[{"role": "user", "content": prompt}]
                        )
                        seen.append(200)
                    except openai.APIStatusError as error:
                        seen.append(error.status_code)
                return tuple(seen)

            return await asyncio.gather(*[one(prompt) for prompt in prompts])

    return asyncio.run(run())


def test_faults_by_request_strike_each_try_anew_and_the_same_every_time(sim):
    prompts = [f"p{index}" for index in range(30)]
    sim.set(error_500=0.5)

    first = outcomes(sim, prompts, 3)
    sim.reset()
    again = outcomes(sim, prompts[::-1], 3)[::-1]
    sim.set(seed=1)
    sim.reset()
    other = outcomes(sim, prompts, 3)

    assert first == again
    assert first != other
    assert 25 < sum(status == 500 for seen in first for status in seen) < 65
    assert any(len(set(seen)) == 2 for seen in first)


def test_faults_by_prompt_strike_every_try_alike(sim):
    sim.set(error_500=0.5, faults_by="prompt")

    seen = outcomes(sim, [f"p{index}" for index in range(40)], 2)

    assert {len(set(statuses)) for statuses in seen} == {1}
    assert {statuses[0] for statuses in seen} == {200, 500}

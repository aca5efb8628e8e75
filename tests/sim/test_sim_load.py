"""Slots, latency and counts, with many requests at once."""

from __future__ import annotations

import asyncio
import statistics
import time

import openai
import pytest

from pllm_notebook.sim.draws import digest, normal, share


def ask_all(sim, prompts):
    """Ask all at once; give the answers' texts, or the statuses of those refused, in order."""

    async def run():
        async with openai.AsyncOpenAI(api_key="k", base_url=sim.base_url("compatible"), max_retries=0) as client:

            async def one(prompt):
                try:
                    reply = await client.chat.completions.create(
                        model="llama", messages=[{"role": "user", "content": prompt}]
                    )
                    return reply.choices[0].message.content
                except openai.APIStatusError as error:
                    return error.status_code

            return await asyncio.gather(*[one(prompt) for prompt in prompts])

    return asyncio.run(run())


def test_slots_are_never_more_than_said_and_nobody_is_forgotten(sim):
    busy, peak = set(), []

    def answers(request):
        busy.add(request.index)
        time.sleep(0.005)  # Long enough for others to come in, if they were let in.
        peak.append(len(busy))
        busy.discard(request.index)
        return request.prompt

    sim.set(slots=3, answers=answers)
    prompts = [f"p{index}" for index in range(60)]

    assert ask_all(sim, prompts) == prompts
    assert max(peak) == 3
    assert sim.stats().peak_in_flight > 3
    assert sim.stats().in_flight == 0


def test_more_in_flight_than_refuse_slots_is_503(sim):
    sim.set(refuse_slots=4, latency_s=0.3)

    texts = ask_all(sim, [f"p{index}" for index in range(20)])

    assert texts.count(503) == 16
    assert sim.stats().refused_503 == 16
    assert sim.stats().answered == 4


def test_the_same_answer_paid_twice_is_counted(sim):
    ask_all(sim, ["a", "b", "b", "c", "c", "c"])

    stats = sim.stats()
    assert (stats.requests, stats.answered, stats.distinct, stats.repeated) == (6, 6, 3, 2)


def test_answers_are_a_function_of_seed_and_prompt(sim):
    prompts = [f"p{index}" for index in range(20)]

    first = ask_all(sim, prompts)
    again = ask_all(sim, prompts[::-1])[::-1]
    sim.set(seed=-5)
    other = ask_all(sim, prompts)

    assert first == again
    assert len(set(first)) == 20
    assert not set(first) & set(other)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_latency_is_lognormal_about_its_median(sigma):
    drawn = [sigma * normal(share(digest(0, b"%d" % index), b"latency0")) for index in range(4000)]

    assert abs(statistics.median(drawn)) < 0.03
    assert abs(statistics.pstdev(drawn) - sigma) < 0.03

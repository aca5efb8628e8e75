"""Two thousand prompts of two providers, with faults: in order, each at its own pace, none waiting for another."""

from __future__ import annotations

import random
import time

import pytest

from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities, RequestLimits
from pllm_notebook.sim import SimRequest, Simulator
from tests.contract.sides import ANTHROPIC, OPENAI, reach

SLOW, FAST = 130, 1_870
# Of the slow provider; its bucket holds a second's worth.
PER_S = 12


@pytest.fixture
def heard(sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """When each provider was asked for an answer, by our own clock; one that a fault then swallowed is among them."""
    for side in (OPENAI, ANTHROPIC):
        reach(side, sim, monkeypatch)
    moments: dict[str, list[float]] = {"openai": [], "anthropic": []}

    def answer(request: SimRequest) -> str:
        moments[request.provider].append(time.monotonic())
        return f"{request.provider}: {request.prompt}"

    sim.set(
        answers=answer,
        latency_s=0.03,
        latency_sigma=1.0,
        error_500=0.06,
        reset=0.04,
        # A little more than the caller allows itself, so that whoever keeps the one is never refused by the other.
        limits={OPENAI.name: (PER_S * 60 * 1.2, None), ANTHROPIC.name: (90_000, None)},
        burst_s=2,
    )
    return moments


@pytest.mark.timeout(110)
def test_two_providers_go_at_their_own_pace_and_every_answer_is_in_its_place(
    sim: Simulator, heard: dict[str, list[float]]
) -> None:
    clients = ["openai"] * SLOW + ["anthropic"] * FAST
    random.Random(7).shuffle(clients)
    prompts = [
        LLMPromptContext(
            id=f"id {at}",
            new_message=f"prompt {at}",
            system_string=("Be brief.", "Be kind.", None)[at % 3],
            llm_config=LLMConfig(client=client, max_tokens=(None, 300)[at % 2]),
        )
        for at, client in enumerate(clients)
    ]
    utilities = ParallelAIUtilities(
        RequestLimits(max_requests_per_minute=PER_S * 60), RequestLimits(max_requests_per_minute=60_000)
    )

    outputs = utilities.run_parallel_ai_completion_sync(prompts)

    assert [output.error for output in outputs if output.error is not None] == []
    assert [(output.source_id, output.str_content) for output in outputs] == [
        (f"id {at}", f"{client}: prompt {at}") for at, client in enumerate(clients)
    ]
    # Six configurations of one model share a rate: the provider, whose limit is just above it, refused nobody.
    stats = sim.stats()
    assert (stats.refused_429, stats.answered, stats.repeated) == (0, SLOW + FAST, 0)
    slow, fast = heard["openai"], heard["anthropic"]
    assert slow[-1] - slow[0] >= 0.9 * (SLOW - PER_S) / PER_S
    # All but the last retries, which wait longer and longer: their share of the slow provider's time would be 1.
    assert fast[int(0.95 * len(fast))] < slow[-1]
    assert sum(stats.faults.values()) > 0.05 * (SLOW + FAST)

"""Two thousand prompts of two providers, with faults: in order, each at its own pace, none waiting for another."""

from __future__ import annotations

import random
import time

import pytest

from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities, RequestLimits
from pllm_notebook.providers.sdk_transport import SDKTransport
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.types import RawReply
from tests.contract.sides import ANTHROPIC, OPENAI, reach

SLOW, FAST = 130, 1_870
# Of the slow provider, as the caller limits it; the limit's bucket holds a second's worth.
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
    )
    return moments


@pytest.fixture
def departures(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """When each request of a provider left, retries among them.

    The caller's limit is judged here and not by the provider: on a busy machine a server reads late, and all at once,
    what was sent in time.
    """
    moments: dict[str, list[float]] = {"/chat/completions": [], "/v1/messages": []}
    post = SDKTransport.post

    async def noted(self: SDKTransport, path: str, content: bytes) -> RawReply:
        moments[path].append(time.monotonic())
        return await post(self, path, content)

    monkeypatch.setattr(SDKTransport, "post", noted)
    return moments


@pytest.mark.timeout(110)
def test_two_providers_go_at_their_own_pace_and_every_answer_is_in_its_place(
    sim: Simulator, heard: dict[str, list[float]], departures: dict[str, list[float]]
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
    stats = sim.stats()
    assert (stats.answered, stats.repeated) == (SLOW + FAST, 0)
    # Six configurations of one model share a rate. A pause of the process may add what had been admitted before it to
    # what the bucket holds after it, a second's worth each; with a bucket each, six would leave at once.
    sent = departures["/chat/completions"]
    assert len(sent) >= SLOW
    assert most_above(sent, PER_S) <= 2 * PER_S + 1
    slow, fast = heard["openai"], heard["anthropic"]
    assert slow[-1] - slow[0] >= 0.9 * (SLOW - PER_S) / PER_S
    # All but the last retries, which wait longer and longer: their share of the slow provider's time would be 1.
    assert fast[int(0.95 * len(fast))] < slow[-1]
    assert sum(stats.faults.values()) > 0.05 * (SLOW + FAST)


def most_above(moments: list[float], per_s: float) -> float:
    """Return by how many requests the busiest window exceeds *per_s* times its length."""
    most = earliest = 0.0
    for number, moment in enumerate(sorted(moments)):
        due = number - per_s * moment
        earliest = min(earliest, due) if number else due
        most = max(most, due - earliest + 1)
    return most

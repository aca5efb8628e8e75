"""Two thousand prompts of two providers, with faults: in order, each at its own pace, none waiting for another."""

from __future__ import annotations

import itertools
import random
import threading

import pytest

from pllm_notebook import LLMConfig, LLMPromptContext, ParallelAIUtilities, RequestLimits
from pllm_notebook.sim import SimRequest, Simulator
from tests.contract.departures import Departures
from tests.contract.sides import ANTHROPIC, OPENAI, reach

SLOW, FAST = 100, 1_900
# Of the slow provider, as the caller limits it; the limit's bucket holds a second's worth.
PER_S = 12
# A test that waits this long has failed.
PATIENCE_S = 200


@pytest.fixture
def overtaken(sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the fast provider was asked for all prompts before each of the slow one's answers, which wait for that.

    Its last retries come later: they wait longer and longer.
    """
    for side in (OPENAI, ANTHROPIC):
        reach(side, sim, monkeypatch)
    asked, all_asked = itertools.count(1), threading.Event()
    waited: list[bool] = []

    def answer(request: SimRequest) -> str:
        if request.provider == "openai":
            waited.append(all_asked.wait(PATIENCE_S))
        elif next(asked) == FAST:
            all_asked.set()
        return f"{request.provider}: {request.prompt}"

    sim.set(
        answers=answer,
        latency_s=0.03,
        latency_sigma=1.0,
        error_500=0.06,
        reset=0.04,
    )
    return waited


@pytest.mark.timeout(300)
def test_two_providers_go_at_their_own_pace_and_every_answer_is_in_its_place(
    sim: Simulator, overtaken: list[bool], departures: Departures
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
    # Six configurations of one model share a rate: of a bucket each, six seconds' worth would leave at once.
    sent = departures.moments["/chat/completions"]
    assert len(sent) >= SLOW
    assert departures.most_above(PER_S, "/chat/completions") <= 2 * PER_S + 1
    assert sent[-1] - sent[0] >= 0.9 * (SLOW - PER_S) / PER_S
    assert len(overtaken) >= SLOW
    assert all(overtaken)
    assert sum(stats.faults.values()) > 0.05 * (SLOW + FAST)

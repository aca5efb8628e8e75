"""One request, and one line of a file, are tried as often and as long as their own numbers say."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import pllm_notebook as pllm
from pllm_notebook.request_files.process_file import OAIApiFromFileConfig, process_api_requests_from_file_sync
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import InTurn


@pytest.mark.parametrize("headers", [{}, {"retry-after": "0.2"}])
def test_a_request_that_is_always_refused_keeps_its_own_numbers(
    luna: str, sim: Simulator, headers: dict[str, str]
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(429, headers))
    framework = pllm.create_framework(max_retries=2, timeout=2.0, num_processors=1)
    began = time.monotonic()

    with pytest.raises(pllm.ProcessingError) as caught:
        framework.parse_sync(messages=[{"role": "user", "content": "hello"}], response_format=bool, model=luna)

    assert caught.value.kind == "rate_limit"
    assert sim.stats().requests == 3
    # Not the two minutes of a run that a rate limit keeps from every answer.
    assert time.monotonic() - began < 60


def test_a_wait_beyond_the_requests_own_time_is_not_begun(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(429, {"retry-after": "60"}))
    framework = pllm.create_framework(max_retries=9, timeout=1.0, num_processors=1)

    with pytest.raises(pllm.ProcessingError):
        framework.parse_sync(messages=[{"role": "user", "content": "hello"}], response_format=bool, model=luna)

    assert sim.stats().requests <= 4


def test_a_request_that_is_refused_at_first_is_answered(luna: str, sim: Simulator) -> None:
    refusal = SimAnswer.status(429, {"retry-after": "0.05"})
    sim.set(answers=InTurn(refusal, refusal, {"value": True}))
    framework = pllm.create_framework(max_retries=2, timeout=10.0, num_processors=1)

    answer = framework.parse_sync(messages=[{"role": "user", "content": "hello"}], response_format=bool, model=luna)

    assert answer is not None
    assert sim.stats().requests == 3


def test_a_line_of_a_file_is_sent_as_often_as_max_attempts_says(luna: str, sim: Simulator, tmp_path: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.status(429))
    requests = tmp_path / "requests.jsonl"
    requests.write_text(json.dumps({"model": luna, "messages": [{"role": "user", "content": "hello"}]}) + "\n")

    status = process_api_requests_from_file_sync(
        OAIApiFromFileConfig(
            requests_filepath=requests, save_filepath=tmp_path / "results.jsonl", max_attempts=5, progress=False
        )
    )

    assert (status.failed, status.rate_limit_errors) == (1, 1)
    assert sim.stats().requests == 5

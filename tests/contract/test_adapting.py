"""What a model does not take is left out or renamed, learned from one refusal and remembered."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest

import pllm_notebook as pllm
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, RESPONSES, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

# Models that nothing is known of, so that all has to be learned.
UNKNOWN = [
    replace(OPENAI, name="gpt-4.1"),
    replace(RESPONSES, name="computer-use-preview"),
    replace(ANTHROPIC, name="claude-haiku-4-5"),
    replace(GOOGLE, name="gemini-3.8-flash"),
    COMPATIBLE,
]

_numbers = count()


@pytest.fixture(params=UNKNOWN, ids=lambda side: side.id)
def stranger(request: pytest.FixtureRequest, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """A model that this process has not met before: what is learned of one is remembered for good."""
    reach(request.param, sim, monkeypatch)
    return replace(request.param, name=f"{request.param.name}-{next(_numbers)}")


def sent(sim: Simulator, name: str) -> list[Any]:
    """What each request said for a parameter, None for nothing; Google has its own one level down."""

    def value(body: Mapping[str, Any]) -> Any:
        return body.get("generationConfig", body).get(name)

    return [value(request["body"]) for request in sim.requests()]


def test_a_parameter_that_is_refused_by_name_is_left_out(stranger: Side, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("temperature",))

    out = words("a").llm.complete("{text}", model=stranger.model, temperature=0.5, max_retries=0)

    assert out.llm.status.tolist() == ["ok"]
    assert sent(sim, "temperature") == [0.5, None]


def test_a_parameter_that_is_taken_is_sent(stranger: Side, sim: Simulator) -> None:
    words("a").llm.complete("{text}", model=stranger.model, temperature=0.5)

    assert sent(sim, "temperature") == [0.5]


def test_what_was_learned_is_remembered_by_the_next_run(stranger: Side, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("temperature",))
    words("a").llm.complete("{text}", model=stranger.model, temperature=0.5)
    sim.reset()

    words("b", "c").llm.complete("{text}", model=stranger.model, temperature=0.5)

    assert sent(sim, "temperature") == [None, None]


def test_many_calls_in_flight_learn_it_once(stranger: Side, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.set(unsupported_parameters=("temperature",), latency_s=0.02)
    caplog.set_level(logging.WARNING)

    out = words(*(f"row {n}" for n in range(100))).llm.complete(
        "{text}", model=stranger.model, temperature=0.5, max_retries=0
    )

    assert out.llm.status.tolist() == ["ok"] * 100
    assert [record.message for record in caplog.records if record.name == "pllm_notebook"] == [
        f"{stranger.model} does not take 'temperature'; it is left out of requests"
    ]
    assert sim.stats().answered == 100


def test_two_parameters_are_learned_one_after_the_other(stranger: Side, sim: Simulator) -> None:
    given: dict[str, Any] = {"generationConfig": {"seed": 7}} if stranger.wire == "google" else {"top_p": 0.9}
    if stranger.wire == "anthropic":
        given = {"top_k": 5}
    (name,) = given.get("generationConfig", given)
    sim.set(unsupported_parameters=("temperature", name))

    out = words("a").llm.complete("{text}", model=stranger.model, temperature=0.5, extra_body=given, max_retries=0)

    assert out.llm.status.tolist() == ["ok"]
    assert sim.stats().requests == 3
    assert (sent(sim, "temperature")[-1], sent(sim, name)[-1]) == (None, None)


@pytest.mark.parametrize("stranger", [UNKNOWN[4]], indirect=True, ids=["compatible"])
def test_a_server_that_wants_the_new_name_of_the_limit_gets_it(stranger: Side, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("max_tokens",))

    words("a").llm.complete("{text}", model=stranger.model, max_output_tokens=100)
    words("b").llm.complete("{text}", model=stranger.model, max_output_tokens=100)

    assert sent(sim, "max_tokens") == [100, None, None]
    assert sent(sim, "max_completion_tokens") == [None, 100, 100]


@pytest.mark.parametrize("stranger", [UNKNOWN[0]], indirect=True, ids=["openai"])
def test_a_provider_that_wants_the_old_name_of_the_limit_gets_it(stranger: Side, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("max_completion_tokens",))

    words("a").llm.complete("{text}", model=stranger.model, max_output_tokens=100)

    assert sent(sim, "max_tokens") == [None, 100]


@pytest.mark.parametrize("stranger", [UNKNOWN[4]], indirect=True, ids=["compatible"])
def test_a_server_that_takes_neither_name_is_not_asked_for_ever(stranger: Side, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("max_tokens", "max_completion_tokens"))

    out = words("a").llm.complete("{text}", model=stranger.model, max_output_tokens=100)

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert sent(sim, "max_tokens") == [100, None]
    assert sent(sim, "max_completion_tokens") == [None, 100]


def test_a_field_of_the_callers_own_is_never_left_out(stranger: Side, sim: Simulator) -> None:
    fields: dict[str, dict[str, Any]] = {"anthropic": {"stop_sequences": ["x"]}, "google": {"labels": {"a": "b"}}}
    given = fields.get(stranger.wire, {"metadata": {"a": "b"}})
    (name,) = given
    sim.set(unsupported_parameters=(name,))

    out = words("a").llm.complete("{text}", model=stranger.model, extra_body=given)

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert sim.stats().requests == 1


MARK = {"cache_control": {"type": "ephemeral"}}
MARKED = {
    "system": {"system": [{"type": "text", "text": "Be brief."} | MARK]},
    "message": {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"} | MARK]}]},
}


@pytest.mark.parametrize("place", MARKED)
@pytest.mark.parametrize("stranger", [UNKNOWN[2]], indirect=True, ids=["anthropic"])
def test_a_line_of_a_file_whose_own_mark_is_refused_is_sent_once(
    stranger: Side, sim: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    sim.set(unsupported_parameters=("cache_control",))
    plain = {"model": stranger.name, "max_tokens": 100, "messages": [{"role": "user", "content": "a"}]}
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    requests.write_bytes(orjson.dumps({"custom_id": "1", "params": plain | MARKED[place]}))
    caplog.set_level(logging.WARNING, "pllm_notebook")

    pllm.process_api_requests_from_file_sync(
        pllm.OAIApiFromFileConfig(requests_filepath=str(requests), save_filepath=str(results), progress=False)
    )

    assert sim.stats().requests == 1
    assert b"Extra inputs are not permitted" in results.read_bytes()
    assert "left out" not in caplog.text


@pytest.mark.parametrize("stranger", [UNKNOWN[4]], indirect=True, ids=["compatible"])
def test_a_call_without_a_schema_has_none_to_be_relaxed(
    stranger: Side, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    sim.set(answers=lambda request: SimAnswer.status(400, body={"error": {"message": "response_format: not allowed"}}))
    caplog.set_level(logging.WARNING, "pllm_notebook")

    out = words("a").llm.complete("{text}", model=stranger.model)

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert sim.stats().requests == 1
    assert "JSON schema" not in caplog.text


@pytest.mark.parametrize("side", [OPENAI, RESPONSES, ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_a_model_that_is_known_to_refuse_temperature_is_never_sent_one(side: Side, sim: Simulator) -> None:
    out = words("a", "b").llm.complete("{text}", model=side.model, temperature=0)

    assert out.llm.status.tolist() == ["ok", "ok"]
    assert sent(sim, "temperature") == [None, None]
    assert sim.stats().rejected == 0


@pytest.mark.parametrize("side", [OPENAI, ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_leaving_temperature_out_is_said_once(side: Side, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    model = f"{side.model}-{next(_numbers)}"
    caplog.set_level(logging.WARNING)

    words("a", "b").llm.complete("{text}", model=model, temperature=0)
    words("c", "d").llm.complete("{text}", model=model, temperature=0)

    assert [record.message for record in caplog.records if record.name == "pllm_notebook"] == [
        f"{model} does not take 'temperature'; it is left out of requests"
    ]


def test_a_model_that_does_not_reason_takes_a_temperature_again(luna: str, sim: Simulator) -> None:
    words("a").llm.complete("{text}", model=luna, temperature=0)

    words("a").llm.complete("{text}", model=luna, temperature=0, extra_body={"reasoning_effort": "none"})

    assert sent(sim, "temperature") == [None, 0]


@pytest.mark.parametrize("side", [OPENAI, RESPONSES, ANTHROPIC], indirect=True, ids=lambda side: side.id)
def test_an_answer_is_still_that_of_its_temperature(side: Side, sim: Simulator) -> None:
    for temperature in (None, 0, 1):
        words("a").llm.complete("{text}", model=side.model, temperature=temperature)
    sent_first = sim.stats().requests

    again = words("a").llm.complete("{text}", model=side.model, temperature=1)

    assert (sent_first, sim.stats().requests) == (3, 3)
    assert again.llm.status.tolist() == ["cached"]


def test_what_one_server_refuses_another_still_gets(sim: Simulator, cache_dir: Path) -> None:
    names = [f"new{next(_numbers)}x", f"new{next(_numbers)}x"]
    pllm.configure(servers=dict.fromkeys(names, sim.base_url("compatible")))
    sim.set(unsupported_parameters=("temperature",))
    words("a").llm.complete("{text}", model=f"{names[0]}:m", temperature=0.5)
    sim.set(unsupported_parameters=())
    sim.reset()

    words("a").llm.complete("{text}", model=f"{names[1]}:m", temperature=0.5)

    assert sent(sim, "temperature") == [0.5]


def test_an_effort_that_the_provider_refuses_fails_its_row_and_is_never_left_out(luna: str, sim: Simulator) -> None:
    out = words("a").llm.complete("{text}", model=luna, extra_body={"reasoning_effort": "minimal"})

    assert list(out.llm.errors["kind"]) == ["bad_request"]
    assert "does not support 'minimal'" in out.llm.errors["message"].iloc[0]
    assert len(sim.requests()) == 1

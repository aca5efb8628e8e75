"""Structured output from servers that cannot do it, or say they can and do not."""

from __future__ import annotations

import logging
from itertools import count
from typing import Any

import openai
import pytest
from pydantic import BaseModel, Field, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingKeyError, ProviderRejectedError, UnknownModelError
from pllm_notebook.providers.registry import find
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

GOOD = {"name": "n", "score": 3}


class Fact(BaseModel):
    name: str
    score: int = Field(ge=1, le=5)


_numbers = count()


@pytest.fixture
def server(sim: Simulator, cache_dir: object) -> str:
    """A model of a server that nobody has met before: what is learned of one is remembered for good."""
    name = f"new{next(_numbers)}"
    pllm.configure(servers={name: sim.base_url("compatible")})
    sim.set(answers=lambda request: GOOD)
    return f"{name}:small"


def asked_for(sim: Simulator) -> list[str]:
    """What each request asked of the server, in order."""
    return [request["body"].get("response_format", {}).get("type", "prompt") for request in sim.requests()]


def schema_in_the_prompt(body: dict[str, Any]) -> bool:
    return '"score"' in body["messages"][0]["content"]


def test_a_server_that_does_json_schema_is_asked_for_it(server: str, sim: Simulator) -> None:
    out = words("a").llm.parse(Fact, "{text}", model=server)

    assert out["score"].tolist() == [3]
    assert asked_for(sim) == ["json_schema"]


def test_a_server_without_json_schema_is_asked_for_any_object(server: str, sim: Simulator) -> None:
    sim.set(rungs=("json_object",))

    out = words("a").llm.parse(Fact, "{text}", model=server)

    assert out["score"].tolist() == [3]
    assert asked_for(sim) == ["json_schema", "json_object"]
    assert schema_in_the_prompt(sim.requests()[-1]["body"])


def test_a_server_without_any_is_asked_in_words(server: str, sim: Simulator) -> None:
    sim.set(rungs="none")

    out = words("a").llm.parse(Fact, "{text}", model=server, system="Be exact.")

    assert out["score"].tolist() == [3]
    assert asked_for(sim) == ["json_schema", "json_object", "prompt"]
    system = sim.requests()[-1]["body"]["messages"][0]
    assert system["role"] == "system"
    assert system["content"].startswith("Be exact.\n\nAnswer with one JSON value that matches this JSON schema")


def test_a_step_down_costs_no_row_an_attempt(server: str, sim: Simulator) -> None:
    sim.set(rungs="none")

    out = words("a").llm.parse(Fact, "{text}", model=server, max_retries=0, max_repairs=0)

    assert out["score"].tolist() == [3]


@pytest.mark.parametrize(("rungs", "asked"), [(("json_object",), "json_object"), (("none",), "prompt")])
def test_the_rung_is_remembered_for_the_next_run(
    server: str, sim: Simulator, rungs: tuple[str, ...], asked: str
) -> None:
    sim.set(rungs=rungs)
    words("a").llm.parse(Fact, "{text}", model=server)
    sim.reset()

    words("b", "c").llm.parse(Fact, "{text}", model=server)

    assert asked_for(sim) == [asked, asked]


def test_the_rung_of_one_model_is_not_that_of_another(server: str, sim: Simulator) -> None:
    sim.set(rungs=("json_object",))
    words("a").llm.parse(Fact, "{text}", model=server)
    sim.set(rungs=("json_schema",))
    sim.reset()

    out = words("a").llm.parse(Fact, "{text}", model=server.replace("small", "large"))

    assert out["score"].tolist() == [3]
    assert asked_for(sim) == ["json_schema"]


def test_many_calls_at_once_take_one_step_down(server: str, sim: Simulator, caplog: pytest.LogCaptureFixture) -> None:
    sim.set(rungs=("json_object",), latency_s=0.02)
    caplog.set_level(logging.WARNING)

    out = words(*(f"row {n}" for n in range(40))).llm.parse(Fact, "{text}", model=server)

    assert out["score"].tolist() == [3] * 40
    (record,) = (record for record in caplog.records if record.name == "pllm_notebook")
    assert record.message == (
        f"{server} does not follow the JSON schema it was sent; "
        f"asking for any JSON object, with the schema in the instruction"
    )
    assert "prompt" not in asked_for(sim)


def test_an_answer_is_the_same_answer_on_every_rung(server: str, sim: Simulator) -> None:
    words("a").llm.parse(Fact, "{text}", model=server)
    sim.set(rungs="none")
    words("b").llm.parse(Fact, "{text}", model=server)
    sim.reset()

    out = words("a", "b").llm.parse(Fact, "{text}", model=server)

    assert out.llm.status.tolist() == ["cached", "cached"]
    assert sim.stats().requests == 0


def test_a_server_that_ignores_the_schema_is_read_from_its_prose(server: str, sim: Simulator) -> None:
    sim.set(rungs="ignored")

    out = words("a").llm.parse(Fact, "{text}", model=server)

    assert out["score"].tolist() == [3]
    assert sim.stats().requests == 1


def test_a_server_that_ignores_the_schema_is_told_it_from_then_on(server: str, sim: Simulator) -> None:
    sim.set(rungs="ignored")
    words("a").llm.parse(Fact, "{text}", model=server)

    words("b").llm.parse(Fact, "{text}", model=server)

    assert schema_in_the_prompt(sim.requests()[-1]["body"])


@pytest.mark.parametrize(
    "prose",
    [
        '```json\n{"name": "n", "score": 3}\n```',
        'Sure! Here it is:\n\n{"name": "n", "score": 3}\n\nAnything else?',
        '<think>{"score": 9}? No, lower.</think>{"name": "n", "score": 3}',
        '  \n{"name": "n", "score": 3}\n',
    ],
)
def test_json_is_found_in_prose(server: str, sim: Simulator, prose: str) -> None:
    sim.set(answers=lambda request: prose)

    out = words("a").llm.parse(Fact, "{text}", model=server, max_repairs=0)

    assert out["score"].tolist() == [3]


def test_prose_without_json_is_repaired(server: str, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        return "It is n, I think." if len(request.messages) == 1 else GOOD

    sim.set(answers=answer)

    out = words("a").llm.parse(Fact, "{text}", model=server)

    assert out["score"].tolist() == [3]
    assert sim.requests()[-1]["body"]["messages"][-2:] == [
        {"role": "assistant", "content": "It is n, I think."},
        {"role": "user", "content": "That is not valid JSON. Answer again, with the JSON value alone."},
    ]


class Even(BaseModel):
    """A number that its own validator may refuse, though it has the form of the schema."""

    score: int

    @field_validator("score")
    @classmethod
    def _even(cls, score: int) -> int:
        if score % 2:
            raise ValueError("odd")
        return score


@pytest.mark.parametrize("pack", [None, 2])
def test_what_a_validator_refuses_takes_no_structure_away(server: str, sim: Simulator, pack: int | None) -> None:
    entries = [{"index": 0, "answer": {"score": 3}}, {"index": 1, "answer": {"score": 4}}]
    sim.set(answers=lambda request: {"score": 3} if '"index"' not in request.prompt else {"answers": entries})

    words("a", "b").llm.parse(Even, "{text}", model=server, max_repairs=0, pack=pack)
    sim.set(answers=lambda request: {"score": 4})
    words("c").llm.parse(Even, "{text}", model=server)

    assert set(asked_for(sim)) == {"json_schema"}


def test_a_reply_of_another_form_is_a_step_down(server: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.text('{"score": "three"}'))

    words("a").llm.parse(Even, "{text}", model=server, max_repairs=0)
    words("b").llm.parse(Even, "{text}", model=server, max_repairs=0)

    assert asked_for(sim) == ["json_schema", "json_object"]


def test_one_odd_reply_among_many_takes_no_structure_away(server: str, sim: Simulator) -> None:
    words(*map(str, range(40))).llm.parse(Fact, "{text}", model=server)
    sim.set(answers=lambda request: SimAnswer.text("oops"))
    words("odd").llm.parse(Fact, "{text}", model=server, max_repairs=0)
    sim.set(answers=lambda request: GOOD)

    words("a").llm.parse(Fact, "{text}", model=server)

    assert set(asked_for(sim)) == {"json_schema"}


def test_odd_replies_that_are_not_few_are_a_step_down(server: str, sim: Simulator) -> None:
    words(*map(str, range(40))).llm.parse(Fact, "{text}", model=server)
    sim.set(answers=lambda request: SimAnswer.text("oops"))
    words(*"abcde").llm.parse(Fact, "{text}", model=server, max_repairs=0)
    sim.set(answers=lambda request: GOOD)

    words("last").llm.parse(Fact, "{text}", model=server)

    assert asked_for(sim)[-1] == "json_object"


class Other(BaseModel):
    """Another type, whose schema differs."""

    title: str


def odd_but_for(*prompts: str) -> Any:
    """Answer rows that hold one of these words with what their type wants, all others with prose."""
    good = {"Fact": GOOD, "Other": {"title": "t"}, "Even": {"score": 2}}
    return lambda request: next((good[word] for word in prompts if word in request.prompt), SimAnswer.text("oops"))


def test_one_odd_type_takes_no_structure_from_the_others(server: str, sim: Simulator) -> None:
    sim.set(answers=odd_but_for("Fact"))

    for kind in (Fact, Other, Fact, Other):
        words(f"{kind.__name__} {sim.stats().requests}").llm.parse(kind, "{text}", model=server, max_repairs=0)

    assert asked_for(sim) == ["json_schema", "json_schema", "json_schema", "json_object"]


def test_a_rejected_schema_takes_no_structure_from_the_others(server: str, sim: Simulator) -> None:
    reason = {"error": {"message": "response_format: the json_schema is too large a grammar", "type": "x"}}

    def answer(request: SimRequest) -> Any:
        if "Fact" in request.prompt:
            return GOOD
        return {"title": "t"} if "JSON schema" in request.system else SimAnswer.status(400, body=reason)

    sim.set(answers=answer)

    for kind in (Other, Fact, Other):
        words(f"{kind.__name__} {sim.stats().requests}").llm.parse(kind, "{text}", model=server)

    assert asked_for(sim) == ["json_schema", "json_object", "json_schema", "json_object"]


def test_several_types_that_fail_where_none_was_followed_take_structure_from_all(server: str, sim: Simulator) -> None:
    sim.set(answers=odd_but_for())

    for kind in (Fact, Other, Even):
        words(kind.__name__).llm.parse(kind, "{text}", model=server, max_repairs=0)

    assert asked_for(sim) == ["json_schema", "json_schema", "json_object"]


def test_several_types_that_fail_take_no_structure_from_all_where_one_is_followed(server: str, sim: Simulator) -> None:
    sim.set(answers=odd_but_for("Fact", "Even"))

    for kind in (Fact, Other, list[Other], Even):
        words(str(kind)).llm.parse(kind, "{text}", model=server, max_repairs=0)

    assert asked_for(sim) == ["json_schema"] * 4


@pytest.mark.parametrize("how", ["client", "environment"])
def test_an_address_that_is_not_the_providers_own_has_the_ladder(
    how: str, sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: GOOD, rungs=("none",))
    url = sim.base_url("compatible")
    if how == "client":
        pllm.configure(clients={"own": openai.AsyncOpenAI(api_key="k", base_url=url)})
    else:
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
    model = "own:small" if how == "client" else "openai:small"

    out = words(*map(str, range(10))).llm.parse(Fact, "{text}", model=model)

    assert out["score"].tolist() == [3] * 10
    assert "prompt" in asked_for(sim)


@pytest.mark.parametrize(
    ("maker", "address", "names", "own"),
    [
        ("openai", "", (), True),
        ("openai", "https://eu.api.openai.com/v1", (), True),
        ("openai", "https://mine.openai.azure.com/openai", (), True),
        ("openai", "http://localhost:4000", ("AsyncAzureOpenAI",), True),
        ("openai", "https://openrouter.ai/api/v1", (), False),
        ("openai", "https://api.openai.com.example.org/v1", (), False),
        ("anthropic", "https://api.anthropic.com", (), True),
        ("anthropic", "http://localhost:4000", (), False),
        ("google", "https://generativelanguage.googleapis.com", (), True),
    ],
)
def test_which_addresses_are_a_providers_own(maker: str, address: str, names: tuple[str, ...], own: bool) -> None:
    provider = find(maker)

    assert provider is not None
    assert provider.is_own(address, names) is own


def test_a_wrong_address_is_told_as_one(sim: Simulator, cache_dir: object) -> None:
    address = sim.base_url("compatible").removesuffix("/v1")
    pllm.configure(servers={"mine": address, "bare": "localhost:8000/v1"})

    with pytest.raises(ProviderRejectedError) as caught:
        words("a").llm.complete("{text}", model="mine:small")
    with pytest.raises(UnknownModelError) as bare:
        words("a").llm.complete("{text}", model="bare:small")

    assert f"nothing answers at {address}/chat/completions" in str(caught.value)
    assert f"write {address}/v1." in str(caught.value)
    assert "expected one that begins with http:// or https://" in str(bare.value)


def test_a_fine_tuned_model_by_its_bare_name_is_openais(cache_dir: object) -> None:
    with pytest.raises(MissingKeyError) as caught:
        words("a").llm.complete("{text}", model="ft:gpt-4o-mini-2024-07-18:acme::abc123")

    assert caught.value.variable == "OPENAI_API_KEY"

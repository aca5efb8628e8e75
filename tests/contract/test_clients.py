"""SDK clients of the caller's own: they know the address and the account, we know the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import UnknownModelError
from pllm_notebook.sim import SimAnswer, Simulator
from tests.contract.echo import Echo
from tests.contract.scripts import InTurn, words

CHAT = {
    "model": "gpt-4.1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "yes"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 2},
}


class Fact(BaseModel):
    name: str


def client_of(kind: str, sim: Simulator) -> Any:
    """One client of each SDK with all of its defaults, retries too."""
    if kind == "openai":
        return openai.AsyncOpenAI(api_key="any", base_url=sim.base_url("openai"))
    if kind == "anthropic":
        return anthropic.AsyncAnthropic(api_key="any", base_url=sim.base_url("anthropic"))
    retries = types.HttpRetryOptions(attempts=5, initial_delay=0.01)
    options = types.HttpOptions(base_url=sim.base_url("google"), retry_options=retries)
    return genai.Client(api_key="any", http_options=options)


MODELS = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "google": "gemini-3.5-flash-lite"}


@pytest.fixture(params=MODELS)
def own(request: pytest.FixtureRequest, sim: Simulator, cache_dir: Path) -> str:
    """A model behind a client of the caller's own."""
    pllm.configure(clients={"own": client_of(request.param, sim)})
    return f"own:{MODELS[request.param]}"


def test_a_client_is_asked_for_text_and_values(own: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: "yes" if request.schema is None else {"name": "n"})

    text = words("a").llm.complete("{text}", model=own)
    value = words("a").llm.parse(Fact, "{text}", model=own)

    assert text["answer"].tolist() == ["yes"]
    assert value["name"].tolist() == ["n"]
    assert text.llm.usage["cost_usd"].notna().tolist() == [True]


def test_a_clients_own_retries_are_not_made(own: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(503))

    with pytest.warns(UserWarning, match="1 of 1 rows failed"):
        out = words("a").llm.complete("{text}", model=own, max_retries=0)

    assert out.llm.errors["kind"].tolist() == ["overloaded"]
    assert sim.stats().requests == 1


def test_a_lost_connection_of_a_client_is_sent_again_by_us_alone(own: str, sim: Simulator) -> None:
    sim.set(answers=InTurn(SimAnswer.reset(), "yes"))

    out = words("a").llm.complete("{text}", model=own)

    assert out.llm.usage["attempts"].tolist() == [2]
    assert sim.stats().requests == 2


@pytest.mark.parametrize("kind", MODELS)
def test_a_client_is_still_the_callers_when_the_engine_ends(kind: str, sim: Simulator, cache_dir: Path) -> None:
    client = client_of(kind, sim)
    pllm.configure(clients={"own": client})
    words("a").llm.complete("{text}", model=f"own:{MODELS[kind]}")

    engine.shutdown()

    closed = client.is_closed() if kind != "google" else client.aio._api_client._http_options is None
    assert closed is False


def test_answers_are_kept_under_the_clients_name(sim: Simulator, cache_dir: Path) -> None:
    pllm.configure(clients={"one": client_of("openai", sim), "two": client_of("openai", sim)})
    words("a").llm.complete("{text}", model="one:gpt-6-luna")

    other = words("a").llm.complete("{text}", model="two:gpt-6-luna")
    pllm.configure(clients={"one": client_of("openai", sim)})
    same = words("a").llm.complete("{text}", model="one:gpt-6-luna")

    assert (other.llm.status.tolist(), same.llm.status.tolist()) == (["ok"], ["cached"])
    assert sim.stats().requests == 2


def test_azure_is_asked_at_its_deployment(cache_dir: Path) -> None:
    with Echo(CHAT) as azure:
        client = openai.AsyncAzureOpenAI(azure_endpoint=azure.url, api_key="k", api_version="2025-04-01-preview")
        pllm.configure(clients={"azure": client})

        out = words("a").llm.complete("say {text}", model="azure:my-deployment")

        engine.shutdown()
    ((path, headers, body),) = azure.requests
    assert path == "/openai/deployments/my-deployment/chat/completions?api-version=2025-04-01-preview"
    assert headers["api-key"] == "k"
    assert body == {"model": "my-deployment", "messages": [{"role": "user", "content": "say a"}]}
    assert out["answer"].tolist() == ["yes"]


def test_azures_filter_names_what_it_found(cache_dir: Path) -> None:
    error = {"message": "The response was filtered.", "code": "content_filter", "param": "prompt", "type": None}
    with Echo({"error": error}, status=400) as azure:
        client = openai.AsyncAzureOpenAI(azure_endpoint=azure.url, api_key="k", api_version="2025-04-01-preview")
        pllm.configure(clients={"azure": client})

        with pytest.warns(UserWarning, match="1 of 1 rows failed"):
            out = words("a").llm.complete("say {text}", model="azure:my-deployment")

        engine.shutdown()
    assert out.llm.errors[["kind", "message"]].to_numpy().tolist() == [["content_filter", "The response was filtered."]]


def test_bedrock_is_asked_at_its_model(cache_dir: Path) -> None:
    with Echo(MESSAGE) as bedrock:
        client = anthropic.AsyncAnthropicBedrock(base_url=bedrock.url, api_key="k", aws_region="eu-west-1")
        pllm.configure(clients={"bedrock": client})

        out = words("a").llm.complete("say {text}", model="bedrock:anthropic.claude-haiku-4-5-20251001-v1:0")

        engine.shutdown()
    ((path, headers, body),) = bedrock.requests
    assert path == "/model/anthropic.claude-haiku-4-5-20251001-v1:0/invoke"
    assert headers["authorization"] == "Bearer k"
    assert "model" not in body
    assert body["messages"] == [{"role": "user", "content": "say a"}]
    assert out.llm.usage["input_tokens"].tolist() == [10]


def test_vertex_is_asked_at_its_project(cache_dir: Path) -> None:
    with Echo(MESSAGE) as vertex:
        client = anthropic.AsyncAnthropicVertex(
            base_url=vertex.url, access_token="t", project_id="p", region="europe-west1"
        )
        pllm.configure(clients={"vertex": client})

        out = words("a").llm.complete("say {text}", model="vertex:claude-haiku-4-5")

        engine.shutdown()
    ((path, headers, body),) = vertex.requests
    assert path == ("/projects/p/locations/europe-west1/publishers/anthropic/models/claude-haiku-4-5:rawPredict")
    assert headers["authorization"] == "Bearer t"
    assert "model" not in body
    assert out["answer"].tolist() == ["yes"]


def test_a_class_of_the_callers_own_over_a_client_is_one(sim: Simulator, cache_dir: Path) -> None:
    class Traced(openai.AsyncOpenAI):
        pass

    pllm.configure(clients={"own": Traced(api_key="any", base_url=sim.base_url("openai"))})

    out = words("a").llm.complete("{text}", model="own:gpt-6-luna")

    assert out.llm.status.tolist() == ["ok"]


@pytest.mark.parametrize(
    ("client", "advice"),
    [
        (openai.OpenAI(api_key="k"), "is an OpenAI; give the async one (AsyncOpenAI)."),
        (anthropic.Anthropic(api_key="k"), "is an Anthropic; give the async one (AsyncAnthropic)."),
        (genai.Client(api_key="k").aio, "is an AsyncClient; give the Client."),
        (object(), "is a builtins.object; expected an async client of openai, anthropic or google-genai."),
    ],
    ids=["openai", "anthropic", "google", "other"],
)
def test_what_is_no_async_client_is_refused_with_advice(client: Any, advice: str, cache_dir: Path) -> None:
    with pytest.raises(UnknownModelError) as caught:
        pllm.configure(clients={"own": client})

    assert str(caught.value) == f"The client 'own' {advice} Nothing was sent."

"""The same adapters against other people's idea of a provider, so that our simulator does not merely agree with us.

stubllm speaks OpenAI's Chat Completions, Anthropic's Messages and Gemini's v1beta. It cannot do: Responses,
refusals, content filters, rate-limit headers, retry-after, keys, or a request that it rejects; it does not look
at schemas, and its stop reasons are OpenAI's words for every provider.

fakellm speaks Chat Completions and Messages. It cannot do what stubllm cannot, nor Gemini, nor stop reasons and
token counts of one's choice; its errors have one type of its own for every status.
"""

from __future__ import annotations

import importlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from pllm_notebook.exceptions import ProviderRejectedError
from tests.contract.scripts import words

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

MODELS = {
    "openai": "openai:gpt-6-luna",
    "anthropic": "anthropic:claude-haiku-5-5",
    "google": "google:gemini-3.5-flash-lite",
}
VALUE = '{"name": "n", "score": 3}'


class Fact(BaseModel):
    name: str
    score: int


# A word of the prompt, and the answers to the first request with it and to those that follow.
SCRIPT: dict[str, list[dict[str, Any]]] = {
    "greeting": [{"content": "Hello there."}],
    "a value": [{"content": VALUE}],
    "a fence": [{"content": f"```json\n{VALUE}\n```"}],
    "a tool": [{"tool": "get_weather"}],
    "too many": [{"status": 429}, {"content": "at last"}],
    "broken": [{"status": 500}, {"content": "at last"}],
    "overloaded": [{"status": 529}, {"content": "at last"}],
    "never": [{"status": 500}],
    "forbidden": [{"status": 401}],
}


def stub_app(directory: Path) -> Any:
    # Here, and not above: each process that collects the tests would import it, for half a second.
    from stubllm.fixtures.models import Fixture
    from stubllm.server import create_app

    def reply(given: dict[str, Any]) -> dict[str, Any]:
        if "tool" in given:
            return {"tool_calls": [{"function": {"name": given["tool"], "arguments": "{}"}}]}
        return {"http_status": given.get("status", 200), "content": given.get("content")}

    return create_app(
        fixtures=[
            Fixture.model_validate(
                {
                    "name": f"{word} {provider}",
                    "match": {"provider": provider, "messages": [{"content": {"contains": word}}]},
                    "sequence": [reply(given) for given in answers],
                }
            )
            for word, answers in SCRIPT.items()
            for provider in ("openai", "anthropic", "gemini")
        ]
    )


def fake_app(directory: Path) -> Any:
    rules = []
    for word, answers in SCRIPT.items():
        for turn, given in enumerate(answers, 1):
            when: dict[str, Any] = {"messages_contain": word}
            if turn < len(answers):
                when["turn"] = turn
            respond = {"tool_calls": [{"name": given["tool"], "arguments": {}}]} if "tool" in given else given
            # It puts an echo beside a tool call that says nothing.
            respond = respond | {"content": ""} if "tool" in given else respond
            rules.append({"name": f"{word} {turn}", "when": when, "respond": respond})
    config = directory / "fakellm.yaml"
    config.write_bytes(orjson.dumps({"rules": rules}))  # JSON is YAML
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKELLM_CONFIG", str(config))
        return importlib.import_module("fakellm.server").app


def serve(app: Any) -> Iterator[str]:
    import uvicorn

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", loop="asyncio"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def doubles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """The address of each double, started when it is first asked for."""
    apps = {"stubllm": stub_app, "fakellm": fake_app}
    running: dict[str, tuple[str, Iterator[str]]] = {}

    def address(name: str) -> str:
        if name not in running:
            serving = serve(apps[name](tmp_path_factory.mktemp(name)))
            running[name] = (next(serving), serving)
        return running[name][0]

    yield address
    for _, serving in running.values():
        next(serving, None)


PAIRS = [
    ("stubllm", "openai"),
    ("stubllm", "anthropic"),
    ("stubllm", "google"),
    ("fakellm", "openai"),
    ("fakellm", "anthropic"),
]


@pytest.fixture(params=PAIRS, ids="-".join)
def model(
    request: pytest.FixtureRequest,
    doubles: Callable[[str], str],
    cache_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """A model at a double."""
    double, provider = request.param
    address = doubles(double)
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", "any")
    monkeypatch.setenv(f"{provider.upper()}_BASE_URL", address + ("/v1" if provider == "openai" else ""))
    monkeypatch.setenv("GOOGLE_GENAI_API_VERSION", "v1beta")
    return MODELS[provider]


def test_text_comes_back(model: str) -> None:
    out = words("greeting").llm.complete("{text}", model=model)

    assert out["answer"].tolist() == ["Hello there."]
    assert out.llm.usage["input_tokens"].gt(0).tolist() == [True]
    assert out.llm.usage["cost_usd"].gt(0).tolist() == [True]


def test_a_value_comes_back(model: str) -> None:
    out = words("a value").llm.parse(Fact, "{text}", model=model)

    assert out[["name", "score"]].to_numpy().tolist() == [["n", 3]]


def test_a_value_in_a_fence_comes_back(model: str, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.id == "stubllm-openai":
        pytest.skip("it wraps what is no JSON in an object of its own")

    out = words("a fence").llm.parse(Fact, "{text}", model=model, max_repairs=0)

    assert out[["name", "score"]].to_numpy().tolist() == [["n", 3]]


def test_a_call_of_a_tool_is_told_and_not_taken_for_an_answer(model: str) -> None:
    out = words("a tool").llm.complete("{text}", model=model)

    assert out.llm.errors["kind"].tolist() == ["tool_call"]
    assert "The model called get_weather" in out.llm.errors["message"][0]


def test_a_call_of_a_tool_is_no_value(model: str) -> None:
    out = words("a tool").llm.parse(Fact, "{text}", model=model, max_repairs=0)

    assert out.llm.errors["kind"].tolist() == ["tool_call"]


@pytest.mark.parametrize("fault", ["too many", "broken", "overloaded"])
def test_what_can_pass_is_sent_again(model: str, fault: str, request: pytest.FixtureRequest) -> None:
    # fakellm counts turns by the prompt, so that each provider needs one of its own.
    out = words(f"{fault} {request.node.callspec.id}").llm.complete("{text}", model=model)

    assert out["answer"].tolist() == ["at last"]
    assert out.llm.usage["attempts"].tolist() == [2]


def test_what_does_not_pass_fails_its_row_alone(model: str) -> None:
    out = words("greeting", "never").llm.complete("{text}", model=model, max_retries=0)

    assert out["answer"].tolist()[0] == "Hello there."
    assert out.llm.errors[["position", "kind"]].to_numpy().tolist() == [[1, "server_error"]]


def test_a_refused_key_stops_the_run(model: str) -> None:
    with pytest.raises(ProviderRejectedError) as caught:
        words("forbidden").llm.complete("{text}", model=model)

    assert (caught.value.kind, caught.value.status) == ("authentication", 401)

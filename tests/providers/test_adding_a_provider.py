"""A provider is added by one folder and one call of `register`, as docs/adding_a_provider.md says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pandas as pd
import pytest
from aiohttp import web
from pydantic import BaseModel

import pllm_notebook  # noqa: F401  # registers df.llm
from pllm_notebook.exceptions import MissingKeyError, UsageError
from pllm_notebook.providers import registry
from tests.contract.served import Served
from tests.providers import toy


class Riddle(BaseModel):
    """A solved riddle."""

    thing: str
    letters: int


class ToyServer(Served):
    """Solves each riddle as its last word, and is at first too busy for the one about a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[dict[str, object]] = []
        self.keys: set[str] = set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        words = body["riddle"][-1]["words"]
        busy = "clock" in words and not any("clock" in str(earlier) for earlier in self.requests)
        self.requests.append(body)
        self.keys.add(request.headers["authorization"])
        if "secret" in words:
            return web.json_response({"excuse": "not that one"}, status=400)
        if busy:
            return web.json_response({"excuse": "later"}, status=429, headers={"retry-after": "0"})
        thing = words.split()[-1]
        solution = orjson.dumps({"thing": thing, "letters": len(thing)}).decode()
        counts = {"heard": 10, "spoken": 5}
        return web.json_response({"solution": solution, "end": "solved", "counts": counts, "solver": body["solver"]})


@pytest.fixture
def server(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ToyServer]:
    registry.register(toy.PROVIDER)
    monkeypatch.setenv("TOY_API_KEY", "a-toy-key")
    with ToyServer() as served:
        monkeypatch.setenv("TOY_BASE_URL", served.url)
        yield served
    registry.unregister("toy")


def solve(*words: str, **options: object) -> pd.DataFrame:
    frame = pd.DataFrame({"text": list(words)})
    return frame.llm.parse(Riddle, "What is it? {text}", **options)  # type: ignore[no-any-return]


def test_a_provider_of_one_folder_answers_a_frame(server: ToyServer) -> None:
    out = solve("a lamp", "a clock", "a lamp", model="toy:toy-mini")

    assert out["thing"].tolist() == ["lamp", "clock", "lamp"]
    assert out["letters"].tolist() == [4, 5, 4]
    assert len(server.requests) == 3  # equal rows are one call, and the busy one was sent again
    assert server.requests[0]["shape"]
    assert server.keys == {"Toy a-toy-key"}
    assert out.llm.usage["output_tokens"].max() == 5


def test_its_answers_are_cached_and_its_errors_are_rows(server: ToyServer) -> None:
    solve("a lamp", model="toy:toy-mini")

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = solve("a lamp", "a secret", model="toy:toy-mini", errors="coerce")

    assert out.llm.status.tolist() == ["cached", "failed"]
    assert out.llm.errors["message"].tolist() == ["not that one"]


def test_a_bare_name_and_its_key_alone_lead_to_it(server: ToyServer) -> None:
    assert solve("a lamp", model="toy-maxi")["thing"].tolist() == ["lamp"]
    assert solve("a lamp")["thing"].tolist() == ["lamp"]
    assert [request["solver"] for request in server.requests] == ["toy-maxi", "toy-mini"]


def test_it_is_asked_by_no_batch_and_says_so(server: ToyServer) -> None:
    with pytest.raises(UsageError, match="Toy has no batch API here"):
        solve("a lamp", model="toy:toy-mini", mode="batch", confirm=False)

    assert server.requests == []


def test_without_its_key_nothing_is_sent(server: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_API_KEY")

    with pytest.raises(MissingKeyError, match="TOY_API_KEY"):
        solve("a lamp", model="toy:toy-mini")

    assert server.requests == []


def test_a_cell_that_registers_it_again_replaces_it(server: ToyServer) -> None:
    registry.register(replace(toy.PROVIDER, cheap_model="toy-nano"))

    assert registry.cheap_model_of("toy") == "toy-nano"


@pytest.mark.parametrize("name", ["openai", "anthropic", "google", "local", "sim"])
def test_no_other_provider_takes_a_name_of_ours(name: str) -> None:
    with pytest.raises(UsageError, match="is taken"):
        registry.register(replace(toy.PROVIDER, name=name))


@pytest.mark.parametrize("name", ["", "Toy", "a:b", "a/b", "a b"])
def test_a_name_is_one_lower_case_word(name: str) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        registry.register(replace(toy.PROVIDER, name=name))

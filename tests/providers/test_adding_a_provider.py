"""A provider is added by one folder and one call of `register`, as docs/adding_a_provider.md says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import orjson
import pandas as pd
import pytest
from aiohttp import web
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import exceptions, failures, messages_types, protocols, providers, types
from pllm_notebook.exceptions import MissingKeyError, ProviderRejectedError, UsageError
from pllm_notebook.providers import provider, registry, sdk_transport
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
        if "elsewhere" in words:
            return web.Response(status=307, headers={"location": f"{self.url}/else/riddles"})
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


def spell(word: str) -> str:
    """Spell a word."""
    return " ".join(word)


def test_its_own_fields_are_sent_and_are_part_of_the_question(server: ToyServer) -> None:
    for also in ({}, {"temperature": 0.5}, {"extra_body": {"mood": "calm"}}, {"temperature": 0.5}):
        solve("a lamp", model="toy:toy-mini", **also)

    assert [(request.get("fancy"), request.get("mood")) for request in server.requests] == [
        (None, None), (0.5, None), (None, "calm"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"top_p": 0.5}, "top_p= has no equal at toy:toy-mini. What the provider calls"),
        ({"service_tier": "flex"}, "service_tier= is not supported at toy:toy-mini. Nothing was sent."),
        ({"tools": (spell,)}, "Toy reads text alone and calls no tools. Nothing was sent."),
    ],
)
def test_an_option_that_it_lacks_is_refused_before_anything_is_sent(
    server: ToyServer, option: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        solve("a lamp", model="toy:toy-mini", **option)

    assert server.requests == []


def test_a_redirect_takes_neither_its_key_nor_its_rows_along(server: ToyServer) -> None:
    with pytest.raises(ProviderRejectedError, match="redirects to"):
        solve("a lamp elsewhere", model="toy:toy-mini")

    assert len(server.requests) == 1


def test_its_answers_are_recorded_and_no_others_can_be_scripted(server: ToyServer, tmp_path: Path) -> None:
    recording = tmp_path / "answers.jsonl"
    with pllm.testing.record(recording):
        solve("a lamp", model="toy:toy-mini")
    with pllm.testing.fake(recording):
        replayed = solve("a lamp", model="toy:toy-mini")

    assert replayed["thing"].tolist() == ["lamp"]
    for answers in (recording, {"What is it? a key": {"thing": "key", "letters": 3}}):
        with (
            pytest.warns(UserWarning, match="rows? failed"),
            pytest.raises(UsageError, match="toy:toy-mini has a format of its own"),
            pllm.testing.fake(answers),
        ):
            solve("a key", model="toy:toy-mini")
    assert len(server.requests) == 1


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


# What the page says, held to the code.
PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_provider.md").read_text()
MODULES = (protocols, types, messages_types, failures, exceptions, providers, provider, sdk_transport)


def test_every_class_that_the_page_names_is_there() -> None:
    named = {name.rpartition(".")[2] for name in re.findall(r"`((?:\w+\.)*[A-Z]\w*[a-z]\w*)[`.]", PAGE)}

    assert "ProviderMessage" in named
    assert {name for name in named if not any(hasattr(module, name) for module in MODULES)} == set()


def test_the_page_names_every_member_of_a_wire_and_every_field_of_a_provider() -> None:
    members = {name for name in vars(protocols.Wire) if not name.startswith("_")}
    for name in members | {field.name for field in fields(provider.Provider)}:
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize("name", ["openai", "anthropic", "google", "local", "sim"])
def test_no_other_provider_takes_a_name_of_ours(name: str) -> None:
    with pytest.raises(UsageError, match="is taken"):
        registry.register(replace(toy.PROVIDER, name=name))


@pytest.mark.parametrize("name", ["", "Toy", "a:b", "a/b", "a b"])
def test_a_name_is_one_lower_case_word(name: str) -> None:
    with pytest.raises(UsageError, match="lower-case"):
        registry.register(replace(toy.PROVIDER, name=name))

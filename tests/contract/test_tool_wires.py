"""Tools, files and begun answers with every provider, through its real SDK and over real HTTP, live and by batch."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Media, ProviderMessage, Request, Tool, ToolCall, ToolCallOutput, Turn
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.providers import ResolvedModel, resolve
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.types import Finish, RawReply, Reply
from tests.contract.sides import ANTHROPIC, COMPATIBLE, GOOGLE, OPENAI, RESPONSES, Side, reach
from tests.contract.test_batch_apis import with_api
from tests.contract.test_prompt_lists import submitted

pytestmark = pytest.mark.every_case  # each has code of its own

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "Tell the weather of a city.", SCHEMA, strict=True)
ASKED = Turn("user", "Which is warmer, Bern or Ulm?")
PNG = Media("image/png", data=base64.b64encode(b"\x89PNG an image").decode())
OTHER = Media("image/png", data=base64.b64encode(b"\x89PNG another image").decode())
LINKED = Media("image/jpeg", url="https://example.org/a.jpg")
PDF = Media("application/pdf", data=base64.b64encode(b"%PDF-1.7").decode(), name="a.pdf")


def target_of(side: Side, sim: Simulator) -> ResolvedModel:
    servers = {COMPATIBLE.provider: sim.base_url("compatible")}
    return resolve(side.model, servers=servers, clients={}, keys={}, simulator=sim.base_url)


def content_of(target: ResolvedModel, *turns: Turn, **fields: Any) -> bytes:
    """The bytes that go on the wire."""
    return orjson.dumps(target.to_wire(target.wire.encode(Request(target.model, turns, **fields))))


def asked(side: Side, sim: Simulator, *turns: Turn, **fields: Any) -> Reply | Failure:
    """Ask once, through the SDK, and read what comes back."""
    target = target_of(side, sim)
    return asyncio.run(_post(target, content_of(target, *turns, **fields)))


async def _post(target: ResolvedModel, content: bytes) -> Reply | Failure:
    transport = target.connect()
    try:
        return target.read(await transport.post(target.path, content))
    finally:
        await transport.aclose()


def answered(side: Side, sim: Simulator, *turns: Turn, **fields: Any) -> Reply:
    reply = asked(side, sim, *turns, **fields)
    assert isinstance(reply, Reply), reply
    return reply


def two_calls(request: SimRequest) -> Any:
    """Ask for the weather of two cities; with their results, tell them."""
    if request.results:
        return SimAnswer.text(" ".join(text for _, text in request.results))
    calls = [("weather", {"city": "Bern"}), ("weather", {"city": "Ulm"})]
    return SimAnswer.tool_calls(calls, content="Let me look.")


def results_of(reply: Reply, *contents: str) -> Turn:
    pairs = zip(reply.calls, contents, strict=True)
    return Turn("tool", "", results=tuple(ToolCallOutput(call.id, call.name, content) for call, content in pairs))


def turn_of(reply: Reply) -> Turn:
    return Turn("assistant", reply.text, calls=reply.calls, echo=reply.echo)


# Calls and their results.


@pytest.mark.parametrize("kept", [True, False], ids=["in its own words", "in ours"])
def test_two_calls_and_their_results_make_a_round_trip(side: Side, sim: Simulator, kept: bool) -> None:
    sim.set(answers=two_calls)

    called = answered(side, sim, ASKED, tools=(WEATHER,))
    # As a conversation that was kept without the provider's own words, or begun with another provider.
    ids = called.calls if kept else tuple(replace(call, id=f"foreign_{n}") for n, call in enumerate(called.calls))
    called = replace(called, calls=ids, echo=called.echo if kept else None)
    reply = answered(side, sim, ASKED, turn_of(called), results_of(called, "12", "15"), tools=(WEATHER,))

    assert (called.finish, called.text) == (Finish.CALLED, "Let me look.")
    assert [(call.name, orjson.loads(call.arguments)) for call in called.calls] == [
        ("weather", {"city": "Bern"}),
        ("weather", {"city": "Ulm"}),
    ]
    assert len({call.id for call in called.calls}) == 2
    assert reply.finish is Finish.COMPLETE
    wrapped = side is GOOGLE
    assert reply.text == ('{"output":"12"} {"output":"15"}' if wrapped else "12 15")


def test_older_geminis_give_calls_no_id_and_take_results_in_order(
    sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = replace(GOOGLE, name="gemini-2.5-flash")
    reach(side, sim, monkeypatch)
    sim.set(answers=two_calls)

    called = answered(side, sim, ASKED, tools=(WEATHER,))
    reply = answered(side, sim, ASKED, turn_of(called), results_of(called, "12", "15"), tools=(WEATHER,))

    assert [call.id for call in called.calls] == ["call_0", "call_1"]
    assert reply.text == '{"output":"12"} {"output":"15"}'


def test_a_call_without_its_result_is_refused(side: Side, sim: Simulator) -> None:
    sim.set(answers=two_calls)
    called = answered(side, sim, ASKED, tools=(WEATHER,))
    half = replace(results_of(called, "12", "15"), results=results_of(called, "12", "15").results[:1])

    refused = asked(side, sim, ASKED, turn_of(called), half, Turn("user", "So?"), tools=(WEATHER,))

    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.BAD_REQUEST


@pytest.mark.parametrize("side", [ANTHROPIC, GOOGLE, RESPONSES], ids=lambda side: side.id)
def test_thoughts_before_a_call_must_come_back_as_they_were(
    side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    sim.set(answers=two_calls)
    called = answered(side, sim, ASKED, tools=(WEATHER,))
    assert called.echo is not None
    signed = next(
        word for word in ("signature", "thoughtSignature", "encrypted_content") if word in called.echo.content
    )
    forged = ProviderMessage(called.echo.form, called.echo.content.replace(f'"{signed}":"', f'"{signed}":"x'))

    refused = asked(
        side, sim, ASKED, replace(turn_of(called), echo=forged), results_of(called, "12", "15"), tools=(WEATHER,)
    )

    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.BAD_REQUEST
    assert any(word in refused.message for word in ("signature", "reasoning"))


# Gemini has no word for it.
@pytest.mark.parametrize("side", [OPENAI, RESPONSES, ANTHROPIC, COMPATIBLE], ids=lambda side: side.id)
def test_one_call_at_a_time_where_it_is_asked_for(
    side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    sim.set(answers=two_calls)

    called = answered(side, sim, ASKED, tools=(WEATHER,), parallel_tool_calls=False)

    assert len(called.calls) == 1


def test_a_forced_tool_is_called(side: Side, sim: Simulator) -> None:
    called = answered(side, sim, ASKED, tools=(WEATHER,), tool_choice="weather")

    assert [call.name for call in called.calls] == ["weather"]
    assert isinstance(orjson.loads(called.calls[0].arguments)["city"], str)


def test_a_claude_that_is_not_to_be_forced_is_left_to_choose(
    sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = replace(ANTHROPIC, name="claude-opus-5-5")
    reach(side, sim, monkeypatch)
    sim.set(answers=two_calls)
    target = target_of(side, sim)
    canonical_body = target.wire.encode(Request(target.model, (ASKED,), tools=(WEATHER,), tool_choice="required"))

    refused = asyncio.run(_post(target, orjson.dumps(canonical_body)))
    assert isinstance(refused, Failure)
    healed = target.adapt(refused, canonical_body)
    reply = asyncio.run(_post(target, orjson.dumps(target.to_wire(canonical_body))))

    assert healed
    assert isinstance(reply, Reply)
    assert reply.finish is Finish.CALLED


# Files.


def test_files_are_shown_and_counted(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: f"{request.media} {request.prompt}")

    plain = answered(side, sim, Turn("user", "Look."))
    reply = answered(side, sim, Turn("user", "Look.", media=(PNG, LINKED, PDF)))

    assert (plain.text, reply.text) == ("0 Look.", "3 Look.")
    assert plain.usage is not None
    assert reply.usage is not None
    assert reply.usage.input_tokens == plain.usage.input_tokens + 3000


def test_another_image_is_another_question(side: Side, sim: Simulator) -> None:
    texts = {answered(side, sim, Turn("user", "Look.", media=(image,))).text for image in (PNG, OTHER, LINKED)}

    assert len(texts) == 3


def test_a_file_that_is_not_one_is_refused(side: Side, sim: Simulator) -> None:
    refused = asked(side, sim, Turn("user", "Look.", media=(Media("image/png", data="not base64!"),)))

    assert isinstance(refused, Failure)
    assert refused.kind is FailureKind.BAD_REQUEST


# Conversations.


def test_turns_of_one_role_are_taken(side: Side, sim: Simulator) -> None:
    turns = (Turn("user", "one"), Turn("user", "two"), Turn("assistant", "three"), Turn("user", "four"))

    assert answered(side, sim, *turns).finish is Finish.COMPLETE


@pytest.mark.parametrize(
    "side", [replace(ANTHROPIC, name="claude-haiku-4-5"), GOOGLE, COMPATIBLE], ids=lambda side: side.id
)
def test_an_answer_goes_on_from_its_beginning(
    side: Side, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    begun = (Turn("user", f"Which city? {orjson.dumps(SCHEMA).decode()}"), Turn("assistant", '{"city":'))

    reply = answered(side, sim, *begun)

    assert isinstance(orjson.loads('{"city":' + reply.text)["city"], str)


def test_a_server_that_knows_no_json_object_is_asked_in_words(
    sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = replace(COMPATIBLE, name="of-few-words")
    reach(side, sim, monkeypatch)
    sim.set(rungs=("none",), answers=lambda request: {"a": 1})
    target = target_of(side, sim)
    canonical_body = target.wire.encode(Request(target.model, (Turn("user", "JSON, please."),), json_object=True))

    sent = target.to_wire(canonical_body)
    refused = asyncio.run(_post(target, orjson.dumps(sent)))
    assert isinstance(refused, Failure)
    assert target.adapt(refused, sent)
    reply = asyncio.run(_post(target, orjson.dumps(target.to_wire(canonical_body))))

    assert isinstance(reply, Reply)
    assert reply.text == '{"a":1}'


# In a run.


def test_a_prompt_that_a_model_does_not_take_fails_alone_and_unsent(luna: str, sim: Simulator) -> None:
    begun = Dialogue((Turn("user", "b"), Turn("assistant", "The answer is")))
    heard = Dialogue((Turn("user", "c", media=(Media("audio/wav", data="YXU="),)),))
    shown = Dialogue((Turn("user", "d", media=(PNG,)),))

    run = submitted([(luna, "a"), (luna, begun), (luna, heard), (luna, shown), (luna, shown)])
    with pytest.warns(UserWarning, match="2 of 5 rows failed"):
        answers = run.result()

    assert [answer is None for answer in answers] == [False, True, True, False, False]
    assert run.errors == [None, FailureKind.INPUT, FailureKind.INPUT, None, None]
    # The same image with the same words is the same call.
    assert sim.stats().requests == 2


# By batch: the same bodies.


@pytest.mark.parametrize("side", [OPENAI, RESPONSES, ANTHROPIC, GOOGLE], ids=lambda side: side.id)
def test_calls_and_files_go_by_batch(
    side: Side, sim: Simulator, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(side, sim, monkeypatch)
    sim.set(answers=lambda request: two_calls(request) if request.tools else f"{request.media} shown")
    target = target_of(side, sim)
    path = tmp_path / "requests.jsonl"

    async def use(api: BatchAPI) -> dict[str, RawReply | None]:
        bodies = {
            "called": content_of(target, ASKED, tools=(WEATHER,)),
            "shown": content_of(target, Turn("user", "Look.", media=(PNG,))),
        }
        path.write_bytes(b"".join(api.line(custom_id, body) + b"\n" for custom_id, body in bodies.items()))
        label = "pllm-0123456789abcdef"
        job = await api.create(path, await api.upload(path, label), label)
        sim.advance(60)
        job = await api.look(job.id)
        return {result.custom_id: result.raw async for result in api.results(job)}

    replies = {name: raw and target.read(raw) for name, raw in with_api(target, use).items()}

    called, shown = replies["called"], replies["shown"]
    assert isinstance(called, Reply)
    assert isinstance(shown, Reply)
    assert [type(call) for call in called.calls] == [ToolCall, ToolCall]
    assert called.finish is Finish.CALLED
    assert (shown.finish, shown.text) == (Finish.COMPLETE, "1 shown")

"""What programs ask about, as it reaches each provider, and what is kept and told of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.sessions import Session, resume_directory, session_export
from pllm_notebook.sessions.message_state import MessageState
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.store import close_stores
from tests.contract.sides import HOSTED, OPENAI, Side, reach

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
PDF = b"%PDF-1.7 nothing more"


class Enzyme(BaseModel):
    name: str


def look(at: str) -> str:
    """Look at something.

    Args:
        at: What.
    """
    return f"seen {at}"


@pytest.fixture(params=HOSTED, ids=lambda side: side.id)
def asked(request: pytest.FixtureRequest, sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Side:
    """Each provider in turn, whose answers are what it was asked, last."""
    reach(request.param, sim, monkeypatch)
    sim.set(answers=lambda request: f"{request.media} {request.prompt}")
    return request.param


@pytest.fixture
def model(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One model, where the provider does not matter; its answers are what it was asked, last."""
    reach(OPENAI, sim, monkeypatch)
    sim.set(answers=lambda request: request.prompt)
    return OPENAI.model


@pytest.fixture
def session(tmp_path: Path, model: str) -> Iterator[Session]:
    """A program's session."""
    with resume_directory(tmp_path / "program", model=model) as session:
        yield session


def test_each_provider_is_shown_the_files_and_told_the_texts_apart(asked: Side, tmp_path: Path) -> None:
    (tmp_path / "scan.pdf").write_bytes(PDF)

    with resume_directory(tmp_path / "program", model=asked.model) as session:
        agent = session.agent("reader")
        replies = [
            agent.ask_llm("What?", PNG, tmp_path / "scan.pdf"),
            agent.ask_llm("ab", "c"),
            agent.ask_llm("a", "bc"),
            agent.ask_llm("abc"),
        ]

        assert session.resolve_all(replies) == [
            "2 What?",
            '0 <document index="1">\nab\n</document>\n<document index="2">\nc\n</document>',
            '0 <document index="1">\na\n</document>\n<document index="2">\nbc\n</document>',
            "0 abc",
        ]
        assert len({reply.key for reply in replies}) == 4


def test_a_conversation_goes_on_with_what_each_provider_said(asked: Side, sim: Simulator, tmp_path: Path) -> None:
    sim.set(answers=lambda request: " | ".join(f"{role} {text}" for role, text in request.messages))

    with resume_directory(tmp_path / "program", model=asked.model) as session:
        agent = session.agent("talker")
        state = MessageState([("system", "Be brief."), "one"], agent=agent)
        first = state.ask_llm()
        state += first
        other = state.fork()
        answers = [state.ask_llm("two").resolve(), other.ask_llm("three").resolve()]
        assert [turn.text for turn in state][-2:] == ["two", answers[0]]

        assert first.resolve() == "user one"
        assert answers == ["user one | assistant user one | user two", "user one | assistant user one | user three"]
        assert agent.ask_llm("one", first, "two", instructions="Be brief.").resolve() == answers[0]
    # The last is the same conversation as the first fork's, whoever put it together.
    assert sim.stats().requests == 3


def test_turns_of_one_speaker_that_follow_each_other_are_taken_by_each_provider(
    asked: Side, sim: Simulator, tmp_path: Path
) -> None:
    sim.set(answers=lambda request: json.dumps(request.messages))

    with resume_directory(tmp_path / "program", model=asked.model) as session:
        agent = session.agent("talker")
        state = agent.state("chat")
        for said in ("one", "two"):
            state.append("user", said)
        for said in ("three", "four"):
            state.append("assistant", said)
        heard = agent.ask_llm(state, "five").resolve_json()
        # As one document after the other, and not as turns: told apart in one turn.
        together = agent.ask_llm(["one", "two"], ("assistant", "three"), "five")

        # Some are given them as parts of one message.
        assert "".join(text for _, text in heard).replace("\n", "") == "onetwothreefourfive"
        assert together.key != agent.ask_llm(state, "five").key


def test_calls_of_tools_go_back_with_their_outputs(asked: Side, sim: Simulator, tmp_path: Path) -> None:
    def answer(request: Any) -> SimAnswer:
        if request.results:
            return SimAnswer.text(json.dumps(request.results))
        return SimAnswer.tool_calls([("look", {"at": "x"}), ("look", {"at": "y"})])

    sim.set(answers=answer)

    with resume_directory(tmp_path / "program", model=asked.model) as session:
        agent = session.agent("caller")
        asking = agent.ask_llm("Look.", tools=[look])
        outputs = [
            pllm.ToolCallOutput(call.id, call.name, look(**call.arguments)) for call in asking.resolve_tool_calls()
        ]

        seen = agent.ask_llm("Look.", asking, outputs, tools=[look]).resolve_json()

    # Google's results are objects.
    assert [[name, text.removeprefix('{"output":"').removesuffix('"}')] for name, text in seen] == [
        ["look", "seen x"],
        ["look", "seen y"],
    ]


def test_a_text_alone_is_the_call_of_a_frames_row(model: str, sim: Simulator, cache_dir: Path) -> None:
    pd.DataFrame({"text": ["Name an enzyme."]}).llm.complete("{text}", model=model)

    with resume_directory(cache_dir, model=model) as session:
        assert session.agent("a").ask_llm("Name an enzyme.").resolve() == "Name an enzyme."

    assert sim.stats().requests == 1


def test_a_missing_file_ends_the_program_before_anything_is_sent(session: Session, sim: Simulator) -> None:
    with pytest.raises(UsageError, match=r"gone\.png.*Nothing was sent"):
        session.agent("reader").ask_llm("What?", Path("gone.png"))

    assert sim.stats().requests == 0


def test_documents_are_kept_once_over_all_runs_of_a_program(model: str, tmp_path: Path) -> None:
    for _ in range(2):
        with resume_directory(tmp_path / "program", model=model) as session:
            agent = session.agent("reader")
            first = agent.ask_llm("What?", PNG)
            second = agent.ask_llm("Why?", PNG)

    assert sorted(document.kind for document in session.documents) == ["image/png", "text/plain", "text/plain"]
    assert first.call.documents[1] == second.call.documents[1]
    assert session.documents[first.call.documents[1]].read() == PNG


def test_a_named_conversation_is_there_in_the_next_process(model: str, sim: Simulator, tmp_path: Path) -> None:
    for _ in range(2):
        with resume_directory(tmp_path / "program", model=model) as session:
            state = session.agent("talker").state("chat")
            state += "one"
            state += state.ask_llm()
            assert len(state) == 2
        engine.shutdown()
        close_stores()

    with resume_directory(tmp_path / "program", model=model) as session:
        taken_up = session.agent("talker").state("chat", resume=True)

    assert [turn.text for turn in taken_up] == ["one", "one"]
    assert sim.stats().requests == 1


def test_notes_are_there_in_the_next_run(model: str, tmp_path: Path) -> None:
    with resume_directory(tmp_path / "program", model=model) as session:
        session.metadata["round"] = 1
        session.agent("judge").metadata["seen"] = ["a"]
        session.agent("judge").metadata["seen"].append("b")
        with pytest.raises(UsageError, match="a note is stored as JSON"):
            session.metadata["made"] = object()

    with resume_directory(tmp_path / "program", model=model) as session:
        assert dict(session.metadata) == {"round": 1}
        assert dict(session.agent("judge").metadata) == {"seen": ["a", "b"]}


# What a program tells of itself.


def test_every_call_is_exported_with_what_came_of_it(session: Session, sim: Simulator, tmp_path: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.refusal("No.") if "bad" in request.prompt else '{"name": "amylase"}')
    agent = session.agent("judge")
    good = agent.ask_llm("My key is sk-proj-abcdefgh1234", text_format=Enzyme, tag="first", salt="s", replicate=2)
    bad = agent.ask_llm("bad")
    assert bad.failed
    good.resolve()

    count = session.export_all(tmp_path / "calls.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert count == len(lines) == 2
    first = lines[0]
    assert {name: first[name] for name in ("key", "agent", "number", "model", "tag", "salt", "replicate")} == {
        "key": good.key,
        "agent": "judge",
        "number": 0,
        "model": OPENAI.model,
        "tag": "first",
        "salt": "s",
        "replicate": 2,
    }
    assert first["prompt"] == "My key is sk-…"
    assert (first["state"], first["parsed"], first["error"]) == ("present", {"name": "amylase"}, None)
    assert first["input_tokens"] > 0
    assert first["cost_usd"] > 0
    assert (lines[1]["state"], lines[1]["error"], lines[1]["parsed"]) == ("failed", "refusal", None)


def test_what_waits_in_a_job_is_exported_as_pending(model: str, sim: Simulator, tmp_path: Path) -> None:
    with resume_directory(tmp_path / "program", model=model, strategy="batch", confirm=False) as session:
        session.agent("judge").ask_llm("one").resolve()
    session.export_all(tmp_path / "calls.jsonl")

    (line,) = [json.loads(line) for line in (tmp_path / "calls.jsonl").read_text().splitlines()]
    assert line["state"] == "pending"
    assert line["job"]


def test_an_export_has_the_same_dtypes_whatever_is_missing(session: Session, sim: Simulator, tmp_path: Path) -> None:
    session.agent("judge").ask_llm("one").resolve()
    whole = session_export.table(list(session_export.lines(session.agents.values())))

    assert whole.dtypes.equals(session_export.table([]).dtypes)
    assert whole.loc[0, "text"] == "one"
    assert str(whole["when"].dtype) == "datetime64[us, UTC]"
    assert json.loads(whole.loc[0, "documents"]) == list(session.agent("judge").history[0].call.documents)


def test_a_table_needs_pyarrow_and_says_so(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(MissingPackageError, match=r"pip install 'pllm_notebook\[parquet\]'"):
        session.export_all(tmp_path / "calls.parquet")


def test_a_table_is_read_back_as_it_was(session: Session, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    session.agent("judge").ask_llm("one").resolve()

    session.export_all(tmp_path / "calls.parquet")

    assert pd.read_parquet(tmp_path / "calls.parquet").loc[0, "text"] == "one"


def test_an_ending_that_nobody_writes_is_refused(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"writes \.jsonl and \.parquet, not '\.csv'"):
        session.export_all(tmp_path / "calls.csv")


def test_a_session_stands_as_its_calls_do(model: str, sim: Simulator, tmp_path: Path) -> None:
    sim.set(answers=lambda request: SimAnswer.refusal("No.") if "bad" in request.prompt else "good")
    with resume_directory(tmp_path / "program", model=model) as session:
        session.agent("first").ask_llm("one").resolve()
    with resume_directory(tmp_path / "program", model=model) as session:
        replies = [session.agent("first").ask_llm("one"), session.agent("second").ask_llm("one")]
        replies += [session.agent("second").ask_llm("two"), session.agent("second").ask_llm("bad")]
        session.barrier()
        status = session.status()

    assert {state: count for state, count in status.counts.items() if count} == {
        "cached": 1,
        "stored": 1,
        "failed": 1,
    }
    assert [(each.name, each.calls, each.done, each.failed) for each in status.agents] == [
        ("first", 1, 1, 0),
        ("second", 3, 2, 1),
    ]
    assert status.models == (OPENAI.model,)
    assert (status.simulated, status.state) == (False, "running")
    assert session.status().state == "done"

"""A conversation is a list that grows, in a tree where nothing is lost."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.messages_types import Dialogue, Media, ProviderMessage, ToolCall, Turn
from pllm_notebook.sessions.call import Call
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.error_response import ErrorResponse
from pllm_notebook.sessions.message_state import MessageState, open_message_state
from pllm_notebook.sessions.message_tree import MessageTree
from pllm_notebook.sessions.prompt_reader import dialogue_of

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20


class Replied:
    """An earlier reply, as this room knows it."""

    def to_assistant_message(self) -> Turn:
        return Turn("assistant", "Lysozyme.", calls=(ToolCall("1", "look", "{}"),), echo=ProviderMessage("chat", "{}"))


class Noted:
    """A reply that says when it is waited for, and what was asked."""

    def __init__(self, dialogue: Dialogue, how: dict[str, Any]) -> None:
        self.dialogue_asked, self.how, self.waited = dialogue, how, False
        self.fails = False

    def to_assistant_message(self) -> Turn:
        self.waited = True
        if self.fails:
            raise ErrorResponse(Call("openai:gpt-6-luna", "-"), Failure(FailureKind.TIMEOUT, "Late."))
        return Turn("assistant", "Lysozyme.")


class Asked:
    """An agent that notes what it is asked."""

    def ask_llm(self, documents: Any, *more: Any, **how: Any) -> Any:
        return Noted(dialogue_of([documents, *more]), how)


def open_state(directory: Path, *, resume: bool = False) -> MessageState:
    return open_message_state(directory, "judge", "chat/1", Documents(directory), asking=Asked(), resume=resume)


def test_a_state_is_a_list_of_turns() -> None:
    state = MessageState()
    state.append("user", "Name an enzyme.")
    state.append(Replied())
    state += "Why?"

    assert [turn.role for turn in state] == ["user", "assistant", "user"]
    assert state[-1] == Turn("user", "Why?")
    assert state[:1] == (Turn("user", "Name an enzyme."),)
    assert len(state) == 3


def test_instructions_are_the_systems_and_no_turn() -> None:
    state = MessageState([("system", "Be brief."), "Why?"])

    assert state.dialogue() == Dialogue((Turn("user", "Why?"),), "Be brief.")


def test_what_is_no_text_is_not_said() -> None:
    state = MessageState(["one"])

    with pytest.raises(UsageError, match=r"not valid text.*Nothing was sent"):
        state += "half a pair: \ud800"

    assert len(state) == 1


def test_a_fork_does_not_hear_what_the_other_goes_on_to_say() -> None:
    state = MessageState(["Name an enzyme."])
    other = state.fork()
    state += ("assistant", "Lysozyme.")
    other += ("assistant", "Amylase.")

    assert [turn.text for turn in state] == ["Name an enzyme.", "Lysozyme."]
    assert [turn.text for turn in other] == ["Name an enzyme.", "Amylase."]
    assert state.parent == other.parent
    assert state.parent is not None
    assert [each[-1].text for each in state.parent.branches()] == ["Lysozyme.", "Amylase."]


def test_every_earlier_state_is_there() -> None:
    state = MessageState(["one"])
    first = state.fork()
    state += ("assistant", "two")
    state += "three"

    assert [len(each) for each in state.history()] == [1, 2, 3]
    assert state.history()[0] == first
    assert state.history()[-1] == state
    assert first.parent is not None
    assert first.parent.parent is None


def test_saying_the_same_after_the_same_is_the_same_state() -> None:
    first, second = MessageState(["one", ("assistant", "two")]), MessageState(["one", ("assistant", "two")])

    assert first == second
    assert first.hash == second.hash
    assert first != MessageState(["one", ("assistant", "2")])
    assert len(first.hash) == 43


def test_a_program_that_runs_again_stands_where_it_stood(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state += ["What is this?", PNG]
    state += Replied()

    again = open_state(tmp_path)
    assert len(again) == 0
    again += ["What is this?", PNG]
    again += Replied()

    assert again == state
    assert list(again) == list(state)
    assert [each == state for each in again.parent.branches()] == [True]  # type: ignore[union-attr]


def test_a_conversation_is_taken_up_where_it_was_left(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state += [("system", "Be brief."), "What is this?", PNG]
    state += Replied()

    taken_up = open_state(tmp_path, resume=True)

    assert taken_up.dialogue() == state.dialogue()
    # The picture is in the session's documents, not in the conversation's file.
    (file,) = (tmp_path / "states").iterdir()
    assert isinstance(state[0].media[0], Media)
    assert state[0].media[0].data not in file.read_text()


def test_a_conversation_whose_picture_is_gone_says_so(tmp_path: Path) -> None:
    open_state(tmp_path).append(PNG)
    next((tmp_path / "documents").iterdir()).unlink()

    with pytest.raises(StoreError, match=r"contains the document .*, which is no longer in .*documents. Nothing was"):
        open_state(tmp_path, resume=True)


def test_names_of_conversations_are_no_paths(tmp_path: Path) -> None:
    open_message_state(tmp_path, "../judge", "/x", Documents(tmp_path)).append("user", "one")

    assert [file.name for file in (tmp_path / "states").iterdir()] == ["%2E%2E%2Fjudge.%2Fx.jsonl"]


def test_a_line_that_was_half_written_costs_that_message_alone(tmp_path: Path) -> None:
    state = open_state(tmp_path)
    state += "one"
    state += ("assistant", "two")
    (file,) = (tmp_path / "states").iterdir()
    file.write_bytes(file.read_bytes()[:-9])

    taken_up = open_state(tmp_path, resume=True)
    taken_up += ("assistant", "another")

    assert [turn.text for turn in taken_up] == ["one", "another"]
    assert open_state(tmp_path, resume=True) == taken_up


def test_a_state_asks_with_all_that_was_said_and_goes_on_with_question_and_reply() -> None:
    state = MessageState(["one", ("assistant", "two")], agent=Asked())

    reply = state.ask_llm("three", llm="openai:gpt-6-luna")

    assert [turn.text for turn in reply.dialogue_asked.turns] == ["one", "two", "three"]
    assert reply.how == {"llm": "openai:gpt-6-luna"}
    assert not reply.waited
    assert state.resolve() == ["one", "two", "three", "Lysozyme."]
    assert state[-1].final_answer == state[-1].resolve() == "Lysozyme."
    assert reply.waited


def test_a_reply_that_was_added_is_not_added_again() -> None:
    state = MessageState(agent=Asked())

    state.append(state.ask_llm("one"))
    state += state.ask_llm("two")

    assert state.resolve() == ["one", "Lysozyme.", "two", "Lysozyme."]


def test_what_a_fork_goes_on_to_say_the_state_does_not_hear() -> None:
    state = MessageState(["one", ("assistant", "two")], agent=Asked())

    replies = [state.fork().ask_llm(question) for question in ("three", "four")]

    assert [reply.dialogue_asked.turns[-1].text for reply in replies] == ["three", "four"]
    assert state.resolve() == ["one", "two"]


def test_a_reply_that_failed_is_told_once_and_is_no_part_of_the_conversation() -> None:
    state = MessageState(agent=Asked())
    state.ask_llm("one").fails = True

    with pytest.raises(ErrorResponse, match="Late"):
        len(state)

    assert state.resolve() == ["one"]
    assert state.ask_llm().dialogue_asked.turns == (Turn("user", "one"),)


def test_a_state_pickles_with_its_whole_tree() -> None:
    state = MessageState(["one", PNG], agent=Asked())
    state.fork().append("assistant", "two")

    copy = pickle.loads(pickle.dumps(state))

    assert copy == state
    assert list(copy) == list(state)
    assert copy.branches()[0][-1].text == "two"
    with pytest.raises(UsageError, match=r"has no agent.*Nothing was sent"):
        copy.ask_llm("three")


def test_a_tree_is_drawn_deeper_only_where_it_branches() -> None:
    state = MessageState([("system", "Be\nbrief."), "Name an enzyme.", ("assistant", "Lysozyme."), "Why?"], name="chat")
    other = state.parent.parent.fork()  # type: ignore[union-attr]
    other += ("assistant", "\x1b[31mAmylase.")

    assert repr(state) == (
        "MessageState 'chat': 3 messages, 1 elsewhere in its tree\n"
        "system: Be brief.\n"
        "user: Name an enzyme.\n"
        "├─ assistant: Lysozyme.\n"
        "│  user: Why?  ←\n"
        "└─ assistant: Amylase."
    )


def test_a_page_is_shown_no_markup_of_what_was_said() -> None:
    shown = MessageState(["<script>alert(1)</script>"], name="<b>")._repr_html_()

    assert "<script" not in shown
    assert "<b>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_long_conversation_is_drawn_without_end() -> None:
    tree = MessageTree()
    at = None
    for number in range(5_000):
        at = tree.say(at, Turn("user", str(number))).hash

    assert len(repr(MessageState(tree=tree, at=at)).splitlines()) == 202


@pytest.mark.parametrize("said", ["hello", b"hello", {"role": "user", "content": "hello"}])
def test_what_stands_in_no_list_is_refused_and_not_said_letter_by_letter(said: Any) -> None:
    state = MessageState([("user", "Hello.")])

    with pytest.raises(UsageError, match="takes a list of documents"):
        state.extend(said)

    assert len(state) == 1


@pytest.mark.parametrize("name", [None, 3, b"chat", ["chat"], "x" * 300])
def test_a_name_that_cannot_be_a_conversations_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UsageError, match=r"conversation's name .* Nothing was sent\.$"):
        open_message_state(tmp_path, "judge", name, Documents(tmp_path))


def test_names_with_dots_are_conversations_of_their_own(tmp_path: Path) -> None:
    def opened(agent: str, name: str) -> MessageState:
        return open_message_state(tmp_path, agent, name, Documents(tmp_path), resume=True)

    names = [("a.b", "c"), ("a", "b.c"), ("a%2Eb", "c"), ("a", "c"), ("a.", "b"), ("a", ".b"), ("..", ".")]
    for agent, name in names:
        opened(agent, name).append("user", f"{agent} and {name}")

    assert [opened(*each).resolve() for each in names] == [[f"{agent} and {name}"] for agent, name in names]
    assert {"a.c.jsonl", "a.b.c.jsonl"} <= {path.name for path in (tmp_path / "states").iterdir()}


@pytest.mark.parametrize("texts_first", [True, False])
def test_an_image_at_a_url_stays_one_beside_the_same_url_as_text(tmp_path: Path, texts_first: bool) -> None:
    url = "https://example.org/a.png"
    said: list[Turn] = [Turn("user", "Look.", (Media("image/png", url=url),))]
    documents = Documents(tmp_path)
    state = open_message_state(tmp_path, "judge", "chat", documents)
    if texts_first:
        documents.keep_text(url)
    state.extend(said)
    documents.keep_text(url)

    resumed = open_message_state(tmp_path, "judge", "chat", Documents(tmp_path), resume=True)

    assert list(resumed) == said
    assert [each.kind for each in sorted(documents, key=lambda each: each.kind)] == ["text/plain", "text/uri-list"]


def test_a_url_that_an_earlier_version_kept_as_text_is_still_read(tmp_path: Path) -> None:
    url = "https://example.org/a.png"
    state = open_message_state(tmp_path, "judge", "chat", Documents(tmp_path))
    state.append(Turn("user", "Look.", (Media("image/png", url=url),)))
    (kept,) = (tmp_path / "documents").iterdir()
    kept.rename(kept.with_suffix(".txt"))

    resumed = open_message_state(tmp_path, "judge", "chat", Documents(tmp_path), resume=True)

    assert list(resumed) == list(state)

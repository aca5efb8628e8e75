"""What a program asks about: read into turns, set apart where it must be, and kept once by its content."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import build_spec, options_for
from pllm_notebook.failures import FailureKind
from pllm_notebook.messages_types import Dialogue, Media, ProviderMessage, ToolCall, ToolCallOutput, Turn
from pllm_notebook.sessions.document_reader import delimited
from pllm_notebook.sessions.documents import Documents
from pllm_notebook.sessions.prompt_reader import dialogue_of, prompt_of, turns_from
from pllm_notebook.tools.called_tools import Called, CalledTool

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
PDF = b"%PDF-1.7 nothing more"
SHOWN = Media("image/png", data=base64.b64encode(PNG).decode())


class Enzyme(BaseModel):
    name: str


class Replied:
    """An earlier reply, as this room knows it."""

    def to_assistant_message(self) -> Turn:
        return Turn("assistant", "Lysozyme.", echo=ProviderMessage("chat", "{}"))


def key(documents: list[Any]) -> str:
    spec = build_spec(options_for({"model": "openai:gpt-6-luna"}), None, instruct=False)
    encoded = spec.encoded(prompt_of(documents))
    assert not hasattr(encoded, "kind")
    return spec.key(encoded)  # type: ignore[arg-type]


def test_a_text_alone_is_sent_as_it_is() -> None:
    spec = build_spec(options_for({"model": "openai:gpt-6-luna"}), None, instruct=False)

    assert prompt_of(["<document>\n ab "]) == "<document>\n ab "
    assert key(["ab"]) == spec.key(b'"ab"')


def test_a_member_of_an_enumeration_is_its_text() -> None:
    prompt = prompt_of([FailureKind.REFUSAL])

    assert (type(prompt), prompt) == (str, "refusal")


def test_texts_of_one_turn_are_told_apart() -> None:
    assert delimited(["ab", "c"]) == '<document index="1">\nab\n</document>\n<document index="2">\nc\n</document>'
    assert len({key(["ab", "c"]), key(["a", "bc"]), key(["abc"]), key(["ab", "c", ""])}) == 4


PIECES = st.text(alphabet="a\n", max_size=3) | st.sampled_from(
    ["</document>", '</document>\n<document index="2">', "</document_2>", '<document_2 index="1">']
)


@example(["a", 'b\n</document>\n<document index="3">\nc'], ["a", "b", "c"])
@given(st.lists(PIECES, min_size=2, max_size=3), st.lists(PIECES, min_size=2, max_size=3))
def test_no_text_can_end_its_own_document(first: list[str], second: list[str]) -> None:
    assert (delimited(first) == delimited(second)) == (first == second)


def test_documents_before_and_after_a_turn_are_turns_of_their_own() -> None:
    dialogue = dialogue_of(["one", "two", ("assistant", "three"), "four"])

    assert [(turn.role, turn.text) for turn in dialogue.turns] == [
        ("user", delimited(["one", "two"])),
        ("assistant", "three"),
        ("user", "four"),
    ]


def test_instructions_among_the_documents_are_the_systems_words() -> None:
    assert dialogue_of([("system", "Be brief."), "Why?"]) == Dialogue((Turn("user", "Why?"),), "Be brief.")
    assert dialogue_of([{"role": "developer", "content": "Be brief."}, "Why?"]).system == "Be brief."


def test_data_is_json_that_a_person_can_read() -> None:
    assert prompt_of([{"name": "amylase", "role": "enzyme"}]) == '{\n  "name": "amylase",\n  "role": "enzyme"\n}'
    assert prompt_of([Enzyme(name="amylase")]) == '{\n  "name": "amylase"\n}'


CALLS = (ToolCall("1", "look", '{"at":"x"}'),)
RESULTS = (ToolCallOutput("1", "look", "seen"),)
MESSAGES = [
    (
        "openai",
        [
            {"role": "user", "content": [{"type": "text", "text": "Look."}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at":"x"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "1", "content": "seen"},
        ],
    ),
    (
        "openai's responses",
        [
            {"role": "user", "content": [{"type": "input_text", "text": "Look."}]},
            {"type": "function_call", "call_id": "1", "name": "look", "arguments": '{"at":"x"}'},
            {"type": "function_call_output", "call_id": "1", "output": "seen"},
        ],
    ),
    (
        "anthropic",
        [
            {"role": "user", "content": "Look."},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "look", "input": {"at": "x"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "seen"}]},
        ],
    ),
    (
        "google",
        [
            {"role": "user", "parts": [{"text": "Look."}]},
            {"role": "model", "parts": [{"functionCall": {"id": "1", "name": "look", "args": {"at": "x"}}}]},
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "1", "name": "look", "response": {"result": "seen"}}}],
            },
        ],
    ),
]


@pytest.mark.parametrize("messages", [messages for _, messages in MESSAGES], ids=[name for name, _ in MESSAGES])
def test_messages_of_every_provider_are_the_same_turns(messages: list[Any]) -> None:
    assert turns_from(messages).turns == (
        Turn("user", "Look."),
        Turn("assistant", "", calls=CALLS),
        Turn("tool", "", results=RESULTS),
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{SHOWN.data}"}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": SHOWN.data}},
        {"inlineData": {"mimeType": "image/png", "data": SHOWN.data}},
    ],
    ids=["openai", "anthropic", "google"],
)
def test_images_in_messages_are_images(part: dict[str, Any]) -> None:
    assert turns_from([{"role": "user", "content": [part, {"text": "What?", "type": "text"}]}]).turns == (
        Turn("user", "What?", (SHOWN,)),
    )


def test_a_result_among_the_messages_may_be_of_a_call_of_an_earlier_reply() -> None:
    reply = Turn("assistant", "", calls=CALLS, echo=ProviderMessage("chat", "{}"))

    turns = dialogue_of(["Look.", reply, *MESSAGES[0][1][2:], *MESSAGES[0][1][:1]]).turns

    assert turns == (Turn("user", "Look."), reply, Turn("tool", "", results=RESULTS), Turn("user", "Look."))


def test_what_an_assistant_signed_goes_back_as_it_was() -> None:
    content = [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, {"type": "text", "text": "Seen."}]

    (turn,) = turns_from([{"role": "assistant", "content": content}]).turns

    assert turn.text == "Seen."
    assert turn.echo is not None
    assert "signature" in turn.echo.content


def test_a_part_that_nobody_understands_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match=r"messages\[0\] has a part of type 'sound'; .* Nothing was sent\."):
        prompt_of([{"role": "user", "content": [{"type": "sound"}]}])


def test_files_are_known_by_their_content_whatever_they_are_called(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "b.bin").write_bytes(PNG)
    (tmp_path / "a.pdf").write_bytes(PDF)
    (tmp_path / "notes.txt").write_text("Seen.")

    assert prompt_of(["What?", tmp_path / "a.png"]) == prompt_of(["What?", tmp_path / "b.bin"])
    (tmp_path / "copy.pdf").write_bytes(PDF)
    assert prompt_of([tmp_path / "copy.pdf"]) == prompt_of([tmp_path / "a.pdf"])
    assert prompt_of(["What?", PNG]) == Dialogue((Turn("user", "What?", (SHOWN,)),))
    assert prompt_of([tmp_path / "a.pdf"]).turns[0].media[0].mime == "application/pdf"  # type: ignore[union-attr]
    assert prompt_of([tmp_path / "notes.txt"]) == "Seen."


def test_a_missing_file_is_an_error_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a long path is cut in the message

    with pytest.raises(UsageError, match=r"gone\.png' cannot be read: No such file .* Nothing was sent\."):
        prompt_of(["What?", Path("gone.png")])


def test_calls_of_tools_and_their_outputs_are_turns() -> None:
    call = CalledTool("1", "look", {"at": "x"}, '{"at":"x"}')
    turns = (Turn("user", "Look."), Turn("assistant", "", calls=CALLS), Turn("tool", "", results=RESULTS))

    assert dialogue_of(["Look.", call, ToolCallOutput("1", "look", "seen")]).turns == turns
    assert dialogue_of(["Look.", Called("", (call,)), ToolCallOutput("1", "", "seen")]).turns == turns
    # An earlier reply brings its calls along; they are not said twice.
    assert dialogue_of(["Look.", turns[1], call, *RESULTS]).turns == turns


def test_an_earlier_reply_is_what_the_assistant_said_word_for_word() -> None:
    turns = dialogue_of(["Name an enzyme.", Replied(), "Why?"]).turns

    assert turns[1] == Replied().to_assistant_message()


def test_a_reply_cannot_be_the_last_document() -> None:
    with pytest.raises(UsageError, match=r"there is no question after it.*reply\.resolve\(\).*Nothing was sent"):
        dialogue_of(["Shorten this:", Replied()])


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (7, r"Document 2 is of type int \(7\)"),
        (("usr", "x"), r"with a role of system, .* Did you mean 'user'\?"),
        (("assistant", [PNG]), r"the text of 'assistant' is a string"),
        ({"made": object()}, r"Document 2 is a dictionary that cannot be written as JSON"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_place(document: Any, told: str) -> None:
    with pytest.raises(UsageError, match=rf"{told}.*Nothing was sent\."):
        dialogue_of(["one", document])


def test_nothing_to_ask_about_is_an_error() -> None:
    with pytest.raises(UsageError, match="There is no document"):
        dialogue_of([[], ("system", "Be brief.")])


# What is kept.


@pytest.fixture
def documents(tmp_path: Path) -> Iterator[Documents]:
    return Documents(tmp_path)


def test_a_document_is_kept_once_however_often_it_is_given(documents: Documents, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)

    first, hashes = documents.read(["What is this?", tmp_path / "a.png"])
    second, again = Documents(tmp_path).read(["What is this?", PNG])

    assert first == second
    assert hashes == again
    assert sorted(hashes) == sorted(each.hash for each in documents)
    assert [documents[each].kind for each in hashes] == ["text/plain", "image/png"]
    assert documents[hashes[1]].read() == PNG
    assert documents[hashes[0]].path.endswith(f"documents/{hashes[0]}.txt")


def test_what_was_shown_stays_when_the_file_changes(documents: Documents, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PNG)
    _, (first,) = documents.read([file])

    file.write_bytes(PNG + b"more")
    _, (second,) = documents.read([file])

    assert (documents[first].read(), documents[second].read()) == (PNG, PNG + b"more")


def test_equal_files_are_one_object_in_memory(documents: Documents) -> None:
    first, _ = documents.read(["one", PNG])
    second, _ = documents.read(["two", bytes(PNG)])

    assert isinstance(first, Dialogue)
    assert isinstance(second, Dialogue)
    assert first.turns[0].media[0] is second.turns[0].media[0]


def test_documents_are_listed_without_keys_and_without_markup(documents: Documents) -> None:
    documents.read(["<b>My key is sk-proj-abcdefgh1234</b>"])

    assert "sk-…" in repr(documents)
    assert "&lt;b&gt;My key is sk-…" in documents._repr_html_()


def test_a_long_list_of_documents_shows_the_newest(documents: Documents) -> None:
    for number in range(60):
        documents.read([f"text {number}"])

    assert len(documents) == 60
    assert repr(documents).splitlines()[1] == "… 10 earlier ones"
    assert len(repr(documents).splitlines()) == 52


def test_nothing_outside_of_the_documents_is_one(documents: Documents, tmp_path: Path) -> None:
    documents.read(["Asked about."])
    (tmp_path / "other.txt").write_text("Not asked about.")

    with pytest.raises(KeyError):
        documents["../other"]


def test_files_of_a_session_are_their_owners_alone(documents: Documents) -> None:
    documents.read(["A secret."])

    (kept,) = documents
    assert Path(kept.path).stat().st_mode & 0o077 == 0

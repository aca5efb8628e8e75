"""Long texts: pieces as rows, and one answer for each document, whatever the dataframe library."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import display_registry
from pllm_notebook.exceptions import MissingPackageError, PllmError, UnknownColumnError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.long_documents import token_count
from pllm_notebook.frames.runs import Runs
from pllm_notebook.sim import SimAnswer, Simulator
from pllm_notebook.types import Progress
from tests.contract.charges import charged
from tests.contract.sides import OPENAI, reach

from .dtype_frames import of_every_dtype
from .frame_libraries import FrameKit

TEXTS = [" ".join(f"word{n}" for n in range(300)), "short", None, ""]


def test_each_piece_is_a_row_with_its_document_and_number(kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"id": [7, 8, 9, 10], "text": TEXTS})).chunks("text", tokens=100)

    rows = kit.rows(out)
    assert [row["chunk"] for row in rows if row["document"] == 0] == list(range(len(rows) - 3))
    assert [(row["id"], row["text"], row["document"], row["chunk"]) for row in rows[-3:]] == [
        (8, "short", 1, 0),
        (9, None, 2, 0),
        (10, "", 3, 0),
    ]
    pieces = [row["text"] for row in rows if row["document"] == 0]
    assert len(pieces) > 4
    assert all(token_count(piece) <= 100 for piece in pieces)
    assert " ".join(pieces) == TEXTS[0]
    assert kit.names(out) == ["id", "text", "document", "chunk"]


@pytest.mark.sample(1)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=400), tokens=st.integers(1, 40))
def test_no_word_is_lost_and_no_piece_is_too_long(kit: FrameKit, text: str, tokens: int) -> None:
    pieces = kit.column(kit.llm(kit.frame({"text": [text]})).chunks("text", tokens=tokens), "text")

    # A single character is the smallest piece that there is.
    assert all(token_count(piece) <= tokens or len(piece) == 1 for piece in pieces if piece.strip())
    assert "".join("".join(pieces).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda llm: llm.chunks("txt"), "txt"),
        (lambda llm: llm.chunks("id"), "row 0 of 'id' is int"),
        (lambda llm: llm.chunks("text", tokens=0), "tokens is a whole number of at least 1"),
        (lambda llm: llm.chunks("text", tokens=10, overlap=10), "10 is not less than 10"),
        (lambda llm: llm.reduce("All: {text}"), "document"),
        (lambda llm: llm.reduce("All: {text} {id}", by="n"), "names \\['text', 'id'\\]"),
        (lambda llm: llm.reduce("All: {text}", by="id", explode=True), "one row a document"),
        (lambda llm: llm.reduce("All: {text}", by="id", tokens="9"), "tokens"),
    ],
)
def test_what_cannot_be_cut_or_combined_is_refused(kit: FrameKit, call: Any, message: str) -> None:
    frame = kit.frame({"id": [1, 2], "text": ["a", "b"], "n": [1, 1]})

    with pytest.raises(PllmError, match=message):
        call(kit.llm(frame))


def test_a_column_that_is_there_is_not_replaced(kit: FrameKit) -> None:
    frame = kit.frame({"document": ["x"], "text": ["a"]})

    with pytest.raises(PllmError, match="prefix"):
        kit.llm(frame).chunks("text")

    assert kit.names(kit.llm(frame).chunks("text", prefix="piece_"))[-2:] == ["piece_document", "piece_chunk"]


def test_without_the_package_its_extra_is_named(kit: FrameKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "semantic_text_splitter", None)

    with pytest.raises(MissingPackageError, match="documents"):
        kit.llm(kit.frame({"text": ["a"]})).chunks("text")


class Together:
    """Answers with the words that it was asked about, sorted; counts what was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, request: Any) -> Any:
        text = request.prompt.removeprefix("Join:\n")
        self.asked.append(text)
        return None if "bad" in text else "+".join(sorted(text.replace("+", " ").split()))


@pytest.fixture
def together(cache_dir: object) -> Together:
    answers = Together()
    pllm.configure(sim={"answers": answers}, model="sim:openai")
    return answers


def test_the_values_of_a_document_are_one_question(kit: FrameKit, together: Together) -> None:
    frame = kit.frame({"doc": ["x", "y", "x"], "word": ["b", "c", "a"]})

    out = kit.llm(frame).reduce("Join:\n{word}", by="doc")

    assert kit.rows(out) == [
        {"doc": "x", "word": "b\n\na", "answer": "a+b"},
        {"doc": "y", "word": "c", "answer": "c"},
    ]
    assert kit.values(kit.llm(out).status) == ["ok", "ok"]


def test_values_that_do_not_fit_are_combined_step_by_step_and_paid_once(kit: FrameKit, together: Together) -> None:
    words = [f"w{n:02}" for n in range(9)]
    frame = kit.frame({"doc": ["x"] * 9 + ["y"], "word": [*words, "alone"]})

    out = kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=12)
    asked = list(together.asked)
    again = kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=12)

    assert kit.column(out, "answer") == ["+".join(words), "alone"]
    assert all(token_count(text) <= 12 for text in asked)
    assert len(asked) > 3
    assert together.asked == asked
    assert kit.column(again, "answer") == kit.column(out, "answer")


def test_the_columns_that_name_a_document_keep_their_dtype(kit: FrameKit, together: Together) -> None:
    frame = of_every_dtype(kit.name)
    by = [name for name in kit.names(frame) if name != "word"]

    out = kit.llm(frame).reduce("Join:\n{word}", by=by, tokens=7)

    assert len(together.asked) > 2  # in several steps
    assert kit.names(out) == [*by, "word", "answer"]
    assert {name: kit.dtypes(out)[name] for name in by} == {name: kit.dtypes(frame)[name] for name in by}
    assert [kit.column(out, name) for name in by] == [kit.column(kit.take(frame, [0, 1]), name) for name in by]
    if kit.name != "arrow":
        assert kit.categories(out["category"]) == ["y", "x", "unused"]


def test_a_document_with_a_missing_value_is_not_answered_from_the_rest(kit: FrameKit, together: Together) -> None:
    frame = kit.frame({"doc": ["x", "x", "y"], "word": ["a", None, "c"]})

    with pytest.warns(UserWarning, match="1 document with a part without an answer"):
        out = kit.llm(frame).reduce("Join:\n{word}", by="doc")

    assert kit.column(out, "answer") == [None, "c"]
    assert together.asked == ["c"]


def pieces(kit: FrameKit, prefix: str = "") -> Any:
    """Two documents in pieces; the first has one for each letter."""
    words = ["a", "b", "c", "d", "z"]
    return kit.frame({"doc": ["x"] * 4 + ["y"], f"{prefix}document": [0] * 4 + [1], f"{prefix}chunk": [0, 1, 2, 3, 0],
                      "word": words})  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "piece_"])
@pytest.mark.parametrize("by", ["doc", "document"])
def test_pieces_are_combined_in_their_own_order(kit: FrameKit, together: Together, prefix: str, by: str) -> None:
    frame = kit.take(pieces(kit, prefix), [4, 2, 0, 3, 1])

    out = kit.llm(frame).reduce("Join:\n{word}", by=by if by == "doc" else prefix + by)

    assert sorted(together.asked) == ["a\n\nb\n\nc\n\nd", "z"]  # two documents, side by side
    assert kit.column(out, "answer") == ["z", "a+b+c+d"]


def test_documents_that_are_combined_together_keep_their_order(kit: FrameKit, together: Together) -> None:
    frame = kit.put(kit.take(pieces(kit), [4, 1, 0, 2, 3]), "author", ["one"] * 5)

    kit.llm(frame).reduce("Join:\n{word}", by="author")

    assert together.asked == ["z\n\na\n\nb\n\nc\n\nd"]


@pytest.mark.parametrize("by", ["doc", "document"])
def test_a_document_that_lacks_a_piece_is_refused(kit: FrameKit, together: Together, by: str) -> None:
    frame = kit.take(pieces(kit), [0, 2, 3, 4])

    with pytest.raises(UsageError, match=r"^Document 0 lacks its piece 1: .* drop the column 'chunk' "):
        kit.llm(frame).reduce("Join:\n{word}", by=by)
    assert together.asked == []

    kit.llm(kit.drop(frame, "chunk")).reduce("Join:\n{word}", by=by)
    assert sorted(together.asked) == ["a\n\nc\n\nd", "z"]


def test_columns_that_are_no_pieces_say_nothing_of_the_order(kit: FrameKit, together: Together) -> None:
    frame = kit.frame({"document": ["p", "p"], "chunk": ["tail", "head"], "word": ["b", "a"]})

    kit.llm(frame).reduce("Join:\n{word}")

    assert together.asked == ["b\n\na"]


def test_an_answer_of_several_fields_goes_on_as_json(kit: FrameKit, cache_dir: object) -> None:
    class Count(BaseModel):
        total: int
        unit: str

    seen: list[str] = []

    def answers(request: Any) -> Any:
        seen.append(request.prompt)
        return {"total": len(seen), "unit": "a"}

    pllm.configure(sim={"answers": answers}, model="sim:openai", concurrency=1)
    frame = kit.frame({"doc": [1] * 4, "text": ["a" * 30] * 4})

    out = kit.llm(frame).reduce("Count: {text}", by="doc", response_format=Count, tokens=20)

    assert kit.names(out) == ["doc", "text", "total", "unit"]
    assert seen[-1] == 'Count: {"total":1,"unit":"a"}\n\n{"total":1,"unit":"a"}'


def test_columns_beside_the_answers_neither_go_on_nor_hide_a_failed_part(kit: FrameKit, cache_dir: object) -> None:
    asked: list[str] = []

    def answers(request: Any) -> Any:
        asked.append(request.prompt)
        return SimAnswer.refusal() if "bad" in request.prompt else request.prompt.split()[-1]

    pllm.configure(sim={"answers": answers}, model="sim:openai")
    frame = kit.frame({"doc": ["x"] * 4 + ["y"] * 4, "word": ["bad", "b", "c", "d", "e", "f", "g", "h"]})

    with pytest.warns(UserWarning, match="1 document with a part without an answer|failed"):
        out = kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=5, error_column="why")

    assert kit.column(out, "answer") == [None, "h"]
    assert sorted(asked) == [
        "Join:\nbad\n\nb",
        *(f"Join:\n{pair}" for pair in ("c\n\nd", "e\n\nf", "f\n\nh", "g\n\nh")),
    ]
    assert "why" in kit.names(out)


def test_parts_that_failed_are_found_by_the_run_that_the_warning_names(kit: FrameKit, cache_dir: object) -> None:
    def answers(request: Any) -> Any:
        return SimAnswer.refusal() if "bad" in request.prompt else request.prompt.split()[-1]

    pllm.configure(sim={"answers": answers}, model="sim:openai")
    frame = kit.frame({"doc": ["x"] * 4, "word": ["bad", "b", "c", "d"]})

    with pytest.warns(UserWarning, match="with a part without|failed") as warned:
        kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=5)

    (line,) = [str(one.message) for one in warned if "with a part without" in str(one.message)]
    (named,) = re.findall(r"Why parts failed: pllm\.run\('(\w+)'\)\.errors\.", line)
    assert kit.column(pllm.run(named).errors, "kind") == ["refusal"]


def test_a_document_is_not_named_by_a_list(cache_dir: object, kit: FrameKit) -> None:
    frame = kit.frame({"tags": [["p"], ["q"]], "text": ["a", "b"]})

    with pytest.raises(PllmError, match="row 0 has a list or dict there, which names no document"):
        kit.llm(frame).reduce("All: {text}", by="tags", model="sim:openai")


def test_a_column_is_not_named_by_a_number_that_is_no_column(cache_dir: object, kit: FrameKit) -> None:
    with pytest.raises(UnknownColumnError, match="names column 5, but the frame has"):
        kit.llm(kit.frame({"text": ["a"]})).chunks(5)


def test_two_values_that_never_fit_are_refused(kit: FrameKit, together: Together) -> None:
    frame = kit.frame({"doc": [1, 1], "word": ["a" * 100, "b" * 100]})

    with pytest.raises(PllmError, match="No two parts of 'word' fit into 20 tokens"):
        kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=20)

    assert together.asked == []


def test_all_steps_share_the_ceiling(
    kit: FrameKit, sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(OPENAI, sim, monkeypatch)
    frame = kit.frame({"doc": [1] * 60, "text": [f"{n} " + "a" * 400 for n in range(60)]})

    with pytest.warns(UserWarning, match="max_cost_usd|with a part without") as warned:
        kit.llm(frame).reduce("Join: {text}", by="doc", tokens=300, model=OPENAI.model, max_cost_usd=0.0004)

    assert any("max_cost_usd" in str(each.message) for each in warned)
    assert 0 < charged(sim) <= 0.0004


def test_it_can_be_awaited(kit: FrameKit, together: Together) -> None:
    frame = kit.frame({"doc": ["x"] * 9, "word": [f"w{n}" for n in range(9)]})

    out = asyncio.run(kit.llm(frame).areduce("Join:\n{word}", by="doc", tokens=9))

    assert kit.column(out, "answer") == ["+".join(f"w{n}" for n in range(9))]


class Shown:
    """A display that notes what it is given."""

    stays = True

    def __init__(self, made: list[Shown]) -> None:
        made.append(self)
        self.opened: list[Progress] = []
        self.closed: list[Progress] = []

    def open(self, progress: Progress, cancel: Callable[[], None]) -> None:
        self.opened.append(progress)

    def update(self, progress: Progress) -> None:
        pass

    def close(self, progress: Progress, retry: Callable[[], object] | None) -> None:
        self.closed.append(progress)


@pytest.fixture
def displays(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Shown]]:
    made: list[Shown] = []
    display_registry.register_display(lambda: Shown(made))
    yield made
    display_registry.register_display(None)


@pytest.mark.parametrize("call", ["reduce", "areduce"])
def test_all_steps_have_one_display_and_one_line_among_the_runs(
    kit: FrameKit, together: Together, displays: list[Shown], call: str
) -> None:
    run_registry.forget_all()
    frame = kit.frame({"doc": ["x"] * 9, "word": [f"w{n}" for n in range(9)]})

    given = getattr(kit.llm(frame), call)("Join:\n{word}", by="doc", tokens=9, progress=True)
    out = asyncio.run(given) if call == "areduce" else given

    (shown,) = displays
    assert len(shown.opened) > 2  # a step goes on where the one before it ended
    (ended,) = shown.closed
    assert (ended.label, ended.state) == (f"reduce, {len(shown.opened)} steps", "done")
    assert ended.total == ended.done == len(together.asked)
    runs = pllm.runs()
    assert len(runs) == len(shown.opened)
    (line,) = runs.lines()
    assert [run.id for run in line] == [run.id for run in runs]
    assert repr(runs).startswith(f"<{len(runs)} runs, done: {ended.done} of {ended.done} answered, ")
    assert len(Runs(line, is_whole=True).lines()) == len(runs)
    assert kit.values(kit.llm(out).status) == ["ok"]  # the last step's frame is the caller's own


def test_steps_that_end_early_close_their_display(kit: FrameKit, together: Together, displays: list[Shown]) -> None:
    frame = kit.frame({"doc": [1] * 4, "word": ["a" * 30] * 4})

    with pytest.raises(UsageError, match="No two parts"):
        kit.llm(frame).reduce("Join:\n{word}", by="doc", tokens=18, progress=True)

    assert [one.state for shown in displays for one in shown.closed] == ["failed"]


def test_one_step_has_the_display_of_a_run(kit: FrameKit, together: Together, displays: list[Shown]) -> None:
    kit.llm(kit.frame({"doc": ["x", "x"], "word": ["a", "b"]})).reduce("Join:\n{word}", by="doc", progress=True)

    assert [shown.closed[0].label for shown in displays] == ["text"]


def test_a_row_that_is_too_long_names_what_cuts_it(kit: FrameKit, cache_dir: object) -> None:
    body = {"error": {"message": "maximum context length is 8 tokens", "type": "invalid_request_error"}}
    pllm.configure(
        sim={"answers": lambda request: SimAnswer.status(400, body=body) if "long" in request.prompt else "fine"},
        model="sim:openai",
    )

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = kit.llm(kit.frame({"text": ["long", "a"]})).complete("{text}")

    (message,) = kit.column(kit.llm(out).errors, "message")
    assert message.startswith("maximum context length is 8 tokens")
    assert "df.llm.chunks" in message

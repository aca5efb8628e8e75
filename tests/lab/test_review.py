"""A review by keyboard: every decision is a label at once, and how a row was drawn is stored with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.frames.dtypes import Column, Kind
from pllm_notebook.frames.label_values import value_of
from pllm_notebook.frames.stored_labels import LabelNote, label_cells
from pllm_notebook.lab import Review
from pllm_notebook.notebook.review_widget import ReviewWidget
from pllm_notebook.notebook.text import CellOutput


class Mood(BaseModel):
    """A review."""

    mood: Literal["good", "bad", "mixed"]
    fine: bool
    product: str


def answer(request: Any) -> Any:
    number = int(request.prompt.split()[-1])
    return {"mood": ["good", "bad", "mixed"][number % 3], "fine": True, "product": f"thing {number}"}


@pytest.fixture
def out(cache_dir: Path) -> pd.DataFrame:
    pllm.configure(sim={"answers": answer}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(30)] + ["text 0"] * 5})
    return frame.llm.parse(Mood, "A {text}")


def stored(field: str = "mood") -> list[tuple[Any, ...]]:
    return [(label.row["text"], label.value, label.by) for label in pllm.labels(field) if label.row]


def test_each_decision_is_a_label_at_once(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=4, by="me")
    shown = []
    for step in (review.accept, lambda: review.choose("bad"), review.skip):
        shown.append(review.state())
        step()

    texts = [state["row"][0][1] for state in shown]
    assert stored() == [(texts[0], shown[0]["proposed"], "me"), (texts[1], "bad", "me")]
    assert len(set(texts)) == 3
    assert shown[0]["choices"] == ["good", "bad", "mixed"]
    assert [name for name, _ in shown[0]["others"]] == ["fine", "product"]
    assert (review.state()["at"], review.state()["labelled"]) == (3, 2)


def test_undoing_takes_the_label_back_and_shows_the_row_again(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=3, by="me")
    first = review.state()
    review.accept()
    review.skip()

    review.undo()
    assert review.state()["at"] == 1
    review.undo()

    assert review.state()["row"] == first["row"]
    assert stored() == []
    review.undo()
    assert review.state()["at"] == 0


def test_the_same_call_goes_on_where_it_stopped(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=5, by="me")
    texts = []
    for _ in range(2):
        texts.append(review.state()["row"])
        review.accept()

    again, yours = (out.sample(frac=1, random_state=2).llm.review(["mood"], n=5, by=who) for who in ("me", "you"))

    assert (again.state()["at"], again.state()["labelled"]) == (2, 2)
    assert again.state()["row"] == review.state()["row"]
    assert (yours.state()["at"], yours.state()["row"]) == (0, texts[0])
    for _ in range(3):
        again.accept()
    assert again.state()["done"]
    assert "All are done" in repr(again)


def test_a_late_key_decides_nothing(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=3, by="me")

    for _ in range(3):
        review.accept(0)
        review.choose("bad", 0)

    assert len(stored()) == 1
    assert review.at == 1


def test_notes_are_stored_with_the_decision(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=2, by="me")
    review.set_note("unclear")
    review.choose("mixed")
    review.accept()

    assert [label.note for label in pllm.labels()] == ["unclear", None]


def test_a_random_order_is_a_uniform_sample_of_distinct_rows(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], order="random", n=12, by="me")

    assert {(item.row.drawn_by, item.row.pi) for item in review.items} == {("random", 12 / 30)}
    assert len({item.row.position for item in review.items}) == 12
    assert all(item.row.position < 30 for item in review.items)


def test_doubtful_rows_come_with_a_random_share_whose_chance_is_known(cache_dir: Path) -> None:
    earlier: dict[str, Iterator[int]] = {}

    def unsure(request: Any) -> Any:
        number = int(request.prompt.split()[-1])
        before = next(earlier.setdefault(request.prompt, iter(range(100))))
        mood = "bad" if number in (3, 7, 11, 15) and before == 0 else "good"
        return {"mood": mood, "fine": True, "product": "x"}

    pllm.configure(sim={"answers": unsure}, model="sim:openai")
    frame = pd.DataFrame({"text": [f"text {n}" for n in range(24)]})
    out = frame.llm.parse(Mood, "A {text}", samples=3, probabilities="samples")

    for order in ("doubt", "disagreement"):
        items = out.llm.review(["mood"], order=order, n=5, random_share=0.2, by="me").items
        first = {item.row.position for item in items if item.row.drawn_by == order}
        assert first == {3, 7, 11, 15}
        assert [item.row.pi for item in items if item.row.drawn_by == order] == [1.0] * 4
        (drawn,) = [item.row for item in items if item.row.drawn_by == "random"]
        assert (drawn.position in first, drawn.pi) == (False, 1 / 20)


def test_changed_rows_are_those_of_a_comparison(out: pd.DataFrame) -> None:
    pllm.configure(
        sim={"answers": lambda request: answer(request) | ({"fine": False} if "text 4" in request.prompt else {})}
    )
    new = out[["text"]].llm.parse(Mood, "B {text}")

    items = new.llm.review(["fine"], order="changed", n=3, random_share=0.0, by="me").items

    assert [item.row.position for item in items] == [4]


def test_a_review_is_shown_as_text_where_there_is_no_view(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=2, by="me")

    with pytest.raises(NotImplementedError):
        review._ipython_display_()
    assert repr(review) == "<Review by 'me', SIMULATED: 0 of 2 labelled; .ask() goes on in a terminal.>"
    review.accept()
    review.accept()

    assert repr(review) == "<Review by 'me', SIMULATED: 2 of 2 labelled. All are done.>"


def test_what_has_been_decided_is_html_with_the_rows_that_were_looked_at(cache_dir: Path) -> None:
    pllm.configure(
        sim={"answers": lambda request: {"mood": "good", "fine": True, "product": "lamp"}}, model="sim:openai"
    )
    rows = pd.DataFrame({"text": ["<b>one</b> costs $3 or $4", "two " * 90, "three"]}, index=["a", "b", "c"])
    review = rows.llm.parse(Mood, "A {text}").llm.review(["mood"], n=3, by="me")
    nothing = review._repr_html_()
    review.set_note("<i>")
    review.choose("bad")
    review.skip()
    review.accept()

    html = review._repr_html_()

    assert "0 of 3 answers labelled" in nothing
    assert "<table" not in nothing
    assert "<b>SIMULATED</b>: 2 of 3 answers labelled, 1 skipped" in html
    assert [html.count(each) for each in (">✗ bad<", ">skipped<", ">✓ good<", ">&lt;i&gt;<")] == [1, 1, 1, 1]
    assert "&lt;b&gt;one&lt;/b&gt; costs <span>$</span>3" in html
    assert "two " * 60 not in html
    assert "The same call of review goes on" not in html
    again = rows.llm.parse(Mood, "A {text}").llm.review(["mood"], n=3, by="me")
    assert ">✗ bad<" in again._repr_html_()
    assert "&lt;i&gt;" in again._repr_html_()


def test_two_persons_are_compared_by_kappa(out: pd.DataFrame) -> None:
    for by, moods in (("me", ["good", "bad", "good", "bad"]), ("you", ["good", "bad", "bad", "bad"])):
        for n, mood in enumerate(moods):
            label_cells(["text"], [f"text {n}"], {"mood": mood}, LabelNote(by))

    assert pllm.labels().kappa("mood", "me", "you") == pytest.approx(0.5)
    assert pllm.labels().kappa("mood", "me", "nobody") != pllm.labels().kappa("mood", "me", "nobody")


def test_a_terminal_asks_line_by_line(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=5, by="me")
    lines = iter(["", "2", "n odd", "mixed", "s", "u", "maybe", "q"])
    said: list[str] = []

    review.ask(lambda prompt: next(lines), said.append)

    assert [value for _, value, _ in stored()][1:] == ["bad", "mixed"]
    assert [label.note for label in pllm.labels()] == [None, None, "odd"]
    assert any("is one of ['good', 'bad', 'mixed'], not 'maybe'" in line for line in said)
    assert "3 of 5 labelled" in said[-1]


def test_the_widget_does_what_the_browser_sends(out: pd.DataFrame) -> None:
    review = out.llm.review(["mood"], n=3, by="me")
    widget = ReviewWidget(review, CellOutput())

    for message in (
        {"do": "note", "at": 0, "text": "hm"},
        {"do": "choose", "at": 0, "value": "bad"},
        {"do": "choose", "at": 1, "value": "worse"},
        {"do": "accept", "at": 0},
        {"do": "accept"},
        {"do": "dance", "at": 1},
        "nonsense",
        {"do": "accept", "at": 1},
    ):
        widget._on_message(None, message, None)

    assert (widget.state["at"], widget.state["labelled"], widget.state["problem"]) == (2, 2, "")
    assert [label.note for label in pllm.labels()] == ["hm", None]
    widget._on_message(None, {"do": "choose", "at": 2, "value": "worse"}, None)
    assert "not 'worse'. Nothing was stored." in widget.state["problem"]
    widget._on_message(None, {"do": "undo"}, None)
    assert widget.state["at"] == 1


@pytest.mark.parametrize(
    ("kind", "given"),
    [(Kind.INTEGER, True), (Kind.REAL, False), (Kind.TEXT, 3), (Kind.BOOLEAN, 1), (Kind.DATETIME, 5)],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(kind: Kind, given: Any) -> None:
    with pytest.raises(UsageError, match="Nothing was stored"):
        value_of(Column("field", kind), given)


def test_bounds_and_nothing_follow_from_the_fields_schema() -> None:
    column, schema = Column("stars", Kind.INTEGER), {"type": "integer", "minimum": 1, "maximum": 5}

    assert value_of(column, "5", schema) == 5
    for wrong in (0, 6, None):
        with pytest.raises(UsageError, match="Nothing was stored"):
            value_of(column, wrong, schema)
    assert value_of(column, None, {"anyOf": [schema, {"type": "null"}]}) is None


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [(Kind.INTEGER, "3", 3), (Kind.REAL, "2.5", 2.5), (Kind.TEXT, "3", "3"), (Kind.BOOLEAN, "No", None),
     (Kind.BOOLEAN, "FALSE", False), (Kind.INTEGER, "x", None), (Kind.DATA, '["a"]', ["a"]), (Kind.DATA, "a", None),
     (Kind.DATETIME, "tomorrow", None), (Kind.DATETIME, "2026-01-02", "2026-01-02")],
)  # fmt: skip
def test_values_are_of_the_fields_type(kind: Kind, given: str, value: Any) -> None:
    column = Column("field", kind)
    if value is None:
        with pytest.raises(UsageError, match="Nothing was stored"):
            value_of(column, given)
    else:
        assert value_of(column, given) == value


def test_what_cannot_be_reviewed_is_refused(out: pd.DataFrame) -> None:
    with pytest.raises(UsageError, match="Did you mean 'mood'"):
        out.llm.review(["moods"])
    with pytest.raises(UsageError, match="order is one of"):
        out.llm.review(order="best")
    with pytest.raises(UsageError, match="whole number of rows"):
        out.llm.review(n=0)
    with pytest.raises(UsageError, match="share from 0 to 1"):
        out.llm.review(random_share=2)
    with pytest.raises(PllmError):
        out.llm.review(order="doubt")
    fields: Any
    for fields in (3, [], [3], {"mood": 1}):
        with pytest.raises(UsageError, match=r"fields= is one name, or a list of some of \['mood', "):
            out.llm.review(fields)
    with pytest.raises(UsageError, match="old= is what order='changed' compares with, and order is 'random'"):
        out.llm.review(old="zz")
    assert isinstance(out.llm.review("mood"), Review)


def test_the_passage_that_the_answer_quotes_is_marked_and_the_terminal_says_it(cache_dir: Path) -> None:
    def quoting(request: Any) -> Any:
        quotes = {"mood": "text 7", "fine": None, "product": "a lamp"}
        return {"evidence": quotes, "answer": {"mood": "good", "fine": True, "product": "lamp"}}

    pllm.configure(sim={"answers": quoting}, model="sim:openai")
    out = pd.DataFrame({"text": ["see text 7 here"]}).llm.parse(Mood, "A {text}", evidence=True)
    review = out.llm.review(["mood", "product"], by="me")

    first = review.state()
    review.accept()
    second = review.state()

    assert first["row"] == [["text", "see text 7 here", [["see ", ""], ["text 7", "mood"], [" here", ""]]]]
    assert (first["lost"], second["lost"]) == ([], ["a lamp"])
    assert second["row"] == [["text", "see text 7 here", []]]
    said: list[str] = []
    review.undo()
    review.ask(read=lambda _: "q", show=said.append)
    assert "  quoted from text: text 7" in said[0].splitlines()


def test_a_field_has_its_own_confidence_where_rows_come_by_doubt(cache_dir: Path) -> None:
    class Two(BaseModel):
        mood: Literal["good", "bad"]
        fine: bool

    pllm.configure(model="sim:openai", effort="none")
    frame = pd.DataFrame({"text": ["text 1", "text 2"]})
    out = frame.llm.parse(Two, "A {text}", probabilities=True)
    review = out.llm.review(["mood", "fine"], order="doubt", random_share=0.0, by="me")

    shown = []
    while not (state := review.state())["done"]:
        at = out["text"].tolist().index(state["row"][0][1])
        shown.append((state["confidence"], out.llm.confidence[state["field"]].iloc[at]))
        review.accept()

    assert len(shown) == 4
    assert all(own == pytest.approx(p) for own, p in shown)

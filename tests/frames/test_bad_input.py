"""Bad input: a clear error before anything is sent, or the right value; and it loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import (
    MissingKeyError,
    NameClashError,
    UnknownColumnError,
    UnknownModelError,
    UnknownOptionError,
    UnsupportedSchemaError,
    UsageError,
)
from pllm_notebook.sim import Simulator

from .frame_libraries import FrameKit
from .known_answers import Named

COLUMNS = {"review": ["good", "bad"], "stars": [5, 1]}
Ask = Callable[[Any], Any]


@pytest.fixture
def llm(kit: FrameKit) -> Any:
    """`.llm` of a frame of two rows, in each library."""
    return kit.llm(kit.frame(COLUMNS))


@pytest.mark.sample(36)
@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (UnknownColumnError, "Did you mean 'review'?", lambda llm: llm.parse(Named, "{reveiw}")),
        (UnknownColumnError, "names column 'text'", lambda llm: llm.parse(Named, "{text}")),
        (UnknownColumnError, "'star'", lambda llm: llm.parse(Named, columns=["star"])),
        (UsageError, "names no column", lambda llm: llm.parse(Named, "What is the capital of France?")),
        (
            UsageError,
            "columns= cannot be combined with a prompt",
            lambda llm: llm.parse(Named, "{review}", columns=["review"]),
        ),
        (UsageError, "The prompt is text", lambda llm: llm.parse(Named, 3)),
        (UsageError, "has half a surrogate pair", lambda llm: llm.parse(Named, "\ud800 {review}")),
        (UsageError, "system has half a surrogate pair", lambda llm: llm.parse(Named, "{review}", system="\ud800")),
        (UsageError, "prefix has half a surrogate pair", lambda llm: llm.parse(Named, "{review}", prefix="\ud800")),
        (UsageError, "needs at least one tool, and got None", lambda llm: llm.call_tools(None, "{review}")),
        (NameClashError, "'review'", lambda llm: llm.complete("{review}", column="review")),
        (NameClashError, "'review'", lambda llm: llm.parse(Named, "{review}", error_column="review")),
        (UsageError, "needs a name", lambda llm: llm.complete("{review}", column="")),
        (UsageError, "needs a name", lambda llm: llm.parse(Named, "{review}", error_column="")),
        (UsageError, "needs a name", lambda llm: llm.parse(Named, "{review}", samples=3, agreement_column="")),
        (UsageError, "needs a name", lambda llm: llm.parse(bool, "{review}", samples=3, confidence_column="")),
        (NameClashError, "'name'", lambda llm: llm.parse(Named, "{review}", error_column="name")),
        (UsageError, "explode=True needs a list", lambda llm: llm.parse(Named, "{review}", explode=True)),
        (UnknownModelError, "no provider 'opnai'", lambda llm: llm.parse(Named, "{review}", model="opnai:x")),
        (
            UnknownModelError,
            "which provider serves 'llama'",
            lambda llm: llm.parse(Named, "{review}", model="llama"),
        ),
        (UnknownModelError, "write openai:", lambda llm: llm.parse(Named, "{review}", model="openai")),
        (
            UnknownModelError,
            "Did you mean 'openai:gpt-5'",
            lambda llm: llm.parse(Named, "{review}", model="openai/gpt-5"),
        ),
        (UnknownModelError, "name is empty", lambda llm: llm.parse(Named, "{review}", model="")),
        (UnknownModelError, "no provider before its colon", lambda llm: llm.parse(Named, "{review}", model=":x")),
        (UnknownModelError, "names no file", lambda llm: llm.parse(Named, "{review}", model="local:/no/such.gguf")),
        (UnknownModelError, "is not simulated", lambda llm: llm.parse(Named, "{review}", model="sim:mistral")),
        (MissingKeyError, "OPENAI_API_KEY", lambda llm: llm.parse(Named, "{review}", model="gpt-6-luna")),
        (MissingKeyError, "ANTHROPIC_API_KEY", lambda llm: llm.parse(Named, "{review}", model="claude-haiku-5-5")),
        (MissingKeyError, "GOOGLE_API_KEY", lambda llm: llm.parse(Named, "{review}", model="gemini-3.8-flash")),
        (UsageError, "price of mine:m is unknown", lambda llm: llm.parse(Named, "{review}", max_cost_usd=1)),
        (UnknownOptionError, "'temprature'", lambda llm: llm.parse(Named, "{review}", temprature=0)),
        (UsageError, "extra_body may not set 'n'", lambda llm: llm.parse(Named, "{review}", extra_body={"n": 3})),
        (UnsupportedSchemaError, "openai", lambda llm: llm.parse(dict[str, Any], "{review}", model="gpt-6-luna")),
        (UsageError, "", lambda llm: llm.parse("Named", "{review}")),
        (UsageError, "columns= names no column", lambda llm: llm.parse(Named, columns=[])),
        (UsageError, "explode is True, False or the name of a field", lambda llm: llm.parse(Named, explode="")),
        (UsageError, "columns of its own: ['name']", lambda llm: llm.parse(Named, "{review}", column="summary")),
        (UsageError, "columns of its own", lambda llm: llm.call_tools([Named], "{review}", column="summary")),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    echo: Callable[[], int], llm: Any, error: type[Exception], words: str, call: Ask
) -> None:
    with pytest.raises(error) as caught:
        call(llm)

    assert words in str(caught.value)
    assert "Nothing was sent." in str(caught.value)
    assert echo() == 0


def test_without_model_or_key_the_error_offers_what_needs_none(echo: Callable[[], int], llm: Any) -> None:
    pllm.configure(model=None)

    with pytest.raises(UnknownModelError, match="local:smollm2") as caught:
        llm.parse(Named, "{review}")

    assert "sim:openai" in str(caught.value)


def test_no_key_is_needed_when_nothing_has_to_be_sent(
    sim: Simulator, cache_dir: object, kit: FrameKit, llm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: {"name": request.prompt})
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    first = llm.parse(Named, "{review}", model="gpt-6-luna")
    monkeypatch.delenv("OPENAI_API_KEY")

    again = llm.parse(Named, "{review}", model="gpt-6-luna")

    assert kit.column(again, "name") == kit.column(first, "name")
    assert kit.values(kit.llm(again).status) == ["cached", "cached"]


@pytest.fixture
def names(kit: FrameKit) -> Callable[..., list[Any]]:
    """Ask of a column `t`, or of a frame, and return the answers."""

    def asked(cells: Any, prompt: str = "{t}") -> list[Any]:
        frame = kit.frame({"t": cells}) if isinstance(cells, list) else cells
        return kit.column(kit.llm(frame).parse(Named, prompt), "name")

    return asked


def test_braces_in_the_prompt_and_in_cells_stay(echo: Callable[[], int], names: Ask) -> None:
    assert names(['{"a": 1}', "{t}", "{secret}"], 'Like {"x": {}}: {t}') == [
        'Like {"x": {}}: {"a": 1}',
        'Like {"x": {}}: {t}',
        'Like {"x": {}}: {secret}',
    ]


def test_emoji_and_control_characters_arrive_as_they_are(echo: Callable[[], int], names: Ask) -> None:
    cells = ["naïve 😀", "nul \x00 byte", "line\u2028break", 'tab\tquote"']

    assert names(cells) == cells


@pytest.mark.sample(1)
def test_a_cell_of_ten_megabytes_goes_through(echo: Callable[[], int], sim: Simulator, names: Ask) -> None:
    sim.set(answers=lambda request: {"name": str(len(request.prompt))})

    assert names(["x" * 10_000_000]) == ["10000000"]


def test_column_names_that_are_no_identifiers_work(echo: Callable[[], int], kit: FrameKit, names: Ask) -> None:
    frame = kit.frame({"two words": ["a"], "class": ["b"], "_x": ["c"], "0": ["d"]})

    assert names(frame, "{two words}|{class}|{_x}|{0}") == ["a|b|c|d"]


def test_numbers_keep_every_digit(echo: Callable[[], int], names: Ask) -> None:
    assert names([2**53 + 1, None]) == ["9007199254740993", None]


def test_a_validator_that_raises_fails_its_row_alone(echo: Callable[[], int], kit: FrameKit, llm: Any) -> None:
    class Picky(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _check(cls, value: str) -> str:
            return value if value != "bad" else str(1 / 0)

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = llm.parse(Picky, "{review}", max_repairs=0)

    assert kit.column(out, "name") == ["good", None]
    (error,) = kit.rows(kit.llm(out).errors)
    assert error["kind"] == "schema"
    assert "ZeroDivisionError" in error["message"]


def test_fields_named_like_methods_are_columns_all_the_same(
    echo: Callable[[], int], sim: Simulator, kit: FrameKit, llm: Any
) -> None:
    class Odd(BaseModel):
        index: str
        columns: int
        llm: str

    sim.set(answers=lambda request: {"index": "i", "columns": 1, "llm": "l"})

    out = llm.parse(Odd, "{review}")

    assert kit.rows(out)[0] == {"review": "good", "stars": 5, "index": "i", "columns": 1, "llm": "l"}


def test_an_empty_text_in_a_cell_is_sent(echo: Callable[[], int], names: Ask) -> None:
    assert names(["a", ""], "<{t}>") == ["<a>", "<>"]


def test_nested_cells_are_sent_as_json(echo: Callable[[], int], names: Ask) -> None:
    assert names([["a", "b"], []]) == ['["a","b"]', "[]"]
    assert names([{"k": [2]}]) == ['{"k":[2]}']


def test_a_frame_without_rows_has_the_columns_and_sends_nothing(echo: Callable[[], int], kit: FrameKit) -> None:
    out = kit.llm(kit.frame({"t": []})).parse(Named, "{t}")

    assert kit.names(out) == ["t", "name"]
    assert kit.rows(out) == []
    assert kit.values(kit.llm(out).status) == []
    assert echo() == 0


def test_a_frame_without_columns_has_the_new_ones(echo: Callable[[], int], kit: FrameKit) -> None:
    out = kit.llm(kit.frame({})).parse(Named)

    assert kit.names(out) == ["name"]
    assert kit.rows(kit.llm(out).errors) == []
    assert echo() == 0


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (99, "There is no row 99: the {whole} has 2, counted from 0."),
        (-3, "There is no row -3: the {whole} has 2, counted from 0."),
        ("a", "A row is named by its position, a whole number, not 'a'."),
        (True, "A row is named by its position, a whole number, not True."),
        (1.5, "A row is named by its position, a whole number, not 1.5."),
    ],
)
def test_a_row_that_is_not_there_cannot_be_explained(
    echo: Callable[[], int], kit: FrameKit, llm: Any, row: Any, said: str
) -> None:
    run = llm.submit(Named, "{review}")
    out = kit.llm(run.result())

    for explain, whole in ((run.explain, "run"), (pllm.run(run.id).explain, "run"), (out.explain, "frame")):
        with pytest.raises(UsageError) as caught:
            explain(row)
        assert str(caught.value) == said.format(whole=whole) + " Nothing was sent."

"""Bad input: a clear error before anything is sent, or the right value; and it loses nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
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


class Named(BaseModel):
    name: str


@pytest.fixture
def echo(sim: Simulator, cache_dir: object) -> Iterator[Callable[[], int]]:
    """Answer with the prompt itself, and count the requests."""
    sim.set(answers=lambda request: {"name": request.prompt})
    pllm.configure(servers={"mine": sim.base_url("compatible")}, model="mine:m")
    yield lambda: sim.stats().requests
    sim.set(answers=None)


FRAME = pd.DataFrame({"review": ["good", "bad"], "stars": [5, 1]})


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (UnknownColumnError, "Did you mean 'review'?", lambda: FRAME.llm.parse(Named, "{reveiw}")),
        (UnknownColumnError, "names column 'text'", lambda: FRAME.llm.parse(Named, "{text}")),
        (UnknownColumnError, "'star'", lambda: FRAME.llm.parse(Named, columns=["star"])),
        (UsageError, "names no column", lambda: FRAME.llm.parse(Named, "What is the capital of France?")),
        (
            UsageError,
            "columns= cannot be combined with a prompt",
            lambda: FRAME.llm.parse(Named, "{review}", columns=["review"]),
        ),
        (UsageError, "The prompt is text", lambda: FRAME.llm.parse(Named, 3)),
        (NameClashError, "prefix=", lambda: FRAME.rename(columns={"stars": "name"}).llm.parse(Named, "{review}")),
        (NameClashError, "'review'", lambda: FRAME.llm.parse(Named, "{review}", error_column="review")),
        (NameClashError, "'name'", lambda: FRAME.llm.parse(Named, "{review}", error_column="name")),
        (UsageError, "explode=True needs a list", lambda: FRAME.llm.parse(Named, "{review}", explode=True)),
        (UnknownModelError, "no provider 'opnai'", lambda: FRAME.llm.parse(Named, "{review}", model="opnai:x")),
        (
            UnknownModelError,
            "which provider serves 'llama'",
            lambda: FRAME.llm.parse(Named, "{review}", model="llama"),
        ),
        (UnknownModelError, "names no file", lambda: FRAME.llm.parse(Named, "{review}", model="local:/no/such.gguf")),
        (UnknownModelError, "is not simulated", lambda: FRAME.llm.parse(Named, "{review}", model="sim:mistral")),
        (MissingKeyError, "OPENAI_API_KEY", lambda: FRAME.llm.parse(Named, "{review}", model="gpt-6-luna")),
        (MissingKeyError, "ANTHROPIC_API_KEY", lambda: FRAME.llm.parse(Named, "{review}", model="claude-haiku-5-5")),
        (MissingKeyError, "GOOGLE_API_KEY", lambda: FRAME.llm.parse(Named, "{review}", model="gemini-3.8-flash")),
        (UsageError, "price of mine:m is unknown", lambda: FRAME.llm.parse(Named, "{review}", max_cost_usd=1)),
        (UnknownOptionError, "'temprature'", lambda: FRAME.llm.parse(Named, "{review}", temprature=0)),
        (UsageError, "extra_body may not set 'n'", lambda: FRAME.llm.parse(Named, "{review}", extra_body={"n": 3})),
        (UnsupportedSchemaError, "openai", lambda: FRAME.llm.parse(dict[str, Any], "{review}", model="gpt-6-luna")),
        (UsageError, "", lambda: FRAME.llm.parse("Named", "{review}")),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_is_sent(
    echo: Callable[[], int], error: type[Exception], words: str, call: Callable[[], Any]
) -> None:
    with pytest.raises(error) as caught:
        call()

    assert words in str(caught.value)
    assert "Nothing was sent." in str(caught.value)
    assert echo() == 0


def test_without_model_or_key_the_error_offers_what_needs_none(echo: Callable[[], int]) -> None:
    pllm.configure(model=None)

    with pytest.raises(UnknownModelError, match="local:smollm2") as caught:
        FRAME.llm.parse(Named, "{review}")

    assert "sim:openai" in str(caught.value)


def test_no_key_is_needed_when_nothing_has_to_be_sent(
    sim: Simulator, cache_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    sim.set(answers=lambda request: {"name": request.prompt})
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    first = FRAME.llm.parse(Named, "{review}", model="gpt-6-luna")
    monkeypatch.delenv("OPENAI_API_KEY")

    again = FRAME.llm.parse(Named, "{review}", model="gpt-6-luna")

    assert again["name"].tolist() == first["name"].tolist()
    assert again.llm.status.tolist() == ["cached", "cached"]


def names(frame: pd.DataFrame, prompt: str = "{t}") -> list[Any]:
    return frame.llm.parse(Named, prompt)["name"].fillna("-").tolist()


def test_braces_in_the_prompt_and_in_cells_stay(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": ['{"a": 1}', "{t}", "{secret}"]})

    assert names(frame, 'Like {"x": {}}: {t}') == [
        'Like {"x": {}}: {"a": 1}',
        'Like {"x": {}}: {t}',
        'Like {"x": {}}: {secret}',
    ]


def test_half_a_surrogate_pair_fails_its_row_alone_and_is_not_sent(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": ["fine", "half \ud800 pair"]}, dtype=object)

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = frame.llm.parse(Named, "{t}")

    assert out["name"].fillna("-").tolist() == ["fine", "-"]
    assert out.llm.errors["kind"].tolist() == ["input"]
    assert "at character 5" in out.llm.errors["message"].iloc[0]
    assert echo() == 1


def test_emoji_and_control_characters_arrive_as_they_are(echo: Callable[[], int]) -> None:
    cells = ["naïve 😀", "nul \x00 byte", "line\u2028break", 'tab\tquote"']

    assert names(pd.DataFrame({"t": cells})) == cells


def test_a_cell_of_ten_megabytes_goes_through(echo: Callable[[], int], sim: Simulator) -> None:
    sim.set(answers=lambda request: {"name": str(len(request.prompt))})

    assert names(pd.DataFrame({"t": ["x" * 10_000_000]})) == ["10000000"]


def test_column_names_that_are_no_identifiers_work(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame([["a", "b", "c", "d"]], columns=["two words", "class", "_x", 0])

    assert names(frame, "{two words}|{class}|{_x}|{0}") == ["a|b|c|d"]


def test_a_column_name_that_stands_twice_is_refused_only_where_it_is_used(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame([["a", "b", "c"]], columns=["t", "x", "x"])

    assert names(frame) == ["a"]
    with pytest.raises(UsageError, match="2 columns named 'x'"):
        frame.llm.parse(Named, "{x}")


def test_unhashable_cells_are_sent_as_json(echo: Callable[[], int]) -> None:
    cells = pd.Series([["a", 1], {"k": [2]}, np.array([1, 2])], dtype="object")

    assert names(pd.DataFrame({"t": cells})) == ['["a",1]', '{"k":[2]}', "[1,2]"]


def test_numbers_keep_every_digit(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": pd.array([2**53 + 1, None], dtype="Int64")})

    assert names(frame) == ["9007199254740993", "-"]


def test_a_validator_that_raises_fails_its_row_alone(echo: Callable[[], int]) -> None:
    class Picky(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _check(cls, value: str) -> str:
            return value if value != "bad" else str(1 / 0)

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = FRAME.llm.parse(Picky, "{review}", max_repairs=0)

    assert out["name"].fillna("-").tolist() == ["good", "-"]
    assert out.llm.errors["kind"].tolist() == ["schema"]
    assert "ZeroDivisionError" in out.llm.errors["message"].iloc[0]


def test_fields_named_like_methods_are_columns_all_the_same(echo: Callable[[], int], sim: Simulator) -> None:
    class Odd(BaseModel):
        index: str
        columns: int
        llm: str

    sim.set(answers=lambda request: {"index": "i", "columns": 1, "llm": "l"})

    out = FRAME.llm.parse(Odd, "{review}")

    assert out[["index", "columns", "llm"]].iloc[0].tolist() == ["i", 1, "l"]


def test_an_empty_text_in_a_cell_is_sent(echo: Callable[[], int]) -> None:
    assert names(pd.DataFrame({"t": ["a", ""]}), "<{t}>") == ["<a>", "<>"]


def test_a_frame_without_columns_sends_nothing(echo: Callable[[], int]) -> None:
    out = pd.DataFrame(index=["a", "b"]).llm.parse(Named)

    assert out.llm.status.tolist() == ["skipped", "skipped"]
    assert (list(out.index), str(out["name"].dtype)) == (["a", "b"], "string")
    assert echo() == 0

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import orjson
import pytest
from pydantic import BaseModel, Field, Json, field_validator, model_validator

from pllm_notebook.failures import FailureKind
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, Invalid, OutputType, Parsed, extract_json, repair_lines


class Score(BaseModel):
    name: str
    score: int = Field(ge=1, le=5)


class Share(BaseModel):
    parts: int

    @field_validator("parts")
    @classmethod
    def _check(cls, parts: int) -> int:
        if parts == 13:
            raise ValueError("thirteen")
        if parts == 14:
            raise KeyError("fourteen")
        return 100 // parts  # ZeroDivisionError for 0


class Counts(BaseModel):
    counts: dict[str, int]


class Measured(BaseModel):
    number: float
    whole: int


def fitted(kind: Any, dialect: Any = OPENAI) -> Any:
    return OutputType.of(kind).fit(dialect)


def test_white_space_around_a_reply_is_fine() -> None:
    assert fitted(Score).parse(' \n{"name": "a", "score": 3}\n\t ') == Parsed(Score(name="a", score=3))


@pytest.mark.parametrize("text", ["", "{", "null null", '{"name": "a"', "Sure! {}", "\ud800", b"\xff{}", '{"a": 1} x'])
def test_text_that_is_not_json_is_told_from_json_of_another_form(text: str | bytes) -> None:
    failure = fitted(Score).parse(text).failure

    assert failure.kind is FailureKind.INVALID_JSON
    assert failure.errors == (((), "json_invalid"),)


def test_text_that_is_not_json_is_told_where_dicts_are_converted_too() -> None:
    failure = fitted(Counts).parse('{"counts": [').failure

    assert failure.kind is FailureKind.INVALID_JSON
    assert failure.message.startswith("the reply is not JSON: EOF while parsing")


def test_json_inside_text_of_a_field_is_a_matter_of_the_schema() -> None:
    class Outer(BaseModel):
        inner: Json[int]

    failure = fitted(Outer).parse('{"inner": "{"}').failure

    assert failure.kind is FailureKind.SCHEMA
    assert failure.errors == ((("inner",), "json_invalid"),)


def test_a_failure_names_field_and_input() -> None:
    failure = fitted(Score).parse('{"name": "a", "score": 9}').failure

    assert failure == Invalid(
        FailureKind.SCHEMA,
        "score: Input should be less than or equal to 5 (got 9)",
        ((("score",), "less_than_equal"),),
    )


def test_a_failure_shows_three_errors_and_keeps_all() -> None:
    failure = fitted(list[int]).parse('{"value": ["a", "b", "c", "d", "e"]}').failure

    assert failure.message.count("(got ") == 3
    assert failure.message.endswith("; and 2 more")
    assert failure.errors == tuple(((n,), "int_parsing") for n in range(5))


def test_a_long_input_is_cut() -> None:
    failure = fitted(int).parse(orjson.dumps({"value": "x" * 10_000})).failure

    assert len(failure.message) < 200


def test_repair_lines_say_location_and_type_alone() -> None:
    parsed = fitted(Score).parse('{"score": 9}')

    assert repair_lines(parsed) == ["at name: missing", "at score: less_than_equal"]
    assert repair_lines(parsed.failure) == repair_lines(parsed)
    assert repair_lines(fitted(Score).parse("{")) == ["at the top: json_invalid"]
    assert repair_lines(fitted(int).parse("{}")) == ["at value: missing"]
    assert repair_lines(Parsed(1)) == []


@pytest.mark.parametrize(
    ("parts", "error"), [(0, "ZeroDivisionError"), (13, "value_error"), (14, "KeyError")], ids=["zero", "value", "key"]
)
def test_what_a_validator_raises_fails_its_row_alone(parts: int, error: str) -> None:
    rows = [orjson.dumps({"parts": n}) for n in (1, 2, parts, 4)]

    results = fitted(Share).parse_many(rows)

    assert [result.parts for n, result in enumerate(results) if n != 2] == [100, 50, 25]
    assert results[2].kind is FailureKind.SCHEMA
    assert results[2].errors[0][1] == error


def test_a_reply_nested_too_deeply_is_a_failure() -> None:
    failure = fitted(list[Any], PLAIN).parse("[" * 100_000 + "]" * 100_000).failure

    assert failure.kind is FailureKind.INVALID_JSON


def test_large_and_odd_numbers_survive_conversion() -> None:
    class Odd(BaseModel):
        number: float
        by_name: dict[str, int]

    parsed = fitted(Odd).parse('{"number": 1e300, "by_name": [{"key": "a", "value": 123456789012345678901234567890}]}')

    assert parsed.value.number == 1e300
    assert parsed.value.by_name == {"a": 123456789012345678901234567890}


def test_a_bare_value_is_taken_for_a_wrapped_one() -> None:
    assert fitted(bool, GRAMMAR).parse("true") == Parsed(True)
    assert fitted(list[int], GRAMMAR).parse("[1, 2]") == Parsed([1, 2])
    assert fitted(dict[str, int]).parse('[{"key": "a", "value": 1}]') == Parsed({"a": 1})
    assert fitted(tuple[int, str]).parse('{"value": [1, "a"]}') == Parsed((1, "a"))
    assert fitted(bool).parse('{"answer": true}').failure.errors == ((("value",), "missing"),)


@pytest.mark.parametrize("kind", [Score, Counts, Share, int, Literal["a", "b"]], ids=str)
def test_no_reply_escapes_as_an_exception(kind: Any) -> None:
    for text in ["", "1.5", "[]", "{}", "null", '{"value": {}}', '{"counts": [{"key": 1}]}', '{"counts": {"a": "x"}}']:
        assert fitted(kind).parse(text).failure is not None


def row(n: int) -> bytes:
    return orjson.dumps({"name": f"n{n}", "score": n % 5 + 1})


BAD = [b"", b"{", b"nonsense", b'{"name": "x"}', b'{"name": "x", "score": 9}', b"[]", b'{"name":"x","score":1},{}']


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("at", [0, 57, 99])
def test_one_bad_reply_among_a_hundred_loses_only_itself(bad: bytes, at: int) -> None:
    rows = [row(n) for n in range(100)]
    rows[at] = bad
    reader = fitted(Score)

    results = reader.parse_many(rows)

    assert isinstance(results[at], Invalid)
    assert [result.name for n, result in enumerate(results) if n != at] == [f"n{n}" for n in range(100) if n != at]
    assert results[at] == reader.parse(bad).failure


def test_many_at_once_equals_one_by_one() -> None:
    rows = [BAD[n % len(BAD)] if n % 37 == 0 else row(n) for n in range(1234)]
    reader = fitted(Score)

    one_by_one = [reader.parse(text) for text in rows]

    assert reader.parse_many(rows) == [one.value if one.failure is None else one.failure for one in one_by_one]


def test_converted_types_are_read_at_once_too() -> None:
    rows = [orjson.dumps({"counts": [{"key": str(n), "value": n}]}) for n in range(700)]
    rows[3] = b'{"counts": 3}'

    results = fitted(Counts).parse_many(rows)

    assert isinstance(results[3], Invalid)
    assert [result.counts for n, result in enumerate(results) if n != 3] == [{str(n): n} for n in range(700) if n != 3]


@pytest.mark.parametrize("kind", [dict[str, list[int]], list[list[int]], Score], ids=str)
def test_broken_replies_cannot_shift_their_neighbours(kind: Any) -> None:
    # Each pair is one value, or nothing, when the rows are read as parts of one document, and the
    # last row but one makes up for the count by being two: the rows between would be shifted.
    pairs = [
        (b'{"value":[[1]', b"[2]]}"),
        (b'{"value":[[1]]', b'1,"value":[[1]]}'),
        (b'{"value":{"a":[1]', b'"b":[2]}}'),
        (b'{"value":{"a":[1]}', b"1}"),
        (b'{"name":"a', b'b","score":1}'),
        (b'{"name":"a"', b'"score":1}'),
        (b'{"name":"a","score":1', b'1,"name":"b","score":1}'),
    ]
    whole = {Score: row(1)}.get(kind, b'{"value":[[7]]}' if kind == list[list[int]] else b'{"value":{"k":[7]}}')
    for left, right in pairs:
        for two in (whole + b"," + whole, whole + b',"x":' + whole):
            rows = [left, right, whole, two, whole]

            for dialect in (PLAIN, OPENAI):
                results = fitted(kind, dialect).parse_many(rows)

                assert [isinstance(result, Invalid) for result in results[:2]] == [True, True]
                assert isinstance(results[3], Invalid)
                assert results[2] == results[4] == fitted(kind).parse(whole).value


def test_nothing_to_read_gives_nothing() -> None:
    assert fitted(Score).parse_many([]) == []


def test_a_validator_that_stops_python_is_not_caught() -> None:
    class Stop(BaseModel):
        a: int

        @model_validator(mode="after")
        def _stop(self) -> Stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(Stop).parse_many([b'{"a": 1}', b'{"a": 2}'])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("  [1, 2]\n", "[1, 2]"),
        ('Sure! Here it is:\n{"a": "}"}\nDone {b}', '{"a": "}"}'),
        ('```json\n{"a": 1}\n```', '{"a": 1}'),
        ('See [1, 2].\n```\n{"a": 1}\n```\n', '{"a": 1}'),
        ('<think>maybe {"a": 0}?</think>{"a": 1}', '{"a": 1}'),
        ('maybe {"a": 0}?</think>{"a": 1}', '{"a": 1}'),
        ('<think>maybe {"a": 0}', None),
        ('[see below] {"a": {"b": [1, "]"]}}', '{"a": {"b": [1, "]"]}}'),
        ('{"a": "quote \\" and { brace"}', '{"a": "quote \\" and { brace"}'),
        ('{"a": "<think>no</think>"}', '{"a": "<think>no</think>"}'),
        ("no json", None),
        ('{"a": 1', None),
        ("", None),
    ],
)
def test_json_is_found_in_prose(text: str, found: str | None) -> None:
    assert extract_json(text) == found


def test_looking_for_json_among_brackets_ends_soon() -> None:
    assert extract_json("[" * 200_000) is None


class Kind(Enum):
    GOOD = "good"
    BAD = "bad"


class Judged(BaseModel):
    mood: Literal["good", "bad"]


class Counted(BaseModel):
    counts: dict[str, int]


@pytest.mark.parametrize("odd", [["good"], {"good": 1}, [], {}, [["good"]]], ids=str)
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (Judged, lambda odd: {"mood": odd}),
        (Kind, lambda odd: {"value": odd}),
        (list[Literal[1, 2]], lambda odd: {"value": [1, odd]}),
        (Judged | Counted, lambda odd: {"value": {"mood": odd}}),
        (Judged | Counted, lambda odd: {"mood": odd}),
    ],
    ids=["model", "enum", "list", "union", "union, bare"],
)
def test_a_list_or_an_object_where_a_listed_value_belongs_is_a_value_of_another_form(
    kind: Any, shape: Any, odd: Any
) -> None:
    text = orjson.dumps(shape(odd))

    assert fitted(kind).parse(text).failure.kind is FailureKind.SCHEMA
    assert not fitted(kind).follows(text)

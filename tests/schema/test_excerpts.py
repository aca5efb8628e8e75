"""JSON among words: every value in a reply is tried against the type, the last first."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel

from pllm_notebook.failures import FailureKind
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, OutputType, extract_json
from pllm_notebook.schema.excerpts import without_reasoning


class Answer(BaseModel):
    a: int
    b: str = "none"


class Other(BaseModel):
    name: str


def found(kind: Any, text: str, dialect: Any = GRAMMAR) -> Any:
    parsed = OutputType.of(kind).fit(dialect).find(text)
    return None if parsed is None else parsed.value if parsed.failure is None else parsed.failure.kind


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('<reasoning>{"a": 9}</reasoning>{"a": 1, "b": "x"}', Answer(a=1, b="x")),
        ('As [1] says: {"a": 2, "b": "y"}', Answer(a=2, b="y")),
        ('{"a": 2, "b": "y"}, as [1] says [2, 3]', Answer(a=2, b="y")),
        ('For example {"a": 9, "b": "no"}. So: {"a": 1, "b": "x"}', Answer(a=1, b="x")),
        ('{"a": 1, "b": "x"} (rather than {"a": 9})', Answer(a=1, b="x")),  # the whole one before that with a default
        ('{"a": 1} and that is it', Answer(a=1)),
        ('{"a": 1, "b": "x"}\n{"note": "done"}', Answer(a=1, b="x")),
        ('A brace { and a 5" screen: {"a": 1, "b": "x"}', Answer(a=1, b="x")),
        ('{"a": {"a": 1, "b": "x"', None),
        ('{"a": 9, "b": {"a": 1, "b": "x"}', Answer(a=1, b="x")),  # the outer one was never closed
        ('```json\n{"a": 1, "b": "x"}\n```\nThat is it.', Answer(a=1, b="x")),
        ("Here: {'a': 1, 'b': \"it's\"}", Answer(a=1, b="it's")),
        ("```python\n{'a': 1, 'b': 'x', }\n```", Answer(a=1, b="x")),
        ("Sure: [1, 2]", None),
        ('{"x": 1} {"y": 2}', FailureKind.SCHEMA),
        ("none at all", None),
        ("", None),
    ],
)
def test_the_value_that_fits_is_the_answer(text: str, value: Any) -> None:
    assert found(Answer, text) == value


@pytest.mark.parametrize("dialect", [GRAMMAR, OPENAI], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (dict[str, int], '{"x": 1}', {"x": 1}),
        (dict[str, int], 'Counts: {"x": 1, "y": 2}.', {"x": 1, "y": 2}),
        (Answer | Other, '{"name": "n"}', Other(name="n")),
        (Answer | Other, 'It is {"value": {"name": "n"}}', Other(name="n")),
        (list[int], "As counted: [1, 2]", [1, 2]),
        (list[Answer], '[{"a": 1}, {"a": 2}]', [Answer(a=1), Answer(a=2)]),
        (bool, "true", True),
        (Literal["a", "b"], '"b"', "b"),
        (str | None, "null", None),
    ],
)
def test_a_bare_value_of_a_wrapped_type_is_read(kind: Any, text: str, value: Any, dialect: Any) -> None:
    fitted = OutputType.of(kind).fit(dialect)
    read = fitted.parse(text)

    assert (read.value if read.failure is None else found(kind, text, dialect)) == value


def test_what_wraps_a_wrong_value_is_not_taken_for_the_value() -> None:
    assert OutputType.of(dict[str, dict[str, str]]).fit(GRAMMAR).parse('{"value": {"a": "x"}}').failure is not None


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("<think>a</think>b", "b"),
        ("a</think>b", "b"),
        ("<think>a", ""),
        ("<THINKING>a</thinking>b", "b"),
        ("<reasoning effort='high'>a <think>b</think></reasoning>c", "c"),
        ("<think>a<think>b</think>c</think>d", "d"),
        ("[THINK]a[/THINK]b", "b"),
        ("x <analysis>a</analysis> y", "x  y"),
        ("a < b and <b>bold</b>", "a < b and <b>bold</b>"),
    ],
)
def test_reasoning_is_no_part_of_an_answer(text: str, rest: str) -> None:
    assert without_reasoning(text) == rest


def test_without_a_type_the_last_value_counts_and_a_reference_only_where_there_is_nothing_else() -> None:
    assert extract_json('{"a": 1} or {"b": 2} [3]') == '{"b": 2}'
    assert extract_json("see [3]") == "[3]"


def test_a_reply_follows_the_schema_whatever_a_validator_says_of_it() -> None:
    fitted = OutputType.of(Answer).fit(GRAMMAR)

    assert fitted.follows(b'{"a": 1, "b": "x"}')
    assert not fitted.follows(b'{"a": "1"}')
    assert not fitted.follows(b'{"a": 1, "c": 2}')
    assert not fitted.follows(b"prose")

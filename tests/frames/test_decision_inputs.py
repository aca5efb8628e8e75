"""What a decision endpoint judges of each row: the values that the prompt names, apart from its words."""

from __future__ import annotations

from typing import Any

from pllm_notebook.failures import Failure
from pllm_notebook.frames.decision_inputs import ValueTexts
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.templates import Template


class Textless:
    """A cell that cannot be written."""

    def __str__(self) -> str:
        raise ZeroDivisionError("no text")

    __repr__ = __str__


def inputs(na: str, **columns: list[Any]) -> list[Any]:
    names, values = tuple(columns), tuple(columns.values())
    missing = tuple([cell is None for cell in column] for column in values)
    template = Template.compile(" and ".join(f"{{{name}}}" for name in names), names)
    return list(ValueTexts(ColumnData(names, values, missing, len(values[0])), template, na)(range(len(values[0]))))


def test_a_row_that_lacks_one_of_several_values_is_skipped_unless_it_is_to_be_sent() -> None:
    assert inputs("skip", a=["x", None], b=[1, 2])[1] is None
    assert inputs("send", a=["x", None], b=[1, 2])[1] == '{"a":null,"b":2}'


def test_a_cell_that_cannot_be_written_fails_its_row_alone() -> None:
    first, second = inputs("skip", a=["x", Textless()], b=["y", "z"])

    assert first == '{"a":"x","b":"y"}'
    assert isinstance(second, Failure)
    assert "The cell of column 'a', a value of type Textless, cannot be written as text" in second.message

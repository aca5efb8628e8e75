"""Bad input that only pandas can hold: objects, columns of one name, half a surrogate pair, rows without columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pllm_notebook.exceptions import NameClashError, UsageError
from tests.frames.known_answers import Named


def names(frame: pd.DataFrame, prompt: str = "{t}") -> list[Any]:
    return frame.llm.parse(Named, prompt)["name"].fillna("-").tolist()


def test_half_a_surrogate_pair_fails_its_row_alone_and_is_not_sent(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": ["fine", "half \ud800 pair"]}, dtype=object)

    with pytest.warns(UserWarning, match="1 of 2 rows failed"):
        out = frame.llm.parse(Named, "{t}")

    assert out["name"].fillna("-").tolist() == ["fine", "-"]
    assert out.llm.errors["kind"].tolist() == ["input"]
    assert "at character 5" in out.llm.errors["message"].iloc[0]
    assert echo() == 1


def test_a_column_name_that_stands_twice_is_refused_only_where_it_is_used(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame([["a", "b", "c"]], columns=["t", "x", "x"])

    assert names(frame) == ["a"]
    with pytest.raises(UsageError, match="2 columns named 'x'"):
        frame.llm.parse(Named, "{x}")


def test_unhashable_cells_are_sent_as_json(echo: Callable[[], int]) -> None:
    cells = pd.Series([["a", 1], {"k": [2]}, np.array([1, 2])], dtype="object")

    assert names(pd.DataFrame({"t": cells})) == ['["a",1]', '{"k":[2]}', "[1,2]"]


def test_a_frame_without_columns_sends_nothing(echo: Callable[[], int]) -> None:
    out = pd.DataFrame(index=["a", "b"]).llm.parse(Named)

    assert out.llm.status.tolist() == ["skipped", "skipped"]
    assert (list(out.index), str(out["name"].dtype)) == (["a", "b"], "string")
    assert echo() == 0


def test_a_column_that_is_there_is_a_clash(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"review": ["good"], "name": [5], 0: ["d"]})

    with pytest.raises(NameClashError, match="prefix="):
        frame.llm.parse(Named, "{review}")
    assert names(frame.rename(columns={"name": "stars"}), "{0}") == ["d"]  # a name that is no text

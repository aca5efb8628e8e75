"""Bad input that only pandas can hold: objects, columns of one name, half a surrogate pair, rows without columns."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pllm_notebook as pllm
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


def test_an_estimate_counts_a_row_that_cannot_be_sent_apart_from_one_without_a_value(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": ["fine", "half \ud800 pair", None]}, dtype=object)

    estimate = frame.llm.estimate(Named, "{t}")

    assert (estimate.skipped, estimate.unsendable, estimate.calls) == (1, 1, 1)
    assert "cannot be sent  1, which would fail" in repr(estimate)
    assert echo() == 0


def test_messages_that_differ_in_a_number_alone_are_one(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": ["half \ud800 pair", "one half \ud800 pair", "fine"]}, dtype=object)

    with pytest.warns(UserWarning, match="2 of 3 rows failed"):
        out = frame.llm.parse(Named, "{t}")

    head = repr(out.llm.errors).splitlines()[0]
    assert head.startswith("2 rows: input: The prompt has half a surrogate pair")
    assert "other message" not in head


def test_a_run_that_skips_every_row_says_so(echo: Callable[[], int]) -> None:
    frame = pd.DataFrame({"t": [None, None], "u": ["a", "b"]})

    with pytest.warns(UserWarning, match=r"^Every row was skipped \(2 of 2\)"):
        out = frame.llm.parse(Named, "{t}")

    assert out["name"].isna().all()
    assert "(0 from cache, 0 failed, 2 skipped)" in repr(pllm.runs()[-1])
    assert echo() == 0


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


class Mute:
    """A cell that says nothing of itself."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def endless() -> list[Any]:
    cell: list[Any] = []
    cell.append(cell)
    return cell


def deep() -> list[Any]:
    cell: list[Any] = []
    for _ in range(5_000):
        cell = [cell]
    return cell


@pytest.mark.parametrize("prompt", ["{t}", None])
@pytest.mark.parametrize("cell", [Mute(), endless(), deep()], ids=["mute", "endless", "deep"])
def test_a_cell_without_a_text_fails_its_row_alone_and_the_run_is_recorded(
    echo: Callable[[], int], caplog: pytest.LogCaptureFixture, cell: Any, prompt: str | None
) -> None:
    frame = pd.DataFrame({"t": pd.Series(["fine", cell, "too"], dtype=object)})

    with pytest.warns(UserWarning, match="1 of 3 rows failed"):
        out = frame.llm.parse(Named, prompt)

    assert out["name"].notna().tolist() == [True, False, True]
    (error,) = out.llm.errors.to_dict("records")
    assert error["kind"] == "input"
    assert error["message"].startswith("The cell of column 't', a value of type ")
    assert error["message"].endswith("Nothing was sent for this row.")
    assert echo() == 2
    assert "could not be written" not in caplog.text
    assert pllm.run(out.attrs["pllm_run"]).to_frame()["name"].notna().tolist() == [True, False, True]


def test_columns_with_gaps_left_out_are_read_as_whole_ones(echo: Callable[[], int]) -> None:
    reals = pd.Series(pd.arrays.SparseArray([np.nan, 1.5, 1.5]))
    narrow = pd.Series(pd.arrays.SparseArray(np.array([np.nan, 0.1], dtype="float32")))
    counts = pd.Series(pd.arrays.SparseArray([0, 0, 1]))

    assert names(pd.DataFrame({"t": reals})) == ["-", "1.5", "1.5"]
    assert names(pd.DataFrame({"t": narrow})) == ["-", "0.1"]
    assert names(pd.DataFrame({"t": counts})) == ["0", "0", "1"]
    assert pd.DataFrame({"t": reals.sparse.to_dense()}).llm.parse(Named, "{t}").llm.status.tolist() == [
        "skipped",
        "cached",
        "cached",
    ]


def test_a_decimal_that_cannot_be_compared_is_a_missing_value(echo: Callable[[], int]) -> None:
    cells = pd.Series([Decimal("sNaN"), Decimal("1.10"), None], dtype=object)

    assert names(pd.DataFrame({"t": cells})) == ["-", "1.10", "-"]


@pytest.mark.parametrize("column", ["", "a{b", "a\nb", "x" * 300])
def test_a_column_that_no_prompt_can_name_is_not_advised(echo: Callable[[], int], column: str) -> None:
    frame = pd.DataFrame({column: ["a"]})

    with pytest.raises(UsageError, match=r"Rename one that braces can hold, or leave the prompt out"):
        frame.llm.parse(Named, "What is it?")
    with pytest.raises(UsageError, match=r"Put \{there\} where the data goes"):
        frame.assign(there=1).llm.parse(Named, "What is it?")


def test_a_frame_without_columns_is_not_advised_to_rename_one(echo: Callable[[], int]) -> None:
    with pytest.raises(UsageError, match=r"^The frame has no columns, .* Nothing was sent\.$"):
        pd.DataFrame(index=range(2)).llm.parse(Named, "What is it?")

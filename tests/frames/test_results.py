"""What comes back: columns, dtypes, order, index; and what is said of rows without an answer."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import AwareDatetime, BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError
from pllm_notebook.sim import SimAnswer, SimRequest, shared

Answers = Callable[[SimRequest], Any]


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Inner(BaseModel):
    name: str


class Everything(BaseModel):
    text: str
    whole: int
    real: float
    yes: bool
    choice: Literal["a", "b", "c"]
    mood: Mood
    day: dt.date
    at: dt.datetime
    exact: decimal.Decimal
    tags: list[str]
    inner: Inner
    maybe: int | None = None


GOOD = {
    "text": "t",
    "whole": 2**53 + 1,
    "real": 1.5,
    "yes": True,
    "choice": "b",
    "mood": "bad",
    "day": "2026-01-02",
    "at": "2026-01-02T03:04:05",
    "exact": "1.10",
    "tags": ["x"],
    "inner": {"name": "n"},
    "maybe": None,
}


@pytest.fixture
def simulated(cache_dir: object) -> Callable[..., None]:
    """Answer `sim:openai` by a function of the request, or with options."""

    def answer(answers: Answers | None = None, **options: Any) -> None:
        pllm.configure(sim={"answers": answers, **options}, model="sim:openai")

    answer()
    return answer


def test_every_field_is_a_column_of_its_own_dtype(simulated: Callable[..., None]) -> None:
    simulated(lambda request: GOOD)
    frame = pd.DataFrame({"review": ["one", "two"]}, index=[7, 3])

    out = frame.llm.parse(Everything, "{review}")

    assert out.dtypes.astype(str).to_dict() | {"review": "str"} == {
        "review": "str",
        "text": "string",
        "whole": "Int64",
        "real": "Float64",
        "yes": "boolean",
        "choice": "category",
        "mood": "category",
        "day": "datetime64[us]",
        "at": "datetime64[us]",
        "exact": "object",
        "tags": "object",
        "inner": "object",
        "maybe": "Int64",
    }
    assert out["whole"].tolist() == [2**53 + 1] * 2
    assert out["choice"].cat.categories.tolist() == ["a", "b", "c"]
    assert out["mood"].tolist() == ["bad", "bad"]
    assert out["exact"].tolist() == [decimal.Decimal("1.10")] * 2
    assert out["inner"].tolist() == [{"name": "n"}] * 2
    assert out["maybe"].isna().all()


def test_the_input_is_not_changed_and_its_index_is_kept(simulated: Callable[..., None]) -> None:
    simulated(lambda request: request.prompt.upper())
    index = pd.MultiIndex.from_tuples([("b", 1), ("a", 2), ("b", 1)], names=["x", "y"])
    frame = pd.DataFrame({"t": ["one", "two", "three"], "n": [1, 2, 3]}, index=index)
    before = frame.copy()

    out = frame.llm.complete("{t}", column="shout")

    pd.testing.assert_frame_equal(frame, before)
    assert list(out.columns) == ["t", "n", "shout"]
    assert out.index.equals(index)
    assert out["shout"].tolist() == ["ONE", "TWO", "THREE"]


def test_aware_moments_are_told_in_utc(simulated: Callable[..., None]) -> None:
    class Moment(BaseModel):
        at: AwareDatetime

    simulated(lambda request: {"at": "2026-01-02T03:04:05+02:00"})

    out = pd.DataFrame({"t": ["a"]}).llm.parse(Moment, "{t}")

    assert str(out["at"].dtype) == "datetime64[us, UTC]"
    assert out["at"].iloc[0] == pd.Timestamp("2026-01-02T01:04:05Z")


@pytest.mark.parametrize(
    ("kind", "value", "dtype", "expected"),
    [
        (bool, True, "boolean", True),
        (int, 3, "Int64", 3),
        (Literal["x", "y"], "y", "category", "y"),
        (list[int], [1, 2], "object", [1, 2]),
        (dict[str, int], {"a": 1}, "object", {"a": 1}),
    ],
)
def test_a_type_without_fields_is_one_column(
    simulated: Callable[..., None], kind: Any, value: Any, dtype: str, expected: Any
) -> None:
    simulated(lambda request: {"value": value} if request.schema else value)

    if kind == dict[str, int]:  # OpenAI is asked for a list of entries in its place
        simulated(lambda request: {"value": [{"key": "a", "value": 1}]})
    out = pd.DataFrame({"t": ["a"]}).llm.parse(kind, "{t}", column="it")

    assert str(out["it"].dtype) == dtype
    assert out["it"].iloc[0] == expected


def test_a_dataclass_has_columns_too(simulated: Callable[..., None]) -> None:
    @dataclasses.dataclass
    class Pair:
        left: str
        right: int

    simulated(lambda request: {"left": "l", "right": 2})

    out = pd.DataFrame({"t": ["a"]}).llm.parse(Pair, "{t}")

    assert out[["left", "right"]].iloc[0].tolist() == ["l", 2]


def test_explode_gives_a_row_per_item_with_the_rows_index_repeated(simulated: Callable[..., None]) -> None:
    class Item(BaseModel):
        name: str
        price: float

    made = {"two": [("a", 1.0), ("b", 2.0)], "none": [], "one": [("c", 3.0)]}
    simulated(lambda request: {"value": [{"name": n, "price": p} for n, p in made[request.prompt]]})
    frame = pd.DataFrame({"t": ["two", "none", "one"]}, index=["x", "y", "z"])

    out = frame.llm.parse(list[Item], "{t}", explode=True)

    assert out.index.tolist() == ["x", "x", "y", "z"]
    assert out["name"].fillna("-").tolist() == ["a", "b", "-", "c"]
    assert str(out["price"].dtype) == "Float64"


def test_an_empty_frame_has_the_right_columns_and_sends_nothing(simulated: Callable[..., None]) -> None:
    out = pd.DataFrame({"review": pd.Series([], dtype="str")}).llm.parse(Everything, "{review}")

    assert len(out) == 0
    assert str(out["whole"].dtype) == "Int64"
    assert str(out["choice"].dtype) == "category"
    assert list(out.columns) == ["review", *Everything.model_fields]


def test_a_failing_row_fails_alone_and_says_why(simulated: Callable[..., None]) -> None:
    def answers(request: SimRequest) -> Any:
        return SimAnswer.refusal("I will not.") if request.prompt == "bad" else {"name": request.prompt}

    simulated(answers)
    frame = pd.DataFrame({"t": ["a", "bad", "c"]}, index=["x", "y", "z"])

    with pytest.warns(UserWarning, match="1 of 3 rows failed"):
        out = frame.llm.parse(Inner, "{t}", error_column="why")

    assert out["name"].fillna("-").tolist() == ["a", "-", "c"]
    assert out["why"].fillna("-").tolist() == ["-", "refusal: The model refused: I will not.", "-"]
    assert out.llm.status.tolist() == ["ok", "failed", "ok"]
    (error,) = out.llm.errors.to_dict("records")
    assert (error["position"], error["label"], error["kind"]) == (1, "y", "refusal")
    assert error["cost_usd"] > 0


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT])
def test_a_missing_cell_is_skipped_and_never_sent(simulated: Callable[..., None], missing: Any) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": pd.Series(["a", missing, "c"], dtype="object")})

    out = frame.llm.parse(Inner, "{t}")

    assert out["name"].fillna("-").tolist() == ["a", "-", "c"]
    assert out.llm.status.tolist() == ["ok", "skipped", "ok"]
    assert out.llm.errors.empty


def test_na_send_sends_an_empty_text_and_na_raise_raises(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": f"<{request.prompt}>"})
    frame = pd.DataFrame({"t": ["a", None]})

    assert frame.llm.parse(Inner, "{t}", na="send")["name"].tolist() == ["<a>", "<>"]
    with pytest.raises(pllm.PllmError, match="Column 't' has 1 missing value, the first in row 1"):
        frame.llm.parse(Inner, "{t}", na="raise")


def test_without_a_prompt_a_row_with_some_missing_cells_is_still_a_row(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"a": ["x", None, None], "b": [1, 2, None]}).astype({"b": "Int64"})

    out = frame.llm.parse(Inner)

    assert out["name"].fillna("-").tolist() == ['{"a":"x","b":1}', '{"a":null,"b":2}', "-"]


def test_without_a_prompt_the_docstring_is_the_instruction(simulated: Callable[..., None]) -> None:
    class Named(BaseModel):
        """The name in the text."""

        name: str = Field(description="as written")

    told = {}
    simulated(lambda request: told.setdefault("system", request.system) and {"name": "n"})

    pd.DataFrame({"t": ["a"]}).llm.parse(Named)

    assert told["system"].startswith("The name in the text.\n\nFields:\n- name: as written")


def test_columns_chooses_what_is_data(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})

    out = pd.DataFrame({"a": ["x"], "b": ["secret"]}).llm.parse(Inner, columns=["a"])

    assert out["name"].tolist() == ['{"a":"x"}']


def test_a_result_can_be_asked_again_and_its_columns_are_replaced(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": ["a", "b"]})

    frame = frame.llm.parse(Inner, "{t}!")
    frame = frame.llm.parse(Inner, "{t}?")

    assert list(frame.columns) == ["t", "name"]
    assert frame["name"].tolist() == ["a?", "b?"]


def test_a_prefix_sets_results_apart(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})

    out = pd.DataFrame({"name": ["a"]}).llm.parse(Inner, "{name}", prefix="llm_")

    assert list(out.columns) == ["name", "llm_name"]


def test_a_series_can_be_asked(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    series = pd.Series(["a", "b"], name="review", index=[5, 6])

    out = series.llm.parse(Inner, "<{value}>")

    assert list(out.columns) == ["review", "name"]
    assert out["name"].tolist() == ["<a>", "<b>"]
    assert out.index.tolist() == [5, 6]


def test_attrs_hold_one_string_and_nothing_else(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": "n"})
    frame = pd.DataFrame({"t": ["a"]})

    out = frame.llm.parse(Inner, "{t}")

    assert {key: type(value) for key, value in out.attrs.items()} == {"pllm_run": str}
    assert frame.attrs == {}


def test_a_frame_that_no_run_made_says_so() -> None:
    with pytest.raises(PllmError, match="No known run made this frame as it is"):
        _ = pd.DataFrame({"t": ["a"]}).llm.errors


def test_explain_shows_prompt_body_reply_and_cost(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": "<script>alert(1)</script>"})
    out = pd.DataFrame({"t": ["a", "b"]}).llm.parse(Inner, "Name {t}")

    told = out.llm.explain(1)

    assert (told.position, told.status, told.prompt, told.attempts) == (1, "ok", "Name b", 1)
    assert told.value == Inner(name="<script>alert(1)</script>")
    assert told.body is not None
    assert told.body["model"] == "gpt-6-luna"
    assert told.reply["object"] == "chat.completion"
    assert told.cost_usd is not None
    assert "SIMULATED" in repr(told)
    assert "<script>" not in told._repr_html_()


def test_usage_has_a_line_for_every_row(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    out = pd.DataFrame({"t": ["a", None]}).llm.parse(Inner, "{t}")

    usage = out.llm.usage

    assert usage["attempts"].fillna(-1).tolist() == [1, -1]
    assert usage["cost_usd"].isna().tolist() == [False, True]
    assert usage["cached"].fillna(False).tolist() == [False, False]


def test_preview_runs_a_few_and_estimates_all(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": [f"row {n}" for n in range(100)]})

    preview = frame.llm.preview(Inner, "{t}", rows=5)

    assert preview.frame["name"].tolist() == [f"row {n}" for n in range(5)]
    assert (preview.estimate.rows, preview.estimate.cached, preview.estimate.calls) == (100, 5, 95)
    assert preview.estimate.measured
    assert preview.estimate.cost_usd is not None
    assert preview.estimate.batch_cost_usd == pytest.approx(preview.estimate.cost_usd / 2)


def test_an_estimate_counts_what_would_be_sent_and_sends_nothing(simulated: Callable[..., None]) -> None:
    simulated(lambda request: 1 / 0)
    frame = pd.DataFrame({"t": ["a", "b", "a", None]})

    estimate = frame.llm.estimate(Inner, "{t}")

    assert (estimate.rows, estimate.skipped, estimate.duplicates, estimate.calls) == (4, 1, 1, 2)
    assert not estimate.measured
    assert pllm.runs() == [] or pllm.runs()[-1].rows.total != 4


def test_submit_gives_a_live_handle(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})

    run = pd.DataFrame({"t": ["a", "b"]}).llm.submit(Inner, "{t}")

    assert run.result()["name"].tolist() == ["a", "b"]
    assert run.done()
    assert run.state == "done"
    assert pllm.runs()[-1] is run
    assert run.cost is not None
    assert len(run.errors) == 0


def test_a_cancelled_run_keeps_what_finished_and_retry_goes_on(simulated: Callable[..., None]) -> None:
    def answers(request: SimRequest) -> Any:
        return SimAnswer.hang() if request.prompt == "slow" else {"name": request.prompt}

    simulated(answers)
    run = pd.DataFrame({"t": ["a", "slow"]}).llm.submit(Inner, "{t}")
    while run.progress().done < 1:
        pass

    run.cancel()
    with pytest.raises(PllmError, match="1 of 2 rows are answered and kept"):
        run.result()
    partial = run.to_frame()["name"].fillna("-").tolist()
    simulated(lambda request: {"name": request.prompt})
    whole = run.retry().result()["name"].tolist()

    assert partial == ["a", "-"]
    assert whole == ["a", "slow"]


def test_a_simulator_that_was_started_anew_is_found_again(simulated: Callable[..., None]) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = pd.DataFrame({"t": ["a"]})
    frame.llm.parse(Inner, "{t}")

    shared({}).close()
    out = frame.llm.parse(Inner, "again {t}", max_retries=0)

    assert out["name"].tolist() == ["again a"]

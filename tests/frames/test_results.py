"""What comes back, whatever the dataframe library: columns, order, and what is said of rows without an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution import live_of
from pllm_notebook.sim import SimAnswer, SimRequest

from .frame_libraries import FrameKit

Answers = Callable[[SimRequest], Any]
Simulated = Callable[..., None]


class Inner(BaseModel):
    name: str


@pytest.fixture
def simulated(cache_dir: object) -> Simulated:
    """Answer `sim:openai` by a function of the request, or with options."""

    def answer(answers: Answers | None = None, **options: Any) -> None:
        pllm.configure(sim={"answers": answers, **options}, model="sim:openai")

    answer()
    return answer


def test_a_dataclass_has_columns_too(simulated: Simulated, kit: FrameKit) -> None:
    @dataclasses.dataclass
    class Pair:
        left: str
        right: int

    simulated(lambda request: {"left": "l", "right": 2})

    out = kit.llm(kit.frame({"t": ["a"]})).parse(Pair, "{t}")

    assert kit.rows(out) == [{"t": "a", "left": "l", "right": 2}]


def test_a_failing_row_fails_alone_and_says_why(simulated: Simulated, kit: FrameKit) -> None:
    def answers(request: SimRequest) -> Any:
        return SimAnswer.refusal("I will not.") if request.prompt == "bad" else {"name": request.prompt}

    simulated(answers)
    frame = kit.frame({"t": ["a", "bad", "c"]})

    with pytest.warns(UserWarning, match="1 of 3 rows failed"):
        out = kit.llm(frame).parse(Inner, "{t}", error_column="why")

    assert kit.column(out, "name") == ["a", None, "c"]
    assert kit.column(out, "why") == [None, "refusal: The model refused: I will not.", None]
    assert kit.values(kit.llm(out).status) == ["ok", "failed", "ok"]
    (error,) = kit.rows(kit.llm(out).errors)
    assert (error["position"], error["label"], error["kind"]) == (1, 1, "refusal")
    assert error["cost_usd"] > 0


def test_na_send_sends_an_empty_text_and_na_raise_raises(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": f"<{request.prompt}>"})
    frame = kit.frame({"t": ["a", None]})

    assert kit.column(kit.llm(frame).parse(Inner, "{t}", na="send"), "name") == ["<a>", "<>"]
    with pytest.raises(pllm.PllmError, match="Column 't' has 1 missing value, the first in row 1"):
        kit.llm(frame).parse(Inner, "{t}", na="raise")


def test_without_a_prompt_a_row_with_some_missing_cells_is_still_a_row(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = kit.frame({"a": ["x", None, None], "b": [1, 2, None]})

    out = kit.llm(frame).parse(Inner)

    assert kit.column(out, "name") == ['{"a":"x","b":1}', '{"a":null,"b":2}', None]


def test_without_a_prompt_the_docstring_is_the_instruction(simulated: Simulated, kit: FrameKit) -> None:
    class Named(BaseModel):
        """The name in the text."""

        name: str = Field(description="as written")

    told = {}
    simulated(lambda request: told.setdefault("system", request.system) and {"name": "n"})

    kit.llm(kit.frame({"t": ["a"]})).parse(Named)

    assert told["system"].startswith("The name in the text.\n\nFields:\n- name: as written")


def test_columns_chooses_what_is_data(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})

    out = kit.llm(kit.frame({"a": ["x"], "b": ["secret"]})).parse(Inner, columns=["a"])

    assert kit.column(out, "name") == ['{"a":"x"}']


def test_a_result_can_be_asked_again_and_its_columns_are_replaced(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = kit.frame({"t": ["a", "b"]})

    frame = kit.llm(frame).parse(Inner, "{t}!")
    frame = kit.llm(frame).parse(Inner, "{t}?")

    assert kit.names(frame) == ["t", "name"]
    assert kit.column(frame, "name") == ["a?", "b?"]


def test_a_prefix_sets_results_apart(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})

    out = kit.llm(kit.frame({"name": ["a"]})).parse(Inner, "{name}", prefix="llm_")

    assert kit.names(out) == ["name", "llm_name"]


def test_a_frame_that_no_run_made_says_so(kit: FrameKit) -> None:
    with pytest.raises(PllmError, match="No known run made this frame as it is"):
        _ = kit.llm(kit.frame({"t": ["a"]})).errors


def test_explain_shows_prompt_body_reply_and_cost(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": "<script>alert(1)</script>"})
    out = kit.llm(kit.frame({"t": ["a", "b"]})).parse(Inner, "Name {t}")

    told = kit.llm(out).explain(1)

    assert (told.position, told.status, told.prompt, told.attempts) == (1, "ok", "Name b", 1)
    assert told.value == Inner(name="<script>alert(1)</script>")
    assert told.body is not None
    assert told.body["model"] == "gpt-6-luna"
    assert told.reply["object"] == "chat.completion"
    assert told.cost_usd is not None
    assert "SIMULATED" in repr(told)
    assert "<script>" not in told._repr_html_()


def test_usage_has_a_line_for_every_row(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})
    out = kit.llm(kit.frame({"t": ["a", None]})).parse(Inner, "{t}")

    usage = kit.llm(out).usage

    assert kit.column(usage, "attempts") == [1, None]
    assert [cost is None for cost in kit.column(usage, "cost_usd")] == [False, True]
    assert kit.column(usage, "cached") == [False, None]


def test_preview_runs_a_few_and_estimates_all(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})
    frame = kit.frame({"t": [f"row {n}" for n in range(100)]})

    preview = kit.llm(frame).preview(Inner, "{t}", rows=5)

    assert kit.column(preview.frame, "name") == [f"row {n}" for n in range(5)]
    assert (preview.estimate.rows, preview.estimate.cached, preview.estimate.calls) == (100, 5, 95)
    assert preview.estimate.measured
    assert preview.estimate.cost_usd is not None
    assert preview.estimate.batch_cost_usd == pytest.approx(preview.estimate.cost_usd / 2)


def test_an_estimate_counts_what_would_be_sent_and_sends_nothing(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: 1 / 0)
    frame = kit.frame({"t": ["a", "b", "a", None]})

    estimate = kit.llm(frame).estimate(Inner, "{t}")

    assert (estimate.rows, estimate.skipped, estimate.duplicates, estimate.calls) == (4, 1, 1, 2)
    assert not estimate.measured
    assert pllm.runs() == [] or live_of(pllm.runs()[-1]).rows.total != 4


def test_submit_gives_a_live_handle(simulated: Simulated, kit: FrameKit) -> None:
    simulated(lambda request: {"name": request.prompt})

    run = kit.llm(kit.frame({"t": ["a", "b"]})).submit(Inner, "{t}")

    assert kit.column(run.result(), "name") == ["a", "b"]
    assert run.done()
    assert run.state == "done"
    assert pllm.runs()[-1] is run
    assert run.cost is not None
    assert len(run.errors) == 0


def test_a_cancelled_run_keeps_what_finished_and_retry_goes_on(simulated: Simulated, kit: FrameKit) -> None:
    def answers(request: SimRequest) -> Any:
        return SimAnswer.hang() if request.prompt == "slow" else {"name": request.prompt}

    simulated(answers)
    run = kit.llm(kit.frame({"t": ["a", "slow"]})).submit(Inner, "{t}")
    while run.progress().done < 1:
        pass

    run.cancel()
    with pytest.raises(PllmError, match="1 of 2 rows are answered and kept"):
        run.result()
    partial = kit.column(run.to_frame(), "name")
    simulated(lambda request: {"name": request.prompt})
    whole = kit.column(run.retry().result(), "name")

    assert partial == ["a", None]
    assert whole == ["a", "slow"]

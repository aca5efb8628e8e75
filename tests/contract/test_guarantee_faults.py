"""A promise about a table is true whatever happens on the way: ceilings, stops, failures, libraries, jobs."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pllm_notebook as pllm
from pllm_notebook.batch_jobs import service as offices
from pllm_notebook.exceptions import PllmError, ProviderRejectedError, RunInterrupted, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.two_models import CHEAP, PROMPT, STRONG, Review, TwoModels, ask, frame, options
from tests.faults.children import until

pytestmark = pytest.mark.filterwarnings("ignore:.*(rows failed|stopped at max_cost_usd|Nothing is promised yet)")

ROWS = 150


def is_true(out: pd.DataFrame, models: TwoModels, *, allowed: int) -> bool:
    """Whether no row keeps a low-cost answer without a promise, and no more than allowed that differ with one."""
    found = out.llm.guarantee
    kept = out[(found.answered_by == CHEAP).fillna(False).astype(bool)]
    wrong = sum(models.strong(row.text)["mood"] != row.mood for row in kept.itertuples())
    return len(kept) == 0 if not found.proved else wrong <= allowed


@pytest.fixture
def fresh(tmp_path: Path) -> Callable[[], None]:
    """Begin with a cache directory of its own."""
    made: list[int] = []

    def begin() -> None:
        made.append(len(made))
        pllm.configure(cache_dir=tmp_path / f"cache-{len(made)}")

    return begin


@pytest.mark.sample(1)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_a_ceiling_leaves_a_true_statement_and_a_higher_one_goes_on(
    luna: str, sim: Simulator, fresh: Callable[[], None], share: float
) -> None:
    models = TwoModels(sim)
    df = frame(ROWS)
    fresh()
    whole = ask(df, max_output_tokens=60)
    needed = sim.stats().answered
    fresh()

    out = ask(df, max_output_tokens=60, max_cost_usd=share * whole.llm.run.cost, concurrency=4)

    assert out.llm.run.cost <= share * whole.llm.run.cost
    assert is_true(out, models, allowed=7)
    status = out.llm.status
    assert set(status) <= {"ok", "not_sent"}
    assert (status == "not_sent").any()
    assert out["mood"].isna().equals(status == "not_sent")
    usage = out.llm.usage  # what a low-cost answer took is the row's, though it could not be kept
    assert usage["cost_usd"].sum() == pytest.approx(out.llm.run.cost)
    run_registry.forget_all()
    assert out.llm.usage["cost_usd"].sum() == pytest.approx(usage["cost_usd"].sum())
    rest = ask(df, max_output_tokens=60)
    assert sim.stats().answered == 2 * needed, "what was answered is not paid for again"
    pd.testing.assert_frame_equal(rest, whole)


def stopped(df: pd.DataFrame, models: TwoModels, after: int = 40) -> pllm.Run:
    """Start a run, and stop it when so many answers have come: what follows them is held until then."""
    numbers, go_on = itertools.count(), threading.Event()

    def held(request: SimRequest) -> SimAnswer:
        if next(numbers) >= after:
            go_on.wait(60)
        return models(request)

    models.sim.set(answers=held)
    known = models.sim.stats().answered
    run = df.llm.submit(Review, PROMPT, **options(concurrency=2))
    until(lambda: models.sim.stats().answered >= known + after, "the answers before the stop")
    run.cancel()
    go_on.set()
    run.wait()
    models.sim.set(answers=models)
    return run


@pytest.mark.sample(1)
@pytest.mark.parametrize("after", [40, ROWS + 20])
def test_a_stop_keeps_no_answer_without_a_promise_and_the_same_call_goes_on(
    luna: str, sim: Simulator, fresh: Callable[[], None], after: int
) -> None:
    models = TwoModels(sim)
    df = frame(ROWS)
    fresh()
    whole = ask(df)
    needed = sim.stats().answered
    fresh()
    run = stopped(df, models, after)
    with pytest.raises(RunInterrupted):
        run.result()

    partial = run.to_frame()
    rest = ask(df)

    assert is_true(partial, models, allowed=7)
    assert partial["mood"].isna().any()
    pd.testing.assert_frame_equal(rest, whole)
    assert sim.stats().answered <= 2 * needed + 4, "what was on the wire at the stop may be asked again"


def test_a_retry_goes_on_where_a_stop_was(luna: str, sim: Simulator, fresh: Callable[[], None]) -> None:
    models = TwoModels(sim)
    df = frame(ROWS)
    fresh()
    whole = ask(df)
    fresh()
    run = stopped(df, models)

    rest = run.retry().result()

    pd.testing.assert_frame_equal(rest, whole)


def test_what_the_low_cost_model_fails_at_the_strong_one_answers(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    refused = {f"thing {n}" for n in range(0, ROWS, 5)}
    sim.set(answers=lambda r: SimAnswer.refusal("no") if is_cheap(r) and models.text(r) in refused else models(r))

    out = ask(frame(ROWS))

    assert out["mood"].notna().all()
    assert set(out["note"][out["text"].isin(refused)]) == {"strong"}
    assert is_true(out, models, allowed=7)


@pytest.mark.parametrize("refusing", [CHEAP, STRONG])
def test_a_model_that_refuses_all_ends_the_run_and_answers_to_a_row_are_no_rows(
    luna: str, sim: Simulator, refusing: str
) -> None:
    models, answered = TwoModels(sim), iter(range(1_000))
    sim.set(
        answers=lambda request: (
            SimAnswer.status(401)
            if refusing.endswith(request.model) and (refusing == STRONG or next(answered) >= 50)
            else models(request)
        )
    )

    with pytest.raises(ProviderRejectedError, match="0 of 300 rows are answered and kept") as caught:
        ask(frame(300))

    assert (caught.value.kept, caught.value.total) == (0, 300)


def test_what_the_strong_model_fails_at_has_no_answer_and_counts_as_bad(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    refused = {f"thing {n}" for n in range(0, ROWS, 2)}
    sim.set(answers=lambda r: models(r) if is_cheap(r) or models.text(r) not in refused else SimAnswer.refusal("no"))

    with pytest.warns(UserWarning, match="bad too often to promise"):
        out = ask(frame(ROWS))

    assert out["mood"].isna().equals(out["text"].isin(refused)), "nothing covers what is missing"
    errors = out.llm.errors
    assert set(errors["kind"]) == {"refusal"}
    assert errors["message"].str.contains(f"{STRONG}, which this row was escalated to, failed").all()


def test_a_retry_asks_the_strong_model_again_where_it_failed(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    down = {f"thing {n}" for n in range(0, ROWS, 9)}
    sim.set(answers=lambda r: models(r) if is_cheap(r) or models.text(r) not in down else SimAnswer.status(503))
    run = frame(ROWS).llm.submit(Review, PROMPT, **options(max_retries=0))
    out = run.result()
    missing = out["mood"].isna()
    threshold = out.llm.guarantee.threshold
    sim.set(answers=models)

    again = run.retry().result()

    assert missing.any()
    assert again["mood"].notna().all()
    assert set(again["note"][missing]) == {"strong"}
    assert again.llm.guarantee.threshold == threshold, "what was certified stays"
    assert is_true(again, models, allowed=7)


def is_cheap(request: SimRequest) -> bool:
    return CHEAP.endswith(request.model)


def test_every_frame_library_has_the_promise(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(ROWS)
    expected = ask(df)
    requests = sim.stats().requests

    polars = ask(pl.from_pandas(df))
    arrow = pllm.frame(pa.Table.from_pandas(df)).parse(Review, PROMPT, **options())

    assert sim.stats().requests == requests
    models = expected.llm.guarantee.answered_by.tolist()
    assert polars.llm.guarantee.answered_by.to_list() == models
    assert pllm.frame(arrow).guarantee.answered_by.to_pylist() == models
    assert repr(polars.llm.guarantee) == repr(pllm.frame(arrow).guarantee) == repr(expected.llm.guarantee)


def test_jobs_follow_each_other(luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offices, "FIRST_LOOK_S", 0.02)
    models = TwoModels(sim)
    sim.set(batch_s=0)
    df = frame(ROWS)

    out = ask(df, mode="batch", confirm=False)

    assert is_true(out, models, allowed=7)
    assert out.llm.guarantee.proved
    assert len(pllm.jobs().frame) in (3, 4, 5), "low-cost answers, one to three draws, the rest"
    requests = sim.stats().requests
    live = ask(df)
    assert sim.stats().requests == requests
    pd.testing.assert_frame_equal(live, out)


def test_rows_that_wait_in_a_job_are_left_to_it_and_nothing_is_promised(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    sim.set(batch_s=3600)
    df = frame(120)
    df.iloc[:50].llm.submit(Review, PROMPT, model=CHEAP, effort="none", mode="batch", confirm=False, wait=False).wait()

    with pytest.warns(UserWarning, match="50 rows wait in batch job"):
        out = ask(df)

    assert out["mood"].isna().all()
    assert out.llm.guarantee.figures.state == "unfinished"
    assert sim.stats().answered == 70, "the strong model was asked nothing"


def test_one_call_at_a_time_is_as_good(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)

    out = ask(frame(60), mode="sync", guarantee=0.8)

    assert out.llm.guarantee.proved
    assert is_true(out, models, allowed=12)


def test_the_cache_alone_answers_or_promises_nothing(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(ROWS)
    df.llm.parse(Review, PROMPT, model=CHEAP, effort="none", probabilities=True)
    requests = sim.stats().requests

    out = ask(df, cache="only")

    assert sim.stats().requests == requests
    assert out["mood"].isna().all()
    assert out.llm.guarantee.figures.state == "unfinished"
    whole = ask(df)
    pd.testing.assert_frame_equal(ask(df, cache="only"), whole)


def test_without_a_cache_the_promise_is_the_same(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)

    out = ask(frame(ROWS), cache="off")

    assert out.llm.guarantee.proved
    assert is_true(out, models, allowed=7)


def test_a_model_that_turns_out_to_give_no_probabilities_stops_the_run(luna: str, sim: Simulator) -> None:
    content = '{"mood":"good","fits":true,"note":""}'
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    sim.set(answers=lambda request: SimAnswer.status(200, body={"id": "x", "choices": [choice]}))

    with pytest.raises(PllmError, match="returns no token probabilities"):
        ask(frame(ROWS), concurrency=4)

    assert sim.stats().requests <= ROWS, "the strong model was not asked"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"guarantee": 1.0}, "guarantee is a number above 0 and below 1"),
        ({"guarantee": 0.9, "decide": "vote", "judge": None}, "guarantee= needs decide='escalate'"),
        ({"guarantee": 0.9, "judge": None}, "guarantee= needs decide='escalate'"),
        ({"guarantee": None, "samples": 3, "against": "label"}, "against= is read with guarantee= alone"),
        ({"guarantee": None, "samples": 3, "confidence_level": 0.9}, "confidence_level= is read with guarantee= alone"),
        ({"judge": CHEAP}, "is one of those that answer"),
        ({"pack": 5, "samples": 3}, "guarantee= does not go with pack="),
        ({"shard": (0, 2)}, "guarantee= does not go with shard="),
        ({"model": "anthropic:claude-haiku-5-5", "effort": None}, "samples=5.*or ask another model"),
    ],
)
def test_what_cannot_be_promised_is_refused_before_anything_is_sent(
    luna: str, sim: Simulator, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        ask(frame(5), **given)

    assert sim.stats().requests == 0


@pytest.mark.parametrize("kind", [str, float, None])
def test_a_type_without_known_values_is_refused(luna: str, sim: Simulator, kind: Any) -> None:
    with pytest.raises(UsageError, match="guarantee= is about fields whose values are known"):
        frame(5).llm.parse(kind, PROMPT, **options())

    assert sim.stats().requests == 0


def test_rows_in_pieces_are_no_table(luna: str, sim: Simulator, tmp_path: Path) -> None:
    pieces = frame(5)
    with pytest.raises(UsageError, match="promises something of one whole table"):
        pllm.parse_dataset(pieces, tmp_path / "dataset", Review, PROMPT, **options())
    with pytest.raises(UsageError, match="promises something of one whole table"):
        pl.from_pandas(pieces).lazy().llm.parse(Review, PROMPT, **options())
    with pytest.raises(UsageError, match="promises something of one whole table"):
        list(pllm.parse_batches([frame(5)], Review, PROMPT, **options()))

    assert sim.stats().requests == 0

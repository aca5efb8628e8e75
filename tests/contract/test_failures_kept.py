"""Calls that failed are kept across kernels, are shown, and are tried again only where that can help."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import pandas as pd
import pytest
from pydantic import AfterValidator, BaseModel

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.frames.item_lists import submit_list, submit_one
from pllm_notebook.notebook.cell_magic import run_cell
from pllm_notebook.notebook.line_magic import run_command
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.store import close_stores
from tests.contract.scripts import InTurn, by_word, words
from tests.contract.sides import OPENAI, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

REJECTED = SimAnswer.status(400)


class Fact(BaseModel):
    name: str


def good(request: SimRequest) -> Any:
    return {"name": request.messages[0][1]}


@pytest.fixture
def new_kernel(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What is left when everything in memory is gone: call it."""

    def begin() -> None:
        engine.shutdown()
        close_stores()
        run_registry.forget_all()

    return begin


def test_a_rejected_call_is_kept_with_all_that_is_known_of_it(side: Side, sim: Simulator, new_kernel: Any) -> None:
    if side.wire == "compatible":
        sim.set(unsupported_parameters=("frobnicate",))
    frame = pd.DataFrame({"text": ["a question"]}, index=["row one"])
    started = datetime.now(tz=UTC) - timedelta(seconds=2)
    out = frame.llm.complete("say {text}", model=side.model, extra_body={"frobnicate": 1})
    new_kernel()

    (kept,) = pllm.errors().to_dict("records")

    assert (kept["model"], kept["kind"], kept["status"]) == (side.model, "bad_request", 400)
    assert kept["field"] == "frobnicate"
    assert "frobnicate" in kept["message"]
    assert (kept["position"], kept["label"], kept["prompt"]) == (0, "row one", "say a question")
    assert (kept["attempts"], kept["cost_usd"], kept["asked"]) == (1, 0.0, "text")
    assert orjson.loads(kept["body"])["frobnicate"] == 1
    assert "say a question" in kept["body"]
    assert started <= kept["when"].to_pydatetime() <= datetime.now(tz=UTC)
    assert kept["run"] == out.attrs["pllm_run"]


def test_a_rejected_call_is_not_sent_again_unasked(side: Side, sim: Simulator, new_kernel: Any) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    frame = words("a", "bad", "c")
    first = frame.llm.parse(Fact, "{text}", model=side.model)
    (before,) = first.llm.errors.to_dict("records")
    new_kernel()
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=side.model)

    assert sim.stats().requests == 0
    assert again.llm.status.tolist() == ["cached", "failed", "cached"]
    (after,) = again.llm.errors.to_dict("records")
    assert after.pop("message").startswith(before.pop("message"))
    assert after == before
    (message,) = again.llm.errors["message"]
    assert message.endswith(
        " UTC and not sent again, since the request is the same; run.retry(kinds=['bad_request']) or cache='refresh' "
        "sends it."
    )


def test_a_prompt_that_a_filter_rejected_is_not_sent_again_unasked(luna: str, sim: Simulator, new_kernel: Any) -> None:
    filtered = SimAnswer.status(400, body={"error": {"message": "Filtered", "code": "content_filter"}})
    sim.set(answers=by_word({"bad": filtered}, good))
    frame = words("a", "bad", "c")
    assert frame.llm.parse(Fact, "{text}", model=luna).llm.errors["kind"].tolist() == ["content_filter"]
    new_kernel()
    sim.reset()

    again = frame.llm.submit(Fact, "{text}", model=luna)

    assert again.result().llm.status.tolist() == ["cached", "failed", "cached"]
    assert sim.stats().requests == 0
    (message,) = again.errors["message"]
    assert message.startswith("Filtered. Rejected at ")
    assert "run.retry(kinds=['content_filter'])" in message
    sim.set(answers=good)
    assert again.retry(["content_filter"]).result()["name"].notna().all()


@pytest.mark.parametrize("how", ["retry", "refresh", "salt", "prompt"])
def test_a_rejected_call_is_sent_when_it_is_asked_for_or_has_changed(luna: str, sim: Simulator, how: str) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    frame = words("a", "bad")
    frame.llm.parse(Fact, "{text}", model=luna)
    sim.set(answers=good)
    sim.reset()

    if how == "retry":
        out = frame.llm.submit(Fact, "{text}", model=luna).result().llm.run.retry(kinds=["bad_request"]).result()
    elif how == "refresh":
        out = frame.llm.parse(Fact, "{text}", model=luna, cache="refresh")
    elif how == "salt":
        out = frame.llm.parse(Fact, "{text}", model=luna, salt="2")
    else:
        out = frame.llm.parse(Fact, "Now: {text}", model=luna)

    assert sim.stats().requests == (1 if how == "retry" else 2)
    assert out["name"].notna().all()


def test_an_answer_ends_a_failure_for_good(luna: str, sim: Simulator, new_kernel: Any) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    run = words("a", "bad").llm.submit(Fact, "{text}", model=luna)
    run.wait()
    sim.set(answers=good)
    run.retry(kinds=["bad_request"]).result()
    new_kernel()
    sim.reset()

    out = words("a", "bad").llm.parse(Fact, "{text}", model=luna)

    assert out.llm.status.tolist() == ["cached", "cached"]
    assert len(pllm.errors(since=timedelta(days=1))) == 0
    assert sim.stats().requests == 0


def test_running_the_cell_again_sends_what_can_pass_and_nothing_else(
    luna: str, sim: Simulator, new_kernel: Any
) -> None:
    faults = {"broken": SimAnswer.status(500), "bad": REJECTED, "no": SimAnswer.refusal("I will not.")}
    sim.set(answers=by_word(faults, good))
    frame = words("fine", "broken", "bad", "no")
    first = frame.llm.parse(Fact, "{text}", model=luna, max_retries=0)
    new_kernel()
    sim.set(answers=good)
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=luna, max_retries=0)

    assert first["name"].notna().tolist() == [True, False, False, False]
    assert again["name"].notna().tolist() == [True, True, False, False]
    assert [request["body"]["messages"][-1]["content"] for request in sim.requests()] == ["broken"]
    assert sorted(pllm.errors(since=timedelta(days=1))["kind"]) == ["bad_request", "refusal"]


def test_a_status_that_may_be_the_servers_fault_is_sent_again(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(405, body={"error": {"message": "Not here."}}))
    frame = words("a")
    out = frame.llm.parse(Fact, "{text}", model=luna)
    sim.set(answers=good)

    again = frame.llm.parse(Fact, "{text}", model=luna)

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert again["name"].tolist() == ["a"]


def test_what_healing_can_put_right_is_never_kept_as_a_failure(luna: str, sim: Simulator) -> None:
    sim.set(unsupported_parameters=("temperature",), answers=good)

    out = words("a", "b").llm.parse(Fact, "{text}", model="openai:gpt-4o-mini", temperature=0.5)

    assert out["name"].tolist() == ["a", "b"]
    assert len(pllm.errors(since=timedelta(days=1))) == 0


def test_a_rejected_row_of_a_pack_is_not_sent_again(luna: str, sim: Simulator, new_kernel: Any) -> None:
    sim.set(answers=lambda request: REJECTED if "bad" in request.messages[0][1] else good(request))
    frame = words("a", "bad", "c", "d")
    first = frame.llm.parse(Fact, "{text}", model=luna, pack=4).llm.errors["position"].tolist()
    new_kernel()
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=luna, pack=4)

    assert first == again.llm.errors["position"].tolist() == [1]
    assert sim.stats().requests == 0


def test_a_rejected_repair_is_not_sent_again(luna: str, sim: Simulator, new_kernel: Any) -> None:
    sim.set(answers=InTurn(SimAnswer.text("no json"), REJECTED))
    frame = words("a")
    frame.llm.parse(Fact, "{text}", model=luna)
    new_kernel()
    sim.reset()

    again = frame.llm.parse(Fact, "{text}", model=luna)

    assert sim.stats().requests == 0
    assert again.llm.errors["kind"].tolist() == ["bad_request"]
    (kept,) = pllm.errors(kind="bad_request").to_dict("records")
    assert [turn["role"] for turn in orjson.loads(kept["body"])["messages"]][-2:] == ["assistant", "user"]


def test_cache_only_tells_of_the_rejection(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    words("good", "bad").llm.parse(Fact, "{text}", model=luna)

    out = words("bad", "new").llm.parse(Fact, "{text}", model=luna, cache="only")

    assert out.llm.errors["kind"].tolist() == ["bad_request", "not_cached"]


def test_cache_off_leaves_nothing_behind(luna: str, sim: Simulator, cache_dir: Path) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))

    out = words("bad").llm.parse(Fact, "{text}", model=luna, cache="off")

    assert out.llm.errors["kind"].tolist() == ["bad_request"]
    assert not (cache_dir / "failures.db").exists()


def test_paid_failures_are_listed_until_todays_validators_take_them(luna: str, sim: Simulator, new_kernel: Any) -> None:
    strict: list[bool] = [True]

    def check(name: str) -> str:
        if strict[0]:
            raise ValueError("not today")
        return name

    class Checked(BaseModel):
        name: Annotated[str, AfterValidator(check)]

    sim.set(answers=good)
    words("a").llm.parse(Checked, "{text}", model=luna, max_repairs=0)
    new_kernel()
    (kept,) = pllm.errors().to_dict("records")

    strict[0] = False
    out = words("a").llm.parse(Checked, "{text}", model=luna, max_repairs=0)

    assert (kept["kind"], kept["raw"]) == ("schema", '{"name":"a"}')
    assert kept["cost_usd"] > 0
    assert out["name"].tolist() == ["a"]
    assert len(pllm.errors(kind="schema")) == 0


def test_what_may_have_been_paid_for_has_no_cost_that_looks_known(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.value({"name": "late"}, latency_s=3600))

    out = words("a").llm.parse(Fact, "{text}", model=luna, max_retries=0, timeout_s=0.3)

    assert out.llm.errors["kind"].tolist() == ["timeout"]
    assert out.llm.errors["cost_usd"].isna().tolist() == [True]
    assert pllm.errors(kind="timeout")["cost_usd"].isna().tolist() == [True]


def test_what_was_not_sent_is_not_kept(luna: str, sim: Simulator) -> None:
    sim.set(answers=good)

    words("a", "b").llm.parse(Fact, "{text}", model=luna, cache="only")
    words("a", "b").llm.parse(Fact, "{text}", model=luna, max_cost_usd=1e-12)
    words("half \ud800").llm.parse(Fact, "{text}", model=luna)

    assert len(pllm.errors(since=timedelta(days=1))) == 0


def test_errors_of_a_run_of_a_frame_and_of_the_newest_run(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED, "worse": REJECTED}, good))
    first = words("a", "bad").llm.parse(Fact, "{text}", model=luna)
    second = words("worse").llm.parse(Fact, "{text}", model=luna)

    assert pllm.errors(first)["prompt"].tolist() == ["bad"]
    assert pllm.errors(first.llm.run)["prompt"].tolist() == ["bad"]
    assert pllm.errors()["prompt"].tolist() == ["worse"]
    pd.testing.assert_frame_equal(pllm.errors(second), second.llm.errors)
    assert pllm.errors(model=luna)["prompt"].tolist() == ["worse", "bad"]


def test_the_word_errors_shows_the_newest_run_and_in_a_new_kernel_what_is_kept(
    luna: str, sim: Simulator, new_kernel: Any
) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    words("fine", "bad").llm.parse(Fact, "{text}", model=luna)

    of_the_run = run_command("errors")
    new_kernel()
    kept = run_command("errors")

    assert of_the_run["position"].tolist() == kept["position"].tolist() == [1]
    assert "when" in kept.columns
    assert "when" not in of_the_run.columns


def test_in_a_new_kernel_where_nothing_has_failed_there_are_no_errors(luna: str) -> None:
    assert len(pllm.errors()) == 0


def test_kept_errors_are_chosen_by_model_kind_and_time(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED, "no": SimAnswer.refusal("no")}, good))
    words("bad", "no").llm.parse(Fact, "{text}", model=luna)
    later = datetime.now(tz=UTC) + timedelta(seconds=5)

    assert pllm.errors(kind="bad_request")["prompt"].tolist() == ["bad"]
    assert len(pllm.errors(model="gpt-6-luna")) == 2
    assert len(pllm.errors(model="gpt-6")) == 0
    assert len(pllm.errors(since=later)) == 0
    # A year that the system's clock does not have is in the future or the past all the same.
    assert len(pllm.errors(since=datetime.max)) == 0
    assert len(pllm.errors(since=datetime.min)) == 2
    assert pllm.errors(since=later).dtypes.to_dict() == pllm.errors(since=timedelta(hours=1)).dtypes.to_dict()


def test_errors_of_what_is_no_run_are_refused(luna: str) -> None:
    with pytest.raises(UsageError, match=r"There is no kind of failure 'bad_requst'\. Did you mean 'bad_request'\?"):
        pllm.errors(kind="bad_requst")
    with pytest.raises(UsageError, match="takes a run, a frame that a run made, or a session"):
        pllm.errors(5)
    with pytest.raises(UsageError, match="since= is a datetime"):
        pllm.errors(since="yesterday")  # type: ignore[arg-type]
    with pytest.raises(PllmError, match="No known run made this frame as it is"):
        pllm.errors(words("a"))
    with pytest.raises(UsageError, match="they do not apply to a run or a frame"):
        pllm.errors(words("a"), kind="schema")


def test_clear_forgets_what_was_rejected(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    words("bad").llm.parse(Fact, "{text}", model=luna)
    sim.set(answers=good)

    pllm.cache.clear()
    out = words("bad").llm.parse(Fact, "{text}", model=luna)

    assert out["name"].tolist() == ["bad"]


def test_the_rows_of_a_judge_have_no_position(luna: str, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        return f"answer {request.index}" if request.messages[-1][1] in ("a", "b") else REJECTED

    sim.set(answers=answer)

    words("a", "b").llm.complete("{text}", model=luna, samples=2, decide="judge")

    kept = pllm.errors(kind="bad_request")
    assert len(kept) > 0
    assert kept["position"].isna().all()


# Error modes.


def front_ends(prompts: list[str], **options: Any) -> dict[str, Any]:
    """The ways to ask, each as a function that starts and waits."""
    frame = words(*prompts)
    told = " ".join(f"--{name} {value}" for name, value in options.items())
    names = {"frame": frame, "Fact": Fact}
    return {
        "parse": lambda: frame.llm.parse(Fact, "{text}", **options),
        "series": lambda: frame["text"].llm.parse(Fact, "{value}", **options),
        "magic": lambda: asyncio.run(run_cell(f"frame --schema Fact {told}", "{text}", names, blocking=True)),
        "list": lambda: submit_list(prompts, Fact, "{value}", **options).result(),
    }


@pytest.mark.parametrize("how", ["parse", "series", "list", "magic"])
@pytest.mark.parametrize("options", [{"errors": "raise", "concurrency": 1}, {"mode": "sync"}], ids=["async", "sync"])
def test_the_first_failure_ends_the_run_in_the_same_words_everywhere(
    luna: str, sim: Simulator, how: str, options: dict[str, Any]
) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))

    with pytest.raises(pllm.PllmError) as caught:
        front_ends(["a", "b", "bad"], model=luna, **options)[how]()

    first, _, rest = str(caught.value).partition(" 2 of 3 rows are answered and kept: ")
    assert first.startswith("Row 2 failed (bad_request): ")
    run = pllm.runs()[-1].id
    assert rest == f"pllm.run({run!r}).to_frame() shows them. Run the cell again to continue."
    assert (caught.value.position, caught.value.kind, caught.value.kept) == (2, "bad_request", 2)  # type: ignore[attr-defined]


@pytest.mark.parametrize("options", [{"errors": "raise"}, {"mode": "sync"}], ids=["async", "sync"])
def test_text_and_single_prompts_and_samples_raise_alike(luna: str, sim: Simulator, options: dict[str, Any]) -> None:
    sim.set(answers=lambda request: REJECTED)
    options = {"model": luna, **options}
    frame = pd.DataFrame({"text": ["bad"], "one": ["x"], "two": ["y"]})
    ways = [
        lambda: frame.llm.complete("{text}", **options),
        lambda: submit_one("bad", {}, None, **options).result(),
        lambda: frame.llm.complete("{text}", samples=2, **options),
        lambda: frame.llm.decide(["one", "two"], "{text}", **options),
    ]

    told = []
    for ask in ways:
        with pytest.raises(pllm.PllmError) as caught:
            ask()
        told.append(str(caught.value).partition(" (")[0])

    assert told == ["Row 0 failed"] * 4


@pytest.mark.parametrize("options", [{"errors": "raise"}, {"mode": "sync"}], ids=["async", "sync"])
def test_a_row_that_cannot_be_sent_raises_too(luna: str, sim: Simulator, options: dict[str, Any]) -> None:
    sim.set(answers=good)

    with pytest.raises(pllm.PllmError, match=r"^Row 1 failed \(input\): The prompt has half a surrogate pair"):
        words("a", "half \ud800").llm.parse(Fact, "{text}", model=luna, **options)

    assert sim.stats().requests == 0


def test_a_rejection_from_before_raises_without_sending(luna: str, sim: Simulator) -> None:
    sim.set(answers=by_word({"bad": REJECTED}, good))
    words("good", "bad").llm.parse(Fact, "{text}", model=luna)
    sim.reset()

    with pytest.raises(pllm.PllmError, match=r"Row 0 failed \(bad_request\): .*not sent again"):
        words("bad").llm.parse(Fact, "{text}", model=luna, errors="raise")

    assert sim.stats().requests == 0


def test_failures_are_logged_without_what_a_row_or_a_provider_says(
    luna: str, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    body = {"error": {"message": "Your private words are too long.", "type": "invalid_request_error"}}
    sim.set(answers=by_word({"private": SimAnswer.status(400, body=body), "no": SimAnswer.refusal("private")}, good))

    with caplog.at_level(logging.INFO, logger="pllm_notebook"):
        words("a", "private", "no").llm.parse(Fact, "{text}", model=luna)

    told = sorted(record.getMessage() for record in caplog.records if "failed" in record.getMessage())
    assert told == [
        "openai:gpt-6-luna: row 1 failed: bad_request (status 400)",
        "openai:gpt-6-luna: row 2 failed: refusal (status 200)",
    ]
    assert "private" not in caplog.text


def test_a_key_that_a_provider_quotes_is_in_no_message_and_no_file(
    sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "unusual.canary.4711"
    reach(OPENAI, sim, monkeypatch, key=secret)
    body = {"error": {"message": f"What is {secret} and Bearer {secret}?", "type": "invalid_request_error"}}
    sim.set(answers=by_word({"bad": SimAnswer.status(400, body=body)}, good))

    with caplog.at_level(logging.DEBUG, logger="pllm_notebook"):
        out = words("bad").llm.parse(Fact, "{text}", model=OPENAI.model)
        logging.getLogger("pllm_notebook").warning("a line with %s", secret)

    shown = [*out.llm.errors["message"], *out.llm.errors["raw"], caplog.text, *pllm.errors(kind="bad_request")["raw"]]
    close_stores()
    written = b"".join(file.read_bytes() for file in cache_dir.iterdir() if file.is_file())
    assert not [text for text in shown if "canary" in text]
    assert "What is …" in shown[0]
    assert b"canary" not in written

"""Several rows in one call: every answer reaches its own row, and what goes wrong in a pack is asked again alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import genai_prices
import orjson
import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.prompts import ITEMS
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from pllm_notebook.sim.packed_requests import items_of
from tests.contract.scripts import words
from tests.contract.sides import OPENAI, Side

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")

ROWS = ["alder", "beech", "cedar", "elm", "fir", "hazel", "larch"]


class Tree(BaseModel):
    name: str
    letters: int = Field(ge=1, le=9)


Entries = list[dict[str, Any]]


def tree(name: str) -> dict[str, Any]:
    return {"name": name, "letters": len(name)}


def answering(
    spoil: Callable[[Entries], Any] | None = None, alone: Callable[[str], Any] = tree
) -> Callable[[SimRequest], Any]:
    """Answer truly, but for packs as *spoil* has it; a row that is asked alone as *alone* does."""

    def answer(request: SimRequest) -> Any:
        items = items_of(request.prompt)
        if items is None:
            return alone(request.messages[0][1].removeprefix("Measure "))
        entries = [{"index": item["index"], "answer": tree(item["item"]["text"])} for item in items]
        return {"answers": entries} if spoil is None else spoil(entries)

    return answer


def sizes(sim: Simulator) -> list[int]:
    """Rows in each request, in any order; 0 for a row of its own."""
    return sorted(len(items_of(prompt_of(request["body"])) or ()) for request in sim.requests())


def prompt_of(body: dict[str, Any]) -> str:
    """The first user text, in whichever wire format."""
    if "contents" in body:
        return "".join(part["text"] for part in body["contents"][0]["parts"])
    turns = body.get("messages") or body["input"]
    content = next(turn["content"] for turn in turns if turn["role"] == "user")
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def ask(model: str, rows: list[str] = ROWS, **options: Any) -> pd.DataFrame:
    return words(*rows).llm.parse(Tree, "Measure {text}", **{"model": model, "pack": 3} | options)


def right(out: pd.DataFrame) -> bool:
    rows = out["text"].tolist()
    return out["name"].tolist() == rows and out["letters"].tolist() == [len(row) for row in rows]


# The happy way.


def test_rows_share_calls_and_each_gets_its_own_answer(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering(lambda entries: {"answers": entries[::-1]}))

    out = ask(side.model)

    assert right(out)
    assert sizes(sim) == [1, 3, 3]
    assert out.llm.status.tolist() == ["ok"] * 7


def test_the_instruction_is_sent_once_and_first(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering())

    ask(side.model, ROWS[:3])

    (request,) = sim.requests()
    before, _, items = prompt_of(request["body"]).rpartition(ITEMS)
    assert before.endswith("\nMeasure {text}")
    assert orjson.loads(items) == [{"index": n, "item": {"text": row}} for n, row in enumerate(ROWS[:3])]


def test_plain_text_is_packed_too(side: Side, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        items = items_of(request.prompt) or []
        return {"answers": [{"index": n, "answer": f"A {one['item']['text']}é\n"} for n, one in enumerate(items)]}

    sim.set(answers=answer)

    out = words(*ROWS).llm.complete("Measure {text}", model=side.model, pack=10)

    assert out["answer"].tolist() == [f"A {row}é\n" for row in ROWS]
    assert sizes(sim) == [7]


def test_a_type_that_a_provider_takes_in_another_form_comes_back_in_its_own(side: Side, sim: Simulator) -> None:
    out = words(*ROWS).llm.parse(tuple[int, dict[str, bool]], "{text}", model=side.model, pack=3)

    assert all(isinstance(value, list) and isinstance(value[1], dict) for value in out["answer"])
    assert sizes(sim) == [1, 3, 3]


def test_rows_without_a_prompt_are_items_as_they_are(luna: str, sim: Simulator) -> None:
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None]})

    frame.llm.parse(Tree, model=luna, pack=5)

    (request,) = sim.requests()
    assert items_of(prompt_of(request["body"])) == [
        {"index": 0, "item": {"a": 1, "b": "x"}},
        {"index": 1, "item": {"a": 2, "b": None}},
    ]


def test_equal_rows_are_one_item_and_missing_ones_none(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())

    out = words("elm", "fir", "elm", None, "elm").llm.parse(Tree, "Measure {text}", model=luna, pack=3)  # type: ignore[arg-type]

    assert sizes(sim) == [2]
    assert out["name"].fillna("").tolist() == ["elm", "fir", "elm", "", "elm"]


def test_packs_are_full_across_the_chunks_of_a_plan(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(), keep_requests=2000)
    rows = [f"{n}" for n in range(5_300)]

    out = ask(luna, rows, pack=50)

    assert right(out)
    assert sizes(sim) == [50] * 106


def test_one_pack_at_a_time_where_calls_are_made_in_order(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(lambda entries: {"answers": entries[1:]}))

    out = ask(luna, mode="sync")

    assert right(out)
    assert [len(items_of(prompt_of(request["body"])) or ()) for request in sim.requests()] == [3, 0, 3, 0, 1, 0]
    assert sim.stats().peak_in_flight == 1


# What goes wrong in a pack.

SPOILT: dict[str, Callable[[Entries], Any]] = {
    "missing": lambda entries: {"answers": [entries[0], entries[2]]},
    "doubled": lambda entries: {"answers": [*entries, {"index": 1, "answer": tree("oak")}]},
    "out of range": lambda entries: {"answers": [entries[0], {**entries[1], "index": 3}, entries[2]]},
    "invalid": lambda entries: {
        "answers": [entries[0], {"index": 1, "answer": {"name": "beech", "letters": 99}}, entries[2]]
    },
}


@pytest.mark.sample(7)
@pytest.mark.parametrize("fault", SPOILT)
def test_a_row_that_a_pack_does_not_answer_is_asked_alone(side: Side, sim: Simulator, fault: str) -> None:
    sim.set(answers=answering(SPOILT[fault]))

    out = ask(side.model, ROWS[:3], max_repairs=0)
    sent = sizes(sim)
    again = ask(side.model, ROWS[:3], max_repairs=0)

    assert right(out)
    assert right(again)
    assert sent == sizes(sim) == [0, 3]
    assert again.llm.status.tolist() == ["cached"] * 3
    assert out.llm.run.cost == (pytest.approx(out.llm.usage["cost_usd"].sum()) if side.priced else None)


def test_a_row_asked_alone_has_its_repair_turns(luna: str, sim: Simulator) -> None:
    wrong = {"name": "beech", "letters": 99}

    def answer(request: SimRequest) -> Any:
        spoilt = answering(SPOILT["invalid"], lambda name: wrong if len(request.messages) == 1 else tree("beech"))
        return spoilt(request)

    sim.set(answers=answer)

    out = ask(luna, ROWS[:3])

    assert right(out)
    assert sizes(sim) == [0, 0, 3]
    assert out.llm.usage["attempts"].tolist() == [1, 3, 1]
    assert out.llm.run.cost == pytest.approx(out.llm.usage["cost_usd"].sum())


def test_of_a_truncated_pack_the_answers_that_came_whole_count(side: Side, sim: Simulator) -> None:
    def cut(entries: Entries) -> SimAnswer:
        return SimAnswer.truncated(orjson.dumps({"answers": entries}).decode()[:-25])

    sim.set(answers=answering(cut))

    out = ask(side.model, ROWS[:3])

    assert right(out)
    assert sizes(sim) == [0, 3]


LOST: dict[str, Any] = {
    "refused": SimAnswer.refusal("no"),
    "filtered": SimAnswer.filtered(),
    "no JSON": SimAnswer.text("I would rather not."),
    "nothing whole": SimAnswer.truncated('{"answers":[{"index":0,"ans'),
    "rejected": SimAnswer.status(400),
    "too large": SimAnswer.status(413),
}


@pytest.mark.sample(10)
@pytest.mark.parametrize("fault", LOST)
def test_a_pack_that_answers_nobody_is_asked_again_row_by_row(side: Side, sim: Simulator, fault: str) -> None:
    sim.set(answers=answering(lambda entries: LOST[fault]))

    out = ask(side.model, ROWS[:3])

    assert right(out)
    assert sizes(sim) == [0, 0, 0, 3]
    assert out.llm.run.cost == (pytest.approx(out.llm.usage["cost_usd"].sum()) if side.priced else None)


@pytest.mark.parametrize(
    ("poison", "kind"), [(SimAnswer.status(400), "bad_request"), (SimAnswer.refusal("no"), "refusal")], ids=str
)
def test_a_row_that_poisons_its_pack_fails_alone(luna: str, sim: Simulator, poison: SimAnswer, kind: str) -> None:
    def spoil(entries: Entries) -> Any:
        return poison if any(entry["answer"]["name"] == "elm" for entry in entries) else {"answers": entries}

    sim.set(answers=answering(spoil, lambda name: poison if name == "elm" else tree(name)))

    out = ask(luna)

    assert out.llm.errors[["position", "kind"]].to_numpy().tolist() == [[3, kind]]
    assert out["name"].fillna("").tolist() == [*ROWS[:3], "", *ROWS[4:]]
    assert sizes(sim) == [0, 0, 0, 1, 3, 3]


def test_a_pack_whose_retries_are_exhausted_fails_its_rows(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering(lambda entries: SimAnswer.status(500) if len(entries) == 3 else {"answers": entries}))

    out = ask(side.model, max_retries=0)

    assert out.llm.errors["kind"].tolist() == ["server_error"] * 6
    assert sizes(sim) == [1, 3, 3]


def test_a_retry_sends_failed_rows_alone(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(lambda entries: SimAnswer.status(500)))
    run = words(*ROWS[:4]).llm.submit(Tree, "Measure {text}", model=luna, pack=2, max_retries=0)
    run.wait()
    sim.reset()

    out = run.retry().result()

    assert right(out)
    assert sizes(sim) == [0] * 4


def test_a_refused_key_stops_the_run(side: Side, sim: Simulator) -> None:
    sim.set(answers=lambda request: SimAnswer.status(401))

    with pytest.raises(pllm.PllmError, match="authentication"):
        ask(side.model)


def test_where_failures_raise_the_first_row_of_a_failed_pack_does(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(lambda entries: SimAnswer.status(500)))

    with pytest.raises(pllm.PllmError, match=r"Row 0 failed \(server_error\)"):
        ask(luna, errors="raise", max_retries=0, concurrency=1)  # with more, another pack may be the first to fail


# Servers whose structured output is not guaranteed.


@pytest.mark.parametrize("rungs", [("json_object",), ("none",), ("ignored",)], ids=lambda rungs: rungs[0])
def test_a_server_without_structured_output_answers_packs_too(
    sim: Simulator, cache_dir: object, rungs: tuple[str, ...]
) -> None:
    name = f"packs{rungs[0].replace('_', '')}"
    pllm.configure(servers={name: sim.base_url("compatible")})
    sim.set(rungs=rungs, answers=answering())

    out = ask(f"{name}:small")

    assert right(out)
    assert 0 not in sizes(sim)


# Keys.


def test_a_packed_answer_serves_its_own_pack_size_and_nothing_else(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(luna)
    sim.reset()

    same, unpacked, other = ask(luna), ask(luna, pack=None), ask(luna, salt="x", pack=4)

    assert same.llm.status.tolist() == ["cached"] * 7
    assert unpacked.llm.status.tolist() == other.llm.status.tolist() == ["ok"] * 7


def test_an_answer_out_of_one_pack_size_is_not_one_of_another(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(luna)
    sim.reset()

    out = ask(luna, pack=4)

    assert out.llm.status.tolist() == ["ok"] * 7
    assert sizes(sim) == [3, 4]


def test_a_rows_own_answer_serves_a_packed_run(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(side.model, ROWS[1:3], pack=None)
    sim.reset()

    out = ask(side.model)

    assert right(out)
    assert out.llm.status.tolist() == ["ok", "cached", "cached", "ok", "ok", "ok", "ok"]
    assert sizes(sim) == [2, 3]


def test_a_run_goes_on_where_another_ended(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(side.model, ROWS[:4])
    sim.reset()

    out = ask(side.model)

    assert right(out)
    assert sizes(sim) == [3]
    assert out.llm.status.tolist() == ["cached"] * 4 + ["ok"] * 3


def test_the_last_packs_rows_are_found_in_a_longer_frame(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(luna, ROWS[:1])

    ask(luna, ROWS[:3])

    assert sizes(sim) == [1, 2]


def test_two_runs_at_once_pay_for_each_pack_once(luna: str, sim: Simulator) -> None:
    sim.set(latency_s=0.1, answers=answering())
    rows = [f"{n}" for n in range(300)]

    runs = [words(*rows).llm.submit(Tree, "Measure {text}", model=luna, pack=3) for _ in range(2)]

    assert all(right(run.result()) for run in runs)
    assert sizes(sim) == [3] * 100


def test_refresh_asks_packs_again_and_replaces(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(luna)

    fresh = ask(luna, cache="refresh")

    assert fresh.llm.status.tolist() == ["ok"] * 7
    assert sizes(sim) == [1, 1, 3, 3, 3, 3]


def test_a_refreshed_row_that_its_new_pack_leaves_out_is_found_as_it_was_answered_alone(
    luna: str, sim: Simulator
) -> None:
    sim.set(answers=answering())
    ask(luna, ROWS[:3])
    new = {"name": "new", "letters": 1}
    sim.set(answers=answering(SPOILT["missing"], lambda name: new))

    fresh = ask(luna, ROWS[:3], cache="refresh")
    sim.reset()
    again = ask(luna, ROWS[:3])

    assert fresh["name"].tolist() == again["name"].tolist() == ["alder", "new", "cedar"]
    assert again.llm.status.tolist() == ["cached"] * 3
    assert again.llm.usage["cost_usd"].tolist() == fresh.llm.usage["cost_usd"].tolist()
    assert sim.stats().requests == 0


def test_where_no_older_pack_had_an_answer_nothing_is_put_in_its_place(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(SPOILT["missing"]))

    ask(luna, ROWS[:3], cache="refresh")

    assert pllm.cache.info().entries == 4, "the whole reply, two rows out of it, and the one asked alone"


def test_a_refreshed_row_that_has_no_new_answer_keeps_its_old_one(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    ask(luna, ROWS[:3])
    sim.set(answers=answering(SPOILT["missing"], lambda name: SimAnswer.status(500)))

    fresh = ask(luna, ROWS[:3], cache="refresh", max_retries=0)
    again = ask(luna, ROWS[:3])

    assert fresh.llm.status.tolist() == ["ok", "failed", "ok"]
    assert right(again)


def test_only_sends_no_pack(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering(SPOILT["missing"]))
    ask(luna, ROWS[:3])
    sim.reset()

    out = ask(luna, cache="only")

    assert out.llm.status.tolist() == ["cached"] * 3 + ["failed"] * 4
    assert sim.stats().requests == 0


# Money.


def paid(sim: Simulator) -> float:
    """What the provider would charge for all that it answered."""
    stats = sim.stats()
    usage = genai_prices.Usage(input_tokens=stats.input_tokens, output_tokens=stats.output_tokens)
    return float(genai_prices.calc_price(usage, OPENAI.name, provider_id=OPENAI.priced).total_price)


def test_shares_of_tokens_and_cost_add_up(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=answering())

    out = ask(hosted.model)

    usage, stats = out.llm.usage, sim.stats()
    assert usage["input_tokens"].sum() == stats.input_tokens
    assert usage["output_tokens"].sum() == stats.output_tokens
    assert usage["cost_usd"].sum() == pytest.approx(out.llm.run.cost, rel=1e-12)
    assert usage["cost_usd"].gt(0).all()
    assert pllm.cache.info().cost_usd == pytest.approx(out.llm.run.cost, rel=1e-12)


@pytest.mark.sample(4)
@pytest.mark.parametrize("budget", [0.0, 0.002, 0.004, 0.01])
@pytest.mark.parametrize("left_out", [0, 1, 20])
def test_a_ceiling_is_never_passed(luna: str, sim: Simulator, budget: float, left_out: int) -> None:
    def answer(request: SimRequest) -> Any:
        items = items_of(request.prompt)
        if items is None:
            return "y" * 380
        return {"answers": [{"index": one["index"], "answer": "y" * 380} for one in items[left_out:]]}

    sim.set(answers=answer, latency_s=0.002)
    rows = [f"{n:03d}" for n in range(100)]
    limits = {"max_cost_usd": budget, "max_output_tokens": 100}

    run = words(*rows).llm.submit_text("Measure {text}", model=luna, pack=20, **limits)
    run.wait()

    assert paid(sim) <= budget
    assert run.cost == pytest.approx(paid(sim), rel=1e-9)


def test_a_packs_limit_is_that_of_all_its_rows_and_a_margin(hosted: Side, sim: Simulator) -> None:
    sim.set(answers=answering())

    ask(hosted.model, ROWS[:3], max_output_tokens=100)

    (request,) = sim.requests()
    body = request["body"]
    limits = {**body, **body.get("generationConfig", {})}
    names = ("max_completion_tokens", "max_output_tokens", "max_tokens", "maxOutputTokens")
    assert 300 < next(limits[name] for name in names if name in limits) <= 400


def test_an_estimate_counts_packs_and_what_they_share_once(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())
    frame, prompt = words(*ROWS), "Measure {text}\n" + "Be exact. " * 200

    one, packed = (frame.llm.estimate(Tree, prompt, model=luna, pack=pack) for pack in (None, 7))
    frame.head(3).llm.parse(Tree, prompt, model=luna, pack=7)
    rest = frame.llm.estimate(Tree, prompt, model=luna, pack=7)

    assert (one.calls, packed.calls, rest.calls, rest.cached) == (7, 1, 1, 3)
    assert packed.input_tokens < one.input_tokens / 4
    assert packed.output_tokens == one.output_tokens
    assert packed.cost_usd is not None
    assert one.cost_usd is not None
    assert packed.cost_usd < one.cost_usd


# Looking closer.


def test_explain_shows_the_pack_and_its_whole_reply(side: Side, sim: Simulator) -> None:
    sim.set(answers=answering(SPOILT["missing"]))

    run = ask(side.model, ROWS[:3]).llm.run
    packed, other, alone = run.explain(0), run.explain(2), run.explain(1)

    assert packed.pack == other.pack == 3
    assert packed.pack_id == other.pack_id != ""
    assert packed.key != other.key
    assert packed.reply == other.reply
    assert "alder" in str(packed.reply)
    assert "cedar" in str(packed.reply)
    assert f"one of up to 3 rows in call {packed.pack_id}" in repr(packed)
    assert "Items:" in str(packed.body)
    assert (alone.pack, alone.pack_id) == (None, "")
    assert "beech" in str(alone.reply)
    assert "Items:" not in str(alone.body)


def test_without_a_cache_a_packs_reply_is_shown_all_the_same(luna: str, sim: Simulator) -> None:
    sim.set(answers=answering())

    out = ask(luna, cache="off")

    assert right(out)
    assert "alder" in str(out.llm.explain(1).reply)


def test_the_simulator_answers_every_item_of_a_pack(side: Side, sim: Simulator) -> None:
    out = ask(side.model)

    assert out.llm.status.tolist() == ["ok"] * 7
    assert sizes(sim) == [1, 3, 3]

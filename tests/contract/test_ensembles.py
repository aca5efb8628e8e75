"""Several answers to each row, and one decision, over the wire."""

from __future__ import annotations

import json
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, model_validator

import pllm_notebook as pllm
from pllm_notebook.exceptions import ProviderRejectedError, RowError, UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.formatting import format_usd
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.scripts import words
from tests.contract.sides import ANTHROPIC, GOOGLE, Side, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*rows failed")


class Mood(BaseModel):
    """The mood of a text."""

    mood: Literal["good", "bad", "mixed"]
    score: int


def judging(request: SimRequest) -> bool:
    return '"candidates"' in request.messages[0][1]  # also in a repair turn


def ballot(request: SimRequest) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(request.prompt)
    return shown


def verdict(answer: Any, marks: int = 7) -> SimAnswer:
    scores = dict.fromkeys(("accuracy", "completeness", "relevance", "quality", "consistency"), marks)
    return SimAnswer.value({"scores": [{"candidate": 1} | scores], "answer": answer})


class Sampled:
    """Give each prompt's n-th request its n-th mood, and a judge's requests to *judge*."""

    def __init__(self, *moods: Any, judge: Callable[[SimRequest], Any] | None = None) -> None:
        self._moods = moods
        self._judge = judge
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.judged: list[SimRequest] = []

    def __call__(self, request: SimRequest) -> Any:
        if judging(request):
            self.judged.append(request)
            assert self._judge is not None, "nobody should have been asked to judge"
            return self._judge(request)
        with self._lock:
            nth = self._asked[request.prompt]
            self._asked[request.prompt] += 1
        answer = self._moods[nth % len(self._moods)]
        return answer if isinstance(answer, SimAnswer) else SimAnswer.value({"mood": answer, "score": 3})


def ask(model: str | None, frame: pd.DataFrame | None = None, **options: Any) -> pd.DataFrame:
    frame = words("one", "two") if frame is None else frame
    out: pd.DataFrame = frame.llm.parse(Mood, "How is {text}?", model=model, **options)
    return out


def test_every_provider_gives_samples_and_a_judge_decides(side: Side, sim: Simulator) -> None:
    answers = Sampled("good", "bad", "mixed", judge=lambda request: verdict({"mood": "mixed", "score": 5}))
    sim.set(answers=answers)

    out = ask(side.model, samples=3, decide="judge")

    assert out["mood"].tolist() == ["mixed", "mixed"]
    assert out["score"].tolist() == [5, 5]
    assert len(answers.judged) == 2
    assert sim.stats().requests == 8


def test_a_majority_needs_no_further_call(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", "good"))

    out = ask(luna, samples=3)

    assert out["mood"].tolist() == ["good", "good"]
    assert sim.stats().requests == 6


def test_more_samples_pay_for_the_new_ones_alone_and_the_first_is_the_plain_call(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good"))
    requests = []

    for samples in (1, 3, 5, 5):
        ask(luna, samples=samples)
        requests.append(sim.stats().requests)

    assert requests == [2, 6, 10, 10]


def test_one_prompt_asked_three_times_is_never_one_answer_three_times(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", "mixed"))

    samples = ask(luna, samples=3).llm.samples

    assert sorted(samples[samples["position"] == 0]["mood"]) == ["bad", "good", "mixed"]


def test_a_model_that_is_named_twice_gives_two_answers(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad"))

    ask(luna, models=[luna, luna])

    assert sim.stats().requests == 4


def test_the_judge_is_asked_where_answers_differ_and_nowhere_else(luna: str, sim: Simulator) -> None:
    def answer(request: SimRequest) -> Any:
        if judging(request):
            return verdict({"mood": "bad", "score": 1})
        return SimAnswer.value({"mood": "good", "score": request.index if "odd" in request.prompt else 3})

    sim.set(answers=answer)
    frame = words(*(f"{'odd' if n % 10 == 0 else 'even'} {n}" for n in range(50)))

    out = ask(luna, frame, samples=2, decide="judge")

    run = out.llm.run
    assert live_of(run).execution.decider.judged == 5
    assert sim.stats().requests == 105
    assert run.progress().note == "judge called on 5 of 50"
    assert (out["mood"] == "bad").tolist() == [n % 10 == 0 for n in range(50)]


def test_a_judge_sees_the_question_and_each_answer_without_a_model_s_name(luna: str, sim: Simulator) -> None:
    answers = Sampled("good", "bad", "good", judge=lambda request: verdict({"mood": "good", "score": 3}))
    sim.set(answers=answers)

    ask(luna, words("one"), samples=3, decide="judge", system="Be strict.")

    (request,) = answers.judged
    shown = ballot(request)
    assert shown["instruction"] == "Be strict."
    assert shown["question"] == "How is one?"
    assert {(each["answer"]["mood"], each["given"]) for each in shown["candidates"]} == {("good", 2), ("bad", 1)}
    assert "gpt" not in request.prompt
    assert "accuracy" in request.system


def test_the_same_decision_is_the_same_call_whichever_sample_came_first(luna: str, sim: Simulator) -> None:
    def judge(request: SimRequest) -> Any:
        return verdict({"mood": "good", "score": 3})

    first = Sampled("good", "bad", judge=judge)
    sim.set(answers=first)
    ask(luna, words("one"), samples=2, decide="judge", cache="refresh")
    second = Sampled("bad", "good", judge=judge)
    sim.set(answers=second)
    ask(luna, words("one"), samples=2, decide="judge", cache="refresh")

    assert first.judged[0].prompt == second.judged[0].prompt


def test_a_rerun_sends_nothing_whatever_decided(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", "mixed", judge=lambda request: verdict({"mood": "good", "score": 3})))
    first = ask(luna, samples=3, decide="judge")
    sent = sim.stats().requests

    again = ask(luna, samples=3, decide="judge")

    assert sim.stats().requests == sent
    pd.testing.assert_frame_equal(first, again)
    assert again.llm.status.tolist() == ["cached", "cached"]


def test_of_three_samples_one_may_fail(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled(SimAnswer.refusal(), "bad", "bad"))

    out = ask(luna, samples=3, decide="judge")

    assert out["mood"].tolist() == ["bad", "bad"]
    assert len(out.llm.errors) == 0
    assert out.llm.samples["failure"].notna().sum() == 2


def test_a_row_with_one_answer_needs_no_judge(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled(SimAnswer.refusal(), "bad", SimAnswer.refusal()))

    out = ask(luna, samples=3, decide="judge")

    assert out["mood"].tolist() == ["bad", "bad"]
    assert set(out.llm.samples["decided"]) == {"only"}


def test_a_row_whose_samples_all_fail_is_one_failure_that_names_them(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled(SimAnswer.refusal()))

    errors = ask(luna, samples=3).llm.errors

    assert errors["kind"].tolist() == ["refusal", "refusal"]
    assert errors["message"][0].startswith("All 3 answers failed: refusal (3). For example: The model refused")
    assert errors["attempts"].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("given", "trouble"),
    [
        (SimAnswer.refusal(), "refusal"),
        (SimAnswer.truncated('{"scores": ['), "truncated"),
        (SimAnswer.text('{"winner": 1}'), "schema"),
        (SimAnswer.text("Candidate 1 is best."), "invalid_json"),
        (SimAnswer.status(400), "bad_request"),
        (SimAnswer.hang(), "timeout"),
    ],
    ids=["refuses", "truncated", "other-format", "prose", "rejected", "hangs"],
)
def test_a_judge_that_fails_leaves_the_majority_and_a_warning(
    luna: str, sim: Simulator, given: SimAnswer, trouble: str
) -> None:
    sim.set(answers=Sampled("good", "bad", "bad", judge=lambda request: given))

    with pytest.warns(UserWarning, match=f"The judge failed on 2 of 2 calls.*{trouble}"):
        # The samples have to be answered within it as well.
        out = ask(luna, samples=3, decide="judge", timeout_s=8.0 if trouble == "timeout" else 60.0, max_retries=0)

    assert out["mood"].tolist() == ["bad", "bad"]
    assert set(out.llm.samples["decided"]) == {"fallback"}
    assert len(out.llm.errors) == 0


def test_a_judge_whose_key_is_refused_ends_the_run_and_the_samples_are_kept(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)
    sim.set(answers=Sampled("good", "bad", judge=lambda request: SimAnswer.status(401)))

    with pytest.raises(ProviderRejectedError, match="anthropic"):
        ask(luna, samples=2, judge=ANTHROPIC.model)
    sent = sim.stats().requests
    ask(luna, samples=2)

    assert sim.stats().requests == sent


def test_a_missing_judge_s_key_is_told_before_anything_is_sent(luna: str, sim: Simulator) -> None:
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
        ask(luna, samples=2, judge=ANTHROPIC.model)

    assert sim.stats().requests == 0


def test_models_of_different_providers_answer_side_by_side(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)
    reach(GOOGLE, sim, monkeypatch)
    moods = {"openai": "good", "anthropic": "bad", "google": "bad"}
    sim.set(answers=lambda request: SimAnswer.value({"mood": moods[request.provider], "score": 1}))

    out = ask(None, models=[luna, ANTHROPIC.model, GOOGLE.model], agreement_column="sure")

    assert out["mood"].tolist() == ["bad", "bad"]
    assert out["sure"].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert out.llm.samples["model"].tolist()[:3] == [luna, ANTHROPIC.model, GOOGLE.model]
    assert out.llm.samples["chosen"].tolist()[:3] == [False, True, False]


def test_the_stronger_model_is_asked_for_rows_that_differ_alone(
    luna: str, sim: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(ANTHROPIC, sim, monkeypatch)

    def answer(request: SimRequest) -> Any:
        if request.provider == "anthropic":
            return SimAnswer.value({"mood": "mixed", "score": 9})
        return SimAnswer.value({"mood": "good", "score": request.index if "one" in request.prompt else 3})

    sim.set(answers=answer)

    out = ask(luna, samples=3, decide="escalate", judge=ANTHROPIC.model)

    assert out["mood"].tolist() == ["mixed", "good"]
    assert sim.stats().requests == 7
    assert out.llm.samples["decided"].tolist() == ["escalated"] * 3 + ["agreed"] * 3
    run = out.llm.run
    strong = live_of(run).execution.queues[-1].spent.cost_usd
    alone = f"about {format_usd(2 * strong)} for it alone"
    assert run.progress().note == (f"{ANTHROPIC.model} called on 1 of 2: {format_usd(run.cost)} instead of {alone}")


def test_a_function_decides_and_one_that_raises_fails_its_row(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad"))

    def lowest(answers: list[Mood]) -> Mood:
        return min(answers, key=lambda answer: answer.mood)

    out = ask(luna, samples=2, decide=lowest)
    broken = ask(luna, samples=2, decide=lambda answers: 1 / 0)

    assert out["mood"].tolist() == ["bad", "bad"]
    assert broken.llm.errors["kind"].tolist() == ["decision", "decision"]
    assert "ZeroDivisionError" in broken.llm.errors["message"][0]
    other = ask(luna, samples=2, decide=lambda answers: {"stars": 3})
    assert "it returned {'stars': 3}, which is not an answer of the requested type" in other.llm.errors["message"][0]


def test_a_mixture_that_the_type_refuses_gives_way_to_the_most_common_whole_answer(luna: str, sim: Simulator) -> None:
    class Span(BaseModel):
        low: int
        high: int

        @model_validator(mode="after")
        def ordered(self) -> Span:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    given = [(1, 2), (5, 9), (5, 7), (1, 2), (0, 2)]
    values = iter(given)
    sim.set(answers=lambda request: SimAnswer.value(dict(zip(("low", "high"), next(values), strict=True))), latency_s=0)

    out = words("one").llm.parse(Span, "{text}", model=luna, samples=5, concurrency=1, decide=pllm.Vote())

    assert (out["low"][0], out["high"][0]) == (1, 2)


def test_agreement_is_counted_field_by_field(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", "good", "good"))

    agreement = ask(luna, words("one"), samples=4).llm.agreement

    assert agreement.iloc[0].to_dict() == {"mood": 0.75, "score": 1.0, "whole_answer": 0.75}


def test_a_ceiling_holds_for_all_samples_and_the_judge_together(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", judge=lambda request: verdict({"mood": "bad", "score": 1})))
    frame = words(*(f"{n} " + "x" * 500 for n in range(40)))

    run = frame.llm.submit(
        Mood, "{text}", model=luna, samples=3, decide="judge", max_cost_usd=0.001, max_output_tokens=60
    )
    run.wait()

    assert 0.0008 < (run.cost or 0) <= 0.001
    assert run.progress().done + run.progress().not_sent == 40
    assert run.progress().not_sent > 0


def test_a_ceiling_that_suffices_for_all_is_no_hindrance(luna: str, sim: Simulator) -> None:
    # Reservations of one sample's calls must not make another give up: they are freed when the calls end.
    sim.set(answers=Sampled("good"), latency_s=0.02)
    frame = words(*map(str, range(30)))
    cost = ask(luna, frame, samples=3, salt="measured", max_output_tokens=400).llm.run.cost
    one_call = 0.0003

    run = ask(luna, frame, samples=3, max_output_tokens=400, max_cost_usd=cost + one_call).llm.run

    assert run.progress().failed == 0


def test_the_first_failed_row_ends_the_run_where_that_is_asked(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled(SimAnswer.refusal()))

    with pytest.raises(RowError, match="refusal"):
        ask(luna, samples=2, errors="raise")


def test_a_row_that_cannot_be_sent_ends_the_run_too_where_that_is_asked(luna: str, sim: Simulator) -> None:
    with pytest.raises(RowError, match="surrogate"):
        ask(luna, words("fine", "half \ud83d"), samples=2, errors="raise")

    assert sim.stats().requests == 0


def test_one_call_at_a_time_in_sync_mode(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good", "bad", judge=lambda request: verdict({"mood": "bad", "score": 1})), latency_s=0.01)

    out = ask(luna, samples=2, decide="judge", mode="sync")

    assert out["mood"].tolist() == ["bad", "bad"]
    assert sim.stats().peak_in_flight == 1


def test_a_cancelled_judgement_loses_no_sample_and_the_next_run_goes_on(luna: str, sim: Simulator) -> None:
    stalled = Sampled("good", "bad", judge=lambda request: SimAnswer.hang())
    sim.set(answers=stalled, latency_s=0)
    run = words("one", "two").llm.submit(Mood, "How is {text}?", model=luna, samples=2, decide="judge")
    while not stalled.judged:
        live_of(run)._end.ended.wait(0.01)

    run.cancel()
    run.wait()

    assert run.state == "cancelled"
    assert run.to_frame()["mood"].isna().all()
    sent = sim.stats().requests
    sim.set(answers=Sampled("mixed", judge=lambda request: verdict({"mood": "bad", "score": 1})))
    assert ask(luna, samples=2, decide="judge")["mood"].tolist() == ["bad", "bad"]
    assert sim.stats().requests == sent + 2


def test_a_cancelled_run_can_be_retried(luna: str, sim: Simulator) -> None:
    stalled = Sampled("good", "bad", judge=lambda request: SimAnswer.hang())
    sim.set(answers=stalled, latency_s=0)
    run = words("one", "two").llm.submit(Mood, "How is {text}?", model=luna, samples=2, decide="judge")
    while not stalled.judged:
        live_of(run)._end.ended.wait(0.01)
    run.cancel()
    run.wait()
    sent = sim.stats().requests
    sim.set(answers=Sampled("mixed", judge=lambda request: verdict({"mood": "bad", "score": 1})))

    out = run.retry().result()

    assert out["mood"].tolist() == ["bad", "bad"]
    assert sim.stats().requests == sent + 2


def test_retry_asks_again_for_rows_without_an_answer_alone(luna: str, sim: Simulator) -> None:
    sim.set(
        answers=lambda request: SimAnswer.status(500) if "two" in request.prompt else '{"mood": "good", "score": 1}'
    )
    run = words("one", "two").llm.submit(Mood, "{text}", model=luna, samples=3, max_retries=0)
    run.wait()
    sent = sim.stats().requests
    sim.set(answers=Sampled("bad"))

    out = run.retry().result()

    assert out["mood"].tolist() == ["good", "bad"]
    assert sim.stats().requests == sent + 3


def test_several_samples_at_temperature_zero_are_said_to_be_pointless(luna: str, sim: Simulator) -> None:
    sim.set(answers=Sampled("good"))

    with pytest.warns(UserWarning, match="temperature 0") as told:
        ask(luna, samples=3, temperature=0)

    assert len(told) == 1


def test_packed_rows_have_samples_too(luna: str, sim: Simulator) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = ask(luna, words(*map(str, range(10))), samples=2, pack=5)

    assert out["mood"].notna().all()
    assert sim.stats().requests == 4


def test_plain_text_is_decided_too(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: verdict("C") if judging(request) else ("A", "B")[request.index % 2])

    out = words("one").llm.complete("{text}", model=luna, samples=2, decide="judge")

    assert out["answer"].tolist() == ["C"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"decide": "judge"}, "decide= is for several answers"),
        ({"judge": "sim:openai"}, "judge= is for several answers"),
        ({"samples": 2, "decide": "vote", "judge": "sim:openai"}, "judge= is used only with"),
        ({"samples": 2, "decide": "escalate"}, "needs a stronger model"),
        ({"samples": 2, "decide": 3}, "not 3"),
        ({"samples": 0}, "at least 1"),
        ({"models": "openai:gpt"}, "models is a list"),
        ({"samples": 2, "agreement_column": "mood"}, "mood"),
        ({"samples": 2, "decide": pllm.Vote(fields={"mod": "median"})}, "Did you mean 'mood'"),
    ],
)
def test_what_cannot_be_decided_is_told_before_anything_is_sent(
    luna: str, sim: Simulator, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        ask(luna, **options)

    assert sim.stats().requests == 0


def test_answers_that_stand_in_columns_are_decided_and_equal_ones_need_no_call(luna: str, sim: Simulator) -> None:
    sim.set(answers=lambda request: verdict("north" if "1" in ballot(request)["question"] else "new"))
    frame = pd.DataFrame(
        {"q": ["q0", "q1", "q2", "q3"], "a": ["up", "north", "x", None], "b": ["up", "south", "y", None]}
    )

    out = frame.llm.decide(["a", "b"], "Where is {q}?", model=luna)

    assert out["decision"].fillna("").tolist() == ["up", "north", "new", ""]
    assert out["decision_from"].fillna("").tolist() == ["a", "a", "", ""]
    assert sim.stats().requests == 2

"""Low-cost answers with a promise, end to end over HTTP: what is sent, what is kept, and whether it is true."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.execution import run_registry
from pllm_notebook.formatting import format_usd
from pllm_notebook.sim import SimAnswer, SimRequest, Simulator
from tests.contract.two_models import CHEAP, MOODS, PROMPT, STRONG, Review, TwoModels, ask, frame, options, unit


def test_few_rows_keep_an_answer_that_differs_and_most_rows_cost_less(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    df = frame(600)

    out = ask(df)

    found = out.llm.guarantee
    strong = [models.strong(text)["mood"] for text in df["text"]]
    by_cheap = found.answered_by == CHEAP
    assert found.proved
    assert ((out["mood"].astype(str) != strong) & by_cheap).sum() <= 30
    assert (out["mood"].astype(str) == strong)[~by_cheap].all()
    assert found.rows_by_model == {CHEAP: by_cheap.sum(), STRONG: (~by_cheap).sum()}
    assert sim.stats().answered == 600 + (~by_cheap).sum()
    assert by_cheap.sum() > 250


def test_the_same_call_again_sends_nothing_and_says_the_same(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(400)
    first = ask(df)
    requests, said = sim.stats().requests, repr(first.llm.guarantee)

    again = ask(df)

    assert sim.stats().requests == requests
    assert repr(again.llm.guarantee) == said
    pd.testing.assert_frame_equal(again, first)


def test_a_later_kernel_has_the_promise_and_the_models(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    out = ask(frame(300))
    said, models = repr(out.llm.guarantee), out.llm.guarantee.answered_by
    sure = out.llm.confidence
    run_registry.forget_all()

    found = out.llm.guarantee

    assert repr(found) == said
    pd.testing.assert_series_equal(found.answered_by, models)
    pd.testing.assert_frame_equal(pllm.run(out.attrs["pllm_run"]).to_frame(), out[["mood", "fits", "note"]])
    pd.testing.assert_frame_equal(out.llm.confidence, sure)
    assert sure["mood"].isna().equals(models == STRONG)


@pytest.mark.sample(1)
@pytest.mark.parametrize("effort", [None, "high"])
def test_the_strong_model_is_asked_a_plain_question(luna: str, sim: Simulator, effort: str | None) -> None:
    TwoModels(sim)
    df = frame(300)
    df.llm.parse(Review, PROMPT, model=STRONG, effort=effort or "none")
    requests = sim.stats().requests

    out = ask(df, judge_effort=effort)
    assert sim.stats().requests == requests + 300, "every strong answer was there"
    by_cheap = out.llm.guarantee.answered_by == CHEAP

    assert by_cheap.any()
    assert (out["note"] == "cheap").tolist() == by_cheap.tolist(), "what is known outside of the sample changes no row"


@pytest.mark.sample(1)
@pytest.mark.parametrize("copies", [1, 5])
def test_a_promise_is_about_rows_and_copies_share_their_calls(luna: str, sim: Simulator, copies: int) -> None:
    models = TwoModels(sim)
    df = frame(600, copies)

    out = ask(df)

    strong = [models.strong(text)["mood"] for text in df["text"]]
    assert (out["mood"].astype(str) != strong).sum() <= 30
    assert out.llm.guarantee.figures.rows == 600
    assert sum(out.llm.guarantee.rows_by_model.values()) == 600
    assert sim.stats().answered <= 2 * 600 / copies


def test_where_the_cheap_model_is_hopeless_the_strong_one_answers_every_row(luna: str, sim: Simulator) -> None:
    TwoModels(sim, unsure=1, wrong=0.6)
    df = frame(200)

    with pytest.warns(UserWarning, match="bad too often to promise 5 %"):
        out = ask(df)

    found = out.llm.guarantee
    assert not found.proved
    assert found.threshold is None
    assert found.rows_by_model == {CHEAP: 0, STRONG: 200}
    assert set(out["note"]) == {"strong"}
    assert found.saving_usd < 0


def test_a_table_that_is_too_small_for_a_sample_says_so(luna: str, sim: Simulator) -> None:
    TwoModels(sim)

    with pytest.warns(UserWarning, match="10 rows are too few to prove anything by a sample"):
        out = ask(frame(10))

    assert set(out["note"]) == {"strong"}


def test_samples_give_a_confidence_to_a_model_without_token_probabilities(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)

    def answer(request: SimRequest) -> SimAnswer:
        text = models.text(request)
        if STRONG.endswith(request.model):
            return SimAnswer.value(models.strong(text))
        value = models.strong(text)
        if models.is_unsure(text):
            with lock:
                value = value | {"mood": MOODS[asked[text] % 3]}
                asked[text] += 1
        return SimAnswer.value(value)

    lock = threading.Lock()
    asked: Counter[str] = Counter()
    sim.set(answers=answer)
    df = frame(300)

    out = ask(df, samples=3)

    found = out.llm.guarantee
    assert found.proved
    assert found.figures.source == "samples"
    strong = [models.strong(text)["mood"] for text in df["text"]]
    assert (out["mood"].astype(str) == strong).all(), "where all three agree they are right here"
    assert found.threshold == 1


def test_an_estimate_says_what_it_may_save_and_what_it_costs_without(luna: str, sim: Simulator) -> None:
    TwoModels(sim)

    found = frame(1_000).llm.estimate(Review, PROMPT, **options())
    alone = frame(1_000).llm.estimate(Review, PROMPT, effort="none", model=STRONG)

    assert sim.stats().requests == 0
    assert found.strong == alone
    assert found.least_strong == 100
    assert "openai:gpt-6-sol on 100 to 1,000 rows" in repr(found)
    assert f"openai:gpt-6-sol alone {format_usd(alone.cost_usd)}" in repr(found)


def labelled(models: TwoModels, rows: int, strong_right: float) -> pd.DataFrame:
    """A frame with labels that the strong model agrees with so often; where it does not, the cheap one may."""
    df = frame(rows)
    df["mood_label"] = [
        models.strong(text)["mood"] if unit(text, "right") < strong_right else models.cheap(text)["mood"]
        for text in df["text"]
    ]
    return df


@pytest.mark.sample(1)
@pytest.mark.parametrize("as_series", [False, True])
def test_against_labels_the_accuracy_lost_is_what_is_promised(luna: str, sim: Simulator, as_series: bool) -> None:
    models = TwoModels(sim, unsure=0.3, sure_wrong=0.1)
    df = labelled(models, 400, strong_right=0.3)
    labels = df["mood_label"]

    out = ask(df, against={"mood": labels if as_series else "mood_label"})

    found = out.llm.guarantee
    strong = pd.Series([models.strong(text)["mood"] for text in df["text"]])
    own = out["mood"].astype(str)
    assert found.proved
    assert ((own != labels) & (strong == labels)).sum() <= 20
    assert found.rows_by_model[CHEAP] > ask(df).llm.guarantee.rows_by_model[CHEAP], "agreement asks for more"
    assert "is wrong where openai:gpt-6-sol's is right in `mood` (by 'mood_label') or differs" in found.promise
    assert "in `fits`" in found.promise


def test_rows_that_are_right_by_their_labels_are_not_asked_for_the_sample(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    df = labelled(models, 300, strong_right=1.0)
    df["fits_label"] = [models.strong(text)["fits"] for text in df["text"]]
    against = {"mood": "mood_label", "fits": "fits_label"}

    estimate = df.llm.estimate(Review, PROMPT, **options(against=against))
    out = ask(df, against=against)

    found = out.llm.guarantee
    strong = sim.stats().answered - 300
    assert found.proved
    assert (found.sampled, estimate.least_strong) == (100, 0)
    assert strong == found.rows_by_model[STRONG] < 100
    assert (out["mood"].astype(str) != df["mood_label"]).sum() <= 15


def test_labels_are_never_sent(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    prompts: list[str] = []

    def answer(request: SimRequest) -> SimAnswer:
        prompts.append(request.prompt)
        return models(request)

    sim.set(answers=answer)
    df = labelled(models, 8, 1.0).rename(columns={"mood_label": "mood_known"})

    with pytest.warns(UserWarning, match="too few"):
        df.llm.parse(Review, **options(against={"mood": "mood_known"}))
    with pytest.raises(UsageError, match="'mood_known' is sent to the model, and against= says"):
        df.llm.parse(Review, "What is {text}? {mood_known}", **options(against={"mood": "mood_known"}))

    assert prompts
    assert not any("mood_known" in prompt for prompt in prompts)


@pytest.mark.parametrize(
    ("against", "words"),
    [
        ("mood_label", "give against="),
        ({"tone": "mood_label"}, "names the field 'tone', and the promise is about"),
        ({"mood": "nothing"}, "against= names column 'nothing', but"),
        ({"mood": "other"}, "has no label of 'mood': none of 'other' is one of"),
        ({"mood": "empty"}, "has no label of 'mood': no row has a label"),
    ],
)
def test_labels_that_say_nothing_are_refused(luna: str, sim: Simulator, against: object, words: str) -> None:
    df = labelled(TwoModels(sim), 5, 1.0).assign(other="x", empty=None)

    with pytest.raises(UsageError, match=words):
        ask(df, against=against)

    assert sim.stats().requests == 0


def test_a_result_with_a_promise_has_the_views_of_every_other(luna: str, sim: Simulator) -> None:
    models = TwoModels(sim)
    df = labelled(models, 120, 1.0)

    out = ask(df, guarantee=0.9, confidence_column="sure", error_column="error")

    strong = out.llm.guarantee.answered_by == STRONG
    assert out["sure"].isna().tolist() == strong.tolist()
    samples = out.llm.samples
    assert samples["chosen"].tolist() == (~strong).tolist()
    assert samples["decided"].tolist() == ["escalated" if one else "only" for one in strong]
    assert out.llm.evaluate(against="mood_label", field="mood").accuracy > 0.9
    assert out.llm.usage["cost_usd"].sum() == pytest.approx(out.llm.run.cost)
    assert out.llm.explain(0).key
    assert f"rows by {CHEAP}, {strong.sum()} by {STRONG}" in out.llm.run.progress().note
    assert out.llm.guarantee.promise in repr(out.llm)
    report = out.llm.report()
    assert "at most 10 % of the 120 rows (12) keep an answer of" in report.html
    assert report.data["promises"][0]["promise"] == out.llm.guarantee.promise
    assert f"{STRONG} answered {strong.sum()} of 120 rows in place of {CHEAP}. With 95 %" in report.methods
    half = out.iloc[:50].llm.guarantee
    assert half.figures == out.llm.guarantee.figures
    assert half.answered_by.tolist() == out.llm.guarantee.answered_by[:50].tolist()
    out.loc[0, "mood"] = "good" if out.loc[0, "mood"] == "bad" else "bad"
    assert pd.isna(out.llm.guarantee.answered_by[0])


def test_a_row_s_explanation_is_of_the_model_whose_answer_it_has(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    out = ask(frame(120), guarantee=0.9)
    models = out.llm.guarantee.answered_by.tolist()

    for model, value in ((CHEAP, "cheap"), (STRONG, "strong")):
        explained = out.llm.explain(models.index(model))

        assert explained.model == model
        assert explained.body["model"] == explained.reply["model"] == model.removeprefix("openai:")
        assert explained.value.note == value
        assert f'"note":"{value}"' in explained.reply["choices"][0]["message"]["content"]
    assert explained.steps == (f"{CHEAP} answered", f"{STRONG} answered")
    keys = [out.llm.explain(models.index(model)).key for model in (CHEAP, STRONG)]
    run_registry.forget_all()  # and as a new kernel has it
    for model, key in zip((CHEAP, STRONG), keys, strict=True):
        explained = out.llm.explain(models.index(model))
        assert (explained.model, explained.key) == (model, key)
        assert explained.reply["model"] == model.removeprefix("openai:")


def test_a_run_without_a_promise_says_so(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    out = frame(3).llm.parse(Review, PROMPT, model=CHEAP)

    with pytest.raises(PllmError, match="This run promises nothing of its rows"):
        _ = out.llm.guarantee


def test_labels_of_no_field_are_refused_before_anything_is_sent(luna: str, sim: Simulator) -> None:
    with pytest.raises(UsageError, match=r"against=\{\} names no field. .*Nothing was sent"):
        ask(frame(120), against={})

    assert sim.stats().requests == 0


def test_a_preview_shows_the_strong_answers_and_what_all_rows_may_cost(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    with pytest.warns(UserWarning, match="3 rows are too few"):
        found = frame(150).llm.preview(Review, PROMPT, rows=3, **options())

    assert set(found.frame["note"]) == {"strong"}
    assert found.estimate.least_strong == 100


def test_rows_that_are_not_asked_are_no_part_of_the_promise(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    df = frame(160)
    df.loc[:59, "text"] = None

    out = ask(df, guarantee=0.9)

    assert out.llm.guarantee.figures.rows == 100
    assert out.llm.guarantee.figures.allowed == 10
    assert out["mood"].isna().sum() == 60


def test_it_is_awaited_as_any_other_and_a_column_alone_has_it(luna: str, sim: Simulator) -> None:
    TwoModels(sim)
    sim.set(answers=lambda request: SimAnswer.value({"value": True}, probabilities={"value": {"true": 0.9}}))
    df = frame(90)

    async def awaited() -> pd.DataFrame:
        return await df.llm.aparse(bool, PROMPT, **options(guarantee=0.9))

    out = asyncio.run(awaited())
    alone = df["text"].llm.parse(bool, "What is {value}?", **options(guarantee=0.9))

    assert out.llm.guarantee.proved
    assert alone.tolist() == out["answer"].tolist() == [True] * 90
    assert sim.stats().requests == 90 + out.llm.guarantee.rows_by_model[STRONG]

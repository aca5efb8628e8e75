"""What is the same for the batch jobs of all providers: their clock, what goes wrong with them, what they cost."""

from __future__ import annotations

import threading

import anthropic
import httpx2
import openai
import pytest
from google.genai import errors
from sim_asking import chat, generate, message
from sim_batching import AnthropicBatches, GoogleBatches, OpenAIBatches

from pllm_notebook.exceptions import UsageError
from pllm_notebook.sim import SimAnswer, Simulator

PROMPTS = {f"r{number}": f"prompt {number}" for number in range(20)}
RESET = (openai.APIConnectionError, anthropic.APIConnectionError, httpx2.TransportError)
REFUSED = (openai.InternalServerError, anthropic.InternalServerError, errors.ServerError)
RUNNING = {"in_progress", "JOB_STATE_RUNNING"}
ENDED = {"completed", "ended", "JOB_STATE_SUCCEEDED"}


def live(api, prompt):
    if isinstance(api, OpenAIBatches):
        return chat(api.client, prompt).choices[0].message.content
    if isinstance(api, AnthropicBatches):
        return message(api.client, prompt).content[0].text
    return generate(api.client, prompt).text


def test_a_line_is_answered_as_the_live_request_is(sim, api):
    sim.set(batch_s=0)
    job = api.submit(PROMPTS)

    told = api.results(job)

    assert told == {custom_id: live(api, prompt) for custom_id, prompt in PROMPTS.items()}
    assert list(told) != list(PROMPTS)


def test_results_keep_their_order_where_they_are_not_to_be_shuffled(sim, api):
    sim.set(batch_s=0, batch_shuffle=False)

    assert list(api.results(api.submit(PROMPTS))) == list(PROMPTS)


def test_the_answers_function_answers_lines_and_sees_that_they_are(sim, api):
    seen = []
    sim.set(batch_s=0, answers=lambda request: seen.append(request) or f"to {request.prompt}")

    told = api.results(api.submit(PROMPTS))

    assert told == {custom_id: f"to {prompt}" for custom_id, prompt in PROMPTS.items()}
    assert all(request.batch for request in seen)
    assert sorted(request.index for request in seen) == list(range(20))


def test_a_job_is_not_over_before_its_answers_are_there(sim, api):
    released = threading.Event()
    sim.set(batch_s=0, answers=lambda request: released.wait(60) and "late")

    job = api.submit({"a": "x", "b": "y"})

    assert api.state(job) not in ENDED
    released.set()
    assert api.results(job) == {"a": "late", "b": "late"}


def test_a_job_moves_with_its_clock_and_lines_are_paid_when_they_are_due(sim, api):
    sim.set(batch_s=100)
    job = api.submit(PROMPTS)
    sim.advance(50)

    halfway = api.state(job), sim.stats().batch_lines
    sim.advance(50)

    assert halfway[0] in RUNNING
    assert halfway[1] == 10
    assert api.state(job) in ENDED
    assert sim.stats().batch_lines == 20


def test_what_was_answered_live_and_in_a_batch_is_counted_as_paid_twice(sim, api):
    sim.set(batch_s=0)
    live(api, "prompt 3")
    api.submit(PROMPTS)
    once = sim.stats()
    api.submit({"other": "prompt 3", "again": "prompt 4"})

    twice = sim.stats()

    assert (once.answered, once.batch_lines, once.distinct, once.repeated) == (1, 20, 20, 1)
    assert (twice.answered, twice.batch_lines, twice.distinct, twice.repeated) == (1, 22, 20, 2)
    assert (twice.batch_jobs, twice.requests) == (2, 1)


def test_lines_fail_are_missing_and_unknown_in_the_numbers_asked_for(sim, api):
    sim.set(batch_s=0, batch_line_error=0.2, batch_missing=0.1, batch_unknown=1)
    told = api.results(api.submit(PROMPTS))

    failed = {custom_id for custom_id, text in told.items() if not str(text).startswith("SIMULATED")}
    missing = PROMPTS.keys() - told.keys()

    assert len(failed) == 4
    assert {told[custom_id] for custom_id in failed} <= {500, "overloaded_error", 14}
    assert len(missing) == 2
    assert told.keys() - PROMPTS.keys() == {"unknown-1"}
    assert sim.stats().batch_lines == 14
    sim.set(batch_line_error=0, batch_missing=0, batch_unknown=0)
    again = api.results(api.submit({custom_id: PROMPTS[custom_id] for custom_id in failed | missing}))
    assert len(again) == 6
    assert (sim.stats().distinct, sim.stats().repeated) == (20, 0)


def test_a_line_that_is_submitted_again_may_fare_better(sim, api):
    sim.set(batch_s=0, batch_line_error=0.5)

    first, second = api.results(api.submit(PROMPTS)), api.results(api.submit(PROMPTS))
    sim.set(faults_by="prompt")
    third, fourth = api.results(api.submit(PROMPTS)), api.results(api.submit(PROMPTS))

    assert first != second
    assert third == fourth


def test_a_job_whose_creation_was_not_told_is_there_and_is_paid(sim, api):
    sim.set(batch_s=0, batch_create_lost=1)

    with pytest.raises(RESET):
        api.submit(PROMPTS)
    told = api.submit({"a": "x"})

    assert len(api.listed()) == 2
    assert api.listed()[0] == told
    assert (sim.stats().batch_jobs, sim.stats().batch_lines) == (2, 21)


def test_a_job_refused_with_an_internal_error_is_not_there(sim, api):
    sim.set(batch_create_500=1)

    with pytest.raises(REFUSED):
        api.submit(PROMPTS)

    assert api.listed() == []
    assert api.submit(PROMPTS)
    assert sim.stats().batch_jobs == 1
    sim.set(batch_create_500=1)
    with pytest.raises(REFUSED):
        api.submit(PROMPTS)


def test_a_share_below_one_strikes_that_share_of_all_jobs(sim, api):
    sim.set(batch_create_500=0.5)
    refused = 0

    for number in range(30):
        try:
            api.submit({"a": f"prompt {number}"})
        except REFUSED:
            refused += 1

    assert 5 < refused < 25


def test_a_job_is_listed_late_and_found_by_its_id_at_once(sim, api):
    sim.set(batch_s=0, batch_lag_s=600)
    job = api.submit(PROMPTS)

    assert api.listed() == []
    assert api.state(job) in ENDED
    sim.advance(600)
    assert api.listed() == [job]


def test_lists_are_paged_newest_first(sim, api):
    jobs = [api.submit({"a": f"prompt {number}"}) for number in range(5)]

    assert api.listed() == jobs[::-1]


def test_a_cancelled_job_does_no_more_work(sim, api):
    sim.set(batch_s=100)
    job = api.submit(PROMPTS)
    sim.advance(25)
    api.cancel(job)
    sim.advance(1000)

    told = api.results(job)

    assert api.state(job) in {"cancelled", "ended", "JOB_STATE_CANCELLED"}
    assert sim.stats().batch_lines == 5
    if isinstance(api, GoogleBatches):
        assert told == {}
    else:
        assert sum(text in ("batch_cancelled", "canceled") for text in told.values()) == 15
        assert len(told) == 20


def test_cancelling_takes_as_long_as_it_is_to_take(sim, api):
    sim.set(batch_s=100, batch_cancel_s=30)
    job = api.submit(PROMPTS)
    api.cancel(job)

    assert api.state(job) in {"cancelling", "canceling", "JOB_STATE_RUNNING"}
    sim.advance(30)
    assert api.state(job) in {"cancelled", "ended", "JOB_STATE_CANCELLED"}


def test_a_job_that_takes_longer_than_its_window_expires(sim, api):
    sim.set(batch_s=10 * 86_400)
    job = api.submit(PROMPTS)
    sim.advance(3 * 86_400)

    state = api.state(job)

    assert state in {"expired", "ended", "JOB_STATE_EXPIRED"}
    told = api.results(job)
    assert sum(text in ("batch_expired", "expired") for text in told.values()) == (
        0 if isinstance(api, GoogleBatches) else 18
    )


def test_the_models_own_faults_meet_lines_and_those_of_the_way_do_not(sim, api):
    sim.set(batch_s=0, truncation=1.0)
    cut = api.results(api.submit({"a": "x"}))
    sim.set(truncation=0, reset=1.0)

    whole = api.results(api.submit({"a": "x"}))

    assert whole["a"].startswith(cut["a"])
    assert len(whole["a"]) > len(cut["a"])
    assert sim.stats().faults == {"truncation": 1}


def test_a_scripted_status_is_that_lines_error(sim, api):
    sim.set(batch_s=0, answers=lambda request: SimAnswer.status(429) if request.prompt == "x" else "fine")

    told = api.results(api.submit({"a": "x", "b": "y"}))

    assert told["a"] in (429, "rate_limit_error", 8)
    assert told["b"] == "fine"


def test_reset_forgets_jobs_and_puts_the_clock_right(sim, api):
    sim.set(batch_s=100)
    api.submit(PROMPTS)
    sim.advance(50)

    sim.reset()

    assert api.listed() == []
    assert sim.stats().batch_jobs == 0
    api.submit(PROMPTS)
    assert sim.stats().batch_lines == 0


def test_work_on_a_forgotten_job_counts_for_nothing(sim, api):
    released = threading.Event()
    sim.set(batch_s=0, answers=lambda request: released.wait(60) and "late")
    assert api.state(api.submit(PROMPTS)) not in ENDED

    sim.reset()
    released.set()

    assert api.results(api.submit({"a": "x"})) == {"a": "late"}
    assert sim.stats().batch_lines == 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"batch_line_error": 0.6, "batch_missing": 0.6}, "batch_line_error, batch_missing, batch_expire together"),
        ({"batch_create_lost": 1.5}, "sim: batch_create_lost is a share below 1 or a whole number of jobs, not 1.5."),
        ({"batch_expire": 2}, "sim: batch_expire is a number from 0 to 1, not 2."),
        ({"batch_shuffle": 1}, "sim: batch_shuffle is True or False, not 1."),
        ({"batch_most_lines": 0}, "sim: batch_most_lines is a whole number above 0 or None, not 0."),
    ],
)
def test_a_batch_option_outside_its_range_is_refused(values, words):
    with pytest.raises(UsageError, match=words.replace(".", r"\.")):
        Simulator(**values)


def test_the_clock_does_not_run_backwards(sim):
    with pytest.raises(UsageError, match="moved forward"):
        sim.advance(-1)

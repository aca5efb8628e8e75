"""Anthropic's message batches through its SDK: exactly its types, its states, its refusals."""

from __future__ import annotations

import anthropic
import orjson
import pytest
from anthropic.types import Message
from anthropic.types.messages import DeletedMessageBatch, MessageBatch, MessageBatchIndividualResponse
from sim_asking import SCHEMA, message
from sim_batching import AnthropicBatches
from sim_strictly import check


@pytest.fixture
def api(claude):
    return AnthropicBatches(claude)


def params(prompt="x", **more):
    words = {"model": "claude-haiku-5-5", "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}]}
    return {**words, **more}


def request(custom_id="a", **more):
    return {"custom_id": custom_id, "params": params(**more)}


def create(api, *requests):
    return api.client.messages.batches.create(requests=list(requests)).id


def test_every_state_is_of_the_sdks_type(sim, api):
    sim.set(batch_s=100, batch_cancel_s=10)
    job = create(api, request("a"), request("b", prompt="y"))
    raw = api.client.messages.batches.with_raw_response
    seen = []

    def look():
        body = orjson.loads(raw.retrieve(job).read())
        check(MessageBatch, body)
        seen.append((body["processing_status"], body["request_counts"]["processing"], bool(body["results_url"])))
        return body

    look()
    sim.advance(50)
    api.cancel(job)
    look()
    sim.advance(10)
    body = look()

    assert seen == [("in_progress", 2, False), ("canceling", 2, False), ("ended", 0, True)]
    assert body["request_counts"] == {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 1, "expired": 0}


def test_result_lines_are_of_the_sdks_type_and_priced_as_a_batch(sim, api):
    sim.set(batch_s=0)
    form = {"format": {"type": "json_schema", "schema": SCHEMA}}
    job = create(api, request("good", output_config=form), request("bad", wrong=1))

    raw = api.client.messages.batches.with_raw_response.results(job).http_response
    told = {}
    for one in raw.read().splitlines():
        value = orjson.loads(one)
        check(MessageBatchIndividualResponse, value)
        told[value["custom_id"]] = value["result"]

    check(Message, told["good"]["message"])
    assert told["good"]["message"]["usage"]["service_tier"] == "batch"
    assert orjson.loads(told["good"]["message"]["content"][0]["text"]).keys() == SCHEMA["properties"].keys()
    with pytest.raises(anthropic.BadRequestError) as live:
        message(api.client, "x", extra_body={"wrong": 1})
    assert told["bad"]["type"] == "errored"
    assert told["bad"]["error"]["error"] == live.value.body["error"]
    assert message(api.client, "x").usage.service_tier == "standard"


def test_lines_expire_one_by_one(sim, api):
    sim.set(batch_s=0, batch_expire=0.25)
    job = create(api, *[request(f"r{number}") for number in range(8)])

    assert api.state(job) == "ended"
    assert list(api.results(job).values()).count("expired") == 2


def test_a_batch_that_fails_fails_line_by_line(sim, api):
    sim.set(batch_s=0, batch_fail=1)
    job = create(api, request("a"), request("b"))

    assert api.results(job) == {"a": "invalid_request_error", "b": "invalid_request_error"}
    assert sim.stats().batch_lines == 0


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "at least 1 item"),
        ([request("a"), request("a")], "requests.1.custom_id: a is not unique within the batch"),
        ([request("a b")], "requests.0.custom_id: String should match pattern"),
        ([request("a" * 65)], "requests.0.custom_id: String should match pattern"),
        ([{"custom_id": "a"}], "requests.0: custom_id and params are required"),
    ],
)
def test_a_creation_with_a_wrong_id_is_refused(sim, api, requests, words):
    with pytest.raises(anthropic.BadRequestError, match=words):
        create(api, *requests)

    assert sim.stats().batch_jobs == 0


def test_limits_of_count_and_bytes_refuse(sim, api):
    many = [request(f"r{number}") for number in range(11)]
    sim.set(batch_most_lines=10)
    with pytest.raises(anthropic.BadRequestError, match="at most 10 items"):
        create(api, *many)

    sim.set(batch_most_lines=None, batch_most_bytes=1000)
    with pytest.raises(anthropic.RequestTooLargeError) as refused:
        create(api, *many)

    assert refused.value.body["error"]["type"] == "request_too_large"


def test_lists_go_back_and_forth(sim, api):
    jobs = [create(api, request("a", prompt=str(number))) for number in range(5)][::-1]
    batches = api.client.messages.batches

    after = batches.list(after_id=jobs[1], limit=2)
    before = batches.list(before_id=jobs[3], limit=2)

    assert [batch.id for batch in after.data] == jobs[2:4]
    assert (after.has_more, after.first_id, after.last_id) == (True, jobs[2], jobs[3])
    assert [batch.id for batch in before.data] == jobs[1:3]
    assert [batch.id for batch in before] == [*jobs[1:3], jobs[0]]
    with pytest.raises(anthropic.BadRequestError):
        batches.list(after_id="msgbatch_none")


def test_a_batch_has_no_results_before_it_ended_and_is_deleted_only_after(sim, api):
    sim.set(batch_s=100)
    job = create(api, request("a"))
    batches = api.client.messages.batches
    with pytest.raises(anthropic.AnthropicError, match="No `results_url`"):
        batches.results(job)
    with pytest.raises(anthropic.BadRequestError):
        batches.delete(job)

    sim.advance(100)

    check(DeletedMessageBatch, orjson.loads(batches.with_raw_response.delete(job).read()))
    with pytest.raises(anthropic.NotFoundError):
        api.state(job)


def test_accounts_do_not_see_each_other(sim, api):
    job = create(api, request("a"))
    other = AnthropicBatches(api.client.with_options(api_key="another"))

    assert other.listed() == []
    with pytest.raises(anthropic.NotFoundError):
        other.state(job)

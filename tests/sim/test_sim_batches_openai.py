"""OpenAI's files and batches through its SDK: exactly its types, its states, its refusals."""

from __future__ import annotations

import openai
import orjson
import pytest
from openai.types import Batch, FileDeleted, FileObject
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from sim_asking import SCHEMA, chat
from sim_batching import OpenAIBatches, jsonl, schema_body
from sim_strictly import check

RESPONSES = "/v1/responses"


@pytest.fixture
def api(gpt):
    return OpenAIBatches(gpt)


def errors_of(api, lines):
    file = api.client.files.create(file=("l.jsonl", lines), purpose="batch")
    job = api.create(file.id)
    batch = api.client.batches.retrieve(job)
    assert batch.status == "failed"
    return [(error.code, error.line) for error in batch.errors.data]


def line(custom_id="a", **more):
    words = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": schema_body("x")}
    return {**words, **more}


def test_every_state_is_of_the_sdks_type(sim, api):
    sim.set(batch_s=100, batch_cancel_s=10, batch_expire=0.5)
    job = api.submit({"a": "x", "b": "y"}, "mine")
    cancelled = api.submit({"a": "x"})
    raw = api.client.batches.with_raw_response
    seen = {}

    def look(job_id):
        body = orjson.loads(raw.retrieve(job_id).content)
        check(Batch, body)
        seen[body["status"]] = body

    look(job)
    api.cancel(cancelled)
    look(cancelled)
    sim.advance(100)
    look(cancelled)
    look(job)
    sim.set(batch_s=0, batch_expire=0)
    look(api.submit({"a": "x"}))
    sim.set(batch_fail=1)
    look(api.submit({"a": "x"}))

    assert seen.keys() == {"in_progress", "cancelling", "cancelled", "expired", "completed", "failed"}
    assert seen["expired"]["metadata"] == {"label": "mine"}
    assert seen["completed"]["request_counts"] == {"total": 1, "completed": 1, "failed": 0}
    assert seen["completed"]["model"] == "gpt-6-luna"
    assert seen["completed"]["usage"]["output_tokens"] > 0
    assert seen["failed"]["errors"]["data"][0]["message"] == "SIMULATED failure of validation."


def test_a_new_batch_is_being_validated(sim, api):
    created = api.client.batches.create(
        input_file_id=api.upload({"a": schema_body("x")}), endpoint="/v1/chat/completions", completion_window="24h"
    )

    assert created.status == "validating"
    assert created.metadata is None


def test_an_expired_batch_keeps_what_was_done(sim, api):
    sim.set(batch_s=0, batch_expire=0.25)
    prompts = {f"r{number}": "x" for number in range(8)}

    told = api.results(api.submit(prompts))

    assert sorted(map(str, told.values())).count("batch_expired") == 2
    assert len(told) == 8


def test_counts_are_told_while_a_batch_runs(sim, api):
    sim.set(batch_s=100, batch_line_error=0.25)
    job = api.submit({f"r{number}": "x" for number in range(40)})
    sim.advance(50)

    counts = api.client.batches.retrieve(job).request_counts

    assert counts.total == 40
    assert counts.completed + counts.failed == 20
    assert api.client.batches.retrieve(job).output_file_id is None


def test_a_line_that_is_missing_is_counted_as_completed(sim, api):
    sim.set(batch_s=0, batch_missing=0.5)
    job = api.submit({"a": "x", "b": "y"})

    assert api.client.batches.retrieve(job).request_counts.completed == 2
    assert len(api.results(job)) == 1


def test_result_lines_hold_the_live_body_and_errors_their_status(sim, api):
    sim.set(batch_s=0)
    bodies = {"good": schema_body("x", SCHEMA), "bad": {**schema_body("x"), "wrong": 1}, "gone": schema_body("y")}
    bodies["gone"]["messages"] = []
    job = api.create(api.upload(bodies))
    batch = api.client.batches.retrieve(job)

    good = [orjson.loads(one) for one in api.client.files.content(batch.output_file_id).read().splitlines()]
    bad = [orjson.loads(one) for one in api.client.files.content(batch.error_file_id).read().splitlines()]

    assert [one["custom_id"] for one in good] == ["good"]
    check(ChatCompletion, good[0]["response"]["body"])
    assert good[0]["response"]["body"]["service_tier"] == "default"
    assert good[0]["error"] is None
    assert (
        orjson.loads(good[0]["response"]["body"]["choices"][0]["message"]["content"]).keys()
        == SCHEMA["properties"].keys()
    )
    assert {one["custom_id"]: one["response"]["status_code"] for one in bad} == {"bad": 400, "gone": 400}
    with pytest.raises(openai.BadRequestError) as live:
        chat(api.client, "x", extra_body={"wrong": 1})
    told = {one["custom_id"]: one["response"]["body"]["error"] for one in bad}
    assert told["bad"] == live.value.body


def test_responses_are_a_batch_endpoint_too(sim, api):
    sim.set(batch_s=0)
    file_id = api.upload({"a": {"model": "gpt-6-luna", "input": "x"}}, RESPONSES)
    job = api.create(file_id, url=RESPONSES)

    output = api.client.files.content(api.client.batches.retrieve(job).output_file_id).read()

    check(Response, orjson.loads(output)["response"]["body"])


def test_a_compatible_server_has_the_same_batches_with_its_own_rules(sim, compatible):
    sim.set(batch_s=0)
    api = OpenAIBatches(compatible)
    body = {**schema_body("x"), "repetition_penalty": 1.1}

    told = api.results(api.create(api.upload({"a": body, "b": {**body, "model": "other"}})))

    assert told["a"] == chat(compatible, "x").choices[0].message.content
    assert len(told) == 2


@pytest.mark.parametrize(
    ("lines", "errors"),
    [
        (b"{nonsense\n", [("invalid_json_line", 1)]),
        (b"\n \n", [("empty_file", None)]),
        (jsonl([line(), line()]), [("duplicate_custom_id", 2)]),
        (jsonl([line(), line("b", url=RESPONSES)]), [("invalid_url", 2)]),
        (jsonl([line(), line("b", method="GET")]), [("invalid_method", 2)]),
        (jsonl([{**line(), "custom_id": None}]), [("missing_required_parameter", 1)]),
        (jsonl([line(), line("b", body=schema_body("x", model="gpt-6.1-sol"))]), [("mismatched_model", 2)]),
    ],
)
def test_a_file_with_a_wrong_line_fails_as_a_whole(sim, api, lines, errors):
    assert errors_of(api, lines) == errors
    assert sim.stats().batch_lines == 0


def test_more_lines_than_a_batch_may_have_fail_it(sim, api):
    lines = jsonl(line(f"r{number}", body={"model": "m"}) for number in range(50_001))

    assert errors_of(api, lines) == [("too_many_requests", None)]


def test_a_file_with_more_bytes_than_it_may_have_is_refused(sim, api):
    sim.set(batch_most_bytes=1000)

    with pytest.raises(openai.APIStatusError) as refused:
        api.client.files.create(file=("l.jsonl", b"x" * 1001), purpose="batch")

    assert refused.value.status_code == 413
    assert list(api.client.files.list()) == []


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"input_file_id": "file-nope"}, 404),
        ({"endpoint": "/v1/embeddings"}, 400),
        ({"completion_window": "1h"}, 400),
        ({"metadata": {str(number): "v" for number in range(17)}}, 400),
        ({"metadata": {"k": "v" * 513}}, 400),
        ({"extra_body": {"window": 1}}, 400),
    ],
)
def test_a_creation_that_asks_for_what_is_not_there_is_refused(sim, api, change, status):
    words = {"endpoint": "/v1/chat/completions", "completion_window": "24h"}
    words["input_file_id"] = api.upload({"a": schema_body("x")})

    with pytest.raises(openai.APIStatusError) as refused:
        api.client.batches.create(**{**words, **change})

    assert refused.value.status_code == status
    assert sim.stats().batch_jobs == 0


def test_files_are_listed_read_and_deleted(sim, api):
    words = api.client.files.with_raw_response
    first = api.upload({"a": schema_body("x")})
    second = api.upload({"b": schema_body("y")})

    check(FileObject, orjson.loads(words.retrieve(first).content))
    assert [file.id for file in api.client.files.list(limit=1)] == [second, first]
    assert [file.id for file in api.client.files.list(order="asc", purpose="batch")] == [first, second]
    assert orjson.loads(api.client.files.content(first).read())["custom_id"] == "a"
    check(FileDeleted, orjson.loads(words.delete(first).content))
    with pytest.raises(openai.NotFoundError):
        api.client.files.retrieve(first)


def test_a_batch_that_has_ended_cannot_be_cancelled(sim, api):
    sim.set(batch_s=0)
    job = api.submit({"a": "x"})

    with pytest.raises(openai.ConflictError, match="status 'completed'"):
        api.cancel(job)


def test_accounts_do_not_see_each_other(sim, api):
    job = api.submit({"a": "x"})
    other = OpenAIBatches(api.client.with_options(api_key="another"))

    assert other.listed() == []
    with pytest.raises(openai.NotFoundError):
        other.state(job)
    with pytest.raises(openai.AuthenticationError):
        OpenAIBatches(api.client.with_options(api_key="bad-key")).listed()


def test_a_large_file_goes_in_and_comes_out_in_pieces(sim, api, tmp_path):
    sim.set(batch_s=0)
    count = 20_000
    path = tmp_path / "lines.jsonl"
    with path.open("wb") as out:
        for number in range(count):
            out.write(jsonl([line(f"r{number}", body=schema_body(f"prompt {number}"))]))
    with path.open("rb") as lines:
        file = api.client.files.create(file=lines, purpose="batch")
    job = api.create(file.id)
    batch = api.client.batches.retrieve(job)
    while batch.status != "completed":
        batch = api.client.batches.retrieve(job)

    seen = set()
    with api.client.files.with_streaming_response.content(batch.output_file_id) as response:
        seen.update(orjson.loads(one)["custom_id"] for one in response.iter_lines())

    assert len(seen) == count
    assert api.client.files.retrieve(batch.output_file_id).bytes == int(response.headers["content-length"])

"""Google's files and batches through its SDK: resumable uploads, operations, results by file and inline."""

from __future__ import annotations

import asyncio
import io

import orjson
import pytest
from google import genai
from google.genai import errors, types
from sim_asking import SCHEMA, generate
from sim_batching import GoogleBatches, jsonl
from sim_strictly import check

MODEL = "gemini-3.8-flash"


@pytest.fixture
def api(gemini):
    return GoogleBatches(gemini)


def content(prompt):
    return [{"role": "user", "parts": [{"text": prompt}]}]


def upload(api, lines):
    return api.client.files.upload(file=io.BytesIO(lines), config={"mime_type": "application/jsonl"})


def inline(api, *requests):
    return api.client.batches.create(model=MODEL, src=list(requests), config={"display_name": "mine"})


def test_every_state_is_of_the_sdks_type(sim, api):
    sim.set(batch_s=100)
    jobs = [api.submit({"a": "x", "b": "y"}, "mine") for _ in range(3)]
    seen = [api.client.batches.get(name=jobs[0])]
    sim.advance(50)
    seen.append(api.client.batches.get(name=jobs[0]))
    api.cancel(jobs[1])
    sim.advance(50)
    sim.set(batch_s=0, batch_fail=1)
    jobs[2:] = [api.submit({"a": "x"})]
    sim.set(batch_expire=0.5)
    jobs.append(api.submit({"a": "x", "b": "y"}))
    seen += [api.client.batches.get(name=job) for job in jobs]

    for job in seen:
        check(types.BatchJob, job.model_dump())
    assert [job.state.name.removeprefix("JOB_STATE_") for job in seen] == [
        *("PENDING", "RUNNING", "SUCCEEDED", "CANCELLED", "FAILED", "EXPIRED")
    ]
    assert (seen[2].display_name, seen[2].model, seen[2].done) == ("mine", f"models/{MODEL}", True)
    assert [job.dest is None for job in seen] == [True, True, False, True, True, True]


def test_an_upload_in_several_parts_is_one_file(sim, api, tmp_path):
    sim.set(batch_s=0)
    path = tmp_path / "lines.jsonl"
    # The SDK sends parts of 8 MB.
    filler = "x" * 1000
    prompts = {f"r{number}": f"{filler} {number}" for number in range(9_000)}
    path.write_bytes(jsonl({"key": key, "request": {"contents": content(text)}} for key, text in prompts.items()))
    config = types.UploadFileConfig(mime_type="application/jsonl", display_name="many")

    async def run():
        async with genai.Client(
            api_key="any", http_options=types.HttpOptions(base_url=sim.base_url("google"))
        ).aio as client:
            file = await client.files.upload(file=path, config=config)
            job = await client.batches.create(model=MODEL, src=file.name, config={"display_name": "many"})
            while not job.done:
                job = await client.batches.get(name=job.name)
            await client.files.download(file=job.dest.file_name, destination=tmp_path / "results.jsonl")
            return file

    file = asyncio.run(run())

    check(types.File, file.model_dump())
    assert file.size_bytes == path.stat().st_size
    assert file.display_name == "many"
    with (tmp_path / "results.jsonl").open("rb") as lines:
        assert {orjson.loads(one)["key"] for one in lines} == prompts.keys()


def test_inline_requests_are_answered_in_their_order_with_their_metadata(sim, api):
    sim.set(batch_s=0)
    config = {"response_mime_type": "application/json", "response_json_schema": SCHEMA}
    job = inline(
        api,
        {"contents": content("x"), "metadata": {"key": "a"}},
        {"contents": content("y"), "metadata": {"key": "b"}, "config": config},
    )

    told = api.client.batches.get(name=job.name).dest.inlined_responses

    assert [one.metadata["key"] for one in told] == ["a", "b"]
    assert told[0].response.text == generate(api.client, "x").text
    assert orjson.loads(told[1].response.text).keys() == SCHEMA["properties"].keys()


def test_a_wrong_request_is_its_own_error_only(sim, api):
    sim.set(batch_s=0)
    lines = [
        {"key": "good", "request": {"contents": content("x")}},
        {"key": "bad", "request": {"contents": content("x"), "wrong": 1}},
        {"key": "other", "request": {"contents": content("x"), "model": "models/gemini-3.8-pro"}},
    ]
    job = api.client.batches.get(name=api.create(upload(api, jsonl(lines)).name))

    told = {
        value["key"]: value
        for value in map(orjson.loads, api.client.files.download(file=job.dest.file_name).splitlines())
    }

    check(types.GenerateContentResponse, told["good"]["response"])
    assert told["bad"]["error"]["code"] == 3
    assert 'Unknown name "wrong"' in told["bad"]["error"]["message"]
    assert "names models/gemini-3.8-pro" in told["other"]["error"]["message"]


def test_a_job_with_missing_lines_has_partially_succeeded(sim, api):
    sim.set(batch_s=0, batch_missing=0.5)
    job = api.client.batches.get(name=api.submit({"a": "x", "b": "y"}))

    assert job.state.name == "JOB_STATE_PARTIALLY_SUCCEEDED"
    assert not job.done
    assert len(api.results(job.name)) == 1


def test_an_expired_job_has_no_results_and_costs_nothing(sim, api):
    sim.set(batch_s=0, batch_expire=0.5)
    job = api.submit({"a": "x", "b": "y"})

    assert api.state(job) == "JOB_STATE_EXPIRED"
    assert api.results(job) == {}
    assert sim.stats().batch_lines == 0


@pytest.mark.parametrize("lines", [b"{nonsense\n", jsonl([{"key": "a"}]), b" \n"])
def test_a_file_that_holds_no_requests_fails_its_job(sim, api, lines):
    name = api.create(upload(api, lines).name)

    assert api.state(name) == "JOB_STATE_FAILED"


def test_a_creation_that_cannot_be_is_refused(sim, api):
    with pytest.raises(errors.ClientError) as no_file:
        api.create("files/none")
    with pytest.raises(errors.ClientError) as no_model:
        api.create(api.upload({"a": "x"}), model="missing-model")
    with pytest.raises(errors.ClientError, match="exceeds the limit") as too_large:
        inline(api, {"contents": content("x" * (21 << 20))})
    sim.set(batch_most_lines=1)
    with pytest.raises(errors.ClientError, match="more than 1"):
        api.submit({"a": "x", "b": "y"})
    sim.set(batch_most_bytes=10)
    with pytest.raises((errors.ClientError, KeyError)):
        api.upload({"a": "x"})

    assert (no_file.value.code, no_model.value.code, too_large.value.code) == (404, 404, 400)
    assert sim.stats().batch_jobs == 0


def test_files_are_looked_at_listed_and_deleted(sim, api):
    first, second = api.upload({"a": "x"}), api.upload({"b": "y"})

    assert [file.name for file in api.client.files.list()] == [second, first]
    assert api.client.files.get(name=first).source == types.FileSource.UPLOADED
    with pytest.raises(errors.ClientError, match="Only generated files"):
        api.client.files.download(file=first)
    api.client.files.delete(name=first)
    with pytest.raises(errors.ClientError) as gone:
        api.client.files.get(name=first)
    assert gone.value.code == 403


def test_a_deleted_job_is_gone(sim, api):
    name = api.submit({"a": "x"})

    api.client.batches.delete(name=name)

    with pytest.raises(errors.ClientError, match="not found"):
        api.state(name)
    assert api.listed() == []

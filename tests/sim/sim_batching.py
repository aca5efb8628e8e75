"""The same batch job put to each provider through its SDK, and what came of it, in one form."""

from __future__ import annotations

import io

import orjson
from google.genai import types

ENDPOINT = "/v1/chat/completions"


def schema_body(prompt, schema=None, model="gpt-6-luna"):
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    if schema is not None:
        form = {"name": "answer", "schema": schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def jsonl(values):
    return b"".join(orjson.dumps(value) + b"\n" for value in values)


class OpenAIBatches:
    """`label` is kept as metadata."""

    def __init__(self, client):
        self.client = client

    def upload(self, bodies, url=ENDPOINT):
        lines = [
            {"custom_id": custom_id, "method": "POST", "url": url, "body": body} for custom_id, body in bodies.items()
        ]
        return self.client.files.create(file=("lines.jsonl", jsonl(lines)), purpose="batch").id

    def create(self, file_id, label="", url=ENDPOINT):
        words = {"completion_window": "24h", "metadata": {"label": label}}
        return self.client.batches.create(input_file_id=file_id, endpoint=url, **words).id

    def submit(self, prompts, label=""):
        bodies = {custom_id: schema_body(prompt) for custom_id, prompt in prompts.items()}
        return self.create(self.upload(bodies), label)

    def state(self, job_id):
        return self.client.batches.retrieve(job_id).status

    def results(self, job_id):
        """Give id to text, or to the error's kind."""
        batch = self.client.batches.retrieve(job_id)
        told = {}
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            for line in self.client.files.content(file_id).read().splitlines():
                value = orjson.loads(line)
                if value["error"]:
                    told[value["custom_id"]] = value["error"]["code"]
                elif value["response"]["status_code"] != 200:
                    told[value["custom_id"]] = value["response"]["status_code"]
                else:
                    told[value["custom_id"]] = value["response"]["body"]["choices"][0]["message"]["content"]
        return told

    def listed(self):
        return [batch.id for batch in self.client.batches.list(limit=2)]

    def cancel(self, job_id):
        self.client.batches.cancel(job_id)


class AnthropicBatches:
    """`label` is kept nowhere."""

    def __init__(self, client):
        self.client = client

    def submit(self, prompts, label=""):
        words = {"model": "claude-haiku-5-5", "max_tokens": 1000}
        requests = [
            {"custom_id": custom_id, "params": {**words, "messages": [{"role": "user", "content": prompt}]}}
            for custom_id, prompt in prompts.items()
        ]
        return self.client.messages.batches.create(requests=requests).id

    def state(self, job_id):
        return self.client.messages.batches.retrieve(job_id).processing_status

    def results(self, job_id):
        told = {}
        for line in self.client.messages.batches.results(job_id):
            result = line.result
            if result.type == "succeeded":
                told[line.custom_id] = result.message.content[0].text
            else:
                told[line.custom_id] = result.error.error.type if result.type == "errored" else result.type
        return told

    def listed(self):
        return [batch.id for batch in self.client.messages.batches.list(limit=2)]

    def cancel(self, job_id):
        self.client.messages.batches.cancel(job_id)


class GoogleBatches:
    """`label` is kept as the display name."""

    def __init__(self, client):
        self.client = client

    def upload(self, prompts):
        lines = [
            {"key": key, "request": {"contents": [{"role": "user", "parts": [{"text": prompt}]}]}}
            for key, prompt in prompts.items()
        ]
        config = types.UploadFileConfig(mime_type="application/jsonl", display_name="lines")
        return self.client.files.upload(file=io.BytesIO(jsonl(lines)), config=config).name

    def create(self, name, label="", model="gemini-3.8-flash"):
        return self.client.batches.create(model=model, src=name, config={"display_name": label or "job"}).name

    def submit(self, prompts, label=""):
        return self.create(self.upload(prompts), label)

    def state(self, job_id):
        return self.client.batches.get(name=job_id).state.name

    def results(self, job_id):
        job = self.client.batches.get(name=job_id)
        if job.dest is None:
            return {}
        told = {}
        for line in self.client.files.download(file=job.dest.file_name).splitlines():
            value = orjson.loads(line)
            failed = "error" in value
            told[value["key"]] = (
                value["error"]["code"] if failed else value["response"]["candidates"][0]["content"]["parts"][0]["text"]
            )
        return told

    def listed(self):
        return [job.name for job in self.client.batches.list(config={"page_size": 2})]

    def cancel(self, job_id):
        self.client.batches.cancel(name=job_id)

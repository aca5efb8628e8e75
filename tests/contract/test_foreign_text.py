"""Text that others wrote is read in time in proportion to its length: a slow pattern holds Stop up."""

from __future__ import annotations

import gc
import gzip
import io
import time
from collections.abc import Callable
from contextlib import suppress
from tempfile import NamedTemporaryFile
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution.packing.pack_reply import split_reply
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import escape_html, strip_control_chars
from pllm_notebook.frames.label_table import read_labels
from pllm_notebook.frames.near_duplicates import Fingerprints, near_duplicate_groups
from pllm_notebook.frames.quotations import find_quote
from pllm_notebook.lab.question_diff import text_diff, word_diff
from pllm_notebook.media import load_media
from pllm_notebook.messages_types import DecisionQuestion
from pllm_notebook.notebook.arguments import _split as magic_words
from pllm_notebook.notebook.cell_magic import Text
from pllm_notebook.notebook.magics import awaited
from pllm_notebook.protocols import MalformedReply
from pllm_notebook.providers.anthropic import batch as anthropic_batch
from pllm_notebook.providers.anthropic.messages import Messages
from pllm_notebook.providers.batch.jsonl import encoded, file_lines
from pllm_notebook.providers.decoding import loaded
from pllm_notebook.providers.errors import beginning, number, retry_after_s, seconds
from pllm_notebook.providers.google import batch as google_batch
from pllm_notebook.providers.google.decision_wire import NamedDecisions
from pllm_notebook.providers.google.generate import Generate
from pllm_notebook.providers.openai import batch as openai_batch
from pllm_notebook.providers.openai.chat import Chat, answered
from pllm_notebook.providers.openai.decision_wire import Decisions
from pllm_notebook.providers.openai.responses import Responses
from pllm_notebook.providers.quirks import Quirks
from pllm_notebook.redaction import redact
from pllm_notebook.schema import GRAMMAR, OutputType, extract_json
from pllm_notebook.schema.decided import Misread, read_answers
from pllm_notebook.schema.excerpts import literals, without_reasoning
from pllm_notebook.schema.number_checks import _SAID as SAID
from pllm_notebook.schema.value_spans import spans_by_path
from pllm_notebook.schema.value_tokens import Token, steps_of
from pllm_notebook.templates import Template
from pllm_notebook.types import Finish, RawReply

SMALL, LARGE = 250_000, 1_000_000
# In CPU time of this thread, so that a busy machine changes little; twice the promise, since none is exact.
MOST_S = 0.4
MOST_RATIO = 6.0
# What takes less than this at a megabyte is measured too badly to be compared, and nothing is wrong with it.
NOISE_S = 0.08
# What takes less than this at a quarter of it keeps the promise even if its time grows with the square.
QUICK_S = 0.01


class Answer(BaseModel):
    a: int
    b: str = ""


FITTED = OutputType.of(Answer).fit(GRAMMAR)
QUOTED = OutputType.of(Answer).with_evidence().fit(GRAMMAR)

# Pieces that are repeated until the text is long enough: what is never closed, never ends, or nearly fits.
PIECES = {
    "fence and lines": "```json\n" + "\n" * 500,
    "lines": "\n",
    "spaces": " ",
    "open braces": "{",
    "open brackets": "[",
    "closed brackets": "]",
    "nested objects": '{"a":',
    "nested arrays": '["a",',
    "brackets and prose": "[1 {",
    "mixed brackets": "[{",
    "mixed and closed": '[{"a"}]',
    "quotes": '"',
    "escapes": "\\",
    "escaped quotes": '\\"',
    "a string without an end": '{"a": "\\" ',
    "objects": '{"a": 1}',
    "objects that do not fit": '{"b": 1} ',
    "arrays of numbers": "[1] ",
    "fences": "```\n",
    "think": "<think>",
    "end of think": "</think>",
    "both": "<think></think>",
    "nearly a tag": "<think ",
    "python": "{'a': ",
    "python strings": "'a' ",
    "digits": "1",
    "letters": "a",
    "key": "sk-",
    "login": "://a:",
    "header": "authorization: Bearer ",
    "csi": "\x1b[0",
    "osc": "\x1b]",
    "c1": "\x9d\x9b",
    "tool_choice": "tool_choice ",
    "half a character": "\\ud83d",
    "page": "<html><p>",
    "durations": "1m",
    "nearly too many digits": "1" * 299 + " ",
    "words": "ab ",
    "single letters": "a ",
    "marks": "a\u0301",
    "many marks": "a" + "\u0301" * 500,
    "parts of syllables": "\u1160",
    "full width": "\uff41",
    "braces and spaces": "{ " + " " * 300,
}


def failed(text: str) -> Any:
    failure = Failure(FailureKind.BAD_REQUEST, text, field=text, raw=text)
    return Quirks().adapt(
        failure, {"tool_choice": "required", "temperature": 1, "model": "m"}, "m", unenforced_schema=True
    )


def envelope(wire: Any, place: Callable[[str], Any]) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        body = loaded(orjson.dumps(place(text)))
        return wire.decode(body)

    return read


def refused(wire: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        bodies = orjson.dumps({"error": {"message": text, "type": text, "code": text, "param": text}}), text.encode()
        return [wire.error_from(RawReply(status, {"retry-after": text}, body)) for status in (400,) for body in bodies]

    return read


def headers(text: str) -> Any:
    told = {"retry-after": text, "date": text, "retry-after-ms": text, "x-ratelimit-limit-requests": text}
    told |= {"x-ratelimit-reset-requests": text, "anthropic-ratelimit-requests-limit": text}
    return [
        retry_after_s(told), seconds(text), number(text), Chat().limits(told), Messages().limits(told)
    ]  # fmt: skip


def lines(text: str) -> Any:
    line = {"custom_id": text, "key": text, "response": {"status_code": 200, "body": {"choices": text}}, "error": text}
    line |= {"result": {"type": "errored", "error": {"error": {"type": text}}}}
    read = loaded(orjson.dumps(line))
    return [api.result_of(read) for api in (openai_batch, anthropic_batch, google_batch)], encoded(text)


def import_file(text: str) -> Any:
    packed = gzip.compress(text.encode("utf-8", "replace"), 1)
    return list(file_lines(gzip.GzipFile(fileobj=io.BytesIO(packed)), 10_000))  # type: ignore[arg-type]


def unread(text: str) -> Any:
    try:
        return loaded(text.encode("utf-8", "replace"))
    except ValueError:
        return None


def quotes(text: str) -> Any:
    # What repeats itself has its own half at nearly every character, most of them inside a word.
    half = text[: len(text) // 2]
    return [find_quote(quote, text) for quote in (text, half, half.strip()[:-1], "ab", "a")]


def tokens_of(text: str) -> Any:
    body = text.replace('"', "").replace("\\", "").encode("utf-8", "replace").decode()
    written = f'{{"mood": "{body}"}}'
    pieces = [written[at : at + 4].encode() for at in range(0, len(written), 4)]
    tokens = [Token(piece, -0.1, [(piece, -0.1), (b"g", -2.0)]) for piece in pieces]
    return steps_of(tokens, written, {("mood",): ['"good"', '"bad"']})


def decided(text: str) -> Any:
    asked = (DecisionQuestion("mood", "choice", "How?", ("good", "bad")),)
    listed = {"type": "choice", "name": "mood", "choice": "good", "probabilities": [{"value": text, "probability": 1}]}
    named = {text: {"type": "choice", "choice": "good", "probabilities": {"good": 1.0, "bad": 0.0}}}
    for wire, answers in ((Decisions(), [listed]), (NamedDecisions(), named)):
        with suppress(MalformedReply, Misread):
            read_answers(asked, wire.decode(loaded(orjson.dumps({"answers": answers}))).text.encode())
    with suppress(Misread):
        read_answers(asked, text.encode("utf-8", "replace"))


def labels(text: str) -> Any:
    with suppress(UsageError), NamedTemporaryFile(suffix=".csv") as file:
        file.write(b"when,field,value,by,drawn_by,pi,note,run,row,columns,content\n")
        file.write(("2026-01-01," + text.replace("\n", " ") + "\n").encode("utf-8", "replace"))
        file.flush()
        return read_labels(file.name)


def template(text: str) -> Any:
    with suppress(UsageError):
        return Template.compile(text, ["text"])


def magic_line(text: str) -> Any:
    with suppress(UsageError):
        return magic_words(text), awaited([f"%%pllm {text}", text])


def media(text: str) -> Any:
    for source in (f"data:{text}", f"data:image/png;base64,{text}", text):
        with suppress(UsageError):
            load_media(source)


READERS: dict[str, Callable[[str], Any]] = {
    "quotes": quotes,
    "evidence": lambda text: (QUOTED.find(text), QUOTED.quotes(text.encode("utf-8", "replace"))),
    "value spans": lambda text: (spans_by_path(text), spans_by_path('{"a": ' + text)),
    "tokens of a value": tokens_of,
    "decisions": decided,
    "near-duplicates": lambda text: (Fingerprints([text]).near(text), near_duplicate_groups([text, text + "x"])),
    "labels": labels,
    "template": template,
    "line of a magic": magic_line,
    "markdown": lambda text: Text(text)._repr_markdown_(),
    "media": media,
    "words of two prompts": lambda text: text_diff(word_diff(text, text[1:])),
    "odd numbers": lambda text: SAID.search(text.encode("utf-8", "replace")),
    "extract_json": extract_json,
    "literals": literals,
    "without_reasoning": without_reasoning,
    "find": FITTED.find,
    "parse": FITTED.parse,
    "parse_many": lambda text: FITTED.parse_many([text.encode()]),
    "follows": lambda text: FITTED.follows(text.encode()),
    "pack": lambda text: split_reply(text, Finish.COMPLETE, 5),
    "pack that was cut off": lambda text: split_reply(text, Finish.TRUNCATED, 5),
    "thinking": answered,
    "envelope": unread,
    "chat": envelope(Chat(), lambda text: {"choices": [{"message": {"content": text}, "finish_reason": text}]}),
    "responses": envelope(Responses(), lambda text: {"output": [{"type": "message", "content": [{"text": text}]}]}),
    "messages": envelope(Messages(), lambda text: {"content": [{"type": "text", "text": text}], "stop_reason": text}),
    "generate": envelope(
        Generate(), lambda text: {"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": text}]}
    ),
    "refusal of OpenAI": refused(Chat()),
    "refusal of Anthropic": refused(Messages()),
    "refusal of Google": refused(Generate()),
    "headers": headers,
    "batch lines": lines,
    "import file": import_file,
    "failure": failed,
    "raw": lambda text: beginning(RawReply(500, {}, text.encode())),
    "redacted": redact,
    "without_controls": strip_control_chars,
    "in_html": escape_html,
}


# Loops of Python's own: any other thread goes on meanwhile, so that no more than their growth matters.
INTERPRETED = {"quotes", "evidence", "value spans", "tokens of a value", "template", "line of a magic",
               "near-duplicates", "words of two prompts"}  # fmt: skip


def cpu_s(read: Callable[[str], Any], text: str, times: int = 1) -> float:
    best = float("inf")
    # Off: looking through the objects of all tests before this one for garbage is no part of it.
    gc.disable()
    try:
        for _ in range(times):
            begun = time.thread_time()
            read(text)
            best = min(best, time.thread_time() - begun)
    finally:
        gc.enable()
    return best


def is_slow(small_s: float, large_s: float, limit_s: float) -> bool:
    return large_s > limit_s or (large_s > NOISE_S and large_s / small_s > MOST_RATIO)


@pytest.mark.sample(2)
@pytest.mark.parametrize("name", READERS)
def test_foreign_text_is_read_in_time_in_proportion_to_its_length(name: str) -> None:
    read = READERS[name]
    read("warm")
    slow = []
    shorter = 10 if name in INTERPRETED else 1
    for what, piece in PIECES.items():
        small, large = (piece * (size // len(piece) // shorter) for size in (SMALL, LARGE))
        if cpu_s(read, small) < QUICK_S or (took := cpu_s(read, large)) <= NOISE_S:
            continue
        before, took = cpu_s(read, small, 3), min(took, cpu_s(read, large))
        limit_s = float("inf") if name in INTERPRETED else MOST_S
        if is_slow(before, took, limit_s):
            # A neighbour on the same core makes one measurement slow, and what grows with the square makes all slow.
            before, took = min(before, cpu_s(read, small, 9)), min(took, cpu_s(read, large, 6))
        if is_slow(before, took, limit_s):
            slow.append((what, round(took, 3), round(took / before, 1)))

    assert slow == []

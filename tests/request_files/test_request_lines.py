"""Lines of request files are told apart by their fields, and each result says by itself which line it is of."""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pllm_notebook as pllm
from pllm_notebook.exceptions import UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.request_files.endpoints import EndpointResolver, body_for
from pllm_notebook.request_files.line_formats import RequestFileLine, identity_of, read_line, read_result, result_line
from pllm_notebook.request_files.model_lines import CHUNK_LINES, ModelLines
from pllm_notebook.request_files.output_limit_waves import split_into_waves
from pllm_notebook.request_files.request_index import LineGroup
from pllm_notebook.request_files.results_file import ResultsFile, new_path
from tests.execution.counted_runs import CountedPiece, CountedRun

SAID = [{"role": "user", "content": "Hi"}]
CHAT = {"model": "gpt-6-luna", "messages": SAID}
FORMS: list[dict[str, Any]] = [
    {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT},
    {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "gpt-6-luna", "input": "Hi"}},
    {"custom_id": "a", "params": {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": SAID}},
    {"key": "a", "request": {"contents": [{"parts": [{"text": "Hi"}]}]}, "metadata": [1]},
    CHAT,
    CHAT | {"metadata": {"row_id": 1}},
]


def line_of(said: Any) -> RequestFileLine:
    return read_line(said.encode() if isinstance(said, str) else json.dumps(said).encode())


@pytest.mark.parametrize("said", FORMS)
@pytest.mark.parametrize("answer", [{"id": "r"}, Failure(FailureKind.BAD_REQUEST, "no", 400)], ids=["reply", "error"])
def test_a_result_names_the_request_that_it_is_of(said: dict[str, Any], answer: Any) -> None:
    line = line_of(said)

    result = read_result(result_line(line, 7, answer))

    assert line.fault == ""
    assert result is not None
    assert identity_of(result) == identity_of(line)
    assert result.metadata == said.get("metadata")
    assert (result.body, result.error) == (({"id": "r"}, "") if isinstance(answer, dict) else (None, "bad_request: no"))
    assert result.number == (None if line.form == "bare" else 7)


def test_requests_that_differ_have_different_names() -> None:
    names = {identity_of(line_of(said)) for said in FORMS}
    names |= {identity_of(line_of(said | {"custom_id": "b"})) for said in FORMS[:3]}
    names |= {identity_of(line_of(CHAT | {"metadata": {"row_id": 2}})), identity_of(line_of(CHAT | {"n": 2}))}

    assert len(names) == len(FORMS) + 5


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{", "not JSON"),
        ("3", "not a JSON object"),
        ("{}", "no 'messages'"),
        ('{"custom_id": "x"}', "neither 'body'"),
        ("[" * 300 + "]" * 300, "not a JSON object"),
        ('{"messages": ' + "[" * 300 + "]" * 300 + "}", "cannot be written as JSON again"),
        ({"model": "m", "input": "text"}, "embeddings"),
        (CHAT | {"messages": "Hi"}, "'messages' is a list of objects"),
        (CHAT | {"messages": []}, "no 'messages'"),
        (CHAT | {"messages": [{"content": "Hi"}]}, "'role'"),
        (CHAT | {"stream": True}, "'stream'"),
        (CHAT | {"reasoning": "high"}, "'reasoning' is an object"),
        ({"custom_id": "x", "url": "/v1/embeddings", "body": CHAT}, "'/v1/embeddings'"),
        ({"custom_id": "x", "url": "/v1/responses", "body": CHAT}, "no 'input'"),
    ],
)
def test_what_is_no_request_says_why_and_has_a_result_all_the_same(said: Any, why: str) -> None:
    line = line_of(said)

    result = read_result(result_line(line, 1, Failure(FailureKind.INPUT, line.fault)))

    assert why in line.fault
    assert line.fault.endswith("Nothing was sent for this line.")
    assert result is not None
    assert identity_of(result) == identity_of(line)


def test_bytes_that_are_no_text_have_a_result_too() -> None:
    line = read_line(b'{"model": "\xff\xfe"}\n')

    result = read_result(result_line(line, 1, Failure(FailureKind.INPUT, line.fault)))

    assert result is not None
    assert identity_of(result) == identity_of(line)


def test_results_that_providers_wrote_themselves_can_be_read() -> None:
    openai = {"id": "batch_req_1", "custom_id": "a", "error": None}
    fatal_failure = {"status_code": 400, "request_id": "r", "body": {"error": {"code": "bad", "message": "no"}}}
    anthropic = {"custom_id": "a", "result": {"type": "expired"}}

    found = [
        read_result(json.dumps(said).encode())
        for said in (
            openai | {"response": {"status_code": 200, "body": {"choices": []}}},
            openai | {"response": fatal_failure},
            anthropic,
            {"key": "a", "response": {"candidates": []}},
        )
    ]

    assert [one and one.error for one in found] == ["", "bad: no", "expired: ", ""]


@pytest.mark.parametrize(
    ("said", "client", "asked"),
    [
        (FORMS[0], None, "openai:gpt-6-luna"),
        (FORMS[2], None, "anthropic:claude-haiku-5-5"),
        (FORMS[4], None, "openai:gpt-6-luna"),
        (CHAT | {"model": "claude-haiku-5-5"}, None, "anthropic:claude-haiku-5-5"),
        (CHAT | {"model": "claude-haiku-5-5"}, "mine", "mine:claude-haiku-5-5"),
        (CHAT | {"model": "llama3:8b"}, "mine", "mine:llama3:8b"),
        (FORMS[0], "mine", "mine:gpt-6-luna"),
        (FORMS[4], "sim:openai", "sim:openai/gpt-6-luna"),
        (FORMS[2], "sim:openai", "sim:anthropic/claude-haiku-5-5"),
    ],
)
def test_a_line_goes_where_its_model_or_its_form_says(said: dict[str, Any], client: str | None, asked: str) -> None:
    pllm.configure(servers={"mine": "http://localhost:1/v1"})

    target = EndpointResolver(client, None, None, None).of(line_of(said))

    assert not isinstance(target, str), target
    assert target.label == asked
    assert body_for(line_of(said), target)["model"] == target.model


@pytest.mark.parametrize(
    ("said", "client"),
    [
        (FORMS[2], "openai"),
        (FORMS[2], "mine"),
        (CHAT | {"model": "anthropic:claude-haiku-5-5"}, "openai"),
    ],
)
def test_a_line_for_another_account_than_the_client_named_is_refused(said: dict[str, Any], client: str) -> None:
    pllm.configure(servers={"mine": "http://localhost:1/v1"})

    told = EndpointResolver(client, None, None, None).of(line_of(said))

    assert told == (
        f"The line is for anthropic:claude-haiku-5-5, but only the account of client '{client}' is billed. "
        f"Leave client out to let each line choose."
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (FORMS[3], "names no model"),
        ({"custom_id": "x", "body": CHAT | {"model": "anthropic:claude-haiku-5-5"}}, "is written for openai"),
        ({"model": "gemini-3.5-flash-lite", "messages": SAID}, "takes a request with 'contents'"),
    ],
)
def test_who_cannot_be_asked_what_a_line_says_is_told(said: dict[str, Any], why: str) -> None:
    told = EndpointResolver(None, None, None, None).of(line_of(said))

    assert isinstance(told, str)
    assert why in told


@pytest.mark.parametrize(
    ("url", "client", "why"),
    [
        ("localhost:8000", None, "request_url is an address"),
        ("https://api.openai.com/v1/embeddings", None, "text is requested from"),
        ("http://localhost:1/v1/messages", None, "ANTHROPIC_BASE_URL"),
        (None, "opneai", "client is 'opneai'"),
    ],
)
def test_words_that_name_nobody_are_refused(url: str | None, client: str | None, why: str) -> None:
    with pytest.raises(pllm.PllmError, match=why):
        EndpointResolver(client, None, url, None)


def test_a_server_is_named_by_its_address_and_its_password_shown_nowhere() -> None:
    addresses = EndpointResolver(None, None, "http://me:secret-word@localhost:8000/v1/chat/completions", None)

    target = addresses.of(line_of(CHAT))

    assert not isinstance(target, str)
    assert target.label == "localhost-8000:gpt-6-luna"
    assert "secret-word" not in repr(target) + repr(vars(addresses))


def test_a_results_file_without_its_last_end_is_cut_at_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    whole = b'{"a": 1}\n' + b"x" * (2 << 20) + b"\n"
    path.write_bytes(whole + b"y" * (3 << 20))

    file = ResultsFile(str(path))
    offsets = file.append([b"new\n", b"er\n"])
    file.close()

    assert path.read_bytes() == whole + b"new\ner\n"
    assert offsets == [len(whole), len(whole) + 4]


def test_lines_are_put_in_order_with_the_rights_that_the_file_had(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    file = ResultsFile(str(path))
    path.chmod(0o640)
    offsets = file.append([b"three\n", b"one\n", b"two\n"])

    file.put_in_order(array("q", [offsets[1], offsets[2], offsets[0]]))
    file.close()

    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["results.jsonl"]


def test_a_link_to_the_results_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "results.jsonl"
    link.symlink_to(tmp_path / "disk" / "kept.jsonl")
    file = ResultsFile(str(link))
    offsets = file.append([b"two\n", b"one\n"])

    file.put_in_order(array("q", offsets[::-1]))
    file.close()

    assert link.is_symlink()
    assert (tmp_path / "disk" / "kept.jsonl").read_bytes() == b"one\ntwo\n"


@pytest.mark.parametrize("path", ["/dev/null", "/dev/full", "/dev"])
def test_results_go_into_no_device(path: str) -> None:
    with pytest.raises(UsageError, match=rf"{path} is a .* Give the path of a file\. Nothing was sent\."):
        ResultsFile(path)


def test_the_mark_that_editors_begin_a_file_with_is_no_part_of_the_line() -> None:
    assert read_line(b'\xef\xbb\xbf{"model": "m", "messages": [{"role": "user", "content": "-"}]}').fault == ""


def test_new_names_differ_within_one_second() -> None:
    assert len({new_path("requests.jsonl") for _ in range(100)}) == 100


def test_lines_that_differ_in_their_limit_alone_go_in_waves_of_their_own() -> None:
    target = EndpointResolver(None, None, None, None).of(line_of(CHAT))
    assert not isinstance(target, str)
    words = ["a", "b", "a", "c", "a", "a"]
    limits = [5, 5, 9, 9, 5, 7]
    lines = [
        line_of({"model": "gpt-6-luna", "max_tokens": limit, "messages": [{"role": "user", "content": word}]})
        for word, limit in zip(words, limits, strict=True)
    ]
    groups = [LineGroup(target, 5, array("q", [0, 1, 4])), LineGroup(target, 9, array("q", [2, 3])),
              LineGroup(target, 7, array("q", [5]))]  # fmt: skip

    waves = split_into_waves(groups, lines.__getitem__)

    found = [(group.wave, group.output_limit, list(group.rows)) for group in waves]
    assert found == [(0, 5, [0, 1, 4]), (0, 9, [3]), (1, 9, [2]), (2, 7, [5])]


@dataclass
class OpenedChunk(CountedPiece):
    """A chunk whose lines end when the test says so."""

    rows: array[int]
    fatal_failure: Failure | None = None

    def release(self) -> None:
        assert self.is_over()


@dataclass
class Opening:
    """Starts such chunks."""

    made: list[OpenedChunk] = field(default_factory=list)
    fails: bool = False

    def start(self, group: LineGroup, rows: array[int]) -> Any:
        if self.fails:
            raise OSError("the cache is gone")
        self.made.append(OpenedChunk(CountedRun(len(rows), len(rows)), rows))
        return self.made[-1]


def model_lines(opening: Opening, chunks: int, size: int = 1_000, waves: int = 1) -> ModelLines:
    target = EndpointResolver(None, None, None, None).of(line_of(CHAT))
    assert not isinstance(target, str)
    lines = chunks * CHUNK_LINES
    groups = [LineGroup(target, None, array("q", range(at * lines, (at + 1) * lines)), at) for at in range(waves)]
    return ModelLines(groups, opening.start, lambda row: size)


def test_the_next_chunk_is_begun_before_the_last_reply_of_one_is_there() -> None:
    opening = Opening()
    lines = model_lines(opening, 4)

    for _ in range(4):
        lines.fill()
        lines.take_over()
        for chunk in opening.made:
            chunk.run.left = 1  # a reply that does not come

    assert len(opening.made) == 4
    assert not lines.is_over


def test_no_more_lines_are_open_than_a_chunk_and_a_half() -> None:
    opening = Opening()
    lines = model_lines(opening, 10)
    lines.fill()
    lines.fill()
    assert [run.left for run in lines.runs] == [CHUNK_LINES]

    opening.made[0].run.left = CHUNK_LINES // 2
    lines.fill()
    lines.fill()

    assert sum(run.left for run in lines.runs) == CHUNK_LINES + CHUNK_LINES // 2


def test_late_lines_of_many_chunks_do_not_fill_the_memory() -> None:
    opening = Opening()
    lines = model_lines(opening, 40)

    for _ in range(40):
        lines.fill()
        lines.take_over()
        for chunk in opening.made:
            chunk.run.left = 1

    assert len(opening.made) == 13


def test_chunks_of_large_lines_have_fewer_of_them() -> None:
    opening = Opening()

    model_lines(opening, 1, size=4 * 2**20).fill()

    assert len(opening.made[0].rows) == 4


def test_a_wave_begins_when_the_one_before_it_is_over() -> None:
    opening = Opening()
    lines = model_lines(opening, 1, waves=2)
    lines.fill()
    opening.made[0].run.left = 1
    lines.take_over()
    lines.fill()
    assert len(opening.made) == 1

    opening.made[0].run.left = 0
    lines.take_over()
    lines.fill()

    assert [chunk.rows[0] for chunk in opening.made] == [0, CHUNK_LINES]


def test_a_refusal_fails_the_lines_that_were_not_begun() -> None:
    opening = Opening()
    lines = model_lines(opening, 3, waves=2)
    failure = Failure(FailureKind.AUTHENTICATION, "no")
    lines.fill()
    opening.made[0].fatal_failure, opening.made[0].run.left = failure, 0

    lines.take_over()
    rest = [row for rows in lines.take_rest() for row in rows]
    lines.fill()

    assert lines.refusal is failure
    assert rest == list(range(CHUNK_LINES, 6 * CHUNK_LINES))
    assert (lines.is_over, lines.begun, len(opening.made)) == (True, CHUNK_LINES, 1)


def test_a_chunk_that_cannot_be_started_ends_the_lines_of_its_model() -> None:
    opening = Opening()
    lines = model_lines(opening, 3, waves=2)
    lines.fill()
    opening.made[0].run.left = 1
    opening.fails = True

    lines.fill()

    assert str(lines.error) == "the cache is gone"
    assert not lines.is_over
    opening.made[0].run.left = 0
    lines.take_over()
    assert lines.is_over

"""Tests of one's own pipeline: scripted answers, recordings, and pytest's fixtures."""

from __future__ import annotations

import json
import socket
import threading
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel

import pllm_notebook as pllm
from pllm_notebook import settings
from pllm_notebook.exceptions import PllmError, UsageError
from pllm_notebook.sim import Simulator
from pllm_notebook.testing import Answer, Request, UnscriptedPromptError, fake, record

pytest_plugins = ["pytester"]

TEXTS = pd.DataFrame({"text": ["tea", "mud", "rain"]})
PROMPT = "Is {text} good?"


class Opinion(BaseModel):
    """An opinion."""

    good: bool
    why: Literal["taste", "look"]


@pytest.mark.parametrize(
    "model",
    [
        "openai:gpt-6-luna",
        "openai:gpt-6-pro",
        "anthropic:claude-haiku-5-5",
        "google:gemini-3.8-flash",
        "here:any",
        "sim:openai",
    ],
)
def test_any_model_answers_what_is_scripted_without_a_key(model: str) -> None:
    with fake(lambda request: Opinion(good="tea" in request.prompt, why="taste")) as asked:
        pllm.configure(servers={"here": "http://127.0.0.1:9/v1"})
        out = TEXTS.llm.parse(Opinion, PROMPT, model=model)

    assert out["good"].tolist() == [True, False, False]
    assert sorted(asked.prompts) == ["Is mud good?", "Is rain good?", "Is tea good?"]
    assert {request.model for request in asked.requests} == {
        model.partition(":")[2] or "gpt-6-luna"
    } or model == "sim:openai"


def test_a_mapping_answers_by_prompt() -> None:
    with fake({"Is tea good?": True, "Is mud good?": False, "Is rain good?": Answer.refusal()}):
        out = TEXTS.llm.parse(bool, PROMPT)

    assert out["answer"].tolist()[:2] == [True, False]
    assert out.llm.status.tolist() == ["ok", "ok", "failed"]


def test_a_prompt_without_an_answer_is_shown_at_the_end_of_the_block() -> None:
    block = fake({"Is tea good?": True})
    block.__enter__()
    out = TEXTS.llm.parse(bool, PROMPT)
    assert out["answer"].tolist()[0] is True

    with pytest.raises(UnscriptedPromptError, match="No answer is scripted for 2 of the prompts") as caught:
        block.__exit__(None, None, None)

    assert "'Is mud good?'" in str(caught.value)
    assert "'Is rain good?'" in str(caught.value)


def test_an_error_of_the_test_itself_is_not_covered_by_an_unscripted_prompt() -> None:
    def failing_test() -> None:
        with fake({}):
            TEXTS.llm.parse(bool, PROMPT)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()


def test_what_the_function_raises_is_raised_at_the_end() -> None:
    def answer(request: Request) -> bool:
        raise LookupError("my own bug")

    with pytest.raises(LookupError, match="my own bug"), fake(answer):
        TEXTS.llm.parse(bool, PROMPT)


def test_an_error_that_leaves_the_block_shows_what_the_function_raised() -> None:
    with pytest.raises(PllmError) as caught, fake(lambda request: 1 / 0):
        TEXTS.llm.parse(bool, PROMPT, errors="raise")

    assert caught.value.__notes__ == ["The answers function raised ZeroDivisionError: division by zero"]


def test_the_function_runs_on_no_thread_of_the_engine() -> None:
    threads: list[str] = []

    def answer(request: Request) -> bool:
        threads.append(threading.current_thread().name)
        return True

    with fake(answer):
        TEXTS.llm.parse(bool, PROMPT)

    assert len(threads) == 3
    assert "pllm-engine" not in threads


def test_failures_are_scripted_too_and_tried_again_as_ever() -> None:
    with fake(lambda request: Answer.status(500) if request.index < 2 else True) as asked:
        out = TEXTS.head(1).llm.parse(bool, PROMPT)

    assert out["answer"].tolist() == [True]
    assert len(asked.requests) == 3


def test_nothing_is_kept_and_settings_are_put_back(cache_dir: Path) -> None:
    pllm.configure(model="anthropic:claude-haiku-5-5")
    before = settings.current()
    with fake(lambda request: True):
        pllm.configure(model="openai:gpt-6-luna", max_cost_usd=1)
        TEXTS.llm.parse(bool, PROMPT)
        assert pllm.cache.directory != str(cache_dir)

    assert settings.current() == before
    assert pllm.cache.info().entries == 0
    with fake(lambda request: False):
        assert TEXTS.llm.parse(bool, PROMPT)["answer"].tolist() == [False] * 3


def test_the_network_is_closed_inside() -> None:
    with (
        fake(lambda request: True),
        pytest.raises(
            OSError, match=r"A connection to '192\.0\.2\.1' was attempted inside fake\(\)\. network=True allows it\."
        ),
    ):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_a_batch_job_is_refused_with_what_to_do() -> None:
    with fake(lambda request: True), pytest.raises(UsageError, match="there are no batch jobs: use mode='async'"):
        TEXTS.llm.parse(bool, PROMPT, mode="batch", confirm=False)


def test_answers_that_are_none_of_the_three_are_an_error() -> None:
    with pytest.raises(UsageError, match="answers is a function, a mapping from prompts to answers"), fake(3):  # type: ignore[arg-type]
        pass


def test_a_recording_replays_without_a_key(sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.jsonl"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-kept")
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    with record(path):
        first = TEXTS.llm.parse(Opinion, PROMPT, model="openai:gpt-6-luna")
    assert sim.stats().answered == 3
    monkeypatch.delenv("OPENAI_API_KEY")

    with fake(path) as asked:
        again = TEXTS.llm.parse(Opinion, PROMPT, model="openai:gpt-6-luna")

    assert sim.stats().answered == 3
    assert again[["good", "why"]].equals(first[["good", "why"]])
    assert len(asked.requests) == 3
    assert "sk-not" not in path.read_text()
    assert [sorted(json.loads(line)) for line in path.read_text().splitlines()] == [
        ["format", "model", "reply", "request"]
    ] * 3


def test_recording_again_asks_for_what_is_new_alone(
    sim: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    monkeypatch.setenv("OPENAI_BASE_URL", sim.base_url("openai"))
    for rows, asked in ((2, 2), (3, 3), (3, 3)):
        with record(tmp_path / "answers.jsonl"):
            TEXTS.head(rows).llm.parse(bool, PROMPT, model="openai:gpt-6-luna")
        assert sim.stats().answered == asked


def test_a_prompt_that_is_not_recorded_is_shown(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl").write_text("")
    with pytest.raises(UnscriptedPromptError, match="'Is tea good\\?'"), fake(tmp_path / "answers.jsonl"):
        TEXTS.head(1).llm.parse(bool, PROMPT)


@pytest.mark.parametrize(("content", "message"), [(None, "There is no recording"), ("{}\n", "line 1 cannot be read")])
def test_a_file_that_is_no_recording_is_an_error(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "answers.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=message), fake(path):
        pass


def test_pytests_fixtures(pytester: Any) -> None:
    pytester.makepyfile(
        test_mine="""
        import pandas as pd
        import pllm_notebook as pllm
        import pytest

        FRAME = pd.DataFrame({"text": ["tea"]})

        def test_scripted(pllm_fake):
            asked = pllm_fake({"Is tea good?": True})
            assert FRAME.llm.parse(bool, "Is {text} good?")["answer"].tolist() == [True]
            assert asked.prompts == ["Is tea good?"]

        def test_unscripted(pllm_fake):
            pllm_fake({})
            FRAME.llm.parse(bool, "Is {text} good?")

        def test_without_its_recording(pllm_recording):
            pass
        """
    )

    # The entry point is there once the package has been installed as it is now.
    known = any(point.name == "pllm_notebook" for point in entry_points(group="pytest11"))
    plugin = [] if known else ["-p", "pllm_notebook.testing.pytest_plugin"]
    done = pytester.runpytest_subprocess("-p", "no:randomly", "-p", "no:xdist", *plugin)

    done.assert_outcomes(passed=2, errors=2)
    done.stdout.fnmatch_lines(["*No answer is scripted for 1 of the prompts:*", "*There is no recording*"])

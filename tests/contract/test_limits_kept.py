"""Learned limits from run to run, through the SDKs, and what the display says of limits."""

from __future__ import annotations

import json
import os
import warnings
from pathlib import Path
from typing import Any

import openai
import pandas as pd
import pytest

import pllm_notebook as pllm
from pllm_notebook import engine, execution
from pllm_notebook.engine import LearnedLimits, Limiter
from pllm_notebook.execution import options_for
from pllm_notebook.execution.asked_model import resolve_model
from pllm_notebook.execution.learned_limits import FILE, LimitCache, limits_name
from pllm_notebook.notebook import progress_format
from pllm_notebook.notebook.display_choice import choose_display
from pllm_notebook.notebook.line_magic import run_command
from pllm_notebook.sim import SimRequest, Simulator
from pllm_notebook.store import finish_writes
from pllm_notebook.store.claims import Claims
from pllm_notebook.types import Progress
from tests.contract.sides import OPENAI, Side, reach
from tests.forked import run_forked

FEW = pd.DataFrame({"text": [f"row {n}" for n in range(20)]})


def ask(model: str, word: str = "nice", **options: Any) -> pd.DataFrame:
    return FEW.llm.parse(bool, f"Is {{text}} {word}?", model=model, **options)


def settle() -> None:
    """Let what ended runs left behind be written, and end the engine: the next run is as in a new kernel."""
    engine.engine().workers.shutdown(wait=True)
    engine.shutdown()
    finish_writes()


def limiter_of(model: str) -> Limiter:
    (found,) = [one.limiter for one in engine.engine().dispatchers if one.name == model]
    return found


def test_what_a_provider_told_is_there_for_the_next_kernel(sim: Simulator, luna: str, cache_dir: Path) -> None:
    sim.set(requests_per_min=60_000, tokens_per_min=9_000_000, burst_s=1)

    ask(luna)
    settle()

    known = LimitCache(str(cache_dir)).known(resolve_model(options_for({"model": luna})).dispatcher_key)
    assert known is not None
    assert (known.requests_per_min, known.tokens_per_min) == (60_000.0, 9_000_000.0)


def test_nothing_secret_is_in_the_file(sim: Simulator, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reach(OPENAI, sim, monkeypatch, key="sk-secret-word")
    sim.set(requests_per_min=60_000)

    ask(OPENAI.model, word="private")
    settle()

    content = (cache_dir / FILE).read_text()
    (name,) = json.loads(content)["lanes"]
    assert name.startswith("openai:gpt-6-luna @")
    assert not any(word in content for word in ("secret", "private", "row", sim.base_url("openai"), "127.0.0.1"))


def test_a_new_kernel_begins_at_the_rate_that_the_last_one_found(
    sim: Simulator, compatible: Side, cache_dir: Path
) -> None:
    cache_dir.mkdir()
    dispatcher_key = resolve_model(options_for({"model": compatible.model})).dispatcher_key
    LimitCache(str(cache_dir)).keep(dispatcher_key, LearnedLimits(inferred_per_min=6_000.0))

    ask(compatible.model)

    assert sim.stats().refused_429 == 0
    assert limiter_of(compatible.model).inferred.rate >= 100.0  # begun there, and grown since


def test_a_process_of_its_own_leaves_its_limits_behind(sim: Simulator, luna: str, cache_dir: Path) -> None:
    code = (
        "import pandas as pd, pllm_notebook\n"
        f"pd.DataFrame({{'t': ['a', 'b']}}).llm.parse(bool, '{{t}}?', model={luna!r}, progress=False)\n"
    )
    sim.set(requests_per_min=60_000)

    assert run_forked("-c", code, env=os.environ | {"PLLM_CACHE_DIR": str(cache_dir)}).returncode == 0

    known = LimitCache(str(cache_dir)).known(resolve_model(options_for({"model": luna})).dispatcher_key)
    assert known is not None
    assert known.requests_per_min == 60_000.0


def test_limits_are_not_kept_of_a_run_that_keeps_nothing(sim: Simulator, luna: str, cache_dir: Path) -> None:
    sim.set(requests_per_min=60_000)

    ask(luna, cache="off")
    settle()

    assert not (cache_dir / FILE).exists()


def test_simulated_limits_are_not_kept(cache_dir: Path) -> None:
    pllm.configure(sim={"requests_per_min": 60_000})

    ask("sim:openai")
    settle()

    assert not (cache_dir / FILE).exists()


def test_limits_of_a_callers_own_client_are_not_kept_since_its_account_is_unknown(
    sim: Simulator, cache_dir: Path
) -> None:
    sim.set(requests_per_min=60_000)
    pllm.configure(clients={"ours": openai.AsyncOpenAI(api_key="any", base_url=sim.base_url("openai"))})

    ask("ours:gpt-6-luna")
    settle()

    assert not (cache_dir / FILE).exists()


def test_a_run_that_the_cache_answers_leaves_the_file_alone(sim: Simulator, luna: str, cache_dir: Path) -> None:
    sim.set(requests_per_min=60_000)
    ask(luna)
    settle()
    before = (cache_dir / FILE).stat().st_ino

    ask(luna)
    settle()

    assert (cache_dir / FILE).stat().st_ino == before


@pytest.mark.parametrize("broken", ["text", "directory"])
def test_a_file_that_cannot_be_read_or_written_loses_no_answer(
    sim: Simulator, luna: str, cache_dir: Path, broken: str
) -> None:
    cache_dir.mkdir()
    (cache_dir / FILE).mkdir() if broken == "directory" else (cache_dir / FILE).write_text("{")
    sim.set(requests_per_min=60_000)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answers = ask(luna)
    settle()

    assert answers["answer"].notna().all()
    assert (cache_dir / FILE).is_dir() == (broken == "directory")


class Watching:
    """A display that remembers what it was shown."""

    stays = False

    def __init__(self) -> None:
        self.shown: list[Progress] = []

    def open(self, progress: Progress, cancel: Any) -> None:
        self.shown.append(progress)

    def update(self, progress: Progress) -> None:
        self.shown.append(progress)

    def close(self, progress: Progress, retry: Any) -> None:
        self.shown.append(progress)


def test_the_display_says_which_limit_holds_calls_back_and_only_while_it_does(sim: Simulator, luna: str) -> None:
    display = Watching()
    # So low that a busy machine is held by it too.
    sim.set(requests_per_min=600, burst_s=0.1)
    told = "at the provider's limit: 600 requests a minute"

    execution.register_display(lambda: display)
    try:
        ask(luna, progress=True)
    finally:
        execution.register_display(choose_display)

    assert told in {progress.note for progress in display.shown}
    assert any(progress_format.step(progress).endswith(f" · {told}") for progress in display.shown)
    assert display.shown[-1].note == ""


def test_the_limits_word_shows_what_was_told_and_what_was_refused(sim: Simulator, luna: str) -> None:
    sim.set(requests_per_min=60_000, tokens_per_min=9_000_000)
    ask(luna)

    row = run_command("limits").loc[luna]

    assert (row["requests_per_min"], row["tokens_per_min"]) == (60_000, 9_000_000)
    assert pd.isna(row["inferred_per_min"])
    assert (row["in_flight"], row["refused"]) == (0, 0)
    assert pd.isna(row["waiting_until"])


def test_the_limits_word_shows_what_was_found_out_and_until_when_calls_wait(sim: Simulator, compatible: Side) -> None:
    sim.set(requests_per_min=1_200, burst_s=0.1)
    ask(compatible.model)
    limiter = limiter_of(compatible.model)

    limiter.paused_until = engine.engine().loop.loop.time() + 3600
    row = run_command("limits").loc[compatible.model]

    assert pd.isna(row["requests_per_min"])
    assert row["inferred_per_min"] == row["found_per_min"] == round(limiter.inferred.rate * 60)
    assert row["refused"] == limiter.refused > 0
    assert pd.Timedelta("59min") < row["waiting_until"] - pd.Timestamp.now() < pd.Timedelta("61min")


def test_a_run_takes_its_part_while_another_process_sends(sim: Simulator, luna: str, cache_dir: Path) -> None:
    # As another process would say it, which has this directory and this account.
    name = limits_name(resolve_model(options_for({"model": luna})).dispatcher_key)
    other = Claims(str(cache_dir))
    other.count_senders(name)
    seen: list[int] = []

    def answer(request: SimRequest) -> bool:
        other.count_senders(name)
        seen.append(limiter_of(luna).processes)
        return True

    sim.set(answers=answer, latency_s=0.05)
    ask(luna, concurrency=1)
    other.stop_sending(name)

    assert seen[-1] == 2
    assert limiter_of(luna).processes == 1
    engine.engine().workers.shutdown(wait=True)
    assert other.count_senders(name) == 1
    other.close()

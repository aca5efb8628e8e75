"""Batch jobs of the caller's own SDK clients: the next kernel's client of the same account takes them over."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types

import pllm_notebook as pllm
from pllm_notebook import engine
from pllm_notebook.batch import Journal
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import live_of
from pllm_notebook.providers.clients import fingerprint
from pllm_notebook.sim import Simulator
from pllm_notebook.store import close_stores
from tests.contract.scripts import words

KEY = "sk-somebodys-very-own-key"
MODELS = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5", "google": "gemini-3.5-flash-lite"}


def client_of(maker: str, sim: Simulator, key: str = KEY) -> Any:
    if maker == "openai":
        return openai.AsyncOpenAI(api_key=key, base_url=sim.base_url("openai"))
    if maker == "anthropic":
        return anthropic.AsyncAnthropic(api_key=key, base_url=sim.base_url("anthropic"))
    return genai.Client(api_key=key, http_options=types.HttpOptions(base_url=sim.base_url("google")))


def next_kernel(client: Any) -> None:
    """What a kernel's end does, and what the first cell of the next one says."""
    engine.shutdown()
    close_stores()
    pllm.configure(clients={"own": client})


def ask(maker: str, **options: Any) -> Any:
    frame = words("a", "b", "c")
    return frame.llm.parse(
        bool, "Is {text} good?", model=f"own:{MODELS[maker]}", mode="batch", confirm=False, **options
    )


@pytest.mark.parametrize("maker", MODELS)
def test_the_same_client_in_a_new_kernel_adopts_its_jobs(maker: str, sim: Simulator, cache_dir: Path) -> None:
    sim.set(batch_s=3600)
    pllm.configure(clients={"own": client_of(maker, sim)})
    ask(maker, wait=False)
    next_kernel(client_of(maker, sim))
    sim.advance(4000)

    (job,) = pllm.jobs().fetch()

    assert (str(job.state), job.answered) == ("done", 3)
    assert ask(maker).llm.status.tolist() == ["cached"] * 3
    assert sim.stats().batch_jobs == 1


@pytest.mark.parametrize("maker", MODELS)
def test_a_client_with_another_key_is_another_account(maker: str, sim: Simulator, cache_dir: Path) -> None:
    sim.set(batch_s=3600)
    pllm.configure(clients={"own": client_of(maker, sim)})
    ask(maker, wait=False)
    next_kernel(client_of(maker, sim, "sk-somebody-elses-key"))
    asked = sim.stats().batch_requests

    left = pllm.jobs().fetch()

    assert left.unreached == 1
    (job,) = left
    (message,) = left.frame["message"]
    assert message == (
        f"It was made with another key, client or address than is set here. Where that is gone for good, "
        f"pllm.jobs().abandon({job.id[:8]!r}) lets its rows be asked again."
    )
    assert sim.stats().batch_requests == asked
    with pytest.raises(UsageError, match=r"another key, client or address.*Nothing was sent"):
        pllm.jobs().cancel(job.id)


def test_a_client_that_was_given_in_place_of_a_closed_one_is_used(sim: Simulator, cache_dir: Path) -> None:
    sim.set(batch_s=3600)
    first = client_of("openai", sim)
    pllm.configure(clients={"own": first})
    ask("openai", wait=False)
    engine.engine().loop.loop.call_soon_threadsafe(lambda: engine.engine().loop.loop.create_task(first.close()))
    pllm.configure(clients={"own": client_of("openai", sim)})
    sim.advance(4000)

    (job,) = pllm.jobs().fetch()

    assert str(job.state) == "done"
    assert words("d").llm.complete("{text}", model="own:gpt-6-luna").llm.status.tolist() == ["ok"]


def test_a_run_that_waits_hears_of_its_job_through_another_client_of_the_account(
    sim: Simulator, cache_dir: Path
) -> None:
    sim.set(batch_s=3600)
    pllm.configure(clients={"own": client_of("openai", sim)})
    run = words("a", "b").llm.submit(bool, "Is {text} good?", model="own:gpt-6-luna", mode="batch", confirm=False)
    assert live_of(run)._end.handed.wait(60)
    pllm.configure(clients={"own": client_of("openai", sim)})
    sim.advance(4000)

    pllm.jobs().fetch()

    assert run.result().llm.status.tolist() == ["ok", "ok"]
    assert sim.stats().batch_jobs == 1


def test_the_journal_holds_no_key(sim: Simulator, cache_dir: Path) -> None:
    sim.set(batch_s=3600)
    pllm.configure(clients={"own": client_of("openai", sim)})
    ask("openai", wait=False)

    (job,) = Journal.open(str(cache_dir)).jobs()

    assert len(job.account) == 12
    assert not any(KEY.encode() in path.read_bytes() for path in cache_dir.rglob("*") if path.is_file())


AZURE = {"azure_endpoint": "http://127.0.0.1:1/a", "api_key": KEY, "api_version": "v1", "azure_deployment": "d"}
OPENAI = {"api_key": KEY, "base_url": "http://127.0.0.1:1/v1", "organization": "o", "project": "p"}


@pytest.mark.parametrize(
    ("kind", "given", "other"),
    [
        *[("AsyncOpenAI", OPENAI, {name: f"{value}x"}) for name, value in OPENAI.items()],
        *[("AsyncAzureOpenAI", AZURE, {name: f"{value}x"}) for name, value in AZURE.items()],
        ("AsyncOpenAI", OPENAI, {"base_url": "http://user:password@127.0.0.1:1/v1"}),
    ],
)
def test_whatever_leads_to_another_account_tells_clients_apart(
    kind: str, given: dict[str, str], other: dict[str, str]
) -> None:
    make = getattr(openai, kind)

    assert fingerprint(make(**given)) == fingerprint(make(**given, max_retries=7, timeout=3))
    assert fingerprint(make(**given)) != fingerprint(make(**given | other))


def test_a_class_of_the_callers_own_over_a_client_is_the_same_account() -> None:
    class Traced(openai.AsyncOpenAI):
        pass

    assert fingerprint(Traced(**OPENAI)) == fingerprint(openai.AsyncOpenAI(**OPENAI))


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    code = (
        "import json, sys, openai, anthropic\n"
        "from google import genai\n"
        "from pllm_notebook.providers.clients import fingerprint\n"
        "given = json.loads(sys.argv[1])\n"
        "clients = openai.AsyncOpenAI(**given), anthropic.AsyncAnthropic(api_key='k'), genai.Client(api_key='k')\n"
        "print([fingerprint(each) for each in clients])"
    )
    run = subprocess.run([sys.executable, "-c", code, json.dumps(OPENAI)], capture_output=True, text=True, check=True)

    here = [openai.AsyncOpenAI(**OPENAI), anthropic.AsyncAnthropic(api_key="k"), genai.Client(api_key="k")]  # type: ignore[arg-type]
    assert run.stdout.strip() == str([fingerprint(each) for each in here])

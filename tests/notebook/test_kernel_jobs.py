"""Batch jobs in real kernels: the next kernel goes on with them, and the buttons do what they say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pllm_notebook.sim import Simulator
from tests.notebook.kernels import Kernel

pytestmark = pytest.mark.kernel

LONG_S = 1000.0

SETUP = """
import os
os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"] = "any-key", {address!r}
%load_ext pllm_notebook
"""

ASK = """
import pandas as pd
import pllm_notebook as pllm
df = pd.DataFrame({"text": [f"text {i}" for i in range(20)]})

def ask(**options):
    return df.llm.parse(bool, "Is {text} good?", model="openai:gpt-6-luna", progress=False, **options)

def submit():
    ask(mode="batch", confirm=False, wait=False)

def states():
    return pllm.jobs().frame["state"].tolist()
"""

OWN_CLIENT = """
import openai
pllm.configure(clients={{"own": openai.AsyncOpenAI(api_key="a-key-of-my-own", base_url={address!r})}})

def ask_own(**options):
    return df.llm.parse(bool, "Is {{text}} good?", model="own:gpt-6-luna", progress=False, **options)
"""

UNTIL_DONE = """
import time
for _ in range(3000):
    if states() == ["done"]:
        break
    time.sleep(0.05)
"""


@pytest.fixture
def kernel(tmp_path: Path, sim: Simulator) -> Iterator[Kernel]:
    """A kernel with a cache of its own, whose jobs take long, and a simulator that outlives it."""
    sim.set(batch_s=LONG_S)
    kernel = Kernel(tmp_path, SETUP.format(address=sim.base_url("openai")))
    yield kernel
    kernel.close()


def test_the_next_kernel_takes_over_the_jobs_of_a_client_of_ones_own(kernel: Kernel, sim: Simulator) -> None:
    own = OWN_CLIENT.format(address=sim.base_url("openai"))
    kernel.ok(ASK)
    kernel.ok(own)
    kernel.ok("ask_own(mode='batch', confirm=False, wait=False)")
    sim.advance(LONG_S)

    kernel.restart()
    kernel.ok(ASK)
    kernel.ok(own)
    kernel.ok("out = ask_own(mode='batch', confirm=False)")

    assert kernel.value("out['answer'].notna().all().item()")
    assert sim.stats().batch_jobs == 1


def test_the_next_kernel_takes_in_what_ended_without_being_asked(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok(ASK)
    kernel.ok("submit()")
    sim.advance(LONG_S)
    jobs = sim.stats().batch_jobs

    kernel.restart()

    # Nothing here but looking at the journal; the extension alone was loaded.
    kernel.ok(ASK)
    kernel.ok(UNTIL_DONE)
    assert kernel.value("ask().llm.status.tolist()") == ["cached"] * 20
    assert (sim.stats().requests, sim.stats().batch_jobs, jobs) == (0, 1, 1)


def test_a_kernel_with_nothing_open_starts_nothing(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok("import sys, threading")
    kernel.ok("loaded = [name for name in ('openai', 'anthropic', 'google.genai') if name in sys.modules]")

    assert kernel.value("loaded") == []
    assert "pllm-engine" not in kernel.value("[thread.name for thread in threading.enumerate()]")


def test_polling_can_be_turned_off(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok(ASK)
    kernel.ok("submit()")
    kernel._setup += "import pllm_notebook as pllm\npllm.configure(poll=False)\n"
    kernel.close()
    asked = sim.stats().batch_requests

    kernel._begin()

    kernel.ok(ASK)
    kernel.ok("import threading")
    assert "pllm-engine" not in kernel.value("[thread.name for thread in threading.enumerate()]")
    assert kernel.value("states()") == ["running"]
    assert sim.stats().batch_requests == asked


def test_a_loop_may_be_chosen_after_jobs_are_looked_after(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok(ASK)
    kernel.ok("submit()")

    kernel.restart()

    kernel.ok(ASK)
    kernel.ok("pllm.configure(loop='notebook')")
    # Rows that wait in no job.
    kernel.ok("df['text'] = 'another ' + df['text']")
    assert kernel.value("ask().llm.status.tolist()") == ["ok"] * 20


def test_the_table_is_shown_with_buttons_that_do_what_they_say(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok(ASK)
    kernel.ok("submit()")
    cell = kernel.ok("%pllm jobs")
    (panel,) = [model for model, state in kernel.comms.items() if "commands" in state]
    (job,) = kernel.widget(panel)["names"]

    assert [label for _, label, _ in kernel.widget(panel)["commands"]] == [
        "Refresh", "Fetch", "Cancel", "Resubmit", "Send live"
    ]  # fmt: skip
    output = cell.outputs[0]
    # No widget in the output: a notebook that is opened later has the table, and no error in its place.
    assert set(output["data"]) == {"text/plain", "text/html"}
    assert f'data-pllm-jobs="{kernel.widget(panel)["view_id"]}"' in output["data"]["text/html"]
    assert all("openai:gpt-6-luna" in text for text in output["data"].values())

    kernel.do(panel, "send_live", {"job": job})
    kernel.until(lambda: "Click Send live again" in kernel.widget(panel)["said"])
    assert sim.stats().requests == 0
    # What was asked about this job holds for it alone, and until another is chosen.
    kernel.do(panel, "choose", {"job": job})
    kernel.until(lambda: not kernel.widget(panel)["said"])
    kernel.do(panel, "send_live", {"job": "another"})
    kernel.do(panel, "send_live", {"job": job})
    kernel.until(lambda: "Click Send live again" in kernel.widget(panel)["said"])
    assert sim.stats().requests == 0
    kernel.do(panel, "send_live", {"job": job})
    kernel.until(lambda: "20 lines were answered live" in kernel.widget(panel)["said"])
    assert sim.stats().requests == 20
    sim.advance(LONG_S)
    kernel.do(panel, "fetch")
    kernel.until(lambda: "20 elsewhere" in kernel.widget(panel)["html"])
    # What is saved says it too.
    kernel.until(lambda: all("20 elsewhere" in text for text in output["data"].values()))


def test_a_resubmission_that_nobody_can_confirm_is_told_in_one_line(kernel: Kernel, sim: Simulator) -> None:
    kernel.ok(ASK)
    sim.set(batch_line_error=0.5)
    kernel.ok("submit()")
    sim.advance(LONG_S)
    kernel.ok("job = next(iter(pllm.jobs().fetch())).id")

    cell = kernel.run("pllm.jobs().resubmit(job)")

    assert cell.error.startswith("NotConfirmedError: 10 of the 20 lines of batch job")
    assert sim.stats().batch_jobs == 1

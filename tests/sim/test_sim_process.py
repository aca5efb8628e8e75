"""The server's process: quick to start, gone when it should be, and of no concern to others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import openai
import psutil
import pytest
from sim_asking import chat

from pllm_notebook.exceptions import PllmError, UnknownOptionError, UsageError
from pllm_notebook.sim import SimOptions, Simulator, shared


def gone(pid, within_s=10.0):
    deadline = time.monotonic() + within_s
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def client(sim):
    return openai.OpenAI(api_key="k", base_url=sim.base_url("openai"), max_retries=0, timeout=60)


def test_the_process_inherits_no_key(monkeypatch):
    for name in ("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "MY_PASSWORD"):
        monkeypatch.setenv(name, "canary-in-the-environment")
    with Simulator() as sim:
        inherited = psutil.Process(sim.pid).environ()

    assert "canary-in-the-environment" not in inherited.values()
    assert "PATH" in inherited


def test_closing_leaves_no_process_and_no_port():
    sim = Simulator()
    with sim, client(sim) as gpt:
        pid, address = sim.pid, sim.base_url("openai")
        chat(gpt)
        assert sim.stats().starts == 1

    assert not psutil.pid_exists(pid)
    with pytest.raises(openai.APIConnectionError):
        chat(openai.OpenAI(api_key="k", base_url=address, max_retries=0))
    sim.close()


def test_it_starts_again_after_a_close_or_a_crash():
    with Simulator() as sim:
        os.kill(sim.pid, signal.SIGKILL)
        gone(sim.pid)
        deadline = time.monotonic() + 60
        while sim._process.running and time.monotonic() < deadline:
            pass

        with pytest.raises(PllmError, match="has ended"):
            sim.stats()
        with client(sim) as gpt:
            chat(gpt)
        assert sim.stats().starts == 2


PARENT = """
import sys, time
from pllm_notebook.sim import Simulator
sim = Simulator(answers=lambda request: time.sleep(60)).start()
print(sim.pid, sim.url, flush=True)
{rest}
"""


def parent(rest):
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(rest=rest)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    pid, url = process.stdout.readline().split()
    return process, int(pid), url


def test_it_ends_when_its_program_is_killed():
    process, pid, _ = parent("time.sleep(60)")

    process.kill()
    process.communicate()

    assert gone(pid)


def test_it_ends_with_the_interpreter_even_while_the_answers_function_works():
    process, pid, url = parent("time.sleep(0.3)")
    with pytest.raises(openai.APIConnectionError):
        chat(openai.OpenAI(api_key="k", base_url=url + "/openai/v1", max_retries=0, timeout=20))

    _, errors = process.communicate(timeout=20)

    assert process.returncode == 0, errors
    assert gone(pid)


def test_an_interrupt_to_the_programs_group_does_not_reach_it():
    with Simulator() as sim:
        assert os.getpgid(sim.pid) != os.getpgid(0)
        assert os.getsid(sim.pid) != os.getsid(0)


def test_a_forked_child_neither_uses_nor_ends_it():
    with Simulator() as sim, client(sim) as gpt:
        child = os.fork()
        if child == 0:
            # The child's handle knows of no server; closing it must not end the parent's.
            known = sim._process is not None
            sim.close()
            os._exit(known)
        _, status = os.waitpid(child, 0)

        assert status == 0
        assert chat(gpt).choices


def test_the_server_imports_neither_an_sdk_nor_pandas():
    with Simulator() as sim:
        maps = {os.path.basename(os.path.dirname(m.path)) for m in psutil.Process(sim.pid).memory_maps()}

    assert not {"pandas", "numpy", "pydantic_core"} & maps


def test_the_shared_one_is_changed_in_place():
    first = shared({"seed": 3})
    port = first.url
    second = shared({"latency_s": 0.001, "answers": lambda request: "mine"})

    assert first is second
    assert second.url == port
    assert second.options == SimOptions(latency_s=0.001)
    with client(second) as gpt:
        assert chat(gpt).choices[0].message.content == "mine"
    shared({})
    with client(second) as gpt:
        assert chat(gpt).choices[0].message.content.startswith("SIMULATED")
    second.close()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"latency_s": -1}, "sim: latency_s is a number of at least 0, not -1."),
        ({"error_500": 1.5}, "sim: error_500 is a number from 0 to 1, not 1.5."),
        ({"error_500": 0.6, "reset": 0.6}, "sim: the rates of all faults together are 1.2, more than 1."),
        ({"slots": 0}, "sim: slots is a whole number above 0 or None, not 0."),
        ({"seed": "a"}, "sim: seed is a whole number, not 'a'."),
        ({"headers": "some"}, "sim: headers is one of 'full', 'retry_after', 'none', not 'some'."),
        ({"rungs": ("grammar",)}, "sim: rungs are of 'json_schema', 'json_object', 'none', 'ignored', not 'grammar'."),
        ({"limits": {"m": 3}}, "sim: the limits of 'm' are (requests_per_min, tokens_per_min), not 3."),
    ],
)
def test_an_option_outside_its_range_is_refused_and_changes_nothing(sim, values, message):
    before = sim.options

    with pytest.raises(UsageError) as refused:
        sim.set(**values)

    assert str(refused.value) == message
    assert sim.options == before


def test_an_unknown_option_is_refused_with_a_guess(sim):
    with pytest.raises(UnknownOptionError, match="Did you mean 'latency_s'"):
        sim.set(latency=1)
    with pytest.raises(UsageError, match="a provider is one of"):
        sim.base_url("mistral")


def test_requests_are_kept_without_their_keys(sim, gpt):
    sim.set(keep_requests=2)
    for prompt in ("a", "b", "c"):
        chat(gpt, prompt)

    kept = sim.requests()

    assert [one["body"]["messages"][0]["content"] for one in kept] == ["b", "c"]
    assert kept[0]["provider"] == "openai"
    assert kept[0]["path"] == "/openai/v1/chat/completions"
    assert kept[0]["headers"]["authorization"] == "[redacted]"
    assert sim.requests(limit=1) == kept[-1:]
    sim.reset()
    assert sim.requests() == []

"""Programs in a real kernel: `%%pllm_session`, and the dashboard of a session."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pllm_notebook.sim import Simulator
from tests.notebook.kernels import PATIENCE_S, Kernel

pytestmark = pytest.mark.kernel

LONG_S = 1000.0

SETUP = """
import os
os.environ["OPENAI_API_KEY"], os.environ["OPENAI_BASE_URL"] = "any-key", {address!r}
import pllm_notebook as pllm
pllm.configure(model="openai:gpt-6-luna")
%load_ext pllm_notebook
"""

ROUNDS = """%%pllm_session {directory} --strategy batch --no-confirm
one = agent.ask_llm("one").resolve()
two = [agent.ask_llm(f"{{one}} {{word}}") for word in "ab"]
told = session.resolve_all(two)
agent.print("told", *told)
len(told)"""


@pytest.fixture
def kernel(tmp_path: Path, sim: Simulator) -> Iterator[Kernel]:
    """A kernel whose provider answers what it was asked last, and outlives it."""
    sim.set(batch_s=LONG_S, answers=lambda request: f"<{request.prompt}>")
    kernel = Kernel(tmp_path, SETUP.format(address=sim.base_url("openai")))
    yield kernel
    kernel.close()


@pytest.fixture(scope="module")
def unasked(tmp_path_factory: pytest.TempPathFactory, sim_server: Simulator) -> Iterator[Kernel]:
    """One kernel for the cells that end before they ask anything."""
    kernel = Kernel(tmp_path_factory.mktemp("unasked"), SETUP.format(address=sim_server.base_url("openai")))
    yield kernel
    kernel.close()


def html(kernel: Kernel, cell: Any) -> str:
    """Give the last picture of a session in a cell, "" for none."""
    return next((o["data"]["text/html"] for o in reversed(cell.outputs) if "text/html" in o["data"]), "")


def test_a_cell_goes_on_from_one_run_to_the_next(kernel: Kernel, sim: Simulator) -> None:
    cell = ROUNDS.format(directory="program")

    first = kernel.ok(cell)
    sim.advance(LONG_S)
    kernel.restart()
    second = kernel.ok(cell)
    sim.advance(LONG_S)
    third = kernel.ok(cell)

    assert "submitted 1 call in 1 batch job" in first.stdout
    assert "submitted 2 calls in 1 batch job" in second.stdout
    assert (first.result, second.result) == ("", "")
    assert "told <<one> a> <<one> b>" in third.stdout
    assert third.result == "2"
    assert (sim.stats().requests, sim.stats().batch_lines) == (0, 3)


def test_the_session_and_its_agent_stay_bound(kernel: Kernel) -> None:
    kernel.ok("%%pllm_session 'my program' --agent judge --no-dashboard\nreply = agent.ask_llm('one')")

    assert kernel.value("[agent.name, session.strategy, reply.resolve()]") == ["judge", "async", "<one>"]
    assert kernel.value("os.path.isfile('my program/session.json')")


def test_a_body_may_await_and_use_ipythons_own_words(kernel: Kernel) -> None:
    cell = kernel.ok(
        "%%pllm_session program --no-dashboard\nhere = %pwd\nanswer = await agent.ask_llm('one')\nanswer, here"
    )

    assert re.match(r"\('<one>',\s+'/", cell.result)  # in two lines where the directory's name is long


def test_a_value_is_not_shown_after_a_semicolon(kernel: Kernel) -> None:
    assert kernel.ok("%%pllm_session program --no-dashboard\nagent.ask_llm('one').resolve();").result == ""


def test_the_options_are_told_of_without_a_program(unasked: Kernel) -> None:
    told = unasked.ok("%%pllm_session --help").stdout

    assert told.startswith("%%pllm_session DIRECTORY [--strategy STRATEGY]")
    assert "--no-confirm" in told


def test_a_fault_is_shown_with_the_line_of_the_cell(unasked: Kernel) -> None:
    cell = unasked.run("%%pllm_session program --no-dashboard\nfirst = 1\nsecond = missing")

    assert cell.reply["ename"] == "NameError"
    plain = re.sub(r"\x1b\[[0-9;]*m", "", cell.error)
    assert re.search(r"----> 2 second\s*=\s*missing", plain)
    assert "session_magic.py" not in plain


@pytest.mark.parametrize(
    ("cell", "told"),
    [
        ("%%pllm_session\n1", "UsageError: %%pllm_session needs a directory"),
        (
            "%%pllm_session a\none = 1\nx = = 1",
            "UsageError: The cell is not Python: invalid syntax, in line 2 of the program: 'x = = 1'. Nothing",
        ),
        (
            "%%pllm_session a --model x --model y\n1",
            "UsageError: --model is given twice on the line of %%pllm_session.",
        ),
        ("%%pllm_session a --dashboard=no\n1", "--dashboard is a switch, and 'no' is no value of it"),
        ("%%pllm_session a b\n1", "UsageError: 'b' is unexpected on the line"),
        ("%%pllm_session a --modle x\n1", "UnknownOptionError: There is no option '--modle'. Did you mean '--model'?"),
        ("%%pllm_session a --strategy fast\n1", "UsageError: %%pllm_session: argument --strategy: invalid choice"),
    ],
)
def test_a_line_that_cannot_be_read_is_one_line_of_error(unasked: Kernel, cell: str, told: str) -> None:
    ran = unasked.run(cell)

    assert ran.status == "error"
    assert told in ran.error
    assert len(ran.error.splitlines()) == 1
    assert "Nothing was sent" in ran.error


def test_a_call_that_fails_ends_the_cell_in_one_line(kernel: Kernel, sim: Simulator) -> None:
    from pllm_notebook.sim import SimAnswer

    sim.set(answers=lambda request: SimAnswer.refusal("I will not."))

    cell = kernel.run("%%pllm_session program --no-dashboard\nagent.ask_llm('one').resolve()")

    assert cell.reply["ename"] == "ErrorResponse"
    assert len(cell.error.splitlines()) == 1


def test_an_interrupt_ends_a_cell_that_waits(kernel: Kernel, sim: Simulator) -> None:
    sim.set(latency_s=10 * PATIENCE_S, answers=None)
    cell = kernel.start(
        "%%pllm_session program --no-dashboard\nprint('asking', flush=True)\nagent.ask_llm('one').resolve()"
    )
    kernel.until(lambda: "asking" in cell.stdout and sim.stats().in_flight > 0)

    kernel.interrupt()
    kernel.finish(cell)

    assert cell.reply["ename"] == "KeyboardInterrupt"


def test_an_interrupt_ends_what_the_program_does_itself(kernel: Kernel) -> None:
    working = f"import time\nprint('working', flush=True)\ntime.sleep({PATIENCE_S / 2})"
    cell = kernel.start(f"%%pllm_session program --no-dashboard\n{working}")
    kernel.until(lambda: "working" in cell.stdout)

    kernel.interrupt()
    kernel.finish(cell)

    assert cell.reply["ename"] == "KeyboardInterrupt"


@pytest.mark.parametrize("apart", [True, False], ids=["vscode", "browser"])
def test_the_dashboard_is_a_picture_that_changes_while_the_program_waits_and_no_output_holds_a_widget(
    kernel: Kernel, sim: Simulator, apart: bool
) -> None:
    sim.set(latency_s=3.0)
    if not apart:
        kernel.ok("del os.environ['VSCODE_PID']")
    cell = kernel.start(
        "with pllm.resume_directory('program') as session, session.agent('judge', dashboard=True) as agent:\n"
        "    replies = [agent.ask_llm(f'call {i}') for i in range(8)]\n"
        "    agent.print('asked')\n"
        "    session.resolve_all(replies)"
    )
    shown: set[str] = set()

    def all_are_sent() -> bool:
        shown.add(html(kernel, cell))
        shown.update(state["html"] for state in kernel.comms.values() if "ended" in state)
        return any(re.search(r"sent <span[^>]*>8<", each) for each in shown)

    kernel.until(all_are_sent)
    kernel.finish(cell)

    assert cell.status == "ok", cell.error
    assert cell.views() == []
    panels = [state for state in kernel.comms.values() if "ended" in state]
    # The newest stay, so that a page that was loaded again while the cell ran has the end too.
    assert [(state["ended"], state["view_id"] in html(kernel, cell)) for state in panels] == [(True, True)] * (
        not apart
    )
    assert re.search(r"stored <span[^>]*>8<", html(kernel, cell))
    assert any("8 / 8 calls answered" in text for text in cell.texts)
    assert cell.stdout == "asked\n"


def test_without_widgets_the_dashboard_is_a_picture(kernel: Kernel, sim: Simulator) -> None:
    sim.set(latency_s=1.0)
    kernel.ok("import sys; sys.modules['ipywidgets'] = None")

    cell = kernel.ok("%%pllm_session program\nagent.ask_llm('one').resolve()")

    assert cell.views() == []
    assert re.search(r"stored <span[^>]*>1<", html(kernel, cell))


def test_invented_answers_are_marked_on_the_dashboard_when_they_come_from_the_store_too(kernel: Kernel) -> None:
    program = "%%pllm_session simulated --model sim:openai\nagent.ask_llm('one').resolve()"

    shown = [html(kernel, kernel.ok(program)) for _ in range(2)]

    assert all("SIMULATED" in each for each in shown)
    assert re.search(r"cached <span[^>]*>1<", shown[1])


def test_a_conversation_is_shown_as_a_tree(kernel: Kernel) -> None:
    cell = kernel.ok(
        "%%pllm_session program --no-dashboard\n"
        "state = agent.state('chat')\nstate += '<b>one</b>'\nother = state.fork()\n"
        "state += state.ask_llm()\nother += ('assistant', 'two')\nstate"
    )

    (shown,) = [output["data"] for output in cell.outputs if output["type"] == "execute_result"]
    # The reply that comes joins the tree before or after the other branch.
    assert re.search("[├└]─ assistant: <<b>one</b>>  ←", shown["text/plain"])
    assert "&lt;b&gt;one" in shown["text/html"]


def test_the_magic_goes_with_the_extension(kernel: Kernel) -> None:
    kernel.ok("%unload_ext pllm_notebook")

    assert kernel.run("%%pllm_session program\n1").status == "error"
    assert (
        kernel.value("len([t for t in get_ipython().input_transformers_cleanup if 'pllm' in type(t).__module__])") == 0
    )

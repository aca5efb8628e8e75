"""Runs in a real kernel: blocking, awaited and in the background; what they show and what is saved."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter, MarkdownExporter

from tests.notebook.conftest import SETUP
from tests.notebook.kernels import Kernel, specs_in

pytestmark = pytest.mark.kernel


def test_blocking_awaited_and_submitted_runs_give_the_same(kernel: Kernel) -> None:
    kernel.ok("a = df.llm.parse(Review, 'A: {text}', cache='off')")
    kernel.ok("b = await df.llm.aparse(Review, 'A: {text}', cache='off')")
    kernel.ok("run = df.llm.submit(Review, 'A: {text}', cache='off')")
    kernel.ok("c = await run")

    assert kernel.value("bool(a.equals(b) and b.equals(c))") is True


def test_a_run_shows_in_the_cell_that_started_it(kernel: Kernel) -> None:
    kernel.ok("server = sim(latency_s=0.4)")

    started = kernel.ok("run = reviews(3, 'background').llm.submit(bool, '{text}')")
    waited = kernel.ok("flags = await run")

    assert started.texts[0].startswith("✓ bool: 3 rows answered")
    assert waited.texts == []


def test_a_run_from_another_thread_shows_in_the_cell_that_started_it(kernel: Kernel) -> None:
    kernel.ok("sim(latency_s=0.4)")

    cell = kernel.ok(
        "import contextvars, threading\n"
        "work = lambda: reviews(3, 'thread').llm.parse(bool, '{text}')\n"
        "thread = threading.Thread(target=contextvars.copy_context().run, args=(work,)); thread.start()"
    )
    kernel.ok("thread.join()")

    assert cell.texts[0].startswith("✓ bool: 3 rows answered")


def test_a_long_run_shows_a_view_and_leaves_a_page(kernel: Kernel) -> None:
    kernel.ok("sim(latency_s=0.4)")

    opened = set(kernel.comms)
    cell = kernel.start("flags = reviews(200, 'widget').llm.parse(bool, '{text}', max_cost_usd=5)")
    kernel.until(lambda: any("snapshot" in kernel.comms[each] for each in set(kernel.comms) - opened))
    shown = next(
        json.loads(json.dumps(kernel.comms[each]))
        for each in set(kernel.comms) - opened
        if "snapshot" in kernel.comms[each]
    )
    saved = cell.texts[0]
    kernel.finish(cell)

    head = shown["snapshot"]["head"]
    assert (head["simulated"], head["total"], head["budget_usd"], head["can"]["stop"]) == (True, 200, 5, True)
    assert shown["_model_module"] == "anywidget"
    assert "running since" in saved
    assert "pllm.runs()[-1]" in saved
    assert cell.views() == []
    assert cell.texts[0].startswith("✓ bool: 200 rows answered")
    assert "<svg" in cell.outputs[0]["data"]["text/html"]


def test_a_browser_that_found_the_place_leaves_no_widget_in_the_notebook(kernel: Kernel) -> None:
    if "kernel subshells" not in kernel.features:
        pytest.skip("this kernel has no subshells: the word comes when the cell has ended, and so does the page")
    kernel.ok("sim(latency_s=30)")
    cell = kernel.start("flags = reviews(9, 'placed').llm.parse(bool, '{text}')")
    kernel.until(lambda: bool(cell.views()))
    view, subshell = cell.views()[0], kernel.ask("control", "create_subshell_request", {})["subshell_id"]
    place = kernel.widget(view)["view_id"]

    kernel.do(view, "placed", subshell_id=subshell)
    kernel.until(lambda: not cell.views())
    kernel.do(view, "stop", subshell_id=subshell)
    kernel.finish(cell)

    assert f'data-pllm-view="{place}"' in cell.outputs[0]["data"]["text/html"]
    kernel.ok("sim()")


def test_failed_rows_can_be_retried_by_kind_and_the_page_says_what_the_frame_has_not(kernel: Kernel) -> None:
    kernel.ok("sim(error_500=1.0)")
    opened = set(kernel.comms)
    cell = kernel.ok("flags = reviews(4, 'failing').llm.parse(bool, '{text}', max_retries=0); server = sim()")
    assert cell.texts[0].startswith("⚠ bool: 0 of 4 rows answered · 4 failed")
    (view,) = (each for each in set(kernel.comms) - opened if "snapshot" in kernel.comms[each])
    assert cell.views() == []

    kernel.do(view, "retry", {"kinds": ["refusal"]})
    kernel.ok("pllm.runs()[-1].wait()")
    still_failed = cell.texts[0]
    kernel.do(view, "retry", {"kinds": ["server_error"]})
    kernel.until(lambda: cell.texts[0].startswith("✓ bool: 4 rows answered"))

    assert "4 failed" in still_failed
    assert "4 more rows are answered. Run the cell again" in cell.texts[0]
    assert kernel.value("server.stats().answered") == 4


def test_a_row_is_opened_with_its_messages_and_its_cost(kernel: Kernel) -> None:
    opened = set(kernel.comms)
    kernel.ok("sim(latency_s=2.0)")  # a view is drawn for what takes longer than a moment, on any machine
    cell = kernel.start("flags = reviews(4, 'opened').llm.parse(bool, '{text}')")
    kernel.finish(cell)
    kernel.ok("sim()")
    (view,) = (each for each in set(kernel.comms) - opened if "snapshot" in kernel.comms[each])

    kernel.do(view, "open", {"row": 2})
    kernel.until(lambda: "opened" in kernel.widget(view))

    detail = kernel.widget(view)["opened"]
    assert dict(detail["facts"])["status"] == "ok"
    assert detail["messages"][-1][0] == "user"
    assert "opened" in detail["messages"][-1][1]


def test_with_a_bar_no_text_of_a_row_leaves_the_kernel(kernel: Kernel) -> None:
    opened = set(kernel.comms)
    kernel.ok("sim(latency_s=2.0)")  # a view is drawn for what takes longer than a moment, on any machine
    cell = kernel.ok("flags = reviews(4, 'unseen').llm.parse(bool, '{text}', progress='bar', save_rows=True)")
    kernel.ok("sim()")
    (view,) = (each for each in set(kernel.comms) - opened if "snapshot" in kernel.comms[each])

    kernel.do(view, "open", {"row": 2})
    kernel.until(lambda: "opened" in kernel.widget(view))

    assert "unseen" not in json.dumps([kernel.widget(view), cell.outputs])
    assert kernel.widget(view)["snapshot"]["head"]["done"] == 4


def test_progress_can_be_switched_off(kernel: Kernel) -> None:
    cell = kernel.ok("flags = df.llm.parse(bool, 'Silent: {text}', progress=False)")

    assert cell.outputs == []


def test_failures_are_said_once_in_the_cell(kernel: Kernel) -> None:
    kernel.ok("sim(error_500=1.0)")

    shown = kernel.ok("out = reviews(3, 'said once').llm.parse(bool, '{text}', max_retries=0)")
    silent = kernel.ok("out = reviews(3, 'said once').llm.parse(bool, '{text}', max_retries=0, progress=False)")

    kernel.ok("sim()")
    assert "3 failed" in shown.texts[0]
    assert shown.streams["stderr"] == ""
    assert silent.texts == []
    assert silent.streams["stderr"].count("3 of 3 rows failed") == 1


def test_configure_shows_nothing_as_a_cells_last_line(kernel: Kernel) -> None:
    cell = kernel.ok("pllm.configure(temperature=0)")

    kernel.ok("pllm.configure(temperature=None)")
    assert cell.outputs == []


def test_a_cell_is_named_by_the_number_beside_it(kernel: Kernel) -> None:
    cell = kernel.ok("from pllm_notebook.shell import origin; name = origin()")

    assert kernel.value("name") == f"[{cell.reply['execution_count']}]"


def test_timeouts_and_task_groups_cancel_what_they_hold(kernel: Kernel) -> None:
    kernel.ok("sim(latency_s=30)")

    timed = kernel.ok(
        "try:\n"
        "    async with asyncio.timeout(2):\n"
        "        await reviews(50, 'timed').llm.aparse(bool, '{text}')\n"
        "except TimeoutError:\n"
        "    print('timed out', pllm.runs()[-1].state)"
    )
    grouped = kernel.ok(
        "async def fail():\n"
        "    await asyncio.sleep(2)\n"
        "    raise ValueError('mine')\n"
        "try:\n"
        "    async with asyncio.TaskGroup() as group:\n"
        "        group.create_task(reviews(50, 'grouped').llm.aparse(bool, '{text}'))\n"
        "        group.create_task(fail())\n"
        "except* ValueError:\n"
        "    print('failed', pllm.runs()[-1].state)"
    )

    assert timed.stdout == "timed out cancelled\n"
    assert grouped.stdout == "failed cancelled\n"


def test_two_awaited_runs_go_on_together(kernel: Kernel) -> None:
    kernel.ok("server = sim(latency_s=3.0)")

    kernel.ok(
        "a, b = await asyncio.gather(reviews(4, 'p').llm.aparse(bool, '{text}'), "
        "reviews(4, 'q').llm.aparse(bool, '{text}'))"
    )

    assert kernel.value("server.stats().peak_in_flight") == 8


def test_loading_the_extension_loads_no_widget_library(kernel: Kernel) -> None:
    code = (
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', 'import sys, pllm_notebook; from IPython.core.interactiveshell "
        "import InteractiveShell as S; s = S(); pllm_notebook.load_ipython_extension(s); "
        'print({"ipywidgets", "tqdm", "openai", "anthropic", "aiohttp"} & set(sys.modules))\'], capture_output=True, '
        "text=True).stdout)"
    )

    assert kernel.ok(code).stdout.strip() == "set()"


def test_a_saved_notebook_reads_well(tmp_path: Path) -> None:
    cells = [
        SETUP.replace("df = reviews(5)", "sim(latency_s=0.4); df = reviews(5)"),
        "%%pllm df --schema Review --out answers\nRead this:\n{text}",
        "flags = df.llm.parse(bool, 'Good? {text}')",
        "server = sim(error_500=1.0)\nflags = df.llm.parse(bool, 'Bad? {text}', max_retries=0)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    manager = KernelManager(kernel_name="tested", kernel_spec_manager=specs_in(tmp_path))

    NotebookClient(notebook, km=manager, timeout=180).execute(env={"PLLM_CACHE_DIR": str(tmp_path / "cache")})

    markdown, _ = MarkdownExporter().from_notebook_node(notebook)
    page, _ = HTMLExporter().from_notebook_node(notebook)
    for text in (markdown, page):
        assert "✓ Review: 5 rows answered · " in text
        assert "✓ bool: 5 rows answered · " in text
        assert "⚠ bool: 0 of 5 rows answered · 5 failed (pllm.errors() says why) · " in text
        assert "HBox(" not in text
        assert "VBox(" not in text
    assert "Running the cell again sends these again" in markdown


def test_a_row_is_pinned_and_marked_in_the_view_and_the_label_is_there_at_once(kernel: Kernel) -> None:
    opened = set(kernel.comms)
    kernel.ok("sim(latency_s=2.0); out = reviews(4, 'marked').llm.parse(Review, '{text}'); server = sim()")
    (view,) = (each for each in set(kernel.comms) - opened if "snapshot" in kernel.comms[each])

    kernel.do(view, "pin", {"row": 2, "on": True})
    kernel.do(view, "mark", {"row": 2, "field": "score", "value": "9"})
    kernel.until(lambda: kernel.widget(view).get("opened", {}).get("checks") is not None)

    labels = kernel.value("[(label.field, label.value, label.row) for label in pllm.labels('score')]")
    assert labels == [["score", 9, {"text": "marked number 2"}]]
    assert [row["row"] for row in kernel.widget(view)["snapshot"]["pinned"]] == [2]
    assert kernel.widget(view)["snapshot"]["marks"] == {"2": "wrong"}
    assert kernel.widget(view)["opened"]["problem"] == ""


def test_a_table_of_runs_has_buttons_that_open_a_view_or_a_page(kernel: Kernel) -> None:
    kernel.ok("out = reviews(3, 'listed').llm.parse(Review, '{text}')")
    kernel.ok("from pllm_notebook.execution import run_registry; run = out.llm.run.id")
    opened = set(kernel.comms)

    cell = kernel.ok("pllm.runs()")
    (table,) = (each for each in set(kernel.comms) - opened if "runs" in kernel.comms[each])
    first = kernel.value("run")
    kernel.do(table, "open", {"run": first})
    kernel.until(lambda: len(cell.outputs) == 3)
    kernel.do(table, "open", {"run": first})
    kernel.do(table, "open", {"run": "another"})
    live = kernel.value("1") and cell.outputs[-1]["data"]["text/plain"]

    kernel.ok("del out; run_registry.forget_all()")
    again = kernel.ok("pllm.runs()")
    (second,) = (each for each in kernel.comms if "runs" in kernel.comms[each] and each != table)
    kernel.do(second, "open", {"run": first})
    kernel.until(lambda: len(again.outputs) == 3)
    page = again.outputs[-1]["data"]

    assert f'data-pllm-runs="{kernel.widget(table)["view_id"]}"' in cell.outputs[0]["data"]["text/html"]
    assert live.startswith("✓ Review: 3 rows answered")
    assert len(cell.outputs) == 3
    assert page["text/plain"].startswith(f"Run {first} SIMULATED. done: 3 of 3 rows answered")
    assert "<svg" in page["text/html"]

"""A program's session in JupyterLab: seen while it goes on, after the page was loaded again, and without a kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.lab import PATIENCE_S
from tests.browser.test_comes_back import load_again, opened, run_cell
from tests.browser.test_lab import WIDGET, export

pytestmark = pytest.mark.timeout(300)

SETUP = """
import pathlib, time
import pllm_notebook as pllm
pllm.configure(sim={"latency_s": 0.2}, model="sim:openai")
%load_ext pllm_notebook
"""
# It goes on until the test has seen what it wants to.
PROGRAM = f"""%%pllm_session program
session.resolve_all([agent.ask_llm(f"call {{n}}") for n in range(3)])
for _ in range({int(PATIENCE_S * 10)}):
    if pathlib.Path("go_on").exists(): break
    time.sleep(0.1)
agent.ask_llm("the last one").resolve()
"""
PLACE = "document.querySelector('[data-pllm-session]')"


def stored(calls: int) -> str:
    return f"/stored {calls}(?!\\d)/.test({PLACE}?.innerText ?? '')"


def test_a_session_is_live_in_its_place_and_stays_as_html_without_its_kernel(tmp_path: Path) -> None:
    with opened(tmp_path, SETUP, PROGRAM) as (page, address):
        run_cell(page, 0)
        run_cell(page, 1)
        page.until(stored(3))
        # The picture changes after the notebook was saved, and the browser would ask whether to leave.
        page.value("window.addEventListener('beforeunload', event => event.stopImmediatePropagation(), true); void 0")
        load_again(page, address, 2)
        (tmp_path / "go_on").touch()
        page.until(stored(4))
        page.value(f"{WIDGET}.sessionContext.restartKernel().then(() => true)")
        ended = page.text("[data-pllm-session]")
        run_cell(page, 0)
        run_cell(page, 1)
        page.until(
            "/cached 4(?!\\d)/.test(document.querySelector('.jp-OutputArea')?.closest('.jp-Notebook').innerText)"
        )
        page.value(f"{WIDGET}.context.save()")
        page.open(export(tmp_path).as_uri())
        page.until("document.readyState == 'complete'")
        exported = page.text()

    assert "ended" in ended
    assert "kernel is gone" not in ended
    assert "widget-view" not in (tmp_path / "shown.ipynb").read_text()
    assert "cached 4" in exported
    assert "SIMULATED" in exported

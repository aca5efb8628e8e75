"""The package in marimo: the view while a run goes on, the page of an ended run, and Stop in a cell that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.lab import end, free_port, wait_for

pytestmark = pytest.mark.timeout(300)

NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    import pandas as pd, pllm_notebook as pllm
    from typing import Literal

    pllm.configure(sim={"latency_s": 1.5, "latency_sigma": 0.0}, concurrency=4, model="sim:openai")
    Mood = Literal["good", "bad"]
    df = pd.DataFrame({"text": [f"review number {n}" for n in range(2_000)]})
    return Mood, df, pllm


@app.cell
def _(Mood, df):
    short = df.head(12).llm.parse(Mood, "Read this review: {text}")
    return (short,)


@app.cell
def _(Mood, df, short):
    long = df.tail(1_000).llm.parse(Mood, "Read it again: {text}")
    return


@app.cell
def _(pllm, short):
    short.llm
    return


if __name__ == "__main__":
    app.run()
"""
# The view is below a shadow root, which the text of a page has not.
DEEP = """window.deep = (selector, root = document, found = []) => {
  for (const e of root.querySelectorAll('*')) {
    if (e.matches(selector)) found.push(e);
    if (e.shadowRoot) window.deep(selector, e.shadowRoot, found);
  }
  return found;
}; void 0"""
STATES = "window.deep('.pllm-view').map(view => view.dataset.state)"


@contextmanager
def marimo(folder: Path) -> Iterator[str]:
    """Start marimo on a notebook that runs when its page is opened; yield the page's address."""
    (folder / "shown.py").write_text(NOTEBOOK)
    (folder / "config" / "marimo").mkdir(parents=True)
    (folder / "config" / "marimo" / "marimo.toml").write_text("[runtime]\nauto_instantiate = true\n")
    port = free_port()
    words = [
        sys.executable,
        "-m",
        "marimo",
        "edit",
        "--headless",
        "--no-token",
        "--skip-update-check",
        f"--port={port}",
    ]
    own = {"PLLM_CACHE_DIR": str(folder / "cache"), "HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    own["PYTHONPATH"] = os.pathsep.join(sys.path)
    address = f"http://127.0.0.1:{port}/"
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*words, str(folder / "shown.py")], env=os.environ | own, stdout=log, stderr=log) as server,
    ):
        try:
            wait_for(address, folder / "log")
            yield address
        finally:
            end(server)


def has(page: Page, text: str) -> None:
    page.until(f"document.body.innerText.includes({text!r})")


def test_marimo_shows_the_view_then_the_page_and_stop_interrupts_the_cell_of_its_run(tmp_path: Path) -> None:
    with chromium() as page, marimo(tmp_path) as address:
        page.open(address)
        page.until("document.body !== null")
        page.value(DEEP)
        page.until(f"{STATES}.includes('sending')")
        page.until("window.deep('.pllm-row').length > 0")
        has(page, "12 rows answered")
        page.until(f"{STATES}.length == 2 && window.deep('.pllm-stop:not([hidden])').length == 1")
        folded = page.value("window.deep('.pllm-fold').map(fold => fold.open)")
        page.value("window.deep('.pllm-stop:not([hidden])')[0].click()")
        has(page, "This cell was interrupted")  # marimo's own words, and the last line of its traceback ours
        text = page.text()
        # Clicks are passed on again.
        page.value("window.deep('.pllm-fold')[0].open = true; window.deep('.pllm-row button')[0].click()")
        page.until("window.deep('.pllm-detail:not([hidden])').length == 1")
        opened = page.value("window.deep('.pllm-detail')[0].innerText")

    assert folded == [False, True]
    assert "✓ Literal_good_bad: 12 rows answered" in text
    assert "Stopped. " in text
    assert "Read this review: review number" in opened

"""What a person sees in a browser: progress while a run goes on, its result, and the notebook as an exported page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab

pytestmark = pytest.mark.timeout(240)

SETUP = """
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel
%load_ext pllm_notebook
pllm.configure(sim={"latency_s": 1.5, "latency_sigma": 0.0}, concurrency=4)

class Review(BaseModel):
    '''Facts stated in a product review.'''
    sentiment: Literal["positive", "negative", "neutral"]

df = pd.DataFrame({"text": [f"review number {n}" for n in range(12)]})
"""
RUN = """%%pllm df --schema Review --out reviews --model sim:openai
Read this review: {text}"""
TABLE = "reviews"
# The notebook as the application knows it.
WIDGET = "[...(window.jupyterapp?.shell.widgets('main') ?? [])][0]"
KERNEL = f"{WIDGET}?.sessionContext?.session?.kernel"


def outputs(page: Page, cell: int) -> str:
    """Return what is seen below a cell, counted from 0."""
    cells = f"[...document.querySelectorAll('.jp-Notebook .jp-CodeCell')][{cell}]"
    return str(page.value(f"{cells}.querySelector('.jp-Cell-outputArea')?.innerText ?? ''"))


def ends(page: Page) -> None:
    """Wait until the run is done and the view is in its last place, over the page that stays."""
    page.until("document.querySelector('.pllm-view')?.dataset.state == 'done'")
    # Below the view, which says so itself earlier.
    page.until("document.querySelector('.pllm-mounted > :not(.pllm-view)')?.textContent.includes('rows answered')")
    page.until("!!document.querySelector('.pllm-mounted .pllm-row button')")


def test_a_run_is_seen_while_it_goes_on_when_it_has_ended_and_in_an_exported_page(tmp_path: Path) -> None:
    with chromium() as page, lab(tmp_path, [SETUP, RUN, TABLE]) as address:
        page.open(address)
        page.until("document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == 3")
        page.until(f"{KERNEL}?.status == 'idle'")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")

        page.until("!!document.querySelector('.pllm-view .pllm-stop:not([hidden])')")
        page.until("!!document.querySelector('.pllm-view .pllm-row')")
        going_on = outputs(page, 1)
        page.picture(tmp_path / "going_on.png")
        page.until("!!document.querySelector('.jp-Notebook .jp-CodeCell:last-of-type table')")
        ends(page)
        ended, table = outputs(page, 1), outputs(page, 2)
        page.picture(tmp_path / "ended.png")
        page.value(f"{WIDGET}.context.save()")
        page.open(export(tmp_path).as_uri())
        page.until("document.readyState == 'complete'")
        text = page.text()
        page.picture(tmp_path / "exported.png")

    assert re.search(r"\d+ / 12 rows", going_on)
    assert "Stop" in going_on
    assert "done" in ended
    assert "12 / 12 rows" in ended
    assert "Stop" not in ended
    assert "sentiment" in table
    assert "review number 11" in table
    assert "review number 11" in text
    assert "12 rows answered" in text


def export(folder: Path) -> Path:
    """Export the notebook as a page, as it was saved."""
    subprocess.run(
        [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", str(folder / "shown.ipynb")], check=True
    )
    return folder / "shown.html"

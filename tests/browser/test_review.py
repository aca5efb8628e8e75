"""A review in JupyterLab: twenty rows by keyboard, the page loaded again in the middle, and no decision is lost."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab
from tests.browser.test_lab import KERNEL, WIDGET, export

pytestmark = pytest.mark.timeout(300)

ASK = """
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel
pllm.configure(progress=False)

class Review(BaseModel):
    '''Facts stated in a product review.'''
    sentiment: Literal["positive", "negative", "neutral"]

df = pd.DataFrame({"text": [f"<b>review</b> number {n}" for n in range(40)]})
out = df.llm.parse(Review, 'Read this review: {text}', model='sim:openai')
"""
REVIEW = "out.llm.review(n=20, by='me')"
KEYS = {"Enter": 13, "1": 49, "2": 50, "3": 51, "s": 83, "u": 85}


def run_all(page: Page, address: str) -> None:
    page.open("about:blank")
    page.open(address)
    page.until("document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == 2")
    page.until(f"{KERNEL}?.status == 'idle'")
    page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")


def shows(at: int) -> str:
    return f"document.querySelector('.pllm-review')?.dataset.at == '{at}'"


def press(page: Page, key: str, then: int) -> None:
    page.press(key, KEYS[key])
    page.until(shows(then))


def labels(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / "cache" / "labels.db")) as connection:
        return list(connection.execute("SELECT value, drawn_by FROM labels ORDER BY id"))


def test_twenty_rows_by_keyboard_with_the_page_loaded_again_in_the_middle(tmp_path: Path) -> None:
    with chromium() as page, lab(tmp_path, [ASK, REVIEW]) as address:
        run_all(page, address)
        page.until(shows(0))
        seen = page.text(".pllm-review")
        page.value("document.querySelector('.pllm-review').focus()")
        press(page, "2", 1)
        press(page, "s", 2)
        press(page, "u", 1)
        press(page, "3", 2)
        for at in range(3, 11):
            press(page, "Enter", at)
        half = labels(tmp_path)
        page.value(f"{WIDGET}.context.save()")  # else the browser asks whether to leave

        # The kernel lives: its view is back without the cell, in the output that was saved.
        page.open("about:blank")
        page.open(address)
        page.until(shows(10))
        page.value("[...document.querySelectorAll('.pllm-review button')].find(b => b.innerText == 'Accept').click()")
        page.until(shows(11))
        page.value(f"{WIDGET}.context.save()")

        run_all(page, address)
        page.until(shows(11))
        page.value("document.querySelector('.pllm-review').focus()")
        for at in range(12, 21):
            press(page, "1" if at % 2 else "Enter", at)
        page.until("document.querySelector('.pllm-review').dataset.done == 'true'")
        ended = page.text(".pllm-review")
        # The output is shown again with each decision.
        page.until("document.querySelector('[data-pllm-review] .pllm-saved').innerText.includes('20 of 20 answers')")
        page.value(f"{WIDGET}.context.save()")
        page.open(export(tmp_path).as_uri())
        page.until("document.readyState == 'complete'")
        exported = page.text()

    assert "<b>review</b> number" in seen  # shown as text
    assert [value for value, _ in half[:2]] == ['"negative"', '"neutral"']
    whole = labels(tmp_path)
    assert (len(half), len(whole)) == (10, 20)
    assert whole[:10] == half
    assert {drawn_by for _, drawn_by in whole} == {"random"}
    assert "20 labelled by me" in ended
    assert "widget-view" not in (tmp_path / "shown.ipynb").read_text()
    assert "Review by me SIMULATED: 20 of 20 answers labelled" in exported
    assert len(re.findall(r"<b>review</b> number \d", exported)) == 20
    assert "Error displaying widget" not in exported


def test_the_focus_and_what_is_typed_stay_where_the_output_is_shown_again(tmp_path: Path) -> None:
    with chromium() as page, lab(tmp_path, [ASK, REVIEW]) as address:
        run_all(page, address)
        page.until(shows(0))
        page.value("document.querySelector('.pllm-review').focus()")
        page.press("n", 78)
        page.value("document.activeElement.value = 'half a note'; void 0")
        kept = page.value(
            "new Promise(done => { const old = document.querySelector('[data-pllm-review]');"
            " const next = old.cloneNode(false); next.innerHTML = '<div class=pllm-saved></div>';"
            " old.replaceWith(next);"
            " queueMicrotask(() => done([document.activeElement.value, next.innerText.includes('0 of 20')])); })"
        )
        page.value(f"{WIDGET}.sessionContext.restartKernel().then(() => true)")
        page.until("document.querySelector('.pllm-review').innerText.includes('The kernel is gone')")
        live = page.value("[...document.querySelectorAll('.pllm-review button')].filter(b => !b.disabled).length")
        page.value(f"{WIDGET}.context.save()")
        page.open("about:blank")

    assert kept == ["half a note", True]
    assert live == 0

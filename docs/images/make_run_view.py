"""Remake the pictures of the run view: a run against the simulator in JupyterLab, in a headless Chromium.

    make .venv-browser/ready && tools/get-chromium
    .venv-browser/bin/python -m docs.images.make_run_view      # writes run_view*.png beside this file

Nothing is sent to a provider and no key is needed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab
from tests.browser.test_lab import KERNEL, WIDGET, ends, export

HERE = Path(__file__).parent

SETUP = """\
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel, Field
pllm.configure(sim={"latency_s": 2.0, "latency_sigma": 0.4, "refusal": 0.01}, concurrency=64)

class Review(BaseModel):
    '''Facts stated in a product review.'''
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)
    price: float | None
    broken: bool
    summary: str

texts = [f"Order {i}: the lamp arrived on day {i % 9} and shines well." for i in range(4_000)]
df = pd.DataFrame({"text": texts, "lang": ["en", "de", "fr", "it"] * 1_000})
warm = df.head(300).llm.parse(Review, "Read this review:\\n{text}", model="sim:openai", progress=False)
"""
RUN = """\
out = df.llm.parse(
    Review, "Read this review:\\n{text}", model="sim:openai", max_cost_usd=5
)"""

_ROWS = "Number(document.querySelector('.pllm-fact-rows').innerText.replace(/,/g, '').split('/')[0])"
_CELL = ".jp-Notebook .jp-CodeCell:last-of-type"
# Of JupyterLab's page around the cell.
_MARGIN = 4


def main() -> None:
    """Take the pictures."""
    folder = Path(tempfile.mkdtemp())
    with chromium() as page, lab(folder, [SETUP, RUN]) as address:
        page.open(address)
        page.until("document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == 2")
        page.until(f"{KERNEL}?.status == 'idle'")
        page.resize(1100, 2600)  # a picture has only what is in the window
        page.value("window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.collapseRight()")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until("!!document.querySelector('.pllm-view')")
        page.until(f"{_ROWS} > 900")
        picture(page, "run_view.png", _CELL)
        use_theme(page, "Dark")
        picture(page, "run_view_dark.png", _CELL)
        use_theme(page, "Light")
        press(page, "Pause")
        page.until("document.querySelector('.pllm-view').dataset.state == 'paused'")
        page.value("void document.head.append(Object.assign(document.createElement('style'), {id: 'wide'}))")
        for width in (600, 320):
            page.value(f"document.querySelector('#wide').textContent = '.pllm-view {{ width: {width}px }}'")
            picture(page, f"run_view_{width}.png", ".pllm-view")
        page.value("document.querySelector('#wide').remove()")
        press(page, "Go on")
        ends(page)
        page.value("document.querySelectorAll('.pllm-pin')[3].click()")
        page.until("!!document.querySelector('.pllm-pinned')")
        page.value("document.querySelector('.pllm-status-ok:not(.pllm-pinned) button').click()")
        page.until("!!document.querySelector('.pllm-detail:not([hidden]) .pllm-check')")
        page.value("document.querySelector('[aria-label=\"sentiment is wrong\"]').click()")
        page.value("document.querySelector('.pllm-choice:not([hidden]) button').click()")
        page.until("!!document.querySelector('.pllm-judged-wrong')")
        page.value("document.activeElement.blur()")
        picture(page, "run_view_row.png", ".pllm-part:has(.pllm-scroll)", ".pllm-detail")
        page.value(f"{WIDGET}.context.save()")
        page.open(export(folder).as_uri())
        page.until("document.readyState == 'complete' && document.querySelectorAll('.jp-CodeCell').length == 2")
        picture(page, "run_view_saved.png", ".jp-CodeCell:last-of-type")
        page.open("about:blank")


def press(page: Page, name: str) -> None:
    """Press a button of the view."""
    page.value(f"[...document.querySelectorAll('.pllm-view button')].find(e => e.innerText == {name!r}).click()")


def use_theme(page: Page, name: str) -> None:
    """Change the theme of JupyterLab to "Light" or "Dark"."""
    page.value(f"void window.jupyterapp.commands.execute('apputils:change-theme', {{theme: 'JupyterLab {name}'}})")
    page.until(f"document.body.dataset.jpThemeLight == '{str(name == 'Light').lower()}'")


def picture(page: Page, name: str, first: str, last: str | None = None) -> None:
    """Save what is seen from the element *first* to the element *last*, which are CSS selectors."""
    page.value(f"document.querySelector({first!r}).scrollIntoView({{block: 'start'}})")
    page.until("document.fonts.status == 'loaded'")
    top, bottom = (
        json.loads(page.value(f"JSON.stringify(document.querySelector({each!r}).getBoundingClientRect())"))
        for each in (first, last or first)
    )
    clip = {
        "x": top["x"] - _MARGIN,
        "y": top["y"] - _MARGIN,
        "width": top["width"] + 2 * _MARGIN,
        "height": bottom["bottom"] - top["y"] + 2 * _MARGIN,
    }
    page.picture(HERE / name, {**clip, "scale": 2})


if __name__ == "__main__":
    main()

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
from tests.browser.test_lab import KERNEL

HERE = Path(__file__).parent

SETUP = """\
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel, Field
pllm.configure(sim={"latency_s": 1.2, "latency_sigma": 0.4, "refusal": 0.01})

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
RUN = 'out = df.llm.parse(Review, "Read this review:\\n{text}", model="sim:openai", max_cost_usd=5)'

_ROWS = "Number(document.querySelector('.pllm-fact-rows').innerText.replace(/,/g, '').split('/')[0])"


def main() -> None:
    """Take the pictures."""
    folder = Path(tempfile.mkdtemp())
    with chromium() as page, lab(folder, [SETUP, RUN]) as address:
        page.open(address)
        page.until("document.querySelectorAll('.jp-Notebook .jp-CodeCell').length == 2")
        page.until(f"{KERNEL}?.status == 'idle'")
        page.resize(1100, 1300)
        page.value("void window.jupyterapp.commands.execute('application:toggle-left-area')")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until("!!document.querySelector('.pllm-view')")
        page.until(f"{_ROWS} > 900")
        picture(page, "run_view.png")
        page.value("document.querySelector('.pllm-row button').click()")
        page.until("!!document.querySelector('.pllm-detail:not([hidden])')")
        picture(page, "run_view_row.png")
        page.value("document.querySelector('.pllm-detail button').click()")
        page.value("void window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        page.until("document.body.dataset.jpThemeLight == 'false'")
        picture(page, "run_view_dark.png")
        page.open("about:blank")


def picture(page: Page, name: str) -> None:
    """Save what the second cell looks like."""
    cell = "document.querySelectorAll('.jp-Notebook .jp-CodeCell')[1]"
    page.value(f"{cell}.scrollIntoView({{block: 'start'}})")
    page.until("document.fonts.status == 'loaded'")
    box = json.loads(page.value(f"JSON.stringify({cell}.getBoundingClientRect())"))
    clip = {**{side: box[side] for side in ("x", "y", "width", "height")}, "scale": 2}
    page.picture(HERE / name, clip)


if __name__ == "__main__":
    main()

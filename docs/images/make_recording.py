"""Remake the recording of the start page: a run that is stopped, and the same cell again, in JupyterLab.

    make .venv-browser/ready && tools/get-chromium && .venv-browser/bin/pip install pillow
    .venv-browser/bin/python -m docs.images.make_recording      # writes recording.gif beside this file

A picture is taken every half second while the run goes on. Nothing is sent to a provider and no key is needed.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from PIL import Image

from tests.browser.chromium import Page, chromium
from tests.browser.lab import lab
from tests.browser.test_lab import KERNEL

HERE = Path(__file__).parent

SETUP = """\
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel, Field
pllm.configure(sim={"latency_s": 1.0, "latency_sigma": 0.4, "refusal": 0.01, "requests_per_min": 3_600})

class Review(BaseModel):
    '''Facts stated in a product review.'''
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)

df = pd.DataFrame({"review": [f"Order {i}: the lamp arrived on day {i % 9} and shines well." for i in range(900)]})
"""
RUN = 'out = df.llm.parse(Review, "{review}", model="sim:openai", max_cost_usd=5)'

EVERY_S = 0.5
SIZE = (900, 660)
_CELLS = "document.querySelectorAll('.jp-Notebook .jp-CodeCell')"


def main() -> None:
    """Take the pictures and write them as one file."""
    folder = Path(tempfile.mkdtemp())
    taken: list[Path] = []
    with chromium() as page, lab(folder, [SETUP, RUN]) as address:
        page.open(address)
        page.until(f"{_CELLS}.length == 2")
        page.until(f"{KERNEL}?.status == 'idle'")
        page.resize(SIZE[0] + 100, 1400)  # beside the cell are the panels of JupyterLab
        page.value("window.jupyterapp.shell.collapseLeft(); window.jupyterapp.shell.collapseRight()")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until("!!document.querySelector('.pllm-view')")
        page.value(f"{_CELLS}[1].scrollIntoView({{block: 'start'}})")
        record(page, folder, taken, "document.querySelector('.pllm-view')?.innerText.includes('9')", least_s=6)
        page.value(
            "[...document.querySelectorAll('.pllm-view button')].find(one => one.innerText.startsWith('Stop')).click()"
        )
        record(page, folder, taken, f"{KERNEL}.status == 'idle'", least_s=3)
        page.value(f"{_CELLS}[1].scrollIntoView({{block: 'start'}})")
        page.value("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        record(page, folder, taken, f"{KERNEL}.status == 'idle'", least_s=6)
        record(page, folder, taken, "true", least_s=4)
        page.open("about:blank")
    # One palette: of each picture only what differs from the one before it is stored.
    palette = montage([taken[len(taken) * part // 4] for part in range(1, 4)]).quantize(64)
    pictures = [Image.open(path).convert("RGB").quantize(palette=palette, dither=Image.Dither.NONE) for path in taken]
    pictures[0].save(
        HERE / "recording.gif",
        save_all=True,
        append_images=pictures[1:],
        duration=int(EVERY_S * 1000),
        loop=0,
        optimize=True,
    )


def montage(paths: list[Path]) -> Image.Image:
    """Return the pictures below each other."""
    whole = Image.new("RGB", (SIZE[0], SIZE[1] * len(paths)))
    for at, path in enumerate(paths):
        whole.paste(Image.open(path).convert("RGB"), (0, SIZE[1] * at))
    return whole


def record(page: Page, folder: Path, taken: list[Path], done: str, *, least_s: float) -> None:
    """Take pictures of the second cell until *done* is true, for *least_s* seconds at least."""
    began = time.monotonic()
    while time.monotonic() - began < least_s or not page.value(f"!!({done})"):
        left, top = page.value(f"(box => [box.x, box.y])({_CELLS}[1].getBoundingClientRect())")
        path = folder / f"{len(taken):04d}.png"
        page.picture(path, {"x": left, "y": max(0, top), "width": SIZE[0], "height": SIZE[1], "scale": 1})
        taken.append(path)
        time.sleep(EVERY_S)


if __name__ == "__main__":
    main()

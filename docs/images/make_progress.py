"""Remake progress.png: a run against the simulator in JupyterLab, photographed while it goes on.

    pip install jupyterlab selenium          # and chromium with chromium-driver
    python docs/images/make_progress.py      # writes progress.png beside this file

Nothing is sent to a provider and no key is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

HERE = Path(__file__).parent

SETUP = """\
import pandas as pd, pllm_notebook as pllm
from typing import Literal
from pydantic import BaseModel, Field
%load_ext pllm_notebook
pllm.configure(sim={"latency_s": 1.2, "latency_sigma": 0.4, "refusal": 0.004})

class Review(BaseModel):
    '''Facts stated in a product review.'''
    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5)

df = pd.DataFrame({"text": [f"Review {i}: arrived on day {i % 9}." for i in range(10_000)]})
warm = df.head(1_200).llm.parse(Review, "Read this review:\\n{text}", model="sim:openai", progress=False)
"""

RUN = """\
%%pllm df --schema Review --out reviews --model sim:openai --max-cost-usd 5
Read this review:
{text}"""


def main() -> None:
    """Take the pictures."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=HERE / "progress.png", help="the picture of the running cell")
    words.add_argument("--end", type=Path, help="also a picture of the cell when it has ended")
    words.add_argument("--dark", action="store_true", help="in JupyterLab's dark theme")
    words.add_argument("--after", type=float, default=9.0, help="seconds into the run")
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as folder, lab(Path(folder), dark=given.dark) as address, browser() as driver:
        driver.get(f"{address}&reset")
        wait = WebDriverWait(driver, 60)
        wait.until(lambda d: len(d.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")) == 2)
        # Through the page's own application object: no key presses that may miss the focus.
        wait.until(
            lambda d: d.execute_script("return !!window.jupyterapp && !!document.querySelector('.jp-NotebookPanel')")
        )
        time.sleep(3)
        driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
        wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output .widget-button"))
        time.sleep(given.after)
        picture(driver, given.out)
        if given.end:
            WebDriverWait(driver, 600).until(lambda d: not d.find_elements(By.XPATH, "//button[contains(., 'Stop')]"))
            time.sleep(1)
            picture(driver, given.end)


def picture(driver: webdriver.Chrome, path: Path) -> None:
    """Save what the second cell looks like."""
    cell = driver.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")[1]
    driver.execute_script("arguments[0].scrollIntoView({block: 'end'})", cell)
    cell.screenshot(str(path))


@contextlib.contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Start a headless Chromium, with the sharp pixels of a good screen."""
    options = webdriver.ChromeOptions()
    for word in ("--headless=new", "--no-sandbox", "--window-size=1100,900", "--force-device-scale-factor=2"):
        options.add_argument(word)
    # Named, since selenium would look for one on the web otherwise.
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@contextlib.contextmanager
def lab(folder: Path, sources: Sequence[str] = (SETUP, RUN), *, dark: bool) -> Iterator[str]:
    """Start JupyterLab on a notebook of two cells and give its address."""
    cells = [code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "progress.ipynb").write_text(json.dumps(notebook))
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    news = settings / "notification.jupyterlab-settings"
    news.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    theme = {"theme": "JupyterLab Dark" if dark else "JupyterLab Light"}
    (settings / "themes.jupyterlab-settings").write_text(json.dumps(theme))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--expose-app-in-browser",
        f"--IdentityProvider.token={token}", f"--notebook-dir={folder}",
        f"--LabApp.user_settings_dir={folder}/settings",
        f"--LabApp.workspaces_dir={folder}/workspaces",
    ]  # fmt: skip
    env = os.environ | {"PLLM_CACHE_DIR": str(folder / "cache"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=env, stdout=log, stderr=log) as server:
        try:
            await_server(f"http://127.0.0.1:{port}/api?token={token}")
            yield f"http://127.0.0.1:{port}/doc/tree/progress.ipynb?token={token}"
        finally:
            server.terminate()


def code_cell(source: str) -> dict[str, Any]:
    """Make one cell of a notebook file."""
    return {
        "cell_type": "code", "id": secrets.token_hex(4), "source": source,
        "metadata": {}, "outputs": [], "execution_count": None,
    }  # fmt: skip


def await_server(address: str) -> None:
    """Wait until it answers."""
    for _ in range(300):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address).close()
            return
        time.sleep(0.2)
    raise SystemExit("JupyterLab did not start.")


if __name__ == "__main__":
    main()

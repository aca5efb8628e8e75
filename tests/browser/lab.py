"""JupyterLab, or Notebook 7, on a notebook of this test's own."""

from __future__ import annotations

import json
import os
import random
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["end", "free_port", "lab", "wait_for"]

PATIENCE_S = 180.0
# Of each application its module, the class that is configured, and the path of a notebook's page.
_APPS = {"lab": ("jupyterlab", "LabApp", "doc/tree"), "notebook": ("notebook", "JupyterNotebookApp", "notebooks")}


@contextmanager
def lab(folder: Path, sources: Sequence[str], app: str = "lab") -> Iterator[str]:
    """Start a server with "shown.ipynb" in *folder*, which has a cell of each source; yield its page's address.

    Args:
        folder: Of the notebook, and of all that the server writes.
        sources: Of the cells.
        app: "lab" for JupyterLab, "notebook" for Notebook 7.
    """
    module, name, page = _APPS[app]
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{n}",
            "source": source,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        for n, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "shown.ipynb").write_text(json.dumps(notebook))
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    news = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(news))
    port = free_port()
    token = secrets.token_hex(16)
    words = [
        sys.executable, "-m", module, "--no-browser", "--allow-root", f"--port={port}", "--expose-app-in-browser",
        f"--IdentityProvider.token={token}", f"--notebook-dir={folder}",
        f"--{name}.user_settings_dir={folder}/settings", f"--{name}.workspaces_dir={folder}/workspaces",
    ]  # fmt: skip
    own = {"PLLM_CACHE_DIR": str(folder / "cache"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime")}
    own |= {"IPYTHONDIR": str(folder / "ipython"), "JUPYTER_CONFIG_DIR": str(folder / "config")}
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(words, env=os.environ | own, stdout=log, stderr=log) as server,
    ):
        try:
            wait_for(f"http://127.0.0.1:{port}/api?token={token}", folder / "log")
            yield f"http://127.0.0.1:{port}/{page}/shown.ipynb?token={token}&reset"
        finally:
            end(server)


def free_port() -> int:
    """Return a port that is free, from below those that a system hands out.

    One of those could be another kernel's before the server has started.
    """
    for port in random.sample(range(15_000, 32_000), 100):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("None of 100 ports is free.")


def end(server: subprocess.Popen[bytes]) -> None:
    """End a server; it may wait for a kernel that a failed test left in the middle of a cell."""
    server.terminate()
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()


def wait_for(address: str, log: Path) -> None:
    """Wait until a server answers at *address*; its *log* is shown if it does not."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address).close()
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"The server did not start.\n{log.read_text()}")

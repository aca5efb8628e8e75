"""A headless Chromium without a network beyond this machine, driven over its own protocol."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

__all__ = ["Page", "chromium"]

# Longer than anything here takes on a busy machine; a test that waits this long has failed.
PATIENCE_S = 180.0
_LOOK_S = 0.1


class Page:
    """One page of the browser."""

    def __init__(self, address: str) -> None:
        """Connect to the page whose protocol is spoken at *address*."""
        self._socket = websocket.create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
        self._sent = 0
        # A window that nobody looks at has no focus, and its elements hear of none.
        self._call("Emulation.setFocusEmulationEnabled", enabled=True)

    def open(self, address: str) -> None:
        """Go to an address, without waiting for what it loads."""
        self._call("Page.navigate", url=address)

    def value(self, script: str) -> Any:
        """Return the value of a JavaScript expression; what JSON can carry."""
        told = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, script: str, patience_s: float = PATIENCE_S) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        deadline = time.monotonic() + patience_s
        while not (value := self.value(script)):
            assert time.monotonic() < deadline, f"Not in {patience_s:.0f} s: {script}\n{self.text()}"
            time.sleep(_LOOK_S)
        return value

    def text(self, selector: str = "body") -> str:
        """Return the text that a person sees of the elements that *selector* finds: nothing that is hidden."""
        elements = f"[...document.querySelectorAll({json.dumps(selector)})]"
        return str(self.value(f"{elements}.filter(e => e.checkVisibility()).map(e => e.innerText).join('\\n')"))

    def picture(self, path: Path, clip: dict[str, Any] | None = None) -> None:
        """Save what the page looks like, or the part of it that *clip* says (x, y, width, height, scale)."""
        params = {} if clip is None else {"clip": clip}
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", **params)["data"]))

    def press(self, key: str, code: int) -> None:
        """Press a key, as a keyboard does: its name, and its number in the browser's protocol."""
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)

    def resize(self, width: int, height: int = 1400) -> None:
        """Give the page another size, in pixels."""
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def close(self) -> None:
        self._socket.close()

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while (told := json.loads(self._socket.recv())).get("id") != self._sent:
            pass
        assert "error" not in told, told["error"]
        result: dict[str, Any] = told["result"]
        return result


@contextmanager
def chromium() -> Iterator[Page]:
    """Start Chromium with one empty page."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program is not None, "No Chromium is installed."
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--window-size=1100,1400", "--remote-debugging-port=0", f"--user-data-dir={profile}",
            # No name is looked up: what a page wants from the web, it does not get.
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "about:blank",
        ]  # fmt: skip
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                page = Page(_page_of(Path(profile)))
                yield page
                page.close()
            finally:
                process.terminate()


def _page_of(profile: Path) -> str:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            port = (profile / "DevToolsActivePort").read_text().split("\n")[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            return str(pages[0]["webSocketDebuggerUrl"])
        except (OSError, IndexError):
            time.sleep(_LOOK_S)
    raise AssertionError("Chromium did not start.")

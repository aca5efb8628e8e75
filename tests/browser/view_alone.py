"""The view in a page of its own, without a kernel: a model that a test changes, and what the view sends to it."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from tests.browser.chromium import Page

__all__ = ["emit", "head", "own_page", "row", "sent", "snapshot"]

_HERE = Path(__file__).parent.parent.parent / "pllm_notebook" / "notebook"
# A model as anywidget's hosts have it, with what was sent in `sent`. A second one takes the place of the first.
_MODEL = """
window.models = [];
window.newModel = (id, snapshot) => {
  const heard = {};
  const model = {
    id, sent: [], snapshot,
    get: (name) => ({ view_id: id, snapshot: model.snapshot })[name],
    on: (event, call) => (heard[event] ??= []).push(call),
    off: () => {},
    send: (message) => model.sent.push(message),
    emit: (event, message) => (heard[event] ?? []).forEach((call) => call(message)),
  };
  window.models.push(model);
  return model;
};
window.show = async (source, snapshot) => {
  window.view ??= (await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })))).default;
  const model = window.newModel("view1", snapshot);
  window.view.initialize({ model });
  return true;
};
"""


def head(**changes: Any) -> dict[str, Any]:
    """Return a head of a run that is going on."""
    can = {"stop": True, "pause": True, "go_on": False, "retry": 0, "retry_kinds": False}
    return {
        "label": "Review", "model": "sim:openai/gpt-6-luna", "simulated": True, "unit": "row", "batch": False,
        "stop": "Stop", "stop_says": "Stop, and keep every finished row.", "retry": "", "state": "sending",
        "says": "sending", "ended": False, "total": 4_000, "done": 600, "cached": 295, "failed": 26, "not_sent": 0,
        "skipped": 0, "pending": 3_079, "in_flight": 64, "rows_per_s": 121.4, "eta_s": 25.3, "elapsed_s": 8.2,
        "started_at": 1_764_000_000.0, "cost_usd": 0.0176, "projected_usd": 0.1043, "budget_usd": 5.0,
        "maybe_paid_requests": 0, "maybe_paid_usd": 0.0, "reserved_usd": 0.0, "tokens": 81_234, "input_tokens": 70_000,
        "cached_tokens": 0, "note": "", "can": can,
    } | changes  # fmt: skip


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Return a sample row with one input and two fields."""
    return {
        "row": number, "label": str(number), "status": "ok", "input": [f"Order {number}: the lamp shines well."],
        "values": ["positive", 4], "message": "", "cost_usd": 0.000024, "latency_s": 0.8, "confidence": None,
        "simulated": True,
    } | changes  # fmt: skip


def snapshot(rows: int = 50, **sections: Any) -> dict[str, Any]:
    """Return a run's snapshot (see `execution.run_view`), some of whose sections a test changes."""
    shown: dict[str, Any] = {
        "run": "3f2a91c4", "texts": True, "head": head(),
        "columns": {"input": ["text"], "output": ["sentiment", "score"], "confidence": False,
                    "more_input": 0, "more_output": 0},
        "sample": [row(number) for number in range(rows, 0, -1)], "pinned": [], "marks": {}, "fields": [],
        "failures": [], "jobs": [], "pace": {"every_s": 1.0, "rows": [], "usd": [], "held": []},
    }  # fmt: skip
    return deepcopy(shown) | sections


def own_page(page: Page, shown: dict[str, Any], *, width: int = 900, dark: bool = False) -> None:
    """Show a view of a snapshot in an empty page; a second call gives the same view another model."""
    if not page.value("!!window.show"):
        page.value(f"{_MODEL}; void 0")
        style = (_HERE / "run_view.css").read_text(encoding="utf-8")
        scheme = "dark" if dark else "light"
        body = (
            f"document.documentElement.lang = 'en'; document.title = 'view';"
            f"document.documentElement.style.colorScheme = {scheme!r};"
            f"document.body.style.background = {('#1e1e1e' if dark else '#ffffff')!r};"
            f"document.body.innerHTML = '<style></style><main data-pllm-view=view1 class=pllm-place></main>';"
            f"document.querySelector('style').textContent = {json.dumps(style)};"
        )
        page.value(f"{body}; void 0")
    page.value(f"document.querySelector('main').style.width = '{width}px'")
    source = (_HERE / "run_view.js").read_text(encoding="utf-8")
    page.until(f"window.show({json.dumps(source)}, {json.dumps(shown)})")
    page.until("!!document.querySelector('.pllm-view')")


def emit(page: Page, message: dict[str, Any]) -> None:
    """Send a message of the kernel's to the newest model."""
    page.value(f"window.models.at(-1).emit('msg:custom', {json.dumps(message)}); void 0")


def sent(page: Page, model: int = -1) -> list[dict[str, Any]]:
    """Return what the view has sent to a model, the newest one if not said."""
    return list(page.value(f"window.models.at({model}).sent"))

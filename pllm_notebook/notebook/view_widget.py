"""The live view of a run: an anywidget with its module and style sheet in this package."""

from __future__ import annotations

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from pllm_notebook.execution import CountsModel, RunViewModel, RunViewUpdates, row_name
from pllm_notebook.notebook.row_checks import mark_row, row_checks
from pllm_notebook.notebook.row_detail import row_detail
from pllm_notebook.runtime import Slot
from pllm_notebook.shell import current_shell
from pllm_notebook.types import Progress

__all__ = ["RunView", "receive_while_busy"]

logger = logging.getLogger("pllm_notebook")

_HERE = Path(__file__).parent
_MOST_RECEIVED = 500
# Type of a message on the kernel's control channel, sent by JupyterLab and Notebook while a cell blocks.
_ASIDE = "pllm_view"
_views: Slot[weakref.WeakValueDictionary[str, RunView]] = Slot("run views by id", weakref.WeakValueDictionary)


class RunView(anywidget.AnyWidget):
    """A view of a run in one or more browsers: a snapshot and the changes since.

    The browser sends `{"do": word}`. The words are "stop", "pause", "go_on", "retry" (with "kinds", null for those that
    can succeed), "open" (with "row"), "pin" (with "row" and "on"), "mark" (see `row_checks.mark_row`), "placed" if it
    has found the placeholder in the saved text, and "here" as the answer to `{"asks": true}`. A user action has an id,
    "n", which is acknowledged with `{"received": n}`. Until then the browser sends the action again to each view that
    replaces this one.

    Args:
        model: View model of the run.
        actions: Functions by word, called with the message. Other words do nothing.
        view_id: Id of existing placeholders, "" for new ones.
        received: Ids of the actions received by earlier views with these placeholders. They are not repeated.

    Attributes:
        folds: Whether the view folds at the end of the run, because the page is beside it instead of replacing it.
        received: Ids of received actions in order of arrival. The oldest are dropped.
    """

    _esm = (_HERE / "run_view.js").read_text(encoding="utf-8")
    _css = (_HERE / "run_view.css").read_text(encoding="utf-8")

    view_id = traitlets.Unicode().tag(sync=True)
    snapshot = traitlets.Dict().tag(sync=True)
    folds = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        model: RunViewModel | CountsModel,
        actions: dict[str, Callable[[dict[str, Any]], object]],
        view_id: str = "",
        received: dict[str, None] | None = None,
    ) -> None:
        self._model, self._actions = model, actions
        self.received: dict[str, None] = {} if received is None else received
        self._updates = RunViewUpdates(model)
        self._lock = threading.Lock()
        self._note = ""
        whole = self._updates.whole(time.monotonic())
        super().__init__(view_id=view_id or secrets.token_hex(8), snapshot=whole)
        self.on_msg(self._on_message)
        receive_while_busy(self)
        _views.value[self.view_id] = self
        _listen_aside()

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """Return the current state for a browser. It is built here, because changes are not stored in the traits."""
        if key is None and self.comm is not None and (self._model.run is not None or not self._model.run_id):
            self.keep(self._model.snapshot(), self._note)
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        return state

    def keep(self, snapshot: dict[str, Any], note: str) -> None:
        """Keep the state for browsers that connect later, without sending it to connected ones."""
        self._note = note
        self._trait_values["snapshot"] = {**snapshot, "hint": note}

    def renew(self) -> None:
        """Send the whole state, for front ends that show a page loaded later only what was already sent."""
        self.snapshot = {**self._model.snapshot(), "hint": self._note}

    def push(self, progress: Progress, *, last: bool = False, note: str = "", asks: bool = False) -> None:
        """Send the changes to the browsers.

        Args:
            progress: Current progress of the run.
            last: Whether the run has ended.
            note: A sentence below the head, "" for none.
            asks: Whether to ask the browser for a sign of life.
        """
        with self._lock:
            changed = self._updates.changes(progress, time.monotonic(), last=last)
        if note != self._note:
            changed["hint"] = self._note = note
        if changed or asks:
            self.send({"changes": changed, **({"asks": True} if asks else {})})

    def _on_message(self, _: object, message: Any, buffers: object) -> None:
        self.take(message)

    def take(self, message: Any) -> None:
        """Handle a message from a browser, each action once. Callable from any thread."""
        if not isinstance(message, dict):
            return
        name = message.get("n")
        if not isinstance(name, str):
            self._do(message)
        else:
            if name not in self.received:
                self.received[name] = None
                while len(self.received) > _MOST_RECEIVED:
                    del self.received[next(iter(self.received))]
                self._do(message)
            self.send({"received": name})

    def _do(self, message: dict[str, Any]) -> None:
        try:
            row = message.get("row")
            if isinstance(row, int) and not isinstance(row, bool) and isinstance(self._model, RunViewModel):
                self._do_with_row(self._model, row, message)
            elif (action := self._actions.get(str(message.get("do")))) is not None:
                action(message)
        except Exception as error:
            logger.exception("The view of run %s could not do %r", self._model.run_id, message.get("do"))
            self.send({"changes": {"hint": f"{type(error).__name__}: {error}"}})

    def _do_with_row(self, model: RunViewModel, row: int, message: dict[str, Any]) -> None:
        word, problem, mark = message.get("do"), "", ""
        # Rows whose texts must not leave the kernel cannot be labelled either.
        run = model.run if model.texts else None
        if word == "pin":
            model.pin(row, pinned=bool(message.get("on")))
        elif word == "mark" and run is not None:
            problem = mark_row(run, message)
        if word in ("open", "mark"):
            checks = row_checks(run, row)
            mark = checks["mark"]
            model.mark(row, mark)
            detail = row_detail(model.explain(row))
            label = "" if run is None else row_name(run.rows, row)
            self.send({"opened": {"row": row, "label": label, **detail, **checks, "problem": problem, "by": word}})
        if word in ("pin", "mark") or mark:
            # Sent at once, to all browsers with this view: an ended run sends no more updates.
            self.send({"changes": model.own_sections()})


def receive_while_busy(widget: Any) -> None:
    """Let a widget receive messages while a cell runs.

    ipykernel 7.4 handles a widget's messages on the thread that last sent for it, which is the busy cell's own, so a
    click would wait for the end of the cell. The patched name is private. Versions without it do not need the patch.
    """
    comm = widget.comm
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = lambda data, default: default


def _listen_aside() -> None:
    """Receive messages of views on the kernel's control channel.

    A page loaded while a cell blocks gets no answer on the main channel, so it never learns of the additional channel
    that carries widgets' messages meanwhile. The control channel has its own thread.
    """
    handlers = getattr(getattr(current_shell(), "kernel", None), "control_handlers", None)
    if isinstance(handlers, dict):
        handlers[_ASIDE] = _take_aside


def _take_aside(stream: object, ident: object, parent: Any) -> None:
    """Pass a message of the control channel to its view. It is dropped if the view no longer exists."""
    content = parent.get("content") or {}
    view = _views.value.get(str(content.get("view_id")))
    if view is not None:
        view.take(content.get("message"))

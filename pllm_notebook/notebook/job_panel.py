"""Batch jobs in a notebook: the table, and buttons for the commands on a job.

A click never blocks the kernel: its command runs on a thread of its own, and the table is rendered again at the end.
A command that costs money takes two clicks; the first one shows the price, since a click cannot answer a question.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.formatting import escape_html
from pllm_notebook.notebook.text import VIEW
from pllm_notebook.notebook.view_widget import receive_while_busy

if TYPE_CHECKING:
    from pllm_notebook.frames.job_table import Jobs

__all__ = ["JobPanel"]

_PRICED = ("resubmit", "send_live")
_TOOLTIPS = {
    "refresh": "Poll the open jobs now",
    "fetch": "Take the results of ended jobs into the cache",
    "cancel": "Cancel the chosen job; what is answered is kept and paid for",
    "resubmit": "Submit again the lines of the chosen job that have no answer",
    "send_live": "Send the pending lines of the chosen job live",
}


class JobPanel:
    """The widgets of one table.

    Args:
        jobs: What is shown.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        # One command at a time: two clicks on Send live must not send twice.
        self._busy = threading.Lock()
        self._asked = ""
        self._table = ipywidgets.HTML(jobs._repr_html_())
        self._said = ipywidgets.HTML("")
        names = list(jobs.frame["job"])
        self._chosen = ipywidgets.Dropdown(options=names, layout=ipywidgets.Layout(width="140px"))
        self._chosen.observe(self._forget, names="value")
        self._buttons = {word: _button(_label(word), text) for word, text in _TOOLTIPS.items()}
        for word, each in self._buttons.items():
            each.on_click(self._clicked(word))
        first = [self._buttons["refresh"], self._buttons["fetch"], self._chosen]
        rest = [self._buttons[word] for word in ("cancel", *_PRICED)]
        row = ipywidgets.HBox([*first, *rest], layout=ipywidgets.Layout(flex_flow="row wrap"))
        self.box = ipywidgets.VBox([row, self._said, self._table])

    def bundle(self) -> dict[str, Any]:
        """Return what a notebook shows; the caller adds the table as plain text and HTML."""
        return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}}

    def _clicked(self, word: str) -> Callable[[object], None]:
        def clicked(_: object) -> None:
            threading.Thread(target=self._do, args=(word,), name="pllm-jobs", daemon=True).start()

        return clicked

    def _do(self, word: str) -> None:
        if not self._busy.acquire(blocking=False):
            return
        said = ""
        try:
            self._say(f"{_label(word).lower()} …")
            said = self._ask(word)
        except Exception as error:
            said = str(error)
        finally:
            self._draw()
            self._busy.release()
        self._say(said)  # last: a person may click again as soon as they have read it

    def _ask(self, word: str) -> str:
        job = str(self._chosen.value)
        confirmed, self._asked = self._asked == f"{word} {job}", ""
        question = ""

        def ask(text: str) -> bool:
            nonlocal question
            question = text
            return confirmed

        if word in ("refresh", "fetch"):
            done = getattr(self._jobs, word)()
        elif word == "cancel":
            done = self._jobs.cancel(job)
        else:
            try:
                done = getattr(self._jobs, word)(job, confirm=ask)
            except NotConfirmedError:
                self._asked = f"{word} {job}"
                return f"{question} Click {_label(word)} again to do it."
        return repr(done) if word == "send_live" else ""

    def _forget(self, _: object) -> None:
        self._asked = ""

    def _say(self, text: str) -> None:
        self._said.value = escape_html(text)

    def _draw(self) -> None:
        self._table.value = self._jobs._repr_html_()
        names = tuple(self._jobs.frame["job"])
        if names != self._chosen.options:
            self._chosen.options = names


def _label(word: str) -> str:
    return word.replace("_", " ").capitalize()


def _button(text: str, tooltip: str) -> ipywidgets.Button:
    layout = ipywidgets.Layout(width="120px", height="26px", margin="0")
    made = ipywidgets.Button(description=text, tooltip=tooltip, layout=layout)
    receive_while_busy(made)
    return made

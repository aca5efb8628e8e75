"""Batch jobs in a notebook: the table as plain HTML, and buttons for the commands on a job.

A click never blocks the kernel: its command runs on a separate thread, and the table is rendered again at the end.
A command that costs money takes two clicks. The first shows the price, because a click cannot answer a question.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import traitlets

from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.notebook.placed_widget import PlacedWidget, module
from pllm_notebook.notebook.text import CellOutput

if TYPE_CHECKING:
    from pllm_notebook.frames.job_table import Jobs

__all__ = ["JobPanel", "show_jobs"]

_PRICED = ("resubmit", "send_live")
_TOOLTIPS = {
    "refresh": "Poll the open jobs now",
    "fetch": "Take the results of ended jobs into the cache",
    "cancel": "Cancel the chosen job; what is answered is kept and paid for",
    "resubmit": "Submit again the lines of the chosen job that have no answer",
    "send_live": "Send the pending lines of the chosen job live",
}


class JobPanel(PlacedWidget):
    """The buttons of one table.

    The browser sends `{"do": word, "job": id}`: a command, or "choose" if another job was selected.

    Args:
        jobs: The jobs of the table.
        place: The output of the table.
    """

    kind = "jobs"
    _esm = module("job_panel.js")

    commands: Any = traitlets.List().tag(sync=True)
    names: Any = traitlets.List().tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)

    def __init__(self, jobs: Jobs, place: CellOutput) -> None:
        self._jobs = jobs
        # One command at a time: two clicks on Send live must not send twice.
        self._busy = threading.Lock()
        self._asked = ""
        super().__init__(
            place,
            jobs._repr_html_(),
            commands=[[word, _label(word), text] for word, text in _TOOLTIPS.items()],
            names=list(jobs.frame["job"]),
        )

    def take(self, message: dict[str, Any]) -> None:
        word, job = message.get("do"), str(message.get("job", ""))
        if word == "choose":  # the next click must not confirm the question about another job
            self._asked = self.said = ""
        elif word in ("refresh", "fetch") or (word in _TOOLTIPS and job in self.names):
            threading.Thread(target=self._do, args=(word, job), name="pllm-jobs", daemon=True).start()

    def _do(self, word: str, job: str) -> None:
        if not self._busy.acquire(blocking=False):
            return
        said = ""
        try:
            self.said = f"{_label(word).lower()} …"
            said = self._ask(word, job)
        except Exception as error:
            said = str(error)
        finally:
            self._draw()
            self._busy.release()
        self.said = said  # last, because the user may click again as soon as it is shown

    def _ask(self, word: str, job: str) -> str:
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

    def _draw(self) -> None:
        self.html = self._jobs._repr_html_()
        self.names = list(self._jobs.frame["job"])
        self.publish(repr(self._jobs))


def show_jobs(jobs: Jobs) -> None:
    """Show the table of *jobs* in the running cell, with its buttons."""
    JobPanel(jobs, CellOutput()).start(repr(jobs))


def _label(word: str) -> str:
    return word.replace("_", " ").capitalize()

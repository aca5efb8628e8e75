"""The keyboard grid of a review: one anywidget, whose module is in this package."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from pllm_notebook.exceptions import PllmError
from pllm_notebook.notebook.view_widget import receive_while_busy

__all__ = ["ReviewWidget"]

logger = logging.getLogger("pllm_notebook")

_HERE = Path(__file__).parent


class ReviewWidget(anywidget.AnyWidget):
    """A view of a review. What it shows is the review's state, so that a page that is loaded again shows the same.

    The browser sends `{"do": word, "at": item}`: "accept", "choose" (with "value"), "skip", "undo" and "note" (with
    "text"). A key for an item that has been decided since does nothing.

    Args:
        review: A `lab.Review`.
    """

    _esm = (_HERE / "review.js").read_text(encoding="utf-8")
    _css = (_HERE / "review.css").read_text(encoding="utf-8")

    state = traitlets.Dict().tag(sync=True)

    def __init__(self, review: Any) -> None:
        self._review = review
        super().__init__(state=review.state())
        self.on_msg(self._on_message)
        receive_while_busy(self)

    def _on_message(self, _: object, message: Any, buffers: object) -> None:
        if not isinstance(message, dict):
            return
        problem = ""
        try:
            self._do(message)
        except PllmError as error:
            problem = str(error)
        except Exception as error:
            logger.exception("A review could not do %r", message.get("do"))
            problem = f"{type(error).__name__}: {error}"
        self.state = {**self._review.state(), "problem": problem}

    def _do(self, message: dict[str, Any]) -> None:
        review, at, word = self._review, message.get("at"), message.get("do")
        if word == "undo":
            review.undo()
        elif not isinstance(at, int):
            return
        elif word == "accept":
            review.accept(at)
        elif word == "choose":
            review.choose(message.get("value"), at)
        elif word == "skip":
            review.skip(at)
        elif word == "note" and at == review.at:
            review.set_note(str(message.get("text", "")))

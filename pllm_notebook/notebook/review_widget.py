"""A keyboard-driven review in a notebook: the current row, and the decisions below it as plain HTML."""

from __future__ import annotations

import logging
from typing import Any

import traitlets

from pllm_notebook.exceptions import PllmError
from pllm_notebook.notebook.placed_widget import PlacedWidget, module, styles
from pllm_notebook.notebook.text import CellOutput

__all__ = ["ReviewWidget", "show_review"]

logger = logging.getLogger("pllm_notebook")


class ReviewWidget(PlacedWidget):
    """The view of a review. All state is in the review, so a reloaded page shows the same.

    The browser sends `{"do": word, "at": item}`. The words are "accept", "choose" (with "value"), "skip", "undo" and
    "note" (with "text"). An action on an item that is already decided does nothing.

    Args:
        review: A `lab.Review`.
        place: The output of its decisions.
    """

    kind = "review"
    _esm = module("review.js")
    _css = styles("review.css")

    state = traitlets.Dict().tag(sync=True)

    def __init__(self, review: Any, place: CellOutput) -> None:
        self._review = review
        super().__init__(place, review._repr_html_(), state=review.state())

    def take(self, message: dict[str, Any]) -> None:
        problem = ""
        try:
            self._do(message)
        except PllmError as error:
            problem = str(error)
        except Exception as error:
            logger.exception("A review could not do %r", message.get("do"))
            problem = f"{type(error).__name__}: {error}"
        self.state = {**self._review.state(), "problem": problem}
        html = self._review._repr_html_()
        if html != self.html:
            self.html = html
            self.publish(repr(self._review))

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


def show_review(review: Any) -> None:
    """Show *review* in the running cell, with its keys and buttons."""
    ReviewWidget(review, CellOutput()).start(repr(review))

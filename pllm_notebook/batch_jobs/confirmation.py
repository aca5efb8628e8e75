"""Asking a person before batch jobs are submitted: they cannot be taken back for free."""

from __future__ import annotations

import sys

from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.shell import in_kernel

__all__ = ["ask_yes_no", "confirm"]


def confirm(estimate: Estimate) -> None:
    """Show what would be submitted and ask whether to; nothing is asked where nothing is to be submitted.

    Raises:
        NotConfirmedError: When the answer is no, or without interactive input. Nothing was sent.
    """
    if estimate.calls == 0:
        return
    what = f"{estimate.calls:,} calls would have been submitted as a batch"
    ask_yes_no(f"{estimate!r}\n\nSubmit as a batch?", what, "Give confirm=False to submit", f"{estimate!r}")


def ask_yes_no(question: str, what: str, instead: str, details: str = "") -> None:
    """Ask for a yes.

    Args:
        question: With what would be sent, and its price.
        what: The same as a clause, for where there is no interactive input.
        instead: How to go on without a person, up to "without asking".
        details: What the question showed, below the error for where it was not seen.

    Raises:
        NotConfirmedError: When the answer is no, or without interactive input. Nothing was sent.
    """
    try:
        answer = input(f"{question} [y/N] ") if is_interactive() else None
    except (EOFError, NotImplementedError):  # IPython's StdinNotImplementedError is one of the latter
        answer = None
    if answer is None:
        message = (
            f"{what}, and there is no interactive input to confirm it. {instead} without asking. Nothing was sent."
        )
        raise NotConfirmedError(f"{message}\n\n{details}" if details else message)
    if answer.strip().lower() not in ("y", "yes"):
        raise NotConfirmedError("Not confirmed. Nothing was sent.")


def is_interactive() -> bool:
    """Return whether a question could be answered: a notebook's frontend, or a terminal."""
    return in_kernel() or bool(sys.stdin and sys.stdin.isatty())

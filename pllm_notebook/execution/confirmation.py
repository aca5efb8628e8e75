"""Ask the user before batch jobs are submitted or lines of a job are sent live: neither can be undone for free."""

from __future__ import annotations

import sys
from collections.abc import Callable

from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.execution.token_bounds import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS
from pllm_notebook.formatting import counted, format_usd
from pllm_notebook.prices import Rate
from pllm_notebook.shell import in_kernel
from pllm_notebook.types import Usage

__all__ = ["Confirm", "confirm", "confirm_price", "estimated_cost_usd", "format_estimate"]

Confirm = bool | Callable[[str], bool]
"""Whether to ask the user first; or a function that answers the question instead."""


def confirm(estimate: Estimate) -> None:
    """Show what would be submitted and ask for confirmation, unless there is nothing to submit.

    Raises:
        NotConfirmedError: When the answer is no, or without interactive input. Nothing was sent.
    """
    later = 0 if estimate.strong is None else estimate.strong.calls
    if estimate.calls + later == 0:
        return
    beside = f", and up to {later:,} after them," if later else ""
    what = f"{counted(estimate.calls, 'call')}{beside} would have been submitted as a batch"
    ask_yes_no(f"{estimate!r}\n\nSubmit as a batch?", what, "Give confirm=False to submit", f"{estimate!r}")


def confirm_price(question: str, what: str, confirm: Confirm = True) -> None:
    """Ask whether to go on.

    Args:
        question: The question, with the calls to send and their price.
        what: The same as a clause, used if there is no interactive input.
        confirm: Whether to ask, or a function that answers.

    Raises:
        NotConfirmedError: When the answer is no, or without interactive input. Nothing was sent.
    """
    if confirm is False:
        return
    if confirm is not True:
        if not confirm(question):
            raise NotConfirmedError("Not confirmed. Nothing was sent.")
        return
    ask_yes_no(question, what, "Give confirm=False (--yes on the command line) to do it")


def estimated_cost_usd(rate: Rate | None, calls: int, size: int) -> float | None:
    """Estimate the cost of calls whose bodies have *size* bytes in total; None for an unknown price."""
    if rate is None or not calls:
        return None if calls else 0.0
    return calls * rate.cost_usd(Usage(size // calls // BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS))


def format_estimate(amount_usd: float | None) -> str:
    """Format a cost in US dollars; "unknown" in words for None."""
    return "an unknown price" if amount_usd is None else f"about {format_usd(amount_usd)}"


def ask_yes_no(question: str, what: str, instead: str, details: str = "") -> None:
    """Ask a yes/no question. Return only if the answer is yes.

    Args:
        question: The question, with the calls to send and their price.
        what: The same as a clause, used if there is no interactive input.
        instead: How to continue without a prompt; "without asking" is appended.
        details: The details of the question, shown below the error if the question was not shown.

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
    """Return whether a question can be answered: in a notebook or a terminal."""
    return in_kernel() or bool(sys.stdin and sys.stdin.isatty())

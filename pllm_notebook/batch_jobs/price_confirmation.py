"""Asking a person before something is sent for one job: a line with the count and the price, and yes or no."""

from __future__ import annotations

from collections.abc import Callable

from pllm_notebook.batch_jobs.confirmation import ask_yes_no
from pllm_notebook.exceptions import NotConfirmedError
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS
from pllm_notebook.formatting import format_usd
from pllm_notebook.prices import Rate
from pllm_notebook.records import Usage

__all__ = ["Confirm", "confirm_price", "estimated_cost_usd", "format_estimate"]


Confirm = bool | Callable[[str], bool]
"""Whether a person is asked first; or who is asked in that person's place, with the question."""


def confirm_price(question: str, what: str, confirm: Confirm = True) -> None:
    """Ask whether to go on.

    Args:
        question: What would be sent, and its price, as a question.
        what: The same as a clause, for where there is no interactive input.
        confirm: Whether to ask at all, or whom.

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
    """Estimate what calls cost whose bodies have *size* bytes together; None for an unknown price."""
    if rate is None or not calls:
        return None if calls else 0.0
    return calls * rate.cost_usd(Usage(size // calls // BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS))


def format_estimate(amount_usd: float | None) -> str:
    """Write a sum in US dollars; words for None."""
    return "an unknown price" if amount_usd is None else f"about {format_usd(amount_usd)}"

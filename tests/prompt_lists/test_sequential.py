"""What a broken run may have spent counts against the limit of the list."""

from __future__ import annotations

from pllm_notebook.execution import RunBudget
from pllm_notebook.prompt_lists.sequential import budget_after


def test_what_a_broken_run_has_perhaps_paid_is_not_spent_again() -> None:
    broken = RunBudget(1.0)
    broken.paid_usd, broken.perhaps_usd, broken.reserved_usd, broken.requests = 0.25, 0.25, 0.25, 3

    left = budget_after(broken)

    assert (left.ceiling_usd, left.spent_usd, left.requests) == (1.0, 0.75, 0)
    assert left.fits(0.25)
    assert not left.fits(0.26)


def test_a_list_without_a_limit_has_none_after_a_broken_run() -> None:
    assert budget_after(RunBudget(None)).ceiling_usd is None

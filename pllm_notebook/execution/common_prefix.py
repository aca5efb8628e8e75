"""The text that a run's prompts begin with: few-shot examples, a document, a long instruction.

It is found by comparing the prompts, so its source does not matter: a template, a column with the same document in
every row, or a pack of rows.
"""

from __future__ import annotations

from pllm_notebook.providers import LEAST_LEAD

__all__ = ["CommonPrefix"]

# Maximum number of prompts to compare. All of them are planned before the first one is sent.
_MOST_PROMPTS = 32


class CommonPrefix:
    """Learn the common beginning of prompts.

    It can only get shorter, and it ends at the end of a line, so that no word is cut and a chance match at the
    beginning of the rows' own texts does not change it.

    Attributes:
        open: Whether more prompts may still change it.
        text: The common beginning; "" if it is too short, or fewer than two different prompts were seen.
    """

    def __init__(self) -> None:
        self.open = True
        self.text = ""
        self._common: str | None = None
        self._count = 0

    def observe(self, prompt: str) -> None:
        """Compare one more prompt; a prompt equal to the common beginning changes nothing."""
        common = self._common
        if common is None:
            self._common = prompt
        elif prompt != common:
            self._count += 1
            shared = _shared_start(common, prompt)
            # Cut after the last line before the difference; the rest belongs to a row.
            self._common = shared[: shared.rfind("\n") + 1]
            self.text = self._common if len(self._common) >= LEAST_LEAD else ""
            self.open = self.text != "" and self._count < _MOST_PROMPTS


def _shared_start(one: str, other: str) -> str:
    if other.startswith(one):
        return one
    # Binary search by slices: each comparison is a memory compare, and a million characters take twenty steps.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]

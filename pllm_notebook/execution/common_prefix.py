"""The text that a run's prompts begin with: few-shot examples, a document, a long instruction.

Found from the prompts themselves, so that it does not matter whether a template, a column that holds the
same document in every row, or a pack of rows brought it.
"""

from __future__ import annotations

from pllm_notebook.providers import LEAST_LEAD

__all__ = ["CommonPrefix"]

# Prompts that are compared; all of them are planned before the first one is sent.
_MIN_CHARS = 32


class CommonPrefix:
    """Learn what prompts have in common at their beginning.

    It only ever gets shorter, and ends at the end of a line: a word is not cut in two, and what rows
    happen to begin with alike does not move it.

    Attributes:
        open: Whether there is more to learn.
        text: "" where nothing long enough is shared, or fewer than two different prompts were seen.
    """

    def __init__(self) -> None:
        self.open = True
        self.text = ""
        self._common: str | None = None
        self._count = 0

    def observe(self, prompt: str) -> None:
        """Learn from one prompt; equal ones teach nothing."""
        common = self._common
        if common is None:
            self._common = prompt
        elif prompt != common:
            self._count += 1
            shared = _shared_start(common, prompt)
            # The line before the difference; what follows it is a row's.
            self._common = shared[: shared.rfind("\n") + 1]
            self.text = self._common if len(self._common) >= LEAST_LEAD else ""
            self.open = self.text != "" and self._count < _MIN_CHARS


def _shared_start(one: str, other: str) -> str:
    if other.startswith(one):
        return one
    # Halving compares at the speed of memory; a million characters take twenty steps.
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]

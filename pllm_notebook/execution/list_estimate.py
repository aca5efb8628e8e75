"""What a run over a list of mixed prompts would take, before a single call is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pllm_notebook.execution.estimate import Estimate
from pllm_notebook.execution.launch import estimate_rows
from pllm_notebook.execution.lists import Part, PromptList

__all__ = ["estimate_list"]


def estimate_list(parts: Sequence[Part], *, cache_dir: str | None = None) -> Estimate:
    """Estimate a run over a list. Sends nothing.

    Args:
        parts: As for `start_list`.
        cache_dir: Where the answers are kept, None for the configured place.
    """
    made = [estimate_rows(part.ask, PromptList(part.prompts), cache_dir=cache_dir) for part in parts]
    whole = sum(made[1:], start=made[0])
    # A sum of questions is about one set of rows; here each part has rows of its own.
    return replace(
        whole,
        rows=sum(each.rows for each in made),
        skipped=sum(each.skipped for each in made),
        duplicates=sum(each.duplicates for each in made),
    )
